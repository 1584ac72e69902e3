//! The selected entries of a journal, in order, from some place on. The traps of sd-journal's positions end here.

use std::cmp::Ordering;
use std::os::fd::RawFd;

use systemd::journal::Journal;

use super::order::order;
use super::suppressed::{self, Suppressed};
use super::watch::Watch;
use super::{JournalError, Source, sys};
use crate::engine::entry::{Cursor, EntryRef, Field, Page, VALUE_LIMIT, Wanted};
use crate::engine::time::Stamp;

/// What sd-journal need not decompress beyond. It has to be more than the longest `NAME=` (64 and one) and a value of
/// [`VALUE_LIMIT`] together, so that a value cut by it is still seen to be cut.
const THRESHOLD: usize = VALUE_LIMIT + 128;

/// An open journal.
pub struct Stream {
    journal: Journal,
    ear: Ear,
    /// The entry that was sought to and must not come again.
    behind: Option<String>,
}

/// How a stream hears of changes.
enum Ear {
    /// sd-journal tells.
    Journal,
    /// sd-journal does not, for single files; we watch them ourselves.
    Own(Watch),
    /// Nobody tells; one has to look.
    Deaf,
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// At the first entry.
    Head,
    /// At the first entry after this one, which need not be there any more nor be selected.
    After(&'a Cursor),
    /// At the first entry not older than this.
    From(Stamp),
}

impl<'a> Place<'a> {
    /// Behind what has been read, if anything has.
    pub fn after(position: Option<&'a Cursor>) -> Place<'a> {
        position.map_or(Place::Head, Place::After)
    }
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Here,
    /// It is gone; this is the time of the first entry that sorts behind it.
    Gone(Stamp),
    /// It is gone, and so is everything behind it.
    Last,
}

impl Stream {
    /// Opens `source` with all entries selected, at its head.
    pub fn open(source: &Source) -> Result<Stream, JournalError> {
        sys::survive_truncation();
        // Before it is opened: from here on no change goes unnoticed.
        let watch = if matches!(source, Source::Sender { .. }) { Some(Watch::new(source)?) } else { None };
        let mut passed_over = Vec::new();
        let mut journal = source.open(&mut passed_over)?;
        journal.set_data_threshold(THRESHOLD)?;
        let ear = match watch {
            Some(mut watch) => {
                watch.pass_over(passed_over);
                Ear::Own(watch)
            }
            // The first call sets up inotify. That the system has none left makes a reader that looks, and not none.
            None if source.wakes() && journal.fd().is_ok() => Ear::Journal,
            None => Ear::Deaf,
        };
        let mut stream = Stream { journal, ear, behind: None };
        stream.seek(Place::Head)?;
        Ok(stream)
    }

    /// Selects the entries that have one of `terms` and journald's notices, or all for `None`. The place is lost; [`Stream::seek`] next.
    pub fn select(&mut self, terms: Option<&[(Field, Vec<u8>)]>) -> Result<(), JournalError> {
        self.journal.match_flush()?;
        let Some(terms) = terms else { return Ok(()) };
        self.journal.match_add(suppressed::MARK, suppressed::MARK_VALUE)?;
        let mut former = None;
        for (field, value) in terms {
            if former != Some(field) {
                // Matches of the same field are ORed, those of different fields ANDed unless they are kept apart.
                self.journal.match_or()?;
            }
            self.journal.match_add(field.name(), value.as_slice())?;
            former = Some(field);
        }
        Ok(())
    }

    /// Goes where [`Stream::advance`] will give the first entry of `place`.
    pub fn seek(&mut self, place: Place<'_>) -> Result<(), JournalError> {
        self.behind = None;
        match place {
            Place::Head => self.journal.seek_head()?,
            Place::From(stamp) => self.journal.seek_realtime_usec(stamp.usec())?,
            Place::After(cursor) => {
                let text = cursor.to_string();
                self.journal.seek_cursor(&text)?;
                self.behind = Some(text);
            }
        }
        Ok(())
    }

