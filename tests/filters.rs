//! What the shipped filters make of entries: their tables in `tests/filters`, and what must hold of every one of them.
//!
//! A table has `fields`, what every entry of the daemon has; `[[case]]`, lines of one process with their verdicts;
//! `[[hostile]]`, lines in which a stranger writes what stands for `{}`; and `[[open]]`, parts of patterns whose end a
//! client writes, and why. A number in the place of a line is a time in seconds that passes, and its verdict is what is
//! overdue then: whoever was refused and is not told of again.

#![allow(clippy::disallowed_methods, reason = "tests are an edge")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/filter.rs"]
mod filter;
#[path = "support/lies.rs"]
mod lies;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use banish::engine::filter::{Outcome, Part, Trial, Trust};
use banish::engine::time::Stamp;
use filter::{Asked, Fields, definition, filter, modes, page, root, shipped, table};
use toml::{Table, Value};

/// Whose failure a hostile line is, in the place of `{A}`.
const REAL: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

/// How many lines that a pattern takes are made into forgeries.
const LINES_OF_A_PATTERN: usize = 3;

/// Some filters alone, while one works on them.
fn names() -> Vec<String> {
    let only = std::env::var("BANISH_FILTERS").ok();
    let asked = |name: &String| only.as_ref().is_none_or(|only| only.split(',').any(|asked| asked == name));
    shipped().into_iter().filter(asked).collect()
}

#[test]
fn every_shipped_filter_is_anchored_linear_attested_and_has_a_table_and_a_jail() {
    for name in names() {
        for mode in modes(&name) {
            let filter = filter(&name, &mode);
            assert_eq!(filter.unanchored(), [], "{name}, mode {mode}");
            assert_eq!(filter.needs_backtracking(), [], "{name}, mode {mode}");
            // Where a daemon does not escape line ends, its standard output is nobody's but those who write into it.
            assert!(filter.trust() == Trust::Attested || mode == "stdout", "{name}, mode {mode}");
        }
        let table = table(&format!("tests/filters/{name}.toml"));
        assert!(!cases(&table).is_empty(), "{name} has no case");
        assert!(table.contains_key("hostile"), "{name} has no hostile line");
        let jail = filter::table(&format!("etc/jail.d/{name}.toml"));
        let jail = &jail["jail"][&name];
        let enabled = jail.get("enabled").map(|enabled| enabled.as_bool() == Some(true));
        assert_eq!(enabled, (name == "sshd").then_some(true), "{name}");
        assert_eq!(jail["filter"].as_str(), Some(name.as_str()));
    }
}

#[test]
fn the_list_of_filters_is_true() {
    let row = |name: &String| {
        let file = table(&format!("etc/filter.d/{name}.toml"));
        let jail = table(&format!("etc/jail.d/{name}.toml"));
        let ports = jail["jail"][name].get("port").map_or("all".to_owned(), |ports| {
            let ports = ports.as_array().unwrap().iter();
            ports
                .map(|port| port.as_str().map_or_else(|| port.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join(", ")
        });
        let description = file["description"].as_str().unwrap().replace('|', "\\|");
        format!("| `{name}` | {description} | {} | {ports} |\n", modes(name)[1..].join(", "))
    };
    let rows: String = shipped().iter().map(row).collect();
    let written = fs::read_to_string(root("docs/filters.md")).unwrap();
    let (_, list) = written.split_once("|---|---|---|---|\n").unwrap();
    assert!(list == rows, "docs/filters.md should end with:\n{rows}");
}

fn list<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = &'t Table> {
    table.get(key).into_iter().flat_map(|list| list.as_array().unwrap()).map(|row| row.as_table().unwrap())
}

fn cases(table: &Table) -> Vec<&Table> {
    list(table, "case").collect()
}

/// The fields of every entry of a table, with a case's own. An empty value takes a usual field away.
fn fields_of(table: &Table, own: Option<&Table>) -> BTreeMap<String, String> {
    let usual = table.get("fields").and_then(Value::as_table);
    let all =
        usual.into_iter().flatten().chain(own.and_then(|own| own.get("fields")?.as_table()).into_iter().flatten());
    let mut fields: BTreeMap<String, String> =
        all.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    fields.retain(|_, value| !value.is_empty());
    fields
}

/// What a line of a case is in a mode: the verdict after the text; after that one a third for the mode `aggressive`, or
/// a table of modes.
fn expected<'t>(line: &'t [Value], mode: &str) -> &'t str {
    let other = line.get(2).and_then(|third| match third {
        Value::String(verdict) => (mode == "aggressive").then_some(verdict.as_str()),
        Value::Table(by_mode) => by_mode.get(mode).and_then(Value::as_str),
        other => panic!("{other} is no verdict"),
    });
    other.unwrap_or_else(|| line[1].as_str().unwrap())
}

