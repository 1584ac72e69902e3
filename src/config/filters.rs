//! Filter files: from TOML to compiled filters, each fault at the character of the pattern that it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::value::{Dict, Map};
use figment::{Metadata, Profile, Provider};

use super::common::{choice, kept};
use super::merged::{Item, Merged, Table, excerpt};
use super::problem::{Place, Problem, Severity};
use super::words::{about_unknown, nearest};
use crate::engine::entry::Field;
use crate::engine::filter::{Definition, Fault, FieldRule, Filter, Part, Trust};

/// The mode that every filter has: what stands outside of its `[mode.…]` tables.
const NORMAL: &str = "normal";

/// All configurations together look at no more different fields than that.
const FIELD_LIMIT: usize = 1000;

const KEYS: [&str; 10] = [
    "description",
    "journalmatch",
    "trust",
    "session",
    "prefregex",
    "failregex",
    "ignoreregex",
    "address",
    "field",
    "mode",
];
const MODE_KEYS: [&str; 5] = ["description", "journalmatch", "failregex", "ignoreregex", "field"];
const FIELD_KEYS: [&str; 2] = ["name", "failregex"];
const TRUST: [(&str, Trust); 2] = [("attested", Trust::Attested), ("claimed", Trust::Claimed)];

/// All filters by name, compiled once for each mode.
pub(super) struct Filters<'a> {
    sources: BTreeMap<String, Option<Source<'a>>>,
    ready: BTreeMap<(String, String), Option<Compiled>>,
    fields: BTreeSet<String>,
}

/// The filter of a jail, in its mode.
pub(super) struct Used {
    pub(super) name: String,
    pub(super) mode: String,
    pub(super) definition: Arc<Definition>,
    pub(super) filter: Arc<Filter>,
}

type Compiled = (Arc<Definition>, Arc<Filter>);

/// One filter file.
struct Source<'a> {
    file: PathBuf,
    whole: Item<'a>,
    trust: Trust,
    session: Option<(Field, Item<'a>)>,
    address: Option<(Field, Item<'a>)>,
    prefregex: Option<Item<'a>>,
    base: Lists<'a>,
    modes: BTreeMap<String, Lists<'a>>,
}

/// What a filter and each of its modes may list; every item is a string.
#[derive(Clone, Default)]
struct Lists<'a> {
    journalmatch: Vec<Item<'a>>,
    failregex: Vec<Item<'a>>,
    ignoreregex: Vec<Item<'a>>,
    fields: Vec<(Field, Item<'a>, Vec<Item<'a>>)>,
}

impl<'a> Filters<'a> {
    /// Reads the filter files: name, file and tree; no tree for a file that could not be read.
    pub(super) fn read(
        files: impl IntoIterator<Item = (&'a String, &'a PathBuf, Option<&'a Merged>)>,
        problems: &mut Vec<Problem>,
    ) -> Filters<'a> {
        let sources = files.into_iter().map(|(name, file, merged)| {
            let source = merged.and_then(|merged| Source::read(file, &merged.root(), problems));
            (name.clone(), source)
        });
        Filters { sources: sources.collect(), ready: BTreeMap::new(), fields: BTreeSet::new() }
    }

    /// The filter that `jail` names: that of its own name where it names none.
    pub(super) fn of_jail(&mut self, jail: &Table<'a>, problems: &mut Vec<Problem>) -> Option<Used> {
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
        let source = self.sources.get(name)?.as_ref()?;
        if !source.has_mode(mode) {
            let known = choice(source.mode_names());
            let at = jail.at("mode").unwrap_or_else(|| jail.item().clone());
            problems.push(at.error(format!("filter {name} has no mode {}, only {known}", excerpt(mode))));
            return None;
        }
        let (definition, filter) = match journalmatch {
            Some(lines) => self.compile(name, mode, Some(lines?), problems),
            None => self.ready(name, mode, problems),
        }?;
        Some(Used { name: name.into(), mode: mode.into(), definition, filter })
    }

    /// The filter called `name`, whether a jail uses it or not.
    pub(super) fn named(&mut self, name: &str, mode: &str, problems: &mut Vec<Problem>) -> Option<Used> {
        let source = self.sources.get(name)?.as_ref()?;
        if !source.has_mode(mode) {
            let known = choice(source.mode_names());
            problems.push(source.about(format!("has no mode {}, only {known}", excerpt(mode))));
            return None;
        }
        let (definition, filter) = self.ready(name, mode, problems)?;
        Some(Used { name: name.into(), mode: mode.into(), definition, filter })
    }

