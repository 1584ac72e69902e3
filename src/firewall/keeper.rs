//! Who keeps the kernel's table as the policy and the bans want it, one transaction at a time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use rustables::MsgType;

use super::audit::{Differences, View};
use super::batch::{About, Batch, Elements, Entry};
use super::elements::{Adopted, Change, Element, Now, Timeout, subject_of};
use super::kernel::Kernel;
use super::link::{Failure, FirewallError, Link, Refused};
use super::name::BanSet;
use super::policy::Policy;
use super::rules;
use super::survey::{self, Counted, Dropped, Survey, TableFound};
use super::table::{Layout, Rule, Verdict};
use crate::engine::ban::{JailName, Place};
use crate::engine::jail::Action;
use crate::engine::time::Stamp;

/// `NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST`: it is ours, and outlives our socket. Newer than older systems' headers.
const OWNED: u32 = 2 | 4;

/// So many elements at most in an increment: others who change the firewall wait as long as it takes.
const INCREMENT: usize = 2_000;

/// What a kernel turned out not to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lack {
    /// `reject` in prerouting: jails that reject drop instead.
    Reject,
    /// Tables that belong to a socket and outlive it: the table belongs to nobody.
    Owner,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lack::Reject => "this kernel does not reject in prerouting: jails with action = \"reject\" drop instead",
            Lack::Owner => "this kernel has no persistent owned tables: [firewall] owner = true has no effect",
        })
    }
}

/// The keeper.
pub(super) struct Keeper {
    link: Link,
    kernel: Kernel,
    policy: Policy,
    layout: Layout,
    /// The last counters seen, those of sets that are gone among them.
    counted: BTreeMap<Counted, Dropped>,
    /// The fingerprint of what we wrote.
    fingerprint: Option<u64>,
    /// What the kernel does not do, and how much of it was told.
    lacks: BTreeSet<Lack>,
    told: BTreeSet<Lack>,
}

impl Keeper {
    /// One that has not looked at the kernel's table yet.
    pub fn new(link: Link, kernel: Kernel) -> Keeper {
        let (policy, layout) = (Policy::default(), Layout::default());
        let (lacks, told) = (BTreeSet::new(), BTreeSet::new());
        Keeper { link, kernel, policy, layout, counted: BTreeMap::new(), fingerprint: None, lacks, told }
    }

    /// What of the policy the kernel does not do; each is told once.
    pub fn take_lacks(&mut self) -> Vec<Lack> {
        let new: Vec<Lack> = self.lacks.difference(&self.told).copied().collect();
        self.told.extend(&new);
        new
    }

    /// The table at a start: rules anew, `bans` in force, and what else was in the sets of our jails kept and told.
    pub fn restore(&mut self, policy: Policy, bans: &[Element], now: Now) -> Result<Vec<Adopted>, FirewallError> {
        self.policy = policy;
        let survey = self.survey()?;
        let known: HashSet<&Place> = bans.iter().map(|element| &element.place).collect();
        let mut adopted = Vec::new();
        for set in self.enforced(&survey) {
            for found in survey::elements(&mut self.link, &set).map_err(FirewallError::Socket)? {
                let Some(subject) = subject_of(&set, found.key) else { continue };
                let place = Place { jail: set.jail.clone(), subject };
                if !known.contains(&place) {
                    adopted.push(Adopted { place, until: found.left.end(now.stamp()) });
                }
            }
        }
        let comment = "adopted";
        let kept = adopted.iter().map(|one| Element { place: one.place.clone(), until: one.until, comment });
        let all: Vec<Element> = bans.iter().cloned().chain(kept).collect();
        self.write_anew(&all, now)?;
        Ok(adopted)
    }

    /// The whole table in one transaction.
    pub fn rebuild(&mut self, policy: Policy, bans: &[Element], now: Now) -> Result<(), FirewallError> {
        self.policy = policy;
        self.survey()?;
        self.write_anew(bans, now)
    }

    /// New rules around the sets there are. Sets that no jail has any more go; new ones come with their bans.
    pub fn set_policy(&mut self, policy: Policy, bans: &[Element], now: Now) -> Result<(), FirewallError> {
        self.policy = policy;
        let survey = self.survey()?;
        self.write_around(&survey, bans, now)
    }

