//! Which processes a filter has seen with its daemon's unit: they vouch for those of their entries that came without it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::Filter;
use super::origin::{Bond, Branch};
use super::refusal::Holds;
use crate::engine::entry::{Entry, Evidence, Locate, Page, Slot, Wanted};
use crate::engine::time::{Length, Stamp};

/// The most processes that one filter remembers; beyond it those seen longest ago are forgotten.
const LIMIT: usize = 4096;
/// A process vouches for what it logs this long after it was seen. PAM's delay lies between a refusal and the last line
/// of a client that left meanwhile. It is too short to go once through all process ids (4,194,304 where systemd sets
/// `kernel.pid_max`) and have another process get this one's.
const LIFE: Duration = Duration::from_secs(10);
/// How long an entry waits for its process to be seen.
const WAIT: Duration = Duration::from_secs(2);
/// The most entries of one filter that wait; beyond it the oldest is given up.
const WAITING: usize = 64;

/// Where a filter's entries come from, and the processes that are known to write them.
#[derive(Debug)]
pub(super) struct Origins {
    branches: Vec<Vec<Slot>>,
    /// `None` where every branch is for entries with a unit.
    identity: Option<Identity>,
    seen: Seen,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
}

/// The places of the fields that tell a process; the kernel writes them, and no entry of journald's is without.
#[derive(Clone, Copy, Debug)]
struct Identity {
    pid: Slot,
    uid: Slot,
    gid: Slot,
}

/// An entry whose process was not seen yet.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The number of the entry.
    pub(super) turn: u64,
    pub(super) page: Page,
    pub(super) evidence: Evidence,
    process: Process,
}

/// A process, with the rights that it had when it wrote. A setuid program that gets a daemon's former process id has its
/// caller's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::engine) struct Process {
    pub(in crate::engine) boot: u128,
    pub(in crate::engine) pid: u32,
    pub(in crate::engine) uid: Option<u32>,
    pub(in crate::engine) gid: Option<u32>,
}

impl Origins {
    pub(super) fn new(filter: &Filter, wanted: &mut Wanted) -> Origins {
        let branches = filter.branches.iter().map(|branch| branch.slots(wanted)).collect();
        let unitless = filter.branches.iter().any(Branch::is_unitless);
        let mut place = |name: &str| wanted.want(&name.parse().expect("a field's name"));
        let identity = unitless.then(|| Identity { pid: place("_PID"), uid: place("_UID"), gid: place("_GID") });
        Origins { branches, identity, seen: Seen::default(), waiting: VecDeque::new() }
    }

    /// What the entry has to do with this branch of `filter`. [`Bond::Process`]: its process is not known so far.
    pub(super) fn bond(&mut self, filter: &Filter, branch: usize, entry: Entry<'_>) -> Bond {
        let bond = filter.branches[branch].bond(entry, &self.branches[branch]);
        let Some(identity) = self.identity else { return bond };
        match (bond, identity.read(entry)) {
            (Bond::None, _) => Bond::None,
            (Bond::Whole, process) => {
                if let Some(process) = process {
                    self.seen.see(process, entry.stamp());
                }
                Bond::Whole
            }
            (Bond::Process, Some(process)) if self.seen.vouches(process, entry.stamp()) => Bond::Whole,
            (Bond::Process, _) => Bond::Process,
        }
    }

    /// Has the entry of this number wait for its process, once.
    pub(super) fn wait(&mut self, entry: Entry<'_>, turn: u64, locate: Locate<'_>) {
        let Some(process) = self.identity.and_then(|identity| identity.read(entry)) else { return };
        if self.waiting.back().is_some_and(|last| last.turn == turn) {
            return;
        }
        let Some(here) = locate() else { return };
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
        }
        let evidence = Evidence { stamp: entry.stamp(), entry: here };
        self.waiting.push_back(Waiting { turn, page: entry.to_page(), evidence, process });
    }

    /// The oldest that waits for the process of `entry`, which has a unit. One that came with this number waits no more.
    pub(super) fn vouched(&mut self, entry: Entry<'_>, turn: u64) -> Option<Waiting> {
        if self.waiting.is_empty() {
            return None;
        }
        self.waiting.retain(|one| one.turn != turn);
        let process = self.identity?.read(entry)?;
        let at = self.waiting.iter().position(|one| one.process == process)?;
        self.waiting.remove(at)
    }

    /// Gives up what has waited too long, as of `now`.
    pub(super) fn pass(&mut self, now: Stamp) {
        self.waiting.retain(|one| one.evidence.stamp.apart(now) <= WAIT);
    }

    /// What is held back, if anything is.
    pub(super) fn holds(&self) -> Option<Holds> {
        let first = self.waiting.front()?;
        let stamps = || self.waiting.iter().map(|one| one.evidence.stamp);
        let (earliest, latest) = (stamps().map(|stamp| stamp.before(WAIT)).max()?, stamps().min()?);
        Some(Holds { turn: first.turn, earliest, latest: latest.after(Length::For(WAIT)) })
    }

    /// The processes that still vouch for anything, with when they were seen last.
    pub(super) fn processes(&self) -> Vec<(Process, Stamp)> {
        self.seen.all()
    }

    /// Goes on with these processes and no others.
    pub(super) fn resume(&mut self, processes: &[(Process, Stamp)]) {
        self.seen = Seen::default();
        self.waiting.clear();
        if self.identity.is_some() {
            processes.iter().for_each(|(process, stamp)| self.seen.see(*process, *stamp));
        }
    }
}

