//! What the kernel has of our table: its chains and sets by name, its counters, and a fingerprint of all but the bans.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::IpAddr;

use rustables::sys;

use super::TABLE;
use super::elements::{ConnectionKey, Shown, Timeout, key_width};
use super::link::{Link, Question};
use super::name::{self, BanSet};
use super::rules::connection_key;
use super::table::{SERVED, Verdict};
use super::wire::{Attributes, INET, Message, text, u32_be, u64_be};
use crate::engine::subject::Family;

/// Packets that bans kept away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
}

/// Which rule counted: a set has one, and a second where TCP is reset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counted {
    set: BanSet,
    reset: bool,
}

impl Counted {
    /// The rule of this set with this verdict.
    pub fn new(set: &BanSet, verdict: &Verdict) -> Counted {
        Counted { set: set.clone(), reset: *verdict == Verdict::Reset }
    }

    /// The set whose hits it counts.
    pub fn set(&self) -> &BanSet {
        &self.set
    }
}

/// An element of any other set or map.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Mapped {
    key: Vec<u8>,
    ends: bool,
    to: Vec<u8>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The table, if there is one.
    pub table: Option<TableFound>,
    /// Its chains.
    pub chains: Vec<String>,
    /// Its sets.
    pub sets: Vec<SetFound>,
    /// Its counters.
    pub counted: BTreeMap<Counted, Dropped>,
    /// Equal as long as nobody changes anything but bans and counters.
    pub fingerprint: u64,
}

/// The table's own attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TableFound {
    /// `NFT_TABLE_F_*`.
    pub flags: u32,
    /// The netlink port of its owner.
    pub owner: Option<u32>,
}

/// A set.
#[derive(Clone, Debug)]
pub(super) struct SetFound {
    /// Its name.
    pub name: String,
    /// What it is by its name, if its flags and keys are what such a set has.
    pub kind: SetKind,
    /// Is it a map, whose elements may lead to chains?
    pub map: bool,
}

/// What a set holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SetKind {
    /// Bans.
    Bans(BanSet),
    /// Our own connections with banned hosts of this family. Packets change it.
    Ours(Family),
    /// The ports of UDP servers. Bans change it.
    Served,
    /// Anything else.
    Other,
}

/// An element of a set of bans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Its key, whatever it is.
    pub key: IpAddr,
    /// What is left of its time.
    pub left: Timeout,
}

impl Survey {
    /// Looks at everything but the bans.
    pub fn take(link: &mut Link) -> io::Result<Survey> {
        let Some(table) = table(link)? else { return Ok(Survey::default()) };
        let mut survey = Survey { table: Some(table), ..Survey::default() };
        let mut hasher = DefaultHasher::new();
        table.flags.hash(&mut hasher);
        survey.chains(link, &mut hasher)?;
        survey.sets(link, &mut hasher)?;
        survey.counted = rules(link, &mut hasher)?;
        survey.fingerprint = hasher.finish();
        Ok(survey)
    }

    fn chains(&mut self, link: &mut Link, hasher: &mut DefaultHasher) -> io::Result<()> {
        // The kernel shows all tables' chains.
        let question = Question { kind: sys::NFT_MSG_GETCHAIN, all: true, attributes: &[] };
        let found = link.ask(&question, |message, found: &mut Vec<(String, Vec<u8>)>| {
            let attributes = message.attributes();
            if is_ours(message, sys::NFTA_CHAIN_TABLE)
                && let Some(name) = attributes.find_kind(sys::NFTA_CHAIN_NAME).and_then(text)
            {
                let kept = [sys::NFTA_CHAIN_HOOK, sys::NFTA_CHAIN_POLICY, sys::NFTA_CHAIN_TYPE, sys::NFTA_CHAIN_FLAGS];
                let bytes = kept.iter().flat_map(|kind| attributes.find_kind(*kind).unwrap_or_default()).copied();
                found.push((name.to_owned(), bytes.collect()));
            }
        })?;
        let mut found = found.unwrap_or_default();
        found.sort();
        found.hash(hasher);
        self.chains = found.into_iter().map(|(name, _)| name).collect();
        Ok(())
    }

    fn sets(&mut self, link: &mut Link, hasher: &mut DefaultHasher) -> io::Result<()> {
        let mut found = sets(link)?;
        found.sort_by(|one, two| one.name.cmp(&two.name));
        for set in &found {
            (&set.name, set.kind == SetKind::Other).hash(hasher);
            if set.kind == SetKind::Other {
                let mut keys = element_keys(link, &set.name)?;
                // `nft` begins an interval set by the end of what is before its first interval, with no meaning.
                keys.retain(|Mapped { key, ends, .. }| !ends || key.iter().any(|byte| *byte != 0));
                keys.sort();
                keys.hash(hasher);
            }
        }
        self.sets = found;
        Ok(())
    }
}

