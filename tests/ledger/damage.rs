//! Files that are damaged, newer, older or in use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use banish::engine::ban::End;
use banish::engine::time::Stamp;
use banish::ledger::{Durability, FILE, Key, LedgerError, OpenError, Past, Restored, Store};
use rusqlite::Connection;
use tempfile::{TempDir, tempdir};

use super::model::Model;
use super::{at, nth, nth_ban, place};

/// 2026-07-01 12:00:00 UTC.
const NOW: Stamp = Stamp::from_usec(1_782_907_200_000_000);

fn with_bans(count: u64) -> TempDir {
    let dir = tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path(), NOW).unwrap();
    (1..=count).for_each(|n| store.commit(&nth(n), Durability::Entries).unwrap());
    store.close().unwrap();
    dir
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join(FILE)
}

#[test]
fn a_damaged_file_is_kept_aside_and_nothing_is_overwritten() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 6] = [
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("cut within a page", |bytes| bytes.truncate(bytes.len() - 1_000)),
        ("cut within the header", |bytes| bytes.truncate(10)),
        ("empty", Vec::clear),
        ("garbage", |bytes| bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31 % 251) as u8)),
        ("garbage behind the header", |bytes| bytes[4_096..].iter_mut().for_each(|byte| *byte ^= 0x5a)),
    ];
    for (name, damage) in damages {
        let dir = with_bans(200);
        let mut asides = Vec::new();
        for round in 0..2 {
            let mut bytes = fs::read(file(&dir)).unwrap();
            damage(&mut bytes);
            fs::write(file(&dir), &bytes).unwrap();
            let (mut store, restored) = Store::open(dir.path(), NOW).unwrap();
            let aside = restored.kept_aside.clone().unwrap_or_else(|| panic!("{name}, round {round}: taken for sound"));
            assert_eq!((restored.bans, restored.checkpoints), (vec![], vec![]), "{name}");
            let past = restored.salvaged.past;
            // All but those of the last page, or too little to be believed.
            assert_eq!(past > 150, name == "cut within a page", "{name}: {past}");
            assert!(past <= 200, "{name}: {past}");
            asides.push((aside, bytes));
            (1..=200).for_each(|n| store.commit(&nth(n), Durability::Entries).unwrap());
            store.close().unwrap();
        }
        let names: Vec<_> = asides.iter().map(|(aside, _)| aside.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["ledger.db.damaged-20260701T120000Z", "ledger.db.damaged-20260701T120000Z-2"]);
        for (aside, bytes) in &asides {
            assert!(fs::read(aside).unwrap() == *bytes, "{name}: {aside:?} is as it was found");
        }
        let (_, restored) = Store::open(dir.path(), at(0)).unwrap();
        assert_eq!((restored.kept_aside, restored.bans.is_empty()), (None, false), "{name}");
    }
}

#[test]
fn a_damaged_file_takes_its_log_along() {
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    for damaged in ["", "garbage"] {
        let dir = with_bans(3);
        fs::write(file(&dir), damaged).unwrap();
        fs::write(log(&file(&dir)), b"the log").unwrap();
        assert!(Store::read_bans(dir.path(), NOW).is_err());
        let (_, restored) = Store::open(dir.path(), NOW).unwrap();
        assert_eq!(fs::read(log(&restored.kept_aside.unwrap())).unwrap(), b"the log", "beside {damaged:?}");
    }
}

/// A row is believed where the rest of the file agrees: whatever is damaged, nobody is named who was not banned, nobody is
/// in force who was lifted, and the file stays as it is.
#[test]
fn what_a_damaged_file_still_says_is_what_was_so() {
    let mut log = Model::default();
    (1..=600).for_each(|n| log.apply(&nth(n)));
    let known: BTreeMap<Key, Past> = log.pasts().map(|past| (Key::of(&past.ban), past)).collect();
    let sound = with_bans(600);
    let sound = fs::read(file(&sound)).unwrap();
    let (mut past, mut in_force, mut damaged) = (0, 0, 0);
    let mut random = 7_u64;
    let mut below = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % bound
    };
    for round in 0..60 {
        let mut bytes = sound.clone();
        let (page, other) = (1 + below(bytes.len() / 4_096 - 1), 1 + below(bytes.len() / 4_096 - 1));
        match round % 5 {
            0 => bytes[page * 4_096..][..512].fill(0),
            1 => bytes.copy_within(other * 4_096..(other + 1) * 4_096, page * 4_096),
            2 => bytes.truncate(page * 4_096),
            3 => (0..8).for_each(|_| bytes[page * 4_096 + below(4_096)] ^= 1 << below(8)),
            _ => (0..40).for_each(|_| bytes[4_096 * page..][below(4_096)] = below(256).try_into().unwrap()),
        }
        let dir = tempdir().unwrap();
        fs::write(file(&dir), &bytes).unwrap();
        let (store, restored) = Store::open(dir.path(), at(0)).unwrap();
        let Some(aside) = restored.kept_aside else { continue };
        damaged += 1;
        assert!(fs::read(&aside).unwrap() == bytes, "round {round}");
        assert_eq!(restored.bans, [], "round {round}: only the kernel knows what is in force");
        for ban in &restored.salvaged.bans {
            assert!(known[&Key::of(ban)].ended.is_none(), "round {round}: {ban:?}");
        }
        let mut found = 0;
        for subject in known.keys().map(|key| key.place().subject).collect::<BTreeSet<_>>() {
            for one in store.history(subject, 99).unwrap() {
                assert!(known[&Key::of(&one.ban)].ended.is_some(), "round {round}: {one:?}");
                found += 1;
            }
        }
        assert_eq!(restored.salvaged.past, found, "round {round}: there is nothing else");
        (past, in_force) = (past + found, in_force + restored.salvaged.bans.len());
    }
    println!("of {damaged} damaged files: {past} bans of the past, {in_force} in force");
    // 467 and 133 are in the sound file.
    assert!(damaged > 40 && past > 250 * damaged && in_force > 70 * damaged);
}

