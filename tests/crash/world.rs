//! A machine's worth of directories with a bus; a network namespace is the thread's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::directories::Directories;
use crate::journal::Record;
use crate::private::{Policy, PrivateBus};

pub const SECOND: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    root: Directories,
    pub bus: PrivateBus,
    /// The stamps of the entries that were written, in order.
    written: Mutex<Vec<u64>>,
}

impl World {
    pub fn new() -> World {
        run("ip", &["link", "set", "lo", "up"]);
        // What the story before this one left in the thread's namespace.
        crate::outcome::remove_table();
        let world = World {
            root: Directories::new().expect("asked for before"),
            bus: PrivateBus::start(Policy::Open),
            written: Mutex::default(),
        };
        world.root.shipped_filter("sshd");
        let web = "journalmatch = [\"_SYSTEMD_UNIT=web.service\"]\nfailregex = ['^failed from <ADDR>$']\n";
        world.root.write("etc/filter.d/web.toml", web);
        for jail in ["sshd", "web"] {
            world.root.jail(jail, "maxretry = 3\nfindtime = \"10m\"\nbantime = \"1h\"");
        }
        world
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.root.path(below)
    }

    pub fn remove_jail(&self, name: &str) {
        let path = self.path(&format!("etc/jail.d/{name}.toml"));
        if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }

    /// Appends failures: `(unit, address, stamp)`.
    pub fn log(&self, failures: &[(&str, &str, u64)]) {
        let mut written = self.written.lock().unwrap();
        let records = failures.iter().enumerate().map(|(at, (unit, address, stamp))| {
            written.push(*stamp);
            let text = match *unit {
                "web" => format!("failed from {address}"),
                _ => format!("Failed password for root from {address} port 4711 ssh2"),
            };
            Record::at(*stamp)
                .with("_UID", "0")
                .with("_SYSTEMD_UNIT", format!("{unit}.service"))
                .with("_PID", (100 + at).to_string())
                .with("SYSLOG_IDENTIFIER", "sshd")
                .with("MESSAGE", text)
        });
        self.root.log(records.collect::<Vec<_>>());
    }

    /// The stamp of the `seqnum`th entry.
    pub fn stamp_of(&self, seqnum: u64) -> u64 {
        self.written.lock().unwrap()[usize::try_from(seqnum).unwrap() - 1]
    }

    pub fn banishd(&self, crash: &str) -> Command {
        let log = std::fs::File::options().append(true).create(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_banishd"));
        command.arg("--config").arg(self.path("etc")).arg("--state").arg(self.path("state"));
        command.arg("--journal-directory").arg(self.path("journal"));
        command.args(["--bus-address", &self.bus.address]).env_remove("STATE_DIRECTORY");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if crash.is_empty() {
            command.env_remove("BANISH_CRASH");
        } else {
            command.env("BANISH_CRASH", crash);
        }
        command
    }

    /// What all daemons so far have said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

pub fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// Asks until there is an answer.
pub fn until<T>(what: &str, mut asked: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = asked() {
            return answer;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn is_there(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|directory| Path::new(directory).join(tool).exists())
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
