//! One jail: how it counts, what it counted, and whom it bans.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::Global;
use super::bans::{ban_table, rows, stamp_json};
use super::daemon::{Daemon, INSPECT, Properties};
use super::ending::{NotAllowed, Status};
use super::escape::{shown, shown_lines};
use super::screen::{Colour, Screen};
use super::show::{line, reason};
use super::table::{Column, Table};
use super::when::{both, now, relative, span};
use crate::engine::ban::JailName;
use crate::engine::time::{Length, Stamp};

/// `status JAIL`: one jail and its bans.
///
/// # Errors
/// What the daemon refuses; only the bans are left out where addresses may not be seen.
pub async fn jail_status(global: &Global, name: &JailName) -> Result<Status> {
    let daemon = Daemon::reach(global).await?;
    if daemon.left_out().await?.iter().any(|jail| jail == name.as_str()) {
        return left_out(global, &daemon, name).await;
    }
    let jail = JailState::read(daemon.jail(name).await?)?;
    let mut screen = Screen::long(global);
    if global.json {
        screen.json(&jail.json())?;
    } else {
        jail.write(&mut screen)?;
        if jail.banned > 0 {
            write_bans(&daemon, name, &mut screen).await?;
        }
    }
    screen.finish()?;
    Ok(if jail.enabled { Status::Done } else { Status::NotRunning })
}

/// The status of a jail that does not run because the configuration is in error.
async fn left_out(global: &Global, daemon: &Daemon, name: &JailName) -> Result<Status> {
    let findings = daemon.findings().await?;
    let reason = reason(&findings, name.as_str());
    let mut screen = Screen::long(global);
    if global.json {
        screen.json(&json!({ "jail": name.as_str(), "enabled": Value::Null, "left_out": true, "reason": reason }))?;
    } else {
        let look = screen.look();
        writeln!(screen, "{} {name} - jail of banishd", look.dot(Colour::Red))?;
        let text = "LEFT OUT: it does not run, for the configuration is in error";
        line(&mut screen, "State", &look.paint(Colour::Red, text))?;
        line(&mut screen, "Reason", &look.paint(Colour::Red, &shown_lines(reason)))?;
        line(&mut screen, "Banned", "the bans that it has stay in force, on all ports")?;
        write_bans(daemon, name, &mut screen).await?;
    }
    screen.finish()?;
    Ok(Status::NotRunning)
}

/// The bans of a jail, below what else is told of it.
async fn write_bans(daemon: &Daemon, name: &JailName, screen: &mut Screen) -> Result<()> {
    match rows(daemon, Some(name)).await {
        Ok(bans) if bans.is_empty() => {}
        Ok(bans) => {
            writeln!(screen)?;
            ban_table(&bans, now()).write(screen)?;
        }
        Err(error) if error.is::<NotAllowed>() => {
            writeln!(screen, "\nThe addresses are not shown: that needs the right {INSPECT}.")?;
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What a jail tells.
pub struct JailState {
    name: String,
    filter: String,
    mode: String,
    journal_match: Vec<String>,
    max_retry: u32,
    find_time: u64,
    ban_time: u64,
    ports: Vec<String>,
    enabled: bool,
    paused: bool,
    paused_until: u64,
    failing: u32,
    failures_total: u64,
    banned: u32,
    bans_total: u64,
    last_failure: u64,
    packets: u64,
}

impl JailState {
    /// From its object's properties.
    ///
    /// # Errors
    /// Where one of them is missing.
    pub fn read(mut given: Properties) -> Result<JailState> {
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
            paused: given.take("Paused")?,
            paused_until: given.take("PausedUntilUSec")?,
            failing: given.take("CurrentlyFailing")?,
            failures_total: given.take("FailuresTotal")?,
            banned: given.take("CurrentlyBanned")?,
            bans_total: given.take("BansTotal")?,
            last_failure: given.take("LastFailureUSec")?,
            packets: given.take("PacketsDropped")?,
        })
    }

    /// For programs.
    pub fn json(&self) -> Value {
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
            "paused": self.paused,
            "paused_until_usec": self.paused.then(|| stamp_json(self.paused_until)),
            "currently_failing": self.failing,
            "failures_total": self.failures_total,
            "currently_banned": self.banned,
            "bans_total": self.bans_total,
            "last_failure_usec": self.last_failure,
            "packets_dropped": self.packets,
        })
    }

    /// Does it run, or are there bans of it?
    pub fn is_of_interest(&self) -> bool {
        self.enabled || self.banned > 0
    }

    fn state(&self) -> (Colour, &'static str) {
        match (self.enabled, self.paused) {
            (false, _) => (Colour::Grey, "disabled"),
            (true, true) => (Colour::Yellow, "paused"),
            (true, false) => (Colour::Green, "enabled"),
        }
    }

    fn write(&self, screen: &mut Screen) -> Result<()> {
        let look = screen.look();
        let (colour, state) = self.state();
        let (find, ban) = (Length::from_usec(self.find_time), Length::from_usec(self.ban_time));
        let ports = if self.ports.is_empty() { "all".into() } else { shown(&self.ports.join(", ")) };
        writeln!(screen, "{} {} - jail of banishd", look.dot(colour), shown(&self.name))?;
        let state = match (self.enabled, self.paused) {
            (true, true) if self.paused_until == Stamp::NEVER.usec() => format!("{state} until it is resumed"),
            (true, true) => format!("{state} until {}", both(Stamp::from_usec(self.paused_until), now())),
            (true, false) => state.to_owned(),
            (false, _) => format!(
                "{state}; to enable it, write [jail.{}] and enabled = true into a file of /etc/banish/jail.d, and run: banishctl \
                 reload",
                shown(&self.name)
            ),
        };
        line(screen, "State", &look.paint(colour, &state))?;
        // The built-in jail of bans by hand has none.
        let filter = match self.filter.as_str() {
            "" => "-".to_owned(),
            filter => format!("{} ({})", shown(filter), shown(&self.mode)),
        };
        line(screen, "Filter", &filter)?;
        for (at, branch) in self.journal_match.iter().enumerate() {
            line(screen, if at == 0 { "Journal" } else { "or" }, &shown(branch))?;
        }
        let rule = match self.filter.as_str() {
            "" => format!("bans by hand, {} where no time is said", for_length(ban)),
            _ => format!("{} within {} ban {}", counted_failures(self.max_retry), length(find), for_length(ban)),
        };
        line(screen, "Rule", &rule)?;
        line(screen, "Ports", &ports)?;
        let last = match self.last_failure {
            0 => "none yet".to_owned(),
            last => format!("the last of {}", both(Stamp::from_usec(last), now())),
        };
        let total = counted_failures(self.failures_total);
        line(screen, "Failing", &format!("{} now; {total} since the start, {last}", self.failing))?;
        line(screen, "Banned", &format!("{} now; {} since the start", self.banned, self.bans_total))?;
        line(screen, "Dropped", &format!("{} packet{}", self.packets, if self.packets == 1 { "" } else { "s" }))
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

/// A line for each jail.
pub fn jail_table(jails: &[JailState]) -> Table {
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
        let filter = match (jail.filter.as_str(), jail.mode.as_str()) {
            ("", _) => "-".to_owned(),
            (filter, "normal") => filter.to_owned(),
            (filter, mode) => format!("{filter} ({mode})"),
        };
        table.row([
            jail.name.clone(),
            jail.state().1.to_owned(),
            filter,
            jail.failing.to_string(),
            jail.banned.to_string(),
            jail.bans_total.to_string(),
            relative(Stamp::from_usec(jail.last_failure), now),
        ]);
    }
    table
}
