//! The table as a value: which sets, chains and rules a policy means. Nothing here talks to the kernel.

use std::collections::{BTreeMap, BTreeSet};

use super::elements::{Key, interval_keys, key_width, range};
use super::name::{self, BanSet};
use super::policy::{JailPolicy, Policy, Reach, Replies};
use super::ports::{Cut, PortMap};
use crate::engine::ban::JailName;
use crate::engine::jail::Action;
use crate::engine::jail::allow::AllowList;
use crate::engine::jail::scope::{Ports, Protocol, Scope};
use crate::engine::subject::Family;

/// All of the table but the bans themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// The sets that hold bans.
    pub bans: BTreeSet<BanSet>,
    /// The interval sets, by name.
    pub intervals: BTreeMap<String, Intervals>,
    /// The maps from ports to chains, by name.
    pub maps: BTreeMap<String, PortMap>,
    /// The chains; one comes after those its rules jump to.
    pub chains: Vec<Chain>,
}

/// An interval set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Intervals {
    /// Of which addresses.
    pub family: Family,
    /// Its elements.
    pub keys: Vec<Key>,
}

/// A chain and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Its name.
    pub name: String,
    /// The priority at prerouting, for a base chain.
    pub priority: Option<i32>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// A rule: all matches must hold, then the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// What must hold.
    pub matches: Vec<Match>,
    /// What then.
    pub verdict: Verdict,
    /// The set whose hits are counted here.
    pub counts: Option<BanSet>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// It came in on `lo`.
    Loopback,
    /// It did not come in on this interface.
    NotInterface(String),
    /// It is not for an address of this machine.
    NotLocal,
    /// It answers a connection that this machine or one behind it opened.
    Reply,
    /// Neighbour or router discovery.
    Discovery,
    /// This transport protocol.
    Protocol(Protocol),
    /// The source address, cut to so many bits, is in the named set.
    Source(Family, u8, String),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Accept,
    /// It vanishes.
    Drop,
    /// On to that chain.
    Jump(String),
    /// On to the chain that the named map has for its port of this protocol, and not back; on in this one if it has none.
    ByPort(Protocol, String),
    /// Back to where the jump came from.
    Return,
    /// A TCP reset.
    Reset,
    /// An ICMP "administratively prohibited".
    Prohibit,
}

/// Priority `raw`: before connection tracking and before destination NAT.
pub(super) const RAW: i32 = -300;
/// Priority `mangle`: behind connection tracking, before destination NAT.
pub(super) const MANGLE: i32 = -150;

impl Layout {
    /// What `policy` means where `used` are the sets that bans in force need. `can_reject` is false for a kernel that
    /// does not take `reject` in prerouting: such jails drop.
    pub fn new(policy: &Policy, used: &BTreeSet<BanSet>, can_reject: bool) -> Layout {
        let mut layout = Layout::default();
        let mut jails: BTreeMap<&JailName, (&JailPolicy, BTreeSet<BanSet>)> = BTreeMap::new();
        for jail in policy.jails.iter().filter(|jail| jail.action != Action::Log) {
            let usual = jail.lengths.iter().filter(|(family, length)| (1..=family.bits()).contains(length));
            let usual =
                usual.map(|(family, length)| BanSet { jail: jail.jail.clone(), family: *family, length: *length });
            let sets: BTreeSet<BanSet> =
                usual.chain(used.iter().filter(|set| set.jail == jail.jail).cloned()).collect();
            jails.insert(&jail.jail, (jail, sets));
        }
        jails.retain(|_, (_, sets)| !sets.is_empty());

        let mut begin = vec![Rule::plain(vec![Match::Loopback], Verdict::Accept)];
        let everywhere = policy.interfaces.iter().any(|name| name == "*");
        if !policy.interfaces.is_empty() && !everywhere {
            let others = policy.interfaces.iter().cloned().map(Match::NotInterface).collect();
            begin.push(Rule::plain(others, Verdict::Accept));
        }
        if policy.reach == Reach::Local {
            begin.push(Rule::plain(vec![Match::NotLocal], Verdict::Accept));
        }
        begin.extend(layout.allow(&policy.allow, name::allow, &Verdict::Accept));

        let mut hosts = Vec::new();
        let mut ports = Vec::new();
        for (jail, sets) in jails.values() {
            let rules = layout.jail(jail, sets, can_reject);
            match &jail.scope {
                Scope::AllPorts => hosts.extend(rules),
                Scope::Ports(of) => ports.push((of, rules)),
            }
            layout.bans.extend(sets.iter().cloned());
        }
        if !ports.is_empty() {
            layout.ports(&begin, &ports);
        }
        if !hosts.is_empty() {
            layout.hosts(begin, hosts, policy.replies);
        }
        layout
    }

