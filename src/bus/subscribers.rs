//! Who wants to hear of bans: each subscriber has a queue of its own and gets signals sent to it alone.
//!
//! One that has left the bus, or whose queue is full, is forgotten; nobody waits for anybody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use tokio::sync::mpsc;
use zbus::names::{BusName, OwnedUniqueName};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, MatchRule, MessageStream};

use super::PATH;
use super::manager::Manager;
use super::refusal::Refusal;
use super::tally::{Slot, Tally};
use crate::engine::ban::{Ban, End, Place};

/// The most news that may wait for one subscriber.
const QUEUE: usize = 1024;
/// The most subscribers of one user.
const PER_USER: usize = 16;
/// The most subscribers of all users, root excepted.
const IN_ALL: usize = 128;

/// What subscribers hear.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// Somebody was banned.
    Banned(&'a Ban),
    /// A ban ended.
    Unbanned {
        /// Whose.
        place: &'a Place,
        /// How.
        end: End,
    },
}

/// A piece of news as it goes over the bus, shared by all queues.
#[derive(Debug)]
enum Bulletin {
    Banned { jail: String, subject: String, until: u64, count: u32, cause: String },
    Unbanned { jail: String, subject: String, cause: &'static str },
}

/// All of them.
#[derive(Debug)]
pub struct Subscribers {
    queues: Mutex<BTreeMap<OwnedUniqueName, Entry>>,
    users: Tally<u32>,
    all: Tally<()>,
}

#[derive(Debug)]
struct Entry {
    queue: mpsc::Sender<Arc<Bulletin>>,
    _slots: (Slot<u32>, Option<Slot<()>>),
}

impl Default for Subscribers {
    fn default() -> Subscribers {
        Subscribers { queues: Mutex::default(), users: Tally::new(), all: Tally::new() }
    }
}

impl Subscribers {
    /// Sends `name` everything from now on. Asked twice, once is enough.
    pub async fn add(
        self: &Arc<Self>,
        connection: &Connection,
        name: OwnedUniqueName,
        uid: u32,
    ) -> Result<(), Refusal> {
        let Some(queue) = self.enlist(&name, uid)? else { return Ok(()) };
        // First watch, then look: between the two the subscriber cannot leave unseen.
        match watch(connection, &name).await {
            Ok(Some(departures)) => {
                tokio::spawn(Arc::clone(self).deliver(connection.clone(), name, queue, departures));
                Ok(())
            }
            Ok(None) => {
                self.remove(&name);
                Ok(())
            }
            Err(error) => {
                self.remove(&name);
                Err(Refusal::Bus(error))
            }
        }
    }

    /// Sends `name` nothing more.
    pub fn remove(&self, name: &OwnedUniqueName) {
        self.lock().remove(name);
    }

