//! Which calls are let in: as long as their sender and their user have few at work and were not sent too much. Root has
//! no limit as a user.
//!
//! What is only read is answered at once, so some such calls wait until those before them are done. Every other call is
//! refused. Refusals count as sent, too: where a user was sent too much they wait, and the bus, which lets a connection
//! wait for a number of answers only, keeps further calls from us.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::allowance::Allowance;

/// The most calls of one connection that may be at work at a time.
pub const CALLS_PER_SENDER: usize = 32;
/// The most calls of all connections of one user, root excepted, that may be at work at a time.
pub const CALLS_PER_USER: usize = 64;
/// The most calls of all users, root excepted, that may be at work at a time. Each may be a question to polkit, and a bus
/// has by default a limit of 128 questions that one connection waits for.
pub const CALLS_IN_ALL: usize = 96;
/// The most calls at work that only read, of one connection.
const READS_PER_SENDER: usize = 16;
/// The same of all users, root excepted. Calls of root come behind those that are at work.
const READS_IN_ALL: usize = 32;
/// The most calls that wait to read, of one user and of all, and the longest in bytes.
const WAITING: (usize, usize, usize) = (256, 1024, 1024);
/// The longest arguments of a call, in bytes.
pub const ARGUMENTS: usize = 64 * 1024;

/// What the answers to one user, root excepted, may have in bytes at once, and then in a second. Answers to calls that
/// need a right are not counted. Whoever does not read makes the bus keep all of it, and at some 130 MB it would read
/// nothing of us any more.
const ANSWERS_PER_USER: (u32, u32) = (4 << 20, 256 << 10);
/// The same for all users together.
const ANSWERS_IN_ALL: (u32, u32) = (16 << 20, 1 << 20);
/// What a refusal counts for. It is shorter, but costs us and the bus as much as an answer.
const REFUSAL: usize = 1024;
/// The most refusals that wait to be sent. Beyond them a call has no answer at all.
const REFUSALS: usize = 1 << 16;
/// The most senders whose user is remembered.
const NAMES: usize = 4096;
/// The most bytes of calls whose user is not known yet; longer ones than the second are refused then.
const STRANGERS: (usize, usize) = (2 << 20, 1024);
/// The most calls whose user is not known yet. Beyond them a call has no answer at all.
const STRANGERS_CALLS: usize = 1 << 14;
/// What the answer to a call that reads is taken to have in bytes before one was seen.
const EXPECTED: usize = 4096;
/// A call that was not answered for so long counts no more.
const FORGOTTEN: Duration = Duration::from_secs(900);

/// Which of our connections a call came over.
pub type Line = usize;

/// A call as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Over which connection.
    pub line: Line,
    /// Who calls.
    pub sender: String,
    /// The call's number at its sender.
    pub serial: u32,
    /// Its sender waits for no reply.
    pub silent: bool,
    /// It only reads, so its answer waits for nobody.
    pub reads: bool,
    /// All of it, or why it cannot be let in.
    pub bytes: Result<Vec<u8>, Why>,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its sender or its user has too many.
    Busy,
    /// Its arguments are too long.
    Long,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it in.
    Admit {
        /// To this connection's objects.
        line: Line,
        /// Before those of others?
        first: bool,
        /// The call.
        bytes: Vec<u8>,
    },
    /// Refuse it.
    Refuse {
        /// Over this connection.
        line: Line,
        /// Whose call.
        sender: String,
        /// Which.
        serial: u32,
        /// Is it root's?
        first: bool,
        /// The reason.
        why: Why,
    },
    /// Find out whose connection it is, and [`Gate::introduce`] it.
    Ask(String),
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody waits for it.
    Drop,
    /// It is sent, before those of others or not.
    Send {
        /// Is it root's?
        first: bool,
    },
}

