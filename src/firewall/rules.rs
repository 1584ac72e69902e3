//! The layout in rustables' words: its sets, chains and rules as netlink messages.
//!
//! What rustables has no words for (`ct direction`, `fib`) is said by [`spelled`].

use std::collections::BTreeMap;

use rustables::expr::{
    Bitwise, Cmp, CmpOp, Counter, ExpressionVariant, HighLevelPayload, ICMPv6HeaderField, IPv4HeaderField,
    IPv6HeaderField, IcmpCode, Immediate, Lookup, Meta, MetaType, NetworkHeaderField, Payload, RawExpression, Register,
    Reject, RejectType, TCPHeaderField, TransportHeaderField, UDPHeaderField, VerdictKind,
};
use rustables::{ChainPolicy, ChainType, Hook, HookClass, ProtocolFamily, Set, Table, sys};

use super::TABLE;
use super::elements::{comment_data, key_width};
use super::name::BanSet;
use super::survey::{Counted, Dropped};
use super::table::{Chain, Match, Rule, Verdict};
use crate::engine::jail::scope::Protocol;
use crate::engine::subject::Family;

/// Libnftables' numbers for what a key is; `nft` needs them to show and to load a set.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;

/// The index of `lo`, in every network namespace.
const LOOPBACK: u32 = 1;
/// `IP_CT_DIR_REPLY`.
const DIRECTION_REPLY: u8 = 1;
/// Neighbour and router discovery are the ICMPv6 types from router solicitation to neighbour advertisement, RFC 4861.
const DISCOVERY: (u8, u8) = (133, 136);

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
    let (kind, width) = match family {
        Family::V4 => (TYPE_IPV4, 4u32),
        Family::V6 => (TYPE_IPV6, 16u32),
    };
    let set = Set::default().with_table(TABLE).with_name(name).with_id(id);
    set.with_key_type(kind).with_key_len(width).with_flags(flags)
}

/// A chain without its rules.
pub(super) fn chain(chain: &Chain) -> rustables::Chain {
    let message = rustables::Chain::new(&table(0)).with_name(&chain.name);
    match chain.priority {
        None => message,
        Some(priority) => message
            .with_hook(Hook::new(HookClass::PreRouting, priority))
            .with_type(ChainType::Filter)
            .with_policy(ChainPolicy::Accept),
    }
}

/// A chain by name only, to delete it.
pub(super) fn chain_named(name: &str) -> rustables::Chain {
    rustables::Chain::new(&table(0)).with_name(name)
}

/// A rule of that chain, its counter going on from what `counted` has for it. That is taken from there: a set whose jail
/// shares some of its ports with others has more rules, and all of them count for it.
pub(super) fn rule(chain: &str, rule: &Rule, counted: &mut BTreeMap<Counted, Dropped>) -> rustables::Rule {
    let mut message = rustables::Rule::default().with_table(TABLE).with_chain(chain);
    for condition in &rule.matches {
        for expression in expressions(condition) {
            message.add_expr(expression);
        }
    }
    if let Some(set) = &rule.counts {
        let so_far = counted.remove(&Counted::new(set, &rule.verdict)).unwrap_or_default();
        message.add_expr(Counter::default().with_nb_bytes(so_far.bytes).with_nb_packets(so_far.packets));
        message.set_userdata(comment_data(set.jail.as_str()));
    }
    for expression in verdict(&rule.verdict) {
        message.add_expr(expression);
    }
    message
}

fn verdict(verdict: &Verdict) -> Vec<RawExpression> {
    let kind = match verdict {
        Verdict::Accept => VerdictKind::Accept,
        Verdict::Drop => VerdictKind::Drop,
        Verdict::Return => VerdictKind::Return,
        Verdict::Jump(chain) => VerdictKind::Jump { chain: chain.clone() },
        Verdict::ByPort(over, map) => {
            let lookup = Lookup::default().with_set(map).with_sreg(Register::Reg1).with_dreg(Register::Verdict);
            return vec![destination(*over), lookup.into()];
        }
        Verdict::Reset => return vec![Reject::default().with_type(RejectType::TcpRst).into()],
        Verdict::Prohibit => {
            let code = IcmpCode::AdminProhibited;
            return vec![Reject::default().with_type(RejectType::IcmpxUnreach).with_icmp_code(code).into()];
        }
    };
    vec![Immediate::new_verdict(kind).into()]
}

