//! Which jails must not run because of an error, and because of which one.

use std::collections::BTreeMap;

use super::problem::{Problem, Severity};

/// The first error that keeps each jail out.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// One that may say, for any jail, whom to leave alone.
    all: Option<Problem>,
    jails: BTreeMap<String, Problem>,
}

impl Doubts {
    /// Notes an error, if there is one, that concerns all jails.
    pub(super) fn of_all(&mut self, problem: Option<&Problem>) {
        self.all = self.all.take().or_else(|| problem.cloned());
    }

    /// Notes the first error among `problems` as one that concerns all jails.
    pub(super) fn of_all_among(&mut self, problems: &[Problem]) {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        self.of_all(errors.min_by(|a, b| a.place.cmp(&b.place)));
    }

    /// Notes an error that concerns one jail.
    pub(super) fn of_jail(&mut self, jail: String, problem: &Problem) {
        self.jails.entry(jail).or_insert_with(|| problem.clone());
    }

    /// What concerns all jails.
    pub(super) fn for_all(&self) -> Option<&Problem> {
        self.all.as_ref()
    }

    /// Why this jail must not run; an error of its own goes before one that concerns all.
    pub(super) fn about(&self, jail: &str) -> Option<&Problem> {
        self.jails.get(jail).or(self.all.as_ref())
    }

    /// The jails with errors of their own.
    pub(super) fn jails(&self) -> impl Iterator<Item = (&str, &Problem)> {
        self.jails.iter().map(|(jail, problem)| (&**jail, problem))
    }
}
