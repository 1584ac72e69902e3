//! All jails' filters over one journal: which of them an entry concerns, and which failures it completes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Filter;
use super::judge::{Judge, Judgement};
use super::session::Standing;
use crate::engine::ban::JailName;
use crate::engine::entry::{Entry, Field, Slot, Wanted};

/// Above so many terms sd-journal is slower with them than without.
pub const TERM_LIMIT: usize = 16;

/// Our own unit; what it logs about bans is never a failure.
const OWN_UNIT: &[u8] = b"banishd.service";

/// A failure that an entry completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Whose filter matched.
    pub jail: JailName,
    /// Who failed.
    pub address: IpAddr,
}

/// The filters of all enabled jails. Jails that share a filter share its work and its sessions.
#[derive(Debug)]
pub struct Sieve {
    wanted: Wanted,
    unit: Slot,
    identifier: Slot,
    stations: Vec<Station>,
    by_unit: HashMap<Box<[u8]>, Vec<Candidate>>,
    by_identifier: HashMap<Box<[u8]>, Vec<Candidate>>,
    /// Branches that name neither.
    others: Vec<Candidate>,
    terms: Option<Vec<(Field, Vec<u8>)>>,
    /// Counts entries, so that a station knows whether it had this one.
    turn: u64,
}

#[derive(Debug)]
struct Station {
    jails: Vec<JailName>,
    judge: Judge,
    branches: Vec<Vec<Slot>>,
    turn: u64,
}

/// A branch of a station's filter.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    station: usize,
    branch: usize,
}

impl Sieve {
    /// The sieve of these jails.
    pub fn new(jails: Vec<(JailName, Arc<Filter>)>) -> Sieve {
        let mut wanted = Wanted::default();
        let unit = wanted.want(&"_SYSTEMD_UNIT".parse().expect("a field's name"));
        let identifier = wanted.want(&"SYSLOG_IDENTIFIER".parse().expect("a field's name"));
        let mut filters: Vec<(Arc<Filter>, Vec<JailName>)> = Vec::new();
        for (jail, filter) in jails {
            match filters.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &filter)) {
                Some((_, names)) => names.push(jail),
                None => filters.push((filter, vec![jail])),
            }
        }
        let mut sieve = Sieve {
            unit,
            identifier,
            stations: Vec::new(),
            by_unit: HashMap::new(),
            by_identifier: HashMap::new(),
            others: Vec::new(),
            terms: terms(filters.iter().map(|(filter, _)| &**filter)),
            turn: 0,
            wanted,
        };
        for (filter, jails) in filters {
            sieve.add(filter, jails);
        }
        sieve
    }

    fn add(&mut self, filter: Arc<Filter>, jails: Vec<JailName>) {
        let station = self.stations.len();
        for (branch, origin) in filter.branches.iter().enumerate() {
            let candidate = Candidate { station, branch };
            let (index, values) = if let Some(units) = origin.exact("_SYSTEMD_UNIT") {
                (&mut self.by_unit, units)
            } else if let Some(identifiers) = origin.exact("SYSLOG_IDENTIFIER") {
                (&mut self.by_identifier, identifiers)
            } else {
                self.others.push(candidate);
                continue;
            };
            for value in values {
                index.entry(value.into()).or_default().push(candidate);
            }
        }
        let branches = filter.branches.iter().map(|branch| branch.slots(&mut self.wanted)).collect();
        let judge = Judge::new(filter, &mut self.wanted);
        self.stations.push(Station { jails, judge, branches, turn: 0 });
    }

    /// The fields that a reader must offer.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// What to ask sd-journal for: every entry that any filter can match has at least one of these values. `None` where
    /// the reader must look at all entries, because a filter gives no such value or there are more than [`TERM_LIMIT`].
    pub fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        self.terms.clone()
    }

    /// Appends the failures that this entry completes, in the order of the jails.
    ///
    /// Entries must come in the order in which the journal has them, each once: sessions live from it.
    pub fn examine(&mut self, entry: Entry<'_>, out: &mut Vec<Hit>) {
        let unit = entry.first(self.unit);
        if unit.is_some_and(|unit| unit.bytes == OWN_UNIT) {
            return;
        }
        self.turn += 1;
        let turn = self.turn;
        let Sieve { stations, by_unit, by_identifier, others, .. } = self;
        let mut ask = |candidates: &[Candidate]| {
            for candidate in candidates {
                stations[candidate.station].examine(candidate.branch, turn, entry, out);
            }
        };
        if let Some(candidates) = unit.and_then(|unit| by_unit.get(unit.bytes)) {
            ask(candidates);
        }
        if !by_identifier.is_empty() {
            for candidates in entry.values(self.identifier).filter_map(|value| by_identifier.get(value.bytes)) {
                ask(candidates);
            }
        }
        ask(others);
    }
}

impl Station {
    fn examine(&mut self, branch: usize, turn: u64, entry: Entry<'_>, out: &mut Vec<Hit>) {
        if self.turn == turn || !self.judge.filter().branches[branch].holds(entry, &self.branches[branch]) {
            return;
        }
        self.turn = turn;
        if let Judgement::Line { standing: Standing::Failure(address), .. } = self.judge.judge(entry) {
            out.extend(self.jails.iter().map(|jail| Hit { jail: jail.clone(), address }));
        }
    }
}

fn terms<'a>(filters: impl Iterator<Item = &'a Filter>) -> Option<Vec<(Field, Vec<u8>)>> {
    let mut all = Vec::new();
    for branch in filters.flat_map(|filter| &filter.branches) {
        all.extend(branch.terms()?);
    }
    all.sort();
    all.dedup();
    (all.len() <= TERM_LIMIT).then_some(all)
}