fn expressions(condition: &Match) -> Vec<RawExpression> {
    match condition {
        Match::Loopback => vec![Meta::new(MetaType::Iif).into(), equal(LOOPBACK.to_ne_bytes())],
        Match::NotInterface(name) => {
            vec![Meta::new(MetaType::IifName).into(), Cmp::new(CmpOp::Neq, interface(name)).into()]
        }
        Match::NotLocal => {
            let (type_of, destination) = (sys::NFT_FIB_RESULT_ADDRTYPE, sys::NFTA_FIB_F_DADDR);
            let local = u32::from(libc::RTN_LOCAL).to_ne_bytes();
            vec![spelled("fib", &[type_of, destination]), Cmp::new(CmpOp::Neq, local).into()]
        }
        Match::Reply => vec![spelled("ct", &[sys::NFT_CT_DIRECTION]), equal([DIRECTION_REPLY])],
        Match::Discovery => {
            let mut all = family(Family::V6);
            all.extend(protocol(libc::IPPROTO_ICMPV6 as u8));
            all.push(transport(TransportHeaderField::ICMPv6(ICMPv6HeaderField::Type)));
            all.push(Cmp::new(CmpOp::Gte, [DISCOVERY.0]).into());
            all.push(Cmp::new(CmpOp::Lte, [DISCOVERY.1]).into());
            all
        }
        Match::Protocol(transport) => protocol(transport.number()),
        Match::Source(of, length, set) => {
            let mut all = family(*of);
            all.push(network(*of));
            all.extend(mask(*of, *length));
            all.push(within(set));
            all
        }
    }
}

fn family(family: Family) -> Vec<RawExpression> {
    let number = match family {
        Family::V4 => libc::NFPROTO_IPV4,
        Family::V6 => libc::NFPROTO_IPV6,
    };
    vec![Meta::new(MetaType::NfProto).into(), equal([number as u8])]
}

fn protocol(number: u8) -> Vec<RawExpression> {
    vec![Meta::new(MetaType::L4Proto).into(), equal([number])]
}

/// The port that a packet of this protocol goes to.
fn destination(over: Protocol) -> RawExpression {
    transport(match over {
        Protocol::Tcp => TransportHeaderField::Tcp(TCPHeaderField::Dport),
        Protocol::Udp => TransportHeaderField::Udp(UDPHeaderField::Dport),
    })
}

fn transport(field: TransportHeaderField) -> RawExpression {
    HighLevelPayload::Transport(field).build().into()
}

fn network(family: Family) -> RawExpression {
    let field = match family {
        Family::V4 => NetworkHeaderField::IPv4(IPv4HeaderField::Saddr),
        Family::V6 => NetworkHeaderField::IPv6(IPv6HeaderField::Saddr),
    };
    HighLevelPayload::Network(field).build().into()
}

/// Clears the bits behind the prefix; nothing to do for a whole address.
fn mask(family: Family, length: u8) -> Option<RawExpression> {
    let free = u32::from(family.bits().checked_sub(length).filter(|free| *free > 0)?);
    let width = key_width(family);
    let mask = u128::MAX.checked_shl(free).unwrap_or(0).to_be_bytes();
    // Two slices of one width are all it asks for.
    Bitwise::new(&mask[16 - width..], vec![0; width]).ok().map(RawExpression::from)
}

fn equal(bytes: impl Into<Vec<u8>>) -> RawExpression {
    Cmp::new(CmpOp::Eq, bytes).into()
}

fn within(set: &str) -> RawExpression {
    Lookup::default().with_set(set).with_sreg(Register::Reg1).into()
}

/// An interface's name as `nft` compares it: 16 bytes with zeros behind, or only what stands before a `*`.
fn interface(name: &str) -> Vec<u8> {
    match name.strip_suffix('*') {
        Some(beginning) if !beginning.is_empty() && beginning.len() < 16 => beginning.into(),
        _ => {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(16, 0);
            bytes
        }
    }
}

/// An expression that rustables does not know, in the first register: name and the values of its attributes 2, 3.
///
/// `ct` has DREG, KEY and `fib` has DREG, RESULT, FLAGS as attributes 1, 2, 3, all `u32`; so has rustables' `payload`,
/// whose DREG, BASE and OFFSET stand in for them here.
fn spelled(name: &str, values: &[u32]) -> RawExpression {
    let mut body = Payload::default().with_dreg(Register::Reg1);
    if let Some(second) = values.first() {
        body.set_base(*second);
    }
    if let Some(third) = values.get(1) {
        body.set_offset(*third);
    }
    RawExpression::default().with_name(name).with_data(ExpressionVariant::from(body))
}
