//! Finds the addresses of this machine, and a server that listens on another of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::{
    stream::connect_tcp,
    target::{Endpoint, Host},
};
use crate::{deadline::Deadline, resolver};

/// The loopback addresses of both families.
pub(super) const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The loopback addresses of both families, the one of this address's family first.
pub(super) fn loopback_from(first: IpAddr) -> [IpAddr; 2] {
    let [ipv4, ipv6] = LOOPBACK;
    if first.is_ipv4() { [ipv4, ipv6] } else { [ipv6, ipv4] }
}

/// Where on this machine a server accepts connections on an endpoint's port.
#[derive(Debug)]
pub(crate) enum Elsewhere {
    /// At another address.
    At(SocketAddr),
    /// At no address.
    NotHere,
    /// The endpoint is not on this machine, or that is not known.
    NotOurs,
}

/// Finds another address of this machine that accepts connections on the endpoint's port, if the endpoint is on this
/// machine: a server may listen on one interface or address family only. In a container, no other tool can show that.
pub(crate) async fn listening_elsewhere(endpoint: &Endpoint, deadline: Deadline) -> Elsewhere {
    let Endpoint::Tcp(host, port) = endpoint else { return Elsewhere::NotOurs };
    let dialled = match host {
        Host::Loopback | Host::Unspecified(_) => LOOPBACK.to_vec(),
        Host::Ip(address) => vec![*address],
        Host::Name(name) => {
            let Ok(found) = Box::pin(resolver::lookup(name, *port, deadline)).await else { return Elsewhere::NotOurs };
            found.addresses.iter().map(SocketAddr::ip).collect()
        }
    };
    if !dialled.iter().copied().any(is_own) {
        return Elsewhere::NotOurs;
    }
    for other in own_addresses().into_iter().filter(|other| !dialled.contains(other)) {
        let other = SocketAddr::new(other, *port);
        if matches!(deadline.bound(connect_tcp(other)).await, Ok(Ok(_))) {
            return Elsewhere::At(other);
        }
    }
    Elsewhere::NotHere
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
fn own_addresses() -> Vec<IpAddr> {
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
