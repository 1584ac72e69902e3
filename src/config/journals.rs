//! `[source.NAME]`: the journals that are read beside this machine's own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::common::{choice, kept};
use super::merged::{Item, Table, excerpt};
use super::problem::Problem;
use super::settings::{Location, Source, SourceName};
use super::words::{SETTINGS, about_unknown, nearest};
use crate::engine::ban::JailName;

/// The keys of a source, of which it has exactly one.
const KEYS: [&str; 3] = ["namespace", "directory", "remote"];

/// The sources that are declared: those that are whole, and the names of all.
#[derive(Default)]
pub(super) struct Journals {
    pub(super) sources: Vec<Source>,
    names: BTreeSet<String>,
}

impl Journals {
    /// Reads the table `source`.
    pub(super) fn read(item: &Item<'_>, problems: &mut Vec<Problem>) -> Journals {
        let mut journals = Journals::default();
        let Some(table) = kept(item.table(), problems) else { return journals };
        for item in table.items() {
            journals.names.insert(item.name().to_owned());
            let name = kept(name(&item), problems);
            let location = kept(item.table(), problems).and_then(|table| location(&table, problems));
            journals.sources.extend(name.zip(location).map(|(name, location)| Source { name, location }));
        }
        journals
    }

    /// A jail's `source`: the names in it, but for those of sources that are in error themselves.
    pub(super) fn of_jail(&self, table: &Table<'_>, problems: &mut Vec<Problem>) -> BTreeSet<SourceName> {
        let Some(item) = table.at("source") else { return BTreeSet::from([SourceName::local()]) };
        let given = item.list();
        if given.is_empty() {
            problems.push(item.error("expected the name of a source, found an empty list"));
        }
        let before = problems.len();
        let read: BTreeSet<SourceName> =
            given.iter().filter_map(|one| kept(self.named(one), problems)).flatten().collect();
        if read.is_empty() && !given.is_empty() && problems.len() == before {
            problems.push(item.error("names only sources that are in error"));
        }
        read
    }

    fn named(&self, item: &Item<'_>) -> Result<Option<SourceName>, Problem> {
        let text = item.text()?;
        let local = SourceName::local();
        if text == local.as_str() {
            return Ok(Some(local));
        }
        if let Some(source) = self.sources.iter().find(|source| source.name.as_str() == text) {
            return Ok(Some(source.name.clone()));
        }
        if self.names.contains(text) {
            return Ok(None);
        }
        let known: Vec<&str> = self.names.iter().map(String::as_str).chain([local.as_str()]).collect();
        Err(item.error(match nearest(text, &known) {
            Some(meant) => format!("no source {} is declared; did you mean {meant}?", excerpt(text)),
            None => format!("no source {} is declared: add a table [source.NAME]", excerpt(text)),
        }))
    }
}

fn name(item: &Item<'_>) -> Result<SourceName, Problem> {
    if item.name() == SourceName::local().as_str() {
        return Err(item.key_error("is the name of this machine's own journal, which is always there"));
    }
    // The same letters, for the same reason: the name stands in messages and in the ledger.
    match item.name().parse::<JailName>() {
        Ok(_) => Ok(SourceName::new(item.name())),
        Err(_) => Err(item.key_error(format!(
            "{} is no source's name (1 to 64 letters, digits, '-', '_' and '.', a letter or digit first)",
            excerpt(item.name())
        ))),
    }
}

fn location(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Location> {
    let before = problems.len();
    let mut found = Vec::new();
    for item in table.items() {
        let read = match item.name() {
            "namespace" => namespace(&item).map(Location::Namespace),
            "directory" => directory(&item).map(Location::Directory),
            "remote" => directory(&item).map(Location::Remote),
            other => Err(item.key_error(about_unknown(other, &KEYS, SETTINGS))),
        };
        found.extend(kept(read, problems));
    }
    match (found.pop(), found.is_empty()) {
        (Some(location), true) if problems.len() == before => return Some(location),
        (None, _) if problems.len() > before => {}
        _ => problems.push(table.item().key_error(format!("has exactly one of the keys {}", choice(KEYS)))),
    }
    None
}

/// What systemd takes as the name of a journal's namespace.
fn namespace(item: &Item<'_>) -> Result<String, Problem> {
    let name = item.text()?;
    let valid = (1..=200).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b));
    if valid { Ok(name.into()) } else { Err(item.error(format!("{} is no namespace's name", excerpt(name)))) }
}

fn directory(item: &Item<'_>) -> Result<PathBuf, Problem> {
    let path = Path::new(item.text()?);
    if path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0) {
        Ok(path.to_owned())
    } else {
        Err(item.expected("a directory's path from the root on"))
    }
}
