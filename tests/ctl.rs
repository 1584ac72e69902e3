//! The banishctl binary as its users run it: on files, and against a daemon on a private bus.
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "tests are an edge")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "ctl/bus.rs"]
mod bus;
#[path = "support/journal.rs"]
#[allow(dead_code, reason = "shared with the journal's own tests")]
mod journal;
#[path = "ctl/offline.rs"]
mod offline;
#[path = "bus/private.rs"]
#[allow(dead_code, reason = "shared with the bus's own tests")]
mod private;
#[path = "bus/table.rs"]
#[allow(dead_code, reason = "shared with the bus's own tests")]
mod table;

use std::process::{Command, Output};

/// `banishctl` without a terminal and with nothing of the caller's environment that changes what it does.
fn banishctl(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_banishctl"));
    command.args(words).current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in ["SSH_CONNECTION", "SYSTEMD_COLORS", "NO_COLOR", "SYSTEMD_PAGER", "PAGER", "LC_ALL", "LC_CTYPE", "LANG"]
    {
        command.env_remove(name);
    }
    command.env("TZ", "UTC");
    command
}

fn run(words: &[&str]) -> Output {
    banishctl(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn objects(output: &Output) -> Vec<serde_json::Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
