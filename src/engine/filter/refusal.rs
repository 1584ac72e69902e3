//! Refusals that wait for the daemon's own word.
//!
//! PAM's modules tell at once that they refuse a login, the daemon only after PAM's delay, and not at all if it is killed
//! within it. A refusal is a failure unless its session reports the attempt, or success, within [`WAIT`].

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::session::Key;
use crate::engine::entry::Evidence;
use crate::engine::time::{Length, Stamp};

/// How long a refusal waits. PAM's delay is 1 to 4.5 s; the rest is for a slow machine, for an administrator who set a
/// longer delay, and for a module that asks the user once more before it lets him in.
pub const WAIT: Duration = Duration::from_secs(20);
/// How long a refusal that was counted is remembered, for a line that reports the same attempt even later.
const REMEMBERED: Duration = Duration::from_secs(300);

/// A line that says that a login was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Refusal {
    /// `None` where the session is over.
    pub(in crate::engine) session: Option<Key>,
    pub(in crate::engine) address: IpAddr,
    /// A hash of the user whom the line names.
    pub(in crate::engine) user: Option<u64>,
    pub(in crate::engine) evidence: Evidence,
    /// A hash of who refused: one attempt may be refused by several.
    pub(in crate::engine) by: u64,
    /// Which of the session's attempts it refuses, counted from 1.
    pub(in crate::engine) number: u32,
}

/// The refusals of one filter: those that wait, and those that were counted lately. Each list in the order in which the
/// lines came.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    open: VecDeque<(u64, Refusal)>,
    counted: VecDeque<Refusal>,
    limit: usize,
}

/// What a filter holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holds {
    /// The oldest came with this entry, by number; 0 where an earlier run left it.
    pub(super) turn: u64,
    /// At times before `earliest` or after `latest` something is overdue.
    pub(super) earliest: Stamp,
    pub(super) latest: Stamp,
}

impl Refusals {
    pub(super) fn new(limit: usize) -> Refusals {
        Refusals { limit, ..Refusals::default() }
    }

    pub(super) fn limit_to(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Has `refusal` wait, which came with the entry of this number.
    pub(super) fn note(&mut self, turn: u64, refusal: Refusal) {
        self.open.push_back((turn, refusal));
    }

    /// `session` has reported so many attempts.
    pub(super) fn settle(&mut self, session: &Key, reported: u32) {
        self.open.retain(|(_, one)| one.number > reported || one.session.as_ref() != Some(session));
    }

    /// `session` is over: nothing settles any more what it has not reported, and whoever has its key next is another.
    pub(super) fn end(&mut self, session: &Key) {
        for (_, one) in &mut self.open {
            if one.session.as_ref() == Some(session) {
                one.session = None;
            }
        }
    }

    /// The oldest that waits for this address and may be of this user, of another session than this one.
    pub(super) fn elsewhere(&self, session: &Key, address: IpAddr, user: Option<u64>) -> Option<&Refusal> {
        let mut open = self.open.iter().map(|(_, one)| one);
        open.find(|one| one.session.as_ref() != Some(session) && one.is_of(address, user))
    }

    /// Settles all of the same attempt as `refusal`.
    pub(super) fn settle_attempt(&mut self, refusal: &Refusal) {
        match &refusal.session {
            Some(session) => self.settle(session, refusal.number),
            None => self.open.retain(|(_, one)| one != refusal),
        }
    }

    /// Forgets one that was counted lately for this address and may be of this user. `true` if there was one.
    pub(super) fn take_counted(&mut self, session: &Key, address: IpAddr, user: Option<u64>) -> bool {
        let is_it = |one: &Refusal| one.session.as_ref() != Some(session) && one.is_of(address, user);
        let found = self.counted.iter().position(is_it);
        found.and_then(|at| self.counted.remove(at)).is_some()
    }

    /// The next one that is overdue at this time, or for which there is no room.
    pub(super) fn overdue(&mut self, now: Stamp) -> Option<Refusal> {
        let (_, first) = self.open.front()?;
        if now.apart(first.evidence.stamp) <= WAIT && self.open.len() <= self.limit {
            return None;
        }
        self.open.pop_front().map(|(_, refusal)| refusal)
    }

    /// Remembers that this one was counted.
    pub(super) fn remember(&mut self, refusal: Refusal) {
        let stamp = refusal.evidence.stamp;
        while self
            .counted
            .front()
            .is_some_and(|one| stamp.apart(one.evidence.stamp) > REMEMBERED || self.counted.len() >= self.limit)
        {
            self.counted.pop_front();
        }
        self.counted.push_back(refusal);
    }

    /// What is held back, if anything is.
    pub(super) fn holds(&self) -> Option<Holds> {
        let (turn, first) = self.open.front()?;
        let (earliest, latest) = if self.open.len() > self.limit {
            (Stamp::NEVER, Stamp::EPOCH)
        } else {
            (first.evidence.stamp.before(WAIT), first.evidence.stamp.after(Length::For(WAIT)))
        };
        Some(Holds { turn: *turn, earliest, latest })
    }

    /// Those that wait, and those that were counted lately.
    pub(super) fn all(&self) -> [Vec<Refusal>; 2] {
        [self.open.iter().map(|(_, one)| one.clone()).collect(), self.counted.iter().cloned().collect()]
    }

    /// Goes on with these and no others.
    pub(super) fn resume(&mut self, [open, counted]: &[Vec<Refusal>; 2]) {
        self.open = open.iter().map(|one| (0, one.clone())).collect();
        self.counted = counted.iter().cloned().collect();
    }
}

impl Refusal {
    fn is_of(&self, address: IpAddr, user: Option<u64>) -> bool {
        let same_user = |ours| user.is_none_or(|theirs| theirs == ours);
        self.address == address && self.user.is_none_or(same_user)
    }
}
