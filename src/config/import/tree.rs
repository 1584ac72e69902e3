//! fail2ban's configuration directory: its files, read once each, and what they include; nothing outside of it is included.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::super::layers;
use super::super::problem::Place;
use super::error::ImportError;
use super::ini::Ini;
use super::sections::Sections;

/// No configuration is made of more files than that, those that are included twice counted twice.
const FILES_LIMIT: usize = 1000;
/// Includes are not deeper than that.
const DEPTH_LIMIT: usize = 20;

/// The directory, and what was read of it so far.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    files: BTreeMap<PathBuf, Option<Rc<Ini>>>,
}

impl Tree {
    /// Looks into `root`.
    ///
    /// # Errors
    /// No such directory.
    pub(super) fn open(root: &Path) -> Result<Tree, ImportError> {
        // Whatever `.`, `..` and links it has: what it includes is compared with it.
        let plain = std::fs::canonicalize(root)
            .map_err(|error| ImportError::Missing(format!("{} cannot be read: {error}", root.display())))?;
        if !plain.is_dir() {
            return Err(ImportError::Missing(format!("{} is no directory", root.display())));
        }
        Ok(Tree { root: plain, files: BTreeMap::new() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Reads what is called `name`: `name.conf`, `name.d/*.conf`, `name.local`, `name.d/*.local`, each with what it
    /// includes; `None` where none of them is there.
    ///
    /// # Errors
    /// A file that cannot be read, is no configuration, or includes what it must not.
    pub(super) fn sections(&mut self, name: &str) -> Result<Option<Sections>, ImportError> {
        let order = self.closure(name)?;
        if order.is_empty() {
            return Ok(None);
        }
        let mut sections = Sections::default();
        for (file, ini) in &order {
            sections.merge(file, ini);
        }
        Ok(Some(sections))
    }

    /// The files that are called `name` with all that they include, in the order in which they override each other.
    ///
    /// # Errors
    /// As [`Tree::sections`].
    pub(super) fn closure(&mut self, name: &str) -> Result<Vec<(PathBuf, Rc<Ini>)>, ImportError> {
        let files = self.files_of(name)?;
        let mut order = Vec::new();
        self.expand(files, &mut Vec::new(), &mut order)?;
        Ok(order)
    }

    /// The files that are called `name`, without those that they include.
    pub(super) fn files_of(&self, name: &str) -> Result<Vec<PathBuf>, ImportError> {
        let base = self.root.join(name);
        self.confine(&base)
            .ok_or_else(|| ImportError::Missing(format!("{name:?} names nothing in the configuration")))?;
        let mut files = Vec::new();
        for ending in ["conf", "local"] {
            let mut main = base.clone().into_os_string();
            main.push(format!(".{ending}"));
            let main = PathBuf::from(main);
            if found(&main)?.is_some() {
                files.push(main);
            }
            let mut folder = base.clone().into_os_string();
            folder.push(".d");
            files.extend(listed(Path::new(&folder), ending)?);
        }
        Ok(files)
    }

    /// Puts `files`, each followed by its `.local`, and what they include, into `order`.
    fn expand(
        &mut self,
        files: Vec<PathBuf>,
        chain: &mut Vec<PathBuf>,
        order: &mut Vec<(PathBuf, Rc<Ini>)>,
    ) -> Result<(), ImportError> {
        let mut expanded = Vec::new();
        for file in &files {
            let local = file.with_extension("local");
            expanded.push(file.clone());
            if !files.contains(&local) && found(&local)?.is_some_and(|found| found.is_file()) {
                expanded.push(local);
            }
        }
        for file in expanded {
            let Some(ini) = self.read(&file)? else { continue };
            if chain.len() > DEPTH_LIMIT || order.len() > FILES_LIMIT {
                return Err(ImportError::at(&Place::whole(&file), "is included too deeply or too often"));
            }
            let (before, after) = (self.includes(&file, &ini, "before")?, self.includes(&file, &ini, "after")?);
            chain.push(file.clone());
            let fresh = |named: Vec<PathBuf>, chain: &[PathBuf]| -> Vec<PathBuf> {
                named.into_iter().filter(|path| !chain.contains(path)).collect()
            };
            for path in fresh(before, chain) {
                self.expand(vec![path], chain, order)?;
            }
            order.push((file, ini));
            for path in fresh(after, chain) {
                self.expand(vec![path], chain, order)?;
            }
            chain.pop();
        }
        Ok(())
    }

    /// The files that `file` includes under `key`.
    fn includes(&self, file: &Path, ini: &Ini, key: &str) -> Result<Vec<PathBuf>, ImportError> {
        let Some(raw) = ini.section("INCLUDES").and_then(|options| options.get(key)) else { return Ok(Vec::new()) };
        let folder = file.parent().unwrap_or(&self.root);
        let named = raw.value.lines().map(str::trim).filter(|name| !name.is_empty());
        let confined = named.map(|name| {
            self.confine(&folder.join(name)).ok_or_else(|| {
                ImportError::at(&raw.place, format!("{key} leaves the configuration directory, so it is not read"))
            })
        });
        confined.collect()
    }

    /// `path` without `.` and `..`, if it lies below the directory. Links are followed: who made them meant them.
    fn confine(&self, path: &Path) -> Option<PathBuf> {
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir => {
                    let above = plain.pop();
                    above.then_some(())?;
                }
                Component::CurDir => {}
                part => plain.push(part),
            }
        }
        plain.starts_with(&self.root).then_some(plain)
    }

    fn read(&mut self, file: &Path) -> Result<Option<Rc<Ini>>, ImportError> {
        if let Some(known) = self.files.get(file) {
            return Ok(known.clone());
        }
        let read = match layers::text(file) {
            Ok(text) => {
                if let Some(at) = text.find(super::prefix::MARK) {
                    let line = u32::try_from(text[..at].lines().count().max(1)).unwrap_or(u32::MAX);
                    let place = Place { line, column: 1, ..Place::whole(file) };
                    return Err(ImportError::at(&place, "has a character of Unicode's private use"));
                }
                Some(Rc::new(Ini::parse(file, &text)?))
            }
            // As fail2ban: what is included and not there says nothing.
            Err(_) if file.metadata().is_err_and(|error| layers::is_absence(&error)) => None,
            Err(problem) => return Err(problem.into()),
        };
        self.files.insert(file.to_path_buf(), read.clone());
        Ok(read)
    }
}

/// What is there; what cannot be looked at is not taken for missing.
fn found(path: &Path) -> Result<Option<Metadata>, ImportError> {
    match path.metadata() {
        Ok(found) => Ok(Some(found)),
        Err(error) if layers::is_absence(&error) => Ok(None),
        Err(error) => Err(unread(path, &error)),
    }
}

/// The files of `folder` that end so, by name.
fn listed(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, ImportError> {
    #[expect(clippy::disallowed_methods, reason = "the configuration is files")]
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if layers::is_absence(&error) => return Ok(Vec::new()),
        Err(error) => return Err(unread(folder, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unread(folder, &error))?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|found| found == ending) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unread(path: &Path, error: &io::Error) -> ImportError {
    ImportError::at(&Place::whole(path), format!("cannot be read: {error}"))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are an edge")]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_taken_for_missing() {
        let root = tempfile::tempdir().unwrap();
        let files = || Tree::open(root.path()).unwrap().files_of("jail");
        assert_eq!(files(), Ok(Vec::new()));
        for name in ["jail.d", "jail.local"] {
            let path = root.path().join(name);
            std::os::unix::fs::symlink(&path, &path).unwrap();
            let error = files().unwrap_err().to_string();
            assert!(error.contains(&format!("{name}: cannot be read")), "{error}");
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn the_directory_is_named_in_any_way() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("filter.d")).unwrap();
        std::fs::write(root.path().join("jail.conf"), "[INCLUDES]\nbefore = paths.conf\n[a]\nb = 1\n").unwrap();
        let mut tree = Tree::open(&root.path().join("filter.d/../.")).unwrap();
        assert!(tree.sections("jail").unwrap().is_some());
    }
}
