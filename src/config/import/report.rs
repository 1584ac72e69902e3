//! What an import tells: what was brought over otherwise than it was, and what could not be.

use std::path::Path;

use super::super::problem::Place;
use super::toml;

/// How much of it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It has no counterpart here, or could not be read.
    Lost,
    /// It is there, but not word for word.
    Changed,
}

impl Fate {
    /// `lost` or `changed`.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Lost => "lost",
            Fate::Changed => "changed",
        }
    }
}

/// One thing that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// How much of it is there.
    pub fate: Fate,
    /// What it is about: `jail sshd`, `filter postfix`, `fail2ban`.
    pub about: String,
    /// Where it stands in fail2ban's configuration.
    pub place: Option<Place>,
    /// What became of it, and why: one line.
    pub text: String,
}

/// Collects remarks about one thing.
pub(super) struct Remarks<'a> {
    pub(super) about: String,
    pub(super) all: &'a mut Vec<Remark>,
}

impl Remarks<'_> {
    pub(super) fn lost(&mut self, place: Option<&Place>, text: impl Into<String>) {
        self.add(Fate::Lost, place, text.into());
    }

    pub(super) fn changed(&mut self, place: Option<&Place>, text: impl Into<String>) {
        self.add(Fate::Changed, place, text.into());
    }

    fn add(&mut self, fate: Fate, place: Option<&Place>, text: String) {
        let remark = Remark { fate, about: self.about.clone(), place: place.cloned(), text };
        if !self.all.contains(&remark) {
            self.all.push(remark);
        }
    }
}

/// What is said of several jails alike is said once, before what is said of one.
pub(super) fn gathered(remarks: Vec<Remark>) -> Vec<Remark> {
    let same = |a: &Remark, b: &Remark| (a.fate, &a.place, &a.text) == (b.fate, &b.place, &b.text);
    let (mut shared, mut single): (Vec<Remark>, Vec<Remark>) = (Vec::new(), Vec::new());
    for remark in &remarks {
        let several = remark.place.is_some() && remarks.iter().filter(|other| same(other, remark)).count() > 1;
        if !several {
            single.push(remark.clone());
        } else if !shared.iter().any(|known| same(known, remark)) {
            shared.push(Remark { about: "several jails".into(), ..remark.clone() });
        }
    }
    shared.append(&mut single);
    shared
}

/// Lines `key = value  # place`, for a table of settings.
pub(super) struct Table<'a> {
    root: &'a Path,
    lines: Vec<(String, String)>,
}

impl<'a> Table<'a> {
    pub(super) fn new(root: &'a Path) -> Table<'a> {
        Table { root, lines: Vec::new() }
    }

    /// Adds a value that is TOML already.
    pub(super) fn put(&mut self, key: &str, value: String, origin: Option<&Place>) {
        let origin = origin.map(|place| toml::place(self.root, place)).unwrap_or_default();
        self.lines.push((format!("{key} = {value}"), origin));
    }

    /// Adds a value at the front, with words instead of a place.
    pub(super) fn put_first(&mut self, key: &str, value: String, said: &str) {
        self.lines.insert(0, (format!("{key} = {value}"), toml::comment(said)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn write(&self, out: &mut String) {
        let width =
            self.lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= 48).max().unwrap_or(0);
        for (line, origin) in &self.lines {
            match origin.as_str() {
                "" => out.push_str(line),
                origin => out.push_str(&format!("{line:width$}  # {origin}")),
            }
            out.push('\n');
        }
    }
}

/// A list of strings as TOML.
pub(super) fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| toml::quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}
