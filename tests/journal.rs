//! The reader against real journal files and a real journald.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

#[path = "support/journal.rs"]
mod support;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use banish::engine::entry::{Cursor, Entry, Evidence, Field, Locate, Slot, Wanted};
use banish::engine::filter::{Held, Hit};
use banish::engine::time::{Length, Stamp};
use banish::journal::{
    Examine, FeedFrom, Handle, Harvest, JournalError, News, Phase, Plan, Reason, Source, Start, Suppressed,
    read_between,
};
use support::{Journald, Record, write};
use systemd::journal::OpenDirectoryOptions;
use tokio::sync::mpsc::{Receiver, channel, error::TryRecvError};

const T0: u64 = 1_700_000_000_000_000;
const SECOND: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Sights the number in every `failure NUMBER`, as an address, and keeps what it saw of the fields.
struct Failures {
    wanted: Wanted,
    message: Slot,
    user: Slot,
    identifiers: Option<Vec<&'static str>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Debug)]
struct Seen {
    boot: u128,
    message: Vec<u8>,
    cut: bool,
    users: Vec<Vec<u8>>,
}

impl Failures {
    fn of(identifiers: &[&'static str]) -> Failures {
        let mut wanted = Wanted::default();
        let message = wanted.want(&Field::message());
        let user = wanted.want(&"_UID".parse().unwrap());
        Failures { wanted, message, user, identifiers: Some(identifiers.to_vec()), seen: Arc::default() }
    }

    fn of_all() -> Failures {
        Failures { identifiers: None, ..Failures::of(&[]) }
    }
}

impl Examine for Failures {
    fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        let identifiers = self.identifiers.as_ref()?;
        Some(identifiers.iter().map(|one| ("SYSLOG_IDENTIFIER".parse().unwrap(), one.as_bytes().to_vec())).collect())
    }

    fn examine(&mut self, entry: Entry<'_>, _locate: Locate<'_>, sighted: &mut dyn FnMut(Hit)) {
        let Some(text) = entry.first(self.message) else { return };
        self.seen.lock().unwrap().push(Seen {
            boot: entry.boot(),
            message: text.bytes.to_vec(),
            cut: text.cut,
            users: entry.values(self.user).map(|user| user.bytes.to_vec()).collect(),
        });
        if let Some(number) = text.bytes.strip_prefix(b"failure ") {
            let number: u32 = std::str::from_utf8(number).unwrap().parse().unwrap();
            let address = IpAddr::V4(Ipv4Addr::from_bits(number));
            sighted(Hit { jail: "test".parse().unwrap(), address, evidence: None });
        }
    }
}

/// Holds back every `held NUMBER` until its time is over.
struct Holding {
    failures: Failures,
    examined: u64,
    held: VecDeque<(u64, Evidence, u32)>,
}

/// How long it holds.
const HOLDS: Duration = Duration::from_secs(8);

impl Holding {
    fn new() -> Holding {
        Holding { failures: Failures::of(&["attack"]), examined: 0, held: VecDeque::new() }
    }
}

impl Examine for Holding {
    fn wanted(&self) -> &Wanted {
        self.failures.wanted()
    }

    fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        self.failures.terms()
    }

    fn examine(&mut self, entry: Entry<'_>, locate: Locate<'_>, sighted: &mut dyn FnMut(Hit)) {
        self.pass(entry.stamp(), sighted);
        let text = entry.first(self.failures.message).map(|text| text.bytes).unwrap_or_default();
        if let Some(number) = text.strip_prefix(b"held ") {
            let number = std::str::from_utf8(number).unwrap().parse().unwrap();
            let evidence = Evidence { stamp: entry.stamp(), entry: locate().unwrap() };
            self.held.push_back((self.examined, evidence, number));
        }
        self.failures.examine(entry, locate, sighted);
        self.examined += 1;
    }

    fn pass(&mut self, now: Stamp, sighted: &mut dyn FnMut(Hit)) {
        while let Some((_, evidence, number)) = self.held.front().copied() {
            if now.since(evidence.stamp) <= HOLDS {
                break;
            }
            self.held.pop_front();
            let (jail, address) = ("test".parse().unwrap(), IpAddr::V4(Ipv4Addr::from_bits(number)));
            sighted(Hit { jail, address, evidence: Some(evidence) });
        }
    }

