//! The bans in force, as a list.

use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::Global;
use super::daemon::Daemon;
use super::ending::Status;
use super::screen::Screen;
use super::table::{Column, Table, counted};
use super::when::{calendar, now, relative};
use crate::bus::proxy::ListedBan;
use crate::engine::ban::JailName;
use crate::engine::time::Stamp;

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

/// All bans of `jail`, or of all jails.
///
/// # Errors
/// What the daemon refuses.
pub async fn rows(daemon: &Daemon, jail: Option<&JailName>) -> Result<Vec<ListedBan>> {
    let mut bans = Vec::new();
    daemon
        .bans(jail, |ban| {
            bans.push(ban);
            Ok(())
        })
        .await?;
    Ok(bans)
}

/// A line for each ban.
pub fn ban_table(bans: &[ListedBan], now: Stamp) -> Table {
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
