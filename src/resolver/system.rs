//! The system's own resolver, on systems without `/etc/resolv.conf`. It blocks, so it runs on a thread.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
};

use super::findings::{Cause, Findings, Lookup, Unresolved};
use crate::deadline::{Deadline, Unfinished};

/// Resolves a host name.
///
/// # Errors
/// The cause.
pub(crate) async fn lookup(name: &str, port: u16, deadline: Deadline) -> Result<Lookup, Unresolved> {
    let query = (name.to_owned(), port);
    let resolved: Result<io::Result<Vec<SocketAddr>>, Unfinished> =
        deadline.bound_blocking(move || query.to_socket_addrs().map(Vec::from_iter)).await;
    let cause = match resolved {
        Ok(Ok(addresses)) if addresses.is_empty() => Cause::NoAddress,
        Ok(Ok(addresses)) => return Ok(Lookup { addresses, findings: Findings::default() }),
        // WSAHOST_NOT_FOUND. The standard library returns only its text.
        Ok(Err(error)) if error.to_string().contains("No such host is known") => Cause::NoSuchHost,
        Ok(Err(error)) => Cause::System(error),
        Err(Unfinished::NoThread) => Cause::System(io::Error::other("there is no thread to resolve on")),
        Err(Unfinished::Elapsed) => Cause::TimedOut,
    };
    Err(Unresolved { cause, findings: Findings::default() })
}
