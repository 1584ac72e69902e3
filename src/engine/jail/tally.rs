//! All failures that one jail counts at present, in bounded memory.
//!
//! A subject's first failure sits in a probation table, the second promotes it to a window of its own. Probation is
//! evicted first, so a flood of single failures cannot push out a slow repeat offender.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::window::{Failure, Window};
use crate::engine::subject::Subject;
use crate::engine::time::Stamp;

/// How many subjects a jail keeps that failed once.
const PROBATION: usize = 1 << 18;
/// How many subjects a jail keeps that failed more often.
const WINDOWS: usize = 1 << 16;

/// The failures of a jail's subjects.
#[derive(Debug)]
pub struct Tally {
    probation: Generation<Failure>,
    windows: Generation<Window>,
    evicted: u64,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally::bounded(PROBATION, WINDOWS)
    }
}

impl Tally {
    fn bounded(probation: usize, windows: usize) -> Tally {
        Tally { probation: Generation::bounded(probation), windows: Generation::bounded(windows), evicted: 0 }
    }

    /// Counts a failure of `subject`; the failures within `findtime` when there are `maxretry` of them.
    pub fn count(
        &mut self,
        subject: Subject,
        failure: Failure,
        maxretry: u32,
        findtime: Duration,
    ) -> Option<Vec<Failure>> {
        if let Some(window) = self.windows.known.get_mut(&subject) {
            window.count(failure, maxretry);
            return full(window, maxretry, findtime);
        }
        if self.probation.known.get(&subject) == Some(&failure) && maxretry > 1 {
            return None;
        }
        let first = self.probation.take(&subject);
        if first.is_none() && maxretry > 1 {
            self.evicted += self.probation.put(subject, failure);
            return None;
        }
        let mut window = Window::default();
        for failure in first.into_iter().chain([failure]) {
            window.count(failure, maxretry);
        }
        let complete = full(&window, maxretry, findtime);
        self.evicted += self.windows.put(subject, window);
        complete
    }

    /// Takes up what an earlier run had counted for `subject`, without deciding. What is counted already counts once.
    pub fn fill(&mut self, subject: Subject, failures: &[Failure], maxretry: u32) {
        for failure in failures {
            self.count(subject, *failure, maxretry, Duration::ZERO);
        }
    }

    /// Shows all that is counted, who came first first, each with its failures, oldest first.
    pub fn each(&self, show: &mut dyn FnMut(Subject, &[Failure])) {
        self.probation.each(|subject, failure| show(subject, std::slice::from_ref(failure)));
        self.windows.each(|subject, window| show(subject, window.failures()));
    }

    /// Everybody who has failed and is remembered, in no order.
    pub fn subjects(&self) -> impl Iterator<Item = Subject> {
        self.probation.known.keys().chain(self.windows.known.keys()).copied()
    }

    /// Forgets the failures of `subject`.
    pub fn forget(&mut self, subject: &Subject) {
        self.probation.take(subject);
        self.windows.take(subject);
    }

    /// Forgets whose newest failure is older than `from`.
    pub fn forget_before(&mut self, from: Stamp) {
        self.probation.keep(|failure| failure.stamp >= from);
        self.windows.keep(|window| window.newest().is_some_and(|failure| failure.stamp >= from));
    }

    /// Moves failures that lie after `now` to it: they were logged while the clock was ahead.
    pub fn not_after(&mut self, now: Stamp) {
        self.probation.known.values_mut().for_each(|failure| failure.stamp = failure.stamp.min(now));
        self.windows.known.values_mut().for_each(|window| window.not_after(now));
    }

    /// Every subject with `maxretry` failures within `findtime`, in the order of the subjects, with these failures.
    pub fn complete(&self, maxretry: u32, findtime: Duration) -> Vec<(Subject, Vec<Failure>)> {
        let single =
            self.probation.known.iter().filter(|_| maxretry <= 1).map(|(subject, failure)| (*subject, vec![*failure]));
        let windows = self
            .windows
            .known
            .iter()
            .filter_map(|(subject, window)| Some((*subject, full(window, maxretry, findtime)?)));
        let mut all: Vec<_> = single.chain(windows).collect();
        all.sort();
        all
    }

    /// How many subjects have failed and are not banned, as far as they are still remembered.
    pub fn failing(&self) -> usize {
        self.probation.known.len() + self.windows.known.len()
    }

    /// How many subjects were forgotten early because there were too many.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

fn full(window: &Window, maxretry: u32, findtime: Duration) -> Option<Vec<Failure>> {
    window.is_full(maxretry, findtime).then(|| window.within(findtime).to_vec())
}

/// One of the two tables: who came first leaves first when it overflows.
#[derive(Debug)]
struct Generation<T> {
    known: HashMap<Subject, T>,
    /// The order of arrival; holds some who left already, never many more than are known.
    arrivals: VecDeque<Subject>,
    limit: usize,
}

impl<T> Generation<T> {
    fn bounded(limit: usize) -> Generation<T> {
        Generation { known: HashMap::new(), arrivals: VecDeque::new(), limit }
    }

