//! `org.banish1.Manager`, the one object every client starts from.

use std::sync::Arc;

use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath, Variant, fdo, interface};

use super::desk::{self, Desk, Plea};
use super::objects::Properties;
use super::path;
use super::polkit::Right;
use super::properties::Shown;
use super::proxy::{Finding, ListedBan};
use super::refusal::Refusal;
use super::request::{BanRow, Configuration, ManagerView, Page, Request};
use crate::engine::ban::{JailName, Place};
use crate::engine::time::Stamp;

/// The most rows of one answer of `ListBans`.
pub const ROWS: u32 = 1000;

/// The properties whose changes are told.
pub const TOLD: [&str; 9] = [
    "BansActive",
    "BansTotal",
    "CatchingUp",
    "Configuration",
    "ConfigurationUSec",
    "FirewallState",
    "LeftOut",
    "NoLongerRunning",
    "ReloadRefusedUSec",
];

/// The object.
#[derive(Debug)]
pub struct Manager {
    desk: Arc<Desk>,
}

impl Manager {
    /// In front of `desk`.
    pub fn new(desk: Arc<Desk>) -> Manager {
        Manager { desk }
    }

    async fn show<T>(&self, part: impl FnOnce(&ManagerView) -> T) -> fdo::Result<T> {
        Ok(part(&*self.desk.views.manager().await?))
    }
}

