//! kill -9 at every point between two effects: the daemon goes on as if nothing had been.
//!
//! The same story is told again and again, each time with death at another place of it, and has to end as it does
//! undisturbed.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

#[path = "../support/directories.rs"]
#[allow(dead_code, reason = "shared with other tests of the daemon")]
mod directories;
mod faults;
#[path = "../support/journal.rs"]
#[allow(dead_code, reason = "shared with the reader's tests")]
mod journal;
mod outcome;
#[path = "../bus/private.rs"]
#[allow(dead_code, reason = "shared with the bus's tests")]
mod private;
mod story;
#[path = "../firewall/sys.rs"]
#[allow(dead_code, reason = "shared with the firewall's tests")]
mod sys;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

use banish::daemon::crash::POINTS;
use outcome::Outcome;
use story::Story;
use world::World;

/// Stories told at the same time: each waits most of the time.
const TELLERS: usize = 8;

/// What the first process is to die of, the second, …; those behind die of nothing.
type Deaths = Vec<String>;

/// Deaths during what follows a death.
const CHAINS: [&[&str]; 6] = [
    &["entries.enforced:1", "start.restored:1", "start.adopted:1", "caught-up.confirmed:1"],
    &["entries.enforced:2", "start.lifted:1", "entries.enforced:1", "caught-up.audited:1"],
    &["command.committed:3", "start.restored:1", "start.adopted:1", "start.ready:1"],
    &["command.decided:2", "start.retold:1", "command.committed:1", "start.overdue:1"],
    &["told.bus:1", "start.retold:1", "told.log:1", "entries.committed:1"],
    &["reload.lifted:1", "start.lifted:1", "checkpoint.after:1", "close.ledger:1"],
];

#[test]
fn killed_between_any_two_effects_it_loses_nothing_and_doubles_nothing() {
    if let Some(why) = missing() {
        eprintln!("skipped: {why}");
        return;
    }
    let began = Instant::now();
    let (expected, passed) = undisturbed();
    let all: BTreeSet<&str> = passed.iter().flat_map(|life| life.keys().map(String::as_str)).collect();
    let unseen: Vec<_> = POINTS.iter().filter(|point| !all.contains(**point)).collect();
    assert!(unseen.is_empty(), "the story does not pass {unseen:?}");

    let queue: Mutex<VecDeque<Deaths>> = Mutex::new(deaths(&passed));
    let told = queue.lock().unwrap().len();
    let wrong: Mutex<Vec<String>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..TELLERS {
            scope.spawn(|| {
                sys::leave_network().expect("as before");
                while let Some(deaths) = { queue.lock().unwrap().pop_front() } {
                    if let Err(why) = tell(&deaths, &expected) {
                        wrong.lock().unwrap().push(format!("{deaths:?}: {why}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    println!("{told} deaths at {} points in {:?}", POINTS.len(), began.elapsed());
    assert!(wrong.is_empty(), "{} of {told} stories end otherwise:\n{}", wrong.len(), wrong.join("\n"));
}

/// Why this cannot be tested here.
fn missing() -> Option<String> {
    if let Some(why) = journal::missing_writer() {
        return Some(why);
    }
    let space = std::thread::spawn(sys::leave_network).join().expect("no panic");
    if let Err(error) = space {
        return Some(format!("no network namespace of our own ({error})"));
    }
    let tools = ["dbus-daemon", "nft", "ip"];
    tools.into_iter().find(|tool| !world::is_there(tool)).map(|tool| format!("{tool} is not installed"))
}

/// How the story ends when nobody dies, and which points each of its processes passes how often.
fn undisturbed() -> (Outcome, Vec<BTreeMap<String, u32>>) {
    std::thread::spawn(|| {
        sys::leave_network().expect("as before");
        let world = World::new();
        let traces = [world.path("trace.1"), world.path("trace.2")];
        let orders = traces.each_ref().map(|trace| format!("trace:{}", trace.display()));
        let mut story = Story::new(&world, orders);
        story.tell();
        let passed = traces.map(|trace| {
            let mut count = BTreeMap::new();
            for name in std::fs::read_to_string(trace).unwrap().lines() {
                *count.entry(name.to_owned()).or_default() += 1;
            }
            count
        });
        (Outcome::of(&world, story.deaths()), passed.into())
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Every point, the first time that the first process passes it and the last time that the second does; and the chains.
fn deaths(passed: &[BTreeMap<String, u32>]) -> VecDeque<Deaths> {
    let mut all = VecDeque::new();
    for (life, counts) in passed.iter().enumerate() {
        for (point, count) in counts {
            let n = if life == 0 { 1 } else { *count };
            let mut deaths = vec![String::new(); life];
            deaths.push(format!("{point}:{n}"));
            all.push_back(deaths);
        }
    }
    all.extend(CHAINS.map(|chain| chain.iter().map(|death| (*death).to_owned()).collect()));
    all
}

fn tell(deaths: &Deaths, expected: &Outcome) -> Result<(), String> {
    let world = World::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut story = Story::new(&world, deaths.clone());
        story.tell();
        assert!(story.deaths() > 0, "nobody died");
        Outcome::of(&world, story.deaths())
    }));
    match outcome {
        Ok(outcome) if outcome == *expected => Ok(()),
        Ok(outcome) => Err(format!("{}\n{}", outcome.differences(expected), world.said())),
        Err(panic) => {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("{}\n{}", why.unwrap_or_default(), world.said()))
        }
    }
}
