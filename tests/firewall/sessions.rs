//! What a ban leaves of sessions that are open: nothing of the host's own, in neither direction, whoever speaks; and all of
//! those that this machine opened.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use banish::engine::jail::Action;
use banish::engine::jail::scope::{Ports, Protocol, Scope};
use banish::firewall::{Change, Element, Policy, Reach, Replies};

use super::packets::{HERE, HERE6, THERE, wire};
use super::space::*;
use super::sys;

/// How often whoever speaks says something.
const PAUSE: Duration = Duration::from_millis(40);
/// So long nothing may be heard: many times what whoever speaks waits, and what TCP waits at first to send again.
const SILENCE: Duration = Duration::from_millis(800);

/// An open session and what has arrived at both ends of it.
struct Session {
    what: String,
    /// Bytes that came here, and there.
    heard: [Arc<AtomicU64>; 2],
    end: Arc<AtomicBool>,
}

/// Who says something again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    Here,
    Both,
}

impl Session {
    fn new(what: String) -> Session {
        Session { what, heard: Default::default(), end: Arc::default() }
    }

    fn heard(&self) -> [u64; 2] {
        self.heard.each_ref().map(|heard| heard.load(Ordering::Relaxed))
    }

    /// Listens and speaks at one end until the session is dropped.
    fn drive<S: Speak>(&self, end: usize, socket: S, speaks: bool) {
        let (heard, ended) = (self.heard[end].clone(), self.end.clone());
        let reader = socket.again();
        let over = ended.clone();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !over.load(Ordering::Relaxed) {
                if let Some(count) = reader.hear(&mut buffer) {
                    heard.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
        });
        if speaks {
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    socket.say(b"x");
                    thread::sleep(PAUSE);
                }
            });
        }
    }

    /// Waits until more has come to the ends that somebody speaks to.
    fn goes_on(&self, speaker: Speaker) {
        let before = self.heard();
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let now = self.heard();
            if now[1] > before[1] && (speaker == Speaker::Here || now[0] > before[0]) {
                return;
            }
            assert!(Instant::now() < deadline, "{} has stopped: {before:?}, then {now:?}", self.what);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// No session of these hears anything any more.
fn all_silent(sessions: &[Session], when: &str) {
    // What has arrived is read.
    thread::sleep(Duration::from_millis(100));
    let before: Vec<_> = sessions.iter().map(Session::heard).collect();
    thread::sleep(SILENCE);
    for (session, before) in sessions.iter().zip(before) {
        assert_eq!(session.heard(), before, "bytes that came here and there, {when}: {}", session.what);
    }
}

/// One end of a session. Errors are silence.
trait Speak: Send + 'static {
    fn again(&self) -> Self;
    fn say(&self, bytes: &[u8]);
    fn hear(&self, buffer: &mut [u8]) -> Option<usize>;
}

const PATIENCE: Option<Duration> = Some(Duration::from_millis(50));

impl Speak for TcpStream {
    fn again(&self) -> TcpStream {
        self.set_read_timeout(PATIENCE).unwrap();
        self.set_nodelay(true).unwrap();
        self.try_clone().unwrap()
    }
    fn say(&self, bytes: &[u8]) {
        let mut stream = self;
        let _ = stream.write_all(bytes);
    }
    fn hear(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut stream = self;
        match stream.read(buffer) {
            Ok(0) | Err(_) => {
                thread::sleep(Duration::from_millis(1));
                None
            }
            Ok(count) => Some(count),
        }
    }
}

/// A UDP socket and whom it speaks to.
struct To(UdpSocket, SocketAddr);

impl Speak for To {
    fn again(&self) -> To {
        self.0.set_read_timeout(PATIENCE).unwrap();
        To(self.0.try_clone().unwrap(), self.1)
    }
    fn say(&self, bytes: &[u8]) {
        let _ = self.0.send_to(bytes, self.1);
    }
    fn hear(&self, buffer: &mut [u8]) -> Option<usize> {
        match self.0.recv_from(buffer) {
            Ok((count, from)) if from == self.1 => Some(count),
            _ => None,
        }
    }
}

fn here(of: &str) -> IpAddr {
    address(if address(of).is_ipv4() { HERE } else { HERE6 })
}

/// The other host opens a TCP session with a server here; on port 0, one that nobody listens on any more.
fn tcp_to_us(host: &Host, from: &'static str, port: u16, speaker: Speaker) -> Session {
    let listener = TcpListener::bind((here(from), port)).unwrap();
    let to = listener.local_addr().unwrap();
    let session = Session::new(format!("TCP from {from} to {to}, {speaker:?} speaks"));
    let there = host.there(move || connect(from, to));
    let (ours, _) = listener.accept().unwrap();
    session.drive(0, ours, true);
    session.drive(1, there, speaker == Speaker::Both);
    if port != 0 {
        thread::spawn(move || listener.incoming().for_each(drop));
    }
    session.goes_on(speaker);
    session
}

