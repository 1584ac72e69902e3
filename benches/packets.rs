//! How many packets per second get through the table over a wire between two network namespaces, against one with an
//! empty chain: with 1 and 50 jails and 100,000 bans. Median of ten rounds in which all take turns. Needs root.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark is an edge")]

#[path = "support/row.rs"]
mod row;
#[path = "support/sys.rs"]
mod sys;
#[path = "support/wire.rs"]
mod wire;

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, SystemTime};

use banish::engine::ban::{JailName, Place};
use banish::engine::jail::Action;
use banish::engine::jail::allow::AllowList;
use banish::engine::jail::scope::{Ports, Protocol, Scope};
use banish::engine::subject::Subject;
use banish::engine::time::Stamp;
use banish::firewall::{Element, Firewall, JailPolicy, Policy};
use row::row;
use wire::{Answers, Flood, Space};

const BANS: u32 = 100_000;
const ROUNDS: usize = 10;
const ROUND: Duration = Duration::from_millis(250);
/// The first jail's port; the others' come after it.
const PORT: u16 = 22;
/// One that is no jail's.
const OTHER: u16 = 9;
/// The lanes from this one on send.
const OUT: u8 = 8;

const EMPTY: &str = "add table inet empty; add chain inet empty raw { type filter hook prerouting priority -300; }";
const TRACKED: &str = "add table inet empty; add chain inet empty mangle { type filter hook prerouting priority -150; }; \
                       add rule inet empty mangle ct direction reply accept";
const EMPTY_OUT: &str = "add table inet empty; add chain inet empty out { type filter hook postrouting priority 110; }";

struct Lane {
    what: &'static str,
    port: u16,
    /// The lane that this one is measured against.
    against: usize,
    space: Space,
    rates: Vec<f64>,
}

enum Source {
    In(Flood),
    Out(Answers),
}

fn main() {
    if cfg!(debug_assertions) {
        return println!("skipped: built without optimization, the sender would be what is measured");
    }
    if let Err(error) = sys::own_network() {
        return println!("skipped: no network namespace of our own ({error})");
    }
    let ports = |at: u16| Scope::Ports(Ports::new([PORT + at..=PORT + at], [Protocol::Udp]).unwrap());
    let lane = |number: u8, what, port, against| Lane {
        what,
        port,
        against,
        space: Space::new(number, (number < OUT).then_some(port)),
        rates: Vec::new(),
    };
    let mut lanes = [
        lane(1, "an empty chain at raw", PORT, 0),
        lane(2, "`ports`, 1 jail, to its port", PORT, 0),
        lane(3, "`ports`, 50 jails, to the first's port", PORT, 0),
        lane(4, "`ports`, 50 jails, to nobody's port", OTHER, 0),
        lane(5, "`hosts`, 1 jail", PORT, 0),
        lane(6, "`hosts`, 50 jails", PORT, 0),
        lane(7, "an empty chain with connection tracking", PORT, 7 - 1),
        lane(OUT, "an empty chain for what goes out", PORT, 8 - 1),
        lane(9, "`out_ports`, 1 jail, from its port", PORT, 8 - 1),
        lane(10, "`out_ports`, 50 jails, from the first's port", PORT, 8 - 1),
        lane(11, "`out_ports`, 50 jails, from nobody's port", OTHER, 8 - 1),
        lane(12, "`out_hosts`, 1 jail", PORT, 8 - 1),
        lane(13, "`out_hosts`, 50 jails", PORT, 8 - 1),
    ];
    lanes[0].space.nft(EMPTY);
    lanes[6].space.nft(TRACKED);
    lanes[7].space.nft(EMPTY_OUT);
    let all = |_| Scope::AllPorts;
    let held = [
        banned(&lanes[1].space, 1, &ports),
        banned(&lanes[2].space, 50, &ports),
        banned(&lanes[3].space, 50, &ports),
        banned(&lanes[4].space, 1, &all),
        banned(&lanes[5].space, 50, &all),
        banned(&lanes[8].space, 1, &ports),
        banned(&lanes[9].space, 50, &ports),
        banned(&lanes[10].space, 50, &ports),
        banned(&lanes[11].space, 1, &all),
        banned(&lanes[12].space, 50, &all),
    ];
    let source = |(at, lane): (usize, &Lane)| match at {
        at if at + 1 < usize::from(OUT) => Source::In(Flood::new(&lane.space, lane.port)),
        _ => Source::Out(Answers::new(&lane.space, lane.port)),
    };
    let mut sources: Vec<Source> = lanes.iter().enumerate().map(source).collect();
    // The first round warms everything up.
    for round in 0..=ROUNDS {
        for (lane, source) in lanes.iter_mut().zip(&mut sources) {
            let rate = match source {
                Source::In(flood) => flood.run(ROUND),
                Source::Out(answers) => answers.run(ROUND),
            };
            if round > 0 {
                lane.rates.push(rate);
            }
        }
    }
    let median = |lane: &Lane| {
        let mut rates = lane.rates.clone();
        rates.sort_by(f64::total_cmp);
        (rates[ROUNDS / 2 - 1] + rates[ROUNDS / 2]) / 2.0
    };
    let medians: Vec<f64> = lanes.iter().map(median).collect();
    for (at, lane) in lanes.iter().enumerate() {
        let what = format!("Packets over a veth pair, {BANS} bans: {}, 1000/s", lane.what);
        let share = medians[at] / medians[lane.against] * 100.0;
        let (measured, goal) = if lane.against == at {
            (format!("{:.0}", medians[at] / 1000.0), "–")
        } else {
            (format!("{:.0} ({share:.0} %)", medians[at] / 1000.0), "≥ 90 %")
        };
        row(&what, measured, goal);
    }
    drop(held);
}

/// The table of so many jails with all bans spread over them, in a space.
fn banned(space: &Space, jails: u16, scope: &dyn Fn(u16) -> Scope) -> Firewall {
    let names: Vec<JailName> = (0..jails).map(|at| format!("jail{at}").parse().unwrap()).collect();
    let policies = (0..jails).map(|at| JailPolicy {
        jail: names[usize::from(at)].clone(),
        scope: scope(at),
        action: Action::Drop,
        allow: AllowList::default(),
        lengths: JailPolicy::usual_lengths(64),
    });
    let policy = Policy { jails: policies.collect(), ..Policy::default() };
    let until = Stamp::from_usec(now().usec() + 3_600_000_000);
    let element = |number: u32| {
        // None of them is where the packets come from.
        let address = Ipv4Addr::from_bits(11 << 24 | number.wrapping_mul(2_654_435_761) >> 8 << 4 | number & 15);
        let jail = names[(number % u32::from(jails)) as usize].clone();
        Element { place: Place { jail, subject: Subject::host(IpAddr::V4(address)) }, until, comment: "failures" }
    };
    let bans = (0..BANS).map(element).collect();
    space.within(|| {
        let (notices, _heard) = tokio::sync::mpsc::channel(16);
        let firewall = Firewall::spawn(None, notices).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(firewall.rebuild(policy, bans, now())).unwrap();
        firewall
    })
}

fn now() -> Stamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Stamp::from_usec(u64::try_from(since.as_micros()).unwrap())
}

/// Runs a program that must succeed.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
