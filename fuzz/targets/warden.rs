//! The deciding core against its rules written plainly: everything is kept as it came, and looked at anew each time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use banish::engine::ban::{Ban, Cause, End, JailName, Place};
use banish::engine::entry::EntryRef;
use banish::engine::jail::window::Failure;
use banish::engine::jail::{Action, Rules, Sighting};
use banish::engine::roster::State;
use banish::engine::subject::Subject;
use banish::engine::time::{Length, Stamp};
use banish::engine::warden::{BanOrder, Decision, Refusal, Warden};

use super::Dice;

const SECOND: u64 = 1_000_000;
const JAILS: [&str; 3] = ["a", "b", "manual"];

/// Each byte and those behind it are a step: what happens, to whom, and when.
pub fn run(data: &[u8]) {
    let mut dice = Dice(data);
    let mut world = World::default();
    world.configure(&mut dice);
    while !dice.is_empty() {
        world.step(&mut dice);
    }
}

struct World {
    warden: Warden,
    model: Model,
    now: Stamp,
    entries: u64,
}

impl Default for World {
    fn default() -> World {
        World { warden: Warden::new(), model: Model::default(), now: at(1000), entries: 0 }
    }
}

/// The rules in plain words.
#[derive(Default)]
struct Model {
    jails: BTreeMap<JailName, (Rules, Tallied)>,
    bans: BTreeMap<Place, (Ban, State)>,
    /// Beginning and end as decided of those that were moved.
    decided: BTreeMap<Place, (Stamp, Stamp)>,
    /// Failures up to here are settled.
    settled: BTreeMap<Place, Stamp>,
}

#[derive(Default)]
struct Tallied {
    /// Of each subject the failures not settled yet, at most `maxretry`, the latest.
    failures: BTreeMap<Subject, BTreeSet<Failure>>,
    failed: u64,
    allowed: u64,
    last: Stamp,
    bans: u64,
}

impl World {
    fn step(&mut self, dice: &mut Dice<'_>) {
        let step = dice.byte();
        match step % 16 {
            0..=5 => self.see(dice),
            6..=7 => {
                let sighting = self.sighting(dice);
                self.warden.feed(std::slice::from_ref(&sighting), self.now);
                self.model.count(&sighting);
            }
            8 => {
                let decisions = self.warden.evaluate(self.now);
                assert_eq!(decisions, self.model.evaluate(self.now));
            }
            9 => self.order_ban(dice),
            10 => self.order_unban(dice),
            11 => self.configure(dice),
            12 => self.adopt(dice),
            13 => {
                let told: Vec<Place> =
                    self.warden.confirm().iter().map(|decision| decision.ban().place.clone()).collect();
                assert_eq!(told, self.model.confirm());
            }
            14 => {
                // The clock is set back, or it was right.
                self.now = Stamp::from_usec(self.now.usec().saturating_sub(dice.below(256) as u64 * SECOND));
                self.warden.clock_was_set(self.now);
                self.model.clock_was_set(self.now);
            }
            _ => {
                let jail = jail(dice);
                self.warden.recount(&jail);
                if let Some((_, tallied)) = self.model.jails.get_mut(&jail) {
                    tallied.failures.clear();
                }
            }
        }
        // Some steps take long.
        let passes = u64::from(step / 16);
        self.now = Stamp::from_usec(self.now.usec() + passes * passes * SECOND);
        let ended = self.warden.expire(self.now);
        assert_eq!(ended, self.model.expire(self.now));
        self.compare();
    }

    fn see(&mut self, dice: &mut Dice<'_>) {
        let sightings: Vec<Sighting> = (0..1 + dice.below(3)).map(|_| self.sighting(dice)).collect();
        let decisions = self.warden.see(&sightings, self.now);
        let mut expected = Vec::new();
        for sighting in &sightings {
            let Some((place, failures)) = self.model.count(sighting) else { continue };
            let cause = Cause::Failures { decided: sighting.entry, evidence: entries(&failures) };
            expected.push(self.model.decide(place, &failures, cause, self.now));
        }
        assert_eq!(decisions, expected);
    }

