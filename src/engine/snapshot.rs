//! What the jails have counted and which sessions are open, as bytes: what a later run goes on from.
//!
//! Written by an earlier run of this program, but read with suspicion: whatever does not read is an error, never a panic.
//! Numbers are LEB128; what follows a count stands there so many times.

use std::net::IpAddr;

use super::entry::{EntryRef, Evidence};
use super::filter::{OpenSessions, Process, Refusal, Session, SessionKey};
use super::jail::window::Failure;
use super::subject::Subject;
use super::time::Stamp;

/// Why bytes are no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no snapshot at byte {at}")]
pub struct SnapshotError {
    /// Where reading stopped.
    pub at: usize,
}

/// Writes windows' failures as bytes, about 20 a failure.
///
/// Per subject: its text and the number of failures; per failure: the number of its sequence (a new one is followed by
/// the id), its seqnum and its stamp.
#[derive(Debug, Default)]
pub struct WindowsWriter {
    bytes: Vec<u8>,
    sequences: Vec<u128>,
}

impl WindowsWriter {
    /// Adds a subject's failures.
    pub fn add(&mut self, subject: Subject, failures: &[Failure]) {
        let WindowsWriter { bytes, sequences } = self;
        put_text(bytes, subject.to_string().as_bytes());
        put(bytes, failures.len() as u64);
        for failure in failures {
            let known = sequences.iter().position(|id| *id == failure.entry.seqnum_id);
            put(bytes, known.unwrap_or(sequences.len()) as u64);
            if known.is_none() {
                sequences.push(failure.entry.seqnum_id);
                bytes.extend_from_slice(&failure.entry.seqnum_id.to_be_bytes());
            }
            put(bytes, failure.entry.seqnum);
            put(bytes, failure.stamp.usec());
        }
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// The windows' failures back from a [`WindowsWriter`]'s bytes.
///
/// # Errors
/// At the first byte that does not fit.
pub fn decode_windows(bytes: &[u8]) -> Result<Vec<(Subject, Vec<Failure>)>, SnapshotError> {
    WindowsReader::new(bytes).collect()
}

/// Reads a [`WindowsWriter`]'s bytes subject by subject: all at once they take several times the memory of the bytes.
#[derive(Debug)]
pub struct WindowsReader<'a> {
    scan: Scan<'a>,
    sequences: Vec<u128>,
}

impl<'a> WindowsReader<'a> {
    /// Reads these.
    pub fn new(bytes: &'a [u8]) -> WindowsReader<'a> {
        WindowsReader { scan: Scan { bytes, at: 0 }, sequences: Vec::new() }
    }

    fn window(&mut self) -> Option<(Subject, Vec<Failure>)> {
        let subject = self.scan.subject()?;
        let count = self.scan.number()?;
        let mut failures = Vec::new();
        for _ in 0..count {
            failures.push(self.scan.failure(&mut self.sequences)?);
        }
        Some((subject, failures))
    }
}

impl Iterator for WindowsReader<'_> {
    type Item = Result<(Subject, Vec<Failure>), SnapshotError>;

    /// Ends behind the first error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.scan.at >= self.scan.bytes.len() {
            return None;
        }
        let window = self.window();
        let at = self.scan.at;
        if window.is_none() {
            self.scan.at = self.scan.bytes.len();
        }
        Some(window.ok_or(SnapshotError { at }))
    }
}

/// What the second form of the sessions begins with, which no number does. The first had no refusals.
const SECOND: &[u8] = &[0xff; 10];

