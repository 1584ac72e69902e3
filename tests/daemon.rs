//! The daemon as a whole: real journal files, a real kernel's table, a real ledger; the clock is the machine's.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

#[path = "support/daemon.rs"]
#[allow(dead_code, reason = "shared with other tests of the daemon")]
mod daemon;
#[path = "support/directories.rs"]
#[allow(dead_code, reason = "shared with other tests of the daemon")]
mod directories;
#[path = "support/journal.rs"]
#[allow(dead_code, reason = "shared with the reader's tests")]
mod journal;
#[path = "firewall/space.rs"]
#[allow(dead_code, reason = "shared with the firewall's tests")]
mod space;
#[path = "firewall/sys.rs"]
#[allow(dead_code, reason = "shared with the firewall's tests")]
mod sys;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use banish::engine::time::Stamp;
use banish::ledger::Store;
use daemon::{SECOND, failures, now, until_within};
use directories::Directories;
use journal::Record;
use serde_json::Value;
use space::{in_space, nft};

const PATIENCE: Duration = Duration::from_secs(30);

/// A machine's worth of directories: the journal, the configuration, the state.
struct World {
    root: Directories,
}

impl World {
    fn new() -> Option<World> {
        let world = World { root: Directories::new()? };
        world.root.shipped_filter("sshd");
        world.jail("maxretry = 5\nfindtime = \"10m\"\nbantime = \"1h\"\nport = [\"ssh\"]");
        Some(world)
    }

    fn jail(&self, keys: &str) {
        self.root.jail("sshd", keys);
    }

    fn banishd(&self, more: &[&str]) -> Command {
        let mut command = daemon::banishd(self.root.root());
        command.args(more);
        command
    }

    /// Reads the journal to its end and stops.
    fn once(&self) -> Output {
        let output = self.banishd(&["--once", "--bus-address", "none"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// The JSON lines of a dry run, but the last, and the last.
    fn dry(&self) -> (Vec<Value>, Value) {
        let output = self.banishd(&["--dry-run", "--once"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let totals = lines.pop().unwrap();
        (lines, totals)
    }
}

/// The elements of a set as `nft -j` lists them: an address, or one with what is left of its time.
fn listed(set: &str) -> Vec<Value> {
    let text = space::run("nft", &["-j", "list", "set", "inet", "banish", set]);
    let listed: Value = serde_json::from_str(&text).unwrap();
    let set = listed["nftables"].as_array().unwrap().iter().find_map(|item| item.get("set")).unwrap();
    set["elem"].as_array().cloned().unwrap_or_default()
}

fn elements(set: &str) -> Vec<String> {
    let address = |element: &Value| element.pointer("/elem/val").unwrap_or(element).as_str().unwrap().to_owned();
    let mut found: Vec<String> = listed(set).iter().map(address).collect();
    found.sort();
    found
}

/// When each element of a set ends, in seconds since the epoch.
fn ends(set: &str) -> BTreeMap<String, u64> {
    let end = |element: &Value| {
        let element = &element["elem"];
        let left = element["expires"].as_u64().unwrap();
        (element["val"].as_str().unwrap().to_owned(), now() / SECOND + left)
    };
    listed(set).iter().map(end).collect()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    until_within(PATIENCE, what, holds);
}

/// A running daemon, killed at the end if it still runs.
struct Running(Child);

impl Running {
    fn start(world: &World) -> Running {
        let command = world.banishd(&["--bus-address", "none"]).stderr(Stdio::null()).spawn().unwrap();
        Running(command)
    }

    fn signal(&mut self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap().success());
    }

    fn stop(mut self) {
        self.signal("-TERM");
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_journal_that_cannot_be_read_yet_is_waited_for() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        world.root.log(failures("192.0.2.10", 5, now() - 60 * SECOND));
        let (journal, away) = (world.root.root().join("journal"), world.root.root().join("away"));
        std::fs::rename(&journal, &away).unwrap();
        let running = daemon::Running::start(world.root.root(), PATIENCE);
        assert!(running.has_said("cannot read the journal directory "), "{}", running.said());
        std::fs::rename(&away, &journal).unwrap();
        until("what it has missed is a ban", || elements("sshd4_32") == ["192.0.2.10"]);
        running.stop();
    });
}

#[test]
fn a_dry_run_prints_its_decisions_and_leaves_no_trace() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let recent = now() - 60 * SECOND;
        world.root.log(failures("192.0.2.10", 5, recent).into_iter().chain(failures(
            "2001:db8::10",
            7,
            recent + 10 * SECOND,
        )));
        let (decisions, totals) = world.dry();
        let who: Vec<&str> = decisions.iter().map(|line| line["subject"].as_str().unwrap()).collect();
        assert_eq!(who, ["192.0.2.10", "2001:db8::/64"]);
        assert_eq!(decisions[0]["decision"], "ban");
        assert_eq!(decisions[0]["since"], recent + 4 * SECOND);
        assert_eq!(decisions[0]["evidence"].as_array().unwrap().len(), 5);
        assert_eq!((&totals["entries"], &totals["failures"], &totals["bans"]), (&12.into(), &12.into(), &2.into()));
        assert_eq!(std::fs::read_dir(world.root.path("state")).unwrap().count(), 0);
        assert_eq!(nft("list tables"), "");
    });
}

