//! The system calls that the tests need and the standard library lacks.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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

/// Mounts a file system on `at` that answers nobody as long as the file that this gives is open.
pub fn mount_hanging(at: &Path) -> io::Result<File> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = CString::new(format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd()))?;
    let at = CString::new(at.as_os_str().as_bytes())?;
    let kind = c"fuse".as_ptr();
    // SAFETY: all four are strings that outlive the call.
    let done = unsafe { libc::mount(kind, at.as_ptr(), kind, libc::MS_NODEV, options.as_ptr().cast()) };
    if done == 0 { Ok(device) } else { Err(io::Error::last_os_error()) }
}

/// This thread's id.
pub fn thread_id() -> i32 {
    // SAFETY: no arguments; always succeeds.
    unsafe { libc::gettid() }
}