impl Identity {
    /// The process that wrote `entry`; `None` where its id is missing or repeated, as journald never writes it.
    fn read(self, entry: Entry<'_>) -> Option<Process> {
        let number = |slot| {
            let mut values = entry.values(slot);
            let value = values.next().filter(|_| values.next().is_none())?;
            std::str::from_utf8(value.bytes).ok()?.parse().ok()
        };
        Some(Process { boot: entry.boot(), pid: number(self.pid)?, uid: number(self.uid), gid: number(self.gid) })
    }
}

/// The processes that were seen, in two generations: when the young one is full it becomes the old one, and the old one
/// is forgotten.
#[derive(Debug, Default)]
struct Seen {
    young: HashMap<Process, Stamp>,
    old: HashMap<Process, Stamp>,
    /// The one seen last, which is seen again most often.
    last: Option<(Process, Stamp)>,
}

impl Seen {
    fn see(&mut self, process: Process, stamp: Stamp) {
        match &mut self.last {
            Some((last, seen)) if *last == process => *seen = stamp.max(*seen),
            _ => {
                if let Some((last, seen)) = self.last.replace((process, stamp)) {
                    self.put(last, seen);
                }
            }
        }
    }

    fn put(&mut self, process: Process, stamp: Stamp) {
        if self.young.len() >= LIMIT / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        let seen = self.young.entry(process).or_insert(stamp);
        *seen = stamp.max(*seen);
    }

    fn vouches(&self, process: Process, stamp: Stamp) -> bool {
        let last = self.last.filter(|(last, _)| *last == process).map(|(_, seen)| seen);
        let seen = last.or_else(|| self.young.get(&process).or_else(|| self.old.get(&process)).copied());
        seen.is_some_and(|seen| seen.apart(stamp) <= LIFE)
    }

    /// All that were seen within [`LIFE`] of the latest, in the order of their stamps.
    fn all(&self) -> Vec<(Process, Stamp)> {
        let all = self.old.iter().chain(&self.young).map(|(process, stamp)| (*process, *stamp)).chain(self.last);
        let mut all: Vec<(Process, Stamp)> = all.collect();
        let latest = all.iter().map(|(_, stamp)| *stamp).max().unwrap_or_default();
        all.retain(|(_, stamp)| stamp.apart(latest) <= LIFE);
        all.sort_by_key(|(process, stamp)| (*stamp, *process));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Process {
        Process { boot: 1, pid, uid: Some(0), gid: Some(0) }
    }

    fn at(seconds: u64) -> Stamp {
        Stamp::from_usec(seconds * 1_000_000)
    }

    #[test]
    fn a_process_vouches_while_it_can_be_no_other() {
        let mut seen = Seen::default();
        seen.see(process(1), at(100));
        assert!(
            seen.vouches(process(1), at(100)) && seen.vouches(process(1), at(110)) && seen.vouches(process(1), at(90))
        );
        assert!(!seen.vouches(process(1), at(111)) && !seen.vouches(process(1), at(89)));
        seen.see(process(1), at(105));
        assert!(seen.vouches(process(1), at(115)));
        assert!(!seen.vouches(process(2), at(100)));
        assert!(!seen.vouches(Process { gid: Some(1000), ..process(1) }, at(100)));
        assert!(!seen.vouches(Process { boot: 2, ..process(1) }, at(100)));
        seen.see(process(3), at(116));
        assert_eq!(seen.all(), [(process(3), at(116))]);
    }

    #[test]
    fn processes_are_bounded_and_the_longest_unseen_are_forgotten() {
        let mut seen = Seen::default();
        seen.see(process(0), at(1));
        for pid in 1..10 * LIMIT as u32 {
            seen.see(process(pid), at(1));
            if pid.is_multiple_of(100) {
                seen.see(process(0), at(1));
            }
        }
        assert!(seen.young.len() + seen.old.len() <= LIMIT);
        assert!(seen.vouches(process(0), at(1)) && !seen.vouches(process(1), at(1)));
    }
}
