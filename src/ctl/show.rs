//! How the daemon is, and what it finds wrong.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::Global;
use super::daemon::{Daemon, INSPECT, Properties};
use super::ending::{NotRunning, Status, refused};
use super::escape::{shown, shown_lines};
use super::jail::{JailState, jail_table};
use super::screen::{Colour, Screen};
use super::when::{both, now};
use crate::engine::time::Stamp;

/// `status`: the daemon and a line for each jail.
///
/// # Errors
/// What the daemon refuses.
pub async fn status(global: &Global) -> Result<Status> {
    let daemon = match Daemon::reach(global).await {
        Err(error) if error.is::<NotRunning>() => return not_running(global),
        other => other?,
    };
    let overall = Overall::read(daemon.properties().await?)?;
    let jails = daemon.jails().await?.into_iter().map(JailState::read).collect::<Result<Vec<_>>>()?;
    let mut screen = Screen::long(global);
    if global.json {
        let jails: Vec<Value> = jails.iter().map(JailState::json).collect();
        screen.json(&overall.json(&jails))?;
    } else {
        overall.write(&mut screen)?;
        if !jails.is_empty() {
            writeln!(screen)?;
            jail_table(&jails).write(&mut screen)?;
        }
    }
    screen.finish()?;
    Ok(Status::Done)
}

fn not_running(global: &Global) -> Result<Status> {
    let mut screen = Screen::short(global);
    if global.json {
        screen.json(&json!({ "running": false }))?;
    } else {
        let dot = if screen.look().unicode { "○" } else { "o" };
        writeln!(screen, "{dot} banishd is not running (start it with: systemctl start banishd)")?;
        writeln!(screen, "  Bans that are in the kernel stay there until they end.")?;
    }
    screen.finish()?;
    Ok(Status::NotRunning)
}

/// `check`: what the daemon finds wrong or doubtful; [`Status::Failed`] where one of it is an error.
///
/// # Errors
/// What the daemon refuses.
pub async fn check(global: &Global) -> Result<Status> {
    let daemon = Daemon::reach(global).await?;
    let findings = daemon.manager.check().await.map_err(|refusal| refused(INSPECT, refusal))?;
    let mut screen = Screen::long(global);
    let look = screen.look();
    for finding in &findings {
        if global.json {
            let jail = (!finding.jail.is_empty()).then_some(&finding.jail);
            screen.json(&json!({ "severity": finding.severity, "jail": jail, "text": finding.text }))?;
            continue;
        }
        let colour = match finding.severity.as_str() {
            "error" => Colour::Red,
            "warning" => Colour::Yellow,
            _ => Colour::Grey,
        };
        let severity = look.paint(colour, &shown(&finding.severity));
        let jail = if finding.jail.is_empty() { String::new() } else { format!("jail {}: ", shown(&finding.jail)) };
        writeln!(screen, "{severity}: {jail}{}", shown_lines(&finding.text))?;
    }
    if findings.is_empty() && look.legend && !global.json {
        writeln!(screen, "{} Nothing is wrong.", look.dot(Colour::Green))?;
    }
    screen.finish()?;
    let wrong = findings.iter().any(|finding| finding.severity == "error");
    Ok(if wrong { Status::Failed } else { Status::Done })
}

/// What the manager tells.
struct Overall {
    version: String,
    bans_active: u32,
    bans_total: u64,
    failures_total: u64,
    entries_read: u64,
    last_entry: u64,
    catching_up: bool,
    firewall: String,
}

impl Overall {
    fn read(mut given: Properties) -> Result<Overall> {
        Ok(Overall {
            version: given.take("Version")?,
            bans_active: given.take("BansActive")?,
            bans_total: given.take("BansTotal")?,
            failures_total: given.take("FailuresTotal")?,
            entries_read: given.take("EntriesRead")?,
            last_entry: given.take("LastEntryUSec")?,
            catching_up: given.take("CatchingUp")?,
            firewall: given.take("FirewallState")?,
        })
    }

    fn json(&self, jails: &[Value]) -> Value {
        json!({
            "running": true,
            "version": self.version,
            "bans_active": self.bans_active,
            "bans_total": self.bans_total,
            "failures_total": self.failures_total,
            "entries_read": self.entries_read,
            "last_entry_usec": self.last_entry,
            "catching_up": self.catching_up,
            "firewall_state": self.firewall,
            "jails": jails,
        })
    }

    fn write(&self, screen: &mut Screen) -> Result<()> {
        let firewall = colour_of_firewall(&self.firewall);
        let dot = if firewall == Colour::Green && self.catching_up { Colour::Yellow } else { firewall };
        let look = screen.look();
        let journal = if self.catching_up { "catching up with the journal" } else { "following the journal" };
        let now = now();
        writeln!(screen, "{} banishd {}", look.dot(dot), shown(&self.version))?;
        line(screen, "State", journal)?;
        line(screen, "Firewall", &look.paint(firewall, &shown(&self.firewall)))?;
        line(screen, "Bans", &format!("{} in force, {} since the start", self.bans_active, self.bans_total))?;
        line(screen, "Failures", &format!("{} since the start", self.failures_total))?;
        let last = both(Stamp::from_usec(self.last_entry), now);
        line(screen, "Entries", &format!("{} read, the last of {last}", self.entries_read))
    }
}

fn colour_of_firewall(state: &str) -> Colour {
    match state {
        "armed" => Colour::Green,
        "pending" => Colour::Yellow,
        _ => Colour::Red,
    }
}

/// A line of a status: its key lined up, then its value.
///
/// # Errors
/// Whatever writing meets.
pub fn line(screen: &mut Screen, key: &str, value: &str) -> Result<()> {
    Ok(writeln!(screen, "{key:>10}: {value}")?)
}
