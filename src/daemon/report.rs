//! What the daemon tells the journal: records with fields and a MESSAGE_ID, sent by a thread of their own.
//!
//! Sending to journald blocks while journald is busy. The loop only puts a record into a bounded queue; what does not
//! fit is counted, and the count is told with the next record that does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;

use super::ids;
use crate::engine::ban::{Ban, End, JailName};
use crate::engine::subject::Subject;
use crate::engine::time::Stamp;

/// How many records wait for journald at the most.
const QUEUE: usize = 4096;
/// How often, and for how long each time, an end waits for the log.
const FLUSH_STEPS: u32 = 400;
const FLUSH_STEP: Duration = Duration::from_millis(5);

/// One thing to tell.
#[derive(Clone, Debug)]
pub enum Record {
    /// The service is up.
    Started {
        /// How many jails are enabled.
        jails: usize,
        /// How many bans of an earlier run are in force.
        bans: usize,
    },
    /// The bans of the ledger are in the kernel, before the daemon runs.
    Restored {
        /// How many.
        bans: usize,
    },
    /// A daemon runs: it has its bans in the kernel.
    RestoreNeedless,
    /// The service goes; bans stay.
    Stopped {
        /// How many bans stay in the kernel.
        bans: usize,
    },
    /// The journal's past has been read.
    CaughtUp {
        /// How many entries were read.
        entries: u64,
    },
    /// A ban began.
    Banned(Ban),
    /// A jail that only reports would have banned.
    WouldBan(Ban),
    /// A ban that would be over already.
    TooLate(Ban),
    /// A ban ended.
    Unbanned {
        /// The ban.
        ban: Ban,
        /// How it ended.
        end: End,
    },
    /// Counted failures were forgotten at somebody's word.
    Forgot {
        /// Whose.
        subject: Subject,
        /// In how many places there were any.
        count: u32,
        /// Who ordered it.
        uid: u32,
    },
    /// A jail counts nothing for a while.
    Paused {
        /// Which.
        jail: JailName,
        /// Until when.
        until: Stamp,
        /// Who ordered it.
        uid: u32,
    },
    /// A jail counts again.
    Resumed {
        /// Which.
        jail: JailName,
        /// Who ordered it; `None` where the pause was over by itself.
        uid: Option<u32>,
    },
    /// Bans were found in the kernel that the ledger did not know.
    Adopted {
        /// How many.
        bans: usize,
    },
    /// Somebody else changed the table, and it was put back.
    FirewallRestored {
        /// What was changed.
        change: String,
        /// How many bans were put back.
        bans: usize,
    },
    /// The kernel refused what it was asked.
    FirewallRefused {
        /// What it said.
        error: String,
    },
    /// The kernel cannot do something that the configuration asks for.
    FirewallLacks {
        /// What, and what is done instead.
        text: String,
    },
    /// The firewall takes bans again.
    FirewallRecovered,
    /// Entries were deleted from the journal before they were read.
    JournalGap {
        /// Of which journal.
        source: String,
        /// From the last entry read to the first one found, in seconds.
        seconds: u64,
    },
    /// The reader was deaf or its journal broken; it was opened again at its cursor.
    ReaderReopened {
        /// Which journal.
        source: String,
        /// What was wrong.
        reason: String,
    },
    /// The journal cannot be read.
    ReaderFailed {
        /// Which journal.
        source: String,
        /// Why.
        error: String,
    },
    /// journald dropped messages of a unit because there were too many.
    JournalSuppressed {
        /// The unit.
        unit: String,
        /// How many.
        count: u64,
    },
    /// Subjects were forgotten early because there were too many.
    Evicted {
        /// How many.
        count: u64,
    },
    /// Searches of a pattern ended without an answer because they took too long.
    GaveUp {
        /// A jail of the filter's.
        jail: JailName,
        /// The filter.
        filter: String,
        /// Which of its patterns, as `failregex[2]`.
        pattern: String,
        /// How many since the filter was read.
        count: u64,
    },
    /// Something is wrong with the configuration.
    ConfigProblem {
        /// `file:line:col: key: what`.
        text: String,
        /// Does it leave a jail out?
        error: bool,
    },
    /// The configuration was read anew.
    Reloaded {
        /// How many jails are enabled.
        jails: usize,
    },
    /// The configuration is broken; the running one stays.
    ReloadRefused {
        /// Each as `file:line:col: key: what`.
        problems: Vec<String>,
    },
    /// The ledger was damaged and is kept aside.
    LedgerDamaged {
        /// Where it is now.
        aside: PathBuf,
        /// So many bans of the past could be read and are in the new one.
        past: usize,
    },
    /// Another file was found in the ledger's place and is kept aside.
    LedgerReplaced {
        /// Where it is now.
        aside: PathBuf,
    },
    /// The ledger cannot be written; banning goes on from memory.
    LedgerUnwritable {
        /// Why.
        error: String,
    },
    /// The ledger is written again.
    LedgerRecovered,
    /// The message bus is gone.
    BusLost {
        /// Why.
        error: String,
    },
}

