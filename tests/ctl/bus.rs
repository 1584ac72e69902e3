//! What speaks to the daemon, which here is the bus module over a table in memory.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::Duration;

use banish::bus::{Configuration, News};
use banish::engine::ban::{Ban, Cause, End};
use banish::engine::time::{Length, Stamp};
use serde_json::{Value, json};

use super::private::{Policy, PrivateBus};
use super::table::{GATEWAY, IGNORED, NOW, World, name};
use super::{banishctl, objects, text};

async fn open() -> (PrivateBus, World) {
    let bus = PrivateBus::start(Policy::Open);
    let world = World::start(&bus.at()).await.unwrap();
    (bus, world)
}

/// Runs it while the daemon, in this thread, goes on.
async fn on(bus: &PrivateBus, words: &[&str]) -> Output {
    on_with(bus, words, &[]).await
}

async fn on_with(bus: &PrivateBus, words: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = banishctl(words);
    command.args(["--bus-address", &bus.address]).envs(environment.iter().copied());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn bans_are_made_shown_and_lifted() {
    let (bus, world) = open().await;
    let output = on(&bus, &["ban", "192.0.2.1", "--time", "1h", "--reason", "no\u{1b}[2J\nise"]).await;
    let told = text(&output.stdout);
    assert!(told.starts_with("192.0.2.1 is banned in jail manual until ") && told.ends_with(".\n"), "{told}");
    let output = on(&bus, &["ban", "2001:db8::/64", "-j", "sshd", "-t", "permanent", "--json"]).await;
    assert_eq!(
        objects(&output),
        [json!({ "subject": "2001:db8::/64", "jail": "sshd", "state": "banned", "until_usec": Value::Null })]
    );
    {
        let orders = &world.table().orders;
        assert_eq!(orders[0].length, Some(Length::For(Duration::from_secs(3600))));
        assert_eq!(orders[1].length, Some(Length::Permanent));
        assert!(!orders[1].force);
    }

    let listed = text(&on(&bus, &["list"]).await.stdout);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("SUBJECT        JAIL    SINCE "), "{listed}");
    assert!(lines[1].starts_with("192.0.2.1      manual  Tue 2023-11-14 22:13:20 +00:00  "), "{listed}");
    assert!(lines[2].contains("  never  ") && lines[4] == "2 bans listed.", "{listed}");
    assert!(!listed.contains('\u{1b}'), "{listed}");
    let rows = objects(&on(&bus, &["list", "--json", "--jail", "sshd"]).await);
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["subject"], &rows[0]["until_usec"]), (&json!("2001:db8::/64"), &Value::Null));
    assert_eq!(rows[0]["since_usec"], json!(NOW.usec()));

    let output = on(&bus, &["unban", "192.0.2.1"]).await;
    assert_eq!(text(&output.stdout), "1 ban lifted.\n");
    let output = on(&bus, &["unban", "192.0.2.1"]).await;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), "banishctl: 192.0.2.1 is not banned\n".into()));
    let output = on(&bus, &["unban", "--all", "--jail", "sshd", "--json"]).await;
    assert_eq!(objects(&output), [json!({ "subject": Value::Null, "lifted": 1 })]);
    assert_eq!(text(&on(&bus, &["list"]).await.stdout), "0 bans listed.\n");
}

