//! The table as a value: which sets, chains and rules a policy means. Nothing here talks to the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::elements::{Key, interval_keys, key_width, range};
use super::name::{self, BanSet};
use super::policy::{JailPolicy, Policy, Reach, Replies};
use super::ports::{Cut, PortMap};
use crate::engine::ban::JailName;
use crate::engine::jail::Action;
use crate::engine::jail::allow::AllowList;
use crate::engine::jail::scope::{Ports, Protocol, Scope};
use crate::engine::subject::Family;

/// All of the table but what its sets hold of hosts, connections and sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// The sets that hold bans.
    pub bans: BTreeSet<BanSet>,
    /// The families that have a set of this machine's own connections to banned hosts.
    pub ours: BTreeSet<Family>,
    /// Is there a set of the ports that this machine's UDP servers have?
    pub served: bool,
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
    /// Which packets the kernel sends through it, for a base chain.
    pub hook: Option<Way>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// They come from another host: prerouting at priority `raw`, before connection tracking and destination NAT.
    In,
    /// They leave for another host: postrouting, after source NAT. Their ports are those of the packets that come in.
    Out,
}

/// A rule: all matches must hold, then the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// What must hold.
    pub matches: Vec<Match>,
    /// The packet's connection is put into this family's set of our own, or stays there so long from now.
    pub keeps: Option<(Family, Duration)>,
    /// What then.
    pub verdict: Verdict,
    /// The set whose hits are counted here.
    pub counts: Option<BanSet>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// It came in, or goes out, on `lo`.
    Loopback(Way),
    /// It did not come in, or does not go out, on this interface.
    NotInterface(Way, String),
    /// Our end of it is not an address of this machine.
    NotLocal(Way),
    /// Neighbour or router discovery.
    Discovery,
    /// ICMP of this family and one of these types.
    Icmp(Family, RangeInclusive<u8>),
    /// A fragment of this family that is not the first one, and has no ports.
    Fragment(Family),
    /// This transport protocol.
    Protocol(Protocol),
    /// TCP that begins a connection: SYN, and none of FIN, RST, ACK.
    Opening,
    /// TCP that does not begin a connection.
    NotOpening,
    /// A TCP reset.
    Reset,
    /// It belongs to a connection in this family's set of our own.
    Ours(Way, Family),
    /// The other host's address, cut to so many bits, is in the named set.
    Host(Way, Family, u8, String),
    /// UDP from a port in the set of our servers' ports.
    Served,
    /// UDP from one of these ports.
    FromPort(RangeInclusive<u16>),
    /// A socket of this machine sent it; it is not forwarded.
    OwnSocket,
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
    /// On to the chain that the named map has for our port, and not back; on in this one if it has none.
    ByPort(Way, String),
    /// Back to where the jump came from.
    Return,
    /// A TCP reset.
    Reset,
    /// An ICMP "administratively prohibited".
    Prohibit,
}

/// The set of the ports of this machine's UDP servers.
pub(super) const SERVED: &str = "served";
/// The chain of what goes out to a host that is banned on all ports.
const OURS: &str = "ours";

/// An own TCP connection is forgotten when we were silent for so long, as by connection tracking.
pub(super) const TCP_KEPT: Duration = Duration::from_secs(5 * 24 * 3600);
/// The same of UDP: some clients ask every half an hour from the same port.
pub(super) const UDP_KEPT: Duration = Duration::from_secs(3600);
/// Where hosts take the ports of their clients from, unless told otherwise (Linux from 32768, others from 49152).
pub(super) const CLIENTS: RangeInclusive<u16> = 32_768..=u16::MAX;

impl Layout {
    /// What `policy` means where `used` are the sets that bans in force need. `can_reject` is false for a kernel that
    /// does not take `reject` in prerouting: such jails drop. `sockets` is false where the kernel does not tell which
    /// sockets this machine has.
    pub fn new(policy: &Policy, used: &BTreeSet<BanSet>, can_reject: bool, sockets: bool) -> Layout {
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
        for (jail, sets) in jails.values() {
            if jail.scope == Scope::AllPorts && policy.replies == Replies::Accept {
                layout.ours.extend(sets.iter().map(|set| set.family));
            }
            layout.bans.extend(sets.iter().cloned());
        }
        layout.served = sockets && !layout.ours.is_empty();

        let rejects = |jail: &JailPolicy| jail.action == Action::Reject && can_reject;
        let rejects_hosts = jails.values().any(|(jail, _)| jail.scope == Scope::AllPorts && rejects(jail));
        if !layout.ours.is_empty() {
            layout.chains.push(Chain { name: OURS.into(), hook: None, rules: layout.outgoing(rejects_hosts) });
        }
        for way in [Way::In, Way::Out] {
            let begin = layout.begin(policy, way);
            let mut hosts = Vec::new();
            let mut ports = Vec::new();
            for (jail, sets) in jails.values() {
                let rules = layout.jail(jail, sets, way, rejects(jail));
                match &jail.scope {
                    Scope::AllPorts => hosts.extend(rules),
                    Scope::Ports(of) => ports.push(OfPorts { ports: of, rules, rejects: rejects(jail) }),
                }
            }
            if !ports.is_empty() {
                layout.ports(way, &begin, &ports);
            }
            if !hosts.is_empty() {
                layout.hosts(way, begin, hosts, rejects_hosts);
            }
        }
        layout
    }

