//! Callers who mean ill: odd notations, odd names, calls that wait for ever, descriptors, and many of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use banish::bus::proxy::ManagerProxy;
use banish::bus::{CALLS_IN_ALL, CALLS_PER_USER, NAME, PATH, Refusal};
use tokio::sync::Notify;
use zbus::zvariant::OwnedVariant;
use zbus::{DBusError, interface};

use super::private::{Policy, PrivateBus};
use super::raw::{Raw, as_user, manager as call_of_manager};
use super::table::World;
use super::{NOBODY, is_root, jail, manager, open, soon};

/// What is no subject, however somebody else reads it.
const NO_SUBJECTS: [&str; 46] = [
    "",
    " ",
    "0x7f.1",
    "0x7f000001",
    "127.1",
    "127.0.1",
    "2130706433",
    "0177.0.0.1",
    "010.0.0.1",
    "192.0.2.01",
    "192.0.2.256",
    "192.0.2",
    "192.0.2.1.",
    ".192.0.2.1",
    "192.0.2.1.5",
    "192.0.2.1 ",
    " 192.0.2.1",
    "\t192.0.2.1",
    "192.0.2.1\n",
    "192.0.2.1\u{a0}",
    "192.0.2.1:22",
    "192.0.2.1%eth0",
    "192.0.2.1/",
    "192.0.2.1/33",
    "192.0.2.0/024",
    "192.0.2.0/+24",
    "192.0.2.0/-1",
    "192.0.2.0/24/24",
    "192.0.2.0/255.255.255.0",
    "192.0.2.1/24",
    "/24",
    "0.0.0.0/0",
    "::/0",
    "::ffff:0.0.0.0/96",
    "::ffff:192.0.2.0/95",
    "2001:db8::/129",
    "2001:db8:::1",
    "1::2::3",
    "[2001:db8::1]",
    "fe80::1%eth0",
    "fe80::1%1",
    "１９２.0.2.1",
    "١٩٢.0.2.1",
    "192.0.2.0/٢٤",
    "localhost",
    "file:/etc/shadow",
];

#[tokio::test]
async fn an_odd_notation_is_no_subject_for_any_method() {
    let (bus, world) = open().await;
    let (manager, sshd) = (manager(&bus).await, jail(&bus, "sshd").await);
    let long = ["1".repeat(10_000), "192.0.2.1/".to_owned() + &"0".repeat(10_000), "\u{1}".repeat(10_000)];
    for bad in NO_SUBJECTS.into_iter().chain(long.iter().map(String::as_str)) {
        for refusal in [
            manager.ban(bad, "", 0, "", true).await.unwrap_err(),
            manager.unban(bad, "").await.unwrap_err(),
            manager.forget(bad).await.unwrap_err(),
            sshd.ban(bad, 0, "", true).await.unwrap_err(),
            sshd.unban(bad).await.unwrap_err(),
            sshd.attempt(bad).await.unwrap_err(),
        ] {
            let named = matches!(&refusal, Refusal::InvalidSubject(text) if text.len() < 1000);
            assert!(named, "{bad:.40}: {refusal:.200}");
        }
    }
    for nobody in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "ff02::1", "::ffff:224.0.0.1"] {
        assert!(matches!(sshd.attempt(nobody).await, Err(Refusal::InvalidSubject(_))), "{nobody}");
    }
    assert!(world.table().orders.is_empty() && world.table().attempts.is_empty());
    for (given, meant) in [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:C000:207", "192.0.2.7"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("192.0.2.1/32", "192.0.2.1"),
    ] {
        manager.ban(given, "", 0, "", false).await.unwrap();
        assert_eq!(world.table().orders.last().unwrap().subject.to_string(), meant);
    }
}

#[tokio::test]
async fn odd_names_are_refused_by_name() {
    let (bus, _world) = open().await;
    let manager = manager(&bus).await;
    for c in (1..=0x2ff).chain([0x202e, 0xfeff, 0x1f600, 0x10ffff]).filter_map(char::from_u32) {
        for name in [format!("{c}"), format!("x{c}x"), format!("{c}sshd")] {
            let refusal = Refusal::from(manager.get_jail(&name).await.unwrap_err());
            assert!(matches!(refusal, Refusal::NoSuchJail(_)), "{name:?}: {refusal}");
        }
    }
    let client = manager.inner().connection();
    let properties = "org.freedesktop.DBus.Properties";
    let ask = async |path: &str, interface: &str, member: &str, body: &(&str, &str)| {
        let asked = client.call_method(Some(NAME), path, Some(interface), member, body).await;
        match asked.unwrap_err() {
            zbus::Error::MethodError(name, ..) => name.to_string(),
            zbus::Error::FDO(error) => error.name().to_string(),
            other => panic!("{path} {interface} {member}: {other}"),
        }
    };
    let sshd = "/org/banish1/jail/sshd";
    for path in ["/", "/org", "/org/banish1/jail", "/org/banish1/jail/sshd_2e", "/org/banish1/jail/_", "/a/b/c"] {
        let name = ask(path, "org.banish1.Jail", "Ban", &("192.0.2.1", "")).await;
        assert!(name.starts_with("org.freedesktop.DBus.Error.Unknown"), "{path}: {name}");
    }
    for (path, interface, property) in [
        (PATH, "org.banish1.Manager", "Bans"),
        (PATH, "org.banish1.Manager", ""),
        (PATH, "org.banish1.Jail", "Name"),
        (PATH, "org.example.Nothing", "Version"),
        (sshd, "org.banish1.Jail", "\u{1}\u{202e}"),
    ] {
        let name = ask(path, properties, "Get", &(interface, property)).await;
        assert!(name.starts_with("org.freedesktop.DBus.Error.Unknown"), "{path} {property}: {name}");
    }
    let set = ("org.banish1.Jail", "Enabled", OwnedVariant::from(false));
    assert!(client.call_method(Some(NAME), sshd, Some(properties), "Set", &set).await.is_err());
    assert!(super::soon(jail(&bus, "sshd").await.enabled()).await.unwrap());
    for (member, body) in [("Ban", ("192.0.2.1", "sshd")), ("Nothing", ("", "")), ("ListBans", ("", ""))] {
        let name = ask(PATH, "org.banish1.Manager", member, &body).await;
        assert!(name.starts_with("org.freedesktop.DBus.Error."), "{member}: {name}");
    }
}