/// The sending end of the log thread.
#[derive(Clone, Debug)]
pub struct Log {
    queue: Option<SyncSender<Record>>,
    dropped: Arc<AtomicU64>,
    given: Arc<AtomicU64>,
    out: Arc<AtomicU64>,
}

/// The log thread; it ends when every [`Log`] is gone.
#[derive(Debug)]
pub struct LogThread(Option<JoinHandle<()>>);

impl Log {
    /// Starts the thread: to journald where there is one, else to standard error.
    ///
    /// # Errors
    /// Where no thread can be made.
    pub fn start() -> std::io::Result<(Log, LogThread)> {
        let (queue, records) = sync_channel::<Record>(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let out = Arc::new(AtomicU64::new(0));
        let done = Arc::clone(&out);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || {
            let _subscriber = subscribe();
            for record in records {
                tell(&record);
                done.fetch_add(1, Ordering::Release);
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::warn!(
                        MESSAGE_ID = ids::RECORDS_DROPPED,
                        banish.count = lost,
                        "{lost} records dropped: journald was too slow"
                    );
                }
            }
        })?;
        Ok((Log { queue: Some(queue), dropped, given: Arc::default(), out }, LogThread(Some(thread))))
    }

    /// A log that tells nobody: a dry run prints its decisions itself.
    pub fn silent() -> Log {
        Log { queue: None, dropped: Arc::default(), given: Arc::default(), out: Arc::default() }
    }

    /// Tells `record`; never waits. Gives a ticket: the record has been told when [`Log::out`] is there. `None` where it
    /// had to be dropped.
    pub fn tell(&self, record: Record) -> Option<u64> {
        let Some(queue) = &self.queue else { return Some(0) };
        match queue.try_send(record) {
            Ok(()) => Some(self.given.fetch_add(1, Ordering::Relaxed) + 1),
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(TrySendError::Disconnected(_)) => None,
        }
    }

    /// The ticket of the last record that was told: a process that dies now has told this one and all before it.
    pub fn out(&self) -> u64 {
        self.out.load(Ordering::Acquire)
    }

    /// Waits until all is told that was to be, but not for long: journald may hang.
    pub async fn flushed(&self) {
        for _ in 0..FLUSH_STEPS {
            if self.out() >= self.given.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(FLUSH_STEP).await;
        }
    }
}

impl LogThread {
    /// Waits until everything is told; every [`Log`] must be gone before.
    pub fn finish(mut self) {
        if let Some(thread) = self.0.take() {
            // A panic of the log thread has been printed by itself already.
            let _ = thread.join();
        }
    }
}

/// To journald, fields as they are named here; without journald to standard error. For this thread only: what the
/// libraries trace is not for the journal.
fn subscribe() -> tracing::subscriber::DefaultGuard {
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some() || std::env::var_os("INVOCATION_ID").is_some();
    match tracing_journald::layer() {
        Ok(layer) if under_systemd => {
            let layer = layer.with_field_prefix(None).with_syslog_identifier("banishd".into());
            tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
        }
        _ => tracing::subscriber::set_default(
            tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).finish(),
        ),
    }
}

/// `1 jail`, `2 jails`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `until` for people.
fn end_of(until: Stamp) -> String {
    super::clock::show(until)
}

