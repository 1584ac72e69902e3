//! How the keeper writes: what goes into a transaction, in which order, and what a refusal of it means.
//!
//! Order in a batch: what goes (rules and the contents of maps, then chains, then sets, as each is used by the one before),
//! then what comes (sets with their elements, then chains with their rules, as a rule names both, then the contents of maps,
//! as they name chains).

use std::collections::{BTreeMap, BTreeSet};

use rustables::MsgType;

use super::batch::{About, Batch, Elements, Entry};
use super::elements::{Element, Now, Timeout};
use super::keeper::{INCREMENT, Keeper, Lack};
use super::kernel::Kernel;
use super::link::{Failure, FirewallError, Refusal, Refused};
use super::name::BanSet;
use super::own::{Ours, ROOM};
use super::rules;
use super::survey::{self, SetKind, Survey, TableFound};
use super::table::Layout;
use crate::engine::ban::Place;
use crate::engine::jail::Action;
use crate::engine::subject::Family;

/// A batch of so many elements may be heard by ourselves.
const LOUD: usize = 100;

impl Keeper {
    /// Table, rules and all bans in one transaction.
    pub(super) fn write_anew(&mut self, bans: &[Element], now: Now) -> Result<(), FirewallError> {
        let used = self.used(bans, now);
        let bans = by_set(bans, now);
        let hosts = self.hosts(bans.iter().map(|(set, entries)| (set, entries.as_slice())));
        self.note_published(&hosts);
        let mut ours = self.ours(&hosts);
        for family in [Family::V4, Family::V6] {
            // Those that are listed already have their times.
            let listed = survey::ours(&mut self.link, family).map_err(FirewallError::Socket)?;
            ours.entry(family).or_default().extend(listed);
        }
        let contents = Contents { bans, ours };
        self.structure_filled(&used, contents, now, |keeper, batch, filled| {
            let table = rules::table(0);
            if keeper.kernel.destroy {
                batch.destroy_table();
            } else {
                batch.object(&table, MsgType::Add, About::Table);
                batch.object(&table, MsgType::Del, About::Table);
            }
            batch.object(&rules::table(keeper.flags()), MsgType::Add, About::Table);
            keeper.around(batch, &Survey::default(), filled, now);
        })?;
        self.keep(&hosts);
        Ok(())
    }

    /// Rules anew around the sets that are there; the whole table anew where it is not as we know it.
    pub(super) fn write_around(&mut self, survey: &Survey, bans: &[Element], now: Now) -> Result<(), FirewallError> {
        let used = self.used(bans, now);
        self.write_around_used(survey, bans, &used, now)
    }

    pub(super) fn write_around_used(
        &mut self,
        survey: &Survey,
        bans: &[Element],
        used: &BTreeSet<BanSet>,
        now: Now,
    ) -> Result<(), FirewallError> {
        if survey.table.map(|TableFound { flags, .. }| flags) != Some(self.flags()) {
            return self.write_anew(bans, now);
        }
        let around = |keeper: &Keeper, batch: &mut Batch, filled: &_| keeper.around(batch, survey, filled, now);
        let contents = by_set(bans, now);
        let hosts = self.hosts(contents.iter().map(|(set, entries)| (set, entries.as_slice())));
        self.note_published(&hosts);
        let contents = Contents { bans: contents, ours: self.keep(&hosts) };
        match self.structure_filled(used, contents, now, around) {
            Ok(()) => {
                self.keep(&hosts);
                Ok(())
            }
            // Somebody put something into the table that stands in the way, or took away what was just there.
            Err(FirewallError::Refused(Refused { errno: libc::EBUSY | libc::ENOENT | libc::EEXIST, .. })) => {
                self.write_anew(bans, now)
            }
            other => other,
        }
    }

