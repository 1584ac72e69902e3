//! The ledger's promises on real files: all or nothing, twice is once, nothing is overwritten.
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "tests are an edge")]
#![allow(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

#[path = "ledger/damage.rs"]
mod damage;
#[path = "ledger/disk.rs"]
mod disk;
#[path = "ledger/kill.rs"]
mod kill;
#[path = "ledger/model.rs"]
mod model;
#[path = "ledger/power.rs"]
mod power;

use std::sync::Arc;
use std::time::Duration;

use banish::engine::ban::{Ban, Cause, End, JailName, Place};
use banish::engine::entry::{Cursor, EntryRef};
use banish::engine::jail::pause::Pause;
use banish::engine::jail::window::Failure;
use banish::engine::snapshot::{WindowsWriter, decode_windows};
use banish::engine::time::Stamp;
use banish::engine::warden::Counts;
use banish::ledger::{
    Attempt, Change, Checkpoint, Durability, Key, Ledger, LedgerError, Moment, Sessions, Snapshot, Store, Transaction,
};
use model::{Model, sorted};
use proptest::prelude::*;
use tempfile::tempdir;

/// The `n`th of a row of transactions that is always the same: what a daemon decides from entry `n`.
fn nth(n: u64) -> Transaction {
    let mut transaction = Transaction::at(checkpoint(n));
    let ban = nth_ban(n);
    transaction.count_from(ban.place.clone(), ban.since);
    transaction.begin(ban.clone());
    if n.is_multiple_of(3) {
        transaction.end(&nth_ban(n - 1), at(n), End::Operator { uid: 7 });
    }
    if n > 2 {
        transaction.announced(&nth_ban(n - 2), Moment::Begun);
    }
    transaction
}

fn nth_ban(n: u64) -> Ban {
    let jail = if n.is_multiple_of(2) { "sshd" } else { "nginx" };
    let entry = EntryRef { seqnum_id: 0xa, seqnum: n };
    let evidence = (n.saturating_sub(4)..=n).map(|seqnum| EntryRef { seqnum_id: 0xa, seqnum }).collect();
    Ban {
        place: place(jail, &format!("192.0.2.{}", n % 200)),
        since: at(n),
        until: at(n + 1_000_000),
        failures: 5,
        cause: Cause::Failures { decided: entry, evidence },
    }
}

fn checkpoint(n: u64) -> Checkpoint {
    let entry = EntryRef { seqnum_id: 0xa, seqnum: n };
    let cursor = Cursor { entry, boot: 1, monotonic: n, realtime: at(n), xor: !n };
    Checkpoint { source: "local".into(), cursor, stamp: at(n) }
}

fn place(jail: &str, subject: &str) -> Place {
    Place { jail: jail.parse().unwrap(), subject: subject.parse().unwrap() }
}

fn at(usec: u64) -> Stamp {
    Stamp::from_usec(usec)
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    prop_oneof![20 => (0u64..60).prop_map(at), 1 => Just(Stamp::NEVER)]
}

fn any_entry() -> impl Strategy<Value = EntryRef> {
    (0u128..2, prop_oneof![0u64..6, Just(u64::MAX)]).prop_map(|(seqnum_id, seqnum)| EntryRef { seqnum_id, seqnum })
}

fn any_place() -> impl Strategy<Value = Place> {
    let subject = prop::sample::select(vec!["192.0.2.1", "192.0.2.0/24", "2001:db8::/64"]);
    (prop::sample::select(vec!["sshd", "manual"]), subject).prop_map(|(jail, subject)| place(jail, subject))
}

fn any_ban() -> impl Strategy<Value = Ban> {
    let evidence = || prop::collection::vec(any_entry(), 0..4);
    let cause = prop_oneof![
        (any_entry(), evidence()).prop_map(|(decided, evidence)| Cause::Failures { decided, evidence }),
        evidence().prop_map(|evidence| Cause::Configuration { evidence }),
        (any::<u32>(), ".{0,9}").prop_map(|(uid, reason)| Cause::Operator { uid, reason }),
        Just(Cause::Adopted),
    ];
    (any_place(), 0u64..50, any_stamp(), any::<u32>(), cause).prop_map(|(place, since, until, failures, cause)| Ban {
        place,
        since: at(since),
        until,
        failures,
        cause,
    })
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Expired),
        any::<u32>().prop_map(|uid| End::Operator { uid }),
        Just(End::Configuration),
        Just(End::Replaced)
    ]
}

