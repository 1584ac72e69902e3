//! A ledger that cannot be written, read or found: banning goes on, in clear words; nothing is overwritten, and once the
//! ledger can be written it gets all that it is owed.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use banish::bus::proxy::{ListedBan, ManagerProxy};
use banish::ledger::FILE;
use rusqlite::Connection as Database;
use zbus::Connection;
use zbus::proxy::CacheProperties;

use crate::outcome::{kernel_and_ledger_differ, remove_table};
use crate::world::{World, now, run, until};
use crate::{missing, sys};

const UNWRITABLE: &str = "the ledger cannot be written";

/// Runs a test with a network and mounts of its own, or says why not.
fn in_world(test: impl FnOnce(&World) + Send + 'static) {
    if let Some(why) = missing() {
        eprintln!("skipped: {why}");
        return;
    }
    let thread = std::thread::spawn(move || {
        sys::leave_network().expect("as before");
        sys::leave_mounts().expect("who may have the one may have the other");
        run("mount", &["--make-rprivate", "/"]);
        let world = World::new();
        test(&world);
        // A directory that something is mounted on cannot be removed.
        let unmount = || Command::new("umount").arg("--quiet").arg(world.path("state")).stderr(Stdio::null()).status();
        while unmount().is_ok_and(|status| status.success()) {}
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A running daemon and its caller; dropped, it is killed hard.
struct Daemon<'w> {
    world: &'w World,
    runtime: tokio::runtime::Runtime,
    client: Connection,
    process: Child,
}

impl<'w> Daemon<'w> {
    fn start(world: &'w World) -> Daemon<'w> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(world.bus.client());
        let mut daemon = Daemon { world, runtime, client, process: world.banishd("").spawn().unwrap() };
        until("it has caught up", || {
            assert!(daemon.process.try_wait().unwrap().is_none(), "it ended: {}", world.said());
            let behind = daemon.runtime.block_on(daemon.proxy().catching_up());
            behind.is_ok_and(|behind| !behind).then_some(())
        });
        daemon
    }

    fn proxy(&self) -> ManagerProxy<'static> {
        let built = ManagerProxy::builder(&self.client).cache_properties(CacheProperties::No).build();
        self.runtime.block_on(built).unwrap()
    }

    fn ban(&self, subject: &str) -> String {
        self.runtime.block_on(self.proxy().ban(subject, "", 0, "", false)).unwrap()
    }

    fn unban(&self, subject: &str) -> u32 {
        self.runtime.block_on(self.proxy().unban(subject, "")).unwrap()
    }

    /// A program tells of a failure; what came of it.
    fn told_of(&self, address: &str) -> String {
        let proxy = self.proxy();
        let told = async { proxy.get_jail("sshd").await.unwrap().attempt(address).await.unwrap() };
        self.runtime.block_on(told)
    }

    fn bans(&self) -> Vec<ListedBan> {
        self.runtime.block_on(self.proxy().list_bans("", "", 0)).unwrap()
    }

    /// Logs the failures that ban this host and waits for the ban; its state.
    fn attacked_by(&self, host: &str) -> String {
        self.world.log(&[("ssh", host, now()), ("ssh", host, now()), ("ssh", host, now())]);
        until("the ban", || self.bans().into_iter().find(|ban| ban.subject == host)).state
    }

    fn subjects(&self) -> Vec<String> {
        self.bans().into_iter().map(|ban| ban.subject).collect()
    }

    fn is_unwritable(&self) -> bool {
        self.runtime.block_on(self.proxy().check()).unwrap().iter().any(|finding| finding.text.contains(UNWRITABLE))
    }

    /// Waits until the ledger is written again and nothing is `unsaved` any more.
    fn recovers(&self) {
        until("the ledger is written again", || (!self.is_unwritable()).then_some(()));
        self.says("the ledger is written again, nothing is missing");
        let states: Vec<String> = self.bans().into_iter().map(|ban| ban.state).collect();
        assert!(states.iter().all(|state| state == "banned"), "{states:?}");
        self.is_saved();
    }

    /// The log may come a moment behind what it is about.
    fn says(&self, text: &str) {
        until(text, || self.world.said().contains(text).then_some(()));
    }

    fn is_saved(&self) {
        until("kernel and ledger are equal", || kernel_and_ledger_differ(self.world).is_none().then_some(()));
    }

    /// kill -9 and a reboot: what the ledger has is all there is.
    fn dies(self) -> &'w World {
        let world = self.world;
        drop(self);
        remove_table();
        world
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn mount_small(world: &World, size: &str) {
    run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "none", world.path("state").to_str().unwrap()]);
}

