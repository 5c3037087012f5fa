//! Name resolution by getaddrinfo.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
};

use super::tcp::list;
use crate::{
    deadline::{Deadline, Unfinished},
    outcome::{Failure, Kind, Phase, Retry},
    text::{io_cause, lower_first},
    trace::Trace,
};

/// Resolves a name to the addresses to try, in their order.
///
/// # Errors
/// Those of the phase resolve.
pub(super) async fn resolve(
    name: &str,
    port: u16,
    deadline: Deadline,
    trace: &Trace,
) -> Result<Vec<SocketAddr>, Failure> {
    let begun = trace.begin(Phase::Resolve);
    let addresses = match lookup(name, port, deadline).await {
        Ok(Ok(addresses)) if addresses.is_empty() => {
            return Err(Failure::new(Kind::NameNotFound, format!("cannot resolve {name:?}: it has no address")));
        }
        Ok(Ok(addresses)) => interleave(addresses),
        Ok(Err(error)) => return Err(failure(name, &error)),
        Err(Unfinished::Elapsed) => {
            let message = format!("resolving {name:?} timed out after {}", deadline.limit());
            return Err(Failure::new(Kind::ResolveTimeout, message)
                .hint("no answer from the name servers in /etc/resolv.conf; are they reachable from here?"));
        }
        Err(Unfinished::NoThread(error)) => {
            let message = format!("cannot resolve {name:?}: no thread to resolve on: {}", io_cause(&error));
            return Err(Failure::new(Kind::ResolveFailed, message).hint("an address in place of the name needs none"));
        }
    };
    trace.end(Phase::Resolve, begun, || format!("{name} is {}", list(&addresses)));
    Ok(addresses)
}

/// Asks getaddrinfo. It blocks, so it runs on a thread.
pub(super) async fn lookup(
    name: &str,
    port: u16,
    deadline: Deadline,
) -> Result<io::Result<Vec<SocketAddr>>, Unfinished> {
    let query = (name.to_owned(), port);
    deadline.bound_blocking(move || query.to_socket_addrs().map(Vec::from_iter)).await
}

/// The border where text is all there is: the standard library gives getaddrinfo's answer as a sentence only.
fn failure(name: &str, error: &io::Error) -> Failure {
    if error.raw_os_error().is_some() {
        let message = format!("cannot resolve {name:?}: {}", io_cause(error));
        return Failure::new(Kind::ResolveFailed, message).retry(Retry::WhileConnecting);
    }
    let text = error.to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    // EAI_NONAME and EAI_NODATA of glibc, of musl, of macOS and BSD, and WSAHOST_NOT_FOUND.
    let not_found = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
        "nodename nor servname provided, or not known",
        "No such host is known",
    ];
    if not_found.iter().any(|sentence| reason.starts_with(sentence)) {
        if name.contains('%') {
            return Failure::new(Kind::NameNotFound, format!("cannot resolve {name:?}: no such network interface"));
        }
        let failure = Failure::new(Kind::NameNotFound, format!("cannot resolve {name:?}: no such host"));
        return if name.contains('.') {
            failure
        } else {
            failure.hint("in Docker, both containers must share a network for this name to exist")
        };
    }
    Failure::new(Kind::ResolveFailed, format!("cannot resolve {name:?}: {}", lower_first(reason)))
        .hint("the name servers in /etc/resolv.conf gave no usable answer")
        .retry(Retry::WhileConnecting)
}

/// Alternates the address families and keeps the resolver's order within each (RFC 8305, section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else { return addresses };
    let (same, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    let mut other = other.into_iter();
    let mut mixed = Vec::new();
    for address in same {
        mixed.push(address);
        mixed.extend(other.next());
    }
    mixed.extend(other);
    mixed
}
