//! The client's side of `org.banish1`: what `banishctl` and other programs in Rust call.
//!
//! A refusal comes back as the [`Refusal`] that the daemon gave. `Banned` and `Unbanned` come only after
//! [`ManagerProxy::subscribe`].

use serde::{Deserialize, Serialize};
use zbus::proxy;

use super::refusal::Refusal;

/// A row of `ListBans`: `(ssttuss)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, zbus::Type)]
pub struct ListedBan {
    /// The jail.
    pub jail: String,
    /// The address or prefix.
    pub subject: String,
    /// When it was decided, µs since the epoch.
    pub since: u64,
    /// When it ends, µs since the epoch; `u64::MAX` for a permanent one.
    pub until: u64,
    /// How many failures were counted.
    pub count: u32,
    /// Why, one line for people.
    pub cause: String,
    /// `banned`, `pending`, `unsaved`.
    pub state: String,
}

impl ListedBan {
    /// What `ListBans` takes as `after` to go on behind this row.
    pub fn position(&self) -> String {
        format!("{} {}", self.jail, self.subject)
    }
}

/// A finding of `Check`: `(sss)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, zbus::Type)]
pub struct Finding {
    /// `error`, `warning`, `notice`.
    pub severity: String,
    /// The jail, or empty.
    pub jail: String,
    /// A sentence.
    pub text: String,
}

/// `org.banish1.Manager`.
#[proxy(interface = "org.banish1.Manager", default_service = "org.banish1", default_path = "/org/banish1")]
pub trait Manager {
    /// Bans `subject` in `jail` (empty: `manual`, all ports) for `duration_usec` (0: the jail's own length, `u64::MAX`:
    /// permanently). Answers `banned`, `pending` or `unsaved`.
    #[zbus(allow_interactive_auth)]
    fn ban(&self, subject: &str, jail: &str, duration_usec: u64, reason: &str, force: bool) -> Result<String, Refusal>;

    /// Lifts the bans of `subject` in `jail` (empty: in all); how many there were.
    #[zbus(allow_interactive_auth)]
    fn unban(&self, subject: &str, jail: &str) -> Result<u32, Refusal>;

    /// Lifts all bans of `jail` (empty: of all); how many there were.
    #[zbus(allow_interactive_auth)]
    fn unban_all(&self, jail: &str) -> Result<u32, Refusal>;

    /// Forgets the counted failures of `subject` in all jails; in how many places there were any.
    #[zbus(allow_interactive_auth)]
    fn forget(&self, subject: &str) -> Result<u32, Refusal>;

    /// The bans of `jail` (empty: of all) behind `after` (empty: from the start; else [`ListedBan::position`]), at most
    /// `limit` (0: as many as the daemon gives at once). An empty page is the end.
    #[zbus(allow_interactive_auth)]
    fn list_bans(&self, jail: &str, after: &str, limit: u32) -> Result<Vec<ListedBan>, Refusal>;

    /// The jail's object. Its error becomes a [`Refusal`] by `Refusal::from`.
    #[zbus(object = "Jail")]
    fn get_jail(&self, name: &str);

    /// Reads the configuration anew.
    #[zbus(allow_interactive_auth)]
    fn reload(&self) -> Result<(), Refusal>;

    /// What is wrong or doubtful.
    fn check(&self) -> Result<Vec<Finding>, Refusal>;

    /// Asks for `Banned` and `Unbanned`.
    #[zbus(allow_interactive_auth)]
    fn subscribe(&self) -> Result<(), Refusal>;

    /// Wants them no more.
    fn unsubscribe(&self) -> Result<(), Refusal>;

    /// Somebody was banned.
    #[zbus(signal)]
    fn banned(&self, jail: String, subject: String, until: u64, count: u32, cause: String) -> zbus::Result<()>;

    /// A ban ended.
    #[zbus(signal)]
    fn unbanned(&self, jail: String, subject: String, cause: String) -> zbus::Result<()>;

    /// The configuration was read anew, or could not be.
    #[zbus(signal)]
    fn reloaded(&self, ok: bool, text: String) -> zbus::Result<()>;

    /// The daemon's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;

    /// Bans in force.
    #[zbus(property)]
    fn bans_active(&self) -> zbus::Result<u32>;

    /// Bans decided since the start.
    #[zbus(property)]
    fn bans_total(&self) -> zbus::Result<u64>;

    /// Failures counted since the start.
    #[zbus(property(emits_changed_signal = "false"))]
    fn failures_total(&self) -> zbus::Result<u64>;

    /// Entries read since the start.
    #[zbus(property(emits_changed_signal = "false"))]
    fn entries_read(&self) -> zbus::Result<u64>;

    /// The time of the last entry read, µs since the epoch; 0 before the first.
    #[zbus(property(emits_changed_signal = "false"), name = "LastEntryUSec")]
    fn last_entry_usec(&self) -> zbus::Result<u64>;

