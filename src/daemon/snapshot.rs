//! What the jails have counted and which sessions are open, kept now and then and at the end, so that a start goes on
//! with it and reads only what came after.
//!
//! Each reading tells its sessions at an entry of its own; the counts are taken when the last has told, and may be
//! ahead of the others. That does no harm: an entry that is counted again is not counted twice.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::{Daemon, clock, plan};
use crate::config::Settings;
use crate::engine::ban::JailName;
use crate::engine::entry::{Cursor, EntryRef};
use crate::engine::filter::OpenSessions;
use crate::engine::jail::Sighting;
use crate::engine::snapshot::{WindowsReader, encode_sessions};
use crate::engine::time::Stamp;
use crate::engine::warden::{Counts, Warden};
use crate::ledger::{Change, Durability, Restored, Sessions, Snapshot, Transaction};

/// One is taken this often at the most.
const INTERVAL: Duration = Duration::from_secs(300);
/// So long the readings may take to tell their sessions when the daemon stops.
const PATIENCE: Duration = Duration::from_secs(3);

/// When the next one is due, and the one that is being taken.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Something was read since the last one.
    stale: bool,
    /// It is not to wait for its time.
    hastened: bool,
    taken: Option<Instant>,
    /// The readings that have not told their sessions yet; `None` where no snapshot is being taken.
    awaited: Option<BTreeSet<String>>,
    sessions: Vec<Sessions>,
}

impl Snapshots {
    /// Notes that something was read.
    pub(super) fn age(&mut self) {
        self.stale = true;
    }

    /// Has the next one come soon: a journal is read on of which none has told yet, and what was counted of it until now
    /// is nowhere else.
    pub(super) fn hasten(&mut self) {
        self.hastened = true;
    }

    /// Gives up the one that is being taken: what it was to hold is not what is counted any more.
    pub(super) fn abandon(&mut self) {
        self.awaited = None;
    }

    /// When one is due; `None` where nothing has changed since the last.
    pub(super) fn due(&self) -> Option<Instant> {
        self.taken.filter(|_| self.stale).map(|last| if self.hastened { last } else { last + INTERVAL })
    }
}

impl Daemon {
    /// The first one comes an interval after the start: what was counted then is in the ledger already.
    pub(super) fn plan_snapshots(&mut self, now: Instant) {
        self.snapshots.taken = self.ledger.is_some().then_some(now);
    }

    /// Asks all readings for their sessions. Where the counts of a jail are not whole, because its past is still being
    /// read, it is put off.
    pub(super) fn begin_snapshot(&mut self, now: Instant) {
        self.snapshots.taken = Some(now);
        self.snapshots.hastened = false;
        // Who has not told since the last time may never: the others do not wait for it again.
        let silent = self.snapshots.awaited.take().unwrap_or_default();
        if !self.progress.caught_up
            || self.is_fed_further()
            || self.readings.iter().any(|reading| reading.is_read() && !reading.changes.is_empty())
        {
            return;
        }
        self.snapshots.sessions.clear();
        // Of one that cannot be read now, what was kept earlier stays where it holds with these counts too.
        let asked = self.readings.iter().filter(|reading| reading.is_read() && reading.unread.is_empty());
        let asked = asked.filter(|reading| !silent.contains(&reading.name));
        let asked: BTreeSet<String> =
            asked.inspect(|reading| reading.handle.save()).map(|one| one.name.clone()).collect();
        self.snapshots.awaited = Some(asked).filter(|asked| !asked.is_empty());
    }

    /// A reading has told its sessions; after the last the snapshot is written.
    pub(super) async fn saved(&mut self, at: usize, cursor: Option<Cursor>, sessions: Vec<OpenSessions>) {
        let source = self.readings.at(at).name.clone();
        let Some(awaited) = &mut self.snapshots.awaited else { return };
        if !awaited.remove(&source) {
            return;
        }
        let whole = awaited.is_empty();
        if let Some(cursor) = cursor {
            self.snapshots.sessions.push(Sessions { source, cursor, open: encode_sessions(&sessions) });
        }
        if !whole {
            return;
        }
        self.snapshots.awaited = None;
        let told = &self.snapshots.sessions;
        if self.is_fed_further() || self.feeding.iter().any(|name| told.iter().any(|one| one.source == *name)) {
            // The past of a jail has begun to be read meanwhile, for a journal that came.
            return;
        }
        self.snapshots.stale = false;
        let sessions = std::mem::take(&mut self.snapshots.sessions);
        let kept = self.readings.kept.clone();
        self.readings.kept.extend(sessions.iter().map(|told| told.source.clone()));
        let snapshot = Snapshot { counts: self.counts(), sessions, kept, attempts_from: counted_from(&self.settings) };
        let changes = vec![Change::Snapshot(snapshot)];
        // The counts must not be ahead of the checkpoint.
        let checkpoints = self.checkpoints();
        self.commit(Transaction { checkpoints, changes }, Durability::Entries).await;
        // What could not be read before is tried again now and then: behind the snapshot, which it puts off.
        for at in 0..self.readings.iter().count() {
            self.read_unread(at);
        }
    }

