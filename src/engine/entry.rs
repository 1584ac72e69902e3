//! A journal entry as the filters see it: a stamp, where it stands, and the fields somebody asked for.
//!
//! What journald attests and what a sender claims are different types; only the first may say where an entry comes from.

use std::fmt;
use std::str::FromStr;

use super::time::Stamp;

/// A field that journald or the kernel writes and no sender can: its name starts with `_`.
/// See `systemd.journal-fields(7)`, "Trusted Journal Fields".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attested(Box<str>);

/// A field that the sender of the entry wrote, `MESSAGE` and `SYSLOG_*` among them: an attacker's text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claimed(Box<str>);

/// A journal field's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Written by journald.
    Attested(Attested),
    /// Written by the sender.
    Claimed(Claimed),
}

/// Why a text is no field name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no journal field (A-Z, 0-9 and _, at most 64 characters, no digit first, not an address field __…)")]
pub struct FieldError(String);

impl Field {
    /// `MESSAGE`, the text of the entry.
    pub fn message() -> Field {
        Field::Claimed(Claimed("MESSAGE".into()))
    }

    /// The name as journald writes it.
    pub fn name(&self) -> &str {
        match self {
            Field::Attested(Attested(name)) | Field::Claimed(Claimed(name)) => name,
        }
    }

    /// Does journald itself vouch for it?
    pub fn is_attested(&self) -> bool {
        matches!(self, Field::Attested(_))
    }
}

impl FromStr for Field {
    type Err = FieldError;

    /// The rule of `sd_journal_sendv(3)` and of journald's `journal_field_valid`: `A-Z0-9_`, at most 64, no digit first.
    /// The double-underscore names are addresses of an entry and no fields.
    fn from_str(text: &str) -> Result<Field, FieldError> {
        let bytes = text.as_bytes();
        let valid = (1..=64).contains(&bytes.len())
            && bytes.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
            && !bytes[0].is_ascii_digit()
            && !text.starts_with("__")
            && text != "_";
        if !valid {
            return Err(FieldError(text.chars().take(80).collect()));
        }
        Ok(if bytes[0] == b'_' { Field::Attested(Attested(text.into())) } else { Field::Claimed(Claimed(text.into())) })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which entry of which journal: enough for `journalctl --cursor=` to find it again, and small enough to keep in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryRef {
    /// The id of the sequence that `seqnum` counts in (`s=` of a cursor).
    pub seqnum_id: u128,
    /// The entry's number in it (`i=` of a cursor).
    pub seqnum: u64,
}

impl EntryRef {
    /// What stands for a failure that a program reported and no journal holds: `number` is unlike any other such one's.
    /// No sequence of journald's has the id 0.
    pub fn attempt(number: u64) -> EntryRef {
        EntryRef { seqnum_id: 0, seqnum: number }
    }

    /// Is it one of [`EntryRef::attempt`]'s?
    pub fn is_attempt(&self) -> bool {
        self.seqnum_id == 0
    }
}

impl fmt::Display for EntryRef {
    /// As a cursor that sd-journal takes: `s=…;i=…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s={:032x};i={:x}", self.seqnum_id, self.seqnum)
    }
}

/// An entry as evidence: which one, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When journald received it.
    pub stamp: Stamp,
    /// The entry.
    pub entry: EntryRef,
}

/// Asks the journal which entry it is at; `None` where it cannot say. Costs about as much as reading the entry.
pub type Locate<'l> = &'l mut dyn FnMut() -> Option<EntryRef>;

/// An sd-journal cursor, taken apart: `s=…;i=…;b=…;m=…;t=…;x=…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The entry (`s`, `i`).
    pub entry: EntryRef,
    /// The boot it was written in (`b`).
    pub boot: u128,
    /// µs since that boot (`m`).
    pub monotonic: u64,
    /// Its `__REALTIME_TIMESTAMP` (`t`).
    pub realtime: Stamp,
    /// The exclusive or of its data's hashes (`x`).
    pub xor: u64,
}

/// Why a text is no cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no journal cursor")]
pub struct CursorError(String);

