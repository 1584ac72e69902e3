//! What the lines of one session mean together: who it is, what is pending, what was counted already.
//!
//! Several lines may report one attempt. The ordinary patterns of a filter, all together, are one witness; every pattern
//! with `<F-ONCE>` is one of its own; a session has failed as often as the witness says who saw most. Whoever refuses
//! (`<F-REFUSAL>`) is a witness too, who is heard [later](refusal::WAIT) than the others.
//!
//! An address gets into a session only from a pattern that captured it in an entry of that session.

use std::collections::{HashMap, hash_map};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use super::process::Process;
use super::refusal::{Holds, Refusal, Refusals};
use crate::engine::entry::{Evidence, Locate};
use crate::engine::time::Stamp;

/// So many open sessions are remembered per filter; beyond it those that said nothing for longest are forgotten.
pub const SESSION_LIMIT: usize = 4096;
/// … and so many of all filters together, each of which may have its share.
const SESSION_LIMIT_TOGETHER: usize = 4 * SESSION_LIMIT;
/// A session that said nothing for so long is over, and what comes under its key is another.
const IDLE: Duration = Duration::from_secs(300);
/// No key of journald's is longer, nor any that a daemon numbers its connections with; an entry with a longer one has no
/// session.
const KEY_LIMIT: usize = 64;

/// The parts of a key, written one after another.
#[derive(Debug, Default)]
pub(super) struct KeyText {
    bytes: Vec<u8>,
    /// How long the parts are, all together.
    length: usize,
}

/// What a part of a key is.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyPart {
    /// The value of the filter's session field.
    Field,
    /// What a pattern captured as the session's.
    Session,
    /// What a pattern captured in the place of an address, and is none.
    Id,
}

impl KeyText {
    /// Another key.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        self.length = 0;
    }

    /// Adds a part. Keys of other parts differ, however those read one after another.
    pub(super) fn add(&mut self, part: KeyPart, text: &[u8]) {
        self.length = self.length.saturating_add(text.len());
        if self.length <= KEY_LIMIT {
            self.bytes.extend([part as u8, text.len() as u8]);
            self.bytes.extend_from_slice(text);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.length == 0
    }

    /// Has it any part, and is none too long?
    pub(super) fn is_whole(&self) -> bool {
        !self.bytes.is_empty() && self.length <= KEY_LIMIT
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What one line says about its session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line<'t> {
    pub(super) address: Option<IpAddr>,
    pub(super) user: Option<&'t [u8]>,
    /// It is no failure by itself.
    pub(super) nofail: bool,
    /// It ends the session.
    pub(super) forget: bool,
    /// It reports success.
    pub(super) gained: bool,
    /// It reports what other lines may report too; the number of its pattern among those that do.
    pub(super) once: Option<usize>,
    /// It says that this module refused the login.
    pub(super) refusal: Option<&'t [u8]>,
    /// The refusal of the attempt that it reports may stand in another session.
    pub(super) apart: bool,
}

/// The entry that a line comes from.
pub(super) struct Origin<'l> {
    pub(super) stamp: Stamp,
    /// Its number among those examined.
    pub(super) turn: u64,
    pub(super) locate: Locate<'l>,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It completes a failure of this address.
    Failure(IpAddr),
    /// It is a failure of nobody known yet.
    Pending,
    /// It only tells something about the session.
    NoFail,
    /// It is a failure unless its session reports the attempt, or success, in time.
    Refused,
    /// It reports an attempt that was counted already.
    Counted,
}

/// The open sessions of one filter.
///
/// Two generations bound them: a session goes into the young one when it is touched, and when that is full it becomes
/// the old one, and the old one is forgotten.
#[derive(Debug)]
pub(super) struct Sessions {
    young: HashMap<Key, Session>,
    old: HashMap<Key, Session>,
    limit: usize,
    refusals: Refusals,
}

impl Default for Sessions {
    fn default() -> Sessions {
        let (young, old) = Default::default();
        Sessions { young, old, limit: SESSION_LIMIT, refusals: Refusals::new(SESSION_LIMIT) }
    }
}