    fn held(&self) -> Option<Held> {
        let (since, evidence, _) = self.held.front()?;
        Some(Held { since: *since, due: evidence.stamp.after(Length::For(HOLDS)) })
    }

    fn examined(&self) -> u64 {
        self.examined
    }
}

#[test]
fn a_checkpoint_stays_before_what_is_held_back() {
    let Some(folder) = folder() else { return };
    let file = folder.path().join("a.journal");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let log = |text: &str| {
        let stamp = now();
        write(&file, [Record::at(stamp).with("SYSLOG_IDENTIFIER", "attack").with("MESSAGE", text)]);
        stamp
    };
    log("failure 1");
    let (out, mut news) = channel(4);
    let following = Plan { once: false, ..plan(folder.path(), Start::Head) };
    let reader = Handle::spawn(following, Box::new(Holding::new()), out).unwrap();
    let mut heard = Heard::default();
    heard.listen(&mut news, |heard| heard.live == [1]);
    let before = *heard.cursors.last().unwrap();
    log("held 2");
    let behind = log("failure 3");
    heard.listen(&mut news, |heard| heard.live == [1, 3]);
    assert_eq!(heard.cursors.last(), Some(&before), "a kill here must not lose what is held back");
    // Who comes next holds nothing back and goes on from there.
    reader.replace(Box::new(Holding::new()));
    let last = log("failure 4");
    heard.listen(&mut news, |heard| heard.live == [1, 3, 4]);
    assert_eq!(heard.cursors.last().unwrap().realtime.usec(), last);
    log("held 5");
    let last = log("failure 6");
    // Nothing more is written: the clock decides.
    heard.listen(&mut news, |heard| heard.live == [1, 3, 4, 6, 5]);
    assert_eq!(heard.cursors.last().unwrap().realtime.usec(), last);
    assert!(behind < last);
    reader.stop();
    assert!(reader.join());
}

fn failure(number: u32) -> Record {
    told_by("attack", number)
}

fn told_by(identifier: &str, number: u32) -> Record {
    let stamp = T0 + u64::from(number) * SECOND;
    Record::at(stamp).with("SYSLOG_IDENTIFIER", identifier).with("MESSAGE", format!("failure {number}"))
}

fn stamp_of(number: u32) -> Stamp {
    Stamp::from_usec(T0 + u64::from(number) * SECOND)
}

/// A directory for a test's journal files, or `None` (and the reason printed) where there can be none.
fn folder() -> Option<tempfile::TempDir> {
    if let Some(reason) = support::missing_writer() {
        eprintln!("skipped: {reason}");
        return None;
    }
    Some(tempfile::tempdir().unwrap())
}

fn plan(directory: &Path, start: Start) -> Plan {
    Plan { source: Source::Directory(directory.into()), start, once: true, liveness: Duration::from_secs(3600) }
}

/// What a reader told, in order.
#[derive(Default)]
struct Heard {
    fed: Vec<u32>,
    live: Vec<u32>,
    /// Everything but harvests: its name, with what it carries where a test asks.
    events: Vec<String>,
    cursors: Vec<Cursor>,
    entries: u64,
    unreadable: u64,
    suppressed: Vec<Suppressed>,
}

impl Heard {
    fn take(&mut self, news: News) {
        match news {
            News::Harvest(harvest) => self.take_harvest(harvest),
            News::Gap { from, to } => self.events.push(format!("gap {:?}", to.map(|to| to.since(from).as_secs()))),
            News::Replaced { .. } => self.events.push("replaced".into()),
            News::Reopened { reason: Reason::Deaf } => self.events.push("deaf".into()),
            other => self.events.push(format!("{other:?}").to_lowercase()),
        }
    }

    fn take_harvest(&mut self, harvest: Harvest) {
        let numbers = harvest.sightings.iter().map(|sighting| match sighting.address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(_) => unreachable!("the test's addresses are IPv4"),
        });
        match harvest.phase {
            Phase::Feed => self.fed.extend(numbers),
            Phase::Live => self.live.extend(numbers),
        }
        self.cursors.extend(harvest.cursor);
        self.entries += harvest.entries;
        self.unreadable += harvest.unreadable;
        self.suppressed.extend(harvest.suppressed);
    }

    fn listen(&mut self, news: &mut Receiver<News>, done: impl Fn(&Heard) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !done(self) {
            match news.try_recv() {
                Ok(one) => self.take(one),
                Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(1)),
                Err(TryRecvError::Disconnected) => panic!("the reader ended: {:?}", self.events),
            }
            assert!(Instant::now() < give_up, "still waiting: {} live, {:?}", self.live.len(), self.events);
        }
    }
}

