//! `org.banish1` on D-Bus: commands and questions come in as requests, news goes out to subscribers; nothing with an
//! address is ever broadcast, and no message from the bus can make the deciding loop wait.
//!
//! The loop answers [`Request`]s and calls [`Bus`]'s methods, none of which waits. Programs that ask use [`proxy`].

mod desk;
mod herald;
mod jail;
mod manager;
mod objects;
mod path;
mod polkit;
mod properties;
pub mod proxy;
pub mod refusal;
pub mod request;
mod subscribers;
mod tally;
mod views;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use zbus::connection::Builder;
use zbus::fdo::RequestNameFlags;
use zbus::{Connection, ObjectPath};

pub use desk::{CALLS_IN_ALL, CALLS_PER_SENDER, CALLS_PER_USER};
pub use manager::ROWS;
pub use refusal::Refusal;
pub use request::{Answer, Attempted, BanRow, FirewallState, JailView, ManagerView, Page, Problem, Request, Severity};
pub use subscribers::News;

use crate::engine::ban::JailName;
use desk::Desk;
use herald::Herald;
use jail::Jail;
use manager::Manager;
use objects::Objects;

/// The name that the daemon owns on the bus.
pub const NAME: &str = "org.banish1";
/// The object with `org.banish1.Manager`.
pub const PATH: &str = "/org/banish1";

/// Which bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BusAddress {
    /// The system's, or what `DBUS_SYSTEM_BUS_ADDRESS` says.
    #[default]
    System,
    /// One at an address as the D-Bus specification writes it: `unix:path=…`.
    Address(String),
}

impl BusAddress {
    /// A connection there that is not made yet.
    pub fn builder(&self) -> Builder<'static> {
        match self {
            BusAddress::System => Builder::system(),
            BusAddress::Address(address) => Builder::address(address.as_str()),
        }
    }
}

/// Why the daemon is not on the bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is no bus, or it does not let us in.
    #[error("cannot connect to the bus")]
    Connect(#[source] zbus::Error),
    /// It takes the connection and then says nothing.
    #[error("the bus does not answer")]
    Silent,
    /// Another process has the name.
    #[error("the name {NAME} is taken on the bus: is another banishd running?")]
    NameTaken,
    /// The bus's policy gives the name to somebody else, or another failure to get it.
    #[error("cannot own the name {NAME} on the bus: is org.banish1.conf installed, and is this its user?")]
    Name(#[source] zbus::Error),
}

/// The daemon's place on the bus. Dropped, it leaves.
///
/// To live, it needs the tokio runtime that [`Bus::serve`] was called in.
#[derive(Debug)]
pub struct Bus {
    connection: Connection,
    desk: Arc<Desk>,
    herald: Arc<Herald>,
    /// Ended with it.
    _tasks: JoinSet<()>,
}

impl Bus {
    /// Registers the manager's object and one for each of `jails` (the built-in one too), then takes the name. Commands and questions come
    /// over `requests`; nothing is asked before this returns.
    ///
    /// # Errors
    /// Where the bus cannot be reached or does not give the name; the daemon may try again later.
    pub async fn serve(
        address: &BusAddress,
        requests: mpsc::Sender<Request>,
        jails: &[JailName],
    ) -> Result<Bus, BusError> {
        let desk = Arc::new(Desk::new(requests, jails));
        let mut builder = address
            .builder()
            .serve_at(PATH, Manager::new(Arc::clone(&desk)))
            .serve_at(PATH, Objects::new(Arc::clone(&desk)));
        for name in desk.jails() {
            builder = builder.serve_at(path::of_jail(&name), Jail::new(Arc::clone(&desk), name));
        }
        let connection = builder.build().await.map_err(BusError::Connect)?;
        let own = async {
            properties::serve::<Manager>(&connection, &ObjectPath::from_static_str(PATH)?).await?;
            for name in desk.jails() {
                properties::serve::<Jail>(&connection, &path::of_jail(&name)).await?;
            }
            Ok(())
        };
        own.await.map_err(BusError::Connect)?;
        match connection.request_name_with_flags(NAME, RequestNameFlags::DO_NOT_QUEUE).await {
            Ok(_) => {}
            Err(zbus::Error::NameTaken) => return Err(BusError::NameTaken),
            Err(error) => return Err(BusError::Name(error)),
        }
        let herald = Arc::new(Herald::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&herald).keep_objects(connection.clone(), Arc::clone(&desk), desk.jails()));
        tasks.spawn(Arc::clone(&herald).tell_changes(connection.clone(), Arc::clone(&desk)));
        Ok(Bus { connection, desk, herald, _tasks: tasks })
    }

    /// Tells subscribers, and by and by everybody who watches counts.
    pub fn announce(&self, news: News<'_>) {
        self.desk.subscribers.announce(news);
        self.changed();
    }

    /// Tells everybody that a reload ended: `text` says what was wrong, or what changed. No addresses in it.
    pub fn reloaded(&self, ok: bool, text: &str) {
        self.herald.reloaded(ok, text);
        self.changed();
    }

    /// From now on these are the jails: objects come and go, and that is told.
    pub fn set_jails(&self, jails: &[JailName]) {
        self.desk.set_jails(jails);
        self.desk.views.expire();
        self.herald.jails_changed();
    }

    /// Something that properties show has changed: the firewall's state, the catch-up, a setting. What changed is
    /// found out and told, at most once a second.
    pub fn changed(&self) {
        self.desk.views.expire();
        self.herald.properties_changed();
    }

    /// Returns when the bus is gone. Then this is useless: drop it, and [`Bus::serve`] anew after a while.
    pub async fn lost(&self) {
        self.connection.closed().await;
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.desk.subscribers.clear();
    }
}
