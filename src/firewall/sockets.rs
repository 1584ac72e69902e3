//! The sockets of this machine as the kernel's `sock_diag` shows them: who began the connections that were open before a
//! ban, which nothing had tracked.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};

use super::sys;
use super::table::CLIENTS;
use super::wire::{Attributes, HEADER, Message, Messages, u32_ne};
use crate::engine::jail::scope::Protocol;

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `INET_DIAG_INFO`: the attribute with `struct tcp_info`.
const INFO: u16 = 2;
/// The length of `struct inet_diag_msg`.
const SOCKET: usize = 72;
/// The room for one datagram; the kernel's dumps come in at most 32 KiB.
pub(super) const DATAGRAM: usize = 1 << 16;
/// A connection is looked at so often where its bytes move while they are counted.
const ATTEMPTS: usize = 4;

/// `TCP_ESTABLISHED` and those after it, as they are numbered for TCP.
const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const LISTEN: u8 = 10;
const CLOSING: u8 = 11;

/// A connection between this machine and another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Connection {
    /// The other host.
    pub host: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// The other host's port.
    pub their_port: u16,
    /// This machine's port.
    pub our_port: u16,
}

/// The way to `sock_diag`.
pub(super) struct Sockets {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Sockets {
    /// Opens a socket in this thread's network namespace.
    pub fn open() -> io::Result<Sockets> {
        Ok(Sockets { fd: sys::open(libc::NETLINK_SOCK_DIAG)?, buffer: vec![0; DATAGRAM] })
    }

    /// The ports on which UDP servers may have sessions with anybody: those of sockets that take from everybody, and those
    /// that somebody chose. A socket that is connected to one host from a port that the kernel chose is a client's.
    pub fn served(&mut self) -> io::Result<BTreeSet<u16>> {
        let clients = client_ports();
        let mut served = BTreeSet::new();
        self.dump(Protocol::Udp, |socket| {
            let client = socket.connected() && clients.contains(&socket.connection.our_port);
            if !client && !socket.here.is_loopback() {
                served.insert(socket.connection.our_port);
            }
        })?;
        Ok(served)
    }

    /// The connections that this machine opened to the hosts of which `banned` is true.
    ///
    /// Whoever opened a TCP connection sent a SYN and had it acknowledged. The kernel counts it among the acknowledged
    /// bytes, and not among those sent. A connection whose bytes move meanwhile is looked at again. Where somebody listens
    /// on its port it is not taken for ours in any case.
    pub fn ours(&mut self, banned: impl Fn(IpAddr) -> bool) -> io::Result<BTreeSet<Connection>> {
        let mut ours = BTreeSet::new();
        let mut unsure = BTreeSet::new();
        for attempt in 0..ATTEMPTS {
            let mut listening = BTreeSet::new();
            let mut found = BTreeSet::new();
            let mut moving = BTreeSet::new();
            self.dump(Protocol::Tcp, |socket| {
                let Socket { connection, .. } = socket;
                if socket.state == LISTEN {
                    listening.insert(connection.our_port);
                } else if banned(connection.host) && (attempt == 0 || unsure.contains(&connection)) {
                    match socket.began() {
                        Began::Here => drop(found.insert(connection)),
                        Began::There => {}
                        Began::Unknown => drop(moving.insert(connection)),
                    }
                }
            })?;
            ours.extend(found.into_iter().filter(|connection| !listening.contains(&connection.our_port)));
            if moving.is_empty() {
                break;
            }
            unsure = moving;
        }
        let clients = client_ports();
        self.dump(Protocol::Udp, |socket| {
            if socket.connected() && banned(socket.connection.host) && clients.contains(&socket.connection.our_port) {
                ours.insert(socket.connection);
            }
        })?;
        Ok(ours)
    }

    fn dump(&mut self, protocol: Protocol, mut take: impl FnMut(Socket)) -> io::Result<()> {
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            ask(&self.fd, &mut self.buffer, &question(family, protocol), |message| {
                Socket::read(protocol, message).into_iter().for_each(&mut take);
            })?;
        }
        Ok(())
    }
}

/// Asks for a dump and reads each message of it.
pub(super) fn ask(
    fd: &OwnedFd,
    buffer: &mut [u8],
    question: &[u8],
    mut read: impl FnMut(&Message<'_>),
) -> io::Result<()> {
    sys::send(fd.as_fd(), question)?;
    loop {
        let length = sys::receive(fd.as_fd(), buffer, true)?;
        for message in Messages(&buffer[..length]) {
            match i32::from(message.kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    let code = u32_ne(message.payload, 0).map_or(-libc::EIO, u32::cast_signed);
                    return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
                }
                _ => read(&message),
            }
        }
    }
}

/// A question for all sockets of a family and a protocol: `struct inet_diag_req_v2`.
fn question(family: u8, protocol: Protocol) -> Vec<u8> {
    const LENGTH: u32 = HEADER as u32 + 56;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut message = LENGTH.to_ne_bytes().to_vec();
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family, protocol.number(), 1 << (INFO - 1), 0]);
    // TCP's connections with a socket of their own and its listeners; UDP has two of these states.
    let states = match protocol {
        Protocol::Tcp => [ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING]
            .iter()
            .fold(0u32, |all, state| all | 1 << state),
        Protocol::Udp => u32::MAX,
    };
    message.extend(states.to_ne_bytes());
    message.extend([0; 48]);
    message
}

