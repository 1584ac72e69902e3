//! The running daemon, over its bus. It is never started by being asked.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result};
use zbus::names::{BusName, InterfaceName};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, fdo};

use super::args::Global;
use super::ending::{NotRunning, refused};
use crate::bus::proxy::{Finding, JailProxy, ListedBan, ManagerProxy};
use crate::bus::{NAME, NAME_FOR_ROOT, PATH, Refusal};
use crate::engine::ban::JailName;

/// The right to see addresses.
pub const INSPECT: &str = "org.banish1.inspect";
/// The right to ban.
pub const BAN: &str = "org.banish1.ban";
/// The right to lift bans.
pub const UNBAN: &str = "org.banish1.unban";
/// The right to reload and the like.
pub const MANAGE: &str = "org.banish1.manage";

/// The right to tell of failed logins.
pub const ATTEMPT: &str = "org.banish1.attempt";

/// Somebody may have to type a password meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);
const NO_BUS: &str = "cannot speak to the bus";

/// A connection to the daemon.
#[derive(Clone, Debug)]
pub struct Daemon {
    connection: Connection,
    /// What it is called by.
    name: &'static str,
    /// Its main object.
    pub manager: ManagerProxy<'static>,
}

impl Daemon {
    /// Reaches it; as root by the name at which nobody else can be before us.
    ///
    /// # Errors
    /// No bus, or [`NotRunning`].
    pub async fn reach(global: &Global) -> Result<Daemon> {
        let connection = connect(global).await?;
        let bus = fdo::DBusProxy::new(&connection).await.context(NO_BUS)?;
        let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if root && bus.name_has_owner(BusName::try_from(NAME_FOR_ROOT)?).await.context(NO_BUS)? {
            return Daemon::named(connection, NAME_FOR_ROOT).await;
        }
        Daemon::at(connection, NAME).await
    }

    /// Reaches it by the name that its news come from.
    ///
    /// # Errors
    /// No bus, or [`NotRunning`].
    pub async fn listen(global: &Global) -> Result<Daemon> {
        Daemon::at(connect(global).await?, NAME).await
    }

    async fn at(connection: Connection, name: &'static str) -> Result<Daemon> {
        let daemon = Daemon::named(connection, name).await?;
        if daemon.is_there().await? { Ok(daemon) } else { Err(NotRunning.into()) }
    }

    async fn named(connection: Connection, name: &'static str) -> Result<Daemon> {
        let manager = ManagerProxy::builder(&connection)
            .destination(name)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .context("cannot speak to banishd")?;
        Ok(Daemon { connection, name, manager })
    }

    /// Does it own its name?
    ///
    /// # Errors
    /// Where the bus does not answer.
    pub async fn is_there(&self) -> Result<bool> {
        let bus = fdo::DBusProxy::new(&self.connection).await.context(NO_BUS)?;
        bus.name_has_owner(BusName::try_from(self.name)?).await.context(NO_BUS)
    }

    /// The manager's properties.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn properties(&self) -> Result<Properties> {
        self.properties_of(PATH, "org.banish1.Manager").await
    }

    /// What is wrong or doubtful.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn findings(&self) -> Result<Vec<Finding>> {
        self.manager.check().await.map_err(|refusal| refused(INSPECT, refusal))
    }

    /// The jails that do not run because the configuration is in error.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn left_out(&self) -> Result<Vec<String>> {
        self.properties().await?.take("LeftOut")
    }

    /// The properties of one jail.
    ///
    /// # Errors
    /// What the daemon refuses, an unknown jail among it.
    pub async fn jail(&self, name: &JailName) -> Result<Properties> {
        let jail = self.jail_object(name, INSPECT).await?;
        let path = jail.inner().path().to_string();
        self.properties_of(&path, "org.banish1.Jail").await
    }

    /// The object of one jail, for something that needs the right `action`.
    ///
    /// # Errors
    /// What the daemon refuses, an unknown jail among it.
    pub async fn jail_object(&self, name: &JailName, action: &'static str) -> Result<JailProxy<'static>> {
        let path: zbus::Result<OwnedObjectPath> = self.manager.inner().call("GetJail", &name.as_str()).await;
        let path = path.map_err(|error| refused(action, Refusal::from(error)))?;
        Ok(JailProxy::builder(&self.connection).destination(self.name).path(path).build().await?)
    }

    /// The properties of every jail, in the order of their names.
    ///
    /// # Errors
    /// What the daemon refuses.
    pub async fn jails(&self) -> Result<Vec<Properties>> {
        let objects =
            fdo::ObjectManagerProxy::builder(&self.connection).destination(self.name).path(PATH).build().await?;
        let objects = objects.get_managed_objects().await.map_err(of_the_bus)?;
        let jail = |interfaces: HashMap<_, _>| interfaces.into_iter().find(|(name, _)| *name == "org.banish1.Jail");
        let mut jails: Vec<(String, Properties)> = objects
            .into_iter()
            .filter_map(|(path, interfaces)| Some((path.to_string(), Properties(jail(interfaces)?.1))))
            .collect();
        jails.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(jails.into_iter().map(|(_, properties)| properties).collect())
    }

    async fn properties_of(&self, path: &str, interface: &'static str) -> Result<Properties> {
        let proxy = fdo::PropertiesProxy::builder(&self.connection).destination(self.name).path(path).build().await?;
        let properties = proxy.get_all(InterfaceName::try_from(interface)?).await.map_err(of_the_bus)?;
        Ok(Properties(properties))
    }

    /// Gives all bans of `jail`, or of all jails, to `each`, page by page in their order.
    ///
    /// # Errors
    /// What the daemon refuses, and what `each` fails with.
    pub async fn bans(&self, jail: Option<&JailName>, mut each: impl FnMut(ListedBan) -> Result<()>) -> Result<()> {
        let jail = jail.map_or("", JailName::as_str);
        let mut after = String::new();
        loop {
            let page = self.manager.list_bans(jail, &after, 0).await.map_err(|refusal| refused(INSPECT, refusal))?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.position();
            page.into_iter().try_for_each(&mut each)?;
        }
    }
}

async fn connect(global: &Global) -> Result<Connection> {
    let builder = global.bus_address.builder().method_timeout(PATIENCE);
    builder.build().await.context("cannot connect to the bus")
}

fn of_the_bus(error: fdo::Error) -> anyhow::Error {
    refused(INSPECT, Refusal::from(zbus::Error::from(error)))
}

/// An object's properties, each taken once.
#[derive(Debug)]
pub struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    /// The value of the property `name`.
    ///
    /// # Errors
    /// Where the daemon, of another version, does not have it so.
    pub fn take<T: TryFrom<OwnedVariant>>(&mut self, name: &str) -> Result<T> {
        let value = self.0.remove(name).and_then(|value| T::try_from(value).ok());
        value.with_context(|| format!("banishd does not tell {name}: is it of another version than banishctl?"))
    }
}
