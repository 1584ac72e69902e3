//! All failures that one jail counts at present, in bounded memory.
//!
//! A subject's first failure sits in a probation table, the second promotes it to a window of its own. Probation is
//! evicted first, so a flood of single failures cannot push out a slow repeat offender.

use std::collections::hash_map::RandomState;
use std::time::Duration;

use super::compact::{Compact, SEQUENCES, Sequences, read, write};
use super::table::{Key, Table};
use super::window::{Failure, Window};
use crate::engine::subject::Subject;
use crate::engine::time::Stamp;

/// How many subjects all jails together keep that failed once: each takes 48 bytes.
const PROBATION: usize = 1 << 18;
/// How many bytes the windows of all jails together may take: those of some 70,000 subjects that failed five times.
const WINDOWS: usize = 12 << 20;
/// What a window takes beside its failures: its slot, its chain, and what the allocator adds.
const WINDOW: usize = 80;
/// The failures of a jail's subjects.
#[derive(Debug)]
pub struct Tally {
    probation: Table<Compact>,
    windows: Table<Vec<Compact>>,
    /// What the windows take, and may take at the most.
    bytes: usize,
    bytes_most: usize,
    /// The ids that [`Compact`] has numbers for.
    sequences: Sequences,
    /// The window that is being looked at.
    open: Window,
    evicted: u64,
}

impl Default for Tally {
    /// One that has all the room to itself.
    fn default() -> Tally {
        Tally::bounded(PROBATION, WINDOWS)
    }
}

impl Tally {
    fn bounded(probation: usize, windows: usize) -> Tally {
        let keyed = RandomState::new();
        Tally {
            probation: Table::new(probation, keyed.clone()),
            windows: Table::new(windows / WINDOW, keyed),
            bytes: 0,
            bytes_most: windows,
            sequences: Sequences::default(),
            open: Window::default(),
            evicted: 0,
        }
    }

