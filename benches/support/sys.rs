//! Processor time, which the standard library does not give: a benchmark shares its machine with others.
#![expect(unsafe_code, reason = "foreign functions")]
#![allow(dead_code, reason = "not every benchmark needs all of it")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
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

/// Moves the calling thread into this network namespace.
pub fn join_network(namespace: &File) -> io::Result<()> {
    // SAFETY: no pointers; the descriptor is open.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A socket that sends whole frames out of one link.
pub struct Packets(OwnedFd);

impl Packets {
    /// Opens one on the link of this name in the calling thread's network namespace.
    pub fn open(link: &str) -> io::Result<Packets> {
        let name = CString::new(link)?;
        // SAFETY: the name ends with a NUL and lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        // SAFETY: no pointers; the result is checked. Protocol 0 receives nothing.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if index == 0 || fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is open and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an address of all zeros is a valid one.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address is one of a packet socket and as long as it is said to be.
        if unsafe { libc::bind(fd, (&raw const address).cast(), length) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Packets(socket))
    }

    /// Sends these frames; says how many the link took.
    pub fn send(&self, frames: &[Vec<u8>]) -> io::Result<usize> {
        let mut parts: Vec<libc::iovec> = frames
            .iter()
            .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
            .collect();
        let messages = parts.iter_mut().map(|part| {
            // SAFETY: a message of all zeros is a valid one: it has no address, no part, no ancillary data.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        });
        let mut messages: Vec<libc::mmsghdr> = messages.collect();
        // SAFETY: the messages point to parts, and these to frames, all of which outlive the call.
        let sent = unsafe { libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}