/// A disk that lost a write: the page of the bans is that of before one was lifted, its indices know better.
#[test]
fn a_page_of_earlier_revives_nobody() {
    let dir = with_bans(2);
    let earlier = fs::read(file(&dir)).unwrap();
    let (mut store, _) = Store::open(dir.path(), at(0)).unwrap();
    store.commit(&nth(3), Durability::Entries).unwrap();
    store.close().unwrap();
    let page_of = |table: &str| {
        let ledger = Connection::open(file(&dir)).unwrap();
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let root: i64 = ledger.query_row(root, [table], |row| row.get(0)).unwrap();
        let start = usize::try_from(root - 1).unwrap() * 4_096;
        start..start + 4_096
    };
    let mut bytes = fs::read(file(&dir)).unwrap();
    bytes[page_of("bans")].copy_from_slice(&earlier[page_of("bans")]);
    bytes[page_of("totals")].fill(0);
    fs::write(file(&dir), &bytes).unwrap();
    let (_, restored) = Store::open(dir.path(), at(0)).unwrap();
    assert!(restored.kept_aside.is_some());
    assert_eq!(restored.salvaged.bans, [nth_ban(1)], "the second was lifted when the third came");
}

#[test]
fn a_log_without_its_file_is_kept_aside_and_not_taken_for_a_new_one_s() {
    let made = tempdir().unwrap();
    let (mut store, _) = Store::open(made.path(), NOW).unwrap();
    (1..=9).for_each(|n| store.commit(&nth(n), Durability::Entries).unwrap());
    let dir = tempdir().unwrap();
    let log = "ledger.db-wal";
    fs::copy(made.path().join(log), dir.path().join(log)).unwrap();
    let (_, restored) = Store::open(dir.path(), at(0)).unwrap();
    let aside = restored.kept_aside.clone().expect("it is there");
    assert_eq!(restored, Restored { kept_aside: Some(aside.clone()), ..Restored::default() });
    let kept = fs::read(format!("{}-wal", aside.display())).unwrap();
    assert!(kept == fs::read(made.path().join(log)).unwrap());
}

#[test]
fn a_deleted_file_is_written_anew_with_all_that_it_had() {
    let root = tempdir().unwrap();
    let dir = root.path().join("state");
    fs::create_dir(&dir).unwrap();
    let (mut store, _) = Store::open(&dir, NOW).unwrap();
    (1..=200).for_each(|n| store.commit(&nth(n), Durability::Entries).unwrap());
    let before = store.beginnings(at(0)).unwrap();
    assert!(store.commit(&nth(200), Durability::Command).is_ok() && before.len() == 200);

    // The log that is left is no part of the new file.
    fs::remove_file(dir.join(FILE)).unwrap();
    assert!(matches!(store.commit(&nth(201), Durability::Command), Err(LedgerError::Lost(_))));
    store.reinstate(NOW).unwrap();
    store.commit(&nth(201), Durability::Command).unwrap();
    assert_eq!(store.beginnings(at(0)).unwrap()[..200], before);

    fs::remove_dir_all(&dir).unwrap();
    for _ in 0..2 {
        assert!(matches!(store.commit(&nth(202), Durability::Command), Err(LedgerError::Lost(_))));
        assert!(matches!(store.reinstate(NOW), Err(LedgerError::Lost(_))), "there is no directory");
    }
    fs::create_dir(&dir).unwrap();
    store.reinstate(NOW).unwrap();
    store.commit(&nth(202), Durability::Command).unwrap();
    assert!(matches!(Store::open(&dir, NOW).map(drop), Err(OpenError::Locked(_))), "it is one daemon's still");
    let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name != "ledger.db.new"), "{left:?}");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.join(FILE)).unwrap()) & 0o777, 0o600);
    store.close().unwrap();
    assert!(!dir.join("ledger.db-wal").exists(), "it was written back");
    let (store, restored) = Store::open(&dir, NOW).unwrap();
    assert_eq!((store.beginnings(at(0)).unwrap().len(), restored.kept_aside), (202, None));
}

