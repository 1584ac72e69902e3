//! Bans as elements of the kernel's sets: written with timeout and comment, read back with what is left of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use rustables::sys;

use super::name::BanSet;
use super::sockets::Connection;
use super::wire::{Attributes, Writer, u32_be, u64_be};
use crate::engine::ban::{Ban, Place};
use crate::engine::subject::{Family, Subject};
use crate::engine::time::{Length, Stamp};

/// The longest timeout the kernel is given: 100 years. It would take 584, in ns as a `u64`, but a ban that outlives this
/// machine is as good as any other; an audit sees no difference between such a ban and what the kernel has left of it.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A ban as the kernel is to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Whose, and in which jail's set.
    pub place: Place,
    /// When the kernel forgets it; [`Stamp::NEVER`] for an element without timeout.
    pub until: Stamp,
    /// The element's comment, for people who list the set; at most 127 bytes of it are written.
    pub comment: &'static str,
}

impl From<&Ban> for Element {
    fn from(ban: &Ban) -> Element {
        Element { place: ban.place.clone(), until: ban.until, comment: ban.cause.word() }
    }
}

/// One change of the kernel's sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bans, or gives a ban that is there another end. One that has ended already is removed.
    Add(Element),
    /// Lifts a ban; that there is none is fine.
    Remove(Place),
}

impl Change {
    /// Whom it is about.
    pub fn place(&self) -> &Place {
        match self {
            Change::Add(element) => &element.place,
            Change::Remove(place) => place,
        }
    }
}

/// A ban that was in the kernel and that the caller did not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The jail from its set's name, the subject from its key and the set's prefix length.
    pub place: Place,
    /// The end from what was left of its timeout.
    pub until: Stamp,
}

/// The time as the caller knew it, going on by itself since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    stamp: Stamp,
    taken: Instant,
}

impl Now {
    /// It is `stamp` now.
    #[expect(clippy::disallowed_methods, reason = "an element's timeout counts from when it is sent")]
    pub fn new(stamp: Stamp) -> Now {
        Now { stamp, taken: Instant::now() }
    }

    /// The time by now.
    pub fn stamp(&self) -> Stamp {
        self.stamp.after(Length::For(self.taken.elapsed().min(Duration::from_secs(3600))))
    }
}

/// What the kernel is told of an element's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timeout {
    /// It stays until it is removed.
    Never,
    /// It goes after so many ms, at least 1.
    Millis(u64),
}

impl Timeout {
    /// What is left at `now` of a ban until `until`; `None` if that is nothing.
    pub fn left(until: Stamp, now: Stamp) -> Option<Timeout> {
        if until == Stamp::NEVER {
            return Some(Timeout::Never);
        }
        let left = until.since(now).min(LONGEST);
        // Rounded up: less than a millisecond left is still a ban, and 0 would mean "never" to the kernel.
        let millis = u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        (millis > 0).then_some(Timeout::Millis(millis))
    }

    /// Is it, within a second, what was left of a ban until `until` at some time from `from` to `to`?
    pub fn fits(self, until: Stamp, from: Stamp, to: Stamp) -> bool {
        let millis = |now| match Timeout::left(until, now) {
            Some(Timeout::Millis(millis)) => Some(millis),
            Some(Timeout::Never) => None,
            None => Some(0),
        };
        match (self, millis(from), millis(to)) {
            (Timeout::Never, None, None) => true,
            (Timeout::Millis(left), Some(most), Some(least)) => left < most + 1000 && left + 1000 > least,
            _ => false,
        }
    }

    /// The end that this means at `now`.
    pub fn end(self, now: Stamp) -> Stamp {
        match self {
            Timeout::Never => Stamp::NEVER,
            Timeout::Millis(millis) => Stamp::from_usec(now.usec().saturating_add(millis.saturating_mul(1000))),
        }
    }
}

/// A key with the flags that interval sets need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// In network order: 2 bytes for a port, 4 or 16 for an address.
    pub bytes: Vec<u8>,
    /// Is it the first key behind an interval?
    pub ends: bool,
}

/// The keys of closed ranges in an interval set of `width` bytes: ascending, neither touching nor overlapping.
pub(super) fn interval_keys(ranges: &[(u128, u128)], width: usize) -> Vec<Key> {
    let key = |value: u128, ends| Key { bytes: value.to_be_bytes()[16 - width..].to_vec(), ends };
    let top = u128::MAX >> (128 - 8 * width);
    let mut keys = Vec::with_capacity(2 * ranges.len());
    for (first, last) in ranges {
        keys.push(key(*first, false));
        // An interval up to the top has no key behind it, and none is wanted.
        if *last < top {
            keys.push(key(last + 1, true));
        }
    }
    keys
}

