//! `org.banish1` over a private message bus: every method, property and signal, and callers who mean ill.
#![cfg(feature = "daemon")]
#![allow(clippy::disallowed_methods, reason = "tests are an edge")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "bus/hostile.rs"]
mod hostile;
#[path = "bus/interface.rs"]
mod interface;
#[path = "bus/private.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod private;
#[path = "bus/raw.rs"]
#[allow(dead_code, reason = "shared with the siege")]
mod raw;
#[path = "bus/sys.rs"]
mod sys;
#[path = "bus/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;

use banish::bus::proxy::{JailProxy, ManagerProxy};
use banish::bus::{Bus, BusError, CALLS_PER_SENDER, News, PATH, ROWS, Refusal};
use banish::engine::ban::End;
use banish::engine::time::Length;
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use private::{Policy, Polkit, PrivateBus};
use table::{GATEWAY, IGNORED, NOW, REFUSED, SLOW, World, name};
use zbus::fdo::{IntrospectableProxy, ObjectManagerProxy, PropertiesProxy};

const HOUR: u64 = 3_600_000_000;
/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("it does not take so long")
}

async fn open() -> (PrivateBus, World) {
    let bus = PrivateBus::start(Policy::Open);
    let world = World::start(&bus.at()).await.unwrap();
    (bus, world)
}

async fn manager(bus: &PrivateBus) -> ManagerProxy<'static> {
    ManagerProxy::new(&bus.client().await).await.unwrap()
}

async fn jail(bus: &PrivateBus, name: &str) -> JailProxy<'static> {
    manager(bus).await.get_jail(name).await.unwrap()
}

