//! `org.freedesktop.DBus.Properties` of our objects, which everybody may ask as often as he likes: one question after the
//! other is answered, and those behind it wait in the bus, at their senders' expense.
//!
//! zbus has one of its own on every object. It makes a task of each question, however many have not been answered, and
//! holds the tree of objects meanwhile; ours takes its place.

use std::marker::PhantomData;

use zbus::message::Header;
use zbus::names::InterfaceName;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{BoxDBusError, Connection, ObjectPath, ObjectServer, OwnedVariant, Variant, fdo, interface};

use super::desk::cut;
use super::objects;

/// The object's, whose properties are those of its interface `I`.
#[derive(Debug)]
pub struct Properties<I>(PhantomData<fn() -> I>);

/// An object that can show all its properties at once: one getter after the other costs ten times as much.
pub trait Shown: Interface {
    /// All of them by name.
    fn all(&self) -> impl Future<Output = fdo::Result<objects::Properties>> + Send;
}

/// Takes the place of zbus's own at `path`, where an `I` has been served.
pub async fn serve<I: Shown>(connection: &Connection, path: &ObjectPath<'_>) -> zbus::Result<()> {
    let server = connection.object_server();
    server.remove::<fdo::Properties, _>(path).await?;
    server.at(path, Properties::<I>(PhantomData)).await?;
    Ok(())
}

#[interface(name = "org.freedesktop.DBus.Properties", spawn = false, introspection_docs = false)]
impl<I: Shown> Properties<I> {
    async fn get(
        &self,
        interface_name: InterfaceName<'_>,
        property_name: &str,
        #[zbus(connection)] connection: &Connection,
        #[zbus(object_server)] server: &ObjectServer,
        #[zbus(header)] call: Header<'_>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<OwnedVariant, BoxDBusError> {
        if is_ours::<I>(&interface_name)? {
            let object = server.interface::<_, I>(emitter.path()).await?;
            let value = object.get().await.get(property_name, server, connection, Some(&call), &emitter).await;
            if let Some(value) = value {
                return value;
            }
        }
        let name = cut(property_name, 80);
        Err(fdo::Error::UnknownProperty(format!("{interface_name} has no property {name:?}")).into())
    }

    async fn set(
        &self,
        interface_name: InterfaceName<'_>,
        _property_name: &str,
        _value: Variant<'_>,
    ) -> fdo::Result<()> {
        Err(fdo::Error::PropertyReadOnly(format!("no property of {interface_name} can be written")))
    }

    // The last method before a signal has to end with an "out": busctl takes the direction of the arguments of a signal,
    // which have none, for that of the last method's, and complains of "in".
    #[zbus(out_args("props"))]
    async fn get_all(
        &self,
        interface_name: InterfaceName<'_>,
        #[zbus(connection)] connection: &Connection,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> Result<objects::Properties, BoxDBusError> {
        match is_ours::<I>(&interface_name)? {
            true => Ok(objects::of::<I>(connection, emitter.path()).await?),
            false => Ok(objects::Properties::new()),
        }
    }

    #[zbus(signal)]
    async fn properties_changed(
        emitter: &SignalEmitter<'_>,
        interface_name: InterfaceName<'_>,
        changed_properties: std::collections::HashMap<&str, Variant<'_>>,
        invalidated_properties: Vec<&str>,
    ) -> zbus::Result<()>;
}

/// Is it the interface whose properties we have? Those of the bus itself have none.
fn is_ours<I: Interface>(interface: &InterfaceName<'_>) -> fdo::Result<bool> {
    if *interface == I::name() {
        Ok(true)
    } else if interface.starts_with("org.freedesktop.DBus.") {
        Ok(false)
    } else {
        Err(fdo::Error::UnknownInterface(format!("no interface {interface} here")))
    }
}
