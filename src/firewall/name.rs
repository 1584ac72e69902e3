//! Names of sets: from jail, family and prefix length to `sshd6_64` and back, so that a set found in the kernel says
//! whose bans it holds.
//!
//! `nft` must be able to load what it lists: its identifiers begin with a letter, `_` or `.` and go on with letters,
//! digits, `/ - _ .`. A jail's name fits except for a leading digit, which gets a `_` in front; no jail's name begins
//! with one. Read from its end a name is unambiguous: length, `_`, family, and all the rest is the jail.

use crate::engine::ban::JailName;
use crate::engine::subject::Family;

/// Which of a jail's sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BanSet {
    /// Whose bans.
    pub jail: JailName,
    /// The family of its addresses.
    pub family: Family,
    /// The prefix length of every element, 1 to the family's bits.
    pub length: u8,
}

impl BanSet {
    /// The name in the kernel: `sshd4_32`, `_0day6_64`.
    pub fn name(&self) -> String {
        format!("{}{}_{}", identifier(&self.jail), digit(self.family), self.length)
    }

    /// Reads [`BanSet::name`]; `None` for any other text.
    pub fn parse(name: &str) -> Option<BanSet> {
        let (rest, length) = name.rsplit_once('_')?;
        if length.starts_with('0') || !length.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let length: u8 = length.parse().ok()?;
        let (jail, family) = match rest.as_bytes().last()? {
            b'4' => (&rest[..rest.len() - 1], Family::V4),
            b'6' => (&rest[..rest.len() - 1], Family::V6),
            _ => return None,
        };
        let jail = match jail.strip_prefix('_') {
            Some(digits) if digits.starts_with(|c: char| c.is_ascii_digit()) => digits,
            Some(_) => return None,
            None if jail.starts_with(|c: char| c.is_ascii_digit()) => return None,
            None => jail,
        };
        let set = BanSet { jail: jail.parse().ok()?, family, length };
        (1..=family.bits()).contains(&length).then_some(set)
    }
}

/// The name of the set of those whom only this jail lets through: `sshd4_allow`.
pub(super) fn jail_allow(jail: &JailName, family: Family) -> String {
    format!("{}{}_allow", identifier(jail), digit(family))
}

/// The name of the chain of a jail that has such a set: `jail_sshd`.
pub(super) fn jail_chain(jail: &JailName) -> String {
    format!("jail_{jail}")
}

/// The name of the set of those whom everybody lets through: `allow4`.
pub(super) fn allow(family: Family) -> String {
    format!("allow{}", digit(family))
}

/// The name of the set of this machine's own connections to banned hosts: `ours4`.
pub(super) fn ours(family: Family) -> String {
    format!("ours{}", digit(family))
}

fn identifier(jail: &JailName) -> String {
    let leading_digit = jail.as_str().starts_with(|c: char| c.is_ascii_digit());
    format!("{}{jail}", if leading_digit { "_" } else { "" })
}

fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(jail: &str, family: Family, length: u8) -> BanSet {
        BanSet { jail: jail.parse().unwrap(), family, length }
    }

    #[test]
    fn names_are_the_jails_own_where_nft_can_read_them() {
        assert_eq!(set("sshd", Family::V4, 32).name(), "sshd4_32");
        assert_eq!(set("nginx-http.auth", Family::V6, 64).name(), "nginx-http.auth6_64");
        assert_eq!(set("a4_32", Family::V4, 24).name(), "a4_324_24");
        assert_eq!(set("0day", Family::V6, 48).name(), "_0day6_48");
    }

    #[test]
    fn other_names_are_no_sets_of_bans() {
        for name in [
            "",
            "_",
            "4_32",
            "allow4",
            "sshd4_allow",
            "tcp_ports",
            "ports_1",
            "sshd4_0",
            "sshd4_33",
            "sshd6_129",
            "sshd4_032",
            "sshd4_+1",
            "sshd5_32",
            "_sshd4_32",
            "0day4_32",
            "-a4_32",
            "ä4_32",
            "ä4_",
            "sshd4_999999",
        ] {
            assert_eq!(BanSet::parse(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_reads_back(jail in "[a-zA-Z0-9][-a-zA-Z0-9_.]{0,63}", v4: bool, length in 1u8..=128) {
            let family = if v4 { Family::V4 } else { Family::V6 };
            let set = set(&jail, family, length.min(family.bits()));
            prop_assert_eq!(BanSet::parse(&set.name()), Some(set));
        }

        #[test]
        fn any_text_is_read_without_panic(name in any::<String>()) {
            if let Some(set) = BanSet::parse(&name) {
                prop_assert_eq!(set.name(), name);
            }
        }
    }
}