impl Shown for Manager {
    async fn all(&self) -> fdo::Result<Properties> {
        let view = self.desk.views.manager().await?;
        let all: [(&str, Variant<'_>); 13] = [
            ("Version", self.version().into()),
            ("BansActive", view.bans_active.into()),
            ("BansTotal", view.bans_total.into()),
            ("FailuresTotal", view.failures_total.into()),
            ("EntriesRead", view.entries_read.into()),
            ("LastEntryUSec", view.last_entry.usec().into()),
            ("CatchingUp", view.catching_up.into()),
            ("FirewallState", view.firewall_state.word().into()),
            ("Configuration", view.configuration.word().into()),
            ("ConfigurationUSec", view.configuration_since.usec().into()),
            ("LeftOut", view.left_out.clone().into()),
            ("NoLongerRunning", view.no_longer_running.clone().into()),
            ("ReloadRefusedUSec", view.reload_refused.usec().into()),
        ];
        all.into_iter().map(|(name, value)| Ok((name.to_owned(), value.try_into()?))).collect()
    }
}

#[interface(name = "org.banish1.Manager", introspection_docs = false)]
impl Manager {
    #[zbus(out_args("state"))]
    #[expect(clippy::too_many_arguments, reason = "the bus's signature and zbus's two")]
    async fn ban(
        &self,
        subject: &str,
        jail: &str,
        duration_usec: u64,
        reason: &str,
        force: bool,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<String, Refusal> {
        let plea = Plea { subject, jail: desk::parse_jail(jail)?, duration_usec, reason, force };
        self.desk.ban(connection, &call, plea).await
    }

    #[zbus(out_args("count"))]
    async fn unban(
        &self,
        subject: &str,
        jail: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<u32, Refusal> {
        self.desk.unban(connection, &call, subject, desk::parse_jail(jail)?).await
    }

    #[zbus(out_args("count"))]
    async fn unban_all(
        &self,
        jail: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<u32, Refusal> {
        let jail = desk::parse_jail(jail)?;
        let about = [("jail", jail.as_ref().map_or("", JailName::as_str))];
        let caller = self.desk.admit(connection, &call, Right::Unban, &about).await?;
        let lifted = self.desk.ask(|answer| Request::UnbanAll { jail, uid: caller.uid, answer }).await??;
        self.desk.views.expire();
        Ok(lifted)
    }

    #[zbus(out_args("count"))]
    async fn forget(
        &self,
        subject: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<u32, Refusal> {
        self.desk.forget(connection, &call, subject).await
    }

    #[zbus(out_args("bans"))]
    async fn list_bans(
        &self,
        jail: &str,
        after: &str,
        limit: u32,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<Vec<ListedBan>, Refusal> {
        let jail = desk::parse_jail(jail)?;
        let after = parse_position(after)?;
        let limit = if limit == 0 { ROWS } else { limit.min(ROWS) } as usize;
        let about = [("jail", jail.as_ref().map_or("", JailName::as_str))];
        let _caller = self.desk.admit(connection, &call, Right::Inspect, &about).await?;
        let page = Page { jail, after, limit };
        let rows = self.desk.ask(|answer| Request::ListBans { page, answer }).await??;
        Ok(rows.into_iter().map(ListedBan::from).collect())
    }

    #[zbus(out_args("jail"))]
    async fn get_jail(&self, name: &str) -> Result<OwnedObjectPath, Refusal> {
        let known = desk::parse_jail(name)?.filter(|name| self.desk.has_jail(name));
        if let Some(known) = known {
            return Ok(path::of_jail(&known));
        }
        let view = self.desk.views.manager().await?;
        Err(match view.left_out.iter().any(|jail| jail == name) {
            true => Refusal::left_out(name),
            false => Refusal::no_jail(name, &self.desk.jails()),
        })
    }

    async fn reload(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Refusal> {
        let caller = self.desk.admit(connection, &call, Right::Manage, &[]).await?;
        let result = self.desk.ask(|answer| Request::Reload { uid: caller.uid, answer }).await?;
        self.desk.views.expire();
        result
    }

    #[zbus(out_args("problems"))]
    async fn check(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<Vec<Finding>, Refusal> {
        // While all is well no text quotes anything.
        let view = self.desk.views.manager().await?;
        let in_error = view.configuration != Configuration::Current || view.reload_refused != Stamp::EPOCH;
        let whole =
            self.desk.is_root(&call)? || in_error && self.desk.grants(connection, &call, Right::Inspect).await?;
        let problems = self.desk.ask(|answer| Request::Check { whole, answer }).await?;
        Ok(problems.into_iter().map(Finding::from).collect())
    }

    async fn subscribe(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Refusal> {
        let caller = self.desk.admit(connection, &call, Right::Inspect, &[]).await?;
        self.desk.subscribers.add(connection, caller.name.clone(), caller.uid).await
    }

    async fn unsubscribe(&self, #[zbus(header)] call: Header<'_>) {
        if let Some(sender) = call.sender() {
            self.desk.subscribers.remove(&sender.to_owned().into());
        }
    }

    #[zbus(signal)]
    pub(super) async fn banned(
        to: &SignalEmitter<'_>,
        jail: &str,
        subject: &str,
        until: u64,
        count: u32,
        cause: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn unbanned(to: &SignalEmitter<'_>, jail: &str, subject: &str, cause: &str) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn reloaded(to: &SignalEmitter<'_>, ok: bool, text: &str) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[zbus(property)]
    async fn bans_active(&self) -> fdo::Result<u32> {
        self.show(|view| view.bans_active).await
    }

    #[zbus(property)]
    async fn bans_total(&self) -> fdo::Result<u64> {
        self.show(|view| view.bans_total).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn failures_total(&self) -> fdo::Result<u64> {
        self.show(|view| view.failures_total).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    async fn entries_read(&self) -> fdo::Result<u64> {
        self.show(|view| view.entries_read).await
    }

    #[zbus(property(emits_changed_signal = "false"), name = "LastEntryUSec")]
    async fn last_entry_usec(&self) -> fdo::Result<u64> {
        self.show(|view| view.last_entry.usec()).await
    }

    #[zbus(property)]
    async fn catching_up(&self) -> fdo::Result<bool> {
        self.show(|view| view.catching_up).await
    }

    #[zbus(property)]
    async fn firewall_state(&self) -> fdo::Result<&'static str> {
        self.show(|view| view.firewall_state.word()).await
    }

    #[zbus(property)]
    async fn configuration(&self) -> fdo::Result<&'static str> {
        self.show(|view| view.configuration.word()).await
    }

    #[zbus(property, name = "ConfigurationUSec")]
    async fn configuration_usec(&self) -> fdo::Result<u64> {
        self.show(|view| view.configuration_since.usec()).await
    }

    #[zbus(property)]
    async fn left_out(&self) -> fdo::Result<Vec<String>> {
        self.show(|view| view.left_out.clone()).await
    }

    #[zbus(property)]
    async fn no_longer_running(&self) -> fdo::Result<Vec<String>> {
        self.show(|view| view.no_longer_running.clone()).await
    }

    #[zbus(property, name = "ReloadRefusedUSec")]
    async fn reload_refused_usec(&self) -> fdo::Result<u64> {
        self.show(|view| view.reload_refused.usec()).await
    }
}

/// `JAIL SUBJECT` of a row; the empty text is the start.
fn parse_position(text: &str) -> Result<Option<Place>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let place = text
        .split_once(' ')
        .and_then(|(jail, subject)| Some(Place { jail: jail.parse().ok()?, subject: subject.parse().ok()? }));
    match place {
        Some(place) => Ok(Some(place)),
        None => Err(Refusal::InvalidPosition(format!("{:?} is no \"JAIL SUBJECT\" of a row", desk::cut(text, 120)))),
    }
}

impl From<BanRow> for ListedBan {
    fn from(row: BanRow) -> ListedBan {
        ListedBan {
            jail: row.place.jail.to_string(),
            subject: row.place.subject.to_string(),
            since: row.since.usec(),
            until: row.until.usec(),
            count: row.count,
            cause: row.cause,
            state: row.state.word().into(),
        }
    }
}

impl From<super::request::Problem> for Finding {
    fn from(problem: super::request::Problem) -> Finding {
        Finding {
            severity: problem.severity.word().into(),
            jail: problem.jail.map(|jail| jail.to_string()).unwrap_or_default(),
            text: problem.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_position_is_a_place_or_nothing(text in "[a-z0-9./: -]{0,40}|\\PC{0,20}") {
            match parse_position(&text) {
                Ok(None) => prop_assert!(text.is_empty()),
                Ok(Some(place)) => {
                    let again = format!("{} {}", place.jail, place.subject);
                    prop_assert_eq!(parse_position(&again), Ok(Some(place)));
                }
                Err(refusal) => prop_assert!(matches!(refusal, Refusal::InvalidPosition(_))),
            }
        }
    }
}
