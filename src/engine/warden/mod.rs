//! The deciding core: sightings and commands go in with the time, decisions come out.
//!
//! It is a pure function of what it was given: the same inputs in the same order give the same decisions. It does not
//! wait for anybody; how far a decision got comes back by [`Roster::mark`].

mod command;
mod resume;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::ban::{Ban, Cause, End, JailName, Place};
use super::jail::pause::{Pause, Pauses};
use super::jail::tally::Tally;
use super::jail::window::Failure;
use super::jail::{Action, Rules, Sighting};
use super::roster::{Roster, State};
use super::time::{Length, Stamp};

pub use command::{BanOrder, Refusal};
pub use resume::Counts;

/// What is to be done, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A ban begins; one of the same place that was in force ends by it.
    Ban(Ban),
    /// A jail that only reports would have banned.
    Report(Ban),
    /// The ban would be over already: the journal was read too late for it to be of use.
    Past(Ban),
    /// A ban ends at this instant.
    End {
        /// The ban.
        ban: Ban,
        /// How it ended.
        end: End,
        /// When.
        at: Stamp,
    },
}

impl Decision {
    /// The ban that it is about.
    pub fn ban(&self) -> &Ban {
        match self {
            Decision::Ban(ban) | Decision::Report(ban) | Decision::Past(ban) | Decision::End { ban, .. } => ban,
        }
    }
}

/// What a jail has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Failures of addresses that are not allowed, since the daemon started.
    pub failures: u64,
    /// Failures of allowed addresses.
    pub allowed: u64,
    /// The time of the newest failure; the epoch where there was none.
    pub last_failure: Stamp,
    /// Bans decided since the daemon started.
    pub bans: u64,
    /// Subjects forgotten early because there were too many.
    pub evicted: u64,
    /// Subjects that have failed lately and are not banned.
    pub failing: usize,
}

#[derive(Debug)]
struct Jail {
    rules: Rules,
    tally: Tally,
    failures: u64,
    allowed: u64,
    last_failure: Stamp,
    bans: u64,
    /// The oldest time of what it has seen since what is too old was forgotten.
    oldest: Stamp,
}

/// All jails, the bans in force, and from when on each place is counted.
#[derive(Debug, Default)]
pub struct Warden {
    jails: BTreeMap<JailName, Jail>,
    roster: Roster,
    /// Failures at or before this instant are settled: a ban, an unban or a past ban has taken them in.
    counted_from: HashMap<Place, Stamp>,
    pauses: Pauses,
    /// So many sightings since what is too old was forgotten, and the newest time of them.
    counted: u32,
    newest: Stamp,
}

/// A jail that only reports, and would ban for longer, reports a host that goes on after this time again.
const REPORTED_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// After so many sightings what is too old is forgotten.
const TIDY_EVERY: u32 = 8192;

impl Warden {
    /// A warden of no jail.
    pub fn new() -> Warden {
        Warden::default()
    }

    /// The wall clock was set and may have been ahead: nothing that is known lies after `now`, and no ban lasts longer
    /// from here than it was meant to. Where it was the clock of now that was behind, the bans are what they were as
    /// soon as it is right.
    pub fn clock_was_set(&mut self, now: Stamp) {
        for jail in self.jails.values_mut() {
            jail.tally.not_after(now);
            jail.last_failure = jail.last_failure.min(now);
        }
        self.counted_from.values_mut().for_each(|settled| *settled = (*settled).min(now));
        self.roster.not_after(now);
    }

    /// Takes over these jails; one that stays keeps its counts. [`Warden::lift_unwanted`] belongs behind it.
    pub fn configure(&mut self, jails: impl IntoIterator<Item = (JailName, Rules)>) {
        let mut earlier = std::mem::take(&mut self.jails);
        for (name, rules) in jails {
            let jail = match earlier.remove(&name) {
                Some(jail) => Jail { rules, ..jail },
                None => Jail {
                    rules,
                    tally: Tally::default(),
                    failures: 0,
                    allowed: 0,
                    last_failure: Stamp::EPOCH,
                    bans: 0,
                    oldest: Stamp::NEVER,
                },
            };
            self.jails.insert(name, jail);
        }
        Tally::share_room(self.jails.values_mut().map(|jail| &mut jail.tally));
    }

    /// Ends the bans of jails that are gone, that only report, and of subjects that are allowed. The bans of the jails
    /// in `spared` stay: those that are not there by a mistake in their configuration and not by intent.
    pub fn lift_unwanted(&mut self, spared: &BTreeSet<JailName>, now: Stamp) -> Vec<Decision> {
        let unwanted: Vec<Place> = self
            .roster
            .iter()
            .map(|held| &held.ban.place)
            .filter(|place| match self.jails.get(&place.jail) {
                Some(jail) => jail.rules.allow.covers(&place.subject) || jail.rules.action == Action::Log,
                None => !spared.contains(&place.jail),
            })
            .cloned()
            .collect();
        unwanted.iter().filter_map(|place| self.end(place, End::Configuration, now)).collect()
    }

