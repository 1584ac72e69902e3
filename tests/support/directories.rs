//! The directories that a daemon of a test's own works on.

use std::path::{Path, PathBuf};

use crate::journal::{self, Record};

/// `journal`, `state`, `etc/jail.d` and `etc/filter.d`; they go with this value.
pub struct Directories(tempfile::TempDir);

impl Directories {
    /// Makes them; `None`, with the reason printed, where no journal can be written.
    pub fn new() -> Option<Directories> {
        if let Some(why) = journal::missing_writer() {
            eprintln!("skipped: {why}");
            return None;
        }
        let directories = Directories(tempfile::Builder::new().prefix("banish-test").tempdir().unwrap());
        for below in ["journal", "state", "etc/jail.d", "etc/filter.d"] {
            std::fs::create_dir_all(directories.path(below)).unwrap();
        }
        Some(directories)
    }

    /// What they lie in.
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }

    pub fn write(&self, below: &str, text: &str) {
        std::fs::write(self.path(below), text).unwrap();
    }

    /// Takes over a filter that is shipped.
    pub fn shipped_filter(&self, name: &str) {
        let file = format!("etc/filter.d/{name}.toml");
        std::fs::copy(&file, self.path(&file)).unwrap();
    }

    /// Enables a jail with the filter of its name and these further keys.
    pub fn jail(&self, name: &str, keys: &str) {
        let text = format!("[jail.{name}]\nenabled = true\nfilter = \"{name}\"\n{keys}\n");
        self.write(&format!("etc/jail.d/{name}.toml"), &text);
    }

    /// Appends to the first journal.
    pub fn log(&self, records: impl IntoIterator<Item = Record>) {
        journal::write(&self.path("journal/a.journal"), records);
    }
}
