use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::entry::EntryRef;
use crate::engine::subject::Subject;
use crate::engine::time::Length;

const SECOND: u64 = 1_000_000;

fn name(text: &str) -> JailName {
    text.parse().unwrap()
}

fn rules() -> Rules {
    Rules {
        maxretry: 3,
        findtime: Duration::from_secs(60),
        bantime: Length::For(Duration::from_secs(600)),
        action: Action::Drop,
        ipv6_prefix: 64,
        allow: ["192.0.2.99".parse::<Subject>().unwrap()].into_iter().collect(),
    }
}

fn warden() -> Warden {
    let mut warden = Warden::new();
    warden.configure([(name("sshd"), rules()), (JailName::manual(), rules())]);
    warden
}

fn at(second: u64) -> Stamp {
    Stamp::from_usec(second * SECOND)
}

fn sighting(address: &str, second: u64, number: u64) -> Sighting {
    let entry = EntryRef { seqnum_id: 1, seqnum: number };
    Sighting { jail: name("sshd"), address: address.parse().unwrap(), stamp: at(second), entry }
}

fn three(address: &str, from: u64) -> Vec<Sighting> {
    (0..3).map(|step| sighting(address, from + step, from + step)).collect()
}

fn order(subject: &str) -> BanOrder {
    BanOrder {
        subject: subject.parse().unwrap(),
        jail: JailName::manual(),
        length: None,
        reason: String::new(),
        uid: 0,
        force: false,
    }
}

#[test]
fn enough_failures_ban_once_with_their_evidence() {
    let mut warden = warden();
    let decisions = warden.see(&three("192.0.2.1", 10), at(20));
    let [Decision::Ban(ban)] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!((ban.since, ban.until, ban.failures), (at(12), at(612), 3));
    assert_eq!(ban.cause.evidence().iter().map(|entry| entry.seqnum).collect::<Vec<_>>(), [10, 11, 12]);
    assert_eq!(warden.see(&three("192.0.2.1", 13), at(20)), []);
    assert_eq!(warden.expire(at(611)), []);
    assert!(matches!(&warden.expire(at(612))[..], [Decision::End { end: End::Expired, .. }]));
    assert_eq!(warden.see(&three("192.0.2.1", 700), at(710)).len(), 1);
}

#[test]
fn an_allowed_address_is_never_counted_and_its_ipv6_neighbours_are_one() {
    let mut warden = warden();
    assert_eq!(warden.see(&three("192.0.2.99", 10), at(20)), []);
    let spread = [sighting("2001:db8::1", 1, 1), sighting("2001:db8::2", 2, 2), sighting("2001:db8::3", 3, 3)];
    let decisions = warden.see(&spread, at(4));
    let [Decision::Ban(ban)] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!(ban.place.subject.to_string(), "2001:db8::/64");
}

#[test]
fn feeding_decides_nothing_and_evaluation_decides_once() {
    let mut warden = warden();
    warden.feed(&three("192.0.2.1", 10), at(1000));
    warden.feed(&three("192.0.2.2", 10), at(1000));
    assert!(warden.roster().is_empty());
    let decisions = warden.evaluate(at(20));
    assert_eq!(decisions.len(), 2);
    assert!(decisions.iter().all(|d| matches!(d, Decision::Ban(ban) if ban.cause.word() == "configuration")));
    assert_eq!(warden.evaluate(at(20)), []);
}

#[test]
fn what_was_settled_is_not_counted_again() {
    let mut first = warden();
    first.see(&three("192.0.2.1", 10), at(20));
    let unbanned = first.order_unban("192.0.2.1".parse().unwrap(), None, 0, at(30)).unwrap();
    assert_eq!(unbanned.len(), 1);
    let place = Place { jail: name("sshd"), subject: "192.0.2.1".parse().unwrap() };
    let mut second = warden();
    second.restore([], [(place.clone(), first.counted_from(&place).unwrap())], [], at(0));
    second.feed(&three("192.0.2.1", 10), at(1000));
    assert_eq!(second.evaluate(at(31)), []);
    assert_eq!(second.see(&three("192.0.2.1", 31), at(34)).len(), 1);
}