/// What fail2ban keeps of whom it bans now.
fn fail2bans_database(bans: &[(&str, &str, i64, i64)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(directory.path().join("fail2ban.sqlite3")).unwrap();
    let table =
        "CREATE TABLE bips(ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON)";
    connection.execute(table, []).unwrap();
    for ban in bans {
        connection.execute("INSERT INTO bips(ip, jail, timeofban, bantime) VALUES (?, ?, ?, ?)", *ban).unwrap();
    }
    directory
}

#[tokio::test]
async fn fail2bans_bans_in_force_are_made_for_what_is_left_of_them() {
    let (bus, world) = open().await;
    let now = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs());
    let now = now.unwrap();
    let directory = fail2bans_database(&[
        ("192.0.2.1", "sshd", now - 3_600, 86_400),
        ("192.0.2.2", "sshd", now - 3_600, 60),
        ("2001:db8::1", "sshd", 1, -1),
        (IGNORED, "sshd", now, 600),
        ("192.0.2.3", "no-such-jail", now, 600),
        ("192.0.2.4", "\u{1b}[2J", now, 600),
        ("someone", "sshd", now, 600),
    ]);
    let database = directory.path().join("fail2ban.sqlite3");
    let words = ["import", "--bans", "--json", "--database", database.to_str().unwrap()];
    let checked = on(&bus, &[&words[..], &["--check"]].concat()).await;
    assert_eq!(objects(&checked).len(), 6);
    assert!(world.table().orders.is_empty());

    let output = on(&bus, &words).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let states: Vec<(String, String)> = objects(&output)
        .iter()
        .map(|ban| (ban["subject"].as_str().unwrap().to_owned(), ban["state"].as_str().unwrap().to_owned()))
        .collect();
    let made: Vec<&str> = states.iter().filter(|(_, state)| state == "banned").map(|(ban, _)| ban.as_str()).collect();
    assert_eq!((made, states.len()), (vec!["192.0.2.1", "2001:db8::1"], 6));
    assert!(!output.stdout.contains(&0x1b));
    let table = world.table();
    let of = |subject: &str| table.orders.iter().find(|order| order.subject.to_string() == subject).unwrap();
    let Some(Length::For(left)) = of("192.0.2.1").length else { panic!("no length") };
    assert!((82_000..=82_800).contains(&left.as_secs()), "{left:?}");
    assert_eq!(of("2001:db8::1").length, Some(Length::Permanent));
    assert!(table.orders.iter().all(|order| !order.force && order.reason == "brought over from fail2ban"));
}

#[tokio::test]
async fn counting_is_paused_resumed_told_of_and_forgotten() {
    let (bus, world) = open().await;
    let said = async |words: &[&str]| text(&on(&bus, words).await.stdout);
    assert_eq!(said(&["pause", "sshd"]).await, "Jail sshd counts nothing until it is resumed.\n");
    assert_eq!(world.table().paused[&name("sshd")], None);
    assert!(said(&["status"]).await.contains("\nsshd             paused "));
    assert!(said(&["status", "sshd"]).await.contains("     State: paused until it is resumed\n"));
    let jail = objects(&on(&bus, &["status", "sshd", "--json"]).await).remove(0);
    assert_eq!((&jail["enabled"], &jail["paused"]), (&json!(true), &json!(true)));
    let output = on(&bus, &["pause", "sshd", "--for", "1h", "--json"]).await;
    assert_eq!(objects(&output), [json!({ "jail": "sshd", "paused": true, "for_usec": 3_600_000_000u64 })]);
    assert_eq!(world.table().paused[&name("sshd")], Some(Duration::from_secs(3600)));
    assert_eq!(said(&["resume", "sshd"]).await, "Jail sshd counts.\n");
    assert!(world.table().paused.is_empty());

    let attempt = ["attempt", "sshd", "::ffff:192.0.2.1"];
    assert_eq!(said(&attempt).await, "A failure of 192.0.2.1 is counted in jail sshd.\n");
    let output = on(&bus, &[&attempt[..], &["--json"]].concat()).await;
    assert_eq!(objects(&output), [json!({ "jail": "sshd", "address": "192.0.2.1", "result": "counted" })]);
    assert_eq!(said(&attempt).await, "192.0.2.1 is banned in jail sshd.\n");
    assert_eq!(said(&["forget", "192.0.2.1"]).await, "The failures of 192.0.2.1 are forgotten, in 1 place.\n");
    assert_eq!(said(&["forget", "192.0.2.1"]).await, "No failures of 192.0.2.1 were counted.\n");
    let output = on(&bus, &["forget", "192.0.2.0/24", "--json"]).await;
    assert_eq!(objects(&output), [json!({ "subject": "192.0.2.0/24", "forgotten": 0 })]);
    for words in [&["pause", "absent"][..], &["resume", "manual"], &["attempt", "sshd", IGNORED]] {
        let output = on(&bus, words).await;
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(text(&output.stderr).starts_with("banishctl: "), "{words:?}");
    }
}

