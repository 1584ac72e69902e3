//! What an operator or a program orders beside bans: to forget failures, to pause and resume a jail, to count a failure.

use std::net::IpAddr;
use std::time::Duration;

use super::Daemon;
use crate::bus::{Attempted, Refusal};
use crate::engine::ban::JailName;
use crate::engine::subject::Subject;

impl Daemon {
    /// Forgets the counted failures of `subject`; in how many places there were any.
    pub(super) async fn forget(&mut self, _subject: Subject, _uid: u32) -> Result<u32, Refusal> {
        Err(Refusal::Bus(zbus::Error::Unsupported))
    }

    /// Lets `jail` count nothing, for `length` or until it is resumed.
    pub(super) async fn pause(&mut self, _jail: JailName, _length: Option<Duration>, _uid: u32) -> Result<(), Refusal> {
        Err(Refusal::Bus(zbus::Error::Unsupported))
    }

    /// Lets `jail` count again.
    pub(super) async fn resume(&mut self, _jail: JailName, _uid: u32) -> Result<(), Refusal> {
        Err(Refusal::Bus(zbus::Error::Unsupported))
    }

    /// Counts a failed login of `address`.
    pub(super) async fn attempt(&mut self, _jail: JailName, _address: IpAddr, _uid: u32) -> Result<Attempted, Refusal> {
        Err(Refusal::Bus(zbus::Error::Unsupported))
    }
}
