//! What others do to the table is heard and undone.

use std::collections::BTreeSet;

use banish::firewall::{Element, Notice, Touched};

use super::space::*;

fn bans() -> Vec<Element> {
    vec![ban("sshd", "192.0.2.1", 3600), ban("sshd", "2001:db8::/64", 0), ban("manual", "198.51.100.0/24", 3600)]
}

/// Does `command` to a table with bans, expects to hear of it, and that an audit or a rebuild puts everything back.
fn undone(command: &'static str, touched: &'static [Touched]) {
    on_each_kernel(move |wall| {
        let bans = bans();
        wall.restore(policy(), bans.clone());
        let before = ruleset();
        assert_eq!(wall.notices_so_far(), [], "our own changes are not foreign");
        for rebuild in [false, true] {
            nft(command);
            let Notice::Foreign(foreign) = wall.notice() else { panic!("a foreign change") };
            assert_eq!(foreign.what, touched.iter().copied().collect::<BTreeSet<_>>(), "{command}");
            assert!(foreign.by.unwrap().name.starts_with("nft"));
            if rebuild {
                wall.wait(wall.firewall.rebuild(policy(), bans.clone(), now())).unwrap();
            } else {
                let differences = wall.wait(wall.firewall.audit(bans.clone(), now(), true)).unwrap();
                assert!(!differences.is_empty(), "{command}");
            }
            assert_eq!(ruleset(), before, "{command}");
            assert!(wall.wait(wall.firewall.audit(bans.clone(), now(), true)).unwrap().is_empty(), "{command}");
            assert_eq!(wall.notices_so_far(), [], "our own changes are not foreign");
        }
    });
}

#[test]
fn a_flush_of_everything_is_undone() {
    let touched = &[Touched::TableRemoved, Touched::Chains, Touched::Rules, Touched::Sets];
    undone("flush ruleset", touched);
    undone("delete table inet banish", touched);
}

#[test]
fn a_table_in_our_name_is_replaced() {
    undone(
        "flush ruleset; add table inet banish { flags dormant; }; add set inet banish sshd4_32 { type ipv6_addr; flags interval; }",
        &[Touched::TableRemoved, Touched::Chains, Touched::Rules, Touched::Sets, Touched::TableMade],
    );
}

#[test]
fn lost_elements_are_put_back() {
    undone("flush set inet banish sshd4_32", &[Touched::ElementsRemoved]);
    undone("delete element inet banish sshd6_64 { 2001:db8:: }", &[Touched::ElementsRemoved]);
}

#[test]
fn strange_elements_are_removed() {
    undone("add element inet banish sshd4_32 { 192.0.2.77 timeout 5h }", &[Touched::ElementsAdded]);
    undone("add element inet banish manual4_24 { 192.0.2.77 }", &[Touched::ElementsAdded]);
    undone("add element inet banish sshd6_64 { ::ffff:192.0.2.1 }", &[Touched::ElementsAdded]);
}

#[test]
fn changed_ends_are_put_right() {
    undone(
        "delete element inet banish sshd4_32 { 192.0.2.1 }; add element inet banish sshd4_32 { 192.0.2.1 timeout 5h comment \"failures\" }",
        &[Touched::ElementsAdded, Touched::ElementsRemoved],
    );
}

#[test]
fn changed_rules_are_put_right() {
    undone("flush chain inet banish group_1", &[Touched::Rules]);
    undone("insert rule inet banish hosts accept", &[Touched::Rules]);
    undone("add set inet banish sshd4_8 { type ipv4_addr; }", &[Touched::Sets]);
    undone("flush map inet banish tcp_ports", &[Touched::ElementsRemoved]);
    undone(
        "delete element inet banish tcp_ports { 22 : goto group_1 }; add element inet banish tcp_ports { 22 : accept }",
        &[Touched::ElementsAdded, Touched::ElementsRemoved],
    );
    undone(
        "add chain inet banish theirs; add rule inet banish theirs jump group_1",
        &[Touched::Chains, Touched::Rules],
    );
    undone(
        "add map inet banish theirs { type ipv4_addr : verdict; elements = { 192.0.2.1 : jump group_1 } }",
        &[Touched::Sets, Touched::ElementsAdded],
    );
}

#[test]
fn a_storm_of_foreign_changes_ends_in_an_overrun_and_an_audit_mends_it() {
    in_space(|| {
        let mut wall = Wall::new(None);
        let many: Vec<Element> = (0..60_000u32)
            .map(|n| ban("sshd", &std::net::Ipv4Addr::from_bits(0x0B00_0000 + n).to_string(), 3600))
            .collect();
        wall.restore(policy(), many.clone());
        assert_eq!(wall.notices_so_far(), []);
        nft("flush set inet banish sshd4_32");
        wall.notice();
        let differences = wall.wait(wall.firewall.audit(many.clone(), now(), true)).unwrap();
        assert_eq!(differences.added, many.len());
        let again = wall.wait(wall.firewall.audit(many, now(), true)).unwrap();
        assert_eq!((again.rules, again.added, again.removed), (false, 0, 0));
    });
}