#[test]
fn a_file_that_somebody_put_in_place_of_the_open_one_is_kept_aside() {
    let path = |dir: &TempDir, name: &str| dir.path().join(name);
    for their_log in [false, true] {
        let (dir, other) = (with_bans(3), with_bans(5));
        let (mut store, _) = Store::open(dir.path(), NOW).unwrap();
        store.commit(&nth(4), Durability::Entries).unwrap();
        fs::remove_file(file(&dir)).unwrap();
        fs::copy(file(&other), file(&dir)).unwrap();
        if their_log {
            fs::remove_file(path(&dir, "ledger.db-wal")).unwrap();
            fs::write(path(&dir, "ledger.db-wal"), "theirs").unwrap();
        }
        assert!(matches!(store.commit(&nth(5), Durability::Command), Err(LedgerError::Lost(_))));
        assert_eq!(store.reinstate(NOW).unwrap(), Some(path(&dir, "ledger.db.replaced-20260701T120000Z")));
        store.commit(&nth(5), Durability::Command).unwrap();
        assert!(
            fs::read(path(&dir, "ledger.db.replaced-20260701T120000Z")).unwrap() == fs::read(file(&other)).unwrap()
        );
        let log = fs::read(path(&dir, "ledger.db.replaced-20260701T120000Z-wal")).ok();
        assert_eq!(log, their_log.then(|| b"theirs".to_vec()), "our own log is no part of it");
        assert_eq!(store.beginnings(at(0)).unwrap().len(), 5);
        drop(store);
        assert_eq!(Store::open(dir.path(), at(0)).unwrap().1.bans.len(), 4, "one of the five was lifted");
    }
}

#[test]
fn tables_of_somebody_else_are_kept_aside() {
    let dir = tempdir().unwrap();
    Connection::open(file(&dir)).unwrap().execute_batch("CREATE TABLE mine (x); PRAGMA user_version = 1").unwrap();
    let (_, restored) = Store::open(dir.path(), NOW).unwrap();
    let mine = Connection::open(restored.kept_aside.unwrap()).unwrap();
    assert_eq!(mine.query_row("SELECT count(*) FROM mine", [], |row| row.get::<_, i64>(0)), Ok(0));
}

#[test]
fn a_row_that_makes_no_sense_does_not_stop_a_start() {
    let dir = with_bans(3);
    let change = "UPDATE bans SET subject = 'x' WHERE id = 1; UPDATE bans SET evidence = 'i=1' WHERE id = 2;
                  UPDATE checkpoints SET cursor = x'ff'";
    Connection::open(file(&dir)).unwrap().execute_batch(change).unwrap();
    let (_, restored) = Store::open(dir.path(), at(0)).unwrap();
    assert_eq!(restored.bans, [nth_ban(3)]);
    assert!(restored.unreadable >= 3);
    assert_eq!((restored.checkpoints, restored.kept_aside), (vec![], None));
}

#[test]
fn a_newer_file_is_refused_and_stays_as_it_is() {
    let made = with_bans(3);
    let writer = Connection::open(file(&made)).unwrap();
    writer.pragma_update(None, "user_version", 99).unwrap();
    // A copy in the middle of things: the new version stands in the log alone.
    let dir = tempdir().unwrap();
    let names = ["ledger.db", "ledger.db-wal"];
    for name in names {
        fs::copy(made.path().join(name), dir.path().join(name)).unwrap();
    }
    let bytes = |name: &&str| fs::read(dir.path().join(name)).unwrap();
    let before: Vec<_> = names.iter().map(bytes).collect();
    for refused in [Store::open(dir.path(), NOW).map(drop), Store::read_bans(dir.path(), NOW).map(drop)] {
        assert!(matches!(refused, Err(OpenError::Newer { found: 99, .. })), "{refused:?}");
        assert!(names.iter().map(bytes).collect::<Vec<_>>() == before);
    }
}

