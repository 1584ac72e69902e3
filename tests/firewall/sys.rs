//! The one system call that the tests need and the standard library lacks.

#![allow(unsafe_code)]

use std::io;

/// Gives the calling thread an empty network namespace of its own.
pub fn leave_network() -> io::Result<()> {
    // SAFETY: no pointers; only this thread's namespace changes.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// This thread's id.
pub fn thread_id() -> i32 {
    // SAFETY: no arguments; always succeeds.
    unsafe { libc::gettid() }
}