/// The sessions as bytes.
///
/// Per filter: its fingerprint and the number of sessions; per session: boot, key, stamp, a byte of flags, the address's
/// text if it has one, the user's hash if there is one, its counts. Then the refusals that wait and those that were
/// counted, each as their number and per refusal: a byte of flags, its session's boot and key if it has one, the
/// address's text, the user's hash if there is one, stamp, sequence, seqnum, who refused, and the attempt's number. Then
/// the processes, as their number and per process: boot, id, a byte of flags, the uid and gid if it has them, the stamp.
pub fn encode_sessions(filters: &[OpenSessions]) -> Vec<u8> {
    let mut bytes = SECOND.to_vec();
    for OpenSessions { filter, sessions, refusals, processes } in filters {
        put(&mut bytes, *filter);
        put(&mut bytes, sessions.len() as u64);
        for (key, session) in sessions {
            put_key(&mut bytes, key);
            put(&mut bytes, session.touched.usec());
            let flags = [session.pending, session.several_users, session.address.is_some(), session.user.is_some()];
            put_flags(&mut bytes, &flags);
            if let Some(address) = session.address {
                put_text(&mut bytes, address.to_string().as_bytes());
            }
            if let Some(user) = session.user {
                put(&mut bytes, user);
            }
            put(&mut bytes, session.counted.into());
            put(&mut bytes, session.ordinary.into());
            put(&mut bytes, session.reports.len() as u64);
            session.reports.iter().for_each(|reports| put(&mut bytes, (*reports).into()));
            put(&mut bytes, session.refused.len() as u64);
            for (by, refused) in &session.refused {
                put(&mut bytes, *by);
                put(&mut bytes, (*refused).into());
            }
        }
        for list in refusals {
            put(&mut bytes, list.len() as u64);
            list.iter().for_each(|refusal| put_refusal(&mut bytes, refusal));
        }
        put(&mut bytes, processes.len() as u64);
        for (process, stamp) in processes {
            bytes.extend_from_slice(&process.boot.to_be_bytes());
            put(&mut bytes, process.pid.into());
            put_flags(&mut bytes, &[process.uid.is_some(), process.gid.is_some()]);
            process.uid.into_iter().chain(process.gid).for_each(|id| put(&mut bytes, id.into()));
            put(&mut bytes, stamp.usec());
        }
    }
    bytes
}

fn put_refusal(bytes: &mut Vec<u8>, refusal: &Refusal) {
    put_flags(bytes, &[refusal.session.is_some(), refusal.user.is_some()]);
    if let Some(key) = &refusal.session {
        put_key(bytes, key);
    }
    put_text(bytes, refusal.address.to_string().as_bytes());
    if let Some(user) = refusal.user {
        put(bytes, user);
    }
    put(bytes, refusal.evidence.stamp.usec());
    bytes.extend_from_slice(&refusal.evidence.entry.seqnum_id.to_be_bytes());
    put(bytes, refusal.evidence.entry.seqnum);
    put(bytes, refusal.by);
    put(bytes, refusal.number.into());
}

/// The sessions back from [`encode_sessions`]'s bytes, or those of an earlier version of it.
///
/// # Errors
/// At the first byte that does not fit.
pub fn decode_sessions(bytes: &[u8]) -> Result<Vec<OpenSessions>, SnapshotError> {
    let second = bytes.starts_with(SECOND);
    let mut scan = Scan { bytes, at: if second { SECOND.len() } else { 0 } };
    let mut filters = Vec::new();
    while scan.at < bytes.len() {
        filters.push(scan.filter(second).ok_or(SnapshotError { at: scan.at })?);
    }
    Ok(filters)
}

fn put_key(bytes: &mut Vec<u8>, key: &SessionKey) {
    bytes.extend_from_slice(&key.boot.to_be_bytes());
    put_text(bytes, &key.value);
}

fn put_flags(bytes: &mut Vec<u8>, flags: &[bool]) {
    bytes.push(flags.iter().enumerate().map(|(bit, set)| u8::from(*set) << bit).sum());
}

