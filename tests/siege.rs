//! The daemon as it is shipped, on a bus with no limits to speak of, and local users who mean ill.
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "tests are an edge")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/journal.rs"]
#[allow(dead_code, reason = "shared with the reader's tests")]
mod journal;
#[path = "bus/private.rs"]
#[allow(dead_code, reason = "shared with the bus's own tests")]
mod private;
#[path = "bus/raw.rs"]
mod raw;
#[path = "bus/sys.rs"]
mod sys;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use banish::bus::proxy::ManagerProxy;
use banish::bus::{NAME, NAME_FOR_ROOT, PATH, Refusal};
use private::{Limits, Policy, PrivateBus};
use raw::{Raw, anything, as_user, call, manager as call_of_manager};

const NOBODY: u32 = 65534;
const JAILS: usize = 200;
/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(60);
/// What the daemon may have more in its memory after an attack, in KiB.
const GROWTH: usize = 96 * 1024;

/// A directory with `jails` jails, an empty journal and an empty state.
fn ground(jails: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["journal", "state", "etc/jail.d", "etc/filter.d"] {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    std::fs::copy("etc/filter.d/sshd.toml", dir.path().join("etc/filter.d/sshd.toml")).unwrap();
    let jail = |name: String| format!("[jail.{name}]\nenabled = true\nfilter = \"sshd\"\nport = [\"ssh\"]\n");
    let all: String = (1..jails).map(|n| format!("jail{n}")).chain(["sshd".into()]).map(jail).collect();
    std::fs::write(dir.path().join("etc/jail.d/all.toml"), all).unwrap();
    dir
}

/// banishd in a network of its own; killed at the end.
struct Banishd(Child);

impl Banishd {
    /// `None`, with the reason, where it cannot be.
    fn start(ground: &Path, address: &str) -> Option<Banishd> {
        let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
        if !root || !Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success()) {
            eprintln!("skipped: no network namespace of our own");
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(["--net", env!("CARGO_BIN_EXE_banishd"), "--bus-address", address]);
        command.arg("--config").arg(ground.join("etc")).arg("--state").arg(ground.join("state"));
        command.arg("--journal-directory").arg(ground.join("journal")).env_remove("STATE_DIRECTORY");
        Some(Banishd(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()))
    }

    /// Its own memory in KiB.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The files that it has open, sockets and the like left out.
    fn files(&self) -> Vec<String> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap();
        let target = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned);
        let mut files: Vec<String> = open.filter_map(|entry| target(entry.ok()?)).collect();
        files.retain(|file| file.starts_with('/'));
        files.sort();
        files
    }

    fn children(&self) -> String {
        let pid = self.0.id();
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap()
    }

    /// The ruleset of its network.
    fn ruleset(&self) -> String {
        let output = Command::new("nsenter")
            .args(["--net", "--target", &self.0.id().to_string(), "nft", "list", "ruleset"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Banishd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It, on a bus with the shipped policy.
struct Fort {
    bus: PrivateBus,
    banishd: Banishd,
    _ground: tempfile::TempDir,
}

impl Fort {
    async fn build(jails: usize) -> Option<Fort> {
        Fort::with(Limits::High, jails).await
    }

    async fn with(limits: Limits, jails: usize) -> Option<Fort> {
        let bus = PrivateBus::limited(Policy::Shipped, limits);
        let ground = ground(jails);
        let banishd = Banishd::start(ground.path(), &bus.address)?;
        until_owned(&bus).await;
        Some(Fort { bus, banishd, _ground: ground })
    }

    async fn manager(&self) -> ManagerProxy<'static> {
        let manager = ManagerProxy::builder(&self.bus.client().await);
        manager.cache_properties(zbus::proxy::CacheProperties::No).build().await.unwrap()
    }

    async fn manager_for_root(&self) -> ManagerProxy<'static> {
        let manager = ManagerProxy::builder(&self.bus.client().await).destination(NAME_FOR_ROOT);
        manager.cache_properties(zbus::proxy::CacheProperties::No).build().await.unwrap()
    }

    /// Runs `attack` as nobody, with the bus's address. Root is answered all the while, and the daemon's memory stays
    /// in its bounds.
    async fn withstands(&self, name: &str, attack: impl FnOnce(&str) + Send + 'static) {
        let manager = self.manager().await;
        let address = self.bus.address.clone();
        let before = self.banishd.memory();
        let start = Instant::now();
        let attack = as_user(NOBODY, move || attack(&address));
        let (mut longest, mut most, mut asked) = (Duration::ZERO, 0, 0);
        loop {
            let over = attack.is_finished();
            let asking = Instant::now();
            let rows =
                tokio::time::timeout(LONG, manager.list_bans("", "", 0)).await.expect("root is answered").unwrap();
            assert!(rows.is_empty(), "nobody is banned");
            longest = longest.max(asking.elapsed());
            most = most.max(self.banishd.memory());
            asked += 1;
            if over {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::task::spawn_blocking(move || attack.join().unwrap()).await.unwrap();
        let after = self.banishd.memory();
        eprintln!(
            "{name}: {:?}; root asked {asked} times and waited at most {longest:?}; RssAnon {before} KiB, at most {most}, then {after}",
            start.elapsed()
        );
        assert!(most < before + GROWTH, "{name}: {before} KiB, then {most}");
    }
}

async fn until_owned(bus: &PrivateBus) {
    let client = bus.client().await;
    let names = zbus::fdo::DBusProxy::new(&client).await.unwrap();
    let start = Instant::now();
    while !names.name_has_owner(NAME.try_into().unwrap()).await.unwrap() {
        assert!(start.elapsed() < LONG, "banishd is on the bus in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn managed_objects() -> Vec<u8> {
    call(NAME, PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &())
}

#[tokio::test]
async fn floods_of_calls_hold_up_nobody_and_fill_nothing() {
    let Some(fort) = Fort::build(JAILS).await else { return };
    fort.withstands("5,000 calls at once", |address| {
        let mut raw = Raw::connect(address, NOBODY).unwrap();
        (0..5_000).for_each(|n| raw.write(&anything(n)).unwrap());
        let errors = raw.answers(5_000).unwrap();
        let unnamed =
            errors.iter().filter(|error| !error.says("org.banish1.Error.") && !error.says("org.freedesktop."));
        assert_eq!(unnamed.count(), 0);
        assert!(errors.iter().any(|error| error.says("org.banish1.Error.NotAuthorized")));
    })
    .await;
    fort.withstands("300 times all objects of 200 jails", |address| {
        let mut raw = Raw::connect(address, NOBODY).unwrap();
        (0..300).for_each(|_| raw.write(&managed_objects()).unwrap());
        let errors = raw.answers(300).unwrap();
        assert!(errors.len() < 300 && errors.iter().all(|error| error.says("org.banish1.Error.LimitsExceeded")));
    })
    .await;
    fort.withstands("5,000 calls of a client that never reads", |address| {
        let mut raw = Raw::connect(address, NOBODY).unwrap();
        (0..5_000).for_each(|n| raw.write(&if n % 10 == 0 { managed_objects() } else { anything(n) }).unwrap());
        std::thread::sleep(Duration::from_secs(1));
    })
    .await;
    fort.withstands("1,000 connections", |address| {
        let mut all: Vec<Raw> = (0..1000).map(|_| Raw::connect(address, NOBODY).unwrap()).collect();
        for (n, raw) in all.iter_mut().enumerate() {
            (0..2).for_each(|more| raw.write(&anything(n + more)).unwrap());
        }
        all.iter_mut().for_each(|raw| assert!(raw.answers(2).is_ok()));
    })
    .await;
    fort.withstands("1,000 clients that come and go", |address| {
        for n in 0..1000 {
            let mut raw = Raw::connect(address, NOBODY).unwrap();
            (0..5).for_each(|more| raw.write(&anything(n + more)).unwrap());
        }
    })
    .await;
    let described = as_user(NOBODY, {
        let address = fort.bus.address.clone();
        move || {
            let mut raw = Raw::connect(&address, NOBODY).unwrap();
            raw.write(&call(NAME, "/", "org.freedesktop.DBus.Introspectable", "Introspect", &())).unwrap();
            raw.answers(1).unwrap().remove(0)
        }
    });
    let described = tokio::task::spawn_blocking(move || described.join().unwrap()).await.unwrap();
    assert!(described.says("AccessDenied"), "a description of everything is not for everybody");
}

/// What everybody may call.
const KINDS: [&str; 12] =
    ["objects", "getall", "get", "getjail", "check", "list", "forget", "ping", "machine", "nopath", "nomethod", "long"];

fn of_kind(kind: &str) -> Vec<u8> {
    let bus = "org.freedesktop.DBus";
    match kind {
        "objects" => managed_objects(),
        "getall" => properties(0),
        "get" => properties(7),
        "getjail" => call_of_manager("GetJail", &"sshd"),
        "check" => call_of_manager("Check", &()),
        "list" => call_of_manager("ListBans", &("", "", 0u32)),
        "forget" => call_of_manager("Forget", &"x".repeat(60_000)),
        "ping" => call(NAME, PATH, &format!("{bus}.Peer"), "Ping", &()),
        "machine" => call(NAME, "/", &format!("{bus}.Peer"), "GetMachineId", &()),
        "nopath" => call(NAME, "/org/banish1/jail/nosuch", "org.banish1.Jail", "Resume", &()),
        "nomethod" => call_of_manager("NoSuchMethod", &()),
        _ => call_of_manager("GetJail", &"x".repeat(200_000)),
    }
}

/// Calls as fast as the bus takes them, over 16 connections, for some seconds.
fn flood(address: &str, kind: &str, replies: bool, reads: bool) {
    let mut message = of_kind(kind);
    message[2] = u8::from(!replies);
    let end = Instant::now() + Duration::from_secs(4);
    let mut all: Vec<Raw> = (0..16).map(|_| Raw::connect(address, NOBODY).unwrap()).collect();
    let mut serial = 1000u32;
    while Instant::now() < end {
        let mut written = false;
        for raw in &mut all {
            for _ in 0..20 {
                serial += 1;
                message[8..12].copy_from_slice(&serial.to_le_bytes());
                written |= raw.try_write(&message).unwrap_or(false);
            }
            if reads {
                raw.discard();
            }
        }
        if !written {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// On a bus with the limits that a system bus has.
#[tokio::test]
async fn no_call_that_everybody_may_make_costs_memory_or_holds_up_root() {
    let Some(fort) = Fort::with(Limits::Usual, 600).await else { return };
    let manager = fort.manager_for_root().await;
    let start = fort.banishd.memory();
    for (n, kind) in KINDS.into_iter().enumerate() {
        let (replies, reads) = (n % 4 != 3, n % 3 != 2);
        for (replies, reads) in if n == 0 { vec![(true, true), (true, false)] } else { vec![(replies, reads)] } {
            let address = fort.bus.address.clone();
            let attack = as_user(NOBODY, move || flood(&address, kind, replies, reads));
            let (mut longest, mut asked) = (Duration::ZERO, 0);
            while !attack.is_finished() {
                let asking = Instant::now();
                let rows = tokio::time::timeout(LONG, manager.list_bans("", "", 0)).await;
                assert!(rows.expect("root is answered").unwrap().is_empty());
                longest = longest.max(asking.elapsed());
                asked += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::task::spawn_blocking(move || attack.join().unwrap()).await.unwrap();
            let memory = fort.banishd.memory();
            eprintln!("{kind} replies={replies} reads={reads}: root {asked} times, at most {longest:?}; {memory} KiB");
            assert!(longest < Duration::from_secs(2), "{kind}: root waited {longest:?}");
            assert!(memory < start + 16 * 1024, "{kind}: {start} KiB, then {memory}");
        }
    }
}

/// All properties of a jail's object, or one by a name of this length.
fn properties(name: usize) -> Vec<u8> {
    let (properties, jail) = ("org.freedesktop.DBus.Properties", "/org/banish1/jail/sshd");
    match name {
        0 => call(NAME, jail, properties, "GetAll", &"org.banish1.Jail"),
        length => call(NAME, jail, properties, "Get", &("org.banish1.Jail", "x".repeat(length))),
    }
}

/// Who asks for properties is not counted: what waits is in the bus, and not with us.
#[tokio::test]
async fn floods_of_questions_for_properties_hold_up_nobody_and_fill_nothing() {
    let Some(fort) = Fort::build(JAILS).await else { return };
    let before = fort.banishd.memory();
    fort.withstands("5,000 times all properties at once", |address| {
        let mut raw = Raw::connect(address, NOBODY).unwrap();
        (0..5_000).for_each(|_| raw.write(&properties(0)).unwrap());
        raw.answers(5_000).unwrap();
    })
    .await;
    fort.withstands("10,000 times all properties of 20 clients", |address| {
        let mut all: Vec<Raw> = (0..20).map(|_| Raw::connect(address, NOBODY).unwrap()).collect();
        for _ in 0..500 {
            all.iter_mut().for_each(|raw| raw.write(&properties(0)).unwrap());
        }
        all.iter_mut().for_each(|raw| assert!(raw.answers(500).is_ok()));
    })
    .await;
    fort.withstands("10,000 times all properties for clients that never read", |address| {
        let mut all: Vec<Raw> = (0..20).map(|_| Raw::connect(address, NOBODY).unwrap()).collect();
        for _ in 0..500 {
            all.iter_mut().for_each(|raw| raw.write(&properties(0)).unwrap());
        }
        std::thread::sleep(Duration::from_secs(1));
    })
    .await;
    fort.withstands("300 names of 1 MiB", |address| {
        let mut raw = Raw::connect(address, NOBODY).unwrap();
        (0..300).for_each(|_| raw.write(&properties(1 << 20)).unwrap());
        raw.answers(300).unwrap();
    })
    .await;
    let after = fort.banishd.memory();
    assert!(after < before + GROWTH / 4, "{before} KiB, then {after}");
}

#[tokio::test]
async fn spoilt_messages_and_hostile_words_do_nothing() {
    let Some(fort) = Fort::build(1).await else { return };
    let files = fort.banishd.files();
    fort.withstands("spoilt messages", |address| {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize % below
        };
        let mut raw = Raw::connect(address, NOBODY).unwrap();
        for n in 0..1500 {
            let mut message = anything(n);
            for _ in 0..=next(3) {
                let at = message.len() - 1 - next(message.len() * 2 / 3);
                message[at] = next(256) as u8;
            }
            // The bus ends a connection that writes what is no message.
            if raw.write(&message).and_then(|()| raw.write(&anything(6))).is_err() || next(4) == 0 {
                raw = Raw::connect(address, NOBODY).unwrap();
            }
        }
    })
    .await;
    fort.withstands("hostile words", |address| {
        let mut raw = Raw::connect(address, NOBODY).unwrap();
        let words = [
            "/etc/shadow",
            "file:/etc/shadow",
            "$(id)",
            "`id`",
            "; id",
            "| id",
            "../../../etc/shadow",
            "%s%n",
            "\u{1b}c",
        ];
        for word in words {
            raw.write(&call_of_manager("Ban", &(word, "", 0u64, "", true))).unwrap();
            raw.write(&call_of_manager("Ban", &("192.0.2.1", word, 0u64, "", true))).unwrap();
            raw.write(&call_of_manager("Ban", &("192.0.2.1", "", 0u64, word, true))).unwrap();
            raw.write(&call_of_manager("ListBans", &("", word, 0u32))).unwrap();
            raw.write(&call_of_manager("GetJail", &word)).unwrap();
            raw.write(&call_of_manager("Forget", &word)).unwrap();
            assert_eq!(raw.answers(6).unwrap().len(), 6, "{word}: all are refused");
        }
    })
    .await;
    assert_eq!(fort.banishd.files(), files, "no file was opened");
    assert_eq!(fort.banishd.children(), "", "nothing was started");
}

#[tokio::test]
async fn what_no_host_has_is_banned_only_by_force() {
    let Some(fort) = Fort::build(1).await else { return };
    let manager = fort.manager().await;
    for (subject, what) in [
        ("0.0.0.0", "no address yet"),
        ("127.0.0.1", "loopback"),
        ("127.0.0.0/8", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("128.0.0.0/1", "multicast"),
        ("32.0.0.0/3", "large part"),
        ("::", "no address yet"),
        ("::1", "loopback"),
        ("ff02::1", "multicast"),
        ("2000::/3", "large part"),
    ] {
        match manager.ban(subject, "", 60_000_000, "", false).await {
            Err(Refusal::Protected(text)) => assert!(text.contains(what) || text.contains("its own"), "{text}"),
            other => panic!("{subject}: {other:?}"),
        }
    }
    for subject in ["0.0.0.0/0", "::/0"] {
        assert!(matches!(manager.ban(subject, "", 0, "", true).await, Err(Refusal::InvalidSubject(_))), "{subject}");
    }
    for subject in ["224.0.0.1", "ff02::1", "32.0.0.0/3"] {
        assert!(manager.ban(subject, "", 60_000_000, "", true).await.is_ok(), "{subject}");
    }
    for subject in ["192.0.2.1", "2001:db8::/32"] {
        assert!(
            manager.ban(subject, "", 60_000_000, "", false).await.is_ok(),
            "{subject}: for documentation, and banned"
        );
    }
}

#[tokio::test]
async fn a_bus_that_never_answers_keeps_nobody_from_being_banned() {
    if let Some(why) = journal::missing_writer() {
        return eprintln!("skipped: {why}");
    }
    let bus = PrivateBus::start(Policy::Shipped);
    let ground = ground(1);
    // It takes every connection, as the kernel does before anybody accepts, and says nothing.
    let socket = bus.dir.path().join("socket");
    let aside = bus.dir.path().join("aside");
    std::fs::rename(&socket, &aside).unwrap();
    let silent = UnixListener::bind(&socket).unwrap();
    let Some(banishd) = Banishd::start(ground.path(), &bus.address) else { return };
    let fail = |address: &str| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64 - 10_000_000;
        let records = (0..5).map(|step| {
            journal::Record::at(now + step * 1_000_000)
                .with("_UID", "0")
                .with("_SYSTEMD_UNIT", "ssh.service")
                .with("_PID", (100 + step).to_string())
                .with("SYSLOG_IDENTIFIER", "sshd")
                .with("MESSAGE", format!("Failed password for root from {address} port 4711 ssh2"))
        });
        journal::write(&ground.path().join("journal/a.journal"), records);
    };
    let until_banned = |address: &str| {
        let start = Instant::now();
        while !banishd.ruleset().contains(address) {
            assert!(start.elapsed() < LONG, "{address} is banned in time");
            std::thread::sleep(Duration::from_millis(50));
        }
        start.elapsed()
    };
    fail("192.0.2.10");
    let first = until_banned("192.0.2.10");
    // By now it has gone on without the bus and tries it again and again beside its work.
    fail("192.0.2.20");
    let second = until_banned("192.0.2.20");
    eprintln!("banned after {first:?} at the start and after {second:?} later");
    drop(silent);
    std::fs::remove_file(&socket).unwrap();
    std::fs::rename(&aside, &socket).unwrap();
    until_owned(&bus).await;
}