    /// Goes to the next entry. `false` at the end, where it can be tried again later.
    pub fn advance(&mut self) -> Result<bool, JournalError> {
        while self.journal.next()? != 0 {
            match self.behind.take() {
                Some(cursor) if self.journal.test_cursor(&cursor)? => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// The last entry there is, with everything selected; `None` in an empty journal. The place is lost.
    pub fn end(&mut self) -> Result<Option<Cursor>, JournalError> {
        self.select(None)?;
        self.journal.seek_tail()?;
        if self.journal.previous()? == 0 { Ok(None) } else { self.cursor().map(Some) }
    }

    /// Is the entry of `cursor` there? With everything selected. The place is lost.
    pub fn presence(&mut self, cursor: &Cursor) -> Result<Presence, JournalError> {
        self.select(None)?;
        let text = cursor.to_string();
        self.journal.seek_cursor(&text)?;
        Ok(if self.journal.next()? == 0 {
            Presence::Last
        } else if self.journal.test_cursor(&text)? {
            Presence::Here
        } else {
            Presence::Gone(self.stamp()?)
        })
    }

    /// The time of the current entry.
    pub fn stamp(&self) -> Result<Stamp, JournalError> {
        Ok(Stamp::from_usec(self.journal.timestamp_usec()?))
    }

    /// The current entry in short.
    pub fn entry(&self) -> Result<EntryRef, JournalError> {
        match sys::cursor(&self.journal, short)? {
            Some(entry) => Ok(entry),
            None => self.cursor().map(|cursor| cursor.entry),
        }
    }

    /// The current entry. Costs about as much as reading it.
    pub fn cursor(&self) -> Result<Cursor, JournalError> {
        Ok(self.journal.cursor()?.parse()?)
    }

    /// Does the current entry come after `mark`?
    pub fn is_past(&self, mark: &Cursor) -> Result<bool, JournalError> {
        Ok(order(&self.cursor()?, mark) == Ordering::Greater)
    }

    /// Copies the wanted fields of the current entry, which has this `stamp`, to `page`, in one pass. Is it marked as a
    /// notice of journald?
    pub fn copy(&mut self, stamp: Stamp, wanted: &Wanted, page: &mut Page) -> Result<bool, JournalError> {
        let (_, boot) = self.journal.monotonic_timestamp()?;
        page.begin(stamp, u128::from_be_bytes(*boot.as_bytes()));
        let mut marked = false;
        // All fields, though all that are wanted may have been seen: a field may come again, and the one that differs
        // most, MESSAGE, comes last anyway.
        while let Some(data) = sys::next_field(&mut self.journal)? {
            page.offer(wanted, data);
            marked |= suppressed::is_mark(data);
        }
        Ok(marked)
    }

    /// What journald says in the current entry that it threw away.
    pub fn suppressed(&mut self) -> Result<Option<Suppressed>, JournalError> {
        Ok(suppressed::read(&mut self.journal)?)
    }

    /// Readable when the journal has changed; then [`Stream::refresh`] is due. `None` where nobody tells.
    pub fn descriptor(&self) -> Result<Option<RawFd>, JournalError> {
        Ok(match &self.ear {
            Ear::Journal => Some(self.journal.fd()?),
            Ear::Own(watch) => watch.descriptor(),
            Ear::Deaf => None,
        })
    }

    /// Does nobody tell of changes?
    pub fn is_deaf(&self) -> bool {
        match &self.ear {
            Ear::Journal => false,
            Ear::Own(watch) => watch.descriptor().is_none(),
            Ear::Deaf => true,
        }
    }

    /// Takes notice of files added, rotated and removed. `true`: it cannot, and has to be opened anew.
    pub fn refresh(&mut self) -> Result<bool, JournalError> {
        match &mut self.ear {
            Ear::Journal => {
                self.journal.process()?;
                Ok(false)
            }
            Ear::Own(watch) => Ok(watch.is_outdated()),
            Ear::Deaf => Ok(false),
        }
    }

    /// Does the descriptor tell of every change?
    pub fn wakes_reliably(&self) -> bool {
        match &self.ear {
            Ear::Journal => sys::wakes_reliably(&self.journal),
            Ear::Own(watch) => watch.descriptor().is_some(),
            Ear::Deaf => false,
        }
    }
}

/// The entry in a cursor that begins as sd-journal writes them: `s=` and 32 digits, `;i=` and up to 16, `;`.
fn short(cursor: &[u8]) -> Option<EntryRef> {
    let (id, rest) = cursor.strip_prefix(b"s=")?.split_at_checked(32)?;
    let rest = rest.strip_prefix(b";i=")?;
    let number = &rest[..rest.iter().position(|byte| *byte == b';')?];
    let seqnum_id = u128::from(hex(&id[..16])?) << 64 | u128::from(hex(&id[16..])?);
    Some(EntryRef { seqnum_id, seqnum: hex(number)? })
}

fn hex(digits: &[u8]) -> Option<u64> {
    if !(1..=16).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_reads_what_the_long_way_reads() {
        let text = "s=73640d75697a4fa0938438017bbff19c;i=3f;b=4ee1aa93f3a64d759bbd45e2b567805e;m=1;t=2;x=3";
        assert_eq!(short(text.as_bytes()), Some(text.parse::<Cursor>().unwrap().entry));
        let most = format!("s={};i={};b=0", "f".repeat(32), "f".repeat(16));
        assert_eq!(short(most.as_bytes()), Some(EntryRef { seqnum_id: u128::MAX, seqnum: u64::MAX }));
        for other in ["", "s=1;i=3f;", "i=1;s=2", &format!("s={};i=;", "0".repeat(32)), &text.replace("3f", "+f")] {
            assert_eq!(short(other.as_bytes()), None, "{other}");
        }
    }
}