/// The open sessions of one filter as they outlive the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenSessions {
    /// [`Filter::fingerprint`](super::Filter::fingerprint): sessions of another filter say nothing.
    pub filter: u64,
    /// The longest silent first.
    pub(in crate::engine) sessions: Vec<(Key, Session)>,
    /// The refusals that wait, and those that were counted lately.
    pub(in crate::engine) refusals: [Vec<Refusal>; 2],
    /// The processes that were seen lately with the daemon's unit, and when.
    pub(in crate::engine) processes: Vec<(Process, Stamp)>,
}

/// Which session: the value of the filter's session field and what its patterns captured, in one boot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::engine) struct Key {
    pub(in crate::engine) boot: u128,
    pub(in crate::engine) value: Box<[u8]>,
}

/// What a session's lines have said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Session {
    pub(in crate::engine) touched: Stamp,
    pub(in crate::engine) address: Option<IpAddr>,
    /// A hash of the first user named, and whether another was named after.
    pub(in crate::engine) user: Option<u64>,
    pub(in crate::engine) several_users: bool,
    pub(in crate::engine) pending: bool,
    /// How many attempts were counted: the most that any one witness reported.
    pub(in crate::engine) counted: u32,
    /// The attempts that the ordinary patterns report, all together.
    pub(in crate::engine) ordinary: u32,
    /// Those that each of the patterns reports that may repeat what others say.
    pub(in crate::engine) reports: Vec<u32>,
    /// How many attempts each module refused, by a hash of its name.
    pub(in crate::engine) refused: Vec<(u64, u32)>,
}

impl Sessions {
    /// Shares the room with those of so many filters, this one among them.
    pub(super) fn share_among(&mut self, filters: usize) {
        self.limit = (SESSION_LIMIT_TOGETHER / filters.max(1)).clamp(2, SESSION_LIMIT);
        self.refusals.limit_to(self.limit);
    }

    /// What becomes of `line` in the session of this key.
    pub(super) fn tell(&mut self, boot: u128, value: &[u8], origin: Origin<'_>, line: Line<'_>) -> Standing {
        let key = Key { boot, value: value.into() };
        let elsewhere = if line.apart { self.settle_elsewhere(&key, line) } else { Elsewhere::Nothing };
        let Sessions { young, old, limit, refusals } = self;
        let mut entry = match young.entry(key) {
            hash_map::Entry::Occupied(entry) => entry,
            hash_map::Entry::Vacant(entry) => {
                let known = old.remove(entry.key()).unwrap_or_default();
                entry.insert_entry(known)
            }
        };
        if entry.get().is_over(origin.stamp, line.address) {
            if !entry.get().refused.is_empty() {
                refusals.end(entry.key());
            }
            *entry.get_mut() = Session::default();
        }
        let session = entry.get_mut();
        session.touched = session.touched.max(origin.stamp);
        if elsewhere == Elsewhere::Counted {
            session.counted = session.counted.saturating_add(1);
        }
        let mut standing = session.tell(line);
        let waits = !session.refused.is_empty() && !refusals.is_empty();
        if let Some(by) = line.refusal
            && standing == Standing::NoFail
            && let Some((address, refused)) = session.refuse(by)
            && let Some(evidence) = (origin.locate)().map(|entry| Evidence { stamp: origin.stamp, entry })
        {
            let (user, session) = (line.user.map(hashed), Some(entry.key().clone()));
            refusals.note(origin.turn, Refusal { session, address, user, evidence, by: hashed(by), number: refused });
            standing = Standing::Refused;
        } else if waits {
            let settled = if line.gained { u32::MAX } else { session.counted };
            if line.gained {
                session.start_over();
            }
            refusals.settle(entry.key(), settled);
        }
        if line.forget {
            let (key, session) = entry.remove_entry();
            if !session.refused.is_empty() {
                refusals.end(&key);
            }
        } else if young.len() >= *limit / 2 {
            let forgotten = std::mem::replace(old, std::mem::take(young));
            if !refusals.is_empty() {
                old.extend(forgotten.into_iter().filter(|(_, session)| session.waits()));
            }
        }
        standing
    }

