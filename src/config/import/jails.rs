//! fail2ban's jails in our words.

use std::collections::BTreeSet;

use super::super::port::Services;
use super::super::problem::Place;
use super::action::{self, Doing};
use super::definition::{Definition, shown};
use super::error::ImportError;
use super::filters::Filters;
use super::report::{Remark, Remarks, Table, gathered, list};
use super::sections::{Overrides, Sections, Value};
use super::settings::{ignored, put_counts};
use super::toml;
use super::tree::Tree;
use super::words::{self, Named};
use crate::engine::ban::JailName;

/// Options of a filter that a jail may set in its place.
const OF_FILTERS: [&str; 7] =
    ["failregex", "ignoreregex", "prefregex", "journalmatch", "maxlines", "datepattern", "usedns"];

/// What has no counterpart, and why, where the jail itself says it.
const LOST: [(&str, &str); 9] = [
    ("bantime.increment", "longer bans for those who come back are not supported by this version"),
    ("ignorecommand", "no commands are run"),
    ("ignorecache", "no commands are run"),
    ("logencoding", "entries of the journal are bytes"),
    ("logtimezone", "entries have their times"),
    ("maxmatches", "a ban keeps the places of the entries that caused it"),
    ("skip_if_nologs", "there are no files to be missing"),
    ("systemd_if_nologs", "there are no files to be missing"),
    ("usedns", "names are never looked up, for whoever owns a name says what it means"),
];

/// A jail that was brought over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// Its name.
    pub name: String,
    /// Its filter.
    pub filter: String,
    /// The filter's mode, where it is not the normal one.
    pub mode: Option<String>,
    /// Is the filter one of ours, and not fail2ban's brought over?
    pub ours: bool,
    /// Does it run?
    pub enabled: bool,
}

/// All jails, as they are read one after the other.
pub(super) struct Jails<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) sections: &'a Sections,
    pub(super) services: &'a Services,
    pub(super) filters: &'a mut Filters,
    pub(super) remarks: &'a mut Vec<Remark>,
}