#[test]
fn a_ban_that_is_over_already_is_told_and_not_put_in_force() {
    let mut warden = warden();
    let decisions = warden.see(&three("192.0.2.1", 10), at(5000));
    assert!(matches!(&decisions[..], [Decision::Past(_)]));
    assert!(warden.roster().is_empty());
    assert_eq!(warden.see(&three("192.0.2.1", 100), at(5000)), [], "it was banned then");
    assert_eq!(warden.see(&three("192.0.2.1", 613), at(5000)).len(), 1);
}

#[test]
fn an_adopted_ban_gives_way_to_its_own_deciding_entry() {
    let mut warden = warden();
    let place = Place { jail: name("sshd"), subject: "192.0.2.1".parse().unwrap() };
    let gone = Place { jail: name("gone"), subject: "192.0.2.1".parse().unwrap() };
    let refused = warden.adopt([(place.clone(), at(612)), (gone.clone(), at(612))], &[], &BTreeSet::new(), at(13));
    assert_eq!(refused, [gone]);
    let decisions = warden.see(&three("192.0.2.1", 10), at(20));
    assert!(matches!(&decisions[..], [Decision::Ban(ban)] if ban.cause.word() == "failures"));
    assert_eq!(warden.confirm(), []);
    let other = Place { jail: name("sshd"), subject: "192.0.2.2".parse().unwrap() };
    warden.adopt([(other, at(612))], &[], &BTreeSet::new(), at(13));
    assert!(matches!(&warden.confirm()[..], [Decision::Ban(ban)] if ban.cause == Cause::Adopted));
}

#[test]
fn a_ban_that_nobody_vouches_for_is_one_that_the_kernel_holds_to_the_end() {
    let place = |subject: &str| Place { jail: name("sshd"), subject: subject.parse().unwrap() };
    let salvaged = |subject: &str| Ban {
        place: place(subject),
        since: at(12),
        until: at(612),
        failures: 3,
        cause: Cause::Configuration { evidence: vec![] },
    };
    let bans = vec![salvaged("192.0.2.1"), salvaged("192.0.2.2"), salvaged("192.0.2.3")];
    let adopting = |found: &[(&str, u64)]| {
        let mut warden = warden();
        let found = found.iter().map(|(subject, until)| (place(subject), at(*until)));
        warden.adopt(found, &[], &BTreeSet::new(), at(20));
        warden
    };
    let mut knows = adopting(&[("192.0.2.1", 611), ("192.0.2.3", 900)]);
    // The second was lifted; that the third has another end says that it is another ban.
    let lifted = bans[1..].to_vec();
    assert_eq!(knows.recognize(bans.clone()), (vec![bans[0].clone()], lifted));
    assert_eq!(knows.roster().at(&place("192.0.2.1")).map(|held| &held.ban), Some(&bans[0]));
    assert_eq!(knows.see(&three("192.0.2.2", 10), at(20)), [], "what led to it is over");
    assert!(matches!(&knows.confirm()[..], [Decision::Ban(ban)] if ban.place == place("192.0.2.3")));
    // A kernel that holds none of them was begun anew.
    let mut forgot = adopting(&[("192.0.2.4", 612)]);
    assert_eq!(forgot.recognize(bans), (vec![], vec![]));
    assert_eq!(forgot.see(&three("192.0.2.2", 10), at(20)).len(), 1);
}

#[test]
fn a_ban_whose_lifting_did_not_reach_the_kernel_is_not_adopted() {
    let mut warden = warden();
    let place = Place { jail: name("sshd"), subject: "192.0.2.1".parse().unwrap() };
    let lifted = Ban { place: place.clone(), since: at(12), until: at(612), failures: 3, cause: Cause::Adopted };
    let almost = Stamp::from_usec(at(612).usec() + 3000);
    let refused = warden.adopt([(place.clone(), almost)], std::slice::from_ref(&lifted), &BTreeSet::new(), at(40));
    assert_eq!(refused, std::slice::from_ref(&place));
    assert_eq!(warden.adopt([(place, at(700))], &[lifted], &BTreeSet::new(), at(40)), []);
}

#[test]
fn what_the_kernel_holds_of_a_jail_left_out_by_mistake_is_adopted() {
    let mut warden = warden();
    let place = Place { jail: name("broken"), subject: "192.0.2.1".parse().unwrap() };
    let spared = BTreeSet::from([name("broken")]);
    assert_eq!(warden.adopt([(place.clone(), at(612))], &[], &spared, at(40)), []);
    assert_eq!(warden.lift_unwanted(&spared, at(40)), []);
    assert!(warden.roster().at(&place).is_some());
}

