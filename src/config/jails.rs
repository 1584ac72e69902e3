//! From the merged tree to settings: every jail is read to its end, and one that is wrong anywhere is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::common::{Common, General, kept, refuse_words};
use super::filters::Filters;
use super::journals::Journals;
use super::merged::{Item, Merged, Table, excerpt};
use super::port::Services;
use super::problem::{Problem, Severity};
use super::settings::{Jail, Settings};
use super::words::{SETTINGS, about_unknown};
use crate::engine::ban::JailName;
use crate::engine::jail::Rules;
use crate::engine::jail::allow::AllowList;
use crate::engine::jail::scope::{Ports, Protocol, Scope};

/// The keys of a jail that `[default]` has not.
const OWN_KEYS: [&str; 5] = ["filter", "mode", "port", "journalmatch", "source"];

/// What may stand outside of all jails.
const TOP_KEYS: [&str; 6] = ["default", "firewall", "source", "jail", "history", "replay-max"];

/// Settings, and the names of the jails that are not among them because something is wrong with them.
pub(super) struct Read {
    pub(super) settings: Settings,
    pub(super) left_out: BTreeSet<String>,
}

/// Reads the whole tree. `doubtful` are jails that a file speaks of which could not be read whole.
pub(super) fn read<'a>(
    merged: &'a Merged,
    filters: &mut Filters<'a>,
    services: &Services,
    mut doubtful: BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> Read {
    let mut general = General::default();
    let mut jails = None;
    let mut journals = Journals::default();
    for item in merged.root().table().map(|table| table.items().collect::<Vec<_>>()).unwrap_or_default() {
        match item.name() {
            "default" => {
                read_keys(&item, &Common::KEYS, problems, |item, problems| general.default.set(item, problems))
            }
            "firewall" => {
                read_keys(&item, &General::FIREWALL_KEYS, problems, |item, problems| {
                    general.set_firewall(item, problems)
                });
            }
            "source" => journals = Journals::read(&item, problems),
            "jail" => jails = kept(item.table(), problems),
            _ if general.set_top(&item, problems) => {}
            name => problems.push(item.key_error(about_unknown(name, &TOP_KEYS, SETTINGS))),
        }
    }
    let mut read = Vec::new();
    if let Some(table) = jails {
        doubtful.extend(refuse_doubles(&table, problems));
        let reader = Reader { general: &general, journals: &journals, services };
        for item in table.items() {
            let before = problems.len();
            let jail = reader.jail(&item, filters, problems);
            let broken = problems[before..].iter().any(|problem| problem.severity == Severity::Error);
            match jail.filter(|_| !broken && !doubtful.contains(item.name())) {
                Some(jail) => {
                    problems.extend(filters.warning(&jail.filter_name, &jail.mode).filter(|_| jail.enabled));
                    read.push(jail);
                }
                None => drop(doubtful.insert(item.name().to_owned())),
            }
        }
    }
    let General { default, firewall, history, replay_max } = general;
    let allow = default.ignoreip.into_iter().collect();
    let settings = Settings {
        jails: read,
        sources: journals.sources,
        firewall,
        history,
        replay_max,
        bantime: default.bantime,
        ignoreself: default.ignoreself,
        allow,
    };
    Read { settings, left_out: doubtful }
}

/// Gives each value of a table to `set` and refuses the keys that it does not know.
fn read_keys(
    item: &Item<'_>,
    known: &[&str],
    problems: &mut Vec<Problem>,
    mut set: impl FnMut(&Item<'_>, &mut Vec<Problem>) -> bool,
) {
    let Some(table) = kept(item.table(), problems) else { return };
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

/// Names that differ in case alone are two names for the computer and one for people: the later one is refused.
fn refuse_doubles(table: &Table<'_>, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut jails: Vec<Item<'_>> = table.items().collect();
    jails.sort_by_key(Item::key_place);
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut doubles = Vec::new();
    for jail in jails {
        let name = jail.name().to_owned();
        if let Some(other) = seen.get(&name.to_lowercase()) {
            problems
                .push(jail.key_error(format!("differs from jail {} in upper and lower case alone", excerpt(other))));
            doubles.push(name);
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
        let table = kept(jail.table(), problems)?;
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
    if name.as_str().eq_ignore_ascii_case(JailName::manual().as_str()) {
        return Err(jail.key_error("is the name of the built-in jail for bans by hand"));
    }
    Ok(name)
}
