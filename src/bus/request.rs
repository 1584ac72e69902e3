//! What the bus asks of the deciding loop: every request is already parsed and authorised, and carries its own way back.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::oneshot;

use super::refusal::Refusal;
use crate::engine::ban::{Ban, JailName, Place};
use crate::engine::roster::State;
use crate::engine::subject::Subject;
use crate::engine::time::{Length, Stamp};
use crate::engine::warden::BanOrder;

/// Where the answer goes. A caller that is gone does not listen; that is no error.
pub type Answer<T> = oneshot::Sender<T>;

/// The most bytes of an operator's reason that are kept.
pub const REASON_MAX: usize = 200;

/// One command or question. The sender has the right to it.
#[derive(Debug)]
pub enum Request {
    /// Ban somebody.
    Ban {
        /// What is asked.
        order: BanOrder,
        /// How far it got, or why not: `Ignored`, `Protected`, `NoSuchJail`, `FirewallUnavailable`.
        answer: Answer<Result<State, Refusal>>,
    },
    /// Lift the bans of one subject.
    Unban {
        /// Whose.
        subject: Subject,
        /// In this jail, or in all.
        jail: Option<JailName>,
        /// Who asks.
        uid: u32,
        /// How many were lifted; `NotBanned` where there was none.
        answer: Answer<Result<u32, Refusal>>,
    },
    /// Lift all bans.
    UnbanAll {
        /// Of this jail, or of all.
        jail: Option<JailName>,
        /// Who asks.
        uid: u32,
        /// How many were lifted; none is no error.
        answer: Answer<Result<u32, Refusal>>,
    },
    /// Forget what was counted of one subject, in all jails.
    Forget {
        /// Whose failures.
        subject: Subject,
        /// Who asks.
        uid: u32,
        /// In how many jails and prefixes there were any; none is no error.
        answer: Answer<Result<u32, Refusal>>,
    },
    /// Let a jail count nothing.
    Pause {
        /// Which.
        jail: JailName,
        /// For so long; `None` until it is resumed.
        length: Option<Duration>,
        /// Who asks.
        uid: u32,
        /// Done, or `NoSuchJail`.
        answer: Answer<Result<(), Refusal>>,
    },
    /// Let a jail count again. One that is not paused is no error.
    Resume {
        /// Which.
        jail: JailName,
        /// Who asks.
        uid: u32,
        /// Done, or `NoSuchJail`.
        answer: Answer<Result<(), Refusal>>,
    },
    /// Count a failed login that a program tells of.
    Attempt {
        /// In this jail.
        jail: JailName,
        /// Of this address; IPv4-mapped IPv6 is IPv4 here.
        address: IpAddr,
        /// Who asks.
        uid: u32,
        /// What came of it; `Ignored` for an allowed address, `NoSuchJail`.
        answer: Answer<Result<Attempted, Refusal>>,
    },
    /// One page of the bans in force.
    ListBans {
        /// Which.
        page: Page,
        /// The rows in order of their places; fewer than `limit` only at the end.
        answer: Answer<Result<Vec<BanRow>, Refusal>>,
    },
    /// All jails, for their objects' properties.
    Jails {
        /// Every configured jail.
        answer: Answer<Vec<JailView>>,
    },
    /// The manager's properties.
    Status {
        /// As it is now.
        answer: Answer<ManagerView>,
    },
    /// Read the configuration anew.
    Reload {
        /// Who asks.
        uid: u32,
        /// Done, or `InvalidConfig` with all problems.
        answer: Answer<Result<(), Refusal>>,
    },
    /// What is wrong or doubtful with configuration, firewall, journal.
    Check {
        /// May the texts quote what stands in the configuration, addresses among it?
        whole: bool,
        /// The findings, worst first; empty when all is well.
        answer: Answer<Vec<Problem>>,
    },
}

/// What came of a failed login that a program told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempted {
    /// It is counted, and so far that is all.
    Counted,
    /// So far it is counted in memory alone: a restart would not know it.
    Unsaved,
    /// Its address is banned now, and so far the ban has got.
    Banned(State),
}

impl Attempted {
    /// The word for it on the bus: `counted`, `counted-unsaved`, or the state's.
    pub fn word(self) -> &'static str {
        match self {
            Attempted::Counted => "counted",
            Attempted::Unsaved => "counted-unsaved",
            Attempted::Banned(state) => state.word(),
        }
    }
}

