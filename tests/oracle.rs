//! Judged by fail2ban's own samples: our filters, and fail2ban's brought over by our importer.
//!
//! Debian's package is taken at test time and never installed; none of its text is here. What differs on purpose is listed
//! in `docs/differences.md`, and that list is checked: a difference that is not in it fails, and so does a listed one that
//! is none any more.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

#[path = "oracle/listed.rs"]
mod listed;
#[path = "oracle/replay.rs"]
mod replay;
#[path = "oracle/sample.rs"]
mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use banish::config::{import, load_filter_file};

use replay::Fed;
use sample::{Oracle, Sample, oracle};

/// The package's version that `docs/differences.md` was written for.
const LISTED_FOR: &str = "1.1.0";

/// The samples; a test without any is skipped with the reason.
macro_rules! oracle_or_skip {
    () => {
        match oracle() {
            Ok(oracle) => oracle,
            Err(reason) => {
                println!("skipped: {reason}");
                return;
            }
        }
    };
}

/// A filter, where its samples come from, and the options.
type Group<'a> = (&'a str, &'a str, &'a BTreeMap<String, String>);

/// Samples that must be fed to one filter in this order.
fn groups(oracle: &Oracle) -> BTreeMap<Group<'_>, Vec<&Sample>> {
    let mut groups: BTreeMap<Group<'_>, Vec<&Sample>> = BTreeMap::new();
    for sample in &oracle.samples {
        groups.entry((sample.filter.as_str(), sample.source.as_str(), &sample.options)).or_default().push(sample);
    }
    groups
}

/// What came out of a comparison.
#[derive(Default)]
struct Outcome {
    same: usize,
    /// By filter and key: what was said, for whoever reads a failure.
    differences: BTreeMap<(String, String), String>,
    /// All that was looked at, and whether what stands where the address should is one.
    seen: BTreeMap<(String, String), bool>,
}

impl Outcome {
    fn judge(&mut self, sample: &Sample, ours: Option<IpAddr>, same: bool, theirs: &str) {
        let key = (sample.filter.clone(), sample.key.clone());
        self.seen.insert(key.clone(), sample.host.as_deref().is_none_or(|host| address(host).is_some()));
        if same {
            self.same += 1;
        } else {
            let ours = ours.map_or("no failure".to_owned(), |address| address.to_string());
            let told = format!("\n  {:?} {}: {ours}, not {theirs}", sample.options, sample.source);
            self.differences.entry(key).or_insert_with(|| sample.line.clone()).push_str(&told);
        }
    }

    /// How many of the samples with an address get the same verdict with all sets of options, in per cent.
    fn share(&self) -> usize {
        let all = self.seen.iter().filter(|(_, is_address)| **is_address);
        let (mut count, mut same) = (0, 0);
        for (key, _) in all {
            count += 1;
            same += usize::from(!self.differences.contains_key(key));
        }
        println!("{same} of {count} samples with an address, or of nobody, get the same verdicts");
        100 * same / count
    }

    /// The list must name what differs and nothing else.
    fn hold_against(&self, whose: &str, version: &str) {
        let listed = listed::listed(whose);
        let listed: BTreeSet<(String, String)> = listed
            .into_iter()
            .flat_map(|(filter, keys)| keys.into_iter().map(move |key| (filter.clone(), key)))
            .collect();
        let unlisted: Vec<String> = self
            .differences
            .iter()
            .filter(|(key, _)| !listed.contains(key))
            .map(|((filter, key), told)| format!("{filter} {key} {told}"))
            .collect();
        let gone: Vec<_> =
            listed.iter().filter(|key| self.seen.contains_key(key) && !self.differences.contains_key(key)).collect();
        println!("{whose} filters: {} verdicts the same, {} samples differ", self.same, self.differences.len());
        if version != LISTED_FOR {
            println!("the list is for fail2ban {LISTED_FOR}, not {version}; not in it:\n{}", unlisted.join("\n"));
            return;
        }
        assert!(unlisted.is_empty(), "not in docs/differences.md:\n{}", unlisted.join("\n"));
        // Without the corpus some have not been seen, or not with all that is expected of them.
        if std::env::var_os("BANISH_TEST_DATA").is_some() {
            let unknown: Vec<_> = listed.iter().filter(|key| !self.seen.contains_key(key)).collect();
            assert!(unknown.is_empty(), "in docs/differences.md, but no sample: {unknown:?}");
            assert!(gone.is_empty(), "in docs/differences.md, but no longer different: {gone:?}");
        }
    }
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[test]
fn the_package_says_what_its_own_samples_say() {
    let oracle = oracle_or_skip!();
    let own = oracle.samples.iter().filter(|sample| sample.source == "package");
    let mut asked = 0;
    for sample in own {
        // A name is never looked up.
        if sample.host.as_deref().is_some_and(|host| address(host).is_none()) {
            continue;
        }
        asked += 1;
        let said = &sample.says["line"];
        assert_eq!(said.is_some(), sample.matches, "{}: {}", sample.filter, sample.line);
        if let (Some(said), Some(host)) = (said, &sample.host) {
            assert_eq!(address(said), address(host), "{}: {}", sample.filter, sample.line);
        }
    }
    println!("fail2ban {}: {asked} verdicts of its own samples", oracle.version);
    assert!(asked > 500);
}

#[test]
fn shipped_filters_find_what_fail2bans_samples_hold() {
    let oracle = oracle_or_skip!();
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("etc/filter.d/{name}.toml"));
    let mut outcome = Outcome::default();
    let mut behind_the_date: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for ((name, _, options), samples) in groups(oracle) {
        let path = file(name);
        if !path.exists() {
            continue;
        }
        let mode = options.get("mode").map_or("normal", String::as_str);
        let Some(mut fed) = shipped(&path, mode) else {
            println!("{name} has no mode {mode}");
            continue;
        };
        for sample in samples {
            let ours = fed.says(sample);
            let host = sample.host.as_deref();
            let same = match (ours, sample.matches) {
                (Some(ours), true) => host.is_none_or(|host| address(host) == Some(ours)),
                (ours, matches) => ours.is_some() == matches,
            };
            if sample.journal.is_some() {
                let theirs = if sample.matches { host.unwrap_or("some address") } else { "no failure" };
                outcome.judge(sample, ours, same, theirs);
            } else {
                let (right, all) = behind_the_date.entry(name).or_default();
                (*right, *all) = (*right + usize::from(same), *all + 1);
            }
        }
    }
    for (name, (right, all)) in behind_the_date {
        println!("{name}: of lines that no journal has, {right} of {all} got their verdict without the date");
    }
    outcome.share();
    outcome.hold_against("Shipped", &oracle.version);
}