/// The table itself, if it is there.
pub(super) fn table(link: &mut Link) -> io::Result<Option<TableFound>> {
    let question = Question { kind: sys::NFT_MSG_GETTABLE, all: false, attributes: &[(sys::NFTA_TABLE_NAME, TABLE)] };
    let found = link.ask(&question, |message, found| {
        let attributes = message.attributes();
        let number = |kind| attributes.find_kind(kind).and_then(u32_be);
        found.push(TableFound {
            flags: number(sys::NFTA_TABLE_FLAGS).unwrap_or_default(),
            owner: number(sys::NFTA_TABLE_OWNER).filter(|port| *port != 0),
        });
    })?;
    Ok(found.and_then(|found| found.first().copied()))
}

/// The counters of our rules; all but the counters goes into `hasher`, rule by rule.
pub(super) fn rules(link: &mut Link, hasher: &mut DefaultHasher) -> io::Result<BTreeMap<Counted, Dropped>> {
    let question = Question { kind: sys::NFT_MSG_GETRULE, all: true, attributes: &[(sys::NFTA_RULE_TABLE, TABLE)] };
    let found = link.ask(&question, |message, found: &mut Vec<Seen>| {
        if is_ours(message, sys::NFTA_RULE_TABLE) {
            found.push(Seen::read(message));
        }
    })?;
    let mut counted: BTreeMap<Counted, Dropped> = BTreeMap::new();
    let mut shapes: Vec<Vec<u8>> = Vec::new();
    for seen in found.unwrap_or_default() {
        if let Some((key, dropped)) = seen.counted {
            *counted.entry(key).or_default() += dropped;
        }
        shapes.push(seen.shape);
    }
    shapes.hash(hasher);
    Ok(counted)
}

/// A rule as the kernel shows it.
struct Seen {
    /// Chain, comment and expressions without the counter's numbers.
    shape: Vec<u8>,
    counted: Option<(Counted, Dropped)>,
}

impl Seen {
    fn read(message: &Message<'_>) -> Seen {
        let attributes = message.attributes();
        let mut shape = Vec::new();
        for kind in [sys::NFTA_RULE_CHAIN, sys::NFTA_RULE_USERDATA] {
            shape.extend(attributes.find_kind(kind).unwrap_or_default());
        }
        let (mut set, mut dropped, mut reset) = (None, None, false);
        let list = Attributes(attributes.find_kind(sys::NFTA_RULE_EXPRESSIONS).unwrap_or_default());
        for (_, expression) in list {
            let name = Attributes(expression).find_kind(sys::NFTA_EXPR_NAME).unwrap_or_default();
            let data = Attributes(expression).find_kind(sys::NFTA_EXPR_DATA).unwrap_or_default();
            shape.extend(name);
            match text(name) {
                Some("counter") => dropped = Some(Dropped::read(data)),
                Some("lookup") => {
                    set = Attributes(data).find_kind(sys::NFTA_LOOKUP_SET).and_then(text).and_then(BanSet::parse)
                }
                Some("reject") => {
                    let kind = Attributes(data).find_kind(sys::NFTA_REJECT_TYPE).and_then(u32_be);
                    reset = kind == Some(sys::NFT_REJECT_TCP_RST);
                }
                _ => {}
            }
            if text(name) != Some("counter") {
                shape.extend(data);
            }
        }
        Seen { shape, counted: set.zip(dropped).map(|(set, dropped)| (Counted { set, reset }, dropped)) }
    }
}

impl Dropped {
    fn read(counter: &[u8]) -> Dropped {
        let number = |kind| Attributes(counter).find_kind(kind).and_then(u64_be).unwrap_or_default();
        Dropped { packets: number(sys::NFTA_COUNTER_PACKETS), bytes: number(sys::NFTA_COUNTER_BYTES) }
    }
}

