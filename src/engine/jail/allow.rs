//! Who is never counted and never banned: single addresses and prefixes.

use std::net::IpAddr;

use crate::engine::subject::Subject;

/// A set of subjects that are left alone. Sorted, without doubles and without what another one covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    subjects: Vec<Subject>,
}

impl FromIterator<Subject> for AllowList {
    fn from_iter<I: IntoIterator<Item = Subject>>(subjects: I) -> AllowList {
        let mut all: Vec<Subject> = subjects.into_iter().collect();
        // A prefix sorts before what it covers: same network first, then shorter first.
        all.sort();
        let mut kept: Vec<Subject> = Vec::with_capacity(all.len());
        for subject in all {
            if !kept.last().is_some_and(|last| last.covers(&subject)) {
                kept.push(subject);
            }
        }
        AllowList { subjects: kept }
    }
}

impl AllowList {
    /// Is `address` in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        let host = Subject::host(address);
        let after = self.subjects.partition_point(|subject| *subject <= host);
        self.subjects[..after].last().is_some_and(|subject| subject.contains(address))
    }

    /// Does an entry of the list cover all of `subject`?
    pub fn covers(&self, subject: &Subject) -> bool {
        let after = self.subjects.partition_point(|known| known <= subject);
        self.subjects[..after].last().is_some_and(|known| known.covers(subject))
    }

    /// The subjects, in order.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn any_subject() -> impl Strategy<Value = Subject> {
        // Few bits, so that prefixes meet.
        (0u32..64, 26u8..=32, any::<bool>()).prop_map(|(bits, length, v4)| {
            let (address, length): (IpAddr, u8) = if v4 {
                (Ipv4Addr::from_bits(bits).into(), length)
            } else {
                (Ipv6Addr::from_bits(u128::from(bits) | 1 << 100).into(), length + 96)
            };
            Subject::around(address, length).unwrap()
        })
    }

    proptest! {
        #[test]
        fn it_contains_what_any_of_its_subjects_contains(subjects in prop::collection::vec(any_subject(), 0..12), asked in any_subject()) {
            let list: AllowList = subjects.iter().copied().collect();
            let address = asked.network();
            prop_assert_eq!(list.contains(address), subjects.iter().any(|s| s.contains(address)));
            prop_assert_eq!(list.covers(&asked), subjects.iter().any(|s| s.covers(&asked)));
        }
    }
}
