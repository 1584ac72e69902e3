//! The journals that are read: each by a reader of its own and with a checkpoint of its own, so that an entry that
//! arrives late in one of them does not lie behind another's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use super::effects::chain;
use super::reload::Changed;
use super::report::Record;
use super::{Aside, Daemon, Reached, clock, plan};
use crate::config::{self, Location, Settings, SourceName};
use crate::engine::ban::JailName;
use crate::engine::entry::Cursor;
use crate::engine::snapshot::decode_sessions;
use crate::journal::{self, FeedFrom, Handle, JournalError, News, Plan, Source, Start};
use crate::ledger::{self, Checkpoint, Transaction};

/// So many journals are read at once: each has a thread, and its files open.
const MOST: usize = 64;
/// How many messages wait in each reader's channel.
const QUEUE: usize = 4;

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
    all: Vec<Reading>,
    /// Who is heard next, so that a talkative one does not drown the others.
    turn: usize,
    /// How far each journal was read, whether it is read now or not.
    checkpoints: BTreeMap<String, Checkpoint>,
    /// The sessions that an earlier run left, each with the entry that they were open behind.
    sessions: BTreeMap<String, ledger::Sessions>,
    /// Whose sessions in the ledger go with what is counted now: no jail has come to read the source, or to read it
    /// anew, since they were written.
    pub(super) kept: BTreeSet<String>,
    /// The jails of which an earlier run left less than the whole past.
    incomplete: BTreeSet<JailName>,
    /// The sources whose senders were looked for: one that comes later is new.
    looked: BTreeSet<SourceName>,
    /// What has been told about sources that cannot be read as a whole.
    told: BTreeSet<SourceName>,
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

    /// Is one of them still reading the past?
    pub(super) fn catching_up(&self) -> bool {
        self.all.iter().any(|reading| !reading.caught_up && reading.failure.is_none())
    }

    /// This one has come to its end. Have all?
    pub(super) fn ended(&mut self, at: usize) -> bool {
        self.all[at].news = None;
        self.all[at].caught_up = true;
        self.all.iter().all(|reading| reading.news.is_none())
    }

    /// Whether all threads go round.
    pub(super) fn probes(&self) -> Vec<tokio::sync::oneshot::Receiver<()>> {
        self.all.iter().filter(|reading| reading.news.is_some()).map(|reading| reading.handle.probe()).collect()
    }

    /// Ends all of them; what they have told and nobody has heard is read again from the checkpoint.
    pub(super) fn stop(&mut self) {
        for reading in &mut self.all {
            reading.handle.stop();
            reading.news = None;
        }
    }

    /// Waits until all threads have ended.
    pub(super) fn join(self) {
        for reading in self.all {
            reading.handle.join();
        }
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

    fn start(&mut self, wanted: &Wanted, settings: &Settings, head: bool) -> Start {
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
    fn is_known(&self, source: &SourceName) -> bool {
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
            changes: VecDeque::new(),
            unread: Vec::new(),
            fresh: true,
        }
    }

    /// Is it being read, and can it be?
    pub(super) fn is_read(&self) -> bool {
        self.news.is_some() && self.failure.is_none()
    }

    fn take_checkpoint(&mut self) -> Option<Checkpoint> {
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

/// What the sources in use amount to at this moment.
pub(super) struct Found {
    /// For which this was looked for.
    sources: Vec<config::Source>,
    wanted: Vec<Wanted>,
    /// Whose senders are not known, and why.
    unknown: BTreeMap<SourceName, io::Error>,
}

impl Found {
    /// Looks at what there is of `sources`.
    pub(super) fn look(sources: Vec<config::Source>) -> Found {
        let mut found = Found { wanted: Vec::new(), unknown: BTreeMap::new(), sources };
        for config::Source { name, location } in &found.sources {
            let mut want = |suffix: &str, journal| {
                let wanted = Wanted { name: format!("{name}{suffix}"), source: name.clone(), journal };
                found.wanted.push(wanted);
            };
            match location {
                Location::Namespace(namespace) => want("", Source::Namespace(namespace.clone())),
                Location::Directory(directory) => want("", Source::Directory(directory.clone())),
                Location::Remote(directory) => match journal::senders(directory) {
                    Ok(stems) => stems.into_iter().for_each(|stem| {
                        let suffix = format!("/{}", host_of(&stem));
                        want(&suffix, Source::Sender { directory: directory.clone(), stem });
                    }),
                    Err(error) => drop(found.unknown.insert(name.clone(), error)),
                },
            }
        }
        found
    }
}

/// The sender's name in a file's, of letters that can stand in the ledger and in a message; no two become the same.
fn host_of(stem: &OsStr) -> String {
    let bytes = stem.as_bytes();
    bytes.strip_prefix(b"remote-").unwrap_or(bytes).escape_ascii().to_string()
}

impl Daemon {
    /// Opens this machine's own journal, or what the options name in its place.
    pub(super) fn read_local(&mut self, wanted: Wanted) -> Result<(), JournalError> {
        // Files are given to be read from their beginning.
        let start = self.readings.start(&wanted, &self.settings, self.reads_files());
        self.add(wanted, start, Handle::spawn)
    }

    /// Opens the further sources that jails read.
    pub(super) fn read_others(&mut self) {
        let found = Found::look(self.sources_in_use());
        self.read_found(found);
    }

    /// Looks beside the loop for senders that have come.
    pub(super) fn look_for_senders(&mut self) {
        let sources = self.sources_in_use();
        let asides = self.asides.clone();
        tokio::task::spawn_blocking(move || {
            // The loop being gone is the end of the program.
            let _ = asides.send(Aside::Found(Found::look(sources)));
        });
    }

    /// Is there anything that [`Daemon::look_for_senders`] could find?
    pub(super) fn expects_senders(&self) -> bool {
        let remote = |source: &config::Source| matches!(source.location, Location::Remote(_));
        self.sources_in_use().iter().any(|source| remote(source) || self.readings.told.contains(&source.name))
    }

    /// Reads what was found and is not read yet, and no longer what is not there any more.
    pub(super) fn read_found(&mut self, found: Found) {
        // It may have been looked for before a reload.
        if found.sources != self.sources_in_use() {
            return;
        }
        self.close_unwanted(&found);
        let mut unread: BTreeMap<SourceName, String> = BTreeMap::new();
        for (source, error) in &found.unknown {
            unread.insert(source.clone(), error.to_string());
            if error.kind() == io::ErrorKind::NotFound {
                self.readings.looked.insert(source.clone());
            }
        }
        for wanted in found.wanted {
            if self.readings.iter().any(|reading| reading.name == wanted.name) {
                continue;
            }
            if self.readings.all.len() >= MOST {
                unread.insert(wanted.source, format!("more than {MOST} journals would have to be read"));
                continue;
            }
            let sender = matches!(wanted.journal, Source::Sender { .. });
            let later = self.readings.looked.contains(&wanted.source) || self.readings.is_known(&wanted.source);
            let start = self.readings.start(&wanted, &self.settings, self.reads_files() || (sender && later));
            let source = wanted.source.clone();
            if let Err(error) = self.add(wanted, start, Handle::spawn_patient) {
                unread.insert(source, chain(&error));
            }
        }
        for source in found.sources {
            match unread.remove(&source.name) {
                Some(error) => {
                    if self.readings.told.insert(source.name.clone()) {
                        self.log.tell(Record::ReaderFailed { source: source.name.to_string(), error });
                    }
                }
                None => {
                    self.readings.told.remove(&source.name);
                    self.readings.looked.insert(source.name);
                }
            }
        }
    }

    fn close_unwanted(&mut self, found: &Found) {
        let local = SourceName::local();
        let keep = |reading: &Reading| {
            let wanted = found.wanted.iter().find(|wanted| wanted.name == reading.name);
            match wanted {
                Some(wanted) => wanted.journal == reading.journal,
                None if reading.source == local || found.unknown.contains_key(&reading.source) => true,
                // The files of a sender that is gone are open until they are read to their end.
                None => {
                    let in_use = found.sources.iter().any(|source| source.name == reading.source);
                    in_use && !reading.caught_up && reading.failure.is_none()
                }
            }
        };
        let (kept, closed) = std::mem::take(&mut self.readings.all).into_iter().partition(keep);
        self.readings.all = kept;
        let closed: Vec<Reading> = closed;
        for mut reading in closed {
            if let Some(checkpoint) = reading.take_checkpoint() {
                self.readings.checkpoints.insert(checkpoint.source.clone(), checkpoint.clone());
                self.unwritten.absorb(Transaction::at(checkpoint));
            }
            if found.wanted.iter().any(|wanted| wanted.name == reading.name) {
                // Of the same name, but another journal: the place in the former one means nothing in it.
                self.readings.checkpoints.remove(&reading.name);
            }
        }
    }

    fn add(
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

    fn sources_in_use(&self) -> Vec<config::Source> {
        let used = |source: &&config::Source| plan::of_source(&self.settings, &source.name).next().is_some();
        self.settings.sources.iter().filter(used).cloned().collect()
    }

    fn reads_files(&self) -> bool {
        self.options.journal_directory.is_some() || !self.options.journal_file.is_empty()
    }
}
