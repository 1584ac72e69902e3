//! Which journal is read, and opening it.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use systemd::journal::{Journal, OpenDirectoryOptions, OpenFilesOptions, OpenOptions};

use super::JournalError;

/// A journal. Each has one order of entries and one cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This machine's: the system's and all users' that we may read.
    Live,
    /// The journal of a namespace of this machine's, see `systemd-journald@.service(8)`.
    Namespace(String),
    /// All journal files in a directory and in its sub-directories that are named after a machine, also those that are
    /// added later.
    Directory(PathBuf),
    /// The files of one sender in a directory of `systemd-journal-remote`, also those that are added later.
    Sender {
        /// The directory.
        directory: PathBuf,
        /// What the sender's files begin with: `remote-HOST`, see [`senders`].
        stem: OsString,
    },
    /// These files. A name may be a pattern (`*`, `?`, `[…]`); it is looked up whenever the journal is opened anew.
    Files(Vec<PathBuf>),
}

impl Source {
    /// Opens it with nothing selected and at no entry. Of [`Source::Sender`], files that cannot be opened are passed
    /// over, as sd-journal does with a directory's, and named.
    pub(super) fn open(&self, passed_over: &mut Vec<PathBuf>) -> Result<Journal, JournalError> {
        let failed = |cause| JournalError::Open { source_text: self.to_string(), cause };
        match self {
            Source::Live => {
                let journal = OpenOptions::default().local_only(true).open().map_err(failed)?;
                // Files that we may not read are passed over in silence.
                let any = journal.has_persistent_files()? || journal.has_runtime_files()?;
                if any { Ok(journal) } else { Err(JournalError::Unreadable) }
            }
            Source::Namespace(name) => {
                let name_c = CString::new(name.as_str()).map_err(|_| failed(invalid()))?;
                let journal = OpenOptions::default().local_only(true).open_namespace(&name_c).map_err(failed)?;
                match journal.has_persistent_files()? || journal.has_runtime_files()? {
                    true => Ok(journal),
                    false if namespace_exists(name) => Err(JournalError::Unreadable),
                    false => Err(failed(systemd::Error::from_raw_os_error(libc::ENOENT))),
                }
            }
            Source::Sender { .. } => {
                let files = self.files().map_err(|error| {
                    failed(systemd::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)))
                })?;
                let (journal, unreadable) = open_readable(&files).map_err(failed)?;
                passed_over.extend(unreadable);
                Ok(journal)
            }
            Source::Directory(path) => {
                OpenDirectoryOptions::default().open_directory(&c_path(path).map_err(failed)?).map_err(failed)
            }
            Source::Files(patterns) => {
                let files = matching(patterns)?;
                let names = files.iter().map(|path| c_path(path)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
                OpenFilesOptions::default().open_files(&names).map_err(failed)
            }
        }
    }

    /// Does sd-journal tell when it changes? It does not for single files.
    pub(super) fn wakes(&self) -> bool {
        !matches!(self, Source::Files(_) | Source::Sender { .. })
    }

    /// The files of a [`Source::Sender`] in order, archived ones first; none for other sources.
    pub(super) fn files(&self) -> io::Result<Vec<PathBuf>> {
        let Source::Sender { directory, stem } = self else { return Ok(Vec::new()) };
        let mut files: Vec<PathBuf> = names_in(directory)?
            .into_iter()
            .filter(|name| stem_of(name) == Some(stem))
            .map(|name| directory.join(name))
            .collect();
        files.sort();
        Ok(files)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Live => f.write_str("this machine's journal"),
            Source::Namespace(name) => write!(f, "the journal of the namespace {name}"),
            Source::Directory(path) => write!(f, "the journal directory {}", path.display()),
            Source::Sender { directory, stem } => {
                write!(f, "the journal files {}", directory.join(stem).display())
            }
            Source::Files(patterns) => {
                f.write_str("the journal files")?;
                patterns.iter().try_for_each(|pattern| write!(f, " {}", pattern.display()))
            }
        }
    }
}

/// What the files of each sender in a directory of `systemd-journal-remote` begin with: `remote-HOST` of
/// `remote-HOST.journal` and of the archived `remote-HOST@….journal`.
///
/// # Errors
/// The directory cannot be read.
pub fn senders(directory: &Path) -> io::Result<BTreeSet<OsString>> {
    Ok(names_in(directory)?.iter().filter_map(|name| stem_of(name)).map(OsStr::to_owned).collect())
}

