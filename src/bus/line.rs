//! Our own end of a connection's socket, below zbus: reads whatever the bus sends at once, passes on what the gate lets
//! in, and sends root's answers before those of others.
//!
//! zbus reads and writes strictly one message after the other, so without this root's call would wait behind all that
//! another user has sent before it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zbus::connection::socket::{ReadHalf, Split, WriteHalf};
use zbus::message::Type;
use zbus::names::OwnedUniqueName;
use zbus::{Connection, DBusError, Message};

use super::gate::{ARGUMENTS, Answer, Call, Gate, Line, Verdict, Why};
use super::refusal::Refusal;
use super::wire::{self, FIXED, Head, Kind, Lengths};

/// Our connections: the one with the name that everybody calls, and root's own.
pub const LINES: usize = 2;
/// What the bus itself is called.
const BUS: &str = "org.freedesktop.DBus";
/// The longest header of a message that is looked at, and the longest answer or signal.
const LONGEST: (usize, usize) = (64 << 10, 1 << 20);
/// Above so many bytes that wait to be written, the next message waits before it is taken.
const HIGH: usize = 256 << 10;
/// A bus that takes nothing for so long takes nothing more: the connection ends, and a new one is made.
const STUCK: Duration = Duration::from_secs(30);
/// How often refusals that wait are looked at.
const PAUSE: Duration = Duration::from_millis(50);
/// The most questions at a time whose connection a sender is.
const QUESTIONS: usize = 32;

/// The gate and the connections that calls come over.
#[derive(Debug)]
pub struct Post {
    gate: Mutex<Gate>,
    lanes: [Lane; LINES],
    strangers: mpsc::UnboundedSender<String>,
    refusals: Notify,
}

/// One connection's messages on their way.
#[derive(Debug, Default)]
struct Lane {
    inbox: Mutex<Inbox>,
    arrived: Notify,
    outbox: Mutex<Outbox>,
    /// There is something to write.
    queued: Notify,
    /// There is less to write.
    written: Notify,
}

/// What zbus is to read, in this order.
#[derive(Debug, Default)]
struct Inbox {
    /// Answers to our own calls and the bus's signals.
    ours: VecDeque<Vec<u8>>,
    roots: VecDeque<Vec<u8>>,
    others: VecDeque<Vec<u8>>,
    closed: bool,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Outbox {
    /// What is being written, and how much of it has been.
    current: Option<(Parcel, usize)>,
    first: VecDeque<Parcel>,
    others: VecDeque<Parcel>,
    /// The bytes of all of them.
    bytes: usize,
    closed: bool,
}

#[derive(Debug)]
struct Parcel {
    message: Message,
    /// The call that it answers.
    answers: Option<(String, u32)>,
}

impl Post {
    /// A post, and the senders whose user it wants to know.
    pub fn new() -> (Arc<Post>, mpsc::UnboundedReceiver<String>) {
        let (strangers, asked) = mpsc::unbounded_channel();
        let gate = Mutex::new(Gate::new(Instant::now()));
        (Arc::new(Post { gate, lanes: Default::default(), strangers, refusals: Notify::new() }), asked)
    }

    /// The two halves of the connection `line` over `stream`, for zbus.
    pub fn halves(self: &Arc<Self>, line: Line, stream: UnixStream) -> Split<Box<dyn ReadHalf>, Box<dyn WriteHalf>> {
        let stream = Arc::new(stream);
        let read = Reader { post: Arc::clone(self), line, stage: Stage::Greeting(Arc::clone(&stream), Vec::new()) };
        let write = Writer { post: Arc::clone(self), line, stream: Some(stream), task: None };
        Split::new(Box::new(read), Box::new(write))
    }

    /// Whose call it is, while it is at work.
    pub fn caller(&self, sender: &str, serial: u32) -> Option<u32> {
        self.gate().caller(sender, serial)
    }

    /// Its caller has the right to it.
    pub fn has_right(&self, sender: &str, serial: u32) {
        self.gate().has_right(sender, serial);
    }

