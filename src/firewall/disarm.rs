//! Taking the table away by hand: works with no daemon, no ledger and no configuration.

use rustables::MsgType;

use super::batch::{About, Batch};
use super::link::{FirewallError, Link};
use super::{rules, survey};

/// What became of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disarmed {
    /// It was there and is gone, and all bans with it.
    Removed,
    /// There was none.
    Absent,
}

/// Removes the table `inet banish` from this thread's network namespace. A daemon that runs puts it back: stop it first.
///
/// # Errors
/// [`FirewallError::Owned`] where a running program owns it, [`FirewallError::Refused`] (`EPERM`) without the right to
/// change the firewall.
pub fn disarm() -> Result<Disarmed, FirewallError> {
    let mut link = Link::open().map_err(FirewallError::Socket)?;
    let Some(table) = survey::table(&mut link).map_err(FirewallError::Socket)? else { return Ok(Disarmed::Absent) };
    if let Some(port) = table.owner {
        return Err(FirewallError::Owned { port });
    }
    let mut batch = Batch::new();
    batch.object(&rules::table(0), MsgType::Del, About::Table);
    link.commit(batch)?;
    Ok(Disarmed::Removed)
}
