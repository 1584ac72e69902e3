//! Bans as they come and go. A daemon that goes away is waited for, and every gap is told.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::Global;
use super::bans::stamp_json;
use super::daemon::{Daemon, INSPECT};
use super::ending::{NotRunning, Status, refused};
use super::escape::shown;
use super::screen::{Colour, Look, Screen};
use super::when::{both, calendar, now};
use crate::engine::time::Stamp;

/// `monitor`: until it is interrupted, or the daemon stays away for longer than `wait`.
///
/// # Errors
/// What the daemon refuses, and where the bus is gone.
pub async fn monitor(global: &Global, wait: Duration) -> Result<Status> {
    let mut log = Log { screen: Screen::short(global), json: global.json };
    let mut interrupts = Interrupts::new()?;
    let daemon = Daemon::listen(global).await?;
    loop {
        match follow(&daemon, &mut log, &mut interrupts).await? {
            Left::Interrupted => return Ok(Status::Done),
            Left::Alone => log.write(&Event::Lost)?,
        }
        tokio::select! {
            () = interrupts.next() => return Ok(Status::Done),
            back = is_back(&daemon, wait) => if back? { log.write(&Event::Back)? } else { return Err(NotRunning.into()) },
        }
    }
}

/// Why it is not followed any more.
enum Left {
    Interrupted,
    Alone,
}

async fn follow(daemon: &Daemon, log: &mut Log, interrupts: &mut Interrupts) -> Result<Left> {
    let manager = &daemon.manager;
    let listening = "cannot listen to banishd";
    let mut owner = manager.inner().receive_owner_changed().await.context(listening)?;
    let mut bans = manager.receive_banned().await.context(listening)?;
    let mut ends = manager.receive_unbanned().await.context(listening)?;
    let mut reloads = manager.receive_reloaded().await.context(listening)?;
    if !daemon.is_there().await? {
        return Ok(Left::Alone);
    }
    manager.subscribe().await.map_err(|refusal| refused(INSPECT, refusal))?;
    log.write(&Event::Following)?;
    let gone = || NotRunning;
    loop {
        let event = tokio::select! {
            // What was sent before the daemon went comes before its end.
            biased;
            () = interrupts.next() => return Ok(Left::Interrupted),
            signal = bans.next() => {
                let signal = signal.ok_or_else(gone)?;
                let ban = signal.args()?;
                Event::Banned { jail: ban.jail, subject: ban.subject, until: ban.until, count: ban.count, cause: ban.cause }
            }
            signal = ends.next() => {
                let signal = signal.ok_or_else(gone)?;
                let end = signal.args()?;
                Event::Unbanned { jail: end.jail, subject: end.subject, cause: end.cause }
            }
            signal = reloads.next() => {
                let signal = signal.ok_or_else(gone)?;
                let reload = signal.args()?;
                Event::Reloaded { ok: reload.ok, text: reload.text }
            }
            change = owner.next() => {
                change.ok_or_else(gone)?;
                return Ok(Left::Alone);
            }
        };
        log.write(&event)?;
    }
}

/// Is the daemon there again within `wait`?
async fn is_back(daemon: &Daemon, wait: Duration) -> Result<bool> {
    let mut owner = daemon.manager.inner().receive_owner_changed().await.context("cannot listen to the bus")?;
    let there = async {
        while !daemon.is_there().await? {
            if owner.next().await.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    tokio::time::timeout(wait, there).await.unwrap_or(Ok(false))
}

/// SIGINT and SIGTERM.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> Result<Interrupts> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Interrupts { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// One thing that is told.
enum Event {
    Following,
    Banned { jail: String, subject: String, until: u64, count: u32, cause: String },
    Unbanned { jail: String, subject: String, cause: String },
    Reloaded { ok: bool, text: String },
    Lost,
    Back,
}

struct Log {
    screen: Screen,
    json: bool,
}

impl Log {
    fn write(&mut self, event: &Event) -> Result<()> {
        let now = now();
        if self.json {
            self.screen.json(&event.json(now))?;
        } else if let Some(text) = event.text(now, self.screen.look()) {
            writeln!(self.screen, "{text}")?;
        }
        Ok(self.screen.flush()?)
    }
}

impl Event {
    fn json(&self, now: Stamp) -> Value {
        let mut value = match self {
            Event::Following => json!({ "event": "following" }),
            Event::Banned { jail, subject, until, count, cause } => json!({
                "event": "banned", "jail": jail, "subject": subject, "until_usec": stamp_json(*until),
                "failures": count, "cause": cause,
            }),
            Event::Unbanned { jail, subject, cause } => {
                json!({ "event": "unbanned", "jail": jail, "subject": subject, "cause": cause })
            }
            Event::Reloaded { ok, text } => json!({ "event": "reloaded", "ok": ok, "text": text }),
            Event::Lost => json!({ "event": "lost" }),
            Event::Back => json!({ "event": "back" }),
        };
        value["time_usec"] = now.usec().into();
        value
    }

    /// A line for people; the news about us ourselves are part of the legend.
    fn text(&self, now: Stamp, look: Look) -> Option<String> {
        let time = look.paint(Colour::Grey, &calendar(now));
        let jail_of = |jail: &str, subject: &str| format!("{} in jail {}", shown(subject), shown(jail));
        Some(match self {
            Event::Following if look.legend => "-- Bans from now on are shown; interrupt to end. --".into(),
            Event::Following => return None,
            Event::Banned { jail, subject, until, count, cause } => {
                let until = match Stamp::from_usec(*until) {
                    Stamp::NEVER => "permanently".into(),
                    until => format!("until {}", both(until, now)),
                };
                let word = look.paint(Colour::Red, "banned");
                let failures = if *count == 0 { String::new() } else { format!(", {count} failures") };
                format!("{time} {word} {} {until}{failures}: {}", jail_of(jail, subject), shown(cause))
            }
            Event::Unbanned { jail, subject, cause } => {
                let word = look.paint(Colour::Green, "unbanned");
                format!("{time} {word} {}: {}", jail_of(jail, subject), shown(cause))
            }
            Event::Reloaded { ok, text } => {
                let word = if *ok { "reloaded".into() } else { look.paint(Colour::Yellow, "not reloaded") };
                format!("{time} {word}: {}", shown(text))
            }
            Event::Lost => format!("{time} banishd is gone; what happens meanwhile is not shown"),
            Event::Back => format!("{time} banishd is back"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_signal_controls_the_terminal() {
        let event = Event::Banned {
            jail: "a\nb".into(),
            subject: "\u{1b}[2J".into(),
            until: u64::MAX,
            count: 5,
            cause: "operator uid 0: \u{9b}31m".into(),
        };
        let text = event.text(Stamp::EPOCH, Look { colour: false, legend: true, unicode: true }).unwrap();
        assert_eq!(text, "- banned \\u{1b}[2J in jail a\\nb permanently, 5 failures: operator uid 0: \\u{9b}31m");
        assert_eq!(event.json(Stamp::EPOCH)["until_usec"], Value::Null);
    }
}
