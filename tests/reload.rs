//! What a reload changes while the journal goes on, and what becomes of a configuration that cannot be read.
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

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::Duration;

use banish::config::{Layout, load};
use daemon::{Running, SECOND, now, until_within};
use directories::Directories;
use journal::Record;
use space::{in_space, nft};

const PATIENCE: Duration = Duration::from_secs(60);

/// A journal, a configuration with one jail and its filter, a state, and a daemon where one runs.
struct World {
    root: Directories,
}

impl World {
    fn new() -> Option<World> {
        let world = World { root: Directories::new()? };
        world.root.write("etc/banish.toml", "[default]\nignoreip = [\"10.9.9.9\"]\n");
        world.jail("");
        world.filter("failed");
        Some(world)
    }

    fn jail(&self, keys: &str) {
        let common = "maxretry = 5\nfindtime = \"1h\"\nbantime = \"2h\"\nport = [\"ssh\"]";
        self.root.jail("test", &format!("{common}\n{keys}"));
    }

    fn filter(&self, word: &str) {
        let text = format!("journalmatch = ['_SYSTEMD_UNIT=x.service']\nfailregex = ['^{word} from <ADDR>$']\n");
        self.root.write("etc/filter.d/test.toml", &text);
    }

    fn start(&self) -> Running {
        Running::start(self.root.root(), PATIENCE)
    }
}

fn entry(word: &str, host: u32, stamp: u64) -> Record {
    let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + host);
    Record::at(stamp).with("_SYSTEMD_UNIT", "x.service").with("MESSAGE", format!("{word} from {address}"))
}

/// `count` failures of each of `hosts`, one round after the other.
fn rounds(word: &str, hosts: std::ops::Range<u32>, count: u64, from: u64) -> Vec<Record> {
    (0..count).flat_map(|round| hosts.clone().map(move |host| entry(word, host, from + round * SECOND))).collect()
}

fn banned() -> usize {
    let table = nft("list set inet banish test4_32");
    table.matches("timeout").count().saturating_sub(table.matches("flags").count())
}

fn is_banned(host: u32) -> bool {
    let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + host).to_string();
    nft("list set inet banish test4_32").split([' ', ',', '\n', '\t']).any(|word| word == address)
}

fn until(what: &str, holds: impl Fn() -> bool) {
    until_within(PATIENCE, what, holds);
}

#[test]
fn what_another_filter_counted_says_nothing_and_the_new_one_reads_the_past() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let from = now() - 600 * SECOND;
        world.root.log(rounds("failed", 1..2, 4, from).into_iter().chain(rounds(
            "denied",
            2..3,
            5,
            from + 10 * SECOND,
        )));
        let running = world.start();
        world.filter("denied");
        running.reload();
        until("the new filter has read the past", || is_banned(2));
        // Four of the former filter's and one of the new one's are not five.
        world.root.log([entry("denied", 1, from + 60 * SECOND), entry("failed", 1, from + 61 * SECOND)]);
        world.root.log(rounds("denied", 3..4, 5, from + 70 * SECOND));
        until("it reads on", || is_banned(3));
        assert!(!is_banned(1));
        running.stop();
    });
}

#[test]
fn a_past_of_many_pieces_is_fed_whole() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let from = now() - 600 * SECOND;
        // The rounds lie in different pieces: 1500 hosts, five failures of each, and four of some more.
        world.root.log(rounds("denied", 1..1501, 4, from).into_iter().chain(rounds("denied", 2000..2300, 4, from)));
        world.root.log(rounds("denied", 1..1501, 1, from + 10 * SECOND));
        let running = world.start();
        assert_eq!(banned(), 0);
        world.filter("denied");
        running.reload();
        until("all who failed five times are banned", || banned() == 1500);
        assert!(is_banned(1) && is_banned(1500) && !is_banned(2000));
        running.stop();
    });
}

#[test]
fn reloads_in_a_row_while_failures_come_lose_none_and_count_none_twice() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let from = now() - 900 * SECOND;
        let running = world.start();
        // Both filters take these lines; each reload makes another definition of them.
        let words = ["(?:failed|a)", "(?:failed|b)"];
        for round in 0..8_u32 {
            let five = rounds("failed", 100 * round..100 * round + 20, 5, from + u64::from(round) * 10 * SECOND);
            let four = rounds("failed", 100 * round + 50..100 * round + 70, 4, from + u64::from(round) * 10 * SECOND);
            let mut records: Vec<Record> = five.into_iter().chain(four).collect();
            records.sort_by_key(|record| record.stamp);
            let later = records.split_off(records.len() / 2);
            world.root.log(records);
            world.filter(words[round as usize % 2]);
            // Not waited for: the next finds this one under way.
            running.signal("-HUP");
            world.root.log(later);
        }
        until("all who failed five times are banned", || banned() >= 160);
        running.reload();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(banned(), 160, "and nobody who failed four times");
        for round in 0..8 {
            assert!(is_banned(100 * round) && !is_banned(100 * round + 50));
        }
        running.stop();
    });
}

