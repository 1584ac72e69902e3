//! banish: bans hosts that fail to log in, on machines that log to the systemd journal.
//!
//! ```text
//!  journald ──> journal ──> Entry ──> filter ──> Sighting ──> jail ──> Decision ──> Effect ──┬─> firewall (one netlink batch)
//!                                    |  engine: pure, no clock, no I/O  |                    ├─> ledger   (cursor + decisions)
//!  bus commands, acknowledgements, foreign changes, reload, deadlines ──> Input ──> engine ──┴─> bus and log, after the commit
//! ```
//!
//! Data flows one way. What comes back — an acknowledgement, an operator's command, a foreign flush — comes back as an
//! input of the engine, never as a call backwards. `daemon` introduces the others to each other.

pub mod engine;

#[cfg(feature = "daemon")]
pub mod journal;

#[cfg(feature = "daemon")]
pub mod firewall;

#[cfg(feature = "daemon")]
pub mod ledger;

#[cfg(feature = "daemon")]
pub mod bus;

#[cfg(feature = "daemon")]
pub mod config;

#[cfg(feature = "daemon")]
pub mod daemon;

#[cfg(feature = "daemon")]
pub mod ctl;
