//! The real daemon on a directory of the test's own: `etc`, `state` and `journal` below it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::journal::Record;

pub const SECOND: u64 = 1_000_000;

/// µs since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// Waits until it holds, for so long at the most.
pub fn until_within(patience: Duration, what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// banishd on the directories below `root`.
pub fn banishd(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_banishd"));
    command.arg("--config").arg(root.join("etc")).arg("--state").arg(root.join("state"));
    command.arg("--journal-directory").arg(root.join("journal"));
    command.env_remove("STATE_DIRECTORY").stdin(Stdio::null());
    command
}

/// A wrong password for root from `address`, as `sshd` logs it.
pub fn failed(address: &str, stamp: u64, pid: u32) -> Record {
    Record::at(stamp)
        .with("_UID", "0")
        .with("_SYSTEMD_UNIT", "ssh.service")
        .with("_PID", pid.to_string())
        .with("SYSLOG_IDENTIFIER", "sshd")
        .with("MESSAGE", format!("Failed password for root from {address} port 4711 ssh2"))
}

/// `count` of them, a second apart.
pub fn failures(address: &str, count: u32, from: u64) -> Vec<Record> {
    (0..count).map(|step| failed(address, from + u64::from(step) * SECOND, 100 + step)).collect()
}

/// A running daemon, killed at the end if it still runs; what it says goes to a file.
pub struct Running {
    process: Child,
    said: PathBuf,
    patience: Duration,
}

impl Running {
    /// Starts [`banishd`] without a bus and waits until it has caught up.
    pub fn start(root: &Path, patience: Duration) -> Running {
        Running::start_as(banishd(root), root, patience)
    }

    /// … by this command.
    pub fn start_as(command: Command, root: &Path, patience: Duration) -> Running {
        Running::start_on("none", command, root, patience)
    }

    /// … on the bus at this address.
    pub fn start_on(bus: &str, mut command: Command, root: &Path, patience: Duration) -> Running {
        let said = root.join("said");
        let log = std::fs::File::create(&said).unwrap();
        command.args(["--bus-address", bus]).stdout(Stdio::null()).stderr(log);
        let running = Running { process: command.spawn().unwrap(), said, patience };
        until_within(patience, "it has caught up", || running.has_said("caught up"));
        running
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    pub fn has_said(&self, what: &str) -> bool {
        self.said().contains(what)
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap().success());
    }

    pub fn reload(&self) {
        let reloads = || self.said().matches("configuration read anew").count();
        let before = reloads();
        self.signal("-HUP");
        until_within(self.patience, "it has reloaded", || reloads() > before);
    }

    pub fn stop(mut self) {
        self.signal("-TERM");
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