    /// Shares the room between the tallies of all jails: half of it evenly, so that what is counted in one pushes nobody
    /// out of another, and half of it by what each holds, so that the one that is flooded has the room that others do not
    /// need.
    pub fn share_room<'a>(tallies: impl Iterator<Item = &'a mut Tally>) {
        let tallies: Vec<&mut Tally> = tallies.collect();
        let jails = tallies.len().max(1);
        let held = tallies.iter().map(|tally| tally.probation.len()).sum::<usize>().max(1);
        let bytes = tallies.iter().map(|tally| tally.bytes).sum::<usize>().max(1);
        for tally in tallies {
            let probation = PROBATION / 2 / jails + PROBATION / 2 * tally.probation.len() / held;
            let windows = WINDOWS / 2 / jails + WINDOWS / 2 * tally.bytes / bytes;
            tally.set_room(probation, windows);
        }
    }

    fn set_room(&mut self, probation: usize, windows: usize) {
        self.bytes_most = windows;
        self.evicted += self.probation.set_room(probation).len() as u64;
        for window in self.windows.set_room(windows / WINDOW) {
            self.evicted += 1;
            self.bytes -= cost(&window);
        }
        self.make_room();
    }

    /// Forgets everything but how many were evicted.
    pub fn clear(&mut self) {
        self.probation.retain(|_| false);
        self.windows.retain(|_| false);
        self.bytes = 0;
        self.sequences.clear();
    }

    /// Counts a failure of `subject`; the failures within `findtime` when there are `maxretry` of them.
    pub fn count(
        &mut self,
        subject: Subject,
        failure: Failure,
        maxretry: u32,
        findtime: Duration,
    ) -> Option<Vec<Failure>> {
        let key = Key::from(subject);
        let compact = self.compact(&failure);
        if let Some(window) = self.windows.touch(&key) {
            read(window, &self.sequences, &mut self.open);
            self.open.count(failure, maxretry);
            self.bytes -= cost(window);
            write(&self.open, &self.sequences, window);
            self.bytes += cost(window);
            let complete = full(&self.open, maxretry, findtime);
            self.make_room();
            return complete;
        }
        let first = self.probation.at(&key).copied();
        if maxretry > 1 && first.is_none() {
            self.evicted += u64::from(self.probation.put(key, compact).is_some());
            return None;
        }
        if maxretry > 1
            && let Some(first) = first.filter(|first| first.is_same_entry(&compact))
        {
            if compact.stamp() < first.stamp()
                && let Some(known) = self.probation.at_mut(&key)
            {
                *known = compact;
            }
            return None;
        }
        self.probation.take(&key);
        let mut window = Window::default();
        for failure in first.map(|first| first.failure(&self.sequences)).into_iter().chain([failure]) {
            window.count(failure, maxretry);
        }
        let mut kept = Vec::new();
        write(&window, &self.sequences, &mut kept);
        self.bytes += cost(&kept);
        if let Some(gone) = self.windows.put(key, kept) {
            self.evicted += 1;
            self.bytes -= cost(&gone);
        }
        self.make_room();
        full(&window, maxretry, findtime)
    }

    /// Takes up what an earlier run had counted for `subject`, without deciding. What is counted already counts once.
    pub fn fill(&mut self, subject: Subject, failures: &[Failure], maxretry: u32) {
        for failure in failures {
            self.count(subject, *failure, maxretry, Duration::ZERO);
        }
    }

    /// Shows all that is counted, who came first first, each with its failures, oldest first.
    pub fn each(&self, show: &mut dyn FnMut(Subject, &[Failure])) {
        for (key, failure) in self.probation.iter() {
            show(key.subject(), &[failure.failure(&self.sequences)]);
        }
        let mut window = Window::default();
        for (key, failures) in self.windows.iter() {
            read(failures, &self.sequences, &mut window);
            show(key.subject(), window.failures());
        }
    }

    /// Everybody who has failed and is remembered, in no order.
    pub fn subjects(&self) -> impl Iterator<Item = Subject> {
        let promoted = self.windows.iter().map(|(key, _)| key.subject());
        self.probation.iter().map(|(key, _)| key.subject()).chain(promoted)
    }

    /// Forgets the failures of `subject`.
    pub fn forget(&mut self, subject: &Subject) {
        let key = Key::from(*subject);
        self.probation.take(&key);
        if let Some(window) = self.windows.take(&key) {
            self.bytes -= cost(&window);
        }
    }

    /// Forgets whose newest failure is older than `from`.
    pub fn forget_before(&mut self, from: Stamp) {
        self.probation.retain(|failure| failure.stamp() >= from);
        self.windows.retain(|window| window.last().is_some_and(|newest| newest.stamp() >= from));
        self.bytes = self.windows.iter().map(|(_, window)| cost(window)).sum();
    }

    /// Moves failures that lie after `now` to it: they were logged while the clock was ahead.
    pub fn not_after(&mut self, now: Stamp) {
        for failure in self.probation.values_mut() {
            failure.set_stamp(failure.stamp().min(now));
        }
        for window in self.windows.values_mut() {
            read(window, &self.sequences, &mut self.open);
            self.open.not_after(now);
            write(&self.open, &self.sequences, window);
        }
    }

    /// Every subject with `maxretry` failures within `findtime`, in the order of the subjects, with these failures.
    pub fn complete(&self, maxretry: u32, findtime: Duration) -> Vec<(Subject, Vec<Failure>)> {
        let single = self.probation.iter().filter(|_| maxretry <= 1);
        let single = single.map(|(key, failure)| (key.subject(), vec![failure.failure(&self.sequences)]));
        let mut open = Window::default();
        let windows = self.windows.iter().filter_map(|(key, window)| {
            read(window, &self.sequences, &mut open);
            Some((key.subject(), full(&open, maxretry, findtime)?))
        });
        let mut all: Vec<_> = single.chain(windows).collect();
        all.sort();
        all
    }

    /// How many subjects have failed and are not banned, as far as they are still remembered.
    pub fn failing(&self) -> usize {
        self.probation.len() + self.windows.len()
    }

    /// How many subjects were forgotten early because there were too many.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Forgets the windows heard of longest ago until the others fit.
    fn make_room(&mut self) {
        while self.bytes > self.bytes_most && self.windows.len() > 1 {
            let Some(gone) = self.windows.evict() else { return };
            self.evicted += 1;
            self.bytes -= cost(&gone);
        }
    }

    fn compact(&mut self, failure: &Failure) -> Compact {
        let id = failure.entry.seqnum_id;
        let number = self.sequences.number_of(id).unwrap_or_else(|| {
            self.renumber();
            self.sequences.begin(id)
        });
        Compact::new(failure, number)
    }

    /// Gives the numbers of sequences that nothing refers to any more to others. Where most are in use, somebody makes
    /// them up: then everything is forgotten.
    fn renumber(&mut self) {
        let mut used = [false; SEQUENCES];
        self.probation.iter().for_each(|(_, failure)| used[failure.number()] = true);
        self.windows.iter().flat_map(|(_, window)| window).for_each(|one| used[one.number()] = true);
        if used.iter().filter(|used| **used).count() > SEQUENCES / 2 {
            self.evicted += self.failing() as u64;
            self.clear();
            return;
        }
        let numbers = self.sequences.keep(&used);
        let windows = self.windows.values_mut().flatten();
        for failure in self.probation.values_mut().chain(windows) {
            failure.renumber(numbers[failure.number()]);
        }
    }
}

