//! A filter file: its lists and modes, made into definitions, and the way back from a definition's part to its place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::common::{kept, refuse_names};
use super::fragment::Fragment;
use super::merged::{Item, Table, excerpt};
use super::problem::{Place, Problem, Severity};
use super::words::{FILTERS, about_unknown};
use crate::engine::entry::Field;
use crate::engine::filter::{Definition, Fault, FieldRule, Part, Trust};

/// The mode that every filter has: what stands outside of its `[mode.…]` tables.
pub(super) const NORMAL: &str = "normal";

const KEYS: [&str; 11] = [
    "description",
    "journalmatch",
    "trust",
    "session",
    "prefregex",
    "failregex",
    "ignoreregex",
    "address",
    "usedns",
    "field",
    "mode",
];
const MODE_KEYS: [&str; 8] =
    ["description", "includes", "replaces", "journalmatch", "trust", "failregex", "ignoreregex", "field"];
/// Keys that settings have nowhere.
const OWN_KEYS: [&str; 4] = ["failregex", "ignoreregex", "prefregex", "journalmatch"];
const FIELD_KEYS: [&str; 2] = ["name", "failregex"];
const TRUST: [(&str, Trust); 2] = [("attested", Trust::Attested), ("claimed", Trust::Claimed)];

/// Keys that filters have nowhere, and files of settings have.
const SETTINGS_KEYS: [&str; 10] =
    ["jail", "default", "firewall", "source", "enabled", "maxretry", "findtime", "bantime", "ignoreip", "port"];

/// Is this file of settings a filter that lies in the wrong directory?
pub(super) fn is_filter(fragment: &Fragment) -> bool {
    fragment.top_keys().all(|key| KEYS.contains(&key)) && fragment.top_keys().any(|key| OWN_KEYS.contains(&key))
}

/// One filter file.
pub(super) struct Source<'a> {
    file: PathBuf,
    pub(super) whole: Item<'a>,
    /// Is something wrong already before it is compiled?
    pub(super) broken: bool,
    session: Option<(Field, Item<'a>)>,
    address: Option<(Field, Item<'a>)>,
    prefregex: Option<Item<'a>>,
    base: Lists<'a>,
    modes: BTreeMap<String, Mode<'a>>,
}

/// What a mode adds.
struct Mode<'a> {
    /// Other modes, which it takes in; none of them comes back to it.
    includes: Vec<String>,
    /// Do its lists stand in the place of the filter's?
    replaces: bool,
    lists: Lists<'a>,
}

/// What a filter and each of its modes may list; every item is a string.
#[derive(Clone, Default)]
pub(super) struct Lists<'a> {
    pub(super) journalmatch: Vec<Item<'a>>,
    /// Where it is written.
    trust: Option<(Trust, Item<'a>)>,
    failregex: Vec<Item<'a>>,
    ignoreregex: Vec<Item<'a>>,
    fields: Vec<(Field, Item<'a>, Vec<Item<'a>>)>,
    /// Which of these, in this order, are written at all.
    given: [bool; 4],
}

impl<'a> Source<'a> {
    pub(super) fn read(file: &Path, whole: &Item<'a>, problems: &mut Vec<Problem>) -> Option<Source<'a>> {
        let before = problems.len();
        let table = kept(whole.table(), problems)?;
        if let Some(stray) = table.items().find(|item| SETTINGS_KEYS.contains(&item.name())) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            problems
                .push(stray.key_error(format!("is no key of a filter: did you mean jail.d/{name}, beside filter.d?")));
            return None;
        }
        refuse_unknown(&table, &KEYS, problems);
        if let Some(description) = table.at("description") {
            kept(description.text(), problems);
        }
        if let Some(usedns) = table.at("usedns") {
            kept(refuse_names(&usedns), problems);
        }
        let mut named = |key| {
            let item = table.at(key).filter(|item| !is_none(item))?;
            Some((kept(field(&item), problems)?, item))
        };
        let (session, address) = (named("session"), named("address"));
        let prefregex = table.at("prefregex").filter(|item| kept(item.text(), problems).is_some() && !is_none(item));
        let base = Lists::read(&table, problems);
        problems.extend(
            prefregex.iter().zip(table.at("failregex")).filter_map(|(lower, patterns)| narrowed(&patterns, lower)),
        );
        let mut modes = BTreeMap::new();
        if let Some(given) = table.at("mode").and_then(|item| kept(item.table(), problems)) {
            for item in given.items() {
                let Some(mode) = kept(item.table(), problems) else { continue };
                if item.name() == NORMAL {
                    problems.push(item.key_error("is the mode without additions: its keys stand outside of all modes"));
                }
                refuse_unknown(&mode, &MODE_KEYS, problems);
                let lists = Lists::read(&mode, problems);
                let replaces = mode.at("replaces").and_then(|item| kept(item.flag(), problems)).unwrap_or_default();
                modes.insert(item.name().to_owned(), Mode { includes: Vec::new(), replaces, lists });
            }
            for (name, included) in includes(&given, problems) {
                if let Some(mode) = modes.get_mut(&name) {
                    mode.includes = included;
                }
            }
        }
        let broken = problems[before..].iter().any(|problem| problem.severity == Severity::Error);
        let file = file.to_path_buf();
        Some(Source { file, whole: whole.clone(), broken, session, address, prefregex, base, modes })
    }

