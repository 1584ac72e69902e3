//! What is owed to a ledger that cannot be opened, and how it gets it: nothing of it is forgotten before the process
//! ends, and the file is tried again until it is there.

use std::sync::Arc;

use tokio::time::Instant;

use super::effects::{First, chain};
use super::report::Record;
use super::retries::Retry;
use super::{Aside, Daemon, clock};
use crate::engine::ban::{Ban, Cause, End, Place};
use crate::engine::jail::pause::Pause;
use crate::engine::roster::State;
use crate::engine::time::Stamp;
use crate::firewall;
use crate::ledger::{Change, Durability, Key, Ledger, LedgerError, Moment, OpenError, Past, Restored};
use crate::ledger::{Store, Transaction};

/// What a ledger that is not there has to be told.
#[derive(Debug, Default)]
pub(super) struct Debt {
    /// All that was committed to memory instead.
    pub owed: Transaction,
    /// When the file is tried again.
    pub retry: Retry,
    /// Is all that the file has known here?
    pub known: bool,
}

impl Daemon {
    /// Tries, beside the loop, whether the ledger can be opened by now.
    pub(super) fn reopen_ledger(&mut self) {
        self.debt.retry.waits();
        let state = self.options.state.clone();
        let asides = self.asides.clone();
        tokio::task::spawn_blocking(move || {
            let opened = Store::open(&state, clock::now());
            // The loop being gone is the end of the program.
            let _ = asides.send(Aside::Reopened(Box::new(opened)));
        });
    }

    /// The ledger was tried. What is owed to it goes there at once, before it takes the place of the one in memory.
    pub(super) async fn ledger_reopened(&mut self, opened: Result<(Store, Restored), OpenError>) {
        if !self.forgetful {
            return;
        }
        // That it cannot be opened was told when it began.
        let Ok((store, restored)) = opened else { return self.debt.retry.failed(Instant::now()) };
        if let Some(aside) = &restored.kept_aside {
            self.log.tell(Record::LedgerDamaged { aside: aside.clone(), past: restored.salvaged.past });
        }
        let (learned, unannounced) = if self.debt.known { Default::default() } else { self.learn(restored) };
        // From here on the file has nothing that we do not.
        self.debt.known = true;
        let Ok(ledger) = Ledger::spawn(store) else { return self.debt.retry.failed(Instant::now()) };
        let owed = Arc::new(std::mem::take(&mut self.debt.owed));
        if ledger.commit(Arc::clone(&owed), Durability::Command).await.is_err() {
            self.debt.owed = Arc::unwrap_or_clone(owed);
            self.debt.retry.failed(Instant::now());
            // It could not be written; that it cannot be closed either is no news.
            let _ = ledger.close().await;
        } else {
            self.ledger = Some(ledger);
            self.forgetful = false;
            self.debt.retry.worked();
            self.mark(&self.places(), State::Unsaved, State::Banned);
            self.log.tell(Record::LedgerRecovered);
        }
        self.untold_status = true;
        self.apply(learned).await;
        self.tell_again(unannounced);
        let unwanted = self.warden.lift_unwanted(&self.spared, clock::now());
        if !unwanted.is_empty() {
            self.carry_out(unwanted, First::Ledger).await;
        }
    }

