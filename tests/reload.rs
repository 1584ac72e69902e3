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
#[path = "bus/private.rs"]
#[allow(dead_code, reason = "shared with the bus's own tests")]
mod private;
#[path = "firewall/space.rs"]
#[allow(dead_code, reason = "shared with the firewall's tests")]
mod space;
#[path = "firewall/sys.rs"]
#[allow(dead_code, reason = "shared with the firewall's tests")]
mod sys;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output};
use std::time::Duration;

use banish::config::{Layout, load};
use daemon::{Running, SECOND, now, until_within};
use directories::Directories;
use journal::Record;
use private::{Policy, PrivateBus};
use serde_json::Value;
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

    fn start_on(&self, bus: &PrivateBus) -> Running {
        Running::start_on(&bus.address, daemon::banishd(self.root.root()), self.root.root(), PATIENCE)
    }

    /// No configuration was ever in force.
    fn forget_former(&self) {
        std::fs::remove_file(self.root.path("state/configuration")).unwrap();
    }

    fn banishctl(&self, bus: &PrivateBus, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_banishctl"));
        command.args(words).args(["--bus-address", &bus.address]).env("TZ", "UTC").env("LC_ALL", "C");
        command.output().unwrap()
    }

    /// What it prints, and how it ends.
    fn ctl(&self, bus: &PrivateBus, words: &[&str]) -> (String, Option<i32>) {
        let output = self.banishctl(bus, words);
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (text, output.status.code())
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
        world.forget_former();
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

/// What does something to the files.
type Change = fn(&World);

/// The ways in which files can be in error, each with what undoes it.
const BREAKS: [(&str, Change, Change); 7] = [
    (
        "no TOML",
        |world| world.root.write("etc/jail.d/more.toml", "[jail.test]\nmaxretry = three\n"),
        |world| std::fs::remove_file(world.root.path("etc/jail.d/more.toml")).unwrap(),
    ),
    ("a wrong value", |world| world.jail("action = \"many\""), |world| world.jail("")),
    (
        "an allow list in error",
        |world| world.root.write("etc/banish.toml", "[default]\nignoreip = [\"10.9.9.9\", \"10.0.9.1/24\"]\n"),
        |world| world.root.write("etc/banish.toml", "[default]\nignoreip = [\"10.9.9.9\"]\n"),
    ),
    ("a file that cannot be read", hide, show),
    (
        "a directory that cannot be read",
        |world| {
            std::fs::rename(world.root.path("etc/jail.d"), world.root.path("kept")).unwrap();
            symlink("jail.d", world.root.path("etc/jail.d")).unwrap();
        },
        |world| {
            std::fs::remove_file(world.root.path("etc/jail.d")).unwrap();
            std::fs::rename(world.root.path("kept"), world.root.path("etc/jail.d")).unwrap();
        },
    ),
    (
        "a filter in error",
        |world| world.root.write("etc/filter.d/test.toml", "failregex = ['^(failed from <ADDR>$']\n"),
        |world| world.filter("failed"),
    ),
    (
        "a filter that is gone",
        |world| std::fs::remove_file(world.root.path("etc/filter.d/test.toml")).unwrap(),
        |world| world.filter("failed"),
    ),
];

#[test]
fn a_start_that_finds_errors_runs_the_configuration_that_was_in_force() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let from = now() - 1200 * SECOND;
        world.start().stop();
        let administrator = 0x0009_0909;
        for ((what, spoil, mend), round) in BREAKS.into_iter().zip(1u32..) {
            spoil(&world);
            let running = world.start();
            let said = running.said();
            assert!(said.contains("running the former configuration, of "), "{what}: {said}");
            assert!(!said.contains("NOT running") && !said.contains("no jail runs"), "{what}: {said}");
            let at = from + u64::from(round) * 60 * SECOND;
            world.root.log(rounds("failed", administrator..administrator + 1, 6, at));
            world.root.log(rounds("failed", round..round + 1, 5, at + 10 * SECOND));
            until(what, || is_banned(round));
            let table = nft("list table inet banish");
            assert!(table.contains("10.9.9.9") && !is_banned(administrator), "{what}: {table}");

            // The next reload finds the errors too.
            running.signal("-HUP");
            until("the reload is refused", || running.said().contains("the running one stays"));
            assert!(is_banned(round) && !running.said().contains("no jail runs"), "{what}: {}", running.said());

            mend(&world);
            running.reload();
            assert!(is_banned(round), "{what}");
            running.stop();
            let running = world.start();
            assert!(!running.said().contains("former"), "{what}: {}", running.said());
            running.stop();
        }
    });
}