fn cost(window: &Vec<Compact>) -> usize {
    WINDOW + window.capacity() * size_of::<Compact>()
}

fn full(window: &Window, maxretry: u32, findtime: Duration) -> Option<Vec<Failure>> {
    window.is_full(maxretry, findtime).then(|| window.within(findtime).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::EntryRef;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    fn told(tally: &Tally) -> Vec<(Subject, Vec<Failure>)> {
        let mut all = Vec::new();
        tally.each(&mut |subject, failures| all.push((subject, failures.to_vec())));
        all
    }

    fn sorted(tally: &Tally) -> Vec<(Subject, Vec<Failure>)> {
        let mut all = told(tally);
        all.sort();
        all
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn subject(bits: u32) -> Subject {
        Subject::host(Ipv4Addr::from_bits(bits).into())
    }

    fn failure(number: u64) -> Failure {
        Failure { stamp: Stamp::from_usec(number), entry: EntryRef { seqnum_id: 1, seqnum: number } }
    }

    #[test]
    fn a_flood_of_single_failures_does_not_push_out_a_repeat_offender() {
        let mut tally = Tally::bounded(16, 4 * WINDOW);
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
    fn a_window_that_still_grows_outlives_those_that_do_not() {
        let mut tally = Tally::bounded(16, 40 * (WINDOW + 2 * 17));
        for number in 0..1000 {
            for step in 0..2 {
                tally.count(subject(1000 + number), failure(u64::from(4 * number + step)), 50, MINUTE);
            }
            if number % 25 == 0 {
                tally.count(subject(7), failure(u64::from(4 * number + 3)), 50, MINUTE);
            }
            assert!(tally.bytes <= tally.bytes_most);
        }
        assert_eq!(told(&tally).iter().find(|(known, _)| *known == subject(7)).unwrap().1.len(), 40);
        assert!(tally.evicted() > 900);
    }

    #[test]
    fn a_smaller_share_forgets_and_a_larger_one_brings_nothing_back() {
        let mut tally = Tally::default();
        for number in 0..3000 {
            tally.count(subject(number), failure(u64::from(number)), 5, MINUTE);
        }
        tally.set_room(1000, WINDOWS);
        assert_eq!((tally.failing(), tally.evicted()), (1000, 2000));
        assert_eq!(told(&tally)[0].0, subject(2000));
        tally.set_room(PROBATION, WINDOWS);
        assert_eq!(tally.failing(), 1000);
    }

    #[test]
    fn the_one_that_is_flooded_gets_the_room_that_others_do_not_need_and_they_keep_theirs() {
        let mut tallies: Vec<Tally> = (0..50).map(|_| Tally::default()).collect();
        let fill = |tally: &mut Tally, range: std::ops::Range<u32>| {
            range.for_each(|number| assert_eq!(tally.count(subject(number), failure(number.into()), 5, MINUTE), None));
        };
        Tally::share_room(tallies.iter_mut());
        for round in 0..40 {
            fill(&mut tallies[0], round * 10_000..(round + 1) * 10_000);
            Tally::share_room(tallies.iter_mut());
            let held: usize = tallies.iter().map(Tally::failing).sum();
            assert!(held <= PROBATION);
        }
        assert!(tallies[0].failing() > PROBATION / 2, "{}", tallies[0].failing());
        fill(&mut tallies[1], 0..2000);
        assert_eq!((tallies[1].failing(), tallies[1].evicted()), (2000, 0));
    }

    #[test]
    fn more_sequences_than_have_numbers_cost_memory_of_the_past_and_nothing_else() {
        let mut tally = Tally::default();
        let of = |seqnum_id, seqnum| Failure { entry: EntryRef { seqnum_id, seqnum }, ..failure(seqnum) };
        for id in 0..10_000 {
            assert_eq!(tally.count(subject(1), of(id, id as u64), 3, Duration::ZERO), None);
        }
        assert_eq!(told(&tally), [(subject(1), vec![of(9997, 9997), of(9998, 9998), of(9999, 9999)])]);
        for id in 0..10_000 {
            tally.count(subject(id as u32), of(id, id as u64), 3, Duration::ZERO);
        }
        assert!(tally.evicted() > 0 && tally.failing() <= SEQUENCES + 1);
        assert_eq!(told(&tally).last(), Some(&(subject(9999), vec![of(9999, 9999)])));
    }

    #[test]
    fn failures_on_a_thousand_machines_are_remembered() {
        let mut tally = Tally::default();
        let of = |seqnum_id, seqnum| Failure { entry: EntryRef { seqnum_id, seqnum }, ..failure(seqnum) };
        for round in 0..2 {
            for id in 0..1000 {
                assert_eq!(tally.count(subject(id), of(u128::from(id), round), 3, MINUTE), None);
            }
        }
        assert_eq!((tally.failing(), tally.evicted()), (1000, 0));
        assert!((0..1000).all(|id| tally.count(subject(id), of(u128::from(id), 2), 3, MINUTE).is_some()));
    }

    #[test]
    fn a_failure_keeps_its_time() {
        let mut tally = Tally::default();
        let late = failure((1 << 56) - 1);
        tally.count(subject(1), late, 3, MINUTE);
        tally.count(subject(2), Failure { stamp: Stamp::NEVER, ..late }, 3, MINUTE);
        assert_eq!(sorted(&tally), [(subject(1), vec![late]), (subject(2), vec![late])]);
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
        let told = told(&tally);
        assert_eq!(told.iter().map(|(_, failures)| failures.len()).collect::<Vec<_>>(), [1, 1, 3]);
        let mut other = Tally::default();
        for _ in 0..2 {
            told.iter().for_each(|(subject, failures)| other.fill(*subject, failures, 5));
            assert_eq!(self::told(&other), told);
            assert_eq!(other.failing(), 3);
        }
    }

    #[test]
    fn an_entry_that_comes_again_after_its_time_was_moved_counts_once() {
        let mut tally = Tally::default();
        for _ in 0..2 {
            for (who, number) in [(1, 8), (2, 8), (2, 9)] {
                assert_eq!(tally.count(subject(who), failure(number), 3, MINUTE), None);
            }
            tally.not_after(Stamp::from_usec(5));
        }
        assert_eq!(told(&tally).iter().map(|(_, failures)| failures.len()).collect::<Vec<_>>(), [1, 2]);
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
            events in prop::collection::vec((0u32..4, 0u64..100, 0u64..60), 0..80),
            maxretry in 1u32..5,
            findtime in 0u64..40,
        ) {
            let findtime = Duration::from_micros(findtime);
            let mut tally = Tally::default();
            let mut plain: HashMap<u32, Window> = HashMap::new();
            for (who, stamp, number) in events {
                let entry = EntryRef { seqnum_id: u128::from(number % 3), seqnum: number };
                let failure = Failure { stamp: Stamp::from_usec(stamp), entry };
                let window = plain.entry(who).or_default();
                window.count(failure, maxretry);
                let complete = tally.count(subject(who), failure, maxretry, findtime);
                prop_assert_eq!(complete, full(window, maxretry, findtime));
            }
        }

        /// Below its bounds, what is kept depends on what came and not on its order, nor on how often it came.
        #[test]
        fn order_and_repetition_do_not_matter(
            // An entry has one time.
            events in prop::collection::vec((0u32..5, 0u64..40).prop_map(|(who, number)| (who, number * 7 % 50, number)), 0..60),
            again in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
            seed in any::<[u8; 32]>(),
            maxretry in 1u32..6,
        ) {
            let counted = |events: &[(u32, u64, u64)]| {
                let mut tally = Tally::default();
                for (who, stamp, number) in events {
                    let entry = EntryRef { seqnum_id: u128::from(number % 3), seqnum: 100 * number + stamp };
                    tally.fill(subject(*who), &[Failure { stamp: Stamp::from_usec(*stamp), entry }], maxretry);
                }
                tally
            };
            let straight = counted(&events);
            let mut other = events.clone();
            if !events.is_empty() {
                other.extend(again.iter().map(|at| events[at.index(events.len())]));
            }
            other.sort_by_key(|(who, stamp, number)| (seed[(*number % 32) as usize], seed[(*stamp % 32) as usize], *who));
            let other = counted(&other);
            prop_assert_eq!(sorted(&other), sorted(&straight));
            prop_assert_eq!(other.complete(maxretry, MINUTE), straight.complete(maxretry, MINUTE));
            let mut refilled = Tally::default();
            for _ in 0..2 {
                straight.each(&mut |subject, failures| refilled.fill(subject, failures, maxretry));
                prop_assert_eq!(sorted(&refilled), sorted(&straight));
            }
        }
    }
}