/// A link that leads nowhere but to itself cannot be read, not even by root.
fn hide(world: &World) {
    let path = world.root.path("etc/banish.toml");
    std::fs::rename(&path, world.root.path("kept")).unwrap();
    symlink("banish.toml", path).unwrap();
}

fn show(world: &World) {
    std::fs::rename(world.root.path("kept"), world.root.path("etc/banish.toml")).unwrap();
}

#[test]
fn nobody_is_banned_while_it_cannot_be_read_who_is_to_be_left_alone() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let from = now() - 600 * SECOND;
        let administrator = 0x0009_0909;
        world.root.log(rounds("failed", 1..2, 5, from));
        world.start().stop();
        assert!(is_banned(1));

        hide(&world);
        let running = world.start();
        assert!(running.said().contains("no jail runs, for"), "{}", running.said());
        world.root.log(rounds("failed", administrator..administrator + 1, 6, from + 20 * SECOND));
        world.root.log(rounds("failed", 2..3, 5, from + 30 * SECOND));
        std::thread::sleep(Duration::from_secs(1));
        let table = nft("list table inet banish");
        assert!(table.contains("10.0.0.1") && !table.contains("10.9.9.9") && !table.contains("10.0.0.2"), "{table}");

        show(&world);
        running.reload();
        until("what was logged meanwhile counts", || is_banned(2));
        assert!(is_banned(1) && !is_banned(administrator));

        // A running daemon goes on with what it has.
        hide(&world);
        running.signal("-HUP");
        until("the reload is refused", || running.said().contains("the running one stays"));
        world.root.log(rounds("failed", administrator..administrator + 1, 6, from + 40 * SECOND));
        world.root.log(rounds("failed", 3..4, 5, from + 50 * SECOND));
        until("it goes on", || is_banned(3));
        assert!(!is_banned(administrator));
        running.stop();
    });
}

#[test]
fn whatever_hides_settings_keeps_jails_from_running_and_what_is_only_broken_does_not() {
    let Some(world) = World::new() else { return };
    let left_out = || -> Vec<String> {
        let loaded = load(&Layout::Directory(world.root.path("etc")));
        loaded.left_out.into_iter().map(|left_out| left_out.jail).collect()
    };
    assert_eq!(left_out(), Vec::<String>::new());
    let extra = world.root.path("etc/jail.d/extra.toml");
    for (hides, content) in [
        (false, &b"[jail.other]\nmaxretry = \n"[..]),
        (true, &b"[default]\nignoreip = ['192.0.2.1'\n"[..]),
        (true, &b"[default]\nignoreip = ['192.0.2.1'] # \xff\n"[..]),
        (true, &vec![b'#'; 5 << 20][..]),
    ] {
        std::fs::write(&extra, content).unwrap();
        let want: &[&str] = if hides { &["test"] } else { &["other"] };
        assert_eq!(left_out(), want, "{}", String::from_utf8_lossy(&content[..20]));
    }
    std::fs::remove_file(&extra).unwrap();
    symlink("nowhere.toml", &extra).unwrap();
    assert_eq!(left_out(), ["test"], "something was meant to be there");
    std::fs::remove_file(&extra).unwrap();
    symlink("banish.toml.d", world.root.path("etc/banish.toml.d")).unwrap();
    assert_eq!(left_out(), ["test"], "a directory that cannot be read");
}

#[test]
fn settings_that_the_daemon_s_user_may_not_read_are_hidden() {
    let Some(world) = World::new() else { return };
    let open = |below: &str, mode| {
        std::fs::set_permissions(world.root.path(below), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open("", 0o755);
    let check = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_banishctl")]);
        let output = command.args(["config", "check", "--config"]).arg(world.root.path("etc")).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let said = check();
    if said.contains("setpriv") || said.contains("cannot execute") {
        return eprintln!("skipped: {said}");
    }
    assert!(!said.contains("no jail runs"), "{said}");
    for (below, mode, back) in [("etc/banish.toml", 0o000, 0o644), ("etc/jail.d", 0o000, 0o755), ("etc", 0o600, 0o755)]
    {
        open(below, mode);
        let said = check();
        open(below, back);
        let nothing_left = below == "etc" || below == "etc/jail.d";
        assert!(said.contains("cannot be read"), "{below}: {said}");
        assert!(nothing_left || said.contains("no jail runs"), "{below}: {said}");
    }
}
