//! fail2ban's configuration in our words: read in its whole language, written as our files, and what is lost told.
//!
//! Nothing outside of fail2ban's directory is read but the names of services and our own filters, nothing in it is
//! executed or evaluated, and every expansion is bounded. What a stranger could forge is never made to count: a
//! `journalmatch` that pins nothing attested is left out.

mod action;
mod definition;
mod draft;
mod error;
mod filters;
mod ini;
mod jails;
mod prefix;
mod report;
mod sections;
mod settings;
mod span;
mod spelled;
mod stock;
mod toml;
mod translate;
mod tree;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use error::ImportError;
pub use filters::Preference;
pub use jails::Brought;
pub use report::{Fate, Remark};

use filters::Filters;
use jails::Jails;
use report::Remarks;
use sections::{Overrides, Value};
use translate::Translator;
use tree::Tree;

use super::layers::{self, Layout};
use super::port::Services;
use super::problem::Place;

/// No value is larger when it is expanded, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// A filter of fail2ban's, brought over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedFilter {
    /// What `filter.d/NAME.toml` would say. A `journalmatch` that pins nothing attested is not in it.
    pub text: String,
    /// What was left out or changed, and why.
    pub notes: Vec<String>,
}

/// Brings one filter over: `filter.d/NAME.conf` below `from`, fail2ban's configuration directory, with these parameters.
///
/// # Errors
/// The filter is not there, cannot be read or expanded, or nothing of it can be used.
pub fn filter(from: &Path, name: &str, options: &[(String, String)]) -> Result<ImportedFilter, ImportError> {
    let mut tree = Tree::open(from)?;
    let place = Place::whole(from);
    let value = |text: &String| Value { text: text.clone(), place: place.clone() };
    let parameters: Vec<(String, Value)> = options.iter().map(|(name, text)| (name.clone(), value(text))).collect();
    let (draft, notes) =
        Translator { tree: &mut tree, shipped: &[] }.translate(name, &parameters, &Overrides::new())?;
    let told = |note: translate::Note| match note.place {
        Some(place) => format!("{}: {}", toml::place(&draft.root, &place), note.text),
        None => note.text,
    };
    Ok(ImportedFilter { text: draft.text(), notes: notes.into_iter().map(told).collect() })
}

/// A whole configuration of fail2ban's, brought over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The files to write, by their paths below the configuration directory.
    pub files: BTreeMap<PathBuf, String>,
    /// The jails in them.
    pub jails: Vec<Brought>,
    /// What was lost or changed.
    pub remarks: Vec<Remark>,
    /// The names of our filters that the jails use.
    pub used: BTreeSet<String>,
}

/// Brings all over that is in force below `from`, fail2ban's configuration directory. `ours` is where our filters are.
///
/// # Errors
/// There is no `jail.conf` or `jail.local`, or it cannot be read. What is wrong with one jail is told in the remarks.
pub fn import(from: &Path, ours: &Layout, preference: Preference) -> Result<Imported, ImportError> {
    let mut tree = Tree::open(from)?;
    let mut sections = tree
        .sections("jail")?
        .ok_or_else(|| ImportError::Missing(format!("{} has neither jail.conf nor jail.local", from.display())))?;
    for (name, text) in
        [("fail2ban_version", "1.1.0".to_owned()), ("fail2ban_confpath", tree.root().display().to_string())]
    {
        let raw = ini::Raw { value: text.replace('%', "%%"), place: Place::whole(from) };
        sections.defaults.entry(name.into()).or_insert(raw);
    }
    let mut remarks = Vec::new();
    let general = settings::write(&mut tree, &sections, &mut Remarks { about: "fail2ban".into(), all: &mut remarks })?;
    let services = Services::read(&layers::text(Path::new("/etc/services")).unwrap_or_default());
    let mut filters = Filters { ours: ours.clone(), preference, written: BTreeMap::new(), used: BTreeSet::new() };
    let (text, jails) = Jails {
        tree: &mut tree,
        sections: &sections,
        services: &services,
        filters: &mut filters,
        remarks: &mut remarks,
    }
    .write();
    let mut files = BTreeMap::from([
        (PathBuf::from("banish.toml.d/fail2ban.toml"), general),
        (PathBuf::from("jail.d/fail2ban.toml"), text),
    ]);
    files.extend(
        filters.written.iter().map(|(name, draft)| (PathBuf::from(format!("filter.d/{name}.toml")), draft.text())),
    );
    Ok(Imported { files, jails, remarks, used: filters.used })
}
