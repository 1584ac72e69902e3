//! `org.freedesktop.DBus.ObjectManager` over the jails' objects.
//!
//! zbus has one of its own, which reads properties while it holds the tree of objects; ours reads them from the loop,
//! which may be changing that tree, so this one holds nothing. Everybody may ask, and the answer is long: it is written
//! once for all who ask until something has changed, and one after the other is sent.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use zbus::fdo::ManagedObjects;
use zbus::message::Header;
use zbus::names::{InterfaceName, MemberName};
use zbus::object_server::{DispatchResult, Interface, SignalEmitter};
use zbus::{BoxDBusError, Connection, Message, ObjectPath, ObjectServer, OwnedVariant, Variant, fdo};

use super::desk::Desk;
use super::jail::Jail;
use super::path;
use super::properties::Shown;
use super::refusal::Refusal;
use super::sys;
use super::views::Jails;
use crate::engine::ban::JailName;

/// An interface's properties.
pub type Properties = HashMap<String, OwnedVariant>;

const NAME: InterfaceName<'static> = InterfaceName::from_static_str_unchecked("org.freedesktop.DBus.ObjectManager");

/// What it says of itself.
const DESCRIPTION: &str = r#"<interface name="org.freedesktop.DBus.ObjectManager">
  <method name="GetManagedObjects">
    <arg name="object_paths_interfaces_and_properties" type="a{oa{sa{sv}}}" direction="out"/>
  </method>
  <signal name="InterfacesAdded">
    <arg name="object_path" type="o"/>
    <arg name="interfaces_and_properties" type="a{sa{sv}}"/>
  </signal>
  <signal name="InterfacesRemoved">
    <arg name="object_path" type="o"/>
    <arg name="interfaces" type="as"/>
  </signal>
</interface>
"#;

/// The object on one of our connections.
#[derive(Debug)]
pub struct Objects {
    desk: Arc<Desk>,
    all: Arc<Prepared>,
    /// One answer after the other is sent, so that no more than one is in memory.
    turn: Mutex<()>,
}

/// The answer as it was written last.
#[derive(Debug, Default)]
pub struct Prepared(Mutex<Option<Written>>);

#[derive(Debug)]
struct Written {
    views: Arc<Jails>,
    names: Vec<JailName>,
    /// A message that has the arguments of the answer.
    arguments: Message,
}

impl Objects {
    /// Over the jails that `desk` knows.
    pub fn new(desk: Arc<Desk>, all: Arc<Prepared>) -> Objects {
        Objects { desk, all, turn: Mutex::default() }
    }

    async fn answer(&self, connection: &Connection, call: &Header<'_>) -> Result<(), Refusal> {
        let _turn = self.turn.lock().await;
        let all = self.all.read(&self.desk).await?;
        Ok(connection.send(&sys::answer_like(call, &all)?).await?)
    }
}

impl Prepared {
    async fn read(&self, desk: &Desk) -> Result<Message, Refusal> {
        let mut written = self.0.lock().await;
        let views = desk.views.jails().await?;
        let names: Vec<JailName> = desk.jails().into_iter().collect();
        if let Some(last) = written.as_mut().filter(|last| last.names == names)
            && (Arc::ptr_eq(&last.views, &views) || last.views == views)
        {
            last.views = views;
            return Ok(last.arguments.clone());
        }
        let mut objects = ManagedObjects::new();
        for name in &names {
            let Some(view) = views.get(name) else { continue };
            objects.insert(path::of_jail(name), HashMap::from([(Jail::name().into(), Jail::properties(view)?)]));
        }
        let arguments = Message::signal(super::PATH, NAME, "All").build(&objects)?;
        *written = Some(Written { views, names, arguments: arguments.clone() });
        Ok(arguments)
    }
}

#[async_trait]
impl Interface for Objects {
    fn name() -> InterfaceName<'static> {
        NAME
    }

    async fn get(
        &self,
        _property: &str,
        _server: &ObjectServer,
        _connection: &Connection,
        _call: Option<&Header<'_>>,
        _emitter: &SignalEmitter<'_>,
    ) -> Option<Result<OwnedVariant, BoxDBusError>> {
        None
    }

    async fn get_all(
        &self,
        _server: &ObjectServer,
        _connection: &Connection,
        _call: Option<&Header<'_>>,
        _emitter: &SignalEmitter<'_>,
    ) -> fdo::Result<Properties> {
        Ok(Properties::new())
    }

    async fn set_mut(
        &mut self,
        _property: &str,
        _value: &Variant<'_>,
        _server: &ObjectServer,
        _connection: &Connection,
        _call: Option<&Header<'_>>,
        _emitter: &SignalEmitter<'_>,
    ) -> Option<Result<(), BoxDBusError>> {
        None
    }

    fn call<'call>(
        &'call self,
        _server: &'call ObjectServer,
        connection: &'call Connection,
        message: &'call Message,
        name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        if name != "GetManagedObjects" {
            return DispatchResult::NotFound;
        }
        DispatchResult::Async(Box::pin(async move {
            self.answer(connection, &message.header()).await.map_err(|refusal| Box::new(refusal) as BoxDBusError)
        }))
    }

    fn call_mut<'call>(
        &'call mut self,
        _server: &'call ObjectServer,
        _connection: &'call Connection,
        _message: &'call Message,
        _name: MemberName<'call>,
    ) -> DispatchResult<'call> {
        DispatchResult::NotFound
    }

    fn introspect_to_writer(&self, writer: &mut dyn Write, level: usize) {
        for line in DESCRIPTION.lines() {
            // It is a String, which takes everything.
            let _ = writeln!(writer, "{:level$}{line}", "");
        }
    }
}

/// Tells everybody that a jail's object is there.
pub async fn tell_added(connection: &Connection, name: &JailName, properties: Properties) -> zbus::Result<()> {
    let interfaces = BTreeMap::from([(Jail::name(), properties)]);
    emit(connection, "InterfacesAdded", &(path::of_jail(name), interfaces)).await
}

/// Tells everybody that a jail's object is gone.
pub async fn tell_removed(connection: &Connection, name: &JailName) -> zbus::Result<()> {
    emit(connection, "InterfacesRemoved", &(path::of_jail(name), [Jail::name()].as_slice())).await
}

async fn emit<B>(connection: &Connection, signal: &str, arguments: &B) -> zbus::Result<()>
where
    B: serde::Serialize + zbus::DynamicType,
{
    SignalEmitter::new(connection, super::PATH)?.emit(NAME, signal, arguments).await
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
