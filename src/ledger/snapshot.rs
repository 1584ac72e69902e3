//! What a jail had counted, kept so that a start need not read the journal's past again.
//!
//! Written by an earlier run of this program, but read with suspicion: whatever does not read is an error, never a panic.

use crate::engine::ban::JailName;
use crate::engine::entry::{Cursor, EntryRef};
use crate::engine::jail::window::Failure;
use crate::engine::subject::Subject;
use crate::engine::time::Stamp;

/// What a jail had counted up to a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The jail.
    pub jail: JailName,
    /// The last entry that was counted.
    pub cursor: Cursor,
    /// A hash of the jail's configuration: a snapshot of another configuration is of no use.
    pub config: u64,
    /// The counts, in the engine's own form; for windows that is [`encode_windows`]'s.
    pub state: Vec<u8>,
}

/// Why bytes are no windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no snapshot of windows at byte {at}")]
pub struct SnapshotError {
    /// Where reading stopped.
    pub at: usize,
}

/// The windows' failures as bytes, about 20 a failure.
///
/// Per subject: its text and the number of failures; per failure: the number of its sequence (a new one is followed by
/// the id), its seqnum and its stamp. Numbers are LEB128.
pub fn encode_windows<'a>(windows: impl IntoIterator<Item = (Subject, &'a [Failure])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sequences: Vec<u128> = Vec::new();
    for (subject, failures) in windows {
        let text = subject.to_string();
        put(&mut bytes, text.len() as u64);
        bytes.extend_from_slice(text.as_bytes());
        put(&mut bytes, failures.len() as u64);
        for failure in failures {
            let known = sequences.iter().position(|id| *id == failure.entry.seqnum_id);
            put(&mut bytes, known.unwrap_or(sequences.len()) as u64);
            if known.is_none() {
                sequences.push(failure.entry.seqnum_id);
                bytes.extend_from_slice(&failure.entry.seqnum_id.to_be_bytes());
            }
            put(&mut bytes, failure.entry.seqnum);
            put(&mut bytes, failure.stamp.usec());
        }
    }
    bytes
}

/// The windows' failures back from [`encode_windows`]'s bytes.
///
/// # Errors
/// At the first byte that does not fit.
pub fn decode_windows(bytes: &[u8]) -> Result<Vec<(Subject, Vec<Failure>)>, SnapshotError> {
    let mut scan = Scan { bytes, at: 0 };
    let mut windows = Vec::new();
    let mut sequences: Vec<u128> = Vec::new();
    while scan.at < bytes.len() {
        let subject = scan.subject().ok_or(SnapshotError { at: scan.at })?;
        let count = scan.number().ok_or(SnapshotError { at: scan.at })?;
        let mut failures = Vec::new();
        for _ in 0..count {
            failures.push(scan.failure(&mut sequences).ok_or(SnapshotError { at: scan.at })?);
        }
        windows.push((subject, failures));
    }
    Ok(windows)
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn subject(&mut self) -> Option<Subject> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()?.parse().ok()
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

    proptest! {
        #[test]
        fn windows_read_back(windows in prop::collection::vec((any_subject(), prop::collection::vec(any_failure(), 0..9)), 0..9)) {
            let bytes = encode_windows(windows.iter().map(|(subject, failures)| (*subject, &failures[..])));
            prop_assert_eq!(decode_windows(&bytes), Ok(windows));
        }

        #[test]
        fn no_bytes_can_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(decode_windows(&bytes));
        }

        #[test]
        fn what_is_cut_off_is_noticed(windows in prop::collection::vec((any_subject(), prop::collection::vec(any_failure(), 1..5)), 1..5)) {
            let bytes = encode_windows(windows.iter().map(|(subject, failures)| (*subject, &failures[..])));
            prop_assert!(decode_windows(&bytes[..bytes.len() - 1]).is_err());
        }
    }
}
