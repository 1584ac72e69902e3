//! One transaction: messages of rustables and of our codec in one buffer, and what each of them is about, so that a
//! refusal can be told in words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rustables::{MsgType, sys};

use super::TABLE;
use super::elements::{ConnectionKey, Key, Now, Timeout, write_ban, write_connection, write_interval_key};
use super::name::{self, BanSet};
use super::own::ROOM;
use super::ports::PortMap;
use super::rules::{self, TYPE_PORT};
use super::survey::{Counted, Dropped};
use super::table::{Rule, SERVED, Verdict};
use super::wire::{BODY, HEADER, INET, Messages, NEST_LIMIT, Writer};
use crate::engine::subject::Family;
use crate::engine::time::Stamp;

/// `NFT_MSG_DESTROYTABLE`, kernel ≥ 6.3: like a delete, but absence is fine. Newer than the headers of older systems.
const DESTROY_TABLE: u16 = 26;
/// `NFT_MSG_DESTROYSETELEM`, kernel ≥ 6.3.
const DESTROY_ELEMENTS: u16 = 30;

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;

/// A transaction being put together.
pub(super) struct Batch {
    writer: Writer,
    messages: Vec<Sent>,
    elements: usize,
}

/// A message of a batch: where it begins, and what it is about.
struct Sent {
    start: usize,
    about: About,
}

/// What a message is about.
#[derive(Clone, Debug)]
pub(super) enum About {
    /// The table itself.
    Table,
    /// Something else of the table's structure, in words.
    Structure(String),
    /// A rule that rejects, in this chain.
    Reject(String),
    /// Elements of this set: the offset in the message where each begins, and the number its giver gave it.
    Elements(String, Vec<(u32, u32)>),
}

/// An element of a batch and the number by which a refusal names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Its key, as the kernel has it or is to have it.
    pub key: IpAddr,
    /// When it ends; of no meaning where it is deleted.
    pub until: Stamp,
    /// Its comment.
    pub comment: &'static str,
    /// Its giver's number.
    pub number: u32,
}

/// How elements are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elements {
    /// Added; those that are there already stay as they are.
    Add,
    /// Deleted; all must be there.
    Delete,
    /// Deleted where they are there; kernel ≥ 6.3.
    Destroy,
}

impl Batch {
    /// An empty one.
    pub fn new() -> Batch {
        let mut writer = Writer::default();
        writer.message(libc::NFNL_MSG_BATCH_BEGIN as u16, 0, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u16);
        writer.end_message();
        Batch { writer, messages: Vec::new(), elements: 0 }
    }

    /// Does it hold nothing?
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Takes over one message that rustables writes.
    pub fn object<T>(&mut self, object: &T, kind: MsgType, about: About)
    where
        rustables::Batch: Accepts<T>,
    {
        let mut batch = rustables::Batch::new();
        batch.accept(object, kind);
        let bytes = batch.finalize();
        // Between its batch's begin and end stands the one message; it gets our number, and no acknowledgement of its own.
        let begin = u16::try_from(libc::NFNL_MSG_BATCH_BEGIN).unwrap_or(u16::MAX);
        let end = u16::try_from(libc::NFNL_MSG_BATCH_END).unwrap_or(u16::MAX);
        for message in Messages(&bytes).filter(|message| message.kind != begin && message.kind != end) {
            let start = self.writer.bytes.len();
            let flags = message.flags & !(libc::NLM_F_ACK as u16);
            self.writer.message(message.kind, flags, self.next(), INET, 0);
            self.writer.bytes.extend(message.payload.get(BODY - HEADER..).unwrap_or_default());
            self.writer.end_message();
            self.messages.push(Sent { start, about: about.clone() });
        }
    }

    /// Deletes the table where it is there; kernel ≥ 6.3.
    pub fn destroy_table(&mut self) {
        self.destroy_table_named(TABLE);
    }

    /// Deletes any table of family `inet` where it is there; kernel ≥ 6.3.
    pub fn destroy_table_named(&mut self, name: &str) {
        self.own(DESTROY_TABLE, 0, About::Table, |writer| writer.text(sys::NFTA_TABLE_NAME, name));
    }

    /// Deletes all rules of all chains.
    pub fn flush_rules(&mut self) {
        self.own(sys::NFT_MSG_DELRULE as u16, 0, About::Structure("all rules".into()), |writer| {
            writer.text(sys::NFTA_RULE_TABLE, TABLE);
        });
    }

