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
use crate::config;
use crate::engine::ban::{Ban, Cause, End, JailName};
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
        /// Can it not be carried out?
        error: bool,
    },
    /// The configuration is in error: the last one that was in force runs.
    FormerRuns {
        /// When that came into force.
        since: Stamp,
        /// How many errors the files have.
        errors: usize,
        /// The jails that they are about.
        jails: Vec<String>,
    },
    /// The last configuration that was in force cannot be used.
    FormerUnusable {
        /// Why.
        error: String,
    },
    /// The configuration in force cannot be kept for a start that finds errors.
    FormerUnkept {
        /// Why.
        error: String,
    },
    /// It is kept again.
    FormerKept,
    /// A jail does not run because the configuration is in error.
    JailLeftOut {
        /// Which, as it was written.
        jail: String,
        /// `file:line:col: key: what`.
        reason: String,
    },
    /// A jail that ran is disabled or gone by the new configuration.
    JailGone {
        /// Which.
        jail: JailName,
    },
    /// The configuration was read anew.
    Reloaded {
        /// How many jails are enabled.
        jails: usize,
    },
    /// The configuration is broken; the running one stays.
    ReloadRefused {
        /// How many errors there are, in words.
        errors: String,
        /// Each problem as `file:line:col: key: what`.
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

impl Record {
    /// What is wrong or doubtful in the configuration.
    pub fn problem(problem: &config::Problem) -> Record {
        let error = problem.severity == config::Severity::Error;
        Record::ConfigProblem { text: problem.to_string(), error }
    }
}

/// The sending end of the log thread.
#[derive(Clone, Debug)]
pub struct Log {
    queue: Option<SyncSender<Record>>,
    dropped: Arc<AtomicU64>,
    given: Arc<AtomicU64>,
    out: Arc<AtomicU64>,
    /// When journald was given a record last, µs since the epoch.
    logged: Arc<AtomicU64>,
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
        let logged = Arc::new(AtomicU64::new(0));
        let last = Arc::clone(&logged);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || {
            let (to_journald, _subscriber) = subscribe();
            for record in records {
                // Before it is told: what journald writes for it is written later.
                let at = super::clock::now();
                tell(&record);
                if to_journald {
                    last.store(at.usec(), Ordering::Relaxed);
                }
                done.fetch_add(1, Ordering::Release);
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::warn!(
                        MESSAGE_ID = ids::RECORDS_DROPPED,
                        banish.count = lost,
                        "{} dropped: journald was too slow",
                        counted_of(lost, "record", "records")
                    );
                }
            }
        })?;
        Ok((Log { queue: Some(queue), dropped, given: Arc::default(), out, logged }, LogThread(Some(thread))))
    }

    /// A log that tells nobody: a dry run prints its decisions itself.
    pub fn silent() -> Log {
        Log { queue: None, dropped: Arc::default(), given: Arc::default(), out: Arc::default(), logged: Arc::default() }
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

    /// When journald was given a record last; `None` where it was given none.
    pub fn logged(&self) -> Option<Stamp> {
        Some(Stamp::from_usec(self.logged.load(Ordering::Relaxed))).filter(|stamp| *stamp != Stamp::EPOCH)
    }

    /// The clock was set: when something was logged says nothing any more.
    pub fn clock_was_set(&self) {
        self.logged.store(0, Ordering::Relaxed);
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
///
/// Is it journald?
fn subscribe() -> (bool, tracing::subscriber::DefaultGuard) {
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some() || std::env::var_os("INVOCATION_ID").is_some();
    match tracing_journald::layer() {
        Ok(layer) if under_systemd => {
            let layer = layer.with_field_prefix(None).with_syslog_identifier("banishd".into());
            (true, tracing::subscriber::set_default(tracing_subscriber::registry().with(layer)))
        }
        _ => {
            let plain = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).finish();
            (false, tracing::subscriber::set_default(plain))
        }
    }
}

/// `1 jail`, `2 jails`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `1 entry`, `2 entries`.
fn counted_of(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
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
            let kept = counted(*bans, "ban");
            tracing::info!(MESSAGE_ID = ids::STOPPED, banish.bans = bans, "stopped: {kept} in force");
        }
        Record::CaughtUp { entries } => {
            tracing::info!(
                MESSAGE_ID = ids::CAUGHT_UP,
                banish.entries = entries,
                "caught up with the journal after {}",
                counted_of(*entries, "entry", "entries")
            );
        }
        Record::Banned(ban) => tell_ban(ban),
        Record::WouldBan(ban) => {
            let (jail, subject) = (&ban.place.jail, &ban.place.subject);
            tracing::info!(MESSAGE_ID = ids::WOULD_BAN, banish.jail = %jail, banish.subject = %subject, banish.failures = ban.failures, "jail {jail} would ban {subject}: {} (it only reports)", counted(ban.failures as usize, "failure"));
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
            tracing::info!(MESSAGE_ID = ids::PAUSED, banish.jail = %jail, banish.until = %in_catalog(*until), banish.until_usec = until.usec(), banish.uid = uid, "jail {jail} counts nothing {} (operator uid {uid})", paused_until(*until));
        }
        Record::Resumed { jail, uid } => {
            let by = uid.map_or_else(|| "its pause is over".to_owned(), |uid| format!("operator uid {uid}"));
            tracing::info!(MESSAGE_ID = ids::RESUMED, banish.jail = %jail, banish.uid = uid, banish.cause = %by, "jail {jail} counts again ({by})");
        }
        Record::Adopted { bans } => {
            tracing::warn!(
                MESSAGE_ID = ids::ADOPTED,
                banish.count = bans,
                "adopted {} from the kernel that the ledger did not know",
                counted(*bans, "ban")
            );
        }
        Record::FirewallRestored { change, bans } => {
            tracing::warn!(MESSAGE_ID = ids::FIREWALL_REBUILT, banish.change = %change, banish.count = bans, "somebody changed table inet banish ({change}); put back with {}", counted(*bans, "ban"));
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
                "journald dropped {} of {unit}: failures may be among them",
                counted_of(*count, "message", "messages")
            );
        }
        Record::Evicted { count } => {
            tracing::warn!(
                MESSAGE_ID = ids::EVICTED,
                banish.count = count,
                "{} forgotten early because there were too many",
                counted_of(*count, "subject that had failed was", "subjects that had failed were")
            );
        }
        Record::GaveUp { jail, filter, pattern, count } => {
            tracing::warn!(MESSAGE_ID = ids::GAVE_UP, banish.jail = %jail, banish.filter = %filter, banish.pattern = %pattern, banish.count = count, "jail {jail}: {pattern} of filter {filter} gave no answer on {}: it would have taken too long", counted(usize::try_from(*count).unwrap_or(usize::MAX), "text"));
        }
        Record::ConfigProblem { text, error: true } => {
            tracing::error!(MESSAGE_ID = ids::CONFIG_BROKEN, banish.problem = %text, "{text}");
        }
        Record::ConfigProblem { text, error: false } => {
            tracing::warn!(MESSAGE_ID = ids::CONFIG_WARNING, banish.problem = %text, "{text} (warning)");
        }
        Record::FormerRuns { since, errors, jails } => {
            let since = super::clock::show(*since);
            let names = jails.iter().map(|jail| jail.escape_debug().to_string()).collect::<Vec<_>>().join(" ");
            let concerned = if names.is_empty() { "all jails".to_owned() } else { format!("jails {names}") };
            tracing::error!(MESSAGE_ID = ids::FORMER_RUNS, banish.jails = %concerned, banish.since = %since, "the configuration is in error ({}; it concerns {concerned}): running the former configuration, of {since}", counted(*errors, "error"));
        }
        Record::FormerUnusable { error } => {
            tracing::error!(MESSAGE_ID = ids::FORMER_UNUSABLE, banish.error = %error, "the former configuration cannot be used: {error}");
        }
        Record::FormerUnkept { error } => {
            tracing::warn!(MESSAGE_ID = ids::FORMER_UNKEPT, banish.error = %error, "cannot keep the configuration that is in force: {error}; trying again");
        }
        Record::FormerKept => {
            tracing::info!(
                MESSAGE_ID = ids::FORMER_UNKEPT,
                banish.error = "none any more",
                "the configuration that is in force is kept"
            );
        }
        Record::JailLeftOut { jail, reason } => {
            let jail = jail.escape_debug();
            tracing::error!(MESSAGE_ID = ids::JAIL_LEFT_OUT, banish.jail = %jail, banish.problem = %reason, "jail {jail} is NOT running: {reason}");
        }
        Record::JailGone { jail } => {
            tracing::warn!(MESSAGE_ID = ids::JAIL_GONE, banish.jail = %jail, "jail {jail} no longer runs: the new configuration disables it or does not have it");
        }
        Record::Reloaded { jails } => {
            tracing::info!(
                MESSAGE_ID = ids::RELOADED,
                banish.jails = jails,
                "configuration read anew: {}",
                counted(*jails, "jail")
            );
        }
        Record::ReloadRefused { errors, problems } => {
            tracing::error!(
                MESSAGE_ID = ids::RELOAD_FAILED,
                banish.problem = problems.join("; "),
                "the new configuration has {errors}; the running one stays",
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
    let uid = match &ban.cause {
        Cause::Operator { uid, .. } => Some(*uid),
        _ => None,
    };
    tracing::info!(
        MESSAGE_ID = ids::BANNED,
        banish.jail = %jail,
        banish.subject = %subject,
        banish.since_usec = ban.since.usec(),
        banish.until = %in_catalog(ban.until),
        banish.until_usec = ban.until.usec(),
        banish.failures = ban.failures,
        banish.cause = %ban.cause,
        banish.uid = uid,
        banish.evidence = %evidence,
        "banned {subject} in jail {jail} {} ({})",
        ends(ban.until),
        why(ban),
    );
}

/// What stands behind `until` in a text of the catalog.
fn in_catalog(until: Stamp) -> String {
    if until == Stamp::NEVER { "somebody ends it".into() } else { end_of(until) }
}

/// `until 2026-11-22 11:10:37 +0100`, `permanently`.
fn ends(until: Stamp) -> String {
    if until == Stamp::NEVER { "permanently".into() } else { format!("until {}", end_of(until)) }
}

/// `until 2026-11-22 11:10:37 +0100`, `until it is resumed`.
fn paused_until(until: Stamp) -> String {
    if until == Stamp::NEVER { "until it is resumed".into() } else { ends(until) }
}

/// `5 failures`, `operator uid 0: reason`.
fn why(ban: &Ban) -> String {
    match &ban.cause {
        Cause::Failures { .. } => counted(ban.failures as usize, "failure"),
        cause if ban.failures == 0 => cause.to_string(),
        cause => format!("{}, {cause}", counted(ban.failures as usize, "failure")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_in_the_right_number() {
        let ban = |failures, cause| Ban {
            place: crate::engine::ban::Place {
                jail: JailName::manual(),
                subject: "192.0.2.1".parse().expect("an address"),
            },
            since: Stamp::EPOCH,
            until: Stamp::NEVER,
            failures,
            cause,
        };
        assert_eq!(why(&ban(0, Cause::Operator { uid: 0, reason: String::new() })), "operator uid 0");
        assert_eq!(why(&ban(1, Cause::Configuration { evidence: Vec::new() })), "1 failure, configuration");
        assert_eq!(why(&ban(0, Cause::Adopted)), "adopted");
        assert_eq!(ends(Stamp::NEVER), "permanently");
        assert_eq!(counted_of(1, "entry", "entries"), "1 entry");
    }
}