    pub(super) fn has_mode(&self, mode: &str) -> bool {
        mode == NORMAL || self.modes.contains_key(mode)
    }

    pub(super) fn mode_names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(NORMAL).chain(self.modes.keys().map(String::as_str))
    }

    /// What the filter lists in a mode. The mode's own comes first, then what it includes, then what stands outside of
    /// all modes: the first pattern that matches decides, and a mode is there to decide otherwise. Where the mode
    /// replaces, no list that it has goes on with what stands outside. A jail may have a `journalmatch` of its own.
    pub(super) fn in_mode(&self, mode: &str, journalmatch: Option<Vec<Item<'a>>>) -> Lists<'a> {
        let mut lists = Lists::default();
        self.add(mode, &mut lists);
        match self.modes.get(mode).is_some_and(|mode| mode.replaces) {
            true => lists.extend(&self.base.without(lists.given)),
            false => lists.extend(&self.base),
        }
        if let Some(lines) = journalmatch {
            lists.journalmatch = lines;
        }
        lists
    }

    fn add(&self, mode: &str, lists: &mut Lists<'a>) {
        if let Some(mode) = self.modes.get(mode) {
            lists.extend(&mode.lists);
            mode.includes.iter().for_each(|included| self.add(included, lists));
        }
    }

    pub(super) fn definition(&self, name: &str, lists: &Lists<'a>) -> Definition {
        let name_of = |named: &Option<(Field, Item<'a>)>| named.as_ref().map(|(field, _)| field.clone());
        let rule = |(field, _, patterns): &(Field, Item<'a>, Vec<Item<'a>>)| FieldRule {
            field: field.clone(),
            failregex: texts(patterns),
        };
        Definition {
            name: name.to_owned(),
            journalmatch: texts(&lists.journalmatch),
            trust: lists.trust.as_ref().map(|(trust, _)| *trust).unwrap_or_default(),
            session: name_of(&self.session),
            prefregex: self.prefregex.as_ref().and_then(|item| item.text().ok()).map(str::to_owned),
            failregex: texts(&lists.failregex),
            ignoreregex: texts(&lists.ignoreregex),
            address: name_of(&self.address),
            fields: lists.fields.iter().map(rule).collect(),
        }
    }

    /// Where it says that in this mode the senders' own word is enough, if it does.
    pub(super) fn claimed(&self, mode: &str) -> Option<Item<'a>> {
        self.in_mode(mode, None).trust.filter(|(trust, _)| *trust == Trust::Claimed).map(|(_, item)| item)
    }

    /// What the configuration says at `part` of a definition made from `lists`.
    pub(super) fn at<'b>(&'b self, lists: &'b Lists<'a>, part: Part) -> &'b Item<'a> {
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

    pub(super) fn problem(&self, lists: &Lists<'a>, fault: &Fault) -> Problem {
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

    pub(super) fn about(&self, text: impl Into<String>) -> Problem {
        self.whole.problem(Severity::Error, Some(Place::whole(&self.file)), text)
    }
}

impl<'a> Lists<'a> {
    fn read(table: &Table<'a>, problems: &mut Vec<Problem>) -> Lists<'a> {
        let mut list = |key| table.at(key).map(|item| strings(&item, problems)).unwrap_or_default();
        let (journalmatch, failregex, ignoreregex) = (list("journalmatch"), list("failregex"), list("ignoreregex"));
        let rules = table.at("field").map(|item| item.list()).unwrap_or_default();
        let fields = rules.into_iter().filter_map(|rule| {
            let table = kept(rule.table(), problems)?;
            refuse_unknown(&table, &FIELD_KEYS, problems);
            let patterns = table.at("failregex").map(|item| strings(&item, problems)).unwrap_or_default();
            let name = table.at("name").ok_or_else(|| rule.error("needs a name: the field to look at"));
            let field = name.and_then(|name| field(&name));
            Some((kept(field, problems)?, rule, patterns))
        });
        let fields = fields.collect();
        let given = ["journalmatch", "failregex", "ignoreregex", "field"].map(|key| table.at(key).is_some());
        let trust = table.at("trust").and_then(|item| Some((kept(item.word(&TRUST), problems)?, item)));
        Lists { journalmatch, trust, failregex, ignoreregex, fields, given }
    }

    /// Those that are not among these.
    fn without(&self, given: [bool; 4]) -> Lists<'a> {
        let mut lists = self.clone();
        let [journalmatch, failregex, ignoreregex, fields] = given;
        if journalmatch {
            lists.journalmatch.clear();
        }
        if failregex {
            lists.failregex.clear();
        }
        if ignoreregex {
            lists.ignoreregex.clear();
        }
        if fields {
            lists.fields.clear();
        }
        lists
    }

    fn extend(&mut self, more: &Lists<'a>) {
        self.trust = self.trust.take().or_else(|| more.trust.clone());
        self.journalmatch.extend(more.journalmatch.iter().cloned());
        self.failregex.extend(more.failregex.iter().cloned());
        self.ignoreregex.extend(more.ignoreregex.iter().cloned());
        self.fields.extend(more.fields.iter().cloned());
        self.given.iter_mut().zip(more.given).for_each(|(given, more)| *given |= more);
    }
}

/// Which modes each mode includes: such as are there, and that include none themselves, so that nothing goes in circles.
fn includes(modes: &Table<'_>, problems: &mut Vec<Problem>) -> Vec<(String, Vec<String>)> {
    let listed = |name: &str| modes.at(name)?.table().ok()?.at("includes");
    let mut all = Vec::new();
    for mode in modes.items() {
        let Some(list) = listed(mode.name()) else { continue };
        let mut included = Vec::new();
        for item in strings(&list, problems) {
            let Ok(name) = item.text() else { continue };
            match modes.at(name) {
                None => problems.push(item.error(format!("no mode {} in this filter", excerpt(name)))),
                Some(_) if name == mode.name() || listed(name).is_some() => {
                    problems.push(item.error("includes others itself: name those".to_owned()));
                }
                Some(_) => included.push(name.to_owned()),
            }
        }
        all.push((mode.name().to_owned(), included));
    }
    all
}

/// Does it take away what a file of a lower layer says?
fn is_none(item: &Item<'_>) -> bool {
    item.text() == Ok("")
}

/// A warning where somebody replaces the patterns of a lower layer's file and its `prefregex` stays.
fn narrowed(patterns: &Item<'_>, prefregex: &Item<'_>) -> Option<Problem> {
    let place = prefregex.place().filter(|_| prefregex.is_below(patterns))?;
    Some(patterns.warning(format!(
        "sees only what the prefregex at {place} leaves of a message: write it here too, or prefregex = \"\" for none"
    )))
}

fn refuse_unknown(table: &Table<'_>, known: &[&str], problems: &mut Vec<Problem>) {
    let unknown = table.items().filter(|item| !known.contains(&item.name()));
    problems.extend(unknown.map(|item| item.key_error(about_unknown(item.name(), known, FILTERS))));
}

/// The items of a list that are strings.
pub(super) fn strings<'a>(item: &Item<'a>, problems: &mut Vec<Problem>) -> Vec<Item<'a>> {
    item.list().into_iter().filter(|item| kept(item.text(), problems).is_some()).collect()
}

fn texts(items: &[Item<'_>]) -> Vec<String> {
    items.iter().filter_map(|item| item.text().ok()).map(str::to_owned).collect()
}

fn field(item: &Item<'_>) -> Result<Field, Problem> {
    item.text()?.parse().map_err(|error| item.error(format!("{error}")))
}