    /// Commits what `fill` makes of new sets and their bans as one transaction. Where the socket cannot be given a buffer
    /// for all of it, which in a user namespace nobody may have, the bans follow in increments.
    fn structure_filled(
        &mut self,
        used: &BTreeSet<BanSet>,
        filled: Contents,
        now: Now,
        fill: impl Fn(&Keeper, &mut Batch, &Contents),
    ) -> Result<(), FirewallError> {
        match self.structure(used, |keeper, batch| fill(keeper, batch, &filled)) {
            Err(FirewallError::Socket(error)) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                self.structure(used, |keeper, batch| fill(keeper, batch, &Contents::default()))?;
                for (set, put) in filled.bans {
                    if self.layout.bans.contains(&set) {
                        self.mend(&set, &Edits { put, remove: Vec::new() }, now)?;
                    }
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Commits what `fill` puts into a batch for the layout of `used`. Where the kernel lacks something, that is noted
    /// and the batch is made again without it.
    pub(super) fn structure(
        &mut self,
        used: &BTreeSet<BanSet>,
        fill: impl Fn(&Keeper, &mut Batch),
    ) -> Result<(), FirewallError> {
        let before = self.layout.clone();
        loop {
            self.lay_out(used);
            let mut batch = Batch::new();
            fill(self, &mut batch);
            match self.commit(batch) {
                Ok(()) => break,
                Err(failure) if self.learn(&failure) => {}
                Err(failure) => {
                    (self.layout, self.served) = (before, None);
                    return Err(self.explain(failure));
                }
            }
        }
        if !self.kernel.reject && self.policy.jails.iter().any(|jail| jail.action == Action::Reject) {
            self.lacks.insert(Lack::Reject);
        }
        if !self.kernel.owner && self.policy.owner {
            self.lacks.insert(Lack::Owner);
        }
        // Without one the next audit writes the rules anew.
        self.fingerprint = Survey::take(&mut self.link).ok().map(|survey| survey.fingerprint);
        Ok(())
    }

    /// The layout of `used`, and the ports of the UDP servers that there are now.
    fn lay_out(&mut self, used: &BTreeSet<BanSet>) {
        self.layout = Layout::new(&self.policy, used, self.kernel.reject, self.sockets.is_some());
        if self.layout.served {
            self.served = self.servers();
            if self.served.is_none() {
                self.layout = Layout::new(&self.policy, used, self.kernel.reject, false);
            }
        }
    }

    /// Sends a batch. The kernel makes a page of notification for each element, all of them kept until the end, as soon as
    /// anybody listens; so we do not listen to our own big transactions. Whether somebody else's fell into that time,
    /// which the count of all transactions tells, is told as an overrun.
    pub(super) fn commit(&mut self, batch: Batch) -> Result<(), Failure> {
        let quiet = batch.size() > LOUD;
        let before = if quiet { self.link.generation().map_err(Failure::Socket)? } else { None };
        let left = quiet && self.watch.as_ref().is_some_and(|watch| watch.leave().is_ok());
        let result = self.link.commit(batch);
        if left {
            let joined = self.watch.as_ref().is_some_and(|watch| watch.join().is_ok());
            let after = self.link.generation().ok().flatten();
            let ours = u32::from(result.is_ok());
            let alone = before.map(|before| before.wrapping_add(ours)) == after;
            self.missed |= !joined || !alone || after.is_none();
        }
        result
    }

    /// Was it refused for something that this kernel does not do and that we can do without?
    fn learn(&mut self, failure: &Failure) -> bool {
        let Failure::Refused(refusals) = failure else { return false };
        match lack(refusals, self.kernel, self.flags() != 0) {
            Some(Lack::Reject) => self.kernel.reject = false,
            Some(Lack::Owner) => self.kernel.owner = false,
            Some(Lack::Sockets) | None => return false,
        }
        true
    }

    /// Everything but the bans and own connections that are there: what `survey` found is taken away, the layout is put in
    /// its place. New sets are filled from `contents`.
    pub(super) fn around(&self, batch: &mut Batch, survey: &Survey, contents: &Contents, now: Now) {
        if !survey.chains.is_empty() {
            batch.flush_rules();
        }
        // A chain cannot go while a map leads to it.
        for found in survey.sets.iter().filter(|found| found.map) {
            batch.empty_set(&found.name);
        }
        for chain in &survey.chains {
            batch.object(&rules::chain_named(chain), MsgType::Del, About::Structure(format!("the chain {chain}")));
        }
        let mut kept = BTreeSet::new();
        let mut kept_ours = BTreeSet::new();
        for found in &survey.sets {
            match &found.kind {
                SetKind::Bans(set) if self.layout.bans.contains(set) => drop(kept.insert(set)),
                SetKind::Ours(family) if self.layout.ours.contains(family) => drop(kept_ours.insert(*family)),
                _ => batch.delete_set(&found.name),
            }
        }
        let mut ids = 1..;
        let mut id = || ids.next().unwrap_or(u32::MAX);
        for set in self.layout.bans.iter().filter(|set| !kept.contains(set)) {
            let about = About::Structure(format!("the set {}", set.name()));
            batch.object(&rules::ban_set(set, id()), MsgType::Add, about);
            if let Some(entries) = contents.bans.get(set) {
                batch.bans(set, Elements::Add, entries, now);
            }
        }
        for family in self.layout.ours.difference(&kept_ours).copied() {
            batch.connections_set(family, id());
            let ours = contents.ours.get(&family).map_or(&[][..], Vec::as_slice);
            batch.connections(family, &ours[..ours.len().min(ROOM)]);
        }
        if self.layout.served {
            batch.served_set(id());
            batch.served(self.served.as_ref().unwrap_or(&BTreeSet::new()));
        }
        for (name, intervals) in &self.layout.intervals {
            let about = About::Structure(format!("the set {name}"));
            batch.object(&rules::interval_set(name, intervals.family, id()), MsgType::Add, about);
            batch.intervals(name, &intervals.keys);
        }
        for (name, map) in &self.layout.maps {
            batch.port_map(name, map, id());
        }
        let mut counted = self.counted.clone();
        for chain in &self.layout.chains {
            let about = About::Structure(format!("the chain {}", chain.name));
            batch.object(&rules::chain(chain), MsgType::Add, about);
            for rule in &chain.rules {
                batch.rule(&chain.name, rule, &mut counted);
            }
        }
        for (name, map) in &self.layout.maps {
            batch.port_keys(name, map);
        }
    }

    /// Puts and removes elements, whether they are there or not.
    pub(super) fn edit(&self, batch: &mut Batch, edits: &BTreeMap<BanSet, Edits>, now: Now) {
        for (set, Edits { put, remove }) in edits {
            let all: Vec<Entry> = remove.iter().chain(put).copied().collect();
            if self.kernel.destroy {
                batch.bans(set, Elements::Destroy, &all, now);
            } else {
                batch.bans(set, Elements::Add, &all, now);
                batch.bans(set, Elements::Delete, &all, now);
            }
            batch.bans(set, Elements::Add, put, now);
        }
    }

    /// Mends one set in increments.
    pub(super) fn mend(&mut self, set: &BanSet, edits: &Edits, now: Now) -> Result<(), FirewallError> {
        let puts = edits.put.chunks(INCREMENT).map(|part| Edits { put: part.to_vec(), remove: Vec::new() });
        let removes = edits.remove.chunks(INCREMENT).map(|part| Edits { put: Vec::new(), remove: part.to_vec() });
        for part in puts.chain(removes) {
            let mut batch = Batch::new();
            self.edit(&mut batch, &BTreeMap::from([(set.clone(), part)]), now);
            self.commit(batch).map_err(|failure| self.explain(failure))?;
        }
        Ok(())
    }

    /// "Not permitted" mostly means that somebody else owns the table.
    pub(super) fn explain(&mut self, failure: Failure) -> FirewallError {
        if let Failure::Refused(refusals) = &failure
            && refusals.iter().any(|refusal| refusal.errno == libc::EPERM)
            && let Ok(Some(TableFound { owner: Some(port), .. })) = survey::table(&mut self.link)
            && port != self.link.port()
        {
            return FirewallError::Owned { port };
        }
        failure.into()
    }
}

/// What is to change in one set.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// To be there with this time, whatever is there now.
    pub put: Vec<Entry>,
    /// To be gone.
    pub remove: Vec<Entry>,
}

/// What new sets are filled with.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Bans.
    pub bans: BTreeMap<BanSet, Vec<Entry>>,
    /// Our own connections with banned hosts.
    pub ours: Ours,
}

/// The bans that have not ended, by set.
pub(super) fn by_set(bans: &[Element], now: Now) -> BTreeMap<BanSet, Vec<Entry>> {
    let stamp = now.stamp();
    let mut sets: BTreeMap<BanSet, Vec<Entry>> = BTreeMap::new();
    for (number, element) in (0u32..).zip(bans) {
        if Timeout::left(element.until, stamp).is_some() {
            let key = element.place.subject.network();
            let entry = Entry { key, until: element.until, comment: element.comment, number };
            sets.entry(set_of(&element.place)).or_default().push(entry);
        }
    }
    sets
}

/// The set that a ban of this place lies in.
pub(super) fn set_of(place: &Place) -> BanSet {
    let subject = &place.subject;
    BanSet { jail: place.jail.clone(), family: subject.family(), length: subject.length() }
}

/// What a kernel lacks that refuses these messages for want of it.
fn lack(refusals: &[Refusal], kernel: Kernel, owned: bool) -> Option<Lack> {
    let all = |is: fn(&Refusal) -> bool| !refusals.is_empty() && refusals.iter().all(is);
    // "No such expression" for one that is not built into the kernel. Where the table is gone, other messages say so too.
    let reject: fn(&Refusal) -> bool =
        |refusal| matches!((&refusal.about, refusal.errno), (Some(About::Reject(_)), libc::EOPNOTSUPP | libc::ENOENT));
    let owner = |refusal: &Refusal| {
        matches!((&refusal.about, refusal.errno), (Some(About::Table), libc::EOPNOTSUPP | libc::EINVAL))
    };
    match () {
        () if owned && refusals.iter().any(owner) => Some(Lack::Owner),
        () if kernel.reject && all(reject) => Some(Lack::Reject),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(about: About, errno: i32) -> Refusal {
        Refusal { errno, about: Some(about), words: None, elements: Vec::new() }
    }

    #[test]
    fn a_kernel_that_cannot_reject_is_told_from_a_table_that_is_gone() {
        let kernel = Kernel { destroy: true, reject: true, owner: true };
        let rule = |errno| refusal(About::Reject("ports".into()), errno);
        assert_eq!(lack(&[rule(libc::EOPNOTSUPP), rule(libc::EOPNOTSUPP)], kernel, false), Some(Lack::Reject));
        assert_eq!(lack(&[rule(libc::EOPNOTSUPP)], Kernel::OLD, false), None, "it does not reject any more");
        let chain = refusal(About::Structure("the chain ports".into()), libc::ENOENT);
        assert_eq!(lack(&[chain, rule(libc::ENOENT)], kernel, false), None);
        assert_eq!(lack(&[], kernel, true), None);
    }

    #[test]
    fn a_kernel_that_knows_no_owner_is_told_from_one_that_refuses_everything() {
        let kernel = Kernel { destroy: true, reject: true, owner: true };
        let consequence = refusal(About::Structure("the set a4_32".into()), libc::ENOENT);
        let refusals = [refusal(About::Table, libc::EOPNOTSUPP), consequence];
        assert_eq!(lack(&refusals, kernel, true), Some(Lack::Owner));
        assert_eq!(lack(&refusals, kernel, false), None);
        assert_eq!(lack(&[refusal(About::Table, libc::EPERM)], kernel, true), None);
    }
}
