//! Ports as people write them: numbers, ranges and service names, looked up in a text and never over a network.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Why a text names no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// A number beyond 16 bits, or 0.
    #[error("a port is a number from 1 to 65535")]
    Number,
    /// A range whose end lies before its start.
    #[error("the range runs backwards")]
    Backwards,
    /// A name that nobody knows.
    #[error("no service of this name is in /etc/services or built in")]
    Unknown,
}

/// Service names and their ports.
#[derive(Clone, Debug, Default)]
pub struct Services {
    named: BTreeMap<String, u16>,
}

/// What is known where /etc/services is missing or has it not; numbers of IANA's service name registry.
const BUILT_IN: [(&str, u16); 34] = [
    ("domain", 53),
    ("ftp", 21),
    ("ftp-data", 20),
    ("ftps", 990),
    ("ftps-data", 989),
    ("http", 80),
    ("http-alt", 8080),
    ("https", 443),
    ("imap", 143),
    ("imap2", 143),
    ("imap3", 220),
    ("imaps", 993),
    ("ircd", 6667),
    ("ldap", 389),
    ("ldaps", 636),
    ("ms-wbt-server", 3389),
    ("mysql", 3306),
    ("openvpn", 1194),
    ("pop3", 110),
    ("pop3s", 995),
    ("postgresql", 5432),
    ("rfb", 5900),
    ("rsync", 873),
    ("sieve", 4190),
    ("sip", 5060),
    ("sips", 5061),
    ("smtp", 25),
    ("smtps", 465),
    ("socks", 1080),
    ("ssh", 22),
    ("submission", 587),
    ("submissions", 465),
    ("telnet", 23),
    ("xmpp-client", 5222),
];

impl Services {
    /// From a text in the format of services(5), whose first entry of a name counts. What it lacks is built in.
    pub fn read(text: &str) -> Services {
        let mut named = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let (Some(name), Some(port)) = (words.next(), words.next()) else { continue };
            let Some(port) = port.split_once('/').and_then(|(port, _)| port.parse().ok()).filter(|port| *port > 0)
            else {
                continue;
            };
            for name in std::iter::once(name).chain(words) {
                named.entry(name.to_owned()).or_insert(port);
            }
        }
        for (name, port) in BUILT_IN {
            named.entry(name.to_owned()).or_insert(port);
        }
        Services { named }
    }

    /// Reads `22`, `ssh`, `8000-8100` or `8000:8100`.
    ///
    /// # Errors
    /// [`PortError`], for what is none of these.
    pub fn range(&self, text: &str) -> Result<RangeInclusive<u16>, PortError> {
        let text = text.trim();
        if let Some(port) = self.named.get(text) {
            return Ok(*port..=*port);
        }
        let Some((first, last)) = text.split_once(['-', ':']).filter(|(first, _)| starts_as_number(first)) else {
            return if starts_as_number(text) { number(text).map(|port| port..=port) } else { Err(PortError::Unknown) };
        };
        let (first, last) = (number(first)?, number(last)?);
        if first <= last { Ok(first..=last) } else { Err(PortError::Backwards) }
    }
}

fn starts_as_number(text: &str) -> bool {
    text.trim().starts_with(|c: char| c.is_ascii_digit())
}

fn number(text: &str) -> Result<u16, PortError> {
    let text = text.trim();
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port > 0).ok_or(PortError::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_are_numbers_ranges_and_names() {
        let services = Services::read("# a comment\nssh 2222/tcp secure-shell # ours\nssh 22/udp\nodd\nzero 0/tcp\n");
        for (text, range) in [
            ("22", 22..=22),
            ("8000-8100", 8000..=8100),
            ("8000:8100", 8000..=8100),
            (" 80 - 81 ", 80..=81),
            ("ssh", 2222..=2222),
            ("secure-shell", 2222..=2222),
            ("https", 443..=443),
            ("ftp-data", 20..=20),
        ] {
            assert_eq!(services.range(text), Ok(range), "{text}");
        }
        for (text, error) in [
            ("0", PortError::Number),
            ("65536", PortError::Number),
            ("0-5", PortError::Number),
            ("5-", PortError::Number),
            ("22x", PortError::Number),
            ("9-5", PortError::Backwards),
            ("", PortError::Unknown),
            ("zero", PortError::Unknown),
            ("sssh", PortError::Unknown),
            ("-5", PortError::Unknown),
        ] {
            assert_eq!(services.range(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(services in "\\PC{0,60}", text in "\\PC{0,20}") {
            let _ = Services::read(&services).range(&text);
        }
    }
}
