//! A failure in few bytes, since there are very many: the id of its sequence of entry numbers is kept once for all.

use super::window::{Failure, Window};
use crate::engine::entry::EntryRef;
use crate::engine::time::Stamp;

/// So many sequences of entry numbers are told apart. A machine's own journal goes on with one for years; where the
/// journals of many machines lie in one directory, each has its own.
pub const SEQUENCES: usize = 4096;

/// A [`Failure`] in 17 bytes: with the number of its sequence instead of the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compact {
    /// µs; they need the eighth byte in the year 4253.
    stamp: [u8; 7],
    seqnum: [u8; 8],
    sequence: [u8; 2],
}

/// The ids of the sequences that have numbers.
#[derive(Debug, Default)]
pub struct Sequences(Vec<u128>);

impl Compact {
    /// `failure`, whose sequence has this number.
    pub fn new(failure: &Failure, sequence: u16) -> Compact {
        let seqnum = failure.entry.seqnum.to_ne_bytes();
        Compact { stamp: packed(failure.stamp), seqnum, sequence: sequence.to_ne_bytes() }
    }

    /// When it happened.
    pub fn stamp(&self) -> Stamp {
        let [a, b, c, d, e, f, g] = self.stamp;
        Stamp::from_usec(u64::from_le_bytes([a, b, c, d, e, f, g, 0]))
    }

    /// The number of its sequence.
    pub fn number(&self) -> usize {
        usize::from(u16::from_ne_bytes(self.sequence))
    }

    /// Did the same entry tell of both?
    pub fn is_same_entry(&self, other: &Compact) -> bool {
        (self.seqnum, self.sequence) == (other.seqnum, other.sequence)
    }

    /// As it was before.
    pub fn failure(&self, sequences: &Sequences) -> Failure {
        let seqnum_id = sequences.0[self.number()];
        Failure { stamp: self.stamp(), entry: EntryRef { seqnum_id, seqnum: u64::from_ne_bytes(self.seqnum) } }
    }

    /// It happened at another time.
    pub fn set_stamp(&mut self, stamp: Stamp) {
        self.stamp = packed(stamp);
    }

    /// Its sequence has another number.
    pub fn renumber(&mut self, sequence: u16) {
        self.sequence = sequence.to_ne_bytes();
    }
}

impl Sequences {
    /// The number of this sequence, made where it has none yet; `None` where all are given.
    pub fn number_of(&mut self, id: u128) -> Option<u16> {
        self.known(id).or_else(|| (self.0.len() < SEQUENCES).then(|| self.begin(id)))
    }

    /// Gives this sequence the next number, of which there is one.
    pub fn begin(&mut self, id: u128) -> u16 {
        self.0.push(id);
        (self.0.len() - 1) as u16
    }

    /// Forgets those that are not used; says which numbers the others have now.
    pub fn keep(&mut self, used: &[bool; SEQUENCES]) -> [u16; SEQUENCES] {
        let mut numbers = [0u16; SEQUENCES];
        let mut kept = Vec::new();
        for (at, id) in self.0.iter().enumerate().filter(|(at, _)| used[*at]) {
            numbers[at] = kept.len() as u16;
            kept.push(*id);
        }
        self.0 = kept;
        numbers
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn known(&self, id: u128) -> Option<u16> {
        self.0.iter().rposition(|known| *known == id).map(|at| at as u16)
    }
}

/// The latest that seven bytes hold is where a later one ends.
fn packed(stamp: Stamp) -> [u8; 7] {
    let [a, b, c, d, e, f, g, _] = stamp.usec().min((1 << 56) - 1).to_le_bytes();
    [a, b, c, d, e, f, g]
}

/// Has `window` hold these failures.
pub fn read(failures: &[Compact], sequences: &Sequences, window: &mut Window) {
    window.hold(failures.iter().map(|failure| failure.failure(sequences)));
}

/// What `window` holds, all of it of sequences that have a number.
pub fn write(window: &Window, sequences: &Sequences, kept: &mut Vec<Compact>) {
    let failures = window.failures();
    kept.clear();
    kept.reserve_exact(failures.len());
    kept.extend(failures.iter().map(|failure| {
        let number = sequences.known(failure.entry.seqnum_id).expect("a failure is counted after its sequence");
        Compact::new(failure, number)
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_takes_17_bytes() {
        assert_eq!(size_of::<Compact>(), 17);
        let failure =
            Failure { stamp: Stamp::from_usec(7), entry: EntryRef { seqnum_id: u128::MAX, seqnum: u64::MAX } };
        let mut sequences = Sequences::default();
        let number = sequences.number_of(failure.entry.seqnum_id).unwrap();
        assert_eq!(Compact::new(&failure, number).failure(&sequences), failure);
    }

    #[test]
    fn there_is_an_end_to_numbers() {
        let mut sequences = Sequences::default();
        assert!((0..SEQUENCES as u128).all(|id| sequences.number_of(id).is_some()));
        assert_eq!((sequences.number_of(7), sequences.number_of(u128::MAX)), (Some(7), None));
        let mut used = [false; SEQUENCES];
        used[7] = true;
        assert_eq!(
            (sequences.keep(&used)[7], sequences.number_of(7), sequences.number_of(u128::MAX)),
            (0, Some(0), Some(1))
        );
    }
}
