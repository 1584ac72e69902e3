//! Configuration in three stages — fragments, merged, validated settings — with every problem of all of them in one run.

mod common;
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
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use layers::{FILE_LIMIT, Layout, SYSTEM};
pub use problem::{Place, Problem, Severity, any_error};
pub use settings::{FirewallSettings, Jail, Location, Replies, Settings, Source, SourceName, Traffic};
pub use single::{LoadedFilter, load_filter, load_filter_file, load_filter_of_jail, load_pattern};

use figment::Figment;

use common::{BuiltIn, kept};
use filters::{File, Filters};
use fragment::{Fragment, Step};
use layers::Unread;
use merged::Merged;
use port::Services;

/// The outcome of reading a configuration: what can run, and what is wrong with the rest.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is right. A start goes on with it; a reload asks [`Loaded::any_error`] first.
    pub settings: Settings,
    /// Everything that is wrong, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// The jails that are not in the settings because something is wrong with them, their filter or their file. The
    /// names are as they were written, which may be what is wrong.
    pub left_out: Vec<String>,
    /// Every value that was given or built in, ordered by key.
    pub values: Vec<Given>,
    /// The files that were read, settings first, in the order in which they override each other.
    pub files: Vec<PathBuf>,
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
    read(layout, false)
}

/// Reads what is needed to run: filters that no enabled jail uses are not read, and what is wrong with them is not told.
pub fn load_to_run(layout: &Layout) -> Loaded {
    read(layout, true)
}

fn read(layout: &Layout, sparing: bool) -> Loaded {
    let mut problems = Vec::new();
    let files = layers::files(layout, &mut problems);

    let mut doubtful = BTreeSet::new();
    let mut hidden = files.hidden;
    let mut fragments = Vec::new();
    for path in &files.settings {
        let read = read_fragment(path, &mut problems).map_err(|unread| {
            hidden |= unread.hidden;
            unread.problem
        });
        match kept(read, &mut problems) {
            Some((fragment, true)) => fragments.push(fragment),
            Some((fragment, false)) => {
                doubtful.extend(fragment.keys(&[Step::Key("jail".into())]).map(str::to_owned));
                fragments.push(fragment.salvaged());
            }
            None => {}
        }
    }
    let merged = Merged::of(&[], Figment::from(BuiltIn), fragments);

    let filter_files: BTreeMap<String, File> =
        files.filters.into_iter().map(|(name, path)| (name, File::new(path))).collect();
    let mut filters = Filters::new(&filter_files, sparing);
    let services = layers::text(Path::new("/etc/services")).unwrap_or_default();
    let read = jails::read(&merged, &mut filters, &Services::read(&services), doubtful, &mut problems);
    if !sparing {
        filters.compile_rest(&mut problems);
    }
    let jails::Read { mut settings, mut left_out } = read;
    if hidden && !settings.jails.is_empty() {
        // To ban somebody whom nobody was to ban is worse than to ban nobody new.
        left_out.extend(settings.jails.drain(..).map(|jail| jail.name.to_string()));
        problems.push(Problem {
            severity: Severity::Error,
            place: None,
            key: String::new(),
            jail: None,
            text: "no jail runs while settings cannot be read: they may say whom to leave alone".into(),
        });
    }

    let trees = std::iter::once(&merged).chain(filter_files.values().filter_map(File::tree));
    let values = trees.flat_map(|tree| tree.root().leaves()).map(|item| Given {
        key: item.key(),
        value: item.shown(),
        origin: item.place(),
    });
    Loaded {
        settings,
        values: values.collect(),
        problems: problem::sorted(problems),
        left_out: left_out.into_iter().collect(),
        files: files.settings.into_iter().chain(filter_files.into_values().map(|file| file.path)).collect(),
    }
}

/// The fragment of a file, and whether it is whole; `None` where the file cannot be read at all.
fn fragment(path: &Path, problems: &mut Vec<Problem>) -> Option<(Fragment, bool)> {
    let read = read_fragment(path, problems).map_err(|unread| unread.problem);
    kept(read, problems)
}

fn read_fragment(path: &Path, problems: &mut Vec<Problem>) -> Result<(Fragment, bool), Unread> {
    let (fragment, errors) = Fragment::parse(path, layers::text(path)?);
    let whole = errors.is_empty();
    problems.extend(errors);
    Ok((fragment, whole))
}
