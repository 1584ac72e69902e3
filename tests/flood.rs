//! A flood of attackers who each fail once, and a few who keep trying: memory stays bounded, the few are banned, and
//! systemd hears that the daemon goes round.
//!
//! `BANISH_FLOOD` says how many entries the daemon's flood has, where not 30,000: a million is for a release build.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

#[path = "support/directories.rs"]
#[allow(dead_code, reason = "shared with other tests of the daemon")]
mod directories;
#[path = "support/journal.rs"]
#[allow(dead_code, reason = "shared with the reader's tests")]
mod journal;
#[path = "firewall/space.rs"]
#[allow(dead_code, reason = "shared with the firewall's tests")]
mod space;
#[path = "firewall/sys.rs"]
#[allow(dead_code, reason = "shared with the firewall's tests")]
mod sys;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use banish::engine::entry::EntryRef;
use banish::engine::jail::{Action, Rules, Sighting};
use banish::engine::time::{Length, Stamp};
use banish::engine::warden::{Decision, Warden};
use directories::Directories;
use journal::Record;
use space::in_space;

const SECOND: u64 = 1_000_000;
/// Of all bytes that a process has for itself.
const MEMORY: u64 = 64 << 20;
/// So many jails share the memory.
const JAILS: u64 = 50;
/// Memory is measured of one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What a process has in memory of its own, in bytes.
fn anonymous(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Addresses that look drawn by lot and never come twice: two of three IPv4, one IPv6 of its own /64.
fn spoofed(number: u64) -> IpAddr {
    let mixed = (number as u32).wrapping_mul(0x9E37_79B1);
    if number % 3 == 2 {
        Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(mixed) << 64 | u128::from(number)).into()
    } else {
        Ipv4Addr::from_bits(mixed).into()
    }
}

/// One who keeps trying, from a new address of the same /64 each time where that is IPv6.
fn persistent(who: u64, time: u64) -> IpAddr {
    if who.is_multiple_of(2) {
        Ipv4Addr::new(198, 51, 100, who as u8).into()
    } else {
        Ipv6Addr::from_bits(0x2001_0db8_ffff_u128 << 80 | u128::from(who) << 64 | u128::from(time)).into()
    }
}

#[test]
fn a_million_attackers_stay_in_memory_and_who_keeps_trying_is_banned() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // Spread over all jails, or everybody in one.
    for (spread, attackers) in [(JAILS, 1_000_000), (1, 400_000)] {
        let before = anonymous("self").unwrap();
        let rules = Rules {
            maxretry: 5,
            findtime: Duration::from_secs(600),
            bantime: Length::For(Duration::from_secs(3600)),
            action: Action::Drop,
            ipv6_prefix: 64,
            allow: [].into_iter().collect(),
        };
        let name = |number: u64| format!("jail{number}").parse().unwrap();
        let mut warden = Warden::new();
        warden.configure((0..JAILS).map(|number| (name(number), rules.clone())));
        let (mut most, mut banned) = (0, BTreeSet::new());
        let mut sightings = Vec::new();
        for number in 0..attackers {
            let stamp = Stamp::from_usec((1_000_000 + number / 2000) * SECOND);
            let mut fails = |jail, address, part| {
                let entry = EntryRef { seqnum_id: 1, seqnum: 4 * number + part };
                sightings.push(Sighting { jail: name(jail), address, stamp, entry });
            };
            fails(number % spread, spoofed(number), 0);
            // A quarter fails twice, which takes more memory than once.
            if number % 4 == 0 {
                fails(number % spread, spoofed(number), 1);
            }
            // Ten who fail once in 4,000 entries each.
            if number % 400 == 0 {
                let who = number / 400 % 10;
                fails(who % spread, persistent(who, number), 2);
            }
            if sightings.len() >= 512 {
                for decision in warden.see(&sightings, stamp) {
                    let Decision::Ban(ban) = decision else { panic!("{decision:?}") };
                    banned.insert(ban.place.subject.network());
                }
                sightings.clear();
                if number % 16 == 0 {
                    most = most.max(anonymous("self").unwrap());
                }
            }
        }
        assert_eq!(banned.len(), 10, "{banned:?}");
        let figures: Vec<_> = (0..JAILS).filter_map(|number| warden.figures(&format!("jail{number}"))).collect();
        let failing: usize = figures.iter().map(|figures| figures.failing).sum();
        let evicted: u64 = figures.iter().map(|figures| figures.evicted).sum();
        let grown = (most - before) >> 20;
        // The whole room serves one jail nearly as well as all.
        assert!(failing > 100_000, "{failing}");
        eprintln!("{spread} jails: {grown} MiB, {failing} remembered, {evicted} forgotten early");
        assert!(grown < 40, "{grown} MiB");
        assert!(evicted > 100_000);
    }
}

/// Directories of a daemon with many jails, and a journal of a flood.
struct World {
    root: Directories,
    entries: u64,
}

/// Patterns that are slow to search: all of them linear, and some of them with a large factor.
const SLOW: [&str; 4] = [
    "^(?:[a-z]+[0-9a-z]*[.,;: ]*)*login failed for <F-USER>.*</F-USER> from <ADDR>$",
    "(?i)(?:fail(?:ed|ure)|invalid|refused).{0,200}<HOST>.{0,100}end$",
    "^<F-USER>.*</F-USER> <ADDR> .* <F-PORT>\\d+</F-PORT> (?:a?){20}a{20}$",
    "^(?:a|aa|aaa)*(?:b|bb)*<ADDR>",
];

