//! The header of a message as it comes over the socket: as much of it as decides whether the message is let in.
//!
//! The bus has checked every message before it passes one on, and it says itself who sent it.

/// The fixed part of a header, which says how long the message is.
pub const FIXED: usize = 16;
/// The flag of a call whose sender wants no reply.
const NO_REPLY: u8 = 1;

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A method is called.
    Call,
    /// A call is answered.
    Reply,
    /// A signal.
    Signal,
}

/// How long the parts of a message are, from its first [`FIXED`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// The header with its padding.
    pub header: usize,
    /// The arguments.
    pub body: usize,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// What it is.
    pub kind: Kind,
    /// The message's number at its sender.
    pub serial: u32,
    /// Does its sender wait for a reply?
    pub wants_reply: bool,
    /// Who sent it, as the bus says.
    pub sender: Option<&'a str>,
    /// Which interface it is of.
    pub interface: Option<&'a str>,
}

impl Lengths {
    /// `None` for what is no message.
    pub fn of(fixed: &[u8; FIXED]) -> Option<Lengths> {
        let big = is_big_endian(fixed)?;
        let fields = usize::try_from(word(fixed, 12, big)?).ok()?;
        let body = usize::try_from(word(fixed, 4, big)?).ok()?;
        Some(Lengths { header: (FIXED + fields).next_multiple_of(8), body })
    }
}

impl<'a> Head<'a> {
    /// What the header at the start of `bytes`, which is there as a whole, says. `None` for what is no message.
    pub fn of(bytes: &'a [u8]) -> Option<Head<'a>> {
        let big = is_big_endian(bytes)?;
        let kind = match bytes.get(1)? {
            1 => Kind::Call,
            2 | 3 => Kind::Reply,
            4 => Kind::Signal,
            _ => return None,
        };
        let end = FIXED + usize::try_from(word(bytes, 12, big)?).ok()?;
        let (mut sender, mut interface) = (None, None);
        let mut at = FIXED;
        while at < end {
            // A field is a structure of a code and a variant, whose signature has one letter.
            at = at.next_multiple_of(8);
            let (code, letter) = (*bytes.get(at)?, *bytes.get(at + 2)?);
            if *bytes.get(at + 1)? != 1 {
                return None;
            }
            at += 4;
            let (start, length) = match letter {
                b's' | b'o' => {
                    at = at.next_multiple_of(4);
                    (at + 4, usize::try_from(word(bytes, at, big)?).ok()?)
                }
                b'g' => (at + 1, usize::from(*bytes.get(at)?)),
                b'u' => (at.next_multiple_of(4), 3),
                _ => return None,
            };
            let value = bytes.get(start..start.checked_add(length)?)?;
            match code {
                2 => interface = Some(std::str::from_utf8(value).ok()?),
                7 => sender = Some(std::str::from_utf8(value).ok()?),
                _ => {}
            }
            at = start + length + 1;
        }
        let (serial, wants_reply) = (word(bytes, 8, big)?, bytes.get(2)? & NO_REPLY == 0);
        Some(Head { kind, serial, wants_reply, sender, interface })
    }
}

/// Makes a call one whose sender waits for a reply.
pub fn want_reply(call: &mut [u8]) {
    if let Some(flags) = call.get_mut(2) {
        *flags &= !NO_REPLY;
    }
}

fn is_big_endian(bytes: &[u8]) -> Option<bool> {
    match bytes.first()? {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize, big: bool) -> Option<u32> {
    let word = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(if big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zbus::Message;
    use zbus::message::Flags;
    use zbus::wire::Endian;

    fn call(endian: Endian, silent: bool, text: &str) -> Vec<u8> {
        let call = Message::method_call("/org/banish1", "GetJail").interface("org.banish1.Manager").endian(endian);
        let call = call.sender(":1.77").destination("org.banish1");
        let call = if silent { call.with_flags(Flags::NO_REPLY_EXPECTED) } else { call };
        call.build(&text).unwrap().data().to_vec()
    }

    #[test]
    fn a_header_says_who_sent_what() {
        for endian in [Endian::Little, Endian::Big] {
            let mut bytes = call(endian, true, "sshd");
            let lengths = Lengths::of(bytes[..FIXED].try_into().unwrap()).unwrap();
            assert_eq!(lengths.header + lengths.body, bytes.len());
            assert_eq!(lengths.body, 9);
            let head = Head::of(&bytes).unwrap();
            assert_eq!((head.kind, head.sender, head.wants_reply), (Kind::Call, Some(":1.77"), false));
            assert_eq!(head.interface, Some("org.banish1.Manager"));
            assert_ne!(head.serial, 0);
            want_reply(&mut bytes);
            assert!(Head::of(&bytes).unwrap().wants_reply);
        }
        let signal = Message::signal("/", "a.b", "C").build(&()).unwrap();
        assert_eq!(Head::of(signal.data()).map(|head| (head.kind, head.sender)), Some((Kind::Signal, None)));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(mut bytes in Just(call(Endian::Little, false, "x")), spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
            for (at, byte) in spoilt {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = Head::of(&bytes);
        }
    }
}
