//! From the merged tree to settings: every jail is read to its end, and one that is wrong anywhere is left out.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::LeftOut;
use super::common::{Common, General, kept, refuse_words};
use super::doubts::Doubts;
use super::filters::Filters;
use super::journals::Journals;
use super::merged::{Item, Merged, Table, excerpt};
use super::port::Services;
use super::problem::{NO_JAIL_RUNS, Problem, Severity};
use super::settings::{Jail, Settings};
use super::words::{SETTINGS, about_unknown, nearest};
use crate::engine::ban::JailName;
use crate::engine::jail::Rules;
use crate::engine::jail::allow::AllowList;
use crate::engine::jail::scope::{Ports, Protocol, Scope};

/// The keys of a jail that `[default]` has not.
const OWN_KEYS: [&str; 5] = ["filter", "mode", "port", "journalmatch", "source"];

/// The keys that say whom to leave alone.
const EXEMPTIONS: [&str; 2] = ["ignoreip", "ignoreself"];

/// What may stand outside of all jails.
const TOP_KEYS: [&str; 6] = ["default", "firewall", "source", "jail", "history", "replay-max"];

/// Reads the whole tree. `doubts` are what is wrong with files that could not be read whole.
pub(super) fn read<'a>(
    merged: &'a Merged,
    filters: &mut Filters<'a>,
    services: &Services,
    mut doubts: Doubts,
    problems: &mut Vec<Problem>,
) -> (Settings, Vec<LeftOut>) {
    let mut general = General::default();
    let mut journals = Journals::default();
    let top: Vec<Item<'_>> = merged.root().table().map(|table| table.items().collect()).unwrap_or_default();
    for item in &top {
        let before = problems.len();
        match item.name() {
            "default" => read_keys(item, &Common::KEYS, problems, |item, problems| general.default.set(item, problems)),
            "firewall" => {
                read_keys(item, &General::FIREWALL_KEYS, problems, |item, problems| {
                    general.set_firewall(item, problems)
                });
            }
            "source" => {
                journals = Journals::read(item, problems);
                doubts.of_all(problems[before..].iter().find(|problem| is_of_no_source(problem)));
                continue;
            }
            "jail" => {
                tables(item, problems);
            }
            // A wrong time here says nothing about any host.
            _ if general.set_top(item, problems) => continue,
            name => problems.push(item.key_error(about_unknown(name, &TOP_KEYS, SETTINGS))),
        }
        doubts.of_all_among(&problems[before..]);
    }
    let reader = Reader { general: &general, journals: &journals, services };
    let jails = Jails::read(&reader, &named(merged), filters, &mut doubts, problems);
    let (jails, left_out) = jails.sorted_out(&doubts, problems);
    for jail in jails.iter().filter(|jail| jail.enabled) {
        problems.extend(filters.warning(&jail.filter_name, &jail.mode));
    }
    let General { default, firewall, history, replay_max } = general;
    let settings = Settings {
        jails,
        sources: journals.sources,
        firewall,
        history,
        replay_max,
        bantime: default.bantime,
        ignoreself: default.ignoreself,
        allow: default.ignoreip.into_iter().collect(),
    };
    (settings, left_out)
}

/// A key that no source has, such as one of `[default]` that got behind the wrong table.
fn is_of_no_source(problem: &Problem) -> bool {
    problem.severity == Severity::Error
        && problem.key.rsplit('.').next().is_some_and(|key| Common::KEYS.contains(&key) || is_almost_an_exemption(key))
}

/// Could a slip of the pen have made this of a key that says whom to leave alone?
fn is_almost_an_exemption(key: &str) -> bool {
    key.to_lowercase().contains("ignore") || nearest(key, &EXEMPTIONS).is_some()
}

/// Tells of each file in which this is no table: a later file's table would hide it.
fn tables(item: &Item<'_>, problems: &mut Vec<Problem>) {
    problems.extend(item.in_each_file().iter().filter_map(|item| item.table().err()));
}

/// All jails that any file names, as the merged tree has them. What is no table is told with the jail.
fn named(merged: &Merged) -> BTreeMap<String, Item<'_>> {
    let at = |item: &Item<'_>| item.name().to_owned();
    let Some(all) = merged.root().table().ok().and_then(|root| root.at("jail")) else { return BTreeMap::new() };
    let each = all.in_each_file().into_iter().filter_map(|item| item.table().ok());
    let mut jails: BTreeMap<String, Item<'_>> =
        each.flat_map(|table| table.items().collect::<Vec<_>>()).map(|item| (at(&item), item)).collect();
    jails.extend(
        all.table().into_iter().flat_map(|table| table.items().collect::<Vec<_>>()).map(|item| (at(&item), item)),
    );
    jails
}

