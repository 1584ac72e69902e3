//! A ban's evidence as text: `s=…;i=3f i=40 s=…;i=1`, each part behind its last `s=` a cursor for `journalctl --cursor=`.

use crate::engine::entry::{Cursor, EntryRef};

/// The entries as text; the sequence is written where it changes.
pub(super) fn write(entries: &[EntryRef]) -> String {
    let mut text = String::new();
    let mut sequence = None;
    for entry in entries {
        if !text.is_empty() {
            text.push(' ');
        }
        if sequence == Some(entry.seqnum_id) {
            text.push_str(&format!("i={:x}", entry.seqnum));
        } else {
            sequence = Some(entry.seqnum_id);
            text.push_str(&entry.to_string());
        }
    }
    text
}

/// The entries back; `None` where the text is not ours.
pub(super) fn read(text: &str) -> Option<Vec<EntryRef>> {
    let mut entries: Vec<EntryRef> = Vec::new();
    for part in text.split(' ').filter(|part| !part.is_empty()) {
        let entry = match part.strip_prefix("i=") {
            Some(number) => {
                EntryRef { seqnum_id: entries.last()?.seqnum_id, seqnum: u64::from_str_radix(number, 16).ok()? }
            }
            None => part.parse::<Cursor>().ok()?.entry,
        };
        entries.push(entry);
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_reads_back(entries in prop::collection::vec((0u128..2, any::<u64>()), 0..9)) {
            let entries: Vec<EntryRef> =
                entries.into_iter().map(|(seqnum_id, seqnum)| EntryRef { seqnum_id, seqnum }).collect();
            prop_assert_eq!(read(&write(&entries)), Some(entries));
        }

        #[test]
        fn no_text_can_break_the_reader(text in "[si=; 0-9a-f]{0,40}") {
            drop(read(&text));
        }
    }

    #[test]
    fn the_sequence_is_written_once() {
        let entries = [1, 2].map(|seqnum| EntryRef { seqnum_id: 10, seqnum });
        assert_eq!(write(&entries), "s=0000000000000000000000000000000a;i=1 i=2");
        assert_eq!(read("i=1"), None);
    }
}