/// What makes them slow, more than 8 KiB of it.
const HOSTILE: [&str; 4] =
    ["login failed for x from 192.0.2.", "failed invalid 1.1.1.1 ", "a 192.0.2.1 aaaaaaaaaaaaaaaaaa ", "aaabbaa1.1.1."];

impl World {
    fn new(entries: u64) -> Option<World> {
        let world = World { root: Directories::new()?, entries };
        world.root.shipped_filter("sshd");
        let mut jails = String::from("[jail.sshd]\nenabled = true\nfilter = \"sshd\"\nport = [\"ssh\"]\n");
        for number in 1..JAILS {
            let unit = format!("journalmatch = [\"_SYSTEMD_UNIT=flood{number}.service\"]\n");
            let pattern = SLOW[number as usize % SLOW.len()];
            world
                .root
                .write(&format!("etc/filter.d/slow{number}.toml"), &format!("{unit}failregex = ['''{pattern}''']\n"));
            write!(jails, "[jail.slow{number}]\nenabled = true\nfilter = \"slow{number}\"\n").unwrap();
        }
        world.root.write("etc/jail.d/all.toml", &jails);
        world.root.write("etc/banish.toml", "[default]\nmaxretry = 5\nfindtime = \"1h\"\nbantime = \"2h\"\n");
        Some(world)
    }

    /// Four of five entries are sshd's, each from another address; every fiftieth is long and hostile.
    fn log(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        let from = now - self.entries * 1000 - 60 * SECOND;
        let hostile: Vec<String> = HOSTILE.iter().map(|text| text.repeat(10_000 / text.len())).collect();
        let entry = |number: u64| {
            let record = Record::at(from + number * 1000)
                .with("_TRANSPORT", "syslog")
                .with("_PID", (number % 30_000).to_string());
            let of = |record: Record, unit: u64, message: String| {
                record.with("_SYSTEMD_UNIT", format!("flood{unit}.service")).with("MESSAGE", message)
            };
            let sshd = |address: IpAddr| {
                Record::at(from + number * 1000)
                    .with("_TRANSPORT", "syslog")
                    .with("_UID", "0")
                    .with("_SYSTEMD_UNIT", "ssh.service")
                    .with("SYSLOG_IDENTIFIER", "sshd")
                    .with("_PID", (number % 30_000).to_string())
                    .with("MESSAGE", format!("Failed password for root from {address} port 4711 ssh2"))
            };
            match number % 50 {
                0 => of(record, 1 + number / 50 % (JAILS - 1), hostile[(number / 50 % 4) as usize].clone()),
                n if n % 5 == 1 => {
                    of(record, 1 + number % (JAILS - 1), format!("login failed for x from {}", spoofed(number)))
                }
                // Four who fail once in 1,000 entries each.
                2 if number % 250 == 2 => sshd(persistent(number / 250 % 4, number)),
                _ => sshd(spoofed(number)),
            }
        };
        self.root.log((0..self.entries).map(entry));
    }

    fn start(&self, notify: &Path) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_banishd"));
        command.arg("--config").arg(self.root.path("etc")).arg("--state").arg(self.root.path("state"));
        command.arg("--journal-directory").arg(self.root.path("journal"));
        command.args(["--once", "--bus-address", "none"]);
        for name in ["STATE_DIRECTORY", "JOURNAL_STREAM", "INVOCATION_ID", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        command.env("NOTIFY_SOCKET", notify).env("WATCHDOG_USEC", (2 * SECOND).to_string());
        let said = std::fs::File::create(self.root.path("said")).unwrap();
        command.stdin(Stdio::null()).stderr(said.try_clone().unwrap()).stdout(said).spawn().unwrap()
    }
}

#[test]
fn a_flood_through_the_daemon_starves_nobody_and_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    in_space(|| {
        let entries = std::env::var("BANISH_FLOOD").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
        let Some(world) = World::new(entries) else { return };
        world.log();
        let path = world.root.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let begun = Instant::now();
        let mut daemon = world.start(&path);
        let (mut most, mut heard, mut silence) = (0, None::<Instant>, Duration::ZERO);
        let mut pulses = 0;
        let ended = loop {
            most = most.max(anonymous(&daemon.id().to_string()).unwrap_or_default());
            let mut datagram = [0; 4096];
            if let Ok(length) = socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
                if text.lines().any(|line| line == "WATCHDOG=1" || line == "READY=1") {
                    pulses += u32::from(text.contains("WATCHDOG=1"));
                    silence = silence.max(heard.map_or(Duration::ZERO, |heard| heard.elapsed()));
                    heard = Some(Instant::now());
                }
            }
            if let Some(status) = daemon.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > Duration::from_secs(600) {
                daemon.kill().unwrap();
            }
        };
        let took = begun.elapsed();
        silence = silence.max(heard.expect("it was ready").elapsed());
        let said = std::fs::read_to_string(world.root.path("said")).unwrap();
        eprintln!("{entries} entries in {took:?}: at most {} MiB, {pulses} pulses, {silence:?} without", most >> 20);
        assert!(ended.success(), "{said}");
        assert!(most > 0 && most < MEMORY, "{} MiB", most >> 20);
        // systemd allows two seconds; a busy machine is forgiven.
        assert!(silence < Duration::from_secs(10), "{silence:?}");
        assert!(pulses > 0 || took < Duration::from_secs(3));
        let banned = |set: &str| space::nft(&format!("list set inet banish {set}"));
        for who in ["198.51.100.0", "198.51.100.2"] {
            assert!(banned("sshd4_32").contains(who), "{said}");
        }
        for who in [1, 3] {
            assert!(banned("sshd6_64").contains(&format!("2001:db8:ffff:{who}::")), "{said}");
        }
        assert!(said.contains("forgotten early"), "{said}");
    });
}
