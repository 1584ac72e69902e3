//! Which of two entries comes first, by sd-journal's own rule.

use std::cmp::Ordering;

use crate::engine::entry::Cursor;

/// Orders two entries: by number in the same sequence, else by the clock of the same boot, else by wall time.
pub fn order(a: &Cursor, b: &Cursor) -> Ordering {
    if a.entry.seqnum_id == b.entry.seqnum_id {
        return a.entry.seqnum.cmp(&b.entry.seqnum);
    }
    if a.boot == b.boot && a.monotonic != b.monotonic {
        return a.monotonic.cmp(&b.monotonic);
    }
    a.realtime.cmp(&b.realtime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::entry::EntryRef;
    use crate::engine::time::Stamp;

    fn cursor(seqnum_id: u128, seqnum: u64, boot: u128, monotonic: u64, realtime: u64) -> Cursor {
        let entry = EntryRef { seqnum_id, seqnum };
        Cursor { entry, boot, monotonic, realtime: Stamp::from_usec(realtime), xor: 0 }
    }

    #[test]
    fn the_wall_clock_decides_only_between_different_sequences_and_boots() {
        let first = cursor(1, 5, 1, 50, 900);
        assert_eq!(order(&first, &cursor(1, 6, 1, 60, 100)), Ordering::Less);
        assert_eq!(order(&first, &cursor(2, 1, 1, 60, 100)), Ordering::Less);
        assert_eq!(order(&first, &cursor(2, 9, 2, 60, 100)), Ordering::Greater);
        assert_eq!(order(&first, &first), Ordering::Equal);
    }
}
