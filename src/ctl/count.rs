//! What changes how jails count: forgetting failures, pausing and resuming, telling of a failure.

use std::io::Write;
use std::net::IpAddr;

use anyhow::Result;
use serde_json::json;

use super::args::{Global, PauseArgs};
use super::daemon::{ATTEMPT, Daemon, MANAGE, UNBAN};
use super::ending::{Status, refused};
use super::escape::shown;
use super::screen::Screen;
use super::table::counted;
use super::when::span;
use crate::engine::ban::JailName;
use crate::engine::subject::Subject;
use crate::engine::time::Length;

/// `forget`.
///
/// # Errors
/// What the daemon refuses.
pub async fn forget(global: &Global, subject: &Subject) -> Result<Status> {
    let daemon = Daemon::reach(global).await?;
    let subject = subject.to_string();
    let forgotten = daemon.manager.forget(&subject).await.map_err(|refusal| refused(UNBAN, refusal))?;
    let mut screen = Screen::short(global);
    if global.json {
        screen.json(&json!({ "subject": subject, "forgotten": forgotten }))?;
    } else if forgotten == 0 {
        writeln!(screen, "No failures of {subject} were counted.")?;
    } else {
        let count = usize::try_from(forgotten).unwrap_or(usize::MAX);
        writeln!(screen, "The failures of {subject} are forgotten, in {}.", counted(count, "place"))?;
    }
    screen.finish()?;
    Ok(Status::Done)
}

/// `pause`.
///
/// # Errors
/// What the daemon refuses.
pub async fn pause(global: &Global, args: &PauseArgs) -> Result<Status> {
    let daemon = Daemon::reach(global).await?;
    let jail = &args.jail;
    let usec = args.length.map_or(0, |length| Length::For(length).usec());
    daemon.jail_object(jail, MANAGE).await?.pause(usec).await.map_err(|refusal| refused(MANAGE, refusal))?;
    let mut screen = Screen::short(global);
    if global.json {
        screen.json(&json!({ "jail": jail.as_str(), "paused": true, "for_usec": args.length.map(|_| usec) }))?;
    } else {
        match args.length {
            Some(length) => writeln!(screen, "Jail {jail} counts nothing for {}.", span(length))?,
            None => writeln!(screen, "Jail {jail} counts nothing until it is resumed.")?,
        }
    }
    screen.finish()?;
    Ok(Status::Done)
}

/// `resume`.
///
/// # Errors
/// What the daemon refuses.
pub async fn resume(global: &Global, jail: &JailName) -> Result<Status> {
    let daemon = Daemon::reach(global).await?;
    daemon.jail_object(jail, MANAGE).await?.resume().await.map_err(|refusal| refused(MANAGE, refusal))?;
    let mut screen = Screen::short(global);
    if global.json {
        screen.json(&json!({ "jail": jail.as_str(), "paused": false }))?;
    } else {
        writeln!(screen, "Jail {jail} counts.")?;
    }
    screen.finish()?;
    Ok(Status::Done)
}

/// `attempt`.
///
/// # Errors
/// What the daemon refuses.
pub async fn attempt(global: &Global, jail: &JailName, address: IpAddr) -> Result<Status> {
    let daemon = Daemon::reach(global).await?;
    let address = address.to_canonical().to_string();
    let result = daemon.jail_object(jail, ATTEMPT).await?.attempt(&address).await;
    let result = result.map_err(|refusal| refused(ATTEMPT, refusal))?;
    let mut screen = Screen::short(global);
    if global.json {
        screen.json(&json!({ "jail": jail.as_str(), "address": address, "result": result }))?;
    } else {
        match result.as_str() {
            "counted" => writeln!(screen, "A failure of {address} is counted in jail {jail}.")?,
            "counted-unsaved" => writeln!(
                screen,
                "A failure of {address} is counted in jail {jail}, but that could not be saved: a restart may forget it."
            )?,
            "banned" => writeln!(screen, "{address} is banned in jail {jail}.")?,
            other => writeln!(screen, "{address} is banned in jail {jail} ({}).", shown(other))?,
        }
    }
    screen.finish()?;
    Ok(Status::Done)
}