/// Writes until there is no room left.
fn fill(world: &World) {
    let mut ballast = std::fs::File::create(world.path("state/ballast")).unwrap();
    for size in [65_536, 4_096, 512, 1] {
        while ballast.write_all(&vec![0; size]).is_ok() {}
    }
}

fn make_room(world: &World) {
    std::fs::remove_file(world.path("state/ballast")).unwrap();
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_nothing() {
    in_world(|world| {
        mount_small(world, "2m");
        let daemon = Daemon::start(world);
        assert_eq!(daemon.attacked_by("192.0.2.1"), "banned");
        assert_eq!(daemon.ban("203.0.113.1"), "banned");
        fill(world);
        assert_eq!(daemon.ban("203.0.113.2"), "unsaved");
        daemon.says("cannot write the ledger: the disk is full");
        assert!(daemon.is_unwritable());
        assert_eq!(daemon.attacked_by("192.0.2.2"), "unsaved");
        assert_eq!(daemon.unban("203.0.113.1"), 1);
        assert_eq!(daemon.told_of("198.51.100.1"), "counted-unsaved");
        make_room(world);
        daemon.recovers();
        assert_eq!(daemon.told_of("198.51.100.1"), "counted");
        let world = daemon.dies();
        let daemon = Daemon::start(world);
        assert_eq!(daemon.subjects(), ["203.0.113.2", "192.0.2.1", "192.0.2.2"]);
        assert_eq!(daemon.told_of("198.51.100.1"), "banned", "the third, after two that are known");
    });
}

#[test]
fn a_disk_that_is_full_at_the_first_start_has_it_all_later() {
    in_world(|world| {
        mount_small(world, "2m");
        fill(world);
        let daemon = Daemon::start(world);
        assert!(daemon.is_unwritable());
        daemon.says("cannot write the ledger: cannot open");
        assert_eq!(daemon.ban("203.0.113.1"), "unsaved");
        assert_eq!(daemon.attacked_by("192.0.2.1"), "unsaved");
        make_room(world);
        daemon.recovers();
        assert_eq!(daemon.ban("203.0.113.2"), "banned");
        let world = daemon.dies();
        assert_eq!(Daemon::start(world).subjects(), ["203.0.113.1", "203.0.113.2", "192.0.2.1"]);
    });
}

#[test]
fn a_disk_that_is_full_at_a_later_start_lets_the_bans_be_read() {
    in_world(|world| {
        mount_small(world, "2m");
        let daemon = Daemon::start(world);
        assert_eq!((daemon.ban("203.0.113.1"), daemon.ban("203.0.113.2")), ("banned".into(), "banned".into()));
        assert_eq!(daemon.attacked_by("192.0.2.1"), "banned");
        stop(daemon);
        remove_table();
        fill(world);
        let daemon = Daemon::start(world);
        assert_eq!(daemon.subjects(), ["203.0.113.1", "203.0.113.2", "192.0.2.1"]);
        // Whoever stops it now leaves a debt, unless there is room by then.
        assert_eq!((daemon.unban("203.0.113.1"), daemon.unban("192.0.2.1")), (1, 1));
        make_room(world);
        stop(daemon);
        remove_table();
        let daemon = Daemon::start(world);
        assert_eq!(daemon.subjects(), ["203.0.113.2"], "what was lifted stays lifted");
        daemon.is_saved();
    });
}

/// What a daemon left before its file system became read-only.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Left {
    /// It was stopped: no log.
    Stopped,
    /// It was killed: the log, and the index of it.
    Killed,
    /// The machine died with it: nobody syncs the index.
    WithoutIndex,
}

