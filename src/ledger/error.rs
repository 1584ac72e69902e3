//! Why the ledger cannot be opened or written, told apart by what the caller does about it.

use std::io;
use std::path::PathBuf;

use rusqlite::{ErrorCode, ffi};

/// Why there is no ledger at a path. The caller goes on from memory, but for [`OpenError::Locked`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error("{0} is locked: another banishd keeps its ledger in this directory")]
    Locked(PathBuf),
    /// A later version of banish wrote it. Nothing was changed.
    #[error("{path} has schema version {found}, this banishd knows up to {known}: a later version wrote it")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The latest known here.
        known: i64,
    },
    /// It can be read but not written.
    #[error("{0} cannot be written: read-only")]
    ReadOnly(PathBuf),
    /// The directory or a file in it cannot be used.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite refuses.
    #[error("cannot open {path}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: LedgerError,
    },
}

/// Why something could not be written or read. Nothing of the transaction was applied.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk is full: the same may succeed later.
    #[error("the disk is full")]
    Full(#[source] rusqlite::Error),
    /// The file or its file system is read-only.
    #[error("the ledger is read-only")]
    ReadOnly(#[source] rusqlite::Error),
    /// Somebody else, such as an open `sqlite3` shell, keeps the file locked: the same may succeed later.
    #[error("the ledger is in use by another program")]
    Busy(#[source] rusqlite::Error),
    /// The file is damaged; the next start keeps it aside.
    #[error("the ledger is damaged")]
    Damaged(#[source] rusqlite::Error),
    /// The file under its name is not the one that is open, or there is none: what is written would be in no file.
    #[error("{0} is gone: somebody removed or replaced it")]
    Lost(PathBuf),
    /// Anything else, input and output errors among it.
    #[error("the ledger failed")]
    Failed(#[source] rusqlite::Error),
    /// The ledger was closed or its thread is gone.
    #[error("the ledger is closed")]
    Gone,
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> LedgerError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => LedgerError::Full(error),
            Some(ErrorCode::ReadOnly) => LedgerError::ReadOnly(error),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LedgerError::Busy(error),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => LedgerError::Damaged(error),
            // Our statements are fixed: the plain error means that a table or column is not there.
            _ if error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_ERROR) => {
                LedgerError::Damaged(error)
            }
            _ => LedgerError::Failed(error),
        }
    }
}
