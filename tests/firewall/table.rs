//! The table as `nft` sees it, and what becomes of bans in it.

use std::fs;
use std::time::{Duration, Instant};

use banish::engine::jail::Action;
use banish::engine::jail::scope::{Ports, Protocol, Scope};
use banish::engine::time::Stamp;
use banish::firewall::{Adopted, Change, Disarmed, Element, FirewallError, LONGEST, Policy, Reach, Replies, disarm};

use super::space::*;

/// Everything that a policy can ask for.
fn every_kind() -> Policy {
    let both = Scope::Ports(Ports::new([22..=22, 2222..=2230, 65000..=65535], [Protocol::Tcp, Protocol::Udp]).unwrap());
    let mut own = jail("own-list.x", both, Action::Reject);
    own.allow = ["203.0.113.0/24".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()].into_iter().collect();
    Policy {
        jails: vec![
            jail("sshd", tcp(22), Action::Drop),
            jail("a4_32", tcp(22), Action::Drop),
            jail("0day", tcp(80), Action::Reject),
            jail(&"long-".repeat(12), tcp(25), Action::Drop),
            own,
            jail("recidive", Scope::AllPorts, Action::Drop),
            jail("only-log", tcp(22), Action::Log),
        ],
        allow: ["192.0.2.1".parse().unwrap(), "10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]
            .into_iter()
            .collect(),
        replies: Replies::Accept,
        reach: Reach::Local,
        interfaces: vec!["eth0".into(), "wg*".into()],
        owner: false,
    }
}

#[test]
fn nft_loads_what_it_lists() {
    on_each_kernel(|wall| {
        let _server = std::net::UdpSocket::bind("0.0.0.0:5001").unwrap();
        for replies in [Replies::Accept, Replies::Drop] {
            let bans = [
                ("sshd", "198.51.100.7"),
                ("a4_32", "198.51.100.0/24"),
                ("0day", "2001:db8::/64"),
                ("own-list.x", "2001:db8:2::/48"),
                ("recidive", "198.51.100.8"),
                ("recidive", "128.0.0.0/1"),
            ];
            let mut bans: Vec<Element> = bans.iter().map(|(jail, subject)| ban(jail, subject, 3600)).collect();
            bans.push(ban("sshd", "198.51.100.9", 0));
            wall.restore(Policy { replies, ..every_kind() }, bans.clone());
            let listed = nft("list ruleset");
            for part in [
                "set sshd4_32",
                "set a4_324_24",
                "set _0day6_64",
                "set own-list.x6_48",
                "set recidive4_1",
                "map tcp_ports",
                "22 : goto group_1",
                "map udp_ranges",
                "65000-65535 : goto group_",
                "comment \"failures\"",
            ] {
                assert!(listed.contains(part), "{part} in {listed}");
            }
            assert_eq!(listed.contains("@ours4 accept"), replies == Replies::Accept, "{listed}");
            if replies == Replies::Accept {
                nft("add element inet banish ours4 { 198.51.100.8 . tcp . 25 . 40000 timeout 1h }");
                assert!(listed.contains("elements = { 5001 }"), "{listed}");
            }
            let listed = nft("list ruleset");
            let (before, file) = (ruleset(), tempfile::NamedTempFile::new().unwrap());
            fs::write(file.path(), &listed).unwrap();
            nft("flush ruleset");
            run("nft", &["-f", file.path().to_str().unwrap()]);
            assert_eq!(ruleset(), before);
            let differences = wall.wait(wall.firewall.audit(bans, now(), true)).unwrap();
            assert!(!differences.rebuilt, "{differences:?}");
            assert_eq!(ruleset(), before);
            nft("flush ruleset");
        }
    });
}

#[test]
fn bans_come_change_and_go() {
    on_each_kernel(|wall| {
        wall.restore(policy(), vec![]);
        wall.apply([
            add("sshd", "198.51.100.7", 3590),
            add("sshd", "198.51.100.0/24", 3600),
            add("sshd", "2001:db8::/64", 3600),
            add("manual", "203.0.113.0/25", 3600),
            add("sshd", "198.51.100.8", 0),
        ])
        .unwrap();
        let left = |set: &str| nft(&format!("list set inet banish {set}"));
        assert!(expires("sshd4_32", "198.51.100.7").starts_with("59m"));
        assert!(left("sshd4_32").contains("198.51.100.8 comment"), "permanent");
        assert!(left("sshd4_24").contains("198.51.100.0 timeout"));
        assert!(left("sshd6_64").contains("2001:db8:: timeout"));
        assert!(left("manual4_25").contains("203.0.113.0 timeout"));
        // Longer, shorter, permanent and back, and lifting what is there and what is not.
        wall.apply([add("sshd", "198.51.100.7", 7190), add("sshd", "198.51.100.8", 55)]).unwrap();
        assert!(expires("sshd4_32", "198.51.100.7").starts_with("1h59m"));
        assert!(expires("sshd4_32", "198.51.100.8").starts_with("5"));
        wall.apply([add("sshd", "198.51.100.7", 590), add("sshd", "198.51.100.8", 0)]).unwrap();
        assert!(expires("sshd4_32", "198.51.100.7").starts_with("9m"));
        assert!(left("sshd4_32").contains("198.51.100.8 comment"));
        for _ in 0..2 {
            wall.apply(
                ["198.51.100.7", "198.51.100.8", "9.9.9.9", "9.9.0.0/16"].map(|s| Change::Remove(place("sshd", s))),
            )
            .unwrap();
        }
        wall.apply([Change::Remove(place("no-such-jail", "198.51.100.7"))]).unwrap();
        assert!(!left("sshd4_32").contains("elements"));
    });
}

/// What is left of an element's time, as `nft` says it; empty where it has none.
fn expires(set: &str, address: &str) -> String {
    let listed = nft(&format!("list set inet banish {set}"));
    let after = |word: &str, text: &str| text.split_once(word).map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    let element = after(&format!("{address} "), &listed);
    after("expires ", element.split([',', '}']).next().unwrap_or_default())
}

#[test]
fn of_several_changes_of_a_place_the_last_counts() {
    on_each_kernel(|wall| {
        wall.restore(policy(), vec![]);
        let gone = || Change::Remove(place("sshd", "192.0.2.1"));
        wall.apply([add("sshd", "192.0.2.1", 60), gone(), add("sshd", "192.0.2.2", 60), gone()]).unwrap();
        wall.apply([Change::Remove(place("sshd", "192.0.2.2")), add("sshd", "192.0.2.2", 7190)]).unwrap();
        let listed = nft("list set inet banish sshd4_32");
        assert!(!listed.contains("192.0.2.1 ") && expires("sshd4_32", "192.0.2.2").starts_with("1h59m"), "{listed}");
    });
}

#[test]
fn the_kernel_forgets_by_itself_and_takes_the_longest_time() {
    on_each_kernel(|wall| {
        wall.restore(policy(), vec![]);
        let soon = Element { until: Stamp::from_usec(now().usec() + 300_000), ..ban("sshd", "192.0.2.1", 0) };
        let late = Element { until: Stamp::from_usec(u64::MAX - 1), ..ban("sshd", "192.0.2.2", 0) };
        let over = Element { until: Stamp::from_usec(now().usec() - 1), ..ban("sshd", "192.0.2.3", 0) };
        wall.apply([soon, late.clone(), over].map(Change::Add)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while nft("list set inet banish sshd4_32").contains("192.0.2.1 ") {
            assert!(Instant::now() < deadline, "still there");
            std::thread::sleep(Duration::from_millis(50));
        }
        let listed = nft("list set inet banish sshd4_32");
        assert!(
            listed.contains(&format!("192.0.2.2 timeout {}d", LONGEST.as_secs() / 86_400))
                && !listed.contains("192.0.2.3")
        );
        assert_eq!(wall.notices_so_far(), [], "an end is not a foreign change");
        assert!(wall.wait(wall.firewall.audit(vec![late], now(), true)).unwrap().is_empty());
    });
}

#[test]
fn hosts_is_made_with_the_first_ban_of_all_ports_and_goes_after_the_last() {
    on_each_kernel(|wall| {
        wall.restore(policy(), vec![]);
        assert!(!nft("list table inet banish").contains("chain hosts"));
        wall.apply([add("sshd", "192.0.2.1", 600), add("manual", "198.51.100.0/23", 600)]).unwrap();
        let listed = nft("list table inet banish");
        assert!(
            listed.contains("chain hosts") && listed.contains("ip saddr & 255.255.254.0 == @manual4_23"),
            "{listed}"
        );
        wall.apply([Change::Remove(place("manual", "198.51.100.0/23"))]).unwrap();
        let differences = wall.wait(wall.firewall.audit(vec![ban("sshd", "192.0.2.1", 600)], now(), true)).unwrap();
        assert!(differences.is_empty(), "{differences:?}");
        let listed = nft("list table inet banish");
        assert!(!listed.contains("chain hosts") && listed.contains("192.0.2.1 "));
    });
}

#[test]
fn a_start_adopts_what_is_in_the_sets() {
    on_each_kernel(|wall| {
        wall.restore(
            policy(),
            vec![ban("sshd", "192.0.2.1", 600), ban("sshd", "2001:db8::/64", 0), ban("manual", "192.0.2.0/23", 600)],
        );
        let again = Wall::new(Some(wall.firewall.kernel()));
        let known = ban("sshd", "192.0.2.2", 600);
        let mut adopted = again.wait(again.firewall.restore(policy(), vec![known.clone()], now())).unwrap();
        adopted.sort_by_key(|one| one.place.clone());
        let places: Vec<_> = adopted.iter().map(|one| one.place.clone()).collect();
        assert_eq!(
            places,
            [place("manual", "192.0.2.0/23"), place("sshd", "192.0.2.1"), place("sshd", "2001:db8::/64")]
        );
        let ends = |one: &Adopted| one.until.since(now()).as_secs();
        assert!((580..=600).contains(&ends(&adopted[1])) && adopted[2].until == Stamp::NEVER);
        assert!(nft("list set inet banish manual4_23").contains("192.0.2.0 "));
        // What nobody took is told again until the audit is final.
        let first = again.wait(again.firewall.audit(vec![known.clone()], now(), false)).unwrap();
        assert_eq!((first.unknown.len(), first.removed), (3, 0));
        let last = again.wait(again.firewall.audit(vec![known.clone()], now(), true)).unwrap();
        assert_eq!(last.removed, 2, "the third went with its set: {last:?}");
        assert!(again.wait(again.firewall.audit(vec![known], now(), true)).unwrap().is_empty());
        assert_eq!(nft("list ruleset").matches("failures").count(), 1);
    });
}

#[test]
fn a_new_policy_keeps_bans_and_lifts_those_of_jails_that_are_gone() {
    on_each_kernel(|wall| {
        let mut before = policy();
        before.jails.push(jail("web", tcp(80), Action::Drop));
        let bans = vec![ban("sshd", "192.0.2.1", 600), ban("web", "192.0.2.2", 600)];
        wall.restore(before, bans.clone());
        let mut after = policy();
        after.jails[0] = jail("sshd", tcp(2222), Action::Reject);
        after.allow = ["203.0.113.1".parse().unwrap()].into_iter().collect();
        wall.wait(wall.firewall.set_policy(after.clone(), bans[..1].to_vec(), now())).unwrap();
        let listed = nft("list ruleset");
        assert!(listed.contains("192.0.2.1 ") && listed.contains("2222") && listed.contains("203.0.113.1"), "{listed}");
        assert!(!listed.contains("web") && !listed.contains(" 22 : goto"), "{listed}");
        assert_eq!(listed.contains("reject"), wall.firewall.kernel().reject);
        wall.wait(wall.firewall.set_policy(policy(), bans[..1].to_vec(), now())).unwrap();
        assert!(!nft("list ruleset").contains("203.0.113.1"));
        assert!(wall.wait(wall.firewall.audit(bans[..1].to_vec(), now(), true)).unwrap().is_empty());
    });
}

#[test]
fn another_programs_table_is_left_alone() {
    on_each_kernel(|wall| {
        nft(
            "add table inet mine; add set inet mine sshd4_32 { type ipv4_addr; flags timeout; }; add element inet mine sshd4_32 { 192.0.2.1 }",
        );
        let before = nft("list table inet mine");
        wall.restore(policy(), vec![ban("sshd", "192.0.2.1", 600)]);
        wall.wait(wall.firewall.rebuild(policy(), vec![], now())).unwrap();
        wall.wait(wall.firewall.set_policy(Policy::default(), vec![], now())).unwrap();
        assert!(wall.wait(wall.firewall.audit(vec![], now(), true)).unwrap().is_empty());
        nft("add element inet mine sshd4_32 { 192.0.2.2 }; delete element inet mine sshd4_32 { 192.0.2.2 }");
        assert_eq!(wall.notices_so_far(), []);
        assert_eq!(nft("list table inet mine"), before);
    });
}

#[test]
fn a_refused_element_is_named_and_the_others_can_be_given_again() {
    on_each_kernel(|wall| {
        wall.restore(policy(), vec![]);
        nft("flush chain inet banish group_1; flush chain inet banish out_group_1; delete set inet banish sshd4_32; \
             add set inet banish sshd4_32 { type ipv4_addr; size 2; flags timeout; }");
        let changes = [
            add("sshd", "2001:db8::/64", 60),
            add("sshd", "192.0.2.1", 60),
            add("sshd", "192.0.2.2", 60),
            add("sshd", "192.0.2.3", 60),
        ];
        let Err(FirewallError::Refused(refused)) = wall.apply(changes.clone()) else { panic!("refused") };
        assert_eq!((refused.applied, refused.errno), (0, libc::ENFILE), "{refused}");
        assert_eq!(refused.which.len(), 1);
        let others = changes.iter().enumerate().filter(|(index, _)| !refused.which.contains(index));
        wall.apply(others.map(|(_, change)| change.clone())).unwrap();
        let Err(FirewallError::Refused(unknown)) = wall.apply([changes[0].clone(), add("nobody", "192.0.2.9", 60)])
        else {
            panic!("refused")
        };
        assert_eq!(unknown.which, [1]);
        nft("delete table inet banish");
        let Err(FirewallError::Refused(gone)) = wall.apply(changes) else { panic!("refused") };
        assert_eq!((gone.which.len(), gone.errno), (4, libc::ENOENT));
    });
}

#[test]
fn a_hundred_thousand_bans_are_one_transaction() {
    in_space(|| {
        let wall = Wall::new(None);
        let bans: Vec<Element> = (0..100_000u32)
            .map(|n| ban("sshd", &std::net::Ipv4Addr::from_bits(0x0B00_0000 + n).to_string(), 3600))
            .collect();
        let began = Instant::now();
        wall.wait(wall.firewall.rebuild(policy(), bans.clone(), now())).unwrap();
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        let differences = wall.wait(wall.firewall.audit(bans, now(), true)).unwrap();
        assert_eq!((differences.rules, differences.added, differences.removed), (false, 0, 0));
    });
}

#[test]
fn disarming_removes_the_table_and_says_what_it_found() {
    in_space(|| {
        assert_eq!(disarm().unwrap(), Disarmed::Absent);
        let wall = Wall::new(None);
        wall.restore(policy(), vec![]);
        assert_eq!(disarm().unwrap(), Disarmed::Removed);
        assert_eq!(nft("list ruleset"), "");
        wall.restore(Policy { owner: true, ..policy() }, vec![]);
        assert!(matches!(disarm(), Err(FirewallError::Owned { .. })));
    });
}
