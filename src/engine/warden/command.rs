//! What an operator may order, and what is refused by name.

use std::collections::BTreeSet;

use super::{Decision, Warden};
use crate::engine::ban::{Ban, Cause, End, JailName, Place};
use crate::engine::jail::pause::Pause;
use crate::engine::jail::{Action, Sighting};
use crate::engine::reserved;
use crate::engine::roster::{Held, State};
use crate::engine::subject::Subject;
use crate::engine::time::{Length, Stamp};

/// An order to ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanOrder {
    /// Whom, exactly as given: a command is not widened to a prefix.
    pub subject: Subject,
    /// In which jail; [`JailName::manual`] for all ports.
    pub jail: JailName,
    /// For how long; the jail's own length where not given.
    pub length: Option<Length>,
    /// Why, in the caller's words.
    pub reason: String,
    /// The caller's user id.
    pub uid: u32,
    /// Do it even though it cuts off something this machine needs.
    pub force: bool,
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such jail, or it is not enabled.
    #[error("there is no jail {0}")]
    NoSuchJail(JailName),
    /// Nothing to lift.
    #[error("{subject} is not banned{hint}")]
    NotBanned {
        /// Who was named.
        subject: Subject,
        /// What covers it and would have to be named, if anything does.
        hint: String,
    },
    /// The subject is on the jail's allow list.
    #[error("{subject} is allowed by the ignoreip of jail {jail}")]
    Ignored {
        /// Who was named.
        subject: Subject,
        /// The jail.
        jail: JailName,
    },
    /// The subject contains an address that this machine cannot do without.
    #[error("{subject} contains {address}, which this machine needs ({role}); say force to ban it all the same")]
    Protected {
        /// Who was named.
        subject: Subject,
        /// What it contains.
        address: std::net::IpAddr,
        /// What that address is to this machine.
        role: &'static str,
    },
    /// The subject contains what no other host has, or far too many.
    #[error("{subject} contains addresses of {what}; say force to ban it all the same")]
    Reserved {
        /// Who was named.
        subject: Subject,
        /// Whose these are.
        what: &'static str,
    },
    /// The jail bans nobody: its action is to log.
    #[error("jail {0} only reports (action = \"log\")")]
    OnlyReports(JailName),
    /// The jail counts nothing at present.
    #[error("jail {0} is paused")]
    Paused(JailName),
    /// The jail is for bans by hand and counts nothing at all.
    #[error("jail {0} counts no failures")]
    CountsNothing(JailName),
}