#[tokio::test]
async fn a_long_list_is_whole() {
    let (bus, world) = open().await;
    for n in 0..2500 {
        let subject = format!("10.0.{}.{}", n / 256, n % 256).parse().unwrap();
        let place = banish::engine::ban::Place { jail: name("sshd"), subject };
        let cause = Cause::Adopted;
        world.table().bans.insert(place.clone(), Ban { place, since: NOW, until: Stamp::NEVER, failures: 1, cause });
    }
    assert_eq!(objects(&on(&bus, &["list", "--json"]).await).len(), 2500);
    assert!(text(&on(&bus, &["list"]).await.stdout).ends_with("\n2500 bans listed.\n"));
}

#[tokio::test]
async fn the_status_shows_the_daemon_and_its_jails() {
    let (bus, _world) = open().await;
    on(&bus, &["ban", "192.0.2.1", "--jail", "sshd"]).await;
    let output = on(&bus, &[]).await;
    let shown = text(&output.stdout);
    assert!(shown.starts_with(&format!("* banishd {}\n", env!("CARGO_PKG_VERSION"))), "{shown}");
    assert!(shown.contains("  Firewall: armed\n      Bans: 1 in force, 1 since the start\n"), "{shown}");
    assert!(shown.contains("\nnginx-http.auth  enabled"), "{shown}");

    let whole = objects(&on(&bus, &["status", "--json"]).await).remove(0);
    assert_eq!(
        (&whole["running"], &whole["bans_active"], &whole["entries_read"]),
        (&json!(true), &json!(1), &json!(800))
    );
    let jails: Vec<&Value> = whole["jails"].as_array().unwrap().iter().map(|jail| &jail["jail"]).collect();
    assert_eq!(jails, ["manual", "nginx-http.auth", "sshd"]);

    let jail = text(&on(&bus, &["status", "sshd"]).await.stdout);
    assert!(jail.starts_with("* sshd - jail of banishd\n") && jail.contains("\n192.0.2.1  sshd  "), "{jail}");
    let output = on(&bus, &["status", "absent"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("banishctl: "), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_daemon_that_is_not_there_has_a_status_of_its_own() {
    let bus = PrivateBus::start(Policy::Open);
    for words in [&["status"][..], &["list"], &["ban", "192.0.2.1"], &["monitor"], &["reload"], &["check"]] {
        assert_eq!(on(&bus, words).await.status.code(), Some(3), "{words:?}");
    }
    assert_eq!(objects(&on(&bus, &["status", "--json"]).await), [json!({ "running": false })]);
}

#[tokio::test]
async fn what_is_refused_is_told_and_force_is_passed_on() {
    let (bus, world) = open().await;
    for (subject, text_of_it) in [(GATEWAY, "it is the default gateway"), (IGNORED, "it is on the allow list")] {
        let output = on(&bus, &["ban", subject]).await;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), format!("banishctl: {text_of_it}\n")));
    }
    assert!(on(&bus, &["ban", GATEWAY, "--force"]).await.status.success());
    assert!(world.table().orders.last().unwrap().force);
}

#[tokio::test]
async fn nobody_bans_his_own_ssh_client_by_mistake() {
    let (bus, world) = open().await;
    let environment = [("SSH_CONNECTION", "192.0.2.7 50022 192.0.2.1 22")];
    let output = on_with(&bus, &["ban", "192.0.2.0/24"], &environment).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--force"), "{}", text(&output.stderr));
    assert!(world.table().orders.is_empty());
    assert!(on_with(&bus, &["ban", "192.0.2.0/24", "--force"], &environment).await.status.success());
    assert!(on_with(&bus, &["ban", "198.51.100.0/24"], &environment).await.status.success());
}

#[tokio::test]
async fn a_reload_tells_every_problem() {
    let (bus, world) = open().await;
    let output = on(&bus, &["reload"]).await;
    assert_eq!(text(&output.stdout), "The new configuration is in force.\n");
    world.table().next = Some(Err("/etc/a.toml:1:2: x\n/etc/b.toml:3:4: \u{1b}y".into()));
    let output = on(&bus, &["reload"]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.ends_with(":\n/etc/a.toml:1:2: x\n/etc/b.toml:3:4: \\u{1b}y\n"), "{said}");
}

#[tokio::test]
async fn findings_are_shown() {
    let (bus, _world) = open().await;
    let output = on(&bus, &["check"]).await;
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "warning: jail sshd: port 22 is open to all\n".into())
    );
    let found = json!({ "severity": "warning", "jail": "sshd", "text": "port 22 is open to all" });
    assert_eq!(objects(&on(&bus, &["check", "--json"]).await), [found]);
}