/// Who has how many calls.
#[derive(Debug)]
pub struct Gate {
    /// Whose connection each sender is; the bus never gives a name twice.
    names: BTreeMap<String, u32>,
    oldest: VecDeque<String>,
    strangers: BTreeMap<String, Vec<Call>>,
    /// The bytes of the strangers' calls, and their number.
    waiting: usize,
    waiting_calls: usize,
    at_work: BTreeMap<(String, u32), Work>,
    users: BTreeMap<u32, User>,
    /// What others than root have at work: reading, and not.
    others: Counts,
    answers: Allowance,
    refusals: usize,
    waiting_reads: usize,
    /// Whose call that waited was let in last.
    last: u32,
}

/// How many calls.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    reads: usize,
    acts: usize,
}

#[derive(Debug)]
struct Work {
    uid: u32,
    silent: bool,
    reads: bool,
    has_right: bool,
    /// So many bytes of the answer are counted already.
    reserved: usize,
    since: Instant,
}

#[derive(Debug)]
struct User {
    at_work: Counts,
    answers: Allowance,
    /// What the next answer to a call that reads may have in bytes.
    expected: usize,
    /// Calls that wait to read.
    waiting: VecDeque<Call>,
    refusals: VecDeque<Refused>,
}

/// A refusal that waits.
#[derive(Debug)]
struct Refused {
    line: Line,
    sender: String,
    serial: u32,
    why: Why,
}

/// Is there room for a call?
enum Room {
    Free,
    Later,
    None,
}

impl Counts {
    fn of(&mut self, reads: bool) -> &mut usize {
        if reads { &mut self.reads } else { &mut self.acts }
    }
}

impl User {
    fn is_idle(&mut self, now: Instant) -> bool {
        let waits = !self.waiting.is_empty() || !self.refusals.is_empty();
        self.at_work.reads + self.at_work.acts == 0 && !waits && self.answers.is_full(now)
    }
}

impl Call {
    fn length(&self) -> usize {
        self.bytes.as_ref().map_or(0, Vec::len)
    }
}

impl Gate {
    /// Nobody has called yet.
    pub fn new(now: Instant) -> Gate {
        Gate {
            names: BTreeMap::new(),
            oldest: VecDeque::new(),
            strangers: BTreeMap::new(),
            waiting: 0,
            waiting_calls: 0,
            at_work: BTreeMap::new(),
            users: BTreeMap::new(),
            others: Counts::default(),
            answers: Allowance::new(ANSWERS_IN_ALL.0, ANSWERS_IN_ALL.1, now),
            refusals: 0,
            waiting_reads: 0,
            last: 0,
        }
    }

    /// A call has come.
    pub fn offer(&mut self, mut call: Call, now: Instant) -> Vec<Verdict> {
        if let Some(&uid) = self.names.get(&call.sender) {
            return self.judge(call, uid, now);
        }
        let length = call.length();
        if length > STRANGERS.1 && self.waiting + length > STRANGERS.0 {
            call.bytes = Err(Why::Busy);
        }
        let (sender, known) = (call.sender.clone(), self.strangers.len());
        match self.strangers.get_mut(&sender) {
            Some(calls) => {
                if calls.len() >= CALLS_PER_SENDER {
                    call.bytes = Err(Why::Busy);
                }
                if self.waiting_calls < STRANGERS_CALLS {
                    self.waiting += call.length();
                    self.waiting_calls += 1;
                    calls.push(call);
                }
                Vec::new()
            }
            None if known < NAMES => {
                self.waiting += call.length();
                self.waiting_calls += 1;
                self.strangers.insert(sender.clone(), vec![call]);
                vec![Verdict::Ask(sender)]
            }
            None => Vec::new(),
        }
    }

