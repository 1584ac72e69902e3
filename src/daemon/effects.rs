//! What follows from decisions, in the order that loses nothing: bans from entries reach the kernel first and the ledger
//! with their cursor; commands reach the ledger first. Bus and log are told after the commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::report::Record;
use super::{Daemon, clock};
use crate::bus;
use crate::engine::ban::{End, Place};
use crate::engine::roster::State;
use crate::engine::warden::Decision;
use crate::firewall::{self, Change};
use crate::ledger::{Checkpoint, Durability, Moment, Transaction};

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The kernel: the decision is in the journal and would be made again.
    Kernel,
    /// The ledger, down to the disk: the decision is a command and is written nowhere else.
    Ledger,
}

/// The longest pause between two tries at what the kernel or the ledger refused.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Something that failed and is tried again, ever less often.
#[derive(Debug, Default)]
pub struct Retry {
    at: Option<Instant>,
    pause: Duration,
}

impl Retry {
    /// It failed: when to try again.
    pub fn failed(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(Duration::from_millis(250), LONGEST_PAUSE);
        self.at = Some(now + self.pause);
    }

    /// It worked.
    pub fn worked(&mut self) {
        *self = Retry::default();
    }

    /// When it is to be tried again; `None` while nothing is wrong.
    pub fn at(&self) -> Option<Instant> {
        self.at
    }
}

impl Daemon {
    /// Carries out `decisions` and, with them, moves the checkpoint to where the reader is.
    pub(super) async fn carry_out(&mut self, decisions: Vec<Decision>, first: First) {
        if let Some(printer) = &mut self.printer {
            for decision in &decisions {
                if printer.decision(decision).is_err() {
                    self.stop = true;
                }
            }
            return;
        }
        let mut transaction = self.transaction(&decisions);
        transaction.checkpoints.extend(self.checkpoint());
        match first {
            First::Kernel => {
                self.enforce(&decisions).await;
                self.commit(transaction, Durability::Entries).await;
            }
            First::Ledger => {
                self.commit(transaction, Durability::Command).await;
                self.enforce(&decisions).await;
            }
        }
        self.tell(&decisions);
        self.untold_status = true;
    }

    /// What the ledger keeps of `decisions`.
    fn transaction(&self, decisions: &[Decision]) -> Transaction {
        let mut transaction = Transaction::default();
        for decision in decisions {
            let place = match decision {
                Decision::Ban(ban) => {
                    transaction.begin(ban.clone());
                    &ban.place
                }
                Decision::Past(ban) => {
                    transaction.begin(ban.clone());
                    transaction.end(ban, ban.until, End::Expired);
                    &ban.place
                }
                Decision::Report(ban) => &ban.place,
                Decision::End { ban, end, at } => {
                    transaction.end(ban, *at, *end);
                    &ban.place
                }
            };
            if let Some(stamp) = self.warden.counted_from(place) {
                transaction.count_from(place.clone(), stamp);
            }
        }
        transaction
    }

    /// Where the reader is, if that is further than the ledger knows.
    pub(super) fn checkpoint(&mut self) -> Option<Checkpoint> {
        let reached = self.progress.reached.take()?;
        self.progress.written = Some(Instant::now());
        Some(Checkpoint { source: self.source_name.clone(), cursor: reached.cursor, stamp: reached.stamp })
    }

    /// Brings `decisions` into the kernel. What it refuses stays pending and is tried again.
    async fn enforce(&mut self, decisions: &[Decision]) {
        // Of one place only the last word counts.
        let mut changes: BTreeMap<&Place, Change> = BTreeMap::new();
        for decision in decisions {
            match decision {
                Decision::Ban(ban) => {
                    changes.insert(&ban.place, Change::Add(ban.into()));
                }
                Decision::End { ban, end, .. } if *end != End::Expired => {
                    changes.insert(&ban.place, Change::Remove(ban.place.clone()));
                }
                Decision::End { .. } | Decision::Past(_) | Decision::Report(_) => {}
            }
        }
        if changes.is_empty() {
            return;
        }
        let changes: Vec<Change> = changes.into_values().collect();
        self.apply(changes).await;
    }

    /// Sends changes to the kernel and notes for each how it went.
    pub(super) async fn apply(&mut self, changes: Vec<Change>) {
        let Some(firewall) = &self.firewall else { return };
        let places: Vec<Place> = changes.iter().map(|change| change.place().clone()).collect();
        let refused = match firewall.apply(changes, clock::now()).await {
            Ok(()) => Vec::new(),
            Err(error) => {
                self.firewall_failed(&error);
                error.places().unwrap_or_else(|| places.clone())
            }
        };
        for place in places {
            if refused.contains(&place) {
                self.owed.insert(place);
            } else {
                self.owed.remove(&place);
                if self.warden.roster().at(&place).is_some_and(|held| held.state == State::Pending) {
                    self.warden.mark(&place, State::Banned);
                }
            }
        }
        if self.owed.is_empty() {
            self.firewall_worked();
        }
    }

