//! What cannot be brought about from outside: lost notifications, and refusals at a chosen moment. Each test has a network
//! namespace of its own; without root they are skipped.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use super::batch::{Batch, Elements, Entry};
use super::elements::{Element, Now};
use super::keeper::Keeper;
use super::kernel::Kernel;
use super::link::Link;
use super::name::BanSet;
use super::survey::Survey;
use super::watch::{Notice, Watch};
use super::{JailPolicy, Policy, sys};
use crate::engine::ban::Place;
use crate::engine::jail::Action;
use crate::engine::jail::allow::AllowList;
use crate::engine::jail::scope::{Ports, Protocol, Scope};
use crate::engine::subject::{Family, Subject};
use crate::engine::time::Stamp;

/// A keeper whose ear holds next to nothing, and somebody else.
struct Space {
    keeper: Keeper,
    other: Link,
}

/// Runs a test on this kernel as it is, and on one that is taken for an old one.
fn on_each_kernel(test: fn(Space)) {
    for old in [false, true] {
        let thread = std::thread::spawn(move || {
            if let Err(error) = sys::leave_network() {
                return eprintln!("skipped: no network namespace of our own ({error})");
            }
            let mut link = Link::open().unwrap();
            let watch = Watch::open(link.port()).unwrap();
            sys::set(watch.fd().as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 1).unwrap();
            let kernel = if old { Kernel::OLD } else { Kernel::probe(&mut link) };
            test(Space { keeper: Keeper::new(link, watch, kernel), other: Link::open().unwrap() });
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

fn set() -> BanSet {
    BanSet { jail: "sshd".parse().unwrap(), family: Family::V4, length: 32 }
}

fn policy() -> Policy {
    let scope = Scope::Ports(Ports::new([22..=22], [Protocol::Tcp]).unwrap());
    let lengths = JailPolicy::usual_lengths(64);
    let allow = AllowList::default();
    Policy {
        jails: vec![JailPolicy { jail: set().jail, scope, action: Action::Drop, allow, lengths }],
        ..Policy::default()
    }
}

fn bans(count: u32) -> Vec<Element> {
    let place = |number| {
        let subject = Subject::host(Ipv4Addr::from_bits(0x0b00_0000 + number).into());
        Place { jail: set().jail, subject }
    };
    (0..count).map(|number| Element { place: place(number), until: Stamp::NEVER, comment: "failures" }).collect()
}

fn now() -> Now {
    Now::new(Stamp::from_usec(1_795_000_000_000_000))
}

impl Space {
    /// Somebody else's transactions on elements of ours, more than the ear has room for.
    fn storm(&mut self) {
        for number in 0..200 {
            let key = Ipv4Addr::from_bits(0xc000_0200 + number).into();
            let entry = Entry { key, until: Stamp::NEVER, comment: "", number };
            let mut batch = Batch::new();
            batch.bans(&set(), Elements::Add, &[entry], now());
            self.other.commit(batch).unwrap();
        }
    }

    fn others(&mut self, fill: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::new();
        fill(&mut batch);
        self.other.commit(batch).unwrap();
    }
}

#[test]
fn what_a_storm_hides_an_audit_finds() {
    on_each_kernel(|mut space| {
        let bans = bans(50);
        space.keeper.rebuild(policy(), &bans, now()).unwrap();
        assert_eq!(space.keeper.hear(), [], "our own changes do not fill the ear");
        let whole = space.keeper.fingerprint;
        space.storm();
        let gone = Entry { key: bans[7].place.subject.network(), until: Stamp::EPOCH, comment: "", number: 0 };
        space.others(|batch| batch.bans(&set(), Elements::Delete, &[gone], now()));
        space.others(Batch::flush_rules);
        assert!(space.keeper.hear().contains(&Notice::Overrun));
        let differences = space.keeper.audit(&bans, now(), true).unwrap();
        assert_eq!((differences.rules, differences.added, differences.removed), (true, 1, 200), "{differences:?}");
        assert_eq!(space.keeper.fingerprint, whole);
        assert!(space.keeper.audit(&bans, now(), true).unwrap().is_empty());
    });
}

#[test]
fn a_table_that_went_in_a_storm_is_built_anew() {
    on_each_kernel(|mut space| {
        let bans = bans(50);
        space.keeper.rebuild(policy(), &bans, now()).unwrap();
        space.storm();
        space.others(|batch| {
            let table = super::rules::table(0);
            batch.object(&table, rustables::MsgType::Del, super::batch::About::Table);
        });
        assert!(space.keeper.hear().contains(&Notice::Overrun));
        let differences = space.keeper.audit(&bans, now(), true).unwrap();
        assert!(differences.rebuilt && differences.added == 50, "{differences:?}");
        assert!(space.keeper.audit(&bans, now(), true).unwrap().is_empty());
    });
}

/// Between a large transaction of ours, which we do not listen to, and the look at what it left.
#[test]
fn a_change_right_behind_a_large_transaction_of_ours_is_undone() {
    on_each_kernel(|mut space| {
        let bans = bans(500);
        space.keeper.rebuild(policy(), &bans, now()).unwrap();
        let whole = space.keeper.fingerprint;
        space.keeper.watch.as_ref().unwrap().leave().unwrap();
        space.others(Batch::flush_rules);
        space.keeper.watch.as_ref().unwrap().join().unwrap();
        space.keeper.missed = true;
        space.keeper.fingerprint = Survey::take(&mut space.keeper.link).ok().map(|survey| survey.fingerprint);
        assert_eq!(space.keeper.hear(), [Notice::Overrun]);
        space.keeper.audit(&bans, now(), true).unwrap();
        assert_eq!(space.keeper.fingerprint, whole);
    });
}
