//! The daemon: introduces journal, engine, firewall, ledger and bus to each other.
//!
//! One task owns everything that decides; what others have to say reaches it as a message, one at a time.

pub mod clock;
pub mod crash;
mod dryrun;
mod effects;
mod former;
pub mod ids;
mod notify;
pub mod options;
mod orders;
mod plan;
pub mod protect;
mod pulse;
mod reading;
mod reload;
pub mod report;
mod requests;
mod restore;
mod retries;
mod saving;
mod search;
mod snapshot;
mod sources;
mod standing;
mod start;
mod sys;
mod upkeep;
mod views;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bus::{self, Bus};
use crate::config::{Problem, Settings};
use crate::engine::ban::{JailName, Place};
use crate::engine::entry::Cursor;
use crate::engine::time::Stamp;
use crate::engine::warden::Warden;
use crate::firewall::{self, Firewall};
use crate::journal::{self, JournalError};
use crate::ledger::{self, Key, LedgerError, Moment, OpenError, Restored, Store, Transaction};

use dryrun::Printer;
use former::Former;
use options::Options;
use report::{Log, Record};
use retries::{Rebuilds, Retry};
use sources::Readings;
use standing::{Asker, Standing};

pub use restore::restore;

/// Why the daemon cannot start. What can be done without is no reason: it starts, says so, and tries again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A run by hand was given a configuration that is in error.
    #[error("the configuration is in error:\n{}", .0.join("\n"))]
    Config(Vec<String>),
    /// Another daemon has the ledger.
    #[error("cannot use the ledger")]
    Ledger(#[source] OpenError),
    /// Not even a ledger in memory.
    #[error("cannot keep a ledger in memory")]
    Memory(#[source] LedgerError),
    /// There is no netlink to be had.
    #[error("cannot reach the kernel's firewall")]
    Firewall(#[source] firewall::FirewallError),
    /// There is no journal to read: for a run by hand, or where no thread can be had to read it.
    #[error("cannot read the journal")]
    Journal(#[source] JournalError),
    /// The bus is there but does not let us serve.
    #[error("cannot serve on the bus")]
    Bus(#[source] bus::BusError),
    /// The ledger's bans could not be put in force before the daemon runs.
    #[error("no bans restored")]
    NotRestored(#[source] Box<StartError>),
    /// The system refuses what any program needs: threads, signals.
    #[error("cannot start")]
    System(#[from] std::io::Error),
}

/// Everything that the loop owns.
struct Daemon {
    options: Options,
    settings: Settings,
    /// What is doubtful in what runs.
    problems: Vec<Problem>,
    standing: Standing,
    /// What could not be kept yet for a start that finds errors.
    unkept: Option<Former>,
    unkept_retry: Retry,
    /// Jails that a mistake in the configuration left out; their bans stay.
    spared: BTreeSet<JailName>,
    warden: Warden,
    log: Log,
    printer: Option<Printer>,

    ledger: Option<ledger::Handle>,
    /// The ledger could not be opened: this one ends with the process.
    forgetful: bool,
    /// What has to be made good once it can be opened.
    debt: saving::Debt,
    /// What the ledger does not have yet.
    unwritten: Transaction,
    /// Which beginnings and ends of bans the log was given, in order, and by which ticket.
    unheard: VecDeque<(u64, Key, Moment)>,
    ledger_retry: Retry,
    /// The number of the last attempt that a program reported.
    last_attempt: u64,

    firewall: Option<Firewall>,
    /// Whose ban or lifting the kernel has refused so far.
    owed: BTreeSet<Place>,
    /// The table as a whole is not what it should be.
    rebuild_owed: bool,
    kernel_retry: Retry,
    rebuilds: Rebuilds,
    /// What this kernel does not do and what is done instead.
    lacks: BTreeSet<String>,
    dropped: BTreeMap<JailName, u64>,

    bus: Option<Bus>,
    bus_retry: Retry,
    requests: mpsc::Sender<bus::Request>,

    /// Empty only until everything else is open.
    readings: Readings,
    progress: Progress,
    /// By which the past of changed jails comes.
    pasts: mpsc::Sender<reload::PastOf>,
    /// The readings whose past is being read for some jails, each as often as it is.
    feeding: Vec<String>,
    snapshots: snapshot::Snapshots,
    own: OwnAddresses,
    /// What happens beside the loop and comes back to it.
    asides: mpsc::UnboundedSender<Aside>,
    agenda: upkeep::Agenda,
    untold_status: bool,
    stop: bool,
}

/// How far reading has got, all journals taken together.
#[derive(Debug, Default)]
struct Progress {
    entries: u64,
    /// The time of the last entry read.
    stamp: Stamp,
    /// When a checkpoint was written last.
    written: Option<Instant>,
    /// All journals were read to their ends once.
    caught_up: bool,
}

#[derive(Clone, Copy, Debug)]
struct Reached {
    cursor: Cursor,
    stamp: Stamp,
}

/// This machine's addresses and when they were asked for.
#[derive(Debug, Default)]
struct OwnAddresses {
    known: Vec<std::net::IpAddr>,
    asked: Option<Instant>,
}

/// What was done beside the loop.
enum Aside {
    /// All threads that the daemon cannot do without answered, or one did not.
    Pulse(bool),
    /// Which of the further journals' threads answered, and which did not.
    Heard(Vec<(String, bool)>),
    /// The configuration was loaded for a reload.
    Loaded(Box<reload::Load>),
    /// What there is of a further source was looked up.
    Found(search::Found),
    /// It is not answered what there is of it.
    Hangs(crate::config::Source),
    /// The bus was tried again.
    Served(Result<Option<Bus>, bus::BusError>),
    /// The ledger was tried again.
    Reopened(Box<Result<(Store, Restored), OpenError>>),
}

/// The receiving ends of the loop's channels.
struct Inbox {
    requests: mpsc::Receiver<bus::Request>,
    notices: mpsc::Receiver<firewall::Notice>,
    asides: mpsc::UnboundedReceiver<Aside>,
    pasts: mpsc::Receiver<reload::PastOf>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// `None` where it cannot be watched.
    clock: Option<sys::ClockWatch>,
    /// Which of those who can wait is heard first next time.
    turn: usize,
}

/// What woke the loop.
enum Event {
    /// Of the reading at this place.
    News(usize, Option<journal::News>),
    Past(reload::PastOf),
    Request(bus::Request),
    Notices(Vec<firewall::Notice>),
    Aside(Aside),
    Stop,
    Hangup,
    ClockSet,
    BusLost,
    Timer,
}

/// Runs the daemon until it is told to stop, or to the journal's end with `--once`.
///
/// # Errors
/// [`StartError`]; once it has started it does not fail, it says what it lacks and goes on.
pub async fn run(options: Options) -> Result<(), StartError> {
    let (log, thread) =
        if options.dry_run { (Log::silent(), None) } else { Log::start().map(|(log, thread)| (log, Some(thread)))? };
    let (mut daemon, mut inbox) = Daemon::open(options, log).await?;
    give_back_memory();
    daemon.serve(&mut inbox).await;
    daemon.close(inbox).await;
    if let Some(thread) = thread {
        thread.finish();
    }
    Ok(())
}

/// Gives back what a load of the configuration took, beside the loop: it may be much.
fn give_back_memory() {
    tokio::task::spawn_blocking(sys::give_back_memory);
}

impl Daemon {
    async fn serve(&mut self, inbox: &mut Inbox) {
        while !self.stop {
            let wake = self.next_wake();
            let event = inbox.next(&mut self.readings, self.bus.as_ref(), wake).await;
            self.see_to(event).await;
            self.upkeep().await;
        }
    }

    async fn see_to(&mut self, event: Event) {
        match event {
            Event::News(at, Some(news)) => self.hear(at, news).await,
            Event::News(at, None) => {
                // The reader ended without being asked to: systemd starts us anew, at the cursor.
                let source = self.readings.at(at).name.clone();
                self.log.tell(Record::ReaderFailed { source, error: "the reader's thread ended".into() });
                self.stop = true;
            }
            Event::Request(request) => self.answer(request).await,
            Event::Notices(notices) => self.heal(notices).await,
            Event::Aside(Aside::Pulse(alive)) => self.pulse(alive),
            Event::Aside(Aside::Loaded(load)) => {
                self.reloaded(*load).await;
                give_back_memory();
            }
            Event::Aside(Aside::Heard(answers)) => self.heard(answers).await,
            Event::Aside(Aside::Found(found)) => self.found(found).await,
            Event::Aside(Aside::Hangs(source)) => self.hangs(source).await,
            Event::Past(past) => {
                let last = past.is_last();
                self.fed(past).await;
                if last {
                    give_back_memory();
                }
            }
            Event::Aside(Aside::Served(served)) => self.served(served),
            Event::Aside(Aside::Reopened(opened)) => self.ledger_reopened(*opened).await,
            Event::Stop => self.stop = true,
            Event::Hangup => self.reload(Asker::Signal, None),
            // The kernel counts down, the ledger has instants: after a jump they differ.
            Event::ClockSet => {
                self.warden.clock_was_set(clock::now());
                self.log.clock_was_set();
                self.audit().await;
            }
            Event::BusLost => self.bus_lost(),
            Event::Timer => {}
        }
    }
}

impl Inbox {
    fn new(
        requests: mpsc::Receiver<bus::Request>,
        notices: mpsc::Receiver<firewall::Notice>,
        asides: mpsc::UnboundedReceiver<Aside>,
        pasts: mpsc::Receiver<reload::PastOf>,
    ) -> std::io::Result<Inbox> {
        Ok(Inbox {
            requests,
            notices,
            asides,
            pasts,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            clock: sys::ClockWatch::new().ok(),
            turn: 0,
        })
    }

    /// The next thing to see to. Signals and the firewall go first. Requests and the journal can wait, but take turns: a
    /// program that reports attempt after attempt must not keep the journal from being read.
    async fn next(&mut self, readings: &mut Readings, bus: Option<&Bus>, wake: Option<Instant>) -> Event {
        let lost = async {
            match bus {
                Some(bus) => bus.lost().await,
                None => std::future::pending().await,
            }
        };
        let clock_set = async {
            match &self.clock {
                Some(clock) => clock.set().await,
                None => std::future::pending().await,
            }
        };
        let timer = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        let Inbox { requests, pasts, turn, .. } = self;
        let work = std::future::poll_fn(|context| {
            for step in 0..3 {
                let event = match (*turn + step) % 3 {
                    0 => requests.poll_recv(context).map(|request| request.map(Event::Request)),
                    1 => pasts.poll_recv(context).map(|past| past.map(Event::Past)),
                    _ => readings.poll_next(context).map(|(at, news)| Some(Event::News(at, news))),
                };
                if let Poll::Ready(Some(event)) = event {
                    *turn = (*turn + step + 1) % 3;
                    return Poll::Ready(event);
                }
            }
            Poll::Pending
        });
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Event::Stop,
            _ = self.interrupt.recv() => Event::Stop,
            _ = self.hangup.recv() => Event::Hangup,
            Some(notice) = self.notices.recv() => {
                let mut all = vec![notice];
                while let Ok(more) = self.notices.try_recv() {
                    all.push(more);
                }
                Event::Notices(all)
            }
            Some(aside) = self.asides.recv() => Event::Aside(aside),
            watched = clock_set => {
                if watched.is_err() {
                    self.clock = None;
                }
                Event::ClockSet
            }
            () = timer => Event::Timer,
            () = lost => Event::BusLost,
            event = work => event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Request;
    use clap::Parser;
    use std::path::Path;
    use tokio::sync::oneshot;

    /// Writes the configuration of one jail, whose filter wants this text.
    #[expect(clippy::disallowed_methods, reason = "tests are an edge")]
    pub(in crate::daemon) fn configure(root: &Path, text: &str) {
        let filter = format!("journalmatch = ['_SYSTEMD_UNIT=x.service']\nfailregex = ['^{text} <ADDR>$']\n");
        for (path, content) in
            [("jail.d/x.toml", "[jail.x]\nenabled = true\nfilter = 'x'\n"), ("filter.d/x.toml", filter.as_str())]
        {
            let path = root.join("etc").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }

    /// Configures a jail that reads what senders leave in a directory.
    #[expect(clippy::disallowed_methods, reason = "tests are an edge")]
    pub(in crate::daemon) fn configure_fleet(root: &Path, directory: &str) {
        let directory = root.join(directory);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        let jail = "[jail.fleet]\nenabled = true\nfilter = 'x'\nsource = 'fleet'\n";
        let text = format!("[source.fleet]\nremote = {directory:?}\n{jail}");
        std::fs::write(root.join("etc/banish.toml"), text).unwrap();
    }

    /// A daemon with that configuration that has caught up with an empty journal; without firewall, ledger and bus.
    pub(in crate::daemon) async fn opened(root: &Path) -> (Daemon, Inbox) {
        configure(root, "failed from");
        std::fs::create_dir(root.join("journal")).unwrap();
        let path = |name: &str| root.join(name).into_os_string();
        let words = ["banishd".into(), "--dry-run".into(), "--config".into(), path("etc")];
        let words = words.into_iter().chain(["--journal-directory".into(), path("journal")]);
        let words = words.chain(["--state".into(), path("state")]);
        let (mut daemon, mut inbox) = Daemon::open(Options::parse_from(words), Log::silent()).await.unwrap();
        while !daemon.progress.caught_up {
            step(&mut daemon, &mut inbox).await;
        }
        (daemon, inbox)
    }

    /// Sees to one thing.
    pub(in crate::daemon) async fn step(daemon: &mut Daemon, inbox: &mut Inbox) {
        let next = inbox.next(&mut daemon.readings, None, None);
        let event = tokio::time::timeout(std::time::Duration::from_secs(60), next).await.unwrap();
        daemon.see_to(event).await;
    }

    /// A program reports attempt after attempt, and there is always one waiting.
    #[tokio::test]
    async fn requests_without_end_do_not_keep_the_journal_from_being_read() {
        let (requests, requests_out) = mpsc::channel(4);
        let (_notices, notices_out) = mpsc::channel(1);
        let (_asides, asides_out) = mpsc::unbounded_channel();
        let (_pasts, pasts_out) = mpsc::channel(1);
        let mut inbox = Inbox::new(requests_out, notices_out, asides_out, pasts_out).unwrap();
        inbox.clock = None;
        let empty = tempfile::tempdir().unwrap();
        let mut readings = Readings::default();
        readings.follow_directory(empty.path());
        for _ in 0..5_000 {
            while requests.try_send(Request::Status { answer: oneshot::channel().0 }).is_ok() {}
            if let Event::News(0, Some(_)) = inbox.next(&mut readings, None, None).await {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("nothing is heard of the journal");
    }
}
