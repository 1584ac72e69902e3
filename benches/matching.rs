//! What one entry of sshd's costs the sieve: processor time per message, for an attack's usual mix, for hits and for
//! misses. Least of seven rounds.

#![allow(clippy::disallowed_methods, reason = "a benchmark is an edge")]

#[path = "support/row.rs"]
mod row;
#[path = "support/sys.rs"]
mod sys;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use banish::engine::entry::{EntryRef, Page, Wanted};
use banish::engine::filter::{Definition, Filter, Sieve};
use banish::engine::time::Stamp;

const MESSAGES: usize = 60_000;
const ROUNDS: usize = 7;

/// One failed login of an unknown user, as Debian logs it.
const LOGIN: [&str; 5] = [
    "Invalid user admin{} from {A} port 40{p}",
    "pam_unix(sshd:auth): check pass; user unknown",
    "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={A}",
    "Failed password for invalid user admin{} from {A} port 40{p} ssh2",
    "Connection closed by invalid user admin{} {A} port 40{p} [preauth]",
];

/// Nothing failed yet, but it tells whose connection it is.
const TELLING: [&str; 1] = ["Connection from {A} port 40{p} on 192.0.2.1 port 22 rdomain \"\""];

fn main() {
    for (name, jails) in [("sshd alone", 1), ("with 49 other jails", 50)] {
        measure(&format!("Matching, {name}: the five lines of a failed login, µs a message"), jails, &LOGIN, "≤ 1");
        measure(&format!("Matching, {name}: hits alone"), jails, &LOGIN[3..4], "–");
        measure(&format!("Matching, {name}: lines that only tell whose connection it is"), jails, &TELLING, "–");
        measure(&format!("Matching, {name}: refusals that no other line follows"), jails, &LOGIN[2..3], "–");
        measure(&format!("Matching, {name}: misses alone"), jails, &LOGIN[1..2], "–");
    }
}

fn measure(name: &str, jails: usize, lines: &[&str], goal: &str) {
    let sshd = sshd();
    let others = (1..jails).map(|at| {
        let filter = Filter::compile(&other(at)).expect("the filter is sound");
        (format!("jail{at}").parse().expect("a jail's name"), Arc::new(filter))
    });
    let mut sieve = Sieve::new(
        std::iter::once(("sshd".parse().expect("a jail's name"), Arc::clone(&sshd))).chain(others).collect(),
    );
    let wanted = sieve.wanted().clone();
    let pages: Vec<Page> = (0..MESSAGES).map(|at| page(&wanted, at / lines.len(), lines[at % lines.len()])).collect();
    let (mut best, mut hits) = (Duration::MAX, Vec::new());
    for _ in 0..ROUNDS {
        hits.clear();
        let before = sys::thread_time();
        for page in &pages {
            let mut locate = || Some(EntryRef::attempt(1));
            sieve.examine(black_box(page.entry()), &mut locate, &mut hits);
        }
        best = best.min(sys::thread_time() - before);
    }
    black_box(&hits);
    row::row(name, format_args!("{:.2}", best.as_secs_f64() * 1e6 / MESSAGES as f64), goal);
}

fn page(wanted: &Wanted, login: usize, line: &str) -> Page {
    let address = format!("192.0.{}.{}", login / 256 % 256, login % 256);
    let line =
        line.replace("{A}", &address).replace("{p}", &format!("{:03}", login % 1000)).replace("{}", &login.to_string());
    let mut page = Page::default();
    page.begin(Stamp::from_usec(1_700_000_000_000_000 + login as u64 * 1000), 1);
    for (name, value) in [
        ("_UID", "0"),
        ("_SYSTEMD_UNIT", "ssh.service"),
        ("SYSLOG_IDENTIFIER", "sshd"),
        ("_PID", &(login + 1).to_string()),
        ("MESSAGE", &line),
    ] {
        page.offer(wanted, format!("{name}={value}").as_bytes());
    }
    page
}

fn sshd() -> Arc<Filter> {
    let file: toml::Table = include_str!("../etc/filter.d/sshd.toml").parse().expect("the shipped filter is TOML");
    let list = |key: &str| -> Vec<String> { file[key].clone().try_into().expect("a list of texts") };
    let definition = Definition {
        name: "sshd".into(),
        journalmatch: list("journalmatch"),
        session: Some("_PID".parse().expect("a field's name")),
        failregex: list("failregex"),
        ..other(0)
    };
    Arc::new(Filter::compile(&definition).expect("the shipped filter is sound"))
}

fn other(at: usize) -> Definition {
    Definition {
        name: format!("other{at}"),
        journalmatch: vec![
            format!("_SYSTEMD_UNIT=other{at}.service"),
            format!("_UID=0 _SYSTEMD_UNIT= SYSLOG_IDENTIFIER=other{at}"),
        ],
        failregex: vec!["^login failed for <F-USER>.*</F-USER> from <ADDR>$".into()],
        ..Definition::default()
    }
}