    /// Where the refusal of the attempt that `line` reports stands in another session than its own, it waits no longer.
    fn settle_elsewhere(&mut self, key: &Key, line: Line<'_>) -> Elsewhere {
        let own = self.young.get(key).or_else(|| self.old.get(key));
        let Some(address) = line.address.or(own.and_then(|own| own.address)) else { return Elsewhere::Nothing };
        if own.is_some_and(Session::waits) || (line.nofail && !line.gained) {
            return Elsewhere::Nothing;
        }
        let user = line.user.map(hashed);
        if let Some(refusal) = self.refusals.elsewhere(key, address, user).cloned() {
            if let Some(theirs) = &refusal.session
                && let Some(session) = self.young.get_mut(theirs).or_else(|| self.old.get_mut(theirs))
            {
                session.counted = session.counted.max(refusal.number);
            }
            self.refusals.settle_attempt(&refusal);
            return Elsewhere::Settled;
        }
        let late = !line.gained && self.refusals.take_counted(key, address, user);
        if late { Elsewhere::Counted } else { Elsewhere::Nothing }
    }

    /// Calls `failed` for the refusals that nothing has settled in time, as of `now`.
    pub(super) fn pass(&mut self, now: Stamp, failed: &mut dyn FnMut(IpAddr, Evidence)) {
        while let Some(refusal) = self.refusals.overdue(now) {
            if let Some(key) = &refusal.session
                && let Some(session) = self.young.get_mut(key).or_else(|| self.old.get_mut(key))
            {
                session.counted = session.counted.max(refusal.number);
                self.refusals.settle(key, refusal.number);
            }
            failed(refusal.address, refusal.evidence);
            self.refusals.remember(refusal);
        }
    }

    /// What is held back, if anything is.
    pub(super) fn holds(&self) -> Option<Holds> {
        self.refusals.holds()
    }

    /// All of them, the longest silent first, and the refusals.
    pub(super) fn open(&self) -> (Vec<(Key, Session)>, [Vec<Refusal>; 2]) {
        let mut all: Vec<(Key, Session)> =
            self.old.iter().chain(&self.young).map(|(key, session)| (key.clone(), session.clone())).collect();
        all.sort_by(|(one, a), (other, b)| (a.touched, one).cmp(&(b.touched, other)));
        (all, self.refusals.all())
    }

    /// Goes on with these sessions and refusals and no others.
    pub(super) fn resume(&mut self, sessions: &[(Key, Session)], refusals: &[Vec<Refusal>; 2]) {
        *self = Sessions { limit: self.limit, refusals: Refusals::new(self.limit), ..Sessions::default() };
        sessions.iter().for_each(|(key, session)| self.put(key.clone(), session.clone()));
        self.refusals.resume(refusals);
    }

    fn put(&mut self, key: Key, session: Session) {
        if self.young.len() >= self.limit / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, session);
    }
}

/// What there was in other sessions of the attempt that a line reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Elsewhere {
    Nothing,
    /// A refusal, which waited.
    Settled,
    /// A refusal that waited for too long and was counted.
    Counted,
}

/// What becomes of a line that belongs to no session.
pub(super) fn alone(line: Line<'_>) -> Standing {
    Session::default().tell(line)
}