    /// Which packets are none of our business.
    fn begin(&mut self, policy: &Policy, way: Way) -> Vec<Rule> {
        let mut begin = vec![Rule::plain(vec![Match::Loopback(way)], Verdict::Accept)];
        let everywhere = policy.interfaces.iter().any(|name| name == "*");
        if !policy.interfaces.is_empty() && !everywhere {
            let others = policy.interfaces.iter().cloned().map(|name| Match::NotInterface(way, name)).collect();
            begin.push(Rule::plain(others, Verdict::Accept));
        }
        if policy.reach == Reach::Local {
            begin.push(Rule::plain(vec![Match::NotLocal(way)], Verdict::Accept));
        }
        begin.extend(self.allow(&policy.allow, way, name::allow, &Verdict::Accept));
        begin
    }

    /// Rules with this verdict for those on a list, and the sets they look into.
    fn allow(&mut self, list: &AllowList, way: Way, name: impl Fn(Family) -> String, verdict: &Verdict) -> Vec<Rule> {
        let mut rules = Vec::new();
        for family in [Family::V4, Family::V6] {
            let ranges = ranges(list, family);
            if ranges.is_empty() {
                continue;
            }
            let keys = interval_keys(&ranges, key_width(family));
            self.intervals.insert(name(family), Intervals { family, keys });
            rules.push(Rule::plain(vec![Match::Host(way, family, family.bits(), name(family))], verdict.clone()));
        }
        rules
    }

    /// A jail's rules. One that lets somebody through whom others do not has a chain of its own to return from.
    fn jail(&mut self, jail: &JailPolicy, sets: &BTreeSet<BanSet>, way: Way, reject: bool) -> Vec<Rule> {
        let all_ports = jail.scope == Scope::AllPorts;
        let bans = sets.iter().flat_map(|set| match way {
            Way::In => Rule::ban(set, reject),
            Way::Out => {
                let to = if all_ports && self.ours.contains(&set.family) {
                    Verdict::Jump(OURS.into())
                } else {
                    Verdict::Drop
                };
                vec![Rule::plain(vec![Match::Host(way, set.family, set.length, set.name())], to)]
            }
        });
        let bans: Vec<Rule> = bans.collect();
        let mut own = self.allow(&jail.allow, way, |family| name::jail_allow(&jail.jail, family), &Verdict::Return);
        if own.is_empty() {
            return bans;
        }
        own.extend(bans);
        let chain = way.named(&name::jail_chain(&jail.jail));
        self.chains.push(Chain { name: chain.clone(), hook: None, rules: own });
        vec![Rule::plain(vec![], Verdict::Jump(chain))]
    }

    /// The chain `ports`, or `out_ports`: one lookup for a packet's protocol and our port tells the chain of exactly the
    /// jails that have it. Who is let through is asked there, so that packets of other ports are done after the lookup.
    fn ports(&mut self, way: Way, begin: &[Rule], jails: &[OfPorts]) {
        let ports: Vec<&Ports> = jails.iter().map(|jail| jail.ports).collect();
        let cut = Cut::new(&ports);
        let chain = |group: usize| way.named(&format!("group_{}", group + 1));
        for (number, group) in cut.groups.iter().enumerate() {
            let mut rules = begin.to_vec();
            if way == Way::Out && group.iter().any(|jail| jails[*jail].rejects) {
                rules.extend(Rule::rejections(&[]));
            }
            rules.extend(group.iter().flat_map(|jail| jails[*jail].rules.iter().cloned()));
            self.chains.push(Chain { name: chain(number), hook: None, rules });
        }
        let mut rules = Vec::new();
        for (protocol, name, map) in cut.maps(chain) {
            let name = way.named(&name);
            rules.push(Rule::plain(vec![Match::Protocol(protocol)], Verdict::ByPort(way, name.clone())));
            self.maps.insert(name, map);
        }
        self.chains.push(Chain { name: way.named("ports"), hook: Some(way), rules });
    }

