//! When jails count nothing: what was logged in such a time is never held against anybody, however late it is read.

use std::collections::BTreeMap;

use crate::engine::ban::JailName;
use crate::engine::time::Stamp;

/// An interval in which a jail counts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The jail.
    pub jail: JailName,
    /// When it began; with the jail what tells it from others.
    pub since: Stamp,
    /// When it ends, itself counted again; [`Stamp::NEVER`] where only a command ends it.
    pub until: Stamp,
}

/// The pauses of all jails, those of the past that still matter to entries among them.
#[derive(Debug, Default)]
pub struct Pauses {
    all: Vec<Pause>,
    /// The jails that are paused, and until when.
    running: BTreeMap<JailName, Stamp>,
}

impl Pauses {
    /// Takes up the pauses of an earlier run.
    pub fn restore(&mut self, pauses: impl IntoIterator<Item = Pause>, now: Stamp) {
        for pause in pauses {
            if pause.until > now {
                self.running.insert(pause.jail.clone(), pause.until);
            }
            self.all.push(pause);
        }
    }

    /// All that are known.
    pub fn iter(&self) -> impl Iterator<Item = &Pause> {
        self.all.iter()
    }

    /// Begins a pause; one that runs has to be ended first.
    pub fn begin(&mut self, pause: Pause) {
        self.running.insert(pause.jail.clone(), pause.until);
        self.all.push(pause);
    }

    /// Ends the pause of `jail` that runs, and gives it back with its new end.
    pub fn end(&mut self, jail: &JailName, now: Stamp) -> Option<Pause> {
        let until = self.running.remove(jail)?;
        let pause = self.all.iter_mut().rev().find(|pause| pause.jail == *jail && pause.until == until)?;
        pause.until = now.max(pause.since);
        Some(pause.clone())
    }

    /// The jails whose pause is over by itself since this was last asked.
    pub fn expire(&mut self, now: Stamp) -> Vec<JailName> {
        let over: Vec<JailName> =
            self.running.iter().filter(|(_, until)| **until <= now).map(|(jail, _)| jail.clone()).collect();
        self.running.retain(|_, until| *until > now);
        over
    }

    /// When the next pause ends by itself.
    pub fn next_end(&self) -> Option<Stamp> {
        self.running.values().copied().filter(|until| *until != Stamp::NEVER).min()
    }

    /// Is the jail paused?
    pub fn is_running(&self, jail: &JailName) -> bool {
        self.running.contains_key(jail)
    }

    /// When its pause ends, if it is paused.
    pub fn running_until(&self, jail: &JailName) -> Option<Stamp> {
        self.running.get(jail).copied()
    }

    /// Was the jail paused when this was logged?
    pub fn covers(&self, jail: &JailName, stamp: Stamp) -> bool {
        self.all.iter().any(|pause| pause.since <= stamp && stamp < pause.until && pause.jail == *jail)
    }

    /// Forgets pauses that were over before `from`.
    pub fn forget_before(&mut self, from: Stamp) {
        self.all.retain(|pause| pause.until >= from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(usec: u64) -> Stamp {
        Stamp::from_usec(usec)
    }

    fn pause(since: u64, until: Stamp) -> Pause {
        Pause { jail: "a".parse().unwrap(), since: at(since), until }
    }

    #[test]
    fn an_entry_counts_by_when_it_was_logged() {
        let (a, b): (JailName, JailName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut pauses = Pauses::default();
        pauses.restore([pause(10, at(20)), pause(30, Stamp::NEVER)], at(40));
        let covered = |pauses: &Pauses| [9, 10, 19, 20, 29, 30, 99].map(|usec| pauses.covers(&a, at(usec)));
        assert_eq!(covered(&pauses), [false, true, true, false, false, true, true]);
        assert!(!pauses.covers(&b, at(15)));
        assert!(pauses.is_running(&a) && pauses.next_end().is_none());
        assert_eq!(pauses.end(&a, at(50)), Some(pause(30, at(50))));
        assert_eq!(pauses.end(&a, at(51)), None);
        assert_eq!(covered(&pauses), [false, true, true, false, false, true, false]);
        pauses.forget_before(at(25));
        assert!(!pauses.covers(&a, at(15)) && pauses.covers(&a, at(35)));
    }

    #[test]
    fn a_pause_with_an_end_is_over_by_itself_and_that_is_told_once() {
        let mut pauses = Pauses::default();
        pauses.begin(pause(10, at(20)));
        assert_eq!(pauses.next_end(), Some(at(20)));
        assert!(pauses.expire(at(19)).is_empty());
        assert_eq!(pauses.expire(at(20)), ["a".parse().unwrap()]);
        assert!(pauses.expire(at(21)).is_empty() && !pauses.is_running(&"a".parse().unwrap()));
    }
}
