//! The file: opened by one daemon at a time, never overwritten when it is damaged or newer than this program.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags, TransactionBehavior, ffi};

use crate::engine::ban::{Ban, Place};
use crate::engine::subject::Subject;
use crate::engine::time::Stamp;

use super::aside::keep_aside;
use super::error::{LedgerError, OpenError};
use super::read::{self, Past, Restored};
use super::salvage::{Salvaged, salvage};
use super::schema::{self, Found};
use super::transaction::{Durability, Transaction};
use super::write;

/// The ledger's name in the state directory.
pub const FILE: &str = "ledger.db";

/// Held by the daemon that writes the ledger; readers do without.
const LOCK: &str = "ledger.lock";

/// How long a commit waits for somebody else's lock: an administrator's shell in the middle of a write.
const PATIENCE: Duration = Duration::from_secs(2);

/// Closing neither writes the log back nor removes it.
pub(super) const CLOSE_UNTOUCHED: DbConfig = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;

/// The open ledger.
pub struct Store {
    pub(super) connection: Connection,
    /// What `PRAGMA synchronous` stands at.
    pub(super) durability: Durability,
    /// `None` in memory.
    pub(super) file: Option<Location>,
    /// Let go after the connection is closed.
    lock: Option<Lock>,
}

impl Store {
    /// Opens the ledger in `dir`, which must exist, and reads what a start needs. `now` tells which bans are over, and
    /// names a damaged file that is kept aside for a fresh one.
    ///
    /// # Errors
    /// Where another daemon has it, a later version wrote it, or it cannot be read and written. Nothing is changed then.
    pub fn open(dir: &Path, now: Stamp) -> Result<(Store, Restored), OpenError> {
        let lock = lock(&dir.join(LOCK))?;
        let path = dir.join(FILE);
        let opened = match exists(&path)? {
            true => open_known(&path, now),
            // SQLite would take a log that lies about for the new file's.
            false if has_log(&path) => Err(refusal(&path, damage(ffi::SQLITE_CORRUPT, "there is only its log").into())),
            false => open_fresh(&path, now),
        };
        let (connection, restored) = match opened {
            Err(OpenError::Sqlite { source: LedgerError::Damaged(_), .. }) => open_in_place_of(&path, now)?,
            other => other?,
        };
        let file = Some(Location::of(path)?);
        Ok((Store { connection, durability: Durability::Entries, file, lock: Some(lock) }, restored))
    }

    /// A ledger that ends with the process.
    ///
    /// # Errors
    /// Where there is no memory.
    pub fn in_memory() -> Result<Store, LedgerError> {
        let mut connection = Connection::open_in_memory()?;
        schema::migrate(&mut connection)?;
        Ok(Store { connection, durability: Durability::Entries, file: None, lock: None })
    }

    /// The bans of the ledger in `dir` that are in force at `now`; none where there is no ledger. Takes no lock and
    /// writes nothing, so it may be asked beside a running daemon.
    ///
    /// # Errors
    /// Where the file is damaged, newer than this program or cannot be read.
    pub fn read_bans(dir: &Path, now: Stamp) -> Result<Vec<Ban>, OpenError> {
        let path = dir.join(FILE);
        if !exists(&path)? {
            return Ok(Vec::new());
        }
        let (connection, _) = open_to_read(&path)?;
        read::bans_in_force(&connection, now).map_err(|source| refusal(&path, source.into()))
    }

    /// All that a start needs, of a ledger that cannot be opened for writing; of a file that an earlier version wrote
    /// only the bans in force. Takes no lock and writes nothing.
    ///
    /// # Errors
    /// As [`Store::read_bans`]; also where there is no ledger.
    pub fn read(dir: &Path, now: Stamp) -> Result<Restored, OpenError> {
        let path = dir.join(FILE);
        let refused = |source: rusqlite::Error| refusal(&path, source.into());
        let (connection, current) = open_to_read(&path)?;
        if current {
            read::restore(&connection, now).map_err(refused)
        } else {
            let bans = read::bans_in_force(&connection, now).map_err(refused)?;
            Ok(Restored { bans, ..Restored::default() })
        }
    }

