//! The daemon as it is shipped, on a bus with no limits to speak of, and local users who mean ill.
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "tests are an edge")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "bus/private.rs"]
#[allow(dead_code, reason = "shared with the bus's own tests")]
mod private;
#[path = "bus/raw.rs"]
mod raw;
#[path = "bus/sys.rs"]
mod sys;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use banish::bus::proxy::ManagerProxy;
use private::{Policy, PrivateBus};
use raw::{Raw, anything, as_user};

const NOBODY: u32 = 65534;
const JAILS: usize = 200;
/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// banishd on a bus of its own, killed at the end.
struct Fort {
    bus: PrivateBus,
    daemon: Child,
    _dir: tempfile::TempDir,
}

impl Fort {
    async fn build() -> Option<Fort> {
        if std::fs::metadata("/proc/self").map(|me| std::os::unix::fs::MetadataExt::uid(&me)).ok() != Some(0) {
            eprintln!("skipped: needs root to call as somebody else");
            return None;
        }
        let bus = PrivateBus::start(Policy::Shipped);
        let dir = tempfile::tempdir().unwrap();
        for name in ["journal", "state", "etc/jail.d", "etc/filter.d"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::fs::copy("etc/filter.d/sshd.toml", dir.path().join("etc/filter.d/sshd.toml")).unwrap();
        let jail = |name: String| format!("[jail.{name}]\nenabled = true\nfilter = \"sshd\"\nport = [\"ssh\"]\n");
        let jails: String = (1..JAILS).map(|n| format!("jail{n}")).chain(["sshd".into()]).map(jail).collect();
        std::fs::write(dir.path().join("etc/jail.d/all.toml"), jails).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", env!("CARGO_BIN_EXE_banishd"), "--bus-address", &bus.address]);
        command.arg("--config").arg(dir.path().join("etc")).arg("--state").arg(dir.path().join("state"));
        command.arg("--journal-directory").arg(dir.path().join("journal"));
        let daemon = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut fort = Fort { bus, daemon, _dir: dir };
        let client = fort.bus.client().await;
        let names = zbus::fdo::DBusProxy::new(&client).await.unwrap();
        let start = Instant::now();
        while !names.name_has_owner("org.banish1".try_into().unwrap()).await.unwrap() {
            if fort.daemon.try_wait().unwrap().is_some() {
                eprintln!("skipped: banishd does not start here: no network namespaces");
                return None;
            }
            assert!(start.elapsed() < LONG, "banishd is on the bus in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(fort)
    }

    async fn manager(&self) -> ManagerProxy<'static> {
        let manager = ManagerProxy::builder(&self.bus.client().await);
        manager.cache_properties(zbus::proxy::CacheProperties::No).build().await.unwrap()
    }

    /// The daemon's own memory in KiB.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Fort {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Answers are measured while `attack` runs: the longest that root had to wait, and the most memory.
async fn besiege(fort: &Fort, attack: std::thread::JoinHandle<()>) -> (Duration, usize, usize) {
    let manager = fort.manager().await;
    let (mut longest, mut most, mut asked) = (Duration::ZERO, 0, 0);
    loop {
        let over = attack.is_finished();
        let start = Instant::now();
        tokio::time::timeout(LONG, manager.list_bans("", "", 0)).await.expect("root is answered").unwrap();
        longest = longest.max(start.elapsed());
        most = most.max(fort.memory());
        asked += 1;
        if over {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    attack.join().unwrap();
    (longest, most, asked)
}

#[tokio::test]
async fn measure() {
    let Some(fort) = Fort::build().await else { return };
    let address = fort.bus.address.clone();
    let client = fort.bus.client().await;
    let objects = zbus::fdo::ObjectManagerProxy::builder(&client).destination("org.banish1").path("/org/banish1").build().await.unwrap();
    for _ in 0..3 {
        let start = Instant::now();
        let n = objects.get_managed_objects().await.unwrap().len();
        eprintln!("one of {n}: {:?}", start.elapsed());
    }
    for _ in 0..3 {
        let start = Instant::now();
        let i = zbus::fdo::IntrospectableProxy::builder(&client).destination("org.banish1").path("/").build().await.unwrap();
        eprintln!("introspect {}: {:?}", i.introspect().await.unwrap().len(), start.elapsed());
    }
    for (name, kind, read) in [
        ("anything", 0, true),
        
        ("introspect", 2, true),
        ("anything unread", 0, false),
        
        ("introspect unread", 2, false),
    ] {
        let before = fort.memory();
        let address = address.clone();
        let attack = as_user(NOBODY, move || {
            let mut raw = Raw::connect(&address, NOBODY).unwrap();
            let count = if kind == 0 { 10_000 } else { 1000 };
            for n in 0..count {
                let message = match kind {
                    0 => anything(n),
                    1 => raw::call("org.banish1", "/org/banish1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &()),
                    _ => raw::call("org.banish1", "/", "org.freedesktop.DBus.Introspectable", "Introspect", &()),
                };
                raw.write(&message).unwrap();
            }
            if read { raw.answers(count).unwrap(); } else { std::thread::sleep(Duration::from_secs(3)); }
        });
        let start = Instant::now();
        let (longest, most, asked) = besiege(&fort, attack).await;
        eprintln!("{name}: took {:?}, root {asked} asked, waited at most {longest:?}; memory {before} -> {most} -> {}", start.elapsed(), fort.memory());
    }
}