#[test]
fn a_ban_that_is_over_is_told_as_past() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        world.root.log(failures("192.0.2.10", 5, now() - 7200 * SECOND));
        let (decisions, totals) = world.dry();
        assert_eq!(decisions[0]["decision"], "past");
        assert_eq!((&totals["bans"], &totals["past"]), (&0.into(), &1.into()));
    });
}

#[test]
fn what_was_counted_before_a_stop_counts_on_after_it_and_never_twice() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let recent = now() - 120 * SECOND;
        world.root.log(failures("192.0.2.10", 3, recent));
        world.once();
        assert_eq!(elements("sshd4_32"), Vec::<String>::new());
        world.once();
        world.once();
        assert_eq!(elements("sshd4_32"), Vec::<String>::new(), "three failures read three times are three");
        world.root.log(failures("192.0.2.10", 2, recent + 60 * SECOND));
        world.once();
        assert_eq!(elements("sshd4_32"), ["192.0.2.10"]);
    });
}

#[test]
fn what_was_counted_is_kept_beyond_what_a_start_reads_again() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        std::fs::write(world.root.path("etc/banish.toml"), "replay-max = \"1m\"\n").unwrap();
        world.jail("maxretry = 3\nfindtime = \"1d\"\nbantime = \"1h\"\nport = [\"ssh\"]");
        let banned = |host: &str| elements("sshd4_32").iter().any(|one| one == host);
        // Whoever fails three times now is banned behind all that was logged before.
        let fence = |host: &str| {
            world.root.log(failures(host, 3, now() - 3 * SECOND));
            until("a fence", || banned(host));
        };
        world.root.log(failures("192.0.2.10", 2, now() - 7200 * SECOND));
        let running = Running::start(&world);
        until("a table", || nft("list tables").contains("banish"));
        fence("192.0.2.90");
        running.stop();
        let mut killed = Running::start(&world);
        fence("192.0.2.91");
        killed.signal("-KILL");
        killed.0.wait().unwrap();
        let running = Running::start(&world);
        world.root.log(failures("192.0.2.10", 1, now()));
        until("the third failure within a day", || banned("192.0.2.10"));
        running.stop();
    });
}

#[test]
fn bans_outlive_the_daemon_and_come_back_after_the_kernel_forgot_them() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        world.root.log(failures("192.0.2.10", 5, now() - 60 * SECOND));
        world.once();
        assert_eq!(elements("sshd4_32"), ["192.0.2.10"], "after the daemon's end");
        nft("flush ruleset");
        world.once();
        assert_eq!(elements("sshd4_32"), ["192.0.2.10"], "as after a reboot");
    });
}

/// I4 of docs/ledger.md.
#[test]
fn after_catching_up_kernel_and_ledger_agree_to_the_second() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let recent = now() - 300 * SECOND;
        world.root.log(failures("192.0.2.10", 5, recent).into_iter().chain(failures(
            "192.0.2.20",
            5,
            recent + 60 * SECOND,
        )));
        world.once();
        // The kernel's own idea of the ends is spoilt: shorter, longer, one missing, one too many.
        nft("delete element inet banish sshd4_32 { 192.0.2.10, 192.0.2.20 }");
        nft("add element inet banish sshd4_32 { 192.0.2.20 timeout 5h }");
        world.once();
        let (store, restored) = Store::open(&world.root.path("state"), Stamp::from_usec(now())).unwrap();
        let known: BTreeMap<String, u64> =
            restored.bans.iter().map(|ban| (ban.place.subject.to_string(), ban.until.usec() / SECOND)).collect();
        assert_eq!(known.len(), 2);
        let held = ends("sshd4_32");
        assert_eq!(held.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
        for (who, end) in known {
            assert!(end.abs_diff(held[&who]) <= 1, "{who}: {end} and {}", held[&who]);
        }
        drop(store);
    });
}

