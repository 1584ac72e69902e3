//! All filters of a configuration: each read when it is asked for, compiled once for each mode, each fault told at its
//! character.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::Figment;

use super::common::{choice, kept};
use super::fragment::Fragment;
use super::merged::{Item, Merged, Table, excerpt};
use super::problem::{Problem, Severity};
use super::source::{NORMAL, Source, strings};
use super::words::nearest;
use crate::engine::filter::{Definition, Filter, STATES_LIMIT};

/// All configurations together look at no more different fields than that.
const FIELD_LIMIT: usize = 1000;

/// A filter's files and, once somebody has asked for it, what stands in them.
pub(super) struct Files<'a> {
    /// In the order in which they are merged; never empty.
    paths: Vec<PathBuf>,
    texts: &'a Texts<'a>,
    read: OnceCell<Read>,
}

/// The text of a file.
pub(super) type Texts<'a> = dyn Fn(&Path) -> Result<String, Problem> + 'a;

struct Read {
    /// The tree, where all files could be read whole.
    tree: Option<Merged>,
    problems: Vec<Problem>,
}

impl<'a> Files<'a> {
    /// Files that are read when somebody asks for the filter.
    pub(super) fn new(paths: Vec<PathBuf>, texts: &'a Texts<'a>) -> Files<'a> {
        Files { paths, texts, read: OnceCell::new() }
    }

    /// Those of all filters.
    pub(super) fn of_all(named: BTreeMap<String, Vec<PathBuf>>, texts: &'a Texts<'a>) -> BTreeMap<String, Files<'a>> {
        named.into_iter().map(|(name, paths)| (name, Files::new(paths, texts))).collect()
    }

    /// Where they are.
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// What stands in them, if that has been read.
    pub(super) fn tree(&self) -> Option<&Merged> {
        self.read.get()?.tree.as_ref()
    }

    fn read(&self, name: &str) -> &Read {
        self.read.get_or_init(|| {
            let mut problems = Vec::new();
            let mut fragments = Vec::new();
            for path in &self.paths {
                match (self.texts)(path).map(|text| Fragment::parse(path, text)) {
                    Ok((fragment, errors)) if errors.is_empty() => fragments.push(fragment),
                    Ok((_, errors)) => problems.extend(errors),
                    Err(problem) => problems.push(problem),
                }
            }
            let tree = problems.is_empty().then(|| Merged::of(&["filter", name], Figment::new(), fragments));
            Read { tree, problems }
        })
    }
}

/// All filters by name, compiled once for each mode.
pub(super) struct Filters<'a> {
    /// Is only read, and told of, what an enabled jail uses?
    sparing: bool,
    files: &'a BTreeMap<String, Files<'a>>,
    /// What has been read.
    sources: BTreeMap<&'a str, Option<Source<'a>>>,
    ready: BTreeMap<(String, String), Option<Compiled>>,
    fields: BTreeSet<String>,
    /// How many states the filters may still have.
    states: usize,
}

/// The filter of a jail, in its mode.
pub(super) struct Used {
    pub(super) name: String,
    pub(super) mode: String,
    /// None where the jail is not enabled and only what enabled ones use is read.
    pub(super) compiled: Option<Compiled>,
}

/// A filter and what it was made of.
pub(super) type Compiled = (Arc<Definition>, Arc<Filter>);

