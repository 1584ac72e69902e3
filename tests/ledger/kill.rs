//! kill -9 at any point: the file holds the cursor `n` and exactly what was decided up to `n`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use banish::ledger::{Durability, Restored, Store};
use tempfile::tempdir;

use super::model::{Model, sorted};
use super::{at, nth};

/// Where a child of this test binary keeps its ledger.
pub const DIR: &str = "LEDGER_TEST_DIR";

/// This test binary again, running only the part of a test that is meant for a child.
pub fn child(part: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", part, "--ignored", "--nocapture", "--test-threads=1"]).env(DIR, dir);
    command
}

/// The commit at which a ledger stands.
pub fn last(restored: &Restored) -> u64 {
    restored.checkpoints.first().map_or(0, |checkpoint| checkpoint.cursor.entry.seqnum)
}

#[test]
#[ignore = "a part of a_transaction_is_all_or_nothing_under_kill"]
fn commit_for_ever() {
    let dir = std::env::var_os(DIR).expect("run by its parent");
    let (mut store, restored) = Store::open(Path::new(&dir), at(0)).unwrap();
    let mut n = last(&restored);
    if n > 0 {
        // The loop that was killed may not have heard that its last commit succeeded.
        store.commit(&nth(n), Durability::Entries).unwrap();
    }
    loop {
        n += 1;
        let durability = if n.is_multiple_of(16) { Durability::Command } else { Durability::Entries };
        store.commit(&nth(n), durability).unwrap();
        writeln!(std::io::stdout(), "committed {n}").unwrap();
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_transaction_is_all_or_nothing_under_kill() {
    let dir = tempdir().unwrap();
    let mut model = Model::default();
    let mut known = 0;
    for round in 0u64..24 {
        let mut child = Killed(child("kill::commit_for_ever", dir.path()).stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Enough for a few checkpoints of the write-ahead log, and never the same moment within a commit.
        let wanted = [1, 40, 300][(round % 3) as usize];
        let mut heard = lines.by_ref().filter_map(|line| line.strip_prefix("committed ")?.parse::<u64>().ok());
        let mut told = heard.by_ref().take(wanted).last().expect("the child commits");
        std::thread::sleep(Duration::from_micros(round * 97 % 1_500));
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        told = heard.last().unwrap_or(told);

        let (store, restored) = Store::open(dir.path(), at(0)).unwrap();
        let n = last(&restored);
        assert!(n >= told, "{told} was committed, {n} is there");
        for n in known + 1..=n {
            model.apply(&nth(n));
        }
        known = n;
        assert_eq!(sorted(restored), sorted(model.restored(at(0))), "after {n}");
        drop(store);
    }
}
