//! Jails: how failures of one filter are counted, and when they are too many.

pub mod allow;
mod compact;
pub mod pause;
pub mod scope;
mod table;
pub mod tally;
pub mod window;

use std::net::IpAddr;
use std::time::Duration;

use super::ban::JailName;
use super::entry::EntryRef;
use super::subject::Subject;
use super::time::{Length, Stamp};
use allow::AllowList;

/// One failure that a filter saw: what crosses from the reader to the deciding loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The jail whose filter matched.
    pub jail: JailName,
    /// The address that failed, as the entry had it.
    pub address: IpAddr,
    /// The time of the entry that completed the failure.
    pub stamp: Stamp,
    /// That entry.
    pub entry: EntryRef,
}

/// What is done about a subject that failed too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Its packets vanish.
    Drop,
    /// Its packets are answered with a reset or an unreachable.
    Reject,
    /// It is reported and nothing else.
    Log,
}

/// How a jail counts and for how long it bans: everything but the filter and the ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// So many failures ban.
    pub maxretry: u32,
    /// … when they lie within this time.
    pub findtime: Duration,
    /// For how long.
    pub bantime: Length,
    /// What a ban does.
    pub action: Action,
    /// IPv6 addresses count and are banned by this prefix length, 1 to 128.
    pub ipv6_prefix: u8,
    /// Who is never counted and never banned.
    pub allow: AllowList,
}

impl Rules {
    /// Who a failure of `address` is put down to; `None` for an allowed address.
    ///
    /// Where an allowed address lies inside the prefix that would be counted, its neighbours are counted, the allowed
    /// one is not (and the firewall lets it through before it looks at bans).
    pub fn subject_of(&self, address: IpAddr) -> Option<Subject> {
        if self.allow.contains(address) { None } else { Some(Subject::counted(address, self.ipv6_prefix)) }
    }
}