    /// Mostly a new entry, now and then one that was seen before.
    fn sighting(&mut self, dice: &mut Dice<'_>) -> Sighting {
        let jail = jail(dice);
        let address = address(dice);
        let back = u64::from(dice.byte());
        let number = if back % 8 == 7 { self.entries / 2 } else { self.entries };
        self.entries += 1;
        let entry = EntryRef { seqnum_id: 1 + u128::from(back % 2), seqnum: number };
        let stamp = Stamp::from_usec(self.now.usec().saturating_sub(back / 4 * SECOND));
        Sighting { jail, address, stamp, entry }
    }

    fn order_ban(&mut self, dice: &mut Dice<'_>) {
        let subject = subject(dice);
        let flags = dice.byte();
        let order = BanOrder {
            subject,
            jail: jail(dice),
            length: [None, Some(Length::Permanent), Some(seconds(30)), Some(seconds(0))][usize::from(flags % 4)],
            reason: String::new(),
            uid: 7,
            force: flags & 4 != 0,
        };
        let protected = [("192.0.2.1".parse().unwrap(), "gateway")];
        let told = self.warden.order_ban(order.clone(), &protected, self.now);
        let Some((rules, tallied)) = self.model.jails.get_mut(&order.jail) else {
            assert!(matches!(told, Err(Refusal::NoSuchJail(_))));
            return;
        };
        if rules.action == Action::Log {
            assert!(matches!(told, Err(Refusal::OnlyReports(_))));
        } else if rules.allow.subjects().iter().any(|allowed| allowed.covers(&subject)) {
            assert!(matches!(told, Err(Refusal::Ignored { .. })));
        } else if subject.contains(protected[0].0) && !order.force {
            assert!(matches!(told, Err(Refusal::Protected { .. })));
        } else {
            tallied.failures.remove(&subject);
            tallied.bans += 1;
            let until = self.now.after(order.length.unwrap_or(rules.bantime));
            let place = Place { jail: order.jail, subject };
            let cause = Cause::Operator { uid: 7, reason: String::new() };
            let ban = Ban { place: place.clone(), since: self.now, until, failures: 0, cause };
            self.model.settled.insert(place.clone(), self.now);
            self.model.decided.remove(&place);
            self.model.bans.insert(place, (ban.clone(), State::Pending));
            assert_eq!(told, Ok(Decision::Ban(ban)));
        }
    }

    fn order_unban(&mut self, dice: &mut Dice<'_>) {
        let subject = subject(dice);
        let asked = dice.byte().is_multiple_of(2).then(|| jail(dice));
        let told = self.warden.order_unban(subject, asked.as_ref(), 7, self.now);
        if asked.as_ref().is_some_and(|jail| !self.model.jails.contains_key(jail)) {
            assert!(matches!(told, Err(Refusal::NoSuchJail(_))));
            return;
        }
        let meant = |place: &Place| {
            let prefix = self.model.jails.get(&place.jail).map_or(128, |(rules, _)| rules.ipv6_prefix);
            let counted = subject.is_host() && place.subject == Subject::counted(subject.network(), prefix);
            (subject.covers(&place.subject) || counted) && asked.as_ref().is_none_or(|jail| *jail == place.jail)
        };
        let places: BTreeSet<Place> = self.model.bans.keys().filter(|place| meant(place)).cloned().collect();
        match told {
            Err(refusal) => {
                assert!(matches!(refusal, Refusal::NotBanned { .. }));
                assert!(places.is_empty());
            }
            Ok(decisions) => {
                let lifted: BTreeSet<Place> = decisions.iter().map(|decision| decision.ban().place.clone()).collect();
                assert_eq!((lifted.len(), &lifted), (decisions.len(), &places));
                assert!(!lifted.is_empty());
                for place in lifted {
                    self.model.end(&place);
                    self.model.settled.insert(place, self.now);
                }
            }
        }
    }

