//! `banishd --restore`: the ledger's bans in the kernel before there is a daemon, and the daemon that comes after it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use banish::engine::ban::{Ban, Cause};
use banish::engine::time::Stamp;
use banish::ledger::{Durability, FILE, Store, Transaction};

use super::space::*;

/// A configuration with jail `sshd` on port 22, and a state directory.
struct World(tempfile::TempDir);

impl World {
    fn new() -> World {
        let world = World(tempfile::tempdir().unwrap());
        for directory in ["etc/jail.d", "etc/filter.d", "state", "journal"] {
            fs::create_dir_all(world.path(directory)).unwrap();
        }
        fs::copy("etc/filter.d/sshd.toml", world.path("etc/filter.d/sshd.toml")).unwrap();
        world.configure("enabled = true\nfilter = \"sshd\"\nport = [\"ssh\"]");
        world
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn configure(&self, keys: &str) {
        fs::write(self.path("etc/jail.d/sshd.toml"), format!("[jail.sshd]\n{keys}\n")).unwrap();
    }

    /// Writes bans into the ledger: jail, subject, seconds until its end.
    fn banned(&self, bans: impl IntoIterator<Item = (&'static str, String, u64)>) {
        let since = Stamp::from_usec(now().usec() - 60_000_000);
        let mut transaction = Transaction::default();
        for (jail, subject, seconds) in bans {
            let cause = Cause::Operator { uid: 0, reason: String::new() };
            let until = ban(jail, &subject, seconds).until;
            transaction.begin(Ban { place: place(jail, &subject), since, until, failures: 0, cause });
        }
        let (mut store, _) = Store::open(&self.path("state"), since).unwrap();
        store.commit(&transaction, Durability::Command).unwrap();
        store.close().unwrap();
    }

    fn banishd(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_banishd"));
        command.arg("--config").arg(self.path("etc")).arg("--state").arg(self.path("state"));
        for name in ["STATE_DIRECTORY", "JOURNAL_STREAM", "INVOCATION_ID"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    /// What it says.
    fn restore(&self, well: bool) -> String {
        said(self.banishd().arg("--restore").output().unwrap(), well)
    }

    /// The daemon starts, reads an empty journal to its end, and stops.
    fn run(&self) -> String {
        let mut command = self.banishd();
        command.args(["--once", "--bus-address", "none", "--journal-directory"]).arg(self.path("journal"));
        said(command.output().unwrap(), true)
    }
}

fn said(output: Output, well: bool) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), well, "{text}");
    text
}

fn some() -> [(&'static str, String, u64); 5] {
    [
        ("sshd", "192.0.2.1".into(), 3600),
        ("sshd", "2001:db8::/64".into(), 3600),
        ("manual", "198.51.100.0/23".into(), 0),
        ("sshd", "192.0.2.2".into(), 7200),
        ("removed", "192.0.2.3".into(), 3600),
    ]
}

#[test]
fn the_bans_of_the_ledger_are_in_force_and_the_daemon_finds_nothing_to_change() {
    in_space(|| {
        let world = World::new();
        world.banned(some());
        let text = world.restore(true);
        assert!(text.contains("restored 4 bans"), "{text}");
        let restored = ruleset();
        let all = restored.join("\n");
        for part in ["192.0.2.1 ", "192.0.2.2 ", "2001:db8:: ", "198.51.100.0 ", "chain hosts", "set sshd4_32"] {
            assert!(all.contains(part), "{part} in {all}");
        }
        assert!(!all.contains("192.0.2.3"), "nobody is banned by a jail that is not there");
        let text = world.run();
        assert!(text.contains("1 jail, 4 bans in force") && !text.contains("adopted"), "{text}");
        assert_eq!(ruleset(), restored);
        assert!(world.restore(true).contains("restored 4 bans"), "again, as by hand");
        assert_eq!(ruleset(), restored);
    });
}

#[test]
fn what_is_over_is_not_restored_and_what_is_left_is_not_prolonged() {
    in_space(|| {
        let world = World::new();
        world.banned([("sshd", "192.0.2.1".into(), 1), ("sshd", "192.0.2.2".into(), 3600)]);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(world.restore(true).contains("restored 1 ban"));
        let listed = nft("list set inet banish sshd4_32");
        assert!(!listed.contains("192.0.2.1 ") && listed.contains("192.0.2.2 timeout 59m"), "{listed}");
    });
}

#[test]
fn without_bans_there_is_nothing_to_do() {
    in_space(|| {
        let world = World::new();
        assert!(world.restore(true).contains("restored 0 bans"), "no ledger");
        world.banned([]);
        assert!(world.restore(true).contains("restored 0 bans"), "an empty one");
        fs::remove_dir_all(world.path("state")).unwrap();
        assert!(world.restore(true).contains("restored 0 bans"), "not even a directory");
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn a_broken_configuration_keeps_every_ban_in_force() {
    in_space(|| {
        let world = World::new();
        world.banned(some());
        world.configure("enabled = true\nfilter = \"sshd\"\nport = [\"ssh\"\nmaxretry = 5");
        let text = world.restore(true);
        assert!(text.contains("sshd.toml:") && text.contains("restored 5 bans"), "{text}");
        let all = nft("list table inet banish");
        assert!(all.contains("192.0.2.1 ") && all.contains("192.0.2.3 ") && !all.contains("chain ports"), "{all}");
        fs::remove_dir_all(world.path("etc")).unwrap();
        nft("flush ruleset");
        let text = world.restore(true);
        assert!(text.contains("restored"), "{text}");
    });
}

#[test]
fn a_ledger_that_cannot_be_read_is_told_and_left_alone() {
    in_space(|| {
        let world = World::new();
        world.banned(some());
        nft("add table inet banish");
        let (file, before) = (world.path("state").join(FILE), nft("list ruleset"));
        let whole = fs::read(&file).unwrap();
        let damaged: [(Vec<u8>, &str); 3] = [
            (vec![b'x'; 5000], "damaged"),
            (Vec::new(), "empty"),
            (whole.iter().enumerate().map(|(at, byte)| if at > 4096 { 0xaa } else { *byte }).collect(), "damaged"),
        ];
        for (bytes, why) in damaged {
            fs::write(&file, &bytes).unwrap();
            let text = world.restore(false);
            assert!(text.contains("no bans restored") && text.contains(why), "{text}");
            assert_eq!((fs::read(&file).unwrap(), nft("list ruleset")), (bytes, before.clone()));
        }
    });
}

#[test]
fn where_the_kernel_refuses_that_is_told() {
    in_space(|| {
        let world = World::new();
        world.banned(some());
        let holder = Wall::new(None);
        holder.restore(banish::firewall::Policy { owner: true, ..policy() }, vec![]);
        if holder.firewall.kernel().owner {
            let text = world.restore(false);
            assert!(text.contains("no bans restored") && text.contains("belongs to another program"), "{text}");
        }
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(env!("CARGO_BIN_EXE_banishd"));
        command.arg("--restore").arg("--config").arg(world.path("etc")).arg("--state").arg(world.path("state"));
        let text = said(command.output().unwrap(), false);
        assert!(text.contains("no bans restored") && text.contains("Operation not permitted"), "{text}");
    });
}

#[test]
fn a_running_daemons_table_is_left_alone() {
    in_space(|| {
        let world = World::new();
        world.banned(some());
        let (store, _) = Store::open(&world.path("state"), now()).unwrap();
        let text = world.restore(true);
        assert!(text.contains("banishd is running"), "{text}");
        assert_eq!(nft("list ruleset"), "");
        store.close().unwrap();
        assert!(world.restore(true).contains("restored 4 bans"));
    });
}

/// There nobody may enlarge a socket's buffer beyond the system's default, and so many bans do not fit into it.
#[test]
fn in_a_user_namespace_the_bans_follow_the_table_in_increments() {
    let world = World::new();
    let address = |number: u32| std::net::Ipv4Addr::from_bits(0x0b00_0000 + number).to_string();
    world.banned((0..20_000).map(|number| ("sshd", address(number), 3600)));
    let within = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "sh", "-ec", script, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_banishd")).arg(world.path("etc")).arg(world.path("state"));
        command.output().unwrap()
    };
    if !within("nft add table inet banish").status.success() {
        return eprintln!("skipped: no user namespace to be had");
    }
    let script = "\"$1\" --config \"$2\" --state \"$3\" --restore; nft list set inet banish sshd4_32; nft list map inet banish tcp_ports";
    let output = within(script);
    let text = said(output.clone(), true);
    assert!(text.contains("restored 20000 bans"), "{text}");
    let listed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(listed.matches("expires").count(), 20_000);
    assert!(listed.contains("goto group_1"), "where its port leads too");
}
