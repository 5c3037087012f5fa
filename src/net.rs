//! From a target to an open stream: name resolution, then TCP with all addresses raced (RFC 8305), or a unix socket. The
//! caller may then try the addresses that are left, one by one.

mod elsewhere;
mod name;
mod own_addresses;
mod stream;
mod target;
mod tcp;
#[cfg(unix)]
mod unix;

use std::net::SocketAddr;

pub(crate) use self::{
    elsewhere::{Elsewhere, listening_elsewhere},
    own_addresses::is_own,
    stream::{Io, Reached, Stream},
    target::{Endpoint, Host, Target},
    tcp::{connect_to, failure_at, list},
};
#[cfg(not(unix))]
use crate::outcome::Kind;
use crate::{deadline::Deadline, outcome::Failure, trace::Trace};

/// Opens a stream to the target.
///
/// # Errors
/// Those of the phases resolve and connect.
pub(crate) async fn connect(target: &Target, deadline: Deadline, trace: &Trace) -> Result<Reached, Failure> {
    #[cfg(unix)]
    let by_path = |stream| Reached { stream, address: None, failed: Vec::new(), left: Vec::new() };
    match &target.endpoint {
        Endpoint::Tcp(host, port) => {
            let addresses = addresses(host, *port, deadline, trace).await?;
            tcp::race(&target.address, addresses, deadline, trace).await
        }
        #[cfg(unix)]
        Endpoint::Unix(path) => unix::connect(&target.address, path.clone(), deadline, trace).await.map(by_path),
        #[cfg(unix)]
        Endpoint::Abstract(name) => {
            unix::connect(&target.address, format!("\0{name}").into(), deadline, trace).await.map(by_path)
        }
        #[cfg(not(unix))]
        Endpoint::Unix(_) | Endpoint::Abstract(_) => {
            Err(Failure::new(Kind::Usage, "unix sockets are not supported on this system"))
        }
    }
}

/// The endpoints of the target, each as a separate target.
///
/// # Errors
/// Those of the phase resolve.
pub(crate) async fn every_endpoint(target: &Target, deadline: Deadline, trace: &Trace) -> Result<Vec<Target>, Failure> {
    let Endpoint::Tcp(host, port) = &target.endpoint else { return Ok(vec![target.clone()]) };
    let mut addresses = addresses(host, *port, deadline, trace).await?;
    addresses.sort_unstable();
    addresses.dedup();
    if matches!(host, Host::Loopback | Host::Unspecified(_)) && addresses.iter().any(|address| is_own(address.ip())) {
        // A machine without IPv6 does not have the loopback address of that family.
        addresses.retain(|address| is_own(address.ip()));
    }
    let endpoint = |address: SocketAddr| target.at(&address.to_string(), Endpoint::Tcp(host_of(address), *port));
    Ok(addresses.into_iter().map(endpoint).collect())
}

/// The host that is this address.
pub(crate) fn host_of(address: SocketAddr) -> Host {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => Host::Name(format!("{}%{}", v6.ip(), v6.scope_id())),
        _ => Host::Ip(address.ip()),
    }
}

/// The addresses of this machine that a host stands for by itself, without a lookup; `None` for a name.
pub(crate) fn addresses_by_itself(host: &Host, port: u16) -> Option<Vec<SocketAddr>> {
    let addresses = match host {
        Host::Name(_) => return None,
        Host::Loopback => own_addresses::LOOPBACK.to_vec(),
        Host::Unspecified(any) => own_addresses::loopback_from(*any).to_vec(),
        Host::Ip(address) => vec![*address],
    };
    let has_own = addresses.len() > 1 && addresses.iter().any(|address| is_own(*address));
    // A machine without IPv6 does not have the loopback address of that family.
    let usable = addresses.into_iter().filter(|address| !has_own || is_own(*address));
    Some(usable.map(|address| SocketAddr::new(address, port)).collect())
}

/// The addresses of a host, in the order in which to try them.
async fn addresses(host: &Host, port: u16, deadline: Deadline, trace: &Trace) -> Result<Vec<SocketAddr>, Failure> {
    match host {
        Host::Name(name) => name::resolve(name, port, deadline, trace).await,
        Host::Loopback => Ok(own_addresses::LOOPBACK.map(|address| SocketAddr::new(address, port)).to_vec()),
        Host::Unspecified(any) => Ok(own_addresses::loopback_from(*any).map(|it| SocketAddr::new(it, port)).to_vec()),
        Host::Ip(address) => Ok(vec![SocketAddr::new(*address, port)]),
    }
}
