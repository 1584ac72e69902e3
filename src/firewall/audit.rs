//! The kernel's bans against those wanted: what is missing, what ends at another time, what nobody knows.

use std::net::IpAddr;

use super::batch::Entry;
use super::elements::{Adopted, Timeout, subject_of};
use super::keeper::Edits;
use super::name::BanSet;
use super::survey::Found;
use crate::engine::ban::Place;
use crate::engine::time::Stamp;

/// What an audit found and mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The table was gone, or not ours any more, and was built anew.
    pub rebuilt: bool,
    /// Chains, rules, sets or allow lists were not as we left them, and were written anew.
    pub rules: bool,
    /// Bans that were missing and are there again.
    pub added: usize,
    /// Bans that would have ended a second or more too early or too late.
    pub changed: usize,
    /// Elements that nobody knew and that are gone.
    pub removed: usize,
    /// Elements that nobody knew and that are left: for the caller to adopt or to lift. Empty after a final audit.
    pub unknown: Vec<Adopted>,
}

impl Differences {
    /// Was everything as wanted?
    pub fn is_empty(&self) -> bool {
        *self == Differences::default()
    }
}

/// One set as it was seen.
pub(super) struct View<'a> {
    /// Which.
    pub set: &'a BanSet,
    /// Its elements.
    pub found: &'a [Found],
    /// When reading them began.
    pub from: Stamp,
    /// When it ended.
    pub to: Stamp,
    /// Is what is unknown to go?
    pub last: bool,
}

impl View<'_> {
    /// Compares it with what is wanted, counts into `differences` and says what mends it.
    pub fn compare(&self, mut wanted: Vec<Entry>, differences: &mut Differences) -> Edits {
        wanted.sort_unstable_by_key(|entry| entry.key);
        let mut there = vec![false; wanted.len()];
        let mut edits = Edits::default();
        for Found { key, left } in self.found {
            match wanted.binary_search_by_key(key, |entry| entry.key) {
                Ok(at) => {
                    there[at] = true;
                    if !left.fits(wanted[at].until, self.from, self.to) {
                        differences.changed += 1;
                        edits.put.push(wanted[at]);
                    }
                }
                Err(_) if self.last => {
                    differences.removed += 1;
                    edits.remove.push(gone(*key));
                }
                Err(_) => differences.unknown.extend(adopted(self.set, *key, *left, self.to)),
            }
        }
        let missing = wanted.iter().zip(there).filter(|(_, there)| !there).map(|(entry, _)| *entry);
        let before = edits.put.len();
        edits.put.extend(missing);
        differences.added += edits.put.len() - before;
        edits
    }
}

fn gone(key: IpAddr) -> Entry {
    Entry { key, until: Stamp::EPOCH, comment: "", number: 0 }
}

fn adopted(set: &BanSet, key: IpAddr, left: Timeout, now: Stamp) -> Option<Adopted> {
    let place = Place { jail: set.jail.clone(), subject: subject_of(set, key)? };
    Some(Adopted { place, until: left.end(now) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::subject::Family;

    fn entry(key: &str, millis: u64) -> Entry {
        Entry { key: key.parse().unwrap(), until: Stamp::from_usec(millis * 1000), comment: "", number: 0 }
    }

    fn found(key: &str, millis: u64) -> Found {
        Found { key: key.parse().unwrap(), left: Timeout::Millis(millis) }
    }

    #[test]
    fn each_difference_is_mended_and_nothing_else() {
        let set = BanSet { jail: "sshd".parse().unwrap(), family: Family::V4, length: 32 };
        let wanted = vec![entry("192.0.2.3", 9000), entry("192.0.2.1", 5000), entry("192.0.2.2", 5000)];
        let there = [found("192.0.2.9", 7000), found("192.0.2.2", 5999), found("192.0.2.3", 7999)];
        for last in [false, true] {
            let mut differences = Differences::default();
            let view = View { set: &set, found: &there, from: Stamp::EPOCH, to: Stamp::EPOCH, last };
            let edits = view.compare(wanted.clone(), &mut differences);
            let keys = |entries: &[Entry]| entries.iter().map(|entry| entry.key.to_string()).collect::<Vec<_>>();
            assert_eq!(keys(&edits.put), ["192.0.2.3", "192.0.2.1"]);
            assert_eq!(keys(&edits.remove), if last { vec!["192.0.2.9"] } else { vec![] });
            assert_eq!((differences.added, differences.changed, differences.removed), (1, 1, usize::from(last)));
            assert_eq!(differences.unknown.len(), usize::from(!last));
        }
    }
}