    /// Deletes a set by its name.
    pub fn delete_set(&mut self, name: &str) {
        self.own(sys::NFT_MSG_DELSET as u16, 0, About::Structure(format!("the set {name}")), |writer| {
            writer.text(sys::NFTA_SET_TABLE, TABLE);
            writer.text(sys::NFTA_SET_NAME, name);
        });
    }

    /// Takes all elements out of a set or map.
    pub fn empty_set(&mut self, name: &str) {
        self.own(sys::NFT_MSG_DELSETELEM as u16, 0, About::Structure(format!("the set {name}")), |writer| {
            writer.text(sys::NFTA_SET_ELEM_LIST_TABLE, TABLE);
            writer.text(sys::NFTA_SET_ELEM_LIST_SET, name);
        });
    }

    /// Makes a map from ports to chains, without its elements; `id` is unique in its batch.
    pub fn port_map(&mut self, name: &str, map: &PortMap, id: u32) {
        const PORT_BYTES: u32 = 2;
        let kind = if map.intervals { sys::NFT_SET_MAP | sys::NFT_SET_INTERVAL } else { sys::NFT_SET_MAP };
        let about = About::Structure(format!("the map {name}"));
        self.own(sys::NFT_MSG_NEWSET as u16, libc::NLM_F_CREATE as u16, about, |writer| {
            writer.text(sys::NFTA_SET_TABLE, TABLE);
            writer.text(sys::NFTA_SET_NAME, name);
            let numbers = [
                (sys::NFTA_SET_FLAGS, kind),
                (sys::NFTA_SET_KEY_TYPE, TYPE_PORT),
                (sys::NFTA_SET_KEY_LEN, PORT_BYTES),
                (sys::NFTA_SET_DATA_TYPE, sys::NFT_DATA_VERDICT),
                (sys::NFTA_SET_ID, id),
            ];
            for (attribute, number) in numbers {
                writer.attribute(attribute, &number.to_be_bytes());
            }
            // Of a known size it is a plain table that never grows, which is asked fastest.
            if !map.intervals {
                let description = writer.open(sys::NFTA_SET_DESC);
                let size = u32::try_from(map.keys.len()).unwrap_or(u32::MAX);
                writer.attribute(sys::NFTA_SET_DESC_SIZE, &size.to_be_bytes());
                writer.close(description);
            }
        });
    }

    /// Makes the set of our own connections with hosts of this family, which rules fill; `id` is unique in its batch.
    pub fn connections_set(&mut self, family: Family, id: u32) {
        let name = name::ours(family);
        let about = About::Structure(format!("the set {name}"));
        let (kind, width) = rules::connection_key(family);
        self.own(sys::NFT_MSG_NEWSET as u16, libc::NLM_F_CREATE as u16, about, |writer| {
            writer.text(sys::NFTA_SET_TABLE, TABLE);
            writer.text(sys::NFTA_SET_NAME, &name);
            let numbers = [
                (sys::NFTA_SET_FLAGS, sys::NFT_SET_TIMEOUT | sys::NFT_SET_EVAL),
                (sys::NFTA_SET_KEY_TYPE, kind),
                (sys::NFTA_SET_KEY_LEN, width),
                (sys::NFTA_SET_ID, id),
            ];
            for (attribute, number) in numbers {
                writer.attribute(attribute, &number.to_be_bytes());
            }
            let description = writer.open(sys::NFTA_SET_DESC);
            writer.attribute(sys::NFTA_SET_DESC_SIZE, &(ROOM as u32).to_be_bytes());
            writer.close(description);
        });
    }

    /// Adds own connections with hosts of this family, to be kept so long.
    pub fn connections(&mut self, family: Family, kept: &[(ConnectionKey, Timeout)]) {
        self.elements(&name::ours(family), Elements::Add, kept.len(), &[], |writer, at| {
            let (key, timeout) = &kept[at];
            write_connection(writer, key, *timeout);
        });
    }

    /// Makes the set of the ports of UDP servers; `id` is unique in its batch.
    pub fn served_set(&mut self, id: u32) {
        let set = rustables::Set::default().with_table(TABLE).with_name(SERVED).with_id(id);
        let set = set.with_key_type(TYPE_PORT).with_key_len(2u32).with_flags(0u32);
        self.object(&set, MsgType::Add, About::Structure(format!("the set {SERVED}")));
    }

