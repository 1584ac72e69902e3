//! One filter asked about entries or bare messages, with the answer explained: for trying filters out.

use std::net::IpAddr;
use std::sync::Arc;

use super::judge::{Judge, Judgement};
use super::origin::Bond;
use super::process::Origins;
use super::session::Standing;
use super::{Filter, Part, sieve};
use crate::engine::entry::{Entry, EntryRef, Field, Page, Slot, Wanted};
use crate::engine::time::Stamp;

/// One filter on trial. It keeps sessions like a [`Sieve`](super::Sieve).
#[derive(Debug)]
pub struct Trial {
    wanted: Wanted,
    message: Slot,
    origins: Origins,
    judge: Judge,
    page: Page,
    /// How many inputs were tried.
    tried: u64,
    overdue: Vec<Overdue>,
}

/// An input that was [refused](Outcome::Refused) and that nothing has settled in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// Its number among those tried, from 1.
    pub number: u64,
    /// Who failed.
    pub address: IpAddr,
}

/// What a filter makes of an entry, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of it.
    pub outcome: Outcome,
    /// The pattern that decided, or [`Part::Address`] where the filter has none.
    pub pattern: Option<Part>,
    /// Everything that this pattern and the prefregex captured, by name: `addr`, `user`, `fport`, …
    pub captures: Vec<(String, Vec<u8>)>,
    /// The patterns that gave no answer because it would have taken too long; they count as if they did not match.
    pub gave_up: Vec<Part>,
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It does not come from where the filter's `journalmatch` says.
    Elsewhere,
    /// It has no unit, and its process was not seen with the daemon's so far. It is tried again where it is within two
    /// seconds.
    Unvouched,
    /// No pattern matches.
    NoMatch,
    /// A pattern matches, but the `ignoreregex` of this index too.
    Ignored(usize),
    /// A pattern matches, but what stands in the address's place is a name or no address at all.
    NoAddress,
    /// It is a failure as soon as its session tells an address.
    Pending,
    /// It tells something about its session and is no failure by itself.
    NoFail,
    /// It is a failure unless its session reports the attempt, or success, [in time](super::WAIT).
    Refused,
    /// It reports success; failures of its session still without an address are forgotten.
    Success,
    /// It reports an attempt that its session has counted already.
    Counted,
    /// It completes a failure of this address.
    Failure(IpAddr),
}

impl Trial {
    /// Puts this filter on trial.
    pub fn new(filter: Arc<Filter>) -> Trial {
        let mut wanted = Wanted::default();
        let origins = Origins::new(&filter, &mut wanted);
        let judge = Judge::new(filter, &mut wanted);
        let message = wanted.want(&Field::message());
        Trial { message, wanted, origins, judge, page: Page::default(), tried: 0, overdue: Vec::new() }
    }

    /// How many inputs were tried.
    pub fn tried(&self) -> u64 {
        self.tried
    }

    /// The refused inputs that have become failures since this was last asked.
    pub fn overdue(&mut self) -> Vec<Overdue> {
        std::mem::take(&mut self.overdue)
    }

    /// It is `now`, and there is no further input until then.
    pub fn pass(&mut self, now: Stamp) {
        let Trial { judge, origins, overdue, .. } = self;
        origins.pass(now);
        judge.pass(now, &mut |address, evidence| overdue.push(Overdue { number: evidence.entry.seqnum, address }));
    }

    /// The fields that a reader must offer.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// What sd-journal is asked for so that it delivers every entry from where the filter's `journalmatch` says; `None`:
    /// all entries.
    pub fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        sieve::terms(std::iter::once(self.judge.filter()))
    }

    /// Tries an entry.
    pub fn examine(&mut self, entry: Entry<'_>) -> Verdict {
        self.pass(entry.stamp());
        let filter = self.judge.filter();
        let bonds = (0..filter.branches.len()).map(|branch| self.origins.bond(filter, branch, entry));
        let outcome = match bonds.fold(Bond::None, Bond::max) {
            Bond::Whole => {
                self.vouched(entry);
                return self.examine_anywhere(entry);
            }
            Bond::Process => {
                let number = self.tried + 1;
                self.origins.wait(entry, number, &mut || Some(EntryRef::attempt(number)));
                Outcome::Unvouched
            }
            Bond::None => Outcome::Elsewhere,
        };
        self.tried += 1;
        Verdict { outcome, pattern: None, captures: Vec::new(), gave_up: Vec::new() }
    }

    /// Tries what waited for the process of this entry.
    fn vouched(&mut self, entry: Entry<'_>) {
        while let Some(waited) = self.origins.vouched(entry, self.tried + 1) {
            let number = waited.turn;
            let mut locate = || Some(EntryRef::attempt(number));
            if let Judgement::Line { standing: Standing::Failure(address), .. } =
                self.judge.judge(waited.page.entry(), number, &mut locate)
            {
                self.overdue.push(Overdue { number, address });
            }
        }
    }

    /// Tries an entry as if it came from where the filter's `journalmatch` says.
    pub fn examine_anywhere(&mut self, entry: Entry<'_>) -> Verdict {
        self.pass(entry.stamp());
        self.tried += 1;
        judge(&mut self.judge, entry, self.tried)
    }

    /// Tries a bare text as MESSAGE of an entry that comes from the right place and belongs to no session.
    pub fn message(&mut self, text: &[u8]) -> Verdict {
        self.tried += 1;
        self.page.begin(Stamp::EPOCH, 0);
        self.page.put(self.message, text);
        judge(&mut self.judge, self.page.entry(), self.tried)
    }
}

fn judge(judge: &mut Judge, entry: Entry<'_>, number: u64) -> Verdict {
    let mut locate = || Some(EntryRef::attempt(number));
    let (outcome, found) = match judge.judge(entry, number, &mut locate) {
        Judgement::Nothing => (Outcome::NoMatch, None),
        Judgement::Ignored { found, by } => (Outcome::Ignored(by), Some(found)),
        Judgement::Unreadable { found } => (Outcome::NoAddress, Some(found)),
        Judgement::Line { found, standing, gained } => (outcome(standing, gained), Some(found)),
    };
    let gave_up = judge.gave_up();
    let captures = found.map(|found| judge.captures(entry, found)).unwrap_or_default();
    Verdict { outcome, pattern: found.map(super::judge::Found::part), captures, gave_up }
}

fn outcome(standing: Standing, gained: bool) -> Outcome {
    match standing {
        Standing::Failure(address) => Outcome::Failure(address),
        Standing::Pending => Outcome::Pending,
        Standing::NoFail if gained => Outcome::Success,
        Standing::NoFail => Outcome::NoFail,
        Standing::Refused => Outcome::Refused,
        Standing::Counted => Outcome::Counted,
    }
}
