//! One filter by itself, whether a jail uses it or not: for trying it out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::filters::{File, Filters};
use super::fragment::Fragment;
use super::layers::{self, Layout};
use super::merged::excerpt;
use super::problem::{Place, Problem, Severity, sorted};
use super::source::NORMAL;
use super::words::nearest;
use crate::engine::filter::{Definition, Fault, Filter, Trust};

/// The outcome of reading one filter.
#[derive(Clone, Debug)]
pub struct LoadedFilter {
    /// The file that it stands in, if there is one.
    pub file: Option<PathBuf>,
    /// What it was made of and the filter itself; `None` where something is wrong with it.
    pub filter: Option<(Arc<Definition>, Arc<Filter>)>,
    /// Everything that is wrong or doubtful, in the order of lines.
    pub problems: Vec<Problem>,
}

/// Reads the filter called `name` in `mode` (`normal` for the filter alone).
pub fn load_filter(layout: &Layout, name: &str, mode: &str) -> LoadedFilter {
    let mut problems = Vec::new();
    let files = layers::files(layout, &mut problems);
    if let Some(path) = files.filters.get(name) {
        return load_filter_file(path, mode);
    }
    let known: Vec<&str> = files.filters.keys().map(String::as_str).collect();
    let meant = nearest(name, &known).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    let text = format!("no filter {} in filter.d{meant}", excerpt(name));
    problems.push(Problem { severity: Severity::Error, place: None, key: String::new(), jail: None, text });
    LoadedFilter { file: None, filter: None, problems: sorted(problems) }
}

/// Reads the filter that stands in `path`, in `mode`.
pub fn load_filter_file(path: &Path, mode: &str) -> LoadedFilter {
    let mut problems = Vec::new();
    let whole = super::fragment(path, &mut problems).filter(|(_, whole)| *whole);
    read(path, whole.map(|(fragment, _)| fragment), mode, problems)
}

/// Reads `text` as the filter that would stand in `path`.
pub(super) fn load_filter_text(path: &Path, text: String) -> LoadedFilter {
    let (fragment, problems) = Fragment::parse(path, text);
    let whole = problems.is_empty().then_some(fragment);
    read(path, whole, NORMAL, problems)
}

fn read(path: &Path, fragment: Option<Fragment>, mode: &str, mut problems: Vec<Problem>) -> LoadedFilter {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let files = BTreeMap::from([(name.clone(), File::of(path.to_path_buf(), &name, fragment))]);
    let mut filters = Filters::new(&files, false);
    let filter = filters.named(&name, mode, &mut problems);
    problems.extend(filters.warning(&name, mode));
    LoadedFilter { filter, problems: sorted(problems), file: Some(path.to_path_buf()) }
}

/// Takes the filter that `jail` has, with its mode and its own `journalmatch`, whether the jail is enabled or not.
pub fn load_filter_of_jail(layout: &Layout, jail: &str) -> LoadedFilter {
    let loaded = super::load(layout);
    if let Some(settings) = loaded.settings.jails.iter().find(|settings| settings.name.as_str() == jail) {
        let filter = settings.definition.clone().zip(settings.filter.clone());
        return LoadedFilter { file: None, filter, problems: Vec::new() };
    }
    let own = loaded.problems.into_iter().filter(|problem| problem.jail.as_deref() == Some(jail));
    let mut problems: Vec<Problem> = own.collect();
    if problems.is_empty() {
        let known: Vec<&str> = loaded.settings.jails.iter().map(|settings| settings.name.as_str()).collect();
        let meant = nearest(jail, &known).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        let text = match loaded.left_out.iter().any(|name| name == jail) {
            true => format!("the jail {} is left out: see banishctl config check", excerpt(jail)),
            false => format!("no jail {}{meant}", excerpt(jail)),
        };
        problems.push(Problem { severity: Severity::Error, place: None, key: String::new(), jail: None, text });
    }
    LoadedFilter { file: None, filter: None, problems }
}

/// Makes a filter of one pattern: it says nowhere where entries come from, and is there to be tried on any.
pub fn load_pattern(pattern: &str) -> LoadedFilter {
    let definition = Definition {
        name: "of one pattern".into(),
        trust: Trust::Claimed,
        failregex: vec![pattern.into()],
        ..Definition::default()
    };
    match Filter::from_nowhere(&definition) {
        Ok(filter) => {
            LoadedFilter { file: None, filter: Some((Arc::new(definition), Arc::new(filter))), problems: Vec::new() }
        }
        Err(faults) => LoadedFilter {
            file: None,
            filter: None,
            problems: faults.into_iter().map(|fault| problem_of_pattern(pattern, &fault)).collect(),
        },
    }
}

/// Its place counts characters of the pattern.
fn problem_of_pattern(pattern: &str, fault: &Fault) -> Problem {
    let place = fault.offset.and_then(|offset| {
        let column = pattern.get(..offset)?.chars().count() + 1;
        Some(Place { file: PathBuf::from("pattern").into(), line: 1, column: u32::try_from(column).ok()? })
    });
    Problem { severity: Severity::Error, place, key: String::new(), jail: None, text: fault.reason.clone() }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests are an edge")]
mod tests {
    use super::*;

    const FILTER: &str = "journalmatch = ['_SYSTEMD_UNIT=x.service']\nfailregex = ['^no <ADDR>$']\n\
                          [mode.more]\nfailregex = ['^never <ADDR>$']\n";

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("filter.d")).unwrap();
        std::fs::write(directory.path().join("filter.d/x.toml"), FILTER).unwrap();
        directory
    }

    #[test]
    fn a_filter_is_found_by_name_and_by_file() {
        let directory = directory();
        let layout = Layout::Directory(directory.path().into());
        let by_name = load_filter(&layout, "x", "more");
        let by_file = load_filter_file(&directory.path().join("filter.d/x.toml"), "more");
        for loaded in [by_name, by_file] {
            assert_eq!(loaded.problems, []);
            assert_eq!(loaded.filter.map(|(definition, _)| definition.failregex.len()), Some(2));
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        let directory = directory();
        let layout = Layout::Directory(directory.path().into());
        let texts = |loaded: LoadedFilter| {
            assert!(loaded.filter.is_none());
            loaded.problems.into_iter().map(|problem| problem.text).collect::<Vec<_>>()
        };
        assert_eq!(texts(load_filter(&layout, "y", "normal")).len(), 1);
        assert_eq!(texts(load_filter(&layout, "x", "most")), ["has no mode \"most\", only \"normal\" or \"more\""]);
        assert_eq!(texts(load_filter_file(Path::new("/nonexistent.toml"), "normal")).len(), 1);
    }
}
