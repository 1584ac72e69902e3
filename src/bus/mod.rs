//! `org.banish1` on D-Bus: commands and questions come in as requests, news goes out to subscribers; nothing with an
//! address is ever broadcast, and no message from the bus can make the deciding loop wait.
//!
//! The loop answers [`Request`]s and calls [`Bus`]'s methods, none of which waits. Programs that ask use [`proxy`].

mod allowance;
mod desk;
mod gate;
mod herald;
mod jail;
mod line;
mod manager;
mod objects;
mod path;
mod polkit;
mod properties;
pub mod proxy;
pub mod refusal;
pub mod request;
mod subscribers;
mod sys;
mod tally;
mod views;
mod wire;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use zbus::address::transport::{Transport, UnixSocket};
use zbus::connection::Builder;
use zbus::fdo::RequestNameFlags;
use zbus::{Address, Connection, ObjectPath};

pub use gate::{CALLS_IN_ALL, CALLS_PER_SENDER, CALLS_PER_USER};
pub use manager::ROWS;
pub use refusal::Refusal;
pub use request::{
    Answer, Attempted, BanRow, Configuration, FirewallState, JailView, ManagerView, Page, Problem, Request, Severity,
};
pub use subscribers::News;

use crate::engine::ban::JailName;
use desk::Desk;
use gate::Line;
use herald::Herald;
use jail::Jail;
use line::Post;
use manager::Manager;
use objects::{Objects, Prepared};

/// The name that the daemon owns on the bus.
pub const NAME: &str = "org.banish1";
/// The name of the same objects on a connection that root alone may call: what others send cannot be before it there.
pub const NAME_FOR_ROOT: &str = "org.banish1.Root";
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
    /// A client's connection there that is not made yet.
    pub fn builder(&self) -> Builder<'static> {
        match self {
            BusAddress::System => Builder::system(),
            BusAddress::Address(address) => Builder::address(address.as_str()),
        }
    }

    /// A socket there to which nothing has been said.
    async fn connect(&self) -> zbus::Result<UnixStream> {
        let address = match self {
            BusAddress::System => Address::system()?,
            BusAddress::Address(address) => address.parse()?,
        };
        let Transport::Unix(unix) = address.transport() else { return Err(zbus::Error::Unsupported) };
        match unix.path() {
            UnixSocket::File(path) => Ok(UnixStream::connect(path).await?),
            UnixSocket::Abstract(name) => {
                let address = SocketAddr::from_abstract_name(name.as_encoded_bytes())?;
                let stream = std::os::unix::net::UnixStream::connect_addr(&address)?;
                stream.set_nonblocking(true)?;
                Ok(UnixStream::from_std(stream)?)
            }
            _ => Err(zbus::Error::Unsupported),
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
    /// With root's name, unless the bus does not give it.
    for_root: Option<Connection>,
    desk: Arc<Desk>,
    herald: Arc<Herald>,
    /// Ended with it.
    _tasks: JoinSet<()>,
}

impl Bus {
    /// Registers the manager's object and one for each of `jails` (the built-in one too), then takes the names. Commands
    /// and questions come over `requests`; nothing is asked before this returns.
    ///
    /// # Errors
    /// Where the bus cannot be reached or does not give the name; the daemon may try again later.
    pub async fn serve(
        address: &BusAddress,
        requests: mpsc::Sender<Request>,
        jails: &[JailName],
    ) -> Result<Bus, BusError> {
        let (post, strangers) = Post::new();
        let desk = Arc::new(Desk::new(requests, jails, Arc::clone(&post)));
        let all = Arc::default();
        let connection = open(address, 0, &post, &desk, &all).await.map_err(BusError::Connect)?;
        let for_root = open(address, 1, &post, &desk, &all).await.map_err(BusError::Connect)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&post).ask(for_root.clone(), strangers));
        tasks.spawn(post.refuse());
        desk.ask_over(Some(for_root.clone()));
        // First root's: who sees the other one sees both.
        let for_root = match for_root.request_name_with_flags(NAME_FOR_ROOT, RequestNameFlags::DO_NOT_QUEUE).await {
            Ok(_) => Some(for_root),
            Err(error) => {
                tracing::debug!(%error, "the bus does not give the name {NAME_FOR_ROOT}");
                None
            }
        };
        match connection.request_name_with_flags(NAME, RequestNameFlags::DO_NOT_QUEUE).await {
            Ok(_) => {}
            Err(zbus::Error::NameTaken) => return Err(BusError::NameTaken),
            Err(error) => return Err(BusError::Name(error)),
        }
        let herald = Arc::new(Herald::default());
        let served = [Some(connection.clone()), for_root.clone()].into_iter().flatten().collect();
        tasks.spawn(Arc::clone(&herald).keep_objects(served, Arc::clone(&desk), desk.jails()));
        tasks.spawn(Arc::clone(&herald).tell_changes(connection.clone(), Arc::clone(&desk)));
        Ok(Bus { connection, for_root, desk, herald, _tasks: tasks })
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
        let for_root = async {
            match &self.for_root {
                Some(connection) => connection.closed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.connection.closed() => {}
            () = for_root => {}
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.desk.subscribers.clear();
        self.desk.ask_over(None);
    }
}

/// Connects and serves all objects there; `line` is the connection's number at `post`.
async fn open(
    address: &BusAddress,
    line: Line,
    post: &Arc<Post>,
    desk: &Arc<Desk>,
    all: &Arc<Prepared>,
) -> zbus::Result<Connection> {
    let mut builder = Builder::socket(post.halves(line, address.connect().await?))
        .serve_at(PATH, Manager::new(Arc::clone(desk)))
        .serve_at(PATH, Objects::new(Arc::clone(desk), Arc::clone(all)));
    for name in desk.jails() {
        builder = builder.serve_at(path::of_jail(&name), Jail::new(Arc::clone(desk), name));
    }
    let connection = builder.build().await?;
    properties::serve::<Manager>(&connection, &ObjectPath::from_static_str(PATH)?).await?;
    for name in desk.jails() {
        properties::serve::<Jail>(&connection, &path::of_jail(&name)).await?;
    }
    Ok(connection)
}
