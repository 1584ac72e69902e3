//! A ledger that was deleted or replaced under its daemon: the open file outlives its name, so all of it can be written
//! anew.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::engine::time::Stamp;

use super::aside::keep_aside;
use super::error::LedgerError;
use super::store::{CLOSE_UNTOUCHED, Location, Store, discard, identity, new_name, open_to_write, with_companions};
use super::transaction::Durability;

impl Store {
    /// Writes all that the ledger has into a new file under the name that it lost, and goes on in that one. A file that
    /// somebody put there is kept aside, under the name that is given and that `now` dates.
    ///
    /// # Errors
    /// [`LedgerError::Lost`] where no such file can be made at present. Any other says that what was lost cannot be read.
    pub fn reinstate(&mut self, now: Stamp) -> Result<Option<PathBuf>, LedgerError> {
        let Some(Location { path, log, .. }) = self.file.clone() else { return Ok(None) };
        let later = || LedgerError::Lost(path.clone());
        // Another daemon's is its own.
        self.keep_lock().map_err(|_| later())?;
        let new = new_name(&path);
        self.copy_to(&new).inspect_err(|_| discard(&new)).map_err(|error| match error {
            CopyError::Target => later(),
            CopyError::Source(error) => error,
        })?;
        let aside = put_in_place(&new, &path, log, now).map_err(|_| later())?;
        let connection = open_to_write(&path).map_err(|_| later())?;
        self.file = Some(Location::of(path.clone()).map_err(|_| later())?);
        let lost = std::mem::replace(&mut self.connection, connection);
        self.durability = Durability::Entries;
        // The names of its log and its index are the new file's now.
        lost.set_db_config(CLOSE_UNTOUCHED, true)?;
        self.connection.set_db_config(CLOSE_UNTOUCHED, false)?;
        Ok(aside)
    }

    fn copy_to(&self, new: &Path) -> Result<(), CopyError> {
        discard(new);
        #[expect(clippy::disallowed_methods, reason = "the ledger is an edge: it owns this directory")]
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new);
        let file = file.map_err(|_| CopyError::Target)?;
        let name = new.to_str().ok_or(CopyError::Target)?;
        self.connection.execute("VACUUM INTO ?1", [name]).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => CopyError::Target,
            _ => CopyError::Source(error.into()),
        })?;
        file.sync_all().map_err(|_| CopyError::Target)
    }
}

enum CopyError {
    /// The new file cannot be written.
    Target,
    /// The lost one cannot be read.
    Source(LedgerError),
}

/// Moves `new` to `path`, with nothing beside it that SQLite would take for its own.
fn put_in_place(new: &Path, path: &Path, log: Option<(u64, u64)>, now: Stamp) -> io::Result<Option<PathBuf>> {
    let [_, left, index, _] = with_companions(path);
    // What the lost file's log has was copied with it.
    if log.is_some() && identity(&left).ok() == log {
        remove(&left)?;
        remove(&index)?;
    }
    let foreign = with_companions(path).iter().any(|path| path.symlink_metadata().is_ok());
    let aside = if foreign { Some(keep_aside(path, "replaced", now)?) } else { None };
    #[expect(clippy::disallowed_methods, reason = "the ledger is an edge: it owns this directory")]
    std::fs::rename(new, path)?;
    // Commands that were answered are in it: its name is to be on the disk before the next one is.
    #[expect(clippy::disallowed_methods, reason = "the ledger is an edge: it owns this directory")]
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    Ok(aside)
}

fn remove(path: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the ledger is an edge: it owns this directory")]
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
