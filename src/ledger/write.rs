//! A transaction's rows. Every statement leaves alone what it already did, so that applying it again changes nothing.

use rusqlite::{Connection, params};

use crate::engine::ban::{Ban, Cause, End};
use crate::engine::jail::pause::Pause;
use crate::engine::time::Stamp;

use super::evidence;
use super::transaction::{Attempt, Change, Checkpoint, Key, Moment, Sessions, Snapshot, Transaction};

/// Rows that one step of a purge removes, so that a commit never waits for more.
const PURGE_STEP: u32 = 2_000;

/// Applies it; the caller has a transaction open.
pub(super) fn apply(db: &Connection, transaction: &Transaction) -> rusqlite::Result<()> {
    for change in &transaction.changes {
        match change {
            Change::Begun(ban) => begin(db, ban)?,
            Change::Ended { key, when, how } => end(db, key, *when, *how)?,
            Change::Announced(key, moment) => announced(db, key, *moment)?,
            Change::CountedFrom(place, stamp) => {
                db.prepare_cached(
                    "INSERT INTO counted_from (jail, subject, stamp) VALUES (?1, ?2, ?3)
                     ON CONFLICT (jail, subject) DO UPDATE SET stamp = max(stamp, excluded.stamp)",
                )?
                .execute(params![place.jail.as_str(), place.subject.to_string(), instant(*stamp)])?;
            }
            Change::Paused(Pause { jail, since, until }) => {
                db.prepare_cached(
                    "INSERT INTO pauses (jail, since, until) VALUES (?1, ?2, ?3) ON CONFLICT (jail, since) DO NOTHING",
                )?
                .execute(params![jail.as_str(), instant(*since), deadline(*until)])?;
            }
            Change::Resumed(Pause { jail, since, until }) => {
                db.prepare_cached(
                    "UPDATE pauses SET until = ?3 WHERE jail = ?1 AND since = ?2 AND (until IS NULL OR until > ?3)",
                )?
                .execute(params![jail.as_str(), instant(*since), instant(*until)])?;
            }
            Change::Attempted(Attempt { number, jail, address, stamp, uid }) => {
                db.prepare_cached(
                    "INSERT INTO attempts (number, jail, address, stamp, uid) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (number) DO NOTHING",
                )?
                .execute(params![
                    number.cast_signed(),
                    jail.as_str(),
                    address.to_string(),
                    instant(*stamp),
                    uid
                ])?;
            }
            Change::Snapshot(snapshot) => keep(db, snapshot)?,
        }
    }
    for Checkpoint { source, cursor, stamp } in &transaction.checkpoints {
        db.prepare_cached("REPLACE INTO checkpoints (source, cursor, stamp) VALUES (?1, ?2, ?3)")?.execute(params![
            source,
            cursor.to_string(),
            instant(*stamp)
        ])?;
    }
    Ok(())
}

fn keep(db: &Connection, snapshot: &Snapshot) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM counts")?.execute([])?;
    db.prepare_cached("DELETE FROM attempts WHERE stamp < ?1")?.execute([instant(snapshot.attempts_from)])?;
    for (counts, config) in &snapshot.counts {
        db.prepare_cached(
            "INSERT INTO counts (jail, config, maxretry, findtime, windows) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            counts.jail.as_str(),
            config.cast_signed(),
            counts.maxretry,
            i64::try_from(counts.findtime.as_micros()).unwrap_or(i64::MAX),
            counts.windows
        ])?;
    }
    let mut known = db.prepare_cached("SELECT source FROM sessions")?;
    let known = known.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    for source in known.iter().filter(|source| !snapshot.kept.contains(*source)) {
        db.prepare_cached("DELETE FROM sessions WHERE source = ?1")?.execute([source])?;
    }
    for Sessions { source, cursor, open } in &snapshot.sessions {
        db.prepare_cached("REPLACE INTO sessions (source, cursor, open) VALUES (?1, ?2, ?3)")?.execute(params![
            source,
            cursor.to_string(),
            open
        ])?;
    }
    Ok(())
}

