//! What the jails have counted and which sessions are open, as bytes: what a later run goes on from.
//!
//! Written by an earlier run of this program, but read with suspicion: whatever does not read is an error, never a panic.
//! Numbers are LEB128; what follows a count stands there so many times.

use std::net::IpAddr;

use super::entry::EntryRef;
use super::filter::{OpenSessions, Session, SessionKey};
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

/// The sessions as bytes.
///
/// Per filter: its fingerprint and the number of sessions; per session: boot, key, stamp, a byte of flags, the address's
/// text if it has one, the user's hash if there is one, its counts.
pub fn encode_sessions(filters: &[OpenSessions]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for OpenSessions { filter, sessions } in filters {
        put(&mut bytes, *filter);
        put(&mut bytes, sessions.len() as u64);
        for (key, session) in sessions {
            bytes.extend_from_slice(&key.boot.to_be_bytes());
            put_text(&mut bytes, &key.value);
            put(&mut bytes, session.touched.usec());
            let flags = [session.pending, session.several_users, session.address.is_some(), session.user.is_some()];
            bytes.push(flags.iter().enumerate().map(|(bit, set)| u8::from(*set) << bit).sum());
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
        }
    }
    bytes
}

/// The sessions back from [`encode_sessions`]'s bytes.
///
/// # Errors
/// At the first byte that does not fit.
pub fn decode_sessions(bytes: &[u8]) -> Result<Vec<OpenSessions>, SnapshotError> {
    let mut scan = Scan { bytes, at: 0 };
    let mut filters = Vec::new();
    while scan.at < bytes.len() {
        let filter = scan.number().ok_or(SnapshotError { at: scan.at })?;
        let count = scan.number().ok_or(SnapshotError { at: scan.at })?;
        let mut sessions = Vec::new();
        for _ in 0..count {
            sessions.push(scan.session().ok_or(SnapshotError { at: scan.at })?);
        }
        filters.push(OpenSessions { filter, sessions });
    }
    Ok(filters)
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

    fn session(&mut self) -> Option<(SessionKey, Session)> {
        let boot = u128::from_be_bytes(self.take(16)?.try_into().ok()?);
        let key = SessionKey { boot, value: self.text()?.into() };
        let touched = Stamp::from_usec(self.number()?);
        let flags = *self.take(1)?.first()?;
        let is_set = |bit: u8| flags >> bit & 1 == 1;
        let address: Option<IpAddr> =
            if is_set(2) { Some(std::str::from_utf8(self.text()?).ok()?.parse().ok()?) } else { None };
        let user = if is_set(3) { Some(self.number()?) } else { None };
        let (counted, ordinary) = (self.count()?, self.count()?);
        let reports = (0..self.number()?).map(|_| self.count()).collect::<Option<_>>()?;
        let (pending, several_users) = (is_set(0), is_set(1));
        Some((key, Session { touched, address, user, several_users, pending, counted, ordinary, reports }))
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
        (key, named, counts).prop_map(|(key, (touched, address, user, flags), ([counted, ordinary], reports))| {
            let touched = Stamp::from_usec(touched);
            let address = address.map(|bits| IpAddr::V4(bits.into()));
            let [pending, several_users] = flags;
            (key, Session { touched, address, user, several_users, pending, counted, ordinary, reports })
        })
    }

    fn any_filters() -> impl Strategy<Value = Vec<OpenSessions>> {
        let filter = (any::<u64>(), prop::collection::vec(any_session(), 0..6))
            .prop_map(|(filter, sessions)| OpenSessions { filter, sessions });
        prop::collection::vec(filter, 1..4)
    }

    proptest! {
        #[test]
        fn sessions_read_back(filters in any_filters()) {
            let bytes = encode_sessions(&filters);
            prop_assert_eq!(decode_sessions(&bytes), Ok(filters));
            prop_assert!(decode_sessions(&bytes[..bytes.len() - 1]).is_err());
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