#[test]
fn a_read_only_ledger_is_read_and_gets_its_due_when_it_can_be_written() {
    for left in [Left::Stopped, Left::Killed, Left::WithoutIndex] {
        in_world(move |world| {
            let state = world.path("state");
            let state = state.to_str().unwrap();
            let daemon = Daemon::start(world);
            assert_eq!(
                (daemon.ban("203.0.113.1"), daemon.attacked_by("192.0.2.1")),
                ("banned".into(), "banned".into())
            );
            assert_eq!((daemon.unban("192.0.2.1"), daemon.attacked_by("192.0.2.2")), (1, "banned".into()));
            if left == Left::Stopped {
                stop(daemon)
            } else {
                drop(daemon)
            }
            if left == Left::WithoutIndex {
                std::fs::remove_file(world.path("state/ledger.db-shm")).unwrap();
            }
            remove_table();
            run("mount", &["--bind", state, state]);
            run("mount", &["-o", "remount,ro,bind", state]);
            let before = files(&world.path("state"));
            let etc = world.path("etc");
            run(env!("CARGO_BIN_EXE_banishd"), &["--restore", "--config", etc.to_str().unwrap(), "--state", state]);
            let table = run("nft", &["list", "table", "inet", "banish"]);
            assert!(table.contains("203.0.113.1 ") && table.contains("192.0.2.2 "), "{left:?}: {table}");
            assert!(!table.contains("192.0.2.1 "), "{left:?}: {table}");
            remove_table();
            let daemon = Daemon::start(world);
            daemon.says("cannot be written: read-only");
            assert!(daemon.is_unwritable());
            // What was lifted before is not decided again from the same entries.
            assert_eq!(daemon.subjects(), ["203.0.113.1", "192.0.2.2"], "{left:?}");
            assert_eq!(daemon.attacked_by("192.0.2.3"), "unsaved");
            assert_eq!(daemon.ban("203.0.113.2"), "unsaved");
            assert_eq!(daemon.unban("203.0.113.1"), 1);
            assert_eq!(daemon.told_of("198.51.100.1"), "counted-unsaved");
            assert_eq!(files(&world.path("state")), before);
            run("mount", &["-o", "remount,rw,bind", state]);
            daemon.recovers();
            let world = daemon.dies();
            assert_eq!(Daemon::start(world).subjects(), ["203.0.113.2", "192.0.2.2", "192.0.2.3"]);
        });
    }
}

#[test]
fn a_ledger_that_is_deleted_is_written_anew_with_all_that_it_had() {
    let files: &[&str] = &["ledger.db"];
    let all = &["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.lock"];
    for gone in [files, all, &[]] {
        in_world(move |world| {
            let daemon = Daemon::start(world);
            assert_eq!(
                (daemon.ban("203.0.113.1"), daemon.attacked_by("192.0.2.1")),
                ("banned".into(), "banned".into())
            );
            assert_eq!((daemon.attacked_by("192.0.2.9"), daemon.unban("192.0.2.9")), ("banned".into(), 1));
            let before = rows(world);
            if gone.is_empty() {
                std::fs::remove_dir_all(world.path("state")).unwrap();
                assert_eq!(daemon.ban("203.0.113.2"), "unsaved");
                assert!(daemon.is_unwritable());
                assert_eq!(daemon.attacked_by("192.0.2.2"), "unsaved");
                std::fs::create_dir(world.path("state")).unwrap();
            } else {
                gone.iter().for_each(|name| std::fs::remove_file(world.path("state").join(name)).unwrap());
                assert_eq!(daemon.ban("203.0.113.2"), "banned", "its file is open still: nothing is in the way");
                assert_eq!(daemon.attacked_by("192.0.2.2"), "banned");
            }
            daemon.says("ledger.db is gone: somebody removed or replaced it");
            daemon.recovers();
            let after = rows(world);
            assert_eq!(after[..before.len()], before, "the past with its evidence");
            assert_eq!(after.len(), before.len() + 2);
            let world = daemon.dies();
            let daemon = Daemon::start(world);
            assert_eq!(daemon.subjects(), ["203.0.113.1", "203.0.113.2", "192.0.2.1", "192.0.2.2"]);
            assert!(!world.said().contains("damaged"), "{}", world.said());
        });
    }
}

