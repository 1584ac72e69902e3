//! What the lines of one session mean together: who it is, what is pending, what was counted already.
//!
//! Several lines may report one attempt. The ordinary patterns of a filter, all together, are one witness; every pattern
//! with `<F-ONCE>` is one of its own; a session has failed as often as the witness says who saw most.
//!
//! An address gets into a session only from a pattern that captured it in an entry of that session.

use std::collections::{HashMap, hash_map};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

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
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions { young: HashMap::new(), old: HashMap::new(), limit: SESSION_LIMIT }
    }
}

/// The open sessions of one filter as they outlive the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSessions {
    /// [`Filter::fingerprint`](super::Filter::fingerprint): sessions of another filter say nothing.
    pub filter: u64,
    /// The longest silent first.
    pub(in crate::engine) sessions: Vec<(Key, Session)>,
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
}

impl Sessions {
    /// Shares the room with those of so many filters, this one among them.
    pub(super) fn share_among(&mut self, filters: usize) {
        self.limit = (SESSION_LIMIT_TOGETHER / filters.max(1)).clamp(2, SESSION_LIMIT);
    }

    /// What becomes of `line` in the session of this key.
    pub(super) fn tell(&mut self, boot: u128, value: &[u8], stamp: Stamp, line: Line<'_>) -> Standing {
        let mut entry = match self.young.entry(Key { boot, value: value.into() }) {
            hash_map::Entry::Occupied(entry) => entry,
            hash_map::Entry::Vacant(entry) => {
                let known = self.old.remove(entry.key()).unwrap_or_default();
                entry.insert_entry(known)
            }
        };
        let session = entry.get_mut();
        if session.is_over(stamp, line.address) {
            *session = Session::default();
        }
        session.touched = session.touched.max(stamp);
        let standing = session.tell(line);
        if line.forget {
            entry.remove();
        } else if self.young.len() >= self.limit / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        standing
    }

    /// All of them, the longest silent first.
    pub(super) fn open(&self) -> Vec<(Key, Session)> {
        let mut all: Vec<(Key, Session)> =
            self.old.iter().chain(&self.young).map(|(key, session)| (key.clone(), session.clone())).collect();
        all.sort_by(|(one, a), (other, b)| (a.touched, one).cmp(&(b.touched, other)));
        all
    }

    /// Goes on with these sessions and no others.
    pub(super) fn resume(&mut self, sessions: &[(Key, Session)]) {
        *self = Sessions { limit: self.limit, ..Sessions::default() };
        sessions.iter().for_each(|(key, session)| self.put(key.clone(), session.clone()));
    }

    fn put(&mut self, key: Key, session: Session) {
        if self.young.len() >= self.limit / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, session);
    }
}

/// What becomes of a line that belongs to no session.
pub(super) fn alone(line: Line<'_>) -> Standing {
    Session::default().tell(line)
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
        // Several users tried, or a failure still without an owner: then a line that is none by itself completes one.
        if (line.nofail || line.gained) && !self.pending && !self.several_users {
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

    fn reports_of(&mut self, once: Option<usize>) -> &mut u32 {
        let Some(pattern) = once else { return &mut self.ordinary };
        if self.reports.len() <= pattern {
            self.reports.resize(pattern + 1, 0);
        }
        &mut self.reports[pattern]
    }

    fn name(&mut self, user: Option<&[u8]>) {
        let Some(user) = user else { return };
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        let hash = hasher.finish();
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
            self.0.tell(1, key.as_bytes(), Stamp::from_usec(self.1), line)
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
            told.0.tell(1, at.to_string().as_bytes(), Stamp::from_usec(told.1), nofail);
            if at % 100 == 0 {
                told.0.tell(1, b"kept", Stamp::from_usec(told.1), nofail);
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
        later.0.resume(&told.0.open());
        assert_eq!(later.0.open(), told.0.open());
        assert_eq!(later.tell("1", Line::default()), failure(A));
        assert_eq!(later.tell("2", Line { nofail: true, ..from(B) }), failure(B));
    }

    proptest! {
        /// A failure's address was captured in the same session, whatever the others do.
        #[test]
        fn an_address_never_crosses_sessions(
            lines in proptest::collection::vec((0u8..4, 0u8..3, any::<[bool; 4]>(), proptest::option::of(0usize..3)), 0..200)
        ) {
            let mut told = told();
            for (key, address, [has_address, nofail, forget, gained], once) in lines {
                let own: IpAddr = IpAddr::from([10, 0, key, address]);
                let line = Line { address: has_address.then_some(own), user: None, nofail, forget, gained, once };
                if let Standing::Failure(address) = told.tell(&key.to_string(), line) {
                    prop_assert!(matches!(address, IpAddr::V4(v4) if v4.octets()[2] == key));
                }
            }
        }
    }
}