    /// Forgets what a jail has counted from entries, because its filter now means something else. What programs reported
    /// stays.
    pub fn recount(&mut self, jail: &JailName) {
        let Some(jail) = self.jails.get_mut(jail) else { return };
        let mut reported = Vec::new();
        jail.tally.each(&mut |subject, failures| {
            let attempts: Vec<Failure> = failures.iter().filter(|one| one.entry.is_attempt()).copied().collect();
            if !attempts.is_empty() {
                reported.push((subject, attempts));
            }
        });
        jail.tally.clear();
        for (subject, attempts) in reported {
            jail.tally.fill(subject, &attempts, jail.rules.maxretry);
        }
    }

    /// Counts sightings of the past without deciding anything; [`Warden::evaluate`] decides once they are all in.
    pub fn feed(&mut self, sightings: &[Sighting], now: Stamp) {
        for sighting in sightings {
            // Of an entry that was ahead of its time nobody knows when it was read first, and so whether it is settled.
            let place = self.place_of(sighting).filter(|_| sighting.stamp > now);
            if !place.is_some_and(|place| self.counted_from.contains_key(&place)) {
                self.count(sighting, now);
            }
        }
    }

    fn place_of(&self, sighting: &Sighting) -> Option<Place> {
        let subject = self.jails.get(&sighting.jail)?.rules.subject_of(sighting.address)?;
        Some(Place { jail: sighting.jail.clone(), subject })
    }

    /// Decides once over everything that was fed. A ban that would be over by `now` is none.
    pub fn evaluate(&mut self, now: Stamp) -> Vec<Decision> {
        let mut due = Vec::new();
        for (name, jail) in &self.jails {
            let from = now.before(jail.rules.findtime);
            for (subject, failures) in jail.tally.complete(jail.rules.maxretry, jail.rules.findtime) {
                // Windows are tidied by and by: what is too old or allowed by now is no reason to ban.
                let recent = failures.last().is_some_and(|failure| failure.stamp >= from);
                if recent && !jail.rules.allow.covers(&subject) {
                    due.push((Place { jail: name.clone(), subject }, failures));
                }
            }
        }
        let mut decisions = Vec::new();
        for (place, failures) in due {
            let evidence = failures.iter().map(|failure| failure.entry).collect();
            let Some(ban) = self.ban_of(&place, &failures, Cause::Configuration { evidence }) else { continue };
            if ban.until > now {
                decisions.extend(self.decide(ban, now));
            }
        }
        decisions
    }

    /// Counts sightings of the present and decides about each. `now` tells which bans would be over already.
    pub fn see(&mut self, sightings: &[Sighting], now: Stamp) -> Vec<Decision> {
        let mut decisions = Vec::new();
        for sighting in sightings {
            let Some((place, failures)) = self.count(sighting, now) else { continue };
            let evidence = failures.iter().map(|failure| failure.entry).collect();
            let cause = Cause::Failures { decided: sighting.entry, evidence };
            if let Some(ban) = self.ban_of(&place, &failures, cause) {
                decisions.extend(self.decide(ban, now));
            }
        }
        decisions
    }

    /// Ends the bans whose time is over.
    pub fn expire(&mut self, now: Stamp) -> Vec<Decision> {
        let mut decisions = Vec::new();
        while let Some(held) = self.roster.take_ended(now) {
            let at = held.ban.until;
            // What it did while it was banned is settled.
            self.counted_from.insert(held.ban.place.clone(), at);
            decisions.push(Decision::End { ban: held.decided(), end: End::Expired, at });
        }
        decisions
    }

    /// The next instant at which [`Warden::expire`] has something to do.
    pub fn deadline(&self) -> Option<Stamp> {
        self.roster.next_end()
    }

    /// The jails whose pause is over by itself since this was last asked.
    pub fn expire_pauses(&mut self, now: Stamp) -> Vec<JailName> {
        self.pauses.expire(now)
    }

    /// The next instant at which [`Warden::expire_pauses`] has something to tell.
    pub fn next_pause_end(&self) -> Option<Stamp> {
        self.pauses.next_end()
    }

    /// Is the jail paused?
    pub fn is_paused(&self, jail: &JailName) -> bool {
        self.pauses.is_running(jail)
    }

    /// Until when the jail is paused, if it is; [`Stamp::NEVER`] until it is resumed.
    pub fn paused_until(&self, jail: &JailName) -> Option<Stamp> {
        self.pauses.running_until(jail)
    }

    /// All pauses that still matter.
    pub fn pauses(&self) -> impl Iterator<Item = &Pause> {
        self.pauses.iter()
    }

    /// Forgets pauses that were over before `from`: no entry that old is read again.
    pub fn forget_pauses_before(&mut self, from: Stamp) {
        self.pauses.forget_before(from);
    }

    /// The bans in force.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Notes how far a ban has got.
    pub fn mark(&mut self, place: &Place, state: State) {
        self.roster.mark(place, state);
    }

    /// The jails' names, in order.
    pub fn jails(&self) -> impl Iterator<Item = &JailName> {
        self.jails.keys()
    }

