//! What follows from decisions, in the order that loses nothing: bans from entries reach the kernel first and the ledger
//! with their cursor; commands reach the ledger first. Bus and log are told after the commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::crash::point;
use super::report::Record;
use super::{Daemon, clock};
use crate::bus;
use crate::engine::ban::{End, Place};
use crate::engine::roster::State;
use crate::engine::warden::Decision;
use crate::firewall::{self, Change, FirewallError};
use crate::ledger::{self, Checkpoint, Durability, LedgerError, Moment, Transaction};

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The kernel: the decision is in the journal and would be made again.
    Kernel,
    /// The ledger, down to the disk: the decision is a command and is written nowhere else.
    Ledger,
}

/// Above so many changes that the ledger could not take, the history of bans that are over is let go.
const UNWRITTEN: usize = 50_000;

impl Daemon {
    /// Carries out `decisions` and, with them, moves the checkpoints to where the readers are.
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
        transaction.checkpoints = self.checkpoints();
        match first {
            First::Kernel => {
                point("entries.decided");
                self.enforce(&decisions).await;
                point("entries.enforced");
                self.commit(transaction, Durability::Entries).await;
                point("entries.committed");
            }
            First::Ledger => {
                point("command.decided");
                self.commit(transaction, Durability::Command).await;
                point("command.committed");
                self.enforce(&decisions).await;
                point("command.enforced");
            }
        }
        self.tell(&decisions);
        point("told");
        self.untold_status = true;
    }

    /// What the ledger keeps of `decisions`.
    fn transaction(&self, decisions: &[Decision]) -> Transaction {
        let mut transaction = Transaction::default();
        for decision in decisions {
            match decision {
                Decision::Ban(ban) => transaction.begin(ban.clone()),
                Decision::Past(ban) => {
                    transaction.begin(ban.clone());
                    transaction.end(ban, ban.until, End::Expired);
                }
                Decision::Report(_) => {}
                Decision::End { ban, end, at } => transaction.end(ban, *at, *end),
            }
            let place = &decision.ban().place;
            if let Some(stamp) = self.warden.counted_from(place) {
                transaction.count_from(place.clone(), stamp);
            }
        }
        transaction
    }

    /// Where the readers are that are further than the ledger knows.
    pub(super) fn checkpoints(&mut self) -> Vec<Checkpoint> {
        let moved = self.readings.take_moved();
        if !moved.is_empty() {
            self.progress.written = Some(Instant::now());
        }
        moved
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

    /// Sends changes to the kernel and notes for each how it went. What is refused does not keep the others back.
    pub(super) async fn apply(&mut self, mut changes: Vec<Change>) {
        let Some(firewall) = self.firewall.clone() else { return };
        if self.rebuild_owed {
            // The table is not what it should be; putting it back brings all bans along.
            self.owed.extend(changes.iter().map(|change| change.place().clone()));
            self.kernel_retry.failed(Instant::now());
            return;
        }
        while !changes.is_empty() {
            let (refused, rest) = match firewall.apply(changes.clone(), clock::now()).await {
                Ok(()) => (Vec::new(), Vec::new()),
                Err(error) => {
                    self.firewall_failed(&error);
                    at_fault(&error, changes.len())
                }
            };
            let mut later = Vec::with_capacity(rest.len());
            for (at, change) in changes.into_iter().enumerate() {
                if refused.binary_search(&at).is_ok() {
                    self.owed.insert(change.place().clone());
                } else if rest.binary_search(&at).is_ok() {
                    later.push(change);
                } else {
                    self.owed.remove(change.place());
                    self.mark(&[change.place().clone()], State::Pending, self.taken());
                }
            }
            changes = later;
        }
        if self.owed.is_empty() && !self.rebuild_owed {
            self.firewall_worked();
        }
    }

    /// The state of a ban that the kernel has taken.
    fn taken(&self) -> State {
        if self.ledger_lags() { State::Unsaved } else { State::Banned }
    }

    /// Is there anything that the ledger should have and does not take?
    pub(super) fn ledger_lags(&self) -> bool {
        self.forgetful || self.ledger_retry.at().is_some()
    }

    /// Notes that the kernel refused something, and tells it once.
    pub(super) fn firewall_failed(&mut self, error: &FirewallError) {
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
            self.rebuild().await;
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

    /// Puts table, rules and all bans back in one transaction: at once, unless that is done so often that another
    /// program must be doing the contrary; then with growing pauses.
    pub(super) async fn rebuild(&mut self) {
        let Some(firewall) = self.firewall.clone() else { return };
        if !self.rebuilds.may(Instant::now()) {
            self.owe_rebuild();
            self.kernel_retry.failed(Instant::now());
            return;
        }
        let elements = self.elements();
        let bans = elements.len();
        match firewall.rebuild(super::plan::policy(&self.settings, &self.spared), elements, clock::now()).await {
            Ok(()) => {
                self.rebuild_owed = false;
                self.owed.clear();
                self.mark(&self.places(), State::Pending, self.taken());
                self.firewall_worked();
                if let Some(change) = self.rebuilds.take_change() {
                    self.log.tell(Record::FirewallRestored { change, bans });
                }
            }
            Err(error) => {
                self.owe_rebuild();
                self.firewall_failed(&error);
            }
        }
    }

    /// The table may be gone: bans count as pending until it is put back.
    pub(super) fn owe_rebuild(&mut self) {
        self.rebuild_owed = true;
        self.mark(&self.places(), State::Banned, State::Pending);
        self.untold_status = true;
    }

    /// Whose bans are in force.
    pub(super) fn places(&self) -> Vec<Place> {
        self.warden.roster().iter().map(|held| held.ban.place.clone()).collect()
    }

    /// The bans in force as the kernel is to hold them.
    pub(super) fn elements(&self) -> Vec<firewall::Element> {
        self.warden.roster().iter().map(|held| (&held.ban).into()).collect()
    }

    /// Writes `transaction` and whatever could not be written before it.
    pub(super) async fn commit(&mut self, transaction: Transaction, durability: Durability) {
        self.hear_of_tellings();
        let Some(ledger) = self.ledger.clone() else { return };
        let mut all = std::mem::take(&mut self.unwritten);
        all.absorb(transaction);
        let waits = self.ledger_retry.at().is_some_and(|at| at > Instant::now());
        if all.is_empty() || (waits && durability == Durability::Entries) {
            self.unwritten = all;
            return;
        }
        let begun: Vec<Place> = all.changes.iter().filter_map(begun).cloned().collect();
        let all = Arc::new(all);
        let mut committed = ledger.commit(Arc::clone(&all), durability).await;
        if let Err(error @ LedgerError::Lost(_)) = &committed {
            self.ledger_failed(error);
            committed = match ledger.reinstate(clock::now()).await {
                Ok(aside) => {
                    if let Some(aside) = aside {
                        self.log.tell(Record::LedgerReplaced { aside });
                    }
                    ledger.commit(Arc::clone(&all), durability).await
                }
                Err(LedgerError::Lost(_)) => committed,
                Err(error) => return self.ledger_lost(Arc::unwrap_or_clone(all), &error).await,
            };
        }
        match committed {
            Ok(()) => {
                if self.ledger_retry.at().is_some() {
                    self.log.tell(Record::LedgerRecovered);
                    self.untold_status = true;
                }
                if self.forgetful {
                    self.debt.owed.absorb(Arc::unwrap_or_clone(all));
                } else {
                    self.mark(&begun, State::Unsaved, State::Banned);
                }
                self.ledger_retry.worked();
            }
            Err(error) => {
                self.ledger_failed(&error);
                self.mark(&begun, State::Banned, State::Unsaved);
                self.unwritten = Arc::unwrap_or_clone(all);
                if self.unwritten.changes.len() > UNWRITTEN {
                    let lost = self.unwritten.shed();
                    if lost > 0 {
                        let error = format!("{}; the history of {lost} bans that are over is lost", chain(&error));
                        self.log.tell(Record::LedgerUnwritable { error });
                    }
                }
            }
        }
    }

    /// Notes that the ledger takes nothing, and tells it once.
    fn ledger_failed(&mut self, error: &LedgerError) {
        if self.ledger_retry.at().is_none() {
            self.log.tell(Record::LedgerUnwritable { error: chain(error) });
        }
        self.ledger_retry.failed(Instant::now());
        self.untold_status = true;
    }

    /// Moves those of `places` that are in one state to another.
    pub(super) fn mark(&mut self, places: &[Place], from: State, to: State) {
        for place in places {
            if self.warden.roster().at(place).is_some_and(|held| held.state == from) {
                self.warden.mark(place, to);
            }
        }
    }

    /// Tells bus and log what was decided.
    fn tell(&mut self, decisions: &[Decision]) {
        for decision in decisions {
            match decision {
                Decision::Ban(ban) => {
                    self.announce(bus::News::Banned(ban));
                    point("told.bus");
                    let ticket = self.log.tell(Record::Banned(ban.clone()));
                    point("told.log");
                    self.was_told(ticket, ban, Moment::Begun);
                }
                Decision::Past(ban) => {
                    let ticket = self.log.tell(Record::TooLate(ban.clone()));
                    self.was_told(ticket, ban, Moment::Begun);
                    self.was_told(ticket, ban, Moment::Ended);
                }
                Decision::Report(ban) => drop(self.log.tell(Record::WouldBan(ban.clone()))),
                Decision::End { ban, end, .. } => {
                    self.announce(bus::News::Unbanned { place: &ban.place, end: *end });
                    point("told.bus");
                    let ticket = self.log.tell(Record::Unbanned { ban: ban.clone(), end: *end });
                    point("told.log");
                    self.was_told(ticket, ban, Moment::Ended);
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

/// Of `count` changes, by their numbers in order: which the kernel refuses, and which it has not looked at yet.
fn at_fault(error: &FirewallError, count: usize) -> (Vec<usize>, Vec<usize>) {
    match error {
        FirewallError::Refused(refused) if !refused.which.is_empty() => {
            let mut which = refused.which.clone();
            which.sort_unstable();
            let rest = (refused.applied..count).filter(|at| which.binary_search(at).is_err()).collect();
            (which, rest)
        }
        FirewallError::Refused(refused) => ((refused.applied..count).collect(), Vec::new()),
        FirewallError::Socket(_) | FirewallError::Owned { .. } | FirewallError::Gone => {
            ((0..count).collect(), Vec::new())
        }
    }
}

/// Whose ban a change of the ledger begins.
fn begun(change: &ledger::Change) -> Option<&Place> {
    match change {
        ledger::Change::Begun(ban) => Some(&ban.place),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::Refused;

    #[test]
    fn what_is_at_fault_does_not_keep_the_others_back() {
        let refused = |which: &[usize], applied| {
            let refused = Refused { which: which.into(), applied, errno: libc::ENFILE, what: String::new() };
            at_fault(&FirewallError::Refused(refused), 6)
        };
        assert_eq!(refused(&[4, 2], 0), (vec![2, 4], vec![0, 1, 3, 5]));
        assert_eq!(refused(&[4], 3), (vec![4], vec![3, 5]), "the first three are applied");
        assert_eq!(refused(&[], 2), (vec![2, 3, 4, 5], vec![]), "nobody knows which");
        let full = FirewallError::Socket(std::io::Error::from_raw_os_error(libc::ENOBUFS));
        assert_eq!(at_fault(&full, 2), (vec![0, 1], vec![]));
    }
}
