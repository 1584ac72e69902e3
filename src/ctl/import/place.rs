//! A file that is to be written: what stands there now, and writing that leaves either all of the old or all of the new.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::FILE_LIMIT;

/// A file, what it shall say, and what is there.
#[derive(Debug)]
pub struct Found {
    /// Its path.
    pub path: PathBuf,
    text: String,
    there: There,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Nothing,
    Same,
    Other,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It says the same already.
    Unchanged,
    /// It was written.
    Written,
    /// It would be written where nothing is.
    New,
    /// Something else is there and stays.
    Differs,
    /// Something else is there and would go.
    Replaces,
}

impl Placed {
    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Placed::Unchanged => "unchanged",
            Placed::Written => "written",
            Placed::New => "would write",
            Placed::Differs => "would not replace",
            Placed::Replaces => "would replace",
        }
    }
}

impl Found {
    /// Looks at what is there.
    pub fn at(path: PathBuf, text: &str) -> Found {
        let there = match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => There::Nothing,
            Ok(found) if found.is_file() && found.len() <= FILE_LIMIT => {
                #[expect(clippy::disallowed_methods, reason = "the configuration is files")]
                let bytes = std::fs::read(&path);
                if bytes.is_ok_and(|bytes| bytes == text.as_bytes()) { There::Same } else { There::Other }
            }
            _ => There::Other,
        };
        Found { path, text: text.into(), there }
    }

    /// Is there something that somebody may miss?
    pub fn stands_in_the_way(&self) -> bool {
        self.there == There::Other
    }

    /// What would become of it, with or without `--force`.
    pub fn unwritten(self, force: bool) -> Placed {
        match self.there {
            There::Nothing => Placed::New,
            There::Same => Placed::Unchanged,
            There::Other if force => Placed::Replaces,
            There::Other => Placed::Differs,
        }
    }

    /// Writes it beside and puts it in its place at once.
    ///
    /// # Errors
    /// Whatever the file system says; then the old one is there.
    pub fn write(self) -> io::Result<Placed> {
        if self.there == There::Same {
            return Ok(Placed::Unchanged);
        }
        let folder = self.path.parent().unwrap_or(&self.path);
        directory(folder)?;
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        // No reader of the configuration takes a name that begins with a dot.
        name.push(format!(".{}", std::process::id()));
        let beside = folder.join(name);
        let written = self.put(&beside).and_then(|()| {
            #[expect(clippy::disallowed_methods, reason = "the configuration is files")]
            std::fs::rename(&beside, &self.path)
        });
        if written.is_err() {
            // What could not be put in its place must not lie about; that there is nothing to remove is no failure.
            #[expect(clippy::disallowed_methods, reason = "the configuration is files")]
            let _ = std::fs::remove_file(&beside);
        }
        written.map(|()| Placed::Written)
    }

    fn put(&self, beside: &Path) -> io::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "the configuration is files")]
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o644).open(beside)?;
        // Everybody may read the configuration, whatever the caller's umask.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(self.text.as_bytes())?;
        file.sync_all()
    }
}

/// Makes the directory, and those above it that are missing, for everybody to read like the files in it.
fn directory(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        directory(above)?;
    }
    match DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(0o755)),
        // Somebody else was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}