/// Writes an element of a set of bans.
pub(super) fn write_ban(writer: &mut Writer, key: IpAddr, timeout: Timeout, comment: &str) {
    let nest = writer.open(sys::NFTA_LIST_ELEM);
    match key {
        IpAddr::V4(address) => write_key(writer, &address.octets()),
        IpAddr::V6(address) => write_key(writer, &address.octets()),
    }
    if let Timeout::Millis(millis) = timeout {
        writer.attribute(sys::NFTA_SET_ELEM_TIMEOUT, &millis.to_be_bytes());
    }
    if !comment.is_empty() {
        writer.attribute(sys::NFTA_SET_ELEM_USERDATA, &comment_data(comment));
    }
    writer.close(nest);
}

/// The key of an own connection: the other host, the protocol, its port, our port, each from a multiple of 4 bytes on.
pub(super) type ConnectionKey = Vec<u8>;

/// That key.
pub(super) fn connection_key(connection: &Connection) -> ConnectionKey {
    let mut key = match connection.host {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    key.extend([connection.protocol.number(), 0, 0, 0]);
    for port in [connection.their_port, connection.our_port] {
        key.extend(port.to_be_bytes());
        key.extend([0, 0]);
    }
    key
}

/// Writes an own connection.
pub(super) fn write_connection(writer: &mut Writer, key: &ConnectionKey, timeout: Timeout) {
    let nest = writer.open(sys::NFTA_LIST_ELEM);
    write_key(writer, key);
    if let Timeout::Millis(millis) = timeout {
        writer.attribute(sys::NFTA_SET_ELEM_TIMEOUT, &millis.to_be_bytes());
    }
    writer.close(nest);
}

/// Writes an element of an interval set, or of a map to chains.
pub(super) fn write_interval_key(writer: &mut Writer, key: &Key, to: Option<&str>) {
    let nest = writer.open(sys::NFTA_LIST_ELEM);
    if key.ends {
        writer.attribute(sys::NFTA_SET_ELEM_FLAGS, &sys::NFT_SET_ELEM_INTERVAL_END.to_be_bytes());
    }
    write_key(writer, &key.bytes);
    if let Some(chain) = to {
        let data = writer.open(sys::NFTA_SET_ELEM_DATA);
        let verdict = writer.open(sys::NFTA_DATA_VERDICT);
        writer.attribute(sys::NFTA_VERDICT_CODE, &sys::NFT_GOTO.to_be_bytes());
        writer.text(sys::NFTA_VERDICT_CHAIN, chain);
        writer.close(verdict);
        writer.close(data);
    }
    writer.close(nest);
}

fn write_key(writer: &mut Writer, key: &[u8]) {
    let nest = writer.open(sys::NFTA_SET_ELEM_KEY);
    writer.attribute(sys::NFTA_DATA_VALUE, key);
    writer.close(nest);
}

/// A comment as `nft` keeps it in user data: type 0, length with the zero, text, zero. Used for rules and elements.
pub(super) fn comment_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(127)];
    let mut data = vec![0, text.len() as u8 + 1];
    data.extend(text);
    data.push(0);
    data
}

/// An element as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// What is left of its time.
    pub left: Timeout,
    /// Is it the end of an interval?
    pub ends: bool,
    /// Where a map leads from it, as the kernel writes that.
    pub to: &'a [u8],
}

