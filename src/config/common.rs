//! The keys that `[default]` and every jail share: what they may say, and what holds where nobody says anything.

use std::time::Duration;

use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile, Provider};

use super::length;
use super::merged::{Item, any_of, excerpt};
use super::problem::Problem;
use super::settings::{FirewallSettings, Replies, Traffic};
use crate::engine::jail::Action;
use crate::engine::jail::scope::Protocol;
use crate::engine::subject::{Subject, SubjectError};
use crate::engine::time::Length;

/// The longest time that a key takes, where its reader sets no other bound.
pub(super) const TEN_YEARS: Duration = Duration::from_secs(3650 * 86_400);
const SECOND: Duration = Duration::from_secs(1);

const ACTIONS: [(&str, Action); 3] = [("drop", Action::Drop), ("reject", Action::Reject), ("log", Action::Log)];
const PROTOCOLS: [(&str, Protocol); 2] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const REPLIES: [(&str, Replies); 2] = [("accept", Replies::Accept), ("drop", Replies::Drop)];
const TRAFFIC: [(&str, Traffic); 2] = [("all", Traffic::All), ("local", Traffic::Local)];

/// What a jail may say about counting and banning and `[default]` may say for all.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) enabled: bool,
    pub(super) maxretry: u32,
    pub(super) findtime: Duration,
    pub(super) bantime: Length,
    pub(super) action: Action,
    pub(super) ipv6_prefix: u8,
    pub(super) ignoreip: Vec<Subject>,
    pub(super) ignoreself: bool,
    pub(super) protocols: Vec<Protocol>,
}

impl Common {
    /// The keys that [`Common::set`] knows.
    pub(super) const KEYS: [&'static str; 10] = [
        "enabled",
        "maxretry",
        "findtime",
        "bantime",
        "action",
        "ipv6-prefix",
        "ignoreip",
        "ignoreself",
        "protocol",
        "usedns",
    ];

    /// Takes the value of one of [`Common::KEYS`]; `false` for another key. A bad value leaves what was there.
    pub(super) fn set(&mut self, item: &Item<'_>, problems: &mut Vec<Problem>) -> bool {
        match item.name() {
            "enabled" => put(&mut self.enabled, item.flag(), problems),
            "maxretry" => put(&mut self.maxretry, item.number(1, 1000), problems),
            "findtime" => put(&mut self.findtime, item.length(SECOND, TEN_YEARS), problems),
            "bantime" => put(&mut self.bantime, bantime(item), problems),
            "action" => put(&mut self.action, item.word(&ACTIONS), problems),
            "ipv6-prefix" => {
                // A wider prefix is not one customer's; the number fits a byte.
                let length = item.number(32, 128).map(|length| u8::try_from(length).unwrap_or(128));
                put(&mut self.ipv6_prefix, length, problems);
            }
            "ignoreip" => {
                // Each file adds to it, so that none shortens the list of another.
                let listed = item.in_each_file().iter().flat_map(Item::list).collect::<Vec<_>>();
                self.ignoreip = listed.iter().filter_map(|one| kept(subject(one), problems)).collect();
            }
            "ignoreself" => put(&mut self.ignoreself, item.flag(), problems),
            "protocol" => {
                let given = item.list();
                let read: Vec<_> = given.iter().filter_map(|one| kept(one.word(&PROTOCOLS), problems)).collect();
                if given.is_empty() {
                    problems.push(item.error("expected \"tcp\" or \"udp\", found an empty list"));
                } else if read.len() == given.len() {
                    self.protocols = read;
                }
            }
            "usedns" => drop(kept(refuse_names(item), problems)),
            _ => return false,
        }
        true
    }
}

/// What the configuration says outside of jails.
#[derive(Clone, Debug)]
pub(super) struct General {
    pub(super) default: Common,
    pub(super) firewall: FirewallSettings,
    pub(super) history: Duration,
    pub(super) replay_max: Duration,
}

impl Default for General {
    fn default() -> General {
        General {
            default: Common {
                enabled: false,
                maxretry: 5,
                findtime: Duration::from_secs(10 * 60),
                bantime: Length::For(Duration::from_secs(3600)),
                action: Action::Drop,
                ipv6_prefix: 64,
                ignoreip: Vec::new(),
                ignoreself: true,
                protocols: vec![Protocol::Tcp],
            },
            firewall: FirewallSettings {
                replies: Replies::Accept,
                scope: Traffic::All,
                interfaces: Vec::new(),
                owner: false,
            },
            history: Duration::from_secs(30 * 86_400),
            replay_max: Duration::from_secs(3600),
        }
    }
}

