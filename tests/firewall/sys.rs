//! The system calls that the tests need and the standard library lacks.

#![allow(unsafe_code)]

use std::io;

/// Gives the calling thread an empty network namespace of its own.
pub fn leave_network() -> io::Result<()> {
    // SAFETY: no pointers; only this thread's namespace changes.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread a copy of the mounts of its own.
pub fn leave_mounts() -> io::Result<()> {
    // SAFETY: no pointers; only this thread's namespace and working directory change.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// This thread's id.
pub fn thread_id() -> i32 {
    // SAFETY: no arguments; always succeeds.
    unsafe { libc::gettid() }
}
