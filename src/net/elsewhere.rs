//! Finds a server that listens on another address of this machine.

use std::net::SocketAddr;

use super::{
    own_addresses::{LOOPBACK, is_own, own_addresses},
    target::{Endpoint, Host},
    tcp,
};
use crate::{deadline::Deadline, resolver};

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
        if matches!(deadline.bound(tcp::connect(other)).await, Ok(Ok(_))) {
            return Elsewhere::At(other);
        }
    }
    Elsewhere::NotHere
}
