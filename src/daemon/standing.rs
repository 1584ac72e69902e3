//! How the configuration that runs stands to what the files say, and how that is told.

use std::fmt::Write as _;

use super::clock;
use super::effects::chain;
use super::former::FormerError;
use super::report::{Record, counted};
use crate::bus::{self, Configuration};
use crate::config::{LeftOut, Loaded, Problem, Severity};
use crate::engine::ban::JailName;
use crate::engine::time::Stamp;

/// What runs, and what is wrong with the files.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    runs: Runs,
    /// When what runs came into force first.
    since: Stamp,
    /// What is wrong or doubtful with the files, as they were read last.
    problems: Vec<Problem>,
    /// The jails that ran before what runs came into force, and do not run now.
    gone: Vec<JailName>,
    refused: Option<Refused>,
    /// Why what runs could not be kept for a start that finds errors.
    unkept: Option<String>,
}

/// Which configuration runs.
#[derive(Clone, Debug)]
enum Runs {
    /// That of the files, whole.
    Files,
    /// The last one that was in force, for that of the files is in error.
    Former,
    /// That of the files without what is in error, and why not the former one.
    Part { left_out: Vec<LeftOut>, why: Option<Why> },
}

/// Why the former configuration cannot be used: all of it, which may quote addresses, and what everybody may see.
#[derive(Clone, Debug)]
struct Why {
    whole: String,
    public: String,
}

/// A reload that found errors.
#[derive(Clone, Copy, Debug)]
struct Refused {
    at: Stamp,
    by: Asker,
}

/// Who asked for a reload.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// This user, over the bus.
    User(u32),
    /// Whoever sent SIGHUP.
    Signal,
}

impl Standing {
    /// The files' configuration runs; nothing in it is an error.
    pub(super) fn of_files(loaded: &Loaded) -> Standing {
        Standing {
            runs: Runs::Files,
            since: clock::now(),
            problems: loaded.problems.clone(),
            gone: Vec::new(),
            refused: None,
            unkept: None,
        }
    }

    /// The configuration that was in force since `since` runs, for the files have these problems.
    pub(super) fn of_former(since: Stamp, problems: Vec<Problem>) -> Standing {
        Standing { runs: Runs::Former, since, problems, gone: Vec::new(), refused: None, unkept: None }
    }

    /// What is right in the files runs.
    pub(super) fn of_part(loaded: &Loaded, why: Option<&FormerError>) -> Standing {
        let why = why.map(|error| Why { whole: chain(error), public: error.to_string() });
        let left_out = missing(loaded).cloned().collect();
        Standing {
            runs: Runs::Part { left_out, why },
            since: clock::now(),
            problems: loaded.problems.clone(),
            gone: Vec::new(),
            refused: None,
            unkept: None,
        }
    }

    /// Is anything else in force than what the files said at the start or at the last reload that was accepted?
    pub(super) fn in_error(&self) -> bool {
        !matches!(self.runs, Runs::Files)
    }

    /// A reload found these problems; what runs stays.
    pub(super) fn refuse(&mut self, by: Asker, problems: Vec<Problem>) {
        self.refused = Some(Refused { at: clock::now(), by });
        self.problems = problems;
    }

    /// What runs ended these jails.
    pub(super) fn ended(&mut self, jails: Vec<JailName>) {
        self.gone = jails;
    }

    /// The jails that what runs ended.
    pub(super) fn no_longer_running(&self) -> Vec<String> {
        self.gone.iter().map(ToString::to_string).collect()
    }

    /// What runs is kept, and since when it has been in force; or why it could not be.
    pub(super) fn kept(&mut self, kept: Result<Stamp, String>) {
        match kept {
            Ok(since) => {
                self.since = since;
                self.unkept = None;
            }
            Err(error) => self.unkept = Some(error),
        }
    }

    /// Could what runs not be kept?
    pub(super) fn is_unkept(&self) -> bool {
        self.unkept.is_some()
    }

    /// The jails that do not run because something is wrong.
    pub(super) fn left_out(&self) -> Vec<String> {
        match &self.runs {
            Runs::Part { left_out, .. } => left_out.iter().map(|left_out| left_out.jail.clone()).collect(),
            Runs::Files | Runs::Former => Vec::new(),
        }
    }

    /// Does this jail not run because something is wrong?
    pub(super) fn leaves_out(&self, jail: &JailName) -> bool {
        self.left_out().iter().any(|name| name == jail.as_str())
    }

