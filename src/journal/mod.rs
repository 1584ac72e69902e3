//! The reader: owns the journal, runs the filters, hands sightings and its cursor to the loop. Every matching entry is
//! examined once and in the journal's order, and no entry is read past a full channel: the journal is the buffer.

mod bell;
mod feed;
mod handle;
mod line;
mod opening;
mod order;
mod reader;
mod source;
mod stream;
mod suppressed;
mod sys;
mod watch;
mod written;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::engine::entry::{Cursor, Entry, Field, Locate, Wanted};
use crate::engine::filter::{Held, Hit, OpenSessions};
use crate::engine::jail::Sighting;
use crate::engine::time::Stamp;

pub use feed::read_between;
pub use handle::Handle;
pub use source::{Source, senders};
pub use suppressed::Suppressed;
pub use written::last_written;

/// What is done with the entries: the filters of all jails.
pub trait Examine: Send {
    /// The fields it looks at; only these are copied from an entry.
    fn wanted(&self) -> &Wanted;

    /// Which entries it has to see at all: those with any of these fields at this value. The journal's index does this
    /// sieving, so an entry that is not seen costs nothing. `None`: all entries. An empty list: none.
    fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>>;

    /// Looks at one entry and calls `sighted` for every failure that it completes, and for what was held back and is
    /// overdue at its time. `locate` tells which entry it is.
    fn examine(&mut self, entry: Entry<'_>, locate: Locate<'_>, sighted: &mut dyn FnMut(Hit));

    /// It is `now`, and everything until then has been examined: calls `sighted` for what was held back and is overdue.
    fn pass(&mut self, _now: Stamp, _sighted: &mut dyn FnMut(Hit)) {}

    /// What is held back until other entries, or the time that passes, tell what it is.
    fn held(&self) -> Option<Held> {
        None
    }

    /// How many entries were examined.
    fn examined(&self) -> u64 {
        0
    }

    /// The sessions that are open behind the entry examined last, and what is held back: all that it remembers from one
    /// entry to the next.
    fn sessions(&self) -> Vec<OpenSessions> {
        Vec::new()
    }

    /// Goes on with these sessions and no others.
    fn resume(&mut self, _sessions: &[OpenSessions]) {}
}

/// What is read, from where on, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The journal.
    pub source: Source,
    /// Where in it.
    pub start: Start,
    /// Stop at its present end instead of following it.
    pub once: bool,
    /// How often a fresh handle checks, at the end of the journal, that ours has not gone deaf ([`LIVENESS`]).
    pub liveness: Duration,
}

/// What [`Plan::liveness`] is where nobody has a reason for another.
pub const LIVENESS: Duration = Duration::from_secs(60);

/// Where reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Feed what lies from `feed` up to and including the checkpoint, then go on after the checkpoint.
    Resume {
        /// The last entry whose decisions are committed.
        checkpoint: Cursor,
        /// From where on.
        feed: FeedFrom,
    },
    /// No checkpoint is known: feed what lies from `feed_from` up to the present end, then follow.
    Recent {
        /// Entries older than this matter to no window.
        feed_from: Stamp,
    },
    /// Every entry there is, decided at its own time.
    Head,
}

/// Where feeding begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedFrom {
    /// Entries older than this matter to no window.
    Stamp(Stamp),
    /// What lies up to and including `cursor` is known.
    Behind {
        /// The last entry that need not be read again.
        cursor: Cursor,
        /// The sessions that were open behind it.
        sessions: Vec<OpenSessions>,
    },
}

/// What a sighting is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It was decided on before: it fills windows and decides nothing.
    Feed,
    /// It is decided on.
    Live,
}

/// What some entries brought, in the journal's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harvest {
    /// The failures; often none.
    pub sightings: Vec<Sighting>,
    /// What they are good for.
    pub phase: Phase,
    /// Up to and including this entry everything has been examined and nothing is held back; a checkpoint may be set
    /// here. `None` while feeding, where that is no further than before, and where the journal could not say it.
    pub cursor: Option<Cursor>,
    /// The time of the last entry read.
    pub stamp: Stamp,
    /// How many entries were read.
    pub entries: u64,
    /// How many of them had to be passed over because their data could not be read.
    pub unreadable: u64,
    /// What journald says in them that it threw away. Not the jails' concern; the administrator's.
    pub suppressed: Vec<Suppressed>,
}

/// What the reader tells the loop.
#[derive(Debug)]
pub enum News {
    /// Entries were read.
    Harvest(Harvest),
    /// Feeding is over, every window is to be evaluated once. Comes once after [`Start::Resume`] and
    /// [`Start::Recent`], also when there was nothing to feed.
    Fed,
    /// The end of the journal was reached for the first time.
    CaughtUp,
    /// [`Plan::once`]: the end was reached, nothing more comes.
    End,
    /// The entry to go on after is gone from the journal; what was written in between may be lost.
    Gap {
        /// When that entry was written.
        from: Stamp,
        /// When the oldest entry not older than it was written, where reading goes on; `None` where all that is there
        /// is older, and reading goes on with what comes next.
        to: Option<Stamp>,
    },
    /// [`Handle::replace`] took effect: entries up to and including `at` were examined by the former, all after it are
    /// by the new one. `None`: at the journal's head.
    Replaced {
        /// The last entry of the former one.
        at: Option<Cursor>,
    },
    /// What [`Handle::save`] asked for. All sightings up to `cursor` have been handed over before.
    Saved {
        /// The last entry examined; `None` where there is none yet, where something is still to be fed, or where the
        /// journal cannot name it.
        cursor: Option<Cursor>,
        /// The sessions that are open behind it.
        sessions: Vec<OpenSessions>,
    },
    /// Reading failed; it is tried again, ever less often, until it is [`News::Reopened`]. Comes once per outage.
    Failed {
        /// Why.
        error: JournalError,
    },
    /// The journal was opened anew and is read on from where we were.
    Reopened {
        /// Why.
        reason: Reason,
    },
}

/// Why a journal was opened anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A fresh handle saw entries that ours did not.
    Deaf,
    /// After [`News::Failed`].
    Failed,
}

impl JournalError {
    /// Is the reason that there is no such journal (yet)?
    pub fn is_absence(&self) -> bool {
        match self {
            JournalError::Open { cause, .. } => cause.raw_os_error() == Some(libc::ENOENT),
            JournalError::NoFile(_) => true,
            JournalError::System(error) => error.kind() == io::ErrorKind::NotFound,
            JournalError::Unreadable
            | JournalError::Pattern { .. }
            | JournalError::Read(_)
            | JournalError::Cursor(_) => false,
        }
    }
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be opened.
    #[error("cannot open {source_text}")]
    Open {
        /// The source in words.
        source_text: String,
        /// Why.
        #[source]
        cause: systemd::Error,
    },
    /// This machine's journal has no file that we may read.
    #[error("no file of this machine's journal can be read (members of the group systemd-journal may)")]
    Unreadable,
    /// No file goes by this name or pattern.
    #[error("no journal file matches {}", .0.display())]
    NoFile(PathBuf),
    /// A pattern is malformed.
    #[error("{pattern:?} is no file name pattern")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        #[source]
        cause: glob::PatternError,
    },
    /// A call of sd-journal failed.
    #[error("cannot read the journal")]
    Read(#[from] systemd::Error),
    /// sd-journal gave a cursor that is none.
    #[error("the journal names its entry in a way we do not know")]
    Cursor(#[from] crate::engine::entry::CursorError),
    /// The system refused what a reader needs: a thread, an eventfd, `poll`.
    #[error("cannot run the journal's reader")]
    System(#[from] io::Error),
}
