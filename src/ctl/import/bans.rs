//! fail2ban's bans in force, as its database has them, told to banishd as bans by hand.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::super::args::{Global, ImportArgs};
use super::super::caller;
use super::super::daemon::{BAN, Daemon};
use super::super::ending::{Status, refused};
use super::super::escape::shown;
use super::super::screen::Screen;
use super::super::table::counted;
use super::super::when::{now, span};
use crate::bus::Refusal;
use crate::engine::ban::JailName;
use crate::engine::subject::Subject;
use crate::engine::time::{Length, Stamp};

/// fail2ban may be writing.
const PATIENCE: Duration = Duration::from_secs(5);
const REASON: &str = "brought over from fail2ban";

/// A ban of fail2ban's that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ban {
    subject: String,
    jail: String,
    rest: Length,
}

/// `import --bans`.
///
/// # Errors
/// The database cannot be read, or the daemon is not there or refuses the caller.
pub async fn run(global: &Global, args: &ImportArgs) -> Result<Status> {
    let bans = read(&args.database, now()).with_context(|| format!("cannot read {}", args.database.display()))?;
    let daemon = if args.check { None } else { Some(Daemon::reach(global).await?) };
    let own = caller::ssh_client();
    let mut screen = Screen::long(global);
    let mut done = 0;
    for ban in &bans {
        let state = match (&daemon, ban.subject.parse::<Subject>()) {
            (_, Err(error)) => Err(error.to_string()),
            (_, Ok(subject)) if own.is_some_and(|own| subject.contains(own)) => {
                Err("you are logged in from there".into())
            }
            (None, Ok(_)) => Ok("would be banned".to_owned()),
            (Some(daemon), Ok(subject)) => ask(daemon, &subject, ban).await?,
        };
        done += usize::from(state.is_ok());
        tell(&mut screen, global, ban, &state)?;
    }
    if screen.look().legend && !global.json {
        let verb = if args.check { "would be brought over" } else { "brought over" };
        writeln!(screen, "{} of {} {verb}.", done, counted(bans.len(), "ban"))?;
    }
    screen.finish()?;
    Ok(if done == bans.len() { Status::Done } else { Status::Failed })
}

/// What became of one ban; an error where none of the others would fare better.
async fn ask(daemon: &Daemon, subject: &Subject, ban: &Ban) -> Result<Result<String, String>> {
    if let Err(error) = ban.jail.parse::<JailName>() {
        return Ok(Err(error.to_string()));
    }
    match daemon.manager.ban(&subject.to_string(), &ban.jail, ban.rest.usec(), REASON, false).await {
        Ok(state) => Ok(Ok(state)),
        Err(
            refusal @ (Refusal::NoSuchJail(_)
            | Refusal::Ignored(_)
            | Refusal::Protected(_)
            | Refusal::InvalidSubject(_)),
        ) => Ok(Err(refusal.to_string())),
        Err(refusal) => Err(refused(BAN, refusal)),
    }
}

fn tell(screen: &mut Screen, global: &Global, ban: &Ban, state: &Result<String, String>) -> Result<()> {
    let Ban { subject, jail, rest } = ban;
    let (state, reason) = match state {
        Ok(state) => (state.as_str(), None),
        Err(reason) => ("refused", Some(reason)),
    };
    if global.json {
        screen.json(&json!({ "subject": subject, "jail": jail, "state": state, "reason": reason }))?;
        return Ok(());
    }
    let length = match rest {
        Length::For(rest) => format!("for {}", span(*rest)),
        Length::Permanent => "for good".into(),
    };
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    writeln!(screen, "{}", shown(&format!("{subject} in jail {jail} {length}: {state}{reason}")))?;
    Ok(())
}

/// The bans that are in force at `now`.
fn read(database: &Path, now: Stamp) -> rusqlite::Result<Vec<Ban>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(PATIENCE)?;
    let mut statement = connection.prepare("SELECT ip, jail, timeofban, bantime FROM bips ORDER BY jail, ip")?;
    let seconds = i64::try_from(now.usec() / 1_000_000).unwrap_or(i64::MAX);
    let rows = statement.query_map([], |row| {
        let (since, length): (i64, i64) = (row.get(2)?, row.get(3)?);
        let rest = match length {
            ..0 => Some(Length::Permanent),
            _ => {
                let rest = since.saturating_add(length).saturating_sub(seconds).min(length);
                u64::try_from(rest).ok().filter(|rest| *rest > 0).map(|rest| Length::For(Duration::from_secs(rest)))
            }
        };
        let (subject, jail) = (row.get(0)?, row.get(1)?);
        Ok(rest.map(|rest| Ban { subject, jail, rest }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_is_left_and_what_has_no_end_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fail2ban.sqlite3");
        let connection = Connection::open(&path).unwrap();
        let table = "CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL, \
                     bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON, PRIMARY KEY(ip, jail))";
        connection.execute(table, []).unwrap();
        for (ip, since, length) in
            [("192.0.2.1", 1_000, 600), ("192.0.2.2", 1_000, 100), ("2001:db8::1", 5, -1), ("192.0.2.3", 9_000, 60)]
        {
            let row = (ip, "sshd", since, length);
            connection.execute("INSERT INTO bips(ip, jail, timeofban, bantime) VALUES (?, ?, ?, ?)", row).unwrap();
        }
        let ban = |subject: &str, rest| Ban { subject: subject.into(), jail: "sshd".into(), rest };
        let rest = |seconds| Length::For(Duration::from_secs(seconds));
        let expected = [
            ban("192.0.2.1", rest(100)),
            // A ban from the future is no longer than it was meant to be.
            ban("192.0.2.3", rest(60)),
            ban("2001:db8::1", Length::Permanent),
        ];
        assert_eq!(read(&path, Stamp::from_usec(1_500_000_000)).unwrap(), expected);
        assert!(read(&directory.path().join("none"), Stamp::EPOCH).is_err());
    }
}