    /// What the log is told of a start with errors. `concerned` are the jails that the errors are about.
    pub(super) fn records(&self, concerned: Vec<String>) -> Vec<Record> {
        match &self.runs {
            Runs::Files => Vec::new(),
            Runs::Former => vec![Record::FormerRuns { since: self.since, errors: self.errors(), jails: concerned }],
            Runs::Part { left_out, why } => {
                let unusable = why.iter().map(|error| Record::FormerUnusable { error: error.whole.clone() });
                let jails = left_out.iter().map(|left_out| Record::JailLeftOut {
                    jail: left_out.jail.clone(),
                    reason: left_out.because.to_string(),
                });
                unusable.chain(jails).collect()
            }
        }
    }

    /// What the unit's status text begins with, where something is wrong.
    pub(super) fn trouble(&self) -> Option<String> {
        let mut text = match &self.runs {
            Runs::Files => String::new(),
            Runs::Former => format!("configuration in error: running the former one, of {}", clock::show(self.since)),
            Runs::Part { left_out, .. } if left_out.is_empty() => "configuration in error".to_owned(),
            Runs::Part { left_out, .. } => {
                let first = left_out.first().map_or("", |left_out| left_out.jail.as_str()).escape_debug();
                match left_out.len() - 1 {
                    0 => format!("configuration in error: jail {first} is NOT running"),
                    more => format!("configuration in error: jail {first} and {more} more are NOT running"),
                }
            }
        };
        if let Some(Refused { at, .. }) = self.refused {
            let start = if text.is_empty() { "configuration in error: reload" } else { "; reload" };
            let _ = write!(text, "{start} of {} refused", clock::show(at));
        }
        if text.is_empty() {
            return None;
        }
        if let Some(place) = self.first_error().and_then(|problem| problem.place.as_ref()) {
            let _ = write!(text, " ({place})");
        }
        Some(text)
    }

    /// What `check` says of the files, beside what `warnings`, those of what runs, say. Texts may quote addresses: they
    /// are only for who may see such.
    pub(super) fn findings(&self, warnings: &[Problem], whole: bool) -> Vec<bus::Problem> {
        let mut found = Vec::new();
        let errors = counted(self.errors(), "error");
        let mut say = |severity, text: String| found.push(bus::Problem { severity, jail: None, text });
        match &self.runs {
            Runs::Files => {}
            Runs::Former => {
                let since = clock::show(self.since);
                say(
                    bus::Severity::Error,
                    format!(
                        "the configuration files are in error ({errors}): what runs is the former configuration, of {since}"
                    ),
                );
            }
            Runs::Part { why, .. } => {
                let why = why.as_ref().map_or_else(
                    || "no former configuration is kept".to_owned(),
                    |why| {
                        let why = if whole { &why.whole } else { &why.public };
                        format!("the former configuration cannot be used: {why}")
                    },
                );
                say(
                    bus::Severity::Error,
                    format!(
                        "the configuration files are in error ({errors}), and {why}: what is in error does not run"
                    ),
                );
            }
        }
        if let Some(Refused { at, by }) = self.refused {
            let by = match by {
                Asker::User(uid) => format!("by user {uid}"),
                Asker::Signal => "by SIGHUP".to_owned(),
            };
            let at = clock::show(at);
            say(
                bus::Severity::Error,
                format!("the reload of {at} {by} was refused ({errors}): the files are not what runs"),
            );
        }
        if let Some(error) = &self.unkept {
            say(
                bus::Severity::Warning,
                format!(
                    "the configuration could not be kept: {error}; a start that finds errors in the files would not run with it"
                ),
            );
        }
        let others = warnings.iter().filter(|warning| !self.problems.contains(warning));
        found.extend(self.problems.iter().chain(others).map(|problem| finding(problem, whole)));
        if let Runs::Part { left_out, .. } = &self.runs {
            for LeftOut { jail, because, .. } in left_out {
                if self.problems.iter().any(|problem| problem.jail.as_ref() == Some(jail) && is_error(problem)) {
                    continue;
                }
                found.push(bus::Problem {
                    severity: bus::Severity::Error,
                    jail: jail.parse().ok(),
                    text: format!("does not run: {}", text(because, whole)),
                });
            }
        }
        found
    }

    /// What the bus shows everybody.
    pub(super) fn configuration(&self) -> Configuration {
        match self.runs {
            Runs::Files => Configuration::Current,
            Runs::Former => Configuration::Former,
            Runs::Part { .. } => Configuration::Incomplete,
        }
    }

    /// When what runs came into force first.
    pub(super) fn since(&self) -> Stamp {
        self.since
    }

