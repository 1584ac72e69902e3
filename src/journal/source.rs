//! Which journal is read, and opening it.

use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use systemd::journal::{Journal, OpenDirectoryOptions, OpenFilesOptions, OpenOptions};

use super::JournalError;

/// A journal. Each has one order of entries and one cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This machine's: the system's and all users' that we may read.
    Live,
    /// All journal files directly in a directory, also those that are added later.
    Directory(PathBuf),
    /// These files. A name may be a pattern (`*`, `?`, `[…]`); it is looked up whenever the journal is opened anew.
    Files(Vec<PathBuf>),
}

impl Source {
    /// Opens it with nothing selected and at no entry.
    pub(super) fn open(&self) -> Result<Journal, JournalError> {
        let failed = |cause| JournalError::Open { source_text: self.to_string(), cause };
        match self {
            Source::Live => {
                let journal = OpenOptions::default().local_only(true).open().map_err(failed)?;
                // Files that we may not read are passed over in silence.
                let any = journal.has_persistent_files()? || journal.has_runtime_files()?;
                if any { Ok(journal) } else { Err(JournalError::Unreadable) }
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
        !matches!(self, Source::Files(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Live => f.write_str("this machine's journal"),
            Source::Directory(path) => write!(f, "the journal directory {}", path.display()),
            Source::Files(patterns) => {
                f.write_str("the journal files")?;
                patterns.iter().try_for_each(|pattern| write!(f, " {}", pattern.display()))
            }
        }
    }
}

fn c_path(path: &Path) -> Result<CString, systemd::Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| systemd::Error::from_raw_os_error(libc::EINVAL))
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
    fn a_pattern_without_a_file_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let pattern = empty.path().join("*.journal");
        let error = Source::Files(vec![pattern.clone()]).open().map(drop).unwrap_err();
        assert!(error.to_string().contains(pattern.to_str().unwrap()), "{error}");
        assert!(matches!(Source::Files(vec!["/[".into()]).open().map(drop), Err(JournalError::Pattern { .. })));
        let missing = Source::Directory(empty.path().join("missing"));
        assert!(matches!(missing.open().map(drop), Err(JournalError::Open { .. })));
    }
}
