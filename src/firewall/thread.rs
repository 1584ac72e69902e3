//! The firewall's thread: takes requests one after the other, and between them hears who else changed the table.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::audit::Differences;
use super::elements::{Adopted, Change, Element, Now};
use super::keeper::Keeper;
use super::kernel::Kernel;
use super::link::{FirewallError, Link};
use super::policy::Policy;
use super::survey::Dropped;
use super::sys;
use super::watch::{Notice, Watch};
use crate::engine::ban::JailName;
use crate::engine::time::Stamp;

/// So many requests wait at most; then who asks waits.
const REQUESTS: usize = 64;
/// How long a notice waits that nobody had room for.
const RETRY: Duration = Duration::from_millis(50);
/// So many notices wait at most; what is beyond becomes one [`Notice::Overrun`].
const BACKLOG: usize = 64;

type Reply<T> = oneshot::Sender<Result<T, FirewallError>>;

enum Request {
    Restore(Policy, Vec<Element>, Now, Reply<Vec<Adopted>>),
    SetPolicy(Policy, Vec<Element>, Now, Reply<()>),
    Rebuild(Policy, Vec<Element>, Now, Reply<()>),
    Apply(Vec<Change>, Now, Reply<()>),
    Audit(Vec<Element>, Now, bool, Reply<Differences>),
    Counters(Reply<BTreeMap<JailName, Dropped>>),
    Alive(Reply<()>),
}

/// The way to the firewall's thread. Clones share it; it ends when the last one is dropped, and leaves the table as it
/// is.
///
/// `now` is the time at the call; a request that waits for others before it counts that wait itself.
#[derive(Clone, Debug)]
pub struct Firewall {
    // Dropped before `bell`, so that a thread woken by the end of the bell finds no sender left.
    requests: mpsc::Sender<Request>,
    bell: Arc<UnixStream>,
    kernel: Kernel,
}

impl Firewall {
    /// Opens the sockets in the calling thread's network namespace and starts the thread. `kernel` is what this kernel
    /// is to be taken for; `None` asks it. Nothing is changed before the first request.
    ///
    /// # Errors
    /// [`FirewallError::Socket`] where netlink or threads are not to be had.
    pub fn spawn(kernel: Option<Kernel>, notices: mpsc::Sender<Notice>) -> Result<Firewall, FirewallError> {
        let begin = || -> io::Result<Firewall> {
            let mut link = Link::open()?;
            let watch = Watch::open(link.port())?;
            let kernel = kernel.unwrap_or_else(|| Kernel::probe(&mut link));
            let (bell, ear) = UnixStream::pair()?;
            bell.set_nonblocking(true)?;
            ear.set_nonblocking(true)?;
            let (sender, requests) = mpsc::channel(REQUESTS);
            let keeper = Keeper::new(link, kernel);
            let thread = Thread { keeper, watch: Some(watch), ear, requests, notices, backlog: VecDeque::new() };
            std::thread::Builder::new().name("firewall".into()).spawn(|| thread.run())?;
            Ok(Firewall { requests: sender, bell: Arc::new(bell), kernel })
        };
        begin().map_err(FirewallError::Socket)
    }

    /// What the kernel was taken for at the start.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// At a start: the table by this policy with the `bans` of the ledger. Bans found in the sets of the policy's jails
    /// that are not among them stay and are told, for the caller to adopt or to lift.
    ///
    /// # Errors
    /// What [`FirewallError`] says; the table is then as it was.
    pub async fn restore(&self, policy: Policy, bans: Vec<Element>, now: Stamp) -> Result<Vec<Adopted>, FirewallError> {
        self.ask(|reply| Request::Restore(policy, bans, Now::new(now), reply)).await
    }

    /// Writes all rules anew around the sets, whose bans stay. Sets of jails that are gone go with their bans; `bans`
    /// fill sets that are new.
    ///
    /// # Errors
    /// What [`FirewallError`] says; the table is then as it was.
    pub async fn set_policy(&self, policy: Policy, bans: Vec<Element>, now: Stamp) -> Result<(), FirewallError> {
        self.ask(|reply| Request::SetPolicy(policy, bans, Now::new(now), reply)).await
    }

    /// Table, rules and all `bans` in one transaction, in place of what is there. Counters go on.
    ///
    /// # Errors
    /// What [`FirewallError`] says; the table is then as it was.
    pub async fn rebuild(&self, policy: Policy, bans: Vec<Element>, now: Stamp) -> Result<(), FirewallError> {
        self.ask(|reply| Request::Rebuild(policy, bans, Now::new(now), reply)).await
    }

