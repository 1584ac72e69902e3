//! What becomes of the reader when the journal is at fault: damaged files, clocks that jump, wake-ups that do not come.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests are an edge")]

#[path = "support/journal.rs"]
#[allow(dead_code, reason = "shared with the reader's tests")]
mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use banish::engine::entry::{Cursor, Entry, Field, Locate, Slot, Wanted};
use banish::engine::filter::Hit;
use banish::engine::jail::{Action, Rules};
use banish::engine::time::{Length, Stamp};
use banish::engine::warden::{Decision, Warden};
use banish::journal::{Examine, FeedFrom, Handle, News, Phase, Plan, Source, Start};
use support::{Record, write};
use tokio::sync::mpsc::{Receiver, channel, error::TryRecvError};

const T0: u64 = 1_700_000_000_000_000;
const SECOND: u64 = 1_000_000;
const HOUR: u64 = 3600 * SECOND;
const PATIENCE: Duration = Duration::from_secs(40);

/// Sights the number in every `failure NUMBER`, as an address.
struct Failures {
    wanted: Wanted,
    message: Slot,
}

impl Failures {
    fn new() -> Box<Failures> {
        let mut wanted = Wanted::default();
        let message = wanted.want(&Field::message());
        Box::new(Failures { wanted, message })
    }
}

impl Examine for Failures {
    fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    fn terms(&self) -> Option<Vec<(Field, Vec<u8>)>> {
        Some(vec![("SYSLOG_IDENTIFIER".parse().unwrap(), b"attack".to_vec())])
    }

    fn examine(&mut self, entry: Entry<'_>, _locate: Locate<'_>, sighted: &mut dyn FnMut(Hit)) {
        let number = entry.first(self.message).and_then(|text| text.bytes.strip_prefix(b"failure "));
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        if let Some(number) = number {
            let address = IpAddr::V4(Ipv4Addr::from_bits(number));
            sighted(Hit { jail: "test".parse().unwrap(), address, evidence: None });
        }
    }
}

fn failure_at(number: u32, stamp: u64) -> Record {
    Record::at(stamp).with("SYSLOG_IDENTIFIER", "attack").with("MESSAGE", format!("failure {number}"))
}

fn failure(number: u32) -> Record {
    failure_at(number, T0 + u64::from(number) * SECOND)
}

/// A directory for a test's journal files, or `None` (and the reason printed) where there can be none.
fn folder() -> Option<tempfile::TempDir> {
    if let Some(reason) = support::missing_writer() {
        eprintln!("skipped: {reason}");
        return None;
    }
    Some(tempfile::tempdir().unwrap())
}

fn plan(source: Source, start: Start, once: bool) -> Plan {
    Plan { source, start, once, liveness: Duration::from_secs(3600) }
}

/// A reader and what it has told so far.
struct Listener {
    reader: Option<Handle>,
    news: Receiver<News>,
    heard: Vec<u32>,
    stamps: Vec<Stamp>,
    last: Option<Cursor>,
    events: Vec<String>,
}

impl Listener {
    fn of(plan: Plan) -> Listener {
        let (out, news) = channel(4);
        let reader = Handle::spawn(plan, Failures::new(), out).unwrap();
        Listener { reader: Some(reader), news, heard: Vec::new(), stamps: Vec::new(), last: None, events: Vec::new() }
    }

    fn patiently(plan: Plan) -> Listener {
        let (out, news) = channel(4);
        let reader = Handle::spawn_patient(plan, Failures::new(), out).unwrap();
        Listener { reader: Some(reader), news, heard: Vec::new(), stamps: Vec::new(), last: None, events: Vec::new() }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Harvest(harvest) => {
                for sighting in &harvest.sightings {
                    let IpAddr::V4(address) = sighting.address else { panic!("an IPv4 address") };
                    assert_eq!(harvest.phase, Phase::Live);
                    self.heard.push(address.to_bits());
                    self.stamps.push(sighting.stamp);
                }
                self.last = harvest.cursor.or(self.last);
            }
            News::Gap { .. } => self.events.push("gap".into()),
            News::Failed { .. } => self.events.push("failed".into()),
            other => self.events.push(format!("{other:?}").to_lowercase()),
        }
    }

    /// Until `done` or, with `--once` so to speak, until the reader has ended.
    fn listen(&mut self, what: &str, done: impl Fn(&Listener) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !done(self) {
            match self.news.try_recv() {
                Ok(news) => self.take(news),
                Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(1)),
                Err(TryRecvError::Disconnected) => break,
            }
            assert!(Instant::now() < give_up, "{what}: still waiting after {:?}, {:?}", self.heard.len(), self.events);
        }
    }

    fn until_the_end(mut self, what: &str) -> Listener {
        self.listen(what, |_| false);
        assert!(self.reader.take().unwrap().join(), "{what}: the reader panicked");
        self
    }
}