    /// Does a daemon have the ledger in `dir` open? It may be opened the moment after.
    pub fn is_in_use(dir: &Path) -> bool {
        #[expect(clippy::disallowed_methods, reason = "the ledger is an edge: it owns this directory")]
        let file = File::open(dir.join(LOCK));
        file.is_ok_and(|file| {
            let held = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
            drop(file.unlock());
            held
        })
    }

    /// Applies `transaction` as a whole or not at all; applying it again changes nothing.
    ///
    /// # Errors
    /// Where nothing was written. The store stays usable.
    pub fn commit(&mut self, transaction: &Transaction, durability: Durability) -> Result<(), LedgerError> {
        self.is_in_place()?;
        self.promise(durability)?;
        let open = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        write::apply(&open, transaction)?;
        Ok(open.commit()?)
    }

    /// The bans of exactly this subject in any jail, the latest first, at most `limit`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn history(&self, subject: Subject, limit: u32) -> Result<Vec<Past>, LedgerError> {
        Ok(read::history(&self.connection, subject, limit)?)
    }

    /// Place and beginning of every ban since `from`, oldest first: what lengths and jails over our own history count.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn beginnings(&self, from: Stamp) -> Result<Vec<(Place, Stamp)>, LedgerError> {
        Ok(read::beginnings(&self.connection, from)?)
    }

    /// Forgets some of what ended before `before` and gives the number of rows: 0 when there is nothing left to forget.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn purge(&mut self, before: Stamp) -> Result<u64, LedgerError> {
        self.promise(Durability::Entries)?;
        let open = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let purged = write::purge(&open, before)?;
        open.commit()?;
        Ok(purged)
    }

    /// Closes the file, with the write-ahead log written back into it.
    ///
    /// # Errors
    /// Where that fails; the log then stays and the next start reads it.
    pub fn close(self) -> Result<(), LedgerError> {
        self.connection.close().map_err(|(_, error)| error.into())
    }

    /// SQLite goes on writing to a file that has no name any more.
    fn is_in_place(&self) -> Result<(), LedgerError> {
        let Some(Location { path, file, .. }) = &self.file else { return Ok(()) };
        match identity(path) {
            Ok(found) if found == *file => Ok(()),
            Ok(_) => Err(LedgerError::Lost(path.clone())),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Err(LedgerError::Lost(path.clone())),
                _ => Ok(()),
            },
        }
    }

    /// Takes the lock anew where its file was deleted with the ledger's.
    pub(super) fn keep_lock(&mut self) -> Result<(), OpenError> {
        let Some(Location { path, .. }) = &self.file else { return Ok(()) };
        let path = path.with_file_name(LOCK);
        let held = self.lock.as_ref().and_then(|lock| lock.0.metadata().ok()).map(|file| (file.dev(), file.ino()));
        if held.is_none() || identity(&path).ok() != held {
            self.lock = Some(lock(&path)?);
        }
        Ok(())
    }

    fn promise(&mut self, durability: Durability) -> Result<(), LedgerError> {
        if self.durability != durability {
            let synchronous = match durability {
                Durability::Entries => "NORMAL",
                Durability::Command => "FULL",
            };
            self.connection.pragma_update(None, "synchronous", synchronous)?;
            self.durability = durability;
        }
        Ok(())
    }
}

/// Where the open file is, or was.
#[derive(Clone)]
pub(super) struct Location {
    pub path: PathBuf,
    /// Its device and inode.
    pub file: (u64, u64),
    /// Those of its log, which is one file as long as it is open.
    pub log: Option<(u64, u64)>,
}

