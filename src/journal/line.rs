//! The reader's end of its line to the loop: news go out, orders come in, and neither is ever waited for without the
//! other being heard.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::bell::Bell;
use super::{Examine, News, sys};

/// What a [`super::Handle`] asks of the thread.
pub enum Order {
    /// Say that you go round.
    Probe(oneshot::Sender<()>),
    /// Examine with this from now on.
    Replace(Box<dyn Examine>),
    /// Tell which sessions are open.
    Save,
}

/// Why the thread ends: it was asked to, or nobody is there to hear it.
#[derive(Debug)]
pub struct Stopped;

/// The reader's end.
pub struct Line {
    bell: Arc<Bell>,
    orders: Receiver<Order>,
    out: mpsc::Sender<News>,
    successors: VecDeque<Box<dyn Examine>>,
    save: bool,
}

impl Line {
    /// A line of these parts.
    pub fn new(bell: Arc<Bell>, orders: Receiver<Order>, out: mpsc::Sender<News>) -> Line {
        Line { bell, orders, out, successors: VecDeque::new(), save: false }
    }

    /// Hands `news` to the loop, waiting while the channel is full.
    pub fn send(&mut self, news: News) -> Result<(), Stopped> {
        self.attend()?;
        let out = self.out.clone();
        let mut room = pin!(out.reserve());
        let waker = Waker::from(Arc::clone(&self.bell));
        loop {
            match room.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(Ok(permit)) => {
                    permit.send(news);
                    return Ok(());
                }
                Poll::Ready(Err(_)) => return Err(Stopped),
                Poll::Pending => {
                    // A failing poll(2) would make this a busy loop, not a wrong one; it cannot fail for one open fd.
                    let _ = sys::wait_readable([self.bell.descriptor()], None);
                    self.attend()?;
                }
            }
        }
    }

    /// Waits until `journal` is readable, an order comes or the time is over; says whether `journal` is readable.
    pub fn wait(&mut self, journal: Option<RawFd>, timeout: Option<Duration>) -> Result<io::Result<bool>, Stopped> {
        let out = self.out.clone();
        let mut closed = pin!(out.closed());
        let waker = Waker::from(Arc::clone(&self.bell));
        if closed.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return Err(Stopped);
        }
        // poll(2) passes over a negative descriptor.
        let ready = sys::wait_readable([journal.unwrap_or(-1), self.bell.descriptor()], timeout);
        self.attend()?;
        Ok(ready.map(|[journal, _]| journal))
    }

    /// Answers what can be answered at any moment, and keeps the rest.
    pub fn attend(&mut self) -> Result<(), Stopped> {
        self.bell.silence();
        if self.is_stopped() {
            return Err(Stopped);
        }
        while let Ok(order) = self.orders.try_recv() {
            match order {
                // Who asked may have given up waiting.
                Order::Probe(answer) => drop(answer.send(())),
                Order::Replace(examine) => self.successors.push_back(examine),
                Order::Save => self.save = true,
            }
        }
        Ok(())
    }

    /// Was the thread asked to end?
    pub fn is_stopped(&self) -> bool {
        self.bell.is_stopped()
    }

    /// Was it asked which sessions are open?
    pub fn is_to_save(&mut self) -> bool {
        std::mem::take(&mut self.save)
    }

    /// The next one to examine with, if one was ordered.
    pub fn successor(&mut self) -> Option<Box<dyn Examine>> {
        self.successors.pop_front()
    }
}