    /// Fills it.
    pub fn served(&mut self, ports: &BTreeSet<u16>) {
        let keys: Vec<Key> = ports.iter().map(|port| Key { bytes: port.to_be_bytes().to_vec(), ends: false }).collect();
        self.intervals(SERVED, &keys);
    }

    /// Adds a rule to that chain, its counter going on from what `counted` has for it.
    pub fn rule(&mut self, chain: &str, rule: &Rule, counted: &mut BTreeMap<Counted, Dropped>) {
        let about = match rule.verdict {
            Verdict::Reset | Verdict::Prohibit => About::Reject(chain.into()),
            _ => About::Structure(format!("a rule of the chain {chain}")),
        };
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_APPEND) as u16;
        self.own(sys::NFT_MSG_NEWRULE as u16, flags, about, |writer| rules::write_rule(writer, chain, rule, counted));
    }

    /// Fills such a map; its chains must be there.
    pub fn port_keys(&mut self, name: &str, map: &PortMap) {
        self.elements(name, Elements::Add, map.keys.len(), &[], |writer, at| {
            let (key, to) = &map.keys[at];
            write_interval_key(writer, key, to.as_deref());
        });
    }

    /// Changes elements of a set of bans. One that has ended since its giver looked is there for another moment.
    pub fn bans(&mut self, set: &BanSet, how: Elements, entries: &[Entry], now: Now) {
        let numbers: Vec<u32> = entries.iter().map(|entry| entry.number).collect();
        self.elements(&set.name(), how, entries.len(), &numbers, |writer, at| {
            let entry = &entries[at];
            match how {
                Elements::Add => {
                    let left = Timeout::left(entry.until, now.stamp()).unwrap_or(Timeout::Millis(1));
                    write_ban(writer, entry.key, left, entry.comment);
                }
                Elements::Delete | Elements::Destroy => write_ban(writer, entry.key, Timeout::Never, ""),
            }
        });
    }

    /// Fills a set of keys without times.
    pub fn intervals(&mut self, set: &str, keys: &[Key]) {
        self.elements(set, Elements::Add, keys.len(), &[], |writer, at| write_interval_key(writer, &keys[at], None));
    }

    /// Elements in as many messages as their nests' limit asks for; a refusal names those that have numbers.
    fn elements(
        &mut self,
        set: &str,
        how: Elements,
        count: usize,
        numbers: &[u32],
        mut write: impl FnMut(&mut Writer, usize),
    ) {
        /// More than any element of ours takes: key, timeout, a comment of 127 bytes or a chain, and their headers.
        const ROOM: usize = 256;
        let (kind, flags) = match how {
            Elements::Add => (sys::NFT_MSG_NEWSETELEM as u16, libc::NLM_F_CREATE as u16),
            Elements::Delete => (sys::NFT_MSG_DELSETELEM as u16, 0),
            Elements::Destroy => (DESTROY_ELEMENTS, 0),
        };
        self.elements += count;
        let mut at = 0;
        while at < count {
            let mut marks = Vec::new();
            self.own(kind, flags, About::Elements(set.into(), Vec::new()), |writer| {
                writer.text(sys::NFTA_SET_ELEM_LIST_TABLE, TABLE);
                writer.text(sys::NFTA_SET_ELEM_LIST_SET, set);
                let nest = writer.open(sys::NFTA_SET_ELEM_LIST_ELEMENTS);
                while at < count && writer.length(&nest) + ROOM < NEST_LIMIT {
                    let offset = u32::try_from(writer.offset()).unwrap_or(u32::MAX);
                    marks.extend(numbers.get(at).map(|number| (offset, *number)));
                    write(writer, at);
                    at += 1;
                }
                writer.close(nest);
            });
            if let Some(Sent { about: About::Elements(_, kept), .. }) = self.messages.last_mut() {
                *kept = marks;
            }
        }
    }

    fn own(&mut self, kind: u16, flags: u16, about: About, fill: impl FnOnce(&mut Writer)) {
        let start = self.writer.bytes.len();
        self.writer.message(SUBSYSTEM | kind, flags, self.next(), INET, 0);
        fill(&mut self.writer);
        self.writer.end_message();
        self.messages.push(Sent { start, about });
    }

    fn next(&self) -> u32 {
        // The batch's beginning has number 0.
        u32::try_from(self.messages.len() + 1).unwrap_or(u32::MAX)
    }

    /// How many elements it changes.
    pub fn size(&self) -> usize {
        self.elements
    }

    /// The bytes to send; the last message asks for an acknowledgement. (Ends of batches answer since 6.10 only, and an
    /// acknowledgement of each message would not fit into the socket.)
    pub fn seal(&mut self) -> &[u8] {
        if let Some(last) = self.messages.last() {
            let flags = last.start + 6;
            self.writer.bytes[flags] |= libc::NLM_F_ACK as u8;
        }
        let end = libc::NFNL_MSG_BATCH_END as u16;
        self.writer.message(end, 0, self.next(), 0, libc::NFNL_SUBSYS_NFTABLES as u16);
        self.writer.end_message();
        &self.writer.bytes
    }

    /// The number of the message that is acknowledged.
    pub fn last(&self) -> u32 {
        self.next() - 1
    }

    /// What the message of this number is about.
    pub fn about(&self, sequence: u32) -> Option<&About> {
        let at = usize::try_from(sequence.checked_sub(1)?).ok()?;
        self.messages.get(at).map(|sent| &sent.about)
    }
}

