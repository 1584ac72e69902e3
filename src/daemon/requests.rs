//! What the bus asks, answered.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::crash::point;
use super::effects::First;
use super::{Asker, Daemon, clock, plan, protect, sys, views};
use crate::bus::{self, FirewallState, ManagerView, Refusal, Request, Severity};
use crate::engine::ban::JailName;
use crate::engine::roster::State;
use crate::engine::subject::Subject;
use crate::engine::time::Stamp;
use crate::engine::warden::{self, Decision};
use crate::journal::{self, Source};

impl Daemon {
    /// Does what is asked and answers. That nobody waits for the answer any more is no failure.
    pub(super) async fn answer(&mut self, request: Request) {
        match request {
            Request::Ban { order, answer } => {
                let state = self.ban(order).await;
                point("ban.done");
                let _ = answer.send(state);
                point("ban.answered");
            }
            Request::Unban { subject, jail, uid, answer } => {
                let lifted = self.warden.order_unban(subject, jail.as_ref(), uid, clock::now());
                let count = self.lift(lifted).await;
                point("unban.done");
                let _ = answer.send(count);
                point("unban.answered");
            }
            Request::UnbanAll { jail, uid, answer } => {
                let lifted = self.warden.order_unban_all(jail.as_ref(), uid, clock::now());
                let _ = answer.send(self.lift(lifted).await);
            }
            Request::Forget { subject, uid, answer } => {
                let forgotten = self.forget(subject, uid).await;
                let _ = answer.send(forgotten);
            }
            Request::Pause { jail, length, uid, answer } => {
                let paused = self.pause(jail, length, uid).await;
                self.tell_changes();
                let _ = answer.send(paused);
            }
            Request::Resume { jail, uid, answer } => {
                let resumed = self.resume(jail, uid).await;
                self.tell_changes();
                let _ = answer.send(resumed);
            }
            Request::Attempt { jail, address, uid, answer } => {
                let attempted = self.attempt(jail, address, uid).await;
                let _ = answer.send(attempted);
            }
            Request::ListBans { page, answer } => {
                let rows = match &page.jail {
                    Some(jail)
                        if self.warden.rules(jail.as_str()).is_none()
                            && !self.is_configured(jail)
                            && !self.spared.contains(jail)
                            && !self.standing.leaves_out(jail) =>
                    {
                        Err(Refusal::no_jail(jail.as_str(), self.settings.jails.iter().map(|known| &known.name)))
                    }
                    _ => Ok(views::bans(&self.warden, &page)),
                };
                let _ = answer.send(rows);
            }
            Request::Jails { answer } => {
                self.read_counters().await;
                let dropped = |jail: &JailName| self.dropped.get(jail).copied().unwrap_or(0);
                let _ = answer.send(views::jails(&self.warden, &self.settings, dropped));
            }
            Request::Status { answer } => {
                let _ = answer.send(self.manager_view());
            }
            Request::Reload { uid, answer } => self.reload(Asker::User(uid), Some(answer)),
            Request::Check { whole, answer } => {
                let _ = answer.send(self.check(whole));
            }
        }
    }

    async fn ban(&mut self, order: warden::BanOrder) -> Result<State, Refusal> {
        if self.firewall.is_none() {
            return Err(Refusal::FirewallUnavailable("this daemon runs without a firewall".into()));
        }
        let decision = self.warden.order_ban(order, &protect::needed(), clock::now());
        let decision = decision.map_err(|refusal| self.explained(refusal))?;
        let place = decision.ban().place.clone();
        self.carry_out(vec![decision], First::Ledger).await;
        Ok(self.warden.roster().at(&place).map_or(State::Banned, |held| held.state))
    }

    async fn lift(&mut self, lifted: Result<Vec<Decision>, warden::Refusal>) -> Result<u32, Refusal> {
        let decisions = lifted.map_err(|refusal| self.explained(refusal))?;
        let count = u32::try_from(decisions.len()).unwrap_or(u32::MAX);
        self.carry_out(decisions, First::Ledger).await;
        Ok(count)
    }

    /// Whoever watches properties hears of those that are others now.
    fn tell_changes(&self) {
        if let Some(bus) = &self.bus {
            bus.changed();
        }
    }

    /// The warden's refusal for who asked. The warden knows no jail that is not enabled.
    pub(super) fn explained(&self, refusal: warden::Refusal) -> Refusal {
        let text = refusal.to_string();
        match refusal {
            warden::Refusal::NoSuchJail(jail) if self.standing.leaves_out(&jail) => Refusal::left_out(jail.as_str()),
            warden::Refusal::NoSuchJail(jail) if self.is_configured(&jail) => Refusal::NoSuchJail(format!(
                "jail {jail} is not enabled; to enable it, write [jail.{jail}] and enabled = true into a file of \
                 /etc/banish/jail.d, and run: banishctl reload"
            )),
            warden::Refusal::NoSuchJail(jail) => {
                Refusal::no_jail(jail.as_str(), self.settings.jails.iter().map(|known| &known.name))
            }
            warden::Refusal::CountsNothing(_) => Refusal::NoSuchJail(text),
            warden::Refusal::NotBanned { .. } => Refusal::NotBanned(text),
            warden::Refusal::Ignored { subject, jail } if is_own(&subject) => Refusal::Ignored(format!(
                "{subject} is an address of this machine, and jail {jail} leaves those alone (ignoreself)"
            )),
            warden::Refusal::Ignored { .. } | warden::Refusal::OnlyReports(_) | warden::Refusal::Paused(_) => {
                Refusal::Ignored(text)
            }
            warden::Refusal::Protected { .. } | warden::Refusal::Reserved { .. } => Refusal::Protected(text),
        }
    }