fn read(plan: Plan, examine: Failures) -> Heard {
    let (out, mut news) = channel(4);
    let reader = Handle::spawn(plan, Box::new(examine), out).unwrap();
    let mut heard = Heard::default();
    while let Some(one) = news.blocking_recv() {
        heard.take(one);
    }
    assert!(reader.join());
    heard
}

fn numbers(range: std::ops::Range<u32>) -> Vec<u32> {
    range.collect()
}

/// 100 failures, every third entry another's.
fn write_hundred(directory: &Path) {
    let records = (0..100).flat_map(|number| {
        let other = (number % 2 == 0).then(|| told_by("other", number));
        other.into_iter().chain([failure(number)])
    });
    write(&directory.join("a.journal"), records);
}

fn cursor_of(directory: &Path, number: u32) -> Cursor {
    let mut journal = OpenDirectoryOptions::default().open_directory(directory.to_str().unwrap()).unwrap();
    journal.match_add("SYSLOG_IDENTIFIER", "attack").unwrap().seek_realtime_usec(stamp_of(number).usec()).unwrap();
    assert_eq!(journal.next().unwrap(), 1);
    let cursor: Cursor = journal.cursor().unwrap().parse().unwrap();
    assert_eq!(cursor.realtime, stamp_of(number));
    cursor
}

#[test]
fn from_the_head_every_entry_comes_once_and_in_order() {
    let Some(folder) = folder() else { return };
    write_hundred(folder.path());
    let heard = read(plan(folder.path(), Start::Head), Failures::of(&["attack"]));
    assert_eq!(heard.live, numbers(0..100));
    assert_eq!(heard.entries, 100, "the others' entries are not even read");
    assert_eq!(heard.events, ["caughtup", "end"]);
    let all = read(plan(folder.path(), Start::Head), Failures::of_all());
    assert_eq!(all.entries, 150);
    let none = read(plan(folder.path(), Start::Head), Failures::of(&[]));
    assert_eq!((none.entries, none.events), (0, vec!["caughtup".to_string(), "end".to_string()]));
}

#[test]
fn after_a_checkpoint_exactly_the_rest_comes() {
    let Some(folder) = folder() else { return };
    write_hundred(folder.path());
    for number in [0, 1, 50, 98] {
        let checkpoint = cursor_of(folder.path(), number);
        let start = Start::Resume { checkpoint, feed: FeedFrom::Stamp(Stamp::NEVER) };
        let heard = read(plan(folder.path(), start), Failures::of(&["attack"]));
        assert_eq!((heard.fed, heard.live), (vec![], numbers(number + 1..100)));
        assert_eq!(heard.events, ["fed", "caughtup", "end"]);
    }
    let start = Start::Resume { checkpoint: cursor_of(folder.path(), 99), feed: FeedFrom::Stamp(Stamp::NEVER) };
    assert_eq!(read(plan(folder.path(), start), Failures::of(&["attack"])).entries, 0);
}

#[test]
fn a_checkpoint_need_not_be_selected() {
    let Some(folder) = folder() else { return };
    write_hundred(folder.path());
    let checkpoint = cursor_of(folder.path(), 40);
    let start = Start::Resume { checkpoint, feed: FeedFrom::Stamp(stamp_of(30)) };
    let heard = read(plan(folder.path(), start), Failures::of(&["other"]));
    let even = |from: u32, to: u32| (from..to).filter(|number| number % 2 == 0).collect::<Vec<_>>();
    assert_eq!((heard.fed, heard.live), (even(30, 41), even(41, 100)));
    assert_eq!(heard.events, ["fed", "caughtup", "end"]);
}

#[test]
fn what_was_decided_on_is_fed_and_the_rest_is_live() {
    let Some(folder) = folder() else { return };
    write_hundred(folder.path());
    let start = Start::Resume { checkpoint: cursor_of(folder.path(), 60), feed: FeedFrom::Stamp(stamp_of(20)) };
    let heard = read(plan(folder.path(), start), Failures::of(&["attack"]));
    assert_eq!((heard.fed, heard.live), (numbers(20..61), numbers(61..100)));
    assert_eq!(heard.events, ["fed", "caughtup", "end"]);
    assert_eq!(heard.cursors.len(), 1, "no checkpoint is offered while feeding");
    assert_eq!(heard.cursors[0].realtime, stamp_of(99));
}