    fn each(&self, mut show: impl FnMut(Subject, &T)) {
        let mut shown = std::collections::HashSet::with_capacity(self.known.len());
        for subject in &self.arrivals {
            if let Some(value) = self.known.get(subject)
                && shown.insert(*subject)
            {
                show(*subject, value);
            }
        }
    }

    fn take(&mut self, subject: &Subject) -> Option<T> {
        self.known.remove(subject)
    }

    /// Adds one; the number of those that had to leave for it.
    fn put(&mut self, subject: Subject, value: T) -> u64 {
        self.known.insert(subject, value);
        self.arrivals.push_back(subject);
        let mut evicted = 0;
        while self.known.len() > self.limit
            && let Some(oldest) = self.arrivals.pop_front()
        {
            evicted += u64::from(self.known.remove(&oldest).is_some());
        }
        if self.arrivals.len() > 2 * self.known.len() + 64 {
            self.tidy();
        }
        evicted
    }

    fn keep(&mut self, keep: impl Fn(&T) -> bool) {
        self.known.retain(|_, value| keep(value));
        self.tidy();
    }

    /// Drops from the order of arrival who is no longer known, and earlier arrivals of who came again.
    fn tidy(&mut self) {
        let mut seen = std::collections::HashSet::with_capacity(self.known.len());
        let known = &self.known;
        let mut order: Vec<Subject> = self
            .arrivals
            .iter()
            .rev()
            .filter(|subject| known.contains_key(*subject) && seen.insert(**subject))
            .copied()
            .collect();
        order.reverse();
        self.arrivals = order.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::EntryRef;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const MINUTE: Duration = Duration::from_secs(60);

    fn subject(bits: u32) -> Subject {
        Subject::host(Ipv4Addr::from_bits(bits).into())
    }

    fn failure(number: u64) -> Failure {
        Failure { stamp: Stamp::from_usec(number), entry: EntryRef { seqnum_id: 1, seqnum: number } }
    }

    #[test]
    fn a_flood_of_single_failures_does_not_push_out_a_repeat_offender() {
        let mut tally = Tally::bounded(16, 4);
        for number in 0..4 {
            assert_eq!(tally.count(subject(7), failure(number), 5, MINUTE), None);
        }
        for number in 0..1000 {
            assert_eq!(tally.count(subject(1000 + number), failure(10 + u64::from(number)), 5, MINUTE), None);
        }
        assert_eq!(tally.failing(), 17);
        assert_eq!(tally.evicted(), 1000 - 16);
        assert_eq!(tally.count(subject(7), failure(2000), 5, MINUTE).map(|all| all.len()), Some(5));
    }

    #[test]
    fn one_failure_is_enough_where_one_is_allowed() {
        let mut tally = Tally::default();
        assert_eq!(tally.count(subject(1), failure(3), 1, MINUTE), Some(vec![failure(3)]));
    }

    #[test]
    fn what_is_told_fills_another_and_filling_twice_changes_nothing() {
        let mut tally = Tally::default();
        for (who, number) in [(1, 3), (2, 4), (2, 5), (2, 6), (3, 7)] {
            tally.count(subject(who), failure(number), 5, MINUTE);
        }
        let told = all(&tally);
        assert_eq!(told.iter().map(|(_, failures)| failures.len()).collect::<Vec<_>>(), [1, 1, 3]);
        let mut other = Tally::default();
        for _ in 0..2 {
            told.iter().for_each(|(subject, failures)| other.fill(*subject, failures, 5));
            assert_eq!(all(&other), told);
            assert_eq!(other.failing(), 3);
        }
    }

    fn all(tally: &Tally) -> Vec<(Subject, Vec<Failure>)> {
        let mut all = Vec::new();
        tally.each(&mut |subject, failures| all.push((subject, failures.to_vec())));
        all
    }

    #[test]
    fn old_failures_are_forgotten() {
        let mut tally = Tally::default();
        tally.count(subject(1), failure(3), 5, MINUTE);
        tally.count(subject(2), failure(3), 5, MINUTE);
        tally.count(subject(2), failure(9), 5, MINUTE);
        tally.forget_before(Stamp::from_usec(4));
        assert_eq!(tally.failing(), 1);
    }

    proptest! {
        #[test]
        fn below_its_bounds_it_counts_as_plain_windows_do(
            events in prop::collection::vec((0u32..4, 0u64..100), 0..80),
            maxretry in 1u32..5,
            findtime in 0u64..40,
        ) {
            let findtime = Duration::from_micros(findtime);
            let mut tally = Tally::default();
            let mut plain: HashMap<u32, Window> = HashMap::new();
            for (number, (who, stamp)) in events.into_iter().enumerate() {
                let failure = Failure { stamp: Stamp::from_usec(stamp), entry: EntryRef { seqnum_id: 1, seqnum: number as u64 } };
                let window = plain.entry(who).or_default();
                window.count(failure, maxretry);
                let complete = tally.count(subject(who), failure, maxretry, findtime);
                prop_assert_eq!(complete, full(window, maxretry, findtime));
                prop_assert!(tally.probation.arrivals.len() <= 2 * tally.probation.known.len() + 64);
            }
        }
    }
}
