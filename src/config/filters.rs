//! All filters of a configuration: each compiled once for each mode, each fault told at its character.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::common::{choice, kept};
use super::merged::{Item, Merged, Table, excerpt};
use super::problem::Problem;
use super::source::{NORMAL, Source, strings};
use super::words::nearest;
use crate::engine::filter::{Definition, Filter};

/// All configurations together look at no more different fields than that.
const FIELD_LIMIT: usize = 1000;

/// All filters by name, compiled once for each mode.
pub(super) struct Filters<'a> {
    /// Is only compiled, and told of, what an enabled jail uses?
    sparing: bool,
    /// What is wrong with files that nobody has asked for yet.
    untold: BTreeMap<String, Vec<Problem>>,
    sources: BTreeMap<String, Option<Source<'a>>>,
    ready: BTreeMap<(String, String), Option<Compiled>>,
    fields: BTreeSet<String>,
}

/// The filter of a jail, in its mode.
pub(super) struct Used {
    pub(super) name: String,
    pub(super) mode: String,
    pub(super) definition: Arc<Definition>,
    /// None where the jail is not enabled and only what enabled ones use is compiled.
    pub(super) filter: Option<Arc<Filter>>,
}

/// A filter and what it was made of.
pub(super) type Compiled = (Arc<Definition>, Arc<Filter>);

impl<'a> Filters<'a> {
    /// Takes the filter files: name, file, tree and what was wrong so far; no tree for a file that could not be read.
    pub(super) fn read(
        files: impl IntoIterator<Item = (&'a String, &'a PathBuf, Option<&'a Merged>, Vec<Problem>)>,
        sparing: bool,
    ) -> Filters<'a> {
        let (mut sources, mut untold) = (BTreeMap::new(), BTreeMap::new());
        for (name, file, merged, mut problems) in files {
            let source = merged.and_then(|merged| Source::read(file, &merged.root(), &mut problems));
            sources.insert(name.clone(), source);
            untold.insert(name.clone(), problems);
        }
        Filters { sparing, untold, sources, ready: BTreeMap::new(), fields: BTreeSet::new() }
    }

    /// The filter that `jail` names: that of its own name where it names none.
    pub(super) fn of_jail(&mut self, jail: &Table<'a>, enabled: bool, problems: &mut Vec<Problem>) -> Option<Used> {
        let journalmatch = jail.at("journalmatch").map(|item| strings(&item, problems));
        let name = match jail.at("filter") {
            Some(item) => {
                let name = kept(item.text(), problems)?;
                if !self.sources.contains_key(name) {
                    problems.push(item.error(self.unknown(name)));
                }
                name
            }
            None => {
                let name = jail.item().name();
                if !self.sources.contains_key(name) {
                    let text = format!("has no filter: neither the key filter nor filter.d/{name}.toml is there");
                    problems.push(jail.item().key_error(text));
                }
                name
            }
        };
        let mode = jail.at("mode").map_or(Some(NORMAL), |item| kept(item.text(), problems))?;
        let needed = enabled || !self.sparing;
        let source = self.sources.get(name)?;
        if needed || source.is_none() {
            problems.extend(self.untold.remove(name).unwrap_or_default());
        }
        let source = source.as_ref()?;
        if !source.has_mode(mode) {
            let known = choice(source.mode_names());
            let at = jail.at("mode").unwrap_or_else(|| jail.item().clone());
            problems.push(at.error(format!("filter {name} has no mode {}, only {known}", excerpt(mode))));
            return None;
        }
        let used = |definition, filter| Used { name: name.into(), mode: mode.into(), definition, filter };
        if !needed {
            let lists = source.in_mode(mode, journalmatch);
            return Some(used(Arc::new(source.definition(name, &lists)), None));
        }
        let (definition, filter) = match journalmatch {
            Some(lines) => self.compile(name, mode, Some(lines), problems),
            None => self.ready(name, mode, problems),
        }?;
        Some(used(definition, Some(filter)))
    }

    /// The filter called `name`, whether a jail uses it or not.
    pub(super) fn named(&mut self, name: &str, mode: &str, problems: &mut Vec<Problem>) -> Option<Compiled> {
        problems.extend(self.untold.remove(name).unwrap_or_default());
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
        let all: Vec<(String, String)> = self
            .sources
            .iter()
            .filter_map(|(name, source)| Some((name, source.as_ref()?)))
            .flat_map(|(name, source)| source.mode_names().map(|mode| (name.clone(), mode.to_owned())))
            .collect();
        problems.extend(std::mem::take(&mut self.untold).into_values().flatten());
        for (name, mode) in all {
            self.ready(&name, &mode, problems);
        }
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<&str> = self.sources.keys().map(String::as_str).collect();
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
        let filter = match Filter::compile(&definition) {
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