fn begin(db: &Connection, ban: &Ban) -> rusqlite::Result<()> {
    let Key { place, decided } = Key::of(ban);
    let (jail, subject) = (place.jail.as_str(), place.subject.to_string());
    let known = db
        .prepare_cached("SELECT 1 FROM bans WHERE subject = ?1 AND jail = ?2 AND decided = ?3")?
        .exists(params![subject, jail, decided])?;
    if known {
        return Ok(());
    }
    // One whose time was over has expired, whoever comes next; only that end is told.
    db.prepare_cached(
        "UPDATE bans SET
             ended_at = CASE WHEN until <= ?3 THEN until ELSE max(since, ?3) END,
             ended_how = CASE WHEN until <= ?3 THEN 'expired' ELSE 'replaced' END,
             unannounced = CASE WHEN until <= ?3 THEN unannounced | 2 ELSE unannounced END
         WHERE subject = ?1 AND jail = ?2 AND ended_at IS NULL",
    )?
    .execute(params![subject, jail, instant(ban.since)])?;
    let (uid, reason) = match &ban.cause {
        Cause::Operator { uid, reason } => (Some(uid), Some(reason)),
        Cause::Failures { .. } | Cause::Configuration { .. } | Cause::Adopted => (None, None),
    };
    db.prepare_cached(
        "INSERT INTO bans (jail, subject, decided, since, until, failures, cause, uid, reason, evidence)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        jail,
        subject,
        decided,
        instant(ban.since),
        deadline(ban.until),
        ban.failures,
        ban.cause.word(),
        uid,
        reason,
        evidence::write(ban.cause.evidence())
    ])?;
    db.prepare_cached(
        "INSERT INTO totals (jail, bans) VALUES (?1, 1) ON CONFLICT (jail) DO UPDATE SET bans = bans + 1",
    )?
    .execute([jail])?;
    Ok(())
}

fn end(db: &Connection, key: &Key, when: Stamp, how: End) -> rusqlite::Result<()> {
    let uid = match how {
        End::Operator { uid } => Some(uid),
        End::Expired | End::Configuration | End::Replaced => None,
    };
    let told = if how == End::Replaced { 0 } else { bit(Moment::Ended) };
    db.prepare_cached(
        "UPDATE bans SET ended_at = ?4, ended_how = ?5, ended_uid = ?6, unannounced = unannounced | ?7
         WHERE subject = ?1 AND jail = ?2 AND decided = ?3 AND ended_at IS NULL",
    )?
    .execute(params![
        key.place.subject.to_string(),
        key.place.jail.as_str(),
        key.decided,
        instant(when),
        how.word(),
        uid,
        told
    ])?;
    Ok(())
}

fn announced(db: &Connection, key: &Key, moment: Moment) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE bans SET unannounced = unannounced & ~?4
         WHERE subject = ?1 AND jail = ?2 AND decided = ?3 AND unannounced & ?4",
    )?
    .execute(params![key.place.subject.to_string(), key.place.jail.as_str(), key.decided, bit(moment)])?;
    Ok(())
}

/// One step of forgetting what was over before `before`; the number of rows removed.
pub(super) fn purge(db: &Connection, before: Stamp) -> rusqlite::Result<u64> {
    let mut purged = 0;
    for sql in [
        "DELETE FROM bans WHERE id IN
             (SELECT id FROM bans WHERE coalesce(ended_at, until) < ?1 LIMIT ?2)",
        "DELETE FROM counted_from WHERE (jail, subject) IN
             (SELECT jail, subject FROM counted_from WHERE stamp < ?1 LIMIT ?2)",
        "DELETE FROM attempts WHERE number IN (SELECT number FROM attempts WHERE stamp < ?1 LIMIT ?2)",
        "DELETE FROM pauses WHERE (jail, since) IN (SELECT jail, since FROM pauses WHERE until < ?1 LIMIT ?2)",
    ] {
        let rows = db.prepare_cached(sql)?.execute(params![instant(before), PURGE_STEP])?;
        purged += u64::try_from(rows).unwrap_or(u64::MAX);
    }
    Ok(purged)
}

/// The bit of the column `unannounced`.
pub(super) fn bit(moment: Moment) -> i64 {
    match moment {
        Moment::Begun => 1,
        Moment::Ended => 2,
    }
}

/// SQLite's integers end in the year 294,247.
pub(super) fn instant(stamp: Stamp) -> i64 {
    i64::try_from(stamp.usec()).unwrap_or(i64::MAX)
}

/// An end too far away for SQLite is none, as [`Stamp::NEVER`] is.
fn deadline(stamp: Stamp) -> Option<i64> {
    i64::try_from(stamp.usec()).ok()
}
