//! The shipped filters as they stand in `etc/filter.d`, and their tables in `tests/filters`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use banish::engine::entry::{EntryRef, Field, Page, Wanted};
use banish::engine::filter::{Definition, Fault, FieldRule, Filter, Hit, Outcome, Sieve, Trial, Trust, WAIT};
use banish::engine::time::Stamp;
use toml::{Table, Value};

/// A file of the project; of the one that the test was started for, so that one binary serves several checkouts.
pub fn root(path: &str) -> PathBuf {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&root).join(path)
}

/// The names of all shipped filters.
pub fn shipped() -> Vec<String> {
    let files = fs::read_dir(root("etc/filter.d")).unwrap().map(|file| file.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// A file of the project as TOML.
pub fn table(path: &str) -> Table {
    let text = fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A filter file as its definition in one mode; only the keys that a definition has.
pub fn definition(name: &str, mode: &str) -> Definition {
    let file = table(&format!("etc/filter.d/{name}.toml"));
    let of_mode = |mode: &str| -> Table {
        file.get("mode").and_then(|modes| modes.get(mode)).and_then(Value::as_table).cloned().unwrap_or_default()
    };
    let list = |table: &Table, key: &str| -> Vec<String> {
        let values = table.get(key).map(|value| value.as_array().unwrap().clone()).unwrap_or_default();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    let own = of_mode(mode);
    let included = list(&own, "includes").iter().map(|name| of_mode(name)).collect::<Vec<_>>();
    let all: Vec<&Table> = std::iter::once(&own).chain(&included).chain([&file]).collect();
    let both = |key: &str| all.iter().flat_map(|table| list(table, key)).collect::<Vec<_>>();
    let text = |key: &str| file.get(key).map(|value| value.as_str().unwrap().to_owned());
    let field = |key: &str| text(key).map(|name| name.parse::<Field>().unwrap());
    let rules = file.get("field").map(|rules| rules.as_array().unwrap().clone()).unwrap_or_default();
    Definition {
        name: name.to_owned(),
        journalmatch: both("journalmatch"),
        trust: match all.iter().find_map(|table| table.get("trust")).and_then(Value::as_str) {
            Some("claimed") => Trust::Claimed,
            _ => Trust::Attested,
        },
        session: field("session"),
        prefregex: text("prefregex"),
        failregex: both("failregex"),
        ignoreregex: both("ignoreregex"),
        address: field("address"),
        fields: rules
            .iter()
            .map(|rule| FieldRule {
                field: rule["name"].as_str().unwrap().parse().unwrap(),
                failregex: list(rule.as_table().unwrap(), "failregex"),
            })
            .collect(),
    }
}

/// The modes of a filter, `normal` first.
pub fn modes(name: &str) -> Vec<String> {
    let file = table(&format!("etc/filter.d/{name}.toml"));
    let modes = file.get("mode").and_then(Value::as_table).cloned().unwrap_or_default();
    ["normal".to_owned()].into_iter().chain(modes.keys().cloned()).collect()
}

/// A shipped filter in one mode.
pub fn filter(name: &str, mode: &str) -> Arc<Filter> {
    let compiled = Filter::compile(&definition(name, mode));
    Arc::new(compiled.unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
        panic!("{name}, mode {mode}:\n{}", faults.join("\n"))
    }))
}

/// The fields of an entry, in their order.
pub type Fields = Vec<(String, Vec<u8>)>;

/// An entry with these fields.
pub fn page(wanted: &Wanted, stamp: Stamp, boot: u128, fields: &Fields) -> Page {
    let mut page = Page::default();
    page.begin(stamp, boot);
    for (name, value) in fields {
        page.offer(wanted, &[name.as_bytes(), b"=", value].concat());
    }
    page
}

/// The two ways to ask a filter, which must agree.
pub struct Asked {
    sieve: Sieve,
    trial: Trial,
    stamp: u64,
    number: u64,
}

impl Asked {
    pub fn new(name: &str, mode: &str) -> Asked {
        let filter = filter(name, mode);
        let sieve = Sieve::new(vec![(name.parse().unwrap(), Arc::clone(&filter))]);
        Asked { sieve, trial: Trial::new(filter), stamp: 1_700_000_000_000_000, number: 0 }
    }

    /// What has become a failure when so many seconds have passed: addresses, or `-`.
    pub fn wait(&mut self, seconds: u64) -> String {
        self.stamp += seconds * 1_000_000;
        let mut hits = Vec::new();
        self.sieve.pass(Stamp::from_usec(self.stamp), &mut hits);
        self.trial.pass(Stamp::from_usec(self.stamp));
        self.overdue(&hits)
    }

    /// As [`Asked::wait`], for as long as anything may become a failure.
    pub fn wait_for_all(&mut self) -> String {
        self.wait(WAIT.as_secs() + 1)
    }

    fn overdue(&mut self, hits: &[Hit]) -> String {
        let hits: Vec<String> = hits.iter().map(|hit| hit.address.to_string()).collect();
        let tried: Vec<String> = self.trial.overdue().iter().map(|one| one.address.to_string()).collect();
        assert_eq!(hits, tried);
        if hits.is_empty() { "-".into() } else { hits.join(" ") }
    }

    /// `-`, `=`, an address, or `?` for what is a failure unless its session tells otherwise in time.
    pub fn verdict(&mut self, boot: u128, fields: &Fields) -> String {
        self.stamp += 1_000_000;
        let stamp = Stamp::from_usec(self.stamp);
        let mut hits: Vec<Hit> = Vec::new();
        let seen = page(self.sieve.wanted(), stamp, boot, fields);
        self.number += 1;
        let mut locate = || Some(EntryRef::attempt(self.number));
        self.sieve.examine(seen.entry(), &mut locate, &mut hits);
        let tried = page(self.trial.wanted(), stamp, boot, fields);
        let verdict = self.trial.examine(tried.entry());
        let told = match verdict.outcome {
            Outcome::Failure(address) => address.to_string(),
            Outcome::Counted => "=".into(),
            Outcome::Refused => "?".into(),
            _ => "-".into(),
        };
        let late: Vec<Hit> = hits.extract_if(.., |hit| hit.evidence.is_some()).collect();
        assert_eq!(self.overdue(&late), "-", "a refusal of before was left open: {fields:?}");
        let address = hits.first().map(|hit| hit.address.to_string());
        let expected = verdict.outcome;
        assert_eq!(hits.len(), usize::from(matches!(expected, Outcome::Failure(_))), "{expected:?} {fields:?}");
        assert!(address.is_none_or(|address| address == told), "{fields:?}");
        told
    }
}
