//! What was written, read back; a row that makes no sense is counted and passed over, it never stops a start.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row, params};

use crate::engine::ban::{Ban, Cause, End, JailName, Place};
use crate::engine::entry::Cursor;
use crate::engine::jail::pause::Pause;
use crate::engine::subject::Subject;
use crate::engine::time::Stamp;
use crate::engine::warden::Counts;

use super::evidence;
use super::salvage::Salvaged;
use super::transaction::{Attempt, Checkpoint, Moment, Sessions, Snapshot};
use super::write::{bit, instant};

/// What a start goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// How far each source was read.
    pub checkpoints: Vec<Checkpoint>,
    /// The bans in force, oldest first.
    pub bans: Vec<Ban>,
    /// Bans whose time was over while nobody looked, in no order: the caller writes their end.
    pub overdue: Vec<Ban>,
    /// Bans lifted before their time was over, the latest last: an element of the kernel's that only these explain is
    /// not adopted.
    pub lifted: Vec<Past>,
    /// From when on failures count.
    pub counted_from: Vec<(Place, Stamp)>,
    /// Bans ever begun, by jail.
    pub totals: Vec<(JailName, u64)>,
    /// What bus and log may not have been told.
    pub unannounced: Vec<(Moment, Past)>,
    /// The intervals in which a jail counted nothing.
    pub pauses: Vec<Pause>,
    /// What the jails had counted.
    pub snapshot: Snapshot,
    /// Failures that programs reported, in their order.
    pub attempts: Vec<Attempt>,
    /// Rows that make no sense. They were left where they are.
    pub unreadable: u64,
    /// The new name of a damaged ledger.
    pub kept_aside: Option<PathBuf>,
    /// What could still be read of it.
    pub salvaged: Salvaged,
}

/// A ban of the past or of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The ban.
    pub ban: Ban,
    /// When and how it ended; `None` while it is in force, or over and its end not yet written.
    pub ended: Option<(Stamp, End)>,
}

/// So many attempts are taken up, the newest: no more subjects than that are counted.
const ATTEMPTS: u32 = 1 << 16;

pub(super) const BANS: &str = "SELECT jail, subject, decided, since, until, failures, cause, uid, reason, evidence,
                        ended_at, ended_how, ended_uid, unannounced FROM bans";

/// All that a start needs. One pass over the bans in the order they lie in: by way of an index each would be a page.
pub(super) fn restore(db: &Connection, now: Stamp) -> rusqlite::Result<Restored> {
    let mut lost = 0;
    let needed = format!(
        "{BANS} NOT INDEXED WHERE ended_at IS NULL OR unannounced != 0
             OR (ended_how IN ('operator', 'configuration') AND (until IS NULL OR until > ?1)) ORDER BY id"
    );
    let mut restored = Restored::default();
    for (bits, past) in rows(db, &needed, [instant(now)], |row| Some((cell(row, 13)?, past(row)?)), &mut lost)? {
        restored.sort_in(bits, past, now);
    }
    restored.bans.sort_by_key(|ban| ban.since);
    restored.lifted.sort_by_key(|past| past.ended.map(|(when, _)| when));
    Ok(Restored {
        checkpoints: rows(db, "SELECT source, cursor, stamp FROM checkpoints", [], checkpoint, &mut lost)?,
        counted_from: rows(db, "SELECT jail, subject, stamp FROM counted_from", [], placed, &mut lost)?,
        totals: rows(db, "SELECT jail, bans FROM totals", [], total, &mut lost)?,
        pauses: rows(db, "SELECT jail, since, until FROM pauses ORDER BY since", [], pause, &mut lost)?,
        snapshot: Snapshot {
            counts: rows(db, "SELECT jail, config, maxretry, findtime, windows FROM counts", [], counts, &mut lost)?,
            sessions: rows(db, "SELECT source, cursor, open FROM sessions", [], sessions, &mut lost)?,
            kept: BTreeSet::new(),
            attempts_from: Stamp::EPOCH,
        },
        attempts: {
            let sql = "SELECT jail, number, address, stamp, uid FROM attempts ORDER BY number DESC LIMIT ?1";
            let mut newest = rows(db, sql, [ATTEMPTS], attempt, &mut lost)?;
            newest.reverse();
            newest
        },
        unreadable: lost,
        ..restored
    })
}

impl Restored {
    fn sort_in(&mut self, unannounced: i64, past: Past, now: Stamp) {
        for moment in [Moment::Begun, Moment::Ended] {
            if unannounced & bit(moment) != 0 {
                self.unannounced.push((moment, past.clone()));
            }
        }
        match past.ended {
            None if past.ban.until > now => self.bans.push(past.ban),
            None => self.overdue.push(past.ban),
            Some((_, End::Operator { .. } | End::Configuration)) if past.ban.until > now => self.lifted.push(past),
            Some(_) => {}
        }
    }
}

/// The bans in force, oldest first. Asks for nothing that the first version of the schema did not have.
pub(super) fn bans_in_force(db: &Connection, now: Stamp) -> rusqlite::Result<Vec<Ban>> {
    // The inner question is answered by an index alone, the outer one in the order the rows lie in.
    let sql =
        format!("{BANS} WHERE id IN (SELECT id FROM bans WHERE ended_at IS NULL) AND (until IS NULL OR until > ?1)");
    let mut bans: Vec<Ban> = rows(db, &sql, [instant(now)], past, &mut 0)?.into_iter().map(|past| past.ban).collect();
    bans.sort_by_key(|ban| ban.since);
    Ok(bans)
}