#[test]
fn before_the_network_is_up_the_table_is_that_of_the_configuration_that_was_in_force() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        world.root.log(rounds("failed", 1..2, 5, now() - 600 * SECOND));
        world.start().stop();
        assert!(is_banned(1));
        let before = nft("list table inet banish");
        hide(&world);
        space::run("nft", &["delete", "table", "inet", "banish"]);
        let mut restore = Command::new(env!("CARGO_BIN_EXE_banishd"));
        restore.arg("--restore").arg("--config").arg(world.root.path("etc"));
        let output = restore.arg("--state").arg(world.root.path("state")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("running the former configuration"), "{said}");
        let lines = |table: &str| -> Vec<String> {
            table
                .lines()
                .filter(|line| !line.contains("elements") && !line.contains("expires"))
                .map(Into::into)
                .collect()
        };
        assert_eq!(lines(&nft("list table inet banish")), lines(&before));
        assert!(is_banned(1));
    });
}

#[test]
fn an_error_is_shown_wherever_one_looks_until_it_is_mended() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let bus = PrivateBus::start(Policy::Open);
        let clean = |what: &str| {
            let (text, code) = world.ctl(&bus, &["check"]);
            assert_eq!((text.as_str(), code), ("* Nothing is wrong.\n", Some(0)), "{what}");
            let (text, code) = world.ctl(&bus, &["status"]);
            assert!(!text.contains("Wrong") && code == Some(0), "{what}: {text}");
        };
        let running = world.start_on(&bus);
        clean("a good start");

        // A reload that is refused.
        world.jail("ipv6-prefix = \"ten parsecs\"");
        assert_eq!(world.ctl(&bus, &["reload"]).1, Some(1));
        for words in [["status"], ["check"]] {
            let (text, _) = world.ctl(&bus, &words);
            assert!(text.contains("by user 0 was refused (1 error)"), "{text}");
            assert!(text.contains("test.toml:8:") && text.contains("ten parsecs"), "{text}");
        }
        assert_eq!(world.ctl(&bus, &["check"]).1, Some(1));
        assert_eq!(world.ctl(&bus, &["status"]).1, Some(0));
        let status: Value = serde_json::from_str(&world.ctl(&bus, &["status", "--json"]).0).unwrap();
        assert!(status["reload_refused_usec"].as_u64().unwrap() > 0, "{status}");
        assert_eq!(status["configuration"], "current");
        world.jail("");
        assert_eq!(world.ctl(&bus, &["reload"]).1, Some(0));
        clean("a reload that is accepted");
        running.stop();

        // A start with the configuration that was in force.
        world.jail("ipv6-prefix = \"ten parsecs\"");
        let running = world.start_on(&bus);
        let (text, code) = world.ctl(&bus, &["status"]);
        assert!(text.lines().nth(1).unwrap().contains("what runs is the former configuration, of "), "{text}");
        assert!(text.contains("ten parsecs") && text.contains("\ntest ") && code == Some(0), "{text}");
        let (text, code) = world.ctl(&bus, &["check"]);
        assert!(text.contains("the former configuration") && code == Some(1), "{text}");
        assert!(running.said().contains("1 error; it concerns jails test"), "{}", running.said());
        assert_eq!(world.ctl(&bus, &["status", "test"]).1, Some(0));
        world.jail("");
        assert_eq!(world.ctl(&bus, &["reload"]).1, Some(0));
        clean("a reload after such a start");
        running.stop();

        // A start without any.
        world.jail("ipv6-prefix = \"ten parsecs\"");
        world.forget_former();
        let running = world.start_on(&bus);
        assert!(running.said().contains("jail test is NOT running: "), "{}", running.said());
        let (text, _) = world.ctl(&bus, &["status"]);
        let row = text.lines().find(|line| line.starts_with("test ")).unwrap_or_default();
        assert!(row.contains("LEFT OUT") && row.contains("test.toml:8:") && row.contains("ten parsecs"), "{text}");
        let (text, code) = world.ctl(&bus, &["status", "test"]);
        assert!(text.contains("LEFT OUT") && text.contains("ten parsecs") && code == Some(3), "{text}");
        assert_eq!(world.ctl(&bus, &["check"]).1, Some(1));
        let (text, code) = world.ctl(&bus, &["ban", "192.0.2.1", "--jail", "test"]);
        assert!(text.contains("in error: see banishctl check") && code == Some(1), "{text}");
        assert_eq!(world.ctl(&bus, &["list", "--jail", "test"]).1, Some(0));
        world.jail("");
        assert_eq!(world.ctl(&bus, &["reload"]).1, Some(0));
        clean("a reload after such a start too");

        // A jail that is gone with a reload, and one that is disabled.
        world.root.write("etc/jail.d/test.toml", "[jail.test]\nfilter = \"test\"\n");
        let (text, code) = world.ctl(&bus, &["reload"]);
        assert!(text.contains("\nJail test no longer runs.\n") && code == Some(0), "{text}");
        assert!(running.said().contains("jail test no longer runs"), "{}", running.said());
        for words in [["status", "test"], ["pause", "test"]] {
            let (text, code) = world.ctl(&bus, &words);
            assert!(text.contains("to enable it, write [jail.test] and enabled = true") && code != Some(0), "{text}");
        }
        let rows = |words: &[&str]| world.ctl(&bus, words).0.lines().filter(|line| line.starts_with("test ")).count();
        assert_eq!((rows(&["status"]), rows(&["status", "--all"])), (0, 1));
        assert!(world.ctl(&bus, &["status"]).0.contains("\n1 more is disabled: --all\n"));
        world.jail("");
        assert_eq!(world.ctl(&bus, &["reload"]).1, Some(0));
        running.stop();
        // A start that ends a jail tells it too.
        world.root.write("etc/jail.d/test.toml", "[jail.test]\nfilter = \"test\"\n");
        let running = world.start_on(&bus);
        assert!(running.said().contains("jail test no longer runs"), "{}", running.said());
        running.stop();
    });
}

