//! What the reader and the firewall have to say.

use super::crash::point;
use super::effects::First;
use super::report::Record;
use super::{Daemon, Reached, clock};
use crate::engine::ban::Place;
use crate::firewall::{Change, Notice};
use crate::journal::{Harvest, News, Phase, Reason, Suppressed};

impl Daemon {
    /// News of the journal at this place among the readings.
    pub(super) async fn hear(&mut self, at: usize, news: News) {
        self.untold_status |= matches!(news, News::CaughtUp | News::End | News::Failed { .. } | News::Reopened { .. });
        match news {
            News::Harvest(harvest) => self.take(at, harvest).await,
            News::Fed => {
                let decisions = self.warden.evaluate(clock::now());
                self.carry_out(decisions, First::Kernel).await;
            }
            News::CaughtUp => {
                self.readings.at(at).caught_up = true;
                self.settle().await;
            }
            News::End => {
                self.readings.ended(at);
                self.stop = self.readings.are_done();
                self.settle().await;
            }
            News::Gap { from, to } => {
                let seconds = to.unwrap_or_else(clock::now).since(from).as_secs();
                let source = self.readings.at(at).name.clone();
                self.log.tell(Record::JournalGap { source, seconds });
            }
            News::Replaced { at: cursor } => {
                self.replaced(at, cursor);
                // The former filters are gone.
                super::give_back_memory();
            }
            News::Saved { cursor, sessions } => self.saved(at, cursor, sessions).await,
            News::Failed { error } => {
                let error = super::effects::chain(&error);
                let reading = self.readings.at(at);
                reading.failure = Some(error.clone());
                reading.silent = false;
                let source = reading.name.clone();
                self.log.tell(Record::ReaderFailed { source, error });
                // The others do not wait for it.
                self.settle().await;
            }
            News::Reopened { reason } => {
                let reading = self.readings.at(at);
                (reading.failure, reading.silent) = (None, false);
                self.read_unread(at);
                let source = self.readings.at(at).name.clone();
                let reason = match reason {
                    Reason::Deaf => "there were entries that it had not heard of",
                    Reason::Failed => "it can be read again",
                };
                self.log.tell(Record::ReaderReopened { source, reason: reason.into() });
            }
        }
    }

    async fn take(&mut self, at: usize, mut harvest: Harvest) {
        self.progress.entries += harvest.entries;
        self.progress.stamp = self.progress.stamp.max(harvest.stamp);
        let reading = self.readings.at(at);
        if let Some(cursor) = harvest.cursor {
            // What is held back keeps the checkpoint behind the entries that were read.
            reading.reached = Some(Reached { cursor, stamp: harvest.stamp.min(cursor.realtime) });
            if std::mem::take(&mut reading.fresh) && self.progress.caught_up {
                self.snapshots.hasten();
            }
        }
        // What a filter sights that has been changed since says nothing; the new one reads the entry again.
        harvest.sightings.retain(|sighting| !reading.changes.iter().any(|change| change.outdates(&sighting.jail)));
        self.snapshots.age();
        for Suppressed { unit, count } in harvest.suppressed {
            self.log.tell(Record::JournalSuppressed { unit, count });
        }
        if harvest.sightings.is_empty() {
            return;
        }
        self.refresh_own_addresses();
        self.untold_status = true;
        match harvest.phase {
            Phase::Feed => self.warden.feed(&harvest.sightings, clock::now()),
            Phase::Live => {
                let decisions = self.warden.see(&harvest.sightings, clock::now());
                if !decisions.is_empty() {
                    self.carry_out(decisions, First::Kernel).await;
                }
            }
        }
    }

    /// After all journals have been read to their ends for the first time: what was adopted stays, and the kernel is
    /// compared with the roster for good.
    pub(super) async fn settle(&mut self) {
        if self.progress.caught_up || self.readings.catching_up() {
            return;
        }
        self.progress.caught_up = true;
        self.log.tell(Record::CaughtUp { entries: self.progress.entries });
        let confirmed = self.warden.confirm();
        if !confirmed.is_empty() {
            self.log.tell(Record::Adopted { bans: confirmed.len() });
            self.carry_out(confirmed, First::Kernel).await;
        }
        point("caught-up.confirmed");
        self.audit().await;
        point("caught-up.audited");
    }

    /// Makes the kernel's sets equal to the roster.
    pub(super) async fn audit(&mut self) {
        let Some(firewall) = self.firewall.clone() else { return };
        // Until the journal is read to its end, what only the kernel knows may be a ban that is decided again.
        match firewall.audit(self.elements(), clock::now(), self.progress.caught_up).await {
            Ok(_) => {}
            Err(error) => {
                self.rebuild_owed = true;
                self.firewall_failed(&error);
            }
        }
    }

    /// Somebody else changed the kernel's table, or we may have missed that. One rebuild heals all that came together.
    pub(super) async fn heal(&mut self, notices: Vec<Notice>) {
        let mut changed = None;
        let mut overrun = false;
        for notice in notices {
            match notice {
                Notice::Foreign(foreign) => changed = Some(foreign.to_string()),
                Notice::Overrun => overrun = true,
                Notice::Lacks(lack) => {
                    self.log.tell(Record::FirewallLacks { text: lack.to_string() });
                    self.lacks.insert(lack.to_string());
                }
            }
        }
        match changed {
            Some(change) => {
                self.rebuilds.changed(change);
                self.rebuild().await;
            }
            None if overrun => self.audit().await,
            None => {}
        }
    }

    /// Removes from the kernel what is not ours to keep.
    pub(super) async fn remove(&mut self, places: Vec<Place>) {
        if !places.is_empty() {
            self.apply(places.into_iter().map(Change::Remove).collect()).await;
        }
    }
}
