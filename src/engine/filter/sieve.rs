//! All jails' filters over one journal: which of them an entry concerns, and which failures it completes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Filter;
use super::judge::{Judge, Judgement};
use super::origin::Bond;
use super::process::Origins;
use super::refusal::Holds;
use super::session::{OpenSessions, Standing};
use crate::engine::ban::JailName;
use crate::engine::entry::{Entry, Evidence, Field, Locate, Slot, Wanted};
use crate::engine::time::Stamp;

/// Above so many terms sd-journal is slower with them than without.
pub const TERM_LIMIT: usize = 16;

/// Our own unit; what it logs about bans is never a failure.
const OWN_UNIT: &[u8] = b"banishd.service";

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Whose filter matched.
    pub jail: JailName,
    /// Who failed.
    pub address: IpAddr,
    /// An earlier entry that was held back until now and is the failure; `None`: the entry just examined completes it.
    pub evidence: Option<Evidence>,
}

/// What is held back until other entries, or the time that passes, tell what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// So many entries had been examined before the oldest of it came.
    pub since: u64,
    /// When the oldest of it is decided at the latest.
    pub due: Stamp,
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
    /// Nothing that is held back is overdue between these times.
    earliest: Stamp,
    latest: Stamp,
}

#[derive(Debug)]
struct Station {
    jails: Vec<JailName>,
    judge: Judge,
    origins: Origins,
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
            earliest: Stamp::EPOCH,
            latest: Stamp::NEVER,
            wanted,
        };
        for (filter, jails) in filters {
            sieve.add(filter, jails);
        }
        let filters = sieve.stations.len();
        sieve.stations.iter_mut().for_each(|station| station.judge.share_among(filters));
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
        let origins = Origins::new(&filter, &mut self.wanted);
        let judge = Judge::new(filter, &mut self.wanted);
        self.stations.push(Station { jails, judge, origins, turn: 0 });
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

    /// The sessions that are open, filter by filter: with the entries that come after, what a later run needs to go on.
    pub fn sessions(&self) -> Vec<OpenSessions> {
        self.stations.iter().filter_map(Station::sessions).collect()
    }

    /// Goes on with these sessions and no others. Those of filters that are not here are passed over.
    pub fn resume(&mut self, open: &[OpenSessions]) {
        self.stations.iter_mut().for_each(|station| station.resume(open));
        self.look_ahead();
    }

    /// How many entries were examined.
    pub fn examined(&self) -> u64 {
        self.turn
    }

    /// What is held back, if anything is.
    pub fn held(&self) -> Option<Held> {
        let all = || self.stations.iter().flat_map(Station::holds);
        let since = all().map(|holds| holds.turn.saturating_sub(1)).min()?;
        Some(Held { since, due: all().map(|holds| holds.latest).min()? })
    }

    /// Appends the failures among what is held back that nothing has settled in time: it is `now`, and everything until
    /// then has been examined.
    pub fn pass(&mut self, now: Stamp, out: &mut Vec<Hit>) {
        if (self.earliest..=self.latest).contains(&now) {
            return;
        }
        for Station { jails, judge, origins, .. } in &mut self.stations {
            origins.pass(now);
            judge.pass(now, &mut |address, evidence| {
                let evidence = Some(evidence);
                out.extend(jails.iter().map(|jail| Hit { jail: jail.clone(), address, evidence }));
            });
        }
        self.look_ahead();
    }

    /// Finds when something will be overdue.
    fn look_ahead(&mut self) {
        let holds = || self.stations.iter().flat_map(Station::holds);
        self.earliest = holds().map(|holds| holds.earliest).max().unwrap_or(Stamp::EPOCH);
        self.latest = holds().map(|holds| holds.latest).min().unwrap_or(Stamp::NEVER);
    }

    /// Appends the failures that this entry completes, in the order of the jails, behind those that are overdue at its
    /// time. `locate` tells which entry it is.
    ///
    /// Entries must come in the order in which the journal has them, each once: sessions live from it.
    pub fn examine(&mut self, entry: Entry<'_>, locate: Locate<'_>, out: &mut Vec<Hit>) {
        self.turn += 1;
        self.pass(entry.stamp(), out);
        let unit = entry.first(self.unit);
        if unit.is_some_and(|unit| unit.bytes == OWN_UNIT) {
            return;
        }
        let turn = self.turn;
        let mut holds = false;
        let Sieve { stations, by_unit, by_identifier, others, .. } = self;
        let mut ask = |candidates: &[Candidate]| {
            for candidate in candidates {
                holds |= stations[candidate.station].examine(candidate.branch, turn, entry, locate, out);
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
        if holds {
            self.look_ahead();
        }
    }
}

impl Station {
    /// Does it hold an entry back?
    fn examine(&mut self, branch: usize, turn: u64, entry: Entry<'_>, locate: Locate<'_>, out: &mut Vec<Hit>) -> bool {
        if self.turn == turn {
            return false;
        }
        match self.origins.bond(self.judge.filter(), branch, entry) {
            Bond::None => false,
            Bond::Process => {
                self.origins.wait(entry, turn, locate);
                true
            }
            Bond::Whole => {
                self.turn = turn;
                let mut holds = false;
                while let Some(waited) = self.origins.vouched(entry, turn) {
                    let evidence = waited.evidence;
                    holds |=
                        self.judge(waited.page.entry(), waited.turn, &mut || Some(evidence.entry), Some(evidence), out);
                }
                holds | self.judge(entry, turn, locate, None, out)
            }
        }
    }

    /// Is it held back?
    fn judge(
        &mut self,
        entry: Entry<'_>,
        turn: u64,
        locate: Locate<'_>,
        evidence: Option<Evidence>,
        out: &mut Vec<Hit>,
    ) -> bool {
        let Judgement::Line { standing, .. } = self.judge.judge(entry, turn, locate) else { return false };
        if let Standing::Failure(address) = standing {
            out.extend(self.jails.iter().map(|jail| Hit { jail: jail.clone(), address, evidence }));
        }
        standing == Standing::Refused
    }

    /// What is held back.
    fn holds(&self) -> impl Iterator<Item = Holds> {
        self.judge.holds().into_iter().chain(self.origins.holds())
    }

    /// What a later run needs to go on; `None` where there is nothing to keep.
    fn sessions(&self) -> Option<OpenSessions> {
        let processes = self.origins.processes();
        match self.judge.sessions() {
            Some(open) => Some(OpenSessions { processes, ..open }),
            None if processes.is_empty() => None,
            None => {
                Some(OpenSessions { filter: self.judge.filter().fingerprint, processes, ..OpenSessions::default() })
            }
        }
    }

    fn resume(&mut self, open: &[OpenSessions]) {
        self.judge.resume(open);
        let own = open.iter().find(|open| open.filter == self.judge.filter().fingerprint);
        self.origins.resume(own.map_or(&[], |open| &open.processes));
    }
}

/// The terms that together select all entries of these filters.
pub(super) fn terms<'a>(filters: impl Iterator<Item = &'a Filter>) -> Option<Vec<(Field, Vec<u8>)>> {
    let mut all = Vec::new();
    for branch in filters.flat_map(|filter| &filter.branches) {
        all.extend(branch.terms()?);
    }
    all.sort();
    all.dedup();
    (all.len() <= TERM_LIMIT).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::super::{Definition, FieldRule, Outcome, Part, Trial};
    use super::*;
    use crate::engine::entry::{EntryRef, Page, VALUE_LIMIT};

    fn definition(journalmatch: &[&str], failregex: &[&str]) -> Definition {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Definition {
            name: "test".into(),
            journalmatch: list(journalmatch),
            failregex: list(failregex),
            ..Definition::default()
        }
    }

    fn compiled(definition: &Definition) -> Arc<Filter> {
        Arc::new(Filter::compile(definition).unwrap_or_else(|faults| panic!("{faults:?}")))
    }

    fn hits(sieve: &mut Sieve, fields: &[&str]) -> Vec<String> {
        let mut page = Page::default();
        page.begin(Stamp::from_usec(1), 1);
        fields.iter().for_each(|field| page.offer(sieve.wanted(), field.as_bytes()));
        let mut out = Vec::new();
        sieve.examine(page.entry(), &mut || Some(EntryRef::attempt(1)), &mut out);
        out.iter().map(|hit| format!("{} {}", hit.jail, hit.address)).collect()
    }

    fn sieve(jails: &[(&str, &Arc<Filter>)]) -> Sieve {
        Sieve::new(jails.iter().map(|(name, filter)| (name.parse().unwrap(), Arc::clone(filter))).collect())
    }

    const UNIT: &str = "_SYSTEMD_UNIT=a.service";

    #[test]
    fn each_jail_hears_of_its_own_and_each_entry_counts_once() {
        let a = compiled(&definition(&[UNIT, "_SYSTEMD_UNIT=a.service _UID=0"], &["^bad <ADDR>$"]));
        let b = compiled(&definition(&["_TRANSPORT=kernel"], &["^bad <ADDR>$"]));
        let c = ["_SYSTEMD_UNIT=c.service", "_UID=0 _SYSTEMD_UNIT= SYSLOG_IDENTIFIER=c"];
        let c = compiled(&definition(&c, &["^bad <ADDR>$"]));
        let mut sieve = sieve(&[("a1", &a), ("b", &b), ("a2", &a), ("c", &c)]);
        let bad = "MESSAGE=bad 192.0.2.1";
        assert_eq!(hits(&mut sieve, &[UNIT, "_UID=0", bad]), ["a1 192.0.2.1", "a2 192.0.2.1"]);
        assert_eq!(hits(&mut sieve, &["_TRANSPORT=kernel", bad]), ["b 192.0.2.1"]);
        let ended = |uid, pid| [uid, pid, "SYSLOG_IDENTIFIER=c", bad];
        assert!(hits(&mut sieve, &ended("_UID=0", "_PID=7")).is_empty());
        let seen = ["_SYSTEMD_UNIT=c.service", "_UID=0", "_PID=7", "MESSAGE=hello"];
        assert_eq!(hits(&mut sieve, &seen), ["c 192.0.2.1"], "what waited");
        assert_eq!(hits(&mut sieve, &ended("_UID=0", "_PID=7")), ["c 192.0.2.1"]);
        assert!(hits(&mut sieve, &ended("_UID=1", "_PID=7")).is_empty());
        assert!(hits(&mut sieve, &ended("_UID=0", "_PID=8")).is_empty());
        assert!(hits(&mut sieve, &["_SYSTEMD_UNIT=z.service", bad]).is_empty());
        assert!(hits(&mut sieve, &[UNIT]).is_empty());
    }

    #[test]
    fn our_own_unit_is_never_input() {
        let own = compiled(&definition(&["_SYSTEMD_UNIT=banishd.service"], &["^<ADDR>$"]));
        let mut sieve = sieve(&[("own", &own)]);
        assert!(hits(&mut sieve, &["_SYSTEMD_UNIT=banishd.service", "MESSAGE=192.0.2.1"]).is_empty());
    }

    #[test]
    fn the_terms_are_a_union_and_given_up_above_the_limit_or_where_one_is_missing() {
        let a = compiled(&definition(&[UNIT, "_SYSTEMD_UNIT=b.service"], &["^<ADDR>$"]));
        let both = compiled(&definition(&[UNIT], &["^<ADDR>$"]));
        assert_eq!(sieve(&[("a", &a), ("b", &both)]).terms().map(|terms| terms.len()), Some(2));
        let open = compiled(&definition(&["_SYSTEMD_UNIT=a@*.service"], &["^<ADDR>$"]));
        assert_eq!(sieve(&[("a", &a), ("b", &open)]).terms(), None);
        let lines: Vec<String> = (0..=TERM_LIMIT).map(|at| format!("_SYSTEMD_UNIT=u{at}.service")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(sieve(&[("m", &compiled(&definition(&lines, &["^<ADDR>$"])))]).terms(), None);
        assert!(sieve(&[("m", &compiled(&definition(&lines[1..], &["^<ADDR>$"])))]).terms().is_some());
    }

    #[test]
    fn a_cut_message_has_no_end() {
        let closed = compiled(&definition(&[UNIT], &["^<ADDR> x*$"]));
        let open = compiled(&definition(&[UNIT], &["^<ADDR> x*"]));
        let mut sieve = sieve(&[("closed", &closed), ("open", &open)]);
        let fits = format!("MESSAGE=192.0.2.1 {}", "x".repeat(VALUE_LIMIT - 10));
        assert_eq!(hits(&mut sieve, &[UNIT, &fits]), ["closed 192.0.2.1", "open 192.0.2.1"]);
        assert_eq!(hits(&mut sieve, &[UNIT, &(fits + "x")]), ["open 192.0.2.1"]);
    }

    #[test]
    fn the_first_pattern_decides_anchored_or_not() {
        for patterns in [["^(?P<w>bad) <ADDR>$", "^(?P<v>bad) <ADDR>$"], ["(?P<w>d) <ADDR>$", "(?P<v>bad) <ADDR>$"]] {
            let mut trial = Trial::new(compiled(&definition(&[UNIT], &patterns)));
            let verdict = trial.message(b"bad 192.0.2.1");
            assert_eq!(verdict.pattern, Some(Part::Failregex(0)));
            assert!(verdict.captures.iter().any(|(name, _)| name == "w"), "{verdict:?}");
        }
    }

    #[test]
    fn a_trial_explains() {
        let mut filter =
            definition(&[UNIT], &["^from <HOST>(?: user <F-USER>.*</F-USER>)?$", "^<F-NOFAIL>hello</F-NOFAIL>$"]);
        filter.prefregex = Some("^app: <F-CONTENT>.*</F-CONTENT>$".into());
        filter.ignoreregex = vec!["monitor".into()];
        let filter = compiled(&filter);
        assert_eq!(filter.unanchored(), []);
        let mut trial = Trial::new(filter);
        let mut told = |text: &str| trial.message(text.as_bytes());
        let verdict = told("app: from [2001:db8::1] user x y");
        assert_eq!(verdict.outcome, Outcome::Failure("2001:db8::1".parse().unwrap()));
        assert!(verdict.captures.contains(&("user".into(), b"x y".to_vec())));
        assert!(verdict.captures.contains(&("host".into(), b"2001:db8::1".to_vec())));
        assert_eq!(told("app: from 192.0.2.1 user monitor").outcome, Outcome::Ignored(0));
        assert_eq!(told("app: from host.example").outcome, Outcome::NoAddress);
        assert_eq!(told("app: hello").outcome, Outcome::NoFail);
        assert_eq!(told("from 192.0.2.1").outcome, Outcome::NoMatch);
        assert_eq!(trial.examine(Page::default().entry()).outcome, Outcome::Elsewhere);
    }

    #[test]
    fn structured_fields_give_the_address_and_the_failure() {
        let mut filter = definition(&[UNIT], &[]);
        filter.address = Some("REMOTE_ADDR".parse().unwrap());
        let mut all = sieve(&[("all", &compiled(&filter))]);
        assert_eq!(hits(&mut all, &[UNIT, "REMOTE_ADDR=192.0.2.1"]), ["all 192.0.2.1"]);
        assert!(hits(&mut all, &[UNIT, "REMOTE_ADDR=a.example"]).is_empty());
        assert!(hits(&mut all, &[UNIT]).is_empty());
        filter.fields = vec![FieldRule { field: "RESULT".parse().unwrap(), failregex: vec!["^denied$".into()] }];
        let mut ruled = sieve(&[("ruled", &compiled(&filter))]);
        assert_eq!(hits(&mut ruled, &[UNIT, "REMOTE_ADDR=192.0.2.1", "RESULT=denied"]), ["ruled 192.0.2.1"]);
        assert!(hits(&mut ruled, &[UNIT, "REMOTE_ADDR=192.0.2.1", "RESULT=granted"]).is_empty());
    }

    #[test]
    fn an_entry_waits_for_its_process_for_two_seconds_and_counts_as_itself() {
        let lines = ["_SYSTEMD_UNIT=a.service", "_UID=0 _SYSTEMD_UNIT= SYSLOG_IDENTIFIER=a"];
        let a = compiled(&definition(&lines, &["^bad <ADDR>$"]));
        let mut sieve = sieve(&[("a", &a)]);
        let mut seqnum = 0;
        let mut told = |sieve: &mut Sieve, seconds: u64, fields: &[&str]| {
            let mut page = Page::default();
            page.begin(Stamp::from_usec(seconds * 1_000_000), 1);
            fields.iter().for_each(|field| page.offer(sieve.wanted(), field.as_bytes()));
            seqnum += 1;
            let mut out = Vec::new();
            sieve.examine(page.entry(), &mut || Some(EntryRef::attempt(seqnum)), &mut out);
            let seqnum_of = |hit: &Hit| hit.evidence.map_or(seqnum, |evidence| evidence.entry.seqnum);
            out.iter().map(|hit| format!("{} {}", seqnum_of(hit), hit.address)).collect::<Vec<_>>()
        };
        fn ended(pid: &str) -> [&str; 4] {
            ["_UID=0", pid, "SYSLOG_IDENTIFIER=a", "MESSAGE=bad 192.0.2.1"]
        }
        let with_unit = |pid| ["_UID=0", pid, UNIT, "MESSAGE=bad 192.0.2.2"];
        assert!(told(&mut sieve, 10, &ended("_PID=7")).is_empty());
        assert!(told(&mut sieve, 11, &ended("_PID=8")).is_empty());
        let held = sieve.held().expect("two are held");
        assert_eq!((held.since, held.due), (0, Stamp::from_usec(12_000_000)));
        assert_eq!(told(&mut sieve, 12, &with_unit("_PID=7")), ["1 192.0.2.1", "3 192.0.2.2"]);
        assert_eq!(sieve.held().map(|held| held.since), Some(1));
        assert_eq!(told(&mut sieve, 14, &with_unit("_PID=8")), ["4 192.0.2.2"], "too late");
        assert_eq!(sieve.held(), None);
        assert_eq!(told(&mut sieve, 15, &ended("_PID=8")), ["5 192.0.2.1"]);
        for at in 0..1000 {
            let pid = format!("_PID={}", 100 + at);
            assert!(told(&mut sieve, 20, &ended(&pid)).is_empty());
        }
        assert_eq!(sieve.held().map(|held| held.since), Some(1005 - 64), "bounded");
        // What a later run goes on from.
        told(&mut sieve, 21, &with_unit("_PID=9"));
        let mut later = self::sieve(&[("a", &a)]);
        later.resume(&sieve.sessions());
        assert_eq!(told(&mut later, 22, &ended("_PID=9")), ["1007 192.0.2.1"]);
        assert!(told(&mut later, 22, &ended("_PID=10")).is_empty());
    }

    #[test]
    fn entries_without_a_unit_need_a_line_that_says_which_daemon_s_they_are() {
        let unitless = "_UID=0 _SYSTEMD_UNIT= SYSLOG_IDENTIFIER=a";
        for lines in [&[unitless][..], &[unitless, "_TRANSPORT=kernel"]] {
            let faults = Filter::compile(&definition(lines, &["^bad <ADDR>$"])).expect_err("nothing vouches");
            assert!(faults[0].at == Part::Journalmatch(0) && faults[0].reason.contains("seen with one"), "{faults:?}");
        }
        for lines in [[unitless, UNIT], [unitless, "_UID=0 _EXE=/usr/sbin/a"]] {
            assert!(Filter::compile(&definition(&lines, &["^bad <ADDR>$"])).is_ok());
        }
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let mut filter = definition(&["_COMM=sshd", UNIT], &["^no address$", "^a(?<=b+) <ADDR>$", "^<ADDR>[z-a]$"]);
        filter.prefregex = Some("^no content".into());
        filter.ignoreregex = vec!["(".into()];
        let faults = Filter::compile(&filter).expect_err("six faults");
        let places: Vec<Part> = faults.iter().map(|fault| fault.at).collect();
        let expected = [
            Part::Journalmatch(0),
            Part::Prefregex,
            Part::Failregex(0),
            Part::Failregex(1),
            Part::Failregex(2),
            Part::Ignoreregex(0),
        ];
        assert_eq!(places, expected, "{faults:?}");
        assert_eq!((faults[3].offset, faults[4].offset), (Some(2), Some(8)));
        filter.session = Some("SYSLOG_PID".parse().unwrap());
        assert!(Filter::compile(&filter).expect_err("seven").iter().any(|fault| fault.at == Part::Session));
    }

    #[test]
    fn open_patterns_are_taken_and_told() {
        let filter = compiled(&definition(&[UNIT], &["^bad <ADDR>$", "bad <ADDR>$", "^bad <ADDR>"]));
        assert_eq!(filter.unanchored(), [Part::Failregex(1), Part::Failregex(2)]);
    }

    #[test]
    fn what_backtracks_stands_in_its_place_among_the_others() {
        let patterns = ["^(?P<a>bad) <ADDR>$", "^(?P<b>b)(?=a).* <ADDR>$", "^(?P<c>b.*) <ADDR>$", "(?<!x)bit <ADDR>$"];
        let filter = compiled(&definition(&[UNIT], &patterns));
        assert_eq!(filter.needs_backtracking(), [Part::Failregex(1), Part::Failregex(3)]);
        assert_eq!(filter.unanchored(), [Part::Failregex(3)]);
        let mut trial = Trial::new(filter);
        for (text, decides) in [("bad", 0), ("bat", 1), ("bit", 2), ("a bit", 3)] {
            let verdict = trial.message(format!("{text} 192.0.2.1").as_bytes());
            assert_eq!(verdict.pattern, Some(Part::Failregex(decides)), "{text}");
            assert_eq!(verdict.outcome, Outcome::Failure("192.0.2.1".parse().unwrap()));
        }
        assert_eq!(trial.message(b"x bit 192.0.2.1x").outcome, Outcome::NoMatch);
    }

    #[test]
    fn a_pattern_that_gives_up_is_told_and_the_next_one_decides() {
        let mut filter = definition(&[UNIT], &["^(?:a|aa|aaa)*(?<=b) ?<ADDR>?$", "^a+ <ADDR>$"]);
        filter.prefregex = Some("^<F-CONTENT>.*</F-CONTENT>$".into());
        let filter = compiled(&filter);
        let mut trial = Trial::new(Arc::clone(&filter));
        let verdict = trial.message(format!("{} 192.0.2.1", "a".repeat(100)).as_bytes());
        assert_eq!(verdict.pattern, Some(Part::Failregex(1)));
        assert_eq!(verdict.gave_up, [Part::Failregex(0)]);
        assert_eq!(filter.given_up(), [(Part::Failregex(0), 1)]);
        assert_eq!(trial.message(b"192.0.2.1").gave_up, []);
        assert_eq!(filter.given_up(), [(Part::Failregex(0), 1)]);
    }

    /// The outcomes of these messages, one after another.
    fn told(filter: &Definition, messages: &[&str]) -> Vec<String> {
        let mut trial = Trial::new(compiled(filter));
        let outcome = |text: &&str| match trial.message(text.as_bytes()).outcome {
            Outcome::Failure(address) => address.to_string(),
            other => format!("{other:?}"),
        };
        messages.iter().map(outcome).collect()
    }

    #[test]
    fn a_text_tells_its_session() {
        let mut filter = definition(
            &[UNIT],
            &[
                "^<F-NOFAIL>open</F-NOFAIL> <ADDR>$",
                "^fail$",
                "^<F-MLFGAINED>in</F-MLFGAINED>$",
                "^<F-MLFFORGET>bye</F-MLFFORGET>$",
            ],
        );
        filter.prefregex = Some(
            "^(?:c=<F-MLFID>\\d+</F-MLFID>(?:/<F-TUPLE_MLFID>\\d+</F-TUPLE_MLFID>)? )?<F-CONTENT>.+</F-CONTENT>$"
                .into(),
        );
        let messages = [
            "c=1 open 192.0.2.1",
            "c=2 fail",
            "c=1 fail",
            "c=2 open 192.0.2.2",
            "c=1/1 fail",
            "fail",
            "c=1 bye",
            "c=1 fail",
        ];
        let expected = ["NoFail", "Pending", "192.0.2.1", "192.0.2.2", "Pending", "Pending", "192.0.2.1", "Pending"];
        assert_eq!(told(&filter, &messages), expected);
        let long = format!("c={} open 192.0.2.1", "1".repeat(65));
        let later = format!("c={} fail", "1".repeat(65));
        assert_eq!(told(&filter, &[&long, &later]), ["NoFail", "Pending"], "a key that is too long is none");
        assert_eq!(told(&filter, &["c=1 fail", "c=1 in", "c=1 open 192.0.2.1"]), ["Pending", "Success", "NoFail"]);
    }

    #[test]
    fn the_session_field_and_the_text_tell_it_together() {
        let mut filter = definition(
            &[UNIT],
            &["^c=<F-MLFID>\\d+</F-MLFID> <F-NOFAIL>open</F-NOFAIL> <ADDR>$", "^c=<F-MLFID>\\d+</F-MLFID> fail$"],
        );
        filter.session = Some("_PID".parse().unwrap());
        let mut sieve = sieve(&[("j", &compiled(&filter))]);
        let mut told =
            |pid: &str, text: &str| hits(&mut sieve, &[UNIT, &format!("_PID={pid}"), &format!("MESSAGE=c={text}")]);
        assert!(told("7", "1 open 192.0.2.1").is_empty());
        assert!(told("8", "1 fail").is_empty() && told("7", "2 fail").is_empty());
        assert_eq!(told("7", "1 fail"), ["j 192.0.2.1"]);
        assert_eq!(sieve.sessions()[0].sessions.len(), 3);
    }

    #[test]
    fn an_id_is_an_address_or_what_belongs_together() {
        let filter = definition(
            &[UNIT],
            &[
                "^<F-ID>\\S+</F-ID>(?:/<F-TUPLE_ID>\\w+</F-TUPLE_ID>)? from <ADDR>$",
                "^<F-ID>\\S+</F-ID>(?:/<F-TUPLE_ID>\\w+</F-TUPLE_ID>)? again$",
            ],
        );
        let messages = [
            "192.0.2.9 from 192.0.2.1",
            "192.0.2.9 again",
            "root from 192.0.2.1",
            "bob again",
            "root again",
            "root/a again",
        ];
        let expected = ["192.0.2.9", "192.0.2.9", "192.0.2.1", "Pending", "192.0.2.1", "Pending"];
        assert_eq!(told(&filter, &messages), expected);
    }

    #[test]
    fn what_captures_nothing_says_nothing() {
        let filter = definition(
            &[UNIT],
            &["^<F-NOFAIL>.*?</F-NOFAIL> <ADDR>(?: <F-USER>\\w*</F-USER>(?:,<F-ALT_USER>\\w+</F-ALT_USER>)?)?$"],
        );
        assert_eq!(told(&filter, &[" 192.0.2.1", "x 192.0.2.1"]), ["192.0.2.1", "NoFail"]);
    }
}