fn whole(source: Source, what: &str) -> Listener {
    Listener::of(plan(source, Start::Head, true)).until_the_end(what)
}

fn numbers(range: std::ops::Range<u32>) -> Vec<u32> {
    range.collect()
}

/// A journal of 150 entries in a file that can be damaged, and 50 in one that stays whole.
struct Damaged {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
    /// Where the file's objects end; behind it there are only zeros.
    used: usize,
}

impl Damaged {
    fn new() -> Option<Damaged> {
        let folder = folder()?;
        let path = folder.path().join("system@bad.journal");
        write(&path, (0..150).map(failure));
        write(&folder.path().join("system.journal"), (150..200).map(failure));
        let bytes = std::fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        Some(Damaged { folder, bytes, used })
    }

    fn read(&self, bytes: &[u8], what: &str) -> usize {
        std::fs::write(self.folder.path().join("system@bad.journal"), bytes).unwrap();
        let listener = whole(Source::Directory(self.folder.path().into()), what);
        assert_eq!(listener.events, ["caughtup", "end"], "{what}");
        let (good, bad): (Vec<u32>, Vec<u32>) = listener.heard.iter().partition(|number| **number >= 150);
        assert_eq!(good, numbers(150..200), "{what}: the other file is read whole");
        assert!(bad.is_sorted_by(|a, b| a < b), "{what}: {bad:?}");
        bad.len()
    }
}

#[test]
fn a_file_cut_anywhere_stops_nothing_and_hides_no_other() {
    let Some(damaged) = Damaged::new() else { return };
    assert_eq!(damaged.read(&damaged.bytes, "whole"), 150);
    for step in 0..60 {
        let length = damaged.used * step / 60;
        // libsystemd refuses a file that is shorter than its header says, as journalctl does.
        assert_eq!(damaged.read(&damaged.bytes[..length], &format!("cut at {length}")), 0);
    }
}

#[test]
fn flipped_bytes_lose_what_they_hit_and_neither_stop_nor_crash_the_reader() {
    let Some(damaged) = Damaged::new() else { return };
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    let mut read = 0;
    for round in 0..120 {
        let mut bytes = damaged.bytes.clone();
        // In the header, in one place, in many.
        let places: Vec<usize> = match round % 3 {
            0 => vec![next(256)],
            1 => vec![next(damaged.used)],
            _ => (0..40).map(|_| next(damaged.used)).collect(),
        };
        for place in &places {
            bytes[*place] ^= u8::try_from(1 + next(255)).unwrap();
        }
        read += damaged.read(&bytes, &format!("round {round}, flipped {places:?}"));
    }
    eprintln!("of files with flipped bytes {read} of {} entries were read", 120 * 150);
    assert!(read > 60 * 150, "{read}");
}

#[test]
fn a_reader_of_a_damaged_file_hears_the_next_one() {
    let Some(damaged) = Damaged::new() else { return };
    std::fs::write(damaged.folder.path().join("system@bad.journal"), &damaged.bytes[..damaged.used / 2]).unwrap();
    std::fs::remove_file(damaged.folder.path().join("system.journal")).unwrap();
    let source = Source::Directory(damaged.folder.path().into());
    let mut listener = Listener::of(plan(source, Start::Head, false));
    listener.listen("the end", |listener| listener.events == ["caughtup"]);
    let before = listener.heard.len();
    write(&damaged.folder.path().join("system.journal"), (150..200).map(failure));
    listener.listen("the next file", |listener| listener.heard.len() >= before + 50);
    assert_eq!(listener.heard[before..], numbers(150..200));
}