fn is_root() -> bool {
    let root = std::fs::metadata("/proc/self").map(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if !matches!(root, Ok(true)) {
        eprintln!("skipped: needs root to call as somebody else");
        return false;
    }
    true
}

#[tokio::test]
async fn what_is_served_is_what_is_documented() {
    let (bus, _world) = open().await;
    let client = bus.client().await;
    for (path, interface) in [(PATH, "org.banish1.Manager"), ("/org/banish1/jail/sshd", "org.banish1.Jail")] {
        let file = format!("{}/dbus/{interface}.xml", env!("CARGO_MANIFEST_DIR"));
        let documented = std::fs::read_to_string(file).unwrap();
        let object = IntrospectableProxy::builder(&client).destination("org.banish1").path(path).build().await.unwrap();
        let served = object.introspect().await.unwrap();
        assert_eq!(interface::members(&served, interface), interface::members(&documented, interface));
    }
}

#[tokio::test]
async fn all_properties_at_once_are_what_each_is_by_itself() {
    let (bus, _world) = open().await;
    let client = bus.client().await;
    for (path, interface) in [(PATH, "org.banish1.Manager"), ("/org/banish1/jail/sshd", "org.banish1.Jail")] {
        let file = std::fs::read_to_string(format!("{}/dbus/{interface}.xml", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let documented = file.lines().filter(|line| line.contains("<property ")).count();
        let object = PropertiesProxy::builder(&client).destination("org.banish1").path(path).build().await.unwrap();
        let interface: zbus::names::InterfaceName<'_> = interface.try_into().unwrap();
        let all: BTreeMap<String, _> = object.get_all(interface.clone()).await.unwrap().into_iter().collect();
        assert_eq!(all.len(), documented);
        for (name, value) in all {
            assert_eq!(object.get(interface.clone(), &name).await.unwrap(), value, "{name}");
        }
        assert!(object.get(interface, "NoSuchProperty").await.is_err());
        let other = "org.freedesktop.DBus.Peer".try_into().unwrap();
        assert!(object.get_all(other).await.unwrap().is_empty());
        assert!(object.get_all("org.example.Other".try_into().unwrap()).await.is_err());
    }
}

#[tokio::test]
async fn bans_are_made_listed_and_lifted() {
    let (bus, world) = open().await;
    let manager = manager(&bus).await;
    assert_eq!(manager.ban("192.0.2.1", "", HOUR, "noise", false).await.unwrap(), "banned");
    assert_eq!(manager.ban("2001:db8::/64", "sshd", u64::MAX, "", false).await.unwrap(), "banned");
    assert_eq!(manager.ban("::ffff:192.0.2.1", "sshd", 0, "", false).await.unwrap(), "banned");
    assert_eq!(manager.ban(GATEWAY, "sshd", HOUR, "", true).await.unwrap(), "banned");
    {
        let table = world.table();
        assert_eq!(table.orders[0].jail, name("manual"));
        assert_eq!(table.orders[0].length, Some(Length::For(Duration::from_secs(3600))));
        assert_eq!(table.orders[1].length, Some(Length::Permanent));
        assert_eq!(table.orders[2].length, None);
        assert_eq!(table.orders[2].subject.to_string(), "192.0.2.1");
        assert!(table.orders[3].force);
    }

    let rows = manager.list_bans("", "", 0).await.unwrap();
    let places: Vec<_> = rows.iter().map(|row| row.position()).collect();
    let first = &rows[0];
    assert_eq!((first.since, first.until), (NOW.usec(), NOW.usec() + HOUR));
    assert!(first.cause.starts_with("operator uid ") && first.cause.ends_with(": noise"), "{}", first.cause);
    assert_eq!((first.count, first.state.as_str()), (0, "banned"));
    assert_eq!(places, ["manual 192.0.2.1", "sshd 192.0.2.1", "sshd 198.51.100.2", "sshd 2001:db8::/64"]);
    assert_eq!(rows[3].until, u64::MAX);
    assert_eq!(manager.list_bans("manual", "", 0).await.unwrap().len(), 1);

    assert_eq!(manager.unban("192.0.2.1", "").await.unwrap(), 2);
    assert!(matches!(manager.unban("192.0.2.1", "").await, Err(Refusal::NotBanned(_))));
    assert_eq!(manager.unban_all("sshd").await.unwrap(), 2);
    assert_eq!(manager.unban_all("").await.unwrap(), 0);

    let sshd = jail(&bus, "sshd").await;
    assert_eq!(sshd.ban("192.0.2.9", 0, "", false).await.unwrap(), "banned");
    assert_eq!(sshd.unban("192.0.2.9").await.unwrap(), 1);
    assert_eq!(world.table().orders.last().unwrap().jail, name("sshd"));
}

#[tokio::test]
async fn pages_follow_the_key_and_skip_nothing_when_bans_end() {
    let (bus, world) = open().await;
    let manager = manager(&bus).await;
    for n in 0..1100 {
        let place = format!("10.0.{}.{}", n / 256, n % 256);
        manager.ban(&place, "sshd", 0, "", false).await.unwrap();
    }
    assert_eq!(manager.list_bans("", "", 0).await.unwrap().len(), ROWS as usize);
    assert_eq!(manager.list_bans("", "", u32::MAX).await.unwrap().len(), ROWS as usize);
    let page = manager.list_bans("sshd", "", 10).await.unwrap();
    for row in &page[5..] {
        world.table().bans.retain(|place, _| place.subject.to_string() != row.subject);
    }
    let next = manager.list_bans("sshd", &page[9].position(), 10).await.unwrap();
    assert_eq!(next[0].subject, "10.0.0.10");
    assert!(manager.list_bans("", "sshd 255.255.255.255", 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_done_has_a_name() {
    let (bus, world) = open().await;
    let manager = manager(&bus).await;
    let long = "9".repeat(60_000);
    for bad in ["", "example.org", "192.0.2.1/24", "0.0.0.0/0", "fe80::1%eth0", "192.0.2.1\n", &long] {
        assert!(matches!(manager.ban(bad, "", 0, "", false).await, Err(Refusal::InvalidSubject(_))), "{bad:.20}");
        assert!(matches!(manager.unban(bad, "").await, Err(Refusal::InvalidSubject(_))), "{bad:.20}");
    }
    for bad in ["absent", "../etc", "-", "a b", &long] {
        assert!(matches!(manager.ban("192.0.2.1", bad, 0, "", false).await, Err(Refusal::NoSuchJail(_))), "{bad:.20}");
        assert!(matches!(manager.list_bans(bad, "", 0).await, Err(Refusal::NoSuchJail(_))), "{bad:.20}");
        let refusal = Refusal::from(manager.get_jail(bad).await.unwrap_err());
        assert!(matches!(refusal, Refusal::NoSuchJail(_)), "{refusal}");
    }
    for bad in ["sshd", " ", "sshd nobody", "sshd  192.0.2.1", &long] {
        assert!(matches!(manager.list_bans("", bad, 0).await, Err(Refusal::InvalidPosition(_))), "{bad:.20}");
    }
    assert!(matches!(manager.ban(IGNORED, "", 0, "", true).await, Err(Refusal::Ignored(_))));
    assert!(matches!(manager.ban(GATEWAY, "", 0, "", false).await, Err(Refusal::Protected(_))));
    assert!(matches!(manager.ban(REFUSED, "", 0, "", false).await, Err(Refusal::FirewallUnavailable(_))));
    assert!(world.table().bans.is_empty());

    let output =
        bus.busctl(0, &["call", "org.banish1", PATH, "org.banish1.Manager", "Ban", "sstsb", "x", "", "0", "", "false"]);
    let output = output.await;
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no IP address"), "{output:?}");
}

#[tokio::test]
async fn failures_are_told_of_and_forgotten() {
    let (bus, world) = open().await;
    let (manager, sshd) = (manager(&bus).await, jail(&bus, "sshd").await);
    assert_eq!(sshd.attempt("192.0.2.1").await.unwrap(), "counted");
    assert_eq!(sshd.attempt("::ffff:192.0.2.1").await.unwrap(), "counted");
    assert_eq!(sshd.attempt("192.0.2.1").await.unwrap(), "banned");
    assert_eq!(sshd.attempt("2001:db8::1").await.unwrap(), "counted");
    assert!(matches!(sshd.attempt(IGNORED).await, Err(Refusal::Ignored(_))));
    for bad in ["", "192.0.2.0/24", "192.0.2.1/32", "example.org", "fe80::1%eth0", "192.0.2.1\n"] {
        assert!(matches!(sshd.attempt(bad).await, Err(Refusal::InvalidSubject(_))), "{bad}");
        assert!(bad.contains("/") || matches!(manager.forget(bad).await, Err(Refusal::InvalidSubject(_))), "{bad}");
    }
    let manual = jail(&bus, "manual").await;
    assert!(matches!(manual.attempt("192.0.2.1").await, Err(Refusal::NoSuchJail(_))), "one would be a ban there");
    assert_eq!(world.table().attempts.len(), 2);
    assert_eq!(manager.forget("192.0.2.0/24").await.unwrap(), 1);
    assert_eq!(manager.forget("192.0.2.0/24").await.unwrap(), 0);
    assert_eq!(sshd.attempt("192.0.2.1").await.unwrap(), "counted");
}

#[tokio::test]
async fn a_pause_is_seen_at_once_and_told() {
    let (bus, world) = open().await;
    let sshd = jail(&bus, "sshd").await;
    let object = PropertiesProxy::builder(sshd.inner().connection())
        .destination("org.banish1")
        .path(sshd.inner().path())
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build();
    let object = object.await.unwrap();
    let interface = || "org.banish1.Jail".try_into().unwrap();
    let paused = async || bool::try_from(object.get(interface(), "Paused").await.unwrap()).unwrap();
    let mut changes = object.receive_properties_changed().await.unwrap();
    while world.table().looks < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!paused().await);
    sshd.pause(HOUR).await.unwrap();
    assert!(paused().await);
    assert_eq!(world.table().paused[&name("sshd")], Some(Duration::from_secs(3600)));
    let signal = soon(changes.next()).await.unwrap();
    let args = signal.args().unwrap();
    let mut changed: Vec<_> = args.changed_properties().keys().collect();
    changed.sort();
    assert_eq!(changed, [&"Paused", &"PausedUntilUSec"]);
    for forever in [0, u64::MAX] {
        sshd.pause(forever).await.unwrap();
        assert_eq!(world.table().paused[&name("sshd")], None);
    }
    sshd.resume().await.unwrap();
    sshd.resume().await.unwrap();
    assert!(!paused().await);
    let manual = jail(&bus, "manual").await;
    assert!(matches!(manual.pause(0).await, Err(Refusal::NoSuchJail(_))));
    assert!(matches!(manual.resume().await, Err(Refusal::NoSuchJail(_))));
}

#[tokio::test]
async fn a_reason_is_kept_short_and_cannot_forge_a_line() {
    let (bus, world) = open().await;
    let manager = manager(&bus).await;
    manager.ban("192.0.2.1", "", 0, "one\ntwo\u{1b}[2J\u{202e}", false).await.unwrap();
    manager.ban("192.0.2.2", "", 0, &"ß".repeat(20_000), false).await.unwrap();
    assert_eq!(world.table().orders[1].reason.len(), 200);
    for row in manager.list_bans("", "", 0).await.unwrap() {
        assert!(!row.cause.contains(char::is_control), "{:?}", row.cause);
    }
}

#[tokio::test]
async fn properties_show_what_the_loop_says_and_cost_it_little() {
    let (bus, world) = open().await;
    let manager = manager(&bus).await;
    assert_eq!(manager.version().await.unwrap(), env!("CARGO_PKG_VERSION"));
    assert_eq!(manager.bans_active().await.unwrap(), 0);
    assert_eq!(manager.bans_total().await.unwrap(), 0);
    assert_eq!(manager.failures_total().await.unwrap(), 70);
    assert_eq!(manager.entries_read().await.unwrap(), 800);
    assert_eq!(manager.last_entry_usec().await.unwrap(), NOW.usec());
    assert!(!manager.catching_up().await.unwrap());
    assert_eq!(manager.firewall_state().await.unwrap(), "armed");

    let auth = jail(&bus, "nginx-http.auth").await;
    assert_eq!(auth.inner().path().as_str(), "/org/banish1/jail/nginx_2dhttp_2eauth");
    assert_eq!(auth.name().await.unwrap(), "nginx-http.auth");
    assert_eq!(auth.filter().await.unwrap(), "nginx-http.auth");
    assert_eq!(auth.mode().await.unwrap(), "normal");
    assert_eq!(auth.journal_match().await.unwrap(), ["_SYSTEMD_UNIT=ssh.service"]);
    assert_eq!(auth.max_retry().await.unwrap(), 5);
    assert_eq!(auth.find_time_usec().await.unwrap(), 600_000_000);
    assert_eq!(auth.ban_time_usec().await.unwrap(), u64::MAX);
    assert_eq!(auth.ports().await.unwrap(), ["ssh"]);
    assert!(auth.enabled().await.unwrap());
    assert_eq!(auth.currently_failing().await.unwrap(), 3);
    assert_eq!(auth.failures_total().await.unwrap(), 40);
    assert_eq!(auth.currently_banned().await.unwrap(), 0);
    assert_eq!(auth.bans_total().await.unwrap(), 6);
    assert_eq!(auth.last_failure_usec().await.unwrap(), NOW.usec());
    assert_eq!(auth.packets_dropped().await.unwrap(), 1234);

    let client = bus.client().await;
    let properties = PropertiesProxy::builder(&client).destination("org.banish1").path(PATH).build().await.unwrap();
    let interface = || "org.banish1.Manager".try_into().unwrap();
    manager.ban("192.0.2.1", "", 0, "", false).await.unwrap();
    let now = properties.get(interface(), "BansActive").await.unwrap();
    assert_eq!(u32::try_from(now).unwrap(), 1, "what a caller has done itself it sees at once");

    let before = world.table().looks;
    let (elapsed, all) = {
        let start = std::time::Instant::now();
        let all = join_all((0..100).map(|_| properties.get_all(interface()))).await;
        (start.elapsed(), all)
    };
    assert!(all.iter().all(|answer| answer.as_ref().unwrap().len() == 13));
    let looks = world.table().looks - before;
    let bound = 8 + elapsed.as_millis() as usize / 25;
    assert!(looks <= bound, "800 readings asked the loop {looks} times in {elapsed:?}");

    let check = manager.check().await.unwrap();
    assert_eq!((check[0].severity.as_str(), check[0].jail.as_str()), ("warning", "sshd"));
    assert_eq!(check[0].text, "port 22 is open to all");

    assert_eq!(manager.configuration().await.unwrap(), "current");
    assert_eq!(manager.left_out().await.unwrap(), Vec::<String>::new());
    assert_eq!(manager.reload_refused_usec().await.unwrap(), 0);
    world.table().configuration = banish::bus::Configuration::Incomplete;
    world.table().left_out = vec!["web".into()];
    world.bus.changed();
    // The proxy learns of it by the signal.
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while manager.configuration().await.unwrap() != "incomplete" {
        assert!(tokio::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refusal = Refusal::from(manager.get_jail("web").await.unwrap_err());
    assert!(refusal.to_string().contains("does not run, for the configuration is in error"), "{refusal}");
}

#[tokio::test]
async fn jails_come_and_go_with_a_reload() {
    let (bus, world) = open().await;
    let manager = manager(&bus).await;
    let client = bus.client().await;
    let objects = ObjectManagerProxy::builder(&client).destination("org.banish1").path(PATH).build().await.unwrap();
    let managed = objects.get_managed_objects().await.unwrap();
    let mut paths: Vec<_> = managed.keys().map(|path| path.to_string()).collect();
    paths.sort();
    let jails = "/org/banish1/jail";
    assert_eq!(paths, [format!("{jails}/manual"), format!("{jails}/nginx_2dhttp_2eauth"), format!("{jails}/sshd")]);
    let sshd = format!("{jails}/sshd");
    let properties = PropertiesProxy::builder(&client).destination("org.banish1").path(sshd.as_str()).build().await;
    let all = properties.unwrap().get_all("org.banish1.Jail".try_into().unwrap()).await.unwrap();
    assert_eq!(managed[&zbus::OwnedObjectPath::try_from(sshd.as_str()).unwrap()]["org.banish1.Jail"], all);
    assert_eq!(all.len(), 17);

    let mut added = objects.receive_interfaces_added().await.unwrap();
    let mut removed = objects.receive_interfaces_removed().await.unwrap();
    let mut reloads = manager.receive_reloaded().await.unwrap();
    world.table().next = Some(Ok(vec![name("manual"), name("sshd"), name("0day")]));
    manager.reload().await.unwrap();
    assert_eq!(jail(&bus, "0day").await.name().await.unwrap(), "0day");
    let signal = soon(added.next()).await.unwrap();
    let args = signal.args().unwrap();
    assert_eq!(args.object_path().as_str(), "/org/banish1/jail/_30day");
    assert_eq!(args.interfaces_and_properties()["org.banish1.Jail"].len(), 17);
    let signal = soon(removed.next()).await.unwrap();
    assert_eq!(signal.args().unwrap().object_path().as_str(), "/org/banish1/jail/nginx_2dhttp_2eauth");
    assert!(soon(reloads.next()).await.unwrap().args().unwrap().ok);
    let refusal = Refusal::from(manager.get_jail("nginx-http.auth").await.unwrap_err());
    assert!(matches!(refusal, Refusal::NoSuchJail(_)), "{refusal}");
    assert_eq!(objects.get_managed_objects().await.unwrap().len(), 3);

    let problems = "jail.d/sshd.toml:3:1: jail.sshd.maxretry: expected a number";
    world.table().next = Some(Err(problems.into()));
    assert_eq!(manager.reload().await, Err(Refusal::InvalidConfig(problems.into())));
    let signal = soon(reloads.next()).await.unwrap();
    let args = signal.args().unwrap();
    assert_eq!((args.ok, args.text.as_str()), (false, problems));
    assert_eq!(objects.get_managed_objects().await.unwrap().len(), 3);
}

#[tokio::test]
async fn changed_counts_are_told_to_everybody_and_moving_ones_are_not() {
    let (bus, world) = open().await;
    let client = bus.client().await;
    let watch = |path: &'static str| {
        PropertiesProxy::builder(&client)
            .destination("org.banish1")
            .path(path)
            .cache_properties(zbus::proxy::CacheProperties::No)
    };
    let (manager_object, jail_object) =
        (watch(PATH).build().await.unwrap(), watch("/org/banish1/jail/sshd").build().await.unwrap());
    let mut of_manager = manager_object.receive_properties_changed().await.unwrap();
    let mut of_jail = jail_object.receive_properties_changed().await.unwrap();
    // The first look is what later ones are compared with.
    while world.table().looks < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    jail(&bus, "sshd").await.ban("192.0.2.1", 0, "", false).await.unwrap();
    let names = |changed: &zbus::fdo::PropertiesChangedArgs<'_>| {
        let mut names: Vec<String> = changed.changed_properties().keys().map(|name| name.to_string()).collect();
        names.sort();
        names
    };
    let signal = soon(of_manager.next()).await.unwrap();
    assert_eq!(names(&signal.args().unwrap()), ["BansActive", "BansTotal"]);
    let signal = soon(of_jail.next()).await.unwrap();
    assert_eq!(names(&signal.args().unwrap()), ["CurrentlyBanned"]);
}

#[tokio::test]
async fn news_goes_to_subscribers_alone() {
    let (bus, _world) = open().await;
    let (subscriber, stranger) = (manager(&bus).await, manager(&bus).await);
    let mut banned = subscriber.receive_banned().await.unwrap();
    let mut unbanned = subscriber.receive_unbanned().await.unwrap();
    let all = zbus::MatchRule::builder().msg_type(zbus::message::Type::Signal).sender("org.banish1").build().unwrap();
    let stranger_ear = stranger.inner().connection();
    let mut overheard = zbus::MessageStream::for_match_rule(all, stranger_ear, None).await.unwrap();
    subscriber.subscribe().await.unwrap();
    subscriber.subscribe().await.unwrap();

    stranger.ban("192.0.2.1", "sshd", HOUR, "noise", false).await.unwrap();
    stranger.unban("192.0.2.1", "").await.unwrap();
    let signal = soon(banned.next()).await.unwrap();
    let args = signal.args().unwrap();
    assert_eq!((args.jail.as_str(), args.subject.as_str(), args.until), ("sshd", "192.0.2.1", NOW.usec() + HOUR));
    assert_eq!(args.count, 0);
    assert!(args.cause.ends_with(": noise"), "{}", args.cause);
    let signal = soon(unbanned.next()).await.unwrap();
    let args = signal.args().unwrap();
    assert_eq!((args.jail.as_str(), args.subject.as_str(), args.cause.as_str()), ("sshd", "192.0.2.1", "operator"));

    subscriber.unsubscribe().await.unwrap();
    stranger.ban("192.0.2.2", "sshd", HOUR, "", false).await.unwrap();
    stranger.reload().await.unwrap();
    // `Reloaded` comes after whatever was sent before it: what has not come by then does not come.
    loop {
        let signal = soon(overheard.next()).await.unwrap().unwrap();
        let address = signal.data().windows(7).any(|bytes| bytes == b"192.0.2");
        assert!(!address, "an address was broadcast: {signal}");
        if signal.header().member().unwrap().as_str() == "Reloaded" {
            break;
        }
    }
    assert!(banned.next().now_or_never().is_none(), "once was enough, and none after unsubscribing");
}

#[tokio::test]
async fn who_has_left_makes_room_for_others() {
    let (bus, _world) = open().await;
    let mut clients = Vec::new();
    let refusal = loop {
        let client = manager(&bus).await;
        match client.subscribe().await {
            Ok(()) => clients.push(client),
            Err(refusal) => break refusal,
        }
        assert!(clients.len() < 100);
    };
    assert!(matches!(refusal, Refusal::LimitsExceeded(_)), "{refusal}");
    clients.truncate(clients.len() - 3);
    let late = manager(&bus).await;
    soon(async {
        while late.subscribe().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut banned = late.receive_banned().await.unwrap();
    late.ban("192.0.2.1", "", 0, "", false).await.unwrap();
    soon(banned.next()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_never_reads_hinders_nobody() {
    let (bus, world) = open().await;
    let mut deaf = deaf_subscriber(&bus.address["unix:path=".len()..]);
    let client = manager(&bus).await;
    client.subscribe().await.unwrap();
    let mut unbanned = client.receive_unbanned().await.unwrap();
    client.ban("192.0.2.1", "", 0, "", false).await.unwrap();
    let place = world.table().bans.keys().next().unwrap().clone();
    for _ in 0..100 {
        for _ in 0..50 {
            world.bus.announce(News::Unbanned { place: &place, end: End::Expired });
        }
        for _ in 0..50 {
            soon(unbanned.next()).await.unwrap();
        }
        assert_eq!(soon(client.bans_active()).await.unwrap(), 1);
    }
    let mut unread = vec![0; 65536];
    let length = deaf.read(&mut unread).unwrap();
    assert!(unread[..length].windows(8).any(|bytes| bytes == b"Unbanned"), "it was a subscriber all along");
}

/// A client that says hello, subscribes, and never reads again.
fn deaf_subscriber(socket: &str) -> std::os::unix::net::UnixStream {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let uid: String = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap())
        .to_string()
        .bytes()
        .map(|digit| format!("{digit:02x}"))
        .collect();
    write!(stream, "\0AUTH EXTERNAL {uid}\r\n").unwrap();
    let mut answer = [0; 256];
    let length = stream.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"OK "), "{answer:?}");
    stream.write_all(b"BEGIN\r\n").unwrap();
    for (path, to, interface, member) in [
        ("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus", "Hello"),
        (PATH, "org.banish1", "org.banish1.Manager", "Subscribe"),
    ] {
        let call = zbus::Message::method_call(path, member).destination(to).interface(interface).build(&()).unwrap();
        stream.write_all(call.data()).unwrap();
    }
    stream
}

#[tokio::test]
async fn two_hundred_calls_at_once_are_all_answered() {
    let (bus, _world) = open().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(manager(&bus).await);
    }
    let calls = (0..200).map(|n| {
        let client = &clients[n % 8];
        async move { client.ban(&format!("10.1.0.{n}"), "sshd", 0, "", false).await }
    });
    for answer in soon(join_all(calls)).await {
        assert_eq!(answer.unwrap(), "banned");
    }
    assert_eq!(clients[0].list_bans("sshd", "", 0).await.unwrap().len(), 200);
}

#[tokio::test]
async fn one_connection_cannot_keep_the_daemon_busy() {
    let (bus, world) = open().await;
    let (greedy, other) = (manager(&bus).await, manager(&bus).await);
    let calls = join_all((0..CALLS_PER_SENDER + 10).map(|_| greedy.ban(SLOW, "", 0, "", false)));
    let meanwhile = async {
        while world.table().waiting() < CALLS_PER_SENDER {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(other.ban("192.0.2.1", "", 0, "", false).await.unwrap(), "banned");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(world.table().waiting(), CALLS_PER_SENDER);
        world.table().release();
    };
    let (answers, ()) = soon(futures_util::future::join(calls, meanwhile)).await;
    let refused = answers.iter().filter(|answer| matches!(answer, Err(Refusal::LimitsExceeded(_)))).count();
    assert_eq!(refused, 10);
    assert_eq!(answers.iter().filter(|answer| answer.as_deref() == Ok("pending")).count(), CALLS_PER_SENDER);
}

#[tokio::test]
async fn the_name_is_owned_once_and_only_where_the_bus_allows() {
    let (bus, world) = open().await;
    assert!(matches!(World::start(&bus.at()).await, Err(BusError::NameTaken)));
    drop(world);
    let stranger = PrivateBus::start(Policy::Stranger);
    assert!(matches!(World::start(&stranger.at()).await, Err(BusError::Name(_))));
    let (requests, _inbox) = tokio::sync::mpsc::channel(1);
    let nowhere = banish::bus::BusAddress::Address("unix:path=/nonexistent/bus".into());
    assert!(matches!(Bus::serve(&nowhere, requests, &[]).await, Err(BusError::Connect(_))));
}

#[tokio::test]
async fn a_lost_bus_is_noticed_and_found_again() {
    let (mut bus, world) = open().await;
    assert!(world.bus.lost().now_or_never().is_none());
    bus.kill();
    soon(world.bus.lost()).await;
    // What the loop still tells goes nowhere, and harms nothing.
    world.bus.reloaded(true, "");
    world.bus.set_jails(&[]);
    let (bus, _world) = open().await;
    assert_eq!(manager(&bus).await.bans_active().await.unwrap(), 0);
}

#[tokio::test]
async fn a_stopped_loop_refuses_by_name() {
    let bus = PrivateBus::start(Policy::Open);
    let (requests, inbox) = tokio::sync::mpsc::channel(1);
    let served = Bus::serve(&bus.at(), requests, &[name("sshd")]).await.unwrap();
    drop(inbox);
    let client = manager(&bus).await;
    assert!(matches!(client.ban("192.0.2.1", "", 0, "", false).await, Err(Refusal::Stopping(_))));
    assert!(client.bans_active().await.is_err());
    drop(served);
    let names = zbus::fdo::DBusProxy::new(client.inner().connection()).await.unwrap();
    soon(async {
        while names.name_has_owner("org.banish1".try_into().unwrap()).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

const NOBODY: u32 = 65534;
const CALL: [&str; 4] = ["call", "org.banish1", PATH, "org.banish1.Manager"];

#[tokio::test]
async fn without_polkit_only_root_may_act_and_see_addresses() {
    if !is_root() {
        return;
    }
    let bus = PrivateBus::start(Policy::Shipped);
    let _world = World::start(&bus.at()).await.unwrap();
    let call = |args: &[&'static str]| [&CALL[..], args].concat();
    let guarded: [&[&str]; 7] = [
        &["Ban", "sstsb", "192.0.2.1", "", "0", "", "false"],
        &["Unban", "ss", "192.0.2.1", ""],
        &["UnbanAll", "s", ""],
        &["ListBans", "ssu", "", "", "0"],
        &["Forget", "s", "192.0.2.1"],
        &["Reload"],
        &["Subscribe"],
    ];
    for args in guarded {
        let output = bus.busctl(NOBODY, &call(args)).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("only root may"), "{args:?}: {said}");
    }
    for args in [&["Check"][..], &["GetJail", "s", "sshd"], &["Unsubscribe"]] {
        let output = bus.busctl(NOBODY, &call(args)).await;
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
    let get = ["get-property", "org.banish1", PATH, "org.banish1.Manager", "BansActive"];
    let output = bus.busctl(NOBODY, &get).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "u 0\n");
    let set = ["set-property", "org.banish1", PATH, "org.banish1.Manager", "BansActive", "u", "7"];
    let output = bus.busctl(0, &set).await;
    assert!(!output.status.success(), "the bus's policy lets nobody set anything");

    let sshd =
        |args: &[&'static str]| [&["call", "org.banish1", "/org/banish1/jail/sshd", "org.banish1.Jail"], args].concat();
    let of_a_jail: [&[&str]; 5] = [
        &["Ban", "stsb", "192.0.2.1", "0", "", "false"],
        &["Unban", "s", "192.0.2.1"],
        &["Attempt", "s", "192.0.2.1"],
        &["Pause", "t", "0"],
        &["Resume"],
    ];
    for args in of_a_jail {
        let said = bus.busctl(NOBODY, &sshd(args)).await.stderr;
        assert!(String::from_utf8_lossy(&said).contains("only root may"), "{args:?}");
        let output = bus.busctl(0, &sshd(args)).await;
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
    bus.busctl(0, &sshd(&["Ban", "stsb", "192.0.2.1", "0", "", "false"])).await;
    for args in guarded {
        let output = bus.busctl(0, &call(args)).await;
        assert!(output.status.success(), "{args:?}: {output:?}");
        if args[0] == "ListBans" {
            assert_eq!(String::from_utf8_lossy(&output.stdout), "a(ssttuss) 0\n");
        }
    }
}

#[tokio::test]
async fn polkit_decides_for_everybody_else() {
    if !is_root() {
        return;
    }
    let bus = PrivateBus::start(Policy::Shipped);
    let rules = r#"polkit.addRule(function(action, subject) {
        if (subject.user != "nobody") return undefined;
        if (action.id == "org.banish1.inspect") return polkit.Result.YES;
        if (action.id == "org.banish1.ban" && action.lookup("jail") == "sshd"
            && action.lookup("subject") == "192.0.2.1") return polkit.Result.YES;
        if (action.id == "org.banish1.attempt" && action.lookup("jail") == "sshd") return polkit.Result.YES;
        if (action.id == "org.banish1.unban") return polkit.Result.NO;
    });"#;
    let Some(_polkit) = Polkit::start(&bus, rules).await else { return };
    let world = World::start(&bus.at()).await.unwrap();
    let call = |args: &[&'static str]| [&CALL[..], args].concat();
    let ban = |subject, jail| call(&["Ban", "sstsb", subject, jail, "0", "", "false"]);

    let output = bus.busctl(NOBODY, &ban("192.0.2.1", "sshd")).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(world.table().orders[0].uid, NOBODY, "the ban is in the caller's name");
    let output = bus.busctl(NOBODY, &call(&["ListBans", "ssu", "", "", "0"])).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("operator uid 65534"), "{output:?}");
    for (args, reason) in [
        (ban("192.0.2.1", ""), "without a password"),
        (ban("192.0.2.2", "sshd"), "without a password"),
        (call(&["Reload"]), "without a password"),
        (call(&["Unban", "ss", "192.0.2.1", ""]), "you are not authorized to lift bans"),
    ] {
        let output = bus.busctl(NOBODY, &args).await;
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{args:?}: {output:?}");
    }
    assert_eq!(world.table().orders.len(), 1);
    let attempt = |jail| ["call", "org.banish1", jail, "org.banish1.Jail", "Attempt", "s", "192.0.2.9"];
    let output = bus.busctl(NOBODY, &attempt("/org/banish1/jail/sshd")).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "s \"counted\"\n", "{output:?}");
    let output = bus.busctl(NOBODY, &attempt("/org/banish1/jail/nginx_2dhttp_2eauth")).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("without a password"), "{output:?}");
    assert_eq!(world.table().attempts.len(), 1);
}
