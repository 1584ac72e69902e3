//! Whatever happens to the daemon between the entries, it ends with the bans that the rules give for all that was ever
//! logged, reported and ordered: a plain list says which these are.
//!
//! The rules: a failure counts for a jail unless it was logged in a pause or before the host's last ban, unban or
//! forgetting; `maxretry` counted failures within `findtime` ban; a start and a reload evaluate what is remembered once.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

#[path = "support/directories.rs"]
#[allow(dead_code, reason = "shared with other tests of the daemon")]
mod directories;
#[path = "support/journal.rs"]
#[allow(dead_code, reason = "shared with the reader's tests")]
mod journal;
#[path = "history/model.rs"]
mod model;
#[path = "bus/private.rs"]
#[allow(dead_code, reason = "shared with the bus's tests")]
mod private;
#[path = "firewall/space.rs"]
#[allow(dead_code, reason = "shared with the firewall's tests")]
mod space;
#[path = "firewall/sys.rs"]
#[allow(dead_code, reason = "shared with the firewall's tests")]
mod sys;
#[path = "history/world.rs"]
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use model::{Kind, Rules};
use space::in_space;
use world::World;

/// What happens.
#[derive(Clone, Debug)]
enum Event {
    /// Somebody fails, so often.
    Fails {
        host: u8,
        kind: Kind,
        times: u8,
    },
    /// Somebody is refused, and it is told that he failed or not.
    Refused {
        host: u8,
        told: bool,
    },
    /// Time passes until every refusal is decided on.
    Decide,
    Stop,
    Kill,
    Start,
    /// The configuration changes, and is read anew if somebody is there to read it.
    Configure(Rules),
    Pause,
    Resume,
    Unban(u8),
    Forget(u8),
    Attempt(u8),
}

fn any_host() -> impl Strategy<Value = u8> {
    1u8..5
}

fn any_event() -> impl Strategy<Value = Event> {
    let kind = prop::sample::select(vec![Kind::Plain, Kind::Denied, Kind::Split]);
    let rules = (2u32..5, prop::sample::select(vec![5u64, 60, 180]), any::<bool>());
    prop_oneof![
        6 => (any_host(), kind, 1u8..4).prop_map(|(host, kind, times)| Event::Fails { host, kind, times }),
        1 => Just(Event::Stop),
        2 => Just(Event::Kill),
        3 => Just(Event::Start),
        2 => rules.prop_map(|(maxretry, minutes, denials)| Event::Configure(Rules { maxretry, minutes, denials })),
        1 => Just(Event::Pause),
        1 => Just(Event::Resume),
        1 => any_host().prop_map(Event::Unban),
        1 => any_host().prop_map(Event::Forget),
        1 => any_host().prop_map(Event::Attempt),
    ]
}

/// What was logged before the first start: host, kind, minutes ago.
fn any_past() -> impl Strategy<Value = Vec<(u8, Kind, u64)>> {
    let kind = prop::sample::select(vec![Kind::Plain, Kind::Denied]);
    prop::collection::vec((any_host(), kind, prop::sample::select(vec![120u64, 30, 2])), 0..8).prop_map(|mut past| {
        past.sort_by_key(|(_, _, minutes)| std::cmp::Reverse(*minutes));
        past
    })
}

fn play(past: &[(u8, Kind, u64)], events: &[Event]) {
    let Some(mut world) = World::new() else { return };
    world.log_past(past);
    world.start();
    world.agrees("after the first start");
    // From here on everything is read behind a checkpoint.
    world.stop();
    world.start();
    world.agrees("after the second start");
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Fails { host, kind, times } => world.fail(*host, *kind, *times),
            Event::Refused { host, told } => world.refuse(*host, *told),
            Event::Decide => world.decide(),
            Event::Stop => world.stop(),
            Event::Kill => world.kill(),
            Event::Start => {
                world.stop();
                world.start();
            }
            Event::Configure(rules) => world.configure(*rules),
            Event::Pause => world.pause(),
            Event::Resume => world.resume(),
            Event::Unban(host) => world.unban(*host),
            Event::Forget(host) => world.forget(*host),
            Event::Attempt(host) => world.attempt(*host),
        }
        world.agrees(&format!("after event {number}: {event:?}"));
    }
    world.start();
    world.agrees("after the last start");
}

/// Each case takes seconds: `BANISH_CASES` asks for more than these few.
fn cases() -> u32 {
    std::env::var("BANISH_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(6)
}

fn run() {
    let config = Config { cases: cases(), max_shrink_iters: 24, failure_persistence: None, ..Config::default() };
    let story = (any_past(), prop::collection::vec(any_event(), 4..14));
    TestRunner::new(config)
        .run(&story, |(past, events)| {
            in_space(move || play(&past, &events));
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_history_ends_in_the_bans_that_the_rules_give() {
    run();
}

#[test]
fn any_other_history_does_too() {
    run();
}

#[test]
fn a_session_and_slow_guesses_survive_a_restart_and_a_kill_after_it() {
    let split = |host| Event::Fails { host, kind: Kind::Split, times: 1 };
    let rules = Rules { maxretry: 2, minutes: 180, denials: false };
    let plain = |host| Event::Fails { host, kind: Kind::Plain, times: 1 };
    let events =
        [Event::Configure(rules), split(1), plain(2), Event::Start, split(1), Event::Kill, Event::Start, split(1)];
    in_space(move || play(&[(3, Kind::Plain, 120), (3, Kind::Plain, 30), (2, Kind::Plain, 120)], &events));
}

/// The time that a refusal waits is the clock's, so this is no sequence of many.
#[test]
fn refusals_that_nothing_follows_count_once_through_stops_kills_and_other_filters() {
    let refused = |host| Event::Refused { host, told: false };
    let told = |host| Event::Refused { host, told: true };
    let rules = |maxretry, denials| Event::Configure(Rules { maxretry, minutes: 180, denials });
    let events = [
        rules(3, false),
        refused(1),
        refused(2),
        told(3),
        told(4),
        Event::Start,
        refused(1),
        Event::Kill,
        refused(2),
        told(3),
        Event::Start,
        rules(3, true),
        refused(1),
        told(4),
        Event::Decide,
        Event::Kill,
        Event::Start,
        Event::Stop,
        refused(3),
        rules(3, false),
        Event::Start,
        Event::Decide,
    ];
    in_space(move || play(&[], &events));
}