    /// How a jail counts.
    pub fn rules(&self, jail: &str) -> Option<&Rules> {
        self.jails.get(jail).map(|jail| &jail.rules)
    }

    /// What a jail has seen.
    pub fn figures(&self, jail: &str) -> Option<Figures> {
        self.jails.get(jail).map(|jail| Figures {
            failures: jail.failures,
            allowed: jail.allowed,
            last_failure: jail.last_failure,
            bans: jail.bans,
            evicted: jail.tally.evicted(),
            failing: jail.tally.failing(),
        })
    }

    /// Counts one sighting; the failures that complete a ban, if it does.
    ///
    /// It counts as of `now` where its time lies ahead, by a clock that is wrong here or at a sender's: else it would keep
    /// what comes next out of its window, and begin a ban in the future.
    fn count(&mut self, sighting: &Sighting, now: Stamp) -> Option<(Place, Vec<Failure>)> {
        let stamp = sighting.stamp.min(now);
        let jail = self.jails.get_mut(&sighting.jail)?;
        jail.oldest = jail.oldest.min(stamp);
        self.newest = self.newest.max(stamp);
        self.counted += 1;
        if self.counted >= TIDY_EVERY {
            self.tidy();
        }
        let jail = self.jails.get_mut(&sighting.jail)?;
        if self.pauses.covers(&sighting.jail, stamp) {
            return None;
        }
        let Some(subject) = jail.rules.subject_of(sighting.address) else {
            jail.allowed += 1;
            return None;
        };
        jail.failures += 1;
        jail.last_failure = jail.last_failure.max(stamp);
        let place = Place { jail: sighting.jail.clone(), subject };
        if self.counted_from.get(&place).is_some_and(|settled| stamp <= *settled) {
            return None;
        }
        if self.roster.at(&place).is_some_and(|held| held.state != State::Provisional) {
            return None;
        }
        let failure = Failure { stamp, entry: sighting.entry };
        let complete = jail.tally.count(subject, failure, jail.rules.maxretry, jail.rules.findtime)?;
        Some((place, complete))
    }

    /// The ban that these failures (oldest first) mean.
    fn ban_of(&self, place: &Place, failures: &[Failure], cause: Cause) -> Option<Ban> {
        let rules = &self.jails.get(&place.jail)?.rules;
        let since = failures.last()?.stamp;
        let until = since.after(rules.bantime);
        let failures = u32::try_from(failures.len()).unwrap_or(u32::MAX);
        Some(Ban { place: place.clone(), since, until, failures, cause })
    }

    /// Settles the failures of `ban` and puts it in force, if it can still be of use.
    fn decide(&mut self, ban: Ban, now: Stamp) -> Option<Decision> {
        let jail = self.jails.get_mut(&ban.place.jail)?;
        jail.tally.forget(&ban.place.subject);
        jail.bans += 1;
        // Failures during the ban are not the start of the next one, whether it was still of use or not.
        let over = ban.until <= now;
        let settled = match jail.rules.action {
            // It is told again at some time, or whom it concerns would be remembered for ever.
            Action::Log => ban.until.min(ban.since.after(Length::For(REPORTED_AGAIN))),
            Action::Drop | Action::Reject if over => ban.until,
            Action::Drop | Action::Reject => ban.since,
        };
        self.counted_from.insert(ban.place.clone(), settled);
        if jail.rules.action == Action::Log {
            return Some(Decision::Report(ban));
        }
        if over {
            return Some(Decision::Past(ban));
        }
        self.roster.put(ban.clone(), State::Pending);
        Some(Decision::Ban(ban))
    }

    fn end(&mut self, place: &Place, end: End, at: Stamp) -> Option<Decision> {
        let held = self.roster.remove(place)?;
        self.counted_from.insert(place.clone(), at);
        Some(Decision::End { ban: held.decided(), end, at })
    }

    /// From when on `place` is counted, where that is not from the beginning: what the ledger keeps with a decision.
    pub fn counted_from(&self, place: &Place) -> Option<Stamp> {
        self.counted_from.get(place).copied()
    }

    /// From when on each place is counted that is not from the beginning, in order.
    pub fn settled(&self) -> BTreeMap<Place, Stamp> {
        self.counted_from.iter().map(|(place, stamp)| (place.clone(), *stamp)).collect()
    }

    /// Forgets failures and settlements too old to matter to what is read from now on: of a jail that has seen anything
    /// lately by the oldest of that, since its journals need not be equally far.
    fn tidy(&mut self) {
        self.counted = 0;
        let newest = std::mem::take(&mut self.newest);
        let mut from = BTreeMap::new();
        for (name, jail) in &mut self.jails {
            let oldest = std::mem::replace(&mut jail.oldest, Stamp::NEVER).min(newest);
            let oldest = oldest.before(jail.rules.findtime);
            jail.tally.forget_before(oldest);
            from.insert(name.clone(), oldest);
        }
        Tally::share_room(self.jails.values_mut().map(|jail| &mut jail.tally));
        self.counted_from.retain(|place, settled| from.get(&place.jail).is_some_and(|from| *settled >= *from));
    }
}

#[cfg(test)]
mod tests;
