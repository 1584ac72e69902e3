//! The journals that are read: each by a reader of its own and with a checkpoint of its own, so that an entry that
//! arrives late in one of them does not lie behind another's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::reload::Changed;
use super::search::Search;
use super::{Daemon, Reached, clock, plan};
use crate::config::{self, Settings, SourceName};
use crate::engine::ban::JailName;
use crate::engine::entry::Cursor;
use crate::engine::snapshot::decode_sessions;
use crate::journal::{self, FeedFrom, Handle, JournalError, News, Plan, Source, Start};
use crate::ledger::{self, Checkpoint};

/// How many messages wait in each reader's channel.
const QUEUE: usize = 4;
/// So long the threads may take to end.
const PATIENCE: Duration = Duration::from_secs(3);

/// Resolves when a thread has come round.
type Probe = oneshot::Receiver<()>;

/// One journal.
pub(super) struct Reading {
    /// What the ledger keeps its checkpoint under: the source's name, for a sender with `/HOST` behind it.
    pub(super) name: String,
    /// Whose jails' filters are at work on it.
    pub(super) source: SourceName,
    pub(super) journal: Source,
    pub(super) handle: Handle,
    /// `None` when it has come to its end.
    news: Option<mpsc::Receiver<News>>,
    /// The last entry read, where the ledger does not have it yet.
    pub(super) reached: Option<Reached>,
    pub(super) caught_up: bool,
    /// Why it cannot be read, while it cannot.
    pub(super) failure: Option<String>,
    /// That is because its thread does not answer.
    pub(super) silent: bool,
    /// For each change of filters that the reader has not confirmed yet, in order: the jails that it concerns.
    pub(super) changes: VecDeque<Changed>,
    /// The jails whose past up to some entry could not be read here.
    pub(super) unread: Vec<(BTreeSet<JailName>, Cursor)>,
    /// Nothing that it was read on has been in a snapshot yet.
    pub(super) fresh: bool,
}

/// All of them; this machine's own is the first.
#[derive(Default)]
pub(super) struct Readings {
    pub(super) all: Vec<Reading>,
    /// Who is heard next, so that a talkative one does not drown the others.
    turn: usize,
    /// How far each journal was read, whether it is read now or not.
    pub(super) checkpoints: BTreeMap<String, Checkpoint>,
    /// The sessions that an earlier run left, each with the entry that they were open behind.
    sessions: BTreeMap<String, ledger::Sessions>,
    /// Whose sessions in the ledger go with what is counted now: no jail has come to read the source, or to read it
    /// anew, since they were written.
    pub(super) kept: BTreeSet<String>,
    /// The jails of which an earlier run left less than the whole past.
    incomplete: BTreeSet<JailName>,
    /// What is known of the sources' senders.
    pub(super) search: Search,
}

impl Readings {
    /// None yet; this is known of an earlier run.
    pub(super) fn new(
        checkpoints: Vec<Checkpoint>,
        sessions: Vec<ledger::Sessions>,
        incomplete: BTreeSet<JailName>,
    ) -> Readings {
        let checkpoints = checkpoints.into_iter().map(|known| (known.source.clone(), known)).collect();
        let sessions: BTreeMap<String, ledger::Sessions> =
            sessions.into_iter().map(|known| (known.source.clone(), known)).collect();
        let kept = if incomplete.is_empty() { sessions.keys().cloned().collect() } else { BTreeSet::new() };
        Readings { checkpoints, sessions, kept, incomplete, ..Readings::default() }
    }

