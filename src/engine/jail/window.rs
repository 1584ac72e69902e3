//! One subject's failures in one jail: the latest `maxretry` of them, in the order of their times.

use std::time::Duration;

use crate::engine::entry::EntryRef;
use crate::engine::time::Stamp;

/// One counted failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// The time of its entry.
    pub stamp: Stamp,
    /// Its entry.
    pub entry: EntryRef,
}

/// The latest failures of a subject. Entries may come in any order of their times; an entry comes once.
///
/// A window is full when `maxretry` failures lie within `findtime` up to the newest of them, both ends counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    latest: Vec<Failure>,
}

impl Window {
    /// Counts a failure, keeping the latest `maxretry`. An entry already counted is not counted again; where it is told
    /// with two times, because the clock was set in between, the earlier one holds.
    pub fn count(&mut self, failure: Failure, maxretry: u32) {
        let known = self.latest.iter().position(|known| known.entry == failure.entry);
        let stamp = known.map_or(failure.stamp, |at| self.latest.remove(at).stamp.min(failure.stamp));
        let failure = Failure { stamp, ..failure };
        let at = self.latest.partition_point(|other| *other < failure);
        self.latest.insert(at, failure);
        let keep = usize::try_from(maxretry).unwrap_or(usize::MAX);
        if self.latest.len() > keep {
            self.latest.drain(..self.latest.len() - keep);
        }
    }

    /// Are there `maxretry` failures within `findtime` up to the newest?
    pub fn is_full(&self, maxretry: u32, findtime: Duration) -> bool {
        usize::try_from(maxretry).is_ok_and(|maxretry| self.within(findtime).len() >= maxretry)
    }

    /// The failures within `findtime` up to the newest, oldest first.
    pub fn within(&self, findtime: Duration) -> &[Failure] {
        let Some(newest) = self.latest.last() else { return &[] };
        let from = newest.stamp.before(findtime);
        let start = self.latest.partition_point(|failure| failure.stamp < from);
        &self.latest[start..]
    }

    /// All that is kept, oldest first.
    pub fn failures(&self) -> &[Failure] {
        &self.latest
    }

    /// Moves failures that lie after `now` to it.
    pub fn not_after(&mut self, now: Stamp) {
        for failure in &mut self.latest {
            failure.stamp = failure.stamp.min(now);
        }
        self.latest.sort_unstable();
    }

    /// Holds these failures, which are in their order, and no others.
    pub(super) fn hold(&mut self, failures: impl Iterator<Item = Failure>) {
        self.latest.clear();
        self.latest.extend(failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule in plain words: of all failures so far, how many lie within `findtime` before the newest?
    fn model(all: &[Failure], findtime: Duration) -> usize {
        let newest = all.iter().map(|failure| failure.stamp).max().unwrap();
        all.iter().filter(|failure| newest.since(failure.stamp) <= findtime).count()
    }

    #[test]
    fn a_lowered_maxretry_holds_from_the_next_failure_on_known_or_not() {
        let entry = |seqnum| EntryRef { seqnum_id: 1, seqnum };
        let failure = |seqnum: u64| Failure { stamp: Stamp::from_usec(seqnum), entry: entry(seqnum) };
        let mut window = Window::default();
        (1..=3).for_each(|seqnum| window.count(failure(seqnum), 3));
        window.count(failure(2), 2);
        assert_eq!(window.failures(), [failure(2), failure(3)]);
    }

    proptest! {
        #[test]
        fn it_is_full_just_when_the_plain_count_says_so(
            stamps in prop::collection::vec(0u64..200, 1..60),
            maxretry in 1u32..8,
            findtime in 0u64..60,
        ) {
            let findtime = Duration::from_micros(findtime);
            let mut window = Window::default();
            let mut all = Vec::new();
            for (number, stamp) in stamps.into_iter().enumerate() {
                let entry = EntryRef { seqnum_id: 1, seqnum: number as u64 };
                let failure = Failure { stamp: Stamp::from_usec(stamp), entry };
                window.count(failure, maxretry);
                all.push(failure);
                prop_assert_eq!(window.is_full(maxretry, findtime), model(&all, findtime) >= maxretry as usize);
            }
        }
    }

    #[test]
    fn an_entry_told_with_two_times_counts_once() {
        let at = |stamp| Failure { stamp: Stamp::from_usec(stamp), entry: EntryRef { seqnum_id: 1, seqnum: 2 } };
        let mut window = Window::default();
        window.count(at(9), 5);
        window.not_after(Stamp::from_usec(5));
        for stamp in [9, 4, 9] {
            window.count(at(stamp), 5);
        }
        assert_eq!(window.failures(), [at(4)]);
    }

    #[test]
    fn the_same_entry_counts_once() {
        let failure = Failure { stamp: Stamp::from_usec(5), entry: EntryRef { seqnum_id: 1, seqnum: 2 } };
        let mut window = Window::default();
        window.count(failure, 5);
        window.count(failure, 5);
        assert_eq!(window.within(Duration::from_secs(1)), [failure]);
        window.not_after(Stamp::from_usec(3));
        window.count(failure, 5);
        assert_eq!(window.failures().len(), 1, "read again after the clock was set back");
    }
}
