//! What there is to read of the sources that jails name. The directories of senders are looked at beside the loop, each by
//! itself: one that hangs keeps nobody from anything but itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::effects::chain;
use super::report::Record;
use super::sources::{Reading, Wanted};
use super::{Aside, Daemon};
use crate::config::{Location, Source, SourceName};
use crate::journal::{self, Handle};
use crate::ledger::Transaction;

/// So many journals are read at once: each has a thread, and its files open.
const MOST: usize = 64;
/// So long a directory is waited for before it is told that it does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of the sources' senders.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The sources whose senders were looked for: one that comes later is new.
    looked: BTreeSet<SourceName>,
    /// What has been told about sources that cannot be read as a whole.
    told: BTreeSet<SourceName>,
    /// At whose directories somebody looks at this moment. One that hangs is not asked again.
    asked: Vec<Source>,
    /// … and the past is not read to its end before the answer is there.
    awaited: Vec<Source>,
}

impl Search {
    /// May there be journals whose past is to be read, and nobody knows yet?
    pub(super) fn is_waited_for(&self) -> bool {
        !self.awaited.is_empty()
    }
}

/// What sources amount to at this moment.
pub(super) struct Found {
    /// For which this was looked for.
    sources: Vec<Source>,
    wanted: Vec<Wanted>,
    /// Whose senders are not known, and why.
    unknown: BTreeMap<SourceName, io::Error>,
}