/// Who was banned, by what entries, and how that ended.
fn rows(world: &World) -> Vec<(String, String, Option<String>)> {
    let ledger = Database::open(world.path("state").join(FILE)).unwrap();
    let mut asked =
        ledger.prepare("SELECT subject, decided || ' ' || evidence, ended_how FROM bans ORDER BY id").unwrap();
    let rows = asked.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn a_ledger_that_is_deleted_and_unreadable_is_made_anew_from_what_is_known() {
    in_world(|world| {
        stop(Daemon::start(world));
        let path = world.path("state").join(FILE);
        // More than is held in memory.
        let past = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
                    INSERT INTO bans (jail, subject, decided, since, failures, cause, ended_at, ended_how, unannounced,
                        reason) SELECT 'sshd', '198.51.100.1', n, 1, 3, 'adopted', 2, 'expired', 0, zeroblob(2000) FROM n";
        Database::open(&path).unwrap().execute_batch(past).unwrap();
        let daemon = Daemon::start(world);
        assert_eq!((daemon.ban("203.0.113.1"), daemon.attacked_by("192.0.2.1")), ("banned".into(), "banned".into()));
        daemon.is_saved();
        // Removed first: what is still written then finds the file gone, not damaged.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(4_096).unwrap();
        assert_eq!(daemon.ban("203.0.113.2"), "unsaved");
        daemon.says("ledger.db is gone: somebody removed or replaced it");
        daemon.says("cannot write the ledger: the ledger");
        daemon.recovers();
        let world = daemon.dies();
        assert_eq!(Daemon::start(world).subjects(), ["203.0.113.1", "203.0.113.2", "192.0.2.1"]);
    });
}

#[test]
fn a_ledger_that_is_replaced_is_written_anew_and_revives_nobody() {
    in_world(|world| {
        let daemon = Daemon::start(world);
        assert_eq!(daemon.attacked_by("192.0.2.9"), "banned");
        stop(daemon);
        let state = world.path("state");
        std::fs::copy(state.join(FILE), state.join("earlier")).unwrap();
        let daemon = Daemon::start(world);
        assert_eq!((daemon.ban("203.0.113.1"), daemon.attacked_by("192.0.2.1")), ("banned".into(), "banned".into()));
        assert_eq!(daemon.unban("192.0.2.9"), 1);
        let before = rows(world);
        std::fs::rename(state.join("earlier"), state.join(FILE)).unwrap();
        assert_eq!(daemon.ban("203.0.113.2"), "banned");
        daemon.says("another file is in the ledger's place; it is kept as");
        daemon.recovers();
        assert_eq!(rows(world)[..before.len()], before);
        let world = daemon.dies();
        let daemon = Daemon::start(world);
        assert_eq!(daemon.subjects(), ["203.0.113.1", "203.0.113.2", "192.0.2.1"]);
        assert!(files(&state).iter().any(|(name, _)| name.contains(".replaced-")));
    });
}

#[test]
fn a_ledger_of_a_later_version_is_left_as_it_is() {
    in_world(|world| {
        let daemon = Daemon::start(world);
        assert_eq!(daemon.attacked_by("192.0.2.1"), "banned");
        stop(daemon);
        let path = world.path("state").join(FILE);
        Database::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let before = std::fs::read(&path).unwrap();
        let daemon = Daemon::start(world);
        daemon.says("has schema version 99");
        assert!(daemon.is_unwritable());
        assert_eq!(daemon.subjects(), ["192.0.2.1"], "the kernel has it still");
        assert_eq!(daemon.attacked_by("192.0.2.2"), "unsaved");
        std::thread::sleep(Duration::from_millis(900));
        stop(daemon);
        assert!(std::fs::read(&path).unwrap() == before);
    });
}

#[test]
fn a_damaged_ledger_is_kept_aside_and_the_kernels_bans_are_kept() {
    in_world(|world| {
        let daemon = Daemon::start(world);
        assert_eq!((daemon.ban("203.0.113.1"), daemon.attacked_by("192.0.2.1")), ("banned".into(), "banned".into()));
        stop(daemon);
        let path = world.path("state").join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4_096..].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&path, &bytes).unwrap();
        let daemon = Daemon::start(world);
        daemon.says("the ledger is damaged; it is kept as");
        assert!(!daemon.is_unwritable());
        assert_eq!(daemon.subjects(), ["203.0.113.1", "192.0.2.1"]);
        daemon.is_saved();
        let aside = files(&world.path("state")).into_iter().find(|(name, _)| name.contains(".damaged-")).unwrap();
        assert!(aside.1 == bytes, "{} is as it was found", aside.0);
        let world = daemon.dies();
        assert_eq!(Daemon::start(world).subjects(), ["203.0.113.1", "192.0.2.1"]);
    });
}