/// Which rows of the list of bans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Of one jail, or of all.
    pub jail: Option<JailName>,
    /// Only rows whose place is greater than this one, which itself need not be banned any more.
    pub after: Option<Place>,
    /// At most so many rows, at least 1.
    pub limit: usize,
}

/// A ban in force, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanRow {
    /// Who, and in which jail: the key that pages are cut by.
    pub place: Place,
    /// When it was decided.
    pub since: Stamp,
    /// When it ends.
    pub until: Stamp,
    /// How many failures were counted.
    pub count: u32,
    /// Why, as one line for people.
    pub cause: String,
    /// How far it got.
    pub state: State,
}

impl BanRow {
    /// The row of `ban`.
    pub fn of(ban: &Ban, state: State) -> BanRow {
        BanRow {
            place: ban.place.clone(),
            since: ban.since,
            until: ban.until,
            count: ban.failures,
            cause: ban.cause.to_string(),
            state,
        }
    }
}

/// What `org.banish1.Manager`'s properties show. Counters count from the daemon's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagerView {
    /// Bans in force.
    pub bans_active: u32,
    /// Bans decided.
    pub bans_total: u64,
    /// Failures counted.
    pub failures_total: u64,
    /// Entries read from the journal.
    pub entries_read: u64,
    /// The time of the last entry read; the epoch before the first.
    pub last_entry: Stamp,
    /// Is the journal's end not reached yet?
    pub catching_up: bool,
    /// Does the kernel have our table?
    pub firewall_state: FirewallState,
    /// Which configuration runs.
    pub configuration: Configuration,
    /// When it came into force first.
    pub configuration_since: Stamp,
    /// The jails that do not run because the configuration is in error, as they were written.
    pub left_out: Vec<String>,
    /// The jails that ran before what runs came into force, and do not run now.
    pub no_longer_running: Vec<String>,
    /// When a reload was refused for errors; the epoch where the last one was not.
    pub reload_refused: Stamp,
}

/// Which configuration runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// That of the files as they were read at the start or by the last reload that was accepted.
    Current,
    /// The last one that was in force: the start found errors in the files.
    Former,
    /// What is right in the files: the start found errors, and no former configuration could be used.
    Incomplete,
}

impl Configuration {
    /// The word for it on the bus: `current`, `former`, `incomplete`.
    pub fn word(self) -> &'static str {
        match self {
            Configuration::Current => "current",
            Configuration::Former => "former",
            Configuration::Incomplete => "incomplete",
        }
    }
}

/// Does the kernel have what we want it to have?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirewallState {
    /// The table is there and holds every ban.
    Armed,
    /// A batch was refused and is tried again.
    Pending,
    /// There is no netlink, no right to it, or somebody else owns the table.
    Unavailable,
}

impl FirewallState {
    /// The word for it on the bus: `armed`, `pending`, `unavailable`.
    pub fn word(self) -> &'static str {
        match self {
            FirewallState::Armed => "armed",
            FirewallState::Pending => "pending",
            FirewallState::Unavailable => "unavailable",
        }
    }
}

/// What an `org.banish1.Jail`'s properties show. Counters count from the daemon's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JailView {
    /// Its name.
    pub name: JailName,
    /// Its filter's name.
    pub filter: String,
    /// The filter's mode.
    pub mode: String,
    /// The filter's matches, one line per OR-branch.
    pub journal_match: Vec<String>,
    /// So many failures ban.
    pub max_retry: u32,
    /// … when they lie within this time.
    pub find_time: Duration,
    /// For how long.
    pub ban_time: Length,
    /// Names, numbers and ranges; empty for all ports.
    pub ports: Vec<String>,
    /// Does it decide?
    pub enabled: bool,
    /// Does it count nothing at present?
    pub paused: bool,
    /// Until when: [`Stamp::NEVER`] until it is resumed, the epoch where it is not paused.
    pub paused_until: Stamp,
    /// Subjects with failures in the window.
    pub currently_failing: u32,
    /// Failures counted.
    pub failures_total: u64,
    /// Bans in force.
    pub currently_banned: u32,
    /// Bans decided.
    pub bans_total: u64,
    /// The time of the last failure; the epoch before the first.
    pub last_failure: Stamp,
    /// Packets that its rules have dropped or rejected.
    pub packets_dropped: u64,
}

/// One finding of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The jail it is about, if it is about one.
    pub jail: Option<JailName>,
    /// A sentence.
    pub text: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something works, but likely not as meant.
    Warning,
    /// Good to know.
    Notice,
}

impl Severity {
    /// The word for it on the bus: `error`, `warning`, `notice`.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
        }
    }
}