#[test]
fn imported_filters_say_what_fail2ban_says() {
    let oracle = oracle_or_skip!();
    let directory = tempfile::tempdir().unwrap();
    let mut outcome = Outcome::default();
    let (mut unknown, mut newer) = (0, 0);
    for ((name, _, options), samples) in groups(oracle) {
        // The version asked has no such filter, or no such option.
        if samples.iter().all(|sample| sample.says.is_empty()) {
            unknown += samples.len();
            continue;
        }
        if samples.iter().all(|sample| sample.journal.is_none()) {
            continue;
        }
        let mut fed = imported(oracle, directory.path(), name, options);
        if let Err(reason) = &fed {
            println!("{name} {options:?}: {reason}");
        }
        for sample in samples.into_iter().filter(|sample| sample.journal.is_some()) {
            let theirs = sample.says["line"].as_deref().filter(|said| *said != "slow");
            newer += usize::from(theirs.is_some() != sample.matches);
            match &mut fed {
                Ok(fed) => {
                    let ours = fed.says(sample);
                    let same = ours == theirs.and_then(address) && ours.is_some() == theirs.is_some();
                    // A later version may have given the sample its verdict.
                    let later = sample.matches && ours.is_some() && ours == sample.host.as_deref().and_then(address);
                    outcome.judge(sample, ours, same || later, theirs.unwrap_or("no failure"));
                }
                Err(_) => outcome.judge(sample, None, false, "what an imported filter would say"),
            }
        }
    }
    println!("fail2ban {}: {unknown} samples for filters or options that it does not have", oracle.version);
    println!("{newer} samples of which it says something else than they do; what it says counts here");
    let share = outcome.share();
    outcome.hold_against("Imported", &oracle.version);
    assert!(share >= 99 || oracle.version != LISTED_FOR, "only {share} % of the verdicts are fail2ban's");
}

/// A filter of fail2ban's, brought over with these options.
fn imported(oracle: &Oracle, to: &Path, name: &str, options: &BTreeMap<String, String>) -> Result<Fed, String> {
    let mut options = options.clone();
    options.insert("logtype".into(), "journal".into());
    let options: Vec<(String, String)> = options.into_iter().collect();
    let mut filter = import::filter(&oracle.configuration, name, &options).map_err(|error| error.to_string())?;
    // What it does not know it leaves out; entries are not asked here where they come from.
    if !filter.text.contains("\njournalmatch = ") {
        filter.text.insert_str(0, "journalmatch = ['_SYSTEMD_UNIT=oracle.service']\n");
    }
    let path = to.join(format!("{name}.toml"));
    std::fs::write(&path, &filter.text).unwrap();
    let loaded = load_filter_file(&path, "normal");
    let (_, filter) = loaded.filter.ok_or_else(|| format!("{:?}", loaded.problems))?;
    Ok(Fed::new(filter))
}

/// A shipped filter in a mode; `None` where it has no such mode.
fn shipped(path: &Path, mode: &str) -> Option<Fed> {
    let loaded = load_filter_file(path, mode);
    let Some((_, filter)) = loaded.filter else {
        assert!(load_filter_file(path, "normal").filter.is_some(), "{:?}", loaded.problems);
        return None;
    };
    Some(Fed::new(filter))
}
