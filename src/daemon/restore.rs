//! `banishd --restore`: the bans of the ledger into the kernel, before the network is up and before the daemon can run.
//!
//! It writes nothing to the ledger, needs neither bus nor journal, and leaves the table alone where a daemon is at work.

use super::options::Options;
use super::report::{Log, Record};
use super::start::Chosen;
use super::{StartError, clock, plan, protect, start};
use crate::engine::warden::Warden;
use crate::firewall::{Element, Firewall};
use crate::ledger::Store;

/// Restores the bans that are in force; that there are none is fine.
///
/// # Errors
/// [`StartError::NotRestored`]; the kernel then has what it had before.
pub async fn restore(options: Options) -> Result<(), StartError> {
    let (log, thread) = Log::start()?;
    let restored = put_back(&options, &log).await.map(|record| {
        log.tell(record);
    });
    drop(log);
    thread.finish();
    // Told by standard error: journald cannot say of which unit a process was that has ended by now.
    restored.map_err(|error| StartError::NotRestored(Box::new(error)))
}

async fn put_back(options: &Options, log: &Log) -> Result<Record, StartError> {
    if Store::is_in_use(&options.state) {
        return Ok(Record::RestoreNeedless);
    }
    let now = clock::now();
    let bans = Store::read_bans(&options.state, now).map_err(StartError::Ledger)?;
    if bans.is_empty() {
        return Ok(Record::Restored { bans: 0 });
    }
    let Chosen { loaded, standing, .. } = start::settings(options, log)?;
    let spared = start::spared(&loaded, &standing, &bans);
    // What the daemon would lift at its start, as the configuration does not want it any more, is not put in force.
    let mut warden = Warden::new();
    warden.configure(plan::rules(&loaded.settings, &protect::own_addresses()));
    warden.restore(bans, [], [], now);
    warden.clock_was_set(now);
    warden.lift_unwanted(&spared, now);
    let elements: Vec<Element> = warden.roster().iter().map(|held| (&held.ban).into()).collect();
    let bans = elements.len();
    // Nobody listens: what others do to the table from here on is the daemon's concern.
    let (notices, _) = tokio::sync::mpsc::channel(1);
    let firewall = Firewall::spawn(None, notices).map_err(StartError::Firewall)?;
    let policy = plan::policy(&loaded.settings, &spared);
    firewall.restore(policy, elements, now).await.map_err(StartError::Firewall)?;
    Ok(Record::Restored { bans })
}