fn put_text(bytes: &mut Vec<u8>, text: &[u8]) {
    put(bytes, text.len() as u64);
    bytes.extend_from_slice(text);
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[derive(Debug)]
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn subject(&mut self) -> Option<Subject> {
        std::str::from_utf8(self.text()?).ok()?.parse().ok()
    }

    fn filter(&mut self, second: bool) -> Option<OpenSessions> {
        let filter = self.number()?;
        let mut sessions = Vec::new();
        for _ in 0..self.number()? {
            sessions.push(self.session(second)?);
        }
        let mut refusals = [Vec::new(), Vec::new()];
        for list in refusals.iter_mut().filter(|_| second) {
            for _ in 0..self.number()? {
                list.push(self.refusal()?);
            }
        }
        let count = if second { self.number()? } else { 0 };
        let mut processes = Vec::new();
        for _ in 0..count {
            processes.push((self.process()?, Stamp::from_usec(self.number()?)));
        }
        Some(OpenSessions { filter, sessions, refusals, processes })
    }

    fn process(&mut self) -> Option<Process> {
        let boot = u128::from_be_bytes(self.take(16)?.try_into().ok()?);
        let pid = self.count()?;
        let flags = self.flags()?;
        let uid = if flags[0] { Some(self.count()?) } else { None };
        let gid = if flags[1] { Some(self.count()?) } else { None };
        Some(Process { boot, pid, uid, gid })
    }

    fn session(&mut self, second: bool) -> Option<(SessionKey, Session)> {
        let key = self.key()?;
        let touched = Stamp::from_usec(self.number()?);
        let flags = self.flags()?;
        let address = if flags[2] { Some(self.address()?) } else { None };
        let user = if flags[3] { Some(self.number()?) } else { None };
        let (counted, ordinary) = (self.count()?, self.count()?);
        let reports = (0..self.number()?).map(|_| self.count()).collect::<Option<_>>()?;
        let refusing = if second { self.number()? } else { 0 };
        let refused = (0..refusing).map(|_| Some((self.number()?, self.count()?))).collect::<Option<_>>()?;
        let [pending, several_users, ..] = flags;
        Some((key, Session { touched, address, user, several_users, pending, counted, ordinary, reports, refused }))
    }

    fn refusal(&mut self) -> Option<Refusal> {
        let flags = self.flags()?;
        let session = if flags[0] { Some(self.key()?) } else { None };
        let address = self.address()?;
        let user = if flags[1] { Some(self.number()?) } else { None };
        let stamp = Stamp::from_usec(self.number()?);
        let seqnum_id = u128::from_be_bytes(self.take(16)?.try_into().ok()?);
        let evidence = Evidence { stamp, entry: EntryRef { seqnum_id, seqnum: self.number()? } };
        Some(Refusal { session, address, user, evidence, by: self.number()?, number: self.count()? })
    }

    fn key(&mut self) -> Option<SessionKey> {
        let boot = u128::from_be_bytes(self.take(16)?.try_into().ok()?);
        Some(SessionKey { boot, value: self.text()?.into() })
    }

    fn address(&mut self) -> Option<IpAddr> {
        std::str::from_utf8(self.text()?).ok()?.parse().ok()
    }

    fn flags(&mut self) -> Option<[bool; 4]> {
        let flags = *self.take(1)?.first()?;
        Some(std::array::from_fn(|bit| flags >> bit & 1 == 1))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn count(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn failure(&mut self, sequences: &mut Vec<u128>) -> Option<Failure> {
        let sequence = usize::try_from(self.number()?).ok()?;
        if sequence == sequences.len() {
            sequences.push(u128::from_be_bytes(self.take(16)?.try_into().ok()?));
        }
        let seqnum_id = *sequences.get(sequence)?;
        let entry = EntryRef { seqnum_id, seqnum: self.number()? };
        Some(Failure { entry, stamp: Stamp::from_usec(self.number()?) })
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv6Addr};

    fn any_failure() -> impl Strategy<Value = Failure> {
        (0u128..3, any::<u64>(), any::<u64>()).prop_map(|(seqnum_id, seqnum, stamp)| Failure {
            entry: EntryRef { seqnum_id, seqnum },
            stamp: Stamp::from_usec(stamp),
        })
    }

    fn any_subject() -> impl Strategy<Value = Subject> {
        (any::<u128>(), 1u8..=128)
            .prop_map(|(bits, length)| Subject::counted(IpAddr::V6(Ipv6Addr::from_bits(bits)), length))
    }

    fn encode_windows(windows: &[(Subject, Vec<Failure>)]) -> Vec<u8> {
        let mut writer = WindowsWriter::default();
        windows.iter().for_each(|(subject, failures)| writer.add(*subject, failures));
        writer.finish()
    }

    fn any_session() -> impl Strategy<Value = (SessionKey, Session)> {
        let key = (any::<u128>(), prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(boot, value)| SessionKey { boot, value: value.into() });
        let named = (any::<u64>(), any::<Option<u32>>(), any::<Option<u64>>(), any::<[bool; 2]>());
        let counts = (any::<[u32; 2]>(), prop::collection::vec(any::<u32>(), 0..4));
        let refused = prop::collection::vec(any::<(u64, u32)>(), 0..3);
        (key, named, counts, refused).prop_map(
            |(key, (touched, address, user, flags), ([counted, ordinary], reports), refused)| {
                let touched = Stamp::from_usec(touched);
                let address = address.map(|bits| IpAddr::V4(bits.into()));
                let [pending, several_users] = flags;
                (key, Session { touched, address, user, several_users, pending, counted, ordinary, reports, refused })
            },
        )
    }

    fn any_refusal() -> impl Strategy<Value = Refusal> {
        let session = prop::option::of(any_session().prop_map(|(key, _)| key));
        let parts = (any::<u32>(), any::<Option<u64>>(), any::<u64>(), any::<u32>());
        (session, parts, any_failure()).prop_map(|(session, (address, user, by, number), Failure { stamp, entry })| {
            let address = IpAddr::V4(address.into());
            Refusal { session, address, user, evidence: Evidence { stamp, entry }, by, number }
        })
    }

    fn any_filters() -> impl Strategy<Value = Vec<OpenSessions>> {
        let refusals = || prop::collection::vec(any_refusal(), 0..4);
        let process = (any::<u128>(), any::<u32>(), any::<Option<u32>>(), any::<Option<u32>>(), any::<u64>())
            .prop_map(|(boot, pid, uid, gid, usec)| (Process { boot, pid, uid, gid }, Stamp::from_usec(usec)));
        let processes = prop::collection::vec(process, 0..4);
        let sessions = prop::collection::vec(any_session(), 0..6);
        let filter = (any::<u64>(), sessions, [refusals(), refusals()], processes)
            .prop_map(|(filter, sessions, refusals, processes)| OpenSessions { filter, sessions, refusals, processes });
        prop::collection::vec(filter, 1..4)
    }

    proptest! {
        #[test]
        fn sessions_read_back(filters in any_filters()) {
            let bytes = encode_sessions(&filters);
            prop_assert_eq!(decode_sessions(&bytes), Ok(filters));
            prop_assert!(decode_sessions(&bytes[..bytes.len() - 1]).is_err());
        }

        /// What a version before refusals wrote: no mark in front, no refusals behind.
        #[test]
        fn sessions_of_an_earlier_version_are_read(fingerprint in any::<u64>(), seen in any_session()) {
            let (key, session) = seen;
            let session = Session { refused: Vec::new(), ..session };
            let mut bytes = Vec::new();
            put(&mut bytes, fingerprint);
            put(&mut bytes, 1);
            put_key(&mut bytes, &key);
            put(&mut bytes, session.touched.usec());
            put_flags(&mut bytes, &[session.pending, session.several_users, session.address.is_some(), session.user.is_some()]);
            session.address.iter().for_each(|address| put_text(&mut bytes, address.to_string().as_bytes()));
            session.user.iter().for_each(|user| put(&mut bytes, *user));
            put(&mut bytes, session.counted.into());
            put(&mut bytes, session.ordinary.into());
            put(&mut bytes, session.reports.len() as u64);
            session.reports.iter().for_each(|count| put(&mut bytes, (*count).into()));
            let sessions = vec![(key, session)];
            let expected = OpenSessions { filter: fingerprint, sessions, ..OpenSessions::default() };
            prop_assert_eq!(decode_sessions(&bytes), Ok(vec![expected]));
        }

        #[test]
        fn windows_read_back(windows in prop::collection::vec((any_subject(), prop::collection::vec(any_failure(), 0..9)), 0..9)) {
            let bytes = encode_windows(&windows);
            prop_assert_eq!(decode_windows(&bytes), Ok(windows));
        }

        #[test]
        fn no_bytes_can_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(decode_windows(&bytes));
            drop(decode_sessions(&bytes));
        }

        #[test]
        fn what_is_cut_off_is_noticed(windows in prop::collection::vec((any_subject(), prop::collection::vec(any_failure(), 1..5)), 1..5)) {
            let bytes = encode_windows(&windows);
            prop_assert!(decode_windows(&bytes[..bytes.len() - 1]).is_err());
        }
    }
}
