//! What is done by the clock: bans that end, tries that are due, checkpoints, the watchdog, the status line.

use std::time::Duration;

use tokio::time::Instant;

use super::crash::point;
use super::effects::First;
use super::report::{Record, counted};
use super::{Aside, Daemon, clock, notify, plan, protect, pulse, start};
use crate::bus::{Bus, BusError};
use crate::ledger::{Durability, Transaction};

/// A checkpoint that carries no decision is written this often at the most.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// So long a bus that is tried beside the loop may take to let us serve.
const BUS_PATIENCE: Duration = Duration::from_secs(10);
/// This machine's addresses are asked for anew this often at the most.
const ADDRESSES: Duration = Duration::from_secs(30);
/// The longest sleep towards an instant of the wall clock, which may be set while we sleep.
const DOZE: Duration = Duration::from_secs(600);
/// So often it is looked whether journals of further senders have come.
const LOOK: Duration = Duration::from_secs(5);
/// What is over is forgotten this often.
const PURGE: Duration = Duration::from_secs(24 * 3600);

/// That subjects are forgotten early is told this often at the most, and that patterns give no answer.
const EVICTED: Duration = Duration::from_secs(600);

/// When what is next done.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// How many subjects were told to be forgotten early, and when.
    evicted: (u64, Option<Instant>),
    /// How many searches were told to have ended without an answer, and when.
    gave_up: (u64, Option<Instant>),
    /// When the threads are asked whether they go round.
    pub pulse: Option<Instant>,
    /// They have been asked.
    pub pulsing: bool,
    purge: Option<Instant>,
    look: Option<Instant>,
}