impl Warden {
    /// Bans at an operator's word. `protected` are the addresses that this machine needs, with what they are to it.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has changed then.
    pub fn order_ban(
        &mut self,
        order: BanOrder,
        protected: &[(std::net::IpAddr, &'static str)],
        now: Stamp,
    ) -> Result<Decision, Refusal> {
        let BanOrder { subject, jail: name, length, reason, uid, force } = order;
        let Some(jail) = self.jails.get_mut(&name) else { return Err(Refusal::NoSuchJail(name)) };
        if jail.rules.action == Action::Log {
            return Err(Refusal::OnlyReports(name));
        }
        if jail.rules.allow.covers(&subject) {
            return Err(Refusal::Ignored { subject, jail: name });
        }
        let needed = protected.iter().find(|(address, _)| subject.contains(*address));
        if let (Some((address, role)), false) = (needed, force) {
            return Err(Refusal::Protected { subject, address: *address, role });
        }
        if let (Some(what), false) = (reserved::held_by(&subject), force) {
            return Err(Refusal::Reserved { subject, what });
        }
        jail.tally.forget(&subject);
        jail.bans += 1;
        let until = now.after(length.unwrap_or(jail.rules.bantime));
        let place = Place { jail: name, subject };
        self.counted_from.insert(place.clone(), now);
        let ban = Ban { place, since: now, until, failures: 0, cause: Cause::Operator { uid, reason } };
        self.roster.put(ban.clone(), State::Pending);
        Ok(Decision::Ban(ban))
    }

    /// Lifts the bans of `subject` in one jail, or in all. For a single address that is the ban of the address and of
    /// the prefix it is counted by; for a prefix every ban within it. A wider ban has to be named itself.
    ///
    /// # Errors
    /// [`Refusal::NoSuchJail`], [`Refusal::NotBanned`].
    pub fn order_unban(
        &mut self,
        subject: Subject,
        jail: Option<&JailName>,
        uid: u32,
        now: Stamp,
    ) -> Result<Vec<Decision>, Refusal> {
        self.known(jail)?;
        let asked = |place: &Place| jail.is_none_or(|jail| *jail == place.jail);
        let mut places: Vec<Place> = self.roster.within(subject).map(|held| held.ban.place.clone()).collect();
        if subject.is_host() {
            let counted = self.roster.containing(subject.network()).map(|held| &held.ban.place).filter(|place| {
                let prefix = self.jails.get(&place.jail).map_or(128, |jail| jail.rules.ipv6_prefix);
                place.subject != subject && place.subject == Subject::counted(subject.network(), prefix)
            });
            places.extend(counted.cloned());
        }
        places.retain(asked);
        if places.is_empty() {
            let wider =
                self.roster.containing(subject.network()).map(|held| &held.ban.place).find(|place| asked(place));
            let hint = wider.map(|place| format!("; it lies in {place}, which has to be named itself"));
            return Err(Refusal::NotBanned { subject, hint: hint.unwrap_or_default() });
        }
        Ok(places.iter().filter_map(|place| self.end(place, End::Operator { uid }, now)).collect())
    }

    /// Lifts every ban of one jail, or of all.
    ///
    /// # Errors
    /// [`Refusal::NoSuchJail`].
    pub fn order_unban_all(&mut self, jail: Option<&JailName>, uid: u32, now: Stamp) -> Result<Vec<Decision>, Refusal> {
        self.known(jail)?;
        let places: Vec<Place> = self
            .roster
            .iter()
            .map(|held| &held.ban.place)
            .filter(|place| jail.is_none_or(|jail| *jail == place.jail))
            .cloned()
            .collect();
        Ok(places.iter().filter_map(|place| self.end(place, End::Operator { uid }, now)).collect())
    }

    /// Forgets the failures counted so far of `subject` in all jails. For a single address those are the address's own and
    /// those of the prefix it is counted by; for a prefix those of every subject within it. Bans stay.
    ///
    /// Gives the places from which on to count anew, and how many of them had failures.
    pub fn order_forget(&mut self, subject: Subject, now: Stamp) -> (Vec<(Place, Stamp)>, u32) {
        let mut places = Vec::new();
        let mut had = 0;
        for (name, jail) in &mut self.jails {
            let own = subject.is_host().then(|| Subject::counted(subject.network(), jail.rules.ipv6_prefix));
            let known = jail.tally.subjects().filter(|known| subject.covers(known) || own == Some(*known));
            let known: BTreeSet<Subject> = known.collect();
            had += u32::try_from(known.len()).unwrap_or(u32::MAX);
            known.iter().for_each(|known| jail.tally.forget(known));
            // What is in the journal and has not been read yet is forgotten too, as far as we know whose it will be.
            let counts = *name != JailName::manual();
            let all: BTreeSet<Subject> = known.into_iter().chain(own.filter(|_| counts)).collect();
            places.extend(all.into_iter().map(|subject| Place { jail: name.clone(), subject }));
        }
        for place in &places {
            let settled = self.counted_from.entry(place.clone()).or_insert(now);
            *settled = now.max(*settled);
        }
        (places.into_iter().map(|place| (place, now)).collect(), had)
    }

    /// Stops a jail from counting what is logged from now on, for so long or until [`Warden::order_resume`]. Gives the
    /// pause that it takes the place of, with its new end, and the new one.
    ///
    /// # Errors
    /// [`Refusal::NoSuchJail`].
    pub fn order_pause(
        &mut self,
        jail: &JailName,
        length: Length,
        now: Stamp,
    ) -> Result<(Option<Pause>, Pause), Refusal> {
        self.known(Some(jail))?;
        let ended = self.pauses.end(jail, now);
        let pause = Pause { jail: jail.clone(), since: now, until: now.after(length) };
        self.pauses.begin(pause.clone());
        Ok((ended, pause))
    }

    /// Lets a jail count again; the pause with its new end, `None` where there was none.
    ///
    /// # Errors
    /// [`Refusal::NoSuchJail`].
    pub fn order_resume(&mut self, jail: &JailName, now: Stamp) -> Result<Option<Pause>, Refusal> {
        self.known(Some(jail))?;
        Ok(self.pauses.end(jail, now))
    }

    /// Counts a failure that a program reports. `None` where it bans nobody, for now or because it is banned already.
    ///
    /// # Errors
    /// [`Refusal::NoSuchJail`], [`Refusal::CountsNothing`], [`Refusal::Paused`], [`Refusal::Ignored`].
    pub fn order_attempt(&mut self, attempt: &Sighting, now: Stamp) -> Result<Option<Decision>, Refusal> {
        let name = &attempt.jail;
        let Some(jail) = self.jails.get(name) else { return Err(Refusal::NoSuchJail(name.clone())) };
        if *name == JailName::manual() {
            return Err(Refusal::CountsNothing(name.clone()));
        }
        if self.pauses.covers(name, attempt.stamp) {
            return Err(Refusal::Paused(name.clone()));
        }
        if jail.rules.allow.contains(attempt.address) {
            return Err(Refusal::Ignored { subject: Subject::host(attempt.address), jail: name.clone() });
        }
        Ok(self.see(std::slice::from_ref(attempt), now).pop())
    }

    /// The ban that holds `address` back in `jail`, if there is one.
    pub fn ban_of_address(&self, jail: &JailName, address: std::net::IpAddr) -> Option<&Held> {
        let rules = self.rules(jail.as_str())?;
        let subjects = [Subject::counted(address, rules.ipv6_prefix), Subject::host(address)];
        subjects.into_iter().find_map(|subject| self.roster.at(&Place { jail: jail.clone(), subject }))
    }

    fn known(&self, jail: Option<&JailName>) -> Result<(), Refusal> {
        match jail {
            Some(jail) if !self.jails.contains_key(jail) => Err(Refusal::NoSuchJail(jail.clone())),
            _ => Ok(()),
        }
    }
}