impl FromStr for Cursor {
    type Err = CursorError;

    /// Reads a whole cursor, as `sd_journal_get_cursor(3)` gives it, and an [`EntryRef`]'s two parts alone.
    fn from_str(text: &str) -> Result<Cursor, CursorError> {
        parse_cursor(text).ok_or_else(|| CursorError(text.chars().take(200).collect()))
    }
}

fn parse_cursor(text: &str) -> Option<Cursor> {
    let mut cursor = Cursor { entry: EntryRef::default(), boot: 0, monotonic: 0, realtime: Stamp::EPOCH, xor: 0 };
    let (mut has_id, mut has_number) = (false, false);
    for part in text.split(';') {
        let (key, value) = part.split_once('=')?;
        if !value.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let short = || u64::from_str_radix(value, 16).ok();
        match key {
            "s" => {
                cursor.entry.seqnum_id = u128::from_str_radix(value, 16).ok()?;
                has_id = true;
            }
            "i" => {
                cursor.entry.seqnum = short()?;
                has_number = true;
            }
            "b" => cursor.boot = u128::from_str_radix(value, 16).ok()?,
            "m" => cursor.monotonic = short()?,
            "t" => cursor.realtime = Stamp::from_usec(short()?),
            "x" => cursor.xor = short()?,
            _ => return None,
        }
    }
    (has_id && has_number).then_some(cursor)
}

impl fmt::Display for Cursor {
    /// As sd-journal writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{};b={:032x};m={:x};t={:x};x={:x}",
            self.entry,
            self.boot,
            self.monotonic,
            self.realtime.usec(),
            self.xor
        )
    }
}

/// The fields that some filter looks at, each with a place of its own; all others are passed over unread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    fields: Vec<Field>,
}

/// The place of a field in a [`Wanted`], and so in every [`Page`] filled after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Wanted {
    /// The place of `field`, made where it has none yet.
    ///
    /// # Panics
    /// Above 65,535 different fields, which no configuration reaches: the loader stops at 1,000.
    pub fn want(&mut self, field: &Field) -> Slot {
        let at = self.fields.iter().position(|known| known == field).unwrap_or_else(|| {
            self.fields.push(field.clone());
            self.fields.len() - 1
        });
        Slot(u16::try_from(at).expect("fewer than 65,536 fields"))
    }

    /// The place of the field called `name`, if anybody asked for it.
    pub fn slot(&self, name: &[u8]) -> Option<Slot> {
        let at = self.fields.iter().position(|field| field.name().as_bytes() == name)?;
        u16::try_from(at).ok().map(Slot)
    }

    /// The fields in the order of their places.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }
}

/// How much of one field's value is kept: an entry may be 768 MiB, a failed login is one line.
pub const VALUE_LIMIT: usize = 8 * 1024;

/// The one entry that a reader is at, copied field by field during sd-journal's single pass; reused for the next.
#[derive(Clone, Debug, Default)]
pub struct Page {
    stamp: Stamp,
    boot: u128,
    bytes: Vec<u8>,
    values: Vec<Value>,
}

#[derive(Clone, Copy, Debug)]
struct Value {
    slot: Slot,
    start: usize,
    end: usize,
    cut: bool,
}

impl Page {
    /// Forgets the entry it held and starts one of this stamp (`__REALTIME_TIMESTAMP`) and boot id.
    pub fn begin(&mut self, stamp: Stamp, boot: u128) {
        self.stamp = stamp;
        self.boot = boot;
        self.bytes.clear();
        self.values.clear();
    }

    /// Takes one `NAME=value` of the entry, if `wanted` has the name; a value above [`VALUE_LIMIT`] is cut and marked so.
    pub fn offer(&mut self, wanted: &Wanted, data: &[u8]) {
        // Most fields are not wanted: one look at where the equals sign would have to stand tells.
        let found = wanted.fields.iter().position(|field| {
            let name = field.name().as_bytes();
            data.get(name.len()) == Some(&b'=') && data.starts_with(name)
        });
        if let Some(at) = found
            && let Ok(slot) = u16::try_from(at)
        {
            self.put(Slot(slot), &data[wanted.fields[at].name().len() + 1..]);
        }
    }

