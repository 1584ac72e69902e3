//! Opening a journal: where to begin in it, and what there is to tell of that.

use super::line::{Line, Stopped};
use super::order::order;
use super::reader::{RETRY, RETRY_MOST, Reader, pause};
use super::stream::{Place, Presence, Stream};
use super::{Examine, FeedFrom, JournalError, News, Plan, Reason, Start};
use crate::engine::entry::Cursor;

/// What is to be fed.
#[derive(Clone)]
pub struct Feed {
    /// From where on.
    pub from: FeedFrom,
    /// Up to this entry.
    pub until: Cursor,
}

impl Reader {
    /// As [`Reader::open`], trying ever less often until it works. Tells once that it does not.
    pub fn open_patiently(mut plan: Plan, mut examine: Box<dyn Examine>, mut line: Line) -> Result<Reader, Stopped> {
        let mut retry = RETRY;
        let mut failed = false;
        loop {
            let error = match Reader::open(plan.clone(), examine, line) {
                Ok(mut reader) => {
                    let reopened = failed.then_some(News::Reopened { reason: Reason::Failed });
                    reader.opening.splice(0..0, reopened);
                    return Ok(reader);
                }
                Err(unopened) => {
                    let Unopened { error, examine: given, line: back } = *unopened;
                    (examine, line) = (given, back);
                    error
                }
            };
            if error.is_absence() && matches!(plan.start, Start::Recent { .. }) {
                // What comes into being while we wait for it is new from its first entry on.
                plan.start = Start::Head;
            }
            if !std::mem::replace(&mut failed, true) {
                line.send(News::Failed { error })?;
            }
            if plan.once {
                line.send(News::End)?;
                return Err(Stopped);
            }
            pause(&mut line, retry)?;
            retry = (retry * 2).min(RETRY_MOST);
        }
    }
}

/// What was handed in, and why it could not be used.
pub struct Unopened {
    /// Why.
    pub error: JournalError,
    /// As it was.
    pub examine: Box<dyn Examine>,
    /// As it was.
    pub line: Line,
}

/// A journal that was opened, and where to begin in it.
pub struct Opened {
    /// Stands where reading begins.
    pub stream: Stream,
    /// What comes first.
    pub feed: Option<Feed>,
    /// The last entry before that.
    pub position: Option<Cursor>,
    /// What there is to tell of it.
    pub opening: Vec<News>,
}

impl Opened {
    /// Opens it as `plan` says.
    pub fn of(plan: &Plan, examine: &dyn Examine) -> Result<Opened, JournalError> {
        let mut stream = Stream::open(&plan.source)?;
        let mut opening = Vec::new();
        let (feed, position) = match &plan.start {
            Start::Head => (None, None),
            Start::Recent { feed_from } => {
                let end = stream.end()?;
                (end.map(|until| Feed { from: FeedFrom::Stamp(*feed_from), until }), end)
            }
            Start::Resume { checkpoint, feed } => {
                // A checkpoint stays before what is held back. Sessions that are kept hold that too, and are told nothing
                // twice.
                let known = match feed {
                    FeedFrom::Behind { cursor, .. } if order(cursor, checkpoint).is_gt() => cursor,
                    _ => checkpoint,
                };
                let (position, gap) = resumed(&mut stream, *known)?;
                opening.extend(gap);
                (position.map(|until| Feed { from: feed.clone(), until }), position)
            }
        };
        if plan.start != Start::Head && feed.is_none() {
            opening.push(News::Fed);
        }
        stream.select(examine.terms().as_deref())?;
        stream.seek(Place::after(position.as_ref()))?;
        Ok(Opened { stream, feed, position, opening })
    }
}

/// Where to go on after `checkpoint`, and the gap if its entry is gone.
pub fn resumed(stream: &mut Stream, checkpoint: Cursor) -> Result<(Option<Cursor>, Option<News>), JournalError> {
    let gap = |to| Some(News::Gap { from: checkpoint.realtime, to });
    Ok(match stream.presence(&checkpoint)? {
        Presence::Here => (Some(checkpoint), None),
        // Behind an entry that is gone sd-journal goes by number, by the boot's clock, or by wall time.
        Presence::Gone(first) => (Some(checkpoint), gap(Some(first))),
        // A checkpoint of the future, of another machine perhaps: waiting for it would be deafness.
        Presence::Last => (stream.end()?, gap(None)),
    })
}
