//! A network namespace at the other end of a wire, and a flood of packets into it.

use std::fs::File;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{run, sys};

/// So many addresses send.
const SENDERS: u16 = 1024;
/// So many packets are handed over in one call.
const BATCH: usize = 64;

/// A namespace that lives as long as this value. Its address is 10.N.0.1, and it takes everything from 10.N.0.0/16.
pub struct Space {
    number: u8,
    holder: Child,
    mac: [u8; 6],
    /// Takes the packets, and is never read.
    _sink: Option<UdpSocket>,
}

impl Space {
    /// One whose packets come to `sink`, or go out only.
    pub fn new(number: u8, sink: Option<u16>) -> Space {
        let holder = Command::new("unshare").args(["--net", "sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap();
        let pid = holder.id().to_string();
        // Until it is in a namespace of its own.
        while std::fs::read_link(format!("/proc/{pid}/ns/net")).ok() == std::fs::read_link("/proc/self/ns/net").ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let near = format!("near{number}");
        run("ip", &["link", "add", &near, "type", "veth", "peer", "name", "far", "netns", &pid]);
        run("ip", &["link", "set", &near, "up"]);
        let mut space = Space { number, holder, mac: [0; 6], _sink: None };
        let address = format!("10.{number}.0.1/16");
        let (mac, sink) = space.within(|| {
            run("ip", &["link", "set", "lo", "up"]);
            run("ip", &["address", "add", &address, "dev", "far"]);
            run("ip", &["link", "set", "far", "up"]);
            let text =
                String::from_utf8(Command::new("ip").args(["-o", "link", "show", "far"]).output().unwrap().stdout);
            let text = text.unwrap();
            let mac = text.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
            let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            (<[u8; 6]>::try_from(bytes).unwrap(), sink.map(|port| UdpSocket::bind(("0.0.0.0", port)).unwrap()))
        });
        space.mac = mac;
        space._sink = sink;
        space
    }

    /// Does something in the namespace; what is opened there stays there.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        let act = || {
            sys::join_network(&namespace).unwrap();
            act()
        };
        std::thread::scope(|scope| scope.spawn(act).join().unwrap())
    }

    pub fn nft(&self, commands: &str) {
        self.within(|| run("nft", &[commands]));
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Packets from one port of a space to one address behind the wire.
pub struct Answers {
    socket: UdpSocket,
}

impl Answers {
    pub fn new(space: &Space, port: u16) -> Answers {
        let to = format!("10.{}.2.1", space.number);
        let socket = space.within(|| {
            // Nobody answers there.
            run("ip", &["neighbour", "add", &to, "lladdr", "02:00:00:00:00:01", "dev", "far", "nud", "permanent"]);
            UdpSocket::bind((format!("10.{}.0.1", space.number), port)).unwrap()
        });
        socket.connect((to, 4711)).unwrap();
        Answers { socket }
    }

    /// Sends as fast as it goes. Packets per second.
    pub fn run(&mut self, length: Duration) -> f64 {
        let began = Instant::now();
        let mut sent = 0;
        while began.elapsed() < length {
            for _ in 0..BATCH {
                sent += usize::from(self.socket.send(&[]).is_ok());
            }
        }
        sent as f64 / began.elapsed().as_secs_f64()
    }
}

/// Packets to one port of a space from many addresses.
pub struct Flood {
    socket: sys::Packets,
    frames: Vec<Vec<u8>>,
}

impl Flood {
    pub fn new(space: &Space, port: u16) -> Flood {
        let frames = (0..SENDERS).map(|sender| frame(space, sender, port)).collect();
        Flood { socket: sys::Packets::open(&format!("near{}", space.number)).unwrap(), frames }
    }

    /// Sends as fast as it goes; a veth pair takes no packet before the last is dealt with. Packets per second.
    pub fn run(&mut self, length: Duration) -> f64 {
        let began = Instant::now();
        let mut sent = 0;
        while began.elapsed() < length {
            for batch in self.frames.chunks(BATCH) {
                sent += self.socket.send(batch).unwrap();
            }
        }
        sent as f64 / began.elapsed().as_secs_f64()
    }
}

/// An Ethernet frame with an empty UDP datagram in it.
fn frame(space: &Space, sender: u16, port: u16) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0];
    let [high, low] = (sender + 256).to_be_bytes();
    ip.extend([10, space.number, high, low, 10, space.number, 0, 1]);
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = space.mac.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 8, 0]);
    frame.extend(ip);
    frame.extend(4711u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    // No checksum: IPv4 need not have one.
    frame.extend([0, 8, 0, 0]);
    frame
}