#[test]
fn evaluation_bans_nobody_who_is_allowed_by_now_or_failed_long_ago() {
    let mut warden = warden();
    warden.see(&three("192.0.2.1", 10)[..2], at(20));
    warden.see(&three("192.0.2.2", 10)[..2], at(20));
    let lower = Rules { maxretry: 2, allow: ["192.0.2.1".parse().unwrap()].into_iter().collect(), ..rules() };
    warden.configure([(name("sshd"), lower)]);
    assert_eq!(warden.evaluate(at(100)), [], "the window of a minute is over");
    let decisions = warden.evaluate(at(60));
    assert!(
        matches!(&decisions[..], [Decision::Ban(ban)] if ban.place.subject.to_string() == "192.0.2.2"),
        "{decisions:?}"
    );
}

#[test]
fn failures_during_a_ban_do_not_count_after_a_restart() {
    let mut first = warden();
    first.see(&three("192.0.2.1", 10), at(20));
    first.see(&three("192.0.2.1", 605), at(610));
    first.expire(at(620));
    let place = Place { jail: name("sshd"), subject: "192.0.2.1".parse().unwrap() };
    let mut second = warden();
    second.restore([], [(place.clone(), first.counted_from(&place).unwrap())], [], at(0));
    second.feed(&three("192.0.2.1", 605), at(1000));
    assert_eq!(second.evaluate(at(625)), []);
}

#[test]
fn a_clock_that_was_ahead_makes_nobody_immune_and_no_ban_longer() {
    let mut warden = warden();
    warden.see(&[sighting("192.0.2.1", 9000, 1)], at(9000));
    warden.see(&three("192.0.2.2", 9000), at(9010));
    warden.clock_was_set(at(100));
    let held = warden.roster().iter().next().unwrap().ban.clone();
    assert_eq!((held.since, held.until), (at(100), at(700)));
    assert_eq!(warden.see(&three("192.0.2.1", 101), at(110)).len(), 1);
}

#[test]
fn a_ban_whose_time_was_moved_ends_as_the_one_that_was_decided() {
    let mut warden = warden();
    let Ok(Decision::Ban(ban)) = warden.order_ban(order("192.0.2.1"), &[], at(9000)) else { panic!() };
    warden.clock_was_set(at(100));
    let lifted = warden.order_unban(ban.place.subject, None, 0, at(110)).unwrap();
    assert!(matches!(&lifted[..], [Decision::End { ban: ended, at: when, .. }] if *ended == ban && *when == at(110)));
    let Ok(Decision::Ban(ban)) = warden.order_ban(order("192.0.2.1"), &[], at(9000)) else { panic!() };
    warden.clock_was_set(at(100));
    assert!(warden.expire(at(699)).is_empty());
    let expired = warden.expire(at(700));
    assert!(matches!(&expired[..], [Decision::End { ban: ended, at: when, .. }] if *ended == ban && *when == at(700)));
}

#[test]
fn no_ban_is_lost_by_a_start_while_the_clock_is_behind() {
    let place = Place { jail: name("sshd"), subject: "192.0.2.1".parse().unwrap() };
    let ban = Ban { place: place.clone(), since: at(9000), until: at(9600), failures: 3, cause: Cause::Adopted };
    let mut warden = warden();
    warden.restore([ban.clone()], [], [], at(100));
    warden.clock_was_set(at(100));
    warden.clock_was_set(at(150));
    assert_eq!(warden.roster().at(&place).unwrap().ban.until, at(700), "no longer by setting it again");
    warden.clock_was_set(at(9001));
    assert!(warden.expire(at(9001)).is_empty());
    assert_eq!(warden.roster().at(&place).unwrap().ban, ban);
    assert_eq!(warden.deadline(), Some(at(9600)));
}

