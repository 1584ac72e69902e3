//! What one commit writes: cursors, and the changes decided up to them in the order they were decided.

use std::net::IpAddr;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::engine::ban::{Ban, Cause, End, JailName, Place};
use crate::engine::entry::Cursor;
use crate::engine::jail::pause::Pause;
use crate::engine::time::Stamp;
use crate::engine::warden::Counts;

/// How far a source was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which journal: `local` for the machine's own.
    pub source: String,
    /// The last entry whose decisions are all written.
    pub cursor: Cursor,
    /// That entry's time, to go on from where the journal no longer has the entry.
    pub stamp: Stamp,
}

/// What has to be on disk before a commit returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: a power loss may take the latest commits, cursor and rows together, and the entries are read again.
    Entries,
    /// This commit and all before it: a command is in no journal and cannot be read again.
    Command,
}

/// One commit. It is applied as a whole or not at all, and applying it again changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// The sources that went on.
    pub checkpoints: Vec<Checkpoint>,
    /// What was decided, in that order: a ban's end stands behind its beginning.
    pub changes: Vec<Change>,
}

/// Which ban: its place and what decided it (the deciding entry, or else the cause and the time).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub(super) place: Place,
    pub(super) decided: String,
}

/// What the jails had counted when each source was read up to some entry: with the entries behind these, what a start
/// goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// What every jail had counted, and a hash of the configuration it counted by.
    pub counts: Vec<(Counts, u64)>,
    /// How far which sources were read.
    pub sessions: Vec<Sessions>,
    /// The sources whose earlier sessions hold with these counts too; those of all others go.
    pub kept: BTreeSet<String>,
    /// Attempts older than this matter to no jail any more and are forgotten.
    pub attempts_from: Stamp,
}

/// The sessions that were open in a source at an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// The source, as in a [`Checkpoint`].
    pub source: String,
    /// The last entry that was examined.
    pub cursor: Cursor,
    /// The sessions, as [`encode_sessions`](crate::engine::snapshot::encode_sessions) writes them.
    pub open: Vec<u8>,
}

/// A failure that a program reported. No journal holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Tells it from all others; ascends.
    pub number: u64,
    /// In which jail it counts.
    pub jail: JailName,
    /// Who failed.
    pub address: IpAddr,
    /// When.
    pub stamp: Stamp,
    /// Who said so.
    pub uid: u32,
}

/// The two moments of a ban that are told to the bus and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// It began.
    Begun,
    /// It ended.
    Ended,
}

/// One thing decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A ban is in force; one of the same place that was ends, as replaced (or as expired, if its time was over).
    Begun(Ban),
    /// A ban is in force no longer.
    Ended {
        /// Which.
        key: Key,
        /// Since when.
        when: Stamp,
        /// Why.
        how: End,
    },
    /// Bus and log were told; until this is written, a start tells them again.
    Announced(Key, Moment),
    /// Failures of this place at or before this time count no more. It never moves back.
    CountedFrom(Place, Stamp),
    /// A jail stops counting.
    Paused(Pause),
    /// A pause ends before its time: this is its new end.
    Resumed(Pause),
    /// A program reported a failure.
    Attempted(Attempt),
    /// What all jails had counted; takes the place of the earlier one.
    Snapshot(Snapshot),
}

impl Transaction {
    /// A transaction that only moves a cursor.
    pub fn at(checkpoint: Checkpoint) -> Transaction {
        Transaction { checkpoints: vec![checkpoint], changes: Vec::new() }
    }

    /// Adds a ban.
    pub fn begin(&mut self, ban: Ban) {
        self.changes.push(Change::Begun(ban));
    }

    /// Adds the end of a ban.
    pub fn end(&mut self, ban: &Ban, when: Stamp, how: End) {
        self.changes.push(Change::Ended { key: Key::of(ban), when, how });
    }

