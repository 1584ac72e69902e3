//! A journal of the past: what sshd and other units write on a server in the Internet.

use std::path::Path;

use crate::journal::{Record, write};

/// How many other units there are.
pub const UNITS: u64 = 37;

/// Makes the journal of so many entries of sshd and of `others` in `directory` unless an earlier run has; it ends now.
pub fn generate(directory: &Path, sshd: u64, others: u64) {
    const FILES: u64 = 4;
    let done = directory.join("done");
    if done.exists() {
        return;
    }
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir_all(directory).expect("room for a journal");
    let entries = sshd + others;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock set after 1970");
    let first = u64::try_from(now.as_micros()).expect("a clock set before 586,000") - entries * STEP;
    for file in 0..FILES {
        let path = directory.join(format!("system@{file}.journal"));
        write(&path, (file * entries / FILES..(file + 1) * entries / FILES).map(|at| record(at, first, sshd, entries)));
    }
    std::fs::write(done, "").expect("room for a file");
}

/// µs from one entry to the next.
const STEP: u64 = 100_000;

/// An entry as journald stores one: 25 fields, ever the same or ever different like the real ones.
fn record(number: u64, first: u64, sshd: u64, entries: u64) -> Record {
    let stamp = first + number * STEP;
    // Spread evenly.
    let (before, after) = (number * sshd / entries, (number + 1) * sshd / entries);
    let (unit, name, message) = if after > before {
        ("ssh.service".to_string(), "sshd".to_string(), message(before))
    } else {
        let service = number % UNITS;
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

/// sshd's n-th message: mostly failures, of many hosts.
pub fn message(number: u64) -> String {
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