#[test]
fn a_first_start_feeds_what_is_there() {
    let Some(folder) = folder() else { return };
    write_hundred(folder.path());
    let start = Start::Recent { feed_from: stamp_of(90) };
    let heard = read(plan(folder.path(), start), Failures::of(&["attack"]));
    assert_eq!((heard.fed, heard.live), (numbers(90..100), vec![]));
    assert_eq!(heard.events, ["fed", "caughtup", "end"]);
}

#[test]
fn a_first_start_without_a_match_hears_the_first_entry_that_comes() {
    let Some(folder) = folder() else { return };
    write(&folder.path().join("a.journal"), (0..20).map(|number| told_by("other", number)));
    let (out, mut news) = channel(4);
    let start = Start::Recent { feed_from: Stamp::EPOCH };
    let following = Plan { once: false, ..plan(folder.path(), start) };
    let _reader = Handle::spawn(following, Box::new(Failures::of(&["attack"])), out).unwrap();
    let mut heard = Heard::default();
    heard.listen(&mut news, |heard| heard.events == ["fed", "caughtup"]);
    write(&folder.path().join("a.journal"), [told_by("other", 30), failure(31), failure(32)]);
    heard.listen(&mut news, |heard| heard.live.len() >= 2);
    assert_eq!(heard.live, [31, 32]);
}

#[test]
fn an_empty_directory_is_followed_from_its_first_entry_on() {
    let Some(folder) = folder() else { return };
    for start in [Start::Head, Start::Recent { feed_from: Stamp::EPOCH }] {
        let own = tempfile::tempdir_in(folder.path()).unwrap();
        let (out, mut news) = channel(4);
        let following = Plan { once: false, ..plan(own.path(), start) };
        let _reader = Handle::spawn(following, Box::new(Failures::of(&["attack"])), out).unwrap();
        let mut heard = Heard::default();
        heard.listen(&mut news, |heard| heard.events.last().is_some_and(|last| last == "caughtup"));
        write(&own.path().join("a.journal"), (0..10).map(failure));
        write(&own.path().join("b.journal"), (10..20).map(failure));
        heard.listen(&mut news, |heard| heard.live.len() >= 20);
        assert_eq!(heard.live, numbers(0..20));
    }
}

#[test]
fn many_files_are_one_journal() {
    let Some(folder) = folder() else { return };
    for file in 0..5 {
        let path = folder.path().join(format!("system@{file}.journal"));
        write(&path, (file * 20..file * 20 + 20).map(failure));
    }
    let heard = read(plan(folder.path(), Start::Head), Failures::of(&["attack"]));
    assert_eq!(heard.live, numbers(0..100));
    let start = Start::Resume { checkpoint: cursor_of(folder.path(), 59), feed: FeedFrom::Stamp(stamp_of(10)) };
    let heard = read(plan(folder.path(), start), Failures::of(&["attack"]));
    assert_eq!((heard.fed, heard.live), (numbers(10..60), numbers(60..100)));
    let pattern = Source::Files(vec![folder.path().join("system@[123].journal")]);
    let heard = read(Plan { source: pattern, ..plan(folder.path(), Start::Head) }, Failures::of(&["attack"]));
    assert_eq!(heard.live, numbers(20..80));
}

