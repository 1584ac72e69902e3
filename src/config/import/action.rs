//! What a jail does about a host in fail2ban, and which of it is ours: packets dropped or rejected, on ports or on all.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::{Definition, shown};
use super::error::ImportError;
use super::sections::{Overrides, Value};
use super::tree::Tree;
use super::words::{self, Named};

/// All that a jail's actions come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Doing {
    /// Is there one that shuts a host out?
    pub(super) bans: bool,
    pub(super) reject: bool,
    pub(super) all_ports: bool,
    /// Of the actions with ports, as they were written.
    pub(super) ports: Vec<String>,
    pub(super) protocols: Vec<String>,
    /// What is not carried over, or not as it was.
    pub(super) lost: Vec<String>,
    /// The ports and protocols of each action that has ports.
    pairs: BTreeSet<(BTreeSet<String>, BTreeSet<String>)>,
}

/// Those that work on a firewall; a name may go on behind a hyphen.
const FIREWALLS: [&str; 19] = [
    "iptables",
    "nftables",
    "firewallcmd",
    "ufw",
    "shorewall",
    "pf",
    "ipfw",
    "ipfilter",
    "bsd-ipfw",
    "npf",
    "apf",
    "csf",
    "route",
    "ipset",
    "osx-ipfw",
    "osx-afctl",
    "hostsdeny",
    "xt_recent",
    "blackhole",
];
/// Those whose bans know no ports, whatever the jail's are.
const PORTLESS: [&str; 8] = ["route", "hostsdeny", "osx-afctl", "apf", "csf", "shorewall", "ufw", "xt_recent"];

/// Reads a jail's `action`, expanded.
pub(super) fn read(tree: &mut Tree, text: &str, port: &str, protocol: &str) -> Doing {
    let mut doing = Doing::default();
    for one in words::several(text) {
        let named = match Named::parse(one) {
            Ok(named) => named,
            Err(reason) => {
                doing.lost.push(format!("action {}: {reason}", shown(one)));
                continue;
            }
        };
        if !is_one_of(&named.name, &FIREWALLS) {
            let name = shown(&named.name);
            doing.lost.push(match named.name.as_str() {
                "dummy" => "action dummy only reports, as action = \"log\" does".into(),
                _ => format!(
                    "action {name}: no commands are run; a program can follow bans on the bus, see banishctl monitor"
                ),
            });
            continue;
        }
        doing.firewall(tree, &named, port, protocol);
    }
    doing
}

impl Doing {
    /// Do some ports get protocols here that no action gives them? All ports have all protocols.
    pub(super) fn is_wider(&self) -> bool {
        let ports: BTreeSet<&BTreeSet<String>> = self.pairs.iter().map(|(ports, _)| ports).collect();
        let protocols: BTreeSet<&BTreeSet<String>> = self.pairs.iter().map(|(_, protocols)| protocols).collect();
        !self.all_ports && ports.len() > 1 && protocols.len() > 1
    }
}

fn is_one_of(name: &str, known: &[&str]) -> bool {
    known.iter().any(|known| name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

impl Doing {
    fn firewall(&mut self, tree: &mut Tree, named: &Named, port: &str, protocol: &str) {
        let parameters: BTreeMap<&str, &str> =
            named.parameters.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let given = |key: &str| parameters.get(key).copied();
        let mut known = |key: &str| option(tree, named, key);
        let (blocktype, kind) = match known("blocktype").and_then(|first| Ok((first, known("type")?))) {
            Ok(found) => found,
            Err(error) => {
                self.lost.push(format!("action {}: taken as one that drops: {error}", shown(&named.name)));
                (None, None)
            }
        };
        let blocktype = blocktype.unwrap_or_default().to_lowercase();
        let first = !self.bans;
        self.bans = true;
        if first {
            self.reject = ["reject", "return-", "return ", "unreach"].iter().any(|word| blocktype.contains(word));
        }
        let kinds = [kind.as_deref(), given("actiontype")];
        let all = named.name.contains("allports")
            || is_one_of(&named.name, &PORTLESS)
            || kinds.into_iter().flatten().any(|kind| kind.contains("allports"));
        if all {
            self.all_ports = true;
        } else {
            // What the action is not given its own file has, and only then the jail's is meant.
            let mut own = |key: &str, jail: &str| -> Vec<String> {
                let text = known(key).ok().flatten().or_else(|| given(key).map(str::to_owned));
                words::words(text.as_deref().unwrap_or(jail)).map(str::to_owned).collect()
            };
            let (ports, protocols) = (own("port", port), own("protocol", protocol));
            self.pairs.insert((ports.iter().cloned().collect(), protocols.iter().cloned().collect()));
            self.ports.extend(ports);
            self.protocols.extend(protocols);
        }
        if let Some(chain) =
            given("chain").filter(|chain| !matches!(*chain, "" | "INPUT" | "input") && !chain.starts_with('<'))
        {
            self.lost.push(format!(
                "action {}: chain {}: bans hold before all chains, for this machine and for what it forwards; of a \
                 published port of a container the published number is meant",
                shown(&named.name),
                shown(chain)
            ));
        }
    }
}

/// An option of an action's file, as the parameters make it.
fn option(tree: &mut Tree, named: &Named, key: &str) -> Result<Option<String>, ImportError> {
    let place = super::Place::whole(tree.root());
    let value = |text: &String| Value { text: text.clone(), place: place.clone() };
    let parameters: Vec<(String, Value)> =
        named.parameters.iter().map(|(key, text)| (key.clone(), value(text))).collect();
    let definition = Definition::read(tree, "action.d", &named.name, &parameters, &Overrides::new())?;
    Ok(definition.get(key)?.map(|value| value.text))
}