fn any_jail() -> impl Strategy<Value = JailName> {
    any_place().prop_map(|place| place.jail)
}

fn any_change(bans: Vec<Ban>) -> impl Strategy<Value = Change> {
    let known = || prop::sample::select(bans.clone());
    let moment = prop::sample::select(vec![Moment::Begun, Moment::Ended]);
    prop_oneof![
        5 => known().prop_map(Change::Begun),
        3 => (known(), 0u64..60, any_end()).prop_map(|(ban, when, how)| {
            let mut transaction = Transaction::default();
            transaction.end(&ban, at(when), how);
            transaction.changes.remove(0)
        }),
        2 => (known(), moment).prop_map(|(ban, moment)| {
            let mut transaction = Transaction::default();
            transaction.announced(&ban, moment);
            transaction.changes.remove(0)
        }),
        1 => (any_place(), 0u64..60).prop_map(|(place, stamp)| Change::CountedFrom(place, at(stamp))),
        1 => (any_jail(), 0u64..9, any_stamp())
            .prop_map(|(jail, since, until)| Change::Paused(Pause { jail, since: at(since), until })),
        1 => (any_jail(), 0u64..9, 0u64..60)
            .prop_map(|(jail, since, until)| Change::Resumed(Pause { jail, since: at(since), until: at(until) })),
        1 => (any_jail(), 0u64..9, any::<u32>()).prop_map(|(jail, number, bits)| {
            Change::Attempted(Attempt { number, jail, address: [10, 0, 0, bits as u8].into(), stamp: at(number), uid: bits })
        }),
        1 => (any_jail(), any::<u64>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..9)).prop_map(
            |(jail, config, maxretry, bytes)| {
                let findtime = Duration::from_micros(maxretry.into());
                let counts = Counts { jail, maxretry, findtime, windows: bytes.clone() };
                let source = if config % 2 == 0 { "local" } else { "web" };
                let sessions = Sessions { source: source.into(), cursor: checkpoint(config).cursor, open: bytes };
                let attempts_from = at(config % 9);
                let kept = ["local", "web"].map(str::to_owned);
                let kept = kept.into_iter().skip((config % 3) as usize).collect();
                let counts = vec![(counts, config)];
                Change::Snapshot(Snapshot { counts, sessions: vec![sessions], kept, attempts_from })
            }
        ),
    ]
}

fn any_transaction(bans: Vec<Ban>) -> impl Strategy<Value = Transaction> {
    let checkpoints = prop::collection::vec((0u64..9, prop::sample::select(vec!["local", "web"])), 0..3);
    (checkpoints, prop::collection::vec(any_change(bans), 0..6)).prop_map(|(checkpoints, mut changes)| {
        while let Some(early) = (0..changes.len()).find(|at| is_early(&changes[*at], &changes[at + 1..])) {
            changes.remove(early);
        }
        let checkpoints =
            checkpoints.into_iter().map(|(n, source)| Checkpoint { source: source.into(), ..checkpoint(n) }).collect();
        Transaction { checkpoints, changes }
    })
}

/// Does it stand before what it follows from? No caller can know that order.
fn is_early(change: &Change, later: &[Change]) -> bool {
    later.iter().any(|later| match (change, later) {
        (Change::Ended { key, .. } | Change::Announced(key, Moment::Begun), Change::Begun(ban)) => *key == Key::of(ban),
        (Change::Announced(key, Moment::Ended), Change::Begun(ban)) => *key.place() == ban.place,
        (Change::Announced(told, Moment::Ended), Change::Ended { key, .. }) => told == key,
        (Change::Resumed(ended), Change::Paused(pause)) => (&ended.jail, ended.since) == (&pause.jail, pause.since),
        _ => false,
    })
}

