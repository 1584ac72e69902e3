//! What this machine cannot do without: its own addresses, its default gateways, its resolvers.

use std::net::IpAddr;

use super::sys;

/// An address and what it is to this machine.
pub type Needed = (IpAddr, &'static str);

/// The addresses that a ban by hand must not cut off without force, as they are at this moment.
///
/// What cannot be read is left out: a machine without /proc is not kept from banning.
pub fn needed() -> Vec<Needed> {
    let mut all: Vec<Needed> = own_addresses().into_iter().map(|address| (address, "an address of its own")).collect();
    all.extend(gateways4(&read("/proc/net/route")).map(|address| (address, "default gateway")));
    all.extend(gateways6(&read("/proc/net/ipv6_route")).map(|address| (address, "default gateway")));
    for file in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        all.extend(resolvers(&read(file)).map(|address| (address, "resolver")));
    }
    all.sort();
    all.dedup();
    all
}

/// The addresses of this machine's interfaces.
pub fn own_addresses() -> Vec<IpAddr> {
    sys::interface_addresses().unwrap_or_default()
}

fn read(path: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the kernel and the resolver tell these in files")]
    std::fs::read_to_string(path).unwrap_or_default()
}

/// `Iface Destination Gateway Flags …`, addresses as native-endian hexadecimal words (`proc_net_route`).
fn gateways4(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (destination, gateway) = (words.next()?, words.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (destination == "00000000" && gateway != 0).then(|| IpAddr::from(gateway.to_ne_bytes()))
    })
}

/// `destination length source length next-hop metric … interface`, addresses as 32 hexadecimal digits.
fn gateways6(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "00", _, _, next_hop, ..] = words[..] else { return None };
        let next_hop = u128::from_str_radix(next_hop, 16).ok()?;
        (next_hop != 0).then(|| IpAddr::from(next_hop.to_be_bytes()))
    })
}

fn resolvers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let ("nameserver", address) = (words.next()?, words.next()?) else { return None };
        address.split('%').next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_and_resolvers_are_read_as_the_kernel_writes_them() {
        let route = format!(
            "Iface\tDestination\tGateway\tFlags\neth0\t00000000\t{:08X}\t0003\neth0\t{:08X}\t00000000\t0001\n",
            u32::from_ne_bytes([192, 0, 2, 254]),
            u32::from_ne_bytes([192, 0, 2, 0]),
        );
        assert_eq!(gateways4(&route).collect::<Vec<_>>(), [IpAddr::from([192, 0, 2, 254])]);
        let zero = "0".repeat(32);
        let route6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
        );
        assert_eq!(gateways6(&route6).collect::<Vec<_>>(), ["fe80::1".parse::<IpAddr>().unwrap()]);
        let resolv = "# comment\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch example.org\nnameserver\n";
        assert_eq!(resolvers(resolv).count(), 2);
    }

    #[test]
    fn the_loopback_address_is_this_machines_own() {
        assert!(own_addresses().contains(&IpAddr::from([127, 0, 0, 1])));
    }
}
