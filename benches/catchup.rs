//! What catching up costs: user and system time of a bare sd-journal loop in C, of our reader with next to no filter,
//! and of the whole daemon, over the same journal of 200,000 entries of which 60,000 are sshd's. Least of five rounds.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark is an edge")]

#[expect(dead_code, reason = "it has a journald for the tests too")]
#[path = "../tests/support/journal.rs"]
mod support;
#[path = "support/sys.rs"]
mod sys;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use banish::engine::ban::JailName;
use banish::engine::entry::{Entry, Field, Slot, Wanted};
use banish::journal::{Examine, Handle, LIVENESS, News, Plan, Source, Start};
use support::{Record, write};

const ENTRIES: u64 = 200_000;
const FILES: u64 = 4;
const ROUNDS: usize = 5;
const FIRST: u64 = 1_700_000_000_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, directory] = &arguments[..]
        && mode == "reader"
    {
        return read(directory.into());
    }
    if let Some(reason) = support::missing_writer() {
        return println!("skipped: {reason}");
    }
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let journal = scratch.join("catchup-journal");
    generate(&journal);
    let bare = compile(&scratch);
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_banishd"));
    daemon.args(["--dry-run", "--once", "--config"]).arg(etc).arg("--journal-directory").arg(&journal);
    let mut reader = Command::new(std::env::current_exe().unwrap());
    reader.arg("reader").arg(&journal);
    let mut loops = Command::new(bare);
    loops.arg(&journal);
    let mut contenders =
        [("bare loop in C", loops), ("our reader alone", reader), ("banishd --dry-run --once", daemon)];
    let mut least = [Duration::MAX; 3];
    // The first round warms the page cache for all.
    for round in 0..=ROUNDS {
        for ((name, command), least) in contenders.iter_mut().zip(&mut least) {
            let took = run(name, command);
            if round > 0 {
                *least = took.min(*least);
            }
        }
    }
    for ((name, _), took) in contenders.iter().zip(least) {
        println!("{name:26} {:7.3} s  {:5.2} ×", took.as_secs_f64(), took.as_secs_f64() / least[0].as_secs_f64());
    }
}

fn run(name: &str, command: &mut Command) -> Duration {
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    let (status, took) = sys::wait(child).unwrap();
    assert!(status.success(), "{name}: {status}");
    took
}

fn compile(scratch: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/bare.c");
    let program = scratch.join("catchup-bare");
    let compiled = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(source).arg("-lsystemd").status().unwrap();
    assert!(compiled.success(), "cc needs libsystemd's headers");
    program
}

/// Makes the journal unless an earlier run has.
fn generate(directory: &Path) {
    let done = directory.join("done");
    if done.exists() {
        return;
    }
    std::fs::create_dir_all(directory).unwrap();
    for file in 0..FILES {
        let path = directory.join(format!("system@{file}.journal"));
        let _ = std::fs::remove_file(&path);
        write(&path, (file * ENTRIES / FILES..(file + 1) * ENTRIES / FILES).map(record));
    }
    std::fs::write(done, "").unwrap();
}