    /// What deserves a warning where a running jail uses this filter.
    pub(super) fn warning(&self, name: &str) -> Option<Problem> {
        let source = self.sources.get(name)?.as_ref().filter(|source| source.trust == Trust::Claimed)?;
        let text = "the sender's own word is trusted: any local user can have anybody banned";
        Some(source.whole.table().ok()?.at("trust")?.warning(text))
    }

    /// Compiles what no jail asked for, for the sake of its problems.
    pub(super) fn compile_rest(&mut self, problems: &mut Vec<Problem>) {
        let all: Vec<(String, String)> = self
            .sources
            .iter()
            .filter_map(|(name, source)| Some((name, source.as_ref()?)))
            .flat_map(|(name, source)| source.mode_names().map(|mode| (name.clone(), mode.to_owned())))
            .collect();
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
        let mut lists = source.in_mode(mode);
        if let Some(lines) = journalmatch {
            lists.journalmatch = lines;
        }
        let definition = source.definition(name, &lists);
        let filter = match Filter::compile(&definition) {
            Ok(filter) => filter,
            Err(faults) => {
                problems.extend(faults.iter().map(|fault| source.problem(&lists, fault)));
                return None;
            }
        };
        let open = "does not say with ^ and $ where the text begins and ends: a stranger may put an address of his choice there";
        problems.extend(filter.unanchored().iter().map(|part| source.at(&lists, *part).warning(open)));
        self.fields.extend(fields_of(&definition));
        if self.fields.len() > FIELD_LIMIT {
            problems.push(source.about(format!("with it more than {FIELD_LIMIT} different fields are asked for")));
            return None;
        }
        Some((Arc::new(definition), Arc::new(filter)))
    }
}

impl<'a> Source<'a> {
    fn read(file: &Path, whole: &Item<'a>, problems: &mut Vec<Problem>) -> Option<Source<'a>> {
        let before = problems.len();
        let table = kept(whole.table(), problems)?;
        refuse_unknown(&table, &KEYS, problems);
        if let Some(description) = table.at("description") {
            kept(description.text(), problems);
        }
        let trust = table.at("trust").and_then(|item| kept(item.word(&TRUST), problems)).unwrap_or_default();
        let mut named = |key| {
            let item = table.at(key)?;
            Some((kept(field(&item), problems)?, item))
        };
        let (session, address) = (named("session"), named("address"));
        let prefregex = table.at("prefregex").filter(|item| kept(item.text(), problems).is_some());
        let base = Lists::read(&table, problems);
        let mut modes = BTreeMap::new();
        if let Some(given) = table.at("mode").and_then(|item| kept(item.table(), problems)) {
            for item in given.items() {
                let Some(mode) = kept(item.table(), problems) else { continue };
                if item.name() == NORMAL {
                    problems.push(item.key_error("is the mode without additions: its keys stand outside of all modes"));
                }
                refuse_unknown(&mode, &MODE_KEYS, problems);
                modes.insert(item.name().to_owned(), Lists::read(&mode, problems));
            }
        }
        let broken = problems[before..].iter().any(|problem| problem.severity == Severity::Error);
        let file = file.to_path_buf();
        (!broken).then(|| Source { file, whole: whole.clone(), trust, session, address, prefregex, base, modes })
    }

    fn has_mode(&self, mode: &str) -> bool {
        mode == NORMAL || self.modes.contains_key(mode)
    }

    fn mode_names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(NORMAL).chain(self.modes.keys().map(String::as_str))
    }

