//! Which packets of a banned subject are meant: ports and protocols.

use std::fmt;
use std::ops::RangeInclusive;

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, number 6.
    Tcp,
    /// UDP, number 17.
    Udp,
}

impl Protocol {
    /// Its number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// What a jail's bans cut off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every packet.
    AllPorts,
    /// Packets to these ports over these protocols.
    Ports(Ports),
}

/// Port ranges in ascending order, neither touching nor overlapping, and protocols in ascending order; neither is empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    ranges: Vec<(u16, u16)>,
    protocols: Vec<Protocol>,
}

impl Ports {
    /// Sorts and merges; `None` where one of the two is empty or a range runs backwards.
    pub fn new(
        ranges: impl IntoIterator<Item = RangeInclusive<u16>>,
        protocols: impl IntoIterator<Item = Protocol>,
    ) -> Option<Ports> {
        let mut given: Vec<(u16, u16)> = ranges.into_iter().map(RangeInclusive::into_inner).collect();
        let mut protocols: Vec<Protocol> = protocols.into_iter().collect();
        protocols.sort();
        protocols.dedup();
        if given.is_empty() || protocols.is_empty() || given.iter().any(|(first, last)| first > last) {
            return None;
        }
        given.sort();
        let mut ranges: Vec<(u16, u16)> = Vec::with_capacity(given.len());
        for (first, last) in given {
            match ranges.last_mut() {
                Some((_, end)) if u32::from(first) <= u32::from(*end) + 1 => *end = last.max(*end),
                _ => ranges.push((first, last)),
            }
        }
        Some(Ports { ranges, protocols })
    }

    /// First and last port of each range.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }

    /// The protocols.
    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_and_merged() {
        let ports = Ports::new([2222..=2230, 22..=22, 23..=23, 2225..=2300], [Protocol::Tcp, Protocol::Tcp]).unwrap();
        assert_eq!(ports.ranges(), [(22, 23), (2222, 2300)]);
        assert_eq!(ports.protocols(), [Protocol::Tcp]);
        assert_eq!(Ports::new([65535..=65535, 1..=65535], [Protocol::Udp]).unwrap().ranges(), [(1, 65535)]);
        assert_eq!(Ports::new([], [Protocol::Tcp]), None);
        #[expect(clippy::reversed_empty_ranges, reason = "what is refused")]
        let backwards = Ports::new([5..=4], [Protocol::Tcp]);
        assert_eq!(backwards, None);
    }
}
