//! `org.freedesktop.DBus.ObjectManager` over the jails' objects.
//!
//! zbus has one of its own, which reads properties while it holds the tree of objects; ours reads them from the loop,
//! which may be changing that tree, so this one holds nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zbus::fdo::ManagedObjects;
use zbus::message::Header;
use zbus::names::InterfaceName;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, ObjectPath, OwnedVariant, interface};

use super::desk::Desk;
use super::jail::Jail;
use super::path;
use super::properties::Shown;
use super::refusal::Refusal;
use crate::engine::ban::JailName;

/// An interface's properties.
pub type Properties = HashMap<String, OwnedVariant>;

/// The object.
#[derive(Debug)]
pub struct Objects {
    desk: Arc<Desk>,
    /// One long answer after the other.
    turn: tokio::sync::Mutex<()>,
}

impl Objects {
    /// Over the jails that `desk` knows.
    pub fn new(desk: Arc<Desk>) -> Objects {
        Objects { desk, turn: tokio::sync::Mutex::default() }
    }
}

// Everybody may ask, and one answer is long: they are made one after the other, others are served in between, and who
// asks too often at once is refused.
#[interface(name = "org.freedesktop.DBus.ObjectManager", introspection_docs = false)]
impl Objects {
    #[zbus(out_args("object_paths_interfaces_and_properties"))]
    async fn get_managed_objects(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<ManagedObjects, Refusal> {
        let _caller = self.desk.identify(connection, &call).await?;
        let _turn = self.turn.lock().await;
        tokio::task::yield_now().await;
        let mut objects = ManagedObjects::new();
        let views = self.desk.views.jails().await?;
        for name in self.desk.jails() {
            let Some(view) = views.get(&name) else { continue };
            objects.insert(path::of_jail(&name), HashMap::from([(Jail::name().into(), Jail::properties(view)?)]));
        }
        Ok(objects)
    }

    #[zbus(signal)]
    pub(super) async fn interfaces_added(
        to: &SignalEmitter<'_>,
        object_path: &ObjectPath<'_>,
        interfaces_and_properties: BTreeMap<InterfaceName<'_>, Properties>,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn interfaces_removed(
        to: &SignalEmitter<'_>,
        object_path: &ObjectPath<'_>,
        interfaces: &[InterfaceName<'_>],
    ) -> zbus::Result<()>;
}

/// The properties of a jail's object, all from one answer of the loop.
pub async fn of_jail(connection: &Connection, name: &JailName) -> zbus::Result<Properties> {
    of::<Jail>(connection, &path::of_jail(name)).await
}

/// The properties of the interface `I` of the object at `path`.
pub async fn of<I: Shown>(connection: &Connection, path: &ObjectPath<'_>) -> zbus::Result<Properties> {
    let object = connection.object_server().interface::<_, I>(path).await?;
    Ok(object.get().await.all().await?)
}
