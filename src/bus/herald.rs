//! What the loop has to tell everybody: jails that came or went, reloads, changed properties. The loop leaves it here
//! and goes on; a task carries it out.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, ObjectPath, OwnedVariant};

use super::desk::{self, Desk};
use super::jail::{self, Jail};
use super::manager::{self, Manager};
use super::objects::{self, Properties};
use super::properties;
use super::{PATH, path};
use crate::engine::ban::JailName;

/// Changes of properties are told at most this often.
const PAUSE: Duration = Duration::from_secs(1);
/// The most reloads that wait to be told; the oldest are forgotten.
const RELOADS: usize = 16;
/// The most bytes of a reload's text that are told.
const TEXT: usize = 16 * 1024;

/// What waits to be told.
#[derive(Debug, Default)]
pub struct Herald {
    errands: Mutex<Errands>,
    called: Notify,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Errands {
    jails: bool,
    reloads: VecDeque<(bool, String)>,
}

impl Herald {
    /// The desk's jails are others than before.
    pub fn jails_changed(&self) {
        self.lock().jails = true;
        self.called.notify_one();
        self.changed.notify_one();
    }

    /// A reload ended.
    pub fn reloaded(&self, ok: bool, text: &str) {
        let mut errands = self.lock();
        if errands.reloads.len() == RELOADS {
            errands.reloads.pop_front();
        }
        errands.reloads.push_back((ok, desk::cut(text, TEXT).replace('\0', "\u{fffd}")));
        drop(errands);
        self.called.notify_one();
    }

    /// Some property may have changed.
    pub fn properties_changed(&self) {
        self.changed.notify_one();
    }

    /// Keeps the objects on all `connections` as the desk's jails are, starting with `served`, and tells of them and of
    /// reloads over the first. Never returns.
    pub async fn keep_objects(
        self: Arc<Self>,
        connections: Vec<Connection>,
        desk: Arc<Desk>,
        mut served: BTreeSet<JailName>,
    ) {
        let Some(connection) = connections.first() else { return };
        loop {
            self.called.notified().await;
            let errands = std::mem::take(&mut *self.lock());
            if errands.jails {
                let wanted = desk.jails();
                if let Err(error) = exchange(&connections, &desk, &served, &wanted).await {
                    tracing::warn!(%error, "the jails' objects could not all be exchanged");
                }
                served = wanted;
            }
            for (ok, text) in errands.reloads {
                if let Err(error) = tell_reload(connection, ok, &text).await {
                    tracing::debug!(%error, "a reload could not be told");
                }
            }
        }
    }

    /// Tells what properties are others than before. Never returns.
    pub async fn tell_changes(self: Arc<Self>, connection: Connection, desk: Arc<Desk>) {
        let mut told = Told::default();
        loop {
            if let Err(error) = told.update(&connection, &desk).await {
                tracing::debug!(%error, "changed properties could not be told");
            }
            tokio::time::sleep(PAUSE).await;
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Errands> {
        self.errands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn exchange(
    connections: &[Connection],
    desk: &Arc<Desk>,
    served: &BTreeSet<JailName>,
    wanted: &BTreeSet<JailName>,
) -> zbus::Result<()> {
    let Some(connection) = connections.first() else { return Ok(()) };
    for name in served.difference(wanted) {
        for connection in connections {
            connection.object_server().remove::<Jail, _>(&path::of_jail(name)).await?;
        }
        objects::tell_removed(connection, name).await?;
    }
    // All are there before the first is told of.
    for name in wanted.difference(served) {
        let path = path::of_jail(name);
        for connection in connections {
            connection.object_server().at(&path, Jail::new(Arc::clone(desk), name.clone())).await?;
            properties::serve::<Jail>(connection, &path).await?;
        }
    }
    for name in wanted.difference(served) {
        objects::tell_added(connection, name, objects::of_jail(connection, name).await?).await?;
    }
    Ok(())
}

async fn tell_reload(connection: &Connection, ok: bool, text: &str) -> zbus::Result<()> {
    Manager::reloaded(&SignalEmitter::new(connection, PATH)?, ok, text).await
}

/// The properties as they were told last.
#[derive(Debug, Default)]
struct Told {
    manager: Option<Properties>,
    jails: BTreeMap<JailName, Properties>,
}

impl Told {
    async fn update(&mut self, connection: &Connection, desk: &Desk) -> zbus::Result<()> {
        let path = ObjectPath::from_static_str(PATH)?;
        let now = objects::of::<Manager>(connection, &path).await?;
        if let Some(before) = self.manager.replace(now.clone()) {
            tell::<Manager>(connection, &path, &manager::TOLD, &before, &now).await?;
        }
        let names = desk.jails();
        self.jails.retain(|name, _| names.contains(name));
        for name in names {
            let now = match objects::of_jail(connection, &name).await {
                Ok(now) => now,
                Err(zbus::Error::InterfaceNotFound) => continue,
                Err(error) => return Err(error),
            };
            if let Some(before) = self.jails.insert(name.clone(), now.clone()) {
                tell::<Jail>(connection, &path::of_jail(&name), &jail::TOLD, &before, &now).await?;
            }
        }
        Ok(())
    }
}

async fn tell<I: Interface>(
    connection: &Connection,
    path: &ObjectPath<'_>,
    names: &[&str],
    before: &Properties,
    now: &Properties,
) -> zbus::Result<()> {
    let differs = |name: &&&str| now.get(**name).is_some_and(|value| before.get(**name) != Some(value));
    let changed: HashMap<&str, &OwnedVariant> = names.iter().filter(differs).map(|name| (*name, &now[*name])).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let invalidated: [&str; 0] = [];
    SignalEmitter::new(connection, path)?
        .emit("org.freedesktop.DBus.Properties", "PropertiesChanged", &(I::name(), changed, invalidated.as_slice()))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_the_interface_promises_to_tell() {
        for (told, xml) in [
            (manager::TOLD.as_slice(), include_str!("../../dbus/org.banish1.Manager.xml")),
            (jail::TOLD.as_slice(), include_str!("../../dbus/org.banish1.Jail.xml")),
        ] {
            // A property that has no annotation ends in its own tag.
            let silent = xml.lines().filter(|line| line.contains("<property ") && line.ends_with("/>"));
            let mut promised: Vec<_> = silent.filter_map(|line| line.split('"').nth(1)).collect();
            let mut told = told.to_vec();
            promised.sort_unstable();
            told.sort_unstable();
            assert_eq!(told, promised);
        }
    }

    #[test]
    fn reloads_that_nobody_tells_do_not_pile_up() {
        let herald = Herald::default();
        for n in 0..100 {
            herald.reloaded(false, &format!("{n}\0{}", "ä".repeat(TEXT)));
        }
        let errands = herald.lock();
        assert_eq!(errands.reloads.len(), RELOADS);
        let (_, last) = errands.reloads.back().unwrap();
        assert!(last.starts_with("99\u{fffd}ä") && last.len() <= TEXT + 2, "{}", last.len());
    }
}