/// The other host opens a UDP session with a server here.
fn udp_to_us(host: &Host, from: &'static str, port: u16, speaker: Speaker) -> Session {
    let ours = UdpSocket::bind((here(from), port)).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let to = ours.local_addr().unwrap();
    let session = Session::new(format!("UDP from {from} to {to}, {speaker:?} speaks"));
    let there = host.there(move || {
        let there = UdpSocket::bind((from, 0)).unwrap();
        there.send_to(b"hello", to).unwrap();
        there
    });
    let (_, their) = ours.recv_from(&mut [0; 16]).unwrap();
    session.drive(0, To(ours, their), true);
    session.drive(1, To(there, to), speaker == Speaker::Both);
    session.goes_on(speaker);
    session
}

fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket =
            if to.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }.unwrap();
        socket.bind(SocketAddr::new(address(from), 0)).unwrap();
        let stream = tokio::time::timeout(Duration::from_secs(15), socket.connect(to)).await;
        let stream = stream.unwrap_or_else(|_| panic!("{from} cannot connect to {to}")).unwrap().into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    })
}

/// This machine opens a TCP session with a server there, which speaks too.
fn tcp_to_them(host: &Host, to: &'static str) -> Session {
    let (listener, at) = host.there(move || {
        let listener = TcpListener::bind((to, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        (listener, at)
    });
    let session = Session::new(format!("our TCP to {at}"));
    let ours = connect(&here(to).to_string(), at);
    let there = host.there(move || listener.accept().unwrap().0);
    session.drive(0, ours, true);
    session.drive(1, there, true);
    session.goes_on(Speaker::Both);
    session
}

/// This machine opens a UDP session with a server there, from a socket that is connected as a resolver's is.
fn udp_to_them(host: &Host, to: &'static str) -> Session {
    let (theirs, at) = host.there(move || {
        let theirs = UdpSocket::bind((to, 0)).unwrap();
        let at = theirs.local_addr().unwrap();
        (theirs, at)
    });
    let session = Session::new(format!("our UDP to {at}"));
    let ours = UdpSocket::bind((here(to), 0)).unwrap();
    ours.connect(at).unwrap();
    let from = ours.local_addr().unwrap();
    struct Connected(UdpSocket);
    impl Speak for Connected {
        fn again(&self) -> Connected {
            self.0.set_read_timeout(PATIENCE).unwrap();
            Connected(self.0.try_clone().unwrap())
        }
        fn say(&self, bytes: &[u8]) {
            let _ = self.0.send(bytes);
        }
        fn hear(&self, buffer: &mut [u8]) -> Option<usize> {
            self.0.recv(buffer).ok()
        }
    }
    session.drive(0, Connected(ours), true);
    session.drive(1, To(theirs, from), true);
    session.goes_on(Speaker::Both);
    session
}

/// A question as resolvers ask it: from a new socket each time, which is not connected.
fn question(host: &Host, to: &'static str) {
    let (theirs, at) = host.there(move || {
        let theirs = UdpSocket::bind((to, 0)).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let at = theirs.local_addr().unwrap();
        (theirs, at)
    });
    let ours = UdpSocket::bind((here(to), 0)).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    ours.send_to(b"who?", at).unwrap();
    host.there(move || {
        let (_, from) = theirs.recv_from(&mut [0; 16]).unwrap();
        // Longer than a wire takes: the answer comes in fragments.
        theirs.send_to(&[7; 4000], from).unwrap();
    });
    let count = ours.recv(&mut [0; 5000]).unwrap_or_else(|error| panic!("no answer of {at}: {error}"));
    assert_eq!(count, 4000);
}

/// The first two addresses there are banned in these tests, as the two families' hosts.
const BANNED: [&str; 2] = [THERE[0], THERE[2]];

fn bans(jail: &str) -> Vec<Element> {
    vec![ban(jail, "198.51.100.7", 600), ban(jail, "2001:db8:0:7::/64", 600)]
}

/// Sessions of every kind that the hosts opened.
fn theirs(host: &Host, ports: [u16; 4]) -> Vec<Session> {
    let mut sessions = Vec::new();
    for from in BANNED {
        sessions.push(tcp_to_us(host, from, ports[0], Speaker::Here));
        sessions.push(tcp_to_us(host, from, ports[1], Speaker::Both));
        sessions.push(udp_to_us(host, from, ports[2], Speaker::Here));
        sessions.push(udp_to_us(host, from, ports[3], Speaker::Both));
    }
    sessions
}

fn ours(host: &Host) -> Vec<Session> {
    BANNED.into_iter().flat_map(|to| [tcp_to_them(host, to), udp_to_them(host, to)]).collect()
}

/// Somebody else's table that turns connection tracking on, and nothing else.
fn track() {
    nft("add table inet other; add chain inet other c { type filter hook prerouting priority -150; }; \
         add rule inet other c ct state new counter");
}

#[test]
fn the_first_ban_of_all_ports_ends_the_hosts_sessions_and_none_of_ours() {
    on_each_kernel(|wall| {
        let host = wire();
        wall.restore(policy(), vec![]);
        let mut theirs = theirs(&host, [5001, 5002, 5001, 5002]);
        for from in BANNED {
            // In the range of clients' ports; of TCP, one whose listener is gone, as of FTP's passive mode.
            theirs.push(tcp_to_us(&host, from, 0, Speaker::Here));
            theirs.push(tcp_to_us(&host, from, 40_001, Speaker::Both));
            theirs.push(udp_to_us(&host, from, 40_001, Speaker::Here));
        }
        let ours = ours(&host);
        wall.apply(bans("manual").into_iter().map(Change::Add)).unwrap();
        all_silent(&theirs, "behind the first ban");
        ours.iter().for_each(|session| session.goes_on(Speaker::Both));
        sys::forget_connections();
        all_silent(&theirs, "behind a flush of connection tracking");
        ours.iter().for_each(|session| session.goes_on(Speaker::Both));
        nft("flush ruleset");
        wall.wait(wall.firewall.rebuild(policy(), bans("manual"), now())).unwrap();
        all_silent(&theirs, "behind a flush of the ruleset");
        ours.iter().for_each(|session| session.goes_on(Speaker::Both));
        wall.wait(wall.firewall.rebuild(policy(), bans("manual"), now())).unwrap();
        wall.wait(wall.firewall.set_policy(policy(), bans("manual"), now())).unwrap();
        assert!(wall.wait(wall.firewall.audit(bans("manual"), now(), true)).unwrap().is_empty());
        let again = Wall::new(Some(wall.firewall.kernel()));
        again.restore(policy(), bans("manual"));
        all_silent(&theirs, "behind a restart");
        ours.iter().for_each(|session| session.goes_on(Speaker::Both));
        for to in BANNED {
            tcp_to_them(&host, to);
            udp_to_them(&host, to);
            question(&host, to);
        }
    });
}

#[test]
fn whatever_was_tracked_before_a_ban_ends_the_hosts_sessions() {
    on_each_kernel(|wall| {
        let host = wire();
        wall.restore(policy(), vec![ban("manual", THERE[1], 600), ban("manual", "2001:db8:1::/64", 600)]);
        // Sessions that were there before connection tracking, and that the server's next packet brings into it.
        let mut before = theirs(&host, [5001, 5002, 5001, 5002]);
        track();
        thread::sleep(4 * PAUSE);
        before.extend(theirs(&host, [5003, 5004, 5003, 5004]));
        let ours = ours(&host);
        wall.apply(bans("manual").into_iter().map(Change::Add)).unwrap();
        all_silent(&before, "behind a later ban");
        sys::forget_connections();
        all_silent(&before, "behind a flush of connection tracking");
        ours.iter().for_each(|session| session.goes_on(Speaker::Both));
        // The table is away for a while in which everything is tracked.
        nft("delete table inet banish");
        before.iter().for_each(|session| session.goes_on(Speaker::Here));
        wall.wait(wall.firewall.rebuild(policy(), bans("manual"), now())).unwrap();
        all_silent(&before, "behind the loss of the table");
        ours.iter().for_each(|session| session.goes_on(Speaker::Both));
        BANNED.iter().for_each(|to| question(&host, to));
    });
}

#[test]
fn a_ban_of_some_ports_ends_sessions_in_both_directions_and_none_of_other_ports() {
    on_each_kernel(|wall| {
        let host = wire();
        let mut policy = policy();
        let both = Ports::new([5001..=5002, 40_000..=40_100], [Protocol::Tcp, Protocol::Udp]).unwrap();
        policy.jails[0] = jail("sshd", Scope::Ports(both), Action::Drop);
        wall.restore(policy.clone(), vec![]);
        let mut theirs = theirs(&host, [5001, 5002, 5001, 40_001]);
        let others = [tcp_to_us(&host, THERE[0], 5003, Speaker::Both), udp_to_us(&host, THERE[2], 5003, Speaker::Both)];
        wall.apply(bans("sshd").into_iter().map(Change::Add)).unwrap();
        all_silent(&theirs, "behind the ban");
        others.iter().for_each(|session| session.goes_on(Speaker::Both));
        nft("flush ruleset");
        wall.wait(wall.firewall.rebuild(policy, bans("sshd"), now())).unwrap();
        all_silent(&theirs, "behind a flush of the ruleset");
        others.iter().for_each(|session| session.goes_on(Speaker::Both));
        theirs.clear();
    });
}

#[test]
fn a_ban_of_a_jail_that_rejects_ends_sessions_at_once() {
    in_space(|| {
        let wall = Wall::new(None);
        let host = wire();
        let mut policy = policy();
        let both = Ports::new([5001..=5001], [Protocol::Tcp, Protocol::Udp]).unwrap();
        policy.jails[0] = jail("sshd", Scope::Ports(both), Action::Reject);
        policy.jails[1].action = Action::Reject;
        wall.restore(policy.clone(), vec![]);
        for jail in ["sshd", "manual"] {
            let to = SocketAddr::new(address(HERE), if jail == "sshd" { 5001 } else { 5003 });
            let listener = TcpListener::bind(to).unwrap();
            let mut there = host.there(move || connect(THERE[0], to));
            let (ours, _) = listener.accept().unwrap();
            let port = if jail == "sshd" { 5001 } else { 5002 };
            let quiet = [udp_to_us(&host, THERE[2], port, Speaker::Here)];
            wall.apply(bans(jail).into_iter().map(Change::Add)).unwrap();
            there.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            ours.say(b"not any more");
            there.write_all(b"?").unwrap();
            let error = there.read(&mut [0; 4]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{jail}: {error}");
            all_silent(&quiet, "behind the ban");
            wall.wait(wall.firewall.rebuild(policy.clone(), vec![], now())).unwrap();
        }
    });
}

#[test]
fn where_replies_are_dropped_nothing_passes_in_either_direction() {
    on_each_kernel(|wall| {
        let host = wire();
        let policy = Policy { replies: Replies::Drop, ..policy() };
        wall.restore(policy, vec![]);
        let mut all = theirs(&host, [5001, 5002, 5001, 5002]);
        all.extend(ours(&host));
        wall.apply(bans("manual").into_iter().map(Change::Add)).unwrap();
        all_silent(&all, "behind the ban");
    });
}

#[test]
fn who_is_let_through_keeps_his_sessions_in_both_directions() {
    on_each_kernel(|wall| {
        let host = wire();
        let mut policy = policy();
        policy.allow = [THERE[0].parse().unwrap()].into_iter().collect();
        for jail in &mut policy.jails {
            jail.allow = [THERE[2].parse().unwrap()].into_iter().collect();
        }
        policy.jails[0].scope = tcp(5001);
        wall.restore(policy.clone(), vec![]);
        let sessions = theirs(&host, [5001, 5002, 5001, 5002]);
        let neighbours =
            [tcp_to_us(&host, THERE[1], 5004, Speaker::Here), tcp_to_us(&host, THERE[3], 5004, Speaker::Here)];
        let subjects = ["198.51.100.0/24", "2001:db8:0:7::/64"];
        let all = ["sshd", "manual"].into_iter().flat_map(|jail| subjects.map(|subject| ban(jail, subject, 600)));
        let bans: Vec<Element> = all.collect();
        wall.apply(bans.iter().cloned().map(Change::Add)).unwrap();
        all_silent(&neighbours, "of neighbours that are not let through");
        sessions.iter().for_each(|session| session.goes_on(Speaker::Here));
        // And of interfaces and of what is looked at.
        for (policy, goes_on) in [
            (Policy { interfaces: vec!["eth*".into()], ..policy.clone() }, true),
            (Policy { interfaces: vec!["eth0".into(), "near".into()], ..policy.clone() }, false),
            (Policy { reach: Reach::Local, ..policy }, false),
        ] {
            wall.wait(wall.firewall.set_policy(policy, bans.clone(), now())).unwrap();
            if goes_on {
                neighbours.iter().for_each(|session| session.goes_on(Speaker::Here));
            } else {
                all_silent(&neighbours, "of neighbours that are looked at");
            }
        }
    });
}

const INNER: [&str; 2] = ["10.0.0.2", "fd00::2"];

/// A host behind this machine, as a container is: its ports are published, its own connections have this machine's address.
fn inner() -> Host {
    let inner = Host::at("inside", "eth0");
    for command in
        ["link set inside up", "address add 10.0.0.1/24 dev inside", "address add fd00::1/64 dev inside nodad"]
    {
        ip(command);
    }
    inner.there(|| {
        for command in [
            "link set lo up",
            "link set eth0 up",
            "address add 10.0.0.2/24 dev eth0",
            "address add fd00::2/64 dev eth0 nodad",
            "route add default via 10.0.0.1",
            "route add default via fd00::1",
        ] {
            ip(command);
        }
    });
    for (file, value) in [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")] {
        std::fs::write(format!("/proc/sys/net/{file}"), value).unwrap();
    }
    nft("add table inet nat; add chain inet nat out { type nat hook postrouting priority srcnat; }; \
         add rule inet nat out ip saddr 10.0.0.0/24 oifname near masquerade; \
         add rule inet nat out ip6 saddr fd00::/64 oifname near masquerade; \
         add chain inet nat in { type nat hook prerouting priority dstnat; }; \
         add rule inet nat in ip daddr 192.0.2.1 meta l4proto { tcp, udp } th dport 40001-40009 dnat ip to 10.0.0.2; \
         add rule inet nat in ip6 daddr 2001:db8::1 meta l4proto { tcp, udp } th dport 40001-40009 dnat ip6 to fd00::2");
    inner
}

fn within(of: &str) -> &'static str {
    INNER[usize::from(!address(of).is_ipv4())]
}

/// The other host opens a session with a server within.
fn through(host: &Host, inner: &Host, from: &'static str, protocol: Protocol, port: u16) -> Session {
    let to = SocketAddr::new(here(from), port);
    let session = Session::new(format!("{protocol} from {from} to {to}, and on within"));
    match protocol {
        Protocol::Tcp => {
            let listener = inner.there(move || TcpListener::bind((within(from), port)).unwrap());
            let there = host.there(move || connect(from, to));
            session.drive(0, inner.there(move || listener.accept().unwrap().0), true);
            session.drive(1, there, false);
        }
        Protocol::Udp => {
            let ours = inner.there(move || UdpSocket::bind((within(from), port)).unwrap());
            ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let there = host.there(move || {
                let there = UdpSocket::bind((from, 0)).unwrap();
                there.send_to(b"hello", to).unwrap();
                there
            });
            let (_, their) = ours.recv_from(&mut [0; 16]).unwrap();
            session.drive(0, To(ours, their), true);
            session.drive(1, To(there, to), false);
        }
    }
    session.goes_on(Speaker::Here);
    session
}

/// A host within opens a TCP session with the other one.
fn from_within(host: &Host, inner: &Host, to: &'static str) -> Session {
    let (listener, at) = host.there(move || {
        let listener = TcpListener::bind((to, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        (listener, at)
    });
    let session = Session::new(format!("TCP from within to {at}"));
    session.drive(0, inner.there(move || connect(within(to), at)), true);
    session.drive(1, host.there(move || listener.accept().unwrap().0), true);
    session.goes_on(Speaker::Both);
    session
}

#[test]
fn a_ban_ends_sessions_with_hosts_behind_this_machine_and_none_that_those_opened() {
    on_each_kernel(|wall| {
        let host = wire();
        let inner = inner();
        let published = Ports::new([40_001..=40_009], [Protocol::Tcp, Protocol::Udp]).unwrap();
        let mut policy = policy();
        policy.jails[0] = jail("sshd", Scope::Ports(published), Action::Drop);
        for (name, port) in [("sshd", 40_001), ("manual", 40_002)] {
            wall.restore(policy.clone(), vec![]);
            let mut theirs: Vec<Session> = Vec::new();
            for from in BANNED {
                theirs.push(through(&host, &inner, from, Protocol::Tcp, port));
                theirs.push(through(&host, &inner, from, Protocol::Udp, port));
            }
            let ours = BANNED.map(|to| from_within(&host, &inner, to));
            wall.apply(bans(name).into_iter().map(Change::Add)).unwrap();
            all_silent(&theirs, "behind the ban");
            ours.iter().for_each(|session| session.goes_on(Speaker::Both));
            BANNED.iter().for_each(|to| drop(from_within(&host, &inner, to)));
            wall.wait(wall.firewall.rebuild(policy.clone(), bans(name), now())).unwrap();
            ours.iter().for_each(|session| session.goes_on(Speaker::Both));
            sys::forget_connections();
            all_silent(&theirs, "behind a flush of connection tracking");
            nft("delete table inet banish");
            wall.wait(wall.firewall.rebuild(policy.clone(), bans(name), now())).unwrap();
            all_silent(&theirs, "behind the loss of the table");
            wall.wait(wall.firewall.rebuild(policy.clone(), vec![], now())).unwrap();
        }
    });
}