/// Gives each value of a table to `set` and refuses the keys that it does not know.
fn read_keys(
    item: &Item<'_>,
    known: &[&str],
    problems: &mut Vec<Problem>,
    mut set: impl FnMut(&Item<'_>, &mut Vec<Problem>) -> bool,
) {
    tables(item, problems);
    let Ok(table) = item.table() else { return };
    for item in table.items() {
        if set(&item, problems) {
            continue;
        }
        problems.push(item.key_error(match OWN_KEYS.contains(&item.name()) {
            true => "belongs to a jail, not here".to_owned(),
            false => about_unknown(item.name(), known, SETTINGS),
        }));
    }
}

/// What became of each jail that a file names.
struct Jails {
    /// Each whole one; else whether it would run.
    read: BTreeMap<String, Result<Box<Jail>, bool>>,
}

impl Jails {
    fn read<'a>(
        reader: &Reader<'_>,
        named: &BTreeMap<String, Item<'a>>,
        filters: &mut Filters<'a>,
        doubts: &mut Doubts,
        problems: &mut Vec<Problem>,
    ) -> Jails {
        for (jail, other, problem) in doubles(named) {
            // Each may say whom the other is to leave alone.
            doubts.of_jail(jail, &problem);
            doubts.of_jail(other, &problem);
            problems.push(problem);
        }
        let mut read = BTreeMap::new();
        for (name, item) in named {
            let before = problems.len();
            let jail = reader.jail(item, filters, problems);
            let errors = problems[before..].iter().filter(|problem| problem.severity == Severity::Error);
            let own = errors.min_by(|a, b| a.place.cmp(&b.place)).cloned();
            // A filter's errors are told once, with the first jail that has it.
            let fault = own.or_else(|| match &jail {
                Some(_) => None,
                None => filters.fault(filter_name(item), problems),
            });
            if let Some(fault) = &fault {
                doubts.of_jail(name.clone(), fault);
                problems.extend(misnamed(item, named, filters, fault, doubts));
            } else if jail.is_none() {
                doubts.of_jail(name.clone(), &item.key_error("cannot be used"));
            }
            let enabled = jail.as_ref().map_or_else(|| reader.would_run(item), |jail| jail.enabled);
            read.insert(name.clone(), jail.map(Box::new).ok_or(enabled));
        }
        let unknown: Vec<(String, Problem)> = doubts
            .jails()
            .filter(|(jail, _)| !read.contains_key(*jail))
            .map(|(jail, why)| (jail.into(), why.clone()))
            .collect();
        for (jail, why) in unknown {
            let known: Vec<&str> = named.keys().map(String::as_str).collect();
            nearest(&jail, &known).into_iter().for_each(|meant| doubts.of_jail(meant.into(), &why));
            read.insert(jail, Err(true));
        }
        Jails { read }
    }

    /// Those that may run, and those that an error keeps out.
    fn sorted_out(self, doubts: &Doubts, problems: &mut Vec<Problem>) -> (Vec<Jail>, Vec<LeftOut>) {
        let (mut jails, mut left_out) = (Vec::new(), Vec::new());
        let mut spared = false;
        for (name, jail) in self.read {
            match (jail, doubts.about(&name)) {
                (Ok(jail), None) => jails.push(*jail),
                (jail, Some(because)) => {
                    spared |= doubts.for_all() == Some(because);
                    let enabled = jail.map_or_else(|enabled| enabled, |jail| jail.enabled);
                    left_out.push(LeftOut { jail: name, enabled, because: because.clone() });
                }
                // Whatever cannot be read has left its error.
                (Err(_), None) => {}
            }
        }
        if let Some(because) = doubts.for_all().filter(|_| spared) {
            let what = because.place.as_ref().map_or_else(|| because.key.clone(), ToString::to_string);
            let text = format!("{NO_JAIL_RUNS} {what} is in error and concerns them all");
            problems.push(Problem { severity: Severity::Error, place: None, key: String::new(), jail: None, text });
        }
        (jails, left_out)
    }
}

/// The name of the filter that a jail asks for.
fn filter_name<'a>(jail: &'a Item<'_>) -> &'a str {
    let given = jail.table().ok().and_then(|table| table.at("filter")).and_then(|item| item.text().ok());
    given.unwrap_or_else(|| jail.name())
}

/// A jail in error that has no filter or an impossible name is probably another one, misspelt: that must not run either,
/// and none may where it asks to leave somebody alone and no name is like it. Returns what is to be told of that.
fn misnamed(
    jail: &Item<'_>,
    named: &BTreeMap<String, Item<'_>>,
    filters: &Filters<'_>,
    fault: &Problem,
    doubts: &mut Doubts,
) -> Option<Problem> {
    let tables: Vec<Table<'_>> = jail.in_each_file().iter().filter_map(|item| item.table().ok()).collect();
    let has = |key: &str| tables.iter().any(|table| table.at(key).is_some());
    if jail.name().parse::<JailName>().is_ok() && (has("filter") || filters.has(jail.name())) {
        return None;
    }
    let others: Vec<&str> = named.keys().map(String::as_str).filter(|name| *name != jail.name()).collect();
    match nearest(jail.name(), &others) {
        Some(meant) => {
            let problem = jail.key_error(format!("did you mean jail {meant}? Neither runs until this is mended"));
            doubts.of_jail(meant.to_owned(), &problem);
            return Some(problem);
        }
        None if is_manual(jail.name()) => {}
        None if EXEMPTIONS.iter().any(|key| has(key)) => doubts.of_all(Some(fault)),
        None => {}
    }
    None
}

