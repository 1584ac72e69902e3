//! Opening everything, in the order that leaves no hole: ledger, firewall with its bans, bus, then the journal; and
//! closing it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::crash::point;
use super::dryrun::Printer;
use super::effects::{First, chain};
use super::former::Former;
use super::options::{BusChoice, Options};
use super::report::{Log, Record};
use super::retries::{Rebuilds, Retry};
use super::saving::Debt;
use super::snapshot::{self, Snapshots};
use super::sources::{Readings, Wanted};
use super::standing::{self, Standing};
use super::upkeep::Agenda;
use super::{Daemon, Inbox, OwnAddresses, Progress, StartError, clock, notify, plan, protect, views};
use crate::bus::{self, Bus, BusAddress};
use crate::config::{self, Layout, Loaded, Problem, SourceName};
use crate::engine::ban::{Ban, End, JailName};
use crate::engine::warden::Warden;
use crate::firewall::Firewall;
use crate::journal::Source;
use crate::ledger::{Durability, Ledger, Moment, OpenError, Restored, Store, Transaction};

/// So long a bus may keep us from our work at the start; then it is tried again beside it.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// How many messages wait in each channel to the loop.
const QUEUE: usize = 16;
/// How many pieces of a changed jail's past wait; its reader waits for more room.
const PASTS: usize = 2;

impl Daemon {
    /// Opens everything and says that it is ready.
    pub(super) async fn open(options: Options, log: Log) -> Result<(Daemon, Inbox), StartError> {
        let Chosen { loaded, standing, ran } = settings(&options, &log)?;
        let Opened { store, mut restored, forgetful, known } = ledger(&options, &log)?;
        point("start.ledger");
        let own = protect::own_addresses();
        let (asides, asides_out) = mpsc::unbounded_channel();
        let (notices, notices_out) = mpsc::channel(QUEUE);
        let (requests, requests_out) = mpsc::channel(QUEUE);
        let (pasts, pasts_out) = mpsc::channel(PASTS);

        let spared = spared(&loaded, &standing, &restored.bans);
        let mut warden = Warden::new();
        warden.configure(plan::rules(&loaded.settings, &own));
        let overdue = restored.overdue.iter().map(|ban| (ban.place.clone(), ban.until));
        let counted_from = restored.counted_from.iter().cloned().chain(overdue);
        let bans = std::mem::take(&mut restored.bans);
        warden.restore(bans, counted_from, restored.pauses.iter().cloned(), clock::now());
        let incomplete = snapshot::take_up(&mut warden, &restored, &loaded.settings);
        warden.clock_was_set(clock::now());

        let ledger = store.map(Ledger::spawn).transpose()?;
        let firewall =
            if options.dry_run { None } else { Some(Firewall::spawn(None, notices).map_err(StartError::Firewall)?) };
        let mut daemon = Daemon {
            printer: options.dry_run.then(Printer::default),
            settings: loaded.settings,
            problems: loaded.problems,
            standing,
            unkept: None,
            unkept_retry: Retry::default(),
            spared,
            warden,
            log,
            ledger,
            forgetful,
            debt: Debt { known, ..Debt::default() },
            unwritten: Transaction::default(),
            unheard: VecDeque::new(),
            ledger_retry: Retry::default(),
            last_attempt: restored.attempts.iter().map(|attempt| attempt.number).max().unwrap_or_default(),
            firewall,
            owed: BTreeSet::new(),
            rebuild_owed: false,
            kernel_retry: Retry::default(),
            rebuilds: Rebuilds::default(),
            lacks: BTreeSet::new(),
            dropped: BTreeMap::new(),
            bus: None,
            bus_retry: Retry::default(),
            requests,
            readings: Readings::new(restored.checkpoints.clone(), restored.snapshot.sessions.clone(), incomplete),
            pasts,
            feeding: Vec::new(),
            snapshots: Snapshots::default(),
            progress: Progress::default(),
            own: OwnAddresses { known: own, asked: None },
            asides,
            agenda: Agenda::default(),
            untold_status: false,
            stop: false,
            options,
        };
        let inbox = Inbox::new(requests_out, notices_out, asides_out, pasts_out)?;
        daemon.take_up(restored).await;
        let runs = views::running_names(&daemon.settings);
        daemon.ended(ran.into_iter().filter(|jail| !runs.contains(jail)).collect());
        if let Some(copies) = loaded.copies {
            daemon.keep(copies).await;
        }
        // The bans are in force by now, whatever the journal says.
        let local = local(&daemon.options);
        daemon.read_local(local).map_err(StartError::Journal)?;
        daemon.read_others();
        point("start.reading");
        let jails = views::names(&daemon.settings);
        daemon.bus = match bus(&daemon.options, daemon.requests.clone(), &jails, FIRST_PATIENCE).await {
            Ok(bus) => bus,
            // Somebody else owns the name: two daemons would ban at cross purposes.
            Err(error @ bus::BusError::NameTaken) => return Err(StartError::Bus(error)),
            Err(error) => {
                daemon.log.tell(Record::BusLost { error: chain(&error) });
                daemon.bus_retry.failed(super::upkeep::instant());
                None
            }
        };
        daemon.plan_ahead();
        notify::ready(&daemon.status());
        point("start.ready");
        let jails = views::running(&daemon.settings);
        daemon.log.tell(Record::Started { jails, bans: daemon.warden.roster().len() });
        Ok((daemon, inbox))
    }