#[test]
fn a_ban_that_only_the_kernel_knows_is_adopted() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        world.root.log(failures("192.0.2.10", 5, now() - 60 * SECOND));
        world.once();
        std::fs::remove_dir_all(world.root.path("state")).unwrap();
        std::fs::create_dir(world.root.path("state")).unwrap();
        nft("add element inet banish sshd4_32 { 192.0.2.77 timeout 30m }");
        world.once();
        assert_eq!(elements("sshd4_32"), ["192.0.2.10", "192.0.2.77"]);
        nft("flush ruleset");
        world.once();
        assert_eq!(elements("sshd4_32"), ["192.0.2.10", "192.0.2.77"], "it is in the ledger now");
    });
}

#[test]
fn following_the_journal_it_bans_and_heals_and_survives_a_kill() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        world.root.log(failures("192.0.2.1", 1, now() - 60 * SECOND));
        let running = Running::start(&world);
        until("the table is there", || nft("list tables").contains("banish"));
        world.root.log(failures("192.0.2.10", 5, now() - 30 * SECOND));
        until("the ban is in the kernel", || elements("sshd4_32") == ["192.0.2.10"]);
        nft("flush ruleset");
        until("the flush is healed", || {
            nft("list tables").contains("banish") && elements("sshd4_32") == ["192.0.2.10"]
        });
        nft("delete element inet banish sshd4_32 { 192.0.2.10 }");
        until("the element is back", || elements("sshd4_32") == ["192.0.2.10"]);
        drop(running);
        assert_eq!(elements("sshd4_32"), ["192.0.2.10"], "after kill -9");
        world.root.log(failures("192.0.2.20", 5, now() - 20 * SECOND));
        let running = Running::start(&world);
        until("what was logged meanwhile is counted", || elements("sshd4_32") == ["192.0.2.10", "192.0.2.20"]);
        running.stop();
    });
}

#[test]
fn a_reload_takes_a_good_configuration_and_leaves_a_bad_one() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        world.root.log(failures("192.0.2.10", 4, now() - 60 * SECOND));
        let mut running = Running::start(&world);
        until("the table is there", || nft("list tables").contains("banish"));
        world.jail("maxretry = \"three\"");
        running.signal("-HUP");
        world.root.log(failures("192.0.2.20", 5, now() - 50 * SECOND));
        until("it goes on as before", || elements("sshd4_32") == ["192.0.2.20"]);
        world.jail("maxretry = 4\nfindtime = \"10m\"\nport = [\"ssh\", 2222]");
        running.signal("-HUP");
        until("four are enough now", || elements("sshd4_32") == ["192.0.2.10", "192.0.2.20"]);
        assert!(nft("list table inet banish").contains("2222"));
        world.jail("enabled = false");
        running.stop();
    });
}

/// Who is killed within PAM's delay leaves only what pam_unix says: an entry without another one behind it.
fn refused(address: &str, stamp: u64, pid: u32) -> Record {
    Record::at(stamp)
        .with("_UID", "0")
        .with("_SYSTEMD_UNIT", "ssh.service")
        .with("_PID", pid.to_string())
        .with("SYSLOG_IDENTIFIER", "sshd")
        .with("MESSAGE", format!("pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={address}  user=root"))
}

fn accepted(address: &str, stamp: u64, pid: u32) -> Record {
    Record::at(stamp)
        .with("_UID", "0")
        .with("_SYSTEMD_UNIT", "ssh.service")
        .with("_PID", pid.to_string())
        .with("SYSLOG_IDENTIFIER", "sshd")
        .with("MESSAGE", format!("Accepted password for root from {address} port 4711 ssh2"))
}