#[tokio::test]
async fn bash_offers_who_is_banned() {
    let (bus, _world) = open().await;
    for (subject, jail) in [("192.0.2.1", "manual"), ("2001:db8::/64", "sshd")] {
        assert!(on(&bus, &["ban", subject, "--jail", jail, "--time", "1h"]).await.status.success());
    }
    let offered = async |words: &str| {
        let line = format!("banishctl --bus-address {} unban {words}", bus.address);
        tokio::task::spawn_blocking(move || super::offline::offered(&line)).await.unwrap()
    };
    let all = offered("").await;
    assert!(all.contains(&"192.0.2.1".into()) && all.contains(&"2001:db8::/64".into()), "{all:?}");
    assert_eq!(offered("192").await, ["192.0.2.1"]);
    // bash replaces what stands behind the last colon.
    assert_eq!(offered("2001:d").await, ["db8::/64"]);
    assert!(!offered("--jail sshd ").await.contains(&"192.0.2.1".into()));
}

#[tokio::test]
async fn what_is_wrong_comes_first_and_jails_left_out_have_a_row_of_their_own() {
    let (bus, world) = open().await;
    {
        let mut table = world.table();
        table.configuration = Configuration::Incomplete;
        table.left_out = vec!["web".into(), "x\u{1b}y".into()];
        let (text, public) =
            ("/etc/x.toml:2:1: jail.web.port: \u{1b}[2J", "/etc/x.toml:2:1: jail.web.port is in error");
        table.error = Some((Some(name("web")), text.into(), public.into()));
        table.disabled.insert(name("nginx-http.auth"));
    }
    let output = on(&bus, &["status"]).await;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("\nweb  LEFT OUT  /etc/x.toml:2:1: jail.web.port: \\u{1b}[2J\n"), "{shown}");
    assert!(shown.contains("\nx\\u{1b}y  LEFT OUT  ") && !shown.contains('\u{1b}'), "{shown}");
    assert!(!shown.contains("nginx") && shown.ends_with("\n1 more is disabled: --all\n"), "{shown}");
    assert!(shown.contains("\n  Doubtful: 1 warning: banishctl check\n"), "{shown}");
    assert!(text(&on(&bus, &["status", "--all"]).await.stdout).contains("\nnginx-http.auth  disabled "));
    let whole = objects(&on(&bus, &["status", "--json"]).await).remove(0);
    assert_eq!((&whole["configuration"], &whole["left_out"][0]), (&json!("incomplete"), &json!("web")));
    assert_eq!((whole["jails"].as_array().unwrap().len(), &whole["reload_refused_usec"]), (3, &Value::Null));
    assert_eq!(whole["findings"][0]["severity"], "error");

    let output = on(&bus, &["status", "web"]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("LEFT OUT") && text(&output.stdout).contains("jail.web.port: "));
    let output = on(&bus, &["status", "nginx-http.auth"]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("[jail.nginx-http.auth] and enabled = true"));
    assert_eq!(on(&bus, &["check"]).await.status.code(), Some(1));

    world.table().error = Some((None, "the reload of now was refused".into(), "x".into()));
    let shown = text(&on(&bus, &["status"]).await.stdout);
    assert_eq!(shown.lines().nth(1), Some("     Wrong: the reload of now was refused"), "{shown}");
}

#[tokio::test]
async fn a_reload_tells_of_jails_that_no_longer_run() {
    let (bus, world) = open().await;
    world.table().no_longer_running = vec!["web".into()];
    let output = on(&bus, &["reload"]).await;
    assert_eq!(text(&output.stdout), "The new configuration is in force.\nJail web no longer runs.\n");
    let told = objects(&on(&bus, &["reload", "--json"]).await);
    assert_eq!(told, [json!({ "reloaded": true, "no_longer_running": ["web"] })]);
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if !is_root {
        return eprintln!("skipped: needs root to call as somebody else");
    }
    let (bus, _world) = open().await;
    // The build's directory may be closed to others; a copy beside the bus is not.
    let copy = bus.dir.path().join("banishctl");
    std::fs::copy(env!("CARGO_BIN_EXE_banishctl"), &copy).unwrap();
    for (words, right) in [
        (&["ban", "192.0.2.1"][..], "org.banish1.ban"),
        (&["unban", "--all"], "org.banish1.unban"),
        (&["list"], "org.banish1.inspect"),
        (&["reload"], "org.banish1.manage"),
        (&["monitor"], "org.banish1.inspect"),
        (&["forget", "192.0.2.1"], "org.banish1.unban"),
        (&["pause", "sshd"], "org.banish1.manage"),
        (&["resume", "sshd"], "org.banish1.manage"),
        (&["attempt", "sshd", "192.0.2.1"], "org.banish1.attempt"),
    ] {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(words);
        command.args(["--bus-address", &bus.address]).current_dir("/");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{words:?}: {said}");
        assert!(said.starts_with("banishctl: not allowed: ") && said.contains(&format!("action {right})")), "{said}");
    }
}