    /// Puts the bans of an earlier run in force, adopts what the kernel holds beyond them, and ends what is over.
    async fn take_up(&mut self, restored: Restored) {
        let now = clock::now();
        if let Some(firewall) = self.firewall.clone() {
            let policy = plan::policy(&self.settings, &self.spared);
            match firewall.restore(policy, self.elements(), now).await {
                Ok(found) => {
                    point("start.restored");
                    let found = found.into_iter().map(|adopted| (adopted.place, adopted.until));
                    let lifted: Vec<Ban> = restored.lifted.into_iter().map(|past| past.ban).collect();
                    let refused = self.warden.adopt(found, &lifted, &self.spared, now);
                    self.remove(refused).await;
                    point("start.adopted");
                }
                Err(error) => {
                    self.owe_rebuild();
                    self.firewall_failed(&error);
                }
            }
        }
        let mut transaction = Transaction::default();
        let (held, lifted) = self.warden.recognize(restored.salvaged.bans);
        for ban in &held {
            transaction.begin(ban.clone());
            transaction.announced(ban, Moment::Begun);
        }
        for ban in held.into_iter().chain(lifted) {
            transaction.count_from(ban.place, ban.since);
        }
        for ban in &restored.overdue {
            transaction.end(ban, ban.until, End::Expired);
            transaction.count_from(ban.place.clone(), ban.until);
        }
        self.commit(transaction, Durability::Entries).await;
        point("start.overdue");
        self.tell_again(restored.unannounced);
        point("start.retold");
        let unwanted = self.warden.lift_unwanted(&self.spared, now);
        self.carry_out(unwanted, First::Ledger).await;
        point("start.lifted");
    }

    /// Ends everything in the order that loses nothing: no more entries, the last checkpoint, then the log. Bans stay.
    pub(super) async fn close(mut self, inbox: Inbox) {
        notify::stopping();
        drop(inbox);
        self.last_snapshot().await;
        self.readings.stop();
        if let Some(printer) = &self.printer
            && self.options.once
        {
            // Nobody reads the totals: nothing to mend.
            let _ = printer.totals(self.progress.entries, self.failures());
        }
        self.log.flushed().await;
        self.write_checkpoint(Durability::Command).await;
        if self.forgetful {
            // The last chance for what is owed.
            let opened = Store::open(&self.options.state, clock::now());
            self.ledger_reopened(opened).await;
        }
        self.bus = None;
        if let Some(ledger) = self.ledger.take()
            && let Err(error) = ledger.close().await
        {
            self.log.tell(Record::LedgerUnwritable { error: chain(&error) });
        }
        point("close.ledger");
        self.log.tell(Record::Stopped { bans: self.warden.roster().len() });
        self.readings.join().await;
        point("close.end");
    }
}

/// Where the configuration is.
pub fn layout(options: &Options) -> Layout {
    options.config.clone().map_or(Layout::System, Layout::Directory)
}

/// This machine's own journal, or what the options name in its place.
fn local(options: &Options) -> Wanted {
    let source = SourceName::local();
    let (name, journal) = if let Some(directory) = &options.journal_directory {
        (format!("directory {}", directory.display()), Source::Directory(directory.clone()))
    } else if options.journal_file.is_empty() {
        (source.to_string(), Source::Live)
    } else {
        let files = options.journal_file.iter().map(PathBuf::from).collect();
        (format!("files {}", options.journal_file.join(" ")), Source::Files(files))
    };
    Wanted { name, source, journal }
}

/// The ledger as it was found.
struct Opened {
    /// `None` for a dry run.
    store: Option<Store>,
    restored: Restored,
    /// It could not be opened for writing: `store` ends with the process.
    forgetful: bool,
    /// `restored` is what the file has.
    known: bool,
}