    /// Asks the bus over `connection` whose connections senders are. Never returns.
    pub async fn ask(self: Arc<Self>, connection: Connection, mut strangers: mpsc::UnboundedReceiver<String>) {
        let mut questions = tokio::task::JoinSet::new();
        while let Some(sender) = strangers.recv().await {
            while questions.try_join_next().is_some() {}
            if questions.len() >= QUESTIONS {
                questions.join_next().await;
            }
            let (post, connection) = (Arc::clone(&self), connection.clone());
            questions.spawn(async move {
                let uid = uid_of(&connection, &sender).await;
                let verdicts = post.gate().introduce(&sender, uid, Instant::now());
                post.carry_out(verdicts);
            });
        }
    }

    /// Sends refusals that had to wait. Never returns.
    pub async fn refuse(self: Arc<Self>) {
        loop {
            self.refusals.notified().await;
            while self.gate().has_refusals() {
                tokio::time::sleep(PAUSE).await;
                let due = self.gate().due(Instant::now());
                self.carry_out(due);
            }
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry_out(&self, verdicts: Vec<Verdict>) {
        for verdict in verdicts {
            match verdict {
                Verdict::Admit { line, first, mut bytes } => {
                    // Every call is answered to us, so that we know when it is done.
                    wire::want_reply(&mut bytes);
                    self.lanes[line].admit(bytes, first);
                }
                Verdict::Refuse { line, sender, serial, first, why } => match refusal(&sender, serial, why) {
                    Ok(message) => self.lanes[line].post(Parcel { message, answers: None }, first),
                    Err(error) => tracing::debug!(%error, sender, "a refusal could not be written"),
                },
                // There is nobody to ask any more only when we stop.
                Verdict::Ask(sender) => drop(self.strangers.send(sender)),
            }
        }
        if self.gate().has_refusals() {
            self.refusals.notify_one();
        }
    }

    /// Writes as much as `stream` takes now. True if all is written.
    fn write(&self, line: Line, stream: &UnixStream) -> io::Result<bool> {
        let mut answered = Vec::new();
        let all = self.lanes[line].outbox().write(stream, &mut answered);
        for (sender, serial) in answered {
            self.done(&sender, serial);
        }
        all
    }

    fn done(&self, sender: &str, serial: u32) {
        let next = self.gate().done(sender, serial, Instant::now());
        self.carry_out(next);
    }

    /// A message has come whose header is `head`.
    fn sort(&self, line: Line, head: &Head<'_>, bytes: Result<Vec<u8>, Why>) {
        match (head.kind, head.sender, bytes) {
            (Kind::Call, Some(sender), bytes) => {
                let reads = head.interface.is_some_and(|interface| interface.starts_with("org.freedesktop.DBus."));
                let (sender, serial, silent) = (sender.to_owned(), head.serial, !head.wants_reply);
                let verdicts = self.gate().offer(Call { line, sender, serial, silent, reads, bytes }, Instant::now());
                self.carry_out(verdicts);
            }
            // Nobody but the bus has signals for us.
            (Kind::Reply, _, Ok(bytes)) | (Kind::Signal, Some(BUS), Ok(bytes)) => {
                self.lanes[line].inbox().ours.push_back(bytes);
                self.lanes[line].arrived.notify_one();
            }
            (Kind::Reply | Kind::Signal, _, _) | (Kind::Call, None, _) => {}
        }
    }

    /// Reads from `stream`, of which `bytes` have been read already, until it ends.
    async fn read(self: Arc<Self>, line: Line, stream: Arc<UnixStream>, mut bytes: Vec<u8>) {
        let mut skip = 0;
        let mut chunk = vec![0; 64 << 10];
        while let Some(used) = self.split(line, &bytes, &mut skip) {
            bytes.drain(..used);
            if stream.readable().await.is_err() {
                break;
            }
            match stream.try_read(&mut chunk) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            if bytes.capacity() > 2 * LONGEST.0 && bytes.len() < LONGEST.0 {
                bytes.shrink_to(2 * LONGEST.0);
            }
            tokio::task::yield_now().await;
        }
        self.lanes[line].close();
    }

    /// Takes whole messages from the start of `bytes`; how many bytes they are. `None` for what is no message.
    /// `skip` bytes more are nobody's.
    fn split(&self, line: Line, bytes: &[u8], skip: &mut usize) -> Option<usize> {
        let mut at = 0;
        loop {
            let skipped = (*skip).min(bytes.len() - at);
            at += skipped;
            *skip -= skipped;
            let rest = &bytes[at..];
            let Some(fixed) = rest.first_chunk::<FIXED>() else { return Some(at) };
            let Lengths { header, body } = Lengths::of(fixed)?;
            if header > LONGEST.0 {
                *skip = header + body;
                continue;
            }
            if rest.len() < header {
                return Some(at);
            }
            let head = Head::of(&rest[..header])?;
            let longest = if head.kind == Kind::Call { ARGUMENTS } else { LONGEST.1 };
            if body > longest {
                self.sort(line, &head, Err(Why::Long));
                *skip = header + body;
                continue;
            }
            let Some(message) = rest.get(..header + body) else { return Some(at) };
            self.sort(line, &head, Ok(message.to_vec()));
            at += message.len();
        }
    }
}

impl Lane {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, call: Vec<u8>, first: bool) {
        let mut inbox = self.inbox();
        if first { &mut inbox.roots } else { &mut inbox.others }.push_back(call);
        drop(inbox);
        self.arrived.notify_one();
    }

    /// The next message for zbus; `None` once there is no connection.
    async fn next(&self) -> Option<Vec<u8>> {
        loop {
            {
                let mut inbox = self.inbox();
                let Inbox { ours, roots, others, closed } = &mut *inbox;
                let next = ours.pop_front().or_else(|| roots.pop_front()).or_else(|| others.pop_front());
                if next.is_some() || *closed {
                    return next;
                }
            }
            self.arrived.notified().await;
        }
    }

    fn post(&self, parcel: Parcel, first: bool) {
        let mut outbox = self.outbox();
        outbox.bytes += parcel.message.data().len();
        if first { &mut outbox.first } else { &mut outbox.others }.push_back(parcel);
        drop(outbox);
        self.queued.notify_one();
    }

    fn close(&self) {
        self.inbox().closed = true;
        self.outbox().closed = true;
        self.arrived.notify_one();
        self.queued.notify_one();
        self.written.notify_waiters();
    }
}

impl Outbox {
    /// Writes as much as `stream` takes now, and puts the calls into `answered` whose answers are written. True if all is
    /// written.
    fn write(&mut self, stream: &UnixStream, answered: &mut Vec<(String, u32)>) -> io::Result<bool> {
        loop {
            let Outbox { current, first, others, bytes, .. } = self;
            let next = || first.pop_front().or_else(|| others.pop_front()).map(|parcel| (parcel, 0));
            let Some((parcel, mut at)) = current.take().or_else(next) else { return Ok(true) };
            let data = parcel.message.data();
            let written = stream.try_write(&data[at..]);
            if let Ok(written) = written {
                at += written;
                *bytes -= written;
            }
            if at == data.len() {
                answered.extend(parcel.answers);
            } else {
                *current = Some((parcel, at));
            }
            match written {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes what is posted on `line` to `stream` until the connection ends.
async fn write(post: Arc<Post>, line: Line, stream: Arc<UnixStream>) {
    let lane = &post.lanes[line];
    while !lane.outbox().closed {
        let all = post.write(line, &stream);
        lane.written.notify_waiters();
        match all {
            Ok(true) => lane.queued.notified().await,
            Ok(false) => {
                if !matches!(tokio::time::timeout(STUCK, stream.writable()).await, Ok(Ok(()))) {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    lane.close();
}

/// What zbus reads.
#[derive(Debug)]
struct Reader {
    post: Arc<Post>,
    line: Line,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The bus lets us in: lines of text, of which zbus is given one at a time, for messages follow the last.
    Greeting(Arc<UnixStream>, Vec<u8>),
    /// Messages; `rest` of the last has not been given yet.
    Messages { rest: Vec<u8>, _reading: Ended },
}

/// A task that ends with it.
#[derive(Debug)]
struct Ended(JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        if let Stage::Greeting(stream, bytes) = &mut self.stage {
            let end = loop {
                if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
                    break end + 1;
                }
                stream.readable().await?;
                let mut chunk = [0; 1024];
                match stream.try_read(&mut chunk) {
                    Ok(0) => return Ok((0, Vec::new())),
                    Ok(length) => bytes.extend_from_slice(&chunk[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            };
            let length = end.min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            let accepted = bytes.starts_with(b"OK ") && length == end;
            bytes.drain(..length);
            if accepted {
                let reading = Arc::clone(&self.post).read(self.line, Arc::clone(stream), std::mem::take(bytes));
                self.stage = Stage::Messages { rest: Vec::new(), _reading: Ended(tokio::spawn(reading)) };
            }
            return Ok((length, Vec::new()));
        }
        let Stage::Messages { rest, .. } = &mut self.stage else { return Ok((0, Vec::new())) };
        if rest.is_empty() {
            match self.post.lanes[self.line].next().await {
                Some(message) => *rest = message,
                None => return Ok((0, Vec::new())),
            }
        }
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        rest.drain(..length);
        Ok((length, Vec::new()))
    }
}

/// What zbus writes to.
#[derive(Debug)]
struct Writer {
    post: Arc<Post>,
    line: Line,
    stream: Option<Arc<UnixStream>>,
    task: Option<Ended>,
}

#[async_trait]
impl WriteHalf for Writer {
    async fn send_message(&mut self, message: &Message) -> zbus::Result<()> {
        let gone = || zbus::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        let stream = self.stream.as_ref().ok_or_else(gone)?;
        let header = message.header();
        let answers = match (message.message_type(), header.reply_serial(), header.destination()) {
            (Type::MethodReturn | Type::Error, Some(serial), Some(to)) => Some((to.to_string(), serial.get())),
            _ => None,
        };
        let first = match &answers {
            None => true,
            Some((sender, serial)) => {
                let answer = self.post.gate().answered(sender, *serial, message.data().len(), Instant::now());
                match answer {
                    Answer::Send { first } => first,
                    Answer::Drop => {
                        self.post.done(sender, *serial);
                        return Ok(());
                    }
                }
            }
        };
        let lane = &self.post.lanes[self.line];
        lane.post(Parcel { message: message.clone(), answers }, first);
        if self.task.is_none() {
            let writing = write(Arc::clone(&self.post), self.line, Arc::clone(stream));
            self.task = Some(Ended(tokio::spawn(writing)));
        }
        loop {
            let written = lane.written.notified();
            if lane.outbox().closed {
                return Err(gone());
            }
            if self.post.write(self.line, stream).is_err() {
                lane.close();
                return Err(gone());
            }
            if lane.outbox().bytes <= HIGH {
                return Ok(());
            }
            written.await;
        }
    }

    async fn sendmsg(&mut self, buffer: &[u8], _fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        loop {
            stream.writable().await?;
            match stream.try_write(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.post.lanes[self.line].close();
        self.stream = None;
        self.task = None;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.post.lanes[self.line].close();
    }
}

/// The refusal of the call `serial` of `sender`.
fn refusal(sender: &str, serial: u32, why: Why) -> zbus::Result<Message> {
    let serial = serial.try_into().map_err(|_| zbus::Error::InvalidSerial)?;
    let call = Message::method_call("/", "Call").sender(sender).serial(serial).build(&())?;
    let refusal = Refusal::LimitsExceeded(match why {
        Why::Busy => "too many calls are waiting; wait for answers first".into(),
        Why::Long => format!("a call takes at most {ARGUMENTS} bytes of arguments"),
    });
    refusal.create_reply(&call.header())
}

async fn uid_of(connection: &Connection, sender: &str) -> Option<u32> {
    let sender = OwnedUniqueName::try_from(sender).ok()?;
    let reply = connection.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "GetConnectionUnixUser", &sender);
    match reply.await {
        Ok(reply) => reply.body().deserialize().ok(),
        Err(error) => {
            tracing::debug!(%error, %sender, "the bus does not say whose connection it is");
            None
        }
    }
}
