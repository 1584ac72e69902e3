//! Which files make up the configuration: the layers' directories, what replaces and what masks, and safe reading.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::problem::{Place, Problem};
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
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Settings in the order in which they are merged: layer by layer, in each `banish.toml`, `banish.toml.d/*`, `jail.d/*`.
    pub(super) settings: Vec<PathBuf>,
    /// There may be settings besides: something that is there could not be read.
    pub(super) hidden: bool,
    /// Filters, by their files' names without `.toml`.
    pub(super) filters: BTreeMap<String, PathBuf>,
}

/// Finds the files of `layout`; later layers replace the same names of earlier ones.
pub(super) fn files(layout: &Layout, problems: &mut Vec<Problem>) -> Files {
    let directories = layout.directories();
    if let Layout::Directory(directory) = layout
        && let Err(error) = names_in(directory)
    {
        problems.push(refusal(directory, &error));
        return Files::default();
    }
    let mut found = Files::default();
    let mut settings: Vec<(usize, usize, PathBuf)> = Vec::new();
    for (layer, path) in directories.iter().map(|directory| directory.join("banish.toml")).enumerate().rev() {
        match path.symlink_metadata() {
            Ok(_) => {
                settings.push((layer, 0, path));
                break;
            }
            Err(error) if is_absence(&error) => {}
            Err(error) => {
                problems.push(refusal(&path, &error));
                found.hidden = true;
                break;
            }
        }
    }
    for (group, below) in [(1, "banish.toml.d"), (2, "jail.d")] {
        let before = problems.len();
        let named = by_name(&directories, below, problems).into_values();
        found.hidden |= problems.len() > before;
        settings.extend(named.map(|(layer, path)| (layer, group, path)));
    }
    // Whatever the names: an administrator's file goes before the distribution's.
    settings.sort();
    found.settings = settings.into_iter().map(|(_, _, path)| path).filter(|path| !is_masked(path)).collect();
    for (name, (_, path)) in by_name(&directories, "filter.d", problems) {
        let stem = name.to_str().and_then(|name| name.strip_suffix(".toml"));
        match stem.filter(|stem| stem.parse::<JailName>().is_ok()) {
            _ if is_masked(&path) => {}
            Some(stem) => drop(found.filters.insert(stem.into(), path)),
            None => problems.push(Problem::about_file(
                Place::whole(&path),
                "a filter's file is named with 1 to 64 letters, digits, '-', '_' and '.', a letter or digit first",
            )),
        }
    }
    found
}

/// The `*.toml` files of the sub-directory `below` of all layers, each of the highest layer that has the name.
fn by_name(directories: &[PathBuf], below: &str, problems: &mut Vec<Problem>) -> BTreeMap<OsString, (usize, PathBuf)> {
    let mut named = BTreeMap::new();
    for (layer, directory) in directories.iter().map(|directory| directory.join(below)).enumerate() {
        match names_in(&directory) {
            Ok(names) => {
                named.extend(names.into_iter().map(|name| (name.clone(), (layer, directory.join(name)))));
            }
            Err(error) if is_absence(&error) => {}
            Err(error) => problems.push(refusal(&directory, &error)),
        }
    }
    named
}

fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    #[expect(clippy::disallowed_methods, reason = "the configuration is files")]
    let entries = std::fs::read_dir(directory)?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if name.as_bytes().ends_with(b".toml") && !name.as_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    Ok(names)
}

/// A link to /dev/null, straight or over other links: the name is there to hide the lower layers' file.
fn is_masked(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == libc::makedev(1, 3))
}

/// Why there is no text of a file.
pub(super) struct Unread {
    pub(super) problem: Problem,
    /// Something stands in it all the same.
    pub(super) hidden: bool,
}

/// Reads a whole text file: a regular one of at most [`FILE_LIMIT`] bytes of UTF-8, never waiting for what is none.
pub(super) fn text(path: &Path) -> Result<String, Unread> {
    let bytes = bytes(path).map_err(|error| {
        let hidden = !is_absence(&error) && error.kind() != io::ErrorKind::InvalidInput;
        Unread { problem: refusal(path, &error), hidden }
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Unread { problem: Problem::about_file(place_after(path, good), "no UTF-8 text"), hidden: true }
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