/// A running `banishctl monitor` and its lines.
struct Monitor {
    child: std::process::Child,
    lines: Option<BufReader<std::process::ChildStdout>>,
}

impl Monitor {
    fn start(bus: &PrivateBus, more: &[&str]) -> Monitor {
        let mut command = banishctl(&["monitor", "--bus-address", &bus.address]);
        let mut child = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = child.stdout.take().map(BufReader::new);
        Monitor { child, lines }
    }

    async fn line(&mut self) -> String {
        let mut lines = self.lines.take().unwrap();
        let read = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            (line, lines)
        });
        let (line, lines) = tokio::time::timeout(Duration::from_secs(20), read).await.expect("a line comes").unwrap();
        self.lines = Some(lines);
        line
    }

    async fn status(mut self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap().code()).await.unwrap()
    }
}

/// A daemon in a thread of its own, which can be ended.
struct Passing {
    end: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Passing {
    fn start(bus: &PrivateBus) -> Passing {
        let (end, ended) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let address = bus.at();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let _world = World::start(&address).await.unwrap();
                ready.send(()).unwrap();
                let _ = ended.await;
            });
        });
        is_ready.recv().unwrap();
        Passing { end, thread }
    }

    fn stop(self) {
        self.end.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

fn some_ban() -> Ban {
    let place = banish::engine::ban::Place { jail: name("sshd"), subject: "192.0.2.1".parse().unwrap() };
    let cause = Cause::Operator { uid: 0, reason: "a\u{1b}b".into() };
    Ban { place, since: NOW, until: Stamp::NEVER, failures: 5, cause }
}

#[tokio::test]
async fn news_comes_as_it_happens_until_it_is_interrupted() {
    let (bus, world) = open().await;
    let mut monitor = Monitor::start(&bus, &[]);
    assert!(monitor.line().await.starts_with("-- "));
    let ban = some_ban();
    world.bus.announce(News::Banned(&ban));
    let line = monitor.line().await;
    assert!(line.contains(" banned 192.0.2.1 in jail sshd permanently, 5 failures: operator uid 0: a"), "{line}");
    assert!(!line.contains('\u{1b}'), "{line}");
    world.bus.announce(News::Unbanned { place: &ban.place, end: End::Expired });
    assert!(monitor.line().await.ends_with(" unbanned 192.0.2.1 in jail sshd: expired\n"));
    let pid = monitor.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(monitor.status().await, Some(0));
}

#[tokio::test]
async fn a_daemon_that_comes_back_is_followed_again_and_one_that_does_not_ends_it() {
    let bus = PrivateBus::start(Policy::Open);
    let passing = Passing::start(&bus);
    let mut patient = Monitor::start(&bus, &["--json", "--wait", "20s"]);
    let mut hasty = Monitor::start(&bus, &["--json", "--wait", "0"]);
    let event = |line: String| serde_json::from_str::<Value>(&line).unwrap()["event"].clone();
    assert_eq!(event(patient.line().await), "following");
    assert_eq!(event(hasty.line().await), "following");
    passing.stop();
    assert_eq!(event(hasty.line().await), "lost");
    assert_eq!(hasty.status().await, Some(3));
    assert_eq!(event(patient.line().await), "lost");
    let world = World::start(&bus.at()).await.unwrap();
    assert_eq!(event(patient.line().await), "back");
    assert_eq!(event(patient.line().await), "following");
    world.bus.announce(News::Banned(&some_ban()));
    assert_eq!(event(patient.line().await), "banned");
    let mut bus = bus;
    bus.kill();
    assert_eq!(patient.status().await, Some(3));
}