    /// Is the past of a journal being read for some jails, and the journal read on? Where it is not, the snapshot says
    /// nothing of it, and its file system may hang for as long as it likes.
    fn is_fed_further(&self) -> bool {
        self.readings.iter().any(|reading| reading.is_read() && self.feeding.contains(&reading.name))
    }

    fn counts(&self) -> Vec<(Counts, u64)> {
        self.warden
            .counts()
            .filter_map(|counts| {
                let jail = plan::enabled(&self.settings).find(|jail| jail.name == counts.jail)?;
                Some((counts, plan::fingerprint(&self.settings, jail)))
            })
            .collect()
    }

    /// The last one, when the daemon stops: what the readings tell until then is still seen to.
    pub(super) async fn last_snapshot(&mut self) {
        let now = super::upkeep::instant();
        if self.ledger.is_none() || !self.snapshots.stale {
            return;
        }
        // One that was begun may be far behind.
        self.begin_snapshot(now);
        while self.snapshots.awaited.is_some() {
            match tokio::time::timeout_at(now + PATIENCE, self.readings.next()).await {
                Ok((at, Some(news))) => self.hear(at, news).await,
                Ok((_, None)) | Err(_) => break,
            }
        }
    }
}

/// Takes up what an earlier run had counted. The jails of which that is not all that would have been counted with the
/// present configuration are given back: their past has to be read.
pub(super) fn take_up(warden: &mut Warden, restored: &Restored, settings: &Settings) -> BTreeSet<JailName> {
    let mut incomplete = BTreeSet::new();
    for jail in plan::enabled(settings) {
        let kept = restored.snapshot.counts.iter().find(|(counts, _)| counts.jail == jail.name);
        let usable = kept.filter(|(_, fingerprint)| *fingerprint == plan::fingerprint(settings, jail));
        let whole = usable.filter(|(counts, _)| WindowsReader::new(&counts.windows).all(|window| window.is_ok()));
        let Some((counts, _)) = whole else {
            incomplete.insert(jail.name.clone());
            continue;
        };
        if counts.maxretry < jail.rules.maxretry || counts.findtime < jail.rules.findtime {
            incomplete.insert(jail.name.clone());
        }
        warden.fill(&jail.name, WindowsReader::new(&counts.windows).flatten());
    }
    let from = counted_from(settings);
    let attempts: Vec<Sighting> = restored
        .attempts
        .iter()
        .filter(|attempt| attempt.stamp >= from)
        .map(|attempt| Sighting {
            jail: attempt.jail.clone(),
            address: attempt.address,
            stamp: attempt.stamp,
            entry: EntryRef::attempt(attempt.number),
        })
        .collect();
    warden.feed(&attempts, clock::now());
    incomplete
}

/// What is older than this matters to no jail.
fn counted_from(settings: &Settings) -> Stamp {
    let longest = plan::enabled(settings).map(|jail| jail.rules.findtime).max().unwrap_or_default();
    clock::now().before(longest)
}

#[cfg(test)]
mod tests {
    use super::super::sources::Readings;
    use super::super::tests::{configure, opened, step};
    use super::super::upkeep::instant;
    use super::*;
    use crate::journal::{Harvest, News, Phase};