impl<'a> Shown<'a> {
    /// Reads one element of a dump; `None` where it has no key.
    pub fn parse(element: &'a [u8]) -> Option<Shown<'a>> {
        let mut shown = Shown { key: &[], left: Timeout::Never, ends: false, to: &[] };
        for (kind, value) in Attributes(element) {
            match kind {
                sys::NFTA_SET_ELEM_KEY => shown.key = Attributes(value).find_kind(sys::NFTA_DATA_VALUE)?,
                sys::NFTA_SET_ELEM_EXPIRATION => shown.left = Timeout::Millis(u64_be(value)?),
                sys::NFTA_SET_ELEM_DATA => shown.to = value,
                sys::NFTA_SET_ELEM_FLAGS => shown.ends = u32_be(value)? & sys::NFT_SET_ELEM_INTERVAL_END != 0,
                _ => {}
            }
        }
        (!shown.key.is_empty()).then_some(shown)
    }

    /// The address of its key, whatever it is.
    pub fn address(&self) -> Option<IpAddr> {
        if let Ok(octets) = <[u8; 4]>::try_from(self.key) {
            return Some(Ipv4Addr::from(octets).into());
        }
        <[u8; 16]>::try_from(self.key).ok().map(|octets| Ipv6Addr::from(octets).into())
    }
}

/// The subject that this key bans in `set`; `None` for a key that no lookup in this set ever asks for: one with bits
/// behind the prefix, or an IPv4 address in IPv6's clothes.
pub(super) fn subject_of(set: &BanSet, key: IpAddr) -> Option<Subject> {
    let subject = Subject::around(key, set.length).ok()?;
    (subject.network() == key && subject.family() == set.family).then_some(subject)
}

/// A subject's first and last address as numbers.
pub(super) fn range(subject: &Subject) -> (u128, u128) {
    let (first, bits) = match subject.network() {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let free = bits - u32::from(subject.length());
    (first, first | 1u128.checked_shl(free).map_or(u128::MAX, |size| size - 1))
}

/// The bytes of a key of this family.
pub(super) fn key_width(family: Family) -> usize {
    usize::from(family.bits()) / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Stamp = Stamp::from_usec(1_000_000_000_000_000);

    fn at(usec: u64) -> Stamp {
        Stamp::from_usec(NOW.usec() + usec)
    }

    #[test]
    fn a_timeout_is_never_zero_and_never_too_long() {
        assert_eq!(Timeout::left(at(1), NOW), Some(Timeout::Millis(1)));
        assert_eq!(Timeout::left(at(1_000_001), NOW), Some(Timeout::Millis(1001)));
        assert_eq!(Timeout::left(NOW, NOW), None);
        assert_eq!(Timeout::left(Stamp::EPOCH, NOW), None);
        assert_eq!(Timeout::left(Stamp::NEVER, NOW), Some(Timeout::Never));
        let longest = Timeout::Millis(LONGEST.as_millis() as u64);
        assert_eq!(Timeout::left(Stamp::from_usec(u64::MAX - 1), NOW), Some(longest));
        let fits = |left: Timeout, until| left.fits(until, NOW, at(2_000_000));
        assert!(fits(longest, Stamp::from_usec(u64::MAX - 1)) && fits(Timeout::Never, Stamp::NEVER));
        assert!(!fits(longest, Stamp::NEVER) && !fits(Timeout::Never, at(5_000_000)));
        for (millis, fit) in [(2000, false), (2001, true), (3000, true), (5000, true), (5999, true), (6000, false)] {
            assert_eq!(fits(Timeout::Millis(millis), at(5_000_000)), fit, "{millis}");
        }
    }

    #[test]
    fn intervals_end_behind_their_last_key_and_nowhere_at_the_top() {
        let keys = interval_keys(&[(22, 22), (2222, 2230), (65000, 65535)], 2);
        let shown: Vec<_> =
            keys.iter().map(|key| (u16::from_be_bytes([key.bytes[0], key.bytes[1]]), key.ends)).collect();
        assert_eq!(shown, [(22, false), (23, true), (2222, false), (2231, true), (65000, false)]);
        assert_eq!(interval_keys(&[(0, u128::MAX)], 16).len(), 1);
    }

    #[test]
    fn a_subjects_range_is_its_first_and_last_address() {
        assert_eq!(range(&"192.0.2.0/24".parse().unwrap()), (0xC000_0200, 0xC000_02FF));
        assert_eq!(range(&"192.0.2.7".parse().unwrap()), (0xC000_0207, 0xC000_0207));
        assert_eq!(range(&"8000::/1".parse().unwrap()), (1 << 127, u128::MAX));
    }

    #[test]
    fn keys_that_no_lookup_asks_for_are_no_subjects() {
        let set = |family, length| BanSet { jail: "j".parse().unwrap(), family, length };
        let key = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(subject_of(&set(Family::V4, 24), key("192.0.2.0")), Some("192.0.2.0/24".parse().unwrap()));
        assert_eq!(subject_of(&set(Family::V4, 24), key("192.0.2.1")), None);
        assert_eq!(subject_of(&set(Family::V6, 128), key("::ffff:192.0.2.1")), None);
        assert_eq!(subject_of(&set(Family::V6, 32), key("192.0.2.1")), None);
    }

    proptest! {
        #[test]
        fn a_written_ban_reads_back(bits: u32, millis in 1u64.., comment in "[ -~]{0,200}") {
            let mut writer = Writer::default();
            write_ban(&mut writer, Ipv4Addr::from_bits(bits).into(), Timeout::Millis(millis), &comment);
            let (kind, element) = Attributes(&writer.bytes).next().unwrap();
            prop_assert_eq!(kind, sys::NFTA_LIST_ELEM);
            let shown = Shown::parse(element).unwrap();
            prop_assert_eq!(shown.address(), Some(Ipv4Addr::from_bits(bits).into()));
        }

        #[test]
        fn garbled_elements_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..128), length in 1u8..=32) {
            let set = BanSet { jail: "j".parse().unwrap(), family: Family::V4, length };
            if let Some(address) = Shown::parse(&bytes).and_then(|shown| shown.address()) {
                let _ = subject_of(&set, address);
            }
        }

        #[test]
        fn a_real_element_with_one_byte_changed_is_read_without_panic(at in 0usize..64, value: u8) {
            let mut writer = Writer::default();
            write_ban(&mut writer, "2001:db8::".parse().unwrap(), Timeout::Millis(5), "failures");
            let length = writer.bytes.len();
            writer.bytes[at % length] = value;
            for (_, element) in Attributes(&writer.bytes) {
                let _ = Shown::parse(element);
            }
        }
    }
}
