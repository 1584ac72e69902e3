//! What an operator may order, and what is refused by name.

use super::{Decision, Warden};
use crate::engine::ban::{Ban, Cause, End, JailName, Place};
use crate::engine::jail::Action;
use crate::engine::roster::State;
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
    /// The jail bans nobody: its action is to log.
    #[error("jail {0} only reports (action = \"log\")")]
    OnlyReports(JailName),
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

    fn known(&self, jail: Option<&JailName>) -> Result<(), Refusal> {
        match jail {
            Some(jail) if !self.jails.contains_key(jail) => Err(Refusal::NoSuchJail(jail.clone())),
            _ => Ok(()),
        }
    }
}