    /// The next news of any of them, and whose they are; `None` where the reader's thread has ended.
    pub(super) async fn next(&mut self) -> (usize, Option<News>) {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Readings::next`].
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(usize, Option<News>)> {
        let count = self.all.len();
        for at in (0..count).map(|step| (self.turn + step) % count) {
            if let Some(news) = &mut self.all[at].news
                && let Poll::Ready(news) = news.poll_recv(context)
            {
                self.turn = at + 1;
                return Poll::Ready((at, news));
            }
        }
        Poll::Pending
    }

    /// The reading at this place, as [`Readings::next`] gives it.
    pub(super) fn at(&mut self, at: usize) -> &mut Reading {
        &mut self.all[at]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Reading> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Reading> {
        self.all.iter_mut()
    }

    /// Has one been read further than the ledger knows?
    pub(super) fn has_moved(&self) -> bool {
        self.all.iter().any(|reading| reading.reached.is_some())
    }

    /// What the ledger was told of all sources, in order.
    pub(super) fn written(&self) -> impl Iterator<Item = &Checkpoint> {
        self.checkpoints.values()
    }

    /// Where all of them are that have been read further than the ledger knows.
    pub(super) fn take_moved(&mut self) -> Vec<Checkpoint> {
        let moved: Vec<Checkpoint> = self.all.iter_mut().filter_map(Reading::take_checkpoint).collect();
        self.checkpoints.extend(moved.iter().map(|one| (one.source.clone(), one.clone())));
        moved
    }

    /// Jails are others than before: sessions that were kept earlier are no place to go on from, here and in a later
    /// run. What is read from now on is read anew as a whole.
    pub(super) fn forget_sessions(&mut self) {
        self.sessions.clear();
        self.kept.clear();
    }

    /// Is one of them still reading the past, or may there be one that is to?
    pub(super) fn catching_up(&self) -> bool {
        self.search.is_waited_for() || self.all.iter().any(|reading| !reading.caught_up && reading.failure.is_none())
    }

    /// This one has come to its end.
    pub(super) fn ended(&mut self, at: usize) {
        self.all[at].news = None;
        self.all[at].caught_up = true;
    }

    /// Have all come to their ends?
    pub(super) fn are_done(&self) -> bool {
        !self.search.is_waited_for() && self.all.iter().all(|reading| reading.news.is_none())
    }

    /// Asks all threads whether they go round: this machine's own journal's, and the others' by name.
    pub(super) fn probes(&self) -> (Vec<Probe>, Vec<(String, Probe)>) {
        let (mut own, mut further) = (Vec::new(), Vec::new());
        for reading in self.all.iter().filter(|reading| reading.news.is_some()) {
            let probe = reading.handle.probe();
            if reading.source == SourceName::local() {
                own.push(probe);
            } else {
                further.push((reading.name.clone(), probe));
            }
        }
        (own, further)
    }

    /// Ends all of them; what they have told and nobody has heard is read again from the checkpoint.
    pub(super) fn stop(&mut self) {
        for reading in &mut self.all {
            reading.handle.stop();
            reading.news = None;
        }
    }

    /// Waits until all threads have ended, but not for ever: one may be held up by a file system that hangs.
    pub(super) async fn join(self) {
        let join = tokio::task::spawn_blocking(move || {
            for reading in self.all {
                reading.handle.join();
            }
        });
        // What has not ended by then ends with the process.
        let _ = tokio::time::timeout(PATIENCE, join).await;
    }

    /// Follows the journal in a directory by no filter.
    #[cfg(test)]
    pub(super) fn follow_directory(&mut self, directory: &std::path::Path) {
        let journal = Source::Directory(directory.to_owned());
        let plan = Plan { source: journal.clone(), start: Start::Head, once: false, liveness: journal::LIVENESS };
        let (news, out) = mpsc::channel(QUEUE);
        let sieve = crate::engine::filter::Sieve::new(Vec::new());
        let handle = Handle::spawn(plan, Box::new(plan::Sifter::new(sieve)), news).unwrap();
        self.all.push(Reading::new("test".into(), SourceName::local(), journal, handle, out));
    }

    pub(super) fn start(&mut self, wanted: &Wanted, settings: &Settings, head: bool) -> Start {
        let left = self.sessions.remove(&wanted.name);
        let left = left.and_then(|left| Some((left.cursor, decode_sessions(&left.open).ok()?)));
        match self.checkpoints.get(&wanted.name) {
            Some(known) => {
                let feed = match left {
                    Some((cursor, sessions)) => FeedFrom::Behind { cursor, sessions },
                    None => FeedFrom::Stamp(plan::feed_from(settings, known.stamp)),
                };
                Start::Resume { checkpoint: known.cursor, feed }
            }
            None if head => Start::Head,
            None => Start::Recent { feed_from: plan::feed_from(settings, clock::now()) },
        }
    }

    /// Has this source been read in any former run?
    pub(super) fn is_known(&self, source: &SourceName) -> bool {
        let prefix = format!("{source}/");
        let behind = self.checkpoints.range(prefix.clone()..).next();
        behind.is_some_and(|(name, _)| name.starts_with(&prefix))
    }
}

impl Reading {
    fn new(name: String, source: SourceName, journal: Source, handle: Handle, news: mpsc::Receiver<News>) -> Reading {
        Reading {
            name,
            source,
            journal,
            handle,
            news: Some(news),
            reached: None,
            caught_up: false,
            failure: None,
            silent: false,
            changes: VecDeque::new(),
            unread: Vec::new(),
            fresh: true,
        }
    }

    /// Is it being read, and can it be?
    pub(super) fn is_read(&self) -> bool {
        self.news.is_some() && self.failure.is_none()
    }

    pub(super) fn take_checkpoint(&mut self) -> Option<Checkpoint> {
        let Reached { cursor, stamp } = self.reached.take()?;
        Some(Checkpoint { source: self.name.clone(), cursor, stamp })
    }
}

/// A journal that is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) source: SourceName,
    pub(super) journal: Source,
}

impl Daemon {
    /// Opens this machine's own journal, or what the options name in its place. A daemon waits for one that cannot be
    /// read yet: meanwhile it keeps the bans in force and does what it is ordered to.
    pub(super) fn read_local(&mut self, wanted: Wanted) -> Result<(), JournalError> {
        // Files are given to be read from their beginning.
        let start = self.readings.start(&wanted, &self.settings, self.reads_files());
        if self.options.once || self.options.dry_run {
            self.add(wanted, start, Handle::spawn)
        } else {
            self.add(wanted, start, Handle::spawn_patient)
        }
    }

    pub(super) fn add(
        &mut self,
        wanted: Wanted,
        start: Start,
        spawn: impl FnOnce(Plan, Box<dyn journal::Examine>, mpsc::Sender<News>) -> Result<Handle, JournalError>,
    ) -> Result<(), JournalError> {
        let Wanted { name, source, journal } = wanted;
        let plan = Plan { source: journal.clone(), start, once: self.options.once, liveness: journal::LIVENESS };
        let (news, out) = mpsc::channel(QUEUE);
        let behind = match &plan.start {
            Start::Resume { feed: FeedFrom::Behind { cursor, .. }, .. } => Some(*cursor),
            _ => None,
        };
        let handle = spawn(plan, Box::new(plan::Sifter::new(plan::sieve(&self.settings, &source))), news)?;
        self.readings.all.push(Reading::new(name, source, journal, handle, out));
        if let Some(cursor) = behind {
            let incomplete = self.readings.incomplete.clone();
            self.read_past(self.readings.all.len() - 1, &|jail| incomplete.contains(jail), cursor);
        }
        Ok(())
    }

    pub(super) fn sources_in_use(&self) -> Vec<config::Source> {
        let used = |source: &&config::Source| plan::of_source(&self.settings, &source.name).next().is_some();
        self.settings.sources.iter().filter(used).cloned().collect()
    }

    pub(super) fn reads_files(&self) -> bool {
        self.options.journal_directory.is_some() || !self.options.journal_file.is_empty()
    }
}