#[test]
fn the_lines_of_every_table_get_their_verdicts() {
    let mut wrong = Vec::new();
    for name in names() {
        let table = table(&format!("tests/filters/{name}.toml"));
        for mode in modes(&name) {
            let mut asked = Asked::new(&name, &mode);
            for (at, case) in cases(&table).into_iter().enumerate() {
                let title = case["name"].as_str().unwrap();
                let mut fields = fields_of(&table, Some(case));
                fields.entry("_PID".into()).or_insert((1000 + at).to_string());
                let mut compare = |what: &str, told: String, expected: &str| {
                    if told != expected {
                        wrong.push(format!("{name}, {mode}, {title}: {what} is {told}, not {expected}"));
                    }
                };
                for line in case["lines"].as_array().unwrap() {
                    let line = line.as_array().unwrap();
                    if let Some(seconds) = line[0].as_integer() {
                        let told = asked.wait(u64::try_from(seconds).unwrap());
                        compare("what is overdue", told, expected(line, &mode));
                        continue;
                    }
                    let text = line[0].as_str().unwrap();
                    let mut entry: Fields =
                        fields.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
                    entry.push(("MESSAGE".into(), text.as_bytes().to_vec()));
                    if let Some(Value::String(pid)) = line.last().filter(|_| line.len() == 4) {
                        entry.retain(|(name, _)| name != "_PID");
                        entry.push(("_PID".into(), pid.clone().into_bytes()));
                    }
                    let told = asked.verdict(1, &entry);
                    compare(text, told, expected(line, &mode));
                }
                compare("what is overdue in the end", asked.wait_for_all(), "-");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An entry of a table's daemon that completes a failure by itself in the normal mode, and whose.
fn failing(table: &Table) -> (BTreeMap<String, String>, String) {
    let case = cases(table).into_iter().find_map(|case| {
        let line = case["lines"].as_array()?.first()?.as_array()?;
        let whose = expected(line, "normal");
        whose.parse::<std::net::IpAddr>().ok()?;
        Some((case, line[0].as_str()?.to_owned(), whose.to_owned()))
    });
    let (case, text, whose) = case.expect("a line that is a failure");
    let mut fields = fields_of(table, Some(case));
    for (name, value) in [("_UID", "0"), ("_GID", "0"), ("_PID", "4242")] {
        fields.insert(name.into(), value.into());
    }
    fields.insert("MESSAGE".into(), text);
    (fields, whose)
}

/// `entry` with other values of some fields; an empty one takes the field away.
fn with(entry: &BTreeMap<String, String>, other: &[(&str, &str)]) -> Fields {
    let mut entry = entry.clone();
    entry.extend(other.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    entry.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name, value.into_bytes())).collect()
}

/// The verdict on the last of these entries, which come a second apart.
fn last_verdict(name: &str, entries: &[(u128, Fields)]) -> String {
    let mut asked = Asked::new(name, "normal");
    entries.iter().fold(String::new(), |_, (boot, fields)| asked.verdict(*boot, fields))
}

/// A local user has a setuid program write what he likes, as root, without a unit and under any identifier.
#[test]
fn an_entry_without_a_unit_is_believed_of_a_known_process_alone() {
    let gone = [("_SYSTEMD_UNIT", "")];
    let mut tried = 0;
    for name in shipped() {
        let journalmatch = definition(&name, "normal").journalmatch;
        if !journalmatch.iter().any(|line| line.split(' ').any(|word| word == "_SYSTEMD_UNIT=")) {
            continue;
        }
        tried += 1;
        let (entry, whose) = failing(&table(&format!("tests/filters/{name}.toml")));
        let seen = (1, with(&entry, &[("MESSAGE", "nothing in particular")]));
        let now = |other: &[(&str, &str)]| with(&entry, &[&gone[..], other].concat());
        assert_eq!(last_verdict(&name, &[(1, with(&entry, &[]))]), whose, "{name}");
        assert_eq!(last_verdict(&name, &[(1, now(&[]))]), "-", "{name}: nothing vouches");
        assert_eq!(last_verdict(&name, &[seen.clone(), (1, now(&[]))]), whose, "{name}");
        for (other, why) in [("_PID", "another process"), ("_UID", "another user"), ("_GID", "another group")] {
            let verdict = last_verdict(&name, &[seen.clone(), (1, now(&[(other, "1000")]))]);
            assert_eq!(verdict, "-", "{name}: {why}");
        }
        assert_eq!(last_verdict(&name, &[seen.clone(), (2, now(&[]))]), "-", "{name}: another boot");
        assert_eq!(last_verdict(&name, &[seen.clone(), (1, now(&[("SYSLOG_IDENTIFIER", "su")]))]), "-", "{name}");
        let elsewhere = (1, with(&entry, &[("_SYSTEMD_UNIT", "user@1000.service")]));
        assert_eq!(last_verdict(&name, &[elsewhere.clone(), (1, now(&[]))]), "-", "{name}: of another unit");
        let silence = std::iter::repeat_n((1, with(&entry, &[("_PID", "7"), ("MESSAGE", "")])), 10);
        let late: Vec<_> = [seen.clone()].into_iter().chain(silence).chain([(1, now(&[]))]).collect();
        assert_eq!(last_verdict(&name, &late), "-", "{name}: the process may be another by now");
    }
    assert!(tried >= 10);
}

/// A user's own processes may have a daemon's unit, and a setuid program of root's writes what its caller likes.
#[test]
fn another_program_in_a_daemon_s_unit_is_not_the_daemon() {
    let mut tried = 0;
    for name in shipped() {
        let journalmatch = definition(&name, "normal").journalmatch;
        if !journalmatch.iter().any(|line| line.contains("_EXE=*/")) {
            continue;
        }
        let (entry, whose) = failing(&table(&format!("tests/filters/{name}.toml")));
        let Some(unit) = entry.get("_SYSTEMD_UNIT") else { continue };
        let unit = format!("_SYSTEMD_UNIT={unit}");
        let Some(line) = journalmatch.iter().find(|line| line.split(' ').any(|word| word == unit)) else { continue };
        let Some((_, program)) = line.split_once("_EXE=*/") else { continue };
        let program = format!("/usr/libexec/{}", program.split(' ').next().unwrap());
        tried += 1;
        let by = |program: &str, comm: &str| (1, with(&entry, &[("_EXE", program), ("_COMM", comm)]));
        let daemon = by(&program, "x");
        assert_eq!(last_verdict(&name, &[daemon]), whose, "{name}");
        assert_eq!(last_verdict(&name, &[by("/usr/bin/chsh", "sshd")]), "-", "{name}: another program");
        // One that has ended has no program any more, and its caller's group.
        assert_eq!(last_verdict(&name, &[by("", "x")]), whose, "{name}");
        if line.contains("_GID=0") {
            let ended = (1, with(&entry, &[("_GID", "1000"), ("_COMM", "sshd")]));
            assert_eq!(last_verdict(&name, &[ended]), "-", "{name}: of another group");
        }
    }
    assert!(tried >= 5, "{tried}");
}

/// A line in which a stranger writes.
struct Hostile<'t> {
    line: &'t str,
    fields: BTreeMap<String, String>,
    /// The failure is found whatever he writes.
    always: bool,
    /// Characters that the daemon never lets through.
    never: &'t str,
}

impl<'t> Hostile<'t> {
    fn all(table: &'t Table) -> Vec<Hostile<'t>> {
        let list = table.get("hostile").into_iter().flat_map(|list| list.as_array().unwrap());
        list.map(|hostile| {
            let hostile = hostile.as_table().unwrap();
            Hostile {
                line: hostile.get("line").map_or("", |line| line.as_str().unwrap()),
                fields: fields_of(table, Some(hostile)),
                always: hostile.get("always").is_some_and(|always| always.as_bool().unwrap()),
                never: hostile.get("never").map_or("", |never| never.as_str().unwrap()),
            }
        })
        .collect()
    }

    fn entry(&self, lie: &str, real: &str, cut: usize) -> Fields {
        let told = |text: &str| text.replace("{A}", real).replace("{}", lie).into_bytes();
        let mut entry: Fields = self.fields.iter().map(|(name, value)| (name.clone(), told(value))).collect();
        let mut message = told(self.line);
        message.truncate(cut);
        entry.push(("MESSAGE".into(), message));
        entry
    }
}

#[test]
fn whatever_strangers_write_nobody_else_is_the_subject() {
    let mut wrong = Vec::new();
    for name in names() {
        let table = table(&format!("tests/filters/{name}.toml"));
        let lines: Vec<&str> = cases(&table)
            .into_iter()
            .flat_map(|case| case["lines"].as_array().unwrap())
            .filter_map(|line| line[0].as_str())
            .collect();
        let lies = lies::about(&lines);
        // Where the daemon or its syslog(3) cuts its lines, in bytes.
        let cut = table.get("cut").map(|cut| usize::try_from(cut.as_integer().unwrap()).unwrap());
        for mode in modes(&name) {
            let mut trial = Trial::new(filter(&name, &mode));
            let mut number = 0;
            let mut reals: Vec<String> = Vec::new();
            for hostile in Hostile::all(&table) {
                let never = |lie: &str| lie.contains(|c| hostile.never.contains(c));
                let mut judge = |lie: &str, real: &str, cut: usize, always: bool| {
                    number += 1;
                    reals.push(real.to_owned());
                    let mut entry = hostile.entry(lie, real, cut);
                    entry.push(("_PID".into(), number.to_string().into_bytes()));
                    let page = page(trial.wanted(), Stamp::from_usec(number), 1, &entry);
                    let outcome = trial.examine_anywhere(page.entry()).outcome;
                    let right = match outcome {
                        Outcome::Failure(address) => address.to_string() == real,
                        _ => !always,
                    };
                    if !right {
                        let lie: String = lie.chars().rev().take(300).collect::<Vec<_>>().into_iter().rev().collect();
                        wrong.push(format!("{name}, {mode}: {:?} with {lie:?} is {outcome:?}", hostile.line));
                    }
                };
                for (lie, real) in lies.iter().zip(REAL.iter().cycle()).filter(|(lie, _)| !never(lie)) {
                    // What is longer than we look at is no failure, or one of the right host.
                    let always = hostile.always && lie.len() < 4096 && cut.is_none_or(|cut| lie.len() + 200 < cut);
                    judge(lie, real, cut.unwrap_or(usize::MAX), always);
                    if let Some((cut, lie)) = cut.and_then(|cut| Some((cut, lies::up_to(cut, hostile.line, lie)?))) {
                        judge(&lie, REAL[0], cut, false);
                    }
                }
            }
            trial.pass(Stamp::NEVER);
            for late in trial.overdue() {
                if late.address.to_string() != reals[usize::try_from(late.number).unwrap() - 1] {
                    wrong.push(format!("{name}, {mode}: a refusal is that of {}", late.address));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

/// A setuid program may write what its caller likes, and behind that its own words: no pattern passes over them. Where a
/// client's text ends the daemon's line, the table lists the pattern by some text of it, and says why.
#[test]
fn what_another_program_ends_is_no_line_of_the_daemon() {
    let mut wrong = Vec::new();
    for name in names() {
        let table = table(&format!("tests/filters/{name}.toml"));
        let open: Vec<&str> = list(&table, "open")
            .inspect(|row| assert!(row["why"].as_str().is_some_and(|why| !why.is_empty()), "{name}"))
            .flat_map(|row| row["patterns"].as_array().unwrap())
            .map(|part| part.as_str().unwrap())
            .collect();
        let mut found: BTreeSet<&str> = BTreeSet::new();
        let mut tried: BTreeSet<String> = BTreeSet::new();
        for mode in modes(&name) {
            let patterns = definition(&name, &mode).failregex;
            let mut trial = Trial::new(filter(&name, &mode));
            let mut lines: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
            for line in cases(&table).into_iter().flat_map(|case| case["lines"].as_array().unwrap()) {
                let Some(line) = line[0].as_str() else { continue };
                if let Some(pattern) = taken(&mut trial, line) {
                    lines.entry(pattern).or_default().push(line);
                }
            }
            for (at, pattern) in patterns.iter().enumerate() {
                let Some(lines) = lines.get(&at).filter(|_| tried.insert(pattern.clone())) else { continue };
                for text in lines.iter().take(LINES_OF_A_PATTERN).flat_map(|line| lies::forged(line)) {
                    let Some(taken) = taken(&mut trial, &text).map(|at| &patterns[at]) else { continue };
                    let listed = open.iter().find(|part| taken.contains(**part));
                    found.extend(listed);
                    if listed.is_none() {
                        wrong.push(format!("{name}, {mode}: {taken} takes {text:?}"));
                    }
                }
            }
        }
        for mode in modes(&name) {
            let definition = definition(&name, &mode);
            let untried = definition.failregex.iter().filter(|pattern| !tried.contains(*pattern));
            wrong.extend(untried.map(|pattern| format!("{name}, {mode}: no line of the table is taken by {pattern}")));
            let pinned = |line: &String| {
                let mut words = line.split_whitespace();
                words.any(|word| word.starts_with("_SYSTEMD_UNIT=") || word.starts_with("_EXE="))
                    && !line.contains("_SYSTEMD_UNIT= ")
            };
            assert!(
                open.is_empty() || definition.journalmatch.iter().all(pinned),
                "{name} has an open end and no unit"
            );
        }
        let closed = open.iter().filter(|part| !found.contains(*part));
        wrong.extend(closed.map(|part| format!("{name}: {part} is listed as open and is not")));
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

/// The pattern that takes a text for a line of the daemon's, whatever it makes of it.
fn taken(trial: &mut Trial, text: &str) -> Option<usize> {
    let verdict = trial.message(text.as_bytes());
    match (verdict.outcome, verdict.pattern) {
        (Outcome::Ignored(_), _) => None,
        (_, Some(Part::Failregex(pattern))) => Some(pattern),
        _ => None,
    }
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
        // What is pending takes the address of the connection, never of the text.
        assert!(matches!(outcome, Outcome::NoMatch | Outcome::NoFail | Outcome::Pending), "{text:?} is {outcome:?}");
    }
}
