//! Configuration in three stages — fragments, merged, validated settings — with every problem of all of them in one run.

mod broken;
mod common;
mod copies;
mod doubts;
mod filters;
mod fragment;
pub mod import;
mod jails;
mod journals;
mod layers;
pub mod length;
mod merged;
mod port;
mod problem;
mod settings;
mod single;
mod source;
mod strays;
mod words;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use copies::{Copies, Damaged};
pub use layers::{FILE_LIMIT, Layout, SYSTEM};
pub use problem::{Place, Problem, Severity, any_error};
pub use settings::{FirewallSettings, Jail, Location, Replies, Settings, Source, SourceName, Traffic};
pub use single::{
    LoadedFilter, filter_text, load_filter, load_filter_at, load_filter_file, load_filter_of_jail, load_pattern,
};

use figment::Figment;

use common::BuiltIn;
use doubts::Doubts;
use filters::{Filters, Texts};
use fragment::Fragment;
use layers::Files;
use merged::Merged;
use port::Services;

/// The outcome of reading a configuration: what can run, and what is wrong with the rest.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is right. A start goes on with it; a reload asks [`Loaded::any_error`] first.
    pub settings: Settings,
    /// Everything that is wrong, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// The jails that are not in the settings, in the order of their names.
    pub left_out: Vec<LeftOut>,
    /// A copy of all that was read, where only [what is needed to run](load_to_run) was and nothing is in error.
    pub copies: Option<Copies>,
    /// Every value that was given or built in, ordered by key.
    pub values: Vec<Given>,
    /// The files that were found, settings first, in the order in which they override each other.
    pub files: Vec<PathBuf>,
}

/// A jail that is not in the settings: something is wrong with it, or with what may concern it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name as it was written, which may be what is wrong.
    pub jail: String,
    /// Would it run? Also true where that cannot be known.
    pub enabled: bool,
    /// The first error that keeps it out.
    pub because: Problem,
}

/// One value of the merged configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its key, such as `jail.sshd.maxretry`, or `filter.sshd.failregex` for a filter's.
    pub key: String,
    /// The value as TOML, on one line.
    pub value: String,
    /// Where it stands; `None` for what is built in.
    pub origin: Option<Place>,
}

impl Loaded {
    /// Is anything wrong that a reload must not pass over?
    pub fn any_error(&self) -> bool {
        any_error(&self.problems)
    }

    /// Where the value of `key` comes from; `None` for what is built in or unknown.
    pub fn origin(&self, key: &str) -> Option<&Place> {
        self.values.iter().find(|given| given.key == key)?.origin.as_ref()
    }
}

/// Reads a configuration whole. It never fails: what cannot be read is a problem, what can is in the settings.
pub fn load(layout: &Layout) -> Loaded {
    let mut problems = Vec::new();
    let files = layers::files(layout, &mut problems);
    read(files, &layers::text, false, problems)
}

/// Reads what is needed to run: filters that no enabled jail uses are not read, and what is wrong with them is not told.
pub fn load_to_run(layout: &Layout) -> Loaded {
    let mut problems = Vec::new();
    let files = layers::files(layout, &mut problems);
    let copied = RefCell::new(BTreeMap::new());
    let texts = |path: &Path| {
        let text = layers::text(path)?;
        copied.borrow_mut().insert(path.to_owned(), text.clone());
        Ok(text)
    };
    let mut loaded = read(files.clone(), &texts, true, problems);
    loaded.copies = (!loaded.any_error()).then(|| Copies::new(&files, copied.take()));
    loaded
}

/// Reads the copy of a configuration, as [`load_to_run`] would read its files.
pub fn load_copies(copies: &Copies) -> Loaded {
    read(copies.files(), &|path| copies.text(path), true, Vec::new())
}

/// Reads `files`. The text of each, and of `/etc/services`, is what `texts` gives and nothing else.
fn read(files: Files, texts: &Texts<'_>, sparing: bool, mut problems: Vec<Problem>) -> Loaded {
    let mut doubts = Doubts::default();
    doubts.of_all(files.hidden.as_ref());
    let mut fragments = Vec::new();
    for path in &files.settings {
        match texts(path) {
            Ok(text) => fragments.extend(fragment(path, text, &mut doubts, &mut problems)),
            Err(problem) => {
                doubts.of_all(Some(&problem));
                problems.push(problem);
            }
        }
    }
    let merged = Merged::of(&[], Figment::from(BuiltIn), fragments);

    let filter_files = filters::Files::of_all(files.filters, texts);
    let mut filters = Filters::new(&filter_files, sparing);
    let services = texts(Path::new("/etc/services")).unwrap_or_default();
    let (settings, left_out) = jails::read(&merged, &mut filters, &Services::read(&services), doubts, &mut problems);
    if !sparing {
        filters.compile_rest(&mut problems);
    }

    let trees = std::iter::once(&merged).chain(filter_files.values().filter_map(filters::Files::tree));
    let values = trees.flat_map(|tree| tree.root().leaves()).map(|item| Given {
        key: item.key(),
        value: item.shown(),
        origin: item.place(),
    });
    let all_filters = filter_files.values().flat_map(|files| files.paths().to_owned());
    Loaded {
        settings,
        values: values.collect(),
        problems: problem::sorted(problems),
        left_out,
        copies: None,
        files: files.settings.into_iter().chain(all_filters).collect(),
    }
}

/// The fragment of a file of settings, if that is whole and no filter's.
fn fragment(path: &Path, text: String, doubts: &mut Doubts, problems: &mut Vec<Problem>) -> Option<Fragment> {
    let named = broken::jails(&text);
    let (fragment, errors) = Fragment::parse(path, text);
    if let Some(first) = errors.first() {
        match named {
            Some(named) => named.into_iter().for_each(|jail| doubts.of_jail(jail, first)),
            None => doubts.of_all(Some(first)),
        }
        problems.extend(errors);
        return None;
    }
    if source::is_filter(&fragment) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = format!("has the keys of a filter: did you mean filter.d/{name}, beside jail.d?");
        problems.push(Problem::about_file(Place::whole(path), text));
        return None;
    }
    Some(fragment)
}
