//! What `make install` and `make uninstall` do on a live machine, with a tree in the place of its root and programs that
//! only answer in the place of systemd's. The booted machine tries the same with the real ones.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const LIVE: &str = "live=/run/systemd/system";

fn make(words: &[&str]) -> Command {
    let mut make = Command::new("make");
    // A `make` around the tests must not hand its own settings on.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").env_remove("DESTDIR").env_remove("PREFIX").args(words);
    make
}

/// A program that answers.
fn answers(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn what_make_would_run_is_a_shell_s_language() {
    for target in ["install", "uninstall"] {
        for words in [&[][..], &[LIVE], &[LIVE, "PREFIX=/usr/local"], &["DESTDIR=/nowhere"], &["live="]] {
            let expanded = make(&["--dry-run", target]).args(words).output().unwrap();
            assert!(expanded.status.success(), "{target} {words:?}: {}", said(&expanded));
            let lines = String::from_utf8(expanded.stdout).unwrap().replace("\\\n", " ");
            for line in lines.lines() {
                let checked = Command::new("bash").args(["-n", "-c", line]).output().unwrap();
                assert!(checked.status.success(), "{target} {words:?}: {}", said(&checked));
            }
        }
    }
}

#[test]
fn an_install_and_an_uninstall_say_what_they_leave_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let (tree, programs, built) = (root.path().join("tree"), root.path().join("programs"), root.path().join("built"));
    for program in ["systemd-sysusers", "systemd-tmpfiles", "journalctl", "busctl"] {
        answers(&programs.join(program), "exit 0");
    }
    for file in [
        "banishd",
        "banishctl",
        "completions/banishctl.bash",
        "completions/banishctl.zsh",
        "completions/banishctl.fish",
    ] {
        answers(&built.join("release").join(file), "exit 0");
    }
    let run = |target: &str, more: &[&str], daemon_runs: bool| {
        let code = if daemon_runs { 0 } else { 3 };
        // As the real one, it knows no unit that is not installed.
        let systemctl = format!("case $1 in is-active) exit {code};; disable) exit 1;; esac");
        answers(&programs.join("systemctl"), &systemctl);
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut make = make(&[target, LIVE, &format!("DESTDIR={}", tree.display())]);
        let output = make.args(more).env("PATH", path).env("CARGO_TARGET_DIR", &built).output().unwrap();
        assert!(output.status.success(), "{target}: {}", said(&output));
        said(&output)
    };
    for prefix in ["/usr", "/nowhere/usr"] {
        let prefix = format!("PREFIX={prefix}");
        assert!(run("install", &[&prefix], false).contains("systemctl enable --now banishd"));
        let upgraded = run("install", &[&prefix], true);
        assert!(upgraded.contains("systemctl restart banishd") && !upgraded.contains("enable"), "{upgraded}");
        for _ in 0..2 {
            assert!(run("uninstall", &[&prefix], true).contains("The ledger stays"));
        }
    }
    let left = Command::new("find").arg(&tree).args(["-type", "f"]).output().unwrap();
    assert_eq!(said(&left), "");
}
