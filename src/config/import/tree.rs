//! fail2ban's configuration directory: its files, read once each, and what they include; nothing outside of it is read.

use std::collections::BTreeMap;
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
        if !root.is_dir() {
            return Err(ImportError::Missing(format!("{} is no directory", root.display())));
        }
        Ok(Tree { root: root.components().collect(), files: BTreeMap::new() })
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
            files.extend(Some(PathBuf::from(main)).filter(|path| path.exists()));
            let mut folder = base.clone().into_os_string();
            folder.push(".d");
            files.extend(listed(Path::new(&folder), ending));
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
            if !files.contains(&local) && local.is_file() {
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
            Err(unread) if !unread.hidden && !file.exists() => None,
            Err(unread) => return Err(unread.problem.into()),
        };
        self.files.insert(file.to_path_buf(), read.clone());
        Ok(read)
    }
}

/// The files of `folder` that end so, by name.
fn listed(folder: &Path, ending: &str) -> Vec<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the configuration is files")]
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .filter(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')))
        .collect();
    files.sort();
    files
}
