//! `org.banish1` on D-Bus: commands and questions come in as requests, news goes out to subscribers; nothing with an
//! address is ever broadcast, and no message from the bus can make the deciding loop wait.
//!
//! The loop answers [`Request`]s and calls [`Bus`]'s methods, none of which waits. Programs that ask use [`proxy`].

pub mod proxy;
pub mod refusal;
pub mod request;

pub use refusal::Refusal;
pub use request::{Answer, BanRow, FirewallState, JailView, ManagerView, Page, Problem, Request, State};

/// The name that the daemon owns on the bus.
pub const NAME: &str = "org.banish1";
/// The object with `org.banish1.Manager`.
pub const PATH: &str = "/org/banish1";