    /// The chain `hosts`, or `out_hosts`, for bans of all ports.
    fn hosts(&mut self, way: Way, begin: Vec<Rule>, bans: Vec<Rule>, rejects: bool) {
        let mut rules = begin;
        rules.push(Rule::plain(vec![Match::Discovery], Verdict::Accept));
        match way {
            Way::In => rules.extend(self.incoming()),
            Way::Out if self.ours.is_empty() && rejects => {
                rules.extend(Rule::rejections(&[Family::V4, Family::V6]));
            }
            Way::Out => {}
        }
        rules.extend(bans);
        self.chains.push(Chain { name: way.named("hosts"), hook: Some(way), rules });
    }

    /// What comes in from banned hosts: answers to what we asked. A new connection is never one, even where a port of an
    /// own one that has ended is somebody's who listens. Of fragments nothing comes where the first one was dropped.
    fn incoming(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for family in self.ours.iter().copied() {
            let ours = || Match::Ours(Way::In, family);
            let tcp = vec![Match::Protocol(Protocol::Tcp), Match::NotOpening, ours()];
            rules.push(Rule::plain(tcp, Verdict::Accept));
            rules.push(Rule::plain(vec![Match::Protocol(Protocol::Udp), ours()], Verdict::Accept));
            rules.extend(Rule::errors(family));
            let answer = icmp(family).answer;
            rules.push(Rule::plain(vec![Match::Icmp(family, answer..=answer)], Verdict::Accept));
            rules.push(Rule::plain(vec![Match::Fragment(family)], Verdict::Accept));
        }
        rules
    }

    /// What goes out to a host whose ports are all banned: connections of this machine's own. TCP tells by its first
    /// packet who begins. UDP does not: there a server is told by its port.
    fn outgoing(&self, rejects: bool) -> Vec<Rule> {
        let keep = |family, kept: Duration, mut matches: Vec<Match>, protocol| {
            matches.insert(0, Match::Protocol(protocol));
            Rule { keeps: Some((family, kept)), ..Rule::plain(matches, Verdict::Accept) }
        };
        let mut rules = Vec::new();
        for family in self.ours.iter().copied() {
            let ours = || vec![Match::Ours(Way::Out, family)];
            rules.push(keep(family, TCP_KEPT, ours(), Protocol::Tcp));
            rules.push(keep(family, TCP_KEPT, vec![Match::Opening], Protocol::Tcp));
            rules.push(keep(family, UDP_KEPT, ours(), Protocol::Udp));
            rules.extend(Rule::errors(family));
            let question = icmp(family).question;
            rules.push(Rule::plain(vec![Match::Icmp(family, question..=question)], Verdict::Accept));
        }
        if rejects {
            rules.extend(Rule::rejections(&[]));
        }
        let served = if self.served { Match::Served } else { Match::FromPort(0..=CLIENTS.start() - 1) };
        rules.push(Rule::plain(vec![Match::Protocol(Protocol::Udp), served], Verdict::Drop));
        for family in self.ours.iter().copied() {
            // Of hosts behind this machine nobody knows which ports they serve.
            for client in [Match::OwnSocket, Match::FromPort(CLIENTS)] {
                rules.push(keep(family, UDP_KEPT, vec![client], Protocol::Udp));
            }
        }
        rules.push(Rule::plain(vec![], Verdict::Drop));
        rules
    }
}

/// A jail of some ports and its rules.
struct OfPorts<'a> {
    ports: &'a Ports,
    rules: Vec<Rule>,
    rejects: bool,
}

impl Way {
    /// The name of a chain or map for packets that go this way.
    fn named(self, name: &str) -> String {
        match self {
            Way::In => name.into(),
            Way::Out => format!("out_{name}"),
        }
    }
}

/// The types of a family's ICMP.
struct Icmp {
    question: u8,
    answer: u8,
    errors: &'static [RangeInclusive<u8>],
}

fn icmp(family: Family) -> Icmp {
    match family {
        // Destination unreachable; time exceeded, parameter problem.
        Family::V4 => Icmp { question: 8, answer: 0, errors: &[3..=3, 11..=12] },
        // Those and packet too big.
        Family::V6 => Icmp { question: 128, answer: 129, errors: &[1..=4] },
    }
}