#[test]
fn a_failure_of_the_future_makes_nobody_immune_and_no_ban_longer() {
    let mut warden = warden();
    // By a sender whose clock is ahead, before and among those of our own.
    warden.see(&[sighting("192.0.2.1", 9000, 1)], at(10));
    let decisions = warden.see(&[sighting("192.0.2.1", 11, 2), sighting("192.0.2.1", 9001, 3)], at(12));
    let [Decision::Ban(ban)] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!((ban.since, ban.until, ban.failures), (at(12), at(612), 3));
    assert_eq!(warden.expire(at(612)).len(), 1);
    // Read again by a later start.
    let again = [sighting("192.0.2.1", 9000, 1), sighting("192.0.2.1", 9001, 3), sighting("192.0.2.1", 9002, 4)];
    warden.feed(&again, at(700));
    assert_eq!(warden.evaluate(at(700)), []);
}

#[test]
fn a_clock_that_is_ahead_in_one_jail_makes_no_other_forget() {
    let mut warden = Warden::new();
    warden.configure([(name("sshd"), rules()), (name("far"), rules())]);
    warden.see(&three("192.0.2.1", 10)[..2], at(12));
    let place = Place { jail: name("sshd"), subject: "192.0.2.2".parse().unwrap() };
    warden.see(&three("192.0.2.2", 10), at(12));
    warden.order_unban(place.subject, None, 0, at(12)).unwrap();
    for number in 0..2 * u64::from(TIDY_EVERY) {
        let address = IpAddr::from((0x0a00_0000 + number as u32).to_be_bytes());
        let one = Sighting { jail: name("far"), address, ..sighting("192.0.2.3", 90_000, number) };
        assert!(warden.see(&[one], at(20)).is_empty());
    }
    assert_eq!(warden.counted_from(&place), Some(at(12)));
    assert_eq!(warden.see(&three("192.0.2.1", 10)[2..], at(20)).len(), 1);
}

#[test]
fn orders_are_refused_by_name() {
    let mut warden = warden();
    let gateway: IpAddr = "192.0.2.254".parse().unwrap();
    let protected = [(gateway, "default gateway")];
    let refusal = |warden: &mut Warden, order| warden.order_ban(order, &protected, at(1)).unwrap_err();
    assert!(matches!(refusal(&mut warden, order("192.0.2.99")), Refusal::Ignored { .. }));
    assert!(matches!(refusal(&mut warden, order("192.0.2.0/24")), Refusal::Protected { .. }));
    let elsewhere = BanOrder { jail: name("nowhere"), ..order("192.0.2.1") };
    assert!(matches!(refusal(&mut warden, elsewhere), Refusal::NoSuchJail(_)));
    let forced = BanOrder { force: true, ..order("192.0.2.0/24") };
    assert!(warden.order_ban(forced, &protected, at(1)).is_ok());
    let unban = |warden: &mut Warden, subject: &str| warden.order_unban(subject.parse().unwrap(), None, 0, at(2));
    let error = unban(&mut warden, "192.0.2.5").unwrap_err().to_string();
    assert_eq!(error, "192.0.2.5 is not banned; it lies in 192.0.2.0/24 in jail manual, which has to be named itself");
    assert_eq!(unban(&mut warden, "192.0.0.0/16").unwrap().len(), 1);
}

#[test]
fn an_address_opens_the_prefix_it_was_counted_by() {
    let mut warden = warden();
    warden.see(&three("2001:db8::10", 10), at(20));
    let lifted = warden.order_unban("2001:db8::77".parse().unwrap(), None, 0, at(30)).unwrap();
    assert_eq!(lifted.len(), 1);
}

#[test]
fn a_jails_end_and_a_new_allowance_lift_bans() {
    let mut warden = warden();
    warden.see(&three("192.0.2.1", 10), at(20));
    warden.see(&three("192.0.2.2", 10), at(20));
    let allowing = Rules { allow: ["192.0.2.2".parse().unwrap()].into_iter().collect(), ..rules() };
    warden.configure([(name("sshd"), allowing)]);
    let ended = warden.lift_unwanted(&BTreeSet::new(), at(30));
    assert!(
        matches!(&ended[..], [Decision::End { end: End::Configuration, ban, .. }] if ban.place.subject.to_string() == "192.0.2.2")
    );
    warden.configure([]);
    assert_eq!(warden.lift_unwanted(&BTreeSet::from([name("sshd")]), at(31)), [], "left out by a mistake");
    assert_eq!(warden.lift_unwanted(&BTreeSet::new(), at(31)).len(), 1);
}

