//! What the settings mean for each of the others: the warden's rules, the reader's sieve, the firewall's policy.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Jail, Settings, SourceName, Traffic};
use crate::engine::ban::JailName;
use crate::engine::entry::{Entry, Field, Locate, Wanted};
use crate::engine::filter::{Filter, Held, Hit, OpenSessions, Part, Sieve};
use crate::engine::jail::allow::AllowList;
use crate::engine::jail::scope::Scope;
use crate::engine::jail::{Action, Rules};
use crate::engine::subject::Subject;
use crate::engine::time::Stamp;
use crate::firewall::{JailPolicy, Policy, Reach, Replies};
use crate::journal::Examine;

/// The jails that run.
pub fn enabled(settings: &Settings) -> impl Iterator<Item = &Jail> {
    settings.jails.iter().filter(|jail| jail.enabled)
}

/// How each jail counts, the built-in one among them. `own` are this machine's addresses, for the jails that leave
/// them alone.
pub fn rules(settings: &Settings, own: &[IpAddr]) -> Vec<(JailName, Rules)> {
    let own: Vec<Subject> = own.iter().copied().map(Subject::host).collect();
    let mut all: Vec<(JailName, Rules)> = enabled(settings)
        .map(|jail| {
            let mut rules = jail.rules.clone();
            if jail.ignoreself {
                let known = rules.allow.subjects().iter();
                rules.allow = known.chain(&own).copied().collect::<AllowList>();
            }
            (jail.name.clone(), rules)
        })
        .collect();
    all.push((JailName::manual(), manual(settings)));
    all
}

/// The built-in jail of bans by hand: it has no filter and counts nothing.
fn manual(settings: &Settings) -> Rules {
    Rules {
        maxretry: 1,
        findtime: Duration::ZERO,
        bantime: settings.bantime,
        action: Action::Drop,
        ipv6_prefix: 128,
        allow: settings.allow.clone(),
    }
}

/// The jails that run and read this source.
pub fn of_source<'a>(settings: &'a Settings, source: &'a SourceName) -> impl Iterator<Item = &'a Jail> {
    enabled(settings).filter(move |jail| jail.sources.contains(source))
}

/// A hash of all that says which failures a jail counts and for whom: counts of a jail with another are of no use.
pub fn fingerprint(settings: &Settings, jail: &Jail) -> u64 {
    let mut hasher = DefaultHasher::new();
    (jail.filter.as_ref().map(|filter| filter.fingerprint()), jail.rules.ipv6_prefix, &jail.sources).hash(&mut hasher);
    // Of the same name, but another journal.
    let locations = settings.sources.iter().filter(|source| jail.sources.contains(&source.name));
    locations.for_each(|source| source.location.hash(&mut hasher));
    hasher.finish()
}

/// The filters of the jails that run and read this source.
pub fn sieve(settings: &Settings, source: &SourceName) -> Sieve {
    Sieve::new(of_source(settings, source).filter_map(Jail::sieved).collect())
}

/// A pattern of which searches ended without an answer.
pub struct GaveUp<'a> {
    /// The first jail of the filter's.
    pub jail: &'a JailName,
    /// The filter.
    pub filter: &'a str,
    /// The pattern.
    pub pattern: Part,
    /// How many searches.
    pub count: u64,
}

/// The patterns of all running jails that gave no answer, each filter once.
pub fn given_up(settings: &Settings) -> Vec<GaveUp<'_>> {
    let mut seen: Vec<*const Filter> = Vec::new();
    let mut all = Vec::new();
    for (jail, filter) in enabled(settings).filter_map(|jail| Some((jail, jail.filter.as_ref()?))) {
        let given_up = filter.given_up();
        if given_up.is_empty() || seen.contains(&Arc::as_ptr(filter)) {
            continue;
        }
        seen.push(Arc::as_ptr(filter));
        let told = given_up.into_iter();
        all.extend(told.map(|(pattern, count)| GaveUp { jail: &jail.name, filter: filter.name(), pattern, count }));
    }
    all
}

/// The rules that enforce the jails' bans. `spared` are jails that a mistake left out: nobody knows their ports now, so
/// the bans that they have stay in force on all of them.
pub fn policy(settings: &Settings, spared: &BTreeSet<JailName>) -> Policy {
    let mut jails: Vec<JailPolicy> = enabled(settings)
        .map(|jail| JailPolicy {
            jail: jail.name.clone(),
            scope: jail.scope.clone(),
            action: jail.rules.action,
            allow: jail.allow_extra.clone(),
            lengths: match jail.scope {
                Scope::Ports(_) => JailPolicy::usual_lengths(jail.rules.ipv6_prefix),
                // Its sets come with its first ban, and the chain that needs connection tracking with them.
                Scope::AllPorts => Default::default(),
            },
        })
        .collect();
    jails.extend(spared.iter().cloned().chain([JailName::manual()]).map(|jail| JailPolicy {
        jail,
        scope: Scope::AllPorts,
        action: Action::Drop,
        allow: AllowList::default(),
        lengths: Default::default(),
    }));
    Policy {
        jails,
        allow: settings.allow.clone(),
        replies: match settings.firewall.replies {
            config::Replies::Accept => Replies::Accept,
            config::Replies::Drop => Replies::Drop,
        },
        reach: match settings.firewall.scope {
            Traffic::All => Reach::All,
            Traffic::Local => Reach::Local,
        },
        interfaces: settings.firewall.interfaces.clone(),
        owner: settings.firewall.owner,
    }
}

/// How far before `from` the journal has to be read so that the windows are full again: the longest findtime, but no
/// more than `replay-max`.
pub fn feed_from(settings: &Settings, from: Stamp) -> Stamp {
    let longest = enabled(settings).map(|jail| jail.rules.findtime).max().unwrap_or_default();
    from.before(longest.min(settings.replay_max))
}

/// The sieve as the reader asks it.
pub struct Sifter {
    sieve: Sieve,
    hits: Vec<Hit>,
}

impl Sifter {
    /// For one reader.
    pub fn new(sieve: Sieve) -> Sifter {
        Sifter { sieve, hits: Vec::new() }
    }
}

impl Examine for Sifter {
    fn wanted(&self) -> &Wanted {
        self.sieve.wanted()
    }

    fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        self.sieve.terms()
    }

    fn examine(&mut self, entry: Entry<'_>, locate: Locate<'_>, sighted: &mut dyn FnMut(Hit)) {
        self.sieve.examine(entry, locate, &mut self.hits);
        self.hits.drain(..).for_each(sighted);
    }

    fn pass(&mut self, now: Stamp, sighted: &mut dyn FnMut(Hit)) {
        self.sieve.pass(now, &mut self.hits);
        self.hits.drain(..).for_each(sighted);
    }

    fn held(&self) -> Option<Held> {
        self.sieve.held()
    }

    fn examined(&self) -> u64 {
        self.sieve.examined()
    }

    fn sessions(&self) -> Vec<OpenSessions> {
        self.sieve.sessions()
    }

    fn resume(&mut self, sessions: &[OpenSessions]) {
        self.sieve.resume(sessions);
    }
}
