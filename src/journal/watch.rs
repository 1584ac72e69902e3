//! Hears of changes to one sender's journal files, which sd-journal does not tell of.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use super::sys;
use super::{JournalError, Source};

/// The files of a source as they were when it was opened, and what tells that they have changed.
pub struct Watch {
    source: Source,
    files: Vec<PathBuf>,
    /// `None` where the system has no more of them: then one has to look.
    inotify: Option<Inotify>,
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
        Ok(Watch { files: source.files()?, inotify, source: source.clone() })
    }

    /// Readable when something has changed; then [`Watch::is_outdated`] is to be asked.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.inotify.as_ref().map(|inotify| inotify.events.as_raw_fd())
    }

    /// Are the files others than those that were opened?
    pub fn is_outdated(&mut self) -> bool {
        let look = self.inotify.as_mut().is_none_or(Inotify::tells_of_files);
        // A directory that cannot be read now has the files that it had.
        look && self.source.files().is_ok_and(|files| files != self.files)
    }
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
