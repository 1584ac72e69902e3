//! The configuration as validated types: no string of a file is left in them that still could be wrong.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::ban::JailName;
use crate::engine::filter::{Definition, Filter};
use crate::engine::jail::Rules;
use crate::engine::jail::allow::AllowList;
use crate::engine::jail::scope::Scope;
use crate::engine::time::Length;

/// Everything that the configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// All jails that are whole, the disabled ones among them, in the order of their names.
    pub jails: Vec<Jail>,
    /// The journals beside this machine's own, in the order of their names.
    pub sources: Vec<Source>,
    /// What concerns the nftables table as a whole.
    pub firewall: FirewallSettings,
    /// `[default] bantime`: for how long a ban by hand is where it does not say.
    pub bantime: Length,
    /// How long the ledger remembers what is over.
    pub history: Duration,
    /// How far back a start reads the journal where no snapshot says what was counted.
    pub replay_max: Duration,
    /// Are this machine's own addresses left alone, where a jail does not say otherwise?
    pub ignoreself: bool,
    /// `[default] ignoreip`: who is left alone by all jails and let through by the firewall before it looks at bans.
    pub allow: AllowList,
}

/// One jail.
#[derive(Clone, Debug)]
pub struct Jail {
    /// Its name; no two names differ in case alone, and none is `manual`.
    pub name: JailName,
    /// Is it to run?
    pub enabled: bool,
    /// How it counts and bans; the allow list is [`Settings::allow`] and [`Jail::allow_extra`] together.
    pub rules: Rules,
    /// Which packets a ban stops.
    pub scope: Scope,
    /// The name of its filter: of the file in `filter.d` without `.toml`.
    pub filter_name: String,
    /// The filter's mode, `normal` for the filter alone.
    pub mode: String,
    /// What the filter was made of, mode and the jail's own `journalmatch` included: equal where nothing must be fed anew.
    /// None for a jail that is not enabled where [only what runs](super::load_to_run) was read.
    pub definition: Option<Arc<Definition>>,
    /// The filter, where its definition is there; jails of the same filter and mode share one.
    pub filter: Option<Arc<Filter>>,
    /// The journals that it reads: of those that are declared and whole.
    pub sources: BTreeSet<SourceName>,
    /// The jail's own `ignoreip`.
    pub allow_extra: AllowList,
    /// Are this machine's own addresses left alone by this jail?
    pub ignoreself: bool,
}

impl Settings {
    /// Takes over the filters of former settings where they are the same, with what was counted of their searches.
    pub fn go_on_with(&mut self, former: &Settings) {
        for jail in self.jails.iter_mut().filter(|jail| jail.filter.is_some()) {
            let same = |known: &&Jail| known.filter.is_some() && known.definition == jail.definition;
            if let Some(known) = former.jails.iter().filter(|known| known.filter_name == jail.filter_name).find(same) {
                jail.filter.clone_from(&known.filter);
            }
        }
    }
}

impl Jail {
    /// Which entries are asked for, in journalctl's notation, one line for each alternative; none where the filter was
    /// not read.
    pub fn journalmatch(&self) -> &[String] {
        self.definition.as_ref().map_or(&[], |definition| &definition.journalmatch)
    }

    /// Its name and its filter, for a sieve.
    pub fn sieved(&self) -> Option<(JailName, Arc<Filter>)> {
        Some((self.name.clone(), Arc::clone(self.filter.as_ref()?)))
    }
}

/// `[source.NAME]`: a journal beside this machine's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name; none is `local`.
    pub name: SourceName,
    /// Where its entries are.
    pub location: Location,
}

/// Where a source's entries are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// In the journal of this namespace.
    Namespace(String),
    /// In the files of this directory, which are one journal: a container's, for instance.
    Directory(PathBuf),
    /// In this directory of `systemd-journal-remote`, where the files of each sender are a journal of their own.
    Remote(PathBuf),
}

/// The name of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

impl SourceName {
    pub(super) fn new(name: &str) -> SourceName {
        SourceName(name.into())
    }

    /// This machine's own journal.
    pub fn local() -> SourceName {
        SourceName::new("local")
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[firewall]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallSettings {
    /// What becomes of a banned host's replies to connections that this machine made.
    pub replies: Replies,
    /// Whose packets are looked at.
    pub scope: Traffic,
    /// The interfaces whose packets are looked at; empty for all. Each a valid interface name.
    pub interfaces: Vec<String>,
    /// Does the table belong to the daemon alone, so that nobody else can change it?
    pub owner: bool,
}

/// What becomes of a banned host's replies to connections that this machine made, in jails of all ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// They pass.
    Accept,
    /// They are dropped too.
    Drop,
}

/// Whose packets the firewall looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Packets to this machine and packets that it forwards, to containers for instance.
    All,
    /// Packets to this machine alone.
    Local,
}