    /// Increments. Of several changes of one place the last counts.
    pub fn apply(&mut self, changes: &[Change], now: Now) -> Result<(), FirewallError> {
        for (number, part) in changes.chunks(INCREMENT).enumerate() {
            let before = number * INCREMENT;
            self.apply_part(part, now).map_err(|error| match error {
                FirewallError::Refused(mut refused) => {
                    refused.which.iter_mut().for_each(|index| *index += before);
                    refused.applied = before;
                    FirewallError::Refused(refused)
                }
                other => other,
            })?;
        }
        Ok(())
    }

    fn apply_part(&mut self, changes: &[Change], now: Now) -> Result<(), FirewallError> {
        let stamp = now.stamp();
        let mut edits: BTreeMap<BanSet, Edits> = BTreeMap::new();
        let mut seen = HashSet::new();
        for (index, change) in changes.iter().enumerate().rev() {
            // A part has at most INCREMENT changes.
            let number = index as u32;
            let place = change.place();
            if !seen.insert(place) {
                continue;
            }
            let Some(jail) = self.policy.jails.iter().rev().find(|jail| jail.jail == place.jail) else {
                let Change::Add(_) = change else { continue };
                let what = format!("no jail {} in the firewall's policy", place.jail);
                let which = vec![index];
                return Err(Refused { which, applied: 0, errno: libc::ENOENT, what }.into());
            };
            if jail.action == Action::Log {
                continue;
            }
            let edits = edits.entry(set_of(place)).or_default();
            let lasting = match change {
                Change::Add(element) => Timeout::left(element.until, stamp).map(|_| element),
                Change::Remove(_) => None,
            };
            let key = place.subject.network();
            match lasting {
                Some(Element { until, comment, .. }) => edits.put.push(Entry { key, until: *until, comment, number }),
                None => edits.remove.push(Entry { key, until: Stamp::EPOCH, comment: "", number }),
            }
        }
        // A set that is not there holds nothing to remove.
        edits.retain(|set, edits| !edits.put.is_empty() || self.layout.bans.contains(set));
        let new: BTreeSet<BanSet> = edits.keys().filter(|set| !self.layout.bans.contains(set)).cloned().collect();
        if new.is_empty() {
            let mut batch = Batch::new();
            self.edit(&mut batch, &edits, now);
            return self.link.commit(batch).map_err(|failure| self.explain(failure));
        }
        let used: BTreeSet<BanSet> = self.layout.bans.union(&new).cloned().collect();
        let survey = self.survey()?;
        self.structure(&used, |keeper, batch| {
            keeper.around(batch, &survey, &BTreeMap::new(), now);
            keeper.edit(batch, &edits, now);
        })
    }

    /// Compares the kernel with `bans` and mends what differs. Before it is `final` what nobody knows is told, not
    /// removed.
    pub fn audit(&mut self, bans: &[Element], now: Now, last: bool) -> Result<Differences, FirewallError> {
        let survey = self.survey()?;
        if survey.table.map(|table| table.flags) != Some(self.flags()) {
            self.write_anew(bans, now)?;
            return Ok(Differences { rebuilt: true, added: bans.len(), ..Differences::default() });
        }
        let mut differences = Differences::default();
        let mut used = self.used(bans, now);
        if !last {
            used.extend(self.enforced(&survey));
        }
        let wanted = Layout::new(&self.policy, &used, self.kernel.reject);
        if self.fingerprint != Some(survey.fingerprint) || wanted != self.layout {
            differences.rules = self.fingerprint != Some(survey.fingerprint);
            self.write_around_used(&survey, bans, &used, now)?;
        }
        let mut wanted = by_set(bans, now);
        for set in self.layout.bans.clone() {
            let from = now.stamp();
            let found = survey::elements(&mut self.link, &set).map_err(FirewallError::Socket)?;
            let view = View { set: &set, found: &found, from, to: now.stamp(), last };
            let edits = view.compare(wanted.remove(&set).unwrap_or_default(), &mut differences);
            self.mend(&set, &edits, now)?;
        }
        Ok(differences)
    }

    /// What each jail of the policy kept away so far, over all rebuilds since this thread began, and before it where the
    /// table was still there.
    pub fn counters(&mut self) -> Result<BTreeMap<JailName, Dropped>, FirewallError> {
        let counted = survey::rules(&mut self.link, &mut std::hash::DefaultHasher::new());
        self.remember(counted.map_err(FirewallError::Socket)?);
        let mut jails: BTreeMap<JailName, Dropped> =
            self.policy.jails.iter().map(|jail| (jail.jail.clone(), Dropped::default())).collect();
        for (key, dropped) in &self.counted {
            if let Some(sum) = jails.get_mut(&key.set().jail) {
                *sum += *dropped;
            }
        }
        Ok(jails)
    }

