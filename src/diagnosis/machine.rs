//! The third step: what this machine itself shows of an address that is its own.

use std::net::SocketAddr;
#[cfg(unix)]
use std::path::{self, Path};

use serde::Serialize;

use super::listeners;
#[cfg(unix)]
use super::socket_path::{self, SocketPath};
use crate::{
    deadline::Deadline,
    net::{self, Endpoint},
};

/// How many sockets are named.
const MAX_NAMED: usize = 40;

/// What this machine shows.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Machine {
    /// Whether something listens on the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) is_listened_on: Option<bool>,
    /// The TCP addresses that are listened on here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) listening: Vec<SocketAddr>,
    /// The unix sockets that are listened on here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sockets: Vec<String>,
    /// How many sockets are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) more: Option<usize>,
    #[cfg(unix)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<SocketPath>,
}

impl Machine {
    /// Whether a server listens on this port, and on loopback only.
    pub(super) fn is_loopback_only(&self, port: u16) -> bool {
        let mut on_port = self.listening.iter().filter(|address| address.port() == port).peekable();
        on_port.peek().is_some() && on_port.all(|address| address.ip().to_canonical().is_loopback())
    }
}

/// Looks at this machine, if the endpoint, which has these addresses, is on it. `None` if it is not.
pub(crate) async fn look(endpoint: &Endpoint, addresses: &[SocketAddr], deadline: Deadline) -> Option<Machine> {
    match endpoint {
        Endpoint::Tcp(..) => {
            let own: Vec<SocketAddr> = addresses.iter().copied().filter(|address| net::is_own(address.ip())).collect();
            if own.is_empty() {
                return None;
            }
            let listening = listeners::tcp()?;
            let is_listened_on =
                own.iter().any(|address| listening.iter().any(|listener| listeners::accepts(*listener, *address)));
            let more = listening.len().checked_sub(MAX_NAMED).filter(|more| *more > 0);
            // Those of the port that was asked for first, then those near it.
            let mut listening = listening;
            listeners::sort_by_distance(&mut listening, own[0].port());
            listening.truncate(MAX_NAMED);
            Some(Machine { is_listened_on: Some(is_listened_on), listening, more, ..Machine::default() })
        }
        #[cfg(unix)]
        Endpoint::Unix(path) => {
            let (sockets, more) = unix();
            let absolute = path::absolute(path).unwrap_or_else(|_| path.clone());
            let is_it = |socket: &String| Some(socket.as_str()) == absolute.to_str();
            let is_listened_on = sockets.as_ref().map(|all| all.iter().any(is_it));
            // Those of its directory first.
            let sockets = sockets.map(|all| {
                let is_beside = |socket: &String| Path::new(socket).parent() == absolute.parent();
                let (mut beside, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_beside);
                beside.extend(others);
                beside
            });
            let path = socket_path::look(path, deadline).await;
            Some(Machine { is_listened_on, sockets: named(sockets), more, path, ..Machine::default() })
        }
        #[cfg(unix)]
        Endpoint::Abstract(name) => {
            let (sockets, more) = unix();
            let is_it = |socket: &String| socket.strip_prefix('@') == Some(name);
            let is_listened_on = sockets.as_ref().map(|all| all.iter().any(is_it));
            Some(Machine { is_listened_on, sockets: named(sockets), more, ..Machine::default() })
        }
        #[cfg(not(unix))]
        Endpoint::Unix(_) | Endpoint::Abstract(_) => {
            let _ = deadline;
            None
        }
    }
}

#[cfg(unix)]
fn unix() -> (Option<Vec<String>>, Option<usize>) {
    let sockets = listeners::unix();
    let more = sockets.as_ref().and_then(|all| all.len().checked_sub(MAX_NAMED)).filter(|more| *more > 0);
    (sockets, more)
}

#[cfg(unix)]
fn named(sockets: Option<Vec<String>>) -> Vec<String> {
    let mut sockets = sockets.unwrap_or_default();
    sockets.truncate(MAX_NAMED);
    sockets
}
