//! Reading the configuration anew: all of it is right, or nothing changes.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::effects::{First, chain};
use super::report::Record;
use super::{Aside, Daemon, clock, notify, plan, start, views};
use crate::bus::Refusal;
use crate::config::{self, Jail, Loaded, Settings};
use crate::engine::ban::JailName;
use crate::engine::entry::Cursor;
use crate::engine::filter::Sieve;
use crate::engine::jail::Sighting;
use crate::journal;

/// A configuration that was read for a reload, and who waits for the outcome.
pub(super) struct Load {
    loaded: Loaded,
    answer: Option<Answer>,
}

type Answer = oneshot::Sender<Result<(), Refusal>>;

/// What jails that are new or changed would have seen, had they been there.
pub(super) struct PastOf {
    sightings: Vec<Sighting>,
    error: Option<String>,
}

impl Daemon {
    /// Begins a reload: the files are read beside the loop.
    pub(super) fn reload(&mut self, answer: Option<Answer>) {
        notify::reloading();
        let layout = start::layout(&self.options);
        let asides = self.asides.clone();
        tokio::task::spawn_blocking(move || {
            let loaded = config::load(&layout);
            // The loop being gone is the end of the program.
            let _ = asides.send(Aside::Loaded(Box::new(Load { loaded, answer })));
        });
    }

    /// Takes the new configuration over, or says what is wrong with it.
    pub(super) async fn reloaded(&mut self, load: Load) {
        let Load { loaded, answer } = load;
        let outcome = if loaded.any_error() {
            let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
            for text in &problems {
                self.log.tell(Record::ConfigProblem { text: text.clone(), error: true });
            }
            self.log.tell(Record::ReloadRefused { problems: problems.clone() });
            Err(Refusal::InvalidConfig(problems.join("\n")))
        } else {
            self.problems = loaded.problems;
            self.adopt_settings(loaded.settings).await;
            self.log.tell(Record::Reloaded { jails: views::running(&self.settings) });
            Ok(())
        };
        if let Some(bus) = &self.bus {
            let text = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
            bus.reloaded(outcome.is_ok(), &text);
        }
        notify::ready(&self.status());
        if let Some(answer) = answer {
            let _ = answer.send(outcome);
        }
    }

    async fn adopt_settings(&mut self, settings: Settings) {
        let fresh: BTreeSet<JailName> =
            plan::enabled(&settings).filter(|jail| self.is_fresh(jail)).map(|jail| jail.name.clone()).collect();
        self.settings = settings;
        self.spared.clear();
        self.warden.configure(plan::rules(&self.settings, &self.own.known));
        let lifted = self.warden.lift_unwanted(&self.spared, clock::now());
        self.carry_out(lifted, First::Ledger).await;
        for jail in &fresh {
            self.warden.recount(jail);
        }
        self.to_be_fed.extend(fresh);
        self.reader.replace(Box::new(plan::Sifter::new(plan::sieve(&self.settings))));
        if let Some(firewall) = self.firewall.clone() {
            let policy = plan::policy(&self.settings, &self.spared);
            match firewall.set_policy(policy, self.elements(), clock::now()).await {
                Ok(()) => self.firewall_worked(),
                Err(error) => {
                    self.rebuild_owed = true;
                    self.firewall_failed(&error);
                }
            }
        }
        if let Some(bus) = &self.bus {
            bus.set_jails(&views::names(&self.settings));
        }
    }

    /// Does `jail` look at other entries than before? Then what it counted says nothing, and its past is to be read.
    fn is_fresh(&self, jail: &Jail) -> bool {
        let former = plan::enabled(&self.settings).find(|known| known.name == jail.name);
        former.is_none_or(|former| former.definition != jail.definition || former.rules.findtime < jail.rules.findtime)
    }

    /// The new filters are at work behind `at`: what new and changed jails missed up to there is read beside the loop.
    pub(super) fn replaced(&mut self, at: Option<Cursor>) {
        let fresh = std::mem::take(&mut self.to_be_fed);
        let Some(until) = at else { return };
        if fresh.is_empty() {
            return;
        }
        let jails = plan::enabled(&self.settings)
            .filter(|jail| fresh.contains(&jail.name))
            .map(|jail| (jail.name.clone(), jail.filter.clone()))
            .collect();
        let mut sifter = plan::Sifter::new(Sieve::new(jails));
        let from = plan::feed_from(&self.settings, clock::now());
        let (source, _) = start::source(&self.options);
        let asides = self.asides.clone();
        tokio::task::spawn_blocking(move || {
            let mut sightings = Vec::new();
            let read = journal::read_between(&source, from, Some(&until), &mut sifter, &mut |sighting| {
                sightings.push(sighting);
            });
            let error = read.err().map(|error| chain(&error));
            // The loop being gone is the end of the program.
            let _ = asides.send(Aside::Fed(PastOf { sightings, error }));
        });
    }

    /// The past of new and changed jails: their windows are filled, and decided once.
    pub(super) async fn fed(&mut self, past: PastOf) {
        if let Some(error) = past.error {
            self.log.tell(Record::ReaderFailed { error });
        }
        self.warden.feed(&past.sightings);
        let decisions = self.warden.evaluate(clock::now());
        self.carry_out(decisions, First::Kernel).await;
    }
}
