//! Reading a part of the journal by itself: for windows of a jail that was not there before, and for trials.

use std::net::IpAddr;

use super::stream::{Place, Stream};
use super::{Examine, JournalError, Source};
use crate::engine::ban::JailName;
use crate::engine::entry::{Cursor, Page};
use crate::engine::jail::Sighting;
use crate::engine::time::Stamp;

/// Examines the entries of `source` not older than `from`, up to and including `until` (`None`: the present end), through
/// a handle of its own, in this thread, as long as it is `wanted`. Returns how many entries it read.
///
/// # Errors
/// The journal cannot be opened or read; what came before the error has been sighted.
pub fn read_between(
    source: &Source,
    from: Stamp,
    until: Option<&Cursor>,
    examine: &mut dyn Examine,
    sighted: &mut dyn FnMut(Sighting),
    wanted: &dyn Fn() -> bool,
) -> Result<u64, JournalError> {
    let mut stream = Stream::open(source)?;
    let end = match until {
        Some(cursor) => Some(*cursor),
        None => stream.end()?,
    };
    let Some(end) = end else { return Ok(0) };
    stream.select(examine.terms().as_deref())?;
    stream.seek(Place::From(from))?;
    let mut page = Page::default();
    let mut entries = 0;
    // Taking every entry's cursor would cost as much as reading it: only from the stamp of `end` on can one be past it.
    while wanted() && stream.advance()? {
        let stamp = stream.stamp()?;
        if stamp >= end.realtime && stream.is_past(&end)? {
            break;
        }
        entries += 1;
        sight(&mut stream, stamp, &mut page, examine, sighted).ok();
    }
    Ok(entries)
}

/// Examines the current entry of `stream`, which has this `stamp`, and hands on its sightings. Is it marked as a notice of journald?
///
/// # Errors
/// The entry cannot be read as a whole; then it has not been examined, or has sighted nothing.
pub(super) fn sight(
    stream: &mut Stream,
    stamp: Stamp,
    page: &mut Page,
    examine: &mut dyn Examine,
    sighted: &mut dyn FnMut(Sighting),
) -> Result<bool, JournalError> {
    let marked = stream.copy(stamp, examine.wanted(), page)?;
    let entry = page.entry();
    let mut place = None;
    let mut failure = None;
    examine.examine(entry, &mut |jail: JailName, address: IpAddr| {
        if place.is_none() {
            match stream.entry() {
                Ok(entry) => place = Some(entry),
                Err(error) => failure = Some(error),
            }
        }
        if let Some(entry) = place {
            sighted(Sighting { jail, address, stamp, entry });
        }
    });
    failure.map_or(Ok(marked), Err)
}