#[test]
fn what_is_kept_and_cannot_be_used_is_told_and_written_anew() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        world.start().stop();
        let kept = world.root.path("state/configuration");
        let whole = std::fs::read(&kept).unwrap();
        for (spoilt, why) in [
            (whole[..whole.len() - 40].to_vec(), "it is damaged"),
            ([b"banish configuration 999\n", &whole[23..]].concat(), "another version of banish wrote it"),
            (Vec::new(), "it is damaged"),
        ] {
            std::fs::write(&kept, spoilt).unwrap();
            world.jail("action = \"many\"");
            let running = world.start();
            let said = running.said();
            assert!(said.contains(&format!("the former configuration cannot be used: {why}")), "{said}");
            assert!(said.contains("jail test is NOT running"), "{said}");
            world.jail("");
            running.reload();
            running.stop();
            assert!(std::fs::read(&kept).unwrap().len() >= whole.len());
        }
    });
}

#[test]
fn a_configuration_that_cannot_be_kept_is_in_force_and_is_kept_later() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let bus = PrivateBus::start(Policy::Open);
        // What is in the way and is not empty cannot be removed, not even by root.
        let way = world.root.path("state/configuration.new");
        std::fs::create_dir_all(way.join("x")).unwrap();
        let running = world.start_on(&bus);
        assert!(running.said().contains("cannot keep the configuration that is in force"), "{}", running.said());
        let (text, code) = world.ctl(&bus, &["check"]);
        assert!(text.starts_with("warning: the configuration could not be kept: ") && code == Some(0), "{text}");
        std::fs::remove_dir_all(&way).unwrap();
        until("it is kept", || world.root.path("state/configuration").exists());
        until("that is told", || running.said().contains("the configuration that is in force is kept"));
        assert_eq!(world.ctl(&bus, &["check"]).1, Some(0));
        running.stop();
    });
}