pub(super) fn history(db: &Connection, subject: Subject, limit: u32) -> rusqlite::Result<Vec<Past>> {
    let sql = format!("{BANS} WHERE subject = ?1 ORDER BY since DESC, id DESC LIMIT ?2");
    rows(db, &sql, params![subject.to_string(), limit], past, &mut 0)
}

pub(super) fn beginnings(db: &Connection, from: Stamp) -> rusqlite::Result<Vec<(Place, Stamp)>> {
    let sql = "SELECT jail, subject, since FROM bans WHERE since >= ?1 ORDER BY since, id";
    rows(db, sql, [instant(from)], placed, &mut 0)
}

fn rows<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    read: impl Fn(&Row<'_>) -> Option<T>,
    lost: &mut u64,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query(params)?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        match read(row) {
            Some(one) => all.push(one),
            None => *lost += 1,
        }
    }
    Ok(all)
}

pub(super) fn past(row: &Row<'_>) -> Option<Past> {
    let evidence = || evidence::read(text_or_null(row, 9)?.unwrap_or_default());
    let cause = match text(row, 6)? {
        "failures" => {
            let decided = text(row, 2)?.parse::<Cursor>().ok()?.entry;
            Cause::Failures { decided, evidence: evidence()? }
        }
        "configuration" => Cause::Configuration { evidence: evidence()? },
        "operator" => Cause::Operator { uid: cell(row, 7)?, reason: cell(row, 8)? },
        "adopted" => Cause::Adopted,
        _ => return None,
    };
    let ban = Ban { place: place(row)?, since: stamp(row, 3)?, until: until(row, 4)?, failures: cell(row, 5)?, cause };
    let ended = match text_or_null(row, 11)? {
        None => None,
        Some(word) => Some((stamp(row, 10)?, end(word, row)?)),
    };
    Some(Past { ban, ended })
}

fn end(word: &str, row: &Row<'_>) -> Option<End> {
    Some(match word {
        "expired" => End::Expired,
        "operator" => End::Operator { uid: cell(row, 12)? },
        "configuration" => End::Configuration,
        "replaced" => End::Replaced,
        _ => return None,
    })
}

fn checkpoint(row: &Row<'_>) -> Option<Checkpoint> {
    let cursor = text(row, 1)?.parse().ok()?;
    Some(Checkpoint { source: cell(row, 0)?, cursor, stamp: stamp(row, 2)? })
}

pub(super) fn placed(row: &Row<'_>) -> Option<(Place, Stamp)> {
    Some((place(row)?, stamp(row, 2)?))
}

fn total(row: &Row<'_>) -> Option<(JailName, u64)> {
    Some((jail(row)?, cell::<i64>(row, 1)?.try_into().ok()?))
}

pub(super) fn pause(row: &Row<'_>) -> Option<Pause> {
    Some(Pause { jail: jail(row)?, since: stamp(row, 1)?, until: until(row, 2)? })
}

fn counts(row: &Row<'_>) -> Option<(Counts, u64)> {
    let findtime = Duration::from_micros(cell::<i64>(row, 3)?.try_into().ok()?);
    let counts = Counts { jail: jail(row)?, maxretry: cell(row, 2)?, findtime, windows: cell(row, 4)? };
    Some((counts, cell::<i64>(row, 1)?.cast_unsigned()))
}

fn sessions(row: &Row<'_>) -> Option<Sessions> {
    Some(Sessions { source: cell(row, 0)?, cursor: text(row, 1)?.parse().ok()?, open: cell(row, 2)? })
}

fn attempt(row: &Row<'_>) -> Option<Attempt> {
    Some(Attempt {
        number: cell::<i64>(row, 1)?.cast_unsigned(),
        jail: jail(row)?,
        address: text(row, 2)?.parse().ok()?,
        stamp: stamp(row, 3)?,
        uid: cell(row, 4)?,
    })
}

/// The first two columns.
fn place(row: &Row<'_>) -> Option<Place> {
    Some(Place { jail: jail(row)?, subject: text(row, 1)?.parse().ok()? })
}

/// The first column.
fn jail(row: &Row<'_>) -> Option<JailName> {
    text(row, 0)?.parse().ok()
}

fn stamp(row: &Row<'_>, column: usize) -> Option<Stamp> {
    cell::<i64>(row, column)?.try_into().ok().map(Stamp::from_usec)
}

fn until(row: &Row<'_>, column: usize) -> Option<Stamp> {
    match cell::<Option<i64>>(row, column)? {
        None => Some(Stamp::NEVER),
        Some(usec) => usec.try_into().ok().map(Stamp::from_usec),
    }
}

/// A text, not copied: there may be a hundred thousand rows.
fn text<'r>(row: &'r Row<'_>, column: usize) -> Option<&'r str> {
    row.get_ref(column).ok()?.as_str().ok()
}

/// The same where it may be missing.
fn text_or_null<'r>(row: &'r Row<'_>, column: usize) -> Option<Option<&'r str>> {
    row.get_ref(column).ok()?.as_str_or_null().ok()
}

/// A value of the expected type.
pub(super) fn cell<T: FromSql>(row: &Row<'_>, column: usize) -> Option<T> {
    row.get(column).ok()
}
