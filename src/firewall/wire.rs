//! Netlink's own notation: messages that hold attributes, written and read.
//!
//! Reading never fails and never panics: what is cut short or has an impossible length ends the walk.

use std::ops::Range;

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Length of `struct nlmsghdr` and the `struct nfgenmsg` that every nf_tables message has behind it.
pub(super) const BODY: usize = HEADER + 4;
/// No nest grows beyond this: an attribute's length is a `u16`, and beyond it the kernel would silently see less.
pub(super) const NEST_LIMIT: usize = 65_535 - 256;
/// `NFPROTO_INET`.
pub(super) const INET: u8 = 1;

const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = 0x3fff;

/// Messages being written, one after the other.
#[derive(Default)]
pub(super) struct Writer {
    /// What is written so far; whole messages only, after [`Writer::end_message`].
    pub bytes: Vec<u8>,
    message: usize,
}

/// An open nest: where it began.
pub(super) struct Nest(usize);

impl Writer {
    /// Begins a message: type, `NLM_F_*` flags, sequence number, family and resource id of `nfgenmsg`.
    pub fn message(&mut self, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16) {
        self.message = self.bytes.len();
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
    }

    /// Ends the message: its length is known now.
    pub fn end_message(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.message).unwrap_or(u32::MAX);
        self.bytes[self.message..self.message + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// How far into the message we are, as the kernel counts an error's offset.
    pub fn offset(&self) -> usize {
        self.bytes.len() - self.message
    }

    /// An attribute of plain bytes, fewer than [`NEST_LIMIT`].
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let nest = self.open(kind);
        self.bytes.extend(value);
        self.close_as(nest, kind);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An attribute that is a text with a zero behind it.
    pub fn text(&mut self, kind: u16, value: &str) {
        let nest = self.open(kind);
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
        self.close_as(nest, kind);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Opens an attribute that holds attributes.
    pub fn open(&mut self, kind: u16) -> Nest {
        let start = self.bytes.len();
        self.bytes.extend([0, 0]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        Nest(start)
    }

    /// How long an open nest is by now.
    pub fn length(&self, nest: &Nest) -> usize {
        self.bytes.len() - nest.0
    }

    /// Closes it.
    ///
    /// # Panics
    /// Above 65,535 bytes; who fills a nest in a loop stops at [`NEST_LIMIT`].
    pub fn close(&mut self, nest: Nest) {
        let length = u16::try_from(self.bytes.len() - nest.0).expect("writers of nests stop at NEST_LIMIT");
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn close_as(&mut self, nest: Nest, kind: u16) {
        let start = nest.0;
        self.close(nest);
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
    }
}

/// One message as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`.
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the socket whose request it is about.
    pub port: u32,
    /// What follows `nlmsghdr`.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes of an nf_tables message.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.payload.get(BODY - HEADER..).unwrap_or_default())
    }

    /// The family in its `nfgenmsg`.
    pub fn family(&self) -> Option<u8> {
        self.payload.first().copied()
    }
}

/// Walks over messages.
pub(super) struct Messages<'a>(pub &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        let length = usize::try_from(u32_ne(bytes, 0)?).ok()?;
        let message = Message {
            kind: u16_ne(bytes, 4)?,
            flags: u16_ne(bytes, 6)?,
            sequence: u32_ne(bytes, 8)?,
            port: u32_ne(bytes, 12)?,
            payload: bytes.get(HEADER..length)?,
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// Walks over attributes: type without its flags, and value.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let bytes = self.0;
        let length = usize::from(u16_ne(bytes, 0)?);
        let kind = u16_ne(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(4..length)?;
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// The first value of this type.
    pub fn find_kind(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find(|(this, _)| *this == kind).map(|(_, value)| value)
    }
}

/// A text attribute without the zero at its end; what is no UTF-8 is no name of ours.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

/// A `u32` attribute in nf_tables' byte order.
pub(super) fn u32_be(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A `u64` attribute in nf_tables' byte order.
pub(super) fn u64_be(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

/// A native `u32` at `at`.
pub(super) fn u32_ne(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at..at + 4).map(u32::from_ne_bytes)
}

fn u16_ne(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at..at + 2).map(u16::from_ne_bytes)
}

fn array<const N: usize>(bytes: &[u8], range: Range<usize>) -> Option<[u8; N]> {
    bytes.get(range)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut writer = Writer::default();
        writer.message(7, 8, 9, INET, 0);
        writer.text(1, "abc");
        let nest = writer.open(2);
        writer.attribute(3, &[1, 2, 3, 4, 5]);
        writer.close(nest);
        writer.end_message();
        let message = Messages(&writer.bytes).next().unwrap();
        assert_eq!((message.kind, message.sequence, message.family()), (7, 9, Some(INET)));
        let attributes = message.attributes();
        assert_eq!(attributes.find_kind(1).and_then(text), Some("abc"));
        let inner = attributes.find_kind(2).unwrap();
        assert_eq!(Attributes(inner).collect::<Vec<_>>(), [(3, [1, 2, 3, 4, 5].as_slice())]);
        assert_eq!(Messages(&writer.bytes).count(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_panic_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..256), short in 0u8..40) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = short; }
            for message in Messages(&bytes) {
                prop_assert!(message.attributes().count() <= 64);
            }
            prop_assert!(Attributes(&bytes).count() <= 64);
        }
    }
}
