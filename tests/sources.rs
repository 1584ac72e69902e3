//! Further journals beside the first: each is read to its end whatever the others do, and a reload changes which.
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
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use banish::config::{Layout, Location, load};
use banish::engine::time::Stamp;
use banish::ledger::Store;
use daemon::{Running, SECOND, failures, now, until_within};
use directories::Directories;
use journal::Record;
use space::{in_space, nft};

const HOUR: u64 = 3600 * SECOND;
const PATIENCE: Duration = Duration::from_secs(40);

/// Directories for a first journal, a directory of systemd-journal-remote, a container, a configuration and a state.
struct World {
    root: Directories,
}

impl World {
    fn new() -> Option<World> {
        let world = World { root: Directories::new()? };
        std::fs::create_dir(world.root.path("remote")).unwrap();
        world.root.shipped_filter("sshd");
        let fleet = world.root.path("remote");
        let container = world.root.path("container");
        let sources = format!("[source.fleet]\nremote = {fleet:?}\n[source.box]\ndirectory = {container:?}\n");
        world.root.write("etc/banish.toml", &sources);
        world.jail("source = [\"local\", \"fleet\"]");
        Some(world)
    }

    /// Bans that outlast whatever is read late.
    fn jail(&self, keys: &str) {
        let common = "maxretry = 5\nfindtime = \"10m\"\nbantime = \"30d\"\nport = [\"ssh\"]";
        self.root.jail("sshd", &format!("{common}\n{keys}"));
    }

    fn log(&self, file: &str, records: impl IntoIterator<Item = Record>) {
        journal::write(&self.root.path(file), records);
    }

    fn banishd(&self, more: &[&str]) -> Command {
        let mut command = daemon::banishd(self.root.root());
        command.args(["--bus-address", "none"]).args(more);
        command
    }

    /// Reads all journals to their ends and stops; what it says.
    fn once(&self) -> String {
        let output = self.banishd(&["--once"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        said
    }

    fn checkpoints(&self) -> BTreeMap<String, Stamp> {
        let (_store, restored) = Store::open(&self.root.path("state"), Stamp::from_usec(now())).unwrap();
        restored.checkpoints.into_iter().map(|known| (known.source, known.stamp)).collect()
    }
}

fn banned() -> Vec<String> {
    let listed = nft("list set inet banish sshd4_32");
    let mut all: Vec<String> = listed
        .split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .filter(|word| word.starts_with("192.0.2."))
        .map(str::to_owned)
        .collect();
    all.sort();
    all
}

fn until(what: &str, holds: impl Fn() -> bool) {
    until_within(PATIENCE, what, holds);
}

#[test]
fn entries_that_a_sender_delivers_late_count_however_far_the_others_are() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let present = now() - 60 * SECOND;
        let past = present - 6 * HOUR;
        world.log("remote/remote-ahead.journal", failures("192.0.2.1", 1, present));
        world.log("remote/remote-behind.journal", failures("192.0.2.2", 3, past));
        world.log("journal/a.journal", failures("192.0.2.3", 1, present));
        let running = Running::start(world.root.root(), PATIENCE);
        world.log("remote/remote-ahead.journal", failures("192.0.2.1", 4, present + SECOND));
        until("the sender that is ahead is heard", || banned() == ["192.0.2.1"]);
        // Six hours older than what was read last: behind a shared cursor these would never come.
        world.log("remote/remote-behind.journal", failures("192.0.2.2", 2, past + 3 * SECOND));
        until("late entries count", || banned() == ["192.0.2.1", "192.0.2.2"]);
        world.log("remote/remote-behind.journal", failures("192.0.2.4", 3, past + 60 * SECOND));
        running.stop();

        // While nobody reads, and no entry twice: four failures are not five.
        world.log("remote/remote-behind.journal", failures("192.0.2.4", 1, past + 63 * SECOND));
        world.once();
        world.once();
        assert_eq!(banned(), ["192.0.2.1", "192.0.2.2"]);
        let checkpoints = world.checkpoints();
        assert_eq!(checkpoints["fleet/behind"], Stamp::from_usec(past + 63 * SECOND));
        assert_eq!(checkpoints["fleet/ahead"], Stamp::from_usec(present + 4 * SECOND));
        world.log("remote/remote-behind.journal", failures("192.0.2.4", 1, past + 64 * SECOND));
        world.once();
        assert_eq!(banned(), ["192.0.2.1", "192.0.2.2", "192.0.2.4"]);
    });
}