    /// Is this machine's own journal read, and not something in its place?
    fn reads_live(&self) -> bool {
        self.readings.iter().any(|reading| reading.journal == Source::Live)
    }

    fn is_configured(&self, jail: &JailName) -> bool {
        self.settings.jails.iter().any(|known| known.name == *jail)
    }

    async fn read_counters(&mut self) {
        if let Some(firewall) = self.firewall.clone()
            && let Ok(dropped) = firewall.counters().await
        {
            self.dropped = dropped.into_iter().map(|(jail, dropped)| (jail, dropped.packets)).collect();
        }
    }

    fn manager_view(&self) -> ManagerView {
        let bans: u64 =
            self.warden.jails().filter_map(|jail| self.warden.figures(jail.as_str())).map(|figures| figures.bans).sum();
        ManagerView {
            bans_active: u32::try_from(self.warden.roster().len()).unwrap_or(u32::MAX),
            bans_total: bans,
            failures_total: self.failures(),
            entries_read: self.progress.entries,
            last_entry: self.progress.stamp,
            catching_up: self.readings.catching_up(),
            firewall_state: self.firewall_state(),
            configuration: self.standing.configuration(),
            configuration_since: self.standing.since(),
            left_out: self.standing.left_out(),
            no_longer_running: self.standing.no_longer_running(),
            reload_refused: self.standing.refused_at(),
        }
    }

    fn firewall_state(&self) -> FirewallState {
        if self.firewall.is_none() || self.rebuild_owed {
            FirewallState::Unavailable
        } else if self.owed.is_empty() {
            FirewallState::Armed
        } else {
            FirewallState::Pending
        }
    }

    /// What is wrong or doubtful, worst first.
    fn check(&self, whole: bool) -> Vec<bus::Problem> {
        let mut found = self.standing.findings(&self.problems, whole);
        let mut say = |severity, text: &str| found.push(bus::Problem { severity, jail: None, text: text.into() });
        match self.firewall_state() {
            FirewallState::Armed => {}
            FirewallState::Pending => say(Severity::Error, "the kernel refuses some bans; they are tried again"),
            FirewallState::Unavailable => say(Severity::Error, "the kernel does not have our table; nobody is cut off"),
        }
        for reading in self.readings.iter().filter(|reading| reading.failure.is_some()) {
            say(Severity::Error, &format!("the journal {} cannot be read; it is tried again", reading.name));
        }
        if self.reads_live()
            && let Some(since) = unstored(self.log.logged(), clock::now(), journal::last_written)
        {
            let nothing = match since {
                Stamp::EPOCH => "this machine's journal has no file".to_owned(),
                since => format!("nothing was written to this machine's journal since {}", clock::show(since)),
            };
            say(
                Severity::Error,
                &format!(
                    "{nothing}, though banishd has logged since: no failed login is seen; does systemd-journald run, and \
                     does Storage= in journald.conf let it keep anything?"
                ),
            );
        }
        for lack in &self.lacks {
            say(Severity::Notice, lack);
        }
        if self.ledger_lags() {
            say(Severity::Error, "the ledger cannot be written; a restart would forget what was decided since");
        }
        if views::running(&self.settings) == 0 && self.standing.left_out().is_empty() {
            say(Severity::Warning, "no jail is enabled");
        }
        for jail in plan::enabled(&self.settings) {
            let figures = self.warden.figures(jail.name.as_str()).unwrap_or_default();
            if figures.evicted > 0 {
                let count = figures.evicted;
                let were = if count == 1 { "subject was" } else { "subjects were" };
                let text = format!("{count} {were} forgotten early because there were too many");
                found.push(bus::Problem { severity: Severity::Warning, jail: Some(jail.name.clone()), text });
            }
        }
        for plan::GaveUp { jail, filter, pattern, count } in plan::given_up(&self.settings) {
            let text =
                format!("{pattern} of filter {filter} gave no answer on {count} texts: they would take too long");
            found.push(bus::Problem { severity: Severity::Warning, jail: Some(jail.clone()), text });
        }
        found.sort_by_key(|problem| problem.severity);
        found
    }
}

/// When the journal was written last, where something logged at `logged` should be in it and is not.
fn unstored(logged: Option<Stamp>, now: Stamp, written: impl FnOnce() -> Option<SystemTime>) -> Option<Stamp> {
    // journald is asked to keep it at once, but may be behind in a flood.
    const BEHIND: Duration = Duration::from_secs(30);
    let logged = logged.filter(|logged| now.since(*logged) >= BEHIND)?;
    let written = written()?.duration_since(UNIX_EPOCH).ok()?;
    let written = Stamp::from_usec(u64::try_from(written.as_micros()).ok()?);
    // The clocks of files are coarser.
    (logged.since(written) > Duration::from_millis(100)).then_some(written)
}

fn is_own(subject: &Subject) -> bool {
    sys::interface_addresses().is_ok_and(|own| own.into_iter().any(|address| *subject == Subject::host(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_journald_keeps_nothing_is_told_when_what_was_logged_is_not_there() {
        let at = |seconds: u64| Stamp::from_usec(seconds * 1_000_000);
        let written = |seconds| move || Some(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(unstored(Some(at(100)), at(200), written(50)), Some(at(50)));
        assert_eq!(unstored(Some(at(100)), at(200), written(0)), Some(Stamp::EPOCH), "it never kept anything");
        assert_eq!(unstored(Some(at(100)), at(200), written(101)), None);
        assert_eq!(unstored(Some(at(100)), at(200), written(100)), None, "a file's clock is coarse");
        assert_eq!(unstored(Some(at(100)), at(110), written(50)), None, "journald may be behind");
        assert_eq!(unstored(None, at(200), written(50)), None, "nothing was logged");
        assert_eq!(unstored(Some(at(100)), at(200), || None), None, "nobody can tell");
    }
}
