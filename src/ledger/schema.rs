//! The tables, and how an older file becomes a present one.
//!
//! Times are µs since the epoch, UTC; a ban or pause without an end has `until` NULL.

use rusqlite::{Connection, TransactionBehavior};

/// `PRAGMA application_id`: whose file it is. "bnsh".
const APPLICATION: i64 = 0x626e_7368;

/// Each step leads from the version of its place to the next; a published step never changes.
const STEPS: [&str; 3] = [
    // unannounced: 1 = the beginning, 2 = the end is not yet told to bus and log.
    "CREATE TABLE checkpoints (
         source TEXT PRIMARY KEY, cursor TEXT NOT NULL, stamp INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE bans (
         id INTEGER PRIMARY KEY,
         jail TEXT NOT NULL, subject TEXT NOT NULL, decided TEXT NOT NULL,
         since INTEGER NOT NULL, until INTEGER, failures INTEGER NOT NULL,
         cause TEXT NOT NULL, uid INTEGER, reason TEXT, evidence TEXT,
         ended_at INTEGER, ended_how TEXT, ended_uid INTEGER,
         unannounced INTEGER NOT NULL DEFAULT 1
     );
     CREATE UNIQUE INDEX bans_by_decision ON bans (subject, jail, decided);
     CREATE UNIQUE INDEX bans_in_force ON bans (subject, jail) WHERE ended_at IS NULL;
     CREATE TABLE counted_from (
         jail TEXT NOT NULL, subject TEXT NOT NULL, stamp INTEGER NOT NULL, PRIMARY KEY (jail, subject)
     ) WITHOUT ROWID;
     CREATE TABLE totals (jail TEXT PRIMARY KEY, bans INTEGER NOT NULL) WITHOUT ROWID;",
    "CREATE TABLE pauses (
         jail TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER, PRIMARY KEY (jail, since)
     ) WITHOUT ROWID;
     CREATE TABLE snapshots (
         jail TEXT PRIMARY KEY, cursor TEXT NOT NULL, config INTEGER NOT NULL, state BLOB NOT NULL
     );",
    // A snapshot is of all jails and all sources at once; `snapshots` was never written.
    "DROP TABLE snapshots;
     CREATE TABLE counts (
         jail TEXT PRIMARY KEY, config INTEGER NOT NULL, maxretry INTEGER NOT NULL, findtime INTEGER NOT NULL,
         windows BLOB NOT NULL
     );
     CREATE TABLE sessions (source TEXT PRIMARY KEY, cursor TEXT NOT NULL, open BLOB NOT NULL);
     CREATE TABLE attempts (
         number INTEGER PRIMARY KEY, jail TEXT NOT NULL, address TEXT NOT NULL, stamp INTEGER NOT NULL,
         uid INTEGER NOT NULL
     );",
];

/// The version that this program writes.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// What a file is, as far as its header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Ours, of this or an earlier version.
    Known,
    /// Ours, of a later version.
    Newer(i64),
    /// Empty, or a database of somebody else.
    Foreign,
}

/// Looks at a file without changing it.
pub(super) fn look(connection: &Connection) -> rusqlite::Result<Found> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (version, application) = (number("user_version")?, number("application_id")?);
    Ok(match (version, application) {
        (1.., APPLICATION) if version <= VERSION => Found::Known,
        (1.., APPLICATION) => Found::Newer(version),
        _ => Found::Foreign,
    })
}

/// Is a [`Found::Known`] file of the version that this program writes?
pub(super) fn is_current(connection: &Connection) -> rusqlite::Result<bool> {
    connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).map(|version| version == VERSION)
}

/// Brings a [`Found::Known`] or quite new file to [`VERSION`] in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let missing = usize::try_from(version).ok().and_then(|done| STEPS.get(done..)).unwrap_or_default();
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