impl Rule {
    fn plain(matches: Vec<Match>, verdict: Verdict) -> Rule {
        Rule { matches, keeps: None, verdict, counts: None }
    }

    /// The rule of a set of bans; two to reject, since only TCP can be reset and only a reset ends a TCP client at once.
    fn ban(set: &BanSet, reject: bool) -> Vec<Rule> {
        let host = Match::Host(Way::In, set.family, set.length, set.name());
        let rule = |mut matches: Vec<Match>, verdict| {
            matches.push(host.clone());
            Rule { counts: Some(set.clone()), ..Rule::plain(matches, verdict) }
        };
        if reject {
            vec![rule(vec![Match::Protocol(Protocol::Tcp)], Verdict::Reset), rule(vec![], Verdict::Prohibit)]
        } else {
            vec![rule(vec![], Verdict::Drop)]
        }
    }

    /// Errors that ICMP tells, about what was sent.
    fn errors(family: Family) -> impl Iterator<Item = Rule> {
        let types = icmp(family).errors.iter();
        types.map(move |types| Rule::plain(vec![Match::Icmp(family, types.clone())], Verdict::Accept))
    }

    /// Lets out what a jail rejects with: resets, and ICMP errors where these `families` pass the chain.
    fn rejections(families: &[Family]) -> Vec<Rule> {
        let errors = families.iter().flat_map(|family| Rule::errors(*family));
        let reset = Rule::plain(vec![Match::Protocol(Protocol::Tcp), Match::Reset], Verdict::Accept);
        errors.chain([reset]).collect()
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
        Layout::new(&Policy { jails, ..Policy::default() }, &BTreeSet::new(), true, true)
    }

    fn chain<'a>(layout: &'a Layout, name: &str) -> Option<&'a Chain> {
        layout.chains.iter().find(|chain| chain.name == name)
    }

    #[test]
    fn jails_with_equal_ports_share_a_chain() {
        let layout = layout(vec![jail("a", tcp(22), Action::Drop), jail("b", tcp(22), Action::Drop)]);
        assert_eq!(chain(&layout, "group_1").unwrap().rules.len(), 5);
        assert_eq!(chain(&layout, "out_group_1").unwrap().rules.len(), 5);
        for base in ["ports", "out_ports"] {
            assert_eq!(chain(&layout, base).unwrap().rules.len(), 1);
        }
        assert!(chain(&layout, "hosts").is_none() && chain(&layout, "out_hosts").is_none() && layout.ours.is_empty());
    }

    #[test]
    fn a_packet_asks_one_map_however_many_jails_there_are() {
        let layout = layout((1..=50).map(|port| jail(&format!("j{port}"), tcp(port * 10), Action::Drop)).collect());
        assert_eq!(chain(&layout, "ports").unwrap().rules.len(), 1);
        assert_eq!((layout.maps["tcp_ports"].keys.len(), layout.maps["out_tcp_ports"].keys.len()), (50, 50));
        assert_eq!(chain(&layout, "group_50").unwrap().rules.len(), 3);
    }

    #[test]
    fn hosts_waits_for_the_first_ban_of_all_ports() {
        let mut manual = jail("manual", Scope::AllPorts, Action::Drop);
        manual.lengths.clear();
        let policy = Policy { jails: vec![manual], ..Policy::default() };
        assert_eq!(Layout::new(&policy, &BTreeSet::new(), true, true), Layout::default());
        let used = BanSet { jail: JailName::manual(), family: Family::V4, length: 23 };
        let layout = Layout::new(&policy, &BTreeSet::from([used]), true, true);
        let hooks: Vec<_> = layout.chains.iter().map(|chain| (chain.name.as_str(), chain.hook)).collect();
        assert_eq!(hooks, [("ours", None), ("hosts", Some(Way::In)), ("out_hosts", Some(Way::Out))]);
        assert_eq!((layout.ours, layout.served), (BTreeSet::from([Family::V4]), true));
    }

    #[test]
    fn a_jail_that_only_logs_has_nothing_in_the_kernel() {
        assert_eq!(layout(vec![jail("a", tcp(22), Action::Log)]), Layout::default());
    }

    #[test]
    fn a_kernel_that_cannot_reject_drops() {
        let policy = Policy { jails: vec![jail("a", tcp(22), Action::Reject)], ..Policy::default() };
        for (can, rules) in [(true, 5), (false, 3)] {
            let layout = Layout::new(&policy, &BTreeSet::new(), can, true);
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