    /// Bans and lifts, at most 2,000 in a transaction. Of several changes of one place the last counts; those of a jail
    /// that only logs do nothing.
    ///
    /// # Errors
    /// [`FirewallError::Refused`] says which changes are at fault and how many before them were applied; what
    /// [`FirewallError`] says else.
    pub async fn apply(&self, changes: Vec<Change>, now: Stamp) -> Result<(), FirewallError> {
        self.ask(|reply| Request::Apply(changes, Now::new(now), reply)).await
    }

    /// Compares the kernel with the last policy and `bans`, all that are in force, and mends what differs. Before it is
    /// `last`, bans that are in the kernel only are told and stay; then they go.
    ///
    /// # Errors
    /// What [`FirewallError`] says; what was mended by then stays so.
    pub async fn audit(&self, bans: Vec<Element>, now: Stamp, last: bool) -> Result<Differences, FirewallError> {
        self.ask(|reply| Request::Audit(bans, Now::new(now), last, reply)).await
    }

    /// What each jail of the policy kept away.
    ///
    /// # Errors
    /// What [`FirewallError`] says.
    pub async fn counters(&self) -> Result<BTreeMap<JailName, Dropped>, FirewallError> {
        self.ask(Request::Counters).await
    }

    /// Answers when the thread gets to it.
    ///
    /// # Errors
    /// [`FirewallError::Gone`].
    pub async fn alive(&self) -> Result<(), FirewallError> {
        self.ask(Request::Alive).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, FirewallError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| FirewallError::Gone)?;
        // A full pipe rings already.
        let _ = (&*self.bell).write(&[1]);
        answer.await.map_err(|_| FirewallError::Gone)?
    }
}

struct Thread {
    keeper: Keeper,
    /// Gone if it cannot be read any more, which was told as an overrun.
    watch: Option<Watch>,
    ear: UnixStream,
    requests: mpsc::Receiver<Request>,
    notices: mpsc::Sender<Notice>,
    backlog: VecDeque<Notice>,
}

impl Thread {
    fn run(mut self) {
        loop {
            let limit = (!self.backlog.is_empty()).then_some(RETRY);
            let watch = self.watch.as_ref().map_or(self.ear.as_fd(), Watch::fd);
            let Ok([asked, heard]) = sys::wait([self.ear.as_fd(), watch], limit) else { return };
            if asked {
                self.hush();
                loop {
                    match self.requests.try_recv() {
                        Ok(request) => self.serve(request),
                        Err(mpsc::error::TryRecvError::Empty) => break,
                        Err(mpsc::error::TryRecvError::Disconnected) => return,
                    }
                    self.listen();
                    self.tell();
                }
            }
            if heard {
                self.listen();
            }
            self.tell();
        }
    }

    fn hush(&mut self) {
        let mut rings = [0; 256];
        while matches!(self.ear.read(&mut rings), Ok(count) if count == rings.len()) {}
    }

    fn serve(&mut self, request: Request) {
        let keeper = &mut self.keeper;
        // Who asked may have gone away meanwhile; the work is done all the same.
        match request {
            Request::Restore(policy, bans, now, reply) => drop(reply.send(keeper.restore(policy, &bans, now))),
            Request::SetPolicy(policy, bans, now, reply) => drop(reply.send(keeper.set_policy(policy, &bans, now))),
            Request::Rebuild(policy, bans, now, reply) => drop(reply.send(keeper.rebuild(policy, &bans, now))),
            Request::Apply(changes, now, reply) => drop(reply.send(keeper.apply(&changes, now))),
            Request::Audit(bans, now, last, reply) => drop(reply.send(keeper.audit(&bans, now, last))),
            Request::Counters(reply) => drop(reply.send(keeper.counters())),
            Request::Alive(reply) => drop(reply.send(Ok(()))),
        }
        self.backlog.extend(self.keeper.take_lacks().into_iter().map(Notice::Lacks));
    }

    fn listen(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        match watch.read() {
            Ok(heard) => self.backlog.extend(heard),
            Err(_) => {
                // Deaf from here on: the caller audits, and nothing is promised beyond its own regular audits.
                self.watch = None;
                self.backlog.push_back(Notice::Overrun);
            }
        }
        if self.backlog.len() > BACKLOG {
            self.backlog.clear();
            self.backlog.push_back(Notice::Overrun);
        }
    }

    fn tell(&mut self) {
        while let Some(notice) = self.backlog.pop_front() {
            match self.notices.try_send(notice) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(notice)) => {
                    self.backlog.push_front(notice);
                    return;
                }
                // Nobody wants to know.
                Err(mpsc::error::TrySendError::Closed(_)) => self.backlog.clear(),
            }
        }
    }
}
