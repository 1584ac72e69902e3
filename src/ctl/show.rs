//! How the daemon is, and what it finds wrong.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::Global;
use super::daemon::{Daemon, Properties};
use super::ending::{NotRunning, Status};
use super::escape::{shown, shown_lines};
use super::jail::{JailState, jail_table};
use super::screen::{Colour, Screen};
use super::table::counted;
use super::when::{both, now};
use crate::bus::proxy::Finding;
use crate::engine::time::Stamp;

/// `status`: what is wrong, the daemon, and a line for each jail that runs, or for `all`.
///
/// # Errors
/// What the daemon refuses.
pub async fn status(global: &Global, all: bool) -> Result<Status> {
    let daemon = match Daemon::reach(global).await {
        Err(error) if error.is::<NotRunning>() => return not_running(global),
        other => other?,
    };
    let overall = Overall::read(daemon.properties().await?)?;
    let findings = daemon.findings().await?;
    let jails = daemon.jails().await?.into_iter().map(JailState::read).collect::<Result<Vec<_>>>()?;
    let mut screen = Screen::long(global);
    if global.json {
        let jails: Vec<Value> = jails.iter().map(JailState::json).collect();
        screen.json(&overall.json(&findings, &jails))?;
    } else {
        overall.write(&findings, &mut screen)?;
        write_jails(&overall, &findings, jails, all, &mut screen)?;
    }
    screen.finish()?;
    Ok(Status::Done)
}

/// A line for each jail, those first that do not run because something is wrong.
fn write_jails(
    overall: &Overall,
    findings: &[Finding],
    jails: Vec<JailState>,
    all: bool,
    screen: &mut Screen,
) -> Result<()> {
    let (runs, rest): (Vec<_>, Vec<_>) = jails.into_iter().partition(|jail| all || jail.is_of_interest());
    if overall.left_out.is_empty() && runs.is_empty() && rest.is_empty() {
        return Ok(());
    }
    writeln!(screen)?;
    let look = screen.look();
    for jail in &overall.left_out {
        let line = format!("{}  LEFT OUT  {}", shown(jail), shown(reason(findings, jail)));
        writeln!(screen, "{}", look.paint(Colour::Red, &line))?;
    }
    if !runs.is_empty() {
        jail_table(&runs).write(screen)?;
    }
    if look.legend && !rest.is_empty() {
        let are = if rest.len() == 1 { "is" } else { "are" };
        writeln!(screen, "{} more {are} disabled: --all", rest.len())?;
    }
    Ok(())
}

/// Why a jail does not run.
pub fn reason<'a>(findings: &'a [Finding], jail: &str) -> &'a str {
    let errors = || findings.iter().filter(|finding| finding.severity == ERROR);
    let own = errors().find(|finding| finding.jail == jail).or_else(|| errors().next());
    own.map_or("the configuration is in error", |finding| &finding.text)
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
    let findings = daemon.findings().await?;
    let mut screen = Screen::long(global);
    let look = screen.look();
    for finding in &findings {
        if global.json {
            screen.json(&finding_json(finding))?;
        } else {
            let severity = look.paint(colour_of(finding), &shown(&finding.severity));
            writeln!(screen, "{severity}: {}", finding_text(finding))?;
        }
    }
    if findings.is_empty() && look.legend && !global.json {
        writeln!(screen, "{} Nothing is wrong.", look.dot(Colour::Green))?;
    }
    screen.finish()?;
    let wrong = findings.iter().any(|finding| finding.severity == ERROR);
    Ok(if wrong { Status::Failed } else { Status::Done })
}

/// The severity of what does not work.
const ERROR: &str = "error";

/// A status shows at most so many findings; `check` shows all.
const SHOWN: usize = 10;

fn finding_json(finding: &Finding) -> Value {
    let jail = (!finding.jail.is_empty()).then_some(&finding.jail);
    json!({ "severity": finding.severity, "jail": jail, "text": finding.text })
}

fn finding_text(finding: &Finding) -> String {
    let jail = if finding.jail.is_empty() { String::new() } else { format!("jail {}: ", shown(&finding.jail)) };
    format!("{jail}{}", shown_lines(&finding.text))
}

fn colour_of(finding: &Finding) -> Colour {
    match finding.severity.as_str() {
        ERROR => Colour::Red,
        "warning" => Colour::Yellow,
        _ => Colour::Grey,
    }
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
    configuration: String,
    configuration_since: u64,
    left_out: Vec<String>,
    reload_refused: u64,
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
            configuration: given.take("Configuration")?,
            configuration_since: given.take("ConfigurationUSec")?,
            left_out: given.take("LeftOut")?,
            reload_refused: given.take("ReloadRefusedUSec")?,
        })
    }

    fn json(&self, findings: &[Finding], jails: &[Value]) -> Value {
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
            "configuration": self.configuration,
            "configuration_usec": self.configuration_since,
            "left_out": self.left_out,
            "reload_refused_usec": (self.reload_refused > 0).then_some(self.reload_refused),
            "findings": findings.iter().map(finding_json).collect::<Vec<_>>(),
            "jails": jails,
        })
    }

    fn write(&self, findings: &[Finding], screen: &mut Screen) -> Result<()> {
        let firewall = colour_of_firewall(&self.firewall);
        let errors: Vec<&Finding> = findings.iter().filter(|finding| finding.severity == ERROR).collect();
        let dot = match firewall {
            _ if !errors.is_empty() => Colour::Red,
            Colour::Green if self.catching_up => Colour::Yellow,
            other => other,
        };
        let look = screen.look();
        let journal = if self.catching_up { "catching up with the journal" } else { "following the journal" };
        let now = now();
        writeln!(screen, "{} banishd {}", look.dot(dot), shown(&self.version))?;
        // Those that the rows of left out jails tell are not told twice.
        let wrong = errors.iter().filter(|finding| !self.left_out.contains(&finding.jail));
        let mut key = "Wrong";
        for finding in wrong.clone().take(SHOWN) {
            line(screen, key, &look.paint(Colour::Red, &finding_text(finding)))?;
            key = "";
        }
        if wrong.clone().count() > SHOWN {
            let more = wrong.count() - SHOWN;
            line(screen, key, &look.paint(Colour::Red, &format!("and {more} more: banishctl check")))?;
        }
        let doubts = findings.iter().filter(|finding| finding.severity == "warning").count();
        if doubts > 0 {
            let text = format!("{}: banishctl check", counted(doubts, "warning"));
            line(screen, "Doubtful", &look.paint(Colour::Yellow, &text))?;
        }
        line(screen, "State", journal)?;
        line(screen, "Firewall", &look.paint(firewall, &shown(&self.firewall)))?;
        line(screen, "Bans", &format!("{} in force, {} since the start", self.bans_active, self.bans_total))?;
        line(screen, "Failures", &format!("{} since the start", self.failures_total))?;
        let last = match self.last_entry {
            0 => "none yet".to_owned(),
            last => format!("the last of {}", both(Stamp::from_usec(last), now)),
        };
        line(screen, "Entries", &format!("{} read, {last}", self.entries_read))
    }
}

fn colour_of_firewall(state: &str) -> Colour {
    match state {
        "armed" => Colour::Green,
        "pending" => Colour::Yellow,
        _ => Colour::Red,
    }
}

/// A line of a status: its key lined up, then its value. One without a key goes on with what the line before says.
///
/// # Errors
/// Whatever writing meets.
pub fn line(screen: &mut Screen, key: &str, value: &str) -> Result<()> {
    let colon = if key.is_empty() { ' ' } else { ':' };
    Ok(writeln!(screen, "{key:>10}{colon} {value}")?)
}