    /// Looks at the table and takes its counters over.
    fn survey(&mut self) -> Result<Survey, FirewallError> {
        let mut survey = Survey::take(&mut self.link).map_err(FirewallError::Socket)?;
        if let Some(port) = survey.table.and_then(|table| table.owner).filter(|port| *port != self.link.port()) {
            return Err(FirewallError::Owned { port });
        }
        self.remember(std::mem::take(&mut survey.counted));
        Ok(survey)
    }

    /// A counter only grows; one that somebody set back, or whose rule is new, goes on where it was once that is passed.
    fn remember(&mut self, counted: BTreeMap<Counted, Dropped>) {
        for (key, dropped) in counted {
            let known = self.counted.entry(key).or_default();
            known.packets = known.packets.max(dropped.packets);
            known.bytes = known.bytes.max(dropped.bytes);
        }
    }

    /// The sets found that belong to jails which ban.
    fn enforced(&self, survey: &Survey) -> BTreeSet<BanSet> {
        let sets = survey.sets.iter().filter_map(|set| set.bans.as_ref());
        sets.filter(|set| self.enforces(&set.jail)).cloned().collect()
    }

    fn enforces(&self, jail: &JailName) -> bool {
        self.policy.jails.iter().any(|policy| policy.jail == *jail && policy.action != Action::Log)
    }

    /// The sets that these bans need.
    fn used(&self, bans: &[Element], now: Now) -> BTreeSet<BanSet> {
        let stamp = now.stamp();
        let lasting = bans.iter().filter(|element| Timeout::left(element.until, stamp).is_some());
        lasting.map(|element| set_of(&element.place)).collect()
    }

    fn flags(&self) -> u32 {
        if self.policy.owner && self.kernel.owner { OWNED } else { 0 }
    }

    /// Table, rules and all bans in one transaction.
    fn write_anew(&mut self, bans: &[Element], now: Now) -> Result<(), FirewallError> {
        let used = self.used(bans, now);
        self.structure(&used, |keeper, batch| {
            let table = rules::table(0);
            if keeper.kernel.destroy {
                batch.destroy_table();
            } else {
                batch.object(&table, MsgType::Add, About::Table);
                batch.object(&table, MsgType::Del, About::Table);
            }
            batch.object(&rules::table(keeper.flags()), MsgType::Add, About::Table);
            keeper.around(batch, &Survey::default(), &by_set(bans, now), now);
        })
    }

    /// Rules anew around the sets that are there; the whole table anew where it is not as we know it.
    fn write_around(&mut self, survey: &Survey, bans: &[Element], now: Now) -> Result<(), FirewallError> {
        let used = self.used(bans, now);
        self.write_around_used(survey, bans, &used, now)
    }

    fn write_around_used(
        &mut self,
        survey: &Survey,
        bans: &[Element],
        used: &BTreeSet<BanSet>,
        now: Now,
    ) -> Result<(), FirewallError> {
        if survey.table.map(|TableFound { flags, .. }| flags) != Some(self.flags()) {
            return self.write_anew(bans, now);
        }
        let filled = by_set(bans, now);
        match self.structure(used, |keeper, batch| keeper.around(batch, survey, &filled, now)) {
            // Somebody put something into the table that stands in the way, or took away what was just there.
            Err(FirewallError::Refused(Refused { errno: libc::EBUSY | libc::ENOENT | libc::EEXIST, .. })) => {
                self.write_anew(bans, now)
            }
            other => other,
        }
    }