fn hashed(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Session {
    /// Has it been silent for too long, or does another address speak? Then its key was given to another session.
    fn is_over(&self, now: Stamp, address: Option<IpAddr>) -> bool {
        let silent = now.usec().saturating_sub(self.touched.usec());
        let moved = matches!((self.address, address), (Some(ours), Some(theirs)) if ours != theirs);
        moved || u128::from(silent) > IDLE.as_micros()
    }

    fn tell(&mut self, line: Line<'_>) -> Standing {
        self.name(line.user);
        if line.gained {
            self.pending = false;
        }
        self.address = line.address.or(self.address);
        // Success that names nobody only settles what waits.
        if line.gained && line.address.is_none() {
            return Standing::NoFail;
        }
        // Several users tried, or a failure still without an owner: then a line that is none by itself completes one.
        if (line.nofail || line.gained || line.refusal.is_some()) && !self.pending && !self.several_users {
            return Standing::NoFail;
        }
        let Some(address) = self.address else {
            self.pending = true;
            return Standing::Pending;
        };
        self.pending = false;
        let reports = self.reports_of(line.once);
        *reports = reports.saturating_add(1);
        let reports = *reports;
        if reports <= self.counted {
            return Standing::Counted;
        }
        self.counted = reports;
        Standing::Failure(address)
    }

    /// Notes that `by` refused an attempt. Returns the address and the attempt's number, counted from 1, where the address
    /// is known and nobody has reported that attempt yet.
    fn refuse(&mut self, by: &[u8]) -> Option<(IpAddr, u32)> {
        let by = hashed(by);
        let at = self.refused.iter().position(|(known, _)| *known == by).unwrap_or_else(|| {
            self.refused.push((by, 0));
            self.refused.len() - 1
        });
        let (_, refused) = &mut self.refused[at];
        *refused = refused.saturating_add(1);
        self.address.filter(|_| *refused > self.counted).map(|address| (address, *refused))
    }

    /// `true` if anybody refused more attempts than were counted.
    fn waits(&self) -> bool {
        self.refused.iter().any(|(_, refused)| *refused > self.counted)
    }

    /// A login succeeded: refusals before it say nothing about later attempts.
    fn start_over(&mut self) {
        let counted = self.counted;
        self.refused.iter_mut().for_each(|(_, refused)| *refused = (*refused).min(counted));
    }

    fn reports_of(&mut self, once: Option<usize>) -> &mut u32 {
        let Some(pattern) = once else { return &mut self.ordinary };
        if self.reports.len() <= pattern {
            self.reports.resize(pattern + 1, 0);
        }
        &mut self.reports[pattern]
    }

    fn name(&mut self, user: Option<&[u8]>) {
        let Some(user) = user else { return };
        let hash = hashed(user);
        match self.user {
            None => self.user = Some(hash),
            Some(first) if first != hash => self.several_users = true,
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::EntryRef;
    use proptest::prelude::*;

    fn from(text: &str) -> Line<'static> {
        Line { address: Some(text.parse().unwrap()), ..Line::default() }
    }

    fn failure(text: &str) -> Standing {
        Standing::Failure(text.parse().unwrap())
    }

    const A: &str = "192.0.2.1";
    const B: &str = "192.0.2.2";

    struct Told(Sessions, u64);

    impl Told {
        fn tell(&mut self, key: &str, line: Line<'_>) -> Standing {
            self.1 += 1_000_000;
            self.tell_now(key, line)
        }

        fn tell_now(&mut self, key: &str, line: Line<'_>) -> Standing {
            let mut locate = || Some(EntryRef::attempt(self.1));
            let origin = Origin { stamp: Stamp::from_usec(self.1), turn: 1, locate: &mut locate };
            self.0.tell(1, key.as_bytes(), origin, line)
        }

        /// What has become overdue after so many seconds: whose, and of which entry.
        fn wait(&mut self, seconds: u64) -> Vec<(String, u64)> {
            self.1 += seconds * 1_000_000;
            let mut overdue = Vec::new();
            let mut failed =
                |address: IpAddr, one: Evidence| overdue.push((address.to_string(), one.entry.seqnum / 1_000_000));
            self.0.pass(Stamp::from_usec(self.1), &mut failed);
            overdue
        }
    }

    fn told() -> Told {
        Told(Sessions::default(), 0)
    }

    #[test]
    fn a_failure_without_an_address_takes_the_sessions_or_waits_for_it() {
        let mut told = told();
        let nofail = Line { nofail: true, ..from(A) };
        assert_eq!(told.tell("1", nofail), Standing::NoFail);
        assert_eq!(told.tell("1", Line::default()), failure(A));
        assert_eq!(told.tell("2", Line::default()), Standing::Pending);
        assert_eq!(told.tell("2", nofail), failure(A));
        assert_eq!(told.tell("2", nofail), Standing::NoFail);
        assert_eq!(told.tell("3", Line::default()), Standing::Pending);
    }

    #[test]
    fn success_without_an_address_completes_no_failure() {
        let mut told = told();
        let tries = |user| Line { nofail: true, user: Some(user), ..from(A) };
        told.tell("1", tries(b"alice"));
        assert_eq!(told.tell("1", tries(b"root")), failure(A));
        assert_eq!(told.tell("1", Line { gained: true, ..Line::default() }), Standing::NoFail);
        assert_eq!(told.tell("1", Line { gained: true, ..from(A) }), failure(A));
    }

    #[test]
    fn success_drops_what_is_pending_and_the_end_forgets_all() {
        let mut told = told();
        told.tell("1", Line::default());
        assert_eq!(told.tell("1", Line { gained: true, ..from(A) }), Standing::NoFail);
        assert_eq!(told.tell("1", Line { nofail: true, ..from(A) }), Standing::NoFail);
        assert_eq!(told.tell("1", Line { nofail: true, forget: true, ..from(A) }), Standing::NoFail);
        assert_eq!(told.tell("1", Line::default()), Standing::Pending);
    }

    #[test]
    fn a_second_user_in_a_session_is_a_failure() {
        let mut told = told();
        let tries = |user| Line { nofail: true, user: Some(user), ..from(A) };
        assert_eq!(told.tell("1", tries(b"alice")), Standing::NoFail);
        assert_eq!(told.tell("1", tries(b"alice")), Standing::NoFail);
        assert_eq!(told.tell("1", tries(b"root")), failure(A));
        assert_eq!(told.tell("1", Line { gained: true, ..from(A) }), failure(A));
    }

    #[test]
    fn an_attempt_counts_once_however_many_report_it() {
        let mut told = told();
        let once = |pattern| Line { once: Some(pattern), ..from(A) };
        assert_eq!(told.tell("1", once(0)), failure(A));
        assert_eq!(told.tell("1", from(A)), Standing::Counted);
        assert_eq!(told.tell("1", from(A)), failure(A));
        assert_eq!(told.tell("1", once(1)), Standing::Counted);
        assert_eq!(told.tell("1", once(1)), Standing::Counted);
        assert_eq!(told.tell("1", once(1)), failure(A));
        assert_eq!(alone(once(0)), failure(A));
    }

    #[test]
    fn another_address_or_a_long_silence_is_another_session() {
        let mut told = told();
        let once = Line { once: Some(0), ..Line::default() };
        told.tell("1", from(A));
        assert_eq!(told.tell("1", Line { once: Some(0), ..from(B) }), failure(B));
        told.1 += 301_000_000;
        assert_eq!(told.tell("1", once), Standing::Pending);
    }

    #[test]
    fn filters_share_the_room_for_sessions() {
        let mut told = told();
        told.0.share_among(64);
        for at in 0..SESSION_LIMIT {
            told.tell(&at.to_string(), Line { nofail: true, ..from(A) });
        }
        assert!(told.0.young.len() + told.0.old.len() <= SESSION_LIMIT_TOGETHER / 64);
        told.0.share_among(1);
        assert_eq!(told.0.limit, SESSION_LIMIT);
    }

    #[test]
    fn sessions_are_bounded_and_the_silent_ones_go_first() {
        let mut told = told();
        let nofail = Line { nofail: true, ..from(A) };
        told.tell("kept", nofail);
        told.tell("lost", nofail);
        for at in 0..3 * SESSION_LIMIT {
            // Timeless, so that only the bound can be the reason.
            told.tell_now(&at.to_string(), nofail);
            if at % 100 == 0 {
                told.tell_now("kept", nofail);
            }
        }
        assert!(told.0.young.len() + told.0.old.len() <= SESSION_LIMIT);
        assert_eq!(told.tell("kept", Line::default()), failure(A));
        assert_eq!(told.tell("lost", Line::default()), Standing::Pending);
    }

    #[test]
    fn sessions_go_on_where_they_were_left() {
        let mut told = told();
        told.tell("1", Line { nofail: true, ..from(A) });
        told.tell("2", Line::default());
        let mut later = Told(Sessions::default(), told.1);
        let (sessions, refusals) = told.0.open();
        later.0.resume(&sessions, &refusals);
        assert_eq!(later.0.open(), told.0.open());
        assert_eq!(later.tell("1", Line::default()), failure(A));
        assert_eq!(later.tell("2", Line { nofail: true, ..from(B) }), failure(B));
    }

    fn refusal() -> Line<'static> {
        Line { refusal: Some(b"pam_unix"), user: Some(b"alice"), ..from(A) }
    }

    fn gained() -> Line<'static> {
        Line { gained: true, user: Some(b"alice"), ..from(A) }
    }

    fn overdue(entries: &[u64]) -> Vec<(String, u64)> {
        entries.iter().map(|at| (A.to_owned(), *at)).collect()
    }

    #[test]
    fn a_refusal_that_nobody_tells_of_again_is_a_failure_of_its_own_entry() {
        let mut told = told();
        assert_eq!(told.tell("1", refusal()), Standing::Refused);
        assert_eq!(told.tell("2", refusal()), Standing::Refused);
        assert_eq!(told.wait(19), overdue(&[]));
        assert_eq!(told.wait(1), overdue(&[1]));
        assert_eq!(told.wait(1), overdue(&[2]));
        assert_eq!(told.wait(1000), overdue(&[]));
    }

    #[test]
    fn a_refusal_that_is_reported_or_followed_by_success_in_time_is_none() {
        let mut told = told();
        told.tell("reported", refusal());
        assert_eq!(told.tell("reported", from(A)), failure(A));
        told.tell("in", refusal());
        assert_eq!(told.tell("in", gained()), Standing::NoFail);
        // Who tries an unknown user was counted before PAM was asked.
        assert_eq!(told.tell("unknown", Line { once: Some(0), ..from(A) }), failure(A));
        assert_eq!(told.tell("unknown", refusal()), Standing::NoFail);
        assert_eq!(told.tell("unknown", from(A)), Standing::Counted);
        assert_eq!(told.wait(1000), overdue(&[]));
    }

    #[test]
    fn of_several_attempts_each_counts_once_and_what_comes_late_not_again() {
        let mut told = told();
        for _ in 0..2 {
            assert_eq!(told.tell("1", refusal()), Standing::Refused);
            assert_eq!(told.tell("1", from(A)), failure(A));
        }
        assert_eq!(told.tell("1", refusal()), Standing::Refused);
        assert_eq!(told.wait(21), overdue(&[5]));
        assert_eq!(told.tell("1", from(A)), Standing::Counted);
        assert_eq!(told.tell("1", refusal()), Standing::Refused);
        assert_eq!(told.tell("1", from(A)), failure(A));
        // The next after a success is counted anew.
        told.tell("2", refusal());
        told.tell("2", gained());
        assert_eq!(told.tell("2", refusal()), Standing::Refused);
        let entry = told.1 / 1_000_000;
        assert_eq!(told.wait(21), overdue(&[entry]));
    }

    #[test]
    fn of_one_attempt_that_several_refuse_one_failure_comes() {
        let mut told = told();
        let other = Line { refusal: Some(b"pam_sss"), ..refusal() };
        told.tell("1", refusal());
        told.tell("1", other);
        assert_eq!(told.wait(21), overdue(&[1]));
        assert_eq!(told.tell("1", from(A)), Standing::Counted);
        told.tell("2", refusal());
        told.tell("2", other);
        assert_eq!(told.tell("2", from(A)), failure(A));
        assert_eq!(told.wait(21), overdue(&[]));
    }

    #[test]
    fn what_a_helper_process_refused_is_settled_from_another_session() {
        let mut told = told();
        let failed = Line { apart: true, user: Some(b"alice"), ..from(A) };
        told.tell("helper 1", refusal());
        told.tell("helper 1", Line { refusal: Some(b"pam_sss"), ..refusal() });
        assert_eq!(told.tell("main", failed), failure(A));
        told.tell("helper 2", refusal());
        assert_eq!(told.tell("main", failed), failure(A));
        told.tell("helper 3", refusal());
        assert_eq!(told.tell("main", Line { apart: true, ..gained() }), Standing::NoFail);
        assert_eq!(told.wait(21), overdue(&[]));
        // One for one, of the same address, and not of another user.
        let start = told.1 / 1_000_000;
        told.tell("helper 4", refusal());
        told.tell("helper 5", refusal());
        told.tell("helper 6", Line { user: Some(b"bob"), ..refusal() });
        told.tell("helper 7", Line { user: None, ..refusal() });
        assert_eq!(told.tell("elsewhere", Line { apart: true, ..from(B) }), failure(B));
        assert_eq!(told.tell("main", failed), failure(A));
        assert_eq!(told.wait(25), overdue(&[start + 2, start + 3, start + 4]));
        // Later than the refusal can wait: counted already.
        assert_eq!(told.tell("main", failed), Standing::Counted);
    }

    #[test]
    fn whoever_has_the_key_next_settles_nothing() {
        let mut told = told();
        told.tell("moved", refusal());
        assert_eq!(told.tell("moved", from(B)), failure(B));
        told.tell("ended", refusal());
        told.tell("ended", Line { nofail: true, forget: true, ..from(A) });
        assert_eq!(told.tell("ended", from(A)), failure(A));
        assert_eq!(told.wait(1000), overdue(&[1, 3]));
    }

    #[test]
    fn a_flood_of_refusals_stays_bounded_and_loses_none() {
        let mut told = told();
        told.0.share_among(64);
        let limit = SESSION_LIMIT_TOGETHER / 64;
        let mut overdue = 0;
        for at in 0..10 * limit {
            told.1 += 1000;
            assert_eq!(told.tell_now(&at.to_string(), refusal()), Standing::Refused);
            overdue += told.wait(0).len();
            let (sessions, [open, counted]) = told.0.open();
            assert!(sessions.len() <= 2 * limit && open.len() <= limit && counted.len() <= limit);
        }
        // Those that wait are not forgotten with their sessions: what is reported of them settles them.
        assert_eq!(told.tell_now(&(9 * limit).to_string(), from(A)), failure(A));
        overdue += told.wait(21).len();
        assert_eq!(overdue + 1, 10 * limit);
    }

    #[test]
    fn refusals_wait_on_where_they_were_left_and_a_clock_that_jumps_holds_none_for_ever() {
        let mut told = told();
        told.tell("1", refusal());
        told.tell("2", refusal());
        let mut later = Told(Sessions::default(), told.1);
        let (sessions, refusals) = told.0.open();
        later.0.resume(&sessions, &refusals);
        assert_eq!(later.0.open(), told.0.open());
        assert_eq!(later.tell("1", from(A)), failure(A));
        assert_eq!(later.wait(20), overdue(&[2]));
        assert_eq!(later.tell("2", from(A)), Standing::Counted);
        told.1 += 1_000_000_000;
        told.tell("3", refusal());
        told.1 = 0;
        // What came before the jump and has its time still holds it up, for no longer than that.
        assert_eq!(told.wait(22), overdue(&[1]));
        assert_eq!(told.wait(1), overdue(&[2, 1003]));
    }

    proptest! {
        /// Whatever the lines and their times: an attempt that somebody refuses and somebody reports counts once. The
        /// plain count: as often as the one says who saw most, and what success follows in time is none.
        #[test]
        fn no_attempt_counts_twice(
            attempts in proptest::collection::vec((0u8..3, proptest::option::of(0u64..40), any::<bool>()), 0..40)
        ) {
            let mut told = told();
            let (mut counted, mut expected) = (0, 0);
            for (key, reported, twice) in attempts {
                let key = key.to_string();
                told.tell(&key, refusal());
                if twice {
                    told.tell(&key, Line { refusal: Some(b"pam_sss"), ..refusal() });
                }
                if let Some(after) = reported {
                    counted += told.wait(after).len();
                    counted += usize::from(told.tell(&key, from(A)) == failure(A));
                }
                expected += 1;
            }
            counted += told.wait(1000).len();
            prop_assert_eq!(counted, expected);
        }

        /// A failure's address was captured in the same session, whatever the others do.
        #[test]
        fn an_address_never_crosses_sessions(
            lines in proptest::collection::vec((0u8..4, 0u8..3, any::<[bool; 6]>(), proptest::option::of(0usize..3)), 0..200)
        ) {
            let mut told = told();
            // For each entry, the addresses of its session.
            let mut addresses = std::collections::HashSet::new();
            for (key, address, [has_address, nofail, forget, gained, refuses, apart], once) in lines {
                let refusal = refuses.then_some(&b"pam_unix"[..]);
                let own: IpAddr = IpAddr::from([10, 0, key, address]);
                addresses.extend((0..3).map(|one| (told.1 + 1_000_000, IpAddr::from([10, 0, key, one]))));
                let line = Line { address: has_address.then_some(own), nofail, forget, gained, once, refusal, apart, user: None };
                if let Standing::Failure(address) = told.tell(&key.to_string(), line) {
                    prop_assert!(matches!(address, IpAddr::V4(v4) if v4.octets()[2] == key));
                }
                // A refusal's entry is the one whose address it has.
                let mut written: Vec<(IpAddr, u64)> = Vec::new();
                told.0.pass(Stamp::from_usec(told.1), &mut |address, one| written.push((address, one.entry.seqnum)));
                for (address, entry) in written {
                    prop_assert!(addresses.contains(&(entry, address)));
                }
            }
        }
    }
}
