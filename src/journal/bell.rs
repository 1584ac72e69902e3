//! What wakes the reader's thread out of `poll`: from a handle, and from a channel that has room again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use super::sys;

/// Rung from any thread; heard as a readable descriptor until it is silenced.
pub struct Bell {
    counter: File,
    stopped: AtomicBool,
}

impl Bell {
    /// A silent bell.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell { counter: sys::event_counter()?, stopped: AtomicBool::new(false) })
    }

    /// Wakes the thread. A counter that is full has been rung before, so that a failure means nothing.
    pub fn ring(&self) {
        let _ = (&self.counter).write(&1u64.to_ne_bytes());
    }

    /// Forgets that it rang.
    pub fn silence(&self) {
        let _ = (&self.counter).read(&mut [0; 8]);
    }

    /// Asks the thread to end, for good.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.ring();
    }

    /// Was it asked to end?
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Readable while it rings.
    pub fn descriptor(&self) -> RawFd {
        self.counter.as_raw_fd()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.ring();
    }
}