#[test]
fn what_one_of_many_jails_had_counted_in_a_flood_is_taken_up_whole() {
    let mut warden = Warden::new();
    warden.configure((0..50).map(|number| (name(&format!("jail{number}")), rules())));
    let failure = |number| Failure { stamp: at(10), entry: EntryRef { seqnum_id: 1, seqnum: number } };
    let windows =
        (0..50_000u32).map(|number| (Subject::host(IpAddr::from(number.to_be_bytes())), vec![failure(number.into())]));
    warden.fill(&name("jail7"), windows);
    let figures = warden.figures("jail7").unwrap();
    assert_eq!((figures.failing, figures.evicted), (50_000, 0));
}

#[derive(Clone, Debug)]
enum Step {
    See { host: u8, wait: u64, back: u64 },
    Unban(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0u8..3, 0u64..40, 0u64..30).prop_map(|(host, wait, back)| Step::See { host, wait, back }),
        1 => (0u8..3).prop_map(Step::Unban),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// Against the rule written plainly: all failures of a host are kept, and looked at anew each time.
    #[test]
    fn it_bans_just_when_the_plain_rule_does(steps in steps()) {
        let mut warden = warden();
        let mut now = 1000;
        let mut plain: Vec<Vec<u64>> = vec![Vec::new(); 3];
        let mut settled = [0u64; 3];
        let mut until = [0u64; 3];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::See { host, wait, back } => {
                    now += wait;
                    for ended in warden.expire(at(now)) {
                        let Decision::End { at: ended, .. } = ended else { panic!() };
                        prop_assert!(ended <= at(now));
                    }
                    for who in 0..3 {
                        if until[who] > 0 && until[who] <= now {
                            settled[who] = until[who];
                            until[who] = 0;
                        }
                    }
                    let (who, stamp) = (usize::from(host), now - back);
                    let decisions = warden.see(&[sighting(&format!("192.0.2.{host}"), stamp, number as u64)], at(now));
                    let mut banned = false;
                    if until[who] <= now && stamp > settled[who] {
                        plain[who].push(stamp);
                        let newest = *plain[who].iter().max().unwrap();
                        let near = plain[who].iter().filter(|s| newest - **s <= 60).count();
                        if near >= 3 {
                            banned = true;
                            plain[who].clear();
                            settled[who] = newest;
                            until[who] = newest + 600;
                        }
                    }
                    prop_assert_eq!(decisions.len(), usize::from(banned));
                }
                Step::Unban(host) => {
                    let who = usize::from(host);
                    let lifted = warden.order_unban(Subject::host(IpAddr::from([192, 0, 2, host])), None, 0, at(now));
                    prop_assert_eq!(lifted.is_ok(), until[who] > now);
                    if until[who] > now {
                        until[who] = 0;
                        settled[who] = now;
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_forgotten_counts_no_more_and_neither_does_what_was_written_before() {
    let mut warden = warden();
    let early = three("192.0.2.1", 10);
    assert!(warden.see(&early[..2], at(12)).is_empty());
    let place = Place { jail: name("sshd"), subject: "192.0.2.1".parse().unwrap() };
    assert_eq!(warden.order_forget(place.subject, at(13)), (vec![(place.clone(), at(13))], 1));
    // Written before, read after.
    assert!(warden.see(&early[2..], at(14)).is_empty());
    assert!(warden.see(&three("192.0.2.1", 14)[..2], at(16)).is_empty());
    assert_eq!(warden.see(&three("192.0.2.1", 14)[2..], at(16)).len(), 1);
    assert_eq!(warden.order_forget(place.subject, at(20)).1, 0, "a ban is not forgotten");
    assert!(warden.roster().at(&place).is_some());
}

#[test]
fn a_prefix_forgets_all_within_it_and_an_address_the_prefix_it_counts_by() {
    let mut warden = warden();
    let tried = ["192.0.2.1", "192.0.2.200", "198.51.100.1", "2001:db8:1::7"];
    for (number, address) in tried.iter().enumerate() {
        warden.see(&[sighting(address, 10, number as u64)], at(10));
    }
    assert_eq!(warden.order_forget("192.0.2.0/24".parse().unwrap(), at(11)).1, 2);
    assert_eq!(warden.order_forget("2001:db8:1::9".parse().unwrap(), at(11)).1, 1);
    assert_eq!(warden.figures("sshd").unwrap().failing, 1);
}

#[test]
fn a_paused_jail_counts_nothing_that_is_logged_meanwhile() {
    let mut warden = warden();
    let jail = name("sshd");
    let (ended, pause) = warden.order_pause(&jail, Length::Permanent, at(10)).unwrap();
    assert_eq!((ended, pause.since, pause.until), (None, at(10), Stamp::NEVER));
    assert!(warden.see(&three("192.0.2.1", 10), at(13)).is_empty());
    assert_eq!(warden.order_resume(&jail, at(20)).unwrap().map(|pause| pause.until), Some(at(20)));
    // Read late.
    assert!(warden.see(&three("192.0.2.2", 17), at(21)).is_empty());
    assert_eq!(warden.see(&three("192.0.2.3", 20), at(23)).len(), 1);
    assert_eq!(warden.figures("sshd").unwrap().failures, 3);
    assert_eq!(warden.order_resume(&jail, at(24)), Ok(None));
    assert!(warden.order_pause(&name("other"), Length::Permanent, at(24)).is_err());
    let (_, short) = warden.order_pause(&jail, Length::For(Duration::from_secs(5)), at(30)).unwrap();
    let (ended, _) = warden.order_pause(&jail, Length::For(Duration::from_secs(9)), at(32)).unwrap();
    assert_eq!((ended.map(|pause| (pause.since, pause.until)), short.until), (Some((at(30), at(32))), at(35)));
    assert_eq!(warden.next_pause_end(), Some(at(41)));
    assert_eq!(warden.expire_pauses(at(41)), [jail]);
}

#[test]
fn a_reported_attempt_counts_like_an_entry() {
    let mut warden = warden();
    let attempt =
        |address: &str, number: u64| Sighting { entry: EntryRef::attempt(number), ..sighting(address, number, number) };
    assert_eq!(warden.order_attempt(&attempt("192.0.2.1", 10), at(10)), Ok(None));
    warden.see(&[sighting("192.0.2.1", 11, 11)], at(11));
    let decision = warden.order_attempt(&attempt("192.0.2.1", 12), at(12)).unwrap().unwrap();
    assert_eq!(decision.ban().failures, 3);
    assert_eq!(warden.order_attempt(&attempt("192.0.2.1", 13), at(13)), Ok(None));
    assert!(warden.ban_of_address(&name("sshd"), "192.0.2.1".parse().unwrap()).is_some());
    let refused = |warden: &mut Warden, attempt: Sighting| warden.order_attempt(&attempt, at(13)).unwrap_err();
    assert!(matches!(refused(&mut warden, attempt("192.0.2.99", 13)), Refusal::Ignored { .. }));
    let manual = Sighting { jail: JailName::manual(), ..attempt("192.0.2.2", 13) };
    assert!(matches!(refused(&mut warden, manual), Refusal::CountsNothing(_)));
    let other = Sighting { jail: name("other"), ..attempt("192.0.2.2", 13) };
    assert!(matches!(refused(&mut warden, other), Refusal::NoSuchJail(_)));
    warden.order_pause(&name("sshd"), Length::Permanent, at(13)).unwrap();
    assert!(matches!(refused(&mut warden, attempt("192.0.2.2", 13)), Refusal::Paused(_)));
}

#[test]
fn a_later_run_goes_on_with_what_was_counted_and_not_settled_since() {
    let mut first = warden();
    for (number, address) in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.3"].iter().enumerate() {
        first.see(&[sighting(address, 10, number as u64)], at(10));
    }
    let counts = first.counts().find(|counts| counts.jail == name("sshd")).unwrap();
    assert_eq!((counts.maxretry, counts.findtime), (3, Duration::from_secs(60)));
    let windows = crate::engine::snapshot::decode_windows(&counts.windows).unwrap();
    let mut second = Warden::new();
    let settled = Place { jail: name("sshd"), subject: "192.0.2.2".parse().unwrap() };
    second.restore([], [(settled, at(11))], [], at(12));
    second.configure([(name("sshd"), rules())]);
    second.fill(&name("sshd"), windows.clone());
    second.fill(&name("sshd"), windows);
    assert!(second.evaluate(at(12)).is_empty());
    let again = |address| sighting(address, 12, 20);
    assert_eq!(second.see(&[again("192.0.2.1"), again("192.0.2.2"), again("192.0.2.3")], at(12)).len(), 1);
}
