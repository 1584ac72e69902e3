//! The bans in force, by place and by the instant they end; at most one for each place.
//!
//! What a ban rests on goes to the ledger with the decision and is not kept here beyond that: of a hundred thousand bans it
//! would take as much room again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;

use super::ban::{Ban, JailName, Place};
use super::subject::Subject;
use super::time::{Length, Stamp};

/// How far a ban has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The kernel drops the subject's packets and the ledger knows.
    Banned,
    /// The kernel has not taken it yet; it is tried again.
    Pending,
    /// The kernel has it, the ledger could not be written.
    Unsaved,
    /// Found in the kernel at a start; it is confirmed once the journal has been read to its end.
    Provisional,
}

impl State {
    /// The word for it on the bus: `banned`, `pending`, `unsaved`; a provisional ban is `banned` for everybody outside.
    pub fn word(self) -> &'static str {
        match self {
            State::Banned | State::Provisional => "banned",
            State::Pending => "pending",
            State::Unsaved => "unsaved",
        }
    }
}

/// A ban in force and how far it has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The ban; without its evidence once it is [`State::Banned`].
    pub ban: Ban,
    /// Its state.
    pub state: State,
    /// Its beginning and end as decided, where they were moved since.
    decided: Option<(Stamp, Stamp)>,
}

impl Held {
    fn new(ban: Ban, state: State) -> Held {
        let mut held = Held { ban, state, decided: None };
        held.get_to(state);
        held
    }

    /// The ban as it was decided: what tells it from others in the ledger.
    pub fn decided(self) -> Ban {
        let (since, until) = self.decided.unwrap_or((self.ban.since, self.ban.until));
        Ban { since, until, ..self.ban }
    }

    fn get_to(&mut self, state: State) {
        self.state = state;
        if state == State::Banned {
            self.ban.cause.forget_evidence();
        }
    }
}

/// The bans in force.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Roster {
    held: BTreeMap<Place, Held>,
    /// How many of them each jail has; none that has none.
    counts: BTreeMap<JailName, usize>,
    ends: BTreeSet<(Stamp, Place)>,
}

impl Roster {
    /// Puts `ban` in force, in place of any earlier one of its place, which is given back.
    pub fn put(&mut self, ban: Ban, state: State) -> Option<Held> {
        let earlier = self.remove(&ban.place.clone());
        if ban.until != Stamp::NEVER {
            self.ends.insert((ban.until, ban.place.clone()));
        }
        *self.counts.entry(ban.place.jail.clone()).or_default() += 1;
        self.held.insert(ban.place.clone(), Held::new(ban, state));
        earlier
    }

    /// Puts many in force at once, the later of the same place in place of the earlier: a fraction of the time that one
    /// after the other would take.
    pub fn fill(&mut self, bans: impl IntoIterator<Item = Ban>, state: State) {
        // They come from a file, each with a copy of its jail's name.
        let mut names: BTreeSet<JailName> = BTreeSet::new();
        let mut held = Vec::new();
        for mut ban in bans {
            match names.get(&ban.place.jail) {
                Some(name) => ban.place.jail = name.clone(),
                None => drop(names.insert(ban.place.jail.clone())),
            }
            held.push((ban.place.clone(), Held::new(ban, state)));
        }
        self.held.append(&mut held.into_iter().collect());
        let timed = self.held.values().map(|held| &held.ban).filter(|ban| ban.until != Stamp::NEVER);
        self.ends = timed.map(|ban| (ban.until, ban.place.clone())).collect();
        self.counts.clear();
        for place in self.held.keys() {
            match self.counts.get_mut(&place.jail) {
                Some(count) => *count += 1,
                None => drop(self.counts.insert(place.jail.clone(), 1)),
            }
        }
    }