fn any_story() -> impl Strategy<Value = Vec<(Transaction, u8)>> {
    prop::collection::vec(any_ban(), 1..8)
        .prop_flat_map(|bans| prop::collection::vec((any_transaction(bans), 0u8..8), 1..12))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each transaction is followed by the same one again, by a new start, or by nothing.
    #[test]
    fn the_file_says_what_a_plain_list_says(story in any_story(), now in 0u64..60) {
        let dir = tempdir().unwrap();
        let (mut store, _) = Store::open(dir.path(), at(0)).unwrap();
        let mut model = Model::default();
        for (transaction, then) in story {
            store.commit(&transaction, if then & 4 == 0 { Durability::Entries } else { Durability::Command }).unwrap();
            model.apply(&transaction);
            match then & 3 {
                1 => store.commit(&transaction, Durability::Entries).unwrap(),
                2 => {
                    drop(store);
                    store = Store::open(dir.path(), at(0)).unwrap().0;
                }
                _ => {}
            }
        }
        for place in model.places() {
            prop_assert_eq!(store.history(place.subject, 1_000).unwrap(), model.history(place.subject));
        }
        prop_assert_eq!(store.beginnings(at(9)).unwrap(), model.beginnings(at(9)));
        prop_assert_eq!(Store::read_bans(dir.path(), at(now)).unwrap(), model.restored(at(now)).bans);
        store.close().unwrap();
        let (_, restored) = Store::open(dir.path(), at(now)).unwrap();
        prop_assert_eq!(sorted(restored), sorted(model.restored(at(now))));
    }
}

#[test]
fn what_is_purged_is_what_was_over() {
    let mut store = Store::in_memory().unwrap();
    let mut transaction = Transaction::default();
    for n in 1..=5_000 {
        transaction.begin(Ban { until: at(n + 10), ..nth_ban(n) });
    }
    let permanent = Ban { place: place("manual", "198.51.100.1"), until: Stamp::NEVER, ..nth_ban(1) };
    transaction.begin(permanent.clone());
    transaction.count_from(permanent.place.clone(), at(9));
    store.commit(&transaction, Durability::Entries).unwrap();
    let mut purged = 0;
    loop {
        match store.purge(at(4_011)).unwrap() {
            0 => break,
            some => purged += some,
        }
    }
    assert_eq!(purged, 4_000 + 1);
    let left = store.beginnings(Stamp::EPOCH).unwrap();
    assert_eq!(left.len(), 1_001);
    assert!(left.contains(&(permanent.place, permanent.since)));
}

#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path(), at(0)).unwrap();
    store.commit(&nth(1), Durability::Command).unwrap();
    let mut names = Vec::new();
    for file in dir.path().read_dir().unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.lock"]);
}

#[test]
fn windows_survive_in_a_snapshot() {
    let dir = tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path(), at(0)).unwrap();
    let failures = [1, 2].map(|seqnum| Failure { stamp: at(seqnum), entry: EntryRef { seqnum_id: 1, seqnum } });
    let subject = place("sshd", "192.0.2.1").subject;
    let mut windows = WindowsWriter::default();
    windows.add(subject, &failures);
    let counts =
        Counts { jail: JailName::manual(), maxretry: 5, findtime: Duration::from_secs(60), windows: windows.finish() };
    let sessions = Sessions { source: "local".into(), cursor: checkpoint(2).cursor, open: vec![1, 2] };
    let (counts, sessions) = (vec![(counts, u64::MAX)], vec![sessions]);
    let snapshot = Snapshot { counts, sessions, ..Snapshot::default() };
    let transaction = Transaction { checkpoints: vec![], changes: vec![Change::Snapshot(snapshot.clone())] };
    store.commit(&transaction, Durability::Entries).unwrap();
    drop(store);
    let (_, restored) = Store::open(dir.path(), at(0)).unwrap();
    assert_eq!(decode_windows(&restored.snapshot.counts[0].0.windows), Ok(vec![(subject, failures.to_vec())]));
    assert_eq!(restored.snapshot, snapshot);
}

#[tokio::test(flavor = "current_thread")]
async fn the_thread_serves_in_order_until_it_is_closed() {
    let handle = Ledger::spawn(Store::in_memory().unwrap()).unwrap();
    assert!(handle.alive().await);
    let kept = Arc::new(nth(2));
    handle.commit(nth(1), Durability::Entries).await.unwrap();
    handle.commit(Arc::clone(&kept), Durability::Command).await.unwrap();
    handle.commit(kept, Durability::Command).await.unwrap();
    let history = handle.history(nth_ban(2).place.subject, 9).await.unwrap();
    assert_eq!(history.iter().map(|past| &past.ban).collect::<Vec<_>>(), [&nth_ban(2)]);
    assert_eq!(handle.purge(at(10)).await.unwrap(), 2, "the two rows of counted_from");
    let other = handle.clone();
    handle.close().await.unwrap();
    assert!(!other.alive().await);
    assert!(matches!(other.commit(nth(3), Durability::Entries).await, Err(LedgerError::Gone)));
}
