//! Reading a part of the journal by itself: for windows of a jail that was not there before, and for trials.

use super::stream::{Place, Stream};
use super::{Examine, JournalError, Source};
use crate::engine::entry::{Cursor, EntryRef, Evidence, Page};
use crate::engine::filter::Hit;
use crate::engine::jail::Sighting;
use crate::engine::time::Stamp;

/// Examines the entries of `source` not older than `from`, up to and including `until` (`None`: the present end), through
/// a handle of its own, in this thread, as long as it is `wanted`. Returns how many entries it read. What is still held
/// back then and is not overdue at the time of the last entry stays so.
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
    examine.pass(end.realtime, &mut |hit| sighting(hit, None).into_iter().for_each(&mut *sighted));
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
    let mut place: Option<Result<EntryRef, JournalError>> = None;
    let mut hits = Vec::new();
    let mut locate = || place.get_or_insert_with(|| stream.entry()).as_ref().ok().copied();
    examine.examine(page.entry(), &mut locate, &mut |hit| hits.push(hit));
    for hit in hits {
        let here = if hit.evidence.is_none() { locate().map(|entry| Evidence { stamp, entry }) } else { None };
        sighting(hit, here).into_iter().for_each(&mut *sighted);
    }
    match place {
        Some(Err(error)) => Err(error),
        _ => Ok(marked),
    }
}

/// A hit with its evidence: what it brings itself, or the entry just examined.
pub(super) fn sighting(hit: Hit, here: Option<Evidence>) -> Option<Sighting> {
    let Hit { jail, address, evidence } = hit;
    let Evidence { stamp, entry } = evidence.or(here)?;
    Some(Sighting { jail, address, stamp, entry })
}