#[test]
fn a_file_cut_off_under_the_reader_s_hands_ends_neither_it_nor_the_process() {
    let Some(folder) = folder() else { return };
    for length in [0, 64, 4096, 100_000, 1_000_000] {
        let own = tempfile::tempdir_in(folder.path()).unwrap();
        let cut = own.path().join("system@cut.journal");
        write(&cut, (0..9000).map(failure));
        write(&own.path().join("system.journal"), (9000..9050).map(failure));
        let mut listener = Listener::of(plan(Source::Directory(own.path().into()), Start::Head, false));
        listener.listen("the first part", |listener| listener.heard.len() >= 512);
        // The reader stands in the midst of it, at the full channel, with the file mapped.
        std::fs::File::options().write(true).open(&cut).unwrap().set_len(length).unwrap();
        let whole = |listener: &Listener| listener.heard.ends_with(&numbers(9000..9050));
        listener.listen("what lies in the other file", whole);
        assert!(listener.heard.is_sorted_by(|a, b| a < b), "nothing comes twice");
        write(&own.path().join("system.journal"), [failure(9050)]);
        listener.listen("what comes next", |listener| listener.heard.last() == Some(&9050));
    }
}

#[test]
fn one_damaged_file_of_a_sender_does_not_hide_its_others() {
    let Some(folder) = folder() else { return };
    write(&folder.path().join("remote-a@1-1-1.journal"), (0..20).map(failure));
    write(&folder.path().join("remote-a.journal"), (20..40).map(failure));
    write(&folder.path().join("remote-b.journal"), (900..950).map(failure));
    for content in [&b""[..], &b"LPKSHHRH but no more"[..], &[0xff; 4096][..]] {
        std::fs::write(folder.path().join("remote-a@0-0-0.journal~"), content).unwrap();
        let source = Source::Sender { directory: folder.path().into(), stem: "remote-a".into() };
        assert_eq!(whole(source, "a sender").heard, numbers(0..40));
    }
}

/// The machine's clock is set back by five hours and then put right, while failures come in.
#[test]
fn a_clock_that_jumps_back_and_forth_hides_and_doubles_no_entry_and_counts_by_its_own_times() {
    let Some(folder) = folder() else { return };
    let path = folder.path().join("system.journal");
    // Six failures of one host: three before the jump, two in the false past, one after the clock was put right.
    let times = [0, 1, 2, 2, 3, 4].map(|second| T0 + 6 * HOUR + second * SECOND);
    let jumped = |at: usize| if at == 3 || at == 4 { times[at] - 5 * HOUR } else { times[at] };
    write(&path, (0..3).map(|at| failure_at(7, jumped(at))));
    let source = || Source::Directory(folder.path().into());
    let mut listener = Listener::of(plan(source(), Start::Head, false));
    listener.listen("before the jump", |listener| listener.heard.len() == 3);
    write(&path, (3..5).map(|at| failure_at(7, jumped(at))));
    listener.listen("in the past", |listener| listener.heard.len() == 5);
    let in_the_past = listener.last.unwrap();
    write(&path, [failure_at(7, jumped(5))]);
    listener.listen("after it", |listener| listener.heard.len() == 6);
    assert_eq!(listener.stamps, (0..6).map(|at| Stamp::from_usec(jumped(at))).collect::<Vec<_>>());

    // A restart in the false past goes on there, and loses and repeats nothing.
    let start = Start::Resume { checkpoint: in_the_past, feed: FeedFrom::Stamp(Stamp::NEVER) };
    let after = Listener::of(plan(source(), start, true)).until_the_end("a restart");
    assert_eq!((after.heard, after.stamps), (vec![7], vec![Stamp::from_usec(jumped(5))]));

    // The engine: four failures lie within ten minutes of each other by their own times, two do not.
    let mut warden = Warden::new();
    let rules = Rules {
        maxretry: 4,
        findtime: Duration::from_secs(600),
        bantime: Length::For(Duration::from_secs(3600)),
        action: Action::Drop,
        ipv6_prefix: 64,
        allow: Default::default(),
    };
    warden.configure([("test".parse().unwrap(), rules)]);
    let read = whole(source(), "all");
    let mut decisions = Vec::new();
    for (at, stamp) in read.stamps.iter().enumerate() {
        let entry = in_the_past.entry;
        let sighting = banish::engine::jail::Sighting {
            jail: "test".parse().unwrap(),
            address: "192.0.2.7".parse().unwrap(),
            stamp: *stamp,
            entry: banish::engine::entry::EntryRef { seqnum: at as u64, ..entry },
        };
        if at == 3 {
            warden.clock_was_set(*stamp);
        }
        decisions.extend(warden.see(&[sighting], *stamp));
    }
    // What was counted when the clock was ahead is moved to the moment at which it was set: it stays counted.
    assert!(matches!(decisions.as_slice(), [Decision::Ban(ban)] if ban.failures == 4), "{decisions:?}");
}

