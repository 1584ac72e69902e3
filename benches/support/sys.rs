//! Processor time, which the standard library does not give: a benchmark shares its machine with others.
#![expect(unsafe_code, reason = "foreign functions")]
#![allow(dead_code, reason = "not every benchmark needs all of it")]

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

/// What a child took of the machine, with all that it waited for itself.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time.
    pub time: Duration,
    /// The most memory it had resident, in KiB, files mapped into it among it.
    pub resident: i64,
}

/// Waits for `child`, and says how it ended and what it took.
pub fn wait(child: Child) -> io::Result<(ExitStatus, Usage)> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: both results are valid for writes; the child was not waited for, so that its id is its own.
    let waited = unsafe { libc::wait4(pid, &mut status, 0, usage.as_mut_ptr()) };
    if waited != pid {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: wait4 succeeded and has written it.
    let usage = unsafe { usage.assume_init() };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    let took = Usage { time: time(usage.ru_utime) + time(usage.ru_stime), resident: usage.ru_maxrss };
    Ok((ExitStatus::from_raw(status), took))
}

/// The processor time that the calling thread has taken so far.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result is valid for writes.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(outcome, 0, "every Linux has this clock");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Moves the calling thread into a network namespace of its own.
pub fn own_network() -> io::Result<()> {
    // SAFETY: no pointers.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
