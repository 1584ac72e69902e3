//! What libc alone can tell or do: the addresses of this machine's interfaces, that its clock was set, and giving back
//! memory.
#![allow(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The addresses of all interfaces, loopback among them (`getifaddrs(3)`).
///
/// # Errors
/// What the call says.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is a valid place for the pointer; it is freed below on every way out.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is a node of the list that getifaddrs made and that is freed after the loop only.
        let node = unsafe { &*next };
        if !node.ifa_addr.is_null() {
            // SAFETY: a non-null `ifa_addr` points to a sockaddr whose family says which structure it is.
            match i32::from(unsafe { (*node.ifa_addr).sa_family }) {
                libc::AF_INET => {
                    // SAFETY: the family says sockaddr_in; unaligned reads are allowed for.
                    let socket = unsafe { node.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                    addresses.push(IpAddr::from(socket.sin_addr.s_addr.to_ne_bytes()));
                }
                libc::AF_INET6 => {
                    // SAFETY: the family says sockaddr_in6; unaligned reads are allowed for.
                    let socket = unsafe { node.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned() };
                    addresses.push(IpAddr::from(socket.sin6_addr.s6_addr));
                }
                _ => {}
            }
        }
        next = node.ifa_next;
    }
    // SAFETY: the list came from getifaddrs and nothing of it is used any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

/// A timer that nobody waits for: it only tells that the wall clock was set, or that the machine slept
/// (`timerfd_create(2)`, `TFD_TIMER_CANCEL_ON_SET`).
#[derive(Debug)]
pub struct ClockWatch {
    timer: AsyncFd<OwnedFd>,
}

impl ClockWatch {
    /// Watches from now on; inside a tokio runtime.
    ///
    /// # Errors
    /// What the calls say.
    pub fn new() -> io::Result<ClockWatch> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above gave us this descriptor, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        arm(&fd)?;
        // SAFETY: an OwnedFd is open and stays the same for as long as the AsyncFd owns it.
        let timer = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(ClockWatch { timer })
    }

    /// Returns when the clock was set.
    ///
    /// # Errors
    /// What the calls say; then it cannot be watched any more.
    pub async fn set(&self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0u8; 8];
            // SAFETY: the descriptor is open, the buffer is valid for the 8 bytes that a timerfd gives.
            let read = unsafe {
                libc::read(self.timer.get_ref().as_raw_fd(), expirations.as_mut_ptr().cast(), expirations.len())
            };
            let error = io::Error::last_os_error();
            ready.clear_ready();
            // Its time coming is as good a reason to look as any; no clock gets there otherwise.
            if read >= 0 || error.raw_os_error() == Some(libc::ECANCELED) {
                return arm(self.timer.get_ref());
            }
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
        }
    }
}

fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = libc::timespec { tv_sec: libc::time_t::MAX, tv_nsec: 0 };
    let at = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
    let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
    // SAFETY: the descriptor is open, `at` lives through the call, and the old value is not asked for.
    let set = unsafe { libc::timerfd_settime(timer.as_raw_fd(), flags, &raw const at, std::ptr::null_mut()) };
    // A clock that was set since is told by ECANCELED, and the timer is armed all the same.
    let error = io::Error::last_os_error();
    if set == 0 || error.raw_os_error() == Some(libc::ECANCELED) { Ok(()) } else { Err(error) }
}

/// Gives back to the system what the allocator keeps of freed memory. It keeps all of it by itself where something small
/// above it is in use, and a load of the configuration takes many times what is left of it.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; glibc locks its arenas itself.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Ends this process as `kill -9` does: nothing more is done, by no thread.
#[cfg(feature = "crash-points")]
pub fn kill_self() {
    // SAFETY: no pointers; the process does not go on.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Nobody sets the clock of a test's machine: what can be shown is that the watch is there and does not cry wolf.
    #[test]
    fn a_clock_that_is_not_set_is_not_told() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let watch = ClockWatch::new().unwrap();
            assert!(tokio::time::timeout(Duration::from_millis(100), watch.set()).await.is_err());
        });
    }
}
