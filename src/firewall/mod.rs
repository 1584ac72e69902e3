//! The kernel: the table of bans as a value, its elements, and who else changed it.
//!
//! One thread owns two netlink sockets. Everything it changes goes out as one transaction, so the kernel's table is at
//! any instant either the old or the new one, never a part. Nothing is removed when the thread ends: bans are set
//! elements with the kernel's own timeouts.
//!
//! ```text
//!  Policy ──> table (layout: sets, chains, rules) ──> rules (rustables) ──┐
//!  Elements ──> elements (codec) ─────────────────────────────────────────┴─> batch ──> link ──> kernel
//!  kernel ──> link ──> survey, elements ──> audit ──> batch      kernel ──> watch ──> Notice
//! ```
//!
//! Each jail has one hash set per family and prefix length in use, `sshd4_32`, `sshd6_64`, looked up with the masked
//! address. A ban of a length that nobody used so far, by hand for example, gets a hash set of that length as well: so
//! nothing overlaps, nothing is merged, and an add costs the same at any size. Verdict maps lead from a port to the chain of
//! the jails that have it; they and the interval sets of allow lists change with the policy and never with a ban.

mod audit;
mod batch;
mod disarm;
mod elements;
mod expressions;
#[cfg(any(test, fuzzing))]
pub mod garbled;
mod keeper;
mod kernel;
mod link;
mod name;
mod own;
mod policy;
mod ports;
mod rules;
mod sockets;
mod survey;
mod sys;
mod table;
#[cfg(test)]
mod tests;
mod thread;
mod tracked;
mod watch;
mod wire;
mod write;

pub use audit::Differences;
pub use disarm::{Disarmed, disarm};
pub use elements::{Adopted, Change, Element, LONGEST};
pub use keeper::Lack;
pub use kernel::Kernel;
pub use link::{FirewallError, Refused};
pub use policy::{JailPolicy, Policy, Reach, Replies};
pub use survey::Dropped;
pub use thread::Firewall;
pub use watch::{Author, Foreign, Notice, Touched};

/// The table's name; its family is `inet`.
pub const TABLE: &str = "banish";