    /// Rules with this verdict for those on a list, and the sets they look into.
    fn allow(&mut self, list: &AllowList, name: impl Fn(Family) -> String, verdict: &Verdict) -> Vec<Rule> {
        let mut rules = Vec::new();
        for family in [Family::V4, Family::V6] {
            let ranges = ranges(list, family);
            if ranges.is_empty() {
                continue;
            }
            let keys = interval_keys(&ranges, key_width(family));
            self.intervals.insert(name(family), Intervals { family, keys });
            rules.push(Rule::plain(vec![Match::Source(family, family.bits(), name(family))], verdict.clone()));
        }
        rules
    }

    /// A jail's rules. One that lets somebody through whom others do not has a chain of its own to return from.
    fn jail(&mut self, jail: &JailPolicy, sets: &BTreeSet<BanSet>, can_reject: bool) -> Vec<Rule> {
        let reject = jail.action == Action::Reject && can_reject;
        let bans = sets.iter().flat_map(|set| Rule::ban(set, reject));
        let mut own = self.allow(&jail.allow, |family| name::jail_allow(&jail.jail, family), &Verdict::Return);
        if own.is_empty() {
            return bans.collect();
        }
        own.extend(bans);
        let chain = name::jail_chain(&jail.jail);
        self.chains.push(Chain { name: chain.clone(), priority: None, rules: own });
        vec![Rule::plain(vec![], Verdict::Jump(chain))]
    }

    /// The chain `ports`: one lookup for a packet's protocol and port tells the chain of exactly the jails that have it. Who
    /// is let through is asked there, so that packets to other ports are done after the lookup.
    fn ports(&mut self, begin: &[Rule], jails: &[(&Ports, Vec<Rule>)]) {
        let ports: Vec<&Ports> = jails.iter().map(|(ports, _)| *ports).collect();
        let cut = Cut::new(&ports);
        let chain = |group: usize| format!("group_{}", group + 1);
        for (number, group) in cut.groups.iter().enumerate() {
            let bans = group.iter().flat_map(|jail| jails[*jail].1.iter());
            let rules = begin.iter().chain(bans).cloned().collect();
            self.chains.push(Chain { name: chain(number), priority: None, rules });
        }
        let mut rules = Vec::new();
        for (protocol, name, map) in cut.maps(chain) {
            rules.push(Rule::plain(vec![Match::Protocol(protocol)], Verdict::ByPort(protocol, name.clone())));
            self.maps.insert(name, map);
        }
        self.chains.push(Chain { name: "ports".into(), priority: Some(RAW), rules });
    }

    /// The chain `hosts`, for bans of all ports. Replies go on first: an untracked packet has no direction, so asking for
    /// the opposite would let it through.
    fn hosts(&mut self, begin: Vec<Rule>, bans: Vec<Rule>, replies: Replies) {
        let mut rules = begin;
        rules.push(Rule::plain(vec![Match::Discovery], Verdict::Accept));
        let priority = match replies {
            Replies::Accept => {
                rules.push(Rule::plain(vec![Match::Reply], Verdict::Accept));
                MANGLE
            }
            Replies::Drop => RAW,
        };
        rules.extend(bans);
        self.chains.push(Chain { name: "hosts".into(), priority: Some(priority), rules });
    }
}

impl Rule {
    fn plain(matches: Vec<Match>, verdict: Verdict) -> Rule {
        Rule { matches, verdict, counts: None }
    }

    /// The rule of a set of bans; two to reject, since only TCP can be reset and only a reset ends a TCP client at once.
    fn ban(set: &BanSet, reject: bool) -> Vec<Rule> {
        let source = Match::Source(set.family, set.length, set.name());
        let rule = |mut matches: Vec<Match>, verdict| {
            matches.push(source.clone());
            Rule { matches, verdict, counts: Some(set.clone()) }
        };
        if reject {
            vec![rule(vec![Match::Protocol(Protocol::Tcp)], Verdict::Reset), rule(vec![], Verdict::Prohibit)]
        } else {
            vec![rule(vec![], Verdict::Drop)]
        }
    }
}