    /// Some jails, by new rules, and what that ends.
    fn configure(&mut self, dice: &mut Dice<'_>) {
        let which = dice.byte();
        let jails: Vec<(JailName, Rules)> = JAILS
            .iter()
            .enumerate()
            .filter(|(at, _)| which & 1 << at == 0)
            .map(|(_, name)| (name.parse().unwrap(), rules(dice)))
            .collect();
        self.warden.configure(jails.clone());
        let mut earlier = std::mem::take(&mut self.model.jails);
        for (name, rules) in jails {
            let tallied = earlier.remove(&name).map(|(_, tallied)| tallied).unwrap_or_default();
            self.model.jails.insert(name, (rules, tallied));
        }
        let spared: BTreeSet<JailName> = (which & 8 != 0).then(|| JAILS[0].parse().unwrap()).into_iter().collect();
        let ended = self.warden.lift_unwanted(&spared, self.now);
        assert_eq!(ended, self.model.lift_unwanted(&spared, self.now));
    }

    fn adopt(&mut self, dice: &mut Dice<'_>) {
        let place = Place { jail: jail(dice), subject: subject(dice) };
        let until = self.now.after(seconds(1 + dice.below(200) as u64));
        let lifted: Vec<Ban> = dice
            .byte()
            .is_multiple_of(4)
            .then(|| Ban { place: place.clone(), since: self.now, until, failures: 0, cause: Cause::Adopted })
            .into_iter()
            .collect();
        let refused = self.warden.adopt([(place.clone(), until)], &lifted, &BTreeSet::new(), self.now);
        let wanted = self.model.jails.get(&place.jail).is_some_and(|(rules, _)| {
            lifted.is_empty() && !rules.allow.subjects().iter().any(|allowed| allowed.covers(&place.subject))
        });
        assert_eq!(refused.is_empty(), wanted);
        if wanted && !self.model.bans.contains_key(&place) {
            let ban = Ban { place: place.clone(), since: self.now, until, failures: 0, cause: Cause::Adopted };
            self.model.bans.insert(place, (ban, State::Provisional));
        }
    }

    fn compare(&self) {
        let held: Vec<(Ban, State)> = self.warden.roster().iter().map(|held| (held.ban.clone(), held.state)).collect();
        let expected: Vec<(Ban, State)> = self.model.bans.values().cloned().collect();
        assert_eq!(held, expected);
        let ends = expected.iter().map(|(ban, _)| ban.until).filter(|until| *until != Stamp::NEVER);
        assert_eq!(self.warden.deadline(), ends.min());
        for (place, settled) in &self.model.settled {
            assert_eq!(self.warden.counted_from(place), Some(*settled));
        }
        assert!(self.warden.jails().eq(self.model.jails.keys()));
        for (name, (_, tallied)) in &self.model.jails {
            let figures = self.warden.figures(name.as_str()).unwrap();
            let told = (figures.failures, figures.allowed, figures.last_failure, figures.bans, figures.failing);
            let failing = tallied.failures.len();
            assert_eq!(told, (tallied.failed, tallied.allowed, tallied.last, tallied.bans, failing), "{name}");
        }
    }
}