#[test]
fn what_stands_in_the_files_is_told_to_who_may_see_addresses_alone() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let bus = PrivateBus::start(Policy::Open);
        let running = world.start_on(&bus);
        world.root.write("etc/banish.toml", "[default]\nignoreip = [\"10.0.9.1/24\"]\n");
        assert_eq!(world.ctl(&bus, &["reload"]).1, Some(1));
        let banishctl = world.root.path("banishctl");
        std::fs::copy(env!("CARGO_BIN_EXE_banishctl"), &banishctl).unwrap();
        std::fs::set_permissions(world.root.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for words in [["status"], ["check"]] {
            let (text, _) = world.ctl(&bus, &words);
            assert!(text.contains("banish.toml:2:13: default.ignoreip: ") && text.contains("10.0.9.1"), "{text}");
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&banishctl);
            let output = command.args(words).args(["--bus-address", &bus.address]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains("banish.toml:2:13: default.ignoreip is in error"), "{text}");
            assert!(!text.contains("10.0.9.1"), "{text}");
        }
        running.stop();
    });
}

#[test]
fn a_warning_is_told_as_one_and_its_jail_runs() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let filter =
            "journalmatch = ['SYSLOG_IDENTIFIER=x']\ntrust = \"claimed\"\nfailregex = ['^failed from <ADDR>$']\n";
        world.root.write("etc/filter.d/test.toml", filter);
        let running = world.start();
        running.reload();
        let said = running.said();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("own word is trusted")).collect();
        assert_eq!(lines.len(), 2, "at the start and at the reload: {said}");
        for line in lines {
            assert!(line.contains(" WARN ") && line.contains("(warning)"), "{line}");
            assert!(line.contains("afc86ccde08f4540a260acfd0d3f1ca9"), "{line}");
        }
        running.stop();
    });
}

#[test]
fn what_is_shown_and_logged_says_it_in_words() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let bus = PrivateBus::start(Policy::Open);
        let running = world.start_on(&bus);
        let (manual, _) = world.ctl(&bus, &["status", "manual"]);
        assert!(manual.contains("      Rule: bans by hand, for 1h where no time is said\n"), "{manual}");
        assert!(manual.contains("0 failures since the start, none yet\n"), "{manual}");
        assert_eq!(world.ctl(&bus, &["pause", "test", "--for", "1h"]).1, Some(0));
        let (paused, _) = world.ctl(&bus, &["status", "test"]);
        let state = paused.lines().find(|line| line.contains("State: paused until ")).unwrap_or_default();
        assert!(state.contains("; in "), "{paused}");
        assert_eq!(world.ctl(&bus, &["ban", "192.0.2.1", "--time", "permanent"]).1, Some(0));
        assert_eq!(world.ctl(&bus, &["ban", "192.0.2.2", "--time", "10000000d"]).1, Some(0));
        until("both are logged", || running.has_said("banned 192.0.2.2 in jail manual"));
        let said = running.said();
        assert!(said.contains("banned 192.0.2.1 in jail manual permanently (operator uid 0)"), "{said}");
        // Who follows the id of bans sees those by hand too, and by whom.
        let by_hand = said.lines().find(|line| line.contains("banned 192.0.2.1 in jail manual")).unwrap();
        assert!(by_hand.contains("ed0e712a1c4c421eb37a1660a90c105f") && by_hand.contains("banish.uid=0"), "{by_hand}");
        assert!(!said.contains("µs ("), "{said}");
        running.stop();
    });
}