    /// The bus has said whose connection `sender` is; `None` where it is gone.
    pub fn introduce(&mut self, sender: &str, uid: Option<u32>, now: Instant) -> Vec<Verdict> {
        let calls = self.strangers.remove(sender).unwrap_or_default();
        self.waiting -= calls.iter().map(Call::length).sum::<usize>();
        self.waiting_calls -= calls.len();
        let Some(uid) = uid else { return Vec::new() };
        if self.names.insert(sender.to_owned(), uid).is_none() {
            self.oldest.push_back(sender.to_owned());
        }
        if self.oldest.len() > NAMES
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.names.remove(&oldest);
        }
        calls.into_iter().flat_map(|call| self.judge(call, uid, now)).collect()
    }

    fn judge(&mut self, mut call: Call, uid: u32, now: Instant) -> Vec<Verdict> {
        if call.bytes.is_ok() {
            match self.room(&call, uid, now) {
                Room::Free => return self.admit(call, uid, now).into_iter().collect(),
                Room::Later => {
                    self.waiting_reads += 1;
                    self.user(uid, now).waiting.push_back(call);
                    return Vec::new();
                }
                Room::None => call.bytes = Err(Why::Busy),
            }
        }
        let Call { line, sender, serial, silent, bytes: Err(why), .. } = call else { return Vec::new() };
        if silent {
            return Vec::new();
        }
        if uid == 0 {
            return vec![Verdict::Refuse { line, sender, serial, first: true, why }];
        }
        self.refuse_later(uid, Refused { line, sender, serial, why }, now);
        self.due(now)
    }

    fn refuse_later(&mut self, uid: u32, refused: Refused, now: Instant) {
        if self.refusals < REFUSALS {
            self.refusals += 1;
            self.user(uid, now).refusals.push_back(refused);
        }
    }

    /// `true` if this user may be sent more answers.
    fn has_allowance(&mut self, uid: u32, now: Instant) -> bool {
        uid == 0 || (self.answers.any(now) && self.user(uid, now).answers.any(now))
    }

    fn admit(&mut self, call: Call, uid: u32, now: Instant) -> Option<Verdict> {
        let Call { line, sender, serial, silent, reads, bytes } = call;
        let bytes = bytes.ok()?;
        let reserved = if reads && !silent && uid != 0 { self.user(uid, now).expected } else { 0 };
        self.at_work.insert((sender, serial), Work { uid, silent, reads, has_right: false, reserved, since: now });
        self.answers.take(reserved);
        let user = self.user(uid, now);
        user.answers.take(reserved);
        *user.at_work.of(reads) += 1;
        if uid != 0 {
            *self.others.of(reads) += 1;
        }
        Some(Verdict::Admit { line, first: uid == 0, bytes })
    }

    fn room(&mut self, call: &Call, uid: u32, now: Instant) -> Room {
        // The bus lets no sender wait for two answers to one number; one that does not wait may try.
        if self.at_work.contains_key(&(call.sender.clone(), call.serial)) {
            return Room::None;
        }
        if !self.has_allowance(uid, now) {
            return Room::None;
        }
        if self.is_free(call, uid, now) {
            return Room::Free;
        }
        let waiting = self.user(uid, now).waiting.len();
        let few = waiting < WAITING.0 && (uid == 0 || self.waiting_reads < WAITING.1);
        if call.reads && few && call.length() <= WAITING.2 { Room::Later } else { Room::None }
    }

    fn is_free(&mut self, call: &Call, uid: u32, now: Instant) -> bool {
        let of_sender = (call.sender.clone(), 0)..=(call.sender.clone(), u32::MAX);
        let alike = self.at_work.range(of_sender).filter(|(_, work)| work.reads == call.reads).count();
        let of_user = self.user(uid, now).at_work;
        let free = match (call.reads, uid) {
            (true, 0) => alike < READS_PER_SENDER,
            (true, _) => alike < READS_PER_SENDER && self.others.reads < READS_IN_ALL,
            (false, 0) => alike < CALLS_PER_SENDER,
            (false, _) => alike < CALLS_PER_SENDER && of_user.acts < CALLS_PER_USER && self.others.acts < CALLS_IN_ALL,
        };
        if !free {
            self.forget_unanswered(now);
        }
        free
    }

    /// Lets calls in that wait to read, of each user in turn, as far as there is room.
    fn next(&mut self, now: Instant) -> Vec<Verdict> {
        let mut admitted = Vec::new();
        while self.waiting_reads > 0 {
            let (before, mut refused) = (admitted.len(), false);
            let waits = |(uid, user): (&u32, &User)| (!user.waiting.is_empty()).then_some(*uid);
            let mut users: Vec<u32> = self.users.iter().filter_map(waits).collect();
            let after = users.partition_point(|uid| *uid <= self.last);
            users.rotate_left(after);
            for uid in users {
                let Some(call) = self.user(uid, now).waiting.pop_front() else { continue };
                if !self.has_allowance(uid, now) {
                    self.waiting_reads -= 1;
                    refused = true;
                    let Call { line, sender, serial, silent, .. } = call;
                    if !silent {
                        self.refuse_later(uid, Refused { line, sender, serial, why: Why::Busy }, now);
                    }
                    continue;
                }
                if self.is_free(&call, uid, now) {
                    self.waiting_reads -= 1;
                    self.last = uid;
                    admitted.extend(self.admit(call, uid, now));
                } else {
                    self.user(uid, now).waiting.push_front(call);
                }
            }
            if admitted.len() == before && !refused {
                break;
            }
        }
        admitted
    }

    /// Sends out refusals, of each user in turn, as far as their answers go.
    pub fn due(&mut self, now: Instant) -> Vec<Verdict> {
        let mut due = Vec::new();
        if self.refusals == 0 {
            self.users.retain(|_, user| !user.is_idle(now));
            return due;
        }
        loop {
            let before = due.len();
            for user in self.users.values_mut() {
                if user.refusals.is_empty() || !user.answers.any(now) || !self.answers.any(now) {
                    continue;
                }
                let Some(Refused { line, sender, serial, why }) = user.refusals.pop_front() else { continue };
                user.answers.take(REFUSAL);
                self.answers.take(REFUSAL);
                self.refusals -= 1;
                due.push(Verdict::Refuse { line, sender, serial, first: false, why });
            }
            if due.len() == before {
                return due;
            }
        }
    }

    /// Are there refusals that wait?
    pub fn has_refusals(&self) -> bool {
        self.refusals > 0
    }

    /// Whose call it is, while it is at work.
    pub fn caller(&self, sender: &str, serial: u32) -> Option<u32> {
        self.at_work.get(&(sender.to_owned(), serial)).map(|work| work.uid)
    }

    /// Its caller has the right to it: what it is answered is not counted.
    pub fn has_right(&mut self, sender: &str, serial: u32) {
        if let Some(work) = self.at_work.get_mut(&(sender.to_owned(), serial)) {
            work.has_right = true;
        }
    }

    /// There is an answer of `length` bytes to a call. The call counts as at work until it is [`Gate::done`].
    pub fn answered(&mut self, sender: &str, serial: u32, length: usize, now: Instant) -> Answer {
        let Some(work) = self.at_work.get_mut(&(sender.to_owned(), serial)) else {
            return Answer::Send { first: false };
        };
        if work.silent {
            return Answer::Drop;
        }
        let (uid, reads, reserved) = (work.uid, work.reads, std::mem::take(&mut work.reserved));
        let length = if uid == 0 || work.has_right { 0 } else { length };
        self.answers.give(reserved);
        self.answers.take(length);
        let user = self.user(uid, now);
        user.answers.give(reserved);
        user.answers.take(length);
        if reads {
            user.expected = length.max(user.expected / 2);
        }
        Answer::Send { first: uid == 0 }
    }

    /// The answer has gone out, or is not wanted.
    pub fn done(&mut self, sender: &str, serial: u32, now: Instant) -> Vec<Verdict> {
        self.finish(&(sender.to_owned(), serial));
        self.next(now)
    }

    fn finish(&mut self, key: &(String, u32)) {
        let Some(work) = self.at_work.remove(key) else { return };
        self.answers.give(work.reserved);
        if let Some(user) = self.users.get_mut(&work.uid) {
            user.answers.give(work.reserved);
            *user.at_work.of(work.reads) -= 1;
        }
        if work.uid != 0 {
            *self.others.of(work.reads) -= 1;
        }
    }

    fn forget_unanswered(&mut self, now: Instant) {
        let old = |work: &Work| now.saturating_duration_since(work.since) > FORGOTTEN;
        let gone: Vec<_> = self.at_work.iter().filter(|(_, work)| old(work)).map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.finish(key));
    }

    fn user(&mut self, uid: u32, now: Instant) -> &mut User {
        self.users.entry(uid).or_insert_with(|| User {
            at_work: Counts::default(),
            waiting: VecDeque::new(),
            answers: Allowance::new(ANSWERS_PER_USER.0, ANSWERS_PER_USER.1, now),
            expected: EXPECTED,
            refusals: VecDeque::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: u32 = 1000;

    struct Bench {
        gate: Gate,
        now: Instant,
        serial: u32,
    }

    impl Bench {
        fn new() -> Bench {
            #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
            let now = Instant::from_std(std::time::Instant::now());
            Bench { gate: Gate::new(now), now, serial: 0 }
        }

        fn call(&mut self, sender: &str, silent: bool) -> Vec<Verdict> {
            self.serial += 1;
            let call = Call {
                line: 0,
                sender: sender.into(),
                serial: self.serial,
                silent,
                reads: false,
                bytes: Ok(vec![0; 200]),
            };
            self.gate.offer(call, self.now)
        }

        fn read(&mut self, sender: &str, serial: u32) -> Vec<Verdict> {
            let (sender, bytes) = (sender.into(), Ok(vec![0; 200]));
            self.gate.offer(Call { line: 0, sender, serial, silent: false, reads: true, bytes }, self.now)
        }

        fn known(&mut self, sender: &str, uid: u32) {
            assert_eq!(self.gate.introduce(sender, Some(uid), self.now), []);
        }

        fn answer(&mut self, sender: &str, serial: u32, length: usize) -> Answer {
            let answer = self.gate.answered(sender, serial, length, self.now);
            self.gate.done(sender, serial, self.now);
            answer
        }
    }

    fn admitted(verdicts: &[Verdict]) -> usize {
        verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Admit { .. })).count()
    }

    fn refused(verdicts: &[Verdict]) -> usize {
        verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Refuse { .. })).count()
    }

    #[test]
    fn calls_at_work_do_not_overdraw_what_may_be_answered() {
        let mut bench = Bench::new();
        bench.known(":1.1", ALICE);
        let (most, long) = (ANSWERS_PER_USER.0 as usize, 512 << 10);
        let mut sent = 0;
        for round in 0..20 {
            let serials = round * 32..round * 32 + 16;
            let let_in: Vec<u32> = serials.filter(|serial| admitted(&bench.read(":1.1", *serial)) > 0).collect();
            for serial in let_in {
                bench.answer(":1.1", serial, long);
                sent += long;
            }
        }
        // The first round is not known to be that long.
        assert!(sent <= most + 17 * long, "{sent}");
        assert!(sent >= most);
    }

    #[test]
    fn every_call_of_a_stranger_has_an_answer() {
        let mut bench = Bench::new();
        (0..5000).for_each(|_| drop(bench.call(":1.1", false)));
        let mut verdicts = bench.gate.introduce(":1.1", Some(ALICE), bench.now);
        for _ in 0..60 {
            bench.now += Duration::from_secs(1);
            verdicts.extend(bench.gate.due(bench.now));
        }
        assert_eq!(admitted(&verdicts) + refused(&verdicts), 5000);
    }

    #[test]
    fn a_sender_is_asked_for_once_and_then_judged() {
        let mut bench = Bench::new();
        assert_eq!(bench.call(":1.1", false), [Verdict::Ask(":1.1".into())]);
        assert_eq!(bench.call(":1.1", false), []);
        let verdicts = bench.gate.introduce(":1.1", Some(ALICE), bench.now);
        assert_eq!((admitted(&verdicts), bench.gate.caller(":1.1", 2)), (2, Some(ALICE)));
        assert_eq!(bench.call(":1.2", false), [Verdict::Ask(":1.2".into())]);
        assert_eq!(bench.gate.introduce(":1.2", None, bench.now), [], "it is gone");
        assert!(bench.gate.strangers.is_empty() && bench.gate.waiting == 0);
    }

    #[test]
    fn strangers_take_a_bounded_room_and_a_short_call_of_another_is_kept() {
        let mut bench = Bench::new();
        for n in 0..100 {
            let bytes = Ok(vec![0; ARGUMENTS]);
            bench.gate.offer(
                Call { line: 0, sender: format!(":2.{n}"), serial: 1, silent: false, reads: false, bytes },
                bench.now,
            );
        }
        let kept: usize = bench.gate.strangers.values().flatten().map(Call::length).sum();
        assert!(kept <= STRANGERS.0, "{kept}");
        bench.call(":1.1", false);
        assert_eq!(admitted(&bench.gate.introduce(":1.1", Some(0), bench.now)), 1);
    }

    #[test]
    fn others_are_bounded_by_sender_by_user_and_in_all_and_root_is_not() {
        let mut bench = Bench::new();
        for n in 0..8 {
            bench.known(&format!(":1.{n}"), ALICE + n / 4);
        }
        bench.known(":1.99", 0);
        let one: Vec<_> = (0..40).flat_map(|_| bench.call(":1.0", false)).collect();
        assert_eq!((admitted(&one), refused(&one)), (CALLS_PER_SENDER, 8));
        let three: Vec<_> = (0..60).flat_map(|n| bench.call(&format!(":1.{}", 1 + n % 3), false)).collect();
        assert_eq!(admitted(&three), CALLS_PER_USER - CALLS_PER_SENDER);
        let another: Vec<_> = (0..80).flat_map(|n| bench.call(&format!(":1.{}", 4 + n % 4), false)).collect();
        assert_eq!(admitted(&another), CALLS_IN_ALL - CALLS_PER_USER);
        let root = bench.call(":1.99", false);
        assert!(matches!(root[..], [Verdict::Admit { first: true, .. }]), "{root:?}");
        assert_eq!(bench.answer(":1.0", 1, 100), Answer::Send { first: false });
        assert_eq!(admitted(&bench.call(":1.5", false)), 1, "a place is free again");
    }

    #[test]
    fn calls_that_read_wait_for_those_before_them_and_of_each_user_in_turn() {
        let mut bench = Bench::new();
        for (sender, uid) in [(":1.1", ALICE), (":1.2", ALICE), (":1.3", ALICE), (":1.4", ALICE + 1), (":1.9", 0)] {
            bench.known(sender, uid);
        }
        let all: Vec<_> = (0..300).flat_map(|n| bench.read(&format!(":1.{}", 1 + n % 2), n)).collect();
        assert_eq!((admitted(&all), refused(&all)), (READS_IN_ALL, 300 - READS_IN_ALL - WAITING.0));
        assert_eq!(admitted(&bench.read(":1.9", 1)), 1, "root waits for nobody");
        assert_eq!(admitted(&bench.read(":1.4", 1)), 0);
        let mut next = bench.gate.done(":1.1", 0, bench.now);
        next.extend(bench.gate.done(":1.1", 2, bench.now));
        let who: Vec<_> = (0..2).map(|n| matches!(next[n], Verdict::Admit { .. })).collect();
        assert_eq!(who, [true, true]);
        assert_eq!(bench.gate.caller(":1.4", 1), Some(ALICE + 1), "the other user's turn has come");
        for serial in 0..300 {
            bench.gate.done(":1.1", serial, bench.now);
            bench.gate.done(":1.2", serial, bench.now);
        }
        bench.gate.done(":1.4", 1, bench.now);
        assert_eq!((bench.gate.waiting_reads, bench.gate.at_work.len()), (0, 1));
    }

    /// He has three connections, calls as fast as he can and never reads.
    #[test]
    fn what_one_user_is_sent_is_bounded_over_time() {
        let mut bench = Bench::new();
        for n in 0..3 {
            bench.known(&format!(":1.{n}"), ALICE);
        }
        let start = bench.now;
        let (mut sent, mut refusals) = (0, 0);
        for step in 0..100_000u32 {
            let sender = format!(":1.{}", step % 3);
            let verdicts = bench.call(&sender, false);
            refusals += refused(&verdicts);
            if admitted(&verdicts) > 0 {
                sent += 150_000;
                bench.answer(&sender, bench.serial, 150_000);
            }
            bench.now += Duration::from_millis(1);
        }
        let seconds = bench.now.duration_since(start).as_secs() as usize;
        let allowed = ANSWERS_PER_USER.0 as usize + seconds * ANSWERS_PER_USER.1 as usize;
        assert!(sent + refusals * REFUSAL <= allowed + 200_000, "{sent} {refusals}");
        assert!(bench.gate.refusals <= REFUSALS);
        bench.now += Duration::from_secs(3600);
        assert!(!bench.gate.due(bench.now).is_empty(), "refusals that waited are sent at last");
    }

    #[test]
    fn answers_to_those_who_have_the_right_are_not_counted() {
        let mut bench = Bench::new();
        bench.known(":1.1", ALICE);
        for _ in 0..1000 {
            assert_eq!(admitted(&bench.call(":1.1", false)), 1);
            bench.gate.has_right(":1.1", bench.serial);
            bench.answer(":1.1", bench.serial, 100_000);
        }
    }

    #[test]
    fn nobody_waits_for_the_answer_to_a_silent_call() {
        let mut bench = Bench::new();
        bench.known(":1.1", ALICE);
        assert_eq!(admitted(&bench.call(":1.1", true)), 1);
        assert_eq!(bench.answer(":1.1", 1, 100), Answer::Drop);
        let many: Vec<_> = (0..1000).flat_map(|_| bench.call(":1.1", true)).collect();
        assert_eq!((admitted(&many), refused(&many)), (CALLS_PER_SENDER, 0));
    }

    #[test]
    fn who_is_gone_leaves_nothing_behind() {
        let mut bench = Bench::new();
        for n in 0..3 * NAMES {
            let sender = format!(":1.{n}");
            bench.call(&sender, false);
            bench.gate.introduce(&sender, Some(ALICE + n as u32), bench.now);
            bench.answer(&sender, bench.serial, 10);
        }
        assert!(bench.gate.names.len() <= NAMES && bench.gate.oldest.len() <= NAMES);
        bench.now += Duration::from_secs(60);
        bench.gate.due(bench.now);
        assert!(bench.gate.users.is_empty() && bench.gate.at_work.is_empty());
    }

    #[test]
    fn a_call_that_is_never_answered_gives_its_place_back_in_the_end() {
        let mut bench = Bench::new();
        bench.known(":1.1", ALICE);
        bench.known(":1.2", ALICE);
        bench.known(":1.3", ALICE);
        (0..CALLS_PER_USER).for_each(|n| assert_eq!(admitted(&bench.call(&format!(":1.{}", 1 + n % 2), false)), 1));
        bench.now += FORGOTTEN + Duration::from_secs(1);
        bench.call(":1.3", false);
        assert_eq!(admitted(&bench.call(":1.3", false)), 1);
    }
}