    /// Adds that bus and log were told of a ban's beginning or end.
    pub fn announced(&mut self, ban: &Ban, moment: Moment) {
        self.changes.push(Change::Announced(Key::of(ban), moment));
    }

    /// Adds that failures of `place` up to `stamp` count no more.
    pub fn count_from(&mut self, place: Place, stamp: Stamp) {
        self.changes.push(Change::CountedFrom(place, stamp));
    }

    /// Adds all of a later transaction, so that one that could not be written goes with the next.
    pub fn absorb(&mut self, mut later: Transaction) {
        for checkpoint in later.checkpoints {
            self.checkpoints.retain(|known| known.source != checkpoint.source);
            self.checkpoints.push(checkpoint);
        }
        if let Some(latest) = later.changes.iter_mut().find_map(Change::snapshot) {
            self.changes.retain(|known| match known {
                Change::Snapshot(earlier) => {
                    latest.take_the_place_of(earlier);
                    false
                }
                _ => true,
            });
        }
        self.changes.extend(later.changes);
    }

    /// Lets go of the bans that began and ended while nothing could be written, and of all but the last word about from
    /// when on a place is counted, and of reported attempts, which a restart would then not know; gives the number of those
    /// bans, whose history is lost. What is in force stays.
    pub fn shed(&mut self) -> usize {
        let begun: HashSet<Key> = self.changes.iter().filter_map(Change::begun).map(Key::of).collect();
        let ended = self.changes.iter().filter_map(|change| match change {
            Change::Ended { key, .. } => begun.get(key).cloned(),
            _ => None,
        });
        let over: HashSet<Key> = ended.collect();
        let mut settled: HashMap<Place, Stamp> = HashMap::new();
        for change in &self.changes {
            if let Change::CountedFrom(place, stamp) = change {
                let last = settled.entry(place.clone()).or_default();
                *last = (*last).max(*stamp);
            }
        }
        self.changes.retain(|change| match change {
            Change::Begun(ban) => !over.contains(&Key::of(ban)),
            Change::Ended { key, .. } | Change::Announced(key, _) => !over.contains(key),
            Change::Attempted(_) => false,
            Change::CountedFrom(place, stamp) => settled.get(place) == Some(stamp) && settled.remove(place).is_some(),
            _ => true,
        });
        over.len()
    }

    /// Is there nothing to write?
    pub fn is_empty(&self) -> bool {
        self.checkpoints.is_empty() && self.changes.is_empty()
    }
}

impl Snapshot {
    /// Writing this one alone is then writing it behind `earlier`.
    fn take_the_place_of(&mut self, earlier: &Snapshot) {
        for sessions in &earlier.sessions {
            let told = self.sessions.iter().any(|known| known.source == sessions.source);
            if self.kept.contains(&sessions.source) && !told {
                self.sessions.push(sessions.clone());
            }
        }
        self.kept.retain(|source| earlier.kept.contains(source));
    }
}

impl Change {
    fn snapshot(&mut self) -> Option<&mut Snapshot> {
        match self {
            Change::Snapshot(snapshot) => Some(snapshot),
            _ => None,
        }
    }

    /// The ban that begins.
    fn begun(&self) -> Option<&Ban> {
        match self {
            Change::Begun(ban) => Some(ban),
            _ => None,
        }
    }
}

impl Key {
    /// The key of `ban`: a decision made twice from the same entry has the same one.
    pub fn of(ban: &Ban) -> Key {
        let decided = match &ban.cause {
            Cause::Failures { decided, .. } => decided.to_string(),
            Cause::Configuration { .. } | Cause::Operator { .. } | Cause::Adopted => {
                format!("{}:{}", ban.cause.word(), ban.since.usec())
            }
        };
        Key { place: ban.place.clone(), decided }
    }

