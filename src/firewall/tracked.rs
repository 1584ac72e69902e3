//! The connections that connection tracking knows, where something else has turned it on: for hosts behind this machine,
//! whose sockets are not here, it tells who opened them.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::sockets::{self, Connection};
use super::sys;
use super::wire::{Attributes, Message, Writer, u32_be};
use crate::engine::jail::scope::Protocol;

/// `IPCTNL_MSG_CT_GET` and the attributes of a connection.
const GET: u16 = 1;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_STATE: u16 = 4;
/// `IPS_SEEN_REPLY`.
const ANSWERED: u32 = 2;
/// `IP_CT_TCP_FLAG_BE_LIBERAL`: the connection was taken up in its middle, and which way it began is a guess.
const GUESSED: u8 = 8;

/// The TCP connections that were opened to hosts of which `banned` is true, and whose first packet was tracked.
pub(super) fn ours(banned: impl Fn(IpAddr) -> bool) -> io::Result<BTreeSet<Connection>> {
    let mut ours = BTreeSet::new();
    dump(|message| ours.extend(opened(message).filter(|connection| banned(connection.host))))?;
    Ok(ours)
}

/// The ports to which hosts of which `banned` is true sent UDP, and which answered, as they are on the wire to those hosts.
pub(super) fn served(banned: impl Fn(IpAddr) -> bool) -> io::Result<BTreeSet<u16>> {
    let mut served = BTreeSet::new();
    dump(|message| {
        let status = message.attributes().find_kind(STATUS).and_then(u32_be).unwrap_or_default();
        let udp = |original: &End| original.protocol == Protocol::Udp.number() && status & ANSWERED != 0;
        let original = original(message).filter(|original| udp(original) && banned(original.source));
        served.extend(original.map(|original| original.destination_port));
    })?;
    Ok(served)
}

fn dump(read: impl FnMut(&Message<'_>)) -> io::Result<()> {
    if !in_use() {
        return Ok(());
    }
    let fd = sys::open(libc::NETLINK_NETFILTER)?;
    let mut question = Writer::default();
    let kind = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | GET;
    question.message(kind, libc::NLM_F_DUMP as u16, 1, libc::AF_UNSPEC as u8, 0);
    question.end_message();
    sockets::ask(&fd, &mut vec![0; sockets::DATAGRAM], &question.bytes, read)
}

/// Does anything track connections in this network namespace?
#[expect(clippy::disallowed_methods, reason = "a question over netlink would load the module")]
fn in_use() -> bool {
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    count.is_ok_and(|count| count.trim() != "0")
}

/// The connection with the host that it was opened to; its ports are those on the wire to that host.
fn opened(message: &Message<'_>) -> Option<Connection> {
    let attributes = message.attributes();
    let original = original(message)?;
    let reply = End::read(attributes.find_kind(REPLY)?)?;
    let state = Attributes(attributes.find_kind(PROTOCOL_STATE)?).find_kind(1)?;
    let flags = Attributes(state).find_kind(4)?;
    let guessed = flags.first().is_none_or(|flags| flags & GUESSED != 0);
    let tcp = original.protocol == Protocol::Tcp.number() && reply.protocol == original.protocol;
    (tcp && !guessed && original.source != reply.source).then_some(Connection {
        host: reply.source,
        protocol: Protocol::Tcp,
        their_port: reply.source_port,
        our_port: reply.destination_port,
    })
}

/// The first packet, or what was taken for it.
fn original(message: &Message<'_>) -> Option<End> {
    End::read(message.attributes().find_kind(ORIGINAL)?)
}

/// Where packets of one direction come from and which ports they have.
struct End {
    source: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

impl End {
    fn read(tuple: &[u8]) -> Option<End> {
        let addresses = Attributes(Attributes(tuple).find_kind(1)?);
        let of_protocol = Attributes(Attributes(tuple).find_kind(2)?);
        let port = |kind| Some(u16::from_be_bytes(of_protocol.find_kind(kind)?.try_into().ok()?));
        let v4 = || <[u8; 4]>::try_from(addresses.find_kind(1)?).ok().map(|octets| Ipv4Addr::from(octets).into());
        let v6 = || <[u8; 16]>::try_from(addresses.find_kind(3)?).ok().map(|octets| Ipv6Addr::from(octets).into());
        let source: IpAddr = v4().or_else(v6)?;
        let protocol = *of_protocol.find_kind(1)?.first()?;
        Some(End { source: source.to_canonical(), protocol, source_port: port(2)?, destination_port: port(3)? })
    }
}

/// Reads any message as a tracked connection.
#[cfg(any(test, fuzzing))]
pub(super) fn read_garbled(message: &Message<'_>) {
    assert!(opened(message).is_none_or(|connection| connection.protocol == Protocol::Tcp));
}