    /// Notes that the kernel refused something, and tells it once.
    pub(super) fn firewall_failed(&mut self, error: &firewall::FirewallError) {
        if self.kernel_retry.at().is_none() {
            self.log.tell(Record::FirewallRefused { error: chain(error) });
        }
        self.kernel_retry.failed(Instant::now());
        self.untold_status = true;
    }

    /// Notes that the kernel has all it should have.
    pub(super) fn firewall_worked(&mut self) {
        if self.kernel_retry.at().is_some() {
            self.log.tell(Record::FirewallRecovered);
            self.untold_status = true;
        }
        self.kernel_retry.worked();
    }

    /// Tries again what the kernel refused: the whole table where that failed, else the changes that are owed.
    pub(super) async fn enforce_again(&mut self) {
        if self.rebuild_owed {
            self.rebuild("table missing").await;
            return;
        }
        let changes: Vec<Change> = self
            .owed
            .iter()
            .map(|place| match self.warden.roster().at(place) {
                Some(held) => Change::Add((&held.ban).into()),
                None => Change::Remove(place.clone()),
            })
            .collect();
        self.apply(changes).await;
    }

    /// Puts table, rules and all bans back in one transaction.
    pub(super) async fn rebuild(&mut self, change: &str) {
        let Some(firewall) = &self.firewall else { return };
        let elements = self.elements();
        let bans = elements.len();
        match firewall.rebuild(super::plan::policy(&self.settings, &self.spared), elements, clock::now()).await {
            Ok(()) => {
                self.rebuild_owed = false;
                self.owed.clear();
                let pending: Vec<Place> = self
                    .warden
                    .roster()
                    .iter()
                    .filter(|held| held.state == State::Pending)
                    .map(|held| held.ban.place.clone())
                    .collect();
                for place in pending {
                    self.warden.mark(&place, State::Banned);
                }
                self.firewall_worked();
                self.log.tell(Record::FirewallRestored { change: change.to_owned(), bans });
            }
            Err(error) => {
                self.rebuild_owed = true;
                self.firewall_failed(&error);
            }
        }
    }

    /// The bans in force as the kernel is to hold them.
    pub(super) fn elements(&self) -> Vec<firewall::Element> {
        self.warden.roster().iter().map(|held| (&held.ban).into()).collect()
    }

    /// Writes `transaction` and whatever could not be written before it.
    pub(super) async fn commit(&mut self, transaction: Transaction, durability: Durability) {
        let Some(ledger) = &self.ledger else { return };
        let mut all = std::mem::take(&mut self.unwritten);
        let before = !all.is_empty() && self.ledger_retry.at().is_some();
        all.absorb(transaction);
        if all.is_empty() {
            return;
        }
        let begun = all.begun();
        let all = Arc::new(all);
        match ledger.commit(Arc::clone(&all), durability).await {
            Ok(()) => {
                if before {
                    self.log.tell(Record::LedgerRecovered);
                    for place in begun {
                        if self.warden.roster().at(&place).is_some_and(|held| held.state == State::Unsaved) {
                            self.warden.mark(&place, State::Banned);
                        }
                    }
                }
                self.ledger_retry.worked();
            }
            Err(error) => {
                if self.ledger_retry.at().is_none() {
                    self.log.tell(Record::LedgerUnwritable { error: chain(&error) });
                }
                self.ledger_retry.failed(Instant::now());
                self.unwritten = Arc::unwrap_or_clone(all);
                self.unsaved.extend(begun);
                self.untold_status = true;
            }
        }
    }

    /// Tells bus and log what was decided.
    fn tell(&mut self, decisions: &[Decision]) {
        for decision in decisions {
            match decision {
                Decision::Ban(ban) => {
                    self.announce(bus::News::Banned(ban));
                    self.log.tell(Record::Banned(ban.clone()));
                    self.unwritten.announced(ban, Moment::Begun);
                }
                Decision::Past(ban) => {
                    self.log.tell(Record::TooLate(ban.clone()));
                    self.unwritten.announced(ban, Moment::Begun);
                    self.unwritten.announced(ban, Moment::Ended);
                }
                Decision::Report(ban) => self.log.tell(Record::WouldBan(ban.clone())),
                Decision::End { ban, end, .. } => {
                    self.announce(bus::News::Unbanned { place: &ban.place, end: *end });
                    self.log.tell(Record::Unbanned { ban: ban.clone(), end: *end });
                    self.unwritten.announced(ban, Moment::Ended);
                }
            }
        }
    }

    fn announce(&self, news: bus::News<'_>) {
        if let Some(bus) = &self.bus {
            bus.announce(news);
        }
    }
}

/// An error with all its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
