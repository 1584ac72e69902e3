//! `org.banish1.Jail`: one object for each jail, its settings and counts readable by everybody.

use std::sync::Arc;

use zbus::message::Header;
use zbus::{Connection, Variant, fdo, interface};

use super::desk::{Desk, Plea};
use super::objects::Properties;
use super::properties::Shown;
use super::refusal::Refusal;
use super::request::JailView;
use crate::engine::ban::JailName;
use crate::engine::time::Length;

/// The properties whose changes are told.
pub const TOLD: [&str; 12] = [
    "Filter",
    "Mode",
    "JournalMatch",
    "MaxRetry",
    "FindTimeUSec",
    "BanTimeUSec",
    "Ports",
    "Enabled",
    "Paused",
    "PausedUntilUSec",
    "CurrentlyBanned",
    "BansTotal",
];

/// The object.
#[derive(Debug)]
pub struct Jail {
    desk: Arc<Desk>,
    name: JailName,
}

impl Jail {
    /// The object of the jail `name`.
    pub fn new(desk: Arc<Desk>, name: JailName) -> Jail {
        Jail { desk, name }
    }

    /// What the properties of the object of `view` are, without asking the object for one after the other.
    ///
    /// # Errors
    /// Where one of them cannot be a variant.
    pub fn properties(view: &JailView) -> zbus::Result<Properties> {
        let all: [(&str, Variant<'_>); 17] = [
            ("Name", view.name.as_str().into()),
            ("Filter", view.filter.as_str().into()),
            ("Mode", view.mode.as_str().into()),
            ("JournalMatch", view.journal_match.clone().into()),
            ("MaxRetry", view.max_retry.into()),
            ("FindTimeUSec", Length::For(view.find_time).usec().into()),
            ("BanTimeUSec", view.ban_time.usec().into()),
            ("Ports", view.ports.clone().into()),
            ("Enabled", view.enabled.into()),
            ("Paused", view.paused.into()),
            ("PausedUntilUSec", view.paused_until.usec().into()),
            ("CurrentlyFailing", view.currently_failing.into()),
            ("FailuresTotal", view.failures_total.into()),
            ("CurrentlyBanned", view.currently_banned.into()),
            ("BansTotal", view.bans_total.into()),
            ("LastFailureUSec", view.last_failure.usec().into()),
            ("PacketsDropped", view.packets_dropped.into()),
        ];
        all.into_iter().map(|(name, value)| Ok((name.to_owned(), value.try_into()?))).collect()
    }

    async fn show<T>(&self, part: impl FnOnce(&JailView) -> T) -> fdo::Result<T> {
        let jails = self.desk.views.jails().await?;
        jails.get(&self.name).map(part).ok_or_else(|| self.gone())
    }

    fn gone(&self) -> fdo::Error {
        fdo::Error::UnknownObject(format!("jail {} is gone", self.name))
    }
}

impl Shown for Jail {
    async fn all(&self) -> fdo::Result<Properties> {
        let jails = self.desk.views.jails().await?;
        let view = jails.get(&self.name).ok_or_else(|| self.gone())?;
        Ok(Jail::properties(view)?)
    }
}

#[interface(name = "org.banish1.Jail", introspection_docs = false)]
impl Jail {
    #[zbus(out_args("state"))]
    async fn ban(
        &self,
        subject: &str,
        duration_usec: u64,
        reason: &str,
        force: bool,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<String, Refusal> {
        let plea = Plea { subject, jail: Some(self.name.clone()), duration_usec, reason, force };
        self.desk.ban(connection, &call, plea).await
    }

    #[zbus(out_args("count"))]
    async fn unban(
        &self,
        subject: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<u32, Refusal> {
        self.desk.unban(connection, &call, subject, Some(self.name.clone())).await
    }

    #[zbus(out_args("result"))]
    async fn attempt(
        &self,
        address: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<String, Refusal> {
        self.desk.attempt(connection, &call, &self.name, address).await
    }

    async fn pause(
        &self,
        duration_usec: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Refusal> {
        self.desk.pause(connection, &call, &self.name, duration_usec).await
    }

    async fn resume(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Refusal> {
        self.desk.resume(connection, &call, &self.name).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> &str {
        self.name.as_str()
    }

    #[zbus(property)]
    async fn filter(&self) -> fdo::Result<String> {
        self.show(|view| view.filter.clone()).await
    }

    #[zbus(property)]
    async fn mode(&self) -> fdo::Result<String> {
        self.show(|view| view.mode.clone()).await
    }

    #[zbus(property)]
    async fn journal_match(&self) -> fdo::Result<Vec<String>> {
        self.show(|view| view.journal_match.clone()).await
    }

    #[zbus(property)]
    async fn max_retry(&self) -> fdo::Result<u32> {
        self.show(|view| view.max_retry).await
    }

    #[zbus(property, name = "FindTimeUSec")]
    async fn find_time_usec(&self) -> fdo::Result<u64> {
        self.show(|view| Length::For(view.find_time).usec()).await
    }

    #[zbus(property, name = "BanTimeUSec")]
    async fn ban_time_usec(&self) -> fdo::Result<u64> {
        self.show(|view| view.ban_time.usec()).await
    }

    #[zbus(property)]
    async fn ports(&self) -> fdo::Result<Vec<String>> {
        self.show(|view| view.ports.clone()).await
    }

    #[zbus(property)]
    async fn enabled(&self) -> fdo::Result<bool> {
        self.show(|view| view.enabled).await
    }

    #[zbus(property)]
    async fn paused(&self) -> fdo::Result<bool> {
        self.show(|view| view.paused).await
    }

    #[zbus(property, name = "PausedUntilUSec")]
    async fn paused_until_usec(&self) -> fdo::Result<u64> {
        self.show(|view| view.paused_until.usec()).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn currently_failing(&self) -> fdo::Result<u32> {
        self.show(|view| view.currently_failing).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn failures_total(&self) -> fdo::Result<u64> {
        self.show(|view| view.failures_total).await
    }

    #[zbus(property)]
    async fn currently_banned(&self) -> fdo::Result<u32> {
        self.show(|view| view.currently_banned).await
    }

    #[zbus(property)]
    async fn bans_total(&self) -> fdo::Result<u64> {
        self.show(|view| view.bans_total).await
    }

    #[zbus(property(emits_changed_signal = "false"), name = "LastFailureUSec")]
    async fn last_failure_usec(&self) -> fdo::Result<u64> {
        self.show(|view| view.last_failure.usec()).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn packets_dropped(&self) -> fdo::Result<u64> {
        self.show(|view| view.packets_dropped).await
    }
}