#[test]
fn a_sender_that_comes_later_is_read_from_its_first_entry_and_through_its_rotations() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let past = now() - 3 * HOUR;
        let running = Running::start(world.root.root(), PATIENCE);
        world.log("remote/remote-new.journal", failures("192.0.2.1", 5, past));
        until("the new sender is found", || banned() == ["192.0.2.1"]);
        world.log("remote/remote-new.journal", failures("192.0.2.2", 3, past + 60 * SECOND));
        let archived = "remote/remote-new@6a1b2c3d4e5f60718293a4b5c6d7e8f9-0000000000000001-0006000000000001.journal";
        std::fs::rename(world.root.path("remote/remote-new.journal"), world.root.path(archived)).unwrap();
        world.log("remote/remote-new.journal", failures("192.0.2.2", 2, past + 63 * SECOND));
        until("it is read on in the next file", || banned() == ["192.0.2.1", "192.0.2.2"]);
        running.stop();
        // While the daemon is away, another comes; what it brings is as old as it likes.
        world.log("remote/remote-newer.journal", failures("192.0.2.3", 5, past - 3 * HOUR));
        world.once();
        assert_eq!(banned(), ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    });
}

#[test]
fn a_source_that_is_not_there_is_told_once_and_holds_up_nobody() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        world.jail("source = [\"local\", \"fleet\", \"box\"]");
        std::fs::remove_dir(world.root.path("remote")).unwrap();
        let said = world.once();
        assert_eq!(said.matches("cannot read the journal box: ").count(), 1, "{said}");
        assert_eq!(said.matches("cannot read the journal fleet: ").count(), 1, "{said}");
        let running = Running::start(world.root.root(), PATIENCE);
        world.log("journal/a.journal", failures("192.0.2.1", 5, now() - 60 * SECOND));
        until("the others are read", || banned() == ["192.0.2.1"]);
        // Written while it was away, and hours old when it comes.
        let past = now() - 3 * HOUR;
        std::fs::create_dir(world.root.path("coming")).unwrap();
        world.log("coming/system.journal", failures("192.0.2.2", 5, past));
        std::fs::rename(world.root.path("coming"), world.root.path("container")).unwrap();
        std::fs::create_dir(world.root.path("remote")).unwrap();
        world.log("remote/remote-a.journal", failures("192.0.2.3", 5, past));
        until("what came later is read from its head", || banned() == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let said = running.said();
        assert_eq!(said.matches("cannot read the journal box: ").count(), 1, "{said}");
        assert_eq!(said.matches("cannot read the journal fleet: ").count(), 1, "{said}");
        running.stop();
    });
}

#[test]
fn a_jail_counts_what_its_own_sources_say_and_nothing_else() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let recent = now() - 60 * SECOND;
        std::fs::create_dir(world.root.path("container")).unwrap();
        world.jail("source = \"fleet\"");
        world.log("journal/a.journal", failures("192.0.2.1", 5, recent));
        world.log("container/system.journal", failures("192.0.2.2", 5, recent));
        world.log("remote/remote-a.journal", failures("192.0.2.3", 5, recent));
        world.once();
        assert_eq!(banned(), ["192.0.2.3"]);
    });
}

#[test]
fn one_host_s_failures_on_several_machines_are_one_host_s() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        let recent = now() - 60 * SECOND;
        world.log("journal/a.journal", failures("192.0.2.1", 2, recent));
        world.log("remote/remote-a.journal", failures("192.0.2.1", 2, recent + 10 * SECOND));
        world.log("remote/remote-b.journal", failures("192.0.2.1", 1, recent + 20 * SECOND));
        world.once();
        assert_eq!(banned(), ["192.0.2.1"]);
    });
}

#[test]
fn a_reload_takes_up_a_source_and_leaves_one_and_comes_back_to_where_it_was() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        std::fs::create_dir(world.root.path("container")).unwrap();
        world.jail("source = \"local\"");
        world.log("container/system.journal", failures("192.0.2.1", 3, now() - 60 * SECOND));
        let running = Running::start(world.root.root(), PATIENCE);
        world.jail("source = [\"local\", \"box\"]");
        running.reload();
        world.log("container/system.journal", failures("192.0.2.1", 2, now() - 50 * SECOND));
        until("the new source is read, its recent past too", || banned() == ["192.0.2.1"]);
        world.jail("source = \"local\"");
        running.reload();
        world.log("container/system.journal", failures("192.0.2.2", 5, now() - 40 * SECOND));
        world.log("journal/a.journal", failures("192.0.2.3", 5, now() - 40 * SECOND));
        until("the first journal is read", || banned() == ["192.0.2.1", "192.0.2.3"]);
        world.jail("source = [\"local\", \"box\"]");
        running.reload();
        until("what was missed is read", || banned() == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        running.stop();
    });
}

/// What of this a daemon has told its service manager since the last time.
fn told(service: &UnixDatagram, what: &str) -> usize {
    let mut buffer = [0; 4096];
    let texts = std::iter::from_fn(|| service.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()));
    texts.filter(|text| String::from_utf8_lossy(text).contains(what)).count()
}

