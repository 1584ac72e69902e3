//! What packets meet: a wire between two namespaces, a host with many addresses at its other end.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use banish::engine::jail::Action;
use banish::engine::jail::scope::{Ports, Protocol, Scope};
use banish::firewall::{Policy, Reach, Replies};

use super::space::*;

pub const HERE: &str = "192.0.2.1";
pub const HERE6: &str = "2001:db8::1";
pub const THERE: [&str; 4] = ["198.51.100.7", "198.51.100.8", "2001:db8:0:7::7", "2001:db8:0:7::8"];

pub fn wire() -> Host {
    let host = Host::new();
    for command in [
        "link set near up",
        "address add 192.0.2.1/32 dev near",
        "address add 2001:db8::1/128 dev near nodad",
        "route add 198.51.100.0/24 dev near src 192.0.2.1",
        "route add 2001:db8:0:7::/64 dev near src 2001:db8::1",
    ] {
        ip(command);
    }
    host.there(|| {
        ip("link set lo up");
        ip("link set far up");
        for address in THERE {
            let length = if address.contains(':') { "128 dev far nodad" } else { "32 dev far" };
            ip(&format!("address add {address}/{length}"));
        }
        ip("route add 192.0.2.1/32 dev far");
        ip("route add 2001:db8::1/128 dev far");
    });
    host
}

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Silence,
    Refused,
}
use Fate::{Open, Refused, Silence};

fn connect(from: IpAddr, to: SocketAddr, patience: Duration) -> Result<TcpStream, Fate> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket =
            if to.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }.unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        match tokio::time::timeout(patience, socket.connect(to)).await {
            Err(_) => Err(Silence),
            Ok(Ok(stream)) => {
                let stream = stream.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                Ok(stream)
            }
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Err(Refused),
            Ok(Err(error)) => panic!("{error}"),
        }
    })
}

/// A listener here that answers every line by the same.
fn serve(port: u16) {
    let listener = TcpListener::bind(("::", port)).unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(echo));
}

fn echo(mut stream: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
}

/// Does a session that was open once still answer?
fn answers(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let mut buffer = [0; 4];
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut buffer).is_ok()
}

/// Connects from an address there to a port here. An open port is waited for long, silence only shortly.
fn fate(host: &Host, from: &str, port: u16, expected: Fate) {
    let from = address(from);
    let to = SocketAddr::new(address(if from.is_ipv4() { HERE } else { HERE6 }), port);
    let patience = if expected == Silence { 300 } else { 10_000 };
    let fate = host.there(move || connect(from, to, Duration::from_millis(patience)).err().unwrap_or(Open));
    assert_eq!(fate, expected, "from {from} to {to}");
}

#[test]
fn a_ban_closes_the_jails_ports_and_no_others() {
    on_each_kernel(|wall| {
        let host = wire();
        [22, 80].into_iter().for_each(serve);
        let both = Scope::Ports(Ports::new([22..=22, 2000..=2100], [Protocol::Tcp, Protocol::Udp]).unwrap());
        let mut policy = policy();
        policy.jails[0] = jail("sshd", both, Action::Drop);
        wall.restore(policy, vec![]);
        for from in THERE {
            fate(&host, from, 22, Open);
        }
        wall.apply([add("sshd", THERE[0], 600), add("sshd", "2001:db8:0:7::/64", 600)]).unwrap();
        fate(&host, THERE[0], 22, Silence);
        fate(&host, THERE[0], 80, Open);
        fate(&host, THERE[0], 2050, Silence);
        fate(&host, THERE[0], 2101, Refused);
        fate(&host, THERE[1], 22, Open);
        fate(&host, THERE[2], 22, Silence);
        fate(&host, THERE[3], 22, Silence);
        fate(&host, THERE[3], 80, Open);
        wall.apply([add("sshd", "198.51.100.0/24", 600)]).unwrap();
        fate(&host, THERE[1], 22, Silence);
        let counters = wall.wait(wall.firewall.counters()).unwrap();
        assert!(counters["sshd"].packets >= 5, "{counters:?}");
        // Counters go on over a rebuild, and over the loss of the table.
        nft("flush ruleset");
        wall.wait(wall.firewall.rebuild(super::space::policy(), vec![], now())).unwrap();
        let after = wall.wait(wall.firewall.counters()).unwrap();
        assert!(after["sshd"].packets >= counters["sshd"].packets);
        fate(&host, THERE[0], 22, Open);
    });
}

