//! What the shipped filters make of entries: their tables in `tests/filters`, and what must hold of every one of them.

#![allow(clippy::disallowed_methods, reason = "tests are an edge")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use banish::engine::entry::{Field, Page, Wanted};
use banish::engine::filter::{Definition, Fault, FieldRule, Filter, Hit, Outcome, Sieve, Trial, Trust};
use banish::engine::time::Stamp;
use toml::{Table, Value};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn shipped() -> Vec<String> {
    let files = fs::read_dir(root("etc/filter.d")).unwrap().map(|file| file.unwrap().path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn table(path: &str) -> Table {
    let text = fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A filter file as its definition in one mode; only the keys that a definition has.
fn definition(name: &str, mode: &str) -> Definition {
    let file = table(&format!("etc/filter.d/{name}.toml"));
    let extra =
        file.get("mode").and_then(|modes| modes.get(mode)).and_then(Value::as_table).cloned().unwrap_or_default();
    let list = |table: &Table, key: &str| -> Vec<String> {
        let values = table.get(key).map(|value| value.as_array().unwrap().clone()).unwrap_or_default();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    let both = |key: &str| [list(&file, key), list(&extra, key)].concat();
    let text = |key: &str| file.get(key).map(|value| value.as_str().unwrap().to_owned());
    let field = |key: &str| text(key).map(|name| name.parse::<Field>().unwrap());
    let rules = file.get("field").map(|rules| rules.as_array().unwrap().clone()).unwrap_or_default();
    Definition {
        name: name.to_owned(),
        journalmatch: both("journalmatch"),
        trust: if text("trust").as_deref() == Some("claimed") { Trust::Claimed } else { Trust::Attested },
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

fn modes(name: &str) -> Vec<String> {
    let file = table(&format!("etc/filter.d/{name}.toml"));
    let modes = file.get("mode").and_then(Value::as_table).cloned().unwrap_or_default();
    ["normal".to_owned()].into_iter().chain(modes.keys().cloned()).collect()
}

fn filter(name: &str, mode: &str) -> Arc<Filter> {
    let compiled = Filter::compile(&definition(name, mode));
    Arc::new(compiled.unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
        panic!("{name}, mode {mode}:\n{}", faults.join("\n"))
    }))
}

/// The two ways to ask a filter, which must agree.
struct Asked {
    sieve: Sieve,
    trial: Trial,
    stamp: u64,
}

impl Asked {
    fn new(name: &str, mode: &str) -> Asked {
        let filter = filter(name, mode);
        let sieve = Sieve::new(vec![(name.parse().unwrap(), Arc::clone(&filter))]);
        Asked { sieve, trial: Trial::new(filter), stamp: 1_700_000_000_000_000 }
    }

    /// `-`, `=` or an address.
    fn verdict(&mut self, boot: u128, fields: &[(String, Vec<u8>)]) -> String {
        self.stamp += 1_000_000;
        let stamp = Stamp::from_usec(self.stamp);
        let page = |wanted: &Wanted| {
            let mut page = Page::default();
            page.begin(stamp, boot);
            for (name, value) in fields {
                page.offer(wanted, &[name.as_bytes(), b"=", value].concat());
            }
            page
        };
        let mut hits: Vec<Hit> = Vec::new();
        let seen = page(self.sieve.wanted());
        self.sieve.examine(seen.entry(), &mut hits);
        let tried = page(self.trial.wanted());
        let verdict = self.trial.examine(tried.entry());
        let told = match verdict.outcome {
            Outcome::Failure(address) => address.to_string(),
            Outcome::Counted => "=".into(),
            _ => "-".into(),
        };
        let address = hits.first().map(|hit| hit.address.to_string());
        let expected = verdict.outcome;
        assert_eq!(hits.len(), usize::from(matches!(expected, Outcome::Failure(_))), "{expected:?} {fields:?}");
        assert!(address.is_none_or(|address| address == told), "{fields:?}");
        told
    }
}

#[test]
fn every_shipped_filter_is_anchored_attested_and_has_a_table() {
    let names = shipped();
    assert!(names.contains(&"sshd".to_owned()));
    for name in names {
        for mode in modes(&name) {
            let filter = filter(&name, &mode);
            assert_eq!(filter.unanchored(), [], "{name}, mode {mode}");
            assert_eq!(filter.trust(), Trust::Attested, "{name}");
        }
        let cases = table(&format!("tests/filters/{name}.toml"));
        assert!(!cases["case"].as_array().unwrap().is_empty(), "{name}");
    }
}

#[test]
fn the_lines_of_every_table_get_their_verdicts() {
    let mut wrong = Vec::new();
    for name in shipped() {
        let cases = table(&format!("tests/filters/{name}.toml"));
        let usual = cases["fields"].as_table().unwrap();
        for mode in ["normal", "aggressive"] {
            let mut asked = Asked::new(&name, mode);
            for (at, case) in cases["case"].as_array().unwrap().iter().enumerate() {
                let case = case.as_table().unwrap();
                let title = case["name"].as_str().unwrap();
                let mut fields: BTreeMap<&str, String> = BTreeMap::from([("_PID", (1000 + at).to_string())]);
                let own = case.get("fields").and_then(Value::as_table);
                for (name, value) in usual.iter().chain(own.into_iter().flatten()) {
                    fields.insert(name, value.as_str().unwrap().to_owned());
                }
                // An empty value takes a usual field away.
                fields.retain(|_, value| !value.is_empty());
                for line in case["lines"].as_array().unwrap() {
                    let line: Vec<&str> = line.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
                    let expected = if mode == "aggressive" { line[line.len() - 1] } else { line[1] };
                    let mut entry: Vec<(String, Vec<u8>)> =
                        fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes())).collect();
                    entry.push(("MESSAGE".into(), line[0].as_bytes().to_vec()));
                    let told = asked.verdict(1, &entry);
                    if told != expected {
                        wrong.push(format!("{name}, {mode}, {title}: {:?} is {told}, not {expected}", line[0]));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recorded_entry_of_sshd_gets_its_verdict() {
    let Some(data) = std::env::var_os("BANISH_TEST_DATA") else {
        println!("skipped: BANISH_TEST_DATA is not set");
        return;
    };
    let samples = fs::read_to_string(Path::new(&data).join("samples/sshd.jsonl")).unwrap();
    let samples: Vec<serde_json::Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdicts = fs::read_to_string(root("tests/filters/sshd.samples")).unwrap();
    let verdicts: Vec<Vec<&str>> =
        verdicts.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect()).collect();
    assert_eq!(samples.len(), verdicts.len());
    let (mut normal, mut aggressive) = (Asked::new("sshd", "normal"), Asked::new("sshd", "aggressive"));
    let mut wrong = Vec::new();
    for (at, (sample, row)) in samples.iter().zip(&verdicts).enumerate() {
        assert_eq!((at.to_string().as_str(), sample["case"].as_str().unwrap()), (row[0], row[1]));
        if sample["forged"] == true {
            assert_eq!(row[2..], ["-", "-"], "{row:?}");
        }
        let fields = sample["entry"].as_object().unwrap();
        let fields: Vec<(String, Vec<u8>)> =
            fields.iter().flat_map(|(name, value)| values(value).map(move |value| (name.clone(), value))).collect();
        let boot = sample["entry"]["_BOOT_ID"].as_str().map(|id| u128::from_str_radix(id, 16).unwrap()).unwrap();
        let told = (normal.verdict(boot, &fields), aggressive.verdict(boot, &fields));
        if (told.0.as_str(), told.1.as_str()) != (row[2], row[3]) {
            wrong.push(format!("{row:?} is {told:?}: {}", sample["entry"]["MESSAGE"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A field as `journalctl -o json` writes it: text, an array of bytes, or an array of several values.
fn values(value: &serde_json::Value) -> impl Iterator<Item = Vec<u8>> {
    let one = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone().into_bytes(),
        serde_json::Value::Array(bytes) => {
            bytes.iter().map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap()).collect()
        }
        other => panic!("{other} is no field"),
    };
    let several = value.as_array().filter(|list| list.iter().any(|value| !value.is_number()));
    let all: Vec<Vec<u8>> = match several {
        Some(list) => list.iter().map(one).collect(),
        None => vec![one(value)],
    };
    all.into_iter()
}

#[test]
fn no_user_name_moves_the_address() {
    const REAL: &str = "192.0.2.10";
    let lies = [
        " from 198.51.100.66 port 4242 ssh2",
        "x from 198.51.100.66 port 4242",
        "x from 198.51.100.66 port 4242 ssh2\\nFailed password for root",
        "x 198.51.100.66 port 4242 [preauth]",
        "x 198.51.100.66 port 4242: Too many authentication failures [preauth]",
        "x 198.51.100.66 port 1: Change of username or service not allowed: y",
        "x from 198.51.100.66 not allowed because listed in DenyUsers",
        "invalid user x from 198.51.100.66 port 1 ssh2",
        "2001:db8::66 port 1 [preauth]",
        "a\nInvalid user b from 198.51.100.66 port 1",
        "198.51.100.66",
        "\u{fc}\u{1b}[31m 198.51.100.66",
        "",
        " ",
    ];
    let lines = [
        ("Failed password for {} from {A} port 22 ssh2", true),
        ("Failed password for invalid user {} from {A} port 22 ssh2", true),
        ("Failed keyboard-interactive/pam for invalid user {} from {A} port 22 ssh2", true),
        ("error: PAM: Authentication failure for illegal user {} from {A}", true),
        ("Invalid user {} from {A} port 22", true),
        ("Invalid user {} from {A}", true),
        ("User {} from {A} not allowed because not listed in AllowUsers", true),
        ("error: maximum authentication attempts exceeded for invalid user {} from {A} port 22 ssh2 [preauth]", true),
        ("Connection closed by invalid user {} {A} port 22 [preauth]", true),
        ("Connection reset by authenticating user {} {A} port 22 [preauth]", true),
        ("Disconnected from invalid user {} {A} port 22 [preauth]", true),
        ("Disconnecting invalid user {} {A} port 22: Too many authentication failures [preauth]", true),
        // Here the line of an unknown user is not taken: its name could end like the line begins.
        (
            "Disconnecting invalid user {} {A} port 22: Change of username or service not allowed: (a,b) -> (c,d) [preauth]",
            false,
        ),
        (
            "Disconnecting authenticating user r {A} port 22: Change of username or service not allowed: ({},b) -> (c,d) [preauth]",
            false,
        ),
        (
            "ssh_dispatch_run_fatal: Connection from invalid user {} {A} port 22: message authentication code incorrect [preauth]",
            false,
        ),
        ("Bad protocol version identification '{}' from {A} port 22", false),
        ("Unable to negotiate with {A} port 22: no matching cipher found. Their offer: {} [preauth]", false),
        ("refused connect from {} ({A})", false),
    ];
    for mode in ["normal", "aggressive"] {
        let mut trial = Trial::new(filter("sshd", mode));
        for lie in lies {
            for (line, always) in lines {
                let text = line.replace("{}", lie).replace("{A}", REAL);
                let outcome = trial.message(text.as_bytes()).outcome;
                if let Outcome::Failure(address) = outcome {
                    assert_eq!(address.to_string(), REAL, "{text:?}");
                } else {
                    // A newline is never in a line of sshd's, which escapes it.
                    assert!(!always || lie.contains('\n'), "{text:?} is {outcome:?}");
                }
            }
        }
    }
}

#[test]
fn a_text_of_strangers_alone_is_no_failure() {
    let mut trial = Trial::new(filter("sshd", "aggressive"));
    for text in [
        "Failed password for root from 198.51.100.66 port 4242 ssh2 [devlog]",
        " Failed password for root from 198.51.100.66 port 4242 ssh2",
        "line1\nFailed password for root from 198.51.100.66 port 4242 ssh2",
        "Failed password for root from 198.51.100.66 port 4242 ssh2\n",
        "error: kex_exchange_identification: client sent invalid protocol identifier \"Invalid user x from 198.51.100.66 port 1\"",
        "Received disconnect from 192.0.2.10 port 22:11: Invalid user x from 198.51.100.66 port 1 [preauth]",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=198.51.100.66",
    ] {
        let outcome = trial.message(text.as_bytes()).outcome;
        assert_eq!(outcome, Outcome::NoMatch, "{text:?}");
    }
}