#[test]
fn a_second_daemon_is_refused_and_readers_are_not() {
    let dir = tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path(), NOW).unwrap();
    store.commit(&nth(1), Durability::Entries).unwrap();
    let second = Store::open(dir.path(), NOW).map(drop).unwrap_err();
    assert!(matches!(second, OpenError::Locked(_)) && second.to_string().contains("another banishd"), "{second}");
    assert_eq!(Store::read_bans(dir.path(), at(0)).unwrap(), [nth_ban(1)]);
    match Command::new("sqlite3").arg("-readonly").arg(file(&dir)).arg("SELECT subject, decided FROM bans").output() {
        Ok(told) => {
            let expected = "192.0.2.1|s=0000000000000000000000000000000a;i=1\n";
            assert_eq!(String::from_utf8(told.stdout).unwrap(), expected);
        }
        Err(error) => eprintln!("not asked with sqlite3: {error}"),
    }
    store.commit(&nth(2), Durability::Entries).unwrap();
    drop(store);
    assert_eq!(Store::open(dir.path(), at(0)).unwrap().1.bans.len(), 2);
}

#[test]
fn a_shell_left_in_the_middle_of_a_write_delays_a_commit_and_no_more() {
    let dir = with_bans(1);
    let (mut store, _) = Store::open(dir.path(), NOW).unwrap();
    let shell = Connection::open(file(&dir)).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.commit(&nth(2), Durability::Entries);
    assert!(matches!(refused, Err(LedgerError::Busy(_))), "{refused:?}");
    shell.execute_batch("ROLLBACK").unwrap();
    store.commit(&nth(2), Durability::Entries).unwrap();
}

#[test]
fn without_a_ledger_no_bans_are_read_and_without_a_directory_none_is_made() {
    let dir = tempdir().unwrap();
    assert_eq!(Store::read_bans(dir.path(), NOW).unwrap(), []);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    let missing = dir.path().join("missing");
    assert!(matches!(Store::open(&missing, NOW), Err(OpenError::File { .. })));
}

#[test]
fn a_file_of_version_1_is_brought_up_to_date() {
    let dir = tempdir().unwrap();
    Connection::open(file(&dir)).unwrap().execute_batch(VERSION_1).unwrap();
    let before = Store::read_bans(dir.path(), at(0)).unwrap();
    let (mut store, restored) = Store::open(dir.path(), at(0)).unwrap();
    assert_eq!(restored.bans, [nth_ban(2)]);
    assert_eq!(before, restored.bans);
    assert_eq!(restored.lifted.len(), 1);
    assert_eq!(restored.lifted[0].ended, Some((at(9), End::Operator { uid: 0 })));
    assert_eq!(restored.counted_from, [(place("sshd", "192.0.2.2"), at(2))]);
    assert_eq!(restored.checkpoints[0].stamp, at(2));
    store.commit(&nth(3), Durability::Entries).unwrap();
    drop(store);
    let version = |pragma| {
        let db = Connection::open(file(&dir)).unwrap();
        db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((version("user_version"), version("application_id")), (3, 0x626e_7368));
}

/// As version 1 wrote it.
const VERSION_1: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE checkpoints (
        source TEXT PRIMARY KEY, cursor TEXT NOT NULL, stamp INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE bans (
        id INTEGER PRIMARY KEY,
        jail TEXT NOT NULL, subject TEXT NOT NULL, decided TEXT NOT NULL,
        since INTEGER NOT NULL, until INTEGER, failures INTEGER NOT NULL,
        cause TEXT NOT NULL, uid INTEGER, reason TEXT, evidence TEXT,
        ended_at INTEGER, ended_how TEXT, ended_uid INTEGER,
        unannounced INTEGER NOT NULL DEFAULT 1
    );
    CREATE UNIQUE INDEX bans_by_decision ON bans (subject, jail, decided);
    CREATE UNIQUE INDEX bans_in_force ON bans (subject, jail) WHERE ended_at IS NULL;
    CREATE TABLE counted_from (
        jail TEXT NOT NULL, subject TEXT NOT NULL, stamp INTEGER NOT NULL, PRIMARY KEY (jail, subject)
    ) WITHOUT ROWID;
    CREATE TABLE totals (jail TEXT PRIMARY KEY, bans INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO checkpoints VALUES ('local', 's=0000000000000000000000000000000a;i=2;b=1;m=2;t=2;x=5', 2);
    INSERT INTO bans VALUES (1, 'manual', '198.51.100.0/24', 'operator:5', 5, NULL, 0, 'operator', 0, 'why', '',
        9, 'operator', 0, 0);
    INSERT INTO bans VALUES (2, 'sshd', '192.0.2.2', 's=0000000000000000000000000000000a;i=2', 2, 1000002, 5,
        'failures', NULL, NULL, 's=0000000000000000000000000000000a;i=0 i=1 i=2', NULL, NULL, NULL, 0);
    INSERT INTO counted_from VALUES ('sshd', '192.0.2.2', 2);
    INSERT INTO totals VALUES ('manual', 1), ('sshd', 1);
    PRAGMA application_id = 0x626e7368;
    PRAGMA user_version = 1;";