#[test]
fn a_file_system_that_hangs_holds_up_neither_start_nor_bans_nor_watchdog_nor_end() {
    in_space(|| {
        let Some(world) = World::new() else { return };
        sys::leave_mounts().unwrap();
        assert!(Command::new("mount").args(["--make-rprivate", "/"]).status().unwrap().success());
        std::fs::create_dir(world.root.path("container")).unwrap();
        world.jail("source = [\"local\", \"fleet\", \"box\"]");
        world.log("container/system.journal", failures("192.0.2.2", 5, now() - 60 * SECOND));
        world.log("remote/remote-a.journal", failures("192.0.2.3", 5, now() - 60 * SECOND));
        let [fleet, container] = ["remote", "container"].map(|name| world.root.path(name));
        let hang = |at: &Path| match sys::mount_hanging(at) {
            Ok(device) => Some(device),
            Err(error) => {
                eprintln!("skipped: no file system that hangs ({error})");
                None
            }
        };
        let (Some(one), Some(other)) = (hang(&fleet), hang(&container)) else { return };
        let service = UnixDatagram::bind(world.root.path("service")).unwrap();
        service.set_nonblocking(true).unwrap();
        let command = || {
            let mut command = daemon::banishd(world.root.root());
            command.env("NOTIFY_SOCKET", world.root.path("service")).env("WATCHDOG_USEC", "2000000");
            command
        };
        let running = Running::start_as(command(), world.root.root(), PATIENCE);
        let said = running.said();
        assert!(said.contains("cannot read the journal fleet: its directory does not answer"), "{said}");
        assert!(said.contains("cannot read the journal box: it does not answer"), "{said}");
        world.log("journal/a.journal", failures("192.0.2.1", 5, now() - 60 * SECOND));
        until("the others are read", || banned() == ["192.0.2.1"]);
        assert!(told(&service, "READY=1") > 0);
        until("the watchdog is fed", || told(&service, "WATCHDOG=1") > 0);
        // It answers again: with errors, and then with what there is.
        drop((one, other));
        for at in [&fleet, &container] {
            assert!(Command::new("umount").arg(at).status().unwrap().success());
        }
        until("all is read", || banned() == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let again = hang(&fleet).zip(hang(&container));
        let begun = Instant::now();
        running.stop();
        assert!(begun.elapsed() < PATIENCE / 2);

        // It is told to end while nothing of it has answered yet.
        let mut starting = command().args(["--bus-address", "none"]).stderr(Stdio::null()).spawn().unwrap();
        until("it is ready", || told(&service, "READY=1") > 0);
        let begun = Instant::now();
        assert!(Command::new("kill").arg(starting.id().to_string()).status().unwrap().success());
        assert!(starting.wait().unwrap().success() && begun.elapsed() < PATIENCE / 2);
        drop(again);
        for at in [&fleet, &container] {
            assert!(Command::new("umount").arg(at).status().unwrap().success());
        }
    });
}

/// A second jail that reads the container's journal, and bans nobody.
fn keeper(world: &World, enabled: bool) {
    let keys = format!("enabled = {enabled}\nfilter = \"sshd\"\nsource = \"box\"\nmaxretry = 1000\n");
    world.root.write("etc/jail.d/keeper.toml", &format!("[jail.keeper]\n{keys}"));
}

/// A world whose ledger knows how far the container's journal was read, by another jail than the one that is to count
/// the four failures in it.
fn world_of_a_keeper() -> Option<World> {
    let world = World::new()?;
    std::fs::create_dir(world.root.path("container")).unwrap();
    world.jail("source = \"local\"");
    keeper(&world, true);
    world.log("journal/a.journal", failures("192.0.2.9", 1, now() - 60 * SECOND));
    world.log("container/system.journal", failures("192.0.2.1", 4, now() - 60 * SECOND));
    Running::start(world.root.root(), PATIENCE).stop();
    Some(world)
}

fn carry(world: &World, from: &str, to: &str) {
    std::fs::rename(world.root.path(from), world.root.path(to)).unwrap();
}

#[test]
fn what_a_jail_has_not_read_of_a_source_that_was_away_is_not_passed_over_by_the_next_run() {
    in_space(|| {
        let Some(world) = world_of_a_keeper() else { return };
        let running = Running::start(world.root.root(), PATIENCE);
        keeper(&world, false);
        running.reload();
        carry(&world, "container", "away");
        world.jail("source = [\"local\", \"box\"]");
        running.reload();
        until("it is away", || running.has_said("cannot read the journal box: "));
        // It keeps what the jail has counted: nothing in the container's journal.
        running.stop();
        carry(&world, "away", "container");
        world.log("container/system.journal", failures("192.0.2.1", 1, now() - 30 * SECOND));
        world.once();
        assert_eq!(banned(), ["192.0.2.1"]);
    });
}

#[test]
fn the_past_of_a_source_that_is_away_at_a_start_is_read_when_it_comes() {
    in_space(|| {
        let Some(world) = world_of_a_keeper() else { return };
        carry(&world, "container", "away");
        world.jail("source = [\"local\", \"box\"]");
        let running = Running::start(world.root.root(), PATIENCE);
        carry(&world, "away", "container");
        world.log("container/system.journal", failures("192.0.2.1", 1, now() - 30 * SECOND));
        until("its past counts", || banned() == ["192.0.2.1"]);
        running.stop();
    });
}

fn problems_of(banish: &str, jail: &str) -> (Vec<String>, Vec<String>) {
    let root = tempfile::tempdir().unwrap();
    let write = |below: &str, text: &str| {
        let path = root.path().join(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("banish.toml", banish);
    write("jail.d/j.toml", &format!("[jail.j]\n{jail}\n"));
    write("filter.d/j.toml", "journalmatch = ['_SYSTEMD_UNIT=x.service']\nfailregex = ['^failed from <ADDR>$']\n");
    let loaded = load(&Layout::Directory(root.path().to_owned()));
    let prefix = format!("{}/", root.path().display());
    let problems = loaded.problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect();
    (problems, loaded.left_out.into_iter().map(|left_out| left_out.jail).collect())
}

#[test]
fn what_is_wrong_with_a_source_is_told_with_its_place() {
    let banish = "[source.a]\nnamespace = \"a/b\"\n[source.b]\n[source.c]\nnamespace = \"c\"\nremote = \"/c\"\n\
                  [source.d]\ndirectory = \"d\"\n[source.e]\nnamspace = \"e\"\n[source.local]\nnamespace = \"f\"\n\
                  [source.\"g h\"]\nremote = \"/g\"\n[source.i]\nremote = 5\n";
    let (problems, left_out) = problems_of(banish, "source = [\"local\", \"a\", \"lokal\", \"zebra\", 7]");
    let keys = "\"namespace\", \"directory\" or \"remote\"";
    assert_eq!(
        problems,
        [
            "banish.toml:2:13: source.a.namespace: \"a/b\" is no namespace's name".to_owned(),
            format!("banish.toml:3:9: source.b: has exactly one of the keys {keys}"),
            format!("banish.toml:4:9: source.c: has exactly one of the keys {keys}"),
            "banish.toml:8:13: source.d.directory: expected a directory's path from the root on, found \"d\"".into(),
            "banish.toml:10:1: source.e.namspace: unknown key; did you mean namespace?".into(),
            "banish.toml:11:9: source.local: is the name of this machine's own journal, which is always there".into(),
            "banish.toml:13:9: source.\"g h\": \"g h\" is no source's name (1 to 64 letters, digits, '-', '_' and '.', \
             a letter or digit first)"
                .into(),
            "banish.toml:16:10: source.i.remote: expected a string, found 5".into(),
            "jail.d/j.toml:2:25: jail.j.source: no source \"lokal\" is declared; did you mean local?".into(),
            "jail.d/j.toml:2:34: jail.j.source: no source \"zebra\" is declared: add a table [source.NAME]".into(),
            "jail.d/j.toml:2:43: jail.j.source: expected a string, found 7".into(),
        ]
    );
    assert_eq!(left_out, ["j"]);
}

#[test]
fn a_source_in_error_takes_no_jail_from_the_others() {
    let broken = "[source.a]\nnamespace = \"a/b\"\n";
    let (problems, left_out) = problems_of(broken, "source = [\"local\", \"a\"]");
    assert_eq!((problems.len(), left_out.len()), (1, 0), "{problems:?}");
    let (problems, left_out) = problems_of(broken, "source = \"a\"");
    assert_eq!(problems[1], "jail.d/j.toml:2:10: jail.j.source: names only sources that are in error");
    assert_eq!(left_out, ["j"]);
    let (problems, left_out) = problems_of("", "source = []");
    assert_eq!(problems, ["jail.d/j.toml:2:10: jail.j.source: expected the name of a source, found an empty list"]);
    assert_eq!(left_out, ["j"]);
}

#[test]
fn the_manual_s_example_of_a_source_is_right() {
    let manual = std::fs::read_to_string("man/banish.toml.5").unwrap();
    let keys = ["namespace", "directory", "remote", "source"];
    assert!(keys.iter().all(|key| manual.contains(&format!("\n.It Ic {key}\n"))));
    let start = manual.find("[source.fleet]").unwrap();
    let example = manual[start..].split("[jail.sshd]").next().unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("banish.toml"), example).unwrap();
    let loaded = load(&Layout::Directory(root.path().to_owned()));
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.settings.sources[0].location, Location::Remote(Path::new("/var/log/journal/remote").into()));
}