impl General {
    /// The keys of `[firewall]`.
    pub(super) const FIREWALL_KEYS: [&'static str; 4] = ["replies", "scope", "interfaces", "owner"];

    /// Takes one key of `[firewall]`; `false` for another key.
    pub(super) fn set_firewall(&mut self, item: &Item<'_>, problems: &mut Vec<Problem>) -> bool {
        let firewall = &mut self.firewall;
        match item.name() {
            "replies" => put(&mut firewall.replies, item.word(&REPLIES), problems),
            "scope" => put(&mut firewall.scope, item.word(&TRAFFIC), problems),
            "interfaces" => {
                let given = item.list();
                let read: Vec<_> = given.iter().filter_map(|one| kept(interface(one), problems)).collect();
                // Fewer interfaces than were meant would let packets pass: all of them or none.
                if read.len() == given.len() {
                    firewall.interfaces = read;
                }
            }
            "owner" => put(&mut firewall.owner, item.flag(), problems),
            _ => return false,
        }
        true
    }

    /// Takes one of the keys that stand outside of all tables; `false` for another key.
    pub(super) fn set_top(&mut self, item: &Item<'_>, problems: &mut Vec<Problem>) -> bool {
        match item.name() {
            "history" => put(&mut self.history, item.length(Duration::ZERO, TEN_YEARS), problems),
            "replay-max" => put(&mut self.replay_max, item.length(Duration::ZERO, TEN_YEARS), problems),
            _ => return false,
        }
        true
    }
}

/// What holds where no file says anything, as the lowest layer of the merge.
pub(super) struct BuiltIn;

impl Provider for BuiltIn {
    fn metadata(&self) -> Metadata {
        Metadata::named("built in")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let General { default, firewall, history, replay_max } = General::default();
        let default: [(&str, Value); 10] = [
            ("enabled", default.enabled.into()),
            ("maxretry", default.maxretry.into()),
            ("findtime", length::show(default.findtime).into()),
            ("bantime", shown(default.bantime).into()),
            ("action", word_for(&ACTIONS, default.action).into()),
            ("ipv6-prefix", default.ipv6_prefix.into()),
            ("ignoreip", default.ignoreip.iter().map(Subject::to_string).collect::<Vec<_>>().into()),
            ("ignoreself", default.ignoreself.into()),
            ("protocol", default.protocols.iter().map(|one| word_for(&PROTOCOLS, *one)).collect::<Vec<_>>().into()),
            ("usedns", "no".into()),
        ];
        let firewall: [(&str, Value); 4] = [
            ("replies", word_for(&REPLIES, firewall.replies).into()),
            ("scope", word_for(&TRAFFIC, firewall.scope).into()),
            ("interfaces", firewall.interfaces.into()),
            ("owner", firewall.owner.into()),
        ];
        let dict = [
            ("default", table(default)),
            ("firewall", table(firewall)),
            ("history", length::show(history).into()),
            ("replay-max", length::show(replay_max).into()),
        ];
        Ok(Map::from([(Profile::Default, dict.map(|(key, value)| (key.to_owned(), value)).into())]))
    }
}

fn table<const N: usize>(values: [(&str, Value); N]) -> Value {
    Value::from(Dict::from(values.map(|(key, value)| (key.to_owned(), value))))
}

fn shown(length: Length) -> String {
    match length {
        Length::For(length) => length::show(length),
        Length::Permanent => "permanent".into(),
    }
}

fn word_for<T: PartialEq>(words: &[(&'static str, T)], meaning: T) -> &'static str {
    words.iter().find(|(_, known)| *known == meaning).map_or("", |(word, _)| word)
}

/// Keeps a good value and notes what is wrong with a bad one.
pub(super) fn kept<T>(read: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    read.map_err(|problem| problems.push(problem)).ok()
}

/// Overwrites `place` by a good value and notes what is wrong with a bad one.
pub(super) fn put<T>(place: &mut T, read: Result<T, Problem>, problems: &mut Vec<Problem>) {
    if let Some(value) = kept(read, problems) {
        *place = value;
    }
}

/// `usedns`: of fail2ban's answers there is one.
pub(super) fn refuse_names(item: &Item<'_>) -> Result<(), Problem> {
    match item.text() {
        Ok("no") => Ok(()),
        Ok("yes" | "warn") => Err(item.error(
            "a name is never looked up: whoever has its DNS would say who is banned; write \"no\", and let the daemon log \
             addresses",
        )),
        Ok("raw") => Err(item.error("what is banned is an address: write \"no\"")),
        _ => Err(item.expected("\"no\"")),
    }
}

fn bantime(item: &Item<'_>) -> Result<Length, Problem> {
    match (item.text(), item.integer()) {
        (Ok("permanent"), _) => Ok(Length::Permanent),
        (Ok("-1" | "infinity" | "forever"), _) | (_, Some(-1)) => {
            Err(item.error("a ban without an end is written \"permanent\""))
        }
        _ => item.length(SECOND, TEN_YEARS).map(Length::For),
    }
}

fn subject(item: &Item<'_>) -> Result<Subject, Problem> {
    let text = item.text().map_err(|_| item.expected("an address or a prefix"))?;
    if text.starts_with("file:") {
        return Err(item.error("lists in files are not supported by this version"));
    }
    refuse_words(item, text)?;
    text.parse().map_err(|error| match error {
        SubjectError::Unreadable(_) if is_host_name(text) => item.error(format!(
            "host names are not supported by this version, only addresses and prefixes: {}",
            excerpt(text)
        )),
        other => item.error(other.to_string()),
    })
}

/// fail2ban separates the words of a list by spaces and commas; here a list is an array.
pub(super) fn refuse_words(item: &Item<'_>, text: &str) -> Result<(), Problem> {
    let several = text.split([' ', ',', '\n', '\t']).filter(|word| !word.is_empty()).count() > 1;
    if several { Err(item.expected("one word; several are written [\"…\", \"…\"]")) } else { Ok(()) }
}

/// Could it be a name in the DNS? Its last label, other than an address's, does not start with a digit.
fn is_host_name(text: &str) -> bool {
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    last.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// The kernel's rule for names: `dev_valid_name`, 1 to 15 bytes, no slash, no colon, no space, not `.` or `..`.
fn interface(item: &Item<'_>) -> Result<String, Problem> {
    let name = item.text()?;
    let valid = (1..16).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if valid { Ok(name.into()) } else { Err(item.error(format!("{} is no interface's name", excerpt(name)))) }
}

/// The words for `known` in quotes: `"a", "b" or "c"`.
pub(super) fn choice<'a>(known: impl IntoIterator<Item = &'a str>) -> String {
    any_of(&known.into_iter().map(|word| format!("{word:?}")).collect::<Vec<_>>())
}