    /// What is counted after the reload is not what the sessions were told for, and of a changed jail it is nothing yet.
    #[tokio::test]
    async fn a_snapshot_that_a_reload_came_in_between_is_given_up() {
        let root = tempfile::tempdir().unwrap();
        let (mut daemon, mut inbox) = opened(root.path()).await;
        for changed in [false, true] {
            daemon.snapshots.age();
            daemon.begin_snapshot(instant());
            assert!(daemon.snapshots.awaited.is_some(), "the reading is asked");
            if changed {
                configure(root.path(), "refused");
                daemon.reload(crate::daemon::Asker::Signal, None);
                let load = loop {
                    if let Some(super::super::Aside::Loaded(load)) = inbox.asides.recv().await {
                        break load;
                    }
                };
                daemon.reloaded(*load).await;
                assert!(daemon.problems.is_empty(), "{:?}", daemon.problems);
            }
            let given_up = daemon.snapshots.awaited.is_none();
            assert_eq!(given_up, changed);
            // The reading tells its sessions, and then that it examines with the new filter.
            while if changed {
                daemon.readings.iter().any(|one| !one.changes.is_empty())
            } else {
                daemon.snapshots.stale
            } {
                step(&mut daemon, &mut inbox).await;
            }
            assert_eq!(daemon.snapshots.stale, changed, "it is still to be taken, or it was");
        }
    }

    /// What is counted while a jail's past is being read is not all of it.
    #[tokio::test]
    async fn a_snapshot_that_the_past_of_a_jail_came_in_between_is_given_up() {
        let root = tempfile::tempdir().unwrap();
        let (mut daemon, mut inbox) = opened(root.path()).await;
        daemon.snapshots.age();
        let name = daemon.readings.at(0).name.clone();
        for (before, between) in [(true, true), (false, true), (false, false)] {
            let feeding = |is_fed: bool| if is_fed { vec![name.clone()] } else { vec!["one that hangs".into()] };
            daemon.feeding = feeding(before);
            daemon.begin_snapshot(instant());
            assert_eq!(daemon.snapshots.awaited.is_some(), !before, "it is put off or begun");
            daemon.feeding = feeding(between);
            while daemon.snapshots.awaited.is_some() {
                step(&mut daemon, &mut inbox).await;
            }
            assert_eq!(daemon.snapshots.stale, between, "it is still to be taken, or it was");
        }
    }

    #[tokio::test]
    async fn a_reading_that_does_not_answer_holds_up_one_snapshot_and_not_the_next() {
        let root = tempfile::tempdir().unwrap();
        let (mut daemon, _inbox) = opened(root.path()).await;
        for asked in [true, false, true] {
            daemon.begin_snapshot(instant());
            assert_eq!(daemon.snapshots.awaited.is_some(), asked);
        }
    }

    #[tokio::test]
    async fn a_journal_that_is_read_on_for_the_first_time_is_in_a_snapshot_soon_at_its_end_or_not() {
        let root = tempfile::tempdir().unwrap();
        let (mut daemon, mut inbox) = opened(root.path()).await;
        let harvest = |number: u64| {
            let cursor = format!("s={0};i={number:x};b={0};m=1;t=2;x=3", "1".repeat(32));
            let stamp = Stamp::from_usec(number);
            let (sightings, suppressed) = (Vec::new(), Vec::new());
            let cursor = Some(cursor.parse().unwrap());
            News::Harvest(Harvest {
                sightings,
                phase: Phase::Live,
                cursor,
                stamp,
                entries: 1,
                unreadable: 0,
                suppressed,
            })
        };
        let now = instant();
        daemon.readings.at(0).caught_up = false;
        daemon.snapshots.taken = Some(now);
        for (number, wait) in [(1, Duration::ZERO), (2, INTERVAL)] {
            daemon.hear(0, harvest(number)).await;
            assert_eq!(daemon.snapshots.due(), Some(now + wait));
            daemon.begin_snapshot(now);
            while daemon.snapshots.awaited.is_some() {
                step(&mut daemon, &mut inbox).await;
            }
        }
    }

    /// What would be kept of a journal that did not tell does not go with jails that are others now.
    #[tokio::test]
    async fn of_a_journal_that_is_away_only_what_goes_with_the_jails_of_now_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let (mut daemon, _inbox) = opened(root.path()).await;
        let cursor = format!("s={0};i=1;b={0};m=1;t=2;x=3", "1".repeat(32)).parse().unwrap();
        let sessions = Sessions { source: "away".into(), cursor, open: Vec::new() };
        let kept = |incomplete| Readings::new(Vec::new(), vec![sessions.clone()], incomplete).kept;
        assert_eq!(kept(BTreeSet::new()), BTreeSet::from(["away".to_owned()]));
        assert_eq!(kept(BTreeSet::from([JailName::manual()])), BTreeSet::new(), "its past is still to be read there");
        daemon.readings.kept.insert("away".into());
        daemon.readings.forget_sessions();
        assert_eq!(daemon.readings.kept, BTreeSet::new());
    }
}