impl<'a> Filters<'a> {
    /// Takes the files, by the names of their filters.
    pub(super) fn new(files: &'a BTreeMap<String, Files<'a>>, sparing: bool) -> Filters<'a> {
        Filters {
            sparing,
            files,
            sources: BTreeMap::new(),
            ready: BTreeMap::new(),
            fields: BTreeSet::new(),
            states: STATES_LIMIT,
        }
    }

    /// Reads the filter's file, if it is there and has not been read, and tells what is wrong with it.
    fn read(&mut self, name: &str, problems: &mut Vec<Problem>) {
        let Some((name, file)) = self.files.get_key_value(name) else { return };
        self.sources.entry(name).or_insert_with(|| {
            let Read { tree, problems: wrong } = file.read(name);
            problems.extend(wrong.iter().cloned());
            let highest = file.paths.last()?;
            tree.as_ref().and_then(|tree| Source::read(highest, &tree.root(), problems))
        });
    }

    /// The filter that `jail` names: that of its own name where it names none.
    pub(super) fn of_jail(&mut self, jail: &Table<'a>, enabled: bool, problems: &mut Vec<Problem>) -> Option<Used> {
        let journalmatch = jail.at("journalmatch").map(|item| strings(&item, problems));
        let name = match jail.at("filter") {
            Some(item) => {
                let name = kept(item.text(), problems)?;
                if !self.files.contains_key(name) {
                    problems.push(item.error(self.unknown(name)));
                }
                name
            }
            None => {
                let name = jail.item().name();
                if !self.files.contains_key(name) {
                    let text = format!("has no filter: neither the key filter nor filter.d/{name}.toml is there");
                    problems.push(jail.item().key_error(text));
                }
                name
            }
        };
        let mode = jail.at("mode").map_or(Some(NORMAL), |item| kept(item.text(), problems))?;
        let used = |compiled| Used { name: name.into(), mode: mode.into(), compiled };
        if self.sparing && !enabled && self.files.contains_key(name) {
            return Some(used(None));
        }
        self.read(name, problems);
        let source = self.sources.get(name)?.as_ref()?;
        if !source.has_mode(mode) {
            let known = choice(source.mode_names());
            let at = jail.at("mode").unwrap_or_else(|| jail.item().clone());
            problems.push(at.error(format!("filter {name} has no mode {}, only {known}", excerpt(mode))));
            return None;
        }
        let compiled = match journalmatch {
            Some(lines) => self.compile(name, mode, Some(lines), problems),
            None => self.ready(name, mode, problems),
        }?;
        Some(used(Some(compiled)))
    }

    /// The filter called `name`, whether a jail uses it or not.
    pub(super) fn named(&mut self, name: &str, mode: &str, problems: &mut Vec<Problem>) -> Option<Compiled> {
        self.read(name, problems);
        let source = self.sources.get(name)?.as_ref()?;
        if !source.has_mode(mode) {
            let known = choice(source.mode_names());
            problems.push(source.about(format!("has no mode {}, only {known}", excerpt(mode))));
            return None;
        }
        self.ready(name, mode, problems)
    }

    /// What deserves a warning where a running jail uses this filter in this mode.
    pub(super) fn warning(&self, name: &str, mode: &str) -> Option<Problem> {
        let text = "the sender's own word is trusted: who writes such entries can have anybody banned";
        Some(self.sources.get(name)?.as_ref()?.claimed(mode)?.warning(text))
    }

    /// Compiles what no jail asked for, for the sake of its problems.
    pub(super) fn compile_rest(&mut self, problems: &mut Vec<Problem>) {
        self.files.keys().for_each(|name| self.read(name, problems));
        let all: Vec<(&str, String)> = self
            .sources
            .iter()
            .filter_map(|(name, source)| Some((*name, source.as_ref()?)))
            .flat_map(|(name, source)| source.mode_names().map(move |mode| (name, mode.to_owned())))
            .collect();
        for (name, mode) in all {
            self.ready(name, &mode, problems);
        }
    }

    /// Is there a filter of this name?
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The first error in one of the filter's files.
    pub(super) fn fault(&self, name: &str, problems: &[Problem]) -> Option<Problem> {
        let paths = self.files.get(name)?.paths();
        let of_it = |problem: &&Problem| {
            let file = problem.place.as_ref().map(|place| &*place.file);
            problem.severity == Severity::Error && paths.iter().any(|path| Some(path.as_path()) == file)
        };
        problems.iter().find(of_it).cloned()
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.files.keys().map(String::as_str).collect();
        if let Some((plain, _)) = name.split_once('[')
            && known.contains(&plain)
        {
            return format!("no filter {}: write filter = {plain:?} and a key mode beside it", excerpt(name));
        }
        match nearest(name, &known) {
            Some(meant) => format!("no filter {} in filter.d; did you mean {meant}?", excerpt(name)),
            None => format!("no filter {} in filter.d", excerpt(name)),
        }
    }

    fn ready(&mut self, name: &str, mode: &str, problems: &mut Vec<Problem>) -> Option<Compiled> {
        let key = (name.to_owned(), mode.to_owned());
        if let Some(known) = self.ready.get(&key) {
            return known.clone();
        }
        let compiled = self.compile(name, mode, None, problems);
        self.ready.insert(key, compiled.clone());
        compiled
    }

    fn compile(
        &mut self,
        name: &str,
        mode: &str,
        journalmatch: Option<Vec<Item<'a>>>,
        problems: &mut Vec<Problem>,
    ) -> Option<Compiled> {
        let source = self.sources.get(name)?.as_ref()?;
        let lists = source.in_mode(mode, journalmatch);
        let definition = source.definition(name, &lists);
        let filter = match Filter::compile_within(&definition, self.states) {
            Ok(filter) => filter,
            Err(faults) => {
                // Beside what was wrong before, only faults that cannot come from it are worth a line.
                let own = faults.iter().filter(|fault| !source.broken || fault.offset.is_some());
                problems.extend(own.map(|fault| source.problem(&lists, fault)));
                return None;
            }
        };
        if source.broken {
            return None;
        }
        let open = "does not say with ^ and $ where the text begins and ends: a stranger may put an address of his choice there";
        problems.extend(filter.unanchored().iter().map(|part| source.at(&lists, *part).warning(open)));
        let new: BTreeSet<String> = fields_of(&definition).filter(|field| !self.fields.contains(field)).collect();
        if self.fields.len() + new.len() > FIELD_LIMIT {
            problems.push(source.about(format!("with it more than {FIELD_LIMIT} different fields are asked for")));
            return None;
        }
        self.fields.extend(new);
        self.states = self.states.saturating_sub(filter.states());
        Some((Arc::new(definition), Arc::new(filter)))
    }
}

/// The names of all fields that a reader has to keep for this filter.
fn fields_of(definition: &Definition) -> impl Iterator<Item = String> {
    let origins = definition.journalmatch.iter().flat_map(|line| line.split_whitespace());
    let origins = origins.filter_map(|word| word.split_once('=')).map(|(name, _)| name.to_owned());
    let named = definition.session.iter().chain(&definition.address).chain(definition.fields.iter().map(|r| &r.field));
    origins.chain(named.map(|field| field.name().to_owned()))
}
