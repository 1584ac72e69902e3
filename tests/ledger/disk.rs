//! Disks that are full or read-only, and what reaches the disk before a commit returns.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use banish::ledger::{Durability, LedgerError, OpenError, Store};
use tempfile::tempdir;

use super::kill::{DIR, child};
use super::model::{Model, sorted};
use super::{at, nth};

/// Runs a child in a mount namespace of its own after `mounts`, in which `$DIR` is its directory.
fn in_own_mounts(mounts: &str, part: &str, dir: &Path) {
    let probe = Command::new("unshare").args(["--mount", "--propagation", "private", "true"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: no mount namespace of our own (not root, or no unshare)");
        return;
    }
    let plain = child(part, dir);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec"]).arg(format!("{mounts}; exec \"$@\"")).arg("sh");
    command.arg(plain.get_program()).args(plain.get_args()).env(DIR, dir).env("DIR", dir);
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_full_disk_refuses_a_commit_and_later_takes_it() {
    let dir = tempdir().unwrap();
    in_own_mounts("mount -t tmpfs -o size=768k none \"$DIR\"", "disk::fill_the_disk", dir.path());
}

#[test]
#[ignore = "a part of a_full_disk_refuses_a_commit_and_later_takes_it"]
fn fill_the_disk() {
    let dir = std::env::var_os(DIR).expect("run by its parent");
    let dir = Path::new(&dir);
    fs::write(dir.join("ballast"), vec![0; 256 * 1024]).unwrap();
    let (mut store, _) = Store::open(dir, at(0)).unwrap();
    let mut model = Model::default();
    let mut n = 0;
    let error = loop {
        match store.commit(&nth(n + 1), Durability::Entries) {
            Ok(()) => model.apply(&nth(n + 1)),
            Err(error) => break error,
        }
        n += 1;
    };
    assert!(matches!(error, LedgerError::Full(_)), "{error:?}");
    assert!(n > 10);
    assert_eq!(Store::read_bans(dir, at(0)).unwrap(), model.restored(at(0)).bans, "what was committed is there");
    assert!(store.commit(&nth(n + 1), Durability::Command).is_err());
    assert!(store.history(super::nth_ban(n).place.subject, 9).is_ok(), "it still answers");

    fs::remove_file(dir.join("ballast")).unwrap();
    store.commit(&nth(n + 1), Durability::Command).unwrap();
    model.apply(&nth(n + 1));
    drop(store);
    let (_, restored) = Store::open(dir, at(0)).unwrap();
    assert_eq!(sorted(restored), sorted(model.restored(at(0))));
}

#[test]
fn no_room_for_a_first_ledger_leaves_nothing_behind() {
    let dir = tempdir().unwrap();
    in_own_mounts("mount -t tmpfs -o size=16k none \"$DIR\"", "disk::begin_without_room", dir.path());
}

#[test]
#[ignore = "a part of no_room_for_a_first_ledger_leaves_nothing_behind"]
fn begin_without_room() {
    let dir = std::env::var_os(DIR).expect("run by its parent");
    let opened = Store::open(Path::new(&dir), at(0)).map(drop);
    assert!(matches!(opened, Err(OpenError::Sqlite { .. })), "{opened:?}");
    let left: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["ledger.lock"]);
}

#[test]
fn a_read_only_directory_is_called_so() {
    // Stopped; killed; and the index of the log, which nobody syncs, did not outlive the machine.
    for (stopped, index) in [(true, false), (false, true), (false, false)] {
        let made = tempdir().unwrap();
        let (mut store, _) = Store::open(made.path(), at(0)).unwrap();
        store.commit(&nth(1), Durability::Entries).unwrap();
        let dir = tempdir().unwrap();
        let left: &[&str] = match (stopped, index) {
            (true, _) => {
                store.close().unwrap();
                &["ledger.db", "ledger.lock"]
            }
            (false, true) => &["ledger.db", "ledger.lock", "ledger.db-wal", "ledger.db-shm"],
            (false, false) => &["ledger.db", "ledger.lock", "ledger.db-wal"],
        };
        for name in left {
            fs::copy(made.path().join(name), dir.path().join(name)).unwrap();
        }
        let mounts = "mount --bind \"$DIR\" \"$DIR\"; mount -o remount,ro,bind \"$DIR\"";
        in_own_mounts(mounts, "disk::open_read_only", dir.path());
    }
}