/// What somebody who has no inotify left hears: a user who may have none of them, by a namespace's own limits.
#[test]
fn a_reader_that_no_wake_up_reaches_hears_all_the_same() {
    let Some(folder) = folder() else { return };
    let program = std::env::current_exe().unwrap();
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        let own = tempfile::tempdir_in(folder.path()).unwrap();
        let script =
            format!("echo 0 >/proc/sys/user/{limit} && exec \"$0\" --exact deaf_and_alone --ignored --nocapture");
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "--mount-proc", "--pid", "--fork", "sh", "-c", &script])
            .arg(&program)
            .env("DEAF_FOLDER", own.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if said.contains("/proc/sys/user") || said.contains("unshare:") {
            eprintln!("skipped: {said}");
            continue;
        }
        assert!(output.status.success(), "{limit}: {said}");
        assert!(said.contains("1 passed"), "{limit}: {said}");
    }
}

/// Run by the test above where there is no inotify.
#[test]
#[ignore = "needs a namespace without inotify, see a_reader_that_no_wake_up_reaches_hears_all_the_same"]
fn deaf_and_alone() {
    let folder = PathBuf::from(std::env::var_os("DEAF_FOLDER").expect("run by the other test"));
    for kind in ["directory", "sender"] {
        let directory = folder.join(kind);
        std::fs::create_dir(&directory).unwrap();
        let source = match kind {
            "directory" => Source::Directory(directory.clone()),
            _ => Source::Sender { directory: directory.clone(), stem: "remote-a".into() },
        };
        let active = directory.join("remote-a.journal");
        write(&active, (0..10).map(failure));
        let following = Plan { liveness: Duration::from_millis(500), ..plan(source, Start::Head, false) };
        let mut listener = Listener::of(following);
        listener.listen("what is there", |listener| listener.heard.len() == 10);
        write(&active, (10..20).map(failure));
        listener.listen("what is appended", |listener| listener.heard.len() == 20);
        std::fs::rename(&active, directory.join("remote-a@1-2-3.journal")).unwrap();
        write(&active, (20..30).map(failure));
        listener.listen("what is in another file", |listener| listener.heard.len() == 30);
        assert_eq!(listener.heard, numbers(0..30));
    }
}

/// The volatile journal is flushed to the disk: the same entries under another path, and what comes next there.
#[test]
fn a_journal_that_moves_from_memory_to_disk_is_read_on_where_it_was() {
    let Some(folder) = folder() else { return };
    let (run, log) = (folder.path().join("run"), folder.path().join("log"));
    std::fs::create_dir(&run).unwrap();
    std::fs::create_dir(&log).unwrap();
    write(&run.join("system.journal"), (0..20).map(failure));
    let first = whole(Source::Directory(run.clone()), "in memory");
    let checkpoint = first.last.unwrap();
    // journald copies the entries with their numbers: the file as it is has them too.
    std::fs::rename(run.join("system.journal"), log.join("system.journal")).unwrap();
    write(&log.join("system.journal"), (20..40).map(failure));
    let start = Start::Resume { checkpoint, feed: FeedFrom::Stamp(Stamp::NEVER) };
    let after = Listener::of(plan(Source::Directory(log), start, true)).until_the_end("on disk");
    assert_eq!(after.heard, numbers(20..40));
    assert_eq!(after.events, ["fed", "caughtup", "end"]);
}