    /// Commits what `fill` puts into a batch for the layout of `used`. Where the kernel lacks something, that is noted
    /// and the batch is made again without it.
    fn structure(&mut self, used: &BTreeSet<BanSet>, fill: impl Fn(&Keeper, &mut Batch)) -> Result<(), FirewallError> {
        let before = self.layout.clone();
        loop {
            self.layout = Layout::new(&self.policy, used, self.kernel.reject);
            let mut batch = Batch::new();
            fill(self, &mut batch);
            match self.link.commit(batch) {
                Ok(()) => break,
                Err(failure) if self.learn(&failure) => {}
                Err(failure) => {
                    self.layout = before;
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
        let survey = Survey::take(&mut self.link).map_err(FirewallError::Socket)?;
        self.fingerprint = Some(survey.fingerprint);
        Ok(())
    }

    /// Was it refused for something that this kernel does not do and that we can do without?
    fn learn(&mut self, failure: &Failure) -> bool {
        let Failure::Refused(refusals) = failure else { return false };
        let lacks = refusals.iter().find_map(|refusal| match (&refusal.about, refusal.errno) {
            (Some(About::Reject(_)), libc::EOPNOTSUPP | libc::ENOENT) if self.kernel.reject => Some(Lack::Reject),
            (Some(About::Table), libc::EOPNOTSUPP | libc::EINVAL) if self.flags() != 0 => Some(Lack::Owner),
            _ => None,
        });
        match lacks {
            Some(Lack::Reject) => self.kernel.reject = false,
            Some(Lack::Owner) => self.kernel.owner = false,
            None => return false,
        }
        true
    }

    /// Everything but the bans that are there: what `survey` found is taken away, the layout is put in its place. New
    /// sets are filled from `bans`.
    fn around(&self, batch: &mut Batch, survey: &Survey, bans: &BTreeMap<BanSet, Vec<Entry>>, now: Now) {
        if !survey.chains.is_empty() {
            batch.flush_rules();
        }
        for chain in &survey.chains {
            batch.object(&rules::chain_named(chain), MsgType::Del, About::Structure(format!("the chain {chain}")));
        }
        let mut kept = BTreeSet::new();
        for found in &survey.sets {
            match &found.bans {
                Some(set) if self.layout.bans.contains(set) => drop(kept.insert(set)),
                _ => batch.delete_set(&found.name),
            }
        }
        let mut ids = 1..;
        let mut id = || ids.next().unwrap_or(u32::MAX);
        for set in self.layout.bans.iter().filter(|set| !kept.contains(set)) {
            let about = About::Structure(format!("the set {}", set.name()));
            batch.object(&rules::ban_set(set, id()), MsgType::Add, about);
            if let Some(entries) = bans.get(set) {
                batch.bans(set, Elements::Add, entries, now);
            }
        }
        for (name, intervals) in &self.layout.intervals {
            let about = About::Structure(format!("the set {name}"));
            batch.object(&rules::interval_set(name, intervals.of, id()), MsgType::Add, about);
            batch.intervals(name, &intervals.keys);
        }
        for chain in &self.layout.chains {
            let about = About::Structure(format!("the chain {}", chain.name));
            batch.object(&rules::chain(chain), MsgType::Add, about);
            for rule in &chain.rules {
                batch.object(
                    &rules::rule(&chain.name, rule, &self.counted),
                    MsgType::Add,
                    about_rule(&chain.name, rule),
                );
            }
        }
    }

    /// Puts and removes elements, whether they are there or not.
    fn edit(&self, batch: &mut Batch, edits: &BTreeMap<BanSet, Edits>, now: Now) {
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
    fn mend(&mut self, set: &BanSet, edits: &Edits, now: Now) -> Result<(), FirewallError> {
        let puts = edits.put.chunks(INCREMENT).map(|part| Edits { put: part.to_vec(), remove: Vec::new() });
        let removes = edits.remove.chunks(INCREMENT).map(|part| Edits { put: Vec::new(), remove: part.to_vec() });
        for part in puts.chain(removes) {
            let mut batch = Batch::new();
            self.edit(&mut batch, &BTreeMap::from([(set.clone(), part)]), now);
            self.link.commit(batch).map_err(|failure| self.explain(failure))?;
        }
        Ok(())
    }

    /// "Not permitted" mostly means that somebody else owns the table.
    fn explain(&mut self, failure: Failure) -> FirewallError {
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

/// The bans that have not ended, by set.
fn by_set(bans: &[Element], now: Now) -> BTreeMap<BanSet, Vec<Entry>> {
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
fn set_of(place: &Place) -> BanSet {
    let subject = &place.subject;
    BanSet { jail: place.jail.clone(), family: subject.family(), length: subject.length() }
}

fn about_rule(chain: &str, rule: &Rule) -> About {
    match rule.verdict {
        Verdict::Reset | Verdict::Prohibit => About::Reject(chain.into()),
        _ => About::Structure(format!("a rule of the chain {chain}")),
    }
}