#[test]
#[ignore = "a part of a_read_only_directory_is_called_so"]
fn open_read_only() {
    let dir = std::env::var_os(DIR).expect("run by its parent");
    let opened = Store::open(Path::new(&dir), at(0)).map(drop);
    assert!(matches!(opened, Err(OpenError::ReadOnly(_))), "{opened:?}");
    let mut model = Model::default();
    model.apply(&nth(1));
    let dir = Path::new(&dir);
    assert_eq!(Store::read_bans(dir, at(0)).unwrap(), model.restored(at(0)).bans);
    assert_eq!(sorted(Store::read(dir, at(0)).unwrap()), sorted(model.restored(at(0))));
}

#[test]
fn a_full_disk_lets_a_log_be_read_whose_index_is_gone() {
    let made = tempdir().unwrap();
    let (mut store, _) = Store::open(made.path(), at(0)).unwrap();
    store.commit(&nth(1), Durability::Entries).unwrap();
    let mounts = "mount -t tmpfs -o size=768k none \"$DIR\"; cp \"$MADE\"/ledger.db* \"$DIR\"; rm \"$DIR\"/*-shm";
    let mounts = mounts.replace("$MADE", made.path().to_str().unwrap());
    in_own_mounts(&mounts, "disk::read_without_room", tempdir().unwrap().path());
}

#[test]
#[ignore = "a part of a_full_disk_lets_a_log_be_read_whose_index_is_gone"]
fn read_without_room() {
    let dir = std::env::var_os(DIR).expect("run by its parent");
    let dir = Path::new(&dir);
    let mut ballast = fs::File::create(dir.join("ballast")).unwrap();
    for size in [65_536, 4_096, 512, 1] {
        while ballast.write_all(&vec![0; size]).is_ok() {}
    }
    let before = fs::read(dir.join("ledger.db-wal")).unwrap();
    let mut model = Model::default();
    model.apply(&nth(1));
    assert!(Store::open(dir, at(0)).is_err());
    assert_eq!(sorted(Store::read(dir, at(0)).unwrap()), sorted(model.restored(at(0))));
    assert!(fs::read(dir.join("ledger.db-wal")).unwrap() == before);
}

#[test]
fn a_command_is_synced_before_its_commit_returns_and_entries_do_not_wait() {
    let dir = tempdir().unwrap();
    let trace = dir.path().join("trace");
    let plain = child("disk::commit_between_marks", dir.path());
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=write,fsync,fdatasync,sync_file_range", "-o"]).arg(&trace);
    let run = strace.arg(plain.get_program()).args(plain.get_args()).env(DIR, dir.path()).output();
    let Ok(text) = fs::read_to_string(&trace) else {
        eprintln!("skipped: no strace, or it may not trace: {run:?}");
        return;
    };
    let mark = |name: &str| text.find(name).unwrap_or_else(|| panic!("no {name} in {text}"));
    let syncs = |from: &str, to: &str| text[mark(from)..mark(to)].matches("sync(").count();
    assert_eq!(syncs("mark-entries", "mark-command"), 0, "{text}");
    assert!(syncs("mark-command", "mark-end") >= 1, "{text}");
}

#[test]
#[ignore = "a part of a_command_is_synced_before_its_commit_returns_and_entries_do_not_wait"]
fn commit_between_marks() {
    let dir = std::env::var_os(DIR).expect("run by its parent");
    let (mut store, _) = Store::open(Path::new(&dir), at(0)).unwrap();
    // A new log's header is synced with its first commit.
    store.commit(&nth(1), Durability::Entries).unwrap();
    println!("mark-entries");
    (2..=9).for_each(|n| store.commit(&nth(n), Durability::Entries).unwrap());
    println!("mark-command");
    store.commit(&nth(10), Durability::Command).unwrap();
    println!("mark-end");
}
