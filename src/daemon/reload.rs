//! Reading the configuration anew: all of it is right, or nothing changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::crash::point;
use super::effects::{First, chain};
use super::report::Record;
use super::{Aside, Daemon, clock, notify, plan, start, views};
use crate::bus::Refusal;
use crate::config::{self, Jail, Loaded, Settings};
use crate::engine::ban::JailName;
use crate::engine::entry::Cursor;
use crate::engine::filter::{Definition, Sieve};
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
    /// What each jail's filter was made of.
    definitions: BTreeMap<JailName, Arc<Definition>>,
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
            // Everybody hears this, and a problem's text may quote an address.
            let text = if outcome.is_ok() { "" } else { "the new configuration has problems; the former one stays" };
            bus.reloaded(outcome.is_ok(), text);
        }
        notify::ready(&self.status());
        if let Some(answer) = answer {
            let _ = answer.send(outcome);
        }
    }

    async fn adopt_settings(&mut self, settings: Settings) {
        let former = std::mem::replace(&mut self.settings, settings);
        let changed = Changed::between(&former, &self.settings);
        self.spared.clear();
        self.warden.configure(plan::rules(&self.settings, &self.own.known));
        let lifted = self.warden.lift_unwanted(&self.spared, clock::now());
        self.carry_out(lifted, First::Ledger).await;
        point("reload.lifted");
        // Where no filter changed the reader goes on as it is, with the sessions that it knows.
        if let (Some(changed), Some(reader)) = (changed, &self.reader) {
            reader.replace(Box::new(plan::Sifter::new(plan::sieve(&self.settings))));
            self.changes.push_back(changed);
        }
        if let Some(firewall) = self.firewall.clone() {
            let policy = plan::policy(&self.settings, &self.spared);
            match firewall.set_policy(policy, self.elements(), clock::now()).await {
                Ok(()) => self.enforce_again().await,
                Err(error) => {
                    self.rebuild_owed = true;
                    self.firewall_failed(&error);
                }
            }
        }
        point("reload.enforced");
        // A lowered maxretry bans now; what is fed later is decided on then.
        let decisions = self.warden.evaluate(clock::now());
        self.carry_out(decisions, First::Kernel).await;
        point("reload.evaluated");
        if let Some(bus) = &self.bus {
            bus.set_jails(&views::names(&self.settings));
        }
    }

    /// The new filters are at work behind `at`: what jails with another filter have counted is forgotten, and what new
    /// and changed jails missed up to there is read beside the loop.
    pub(super) fn replaced(&mut self, at: Option<Cursor>) {
        let Some(changed) = self.changes.pop_front() else { return };
        for jail in &changed.recounted {
            self.warden.recount(jail);
        }
        let jails: Vec<&Jail> =
            plan::enabled(&self.settings).filter(|jail| changed.to_be_fed.contains(&jail.name)).collect();
        let Some(until) = at.filter(|_| !jails.is_empty()) else { return };
        let definitions = jails.iter().map(|jail| (jail.name.clone(), jail.definition.clone())).collect();
        let sieve = Sieve::new(jails.iter().map(|jail| (jail.name.clone(), jail.filter.clone())).collect());
        let mut sifter = plan::Sifter::new(sieve);
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
            let _ = asides.send(Aside::Fed(PastOf { definitions, sightings, error }));
        });
    }

    /// The past of new and changed jails: their windows are filled, and decided once. What was read with a filter that
    /// has been changed again since says nothing.
    pub(super) async fn fed(&mut self, past: PastOf) {
        if let Some(error) = past.error {
            self.log.tell(Record::ReaderFailed { error });
        }
        let valid: BTreeSet<JailName> = plan::enabled(&self.settings)
            .filter(|jail| past.definitions.get(&jail.name).is_some_and(|read| *read == jail.definition))
            .map(|jail| jail.name.clone())
            .collect();
        let sightings: Vec<Sighting> =
            past.sightings.into_iter().filter(|sighting| valid.contains(&sighting.jail)).collect();
        self.warden.feed(&sightings);
        let decisions = self.warden.evaluate(clock::now());
        self.carry_out(decisions, First::Kernel).await;
    }
}

/// What a reload changes for the reader.
pub(super) struct Changed {
    /// Jails whose filter or prefix is another: what they have counted says nothing any more.
    recounted: BTreeSet<JailName>,
    /// Jails that would have counted more of the past.
    to_be_fed: BTreeSet<JailName>,
}

impl Changed {
    /// `None` where the reader has nothing else to do than before.
    fn between(former: &Settings, settings: &Settings) -> Option<Changed> {
        let mut changed = Changed { recounted: BTreeSet::new(), to_be_fed: BTreeSet::new() };
        let mut same = plan::enabled(former).count() == plan::enabled(settings).count();
        for jail in plan::enabled(settings) {
            let known = plan::enabled(former).find(|known| known.name == jail.name);
            let filter = known.is_none_or(|known| known.definition != jail.definition);
            let prefix = known.is_some_and(|known| known.rules.ipv6_prefix != jail.rules.ipv6_prefix);
            let longer = known.is_none_or(|known| known.rules.findtime < jail.rules.findtime);
            same &= !filter;
            if filter || prefix {
                changed.recounted.insert(jail.name.clone());
            }
            if filter || prefix || longer {
                changed.to_be_fed.insert(jail.name.clone());
            }
        }
        (!same || !changed.to_be_fed.is_empty()).then_some(changed)
    }
}