#[test]
fn guesses_that_sshd_is_killed_over_are_counted_and_log_ins_are_not() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let recent = now() - 300 * SECOND;
        let at = |step: u32| recent + u64::from(step) * SECOND;
        let killed = (0..5).map(|step| refused("192.0.2.10", at(step), 200 + step));
        let slips = (0..5).flat_map(|step| {
            let pid = 300 + step;
            [refused("192.0.2.20", at(10 + step), pid), accepted("192.0.2.20", at(12 + step), pid)]
        });
        let failed = (0..4).flat_map(|step| {
            let pid = 400 + step;
            [refused("192.0.2.30", at(20 + step), pid), daemon::failed("192.0.2.30", at(23 + step), pid)]
        });
        let mut all: Vec<(u64, Record)> = Vec::new();
        let stamps = (0..5).map(at).chain((0..5).flat_map(|step| [at(10 + step), at(12 + step)]));
        let stamps = stamps.chain((0..4).flat_map(|step| [at(20 + step), at(23 + step)]));
        all.extend(stamps.zip(killed.chain(slips).chain(failed)));
        all.sort_by_key(|(stamp, _)| *stamp);
        world.root.log(all.into_iter().map(|(_, record)| record));
        let (decisions, totals) = world.dry();
        let who: Vec<&str> = decisions.iter().map(|line| line["subject"].as_str().unwrap()).collect();
        assert_eq!(who, ["192.0.2.10"]);
        assert_eq!(decisions[0]["since"], at(4), "by the times of its own entries");
        assert_eq!(totals["failures"], 9);
    });
}

/// The guesses' own entries are the evidence: a start that reads them again counts none twice, and a kill loses none.
#[test]
fn a_guess_that_sshd_was_killed_over_counts_once_through_stops_and_kills() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        world.jail("maxretry = 3\nfindtime = \"10m\"\nbantime = \"1h\"\nport = [\"ssh\"]");
        let banned = |host: &str| elements("sshd4_32").iter().any(|one| one == host);
        let fence = |host: &str| {
            world.root.log((0..3).map(|step| daemon::failed(host, now(), 500 + step)));
            until("a fence", || banned(host));
        };
        let running = Running::start(&world);
        until("the table is there", || nft("list tables").contains("banish"));
        world.root.log([refused("192.0.2.10", now(), 200), refused("192.0.2.20", now(), 201)]);
        fence("192.0.2.90");
        // A snapshot holds what waits.
        running.stop();
        let mut killed = Running::start(&world);
        world.root.log([refused("192.0.2.10", now(), 202), refused("192.0.2.30", now(), 203)]);
        fence("192.0.2.91");
        killed.signal("-KILL");
        killed.0.wait().unwrap();
        world.root.log([accepted("192.0.2.30", now(), 203), daemon::failed("192.0.2.20", now(), 201)]);
        let running = Running::start(&world);
        world.root.log((0..2).map(|step| daemon::failed("192.0.2.30", now(), 300 + step)));
        world.root.log([daemon::failed("192.0.2.20", now(), 302)]);
        // Two were refused and nothing more was told of them: the third in a quiet journal, as the clock goes on.
        world.root.log([refused("192.0.2.10", now(), 204)]);
        until_within(3 * PATIENCE, "all three count", || banned("192.0.2.10"));
        fence("192.0.2.92");
        assert!(!banned("192.0.2.20") && !banned("192.0.2.30"), "{:?}", elements("sshd4_32"));
        running.stop();
        for _ in 0..2 {
            world.once();
        }
        assert!(!banned("192.0.2.20") && !banned("192.0.2.30"), "{:?}", elements("sshd4_32"));
    });
}

#[test]
fn two_daemons_do_not_share_a_ledger() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let running = Running::start(&world);
        until("the table is there", || nft("list tables").contains("banish"));
        let second = world.banishd(&["--once", "--bus-address", "none"]).output().unwrap();
        assert!(!second.status.success());
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(said.contains("another banishd"), "{said}");
        running.stop();
    });
}

#[test]
fn the_shipped_configuration_runs_from_a_checkout() {
    let Some(world) = World::new() else { return };
    world.root.log(failures("192.0.2.10", 5, now() - 60 * SECOND));
    let mut command = Command::new(env!("CARGO_BIN_EXE_banishd"));
    command.args(["--config", "etc", "--dry-run", "--once", "--journal-file"]).arg(glob(&world.root.path("journal")));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 2);
}

fn glob(directory: &Path) -> PathBuf {
    directory.join("*.journal")
}