    /// Takes the ban of `place` out.
    pub fn remove(&mut self, place: &Place) -> Option<Held> {
        let held = self.held.remove(place)?;
        self.ends.remove(&(held.ban.until, place.clone()));
        if let Some(count) = self.counts.get_mut(&place.jail) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&place.jail);
            }
        }
        Some(held)
    }

    /// The ban of `place`.
    pub fn at(&self, place: &Place) -> Option<&Held> {
        self.held.get(place)
    }

    /// Notes how far the ban of `place` has got, if it is still in force.
    pub fn mark(&mut self, place: &Place, state: State) {
        if let Some(held) = self.held.get_mut(place) {
            held.get_to(state);
        }
    }

    /// Lets no ban begin after `now`: one that would begins then and lasts as long as it was meant to. One that was moved
    /// so before goes back to its own time when that has come.
    pub fn not_after(&mut self, now: Stamp) {
        let concerned = |held: &&Held| held.ban.since > now || held.decided.is_some_and(|(since, _)| since <= now);
        let concerned: Vec<Held> = self.held.values().filter(concerned).cloned().collect();
        for held in concerned {
            let state = held.state;
            let ban = held.decided();
            let (since, until) = (ban.since, ban.until);
            if since <= now {
                self.put(ban, state);
                continue;
            }
            let length = if until == Stamp::NEVER { Length::Permanent } else { Length::For(until.since(since)) };
            let place = ban.place.clone();
            self.put(Ban { since: now, until: now.after(length), ..ban }, state);
            // One that is to be confirmed is in no ledger yet.
            if let Some(moved) = self.held.get_mut(&place).filter(|_| state != State::Provisional) {
                moved.decided = Some((since, until));
            }
        }
    }

    /// Takes out one ban that ended at or before `now`, the earliest first.
    pub fn take_ended(&mut self, now: Stamp) -> Option<Held> {
        let (until, place) = self.ends.first()?.clone();
        if until > now { None } else { self.remove(&place) }
    }

    /// When the next ban ends.
    pub fn next_end(&self) -> Option<Stamp> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// All bans, by jail and subject.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    /// The bans behind `after`, by jail and subject.
    pub fn after(&self, after: Option<&Place>) -> impl Iterator<Item = &Held> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.held.range::<Place, _>((from, Bound::Unbounded)).map(|(_, held)| held)
    }

    /// How many bans a jail has: asked for each of many jails, however many bans there are.
    pub fn count_of(&self, jail: &JailName) -> usize {
        self.counts.get(jail).copied().unwrap_or(0)
    }

    /// The bans whose subject contains `address`.
    pub fn containing(&self, address: IpAddr) -> impl Iterator<Item = &Held> {
        self.held.values().filter(move |held| held.ban.place.subject.contains(address))
    }

    /// The bans whose subject lies in `subject` or is it.
    pub fn within(&self, subject: Subject) -> impl Iterator<Item = &Held> {
        self.held.values().filter(move |held| subject.covers(&held.ban.place.subject))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ban::Cause;
    use crate::engine::entry::EntryRef;

    fn ban(subject: &str, until: Stamp) -> Ban {
        let place = Place { jail: JailName::manual(), subject: subject.parse().unwrap() };
        Ban { place, since: Stamp::EPOCH, until, failures: 0, cause: Cause::Adopted }
    }

    #[test]
    fn bans_end_in_the_order_of_their_ends_and_permanent_ones_never() {
        let mut roster = Roster::default();
        roster.put(ban("192.0.2.3", Stamp::NEVER), State::Banned);
        roster.put(ban("192.0.2.2", Stamp::from_usec(20)), State::Banned);
        roster.put(ban("192.0.2.1", Stamp::from_usec(10)), State::Banned);
        assert_eq!(roster.next_end(), Some(Stamp::from_usec(10)));
        let mut ended = Vec::new();
        while let Some(held) = roster.take_ended(Stamp::from_usec(20)) {
            ended.push(held.ban.place.subject.to_string());
        }
        assert_eq!(ended, ["192.0.2.1", "192.0.2.2"]);
        assert_eq!((roster.len(), roster.next_end()), (1, None));
    }

    #[test]
    fn the_bans_of_a_jail_are_counted_as_they_come_and_go() {
        let (mut roster, other) = (Roster::default(), "other".parse::<JailName>().unwrap());
        let counts = |roster: &Roster| (roster.count_of(&JailName::manual()), roster.count_of(&other));
        let elsewhere = |subject: &str| {
            let ban = ban(subject, Stamp::from_usec(10));
            Ban { place: Place { jail: other.clone(), ..ban.place }, ..ban }
        };
        roster.put(ban("192.0.2.1", Stamp::from_usec(10)), State::Banned);
        roster.put(ban("192.0.2.1", Stamp::from_usec(90)), State::Banned);
        roster.put(ban("192.0.2.2", Stamp::from_usec(10)), State::Banned);
        roster.put(elsewhere("192.0.2.1"), State::Banned);
        assert_eq!(counts(&roster), (2, 1));
        roster.not_after(Stamp::EPOCH);
        roster.remove(&elsewhere("192.0.2.1").place);
        roster.remove(&elsewhere("192.0.2.1").place);
        assert_eq!(counts(&roster), (2, 0));
        while roster.take_ended(Stamp::from_usec(10)).is_some() {}
        assert_eq!((counts(&roster), roster.len()), ((1, 0), 1));
    }

    #[test]
    fn many_at_once_are_as_one_after_the_other() {
        let bans = || {
            let other = |ban: Ban| Ban { place: Place { jail: "other".parse().unwrap(), ..ban.place }, ..ban };
            let ends = [Stamp::from_usec(30), Stamp::NEVER, Stamp::from_usec(20), Stamp::from_usec(10)];
            let subjects = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"];
            let bans = subjects.into_iter().zip(ends).map(|(subject, until)| ban(subject, until));
            bans.chain([other(ban("192.0.2.1", Stamp::from_usec(20)))])
        };
        let (mut one_by_one, mut at_once) = (Roster::default(), Roster::default());
        for roster in [&mut one_by_one, &mut at_once] {
            roster.put(ban("192.0.2.2", Stamp::from_usec(5)), State::Pending);
            roster.put(ban("192.0.2.9", Stamp::from_usec(5)), State::Pending);
        }
        bans().for_each(|ban| drop(one_by_one.put(ban, State::Banned)));
        at_once.fill(bans(), State::Banned);
        assert_eq!(at_once, one_by_one);
        assert_eq!(at_once.count_of(&JailName::manual()), 4);
    }

    #[test]
    fn evidence_is_kept_until_the_ledger_has_it() {
        let mut roster = Roster::default();
        let entry = EntryRef { seqnum_id: 1, seqnum: 2 };
        let cause = Cause::Failures { decided: entry, evidence: vec![entry; 5] };
        let ban = Ban { cause, ..ban("192.0.2.1", Stamp::NEVER) };
        let place = ban.place.clone();
        let evidence = |roster: &Roster| roster.at(&place).unwrap().ban.cause.evidence().len();
        roster.put(ban, State::Pending);
        roster.mark(&place, State::Unsaved);
        assert_eq!(evidence(&roster), 5);
        roster.mark(&place, State::Banned);
        assert_eq!(evidence(&roster), 0);
        assert!(matches!(&roster.at(&place).unwrap().ban.cause, Cause::Failures { decided, .. } if *decided == entry));
    }

    #[test]
    fn a_later_ban_of_the_same_place_takes_over() {
        let mut roster = Roster::default();
        roster.put(ban("192.0.2.1", Stamp::from_usec(10)), State::Banned);
        let earlier = roster.put(ban("192.0.2.1", Stamp::from_usec(90)), State::Banned);
        assert_eq!(earlier.map(|held| held.ban.until), Some(Stamp::from_usec(10)));
        assert!(roster.take_ended(Stamp::from_usec(50)).is_none());
        assert_eq!(roster.len(), 1);
    }
}