/// Names that differ in case alone are two names for the computer and one for people: the later one is refused.
fn doubles(named: &BTreeMap<String, Item<'_>>) -> Vec<(String, String, Problem)> {
    let mut jails: Vec<&Item<'_>> = named.values().collect();
    jails.sort_by_key(|item| item.key_place());
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut doubles = Vec::new();
    for jail in jails {
        let name = jail.name().to_owned();
        if let Some(other) = seen.get(&name.to_lowercase()) {
            let text = format!("differs from jail {} in upper and lower case alone", excerpt(other));
            doubles.push((name, other.clone(), jail.key_error(text)));
        } else {
            seen.insert(name.to_lowercase(), name);
        }
    }
    doubles
}

struct Reader<'a> {
    general: &'a General,
    journals: &'a Journals,
    services: &'a Services,
}

impl Reader<'_> {
    fn jail<'b>(&self, jail: &Item<'b>, filters: &mut Filters<'b>, problems: &mut Vec<Problem>) -> Option<Jail> {
        let name = kept(name(jail), problems);
        tables(jail, problems);
        let table = jail.table().ok()?;
        let mut common = Common { ignoreip: Vec::new(), ..self.general.default.clone() };
        for item in table.items() {
            if !common.set(&item, problems) && !OWN_KEYS.contains(&item.name()) {
                let known: Vec<&str> = Common::KEYS.into_iter().chain(OWN_KEYS).collect();
                problems.push(item.key_error(about_unknown(item.name(), &known, SETTINGS)));
            }
        }
        let scope = self.scope(&table, &common.protocols, problems);
        let used = filters.of_jail(&table, common.enabled, problems);
        let sources = self.journals.of_jail(&table, problems);
        let (name, scope, used) = (name?, scope?, used?);
        let (definition, filter) = used.compiled.unzip();
        let rules = Rules {
            maxretry: common.maxretry,
            findtime: common.findtime,
            bantime: common.bantime,
            action: common.action,
            ipv6_prefix: common.ipv6_prefix,
            allow: self.general.default.ignoreip.iter().chain(&common.ignoreip).copied().collect(),
        };
        Some(Jail {
            name,
            enabled: common.enabled,
            rules,
            scope,
            filter_name: used.name,
            mode: used.mode,
            sources,
            definition,
            filter,
            allow_extra: AllowList::from_iter(common.ignoreip),
            ignoreself: common.ignoreself,
        })
    }

    /// Would the jail run, were it not for its errors?
    fn would_run(&self, jail: &Item<'_>) -> bool {
        match jail.table().map(|table| table.at("enabled")) {
            Ok(Some(enabled)) => enabled.flag().unwrap_or(true),
            Ok(None) => self.general.default.enabled,
            Err(_) => true,
        }
    }

    fn scope(&self, table: &Table<'_>, protocols: &[Protocol], problems: &mut Vec<Problem>) -> Option<Scope> {
        let Some(port) = table.at("port") else {
            problems.extend(table.at("protocol").map(|protocol| protocol.warning("has no effect without port")));
            return Some(Scope::AllPorts);
        };
        if port.text() == Ok("all") {
            return Some(Scope::AllPorts);
        }
        let given = port.list();
        let read: Vec<_> = given.iter().filter_map(|one| kept(self.range(one), problems)).collect();
        if given.is_empty() {
            problems.push(port.error("names no port; for all ports leave the key out or write \"all\""));
        }
        if read.len() < given.len() { None } else { Ports::new(read, protocols.iter().copied()).map(Scope::Ports) }
    }

    fn range(&self, item: &Item<'_>) -> Result<RangeInclusive<u16>, Problem> {
        let text = match (item.text(), item.integer()) {
            (Ok(name), _) => name.to_owned(),
            (_, Some(number)) => number.to_string(),
            _ => return Err(item.expected("a port's number, a range or a service's name")),
        };
        if text.contains(',') {
            refuse_words(item, &text)?;
        }
        self.services.range(&text).map_err(|error| item.error(format!("{}: {error}", excerpt(&text))))
    }
}

fn name(jail: &Item<'_>) -> Result<JailName, Problem> {
    let name: JailName = jail.name().parse().map_err(|error| jail.key_error(format!("{error}")))?;
    if is_manual(name.as_str()) {
        return Err(jail.key_error("is the name of the built-in jail for bans by hand"));
    }
    Ok(name)
}

fn is_manual(name: &str) -> bool {
    name.eq_ignore_ascii_case(JailName::manual().as_str())
}
