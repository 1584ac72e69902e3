//! The system calls of a netlink socket; every pointer that the kernel is given lives here.

#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Opens and binds a netlink socket of this protocol in this thread's network namespace.
pub(super) fn open(protocol: i32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers; the result is checked.
    let fd = result(unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) })?;
    // SAFETY: a descriptor just made, which nobody else has.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = kernel();
    // SAFETY: the address outlives the call and its own size is given.
    result(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32) })?;
    Ok(fd)
}

/// The port the kernel gave the socket: the `nlmsg_pid` of what it is told about our requests.
pub(super) fn port(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut address = kernel();
    let mut length = size_of_val(&address) as u32;
    // SAFETY: both outlive the call; the length says how much room there is.
    result(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut length) })?;
    Ok(address.nl_pid)
}

/// Sets an option that is an `int`.
pub(super) fn set(fd: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value outlives the call and its own size is given.
    let done =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), size_of::<i32>() as u32) };
    result(done).map(drop)
}

/// Lets nothing into the socket that is about requests of the socket with this port.
pub(super) fn ignore_port(fd: BorrowedFd<'_>, port: u32) -> io::Result<()> {
    /// Where `nlmsg_pid` is in a message.
    const PORT_AT: u32 = 12;
    // The filter machine loads words as big endian.
    let port = u32::from_ne_bytes(port.to_be_bytes());
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, PORT_AT),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, port),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it; its length is its own.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of_val(&filter) as u32,
        )
    };
    result(done).map(drop)
}

/// Sends all bytes as one datagram to the kernel.
pub(super) fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let address = kernel();
    loop {
        // SAFETY: bytes and address outlive the call and their own sizes are given.
        let sent = unsafe {
            libc::sendto(
                fd.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
                (&raw const address).cast(),
                size_of_val(&address) as u32,
            )
        };
        if sent >= 0 {
            return Ok(());
        }
        interrupted()?;
    }
}

/// Receives one datagram of the kernel's; one of anybody else's counts as empty. Where `wait` is false and nothing is
/// there: `WouldBlock`.
pub(super) fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], wait: bool) -> io::Result<usize> {
    let flags = if wait { 0 } else { libc::MSG_DONTWAIT };
    loop {
        let mut sender = kernel();
        let mut length = size_of_val(&sender) as u32;
        // SAFETY: buffer, address and length outlive the call and their own sizes are given.
        let received = unsafe {
            libc::recvfrom(
                fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                flags,
                (&raw mut sender).cast(),
                &raw mut length,
            )
        };
        match usize::try_from(received) {
            Ok(received) => return Ok(if sender.nl_pid == 0 { received.min(buffer.len()) } else { 0 }),
            Err(_) => interrupted()?,
        }
    }
}

/// Waits until one of the two has something to read, an error or its end, at most so long; says which.
pub(super) fn wait(fds: [BorrowedFd<'_>; 2], limit: Option<Duration>) -> io::Result<[bool; 2]> {
    let mut polled = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let limit = limit.map_or(-1, |limit| i32::try_from(limit.as_millis()).unwrap_or(i32::MAX));
    loop {
        // SAFETY: the array outlives the call and its own length is given.
        let done = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, limit) };
        if done >= 0 {
            return Ok(polled.map(|poll| poll.revents != 0));
        }
        interrupted()?;
    }
}

fn kernel() -> libc::sockaddr_nl {
    // SAFETY: a plain C structure, for which zeros are valid: port 0 is the kernel.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address
}

fn result(returned: i32) -> io::Result<i32> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// The error of the call that just failed, unless a signal interrupted it.
fn interrupted() -> io::Result<()> {
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

/// Gives the calling thread an empty network namespace of its own.
#[cfg(test)]
pub(super) fn leave_network() -> io::Result<()> {
    // SAFETY: no pointers; only this thread's namespace changes.
    result(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}