impl Jails<'_> {
    /// `jail.d/fail2ban.toml`, and the jails in it.
    pub(super) fn write(&mut self) -> (String, Vec<Brought>) {
        let mut text =
            String::from("# The jails, brought over from fail2ban by banishctl import. See banish.toml(5).\n");
        let mut brought = Vec::new();
        let mut told = Vec::new();
        let mut taken = BTreeSet::new();
        let names: Vec<String> = self.sections.names().map(str::to_owned).collect();
        for name in names {
            if !self.concerns(&name) {
                continue;
            }
            let mut all = Vec::new();
            let mut remarks = Remarks { about: format!("jail {}", shown(&name)), all: &mut all };
            let valid = name.parse::<JailName>().is_ok() && !name.eq_ignore_ascii_case(JailName::manual().as_str());
            if !valid || !taken.insert(name.to_lowercase()) {
                let reason = "not brought over: a jail's name has letters, digits, -, _ and . only, differs from others \
                              not in case alone, and is not \"manual\"";
                remarks.lost(None, reason);
            } else {
                match self.jail(&name, &mut remarks) {
                    Ok(Some((table, jail))) => {
                        text.push_str(&table);
                        brought.push(jail);
                    }
                    Ok(None) => {}
                    Err(error) => remarks.lost(None, format!("not brought over: {error}")),
                }
            }
            told.append(&mut all);
        }
        self.remarks.append(&mut gathered(told));
        (text, brought)
    }

    /// Does it run, or has somebody written it or something in it? fail2ban ships a hundred others.
    fn concerns(&self, name: &str) -> bool {
        let Some(own) = self.sections.own(name) else { return false };
        let enabled = self.sections.get(name, "enabled", &Overrides::new()).ok().flatten();
        let runs = enabled.is_some_and(|value| words::truth(&value.text));
        let stock = |place: &Place| {
            let file = place.file.file_name().unwrap_or_default().to_string_lossy();
            file == "jail.conf" || file.starts_with("paths-")
        };
        runs || own.values().any(|raw| !stock(&raw.place))
    }

    /// The jail's table, and whether it runs; `None` where it is not brought over.
    fn jail(&mut self, name: &str, remarks: &mut Remarks<'_>) -> Result<Option<(String, Brought)>, ImportError> {
        let root = self.tree.root().to_path_buf();
        let plain = Overrides::new();
        let sections = self.sections;
        let get = |option: &str| sections.get(name, option, &plain);
        let enabled = get("enabled")?;
        let runs = enabled.as_ref().is_some_and(|value| words::truth(&value.text));
        let Some(filter) = get("filter")?.filter(|value| !value.text.trim().is_empty()) else {
            remarks.lost(None, "not brought over: it has no filter");
            return Ok(None);
        };
        let named =
            Named::parse(&filter.text).map_err(|reason| ImportError::at(&filter.place, format!("filter: {reason}")))?;
        if named.name == "recidive" {
            let reason = "not brought over: it reads fail2ban's own log; a jail over the bans of others is not supported by this version";
            remarks.lost(Some(&filter.place), reason);
            return Ok(None);
        }
        self.tell(name, remarks);
        let own = self.of_filter(name, &named, &filter.place)?;
        let chosen = self.filters.choose(self.tree, name, (&named, &filter.place), &own, remarks)?;

        let mut off: Option<String> = chosen.off.clone();
        let mut table = Table::new(&root);
        table.put("filter", toml::quoted(&chosen.name), Some(&filter.place));
        if let Some(mode) = &chosen.mode {
            table.put("mode", toml::quoted(mode), Some(&filter.place));
        }
        if let Some((lines, place)) = &chosen.journalmatch {
            table.put("journalmatch", list(lines), Some(place));
        }
        self.scope(name, &mut table, &mut off, remarks)?;
        put_counts(sections, name, &mut table, remarks);
        self.ignoring(name, &mut table, remarks);

        let mut text =
            format!("\n[jail.{}]\n", if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() });
        match &off {
            Some(reason) if runs => {
                remarks.lost(None, format!("is off: {reason}"));
                table.put_first("enabled", "false".into(), &format!("off: {reason}"));
            }
            _ => {
                let mut said = enabled.as_ref().map(|value| toml::place(&root, &value.place)).unwrap_or_default();
                if let Some(reason) = &off {
                    remarks.lost(None, format!("could not be switched on: {reason}"));
                    let sign = if said.is_empty() { "" } else { "; " };
                    said.push_str(&format!("{sign}it could not run: {reason}"));
                }
                table.put_first("enabled", runs.to_string(), &said);
            }
        }
        table.write(&mut text);
        let ours = self.filters.used.contains(&chosen.name);
        let brought =
            Brought { name: name.into(), filter: chosen.name, mode: chosen.mode, ours, enabled: runs && off.is_none() };
        Ok(Some((text, brought)))
    }

    /// What the jail says in the place of its filter, with `%(known/…)s` of the filter put in.
    fn of_filter(&mut self, name: &str, named: &Named, place: &Place) -> Result<Overrides, ImportError> {
        let raw = |option: &str| self.sections.raw(name, option);
        let mut known = Overrides::new();
        if OF_FILTERS.iter().filter_map(|option| raw(option)).any(|raw| raw.value.contains("%(known/")) {
            let value = |text: &String| Value { text: text.clone(), place: place.clone() };
            let parameters: Vec<_> = named.parameters.iter().map(|(key, text)| (key.clone(), value(text))).collect();
            let definition = Definition::read(self.tree, "filter.d", &named.name, &parameters, &Overrides::new())?;
            for option in definition.options() {
                // What nobody asks for may be wrong.
                if let Ok(Some(value)) = definition.get(&option) {
                    known.insert(format!("known/{option}"), value);
                }
            }
        }
        let mut own = Overrides::new();
        for option in OF_FILTERS {
            // usedns stands in what fail2ban ships, for all jails.
            let stands =
                raw(option).filter(|raw| option != "usedns" || !super::settings::is_shipped(&raw.place, "jail.conf"));
            if stands.is_some()
                && let Some(value) = self.sections.get(name, option, &known)?
            {
                own.insert(option.into(), value);
            }
        }
        Ok(own)
    }

    /// Ports, protocols and what becomes of packets.
    fn scope(
        &mut self,
        name: &str,
        table: &mut Table<'_>,
        off: &mut Option<String>,
        remarks: &mut Remarks<'_>,
    ) -> Result<(), ImportError> {
        let plain = Overrides::new();
        let get = |option: &str| self.sections.get(name, option, &plain);
        let text = |value: &Option<Value>| value.as_ref().map(|value| value.text.clone()).unwrap_or_default();
        let (port, protocol) = (get("port").unwrap_or_default(), get("protocol").unwrap_or_default());
        let action = match get("action") {
            Ok(action) => action,
            Err(error) => {
                // One macro for a mail that was never set up must not cost the ban.
                remarks.changed(None, format!("taken as the plain ban: {error}"));
                get("action_")?
            }
        };
        let place = action.as_ref().map(|value| value.place.clone());
        let doing = action::read(self.tree, &text(&action), &text(&port), &text(&protocol));
        if doing.is_wider() {
            let text =
                "its actions have ports and protocols of their own: here all of its ports have all of its protocols";
            remarks.changed(place.as_ref(), text);
        }
        let Doing { bans, reject, all_ports, ports, protocols, lost, .. } = doing;
        for reason in lost {
            remarks.lost(place.as_ref(), reason);
        }
        if !bans {
            remarks.changed(place.as_ref(), "no action of it shuts hosts out: it only reports");
            table.put("action", "\"log\"".into(), place.as_ref());
            return Ok(());
        }
        let mut good: Vec<String> = Vec::new();
        let mut all = all_ports || ports.is_empty();
        for one in &ports {
            match self.services.range(one) {
                Ok(range) if *range.start() <= 1 && *range.end() == u16::MAX => all = true,
                Ok(_) => good.extend(Some(one.replace(':', "-")).filter(|one| !good.contains(one))),
                Err(_) if matches!(one.as_str(), "0:65535" | "0-65535" | "any" | "all" | "1:65535") => all = true,
                Err(error) => {
                    let place = port.as_ref().map(|value| &value.place);
                    remarks.lost(place, format!("port {}: {error}", shown(one)));
                }
            }
        }
        // The jail's own where the action was given nothing else.
        let same = |value: &&Value, read: &[String]| {
            words::words(&value.text).collect::<BTreeSet<_>>() == read.iter().map(String::as_str).collect()
        };
        let origin_of = |value: &'_ Option<Value>, read: &[String]| {
            value.as_ref().filter(|value| same(value, read)).map(|value| value.place.clone()).or(place.clone())
        };
        let origin = origin_of(&port, &ports);
        if all {
            table.put("port", "\"all\"".into(), if all_ports { place.as_ref() } else { origin.as_ref() });
        } else if good.is_empty() {
            *off = Some("none of its ports is known here".into());
        } else {
            table.put("port", list(good), origin.as_ref());
            self.protocols(table, &protocols, origin_of(&protocol, &protocols).as_ref(), remarks);
        }
        table.put("action", if reject { "\"reject\"" } else { "\"drop\"" }.into(), place.as_ref());
        Ok(())
    }

    fn protocols(&self, table: &mut Table<'_>, given: &[String], place: Option<&Place>, remarks: &mut Remarks<'_>) {
        let mut read: Vec<&str> = Vec::new();
        for one in given {
            match one.as_str() {
                "tcp" | "udp" => read.push(one),
                "all" => read.extend(["tcp", "udp"]),
                other => remarks.lost(place, format!("protocol {}: ports have tcp and udp", shown(other))),
            }
        }
        read.sort_unstable();
        read.dedup();
        if read.is_empty() {
            read.push("tcp");
        }
        table.put("protocol", list(read), place);
    }

    /// Whom it leaves alone.
    fn ignoring(&self, name: &str, table: &mut Table<'_>, remarks: &mut Remarks<'_>) {
        let own = |option: &str| self.sections.own(name).is_some_and(|own| own.contains_key(option));
        if own("ignoreip")
            && let Some(value) = super::settings::option(self.sections, name, "ignoreip", remarks)
        {
            let found = ignored(&value, remarks);
            if !found.is_empty() {
                table.put("ignoreip", list(found), Some(&value.place));
            }
            if self.sections.defaults.get("ignoreip").is_some_and(|raw| !raw.value.trim().is_empty()) {
                remarks.changed(Some(&value.place), "ignoreip adds to that of [DEFAULT], it does not replace it");
            }
        }
        if own("ignoreself")
            && let Some(value) = super::settings::option(self.sections, name, "ignoreself", remarks)
        {
            table.put("ignoreself", words::truth(&value.text).to_string(), Some(&value.place));
        }
    }

    /// Tells what has no counterpart, where it is the administrator's and not what fail2ban ships.
    fn tell(&self, name: &str, remarks: &mut Remarks<'_>) {
        let raw = |option: &str| self.sections.raw(name, option);
        let own = |option: &str| raw(option).filter(|raw| !super::settings::is_shipped(&raw.place, "jail.conf"));
        for (option, why) in LOST {
            let value = super::settings::option(self.sections, name, option, remarks);
            let value = value.filter(|value| match option {
                "bantime.increment" => words::truth(&value.text),
                "usedns" => own(option).is_some() && value.text.trim() != "no",
                "ignorecommand" => !value.text.trim().is_empty(),
                _ => own(option).is_some(),
            });
            if let Some(value) = value {
                remarks.lost(Some(&value.place), format!("{option}: {why}"));
            }
        }
        if let Some(raw) = raw("logpath").filter(|raw| !raw.value.trim().is_empty() && own("logpath").is_some()) {
            remarks.lost(Some(&raw.place), "logpath: what is read is the journal; the daemon must log there");
        }
        let backend = super::settings::option(self.sections, name, "backend", remarks);
        if let Some(value) = backend.filter(|value| value.text.contains('[')) {
            let text =
                "backend: for another journal than this machine's write a table [source.NAME] and the jail's source";
            remarks.lost(Some(&value.place), text);
        }
    }
}
