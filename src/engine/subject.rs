//! Who is counted and banned: an address or a prefix, always in its one canonical form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address or a prefix. IPv4-mapped IPv6 is IPv4, and no bit is set behind the prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    network: IpAddr,
    length: u8,
}

/// Which of the two address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4: 32 bits.
    V4,
    /// IPv6: 128 bits.
    V6,
}

impl Family {
    /// The number of bits of an address: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// Why a text or a pair of address and length is no [`Subject`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Neither an address nor a prefix in the usual notation.
    #[error("{0:?} is no IP address and no prefix")]
    Unreadable(String),
    /// A length that the family does not have.
    #[error("a prefix of {family} has a length from 1 to {max}, not {length:?}", family = family_name(*.max))]
    Length {
        /// What stood there.
        length: String,
        /// What the family allows.
        max: u8,
    },
    /// Bits set behind the prefix: it is not clear what was meant.
    #[error("{given} has bits set behind its prefix; was {meant} meant?")]
    HostBits {
        /// What stood there.
        given: String,
        /// The prefix with these bits cleared.
        meant: Subject,
    },
}

fn family_name(max: u8) -> &'static str {
    if max == 32 { "IPv4" } else { "IPv6" }
}

impl Subject {
    /// One single address.
    pub fn host(address: IpAddr) -> Subject {
        let network = address.to_canonical();
        Subject { network, length: family_of(network).bits() }
    }

    /// The prefix of `length` bits around `address`, whose other bits are cleared.
    ///
    /// # Errors
    /// [`SubjectError::Length`] for a length of 0 or above the family's bits.
    pub fn around(address: IpAddr, length: u8) -> Result<Subject, SubjectError> {
        let address = address.to_canonical();
        let max = family_of(address).bits();
        if length == 0 || length > max {
            return Err(SubjectError::Length { length: length.to_string(), max });
        }
        Ok(Subject { network: masked(address, length), length })
    }

    /// Who a failure of `address` is put down to: an IPv4 address itself, an IPv6 address its prefix of `ipv6_prefix`
    /// bits. A link-local address is never widened: its neighbours are the router and everybody else on the wire. Nor is
    /// one behind which an IPv4 address stands (`64:ff9b::/96`, RFC 6052; `64:ff9b:1::/48`, RFC 8215): its prefix is
    /// all of IPv4.
    ///
    /// `ipv6_prefix` is clamped to 1…128.
    pub fn counted(address: IpAddr, ipv6_prefix: u8) -> Subject {
        match address.to_canonical() {
            IpAddr::V6(v6) if !v6.is_unicast_link_local() && !is_translated(v6) => {
                let length = ipv6_prefix.clamp(1, 128);
                Subject { network: masked(IpAddr::V6(v6), length), length }
            }
            other => Subject::host(other),
        }
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        family_of(self.network)
    }

    /// The first address of the prefix, or the address itself.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// The prefix length in bits; 32 or 128 for a single address.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Is it one single address?
    pub fn is_host(&self) -> bool {
        self.length == self.family().bits()
    }

    /// Does `address` (IPv4-mapped IPv6 being IPv4) lie in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        family_of(address) == self.family() && masked(address, self.length) == self.network
    }

    /// Does all of `other` lie in it?
    pub fn covers(&self, other: &Subject) -> bool {
        self.length <= other.length && self.contains(other.network)
    }
}

/// Is it an IPv4 address that a translator has clothed?
fn is_translated(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..])
}

fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    /// Reads `192.0.2.1`, `192.0.2.0/24`, `2001:db8::1`, `2001:db8::/32`. Zone ids, octal, hexadecimal and shortened
    /// IPv4 notations, a length of 0 and set bits behind the prefix are refused.
    fn from_str(text: &str) -> Result<Subject, SubjectError> {
        let unreadable = || SubjectError::Unreadable(text.chars().take(64).collect());
        let Some((address, length)) = text.split_once('/') else {
            return text.parse().map(Subject::host).map_err(|_| unreadable());
        };
        let given: IpAddr = address.parse().map_err(|_| unreadable())?;
        let max = family_of(given).bits();
        let refused = || SubjectError::Length { length: length.chars().take(8).collect(), max };
        let plain = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) && !length.starts_with('0');
        let mut bits: u8 = if plain { length.parse().map_err(|_| refused())? } else { return Err(refused()) };
        let address = given.to_canonical();
        if address.is_ipv4() && given.is_ipv6() {
            bits = bits.checked_sub(96).filter(|bits| *bits > 0).ok_or_else(refused)?;
        }
        let meant = Subject::around(address, bits).map_err(|_| refused())?;
        if meant.network != address {
            return Err(SubjectError::HostBits { given: text.chars().take(64).collect(), meant });
        }
        Ok(meant)
    }
}

impl fmt::Display for Subject {
    /// A single address as such, a prefix as `address/length`; [`FromStr`] reads either back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_host() { self.network.fmt(f) } else { write!(f, "{}/{}", self.network, self.length) }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subject(text: &str) -> Subject {
        text.parse().expect(text)
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_self() {
        assert_eq!(subject("::ffff:192.0.2.7"), subject("192.0.2.7"));
        assert_eq!(subject("::ffff:192.0.2.0/120"), subject("192.0.2.0/24"));
        assert!(subject("192.0.2.0/24").contains("::ffff:192.0.2.9".parse().unwrap()));
    }

    #[test]
    fn ipv6_is_counted_by_prefix_and_link_local_never_widened() {
        let counted = |text: &str| Subject::counted(text.parse().unwrap(), 64);
        assert_eq!(counted("2001:db8::10"), subject("2001:db8::/64"));
        assert_eq!(counted("fe80::1"), subject("fe80::1"));
        assert_eq!(counted("64:ff9b::192.0.2.7"), subject("64:ff9b::192.0.2.7"));
        assert_eq!(counted("64:ff9b:1::7"), subject("64:ff9b:1::7"));
        assert_eq!(counted("64:ff9b:2::7"), subject("64:ff9b:2::/64"));
        assert_eq!(counted("::ffff:192.0.2.7"), subject("192.0.2.7"));
    }

    #[test]
    fn odd_notations_are_refused() {
        for text in [
            "",
            "0x7f.1",
            "127.1",
            "010.0.0.1",
            "fe80::1%eth0",
            " 192.0.2.1",
            "192.0.2.1 ",
            "192.0.2.1/",
            "192.0.2.1/33",
            "192.0.2.0/024",
            "0.0.0.0/0",
            "::/0",
            "192.0.2.1/24",
            "192.0.2.0/+24",
            "::ffff:0.0.0.0/96",
            "example.org",
            "1.2.3.4/2/4",
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
        let error = "192.0.2.1/24".parse::<Subject>().unwrap_err();
        assert_eq!(error.to_string(), "192.0.2.1/24 has bits set behind its prefix; was 192.0.2.0/24 meant?");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bits in any::<u128>(), length in 1u8..=128, v4 in any::<bool>()) {
            let address = if v4 { IpAddr::V4(Ipv4Addr::from_bits(bits as u32)) } else { IpAddr::V6(Ipv6Addr::from_bits(bits)) };
            if let Ok(subject) = Subject::around(address, length) {
                prop_assert_eq!(subject.to_string().parse::<Subject>(), Ok(subject));
                prop_assert!(subject.contains(address));
                prop_assert!(subject.covers(&Subject::host(address)));
            }
        }
    }
}
