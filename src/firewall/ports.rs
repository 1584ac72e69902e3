//! Which jails a port belongs to, so that a packet finds their chain with one lookup, however many jails there are.

use std::collections::{BTreeMap, BTreeSet};

use super::elements::{Key, interval_keys};
use crate::engine::jail::scope::{Ports, Protocol};

/// A range of so many ports at most is as many single ports: a hash map of them is asked faster than one of intervals.
const SINGLED: u16 = 16;

/// A verdict map: the chain that a packet to a port goes on in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortMap {
    /// Are its keys beginnings and ends? Else each stands for itself.
    pub intervals: bool,
    /// Its keys and where they lead; an end leads nowhere.
    pub keys: Vec<(Key, Option<String>)>,
}

/// All ports of all jails, cut where the jails that have them change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Each set of jails that have some port in common, as their places in the list given.
    pub groups: Vec<Vec<usize>>,
    /// First port, last port and the place of their group; ascending, none in two.
    spans: BTreeMap<Protocol, Vec<(u16, u16, usize)>>,
}

impl Cut {
    /// Cuts up these jails' ports.
    pub fn new(jails: &[&Ports]) -> Cut {
        let mut cut = Cut { groups: Vec::new(), spans: BTreeMap::new() };
        let mut known: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            // Where the jails change: who begins or ends before this port.
            let mut changes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
            for (jail, ports) in jails.iter().enumerate().filter(|(_, ports)| ports.protocols().contains(&protocol)) {
                for (first, last) in ports.ranges() {
                    changes.entry(u32::from(*first)).or_default().push(jail);
                    changes.entry(u32::from(*last) + 1).or_default().push(jail);
                }
            }
            let mut spans = Vec::new();
            let mut here: BTreeSet<usize> = BTreeSet::new();
            let mut from = 0;
            for (at, jails) in changes {
                if !here.is_empty() {
                    let group: Vec<usize> = here.iter().copied().collect();
                    let number = *known.entry(group.clone()).or_insert_with(|| {
                        cut.groups.push(group);
                        cut.groups.len() - 1
                    });
                    // A change lies at most one behind the last port.
                    spans.push((from as u16, (at - 1) as u16, number));
                }
                for jail in jails {
                    // A jail's own ranges neither touch nor overlap: this is a beginning or the end of what has begun.
                    if !here.remove(&jail) {
                        here.insert(jail);
                    }
                }
                from = at;
            }
            if !spans.is_empty() {
                cut.spans.insert(protocol, spans);
            }
        }
        cut
    }

    /// The maps that say it: for each protocol one of single ports, and one of ranges where there are any.
    pub fn maps(&self, chain: impl Fn(usize) -> String) -> Vec<(Protocol, String, PortMap)> {
        let mut maps = Vec::new();
        for (protocol, spans) in &self.spans {
            let (single, ranges): (Vec<_>, Vec<_>) =
                spans.iter().copied().partition(|(first, last, _)| last - first < SINGLED);
            let each =
                single.into_iter().flat_map(|(first, last, group)| (first..=last).map(move |port| (port, group)));
            let single = each.map(|(port, group)| {
                let key = Key { bytes: port.to_be_bytes().to_vec(), ends: false };
                (key, Some(chain(group)))
            });
            let ranges = ranges.into_iter().flat_map(|(first, last, group)| {
                let keys = interval_keys(&[(u128::from(first), u128::from(last))], 2);
                let to = chain(group);
                keys.into_iter().map(move |key| {
                    let to = (!key.ends).then(|| to.clone());
                    (key, to)
                })
            });
            let single = PortMap { intervals: false, keys: single.collect() };
            let ranges = PortMap { intervals: true, keys: ranges.collect() };
            for (word, map) in [("ports", single), ("ranges", ranges)] {
                if !map.keys.is_empty() {
                    maps.push((*protocol, format!("{protocol}_{word}"), map));
                }
            }
        }
        maps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ports(ranges: &[(u16, u16)], protocols: &[Protocol]) -> Ports {
        Ports::new(ranges.iter().map(|(first, last)| *first..=*last), protocols.iter().copied()).unwrap()
    }

    #[test]
    fn overlaps_are_cut_and_equal_sets_of_jails_are_one() {
        let tcp = &[Protocol::Tcp][..];
        let both = &[Protocol::Tcp, Protocol::Udp][..];
        let jails =
            [ports(&[(22, 22), (100, 200)], tcp), ports(&[(22, 22), (150, 65535)], both), ports(&[(25, 25)], tcp)];
        let cut = Cut::new(&jails.each_ref());
        assert_eq!(cut.groups, [vec![0, 1], vec![2], vec![0], vec![1]]);
        let expected = [(22, 22, 0), (25, 25, 1), (100, 149, 2), (150, 200, 0), (201, 65535, 3)];
        assert_eq!(cut.spans[&Protocol::Tcp], expected);
        assert_eq!(cut.spans[&Protocol::Udp], [(22, 22, 3), (150, 65535, 3)]);
    }

    #[test]
    fn short_ranges_are_single_ports_and_long_ones_intervals() {
        let jails = [ports(&[(5060, 5061), (2000, 2100), (65000, 65535)], &[Protocol::Udp])];
        let maps = Cut::new(&jails.each_ref()).maps(|group| format!("group_{group}"));
        let names: Vec<_> = maps.iter().map(|(_, name, map)| (name.as_str(), map.intervals)).collect();
        assert_eq!(names, [("udp_ports", false), ("udp_ranges", true)]);
        let keys = |at: usize| {
            let port = |key: &Key| u16::from_be_bytes([key.bytes[0], key.bytes[1]]);
            maps[at].2.keys.iter().map(|(key, to)| (port(key), key.ends, to.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(keys(0), [(5060, false, true), (5061, false, true)]);
        assert_eq!(keys(1), [(2000, false, true), (2101, true, false), (65000, false, true)]);
    }

    proptest! {
        #[test]
        fn each_port_leads_to_exactly_its_jails(
            jails in prop::collection::vec((prop::collection::vec((0u16..40, 0u16..40), 1..4), any::<bool>(), any::<bool>()), 0..6)
        ) {
            // Around the end of all ports as well as its beginning.
            let spread = |port: u16| if port < 20 { port } else { 65535 - (39 - port) };
            let jails: Vec<Ports> = jails.into_iter().filter_map(|(ranges, tcp, udp)| {
                let ranges = ranges.into_iter().map(|(one, two)| spread(one.min(two))..=spread(one.max(two)));
                let protocols = [(tcp, Protocol::Tcp), (udp, Protocol::Udp)];
                Ports::new(ranges, protocols.into_iter().filter(|(has, _)| *has).map(|(_, protocol)| protocol))
            }).collect();
            let cut = Cut::new(&jails.iter().collect::<Vec<_>>());
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for port in (0..40).map(spread) {
                    let has = |ports: &Ports| {
                        ports.protocols().contains(&protocol)
                            && ports.ranges().iter().any(|(first, last)| (*first..=*last).contains(&port))
                    };
                    let wanted: Vec<usize> = (0..jails.len()).filter(|at| has(&jails[*at])).collect();
                    let spans = cut.spans.get(&protocol).map_or(&[][..], Vec::as_slice);
                    let found: Vec<_> = spans.iter().filter(|(first, last, _)| (*first..=*last).contains(&port)).collect();
                    let groups: Vec<usize> = found.iter().flat_map(|(_, _, group)| cut.groups[*group].clone()).collect();
                    prop_assert!(found.len() <= 1);
                    prop_assert_eq!(groups, wanted);
                }
            }
        }
    }
}
