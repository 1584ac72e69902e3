//! A real daemon on a real journal, a real table and a real bus, and the model beside it.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use banish::bus::BusAddress;
use banish::bus::proxy::{JailProxy, ManagerProxy};
use tokio::runtime::Runtime;

use crate::directories::Directories;
use crate::journal::Record;
use crate::model::{Kind, Model, Rules};
use crate::private::{Policy, PrivateBus};

const PATIENCE: Duration = Duration::from_secs(40);

const FILTER: &str = r#"
journalmatch = ["_SYSTEMD_UNIT=app.service"]
session = "_PID"
failregex = ['^failed from <ADDR>$', '^<F-REFUSAL>pam</F-REFUSAL> refuses <ADDR>$', '^<F-NOFAIL>hello</F-NOFAIL> <ADDR>$', '^wrong password$'DENIED]
"#;

const FENCE: &str = r#"
journalmatch = ["_SYSTEMD_UNIT=fence.service"]
failregex = ['^fence <ADDR>$']
"#;

pub struct World {
    root: Directories,
    bus: PrivateBus,
    runtime: Runtime,
    daemon: Option<Child>,
    model: Model,
    last: u64,
    /// The number of the last session, and of the last fence.
    pid: u32,
    fences: u16,
    /// Sessions that have said hello and not failed yet.
    greeted: Vec<(u8, u32)>,
    /// Refusals that nothing has followed yet: the host and the entry's time.
    refused: Vec<(u8, u64)>,
    /// When the configuration was read last.
    configured: Instant,
}

/// So long after the last refusal, and after the configuration was read, all of them are decided on.
const DECIDED: Duration = Duration::from_secs(26);

impl World {
    /// `None`, with the reason printed, where it cannot be.
    pub fn new() -> Option<World> {
        let rules = Rules { maxretry: 3, minutes: 60, denials: false };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = World {
            root: Directories::new()?,
            bus: PrivateBus::start(Policy::Open),
            runtime,
            daemon: None,
            model: Model::new(rules),
            last: 0,
            pid: 100,
            fences: 0,
            greeted: Vec::new(),
            refused: Vec::new(),
            configured: Instant::now(),
        };
        world.root.write("etc/filter.d/fence.toml", FENCE);
        world.root.jail("fence", "maxretry = 1");
        // As much is replayed as the longest findtime needs, so that nothing is forgotten by rule.
        world.root.write("etc/banish.toml", "replay-max = \"4h\"\n[default]\nbantime = \"1d\"\n");
        world.write_rules(rules);
        Some(world)
    }

    fn write_rules(&self, rules: Rules) {
        let Rules { maxretry, minutes, denials } = rules;
        let denied = if denials { ", '^denied <ADDR>$'" } else { "" };
        self.root.write("etc/filter.d/app.toml", &FILTER.replace("DENIED", denied));
        let jail = format!("maxretry = {maxretry}\nfindtime = \"{minutes}m\"\nport = [\"ssh\"]\n");
        self.root.jail("app", &jail);
    }

    /// A stamp of now, unlike any before.
    fn now(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        self.last = now.max(self.last + 1);
        self.last
    }

    fn line(&mut self, stamp: u64, pid: u32, message: String) -> Record {
        let unit = if message.starts_with("fence") { "fence.service" } else { "app.service" };
        Record::at(stamp).with("_SYSTEMD_UNIT", unit).with("_PID", pid.to_string()).with("MESSAGE", message)
    }

    pub fn log_past(&mut self, past: &[(u8, Kind, u64)]) {
        let now = self.now();
        let mut records = Vec::new();
        for (number, (host, kind, minutes)) in past.iter().enumerate() {
            let stamp = now - minutes * 60_000_000 + number as u64;
            records.push(self.failure(*host, *kind, stamp));
            self.model.fails(*host, *kind, stamp);
        }
        self.root.log(records);
    }

    fn failure(&mut self, host: u8, kind: Kind, stamp: u64) -> Record {
        self.pid += 1;
        let word = if kind == Kind::Denied { "denied" } else { "failed from" };
        self.line(stamp, self.pid, format!("{word} 192.0.2.{host}"))
    }

    /// Fails so often. Of split failures the first lines are written now, what they still need with the next of them.
    pub fn fail(&mut self, host: u8, kind: Kind, times: u8) {
        let mut records = Vec::new();
        for _ in 0..times {
            let stamp = self.now();
            if kind != Kind::Split {
                records.push(self.failure(host, kind, stamp));
                self.model.fails(host, kind, stamp);
                continue;
            }
            if let Some((host, pid)) = self.greeted.pop() {
                records.push(self.line(stamp, pid, "wrong password".into()));
                self.model.fails(host, kind, stamp);
            }
            self.pid += 1;
            let stamp = self.now();
            records.push(self.line(stamp, self.pid, format!("hello 192.0.2.{host}")));
            self.greeted.push((host, self.pid));
        }
        self.root.log(records);
    }

    /// Is refused a login, and fails in the same session if it is `told`.
    pub fn refuse(&mut self, host: u8, told: bool) {
        let stamp = self.now();
        self.pid += 1;
        let pid = self.pid;
        let mut records = vec![self.line(stamp, pid, format!("pam refuses 192.0.2.{host}"))];
        if told {
            let stamp = self.now();
            records.push(self.line(stamp, pid, "wrong password".into()));
            self.model.fails(host, Kind::Split, stamp);
        } else {
            self.refused.push((host, stamp));
        }
        self.root.log(records);
        self.configured = self.configured.max(Instant::now());
    }

