//! What libc alone can tell: the addresses of this machine's interfaces.
#![allow(unsafe_code)]

use std::io;
use std::net::IpAddr;

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