    /// Is the journal's end not reached yet?
    #[zbus(property)]
    fn catching_up(&self) -> zbus::Result<bool>;

    /// `armed`, `pending`, `unavailable`.
    #[zbus(property)]
    fn firewall_state(&self) -> zbus::Result<String>;

    /// `current`, `former`, `incomplete`.
    #[zbus(property)]
    fn configuration(&self) -> zbus::Result<String>;

    /// When the configuration that runs came into force first, µs since the epoch.
    #[zbus(property, name = "ConfigurationUSec")]
    fn configuration_usec(&self) -> zbus::Result<u64>;

    /// The jails that do not run because the configuration is in error.
    #[zbus(property)]
    fn left_out(&self) -> zbus::Result<Vec<String>>;

    /// The jails that ran before what runs came into force, and do not run now.
    #[zbus(property)]
    fn no_longer_running(&self) -> zbus::Result<Vec<String>>;

    /// When a reload was refused, µs since the epoch; 0 where the last one was not.
    #[zbus(property, name = "ReloadRefusedUSec")]
    fn reload_refused_usec(&self) -> zbus::Result<u64>;
}

/// `org.banish1.Jail`.
#[proxy(interface = "org.banish1.Jail", default_service = "org.banish1", assume_defaults = false)]
pub trait Jail {
    /// As [`ManagerProxy::ban`], in this jail.
    #[zbus(allow_interactive_auth)]
    fn ban(&self, subject: &str, duration_usec: u64, reason: &str, force: bool) -> Result<String, Refusal>;

    /// As [`ManagerProxy::unban`], in this jail.
    #[zbus(allow_interactive_auth)]
    fn unban(&self, subject: &str) -> Result<u32, Refusal>;

    /// Tells of a failed login of `address`. Answers `counted`, `counted-unsaved` where the ledger
    /// cannot be written, or the ban's state where it is banned now.
    #[zbus(allow_interactive_auth)]
    fn attempt(&self, address: &str) -> Result<String, Refusal>;

    /// Counts nothing for `duration_usec`; for 0 or `u64::MAX` until resumed.
    #[zbus(allow_interactive_auth)]
    fn pause(&self, duration_usec: u64) -> Result<(), Refusal>;

    /// Counts again.
    #[zbus(allow_interactive_auth)]
    fn resume(&self) -> Result<(), Refusal>;

    /// Its name.
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> zbus::Result<String>;

    /// Its filter's name.
    #[zbus(property)]
    fn filter(&self) -> zbus::Result<String>;

    /// The filter's mode.
    #[zbus(property)]
    fn mode(&self) -> zbus::Result<String>;

    /// The filter's matches, one line per OR-branch.
    #[zbus(property)]
    fn journal_match(&self) -> zbus::Result<Vec<String>>;

    /// So many failures ban.
    #[zbus(property)]
    fn max_retry(&self) -> zbus::Result<u32>;

    /// … when they lie within this time, µs.
    #[zbus(property, name = "FindTimeUSec")]
    fn find_time_usec(&self) -> zbus::Result<u64>;

    /// For how long, µs; `u64::MAX` permanently.
    #[zbus(property, name = "BanTimeUSec")]
    fn ban_time_usec(&self) -> zbus::Result<u64>;

    /// Names, numbers and ranges; empty for all ports.
    #[zbus(property)]
    fn ports(&self) -> zbus::Result<Vec<String>>;

    /// Does it decide?
    #[zbus(property)]
    fn enabled(&self) -> zbus::Result<bool>;

    /// Does it count nothing at present?
    #[zbus(property)]
    fn paused(&self) -> zbus::Result<bool>;

    /// Until when, µs since the epoch: `u64::MAX` until it is resumed, 0 where it is not paused.
    #[zbus(property, name = "PausedUntilUSec")]
    fn paused_until_usec(&self) -> zbus::Result<u64>;

    /// Subjects with failures in the window.
    #[zbus(property(emits_changed_signal = "false"))]
    fn currently_failing(&self) -> zbus::Result<u32>;

    /// Failures counted since the start.
    #[zbus(property(emits_changed_signal = "false"))]
    fn failures_total(&self) -> zbus::Result<u64>;

    /// Bans in force.
    #[zbus(property)]
    fn currently_banned(&self) -> zbus::Result<u32>;

    /// Bans decided since the start.
    #[zbus(property)]
    fn bans_total(&self) -> zbus::Result<u64>;

    /// The time of the last failure, µs since the epoch; 0 before the first.
    #[zbus(property(emits_changed_signal = "false"), name = "LastFailureUSec")]
    fn last_failure_usec(&self) -> zbus::Result<u64>;

    /// Packets dropped or rejected.
    #[zbus(property(emits_changed_signal = "false"))]
    fn packets_dropped(&self) -> zbus::Result<u64>;
}
