//! The layout as netlink messages: table, sets and chains in rustables' words, rules in ours.

use std::collections::BTreeMap;

use rustables::{ChainPolicy, ChainType, Hook, HookClass, ProtocolFamily, Set, Table, sys};

use super::TABLE;
use super::elements::comment_data;
use super::expressions::Expressions;
use super::name::BanSet;
use super::survey::{Counted, Dropped};
use super::table::{Chain, Rule, Way};
use super::wire::Writer;
use crate::engine::subject::Family;

/// Libnftables' numbers for what a key is; `nft` needs them to show and to load a set.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
pub(super) const TYPE_PORT: u32 = 13;

/// Priority `raw`: before connection tracking and before destination NAT.
const RAW: i32 = -300;
/// Behind `srcnat`: packets have the addresses and ports that they have on the wire.
const AFTER_SOURCE_NAT: i32 = 110;

/// The table itself, with these flags.
pub(super) fn table(flags: u32) -> Table {
    let table = Table::new(ProtocolFamily::Inet).with_name(TABLE).with_userdata(comment_data("banishd"));
    if flags == 0 { table } else { table.with_flags(flags) }
}

/// A set of bans; `id` is unique in its batch.
pub(super) fn ban_set(set: &BanSet, id: u32) -> Set {
    new_set(&set.name(), set.family, sys::NFT_SET_TIMEOUT, id)
}

/// An interval set; `id` is unique in its batch.
pub(super) fn interval_set(name: &str, family: Family, id: u32) -> Set {
    new_set(name, family, sys::NFT_SET_INTERVAL, id)
}

fn new_set(name: &str, family: Family, flags: u32, id: u32) -> Set {
    let (kind, width) = address(family);
    let set = Set::default().with_table(TABLE).with_name(name).with_id(id);
    set.with_key_type(kind).with_key_len(width).with_flags(flags)
}

/// The type and the width of the key of our own connections: address, protocol, their port, our port. In a key of several
/// parts each begins at a multiple of 4 bytes, and each type takes 6 bits.
pub(super) fn connection_key(family: Family) -> (u32, u32) {
    let (kind, width) = address(family);
    (((kind << 6 | TYPE_PROTOCOL) << 6 | TYPE_PORT) << 6 | TYPE_PORT, width + 3 * 4)
}

fn address(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (TYPE_IPV4, 4),
        Family::V6 => (TYPE_IPV6, 16),
    }
}

/// A chain without its rules.
pub(super) fn chain(chain: &Chain) -> rustables::Chain {
    let message = rustables::Chain::new(&table(0)).with_name(&chain.name);
    let hook = match chain.hook {
        None => return message,
        Some(Way::In) => Hook::new(HookClass::PreRouting, RAW),
        Some(Way::Out) => Hook::new(HookClass::PostRouting, AFTER_SOURCE_NAT),
    };
    message.with_hook(hook).with_type(ChainType::Filter).with_policy(ChainPolicy::Accept)
}

/// A chain by name only, to delete it.
pub(super) fn chain_named(name: &str) -> rustables::Chain {
    rustables::Chain::new(&table(0)).with_name(name)
}

/// Writes the attributes of a rule of that chain, its counter going on from what `counted` has for it. That is taken from
/// there: a set whose jail shares some of its ports with others has more rules, and all of them count for it.
pub(super) fn write_rule(writer: &mut Writer, chain: &str, rule: &Rule, counted: &mut BTreeMap<Counted, Dropped>) {
    writer.text(sys::NFTA_RULE_TABLE, TABLE);
    writer.text(sys::NFTA_RULE_CHAIN, chain);
    let list = writer.open(sys::NFTA_RULE_EXPRESSIONS);
    let mut expressions = Expressions(writer);
    rule.matches.iter().for_each(|condition| expressions.condition(condition));
    if let Some((family, kept)) = rule.keeps {
        expressions.keep(family, kept);
    }
    if let Some(set) = &rule.counts {
        let so_far = counted.remove(&Counted::new(set, &rule.verdict)).unwrap_or_default();
        expressions.counter(so_far);
    }
    expressions.verdict(&rule.verdict);
    writer.close(list);
    if let Some(set) = &rule.counts {
        writer.attribute(sys::NFTA_RULE_USERDATA, &comment_data(set.jail.as_str()));
    }
}