    /// Waits until every refusal is decided on.
    pub fn decide(&mut self) {
        std::thread::sleep(DECIDED.saturating_sub(self.configured.elapsed()));
        for (host, stamp) in std::mem::take(&mut self.refused) {
            self.model.fails(host, Kind::Refused, stamp);
        }
    }

    pub fn start(&mut self) {
        if self.daemon.is_some() {
            return;
        }
        self.configured = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_banishd"));
        command.arg("--config").arg(self.root.path("etc")).arg("--state").arg(self.root.path("state"));
        command.arg("--journal-directory").arg(self.root.path("journal")).args(["--bus-address", &self.bus.address]);
        command.env_remove("STATE_DIRECTORY").stdin(Stdio::null()).stderr(Stdio::null());
        self.daemon = Some(command.spawn().unwrap());
        let now = self.now();
        self.model.start(now);
    }

    pub fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let sent = Command::new("kill").args(["-TERM", &daemon.id().to_string()]).status().unwrap();
        let status = daemon.wait().unwrap();
        assert!(sent.success() && status.success(), "it stops without complaint: {status}");
        self.model.end();
    }

    pub fn kill(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        self.model.end();
    }

    pub fn configure(&mut self, rules: Rules) {
        // A session that is open while the filter changes is another filter's afterwards.
        self.greeted.clear();
        self.configured = Instant::now();
        self.write_rules(rules);
        if self.daemon.is_some() {
            self.runtime.block_on(async { self.manager().await.reload().await }).unwrap();
        }
        let now = self.now();
        self.model.configure(rules, now);
    }

    pub fn pause(&mut self) {
        if self.daemon.is_some() {
            self.runtime.block_on(async { self.jail().await.pause(0).await }).unwrap();
            let now = self.now();
            self.model.pause(now);
        }
    }

    pub fn resume(&mut self) {
        if self.daemon.is_some() {
            self.runtime.block_on(async { self.jail().await.resume().await }).unwrap();
            let now = self.now();
            self.model.resume(now);
        }
    }

    pub fn unban(&mut self, host: u8) {
        if self.daemon.is_some() && self.model.banned.contains(&host) {
            let subject = format!("192.0.2.{host}");
            let lifted = self.runtime.block_on(async { self.manager().await.unban(&subject, "app").await });
            assert_eq!(lifted.unwrap(), 1);
            let now = self.now();
            self.model.unban(host, now);
        }
    }

    pub fn forget(&mut self, host: u8) {
        if self.daemon.is_some() {
            let subject = format!("192.0.2.{host}");
            self.runtime.block_on(async { self.manager().await.forget(&subject).await }).unwrap();
            let now = self.now();
            self.model.forget(host, now);
        }
    }

    pub fn attempt(&mut self, host: u8) {
        if self.daemon.is_none() {
            return;
        }
        let address = format!("192.0.2.{host}");
        let answer = self.runtime.block_on(async { self.jail().await.attempt(&address).await });
        assert_eq!(answer.is_err(), self.model.is_paused(), "{answer:?}");
        let stamp = self.now();
        self.model.fails(host, Kind::Reported, stamp);
        if let Ok(answer) = answer {
            let expected = if self.model.banned.contains(&host) { "banned" } else { "counted" };
            assert_eq!(answer, expected);
        }
    }

    /// Everything logged so far is read: the bans are those of the model.
    pub fn agrees(&mut self, when: &str) {
        if self.daemon.is_none() {
            return;
        }
        self.fences += 1;
        let fence = format!("198.51.{}.{}", self.fences / 256, self.fences % 256);
        let stamp = self.now();
        let line = self.line(stamp, 1, format!("fence {fence}"));
        self.root.log([line]);
        let end = Instant::now() + PATIENCE;
        let expected: BTreeSet<String> = self.model.banned.iter().map(|host| format!("192.0.2.{host}")).collect();
        loop {
            let (fences, bans) = self.bans();
            if fences.contains(&fence) && bans == expected {
                return;
            }
            let late = Instant::now() > end;
            assert!(!late, "{when}: banned are {bans:?} and not {expected:?} (fence: {})", fences.contains(&fence));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Who is banned by the fence, and who by the jail.
    fn bans(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let listed = self.runtime.block_on(async { self.manager().await.list_bans("", "", 0).await });
        let of = |jail: &str, listed: &[banish::bus::proxy::ListedBan]| {
            listed.iter().filter(|ban| ban.jail == jail).map(|ban| ban.subject.clone()).collect()
        };
        listed.map(|listed| (of("fence", &listed), of("app", &listed))).unwrap_or_default()
    }

    async fn manager(&self) -> ManagerProxy<'static> {
        ManagerProxy::new(&self.client().await).await.unwrap()
    }

    async fn jail(&self) -> JailProxy<'static> {
        JailProxy::builder(&self.client().await).path("/org/banish1/jail/app").build().await.unwrap()
    }

    async fn client(&self) -> zbus::Connection {
        let at = BusAddress::Address(self.bus.address.clone());
        at.builder().build().await.expect("the private bus takes clients")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}