#[test]
fn where_the_checkpoint_is_gone_the_gap_is_told_and_nothing_left_is_lost() {
    let Some(folder) = folder() else { return };
    for file in 0..3 {
        write(&folder.path().join(format!("{file}.journal")), (file * 20..file * 20 + 20).map(failure));
    }
    let checkpoint = cursor_of(folder.path(), 5);
    for file in ["0.journal", "1.journal"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    let start = Start::Resume { checkpoint, feed: FeedFrom::Stamp(Stamp::EPOCH) };
    let heard = read(plan(folder.path(), start), Failures::of(&["attack"]));
    assert_eq!((heard.fed, heard.live), (vec![], numbers(40..60)));
    assert_eq!(heard.events, ["gap Some(35)", "fed", "caughtup", "end"]);
}

#[test]
fn a_checkpoint_of_another_journal_s_future_is_a_gap_and_not_silence() {
    let Some(folder) = folder() else { return };
    write_hundred(folder.path());
    let foreign = "s=1;i=7;b=2;m=3;t=fffffffffffff;x=4".parse().unwrap();
    let (out, mut news) = channel(4);
    let start = Start::Resume { checkpoint: foreign, feed: FeedFrom::Stamp(stamp_of(95)) };
    let following = Plan { once: false, ..plan(folder.path(), start) };
    let _reader = Handle::spawn(following, Box::new(Failures::of(&["attack"])), out).unwrap();
    let mut heard = Heard::default();
    heard.listen(&mut news, |heard| heard.events.last().is_some_and(|last| last == "caughtup"));
    assert_eq!(
        (heard.events.clone(), heard.fed.clone()),
        (vec!["gap None".into(), "fed".into(), "caughtup".into()], numbers(95..100))
    );
    write(&folder.path().join("a.journal"), [failure(100)]);
    heard.listen(&mut news, |heard| !heard.live.is_empty());
    assert_eq!(heard.live, [100]);
}

#[test]
fn values_come_whole_repeated_binary_or_marked_as_cut() {
    let Some(folder) = folder() else { return };
    let long = [b"x".repeat(8 * 1024), b"y".repeat(1 << 20)].concat();
    let squeezed_to_the_brim = b"z".repeat(8 * 1024);
    let many = (0..200).fold(failure(3), |record, number| record.with(&format!("F_{number}"), "value"));
    let records = [
        Record::at(T0).with("MESSAGE", b"a\nb\0\xff=c").with("_UID", "0").with("_UID", "7"),
        Record::at(T0 + 1).with("MESSAGE", &long),
        Record::at(T0 + 2).with("MESSAGE", &squeezed_to_the_brim),
        Record::at(T0 + 3).with("MESSAGE", ""),
        many,
    ];
    write(&folder.path().join("a.journal"), records);
    let examine = Failures::of_all();
    let seen = Arc::clone(&examine.seen);
    let heard = read(plan(folder.path(), Start::Head), examine);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), heard.unreadable), (5, 0));
    assert_eq!((&*seen[0].message, seen[0].cut), (&b"a\nb\0\xff=c"[..], false));
    assert_eq!(BTreeSet::from_iter(&seen[0].users), BTreeSet::from([&b"0".to_vec(), &b"7".to_vec()]));
    assert_eq!(seen[0].boot, 0x4ee1aa93f3a64d759bbd45e2b567805e);
    assert_eq!((&*seen[1].message, seen[1].cut), (&long[..8 * 1024], true));
    assert_eq!((&*seen[2].message, seen[2].cut), (&*squeezed_to_the_brim, false));
    assert_eq!((seen[3].message.len(), seen[3].cut), (0, false));
    assert_eq!(heard.live, [3]);
}

#[test]
fn a_damaged_file_hides_none_of_the_others() {
    let Some(folder) = folder() else { return };
    for file in 0..3 {
        write(&folder.path().join(format!("{file}.journal")), (file * 2000..file * 2000 + 2000).map(failure));
    }
    let path = folder.path().join("1.journal");
    let mut bytes = std::fs::read(&path).unwrap();
    let (start, end) = (bytes.len() / 3, bytes.len() / 2);
    bytes[start..end].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let heard = read(plan(folder.path(), Start::Head), Failures::of(&["attack"]));
    let of_the_others = |number: &u32| !(2000..4000).contains(number);
    let got: Vec<_> = heard.live.iter().copied().filter(of_the_others).collect();
    assert_eq!(got, (0..6000).filter(of_the_others).collect::<Vec<_>>());
    assert_eq!(heard.events.last().unwrap(), "end");
    assert_eq!(heard.live.iter().collect::<BTreeSet<_>>().len(), heard.live.len(), "none twice");
}

#[test]
fn a_part_is_read_up_to_and_including_its_last_entry() {
    let Some(folder) = folder() else { return };
    write_hundred(folder.path());
    let source = Source::Directory(folder.path().into());
    let until = cursor_of(folder.path(), 30);
    let mut got = Vec::new();
    let entries = read_between(
        &source,
        stamp_of(10),
        Some(&until),
        &mut Failures::of(&["attack"]),
        &mut |sighting| {
            got.push(sighting.stamp);
        },
        &|| true,
    );
    assert_eq!(entries.unwrap(), 21);
    assert_eq!(got, (10..31).map(stamp_of).collect::<Vec<_>>());
}

