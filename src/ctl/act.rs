//! What changes something: bans by hand, lifting them, a reload, and disarming the kernel.

use std::io::Write;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::args::{BanArgs, Global, UnbanArgs};
use super::bans::stamp_json;
use super::caller;
use super::daemon::{BAN, Daemon, MANAGE, UNBAN};
use super::ending::{Status, refused};
use super::escape::shown;
use super::screen::Screen;
use super::table::counted;
use super::when::{calendar, now};
use crate::engine::ban::JailName;
use crate::engine::subject::Subject;
use crate::engine::time::Length;
use crate::firewall::{Disarmed, FirewallError, disarm as remove_table};

/// `ban`.
///
/// # Errors
/// What the daemon refuses; without force a ban of the caller's own ssh client.
pub async fn ban(global: &Global, args: &BanArgs) -> Result<Status> {
    if !args.force {
        spare_own_client(&args.subject, caller::ssh_client())?;
    }
    let daemon = Daemon::reach(global).await?;
    let subject = args.subject.to_string();
    let jail = args.jail.as_ref().map_or("", JailName::as_str);
    let length = args.time.map_or(0, Length::usec);
    // What the jail's own length is, everybody may ask.
    let time_of_ban = match args.time {
        Some(time) => time,
        None => {
            let jail = args.jail.clone().unwrap_or_else(JailName::manual);
            Length::from_usec(daemon.jail(&jail).await?.take("BanTimeUSec")?)
        }
    };
    let state = daemon.manager.ban(&subject, jail, length, &args.reason, args.force).await;
    let state = state.map_err(|refusal| refused(BAN, refusal))?;
    let jail = args.jail.clone().unwrap_or_else(JailName::manual);
    let until = now().after(time_of_ban);
    let end = match time_of_ban {
        Length::Permanent => "for ever".into(),
        Length::For(_) => format!("until {}", calendar(until)),
    };
    let mut screen = Screen::short(global);
    if global.json {
        let until = stamp_json(until.usec());
        screen.json(&json!({ "subject": subject, "jail": jail.as_str(), "state": state, "until_usec": until }))?;
    } else {
        match state.as_str() {
            "banned" => writeln!(screen, "{subject} is banned in jail {jail} {end}.")?,
            "pending" => {
                writeln!(screen, "{subject} is to be banned in jail {jail} {end}; the kernel has not taken it yet.")?
            }
            "unsaved" => writeln!(
                screen,
                "{subject} is banned in jail {jail} {end}, but that could not be saved: a restart may forget it."
            )?,
            other => writeln!(screen, "{subject} in jail {jail}: {}", shown(other))?,
        }
    }
    screen.finish()?;
    Ok(Status::Done)
}

fn spare_own_client(subject: &Subject, client: Option<IpAddr>) -> Result<()> {
    match client {
        Some(client) if subject.contains(client) => {
            bail!(
                "{subject} is where you are logged in from ({client}, by SSH_CONNECTION); --force bans it all the same"
            )
        }
        _ => Ok(()),
    }
}

/// `unban`.
///
/// # Errors
/// What the daemon refuses.
pub async fn unban(global: &Global, args: &UnbanArgs) -> Result<Status> {
    let daemon = Daemon::reach(global).await?;
    let jail = args.jail.as_ref().map_or("", JailName::as_str);
    let lifted = match &args.subject {
        Some(subject) => daemon.manager.unban(&subject.to_string(), jail).await,
        None => daemon.manager.unban_all(jail).await,
    };
    let lifted = lifted.map_err(|refusal| refused(UNBAN, refusal))?;
    let mut screen = Screen::short(global);
    if global.json {
        let subject = args.subject.as_ref().map(ToString::to_string);
        screen.json(&json!({ "subject": subject, "lifted": lifted }))?;
    } else {
        let count = usize::try_from(lifted).unwrap_or(usize::MAX);
        writeln!(screen, "{} lifted.", counted(count, "ban"))?;
    }
    screen.finish()?;
    Ok(Status::Done)
}

/// `reload`.
///
/// # Errors
/// What the daemon refuses, above all every problem of the new configuration.
pub async fn reload(global: &Global) -> Result<Status> {
    let daemon = Daemon::reach(global).await?;
    daemon.manager.reload().await.map_err(|refusal| match refusal {
        invalid @ crate::bus::Refusal::InvalidConfig(_) => {
            anyhow::Error::from(invalid).context("the old configuration stays in force, for the new one has problems")
        }
        other => refused(MANAGE, other),
    })?;
    let gone: Vec<String> = daemon.properties().await?.take("NoLongerRunning")?;
    let mut screen = Screen::short(global);
    if global.json {
        screen.json(&json!({ "reloaded": true, "no_longer_running": gone }))?;
    } else {
        writeln!(screen, "The new configuration is in force.")?;
        for jail in &gone {
            writeln!(screen, "Jail {} no longer runs.", shown(jail))?;
        }
    }
    screen.finish()?;
    Ok(Status::Done)
}

/// `disarm`: by ourselves, whether a daemon runs or not.
///
/// # Errors
/// Where the kernel refuses, or a running program owns the table.
pub fn disarm(global: &Global) -> Result<Status> {
    let done = remove_table().map_err(|error| {
        let owned = matches!(error, FirewallError::Owned { .. });
        let advice = if owned {
            "cannot remove the table inet banish while its owner runs; stop banishd (systemctl stop banishd) first"
        } else {
            "cannot remove the table inet banish"
        };
        anyhow::Error::from(error).context(advice)
    });
    let mut screen = Screen::short(global);
    let (word, text) = match done.context("nothing was changed")? {
        Disarmed::Removed => ("removed", "The table inet banish is removed: nobody is banned."),
        Disarmed::Absent => ("absent", "There is no table inet banish: nobody was banned, and nothing was changed."),
    };
    if global.json {
        screen.json(&json!({ "table": word }))?;
    } else {
        writeln!(screen, "{text}\n{AFTERWARDS}")?;
    }
    screen.finish()?;
    Ok(Status::Done)
}

/// What is to be known once the table is gone.
const AFTERWARDS: &str = "\
A running banishd puts it back with all bans: to stay without, stop it (systemctl stop banishd) and disarm once more.
It starts again at the next boot, unless you disable it: systemctl disable banishd
To lift bans and go on: banishctl unban ADDRESS, or banishctl unban --all";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_locks_himself_out_without_force() {
        let client = Some("2001:db8::7".parse().unwrap());
        for subject in ["2001:db8::7", "2001:db8::/64"] {
            assert!(spare_own_client(&subject.parse().unwrap(), client).is_err(), "{subject}");
        }
        assert!(spare_own_client(&"2001:db8:1::/64".parse().unwrap(), client).is_ok());
        assert!(spare_own_client(&"2001:db8::7".parse().unwrap(), None).is_ok());
    }
}
