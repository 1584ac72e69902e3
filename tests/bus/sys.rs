//! Becoming somebody else, which the standard library can only for a whole process.

#![allow(unsafe_code)]

use std::io;

/// Makes the calling thread alone another user's.
pub fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: the raw calls take numbers and change this thread's credentials only.
    let done = unsafe {
        libc::syscall(libc::SYS_setresgid, uid, uid, uid) == 0 && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}