/// Both ends of every range of [`overlapping`], and their neighbours.
const PROBED: [u16; 21] = [
    1, 21, 22, 23, 999, 1000, 1029, 1030, 1050, 1051, 1100, 1101, 5059, 5060, 5061, 5062, 30000, 59999, 60000, 65534,
    65535,
];

/// Jails whose ranges overlap, begin where others end, are short, long, and up to the last port.
fn overlapping() -> [(&'static str, Ports); 3] {
    let ports = |ranges: &[(u16, u16)], protocols: &[Protocol]| {
        Ports::new(ranges.iter().map(|(first, last)| *first..=*last), protocols.iter().copied()).unwrap()
    };
    [
        ("one", ports(&[(22, 22), (1000, 1050), (60000, 65535)], &[Protocol::Tcp])),
        ("two", ports(&[(22, 22), (1030, 1100), (5060, 5061)], &[Protocol::Tcp, Protocol::Udp])),
        ("three", ports(&[(1101, 59999)], &[Protocol::Udp])),
    ]
}

fn has(ports: &Ports, protocol: Protocol, port: u16) -> bool {
    ports.protocols().contains(&protocol) && ports.ranges().iter().any(|(first, last)| (*first..=*last).contains(&port))
}

/// Sends a datagram to each of the probed ports here, and to one that is open to all; says which of them came.
fn arrived(host: &Host, from: &'static str, open: &UdpSocket) -> Vec<u16> {
    let here = if address(from).is_ipv4() { HERE } else { HERE6 };
    let sockets = PROBED.map(|port| UdpSocket::bind((here, port)).unwrap());
    let last = open.local_addr().unwrap().port();
    host.there(move || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        // Those behind the first find the neighbour known: nothing is dropped for want of that.
        for port in PROBED.iter().chain([&last]) {
            socket.send_to(b"x", (here, *port)).unwrap();
        }
    });
    open.recv(&mut [0; 4]).unwrap();
    let come = |socket: &UdpSocket| {
        socket.set_nonblocking(true).unwrap();
        socket.recv(&mut [0; 4]).is_ok()
    };
    PROBED.iter().zip(&sockets).filter(|(_, socket)| come(socket)).map(|(port, _)| *port).collect()
}

/// Connects to each of the probed ports here at once; says which of them answered, if only by a refusal.
fn answered(host: &Host, from: &'static str, expected: Vec<u16>) -> Vec<u16> {
    let here = if address(from).is_ipv4() { HERE } else { HERE6 };
    host.there(move || {
        let threads = PROBED.map(|port| {
            let patience = if expected.contains(&port) { 10_000 } else { 300 };
            let to = SocketAddr::new(address(here), port);
            let ask = move || connect(address(from), to, Duration::from_millis(patience)).err() != Some(Silence);
            (port, std::thread::spawn(ask))
        });
        threads.into_iter().filter_map(|(port, thread)| thread.join().unwrap().then_some(port)).collect()
    })
}

