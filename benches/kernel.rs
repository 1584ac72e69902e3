//! What bans cost in the real kernel, in a network namespace of its own: µs for a single one beside 100,000, seconds for
//! 100,000 at once. Needs root.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and forks")]

#[path = "support/row.rs"]
mod row;
#[path = "support/sys.rs"]
mod sys;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant, SystemTime};

use banish::engine::ban::Place;
use banish::engine::jail::Action;
use banish::engine::jail::allow::AllowList;
use banish::engine::jail::scope::{Ports, Protocol, Scope};
use banish::engine::subject::Subject;
use banish::engine::time::Stamp;
use banish::firewall::{Change, Element, Firewall, JailPolicy, Policy};
use row::row;

const THERE: u32 = 100_000;
const SINGLE: u32 = 10_000;

fn main() {
    if let Err(error) = sys::own_network() {
        return println!("skipped: no network namespace of our own ({error})");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let columns = [v4 as fn(u32) -> Subject, v6].map(|subject| runtime.block_on(measured(subject)));
    let both = |at: usize, factor: f64, digits: usize| {
        let [one, two] = columns.map(|column| column[at].as_secs_f64() * factor);
        format!("{one:.digits$}, {two:.digits$}")
    };
    row("100,000 bans in one transaction, IPv4 /32 and IPv6 /64, s", both(0, 1.0, 2), "≤ 1");
    row("… audited, s", both(1, 1.0, 2), "–");
    row("… one more ban in the kernel, median of 10,000, µs", both(2, 1e6, 1), "≤ 100");
    row("… the same, 99th percentile, µs", both(3, 1e6, 1), "–");
    row("… the same, mean, µs", both(4, 1e6, 1), "–");
}

/// Rebuild, audit, median and 99th percentile of single bans, their mean.
async fn measured(subject: fn(u32) -> Subject) -> [Duration; 5] {
    let (notices, _heard) = tokio::sync::mpsc::channel(16);
    let firewall = Firewall::spawn(None, notices).expect("netlink");
    let bans: Vec<Element> = (0..THERE).map(|number| ban(subject(number))).collect();
    let (copy, began) = (bans.clone(), Instant::now());
    firewall.rebuild(policy(), copy, now()).await.expect("a rebuild");
    let rebuild = began.elapsed();
    let audit = quiet_audit(&firewall, &bans).await;
    let mut times = Vec::new();
    for number in THERE..THERE + SINGLE {
        let change = Change::Add(ban(subject(number)));
        let began = Instant::now();
        firewall.apply(vec![change], now()).await.expect("a ban");
        times.push(began.elapsed());
    }
    times.sort();
    let mean = times.iter().sum::<Duration>() / SINGLE;
    [rebuild, audit, times[times.len() / 2], times[times.len() * 99 / 100], mean]
}

/// An audit that finds nothing to mend. After a set has grown the kernel rehashes it in the background, and a dump in that
/// time misses elements; the audit then gives them anew, which changes nothing.
async fn quiet_audit(firewall: &Firewall, bans: &[Element]) -> Duration {
    for _ in 0..20 {
        let (copy, began) = (bans.to_vec(), Instant::now());
        let differences = firewall.audit(copy, now(), true).await.expect("an audit");
        let took = began.elapsed();
        assert_eq!((differences.removed, differences.rules), (0, false));
        if differences.added == 0 {
            return took;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    panic!("the kernel's set and ours never agree");
}

fn policy() -> Policy {
    let ports = Ports::new([22..=22], [Protocol::Tcp]).expect("a port");
    let (scope, lengths) = (Scope::Ports(ports), JailPolicy::usual_lengths(64));
    let jail = "sshd".parse().expect("a name");
    let sshd = JailPolicy { jail, scope, action: Action::Drop, allow: AllowList::default(), lengths };
    Policy { jails: vec![sshd], ..Policy::default() }
}

fn ban(subject: Subject) -> Element {
    let place = Place { jail: "sshd".parse().expect("a name"), subject };
    Element { place, until: Stamp::from_usec(now().usec() + 3_600_000_000), comment: "failures" }
}

/// Scattered as real attackers are, none twice.
fn v4(number: u32) -> Subject {
    Subject::host(IpAddr::V4(Ipv4Addr::from_bits(number.wrapping_mul(2_654_435_761))))
}

fn v6(number: u32) -> Subject {
    let bits = 0x2001_u128 << 112 | u128::from(number.wrapping_mul(2_654_435_761)) << 64;
    Subject::counted(IpAddr::V6(Ipv6Addr::from_bits(bits)), 64)
}

fn now() -> Stamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock set after 1970");
    Stamp::from_usec(u64::try_from(since.as_micros()).expect("a clock set before 586,000"))
}