impl Location {
    pub fn of(path: PathBuf) -> Result<Location, OpenError> {
        let file = identity(&path).map_err(|source| unusable(&path, source))?;
        let [_, log, ..] = with_companions(&path);
        Ok(Location { path, file, log: identity(&log).ok() })
    }
}

/// The lock file, held.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it held by a child that is not yet at its exec. It is closed next, either way.
        drop(self.0.unlock());
    }
}

fn lock(path: &Path) -> Result<Lock, OpenError> {
    #[expect(clippy::disallowed_methods, reason = "the ledger is an edge: it owns this directory")]
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| unusable(path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.into())),
        Err(TryLockError::Error(source)) => Err(unusable(path, source)),
    }
}

/// Device and inode.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.metadata().map(|file| (file.dev(), file.ino()))
}

pub(super) fn exists(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|source| unusable(path, source))
}

pub(super) fn unusable(path: &Path, source: io::Error) -> OpenError {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly(path.into()),
        _ => OpenError::File { path: path.into(), source },
    }
}

fn refusal(path: &Path, source: LedgerError) -> OpenError {
    match source {
        LedgerError::ReadOnly(_) => OpenError::ReadOnly(path.into()),
        source => OpenError::Sqlite { path: path.into(), source },
    }
}

/// Opens a file that is there.
fn open_known(path: &Path, now: Stamp) -> Result<(Connection, Restored), OpenError> {
    let connection = open_to_write(path)?;
    let restored = read::restore(&connection, now).map_err(|source| refusal(path, source.into()))?;
    connection.set_db_config(CLOSE_UNTOUCHED, false).map_err(|source| refusal(path, source.into()))?;
    Ok((connection, restored))
}

pub(super) fn open_to_write(path: &Path) -> Result<Connection, OpenError> {
    let refused = |source: rusqlite::Error| refusal(path, source.into());
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(refused)?;
    accept(&connection, path)?;
    if connection.is_readonly(MAIN_DB).map_err(refused)? {
        return Err(OpenError::ReadOnly(path.into()));
    }
    check(&connection).map_err(refused)?;
    schema::migrate(&mut connection).map_err(refused)?;
    Ok(connection)
}

/// Makes a new file beside `path` and moves it there when it is whole: `path` itself is never half made.
fn open_fresh(path: &Path, now: Stamp) -> Result<(Connection, Restored), OpenError> {
    let new = new_name(path);
    make(&new, |_| Ok(()))?;
    rename(&new, path)?;
    open_known(path, now)
}

/// Does the same where there is a damaged file: that is kept aside, and what can still be read of it is in the new one.
fn open_in_place_of(path: &Path, now: Stamp) -> Result<(Connection, Restored), OpenError> {
    let new = new_name(path);
    let salvaged = match make(&new, |connection| salvage(path, connection, now)) {
        Ok(salvaged) => salvaged,
        // There is perhaps no room for so much.
        Err(_) => make(&new, |_| Ok(Salvaged::default()))?,
    };
    let aside = keep_aside(path, "damaged", now).map_err(|source| unusable(path, source))?;
    rename(&new, path)?;
    let (connection, restored) = open_known(path, now)?;
    Ok((connection, Restored { kept_aside: Some(aside), salvaged, ..restored }))
}

fn rename(new: &Path, path: &Path) -> Result<(), OpenError> {
    #[expect(clippy::disallowed_methods, reason = "the ledger is an edge: it owns this directory")]
    std::fs::rename(new, path).map_err(|source| unusable(path, source))
}

pub(super) fn new_name(path: &Path) -> PathBuf {
    path.with_extension("db.new")
}