#[test]
fn each_port_belongs_to_exactly_the_jails_that_have_it() {
    on_each_kernel(|wall| {
        let host = wire();
        let jails = overlapping();
        let jail = |(name, ports): &(&str, Ports)| jail(name, Scope::Ports(ports.clone()), Action::Drop);
        let policy = Policy { jails: jails.iter().map(jail).collect(), ..Policy::default() };
        let banned = [(THERE[0], "one"), (THERE[1], "two"), (THERE[2], "two"), (THERE[0], "three")];
        let subject = |from: &'static str| if address(from).is_ipv4() { from } else { "2001:db8:0:7::/64" };
        wall.restore(policy.clone(), banned.map(|(from, jail)| ban(jail, subject(from), 600)).to_vec());
        let open = |here| {
            let socket = UdpSocket::bind((here, 9)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        };
        for (from, here) in [(THERE[0], HERE), (THERE[1], HERE), (THERE[3], HERE6)] {
            let open = open(here);
            let of = |protocol| {
                let free = |port: &u16| {
                    !jails.iter().any(|(jail, ports)| {
                        let same = |subject: &str| subject == from || (!address(from).is_ipv4() && subject == THERE[2]);
                        has(ports, protocol, *port) && banned.iter().any(|(who, whose)| same(who) && whose == jail)
                    })
                };
                PROBED.iter().copied().filter(free).collect::<Vec<u16>>()
            };
            assert_eq!(arrived(&host, from, &open), of(Protocol::Udp), "udp from {from}");
            assert_eq!(answered(&host, from, of(Protocol::Tcp)), of(Protocol::Tcp), "tcp from {from}");
        }
        // A set that is asked in several chains is counted once, however often all is written anew.
        let before = wall.wait(wall.firewall.counters()).unwrap();
        assert!(before["one"].packets > 0 && before["two"].packets > 0 && before["three"].packets > 0, "{before:?}");
        for _ in 0..3 {
            wall.wait(wall.firewall.set_policy(policy.clone(), vec![], now())).unwrap();
        }
        assert_eq!(wall.wait(wall.firewall.counters()).unwrap(), before);
        let listed = nft("list ruleset");
        for part in ["map tcp_ports", "map tcp_ranges", "1030-1050 : goto group_", "1051-1100 : goto", "60000-65535 :"]
        {
            assert!(listed.contains(part), "{part} in {listed}");
        }
        let (before, file) = (ruleset(), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(file.path(), &listed).unwrap();
        nft("flush ruleset");
        run("nft", &["-f", file.path().to_str().unwrap()]);
        assert_eq!(ruleset(), before);
    });
}

#[test]
fn who_is_allowed_comes_through_a_banned_prefix() {
    on_each_kernel(|wall| {
        let host = wire();
        [22, 80].into_iter().for_each(serve);
        let mut policy = policy();
        policy.allow = [THERE[0].parse().unwrap(), THERE[2].parse().unwrap()].into_iter().collect();
        policy.jails[0].allow = [THERE[1].parse().unwrap()].into_iter().collect();
        let bans = ["198.51.100.0/24", "2001:db8:0:7::/64"];
        wall.restore(policy.clone(), bans.map(|subject| ban("sshd", subject, 600)).to_vec());
        fate(&host, THERE[0], 22, Open);
        fate(&host, THERE[1], 22, Open);
        fate(&host, THERE[2], 22, Open);
        fate(&host, THERE[3], 22, Silence);
        // Allowed in one jail only: another jail's ban holds.
        wall.apply(bans.map(|subject| add("manual", subject, 600))).unwrap();
        fate(&host, THERE[0], 80, Open);
        fate(&host, THERE[1], 80, Silence);
        fate(&host, THERE[2], 80, Open);
        fate(&host, THERE[3], 80, Silence);
    });
}

#[test]
fn a_session_dies_with_the_ban_and_ours_to_a_banned_host_lives() {
    on_each_kernel(|wall| {
        let host = wire();
        serve(22);
        wall.restore(policy(), vec![]);
        host.there(|| serve(25));
        let to = SocketAddr::new(address(HERE), 22);
        let mut inbound = host.there(move || connect(address(THERE[0]), to, Duration::from_secs(10))).unwrap();
        assert!(answers(&mut inbound));
        wall.apply([add("sshd", THERE[0], 600)]).unwrap();
        assert!(!answers(&mut inbound), "a jail with ports cuts its sessions off");
        let ours = || connect(address(HERE), SocketAddr::new(address(THERE[1]), 25), Duration::from_secs(10));
        let mut outbound = ours().unwrap();
        wall.apply([add("manual", THERE[1], 600)]).unwrap();
        assert!(answers(&mut ours().unwrap()), "a new connection of ours to a banned host");
        assert!(answers(&mut outbound), "one that was there before");
        fate(&host, THERE[1], 22, Silence);
        wall.wait(wall.firewall.set_policy(
            Policy { replies: Replies::Drop, ..policy() },
            vec![ban("manual", THERE[1], 600)],
            now(),
        ))
        .unwrap();
        assert!(!answers(&mut outbound), "replies = drop");
    });
}

#[test]
fn reject_answers_at_once() {
    in_space(|| {
        let wall = Wall::new(None);
        let host = wire();
        serve(22);
        let mut policy = policy();
        let both = Scope::Ports(Ports::new([22..=22], [Protocol::Tcp, Protocol::Udp]).unwrap());
        policy.jails[0] = jail("sshd", both, Action::Reject);
        let mut all = jail("all", Scope::AllPorts, Action::Reject);
        all.lengths.clear();
        policy.jails.push(all);
        wall.restore(policy, vec![ban("sshd", THERE[0], 600), ban("sshd", "2001:db8:0:7::/64", 600)]);
        fate(&host, THERE[0], 22, Refused);
        fate(&host, THERE[2], 22, Refused);
        let error = host.there(|| {
            let socket = UdpSocket::bind((THERE[0], 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket.connect((HERE, 22)).unwrap();
            socket.send(b"x").unwrap();
            socket.recv(&mut [0; 4]).unwrap_err()
        });
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "an ICMP error came: {error}");
        wall.apply([add("all", THERE[1], 600)]).unwrap();
        fate(&host, THERE[1], 80, Refused);
        let counters = wall.wait(wall.firewall.counters()).unwrap();
        assert!(counters["sshd"].packets >= 3);
    });
}

#[test]
fn reach_and_interfaces_say_which_packets_are_looked_at() {
    on_each_kernel(|wall| {
        let host = wire();
        serve(22);
        let bans = vec![ban("sshd", THERE[0], 600), ban("manual", THERE[1], 600)];
        let with = |reach, interfaces: &[&str]| Policy {
            reach,
            interfaces: interfaces.iter().map(|name| name.to_string()).collect(),
            ..policy()
        };
        for (policy, expected) in [
            (with(Reach::All, &[]), Silence),
            (with(Reach::Local, &[]), Silence),
            (with(Reach::All, &["eth0", "near"]), Silence),
            (with(Reach::Local, &["ne*"]), Silence),
            (with(Reach::All, &["nea", "eth*"]), Open),
        ] {
            wall.restore(policy, bans.clone());
            let expect = || if expected == Open { Open } else { Silence };
            fate(&host, THERE[0], 22, expect());
            fate(&host, THERE[1], 22, expect());
        }
    });
}

#[test]
fn a_banned_wire_still_finds_its_neighbours_and_ourselves() {
    on_each_kernel(|wall| {
        let host = wire();
        serve(22);
        let bans = ["fe80::/64", "2001:db8:0:7::/64", "127.0.0.1", "::1"].map(|subject| ban("manual", subject, 600));
        wall.restore(policy(), bans.to_vec());
        ip("neighbour flush dev near");
        host.there(|| ip("neighbour flush dev far"));
        host.there(|| serve(25));
        assert!(connect(address(HERE6), SocketAddr::new(address(THERE[2]), 25), Duration::from_secs(10)).is_ok());
        assert!(connect(address("127.0.0.1"), "127.0.0.1:22".parse().unwrap(), Duration::from_secs(10)).is_ok());
        assert!(connect(address("::1"), "[::1]:22".parse().unwrap(), Duration::from_secs(10)).is_ok());
        fate(&host, THERE[2], 22, Silence);
    });
}

#[test]
fn no_packet_slips_through_while_the_table_is_rebuilt() {
    on_each_kernel(|wall| {
        let host = wire();
        let here = UdpSocket::bind((HERE, 53)).unwrap();
        here.set_nonblocking(true).unwrap();
        let bans = vec![ban("manual", "198.51.100.0/24", 600)];
        wall.restore(policy(), bans.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let sender = host.there({
            let stop = stop.clone();
            move || {
                let socket = UdpSocket::bind((THERE[0], 0)).unwrap();
                let flood = move || {
                    let mut sent = 0u32;
                    while !stop.load(Ordering::Relaxed) {
                        sent += u32::from(socket.send_to(b"x", (HERE, 53)).is_ok());
                    }
                    sent
                };
                std::thread::spawn(flood)
            }
        });
        for _ in 0..30 {
            wall.wait(wall.firewall.rebuild(policy(), bans.clone(), now())).unwrap();
            wall.wait(wall.firewall.set_policy(policy(), bans.clone(), now())).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(sender.join().unwrap() > 0);
        assert_eq!(here.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}