/// An entry as journald stores one: 25 fields, ever the same or ever different like the real ones.
fn record(number: u64) -> Record {
    let stamp = FIRST + number * 250_000;
    let of_sshd = number % 10 < 3;
    let (unit, name, message) = if of_sshd {
        ("ssh.service".to_string(), "sshd".to_string(), sshd_message(number / 10 * 3 + number % 10))
    } else {
        let service = number % 37;
        let message = format!("request {number} of client {} took {} ms", number % 911, number * 7 % 1000);
        (format!("app{service}.service"), format!("app{service}"), message)
    };
    let pid = (1000 + number / 4 % 60_000).to_string();
    let at = (number / 4).to_string();
    let fields = [
        ("PRIORITY", "6"),
        ("SYSLOG_FACILITY", "10"),
        ("SYSLOG_IDENTIFIER", &name),
        ("SYSLOG_PID", &pid),
        ("SYSLOG_TIMESTAMP", &format!("Nov 14 {at} ")),
        ("_TRANSPORT", "syslog"),
        ("_PID", &pid),
        ("_UID", "0"),
        ("_GID", "0"),
        ("_COMM", &name),
        ("_EXE", &format!("/usr/sbin/{name}")),
        ("_CMDLINE", &format!("{name}: [priv]")),
        ("_CAP_EFFECTIVE", "1ffffffffff"),
        ("_SELINUX_CONTEXT", "unconfined\n"),
        ("_SYSTEMD_CGROUP", &format!("/system.slice/{unit}")),
        ("_SYSTEMD_UNIT", &unit),
        ("_SYSTEMD_SLICE", "system.slice"),
        ("_SYSTEMD_INVOCATION_ID", "fbf038e3924846c0ab1ccdbd30ee39ff"),
        ("_MACHINE_ID", "b8b637941ad84d3d82a8eef40eeabdd7"),
        ("_HOSTNAME", "host"),
        ("_RUNTIME_SCOPE", "system"),
        ("_SOURCE_REALTIME_TIMESTAMP", &(stamp - 120).to_string()),
        ("SYSLOG_RAW", &format!("<86>Nov 14 {at} {name}[{pid}]: {message}")),
        ("MESSAGE", &message),
    ];
    fields.into_iter().fold(Record::at(stamp), |record, (name, value)| record.with(name, value))
}

/// What a server in the Internet writes: mostly failures, of many hosts.
fn sshd_message(number: u64) -> String {
    let host = number * 7919 % 3000;
    let address = format!("198.18.{}.{}", host / 250, host % 250 + 1);
    let port = 30_000 + number % 30_000;
    match number % 10 {
        0 => format!("Invalid user admin{} from {address} port {port}", number % 50),
        1..=3 => format!("Failed password for root from {address} port {port} ssh2"),
        4 => format!("Failed password for invalid user admin{} from {address} port {port} ssh2", number % 50),
        5 => format!(
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={address}  user=root"
        ),
        6 => format!("Connection closed by authenticating user root {address} port {port} [preauth]"),
        7 => format!("Received disconnect from {address} port {port}:11: Bye Bye [preauth]"),
        8 => format!("Disconnected from authenticating user root {address} port {port} [preauth]"),
        _ => format!("Accepted publickey for deploy from {address} port {port} ssh2: ED25519 SHA256:Zm9vYmFyYmF6cXV4"),
    }
}

fn read(directory: PathBuf) {
    let plan = Plan { source: Source::Directory(directory), start: Start::Head, once: true, liveness: LIVENESS };
    let (out, mut news) = tokio::sync::mpsc::channel(16);
    let _reader = Handle::spawn(plan, Box::new(Passwords::new()), out).unwrap();
    let (mut entries, mut sightings) = (0, 0);
    while let Some(one) = news.blocking_recv() {
        if let News::Harvest(harvest) = one {
            entries += harvest.entries;
            sightings += harvest.sightings.len();
        }
    }
    println!("{entries} entries, {sightings} sightings");
    assert_eq!(entries, ENTRIES * 3 / 10);
}

/// Looks at what a filter looks at, and matches almost for nothing.
struct Passwords {
    wanted: Wanted,
    message: Slot,
    jail: JailName,
}

impl Passwords {
    fn new() -> Passwords {
        let mut wanted = Wanted::default();
        for name in ["_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER", "_UID", "_PID"] {
            wanted.want(&name.parse().unwrap());
        }
        Passwords { message: wanted.want(&Field::message()), wanted, jail: "sshd".parse().unwrap() }
    }
}

impl Examine for Passwords {
    fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        Some(vec![("_SYSTEMD_UNIT".parse().unwrap(), b"ssh.service".to_vec())])
    }

    fn examine(&mut self, entry: Entry<'_>, sighted: &mut dyn FnMut(JailName, IpAddr)) {
        let Some(text) = entry.first(self.message).and_then(|text| std::str::from_utf8(text.bytes).ok()) else {
            return;
        };
        if !text.starts_with("Failed password") {
            return;
        }
        let address = text.split(' ').skip_while(|word| *word != "from").nth(1).and_then(|word| word.parse().ok());
        if let Some(address) = address {
            sighted(self.jail.clone(), address);
        }
    }
}