    /// Adds a value of the field at `slot`; the same field may come more than once.
    pub fn put(&mut self, slot: Slot, value: &[u8]) {
        let kept = &value[..value.len().min(VALUE_LIMIT)];
        let start = self.bytes.len();
        self.bytes.extend_from_slice(kept);
        self.values.push(Value { slot, start, end: self.bytes.len(), cut: kept.len() < value.len() });
    }

    /// The entry as it stands.
    pub fn entry(&self) -> Entry<'_> {
        Entry { page: self }
    }
}

/// A journal entry, borrowed from its reader.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    page: &'a Page,
}

/// One value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// The bytes, at most [`VALUE_LIMIT`] of them; they need not be UTF-8.
    pub bytes: &'a [u8],
    /// Was the value longer? Then its end is not known, and `$` must not match here.
    pub cut: bool,
}

impl<'a> Entry<'a> {
    /// When journald received it: `__REALTIME_TIMESTAMP`.
    pub fn stamp(self) -> Stamp {
        self.page.stamp
    }

    /// The boot it was written in: `_BOOT_ID`.
    pub fn boot(self) -> u128 {
        self.page.boot
    }

    /// A copy of the entry, with the fields that were asked for.
    pub fn to_page(self) -> Page {
        self.page.clone()
    }

    /// All values of the field at `slot`, in the journal's order.
    pub fn values(self, slot: Slot) -> impl Iterator<Item = Text<'a>> {
        let bytes = &self.page.bytes;
        self.page
            .values
            .iter()
            .filter(move |value| value.slot == slot)
            .map(move |value| Text { bytes: &bytes[value.start..value.end], cut: value.cut })
    }

    /// The first value of the field at `slot`.
    pub fn first(self, slot: Slot) -> Option<Text<'a>> {
        self.values(slot).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_an_underscore_first_are_attested() {
        for (name, attested) in
            [("_UID", true), ("_SYSTEMD_UNIT", true), ("MESSAGE", false), ("SYSLOG_IDENTIFIER", false)]
        {
            assert_eq!(name.parse::<Field>().unwrap().is_attested(), attested, "{name}");
        }
    }

    #[test]
    fn what_journald_would_not_write_is_no_field() {
        let long = "A".repeat(65);
        for name in ["", "_", "message", "1A", "__CURSOR", "A B", "Ä", long.as_str()] {
            assert!(name.parse::<Field>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_cursor_reads_back() {
        let text = "s=73640d75697a4fa0938438017bbff19c;i=3f;b=4ee1aa93f3a64d759bbd45e2b567805e;m=e656b63f;t=660db86ec36f2;x=789fe0085da5d417";
        let cursor: Cursor = text.parse().unwrap();
        assert_eq!(cursor.to_string(), text);
        assert_eq!(cursor.entry.to_string(), "s=73640d75697a4fa0938438017bbff19c;i=3f");
        assert_eq!(cursor.entry.to_string().parse::<Cursor>().unwrap().entry, cursor.entry);
        for bad in ["", "garbage", "s=;i=1", "s=zz;i=1", "i=1", "s=1;i=+1", "s=1;i=11111111111111111"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_keeps_what_is_wanted_and_marks_what_it_cut() {
        let mut wanted = Wanted::default();
        let message = wanted.want(&Field::message());
        assert_eq!(wanted.want(&Field::message()), message);
        let mut page = Page::default();
        page.begin(Stamp::from_usec(1), 2);
        page.offer(&wanted, b"_UID=0");
        page.offer(&wanted, b"MESSAGE=a=b");
        page.offer(&wanted, b"no equals sign");
        page.put(message, &[b'x'; VALUE_LIMIT + 1]);
        let values: Vec<_> = page.entry().values(message).collect();
        assert_eq!(values[0], Text { bytes: b"a=b", cut: false });
        assert_eq!((values[1].bytes.len(), values[1].cut), (VALUE_LIMIT, true));
        page.begin(Stamp::EPOCH, 0);
        assert_eq!(page.entry().first(message), None);
    }
}
