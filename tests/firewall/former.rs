//! A table in our name that this version did not make: of a former one, of somebody's experiments, half taken down.

use banish::engine::jail::Action;
use banish::engine::jail::scope::{Ports, Protocol, Scope};
use banish::firewall::{Adopted, Disarmed, Element, FirewallError, disarm};

use super::space::*;

/// What another version may have left: sets that fit, sets of the same name that do not, chains of other names and hooks,
/// maps, objects.
const FORMER: &str = "
    add table inet banish { comment \"banish 0\"; }
    add set inet banish sshd4_32 { type ipv4_addr; flags timeout; size 1000; }
    add element inet banish sshd4_32 { 192.0.2.7 timeout 1h comment \"old\", 192.0.2.8, 192.0.2.1 timeout 9h }
    add set inet banish manual6_64 { type ipv6_addr; flags timeout; }
    add element inet banish manual6_64 { 2001:db8:7:: timeout 1h, 2001:db8:7::5 timeout 1h }
    add set inet banish sshd6_64 { type ipv4_addr; flags timeout; }
    add element inet banish sshd6_64 { 192.0.2.9 }
    add set inet banish sshd4_24 { type ipv4_addr; flags interval; }
    add element inet banish sshd4_24 { 198.51.100.0/24 }
    add set inet banish sshd4_16 { type ipv4_addr; flags timeout; timeout 1h; }
    add element inet banish sshd4_16 { 198.51.0.0 }
    add set inet banish sshd4_8 { type ipv4_addr . inet_service; flags timeout; }
    add element inet banish sshd4_8 { 10.0.0.0 . 22 }
    add set inet banish removed4_32 { type ipv4_addr; flags timeout; }
    add element inet banish removed4_32 { 192.0.2.10 timeout 1h }
    add set inet banish bans { type ipv4_addr; flags dynamic,timeout; }
    add map inet banish verdicts { type ipv4_addr : verdict; }
    add counter inet banish dropped
    add quota inet banish much { over 1 mbytes }
    add chain inet banish ports { type filter hook input priority filter; policy drop; }
    add chain inet banish group_1
    add chain inet banish old
    add rule inet banish old ip saddr @bans counter name dropped drop
    add rule inet banish group_1 ip saddr vmap @verdicts
    add rule inet banish ports ct state established accept
    add rule inet banish ports ip saddr @sshd4_32 jump old
    add element inet banish verdicts { 192.0.2.11 : jump old }
";

/// What version 0.1.0 left before its ports were looked up in one map: jails with ports of their own, some of them
/// compared and some looked up, and what was counted.
const JUMPS: &str = "
    add table inet banish { comment \"banishd\"; }
    add set inet banish sshd4_32 { type ipv4_addr; flags timeout; }
    add element inet banish sshd4_32 { 192.0.2.7 timeout 1h comment \"failures\" }
    add set inet banish sshd6_64 { type ipv6_addr; flags timeout; }
    add set inet banish web4_32 { type ipv4_addr; flags timeout; }
    add element inet banish web4_32 { 192.0.2.8 comment \"failures\" }
    add set inet banish web6_64 { type ipv6_addr; flags timeout; }
    add set inet banish ports_2 { type inet_service; flags interval; }
    add element inet banish ports_2 { 80, 443, 8000-8100, 9000 }
    add set inet banish tcp_ports { type inet_service; flags interval; }
    add element inet banish tcp_ports { 22, 80, 443, 8000-8100, 9000 }
    add chain inet banish group_1
    add rule inet banish group_1 ip saddr @sshd4_32 counter packets 12 bytes 1234 drop comment \"sshd\"
    add rule inet banish group_1 ip6 saddr & ffff:ffff:ffff:ffff:: @sshd6_64 counter packets 3 bytes 300 drop comment \"sshd\"
    add chain inet banish group_2
    add rule inet banish group_2 ip saddr @web4_32 counter packets 7 bytes 700 drop comment \"web\"
    add rule inet banish group_2 ip6 saddr & ffff:ffff:ffff:ffff:: @web6_64 counter packets 0 bytes 0 drop comment \"web\"
    add chain inet banish some_port
    add rule inet banish some_port tcp dport 22 jump group_1
    add rule inet banish some_port tcp dport @ports_2 jump group_2
    add chain inet banish ports { type filter hook prerouting priority raw; policy accept; }
    add rule inet banish ports iif lo accept
    add rule inet banish ports tcp dport @tcp_ports jump some_port
";

/// What version 0.1.0 left while it asked connection tracking who had opened a connection.
const TRACKED: &str = "
    add table inet banish { comment \"banishd\"; }
    add set inet banish manual4_32 { type ipv4_addr; flags timeout; }
    add element inet banish manual4_32 { 192.0.2.7 timeout 1h comment \"ordered\" }
    add set inet banish sshd4_32 { type ipv4_addr; flags timeout; }
    add element inet banish sshd4_32 { 192.0.2.8 comment \"failures\" }
    add set inet banish sshd6_64 { type ipv6_addr; flags timeout; }
    add set inet banish ours6 { type ipv6_addr; flags timeout; }
    add set inet banish served { type ipv4_addr; flags dynamic; }
    add map inet banish tcp_ports { type inet_service : verdict; size 1; }
    add chain inet banish group_1
    add rule inet banish group_1 iif lo accept
    add rule inet banish group_1 ip saddr @sshd4_32 counter packets 12 bytes 1234 drop comment \"sshd\"
    add rule inet banish group_1 ip6 saddr & ffff:ffff:ffff:ffff:: @sshd6_64 counter packets 3 bytes 300 drop comment \"sshd\"
    add chain inet banish ports { type filter hook prerouting priority raw; policy accept; }
    add rule inet banish ports tcp dport vmap @tcp_ports
    add element inet banish tcp_ports { 22 : goto group_1 }
    add chain inet banish hosts { type filter hook prerouting priority mangle; policy accept; }
    add rule inet banish hosts iif lo accept
    add rule inet banish hosts icmpv6 type 133-136 accept
    add rule inet banish hosts ct direction reply accept
    add rule inet banish hosts ip saddr @manual4_32 counter packets 7 bytes 700 drop comment \"manual\"
";

fn lines(commands: &str) -> String {
    commands.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[test]
fn after_a_start_it_is_ours_and_what_fits_is_adopted() {
    on_each_kernel(|wall| {
        let known = ban("sshd", "192.0.2.1", 3600);
        nft(&lines(FORMER));
        let mut adopted = wall.wait(wall.firewall.restore(policy(), vec![known.clone()], now())).unwrap();
        adopted.sort_by_key(|one| one.place.clone());
        let places: Vec<_> = adopted.iter().map(|one: &Adopted| one.place.clone()).collect();
        // A key that is no /64 is no ban of ours.
        let fit = [place("manual", "2001:db8:7::/64"), place("sshd", "192.0.2.7"), place("sshd", "192.0.2.8")];
        assert_eq!(places, fit);
        let restored = ruleset();
        // The same as a start on a machine that never had a table.
        nft("flush ruleset");
        let ends = adopted.iter().map(|one| banish::firewall::Element {
            place: one.place.clone(),
            until: one.until,
            comment: "adopted",
        });
        let all: Vec<_> = [known].into_iter().chain(ends).collect();
        wall.restore(policy(), all.clone());
        assert_eq!(restored, ruleset());
        assert!(wall.wait(wall.firewall.audit(all, now(), true)).unwrap().is_empty());
    });
}

#[test]
fn an_audit_takes_out_what_stands_in_the_way() {
    on_each_kernel(|wall| {
        let bans = vec![ban("sshd", "192.0.2.1", 3600)];
        wall.restore(policy(), bans.clone());
        let before = ruleset();
        // Others' rules and maps that lead to our chains and use our sets, and a set that goes with its rule.
        nft("add chain inet banish theirs; add rule inet banish theirs ip saddr @sshd4_32 jump group_1; \
             add rule inet banish theirs ip saddr { 192.0.2.4, 192.0.2.5 } jump group_1; \
             add map inet banish verdicts { type ipv4_addr : verdict; elements = { 192.0.2.3 : jump group_1 } }");
        let Err(FirewallError::Refused(refused)) = wall.apply([add("sshd", "192.0.2.0/25", 600)]) else {
            panic!("a new set means new rules, and the nameless set is gone before it can go")
        };
        assert_eq!((refused.errno, refused.which.len()), (libc::ENOENT, 0), "{refused}");
        wall.apply([add("sshd", "192.0.2.2", 600)]).unwrap();
        let differences = wall.wait(wall.firewall.audit(bans, now(), true)).unwrap();
        assert!(differences.rules, "{differences:?}");
        assert_eq!(ruleset(), before);
        wall.apply([add("sshd", "192.0.2.0/25", 600)]).unwrap();
    });
}

#[test]
fn a_table_of_jumps_becomes_one_of_maps_with_its_bans_and_counts() {
    on_each_kernel(|wall| {
        nft(&lines(JUMPS));
        let mut policy = policy();
        let web = Ports::new([80..=80, 443..=443, 8000..=8100, 9000..=9000], [Protocol::Tcp]).unwrap();
        policy.jails.push(jail("web", Scope::Ports(web), Action::Drop));
        let adopted = wall.wait(wall.firewall.restore(policy.clone(), vec![], now())).unwrap();
        assert_eq!(adopted.len(), 2, "{adopted:?}");
        let listed = nft("list table inet banish");
        assert!(
            listed.contains("tcp dport vmap @tcp_ports") && listed.contains("8000-8100 : goto group_2"),
            "{listed}"
        );
        assert!(!listed.contains("some_port") && !listed.contains("ports_2"), "{listed}");
        assert!(listed.contains("192.0.2.7 timeout") && listed.contains("192.0.2.8 comment"), "{listed}");
        let counted = wall.wait(wall.firewall.counters()).unwrap();
        assert_eq!((counted["sshd"].packets, counted["sshd"].bytes), (15, 1534));
        assert_eq!((counted["web"].packets, counted["web"].bytes), (7, 700));
    });
}

#[test]
fn a_table_that_tracked_becomes_one_that_does_not_with_its_bans_and_counts() {
    on_each_kernel(|wall| {
        nft(&lines(TRACKED));
        let adopted = wall.wait(wall.firewall.restore(policy(), vec![], now())).unwrap();
        assert_eq!(adopted.len(), 2, "{adopted:?}");
        let listed = nft("list table inet banish");
        for part in [
            "192.0.2.7 timeout",
            "192.0.2.8 comment",
            "hook prerouting priority raw",
            "chain out_hosts",
            "chain out_ports",
        ] {
            assert!(listed.contains(part), "{part} in {listed}");
        }
        assert!(!listed.contains("ct direction") && !listed.contains("ours6"), "{listed}");
        assert!(listed.contains("type ipv4_addr . inet_proto . inet_service . inet_service"), "{listed}");
        let counted = wall.wait(wall.firewall.counters()).unwrap();
        assert_eq!((counted["sshd"].packets, counted["sshd"].bytes), (15, 1534));
        assert_eq!((counted["manual"].packets, counted["manual"].bytes), (7, 700));
        let known = adopted.into_iter().map(|one| Element { place: one.place, until: one.until, comment: "adopted" });
        assert!(wall.wait(wall.firewall.audit(known.collect(), now(), true)).unwrap().is_empty());
        assert_eq!(disarm().unwrap(), Disarmed::Removed);
        assert_eq!(nft("list ruleset"), "");
    });
}
