//! How much memory a configuration takes while it is loaded: bounded, and given back.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

#[path = "support/daemon.rs"]
#[allow(dead_code, reason = "shared with other tests of the daemon")]
mod daemon;
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

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use daemon::{Running, until_within};
use directories::Directories;
use space::in_space;

const PATIENCE: Duration = Duration::from_secs(120);
/// What `config check` may have of memory of its own, in KiB. Twice what the largest configuration takes that is accepted.
const ALLOWED: u64 = 192 << 10;

fn filter(patterns: impl Iterator<Item = String>) -> String {
    let patterns: String = patterns.map(|pattern| format!("'{pattern}',\n")).collect();
    format!("journalmatch = ['_SYSTEMD_UNIT=x.service']\nfailregex = [\n{patterns}]\n")
}

/// Ordinary patterns.
fn ordinary(count: usize) -> String {
    let pattern = |at| format!(r"^service {at}: login failed for <F-USER>.*</F-USER> from <ADDR> port \d+$");
    filter((0..count).map(pattern))
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Checks a configuration of these filters, each in a jail of its own, with no more memory than is allowed.
fn checked(filters: &[String]) -> Output {
    let root = tempfile::tempdir().unwrap();
    for (at, text) in filters.iter().enumerate() {
        write(root.path(), &format!("filter.d/f{at}.toml"), text);
        write(root.path(), &format!("jail.d/f{at}.toml"), &format!("[jail.f{at}]\nenabled = true\n"));
    }
    let limited = format!("ulimit -d {ALLOWED} && exec timeout 120 \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &limited, "bash", env!("CARGO_BIN_EXE_banishctl"), "--config"]).arg(root.path());
    command.args(["config", "check"]).output().unwrap()
}

fn refusal(filters: &[String]) -> String {
    let output = checked(filters);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_is_too_large_is_refused_at_its_place_before_it_is_built() {
    for (text, place, why) in [
        (ordinary(20_000), "f0.toml:", "with this pattern the filter is too large"),
        (filter((0..2_000).map(|at| format!("^{at}[^ ]{{1,1000}} <ADDR>$"))), "f0.toml:", "the filter is too large"),
        (
            filter((0..2_000).map(|at| format!("^{at}(?!root)[^ ]{{1,90}} <ADDR>$"))),
            "f0.toml:",
            "the filter is too large",
        ),
        (filter(["^(?:(?:[^ ]{1,1000}){1000}){1000} <ADDR>$".into()].into_iter()), "f0.toml:3:1: ", "is too large"),
        (filter(["^(?!(?:a{1000}){1000}) <ADDR>$".into()].into_iter()), "f0.toml:3:1: ", "is too large"),
        (filter(["(?:".repeat(1_000_000)].into_iter()), "f0.toml:3:2: ", "is longer than"),
        (filter([format!("^{} <ADDR>$", "a".repeat(3_900_000))].into_iter()), "f0.toml:3:2: ", "is longer than"),
        (filter(["(?:".repeat(20_000)].into_iter()), "f0.toml:3:302: ", "more than 100 parentheses"),
    ] {
        let said = refusal(&[text]);
        assert!(said.contains(place) && said.contains(why), "{said}");
    }
}

#[test]
fn all_filters_together_are_bounded() {
    let said = refusal(&(0..300).map(|_| ordinary(100)).collect::<Vec<_>>());
    assert!(said.contains("with this pattern all filters together are too large"), "{said}");
    let mode = |at| format!("[mode.m{at}]\n{}", ordinary(100).lines().skip(1).collect::<Vec<_>>().join("\n"));
    let modes: Vec<String> = (0..300).map(mode).collect();
    let said = refusal(&[format!("{}{}", ordinary(1), modes.join("\n"))]);
    assert!(said.contains("all filters together are too large"), "{said}");
}

#[test]
fn what_is_large_and_not_too_large_is_taken() {
    let agents: Vec<String> = (0..6_000).map(|at| format!("agent{at}")).collect();
    let mut filters = vec![ordinary(1_000), filter([format!("^(?:{}) <ADDR>$", agents.join("|"))].into_iter())];
    // If reading took a square of their length, it would take minutes.
    for part in ["{", "<", "()", "(?!a)"] {
        filters.push(filter([format!("^{} <ADDR>$", part.repeat(50_000 / part.len()))].into_iter()));
    }
    filters.push(filter([format!("{}^ <ADDR>$", "(?i)".repeat(12_000))].into_iter()));
    let output = checked(&filters);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What the daemon has of memory in KiB: now, or at the most.
fn memory(running: &Running, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_reload_gives_back_what_it_took() {
    in_space(|| {
        let Some(root) = Directories::new() else { return };
        root.jail("test", "port = [\"ssh\"]");
        root.write("etc/filter.d/test.toml", &ordinary(1));
        let running = Running::start(root.root(), PATIENCE);
        let before = memory(&running, "VmRSS");
        let near = |above: u64| move |running: &Running| memory(running, "VmRSS") < before + (above << 10);

        for round in 1..=3 {
            root.write("etc/filter.d/test.toml", &ordinary(20_000));
            running.signal("-HUP");
            until_within(PATIENCE, "it is refused", || {
                running.said().matches("is too large when compiled").count() >= round
            });
            until_within(PATIENCE, "what was taken is given back", || near(8)(&running));
        }
        let most = memory(&running, "VmHWM");
        assert!(most < before + (96 << 10), "{before} KiB before, {most} at the most");

        for _ in 0..3 {
            root.write("etc/filter.d/test.toml", &ordinary(1_000));
            running.reload();
            until_within(PATIENCE, "no more is kept than the filters are", || near(48)(&running));
            root.write("etc/filter.d/test.toml", &ordinary(1));
            running.reload();
            until_within(PATIENCE, "and little when they are gone", || near(20)(&running));
        }
        running.stop();
    });
}
