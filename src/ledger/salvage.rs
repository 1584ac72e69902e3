//! What a damaged file still says: row by row, nothing that only one place of the file says.
//!
//! A page has no checksum, so a row may be readable and wrong. A ban is believed where its row and the indices, which lie
//! in other pages, agree on whose it is, what decided it and whether it is in force.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, Row, TransactionBehavior};

use crate::engine::ban::{Ban, End, Place};
use crate::engine::time::Stamp;

use super::read::{self, Past, cell};
use super::schema;
use super::store::connect_alone;
use super::transaction::{Change, Key, Moment, Transaction};
use super::write::{self, bit};

/// What was read from a damaged file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Bans that were in force when it was written, in no order. Whether they are is for the kernel to say: a lifting may
    /// be what was lost.
    pub bans: Vec<Ban>,
    /// How many bans of the past are in the new ledger.
    pub past: usize,
}

/// So many bans are looked at: damaged pages may lead round and round.
const MOST: usize = 1 << 20;

/// Copies what is over of the damaged file at `path` to the new ledger `to`, and gives what was in force. Nothing where
/// the file cannot be opened at all.
///
/// # Errors
/// Where the new ledger cannot be written.
pub(super) fn salvage(path: &Path, to: &mut Connection, now: Stamp) -> rusqlite::Result<Salvaged> {
    let Ok(from) = open(path) else { return Ok(Salvaged::default()) };
    let to = to.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut salvaged = Salvaged::default();
    let in_force = in_force(&from);
    let index = ["", " DESC"].map(|order| {
        format!(
            "SELECT id, jail, subject, decided FROM bans INDEXED BY bans_by_decision
             ORDER BY subject{order}, jail{order}, decided{order}"
        )
    });
    let mut seen = HashSet::new();
    both_ways(&from, &index, |row| {
        let Some(id) = cell::<i64>(row, 0).filter(|id| seen.insert(*id)) else { return Ok(seen.len() < MOST) };
        match attested(&from, id, row, &in_force) {
            Ok(Some((past, untold))) => salvaged.take(&to, past, untold, now)?,
            Ok(None) => {}
            // A disk that cannot be read is not asked for each row.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) => return Ok(false),
            Err(_) => {}
        }
        Ok(seen.len() < MOST)
    })?;
    let settled = ["", " DESC"]
        .map(|order| format!("SELECT jail, subject, stamp FROM counted_from ORDER BY jail{order}, subject{order}"));
    let open: HashSet<&Place> = salvaged.bans.iter().map(|ban| &ban.place).collect();
    both_ways(&from, &settled, |row| {
        // What led to a ban that may be lost is to count again, and no failure of the future is settled.
        let settled = read::placed(row).filter(|(place, _)| !open.contains(place));
        write_down(&to, settled.map(|(place, stamp)| Change::CountedFrom(place, stamp.min(now))))
    })?;
    let pauses =
        ["", " DESC"].map(|order| format!("SELECT jail, since, until FROM pauses ORDER BY jail{order}, since{order}"));
    both_ways(&from, &pauses, |row| write_down(&to, read::pause(row).map(Change::Paused)))?;
    to.commit()?;
    Ok(salvaged)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let from = connect_alone(path)?;
    // A file that was cut off is read as far as it goes.
    from.pragma_update(None, "writable_schema", true)?;
    from.pragma_update(None, "cell_size_check", true)?;
    if schema::is_current(&from)? { Ok(from) } else { Err(rusqlite::Error::InvalidQuery) }
}

/// The bans in force as the index knows them, as far as it can be read.
fn in_force(from: &Connection) -> HashSet<i64> {
    let mut all = HashSet::new();
    let index = ["", " DESC"].map(|order| {
        format!(
            "SELECT id FROM bans INDEXED BY bans_in_force WHERE ended_at IS NULL ORDER BY subject{order}, jail{order}"
        )
    });
    let read = both_ways(from, &index, |row| {
        all.extend(cell::<i64>(row, 0));
        Ok(all.len() < MOST)
    });
    read.map_or_else(|_| HashSet::new(), |()| all)
}

/// The ban of the row `id` and what is untold of it, if the row says what the indices say.
fn attested(
    from: &Connection,
    id: i64,
    index: &Row<'_>,
    in_force: &HashSet<i64>,
) -> rusqlite::Result<Option<(Past, i64)>> {
    let sql = format!("{} WHERE id = ?1", read::BANS);
    let read = from.prepare_cached(&sql)?.query_row([id], |row| Ok(read::past(row).zip(cell::<i64>(row, 13))));
    Ok(read?.filter(|(past, _)| {
        let Key { place, decided } = Key::of(&past.ban);
        cell::<String>(index, 1).as_deref() == Some(place.jail.as_str())
            && cell::<String>(index, 2) == Some(place.subject.to_string())
            && cell::<String>(index, 3) == Some(decided)
            && in_force.contains(&id) == past.ended.is_none()
    }))
}

impl Salvaged {
    fn take(&mut self, to: &Connection, past: Past, untold: i64, now: Stamp) -> rusqlite::Result<()> {
        let Past { ban, ended } = past;
        let mut transaction = Transaction::default();
        let (when, how) = match ended {
            Some(ended) => ended,
            None if ban.until <= now => {
                transaction.count_from(ban.place.clone(), ban.until);
                (ban.until, End::Expired)
            }
            None => {
                self.bans.push(ban);
                return Ok(());
            }
        };
        transaction.begin(ban.clone());
        transaction.end(&ban, when, how);
        for moment in [Moment::Begun, Moment::Ended] {
            // The end of one that ran out unseen is yet to be told.
            if untold & bit(moment) == 0 && (moment == Moment::Begun || ended.is_some()) {
                transaction.announced(&ban, moment);
            }
        }
        write::apply(to, &transaction)?;
        self.past += 1;
        Ok(())
    }
}

fn write_down(to: &Connection, change: Option<Change>) -> rusqlite::Result<bool> {
    let changes = change.into_iter().collect();
    write::apply(to, &Transaction { changes, ..Transaction::default() })?;
    Ok(true)
}

/// Gives `each` the rows from the first up to where the file is damaged, then those from the last back to there. It says
/// whether it wants more.
fn both_ways(
    from: &Connection,
    there_and_back: &[String; 2],
    mut each: impl FnMut(&Row<'_>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    for sql in there_and_back {
        let Ok(mut statement) = from.prepare(sql) else { continue };
        let Ok(mut rows) = statement.query([]) else { continue };
        loop {
            match rows.next() {
                Ok(Some(row)) if each(row)? => {}
                Ok(_) => return Ok(()),
                Err(_) => break,
            }
        }
    }
    Ok(())
}
