//! What holds for all jails, and what fail2ban's own settings become.

use std::path::Path;

use super::super::common::TEN_YEARS;
use super::super::problem::Place;
use super::definition::shown;
use super::error::ImportError;
use super::report::{Remarks, Table, list};
use super::sections::{Overrides, Sections, Value};
use super::span::{self, Span};
use super::tree::Tree;
use super::words;
use crate::engine::subject::{Subject, SubjectError};

/// An option that may not be readable; then it is told and counts as not set.
pub(super) fn option(sections: &Sections, section: &str, name: &str, remarks: &mut Remarks<'_>) -> Option<Value> {
    match sections.get(section, name, &Overrides::new()) {
        Ok(value) => value,
        Err(error) => {
            remarks.lost(None, format!("{name}: {error}"));
            None
        }
    }
}

/// A length of time as TOML.
fn length(name: &str, value: &Value, remarks: &mut Remarks<'_>) -> Option<String> {
    match span::parse(&value.text) {
        Ok(Span::For(length)) if length.as_secs() == 0 => {
            remarks.lost(Some(&value.place), format!("{name}: less than a second is no length here"));
            None
        }
        Ok(Span::For(length)) => Some(format!("{:?}", span::shown(length))),
        Ok(Span::Longer) => {
            let longest = span::shown(TEN_YEARS);
            remarks.changed(
                Some(&value.place),
                format!("{name}: {longest} for {}: no time is longer", shown(&value.text)),
            );
            Some(format!("{longest:?}"))
        }
        Ok(Span::Endless) if name == "bantime" => Some("\"permanent\"".into()),
        Ok(Span::Endless) => {
            remarks.lost(Some(&value.place), format!("{name}: a time below zero"));
            None
        }
        Err(reason) => {
            remarks.lost(Some(&value.place), format!("{name}: no length of time: {reason}"));
            None
        }
    }
}

/// `maxretry` as TOML.
fn count(name: &str, value: &Value, remarks: &mut Remarks<'_>) -> Option<String> {
    match value.text.trim().parse::<i64>() {
        Ok(count) => {
            let taken = count.clamp(1, 1000);
            if taken != count {
                remarks.changed(Some(&value.place), format!("{name}: {taken} for {count}: it goes from 1 to 1000"));
            }
            Some(taken.to_string())
        }
        Err(_) => {
            remarks.lost(Some(&value.place), format!("{name}: no number"));
            None
        }
    }
}

/// The addresses and prefixes of an `ignoreip`; what is none is told.
pub(super) fn ignored(value: &Value, remarks: &mut Remarks<'_>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in words::words(&value.text) {
        match subject(word) {
            Ok(subject) => found.extend(Some(subject.to_string()).filter(|text| !found.contains(text))),
            Err(reason) => remarks.lost(Some(&value.place), format!("ignoreip: {}: {reason}", shown(word))),
        }
    }
    found
}

/// fail2ban takes a prefix's address with any host bits, and a mask for its length.
fn subject(word: &str) -> Result<Subject, &'static str> {
    if word.starts_with("file:") {
        return Err("lists in files are not supported by this version: write what is in it");
    }
    let Some((address, length)) = word.split_once('/') else {
        return word.parse().map_err(|_| "names are never looked up: write the addresses");
    };
    let address: std::net::IpAddr = address.parse().map_err(|_| "no address")?;
    let length = match length.parse::<u8>() {
        Ok(length) => length,
        Err(_) if address.is_ipv4() => mask(length).ok_or("no prefix length and no mask")?,
        Err(_) => return Err("no prefix length"),
    };
    match format!("{address}/{length}").parse() {
        Ok(subject) => Ok(subject),
        Err(SubjectError::HostBits { meant, .. }) => Ok(meant),
        Err(_) => Err("no prefix has such a length"),
    }
}

fn mask(text: &str) -> Option<u8> {
    let bits = u32::from(text.parse::<std::net::Ipv4Addr>().ok()?);
    let length = bits.leading_ones();
    (bits.checked_shl(length).unwrap_or(0) == 0).then(|| u8::try_from(length).unwrap_or(32))
}

/// Puts how many failures count, in what time, and for how long a ban holds.
pub(super) fn put_counts(sections: &Sections, section: &str, table: &mut Table<'_>, remarks: &mut Remarks<'_>) {
    for (name, read) in [
        ("maxretry", count as fn(&str, &Value, &mut Remarks<'_>) -> Option<String>),
        ("findtime", length),
        ("bantime", length),
    ] {
        if let Some(value) = option(sections, section, name, remarks)
            && let Some(text) = read(name, &value, remarks)
        {
            table.put(name, text, Some(&value.place));
        }
    }
}

/// `banish.toml.d/fail2ban.toml`: `[default]` and what stands outside of tables.
pub(super) fn write(tree: &mut Tree, jails: &Sections, remarks: &mut Remarks<'_>) -> Result<String, ImportError> {
    let root = tree.root().to_path_buf();
    let mut top = Table::new(&root);
    if let Some(own) = tree.sections("fail2ban")? {
        let value = option(&own, "Definition", "dbpurgeage", remarks);
        // What fail2ban ships says a day; to forget later is no harm.
        let shipped = |value: &Value| {
            is_shipped(&value.place, "fail2ban.conf")
                && span::parse(&value.text) == Ok(Span::For(std::time::Duration::from_secs(86_400)))
        };
        if let Some(value) = value.filter(|value| !shipped(value))
            && let Some(length) = length("dbpurgeage", &value, remarks)
        {
            top.put("history", length, Some(&value.place));
        }
    }
    let mut table = Table::new(&root);
    put_counts(jails, super::ini::DEFAULT, &mut table, remarks);
    if let Some(value) = option(jails, super::ini::DEFAULT, "ignoreip", remarks) {
        let found = ignored(&value, remarks);
        if !found.is_empty() {
            table.put("ignoreip", list(found), Some(&value.place));
        }
    }
    if let Some(value) = option(jails, super::ini::DEFAULT, "ignoreself", remarks) {
        table.put("ignoreself", words::truth(&value.text).to_string(), Some(&value.place));
    }
    let mut text = String::from(
        "# What holds for all jails, brought over from fail2ban by banishctl import. See banish.toml(5).\n",
    );
    top.write(&mut text);
    if !table.is_empty() {
        text.push_str("\n[default]\n");
        table.write(&mut text);
    }
    Ok(text)
}

/// Does it stand in a file of this name, which fail2ban ships?
pub(super) fn is_shipped(place: &Place, name: &str) -> bool {
    Path::new(&*place.file).file_name().is_some_and(|found| found == name)
}
