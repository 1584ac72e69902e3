//! Addresses that no other host can have, and prefixes too wide to be meant: what is not banned by a slip.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::subject::{Family, Subject};

/// Ranges that are nobody's, and what they are (RFC 6890, RFC 5771, RFC 4291).
const RANGES: [(IpAddr, u8, &str); 7] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8, "hosts that have no address yet"),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8, "loopback"),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4, "multicast"),
    (IpAddr::V4(Ipv4Addr::BROADCAST), 32, "broadcast"),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128, "hosts that have no address yet"),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128, "loopback"),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8, "multicast"),
];

/// A prefix with fewer bits than this is a large part of the Internet.
fn narrow(family: Family) -> u8 {
    match family {
        Family::V4 => 8,
        Family::V6 => 16,
    }
}

/// What `subject` would cut off that is no attacker; `None` for what a host may have.
pub fn held_by(subject: &Subject) -> Option<&'static str> {
    let overlaps = |(network, length, _): &&(IpAddr, u8, &str)| {
        let shorter = subject.length().min(*length);
        Subject::around(subject.network(), shorter) == Subject::around(*network, shorter)
    };
    let range = RANGES.iter().find(overlaps).map(|(_, _, what)| *what);
    range.or_else(|| (subject.length() < narrow(subject.family())).then_some("a large part of the Internet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_host_has_is_told_from_what_hosts_have() {
        let held = |text: &str| held_by(&text.parse().unwrap());
        for (text, what) in [
            ("0.0.0.0", "hosts that have no address yet"),
            ("0.1.2.3", "hosts that have no address yet"),
            ("0.0.0.0/1", "hosts that have no address yet"),
            ("127.0.0.1", "loopback"),
            ("127.1.2.0/24", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("96.0.0.0/3", "loopback"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("128.0.0.0/1", "multicast"),
            ("64.0.0.0/2", "loopback"),
            ("32.0.0.0/3", "a large part of the Internet"),
            ("::", "hosts that have no address yet"),
            ("::1", "loopback"),
            ("::/64", "hosts that have no address yet"),
            ("ff02::1", "multicast"),
            ("8000::/1", "multicast"),
            ("2000::/3", "a large part of the Internet"),
        ] {
            assert_eq!(held(text), Some(what), "{text}");
        }
        for text in [
            "192.0.2.1",
            "203.0.113.0/24",
            "10.0.0.0/8",
            "1.0.0.0",
            "223.255.255.255",
            "255.255.255.254",
            "2001:db8::/32",
            "2001::/16",
            "::2",
            "fe80::1",
            "fd00::/16",
        ] {
            assert_eq!(held(text), None, "{text}");
        }
    }
}
