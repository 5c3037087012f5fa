//! The result of a lookup, and what the resolver did to get it.

use std::net::SocketAddr;

use super::exchange_log::Exchange;

/// The addresses of a name, at least one, in the order in which to try them.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) findings: Findings,
}

/// Why a name has no addresses.
#[derive(Debug)]
pub(crate) struct Unresolved {
    pub(crate) cause: Cause,
    pub(crate) findings: Findings,
}

/// The reason for [`Unresolved`].
#[cfg_attr(not(unix), allow(dead_code))]
#[derive(Debug)]
#[cfg_attr(unix, derive(PartialEq))]
pub(crate) enum Cause {
    /// A name server said that the name does not exist.
    NoSuchHost,
    /// The name exists, but it has no address.
    NoAddress,
    /// The zone of an IPv6 address (`%eth0`) is not an interface of this machine.
    NoSuchInterface,
    /// No name server gave a usable answer.
    NoUsableAnswer,
    /// The deadline expired.
    TimedOut,
    /// The system's own resolver failed.
    #[cfg(not(unix))]
    System(std::io::Error),
}

/// What the resolver did and found during a lookup.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) source: Source,
    /// All questions to all name servers, in the order in which they were sent.
    pub(crate) exchanges: Vec<Exchange>,
    /// The search domains for names that are not absolute.
    pub(crate) search: Vec<String>,
    /// Why `/etc/resolv.conf` names no name server, if it names none.
    pub(crate) without_servers: Option<String>,
}

/// Where the answer comes from.
#[cfg_attr(not(unix), allow(dead_code))]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The name itself: an address with a zone, or a name in `localhost`.
    #[default]
    Text,
    HostsFile,
    Dns,
}
