//! Taking up what an earlier run left, in the ledger and in the kernel, and leaving the same to a later one.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Decision, Warden};
use crate::engine::ban::{Ban, Cause, JailName, Place};
use crate::engine::jail::Rules;
use crate::engine::jail::pause::Pause;
use crate::engine::jail::tally::Tally;
use crate::engine::jail::window::Failure;
use crate::engine::roster::State;
use crate::engine::snapshot::WindowsWriter;
use crate::engine::subject::Subject;
use crate::engine::time::Stamp;

/// What a jail has counted, and how: what a later run goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// The jail.
    pub jail: JailName,
    /// So many failures were remembered of each subject.
    pub maxretry: u32,
    /// … when they lay within this time.
    pub findtime: Duration,
    /// The failures by subject, as [`decode_windows`](crate::engine::snapshot::decode_windows) reads them.
    pub windows: Vec<u8>,
}

/// Two ends that are no further apart are the same: the kernel keeps what is left of a ban, in steps of its own clock.
const SAME_END: Duration = Duration::from_secs(2);

/// A jail whose counts are taken up gets its room as it needs it, looked at after so many subjects.
const SHARE_EVERY: usize = 256;

impl Warden {
    /// Takes up what an earlier run left: the bans in force, from when on to count, and when not to.
    pub fn restore(
        &mut self,
        bans: impl IntoIterator<Item = Ban>,
        counted_from: impl IntoIterator<Item = (Place, Stamp)>,
        pauses: impl IntoIterator<Item = Pause>,
        now: Stamp,
    ) {
        self.roster.fill(bans, State::Banned);
        self.counted_from.extend(counted_from);
        self.pauses.restore(pauses, now);
    }

    /// What the jails have counted.
    pub fn counts(&self) -> impl Iterator<Item = Counts> {
        self.jails.iter().map(|(name, jail)| {
            let mut windows = WindowsWriter::default();
            jail.tally.each(&mut |subject, failures| windows.add(subject, failures));
            let Rules { maxretry, findtime, .. } = jail.rules;
            Counts { jail: name.clone(), maxretry, findtime, windows: windows.finish() }
        })
    }

    /// Takes up what a jail had counted, as far as nothing has settled it since. Behind [`Warden::restore`] and
    /// [`Warden::configure`]; taking the same up twice changes nothing, and nothing is decided.
    pub fn fill(&mut self, jail: &JailName, windows: impl IntoIterator<Item = (Subject, Vec<Failure>)>) {
        let Warden { jails, roster, counted_from, .. } = self;
        for (number, (subject, mut failures)) in windows.into_iter().enumerate() {
            if number % SHARE_EVERY == 0 {
                Tally::share_room(jails.values_mut().map(|jail| &mut jail.tally));
            }
            let Some(known) = jails.get_mut(jail) else { return };
            let place = Place { jail: jail.clone(), subject };
            if roster.at(&place).is_some() {
                continue;
            }
            if let Some(settled) = counted_from.get(&place) {
                failures.retain(|failure| failure.stamp > *settled);
            }
            known.tally.fill(subject, &failures, known.rules.maxretry);
        }
    }

    /// Takes over bans that the kernel holds and the ledger did not know, each with its end. They are provisional until
    /// [`Warden::confirm`]; a deciding entry that is read before that takes its place. `lifted` are bans that ended
    /// before their time: an element with the end of one of these is a ban whose lifting did not reach the kernel.
    /// Gives back the places that are not adopted: those, jails that are neither there nor `spared`, and allowed subjects.
    pub fn adopt(
        &mut self,
        found: impl IntoIterator<Item = (Place, Stamp)>,
        lifted: &[Ban],
        spared: &BTreeSet<JailName>,
        now: Stamp,
    ) -> Vec<Place> {
        let mut refused = Vec::new();
        for (place, until) in found {
            let was_lifted = lifted.iter().any(|ban| ban.place == place && ban.until.apart(until) <= SAME_END);
            let wanted = match self.jails.get(&place.jail) {
                Some(jail) => !jail.rules.allow.covers(&place.subject),
                None => spared.contains(&place.jail),
            };
            if was_lifted || !wanted {
                refused.push(place);
            } else if self.roster.at(&place).is_none() {
                self.roster
                    .put(Ban { place, since: now, until, failures: 0, cause: Cause::Adopted }, State::Provisional);
            }
        }
        refused
    }

    /// Takes those of `bans`, of a ledger that nobody vouches for, that the kernel was found to hold with the same end:
    /// they take the place of what was adopted, and are given first. Where it holds any, it has not forgotten the others:
    /// they were lifted, and the failures that led to them count no more. Those are given second.
    pub fn recognize(&mut self, bans: Vec<Ban>) -> (Vec<Ban>, Vec<Ban>) {
        let (held, lifted): (Vec<Ban>, Vec<Ban>) = bans.into_iter().partition(|ban| {
            self.roster
                .at(&ban.place)
                .is_some_and(|held| held.state == State::Provisional && held.ban.until.apart(ban.until) <= SAME_END)
        });
        if held.is_empty() {
            return Default::default();
        }
        for ban in held.iter().chain(&lifted) {
            self.counted_from.insert(ban.place.clone(), ban.since);
        }
        for ban in &held {
            self.roster.put(ban.clone(), State::Banned);
        }
        (held, lifted)
    }

    /// The journal has been read to its end: what is still provisional is a ban like any other.
    pub fn confirm(&mut self) -> Vec<Decision> {
        let adopted: Vec<Ban> =
            self.roster.iter().filter(|held| held.state == State::Provisional).map(|held| held.ban.clone()).collect();
        for ban in &adopted {
            self.roster.mark(&ban.place, State::Banned);
            if let Some(jail) = self.jails.get_mut(&ban.place.jail) {
                jail.bans += 1;
            }
        }
        adopted.into_iter().map(Decision::Ban).collect()
    }
}