    /// When a reload was refused; the epoch where the last one was not.
    pub(super) fn refused_at(&self) -> Stamp {
        self.refused.map_or(Stamp::EPOCH, |refused| refused.at)
    }

    fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| is_error(problem)).count()
    }

    fn first_error(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| is_error(problem))
    }
}

/// The jails that would run, were it not for an error.
fn missing(loaded: &Loaded) -> impl Iterator<Item = &LeftOut> {
    loaded.left_out.iter().filter(|left_out| left_out.enabled)
}

/// The jails that errors are about: those that are named, and those that `loaded` leaves out.
pub(super) fn concerned(loaded: &Loaded) -> Vec<String> {
    let named = loaded.problems.iter().filter(|problem| is_error(problem)).filter_map(|problem| problem.jail.clone());
    let mut all: Vec<String> = named.chain(missing(loaded).map(|left_out| left_out.jail.clone())).collect();
    all.sort();
    all.dedup();
    all
}

/// How many of these are errors, in words.
pub(super) fn count_errors(problems: &[Problem]) -> String {
    counted(problems.iter().filter(|problem| is_error(problem)).count(), "error")
}

fn is_error(problem: &Problem) -> bool {
    problem.severity == Severity::Error
}

fn finding(problem: &Problem, whole: bool) -> bus::Problem {
    bus::Problem {
        severity: match problem.severity {
            Severity::Error => bus::Severity::Error,
            Severity::Warning => bus::Severity::Warning,
        },
        jail: problem.jail.as_ref().and_then(|jail| jail.parse().ok()),
        text: text(problem, whole),
    }
}

/// The problem, or only where something is wrong: everybody may ask, and what is wrong with an address list quotes
/// addresses.
fn text(problem: &Problem, whole: bool) -> String {
    // What is said of no place and no key quotes nothing.
    if whole || (problem.place.is_none() && problem.key.is_empty()) {
        return problem.to_string();
    }
    let place = problem.place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
    let key = if problem.key.is_empty() { "the file" } else { problem.key.as_str() };
    let what = if is_error(problem) { "error" } else { "doubt" };
    format!("{place}{key} is in {what}; see banishctl config check")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;
    use std::path::Path;

    /// An error about an address.
    fn problem(jail: Option<&str>) -> Problem {
        Problem {
            severity: Severity::Error,
            place: Some(Place { line: 2, column: 1, ..Place::whole(Path::new("/etc/x.toml")) }),
            key: "default.ignoreip".into(),
            jail: jail.map(str::to_owned),
            text: "192.0.2.1/24: was 192.0.2.0/24 meant?".into(),
        }
    }

    fn texts(standing: &Standing, whole: bool) -> String {
        standing.findings(&[], whole).into_iter().map(|finding| finding.text + "\n").collect()
    }

    #[test]
    fn what_quotes_an_address_is_not_for_everybody() {
        let why = || Some(Why { whole: "this version: 192.0.2.1".into(), public: "this version".into() });
        let left_out = || vec![LeftOut { jail: "web".into(), enabled: true, because: problem(None) }];
        for runs in [Runs::Files, Runs::Former, Runs::Part { left_out: left_out(), why: why() }] {
            let mut standing = Standing::of_former(Stamp::from_usec(7), vec![problem(Some("sshd"))]);
            standing.runs = runs;
            standing.refuse(Asker::Signal, vec![problem(Some("sshd"))]);
            assert!(texts(&standing, true).contains("192.0.2.1"), "{standing:?}");
            assert!(!texts(&standing, false).contains("192.0.2"), "{}", texts(&standing, false));
            assert!(!standing.trouble().unwrap().contains("192.0.2"), "{standing:?}");
        }
    }

    #[test]
    fn a_jail_that_is_left_out_has_a_finding_of_its_own() {
        let mut standing = Standing::of_former(Stamp::from_usec(7), vec![problem(None)]);
        standing.runs = Runs::Part {
            left_out: vec![LeftOut { jail: "web".into(), enabled: true, because: problem(None) }],
            why: None,
        };
        let findings = standing.findings(&[], true);
        let own = findings.iter().find(|finding| finding.jail.as_ref().is_some_and(|jail| jail.as_str() == "web"));
        assert!(own.unwrap().text.starts_with("does not run: /etc/x.toml:2:1: default.ignoreip: "), "{findings:?}");
        assert!(standing.trouble().unwrap().starts_with("configuration in error: jail web is NOT running ("));
    }
}