impl std::ops::AddAssign for Dropped {
    fn add_assign(&mut self, other: Dropped) {
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The sets of our table.
fn sets(link: &mut Link) -> io::Result<Vec<SetFound>> {
    let question = Question { kind: sys::NFT_MSG_GETSET, all: true, attributes: &[(sys::NFTA_SET_TABLE, TABLE)] };
    let found = link.ask(&question, |message, found| {
        if is_ours(message, sys::NFTA_SET_TABLE)
            && let Some(name) = message.attributes().find_kind(sys::NFTA_SET_NAME).and_then(text)
        {
            let flags = message.attributes().find_kind(sys::NFTA_SET_FLAGS).and_then(u32_be).unwrap_or_default();
            let map = flags & sys::NFT_SET_MAP != 0;
            found.push(SetFound { name: name.to_owned(), kind: kind_of(message, name), map });
        }
    })?;
    Ok(found.unwrap_or_default())
}

/// Which set it is: by its name, and only with the flags and the keys of such a set.
fn kind_of(message: &Message<'_>, name: &str) -> SetKind {
    let attributes = message.attributes();
    let number = |kind| attributes.find_kind(kind).and_then(u32_be).unwrap_or_default();
    // `nft` marks keys of several parts.
    let flags = number(sys::NFTA_SET_FLAGS) & !sys::NFT_SET_CONCAT;
    let is = |wanted, width: usize| {
        flags == wanted
            && usize::try_from(number(sys::NFTA_SET_KEY_LEN)) == Ok(width)
            && attributes.find_kind(sys::NFTA_SET_TIMEOUT).is_none()
    };
    if let Some(set) = BanSet::parse(name)
        && is(sys::NFT_SET_TIMEOUT, key_width(set.family))
    {
        return SetKind::Bans(set);
    }
    for family in [Family::V4, Family::V6] {
        if name == name::ours(family) && is(sys::NFT_SET_TIMEOUT | sys::NFT_SET_EVAL, connection_key(family).1 as usize)
        {
            return SetKind::Ours(family);
        }
    }
    if name == SERVED && is(0, 2) { SetKind::Served } else { SetKind::Other }
}

/// Our own connections with banned hosts of this family, and how long each is kept yet.
pub(super) fn ours(link: &mut Link, family: Family) -> io::Result<Vec<(ConnectionKey, Timeout)>> {
    let width = connection_key(family).1 as usize;
    of_set(link, &name::ours(family), |shown| (shown.key.len() == width).then(|| (shown.key.to_vec(), shown.left)))
}

/// The elements of a set of bans; none where there is no such set.
pub(super) fn elements(link: &mut Link, set: &BanSet) -> io::Result<Vec<Found>> {
    of_set(link, &set.name(), |shown| shown.address().map(|key| Found { key, left: shown.left }))
}

fn element_keys(link: &mut Link, set: &str) -> io::Result<Vec<Mapped>> {
    of_set(link, set, |shown| Some(Mapped { key: shown.key.to_vec(), ends: shown.ends, to: shown.to.to_vec() }))
}

fn of_set<T>(link: &mut Link, set: &str, keep: impl Fn(&Shown<'_>) -> Option<T>) -> io::Result<Vec<T>> {
    let attributes = [(sys::NFTA_SET_ELEM_LIST_TABLE, TABLE), (sys::NFTA_SET_ELEM_LIST_SET, set)];
    let question = Question { kind: sys::NFT_MSG_GETSETELEM, all: true, attributes: &attributes };
    let found = link.ask(&question, |message, found| {
        let list = message.attributes().find_kind(sys::NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
        found
            .extend(Attributes(list).filter_map(|(_, element)| Shown::parse(element)).filter_map(|shown| keep(&shown)));
    })?;
    Ok(found.unwrap_or_default())
}

/// Is the message about our table? `table` is the attribute with the table's name.
pub(super) fn is_ours(message: &Message<'_>, table: u16) -> bool {
    message.family() == Some(INET) && message.attributes().find_kind(table).and_then(text) == Some(TABLE)
}

/// Reads any message as a part of each dump.
#[cfg(any(test, fuzzing))]
pub(super) fn read_garbled(message: &Message<'_>) {
    Seen::read(message);
    for name in ["sshd4_32", "sshd6_64", "ours4", "ours6", SERVED] {
        kind_of(message, name);
    }
    if let Some(set) = message.attributes().find_kind(sys::NFTA_SET_NAME).and_then(text).and_then(BanSet::parse) {
        assert_eq!(BanSet::parse(&set.name()), Some(set));
    }
    let list = message.attributes().find_kind(sys::NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    for shown in Attributes(list).filter_map(|(_, element)| Shown::parse(element)) {
        assert!(!shown.key.is_empty());
    }
    is_ours(message, sys::NFTA_RULE_TABLE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::wire::{Messages, Writer};
    use proptest::prelude::*;

    fn rule() -> Writer {
        let mut writer = Writer::default();
        writer.message(0, 0, 0, INET, 0);
        writer.text(sys::NFTA_RULE_TABLE, TABLE);
        let list = writer.open(sys::NFTA_RULE_EXPRESSIONS);
        let number = |writer: &mut Writer, kind, value: u64| writer.attribute(kind, &value.to_be_bytes());
        for name in ["lookup", "counter"] {
            let expression = writer.open(sys::NFTA_LIST_ELEM);
            writer.text(sys::NFTA_EXPR_NAME, name);
            let data = writer.open(sys::NFTA_EXPR_DATA);
            if name == "lookup" {
                writer.text(sys::NFTA_LOOKUP_SET, "sshd4_32");
            } else {
                number(&mut writer, sys::NFTA_COUNTER_PACKETS, 12);
                number(&mut writer, sys::NFTA_COUNTER_BYTES, 1234);
            }
            writer.close(data);
            writer.close(expression);
        }
        writer.close(list);
        writer.end_message();
        writer
    }

    #[test]
    fn a_rules_counter_is_that_of_its_set() {
        let rule = rule();
        let seen = Seen::read(&Messages(&rule.bytes).next().unwrap());
        let (counted, dropped) = seen.counted.unwrap();
        assert_eq!((counted.set().name(), dropped), ("sshd4_32".into(), Dropped { packets: 12, bytes: 1234 }));
    }

    proptest! {
        #[test]
        fn a_garbled_rule_is_read_without_panic(at in 0usize..200, value: u8) {
            let mut rule = rule();
            let length = rule.bytes.len();
            rule.bytes[at % length] = value;
            for message in Messages(&rule.bytes) {
                Seen::read(&message);
                kind_of(&message, "sshd4_32");
            }
        }
    }
}