/// The list's ranges of one family, those that touch joined.
fn ranges(list: &AllowList, family: Family) -> Vec<(u128, u128)> {
    let mut joined: Vec<(u128, u128)> = Vec::new();
    for subject in list.subjects().iter().filter(|subject| subject.family() == family) {
        let (first, last) = range(subject);
        match joined.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => joined.push((first, last)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jail(name: &str, scope: Scope, action: Action) -> JailPolicy {
        let lengths = JailPolicy::usual_lengths(64);
        JailPolicy { jail: name.parse().unwrap(), scope, action, allow: AllowList::default(), lengths }
    }

    fn tcp(port: u16) -> Scope {
        Scope::Ports(Ports::new([port..=port], [Protocol::Tcp]).unwrap())
    }

    fn layout(jails: Vec<JailPolicy>) -> Layout {
        Layout::new(&Policy { jails, ..Policy::default() }, &BTreeSet::new(), true)
    }

    fn chain<'a>(layout: &'a Layout, name: &str) -> Option<&'a Chain> {
        layout.chains.iter().find(|chain| chain.name == name)
    }

    #[test]
    fn jails_with_equal_ports_share_a_chain() {
        let layout = layout(vec![jail("a", tcp(22), Action::Drop), jail("b", tcp(22), Action::Drop)]);
        assert_eq!(chain(&layout, "group_1").unwrap().rules.len(), 5);
        assert_eq!(chain(&layout, "ports").unwrap().rules.len(), 1);
        assert!(chain(&layout, "hosts").is_none());
    }

    #[test]
    fn a_packet_asks_one_map_however_many_jails_there_are() {
        let layout = layout((1..=50).map(|port| jail(&format!("j{port}"), tcp(port * 10), Action::Drop)).collect());
        assert_eq!(chain(&layout, "ports").unwrap().rules.len(), 1);
        assert_eq!(layout.maps["tcp_ports"].keys.len(), 50);
        assert_eq!(chain(&layout, "group_50").unwrap().rules.len(), 3);
    }

    #[test]
    fn hosts_waits_for_the_first_ban_of_all_ports() {
        let mut manual = jail("manual", Scope::AllPorts, Action::Drop);
        manual.lengths.clear();
        let policy = Policy { jails: vec![manual], ..Policy::default() };
        assert_eq!(Layout::new(&policy, &BTreeSet::new(), true), Layout::default());
        let used = BanSet { jail: JailName::manual(), family: Family::V4, length: 23 };
        let layout = Layout::new(&policy, &BTreeSet::from([used]), true);
        assert_eq!(layout.chains.len(), 1);
        assert_eq!(layout.chains[0].priority, Some(MANGLE));
    }

    #[test]
    fn a_jail_that_only_logs_has_nothing_in_the_kernel() {
        assert_eq!(layout(vec![jail("a", tcp(22), Action::Log)]), Layout::default());
    }

    #[test]
    fn a_kernel_that_cannot_reject_drops() {
        let policy = Policy { jails: vec![jail("a", tcp(22), Action::Reject)], ..Policy::default() };
        for (can, rules) in [(true, 5), (false, 3)] {
            let layout = Layout::new(&policy, &BTreeSet::new(), can);
            assert_eq!(chain(&layout, "group_1").unwrap().rules.len(), rules);
        }
    }

    #[test]
    fn an_own_allow_list_makes_an_own_chain() {
        let mut own = jail("a", tcp(22), Action::Drop);
        own.allow = ["192.0.2.0/25".parse().unwrap(), "192.0.2.128/25".parse().unwrap()].into_iter().collect();
        let layout = layout(vec![own]);
        assert_eq!(chain(&layout, "jail_a").unwrap().rules.len(), 3);
        assert_eq!(layout.intervals["a4_allow"].keys.len(), 2, "touching ranges are joined");
    }

    #[test]
    fn a_chain_comes_after_those_it_jumps_to() {
        let mut own = jail("a", Scope::AllPorts, Action::Drop);
        own.allow = ["192.0.2.0/25".parse().unwrap()].into_iter().collect();
        let jails = (1..=5).map(|port| jail(&format!("j{port}"), tcp(port), Action::Drop)).chain([own]).collect();
        let layout = layout(jails);
        for (at, chain) in layout.chains.iter().enumerate() {
            for rule in &chain.rules {
                if let Verdict::Jump(to) = &rule.verdict {
                    assert!(layout.chains[..at].iter().any(|before| before.name == *to), "{to}");
                }
            }
        }
    }
}
