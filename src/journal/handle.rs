//! The loop's end of the line to the reader's thread.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use tokio::sync::{mpsc, oneshot};

use super::bell::Bell;
use super::line::{Line, Order};
use super::reader::Reader;
use super::{Examine, JournalError, News, Plan};

/// A running reader. Dropping it asks the thread to end and does not wait for it.
pub struct Handle {
    bell: Arc<Bell>,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Opens the journal in a thread of its own and reads as `plan` says, examining with `examine` and telling `out`.
    /// Blocks until the journal is open. The thread ends by itself when the receiver of `out` is gone; should `examine`
    /// panic, it ends without [`News::End`].
    ///
    /// # Errors
    /// The thread cannot be made, or the journal cannot be opened or positioned.
    pub fn spawn(plan: Plan, examine: Box<dyn Examine>, out: mpsc::Sender<News>) -> Result<Handle, JournalError> {
        let bell = Arc::new(Bell::new()?);
        let (orders, inbox) = channel();
        let (opened, result) = sync_channel(1);
        let line = Line::new(Arc::clone(&bell), inbox, out);
        let thread = Builder::new().name("journal".into()).spawn(move || match Reader::open(plan, examine, line) {
            Ok(reader) => {
                if opened.send(Ok(())).is_ok() {
                    reader.run();
                }
            }
            Err(unopened) => drop(opened.send(Err(unopened.error))),
        })?;
        let handle = Handle { bell, orders, thread: Some(thread) };
        match result.recv() {
            Ok(Ok(())) => Ok(handle),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(JournalError::System(std::io::Error::other("the thread died while it opened the journal"))),
        }
    }

    /// As [`Handle::spawn`], for a journal that need not be there yet: does not wait for it. The thread tells
    /// [`News::Failed`] once if it cannot be opened, and tries again until it is [`News::Reopened`]; with [`Plan::once`]
    /// it tells [`News::End`] instead. A journal that was not there is read from its head, not from [`Start::Recent`].
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn spawn_patient(
        plan: Plan,
        examine: Box<dyn Examine>,
        out: mpsc::Sender<News>,
    ) -> Result<Handle, JournalError> {
        let bell = Arc::new(Bell::new()?);
        let (orders, inbox) = channel();
        let line = Line::new(Arc::clone(&bell), inbox, out);
        let thread = Builder::new().name("journal".into()).spawn(move || {
            // Where it was stopped before there was a journal, there is nothing to run.
            if let Ok(reader) = Reader::open_patiently(plan, examine, line) {
                reader.run();
            }
        })?;
        Ok(Handle { bell, orders, thread: Some(thread) })
    }

    /// Examines with `examine` from some entry on, which [`News::Replaced`] names; no entry is lost or comes twice.
    pub fn replace(&self, examine: Box<dyn Examine>) {
        // A thread that has ended needs no successor.
        let _ = self.orders.send(Order::Replace(examine));
        self.bell.ring();
    }

    /// Asks which sessions are open: [`News::Saved`] follows.
    pub fn save(&self) {
        // A thread that has ended has told all it knew.
        let _ = self.orders.send(Order::Save);
        self.bell.ring();
    }

    /// Resolves when the thread has come round: at once while it waits, after a batch while it reads. Never while the
    /// thread hangs, and with an error when it has ended.
    pub fn probe(&self) -> oneshot::Receiver<()> {
        let (answer, receiver) = oneshot::channel();
        let _ = self.orders.send(Order::Probe(answer));
        self.bell.ring();
        receiver
    }

    /// Asks the thread to end; it does so at the next entry, also while the channel is full.
    pub fn stop(&self) {
        self.bell.stop();
    }

    /// Waits until the thread has ended. `false` if it panicked.
    pub fn join(mut self) -> bool {
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // `join` waits for an end that others have asked for.
        if self.thread.is_some() {
            self.stop();
        }
    }
}
