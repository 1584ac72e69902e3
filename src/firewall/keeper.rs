//! Who keeps the kernel's table as the policy and the bans want it, one transaction at a time.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use super::audit::{Differences, View};
use super::batch::{Batch, Entry};
use super::elements::{Adopted, Change, Element, Now, Timeout, subject_of};
use super::kernel::Kernel;
use super::link::{FirewallError, Link, Refused};
use super::name::BanSet;
use super::policy::Policy;
use super::sockets::Sockets;
use super::survey::{self, Counted, Dropped, SetKind, Survey};
use super::table::Layout;
use super::watch::{Notice, Watch};
use super::write::{Contents, Edits, by_set, set_of};
use crate::engine::ban::{JailName, Place};
use crate::engine::jail::Action;
use crate::engine::time::Stamp;

/// `NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST`: it is ours, and outlives our socket. Newer than older systems' headers.
const OWNED: u32 = 2 | 4;

/// So many elements at most in an increment: others who change the firewall wait as long as it takes.
pub(super) const INCREMENT: usize = 2_000;

/// What a kernel turned out not to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lack {
    /// `reject` in prerouting: jails that reject drop instead.
    Reject,
    /// Tables that belong to a socket and outlive it: the table belongs to nobody.
    Owner,
    /// `sock_diag`: who opened the connections that are open when a host is banned on all ports is not known.
    Sockets,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lack::Reject => "this kernel does not reject in prerouting: jails with action = \"reject\" drop instead",
            Lack::Owner => "this kernel has no persistent owned tables: [firewall] owner = true has no effect",
            Lack::Sockets => {
                "this kernel does not show sockets (sock_diag): a ban of all ports also ends connections that this machine opened"
            }
        })
    }
}

/// The keeper.
pub(super) struct Keeper {
    pub(super) link: Link,
    /// Gone if it cannot be read any more.
    pub(super) watch: Option<Watch>,
    /// May something have happened that the watch did not hear?
    pub(super) missed: bool,
    pub(super) kernel: Kernel,
    pub(super) policy: Policy,
    pub(super) layout: Layout,
    /// The last counters seen, those of sets that are gone among them.
    pub(super) counted: BTreeMap<Counted, Dropped>,
    /// The fingerprint of what we wrote.
    pub(super) fingerprint: Option<u64>,
    /// Gone if the kernel does not show sockets.
    pub(super) sockets: Option<Sockets>,
    /// The ports of UDP servers as the kernel's set has them, as far as that is known.
    pub(super) served: Option<BTreeSet<u16>>,
    /// The ports of UDP servers behind this machine, as far as banned hosts sent something to them.
    pub(super) published: BTreeSet<u16>,
    /// What the kernel does not do, and how much of it was told.
    pub(super) lacks: BTreeSet<Lack>,
    told: BTreeSet<Lack>,
}

impl Keeper {
    /// One that has not looked at the kernel's table yet.
    pub fn new(link: Link, watch: Watch, kernel: Kernel) -> Keeper {
        let (policy, layout) = (Policy::default(), Layout::default());
        let (lacks, told) = (BTreeSet::new(), BTreeSet::new());
        Keeper {
            link,
            watch: Some(watch),
            missed: false,
            kernel,
            policy,
            layout,
            counted: BTreeMap::new(),
            fingerprint: None,
            sockets: Sockets::open().ok(),
            served: None,
            published: BTreeSet::new(),
            lacks,
            told,
        }
    }

    /// What of the policy the kernel does not do; each is told once.
    pub fn take_lacks(&mut self) -> Vec<Lack> {
        let new: Vec<Lack> = self.lacks.difference(&self.told).copied().collect();
        self.told.extend(&new);
        new
    }

    /// What others did since this was asked last. Where they may have changed more than elements, the next audit writes
    /// the rules anew: the fingerprint alone would not do, should that have happened between a commit of ours and the look at it.
    pub fn hear(&mut self) -> Vec<Notice> {
        let heard = self.watch.as_mut().map_or(Ok(Vec::new()), Watch::read);
        let mut notices = heard.unwrap_or_else(|_| {
            // Deaf from here on, but for the caller's own regular audits.
            self.watch = None;
            vec![Notice::Overrun]
        });
        if std::mem::take(&mut self.missed) {
            notices.push(Notice::Overrun);
        }
        if notices.iter().any(Notice::is_structural) {
            self.fingerprint = None;
        }
        notices
    }

    /// The table at a start: rules anew, `bans` in force, and what else was in the sets of our jails kept and told.
    pub fn restore(&mut self, policy: Policy, bans: &[Element], now: Now) -> Result<Vec<Adopted>, FirewallError> {
        self.policy = policy;
        let survey = self.survey()?;
        let mut adopted = Vec::new();
        let mut known: HashSet<&Place> = HashSet::new();
        for set in self.enforced(&survey) {
            if known.is_empty() {
                known.extend(bans.iter().map(|element| &element.place));
            }
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
        let all: Cow<'_, [Element]> =
            if adopted.is_empty() { bans.into() } else { bans.iter().cloned().chain(kept).collect() };
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
        let hosts = self.hosts(edits.iter().map(|(set, edits)| (set, edits.put.as_slice())));
        self.note_published(&hosts);
        let ours = self.keep(&hosts);
        if new.is_empty() {
            let mut batch = Batch::new();
            if !hosts.is_empty() {
                self.serve(&mut batch);
            }
            self.edit(&mut batch, &edits, now);
            if let Err(failure) = self.commit(batch) {
                self.served = None;
                return Err(self.explain(failure));
            }
        } else {
            let used: BTreeSet<BanSet> = self.layout.bans.union(&new).cloned().collect();
            let survey = self.survey()?;
            let contents = Contents { bans: BTreeMap::new(), ours };
            self.structure(&used, |keeper, batch| {
                keeper.around(batch, &survey, &contents, now);
                keeper.edit(batch, &edits, now);
            })?;
        }
        self.keep(&hosts);
        Ok(())
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
        let wanted = Layout::new(&self.policy, &used, self.kernel.reject, self.sockets.is_some());
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
        let sets = survey.sets.iter().filter_map(|set| match &set.kind {
            SetKind::Bans(set) => Some(set),
            _ => None,
        });
        sets.filter(|set| self.enforces(&set.jail)).cloned().collect()
    }

    fn enforces(&self, jail: &JailName) -> bool {
        self.policy.jails.iter().any(|policy| policy.jail == *jail && policy.action != Action::Log)
    }

    /// The sets that these bans need.
    pub(super) fn used(&self, bans: &[Element], now: Now) -> BTreeSet<BanSet> {
        let stamp = now.stamp();
        let lasting = bans.iter().filter(|element| Timeout::left(element.until, stamp).is_some());
        lasting.map(|element| set_of(&element.place)).collect()
    }

    pub(super) fn flags(&self) -> u32 {
        if self.policy.owner && self.kernel.owner { OWNED } else { 0 }
    }
}