fn tell(record: &Record) {
    match record {
        Record::Started { jails, bans } => {
            tracing::info!(
                MESSAGE_ID = ids::STARTED,
                banish.jails = jails,
                banish.bans = bans,
                "started: {}, {} in force",
                counted(*jails, "jail"),
                counted(*bans, "ban")
            );
        }
        Record::Restored { bans } => {
            let bans = *bans;
            tracing::info!(MESSAGE_ID = ids::RESTORED, banish.bans = bans, "restored {}", counted(bans, "ban"));
        }
        Record::RestoreNeedless => {
            tracing::info!(MESSAGE_ID = ids::RESTORED, "nothing to restore: banishd is running");
        }
        Record::Stopped { bans } => {
            tracing::info!(MESSAGE_ID = ids::STOPPED, banish.bans = bans, "stopped: {bans} bans stay in force");
        }
        Record::CaughtUp { entries } => {
            tracing::info!(
                MESSAGE_ID = ids::CAUGHT_UP,
                banish.entries = entries,
                "caught up with the journal after {entries} entries"
            );
        }
        Record::Banned(ban) => tell_ban(ban),
        Record::WouldBan(ban) => {
            let (jail, subject) = (&ban.place.jail, &ban.place.subject);
            tracing::info!(MESSAGE_ID = ids::WOULD_BAN, banish.jail = %jail, banish.subject = %subject, banish.failures = ban.failures, "jail {jail} would ban {subject}: {} failures (it only reports)", ban.failures);
        }
        Record::TooLate(ban) => {
            let (jail, subject) = (&ban.place.jail, &ban.place.subject);
            tracing::info!(MESSAGE_ID = ids::TOO_LATE, banish.jail = %jail, banish.subject = %subject, banish.until = %end_of(ban.until), banish.until_usec = ban.until.usec(), "jail {jail}: a ban of {subject} would be over since {}", end_of(ban.until));
        }
        Record::Unbanned { ban, end } => {
            let (jail, subject) = (&ban.place.jail, &ban.place.subject);
            let uid = match end {
                End::Operator { uid } => Some(*uid),
                _ => None,
            };
            tracing::info!(MESSAGE_ID = ids::UNBANNED, banish.jail = %jail, banish.subject = %subject, banish.cause = end.word(), banish.uid = uid, "unbanned {subject} in jail {jail} ({})", end.word());
        }
        Record::Forgot { subject, count, uid } => {
            tracing::info!(MESSAGE_ID = ids::FORGOT, banish.subject = %subject, banish.count = count, banish.uid = uid, "forgot the failures of {subject} in {} (operator uid {uid})", counted(*count as usize, "place"));
        }
        Record::Paused { jail, until, uid } => {
            tracing::info!(MESSAGE_ID = ids::PAUSED, banish.jail = %jail, banish.until = %end_of(*until), banish.until_usec = until.usec(), banish.uid = uid, "jail {jail} counts nothing until {} (operator uid {uid})", end_of(*until));
        }
        Record::Resumed { jail, uid } => {
            let by = uid.map_or_else(|| "its pause is over".to_owned(), |uid| format!("operator uid {uid}"));
            tracing::info!(MESSAGE_ID = ids::RESUMED, banish.jail = %jail, banish.uid = uid, banish.cause = %by, "jail {jail} counts again ({by})");
        }
        Record::Adopted { bans } => {
            tracing::warn!(
                MESSAGE_ID = ids::ADOPTED,
                banish.count = bans,
                "adopted {bans} bans from the kernel that the ledger did not know"
            );
        }
        Record::FirewallRestored { change, bans } => {
            tracing::warn!(MESSAGE_ID = ids::FIREWALL_REBUILT, banish.change = %change, banish.count = bans, "somebody changed table inet banish ({change}); put back with {bans} bans");
        }
        Record::FirewallRefused { error } => {
            tracing::error!(MESSAGE_ID = ids::FIREWALL_REFUSED, banish.error = %error, "the kernel refuses a change: {error}");
        }
        Record::FirewallLacks { text } => {
            tracing::warn!(MESSAGE_ID = ids::FIREWALL_LACKS, "{text}");
        }
        Record::FirewallRecovered => {
            tracing::info!(MESSAGE_ID = ids::FIREWALL_RECOVERED, "the firewall takes bans again");
        }
        Record::JournalGap { source, seconds } => {
            tracing::warn!(
                MESSAGE_ID = ids::JOURNAL_GAP,
                banish.source = %source,
                banish.seconds = seconds,
                "{seconds} s of the journal {source} were deleted before they were read"
            );
        }
        Record::ReaderReopened { source, reason } => {
            tracing::warn!(MESSAGE_ID = ids::READER_REOPENED, banish.source = %source, banish.reason = %reason, "journal {source} opened again at the cursor: {reason}");
        }
        Record::ReaderFailed { source, error } => {
            tracing::error!(MESSAGE_ID = ids::READER_FAILED, banish.source = %source, banish.error = %error, "cannot read the journal {source}: {error}");
        }
        Record::JournalSuppressed { unit, count } => {
            tracing::warn!(
                MESSAGE_ID = ids::JOURNAL_SUPPRESSED,
                banish.unit = unit,
                banish.count = count,
                "journald dropped {count} messages of {unit}: failures may be among them"
            );
        }
        Record::Evicted { count } => {
            tracing::warn!(
                MESSAGE_ID = ids::EVICTED,
                banish.count = count,
                "{count} subjects that had failed were forgotten early because there were too many"
            );
        }
        Record::GaveUp { jail, filter, pattern, count } => {
            tracing::warn!(MESSAGE_ID = ids::GAVE_UP, banish.jail = %jail, banish.filter = %filter, banish.pattern = %pattern, banish.count = count, "jail {jail}: {pattern} of filter {filter} gave no answer on {}: it would have taken too long", counted(usize::try_from(*count).unwrap_or(usize::MAX), "text"));
        }
        Record::ConfigProblem { text, error: true } => {
            tracing::error!(MESSAGE_ID = ids::CONFIG_BROKEN, banish.problem = %text, "{text}");
        }
        Record::ConfigProblem { text, error: false } => {
            tracing::warn!(MESSAGE_ID = ids::CONFIG_BROKEN, banish.problem = %text, "{text}");
        }
        Record::Reloaded { jails } => {
            tracing::info!(
                MESSAGE_ID = ids::RELOADED,
                banish.jails = jails,
                "configuration read anew: {}",
                counted(*jails, "jail")
            );
        }
        Record::ReloadRefused { problems } => {
            tracing::error!(
                MESSAGE_ID = ids::RELOAD_FAILED,
                banish.problem = problems.join("; "),
                "the new configuration has {}; the running one stays",
                counted(problems.len(), "problem")
            );
        }
        Record::LedgerDamaged { aside, past } => {
            tracing::error!(MESSAGE_ID = ids::LEDGER_DAMAGED, banish.file = %aside.display(), banish.error = "damaged", "the ledger is damaged; it is kept as {} and a new one begun, with {} of the past", aside.display(), counted(*past, "ban"));
        }
        Record::LedgerReplaced { aside } => {
            tracing::error!(MESSAGE_ID = ids::LEDGER_DAMAGED, banish.file = %aside.display(), banish.error = "replaced", "another file is in the ledger's place; it is kept as {} and the ledger written anew", aside.display());
        }
        Record::LedgerUnwritable { error } => {
            tracing::error!(MESSAGE_ID = ids::LEDGER_DAMAGED, banish.error = %error, "cannot write the ledger: {error}; banning goes on from memory");
        }
        Record::LedgerRecovered => {
            tracing::info!(MESSAGE_ID = ids::LEDGER_RECOVERED, "the ledger is written again, nothing is missing");
        }
        Record::BusLost { error } => {
            tracing::error!(MESSAGE_ID = ids::BUS_LOST, banish.error = %error, "message bus: {error}");
        }
    }
}

fn tell_ban(ban: &Ban) {
    let (jail, subject) = (&ban.place.jail, &ban.place.subject);
    let evidence = ban.cause.evidence().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    tracing::info!(
        MESSAGE_ID = ids::BANNED,
        banish.jail = %jail,
        banish.subject = %subject,
        banish.since_usec = ban.since.usec(),
        banish.until = %end_of(ban.until),
        banish.until_usec = ban.until.usec(),
        banish.failures = ban.failures,
        banish.cause = %ban.cause,
        banish.evidence = %evidence,
        "banned {subject} in jail {jail} until {} ({} failures, {})",
        end_of(ban.until),
        ban.failures,
        ban.cause,
    );
}
