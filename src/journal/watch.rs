//! Hears of changes to one sender's journal files, which sd-journal does not tell of.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::sys;
use super::{JournalError, Source};

/// The files of a source as they were when it was opened, and what tells that they have changed.
pub struct Watch {
    source: Source,
    files: BTreeMap<PathBuf, Print>,
    /// Those of them that could not be opened: made just now perhaps, and to be tried again when they have changed.
    passed_over: Vec<PathBuf>,
    /// `None` where the system has no more of them: then one has to look.
    inotify: Option<Inotify>,
}

/// What tells a file from another of its name, and from itself when it has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Print {
    device: u64,
    /// Not given to another file as long as this one is open.
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

struct Inotify {
    events: File,
    /// The number that the directory's events carry.
    directory: i32,
}

impl Watch {
    /// Watches the files of `source`; before it is opened, so that no change falls in between.
    pub fn new(source: &Source) -> Result<Watch, JournalError> {
        let inotify = match source {
            Source::Sender { directory, stem } => {
                let mut active = stem.clone();
                active.push(".journal");
                Inotify::new(directory, &directory.join(active)).ok()
            }
            Source::Live | Source::Namespace(_) | Source::Directory(_) | Source::Files(_) => None,
        };
        Ok(Watch { files: prints(source)?, passed_over: Vec::new(), inotify, source: source.clone() })
    }

    /// These of the files could not be opened.
    pub fn pass_over(&mut self, files: Vec<PathBuf>) {
        self.passed_over = files;
    }

    /// Readable when something has changed; then [`Watch::is_outdated`] is to be asked.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.inotify.as_ref().map(|inotify| inotify.events.as_raw_fd())
    }

    /// Are the files others than those that were opened?
    pub fn is_outdated(&mut self) -> bool {
        let of_files = self.inotify.as_mut().is_none_or(Inotify::tells_of_files);
        if !of_files && self.passed_over.is_empty() {
            return false;
        }
        // A directory that cannot be read now has the files that it had.
        let Ok(files) = prints(&self.source) else { return false };
        let same = |path: &PathBuf, print: &Print| {
            self.files.get(path).is_some_and(|known| {
                let identical = (known.device, known.inode) == (print.device, print.inode);
                identical && (known == print || !self.passed_over.contains(path))
            })
        };
        files.len() != self.files.len() || !files.iter().all(|(path, print)| same(path, print))
    }
}

fn prints(source: &Source) -> io::Result<BTreeMap<PathBuf, Print>> {
    let print = |path: PathBuf| {
        // One that has gone since it was listed is not there.
        let found = path.metadata().ok()?;
        let changed = (found.mtime(), found.mtime_nsec());
        Some((path, Print { device: found.dev(), inode: found.ino(), length: found.len(), changed }))
    };
    Ok(source.files()?.into_iter().filter_map(print).collect())
}

impl Inotify {
    fn new(directory: &Path, active: &Path) -> io::Result<Inotify> {
        let events = sys::inotify()?;
        let names = libc::IN_CREATE | libc::IN_MOVED_FROM | libc::IN_MOVED_TO | libc::IN_DELETE | libc::IN_ONLYDIR;
        let number = sys::watch(&events, directory, names)?;
        // Only the active file is written to. That it is not there now is told by the directory's events.
        match sys::watch(&events, active, libc::IN_MODIFY) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Inotify { events, directory: number }),
        }
    }

    /// Takes what was told. Was it about the directory, or too much to be told?
    fn tells_of_files(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let mut tells = false;
        while let Ok(length @ 1..) = self.events.read(&mut buffer) {
            tells |= numbers(&buffer[..length]).any(|number| number == self.directory || number == -1);
        }
        tells
    }
}

/// The watch's number of each event: see `struct inotify_event`. `-1` is that of an overrun.
fn numbers(mut events: &[u8]) -> impl Iterator<Item = i32> {
    std::iter::from_fn(move || {
        let (head, rest) = events.split_first_chunk::<16>()?;
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let name = usize::try_from(u32::from_ne_bytes(word(12))).unwrap_or(usize::MAX);
        events = rest.get(name..).unwrap_or_default();
        Some(i32::from_ne_bytes(word(0)))
    })
}