/// One socket.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    state: u8,
    /// The address here that it is bound to.
    here: IpAddr,
    /// Its connection; an unspecified host where it has none.
    connection: Connection,
    /// For TCP: the bytes it has sent and had acknowledged, as counted in different places.
    bytes: Option<Bytes>,
}

/// What TCP counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bytes {
    /// Acknowledged, SYN and FIN among them.
    acknowledged: u64,
    /// Written and not acknowledged, SYN and FIN among them.
    waiting: u64,
    /// Sent, again and again where that was needed.
    sent: u64,
    /// Of those, sent again.
    again: u64,
    /// Not sent yet.
    unsent: u64,
}

/// Who began a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Began {
    Here,
    There,
    Unknown,
}

impl Socket {
    fn read(protocol: Protocol, message: &Message<'_>) -> Option<Socket> {
        let socket = message.payload.get(..SOCKET)?;
        let port = |at: usize| Some(u16::from_be_bytes(socket.get(at..at + 2)?.try_into().ok()?));
        let address = |at: usize| match i32::from(socket[0]) {
            libc::AF_INET => {
                let octets: [u8; 4] = socket.get(at..at + 4)?.try_into().ok()?;
                Some(IpAddr::V4(Ipv4Addr::from(octets)))
            }
            libc::AF_INET6 => {
                let octets: [u8; 16] = socket.get(at..at + 16)?.try_into().ok()?;
                Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
            }
            _ => None,
        };
        let connection = Connection { host: address(24)?, protocol, their_port: port(6)?, our_port: port(4)? };
        let info = Attributes(&message.payload[SOCKET..]).find_kind(INFO);
        let waiting = u32_ne(socket, 60)?;
        Some(Socket {
            state: socket[1],
            here: address(8)?,
            connection,
            bytes: info.and_then(|info| Bytes::read(info, waiting)),
        })
    }

    fn connected(&self) -> bool {
        self.state == ESTABLISHED && self.connection.their_port != 0
    }

    /// Who sent the SYN of this TCP connection?
    fn began(&self) -> Began {
        // TIME_WAIT in disguise has no counts; nothing of it matters any more.
        let Some(bytes) = self.bytes else { return Began::There };
        let written = u128::from(bytes.acknowledged) + u128::from(bytes.waiting);
        let data = u128::from(bytes.sent) + u128::from(bytes.unsent);
        let fin = u128::from(matches!(self.state, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING));
        match (written + u128::from(bytes.again)).checked_sub(data + fin) {
            Some(0) => Began::There,
            Some(1) => Began::Here,
            _ => Began::Unknown,
        }
    }
}

impl Bytes {
    /// Reads `struct tcp_info`; `None` before Linux 4.19, which does not count what was sent.
    fn read(info: &[u8], waiting: u32) -> Option<Bytes> {
        let long = |at: usize| Some(u64::from_ne_bytes(info.get(at..at + 8)?.try_into().ok()?));
        Some(Bytes {
            acknowledged: long(120)?,
            waiting: waiting.into(),
            sent: long(200)?,
            again: long(208)?,
            unsent: u32_ne(info, 144)?.into(),
        })
    }
}

/// The ports that the kernel gives to sockets that ask for none.
#[expect(clippy::disallowed_methods, reason = "the kernel has no other way to tell it")]
fn client_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_ascii_whitespace().map_while(|port| port.parse().ok());
    match (ports.next(), ports.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => CLIENTS,
    }
}

/// Reads any message as an answer about sockets.
#[cfg(any(test, fuzzing))]
pub(super) fn read_garbled(message: &Message<'_>) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        if let Some(socket) = Socket::read(protocol, message) {
            assert!(!socket.connected() || socket.connection.their_port != 0);
            socket.began();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A connection that has written so many bytes, with what became of them.
    fn socket(state: u8, syn: u64, acknowledged: u64, waiting: u64, again: u64, unsent: u64) -> Socket {
        let fin = u64::from(matches!(state, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING));
        let host = Ipv4Addr::new(192, 0, 2, 1).into();
        let connection = Connection { host, protocol: Protocol::Tcp, their_port: 1, our_port: 2 };
        let sent = acknowledged + waiting - unsent + again;
        let bytes = Bytes { acknowledged: acknowledged + syn, waiting: waiting + fin, sent, again, unsent };
        Socket { state, here: host, connection, bytes: Some(bytes) }
    }

    proptest! {
        #[test]
        fn whose_syn_was_acknowledged_began(
            state in prop::sample::select(vec![ESTABLISHED, CLOSE_WAIT, FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING]),
            acknowledged in 0u64..1 << 40, waiting in 0u64..1 << 30, again in 0u64..1 << 30, part in 0u64..=8,
        ) {
            let unsent = waiting / 8 * part;
            prop_assert_eq!(socket(state, 1, acknowledged, waiting, again, unsent).began(), Began::Here);
            prop_assert_eq!(socket(state, 0, acknowledged, waiting, again, unsent).began(), Began::There);
            // Bytes moved between two of the counts.
            prop_assert_eq!(socket(state, 2, acknowledged, waiting, again, unsent).began(), Began::Unknown);
        }

        #[test]
        fn any_answer_is_read_without_panic(payload in prop::collection::vec(any::<u8>(), 0..400), family in prop::sample::select(vec![2u8, 10])) {
            let mut payload = payload;
            if let Some(first) = payload.first_mut() { *first = family; }
            read_garbled(&Message { kind: BY_FAMILY, flags: 0, sequence: 0, port: 0, payload: &payload });
        }
    }
}
