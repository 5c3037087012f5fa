//! The addresses of this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// The loopback addresses of both families.
pub(super) const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The loopback addresses of both families, the one of this address's family first.
pub(super) fn loopback_from(first: IpAddr) -> [IpAddr; 2] {
    let [ipv4, ipv6] = LOOPBACK;
    if first.is_ipv4() { [ipv4, ipv6] } else { [ipv6, ipv4] }
}

/// Whether an address is this machine's. Connecting a datagram socket looks up the route and sends nothing.
pub(crate) fn is_own(address: IpAddr) -> bool {
    own_address_towards(address) == Some(address)
}

/// Whether this machine has an address to reach another one from.
pub(super) fn is_routed(other: IpAddr) -> bool {
    own_address_towards(other).is_some()
}

/// Loopback, and the addresses from which this machine sends to others.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    // Addresses from the networks reserved for documentation (RFC 5737, RFC 3849).
    let others = [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    LOOPBACK.into_iter().chain(others.into_iter().filter_map(own_address_towards)).collect()
}

fn own_address_towards(other: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if other.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