impl About {
    /// The number of the element at this offset of the message.
    pub fn element_at(&self, offset: u32) -> Option<u32> {
        let About::Elements(_, marks) = self else { return None };
        let after = marks.partition_point(|(start, _)| *start <= offset);
        marks[..after].last().map(|(_, number)| *number)
    }

    /// The numbers of all its elements.
    pub fn elements(&self) -> impl Iterator<Item = u32> {
        let marks = if let About::Elements(_, marks) = self { marks.as_slice() } else { &[] };
        marks.iter().map(|(_, number)| *number)
    }
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            About::Table => f.write_str("the table"),
            About::Structure(what) => f.write_str(what),
            About::Reject(chain) => write!(f, "a rule that rejects, in chain {chain}"),
            About::Elements(set, _) => write!(f, "the elements of set {set}"),
        }
    }
}

/// What rustables' batch takes. (Its own bound for that cannot be named outside of it.)
pub(super) trait Accepts<T> {
    /// Adds the object to the batch.
    fn accept(&mut self, object: &T, kind: MsgType);
}

macro_rules! accepts {
    ($($object:ty),+) => {$(
        impl Accepts<$object> for rustables::Batch {
            fn accept(&mut self, object: &$object, kind: MsgType) {
                self.add(object, kind);
            }
        }
    )+};
}

accepts!(rustables::Table, rustables::Set, rustables::Chain);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn entries(count: u32) -> Vec<Entry> {
        let entry = |number| Entry {
            key: Ipv4Addr::from_bits(number).into(),
            until: Stamp::NEVER,
            comment: "failures",
            number,
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn every_element_is_found_again_by_its_offset() {
        let set = BanSet { jail: "sshd".parse().unwrap(), family: crate::engine::subject::Family::V4, length: 32 };
        let mut batch = Batch::new();
        batch.bans(&set, Elements::Add, &entries(5000), Now::new(Stamp::EPOCH));
        let last = batch.last();
        assert!(last > 1, "split at the nest's limit");
        let found: u32 = (1..=last).map(|sequence| batch.about(sequence).unwrap().elements().count() as u32).sum();
        assert_eq!(found, 5000);
        let About::Elements(_, marks) = batch.about(2).unwrap() else { panic!("elements") };
        let (offset, number) = marks[7];
        for inside in [offset, offset + 4, offset + 20] {
            assert_eq!(batch.about(2).unwrap().element_at(inside), Some(number));
        }
        assert_eq!(batch.about(2).unwrap().element_at(3), None);
        assert!(batch.about(0).is_none() && batch.about(last + 1).is_none());
    }

    #[test]
    fn messages_are_numbered_and_only_the_last_asks_for_an_answer() {
        let mut batch = Batch::new();
        batch.object(&super::super::rules::table(0), MsgType::Add, About::Table);
        batch.flush_rules();
        batch.delete_set("a");
        let numbers: Vec<_> = Messages(batch.seal()).map(|m| (m.sequence, m.flags & libc::NLM_F_ACK as u16)).collect();
        assert_eq!(numbers, [(0, 0), (1, 0), (2, 0), (3, libc::NLM_F_ACK as u16), (4, 0)]);
    }
}