fn stem_of(name: &OsStr) -> Option<&OsStr> {
    let bytes = name.as_bytes();
    // A file that was not closed cleanly gets a tilde.
    let whole = bytes.strip_suffix(b".journal").or_else(|| bytes.strip_suffix(b".journal~"))?;
    let stem = whole.split(|byte| *byte == b'@').next()?;
    let host = stem.strip_prefix(b"remote-")?;
    (!host.is_empty()).then(|| OsStr::from_bytes(stem))
}

fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    #[expect(clippy::disallowed_methods, reason = "sd-journal does not tell one sender's files from another's")]
    let entries = std::fs::read_dir(directory)?;
    entries.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

/// Opens those of `files` that can be opened, and gives the others: sd-journal refuses all for one that is damaged.
fn open_readable(files: &[PathBuf]) -> Result<(Journal, Vec<PathBuf>), systemd::Error> {
    let names = files.iter().map(|path| c_path(path)).collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(systemd::Error::from_raw_os_error(libc::ENOENT));
    }
    let open = |names: &[CString]| OpenFilesOptions::default().open_files(names);
    let error = match open(&names) {
        Ok(journal) => return Ok((journal, Vec::new())),
        Err(error) => error,
    };
    let (readable, unreadable): (Vec<_>, Vec<_>) =
        names.into_iter().zip(files).partition(|(name, _)| open(std::slice::from_ref(name)).is_ok());
    if readable.is_empty() {
        return Err(error);
    }
    let names: Vec<CString> = readable.into_iter().map(|(name, _)| name).collect();
    Ok((open(&names)?, unreadable.into_iter().map(|(_, path)| path.clone()).collect()))
}

/// Is there a file of this namespace's journal, though it may not be readable?
fn namespace_exists(name: &str) -> bool {
    let folder = format!("*.{}", glob::Pattern::escape(name));
    ["/var/log/journal", "/run/log/journal"]
        .into_iter()
        .any(|root| glob::glob(&format!("{root}/{folder}")).is_ok_and(|mut found| found.next().is_some()))
}

fn invalid() -> systemd::Error {
    systemd::Error::from_raw_os_error(libc::EINVAL)
}

fn c_path(path: &Path) -> Result<CString, systemd::Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| invalid())
}

/// The files of these names and patterns, each once. A name that exists is taken as it is, whatever signs are in it.
fn matching(patterns: &[PathBuf]) -> Result<Vec<PathBuf>, JournalError> {
    let mut files = Vec::new();
    for pattern in patterns {
        if pattern.exists() {
            files.push(pattern.clone());
            continue;
        }
        let text = pattern.to_str().ok_or_else(|| JournalError::NoFile(pattern.clone()))?;
        let found = glob::glob(text).map_err(|cause| JournalError::Pattern { pattern: text.into(), cause })?;
        let before = files.len();
        files.extend(found.flatten());
        if files.len() == before {
            return Err(JournalError::NoFile(pattern.clone()));
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_known_by_its_file_s_name() {
        for (name, stem) in [
            ("remote-web.journal", Some("remote-web")),
            ("remote-10.0.0.7@b9f1-1-5f.journal", Some("remote-10.0.0.7")),
            ("remote-web@5f-77.journal~", Some("remote-web")),
            ("remote-.journal", None),
            ("remote-web.journal.gz", None),
            ("web.journal", None),
        ] {
            assert_eq!(stem_of(OsStr::new(name)), stem.map(OsStr::new), "{name}");
        }
    }

    #[test]
    fn a_pattern_without_a_file_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let pattern = empty.path().join("*.journal");
        let error = Source::Files(vec![pattern.clone()]).open(&mut Vec::new()).map(drop).unwrap_err();
        assert!(error.to_string().contains(pattern.to_str().unwrap()), "{error}");
        assert!(matches!(
            Source::Files(vec!["/[".into()]).open(&mut Vec::new()).map(drop),
            Err(JournalError::Pattern { .. })
        ));
        let missing = Source::Directory(empty.path().join("missing"));
        assert!(matches!(missing.open(&mut Vec::new()).map(drop), Err(JournalError::Open { .. })));
    }
}