impl Found {
    /// Looks at what there is of `sources`; for directories of senders this may take as long as their file system likes.
    fn look(sources: Vec<Source>) -> Found {
        let mut found = Found { wanted: Vec::new(), unknown: BTreeMap::new(), sources };
        for Source { name, location } in &found.sources {
            let mut want = |suffix: &str, journal| {
                let wanted = Wanted { name: format!("{name}{suffix}"), source: name.clone(), journal };
                found.wanted.push(wanted);
            };
            match location {
                Location::Namespace(namespace) => want("", journal::Source::Namespace(namespace.clone())),
                Location::Directory(directory) => want("", journal::Source::Directory(directory.clone())),
                Location::Remote(directory) => match journal::senders(directory) {
                    Ok(stems) => stems.into_iter().for_each(|stem| {
                        let suffix = format!("/{}", host_of(&stem));
                        want(&suffix, journal::Source::Sender { directory: directory.clone(), stem });
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

/// Is this journal at that place?
fn is_at(journal: &journal::Source, location: &Location) -> bool {
    match (location, journal) {
        (Location::Namespace(wanted), journal::Source::Namespace(name)) => wanted == name,
        (Location::Directory(wanted), journal::Source::Directory(directory))
        | (Location::Remote(wanted), journal::Source::Sender { directory, .. }) => wanted == directory,
        _ => false,
    }
}

fn is_remote(source: &Source) -> bool {
    matches!(source.location, Location::Remote(_))
}

impl Daemon {
    /// Opens the further sources that jails read, and no longer those that none reads any more. Senders are
    /// [`Aside::Found`] later; until then nothing is caught up.
    pub(super) fn read_others(&mut self) {
        self.close_unused();
        self.look(true);
    }

    /// Looks for senders that have come, and tries again what could not be read as a whole.
    pub(super) fn look_for_senders(&mut self) {
        self.look(false);
    }

    fn look(&mut self, awaited: bool) {
        let (remote, others) = self.sources_in_use().into_iter().partition(is_remote);
        self.read_found(Found::look(others));
        let remote: Vec<Source> = remote;
        for source in remote {
            if self.readings.search.asked.contains(&source) {
                continue;
            }
            self.readings.search.asked.push(source.clone());
            if awaited {
                self.readings.search.awaited.push(source.clone());
            }
            let asides = self.asides.clone();
            tokio::spawn(async move {
                let sources = vec![source.clone()];
                let mut look = tokio::task::spawn_blocking(move || Found::look(sources));
                let found = match tokio::time::timeout(PATIENCE, &mut look).await {
                    Ok(found) => found,
                    Err(_) => {
                        // The loop being gone is the end of the program, here and below.
                        let _ = asides.send(Aside::Hangs(source));
                        look.await
                    }
                };
                if let Ok(found) = found {
                    let _ = asides.send(Aside::Found(found));
                }
            });
        }
    }

    /// Is there anything that [`Daemon::look_for_senders`] could find?
    pub(super) fn expects_senders(&self) -> bool {
        self.sources_in_use().iter().any(|source| is_remote(source) || self.readings.search.told.contains(&source.name))
    }

    /// What was looked for beside the loop is there.
    pub(super) async fn found(&mut self, found: Found) {
        let search = &mut self.readings.search;
        search.asked.retain(|source| !found.sources.contains(source));
        search.awaited.retain(|source| !found.sources.contains(source));
        self.read_found(found);
        self.go_on().await;
    }

    /// A directory does not answer. It is told, and nobody waits for it any longer; the answer may still come.
    pub(super) async fn hangs(&mut self, source: Source) {
        self.readings.search.awaited.retain(|awaited| *awaited != source);
        if self.sources_in_use().contains(&source) && self.readings.search.told.insert(source.name.clone()) {
            let error = "its directory does not answer".into();
            self.log.tell(Record::ReaderFailed { source: source.name.to_string(), error });
        }
        self.go_on().await;
    }

    async fn go_on(&mut self) {
        self.stop |= self.readings.are_done();
        self.settle().await;
    }

    /// Reads what was found and is not read yet, and no longer what is not there any more.
    fn read_found(&mut self, found: Found) {
        // It may have been looked for before a reload.
        let in_use = self.sources_in_use();
        if !found.sources.iter().all(|source| in_use.contains(source)) {
            return;
        }
        self.close_missing(&found);
        let mut unread: BTreeMap<SourceName, String> = BTreeMap::new();
        for (source, error) in &found.unknown {
            unread.insert(source.clone(), error.to_string());
            if error.kind() == io::ErrorKind::NotFound {
                self.readings.search.looked.insert(source.clone());
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
            let sender = matches!(wanted.journal, journal::Source::Sender { .. });
            let later = self.readings.search.looked.contains(&wanted.source) || self.readings.is_known(&wanted.source);
            let start = self.readings.start(&wanted, &self.settings, self.reads_files() || (sender && later));
            let source = wanted.source.clone();
            if let Err(error) = self.add(wanted, start, Handle::spawn_patient) {
                unread.insert(source, chain(&error));
            }
        }
        for source in found.sources {
            match unread.remove(&source.name) {
                Some(error) => {
                    if self.readings.search.told.insert(source.name.clone()) {
                        self.log.tell(Record::ReaderFailed { source: source.name.to_string(), error });
                    }
                }
                None => {
                    self.readings.search.told.remove(&source.name);
                    self.readings.search.looked.insert(source.name);
                }
            }
        }
    }

    /// No longer reads what no jail reads, or what is another journal now.
    fn close_unused(&mut self) {
        let in_use = self.sources_in_use();
        let local = SourceName::local();
        self.keep_readings(|reading| {
            let source = in_use.iter().find(|source| source.name == reading.source);
            reading.source == local || source.is_some_and(|source| is_at(&reading.journal, &source.location))
        });
    }

    /// No longer reads senders that are gone. Their files are open until they are read to their end.
    fn close_missing(&mut self, found: &Found) {
        self.keep_readings(|reading| {
            let looked_for = found.sources.iter().any(|source| source.name == reading.source);
            let there = found.wanted.iter().any(|wanted| wanted.name == reading.name);
            let unknown = found.unknown.contains_key(&reading.source);
            !looked_for || there || unknown || (!reading.caught_up && reading.failure.is_none())
        });
    }

    fn keep_readings(&mut self, keep: impl Fn(&Reading) -> bool) {
        let (kept, closed) = std::mem::take(&mut self.readings.all).into_iter().partition(keep);
        self.readings.all = kept;
        let closed: Vec<Reading> = closed;
        let in_use = self.sources_in_use();
        for mut reading in closed {
            if let Some(checkpoint) = reading.take_checkpoint() {
                self.readings.checkpoints.insert(checkpoint.source.clone(), checkpoint.clone());
                self.unwritten.absorb(Transaction::at(checkpoint));
            }
            let source = in_use.iter().find(|source| source.name == reading.source);
            if source.is_some_and(|source| !is_at(&reading.journal, &source.location)) {
                // Of the same name, but another journal: the place in the former one means nothing in it.
                self.readings.checkpoints.remove(&reading.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{configure_fleet, opened};
    use super::super::upkeep::instant;
    use super::*;

    /// The one thread for what blocks stands for all of them: it hangs, and nothing may queue up behind it.
    #[test]
    fn a_directory_of_senders_that_hangs_is_asked_once() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let root = tempfile::tempdir().unwrap();
            configure_fleet(root.path(), "remote");
            let (mut daemon, mut inbox) = opened(root.path()).await;
            assert!(daemon.expects_senders());
            for _ in 0..2 {
                let (release, held) = std::sync::mpsc::channel::<()>();
                tokio::task::spawn_blocking(move || held.recv());
                for _ in 0..3 {
                    daemon.plan_to_look_at(instant());
                    daemon.upkeep().await;
                }
                drop(release);
                let mut found = 0;
                while !daemon.readings.search.asked.is_empty() {
                    if let Some(Aside::Found(one)) = inbox.asides.recv().await {
                        found += 1;
                        daemon.found(one).await;
                    }
                }
                // Whatever was begun before is done when this is.
                tokio::task::spawn_blocking(|| ()).await.unwrap();
                tokio::task::yield_now().await;
                assert_eq!(found + std::iter::from_fn(|| inbox.asides.try_recv().ok()).count(), 1);
            }
        });
    }

    #[tokio::test]
    async fn a_directory_of_senders_that_hangs_is_told_once_and_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        configure_fleet(root.path(), "remote");
        let (mut daemon, _inbox) = opened(root.path()).await;
        let source = daemon.sources_in_use().remove(0);
        for _ in 0..2 {
            daemon.readings.search.awaited.push(source.clone());
            daemon.progress.caught_up = false;
            daemon.settle().await;
            assert!(!daemon.progress.caught_up && daemon.readings.catching_up());
            daemon.hangs(source.clone()).await;
            assert!(daemon.progress.caught_up && daemon.readings.search.told.contains(&source.name));
        }
    }
}