#[tokio::test]
async fn descriptors_and_long_arguments_do_not_wait_with_a_call() {
    let (bus, _world) = open().await;
    let open_to_all = manager(&bus).await;
    let refusal = with_descriptor(&open_to_all).await;
    assert!(refusal.to_string().contains("NotSupported"), "the bus does not hand it over: {refusal}");
    let long = open_to_all.ban("192.0.2.1", "", 0, &"x".repeat(1_000_000), false).await;
    assert!(matches!(long, Err(Refusal::LimitsExceeded(_))), "{long:?}");
    assert_eq!(open_to_all.ban("192.0.2.1", "", 0, &"x".repeat(60_000), false).await.unwrap(), "banned");
    if !is_root() {
        return;
    }
    let bus = PrivateBus::start(Policy::Shipped);
    let _world = World::start(&bus.at()).await.unwrap();
    let guarded = manager(&bus).await;
    let Refusal::Bus(error) = with_descriptor(&guarded).await else { panic!("the bus's policy lets it through") };
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    assert!(guarded.check().await.is_ok());
}

async fn with_descriptor(manager: &ManagerProxy<'_>) -> Refusal {
    let file = std::fs::File::open("/dev/null").unwrap();
    let body = zbus::Fd::from(std::os::fd::OwnedFd::from(file));
    let asked = manager.inner().connection().call_method(Some(NAME), PATH, Some("org.banish1.Manager"), "Check", &body);
    Refusal::from(asked.await.unwrap_err())
}

/// Users that every machine has: a bus turns away who is in no passwd.
const DAEMON: u32 = 1;
const BIN: u32 = 2;

/// polkit as it is while somebody is looking for the password.
struct Thinking {
    asked: Arc<AtomicUsize>,
    decided: Arc<Notify>,
}

type Details = std::collections::HashMap<String, String>;

#[interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Thinking {
    async fn check_authorization(
        &self,
        _subject: (String, std::collections::HashMap<String, OwnedVariant>),
        _action: String,
        _details: Details,
        _flags: u32,
        _cancel: String,
    ) -> (bool, bool, Details) {
        let decided = self.decided.notified();
        self.asked.fetch_add(1, Ordering::SeqCst);
        decided.await;
        (false, false, Details::new())
    }
}

#[tokio::test]
async fn who_vanishes_while_polkit_thinks_holds_up_nobody() {
    if !is_root() {
        return;
    }
    let bus = PrivateBus::start(Policy::Shipped);
    let world = World::start(&bus.at()).await.unwrap();
    let (asked, decided) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let thinking = Thinking { asked: Arc::clone(&asked), decided: Arc::clone(&decided) };
    let builder = bus.at().builder().serve_at("/org/freedesktop/PolicyKit1/Authority", thinking);
    let _polkit = builder.name("org.freedesktop.PolicyKit1").build().await.unwrap();
    let root = manager(&bus).await;

    // Many connections of one user.
    let ask = |uid| {
        let address = bus.address.clone();
        let attack = as_user(uid, move || {
            let mut all: Vec<Raw> = (0..40).map(|_| Raw::connect(&address, uid).unwrap()).collect();
            for raw in &mut all {
                for n in 0..4 {
                    raw.write(&call_of_manager("Ban", &(format!("192.0.2.{n}"), "", 0u64, "", true))).unwrap();
                }
            }
            all
        });
        tokio::task::spawn_blocking(move || attack.join().unwrap())
    };
    let waiting = async |count: usize| {
        soon(async {
            while asked.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        // Those that are too many are refused by the time that another call is answered.
        for _ in 0..20 {
            soon(root.list_bans("", "", 0)).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::SeqCst), count);
    };
    let first = ask(NOBODY).await.unwrap();
    waiting(CALLS_PER_USER).await;
    drop(first);
    let second = ask(DAEMON).await.unwrap();
    waiting(CALLS_IN_ALL).await;
    drop(second);
    let of = async |uid| {
        let address = bus.address.clone();
        let call = as_user(uid, move || {
            let mut raw = Raw::connect(&address, uid).unwrap();
            raw.write(&call_of_manager("ListBans", &("", "", 0u32))).unwrap();
            raw.answers(1).unwrap().remove(0)
        });
        tokio::task::spawn_blocking(move || call.join().unwrap()).await.unwrap()
    };
    assert!(soon(of(BIN)).await.says("org.banish1.Error.LimitsExceeded"));
    assert_eq!(soon(root.ban("192.0.2.200", "", 0, "", false)).await.unwrap(), "banned");

    decided.notify_waiters();
    let third = of(BIN);
    let keep_deciding = async {
        loop {
            decided.notify_waiters();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::select! { answer = soon(third) => answer, () = keep_deciding => unreachable!() };
    assert!(answer.says("org.banish1.Error.NotAuthorized"), "all places are free again");
    assert_eq!(world.table().orders.len(), 1, "nobody's call did anything");
    assert_eq!(Refusal::NotAuthorized(String::new()).name().as_str(), "org.banish1.Error.NotAuthorized");
}