impl Model {
    /// The failures that make a ban, oldest first, if this one completes them.
    fn count(&mut self, sighting: &Sighting) -> Option<(Place, Vec<Failure>)> {
        let (rules, tallied) = self.jails.get_mut(&sighting.jail)?;
        if rules.allow.subjects().iter().any(|allowed| allowed.contains(sighting.address)) {
            tallied.allowed += 1;
            return None;
        }
        tallied.failed += 1;
        tallied.last = tallied.last.max(sighting.stamp);
        let subject = Subject::counted(sighting.address, rules.ipv6_prefix);
        let place = Place { jail: sighting.jail.clone(), subject };
        let banned = self.bans.get(&place).is_some_and(|(_, state)| *state != State::Provisional);
        if banned || self.settled.get(&place).is_some_and(|settled| sighting.stamp <= *settled) {
            return None;
        }
        let failures = tallied.failures.entry(subject).or_default();
        // An entry counts once; told with two times, the earlier one holds.
        let known = failures.iter().find(|known| known.entry == sighting.entry).copied();
        let stamp = known.map_or(sighting.stamp, |known| known.stamp.min(sighting.stamp));
        known.map(|known| failures.remove(&known));
        failures.insert(Failure { stamp, entry: sighting.entry });
        while failures.len() > rules.maxretry as usize {
            failures.pop_first();
        }
        Some((place, enough(failures, rules)?))
    }

    fn evaluate(&mut self, now: Stamp) -> Vec<Decision> {
        let mut due = Vec::new();
        for (name, (rules, tallied)) in &self.jails {
            for (subject, failures) in &tallied.failures {
                let Some(failures) = enough(failures, rules) else { continue };
                let allowed = rules.allow.subjects().iter().any(|allowed| allowed.covers(subject));
                let recent = now.since(failures.last().unwrap().stamp) <= rules.findtime;
                let until = failures.last().unwrap().stamp.after(rules.bantime);
                if !allowed && recent && until > now {
                    due.push((Place { jail: name.clone(), subject: *subject }, failures));
                }
            }
        }
        due.into_iter()
            .map(|(place, failures)| {
                let cause = Cause::Configuration { evidence: entries(&failures) };
                self.decide(place, &failures, cause, now)
            })
            .collect()
    }

    fn decide(&mut self, place: Place, failures: &[Failure], cause: Cause, now: Stamp) -> Decision {
        let (rules, tallied) = self.jails.get_mut(&place.jail).unwrap();
        tallied.failures.remove(&place.subject);
        tallied.bans += 1;
        let since = failures.last().unwrap().stamp;
        let until = since.after(rules.bantime);
        let ban = Ban { place: place.clone(), since, until, failures: failures.len() as u32, cause };
        let (settled, decision) = if rules.action == Action::Log {
            (until.min(since.after(Length::For(Duration::from_secs(24 * 3600)))), Decision::Report(ban))
        } else if until <= now {
            (until, Decision::Past(ban))
        } else {
            self.decided.remove(&place);
            self.bans.insert(place.clone(), (ban.clone(), State::Pending));
            (since, Decision::Ban(ban))
        };
        self.settled.insert(place, settled);
        decision
    }

    fn expire(&mut self, now: Stamp) -> Vec<Decision> {
        let mut over: Vec<Ban> =
            self.bans.values().map(|(ban, _)| ban.clone()).filter(|ban| ban.until <= now).collect();
        over.sort_by(|one, other| (one.until, &one.place).cmp(&(other.until, &other.place)));
        over.into_iter()
            .map(|ban| {
                self.settled.insert(ban.place.clone(), ban.until);
                Decision::End { ban: self.end(&ban.place), end: End::Expired, at: ban.until }
            })
            .collect()
    }

    /// Takes a ban out, as it was decided.
    fn end(&mut self, place: &Place) -> Ban {
        let (ban, _) = self.bans.remove(place).unwrap();
        let (since, until) = self.decided.remove(place).unwrap_or((ban.since, ban.until));
        Ban { since, until, ..ban }
    }

    fn lift_unwanted(&mut self, spared: &BTreeSet<JailName>, now: Stamp) -> Vec<Decision> {
        let unwanted = |place: &Place| match self.jails.get(&place.jail) {
            Some((rules, _)) => {
                rules.action == Action::Log || rules.allow.subjects().iter().any(|a| a.covers(&place.subject))
            }
            None => !spared.contains(&place.jail),
        };
        let places: Vec<Place> = self.bans.keys().filter(|place| unwanted(place)).cloned().collect();
        places
            .into_iter()
            .map(|place| {
                let ban = self.end(&place);
                self.settled.insert(place, now);
                Decision::End { ban, end: End::Configuration, at: now }
            })
            .collect()
    }

