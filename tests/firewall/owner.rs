//! A table that belongs to the daemon, and the ways into and out of that.

use std::process::Command;

use banish::engine::jail::Action;
use banish::firewall::{FirewallError, Kernel, Lack, Notice, Policy};

use super::space::*;

fn owned() -> Policy {
    Policy { owner: true, ..policy() }
}

fn nft_may(command: &str) -> bool {
    Command::new("nft").arg(command).output().unwrap().status.success()
}

#[test]
fn nobody_else_changes_an_owned_table() {
    in_space(|| {
        let mut wall = Wall::new(None);
        wall.restore(owned(), vec![ban("sshd", "192.0.2.1", 600)]);
        assert!(!nft_may("delete table inet banish") && !nft_may("flush set inet banish sshd4_32"));
        nft("flush ruleset");
        assert!(nft("list ruleset").contains("192.0.2.1 "));
        wall.apply([add("sshd", "192.0.2.2", 600)]).unwrap();
        let bans = vec![ban("sshd", "192.0.2.1", 600), ban("sshd", "192.0.2.2", 600)];
        assert!(wall.wait(wall.firewall.audit(bans, now(), true)).unwrap().is_empty());
        let second = Wall::new(None);
        let refused = second.wait(second.firewall.restore(owned(), vec![], now()));
        assert!(matches!(refused, Err(FirewallError::Owned { .. })), "{refused:?}");
        let refused = second.wait(second.firewall.rebuild(policy(), vec![], now()));
        assert!(matches!(refused, Err(FirewallError::Owned { .. })), "{refused:?}");
        assert_eq!(wall.notices_so_far(), []);
    });
}

#[test]
fn ownership_can_be_switched_and_survives_a_restart() {
    in_space(|| {
        let bans = vec![ban("sshd", "192.0.2.1", 600)];
        let first = Wall::new(None);
        for policy in [policy(), owned(), policy(), owned()] {
            first.wait(first.firewall.set_policy(policy.clone(), bans.clone(), now())).unwrap();
            let listed = nft("list set inet banish sshd4_32");
            assert!(listed.contains("192.0.2.1 timeout 9m") || listed.contains("192.0.2.1 timeout 10m"), "{listed}");
            assert_eq!(nft_may("add element inet banish sshd4_32 { 9.9.9.9 }"), !policy.owner);
        }
        drop(first);
        // The end of the program leaves an orphan with all its bans; whoever comes next may take it, owned or not.
        for policy in [owned(), policy(), owned()] {
            let next = Wall::new(None);
            let adopted = retry(&next, policy.clone());
            assert_eq!(adopted, 1, "the ban is still there");
            assert_eq!(
                nft_may(
                    "add element inet banish sshd4_32 { 9.9.9.9 timeout 1s }; delete element inet banish sshd4_32 { 9.9.9.9 }"
                ),
                !policy.owner
            );
            drop(next);
        }
    });
}

/// Restores as soon as the one before has let go of the table: its thread ends some moments after its last handle.
fn retry(wall: &Wall, policy: Policy) -> usize {
    for _ in 0..200 {
        match wall.wait(wall.firewall.restore(policy.clone(), vec![], now())) {
            Ok(adopted) => return adopted.len(),
            Err(FirewallError::Owned { .. }) => std::thread::sleep(std::time::Duration::from_millis(50)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("never let go");
}

#[test]
fn what_a_kernel_lacks_is_told_and_done_without() {
    in_space(|| {
        let mut wall = Wall::new(Some(Kernel::OLD));
        let mut policy = owned();
        policy.jails[0].action = Action::Reject;
        wall.restore(policy, vec![]);
        assert_eq!(wall.notices_so_far(), [Notice::Lacks(Lack::Reject), Notice::Lacks(Lack::Owner)]);
        assert!(nft_may("flush chain inet banish group_1"));
    });
}