#[test]
fn what_a_damaged_ledger_still_says_explains_what_the_kernel_holds_and_revives_nobody() {
    in_world(|world| {
        let daemon = Daemon::start(world);
        for host in ["192.0.2.1", "192.0.2.5", "192.0.2.9"] {
            assert_eq!(daemon.attacked_by(host), "banned");
        }
        assert_eq!((daemon.ban("203.0.113.1"), daemon.unban("192.0.2.9")), ("banned".into(), 1));
        stop(daemon);
        let before = rows(world);
        let path = world.path("state").join(FILE);
        let ledger = Database::open(&path).unwrap();
        let (page, until): (i64, i64) = ledger
            .query_row(
                "SELECT (SELECT rootpage FROM sqlite_schema WHERE name = 'totals'),
                     (SELECT until FROM bans WHERE subject = '192.0.2.9')",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        drop(ledger);
        let totals = std::fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&totals, &[0; 4_096], (page as u64 - 1) * 4_096).unwrap();
        // The one was lifted, which is lost with the damaged pages; the lifting of the other did not reach the kernel.
        run("nft", &["delete element inet banish sshd4_32 { 192.0.2.5 }"]);
        let left = (until as u64 - now()) / 1_000;
        run("nft", &[&format!("add element inet banish sshd4_32 {{ 192.0.2.9 timeout {left}ms }}")]);
        let daemon = Daemon::start(world);
        daemon.says("and a new one begun, with 1 ban of the past");
        assert_eq!(daemon.subjects(), ["203.0.113.1", "192.0.2.1"]);
        daemon.is_saved();
        let after = rows(world);
        assert_eq!(after.len(), 3, "{after:?}");
        assert!(after.iter().all(|row| before.contains(row)), "{after:?} of {before:?}");
        let world = daemon.dies();
        assert_eq!(Daemon::start(world).subjects(), ["203.0.113.1", "192.0.2.1"]);
        assert_eq!(world.said().matches("banned 192.0.2.1 in jail").count(), 1, "it is told once: {}", world.said());
    });
}

#[test]
fn a_directory_that_cannot_be_used_is_tried_until_it_can() {
    in_world(|world| {
        std::fs::remove_dir(world.path("state")).unwrap();
        std::fs::write(world.path("state"), "no directory").unwrap();
        let daemon = Daemon::start(world);
        daemon.says("cannot write the ledger: cannot use");
        assert_eq!((daemon.ban("203.0.113.1"), daemon.is_unwritable()), ("unsaved".into(), true));
        std::fs::remove_file(world.path("state")).unwrap();
        std::fs::create_dir(world.path("state")).unwrap();
        daemon.recovers();
    });
}

#[test]
fn a_second_daemon_refuses_and_leaves_the_first_alone() {
    in_world(|world| {
        let daemon = Daemon::start(world);
        assert_eq!(daemon.ban("203.0.113.1"), "banned");
        let second = world.banishd("").stderr(std::process::Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(
            !second.status.success() && said.contains("another banishd keeps its ledger in this directory"),
            "{said}"
        );
        assert_eq!((daemon.ban("203.0.113.2"), daemon.attacked_by("192.0.2.1")), ("banned".into(), "banned".into()));
        assert_eq!(daemon.subjects(), ["203.0.113.1", "203.0.113.2", "192.0.2.1"]);
        daemon.is_saved();
    });
}

fn stop(mut daemon: Daemon<'_>) {
    run("kill", &["-TERM", &daemon.process.id().to_string()]);
    assert!(until("its end", || daemon.process.try_wait().unwrap()).success());
}

/// Name and content of every file; `-shm` has no content that lasts.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let all = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = all
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .filter(|(name, _)| !name.ends_with("-shm"))
        .collect();
    files.sort();
    files
}
