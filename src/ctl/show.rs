//! What is there: the daemon's status, a jail's, the bans, and what the daemon finds wrong.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::Global;
use super::daemon::{Daemon, INSPECT, Properties};
use super::ending::{NotAllowed, NotRunning, Status, refused};
use super::escape::{shown, shown_lines};
use super::screen::{Colour, Look, Screen};
use super::table::{Column, Table};
use super::when::{both, calendar, now, relative, span};
use crate::bus::proxy::ListedBan;
use crate::engine::ban::JailName;
use crate::engine::time::{Length, Stamp};

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

/// `status JAIL`: one jail and its bans.
///
/// # Errors
/// What the daemon refuses; only the bans are left out where addresses may not be seen.
pub async fn jail_status(global: &Global, name: &JailName) -> Result<Status> {
    let daemon = Daemon::reach(global).await?;
    let jail = JailState::read(daemon.jail(name).await?)?;
    let mut screen = Screen::long(global);
    if global.json {
        screen.json(&jail.json())?;
        screen.finish()?;
        return Ok(Status::Done);
    }
    jail.write(&mut screen)?;
    if jail.banned > 0 {
        writeln!(screen)?;
        match rows(&daemon, Some(name)).await {
            Ok(bans) => ban_table(&bans, now()).write(&mut screen)?,
            Err(error) if error.is::<NotAllowed>() => {
                writeln!(screen, "The addresses are not shown: that needs the right {INSPECT}.")?;
            }
            Err(error) => return Err(error),
        }
    }
    screen.finish()?;
    Ok(Status::Done)
}