    /// Whose ban it is, in which jail.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(source: &str, number: u64) -> Checkpoint {
        let cursor = format!("s=1;i={number:x}").parse().unwrap();
        Checkpoint { source: source.into(), cursor, stamp: Stamp::from_usec(number) }
    }

    #[test]
    fn what_is_over_can_be_shed_and_what_is_in_force_stays() {
        let ban = |subject: &str| Ban {
            place: Place { jail: JailName::manual(), subject: subject.parse().unwrap() },
            since: Stamp::from_usec(1),
            until: Stamp::from_usec(9),
            failures: 0,
            cause: Cause::Adopted,
        };
        let (over, held, earlier) = (ban("192.0.2.1"), ban("192.0.2.2"), ban("192.0.2.3"));
        let mut transaction = Transaction::at(checkpoint("local", 1));
        for stamp in [1, 2] {
            transaction.count_from(held.place.clone(), Stamp::from_usec(stamp));
        }
        for ban in [&over, &held] {
            transaction.begin(ban.clone());
            transaction.announced(ban, Moment::Begun);
        }
        transaction.end(&over, Stamp::from_usec(9), End::Expired);
        // Of this one the ledger has the beginning.
        transaction.end(&earlier, Stamp::from_usec(9), End::Expired);
        let attempt = Attempt {
            number: 1,
            jail: JailName::manual(),
            address: [192, 0, 2, 4].into(),
            stamp: Stamp::from_usec(1),
            uid: 0,
        };
        transaction.changes.push(Change::Attempted(attempt));
        assert_eq!(transaction.shed(), 1);
        let mut expected = Transaction::at(checkpoint("local", 1));
        expected.count_from(held.place.clone(), Stamp::from_usec(2));
        expected.begin(held.clone());
        expected.announced(&held, Moment::Begun);
        expected.end(&earlier, Stamp::from_usec(9), End::Expired);
        assert_eq!(transaction, expected);
        assert_eq!(transaction.shed(), 0);
    }

    #[test]
    fn a_later_transaction_moves_the_same_sources_on_and_keeps_the_order_of_changes() {
        let ended = |usec| {
            Change::Resumed(Pause { jail: JailName::manual(), since: Stamp::EPOCH, until: Stamp::from_usec(usec) })
        };
        let snapshot = |number| {
            let cursor = checkpoint("local", number).cursor;
            let sessions = vec![Sessions { source: "local".into(), cursor, open: vec![] }];
            Change::Snapshot(Snapshot { sessions, ..Snapshot::default() })
        };
        let mut first = Transaction::at(checkpoint("local", 1));
        first.changes = vec![ended(1), snapshot(1)];
        let mut later = Transaction::at(checkpoint("local", 2));
        later.checkpoints.push(checkpoint("container", 7));
        later.changes = vec![snapshot(2), ended(2)];
        first.absorb(later);
        assert_eq!(first.checkpoints, [checkpoint("local", 2), checkpoint("container", 7)]);
        assert_eq!(first.changes, [ended(1), snapshot(2), ended(2)]);
    }

    #[test]
    fn of_two_snapshots_that_wait_the_later_brings_what_it_keeps_of_the_earlier() {
        let snapshot = |told: &[&str], kept: &[&str], number| {
            let told = told.iter().map(|source| Sessions {
                source: (*source).into(),
                cursor: checkpoint(source, number).cursor,
                open: vec![],
            });
            let kept = kept.iter().map(|source| (*source).to_owned()).collect();
            Snapshot { sessions: told.collect(), kept, ..Snapshot::default() }
        };
        let change = |snapshot| Transaction { changes: vec![Change::Snapshot(snapshot)], ..Transaction::default() };
        let mut waiting = change(snapshot(&["a", "b", "c"], &["d", "e"], 1));
        waiting.absorb(change(snapshot(&["a"], &["b", "d", "f"], 2)));
        // Of `f` the earlier one kept nothing.
        let mut expected = snapshot(&["a"], &["d"], 2);
        expected.sessions.extend(snapshot(&["b"], &[], 1).sessions);
        assert_eq!(waiting, change(expected));
    }
}
