//! The expressions of a rule, as the kernel has them: each puts something into a register or looks at one.

use std::time::Duration;

use rustables::sys;

use super::elements::key_width;
use super::name;
use super::survey::Dropped;
use super::table::{Match, SERVED, Verdict, Way};
use super::wire::Writer;
use crate::engine::subject::Family;

/// The register that values are compared in.
const VALUE: u32 = sys::NFT_REG_1;
/// Where a key of several parts begins: the same register, as one of 32 bits.
const KEY: u32 = sys::NFT_REG32_00;

/// The index of `lo`, in every network namespace.
const LOOPBACK: u32 = 1;
/// Neighbour and router discovery are the ICMPv6 types from router solicitation to neighbour advertisement, RFC 4861.
const DISCOVERY: (u8, u8) = (133, 136);
/// `(uid_t) -1`: what no socket belongs to.
const NOBODY: u32 = u32::MAX;

/// TCP's flags.
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// Writes expressions one after the other.
pub(super) struct Expressions<'a>(pub &'a mut Writer);

impl Expressions<'_> {
    /// Goes on only where it holds.
    pub fn condition(&mut self, condition: &Match) {
        match condition {
            Match::Loopback(way) => {
                self.meta(way.choose(sys::NFT_META_IIF, sys::NFT_META_OIF), VALUE);
                self.compare(sys::NFT_CMP_EQ, &LOOPBACK.to_ne_bytes());
            }
            Match::NotInterface(way, name) => {
                self.meta(way.choose(sys::NFT_META_IIFNAME, sys::NFT_META_OIFNAME), VALUE);
                self.compare(sys::NFT_CMP_NEQ, &interface(name));
            }
            Match::NotLocal(way) => self.not_local(*way),
            Match::Discovery => self.icmp(Family::V6, DISCOVERY.0, DISCOVERY.1),
            Match::Icmp(family, types) => self.icmp(*family, *types.start(), *types.end()),
            Match::Fragment(family) => self.fragment(*family),
            Match::Protocol(protocol) => self.protocol(protocol.number()),
            Match::Opening => self.flags(FIN | SYN | RST | ACK, sys::NFT_CMP_EQ, SYN),
            Match::NotOpening => self.flags(SYN | ACK, sys::NFT_CMP_NEQ, SYN),
            Match::Reset => self.flags(RST, sys::NFT_CMP_EQ, RST),
            Match::Ours(way, family) => {
                self.family(*family);
                self.connection(*way, *family);
                self.lookup(&name::ours(*family), None);
            }
            Match::Host(way, family, length, set) => {
                self.family(*family);
                self.host(*way, *family);
                if *length < family.bits() {
                    let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0).to_be_bytes();
                    self.mask(&mask[..key_width(*family)]);
                }
                self.lookup(set, None);
            }
            Match::Served => {
                self.our_port(Way::Out, VALUE);
                self.lookup(SERVED, None);
            }
            Match::FromPort(ports) => {
                self.our_port(Way::Out, VALUE);
                self.between(&ports.start().to_be_bytes(), &ports.end().to_be_bytes());
            }
            Match::OwnSocket => {
                self.meta(sys::NFT_META_SKUID, VALUE);
                self.compare(sys::NFT_CMP_NEQ, &NOBODY.to_ne_bytes());
            }
        }
    }

    /// Puts the connection of a packet that goes out into this family's set of our own, or lets it stay there so long from now.
    pub fn keep(&mut self, family: Family, kept: Duration) {
        self.family(family);
        self.connection(Way::Out, family);
        let millis = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
        self.expression("dynset", |writer| {
            writer.text(sys::NFTA_DYNSET_SET_NAME, &name::ours(family));
            number(writer, sys::NFTA_DYNSET_OP, sys::NFT_DYNSET_OP_UPDATE);
            number(writer, sys::NFTA_DYNSET_SREG_KEY, KEY);
            writer.attribute(sys::NFTA_DYNSET_TIMEOUT, &millis.to_be_bytes());
        });
    }

    /// Counts, from `so_far` on.
    pub fn counter(&mut self, so_far: Dropped) {
        self.expression("counter", |writer| {
            writer.attribute(sys::NFTA_COUNTER_BYTES, &so_far.bytes.to_be_bytes());
            writer.attribute(sys::NFTA_COUNTER_PACKETS, &so_far.packets.to_be_bytes());
        });
    }

    /// What becomes of the packet.
    pub fn verdict(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Accept => self.immediate(libc::NF_ACCEPT, None),
            Verdict::Drop => self.immediate(libc::NF_DROP, None),
            Verdict::Return => self.immediate(sys::NFT_RETURN, None),
            Verdict::Jump(chain) => self.immediate(sys::NFT_JUMP, Some(chain)),
            Verdict::ByPort(way, map) => {
                self.our_port(*way, VALUE);
                self.lookup(map, Some(sys::NFT_REG_VERDICT));
            }
            Verdict::Reset => {
                self.expression("reject", |writer| number(writer, sys::NFTA_REJECT_TYPE, sys::NFT_REJECT_TCP_RST));
            }
            Verdict::Prohibit => self.expression("reject", |writer| {
                number(writer, sys::NFTA_REJECT_TYPE, sys::NFT_REJECT_ICMPX_UNREACH);
                writer.attribute(sys::NFTA_REJECT_ICMP_CODE, &[sys::NFT_REJECT_ICMPX_ADMIN_PROHIBITED as u8]);
            }),
        }
    }

    fn immediate(&mut self, code: i32, chain: Option<&str>) {
        self.expression("immediate", |writer| {
            number(writer, sys::NFTA_IMMEDIATE_DREG, sys::NFT_REG_VERDICT);
            let data = writer.open(sys::NFTA_IMMEDIATE_DATA);
            let verdict = writer.open(sys::NFTA_DATA_VERDICT);
            writer.attribute(sys::NFTA_VERDICT_CODE, &code.to_be_bytes());
            if let Some(chain) = chain {
                writer.text(sys::NFTA_VERDICT_CHAIN, chain);
            }
            writer.close(verdict);
            writer.close(data);
        });
    }

    fn not_local(&mut self, way: Way) {
        self.expression("fib", |writer| {
            number(writer, sys::NFTA_FIB_DREG, VALUE);
            number(writer, sys::NFTA_FIB_RESULT, sys::NFT_FIB_RESULT_ADDRTYPE);
            number(writer, sys::NFTA_FIB_FLAGS, way.choose(sys::NFTA_FIB_F_DADDR, sys::NFTA_FIB_F_SADDR));
        });
        self.compare(sys::NFT_CMP_NEQ, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
    }

    fn family(&mut self, family: Family) {
        let number = match family {
            Family::V4 => libc::NFPROTO_IPV4,
            Family::V6 => libc::NFPROTO_IPV6,
        };
        self.meta(sys::NFT_META_NFPROTO, VALUE);
        self.compare(sys::NFT_CMP_EQ, &[number as u8]);
    }

    fn protocol(&mut self, number: u8) {
        self.meta(sys::NFT_META_L4PROTO, VALUE);
        self.compare(sys::NFT_CMP_EQ, &[number]);
    }

    fn icmp(&mut self, family: Family, first: u8, last: u8) {
        self.family(family);
        self.protocol(match family {
            Family::V4 => libc::IPPROTO_ICMP as u8,
            Family::V6 => libc::IPPROTO_ICMPV6 as u8,
        });
        self.payload(sys::NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, VALUE);
        if first == last { self.compare(sys::NFT_CMP_EQ, &[first]) } else { self.between(&[first], &[last]) }
    }

    fn fragment(&mut self, family: Family) {
        // Where the fragment lies in the whole, in units of 8 bytes, among flags.
        let offset: u16 = match family {
            Family::V4 => 0x1fff,
            Family::V6 => 0xfff8,
        };
        self.family(family);
        match family {
            Family::V4 => self.payload(sys::NFT_PAYLOAD_NETWORK_HEADER, 6, 2, VALUE),
            Family::V6 => self.expression("exthdr", |writer| {
                number(writer, sys::NFTA_EXTHDR_DREG, VALUE);
                writer.attribute(sys::NFTA_EXTHDR_TYPE, &[libc::IPPROTO_FRAGMENT as u8]);
                number(writer, sys::NFTA_EXTHDR_OFFSET, 2);
                number(writer, sys::NFTA_EXTHDR_LEN, 2);
            }),
        }
        self.mask(&offset.to_be_bytes());
        self.compare(sys::NFT_CMP_NEQ, &[0, 0]);
    }

    fn flags(&mut self, mask: u8, comparison: u32, value: u8) {
        self.payload(sys::NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, VALUE);
        self.mask(&[mask]);
        self.compare(comparison, &[value]);
    }

    /// The key of a packet's connection: the other host, the protocol, its port, our port.
    fn connection(&mut self, way: Way, family: Family) {
        let behind = KEY + family.bits() as u32 / 32;
        self.host(way, family);
        self.meta(sys::NFT_META_L4PROTO, behind);
        self.our_port(way.back(), behind + 1);
        self.our_port(way, behind + 2);
    }

    fn host(&mut self, way: Way, family: Family) {
        let width = key_width(family) as u32;
        let source = match family {
            Family::V4 => 12,
            Family::V6 => 8,
        };
        self.payload(sys::NFT_PAYLOAD_NETWORK_HEADER, way.choose(source, source + width), width, VALUE);
    }

    /// The port at our end of packets that go this way.
    fn our_port(&mut self, way: Way, register: u32) {
        self.payload(sys::NFT_PAYLOAD_TRANSPORT_HEADER, way.choose(2, 0), 2, register);
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.expression("meta", |writer| {
            number(writer, sys::NFTA_META_KEY, key);
            number(writer, sys::NFTA_META_DREG, register);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        self.expression("payload", |writer| {
            number(writer, sys::NFTA_PAYLOAD_DREG, register);
            number(writer, sys::NFTA_PAYLOAD_BASE, base);
            number(writer, sys::NFTA_PAYLOAD_OFFSET, offset);
            number(writer, sys::NFTA_PAYLOAD_LEN, length);
        });
    }

    fn between(&mut self, first: &[u8], last: &[u8]) {
        self.compare(sys::NFT_CMP_GTE, first);
        self.compare(sys::NFT_CMP_LTE, last);
    }

    fn compare(&mut self, comparison: u32, value: &[u8]) {
        self.expression("cmp", |writer| {
            number(writer, sys::NFTA_CMP_SREG, VALUE);
            number(writer, sys::NFTA_CMP_OP, comparison);
            data(writer, sys::NFTA_CMP_DATA, value);
        });
    }

    /// Keeps these bits and clears all others.
    fn mask(&mut self, bits: &[u8]) {
        self.expression("bitwise", |writer| {
            number(writer, sys::NFTA_BITWISE_SREG, VALUE);
            number(writer, sys::NFTA_BITWISE_DREG, VALUE);
            number(writer, sys::NFTA_BITWISE_LEN, bits.len() as u32);
            data(writer, sys::NFTA_BITWISE_MASK, bits);
            data(writer, sys::NFTA_BITWISE_XOR, &vec![0; bits.len()]);
        });
    }

    /// Looks for the key, or goes where a map leads from it.
    fn lookup(&mut self, set: &str, to: Option<u32>) {
        self.expression("lookup", |writer| {
            writer.text(sys::NFTA_LOOKUP_SET, set);
            number(writer, sys::NFTA_LOOKUP_SREG, VALUE);
            if let Some(register) = to {
                number(writer, sys::NFTA_LOOKUP_DREG, register);
            }
        });
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Writer)) {
        let element = self.0.open(sys::NFTA_LIST_ELEM);
        self.0.text(sys::NFTA_EXPR_NAME, name);
        let data = self.0.open(sys::NFTA_EXPR_DATA);
        fill(self.0);
        self.0.close(data);
        self.0.close(element);
    }
}

impl Way {
    fn choose<T>(self, incoming: T, outgoing: T) -> T {
        match self {
            Way::In => incoming,
            Way::Out => outgoing,
        }
    }

    fn back(self) -> Way {
        self.choose(Way::Out, Way::In)
    }
}

fn number(writer: &mut Writer, kind: u16, value: u32) {
    writer.attribute(kind, &value.to_be_bytes());
}

fn data(writer: &mut Writer, kind: u16, value: &[u8]) {
    let nest = writer.open(kind);
    writer.attribute(sys::NFTA_DATA_VALUE, value);
    writer.close(nest);
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