/// Makes a new file with what `fill` writes into it; none where that fails.
fn make<T>(new: &Path, fill: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, OpenError> {
    fill_new(new, fill).inspect_err(|_| discard(new))
}

fn fill_new<T>(new: &Path, fill: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, OpenError> {
    discard(new);
    // SQLite gives the files it makes beside this one the same mode.
    #[expect(clippy::disallowed_methods, reason = "the ledger is an edge: it owns this directory")]
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(new).map_err(|source| unusable(new, source))?;
    let refused = |source: rusqlite::Error| refusal(new, source.into());
    let mut connection = Connection::open(new).map_err(refused)?;
    schema::migrate(&mut connection).map_err(refused)?;
    let filled = fill(&mut connection).map_err(refused)?;
    connection.close().map_err(|(_, error)| refused(error))?;
    Ok(filled)
}

/// Removes what an interrupted [`make`] left. What cannot be removed is in the way of the next step, which says so.
pub(super) fn discard(new: &Path) {
    for path in with_companions(new) {
        #[expect(clippy::disallowed_methods, reason = "the ledger is an edge: it owns this directory")]
        drop(std::fs::remove_file(path));
    }
}

/// The file and what SQLite may keep beside it; the file last, so that its log is never without it.
pub(super) fn with_companions(path: &Path) -> [PathBuf; 4] {
    ["-journal", "-wal", "-shm", ""].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

fn has_log(path: &Path) -> bool {
    let [_, log, ..] = with_companions(path);
    log.metadata().is_ok_and(|log| log.len() > 0)
}

/// Opens without looking; closing leaves file and log as they are until somebody takes [`CLOSE_UNTOUCHED`] back.
fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    has_content(path)?;
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_db_config(CLOSE_UNTOUCHED, true)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// SQLite removes the log of an empty file as soon as it looks at it.
fn has_content(path: &Path) -> rusqlite::Result<()> {
    match path.metadata() {
        Ok(file) if file.len() == 0 => Err(damage(ffi::SQLITE_NOTADB, "the file is empty")),
        _ => Ok(()),
    }
}

/// Opens a file that is there for reading, and tells whether it is of the present version.
fn open_to_read(path: &Path) -> Result<(Connection, bool), OpenError> {
    let refused = |source: rusqlite::Error| refusal(path, source.into());
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(refused)?;
    let looked = connection.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0));
    if looked.is_err_and(|error| !matches!(error.into(), LedgerError::Busy(_))) {
        // Even a reader makes files beside the ledger, for which there may be no right or no room.
        connection = if has_log(path) { connect_alone(path) } else { connect_immutable(path) }.map_err(refused)?;
    }
    accept(&connection, path)?;
    let current = schema::is_current(&connection).map_err(refused)?;
    Ok((connection, current))
}

/// Opens a file and its log, which nobody writes meanwhile, without a lock and without making a file beside them: whoever
/// keeps others out needs no shared index of the log, and has it in memory.
pub(super) fn connect_alone(path: &Path) -> rusqlite::Result<Connection> {
    has_content(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, c"unix-none")?;
    connection.set_db_config(CLOSE_UNTOUCHED, true)?;
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    Ok(connection)
}

/// Opens a file without a log that nobody can change, without a lock or a file beside it.
fn connect_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let mut name = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => name.push(char::from(*byte)),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    name.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(name, flags)
}

fn accept(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    match schema::look(connection).map_err(|source| refusal(path, source.into()))? {
        Found::Known => Ok(()),
        Found::Newer(found) => Err(OpenError::Newer { path: path.into(), found, known: schema::VERSION }),
        Found::Foreign => Err(refusal(path, damage(ffi::SQLITE_NOTADB, "no ledger of banish").into())),
    }
}

/// Sets an accepted file up for writing and looks at every page of it.
fn check(connection: &Connection) -> rusqlite::Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(damage(ffi::SQLITE_IOERR, "the file system has no room for a write-ahead log"));
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // 1 MiB of pages in memory; a log that grew in a storm is cut back to 16 MiB.
    connection.pragma_update(None, "cache_size", -1024)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(damage(ffi::SQLITE_CORRUPT, &verdict)) }
}

fn damage(code: i32, text: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(text.to_owned()))
}