impl Daemon {
    /// The next instant at which [`Daemon::upkeep`] has something to do.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let now = instant();
        let deadline = [self.warden.deadline(), self.warden.next_pause_end()].into_iter().flatten().min();
        let ends = deadline.map(|end| now + end.since(clock::now()).min(DOZE));
        let checkpoint = self.has_unwritten().then(|| self.progress.written.map_or(now, |last| last + CHECKPOINT));
        let retries = [self.kernel_retry.at(), self.ledger_retry.at(), self.bus_retry.at(), self.debt.retry.at()];
        let retries = retries.into_iter().chain([self.unkept_retry.at()]);
        let agenda = [self.snapshots.due(), self.agenda.pulse, self.agenda.purge, self.agenda.look];
        [ends, checkpoint].into_iter().chain(retries).chain(agenda).flatten().min()
    }

    fn has_unwritten(&self) -> bool {
        self.ledger.is_some()
            && self.ledger_retry.at().is_none()
            && (self.readings.has_moved() || !self.unwritten.is_empty() || !self.unheard.is_empty())
    }

    /// Does all that is due.
    pub(super) async fn upkeep(&mut self) {
        let now = instant();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        self.end_pauses();
        let ended = self.warden.expire(clock::now());
        if !ended.is_empty() {
            point("expired");
            self.carry_out(ended, First::Kernel).await;
        }
        if due(self.kernel_retry.at()) {
            self.enforce_again().await;
        }
        let checkpoint_due = self.has_unwritten() && self.progress.written.is_none_or(|last| last + CHECKPOINT <= now);
        if checkpoint_due || due(self.ledger_retry.at()) {
            self.write_checkpoint(Durability::Entries).await;
        }
        if due(self.debt.retry.at()) {
            self.reopen_ledger();
        }
        if due(self.unkept_retry.at()) {
            self.keep_again().await;
        }
        if due(self.snapshots.due()) {
            self.begin_snapshot(now);
        }
        if due(self.bus_retry.at()) {
            self.serve_on_bus();
        }
        if due(self.agenda.pulse) {
            self.ask_for_pulse(now);
        }
        if due(self.agenda.purge) {
            self.purge(now).await;
        }
        self.tell_evicted(now);
        self.tell_given_up(now);
        if due(self.agenda.look) {
            self.look_for_senders();
            self.plan_to_look();
        }
        if self.untold_status {
            self.untold_status = false;
            notify::status(&self.status());
            if let Some(bus) = &self.bus {
                bus.changed();
            }
        }
    }

    /// Writes how far the reader is, and what is still owed to the ledger.
    pub(super) async fn write_checkpoint(&mut self, durability: Durability) {
        let transaction = Transaction { checkpoints: self.checkpoints(), ..Transaction::default() };
        self.progress.written = Some(instant());
        point("checkpoint.before");
        self.commit(transaction, durability).await;
        point("checkpoint.after");
    }

    /// Puts the first pulse and the first purge on the agenda.
    pub(super) fn plan_ahead(&mut self) {
        let now = instant();
        if self.forgetful {
            self.debt.retry.failed(now);
        }
        self.agenda.pulse = Some(now + pulse::interval());
        self.plan_snapshots(now);
        self.agenda.purge = self.ledger.is_some().then(|| now + Duration::from_secs(60));
        self.plan_to_look();
    }

    /// Puts the next look for senders on the agenda, where any may come.
    pub(super) fn plan_to_look(&mut self) {
        self.plan_to_look_at(instant() + LOOK);
    }

    /// … at this time.
    pub(super) fn plan_to_look_at(&mut self, at: Instant) {
        self.agenda.look = self.expects_senders().then_some(at);
    }

    async fn purge(&mut self, now: Instant) {
        self.agenda.purge = Some(now + PURGE);
        let before = clock::now().before(self.settings.history);
        self.warden.forget_pauses_before(before);
        if let Some(ledger) = self.ledger.clone() {
            // What could not be purged today is purged tomorrow; that the ledger cannot be written is told by a commit.
            tokio::spawn(async move { ledger.purge(before).await });
        }
    }

    /// Says how many subjects were forgotten early since that was said last.
    fn tell_evicted(&mut self, now: Instant) {
        let (told, when) = self.agenda.evicted;
        let figures = self.warden.jails().filter_map(|jail| self.warden.figures(jail.as_str()));
        let evicted = figures.map(|figures| figures.evicted).sum();
        // A jail that is gone takes its count with it.
        let count = evicted - told.min(evicted);
        if count > 0 && when.is_none_or(|when| when + EVICTED <= now) {
            self.agenda.evicted = (evicted, Some(now));
            self.log.tell(Record::Evicted { count });
        } else if count == 0 {
            self.agenda.evicted.0 = evicted;
        }
    }

    /// Says which patterns gave no answer, where any did since that was said last.
    fn tell_given_up(&mut self, now: Instant) {
        let (told, when) = self.agenda.gave_up;
        let given_up = plan::given_up(&self.settings);
        let all: u64 = given_up.iter().map(|gave_up| gave_up.count).sum();
        if all <= told {
            // A filter that is gone takes its count with it.
            self.agenda.gave_up.0 = all;
        } else if when.is_none_or(|when| when + EVICTED <= now) {
            self.agenda.gave_up = (all, Some(now));
            for plan::GaveUp { jail, filter, pattern, count } in given_up {
                let (jail, filter) = (jail.clone(), filter.to_owned());
                self.log.tell(Record::GaveUp { jail, filter, pattern: pattern.to_string(), count });
            }
        }
    }

    /// Asks for this machine's addresses anew, where a jail leaves them alone and the last answer is old.
    pub(super) fn refresh_own_addresses(&mut self) {
        let now = instant();
        if self.own.asked.is_some_and(|asked| asked + ADDRESSES > now) {
            return;
        }
        self.own.asked = Some(now);
        let known = protect::own_addresses();
        if known != self.own.known {
            self.own.known = known;
            self.warden.configure(plan::rules(&self.settings, &self.own.known));
        }
    }

    /// One line: what `systemctl status` shows.
    pub(super) fn status(&self) -> String {
        let bans = self.warden.roster().len();
        let jails = super::views::running(&self.settings);
        let failures = self.failures();
        let mut text = self.standing.trouble().map_or_else(String::new, |trouble| format!("{trouble}; "));
        let entries = self.progress.entries;
        text.push_str(&format!(
            "{bans} banned, {}, {failures} failure{} in {entries} entr{}",
            counted(jails, "jail"),
            if failures == 1 { "" } else { "s" },
            if entries == 1 { "y" } else { "ies" },
        ));
        if self.readings.catching_up() {
            text.push_str("; catching up");
        }
        if self.readings.iter().any(|reading| reading.failure.is_some()) {
            text.push_str("; a journal cannot be read");
        }
        if !self.owed.is_empty() || self.rebuild_owed {
            text.push_str("; the firewall refuses changes");
        }
        if self.ledger_lags() {
            text.push_str("; the ledger cannot be written");
        }
        text
    }

    /// Failures of all jails since the start.
    pub(super) fn failures(&self) -> u64 {
        self.warden.jails().filter_map(|jail| self.warden.figures(jail.as_str())).map(|figures| figures.failures).sum()
    }

    /// The bus is gone; it is tried again.
    pub(super) fn bus_lost(&mut self) {
        self.bus = None;
        self.log.tell(Record::BusLost { error: "the connection is closed; trying again".into() });
        self.bus_retry.failed(instant());
    }

    /// Tries the bus beside the loop: one that hangs must not keep us from banning.
    fn serve_on_bus(&mut self) {
        self.bus_retry.waits();
        let (options, requests) = (self.options.clone(), self.requests.clone());
        let jails = super::views::names(&self.settings);
        let asides = self.asides.clone();
        tokio::spawn(async move {
            let served = start::bus(&options, requests, &jails, BUS_PATIENCE).await;
            // The loop being gone is the end of the program.
            let _ = asides.send(Aside::Served(served));
        });
    }

    /// The bus was tried.
    pub(super) fn served(&mut self, served: Result<Option<Bus>, BusError>) {
        match served {
            Ok(bus) => {
                self.bus_retry.worked();
                self.bus = bus;
                if let Some(bus) = &self.bus {
                    // A reload may have come in between.
                    bus.set_jails(&super::views::names(&self.settings));
                }
            }
            Err(error) => {
                if !self.bus_retry.has_failed() {
                    self.log.tell(Record::BusLost { error: super::effects::chain(&error) });
                }
                self.bus_retry.failed(instant());
            }
        }
    }
}

/// Now, by the monotonic clock.
pub(super) fn instant() -> Instant {
    Instant::now()
}
