//! What must outlive the process: the cursor and what was decided up to it, in one SQLite file.
//!
//! The cursor and the rows decided up to it change in one transaction, and applying a transaction again changes nothing.

mod aside;
mod error;
mod evidence;
mod read;
mod reinstate;
mod salvage;
mod schema;
mod store;
mod transaction;
mod write;

pub use error::{LedgerError, OpenError};
pub use read::{Past, Restored};
pub use salvage::Salvaged;
pub use store::{FILE, Store};
pub use transaction::{Attempt, Change, Checkpoint, Durability, Key, Moment, Sessions, Snapshot, Transaction};

use std::path::PathBuf;
use std::sync::Arc;
use std::{io, thread};

use tokio::sync::{mpsc, oneshot};

use crate::engine::subject::Subject;
use crate::engine::time::Stamp;

/// How many requests wait for the thread before the next asker waits too.
const QUEUE: usize = 64;

/// The thread that owns the [`Store`].
pub struct Ledger;

impl Ledger {
    /// Starts the thread; it ends, and closes the file, when the last [`Handle`] is gone or after [`Handle::close`].
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub fn spawn(store: Store) -> io::Result<Handle> {
        let (requests, queue) = mpsc::channel(QUEUE);
        thread::Builder::new().name("ledger".into()).spawn(move || serve(store, queue))?;
        Ok(Handle { requests })
    }
}

/// What the loop asks the ledger by. Requests are served one after another in the order they were made.
#[derive(Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
}

enum Request {
    Commit(Arc<Transaction>, Durability, Reply<()>),
    Reinstate(Stamp, Reply<Option<PathBuf>>),
    History(Subject, u32, Reply<Vec<Past>>),
    Purge(Stamp, Reply<u64>),
    Ping(Reply<()>),
    Close(Reply<()>),
}

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

impl Handle {
    /// Applies `transaction` as a whole or not at all. Whoever wants to try again keeps a clone of the `Arc`.
    ///
    /// # Errors
    /// Where nothing was written; the store stays usable and a later commit may succeed.
    pub async fn commit(
        &self,
        transaction: impl Into<Arc<Transaction>>,
        durability: Durability,
    ) -> Result<(), LedgerError> {
        let transaction = transaction.into();
        self.ask(|reply| Request::Commit(transaction, durability, reply)).await
    }

    /// Writes a ledger whose file was deleted or replaced anew under its name: what a [`LedgerError::Lost`] asks for.
    /// Gives where a file that was found there is kept.
    ///
    /// # Errors
    /// As [`Store::reinstate`].
    pub async fn reinstate(&self, now: Stamp) -> Result<Option<PathBuf>, LedgerError> {
        self.ask(|reply| Request::Reinstate(now, reply)).await
    }

    /// The bans of exactly this subject in any jail, the latest first, at most `limit`.
    ///
    /// # Errors
    /// Where the file cannot be read or the thread is gone.
    pub async fn history(&self, subject: Subject, limit: u32) -> Result<Vec<Past>, LedgerError> {
        self.ask(|reply| Request::History(subject, limit, reply)).await
    }

    /// Forgets what ended before `before`; gives the number of rows. Commits go on between its steps.
    ///
    /// # Errors
    /// Where the file cannot be written or the thread is gone.
    pub async fn purge(&self, before: Stamp) -> Result<u64, LedgerError> {
        let mut purged = 0;
        loop {
            match self.ask(|reply| Request::Purge(before, reply)).await? {
                0 => return Ok(purged),
                some => purged += some,
            }
        }
    }

    /// Has the thread served all that was asked before, and does it live? Waits as long as that takes.
    pub async fn alive(&self) -> bool {
        self.ask(Request::Ping).await.is_ok()
    }

    /// Closes the file after all that was asked before; every later request gets [`LedgerError::Gone`].
    ///
    /// # Errors
    /// Where SQLite cannot close the file cleanly; what was committed is safe all the same.
    pub async fn close(self) -> Result<(), LedgerError> {
        self.ask(Request::Close).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| LedgerError::Gone)?;
        answer.await.map_err(|_| LedgerError::Gone)?
    }
}

/// An asker who went away needs no answer: that a reply finds nobody is no failure.
fn serve(mut store: Store, mut queue: mpsc::Receiver<Request>) {
    while let Some(request) = queue.blocking_recv() {
        match request {
            Request::Commit(transaction, durability, reply) => {
                drop(reply.send(store.commit(&transaction, durability)));
            }
            Request::Reinstate(now, reply) => drop(reply.send(store.reinstate(now))),
            Request::History(subject, limit, reply) => drop(reply.send(store.history(subject, limit))),
            Request::Purge(before, reply) => drop(reply.send(store.purge(before))),
            Request::Ping(reply) => drop(reply.send(Ok(()))),
            Request::Close(reply) => {
                queue.close();
                drop(reply.send(store.close()));
                return;
            }
        }
    }
}
