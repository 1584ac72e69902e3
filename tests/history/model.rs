//! The rules in the plainest words, over a list of everything that was ever logged or reported.

use std::collections::{BTreeMap, BTreeSet};

/// How a failure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One line says all.
    Plain,
    /// One line says all, to a filter that takes denials for failures.
    Denied,
    /// One line has the address, a later one of the same session the failure.
    Split,
    /// One line has the refusal, and none behind it the failure.
    Refused,
    /// No line at all: a program said so.
    Reported,
}

/// How the jail is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub maxretry: u32,
    /// `findtime`.
    pub minutes: u64,
    /// Is a denial a failure?
    pub denials: bool,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    host: u8,
    kind: Kind,
    stamp: u64,
}

pub struct Model {
    rules: Rules,
    /// What a daemon has decided on.
    seen: Vec<Failure>,
    /// What was logged while there was none.
    unseen: Vec<Failure>,
    settled: BTreeMap<u8, u64>,
    /// Begin and end.
    pauses: Vec<(u64, u64)>,
    pub banned: BTreeSet<u8>,
    up: bool,
}

impl Model {
    pub fn new(rules: Rules) -> Model {
        let (settled, banned) = (BTreeMap::new(), BTreeSet::new());
        Model { rules, seen: vec![], unseen: vec![], settled, pauses: vec![], banned, up: false }
    }

    pub fn fails(&mut self, host: u8, kind: Kind, stamp: u64) {
        let failure = Failure { host, kind, stamp };
        if self.up { self.see(failure) } else { self.unseen.push(failure) }
    }

    pub fn start(&mut self, now: u64) {
        self.up = true;
        self.evaluate(now);
        for failure in std::mem::take(&mut self.unseen) {
            self.see(failure);
        }
    }

    pub fn end(&mut self) {
        self.up = false;
    }

    pub fn configure(&mut self, rules: Rules, now: u64) {
        self.rules = rules;
        if self.up {
            self.evaluate(now);
        }
    }

    pub fn pause(&mut self, now: u64) {
        self.resume(now);
        self.pauses.push((now, u64::MAX));
    }

    pub fn resume(&mut self, now: u64) {
        self.pauses.iter_mut().filter(|(_, end)| *end == u64::MAX).for_each(|(_, end)| *end = now);
    }

    pub fn is_paused(&self) -> bool {
        self.pauses.iter().any(|(_, end)| *end == u64::MAX)
    }

    pub fn forget(&mut self, host: u8, now: u64) {
        self.settled.insert(host, now);
    }

    pub fn unban(&mut self, host: u8, now: u64) {
        self.banned.remove(&host);
        self.settled.insert(host, now);
    }

    fn see(&mut self, failure: Failure) {
        self.seen.push(failure);
        if !self.counts(&failure) {
            return;
        }
        // A refusal is seen later than what came behind it.
        let newest = self.newest(failure.host).unwrap_or(failure.stamp);
        if self.is_full(failure.host, newest) {
            self.ban(failure.host, newest);
        }
    }

    fn newest(&self, host: u8) -> Option<u64> {
        let counted = self.seen.iter().filter(|failure| failure.host == host && self.counts(failure));
        counted.map(|failure| failure.stamp).max()
    }

    /// Once over everything that is known: is the newest failure still of interest, and the last of too many?
    fn evaluate(&mut self, now: u64) {
        let hosts: BTreeSet<u8> = self.seen.iter().map(|failure| failure.host).collect();
        for host in hosts {
            let Some(newest) = self.newest(host) else { continue };
            if newest + self.findtime() >= now && self.is_full(host, newest) {
                self.ban(host, newest);
            }
        }
    }

    fn ban(&mut self, host: u8, stamp: u64) {
        if self.banned.insert(host) {
            self.settled.insert(host, stamp);
        }
    }

    fn findtime(&self) -> u64 {
        self.rules.minutes * 60_000_000
    }

    fn is_full(&self, host: u8, newest: u64) -> bool {
        let within = |failure: &&Failure| {
            failure.host == host
                && failure.stamp <= newest
                && failure.stamp + self.findtime() >= newest
                && self.counts(failure)
        };
        self.seen.iter().filter(within).count() >= self.rules.maxretry as usize
    }

    fn counts(&self, failure: &Failure) -> bool {
        let paused = self.pauses.iter().any(|(begin, end)| (*begin..*end).contains(&failure.stamp));
        let settled = self.settled.get(&failure.host).is_some_and(|settled| failure.stamp <= *settled);
        let matches = failure.kind != Kind::Denied || self.rules.denials;
        matches && !paused && !settled
    }
}
