//! The ledger in the plainest words: a list of bans and a few maps.

use std::collections::{BTreeMap, BTreeSet};

use banish::engine::ban::{Ban, End, JailName, Place};
use banish::engine::jail::pause::Pause;
use banish::engine::subject::Subject;
use banish::engine::time::Stamp;
use banish::engine::warden::Counts;
use banish::ledger::{
    Attempt, Change, Checkpoint, Key, Moment, Past, Restored, Salvaged, Sessions, Snapshot, Transaction,
};

#[derive(Default)]
pub struct Model {
    rows: Vec<Row>,
    checkpoints: BTreeMap<String, Checkpoint>,
    counted_from: BTreeMap<Place, Stamp>,
    totals: BTreeMap<JailName, u64>,
    pauses: BTreeMap<(JailName, Stamp), Stamp>,
    counts: BTreeMap<JailName, (Counts, u64)>,
    sessions: BTreeMap<String, Sessions>,
    attempts: BTreeMap<u64, Attempt>,
}

struct Row {
    key: Key,
    past: Past,
    untold: Vec<Moment>,
}

impl Model {
    /// Every ban there was.
    pub fn pasts(&self) -> impl Iterator<Item = Past> {
        self.rows.iter().map(|row| row.past.clone())
    }

    pub fn apply(&mut self, transaction: &Transaction) {
        for checkpoint in &transaction.checkpoints {
            self.checkpoints.insert(checkpoint.source.clone(), checkpoint.clone());
        }
        for change in &transaction.changes {
            match change {
                Change::Begun(ban) => self.begin(ban),
                Change::Ended { key, when, how } => {
                    if let Some(row) = self.row(key)
                        && row.past.ended.is_none()
                    {
                        row.end(*when, *how);
                    }
                }
                Change::Announced(key, moment) => {
                    if let Some(row) = self.row(key) {
                        row.untold.retain(|untold| untold != moment);
                    }
                }
                Change::CountedFrom(place, stamp) => {
                    let known = self.counted_from.entry(place.clone()).or_insert(*stamp);
                    *known = (*known).max(*stamp);
                }
                Change::Paused(pause) => {
                    self.pauses.entry((pause.jail.clone(), pause.since)).or_insert(pause.until);
                }
                Change::Resumed(pause) => {
                    if let Some(until) = self.pauses.get_mut(&(pause.jail.clone(), pause.since)) {
                        *until = (*until).min(pause.until);
                    }
                }
                Change::Attempted(attempt) => {
                    self.attempts.entry(attempt.number).or_insert_with(|| attempt.clone());
                }
                Change::Snapshot(Snapshot { counts, sessions, kept, attempts_from }) => {
                    self.attempts.retain(|_, attempt| attempt.stamp >= *attempts_from);
                    self.counts = counts.iter().map(|row| (row.0.jail.clone(), row.clone())).collect();
                    self.sessions.retain(|source, _| kept.contains(source));
                    self.sessions.extend(sessions.iter().map(|row| (row.source.clone(), row.clone())));
                }
            }
        }
    }

    fn begin(&mut self, ban: &Ban) {
        let key = Key::of(ban);
        if self.row(&key).is_some() {
            return;
        }
        if let Some(row) = self.rows.iter_mut().find(|row| row.past.ended.is_none() && row.past.ban.place == ban.place)
        {
            let old = &row.past.ban;
            let (expired, from, until) = (old.until <= ban.since, old.since, old.until);
            if expired { row.end(until, End::Expired) } else { row.end(from.max(ban.since), End::Replaced) }
        }
        self.rows.push(Row { key, past: Past { ban: ban.clone(), ended: None }, untold: vec![Moment::Begun] });
        *self.totals.entry(ban.place.jail.clone()).or_default() += 1;
    }

    fn row(&mut self, key: &Key) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.key == *key)
    }

    fn by_since(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| row.past.ban.since);
        rows
    }

    pub fn places(&self) -> Vec<Place> {
        self.rows.iter().map(|row| row.past.ban.place.clone()).collect()
    }

    pub fn history(&self, subject: Subject) -> Vec<Past> {
        let rows = self.by_since().into_iter().rev().map(|row| row.past.clone());
        rows.filter(|past| past.ban.place.subject == subject).collect()
    }

    pub fn beginnings(&self, from: Stamp) -> Vec<(Place, Stamp)> {
        let all = self.by_since().into_iter().map(|row| (row.past.ban.place.clone(), row.past.ban.since));
        all.filter(|(_, since)| *since >= from).collect()
    }

    pub fn restored(&self, now: Stamp) -> Restored {
        let open = self.by_since().into_iter().filter(|row| row.past.ended.is_none()).map(|row| row.past.ban.clone());
        let (bans, overdue) = open.partition(|ban| ban.until > now);
        let lifted = |row: &&Row| {
            row.past.ban.until > now && matches!(row.past.ended, Some((_, End::Operator { .. } | End::Configuration)))
        };
        Restored {
            checkpoints: self.checkpoints.values().cloned().collect(),
            bans,
            overdue,
            lifted: self.rows.iter().filter(lifted).map(|row| row.past.clone()).collect(),
            counted_from: self.counted_from.iter().map(|(place, stamp)| (place.clone(), *stamp)).collect(),
            totals: self.totals.iter().map(|(jail, total)| (jail.clone(), *total)).collect(),
            unannounced: self
                .rows
                .iter()
                .flat_map(|row| row.untold.iter().map(|moment| (*moment, row.past.clone())))
                .collect(),
            pauses: self
                .pauses
                .iter()
                .map(|((jail, since), until)| Pause { jail: jail.clone(), since: *since, until: *until })
                .collect(),
            snapshot: Snapshot {
                counts: self.counts.values().cloned().collect(),
                sessions: self.sessions.values().cloned().collect(),
                kept: BTreeSet::new(),
                attempts_from: Stamp::EPOCH,
            },
            attempts: self.attempts.values().cloned().collect(),
            unreadable: 0,
            kept_aside: None,
            salvaged: Salvaged::default(),
        }
    }
}

impl Row {
    fn end(&mut self, when: Stamp, how: End) {
        self.past.ended = Some((when, how));
        if how != End::Replaced {
            self.untold.push(Moment::Ended);
        }
    }
}

/// The same with those lists put in order that promise none.
pub fn sorted(mut restored: Restored) -> Restored {
    restored.checkpoints.sort_by_key(|checkpoint| checkpoint.source.clone());
    restored.overdue.sort_by_key(|ban| format!("{ban:?}"));
    restored.lifted.sort_by_key(|past| format!("{past:?}"));
    restored.counted_from.sort();
    restored.pauses.sort_by_key(|pause| (pause.jail.clone(), pause.since));
    restored.snapshot.counts.sort_by_key(|(counts, _)| counts.jail.clone());
    restored.snapshot.sessions.sort_by_key(|sessions| sessions.source.clone());
    restored
}