#[test]
fn a_successor_takes_over_without_losing_or_doubling_an_entry() {
    let Some(folder) = folder() else { return };
    let file = folder.path().join("a.journal");
    write(&file, (0..50).flat_map(|number| [failure(number), told_by("other", 1000 + number)]));
    let (out, mut news) = channel(4);
    let following = Plan { once: false, ..plan(folder.path(), Start::Head) };
    let reader = Handle::spawn(following, Box::new(Failures::of(&["attack"])), out).unwrap();
    let mut heard = Heard::default();
    heard.listen(&mut news, |heard| heard.events == ["caughtup"]);
    assert_eq!(heard.live, numbers(0..50));
    // From here on both: the other's old entries are none of the successor's.
    reader.replace(Box::new(Failures::of(&["attack", "other"])));
    heard.listen(&mut news, |heard| heard.events == ["caughtup", "replaced"]);
    write(&file, [told_by("other", 1100), failure(1101)]);
    heard.listen(&mut news, |heard| heard.live.len() >= 52);
    assert_eq!(heard.live[50..], [1100, 1101]);
    // While entries keep coming, one successor after the other.
    let writer = std::thread::spawn({
        let file = file.clone();
        move || (0..20).for_each(|round| write(&file, (0..20).map(|number| failure(2000 + round * 20 + number))))
    });
    while !writer.is_finished() {
        reader.replace(Box::new(Failures::of(&["attack"])));
        heard.listen(&mut news, |_| true);
        if let Ok(one) = news.try_recv() {
            heard.take(one);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    writer.join().unwrap();
    heard.listen(&mut news, |heard| heard.live.len() >= 452);
    assert_eq!(heard.live[52..], numbers(2000..2400));
}

#[test]
fn a_successor_that_comes_while_catching_up_takes_over_at_the_entry_it_names() {
    let Some(folder) = folder() else { return };
    write(&folder.path().join("a.journal"), (0..20_000).flat_map(|number| [failure(number), told_by("other", number)]));
    let (out, mut news) = channel(1);
    let reader = Handle::spawn(plan(folder.path(), Start::Head), Box::new(Failures::of(&["attack"])), out).unwrap();
    reader.replace(Box::new(Failures::of(&["other"])));
    let (mut former, mut at, mut later) = (Vec::new(), None, Vec::new());
    while let Some(one) = news.blocking_recv() {
        match one {
            News::Harvest(harvest) if at.is_none() => former.extend(harvest.sightings),
            News::Harvest(harvest) => later.extend(harvest.sightings),
            News::Replaced { at: cursor } => at = cursor,
            _ => {}
        }
    }
    let at = at.expect("it was replaced behind an entry");
    assert_eq!(former.last().unwrap().entry, at.entry);
    // The other's entry follows the attack's of the same number.
    assert_eq!(later.len(), 20_000 - former.len() + 1);
    assert_eq!(later[0].stamp, former.last().unwrap().stamp);
}

#[test]
fn asked_for_its_sessions_it_names_its_place_as_soon_as_all_is_fed_and_none_before() {
    let Some(folder) = folder() else { return };
    write(&folder.path().join("a.journal"), (0..6000).map(failure));
    let start = Start::Resume { checkpoint: cursor_of(folder.path(), 5000), feed: FeedFrom::Stamp(Stamp::EPOCH) };
    let (out, mut news) = channel(1);
    let following = Plan { once: false, ..plan(folder.path(), start) };
    let reader = Handle::spawn(following, Box::new(Failures::of(&["attack"])), out).unwrap();
    // It waits with its first news, and finds the order behind them.
    reader.save();
    let (mut fed, mut place) = (false, None);
    while place.is_none() {
        match news.blocking_recv().unwrap() {
            News::Saved { cursor, .. } if !fed => {
                assert_eq!(cursor, None);
                reader.save();
            }
            News::Saved { cursor, .. } => place = cursor,
            News::Fed => {
                fed = true;
                reader.save();
            }
            News::CaughtUp => panic!("it tells before the end"),
            _ => {}
        }
    }
    assert!(place.is_some_and(|place| place.realtime > stamp_of(5000)));
}

#[test]
fn a_reader_that_does_not_hear_what_is_there_is_opened_anew() {
    let Some(folder) = folder() else { return };
    write(&folder.path().join("a.journal"), (0..10).map(failure));
    let (out, mut news) = channel(4);
    // sd-journal never looks for new files where it was given single ones.
    let source = Source::Files(vec![folder.path().join("*.journal")]);
    let liveness = Duration::from_millis(200);
    let following = Plan { source, start: Start::Head, once: false, liveness };
    let _reader = Handle::spawn(following, Box::new(Failures::of(&["attack"])), out).unwrap();
    let mut heard = Heard::default();
    heard.listen(&mut news, |heard| heard.events == ["caughtup"]);
    write(&folder.path().join("b.journal"), (10..20).map(failure));
    heard.listen(&mut news, |heard| heard.live.len() >= 20);
    assert_eq!(heard.live, numbers(0..20));
    assert_eq!(heard.events, ["caughtup", "deaf"]);
}

/// Swaps a sender's file for one that cannot be opened, and back.
struct Spoiler {
    directory: PathBuf,
    /// Spoil it again as soon as it has been opened anew?
    again: AtomicBool,
}

impl Spoiler {
    fn spoil(&self) {
        std::fs::rename(self.file(), self.directory.join("good")).unwrap();
        std::fs::write(self.directory.join("bad"), [0; 8192]).unwrap();
        std::fs::rename(self.directory.join("bad"), self.file()).unwrap();
    }

    fn mend(&self) {
        std::fs::rename(self.directory.join("good"), self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.directory.join("remote-a.journal")
    }
}

/// Asked for its terms right after the journal was opened, and before anything is read.
struct Spoiled(Failures, Arc<Spoiler>);

impl Examine for Spoiled {
    fn wanted(&self) -> &Wanted {
        self.0.wanted()
    }

    fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        if self.1.again.swap(false, Ordering::SeqCst) {
            self.1.spoil();
        }
        self.0.terms()
    }

    fn examine(&mut self, entry: Entry<'_>, locate: Locate<'_>, sighted: &mut dyn FnMut(Hit)) {
        self.0.examine(entry, locate, sighted);
    }
}

/// Else a reading that is away would be waited for, as one that catches up.
#[test]
fn an_outage_before_the_end_of_the_one_before_is_reached_again_is_told_too() {
    let Some(folder) = folder() else { return };
    let spoiler = Arc::new(Spoiler { directory: folder.path().into(), again: AtomicBool::new(false) });
    write(&spoiler.file(), (0..10).map(failure));
    let (out, mut news) = channel(4);
    let source = Source::Sender { directory: folder.path().into(), stem: "remote-a".into() };
    let following = Plan { source, once: false, ..plan(folder.path(), Start::Head) };
    let spoiled = || Box::new(Spoiled(Failures::of(&["attack"]), Arc::clone(&spoiler)));
    let reader = Handle::spawn(following, spoiled(), out).unwrap();
    let mut heard = Heard::default();
    let told = |heard: &Heard, what| heard.events.iter().filter(|event| event.starts_with(what)).count();
    heard.listen(&mut news, |heard| told(heard, "caughtup") == 1);
    spoiler.spoil();
    heard.listen(&mut news, |heard| told(heard, "failed") == 1);
    // One that takes over looks for new files first, before it is told that the end was reached.
    reader.replace(spoiled());
    spoiler.again.store(true, Ordering::SeqCst);
    spoiler.mend();
    heard.listen(&mut news, |heard| told(heard, "reopened") == 1);
    heard.listen(&mut news, |heard| told(heard, "failed") == 2);
    spoiler.mend();
    heard.listen(&mut news, |heard| told(heard, "reopened") == 2);
    write(&spoiler.file(), (10..20).map(failure));
    heard.listen(&mut news, |heard| heard.live.len() >= 20);
    assert_eq!(heard.live, numbers(0..20));
}

#[test]
fn the_checkpoint_moves_on_with_a_journal_that_says_nothing_of_interest() {
    let Some(folder) = folder() else { return };
    let file = folder.path().join("a.journal");
    write(&file, [failure(0)]);
    let (out, mut news) = channel(4);
    let following = Plan { once: false, liveness: Duration::from_millis(100), ..plan(folder.path(), Start::Head) };
    let _reader = Handle::spawn(following, Box::new(Failures::of(&["attack"])), out).unwrap();
    let mut heard = Heard::default();
    heard.listen(&mut news, |heard| heard.events == ["caughtup"]);
    write(&file, (1..50).map(|number| told_by("other", number)));
    heard.listen(&mut news, |heard| heard.cursors.last().is_some_and(|cursor| cursor.realtime == stamp_of(49)));
    write(&file, [failure(50)]);
    heard.listen(&mut news, |heard| heard.live.len() >= 2);
    assert_eq!((heard.live, heard.events), (vec![0, 50], vec!["caughtup".to_string()]));
}

#[test]
fn what_journald_suppressed_is_told_on_its_own_word_alone() {
    let Some(folder) = folder() else { return };
    let notice = |transport: &str, unit: &str| {
        Record::at(T0)
            .with("_TRANSPORT", transport)
            .with("MESSAGE_ID", "a596d6fe7bfa4994828e72309e95d61e")
            .with("N_DROPPED", "312")
            .with("MESSAGE", format!("Suppressed 312 messages from {unit}"))
    };
    let records = [notice("driver", "ssh.service"), notice("journal", "forged.service"), failure(1)];
    write(&folder.path().join("a.journal"), records);
    for examine in [Failures::of(&["attack"]), Failures::of(&[]), Failures::of_all()] {
        let heard = read(plan(folder.path(), Start::Head), examine);
        assert_eq!(heard.suppressed, [Suppressed { unit: "ssh.service".into(), count: 312 }]);
    }
}

fn probed(reader: &Handle) -> bool {
    let mut answer = reader.probe();
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        if answer.try_recv().is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

#[test]
fn it_answers_and_ends_when_asked_whatever_it_waits_for() {
    let Some(folder) = folder() else { return };
    write(&folder.path().join("a.journal"), (0..5000).map(failure));
    for capacity in [1, 1000] {
        let (out, news) = channel(capacity);
        let following = Plan { once: false, ..plan(folder.path(), Start::Head) };
        let reader = Handle::spawn(following, Box::new(Failures::of(&["attack"])), out).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert!(probed(&reader), "it waits for the channel, or for the journal, and still answers");
        let asked = Instant::now();
        reader.stop();
        assert!(reader.join());
        assert!(asked.elapsed() < Duration::from_secs(5));
        drop(news);
    }
}

#[test]
fn it_ends_when_nobody_listens() {
    let Some(folder) = folder() else { return };
    write(&folder.path().join("a.journal"), (0..5000).map(failure));
    for capacity in [1, 1000] {
        let (out, news) = channel(capacity);
        let following = Plan { once: false, ..plan(folder.path(), Start::Head) };
        let reader = Handle::spawn(following, Box::new(Failures::of(&["attack"])), out).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        drop(news);
        assert!(reader.join());
    }
}

#[test]
fn a_journal_that_is_not_there_is_told_at_once() {
    let (out, _news) = channel(1);
    let empty = tempfile::tempdir().unwrap();
    let missing = empty.path().join("missing");
    let error = Handle::spawn(plan(&missing, Start::Head), Box::new(Failures::of_all()), out).map(drop).unwrap_err();
    assert!(matches!(error, JournalError::Open { .. }), "{error}");
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
}

#[test]
fn nothing_is_lost_or_doubled_while_a_real_journald_rotates_vacuums_and_dies() {
    let mut journald = match Journald::start() {
        Ok(journald) => journald,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let (out, mut news) = channel(64);
    let start = Start::Recent { feed_from: Stamp::EPOCH };
    let following = Plan { once: false, ..plan(&journald.directory(), start) };
    let _reader = Handle::spawn(following, Box::new(Failures::of(&["attack"])), out).unwrap();
    let mut heard = Heard::default();
    heard.listen(&mut news, |heard| heard.events == ["fed", "caughtup"]);
    let socket = UnixDatagram::unbound().unwrap();
    let mut number = 0;
    for round in 0..8 {
        for _ in 0..2500 {
            journald.log(&socket, "attack", &format!("failure {number}"));
            journald.log(&socket, "other", &"noise ".repeat(40));
            number += 1;
        }
        // The kill must find nothing in journald's own queue: that would be lost before it was written.
        heard.listen(&mut news, |heard| heard.live.len() >= number);
        match round % 4 {
            1 => journald.rotate(),
            3 => journald.crash(),
            _ => {}
        }
    }
    heard.listen(&mut news, |heard| heard.live.len() >= number);
    assert_eq!(heard.live, numbers(0..u32::try_from(number).unwrap()));
    assert_eq!(heard.events, ["fed", "caughtup"]);
}