#[test]
fn a_journal_that_comes_while_it_is_waited_for_is_read_from_its_head() {
    let Some(folder) = folder() else { return };
    let directory = folder.path().join("later");
    let start = Start::Recent { feed_from: Stamp::NEVER };
    let mut listener = Listener::patiently(plan(Source::Directory(directory.clone()), start, false));
    listener.listen("that it is not there", |listener| listener.events == ["failed"]);
    std::fs::create_dir(folder.path().join("made")).unwrap();
    write(&folder.path().join("made/system.journal"), (0..10).map(failure));
    std::fs::rename(folder.path().join("made"), &directory).unwrap();
    listener.listen("its entries", |listener| listener.heard.len() == 10);
    assert_eq!(listener.heard, numbers(0..10));
    assert_eq!(listener.events[..2], ["failed".to_owned(), "reopened { reason: failed }".to_owned()]);
}

#[test]
fn an_entry_of_every_shape_comes_once() {
    let Some(folder) = folder() else { return };
    let large = "x".repeat(1 << 20);
    let many = (0..200).fold(failure(1), |record, at| record.with(&format!("F_{at}"), "value"));
    let repeated = (0..100).fold(failure(2), |record, at| record.with("_AUDIT_SESSION", at.to_string()));
    let records = [
        failure(0),
        many,
        repeated,
        failure(3).with("BLOB", &large),
        Record::at(T0 + 4 * SECOND).with("SYSLOG_IDENTIFIER", "attack").with("MESSAGE", b"failure \xff\0\n"),
        Record::at(T0 + 5 * SECOND).with("SYSLOG_IDENTIFIER", "attack").with("MESSAGE", &large),
        failure(6).with("MESSAGE", "failure 66"),
        failure(7),
    ];
    write(&folder.path().join("system.journal"), records);
    let read = whole(Source::Directory(folder.path().into()), "shapes");
    let distinct: BTreeSet<u32> = read.heard.iter().copied().collect();
    assert_eq!(read.heard.len(), distinct.len(), "{:?}", read.heard);
    assert_eq!(distinct, BTreeSet::from([0, 1, 2, 3, 6, 7]));
}

/// A container's journal lies in a directory that is named after the container's machine id; that may change.
#[test]
fn a_container_s_journal_is_read_and_followed_to_another_machine_id() {
    let Some(folder) = folder() else { return };
    let of = |id: &str| -> PathBuf {
        let directory = folder.path().join(id);
        std::fs::create_dir(&directory).unwrap();
        directory.join("system.journal")
    };
    write(&of("0123456789abcdef0123456789abcdef"), (0..10).map(failure));
    // Those of a user in the container.
    let user = folder.path().join("0123456789abcdef0123456789abcdef/user-1000.journal");
    write(&user, (10..20).map(failure));
    let mut listener = Listener::of(plan(Source::Directory(folder.path().into()), Start::Head, false));
    listener.listen("the container's", |listener| listener.heard.len() == 20);
    write(&of("fedcba9876543210fedcba9876543210"), (20..30).map(failure));
    listener.listen("after its machine id has changed", |listener| listener.heard.len() == 30);
    assert_eq!(listener.heard, numbers(0..30));
    // Directories of another name are no machine's.
    let stray = folder.path().join("remote");
    std::fs::create_dir(&stray).unwrap();
    write(&stray.join("remote-a.journal"), (90..95).map(failure));
    assert_eq!(whole(Source::Directory(folder.path().into()), "all").heard, numbers(0..30));
}

#[test]
fn a_journal_that_was_there_and_is_gone_is_no_end_of_the_reader() {
    let Some(folder) = folder() else { return };
    let directory = folder.path().join("journal");
    std::fs::create_dir(&directory).unwrap();
    let sender = |directory: &Path| Source::Sender { directory: directory.into(), stem: "remote-a".into() };
    write(&directory.join("remote-a.journal"), (0..10).map(failure));
    let mut listener = Listener::of(plan(sender(&directory), Start::Head, false));
    listener.listen("what is there", |listener| listener.heard.len() == 10);
    std::fs::remove_file(directory.join("remote-a.journal")).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    write(&directory.join("remote-a.journal"), (10..20).map(failure));
    listener.listen("what comes after it was removed", |listener| listener.heard.len() == 20);
    assert_eq!(listener.heard, numbers(0..20));
}
