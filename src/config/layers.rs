//! Which files make up the configuration: the layers' directories, their order, what is masked, and safe reading.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::problem::{Place, Problem};
use super::strays;
use crate::engine::ban::JailName;

/// Where the configuration is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `/usr/lib/banish`, `/run/banish`, `/etc/banish`, each going before the one named before it.
    System,
    /// One directory and nothing else.
    Directory(PathBuf),
    /// These directories, each going before the one named before it; any of them may be missing.
    Layers(Vec<PathBuf>),
}

/// The directories of [`Layout::System`], lowest first.
pub const SYSTEM: [&str; 3] = ["/usr/lib/banish", "/run/banish", "/etc/banish"];

/// No file of a configuration is larger, in bytes.
pub const FILE_LIMIT: u64 = 4 * 1024 * 1024;

impl Layout {
    /// The directories, lowest first.
    pub fn directories(&self) -> Vec<PathBuf> {
        match self {
            Layout::System => SYSTEM.iter().map(PathBuf::from).collect(),
            Layout::Directory(directory) => vec![directory.clone()],
            Layout::Layers(directories) => directories.clone(),
        }
    }
}

/// The files of a configuration, masked ones left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// Settings in the order in which they are merged: layer by layer, in each `banish.toml`, `banish.toml.d/*`, `jail.d/*`.
    pub(super) settings: Vec<PathBuf>,
    /// Why there may be more settings than these: the first of those that are there and cannot be read.
    pub(super) hidden: Option<Problem>,
    /// The files of each filter in the order in which they are merged, by their names without `.toml`.
    pub(super) filters: BTreeMap<String, Vec<PathBuf>>,
}

/// Finds the files of `layout`. None takes the place of another because of its name; a link to /dev/null masks those of its
/// name in the layers below.
pub(super) fn files(layout: &Layout, problems: &mut Vec<Problem>) -> Files {
    let mut found = Found::default();
    if let Layout::Directory(directory) = layout
        && let Err(error) = names_in(directory)
    {
        found.refuse(directory, &error, problems);
    }
    for directory in layout.directories() {
        found.look_into(&directory, problems);
    }
    let mut filters: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let (named, settings): (Vec<Named>, Vec<Named>) = found.named.into_iter().partition(|one| one.below == "filter.d");
    for Named { path, .. } in named {
        let stem = path.file_stem().and_then(OsStr::to_str);
        match stem.filter(|stem| stem.parse::<JailName>().is_ok()) {
            Some(stem) => filters.entry(stem.to_owned()).or_default().push(path),
            None => problems.push(Problem::about_file(
                Place::whole(&path),
                "a filter's file is named with 1 to 64 letters, digits, '-', '_' and '.', a letter or digit first",
            )),
        }
    }
    Files { settings: settings.into_iter().map(|one| one.path).collect(), hidden: found.hidden, filters }
}

/// What the layers have, up to the one looked at last.
#[derive(Default)]
struct Found {
    named: Vec<Named>,
    hidden: Option<Problem>,
}

/// A file, and the names by which a higher layer masks it.
struct Named {
    /// The directory in its layer; empty for the layer's directory itself.
    below: &'static str,
    name: OsString,
    path: PathBuf,
}

impl Found {
    /// Adds the files of one layer.
    fn look_into(&mut self, layer: &Path, problems: &mut Vec<Problem>) {
        problems.extend(strays::in_layer(layer, &names_in(layer).unwrap_or_default()));
        let main = layer.join("banish.toml");
        match main.symlink_metadata() {
            Ok(_) => self.add("", "banish.toml".into(), main, problems),
            Err(error) if is_absence(&error) => {}
            Err(error) => self.refuse(&main, &error, problems),
        }
        for below in ["banish.toml.d", "jail.d", "filter.d"] {
            let directory = layer.join(below);
            match names_in(&directory) {
                Ok(mut names) => {
                    names.sort();
                    problems.extend(strays::in_drop_ins(&directory, &names));
                    for name in names.into_iter().filter(|name| is_read(name)) {
                        let path = directory.join(&name);
                        self.add(below, name, path, problems);
                    }
                }
                Err(error) if is_absence(&error) && directory.symlink_metadata().is_err() => {}
                Err(error) => self.refuse(&directory, &error, problems),
            }
        }
    }

    fn add(&mut self, below: &'static str, name: OsString, path: PathBuf, problems: &mut Vec<Problem>) {
        if is_masked(&path) {
            self.named.retain(|lower| (lower.below, &lower.name) != (below, &name));
        } else if path.is_dir() {
            problems.push(strays::directory(&path));
        } else {
            self.named.push(Named { below, name, path });
        }
    }

    /// What cannot be read may say whom to leave alone; a filter does so by its `ignoreregex`.
    fn refuse(&mut self, path: &Path, error: &io::Error, problems: &mut Vec<Problem>) {
        let problem = refusal(path, error);
        self.hidden.get_or_insert_with(|| problem.clone());
        problems.push(problem);
    }
}

/// All names in a directory.
fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    #[expect(clippy::disallowed_methods, reason = "the configuration is files")]
    let entries = std::fs::read_dir(directory)?;
    entries.map(|entry| Ok(entry?.file_name())).collect()
}

/// Is a file of this name read?
pub(super) fn is_read(name: &OsStr) -> bool {
    name.as_bytes().ends_with(b".toml") && !name.as_bytes().starts_with(b".")
}

/// A link to /dev/null, straight or over other links: the name is there to hide the lower layers' file.
fn is_masked(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == libc::makedev(1, 3))
}

/// Reads a whole text file: a regular one of at most [`FILE_LIMIT`] bytes of UTF-8, never waiting for what is none.
pub(super) fn text(path: &Path) -> Result<String, Problem> {
    let bytes = bytes(path).map_err(|error| refusal(path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Problem::about_file(place_after(path, good), "no UTF-8 text")
    })
}

/// Is nothing there?
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let regular = |found: Metadata| match found.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file")),
    };
    // Opening a device may do things and opening a fifo waits: look first, and look again at what was opened.
    regular(path.metadata()?)?;
    #[expect(clippy::disallowed_methods, reason = "the configuration is files")]
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    regular(file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(io::Error::other(format!("larger than {} MiB", FILE_LIMIT >> 20)));
    }
    Ok(bytes)
}

fn refusal(path: &Path, error: &io::Error) -> Problem {
    Problem::about_file(Place::whole(path), format!("cannot be read: {error}"))
}

/// The place in `path` right behind `good`, the part of its bytes that is text.
fn place_after(path: &Path, good: &[u8]) -> Place {
    let start = good.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Place {
        line: number(good.iter().filter(|b| **b == b'\n').count() + 1),
        column: number(String::from_utf8_lossy(&good[start..]).chars().count() + 1),
        ..Place::whole(path)
    }
}