    /// Forgets everybody: their tasks end.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Queues `news` for everybody. Does not wait: whose queue is full is no subscriber any more.
    pub fn announce(&self, news: News<'_>) {
        let mut queues = self.lock();
        if queues.is_empty() {
            return;
        }
        let bulletin = Arc::new(Bulletin::from(news));
        queues.retain(|name, entry| match entry.queue.try_send(Arc::clone(&bulletin)) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(subscriber = %name, %error, "a subscriber does not keep up and hears no more");
                false
            }
        });
    }

    /// A queue for a new one; `None` for one that has one.
    fn enlist(&self, name: &OwnedUniqueName, uid: u32) -> Result<Option<mpsc::Receiver<Arc<Bulletin>>>, Refusal> {
        let mut queues = self.lock();
        if queues.contains_key(name) {
            return Ok(None);
        }
        let full = || Refusal::LimitsExceeded(format!("user {uid} has {PER_USER} subscribers already"));
        let slot = self.users.take(uid, PER_USER).ok_or_else(full)?;
        let full = || Refusal::LimitsExceeded(format!("there are {IN_ALL} subscribers already"));
        let others = if uid == 0 { None } else { Some(self.all.take((), IN_ALL).ok_or_else(full)?) };
        let (queue, receiver) = mpsc::channel(QUEUE);
        queues.insert(name.clone(), Entry { queue, _slots: (slot, others) });
        Ok(Some(receiver))
    }

    async fn deliver(
        self: Arc<Self>,
        connection: Connection,
        name: OwnedUniqueName,
        mut queue: mpsc::Receiver<Arc<Bulletin>>,
        mut departures: MessageStream,
    ) {
        let Ok(emitter) = SignalEmitter::new(&connection, PATH) else { return };
        let emitter = emitter.set_destination(BusName::Unique(name.inner().clone()));
        loop {
            let bulletin = tokio::select! {
                bulletin = queue.recv() => bulletin,
                _ = departures.next() => None,
            };
            let Some(bulletin) = bulletin else { break };
            if let Err(error) = bulletin.send(&emitter).await {
                tracing::debug!(%error, subscriber = %name, "news could not be sent");
                break;
            }
        }
        // Only this queue's entry goes: the subscriber may have left and come back with another queue.
        queue.close();
        let mut queues = self.lock();
        if queues.get(&name).is_some_and(|entry| entry.queue.is_closed()) {
            queues.remove(&name);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<OwnedUniqueName, Entry>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<News<'_>> for Bulletin {
    fn from(news: News<'_>) -> Bulletin {
        match news {
            News::Banned(ban) => Bulletin::Banned {
                jail: ban.place.jail.to_string(),
                subject: ban.place.subject.to_string(),
                until: ban.until.usec(),
                count: ban.failures,
                cause: ban.cause.to_string(),
            },
            News::Unbanned { place, end } => Bulletin::Unbanned {
                jail: place.jail.to_string(),
                subject: place.subject.to_string(),
                cause: end.word(),
            },
        }
    }
}

impl Bulletin {
    async fn send(&self, to: &SignalEmitter<'_>) -> zbus::Result<()> {
        match self {
            Bulletin::Banned { jail, subject, until, count, cause } => {
                Manager::banned(to, jail, subject, *until, *count, cause).await
            }
            Bulletin::Unbanned { jail, subject, cause } => Manager::unbanned(to, jail, subject, cause).await,
        }
    }
}

/// Yields something when `name` leaves the bus; `None` where it has left already.
async fn watch(connection: &Connection, name: &OwnedUniqueName) -> zbus::Result<Option<MessageStream>> {
    let bus = "org.freedesktop.DBus";
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(bus)
        .interface(bus)
        .member("NameOwnerChanged")
        .arg(0, name.as_str())
        .arg(2, "")
        .build()?;
    let departures = MessageStream::for_match_rule(rule, connection, None).await?;
    let reply = connection.call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "NameHasOwner", name).await?;
    let there: bool = reply.body().deserialize()?;
    Ok(there.then_some(departures))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> OwnedUniqueName {
        OwnedUniqueName::try_from(text).unwrap()
    }

    fn place() -> Place {
        Place { jail: "sshd".parse().unwrap(), subject: "192.0.2.1".parse().unwrap() }
    }

    #[test]
    fn who_does_not_keep_up_is_forgotten_and_others_are_not() {
        let subscribers = Subscribers::default();
        let _stuck = subscribers.enlist(&name(":1.1"), 7).unwrap().unwrap();
        let mut quick = subscribers.enlist(&name(":1.2"), 7).unwrap().unwrap();
        for _ in 0..=QUEUE {
            subscribers.announce(News::Unbanned { place: &place(), end: End::Expired });
            assert!(quick.try_recv().is_ok());
        }
        assert!(subscribers.enlist(&name(":1.1"), 7).unwrap().is_some(), "it was forgotten and may come anew");
        assert!(subscribers.enlist(&name(":1.2"), 7).unwrap().is_none(), "it still has its queue");
    }

    #[test]
    fn one_user_cannot_take_all_places() {
        let subscribers = Subscribers::default();
        let kept: Vec<_> = (0..PER_USER).map(|n| subscribers.enlist(&name(&format!(":1.{n}")), 7).unwrap()).collect();
        assert!(matches!(subscribers.enlist(&name(":1.99"), 7), Err(Refusal::LimitsExceeded(_))));
        assert!(subscribers.enlist(&name(":1.99"), 8).unwrap().is_some());
        drop(kept);
        subscribers.remove(&name(":1.0"));
        assert!(subscribers.enlist(&name(":1.100"), 7).unwrap().is_some());
    }

    #[test]
    fn all_users_together_leave_places_for_root() {
        let subscribers = Subscribers::default();
        let enlist = |n: usize, uid| subscribers.enlist(&name(&format!(":1.{n}")), uid);
        let kept: Vec<_> = (0..IN_ALL).map(|n| enlist(n, 1000 + (n / PER_USER) as u32).unwrap()).collect();
        assert!(matches!(enlist(IN_ALL, 7), Err(Refusal::LimitsExceeded(_))));
        assert!(enlist(IN_ALL, 0).unwrap().is_some());
        assert_eq!(kept.len(), IN_ALL);
    }
}
