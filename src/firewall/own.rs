//! What goes on when a host is banned on all ports: which connections this machine has with it, and which ports are
//! servers'.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use super::batch::{Batch, Entry};
use super::elements::{ConnectionKey, Timeout, connection_key};
use super::keeper::{Keeper, Lack};
use super::name::BanSet;
use super::policy::Replies;
use super::table::{SERVED, TCP_KEPT, UDP_KEPT};
use super::tracked;
use crate::engine::ban::JailName;
use crate::engine::jail::scope::{Protocol, Scope};
use crate::engine::subject::{Family, Subject};

/// This machine's own connections, as the sets have them, and how long each is kept.
pub(super) type Ours = BTreeMap<Family, Vec<(ConnectionKey, Timeout)>>;

/// So many own connections with banned hosts are listed, of each family; a further one is cut off.
pub(super) const ROOM: usize = 65_536;

/// Hosts, by the prefixes that are banned.
#[derive(Debug, Default)]
pub(super) struct Hosts(BTreeMap<(Family, u8), HashSet<IpAddr>>);

impl Hosts {
    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.0.values().all(HashSet::is_empty)
    }

    /// Is it one of them?
    pub fn contains(&self, host: IpAddr) -> bool {
        let of = Subject::host(host).family();
        self.0.iter().any(|((family, length), networks)| {
            *family == of && Subject::around(host, *length).is_ok_and(|subject| networks.contains(&subject.network()))
        })
    }
}

impl Keeper {
    /// The hosts of these bans that are banned on all ports, while connections of our own to them go on.
    pub(super) fn hosts<'a>(&self, bans: impl Iterator<Item = (&'a BanSet, &'a [Entry])>) -> Hosts {
        let mut hosts = Hosts::default();
        if self.policy.replies == Replies::Accept {
            for (set, entries) in bans.filter(|(set, _)| self.bans_hosts(&set.jail)) {
                hosts.0.entry((set.family, set.length)).or_default().extend(entries.iter().map(|entry| entry.key));
            }
        }
        hosts
    }

    fn bans_hosts(&self, jail: &JailName) -> bool {
        let jail = self.policy.jails.iter().rev().find(|policy| policy.jail == *jail);
        jail.is_some_and(|jail| jail.scope == Scope::AllPorts)
    }

    /// Lists the connections that this machine has opened to these hosts, and returns them. Done before they are banned,
    /// so that no packet is lost, and again right behind it, for those that were opened in between.
    pub(super) fn keep(&mut self, hosts: &Hosts) -> Ours {
        let ours = self.ours(hosts);
        let mut batch = Batch::new();
        for family in &self.layout.ours {
            batch.connections(*family, ours.get(family).map_or(&[], Vec::as_slice));
        }
        // A transaction of its own: no ban waits for connections that there is no room for.
        let _ = self.commit(batch);
        ours
    }

    /// The connections that this machine has opened to these hosts.
    pub(super) fn ours(&mut self, hosts: &Hosts) -> Ours {
        let mut ours = Ours::new();
        if hosts.is_empty() {
            return ours;
        }
        let banned = |host| hosts.contains(host);
        let mut found = self.sockets.as_mut().and_then(|sockets| sockets.ours(banned).ok()).unwrap_or_default();
        found.extend(tracked::ours(banned).unwrap_or_default());
        for connection in found {
            let kept = match connection.protocol {
                Protocol::Tcp => TCP_KEPT,
                Protocol::Udp => UDP_KEPT,
            };
            let timeout = Timeout::Millis(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX));
            let family = Subject::host(connection.host).family();
            ours.entry(family).or_default().push((connection_key(&connection), timeout));
        }
        ours
    }

    /// Notes to which ports of hosts behind this machine these hosts sent something, before they are banned.
    pub(super) fn note_published(&mut self, hosts: &Hosts) {
        if !hosts.is_empty() {
            self.published.extend(tracked::served(|host| hosts.contains(host)).unwrap_or_default());
        }
    }

    /// The ports of the UDP servers that there are.
    pub(super) fn servers(&mut self) -> Option<BTreeSet<u16>> {
        let Ok(mut served) = self.sockets.as_mut()?.served() else {
            self.sockets = None;
            self.lacks.insert(Lack::Sockets);
            return None;
        };
        served.extend(&self.published);
        Some(served)
    }

    /// Brings the set of the ports of UDP servers up to date. Whoever is to be banned has sessions with those of now alone.
    pub(super) fn serve(&mut self, batch: &mut Batch) {
        if !self.layout.served {
            return;
        }
        if let Some(served) = self.servers().filter(|served| self.served.as_ref() != Some(served)) {
            batch.empty_set(SERVED);
            batch.served(&served);
            self.served = Some(served);
        }
    }
}