/// `list`: the bans in force.
///
/// # Errors
/// What the daemon refuses.
pub async fn list(global: &Global, jail: Option<&JailName>) -> Result<Status> {
    let daemon = Daemon::reach(global).await?;
    if global.json {
        let mut screen = Screen::long(global);
        daemon.bans(jail, |ban| Ok(screen.json(&ban_json(&ban))?)).await?;
        screen.finish()?;
        return Ok(Status::Done);
    }
    let bans = rows(&daemon, jail).await?;
    let mut screen = Screen::long(global);
    if !bans.is_empty() {
        ban_table(&bans, now()).write(&mut screen)?;
    }
    if screen.look().legend {
        let gap = if bans.is_empty() { "" } else { "\n" };
        writeln!(screen, "{gap}{} listed.", counted(bans.len(), "ban"))?;
    }
    screen.finish()?;
    Ok(Status::Done)
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

/// `1 ban`, `2 bans`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

async fn rows(daemon: &Daemon, jail: Option<&JailName>) -> Result<Vec<ListedBan>> {
    let mut bans = Vec::new();
    daemon
        .bans(jail, |ban| {
            bans.push(ban);
            Ok(())
        })
        .await?;
    Ok(bans)
}

fn ban_table(bans: &[ListedBan], now: Stamp) -> Table {
    let mut table = Table::new(&[
        Column::Left("SUBJECT"),
        Column::Left("JAIL"),
        Column::Left("SINCE"),
        Column::Left("UNTIL"),
        Column::Left("ENDS"),
        Column::Right("FAILURES"),
        Column::Left("STATE"),
        Column::Left("CAUSE"),
    ]);
    for ban in bans {
        let (since, until) = (Stamp::from_usec(ban.since), Stamp::from_usec(ban.until));
        let failures = ban.count.to_string();
        let (since, ends) = (calendar(since), relative(until, now));
        table.row([&ban.subject, &ban.jail, &since, &calendar(until), &ends, &failures, &ban.state, &ban.cause]);
    }
    table
}

fn ban_json(ban: &ListedBan) -> Value {
    json!({
        "jail": ban.jail,
        "subject": ban.subject,
        "since_usec": ban.since,
        "until_usec": stamp_json(ban.until),
        "failures": ban.count,
        "cause": ban.cause,
        "state": ban.state,
    })
}

/// A stamp of the bus for programs: null for never.
pub fn stamp_json(usec: u64) -> Value {
    if usec == u64::MAX { Value::Null } else { usec.into() }
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
        let colour = match self.firewall.as_str() {
            "armed" if self.catching_up => Colour::Yellow,
            "armed" => Colour::Green,
            "pending" => Colour::Yellow,
            _ => Colour::Red,
        };
        let look = screen.look();
        let journal = if self.catching_up { "catching up with the journal" } else { "following the journal" };
        let now = now();
        writeln!(screen, "{} banishd {}", look.dot(colour), shown(&self.version))?;
        line(screen, "State", journal)?;
        line(screen, "Firewall", &look.paint(colour_of_firewall(&self.firewall), &shown(&self.firewall)))?;
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

fn line(screen: &mut Screen, key: &str, value: &str) -> Result<()> {
    Ok(writeln!(screen, "{key:>10}: {value}")?)
}

/// What a jail tells.
struct JailState {
    name: String,
    filter: String,
    mode: String,
    journal_match: Vec<String>,
    max_retry: u32,
    find_time: u64,
    ban_time: u64,
    ports: Vec<String>,
    enabled: bool,
    failing: u32,
    failures_total: u64,
    banned: u32,
    bans_total: u64,
    last_failure: u64,
    packets: u64,
}

impl JailState {
    fn read(mut given: Properties) -> Result<JailState> {
        Ok(JailState {
            name: given.take("Name")?,
            filter: given.take("Filter")?,
            mode: given.take("Mode")?,
            journal_match: given.take("JournalMatch")?,
            max_retry: given.take("MaxRetry")?,
            find_time: given.take("FindTimeUSec")?,
            ban_time: given.take("BanTimeUSec")?,
            ports: given.take("Ports")?,
            enabled: given.take("Enabled")?,
            failing: given.take("CurrentlyFailing")?,
            failures_total: given.take("FailuresTotal")?,
            banned: given.take("CurrentlyBanned")?,
            bans_total: given.take("BansTotal")?,
            last_failure: given.take("LastFailureUSec")?,
            packets: given.take("PacketsDropped")?,
        })
    }

    fn json(&self) -> Value {
        json!({
            "jail": self.name,
            "filter": self.filter,
            "mode": self.mode,
            "journalmatch": self.journal_match,
            "maxretry": self.max_retry,
            "findtime_usec": self.find_time,
            "bantime_usec": stamp_json(self.ban_time),
            "ports": self.ports,
            "enabled": self.enabled,
            "currently_failing": self.failing,
            "failures_total": self.failures_total,
            "currently_banned": self.banned,
            "bans_total": self.bans_total,
            "last_failure_usec": self.last_failure,
            "packets_dropped": self.packets,
        })
    }

    fn write(&self, screen: &mut Screen) -> Result<()> {
        let look: Look = screen.look();
        let (colour, state) = if self.enabled { (Colour::Green, "enabled") } else { (Colour::Grey, "disabled") };
        let (find, ban) = (Length::from_usec(self.find_time), Length::from_usec(self.ban_time));
        let ports = if self.ports.is_empty() { "all".into() } else { shown(&self.ports.join(", ")) };
        writeln!(screen, "{} {} - jail of banishd", look.dot(colour), shown(&self.name))?;
        line(screen, "State", &look.paint(colour, state))?;
        line(screen, "Filter", &format!("{} ({})", shown(&self.filter), shown(&self.mode)))?;
        for (at, branch) in self.journal_match.iter().enumerate() {
            line(screen, if at == 0 { "Journal" } else { "or" }, &shown(branch))?;
        }
        let rule = format!("{} within {} ban {}", counted_failures(self.max_retry), length(find), for_length(ban));
        line(screen, "Rule", &rule)?;
        line(screen, "Ports", &ports)?;
        let last = both(Stamp::from_usec(self.last_failure), now());
        line(
            screen,
            "Failing",
            &format!(
                "{} now; {} since the start, the last of {last}",
                self.failing,
                counted_failures(self.failures_total)
            ),
        )?;
        line(screen, "Banned", &format!("{} now; {} since the start", self.banned, self.bans_total))?;
        line(screen, "Dropped", &format!("{} packets", self.packets))
    }
}

fn counted_failures(count: impl Into<u64>) -> String {
    let count = count.into();
    format!("{count} failure{}", if count == 1 { "" } else { "s" })
}

fn length(length: Length) -> String {
    match length {
        Length::For(time) => span(time),
        Length::Permanent => "any time".into(),
    }
}

fn for_length(length: Length) -> String {
    match length {
        Length::For(time) => format!("for {}", span(time)),
        Length::Permanent => "permanently".into(),
    }
}

fn jail_table(jails: &[JailState]) -> Table {
    let mut table = Table::new(&[
        Column::Left("JAIL"),
        Column::Left("STATE"),
        Column::Left("FILTER"),
        Column::Right("FAILING"),
        Column::Right("BANNED"),
        Column::Right("TOTAL"),
        Column::Left("LAST FAILURE"),
    ]);
    let now = now();
    for jail in jails {
        let filter =
            if jail.mode == "normal" { jail.filter.clone() } else { format!("{} ({})", jail.filter, jail.mode) };
        table.row([
            jail.name.clone(),
            if jail.enabled { "enabled".into() } else { "disabled".into() },
            filter,
            jail.failing.to_string(),
            jail.banned.to_string(),
            jail.bans_total.to_string(),
            relative(Stamp::from_usec(jail.last_failure), now),
        ]);
    }
    table
}