    fn in_mode(&self, mode: &str) -> Lists<'a> {
        let mut lists = self.base.clone();
        if let Some(more) = self.modes.get(mode).cloned() {
            lists.journalmatch.extend(more.journalmatch);
            lists.failregex.extend(more.failregex);
            lists.ignoreregex.extend(more.ignoreregex);
            lists.fields.extend(more.fields);
        }
        lists
    }

    fn definition(&self, name: &str, lists: &Lists<'a>) -> Definition {
        let name_of = |named: &Option<(Field, Item<'a>)>| named.as_ref().map(|(field, _)| field.clone());
        let rule = |(field, _, patterns): &(Field, Item<'a>, Vec<Item<'a>>)| FieldRule {
            field: field.clone(),
            failregex: texts(patterns),
        };
        Definition {
            name: name.to_owned(),
            journalmatch: texts(&lists.journalmatch),
            trust: self.trust,
            session: name_of(&self.session),
            prefregex: self.prefregex.as_ref().and_then(|item| item.text().ok()).map(str::to_owned),
            failregex: texts(&lists.failregex),
            ignoreregex: texts(&lists.ignoreregex),
            address: name_of(&self.address),
            fields: lists.fields.iter().map(rule).collect(),
        }
    }

    /// What the configuration says at `part` of a definition made from `lists`.
    fn at<'b>(&'b self, lists: &'b Lists<'a>, part: Part) -> &'b Item<'a> {
        let item = match part {
            Part::Journalmatch(at) => lists.journalmatch.get(at),
            Part::Failregex(at) => lists.failregex.get(at),
            Part::Ignoreregex(at) => lists.ignoreregex.get(at),
            Part::Field(at, None) => lists.fields.get(at).map(|(_, rule, _)| rule),
            Part::Field(at, Some(pattern)) => lists.fields.get(at).and_then(|(_, _, patterns)| patterns.get(pattern)),
            Part::Prefregex => self.prefregex.as_ref(),
            Part::Session => self.session.as_ref().map(|(_, item)| item),
            Part::Address => self.address.as_ref().map(|(_, item)| item),
            Part::Whole => None,
        };
        item.unwrap_or(&self.whole)
    }

    fn problem(&self, lists: &Lists<'a>, fault: &Fault) -> Problem {
        let item = self.at(lists, fault.at);
        let (Some(offset), Ok(text)) = (fault.offset, item.text()) else {
            return item.place().map_or_else(|| self.about(&fault.reason), |_| item.error(&fault.reason));
        };
        match item.place_within(offset) {
            Some(place) => item.problem(Severity::Error, Some(place), &fault.reason),
            None => {
                let before = text.get(..offset).map_or(0, |before| before.chars().count());
                item.error(format!("{} (at character {} of the string)", fault.reason, before + 1))
            }
        }
    }

    fn about(&self, text: impl Into<String>) -> Problem {
        self.whole.problem(Severity::Error, Some(Place::whole(&self.file)), text)
    }
}

impl<'a> Lists<'a> {
    fn read(table: &Table<'a>, problems: &mut Vec<Problem>) -> Lists<'a> {
        let mut list = |key| table.at(key).and_then(|item| strings(&item, problems)).unwrap_or_default();
        let (journalmatch, failregex, ignoreregex) = (list("journalmatch"), list("failregex"), list("ignoreregex"));
        let rules = table.at("field").map(|item| item.list()).unwrap_or_default();
        let fields = rules.into_iter().filter_map(|rule| {
            let table = kept(rule.table(), problems)?;
            refuse_unknown(&table, &FIELD_KEYS, problems);
            let patterns = table.at("failregex").and_then(|item| strings(&item, problems)).unwrap_or_default();
            let name = table.at("name").ok_or_else(|| rule.error("needs a name: the field to look at"));
            let field = name.and_then(|name| field(&name));
            Some((kept(field, problems)?, rule, patterns))
        });
        let fields = fields.collect();
        Lists { journalmatch, failregex, ignoreregex, fields }
    }
}

/// A filter has nothing built in.
pub(super) struct Nothing;

impl Provider for Nothing {
    fn metadata(&self) -> Metadata {
        Metadata::named("nothing")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::new())
    }
}

fn refuse_unknown(table: &Table<'_>, known: &[&str], problems: &mut Vec<Problem>) {
    let unknown = table.items().filter(|item| !known.contains(&item.name()));
    problems.extend(unknown.map(|item| item.key_error(about_unknown(item.name(), known))));
}

/// The items of a list of strings; `None` where one of them is none.
fn strings<'a>(item: &Item<'a>, problems: &mut Vec<Problem>) -> Option<Vec<Item<'a>>> {
    let items = item.list();
    let good = items.iter().filter(|item| kept(item.text(), problems).is_some()).count();
    (good == items.len()).then_some(items)
}

fn texts(items: &[Item<'_>]) -> Vec<String> {
    items.iter().filter_map(|item| item.text().ok()).map(str::to_owned).collect()
}

fn field(item: &Item<'_>) -> Result<Field, Problem> {
    item.text()?.parse().map_err(|error| item.error(format!("{error}")))
}

/// The names of all fields that a reader has to keep for this filter.
fn fields_of(definition: &Definition) -> impl Iterator<Item = String> {
    let origins = definition.journalmatch.iter().flat_map(|line| line.split_whitespace());
    let origins = origins.filter_map(|word| word.split_once('=')).map(|(name, _)| name.to_owned());
    let named = definition.session.iter().chain(&definition.address).chain(definition.fields.iter().map(|r| &r.field));
    origins.chain(named.map(|field| field.name().to_owned()))
}
