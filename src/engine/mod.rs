//! The pure core: entries go in with their times, decisions come out. No clock, no I/O, no randomness.

pub mod ban;
pub mod entry;
pub mod filter;
pub mod jail;
pub mod near;
pub mod reserved;
pub mod roster;
pub mod snapshot;
pub mod subject;
pub mod time;
pub mod warden;