/// Opens the ledger. Where that fails the daemon goes on from memory, with what can be read all the same, says so, and
/// tries again later; only another daemon's lock stops it.
fn ledger(options: &Options, log: &Log) -> Result<Opened, StartError> {
    if options.dry_run {
        return Ok(Opened { store: None, restored: Restored::default(), forgetful: false, known: true });
    }
    match Store::open(&options.state, clock::now()) {
        Ok((store, restored)) => {
            if let Some(aside) = &restored.kept_aside {
                log.tell(Record::LedgerDamaged { aside: aside.clone(), past: restored.salvaged.past });
            }
            Ok(Opened { store: Some(store), restored, forgetful: false, known: true })
        }
        Err(error @ OpenError::Locked(_)) => Err(StartError::Ledger(error)),
        Err(error) => {
            log.tell(Record::LedgerUnwritable { error: chain(&error) });
            let store = Store::in_memory().map_err(StartError::Memory)?;
            // That it can be read neither is no news after the above.
            let (restored, known) = match Store::read(&options.state, clock::now()) {
                Ok(restored) => (restored, true),
                Err(_) => (Restored::default(), false),
            };
            Ok(Opened { store: Some(store), restored, forgetful: true, known })
        }
    }
}

/// The jails whose bans stay although they do not run: those that a mistake left out. Where something is in error nobody
/// knows which jails there would be, so then it is every one that has bans.
pub fn spared(loaded: &Loaded, standing: &Standing, bans: &[Ban]) -> BTreeSet<JailName> {
    let mut spared: BTreeSet<JailName> =
        loaded.left_out.iter().filter_map(|left_out| left_out.jail.parse().ok()).collect();
    if standing.in_error() {
        spared.extend(bans.iter().map(|ban| ban.place.jail.clone()));
    }
    spared.remove(&JailName::manual());
    spared.retain(|jail| plan::enabled(&loaded.settings).all(|known| known.name != *jail));
    spared
}

/// The configuration that a start runs with.
pub struct Chosen {
    pub loaded: Loaded,
    pub standing: Standing,
    /// The jails that ran before, where that is known and the files are without errors.
    pub ran: Vec<JailName>,
}

/// Loads the configuration and tells its problems. Where there are errors it is the last one that was in force, and only
/// where none is kept that can be used what is right in the files.
///
/// # Errors
/// Where a dry run is given a configuration that is in error: nobody is cut off by stopping that.
pub fn settings(options: &Options, log: &Log) -> Result<Chosen, StartError> {
    let loaded = config::load_to_run(&layout(options));
    let tell = |problems: &[Problem]| {
        for problem in problems {
            log.tell(Record::problem(problem));
        }
    };
    if options.dry_run {
        if loaded.any_error() {
            let problems = loaded.problems.iter().map(ToString::to_string).collect();
            return Err(StartError::Config(problems));
        }
        return Ok(Chosen { standing: Standing::of_files(&loaded), loaded, ran: Vec::new() });
    }
    let former = Former::read(&options.state);
    if !loaded.any_error() {
        tell(&loaded.problems);
        // What is damaged is written anew.
        let ran = former.ok().flatten().map(|former| former.jails).unwrap_or_default();
        return Ok(Chosen { standing: Standing::of_files(&loaded), loaded, ran });
    }
    let former = former.and_then(|former| former.map(|former| Ok((former.load()?, former.since))).transpose());
    let mut problems = loaded.problems.clone();
    problems.retain(|problem| !problem.is_consequence() || !matches!(former, Ok(Some(_))));
    tell(&problems);
    let (standing, concerned) = match &former {
        Ok(Some((_, since))) => (Standing::of_former(*since, problems), standing::concerned(&loaded)),
        Ok(None) => (Standing::of_part(&loaded, None), Vec::new()),
        Err(error) => (Standing::of_part(&loaded, Some(error)), Vec::new()),
    };
    for record in standing.records(concerned) {
        log.tell(record);
    }
    let loaded = former.ok().flatten().map_or(loaded, |(former, _)| former);
    Ok(Chosen { loaded, standing, ran: Vec::new() })
}

/// Serves on the bus that the options name; `None` where they name none.
pub(super) async fn bus(
    options: &Options,
    requests: mpsc::Sender<bus::Request>,
    jails: &[JailName],
    patience: Duration,
) -> Result<Option<Bus>, bus::BusError> {
    let address = match options.bus() {
        BusChoice::System => BusAddress::System,
        BusChoice::Address(address) => BusAddress::Address(address),
        BusChoice::None => return Ok(None),
    };
    // A bus that hangs must not keep the daemon from its work.
    match tokio::time::timeout(patience, Bus::serve(&address, requests, jails)).await {
        Ok(served) => served.map(Some),
        Err(_) => Err(bus::BusError::Silent),
    }
}