    /// Takes up what a file had that could not be read at the start: bans that nobody has lifted meanwhile are in force,
    /// with the end that the file knows. Gives what the kernel is to be told, and what bus and log may not know.
    fn learn(&mut self, restored: Restored) -> (Vec<firewall::Change>, Vec<(Moment, Past)>) {
        let now = clock::now();
        let mut changes = Vec::new();
        for ban in restored.bans {
            let adopted = match self.warden.roster().at(&ban.place) {
                Some(held) => held.ban.cause == Cause::Adopted,
                None => {
                    if let Some((when, how)) = lifted(&self.debt.owed, &ban.place) {
                        self.debt.owed.end(&ban, when, how);
                        continue;
                    }
                    true
                }
            };
            // One that was decided anew takes the place of the one in the file.
            if adopted {
                self.debt.owed.changes.retain(
                    |change| !matches!(change, Change::Begun(known) if known.place == ban.place && known.cause == Cause::Adopted),
                );
                changes.push(firewall::Change::Add((&ban).into()));
                self.warden.restore([ban], [], [], now);
            }
        }
        for ban in &restored.overdue {
            self.debt.owed.end(ban, ban.until, End::Expired);
            self.debt.owed.count_from(ban.place.clone(), ban.until);
        }
        let later: Vec<(Place, Stamp)> = restored
            .counted_from
            .into_iter()
            .filter(|(place, stamp)| self.warden.counted_from(place).is_none_or(|known| known < *stamp))
            .collect();
        let pauses: Vec<Pause> =
            restored.pauses.into_iter().filter(|pause| !self.warden.is_paused(&pause.jail)).collect();
        self.warden.restore([], later, pauses, now);
        let numbers = restored.attempts.iter().map(|attempt| attempt.number);
        self.last_attempt = numbers.chain([self.last_attempt]).max().unwrap_or_default();
        (changes, restored.unannounced)
    }

    /// The file was taken away under the daemon and cannot even be read any more: what it had and is still known is owed to
    /// the next one, and `all`, which could not be written.
    pub(super) async fn ledger_lost(&mut self, all: Transaction, error: &LedgerError) {
        self.log.tell(Record::LedgerUnwritable { error: chain(error) });
        let mut owed = Transaction::default();
        owed.checkpoints.extend(self.readings.written().cloned());
        for held in self.warden.roster().iter().filter(|held| held.state != State::Provisional) {
            owed.begin(held.ban.clone());
            owed.announced(&held.ban, Moment::Begun);
        }
        for (place, stamp) in self.warden.settled() {
            owed.count_from(place, stamp);
        }
        owed.changes.extend(self.warden.pauses().cloned().map(Change::Paused));
        owed.absorb(all);
        self.snapshots.age();
        self.ledger_retry.worked();
        self.forgetful = true;
        self.debt = Debt { owed, retry: Retry::default(), known: false };
        self.debt.retry.failed(Instant::now());
        if let Some(ledger) = self.ledger.take() {
            // Its file is nobody's any more.
            let _ = ledger.close().await;
        }
        self.ledger = Store::in_memory().ok().and_then(|store| Ledger::spawn(store).ok());
        self.mark(&self.places(), State::Banned, State::Unsaved);
        self.untold_status = true;
    }

    /// Tells the log what bus and log may not have been told before a crash.
    pub(super) fn tell_again(&mut self, unannounced: Vec<(Moment, Past)>) {
        for (moment, past) in unannounced {
            let ticket = match (moment, past.ended) {
                (Moment::Begun, _) => self.log.tell(Record::Banned(past.ban.clone())),
                (Moment::Ended, Some((_, end))) => self.log.tell(Record::Unbanned { ban: past.ban.clone(), end }),
                (Moment::Ended, None) => continue,
            };
            self.was_told(ticket, &past.ban, moment);
        }
    }

    /// Notes that the log was given a ban's beginning or end. The ledger hears of it once the log has it out.
    pub(super) fn was_told(&mut self, ticket: Option<u64>, ban: &Ban, moment: Moment) {
        if let Some(ticket) = ticket {
            self.unheard.push_back((ticket, Key::of(ban), moment));
        }
    }

    /// Adds to what is unwritten which tellings have arrived.
    pub(super) fn hear_of_tellings(&mut self) {
        let out = self.log.out();
        while self.unheard.front().is_some_and(|(ticket, ..)| *ticket <= out) {
            if let Some((_, key, moment)) = self.unheard.pop_front() {
                self.unwritten.changes.push(Change::Announced(key, moment));
            }
        }
    }
}

/// When and how the last ban of `place` was ended by what is owed.
fn lifted(owed: &Transaction, place: &Place) -> Option<(Stamp, End)> {
    owed.changes.iter().rev().find_map(|change| match change {
        Change::Ended { key, when, how } if key.place() == place => Some((*when, *how)),
        _ => None,
    })
}
