//! One filter by itself, whether a jail uses it or not: for trying it out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::filters::{Files, Filters, Texts};
use super::layers::{self, Layout};
use super::merged::excerpt;
use super::problem::{Place, Problem, Severity, sorted};
use super::source::NORMAL;
use super::words::nearest;
use crate::engine::filter::{Definition, Fault, Filter, Trust};

/// The outcome of reading one filter.
#[derive(Clone, Debug)]
pub struct LoadedFilter {
    /// The files that it stands in, in the order in which they are merged; none for one of a pattern.
    pub files: Vec<PathBuf>,
    /// What it was made of and the filter itself; `None` where something is wrong with it.
    pub filter: Option<(Arc<Definition>, Arc<Filter>)>,
    /// Everything that is wrong or doubtful, in the order of lines.
    pub problems: Vec<Problem>,
}

/// Reads the filter called `name` in `mode` (`normal` for the filter alone).
pub fn load_filter(layout: &Layout, name: &str, mode: &str) -> LoadedFilter {
    let mut problems = Vec::new();
    let mut files = layers::files(layout, &mut problems);
    problems.retain(|problem| problem.severity == Severity::Error);
    if let Some(paths) = files.filters.remove(name) {
        return read(name, paths, &layers::text, mode, problems);
    }
    let known: Vec<&str> = files.filters.keys().map(String::as_str).collect();
    let meant = nearest(name, &known).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    let text = format!("no filter {} in filter.d{meant}", excerpt(name));
    problems.push(Problem { severity: Severity::Error, place: None, key: String::new(), jail: None, text });
    LoadedFilter { files: Vec::new(), filter: None, problems: sorted(problems) }
}

/// Reads the filter that stands in `path` alone, in `mode`.
pub fn load_filter_file(path: &Path, mode: &str) -> LoadedFilter {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    read(&name, vec![path.to_path_buf()], &layers::text, mode, Vec::new())
}

/// Reads the filter that stands in `path`, in `mode`; a file that is part of `layout` is merged with the others of its name.
pub fn load_filter_at(layout: &Layout, path: &Path, mode: &str) -> LoadedFilter {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let of_layout = layers::files(layout, &mut Vec::new()).filters.remove(&*name).unwrap_or_default();
    let is_it =
        |known: &PathBuf| known.canonicalize().ok().is_some_and(|known| path.canonicalize().ok() == Some(known));
    match of_layout.iter().any(is_it) {
        true => load_filter(layout, &name, mode),
        false => load_filter_file(path, mode),
    }
}

/// Reads `text` as the filter that would stand in `path`.
pub(super) fn load_filter_text(path: &Path, text: &str) -> LoadedFilter {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    read(&name, vec![path.to_path_buf()], &|_| Ok(text.to_owned()), NORMAL, Vec::new())
}

/// The text of one file that says what all files of the filter called `name` say together.
///
/// # Errors
/// There is no such filter, or a file of it cannot be read whole.
pub fn filter_text(layout: &Layout, name: &str) -> Result<String, Vec<Problem>> {
    let paths = layers::files(layout, &mut Vec::new()).filters.remove(name).unwrap_or_default();
    if let [path] = &paths[..] {
        return layers::text(path).map_err(|problem| vec![problem]);
    }
    let files = BTreeMap::from([(name.to_owned(), Files::new(paths, &layers::text))]);
    let mut problems = Vec::new();
    Filters::new(&files, false).named(name, NORMAL, &mut problems);
    match files[name].tree() {
        Some(tree) => Ok(tree.text()),
        None => Err(problems),
    }
}

fn read(name: &str, paths: Vec<PathBuf>, texts: &Texts<'_>, mode: &str, mut problems: Vec<Problem>) -> LoadedFilter {
    let files = BTreeMap::from([(name.to_owned(), Files::new(paths.clone(), texts))]);
    let mut filters = Filters::new(&files, false);
    let filter = filters.named(name, mode, &mut problems);
    problems.extend(filters.warning(name, mode));
    LoadedFilter { filter, problems: sorted(problems), files: paths }
}

/// Takes the filter that `jail` has, with its mode and its own `journalmatch`, whether the jail is enabled or not.
pub fn load_filter_of_jail(layout: &Layout, jail: &str) -> LoadedFilter {
    let loaded = super::load(layout);
    if let Some(settings) = loaded.settings.jails.iter().find(|settings| settings.name.as_str() == jail) {
        let filter = settings.definition.clone().zip(settings.filter.clone());
        return LoadedFilter { files: Vec::new(), filter, problems: Vec::new() };
    }
    let own = loaded.problems.into_iter().filter(|problem| problem.jail.as_deref() == Some(jail));
    let mut problems: Vec<Problem> = own.collect();
    if problems.is_empty() {
        let known: Vec<&str> = loaded.settings.jails.iter().map(|settings| settings.name.as_str()).collect();
        let meant = nearest(jail, &known).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        let text = match loaded.left_out.iter().find(|left_out| left_out.jail == jail) {
            Some(left_out) => format!("the jail {} is left out: {}", excerpt(jail), left_out.because),
            None => format!("there is no jail {}{meant}", excerpt(jail)),
        };
        problems.push(Problem { severity: Severity::Error, place: None, key: String::new(), jail: None, text });
    }
    LoadedFilter { files: Vec::new(), filter: None, problems }
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
        Ok(filter) => LoadedFilter {
            files: Vec::new(),
            filter: Some((Arc::new(definition), Arc::new(filter))),
            problems: Vec::new(),
        },
        Err(faults) => LoadedFilter {
            files: Vec::new(),
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
    fn a_file_of_a_layer_is_tried_with_the_files_below() {
        let (usr, etc) = (directory(), tempfile::tempdir().unwrap());
        std::fs::create_dir(etc.path().join("filter.d")).unwrap();
        let own = etc.path().join("filter.d/x.toml");
        std::fs::write(&own, "ignoreregex = ['^no 192']\n").unwrap();
        let layout = Layout::Layers(vec![usr.path().into(), etc.path().into()]);
        for loaded in [load_filter(&layout, "x", "normal"), load_filter_at(&layout, &own, "normal")] {
            assert_eq!(loaded.problems, []);
            let (definition, _) = loaded.filter.unwrap();
            assert_eq!((definition.failregex.len(), definition.ignoreregex.len()), (1, 1));
        }
        assert!(load_filter_file(&own, "normal").filter.is_none());
        let text = filter_text(&layout, "x").unwrap();
        std::fs::write(&own, text).unwrap();
        let alone = load_filter_file(&own, "more").filter.unwrap().0;
        assert_eq!(Some(alone), load_filter(&layout, "x", "more").filter.map(|(definition, _)| definition));
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