    fn confirm(&mut self) -> Vec<Place> {
        let mut confirmed = Vec::new();
        for (place, (_, state)) in &mut self.bans {
            if *state == State::Provisional {
                *state = State::Banned;
                confirmed.push(place.clone());
                if let Some((_, tallied)) = self.jails.get_mut(&place.jail) {
                    tallied.bans += 1;
                }
            }
        }
        confirmed
    }

    /// Nothing that is known lies after `now`, and no ban lasts longer from here than it was meant to.
    fn clock_was_set(&mut self, now: Stamp) {
        for (_, tallied) in self.jails.values_mut() {
            tallied.last = tallied.last.min(now);
            for failures in tallied.failures.values_mut() {
                *failures = failures.iter().map(|one| Failure { stamp: one.stamp.min(now), ..*one }).collect();
            }
        }
        self.settled.values_mut().for_each(|settled| *settled = (*settled).min(now));
        for (place, (ban, state)) in &mut self.bans {
            let decided = self.decided.get(place).copied();
            if ban.since <= now && decided.is_none_or(|(since, _)| since > now) {
                continue;
            }
            self.decided.remove(place);
            let (since, until) = decided.unwrap_or((ban.since, ban.until));
            (ban.since, ban.until) = (since, until);
            if since > now {
                if *state != State::Provisional {
                    self.decided.insert(place.clone(), (since, until));
                }
                ban.since = now;
                if until != Stamp::NEVER {
                    ban.until = now.after(Length::For(until.since(since)));
                }
            }
        }
    }
}

/// The failures within `findtime` up to the newest, if they are `maxretry`.
fn enough(failures: &BTreeSet<Failure>, rules: &Rules) -> Option<Vec<Failure>> {
    let newest = failures.last()?.stamp;
    let near: Vec<Failure> =
        failures.iter().copied().filter(|failure| newest.since(failure.stamp) <= rules.findtime).collect();
    (near.len() >= rules.maxretry as usize).then_some(near)
}

fn entries(failures: &[Failure]) -> Vec<EntryRef> {
    failures.iter().map(|failure| failure.entry).collect()
}

fn at(second: u64) -> Stamp {
    Stamp::from_usec(second * SECOND)
}

fn seconds(count: u64) -> Length {
    Length::For(Duration::from_secs(count))
}

fn jail(dice: &mut Dice<'_>) -> JailName {
    JAILS[dice.below(JAILS.len())].parse().unwrap()
}

/// Few, so that they meet.
fn address(dice: &mut Dice<'_>) -> IpAddr {
    match dice.below(8) {
        low @ 0..4 => IpAddr::from([192, 0, 2, low as u8]),
        low => Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | (low as u128 & 1) << 64 | (low as u128 >> 1)).into(),
    }
}

fn subject(dice: &mut Dice<'_>) -> Subject {
    let address = address(dice);
    let cut = [0, 2, 8, 64][dice.below(4)];
    let bits = if address.is_ipv4() { 32 } else { 128u8 };
    Subject::around(address, bits.saturating_sub(cut).max(1)).unwrap()
}

fn rules(dice: &mut Dice<'_>) -> Rules {
    let flags = dice.byte();
    Rules {
        maxretry: 1 + u32::from(flags % 4),
        findtime: Duration::from_secs(10 * u64::from(flags / 4 % 4)),
        bantime: [seconds(20), seconds(200), Length::Permanent, seconds(0)][usize::from(flags / 16 % 4)],
        action: if flags & 64 != 0 { Action::Log } else { Action::Drop },
        ipv6_prefix: if flags & 128 != 0 { 128 } else { 64 },
        allow: (0..dice.below(2)).map(|_| subject(dice)).collect(),
    }
}
