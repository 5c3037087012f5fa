//! The fourth step: whether each address accepts connections.

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use super::time::milliseconds;
use crate::{
    deadline::Deadline,
    join_all::join_all,
    net::{self, Endpoint, Stream, Target},
    outcome::Failure,
    trace::Trace,
};

/// How many addresses are tried.
const MAX_ADDRESSES: usize = 16;

/// An attempt to connect to one address.
#[derive(Debug, Serialize)]
pub(crate) struct Attempt {
    pub(crate) address: String,
    pub(crate) connected: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<String>,
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub(crate) took: Duration,
}

/// Where to connect to: one address of the target, or its unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix,
}

impl Place {
    /// The places of a target that has these addresses.
    pub(crate) fn all(target: &Target, addresses: &[SocketAddr]) -> Vec<Self> {
        match target.endpoint {
            Endpoint::Tcp(..) => addresses.iter().take(MAX_ADDRESSES).copied().map(Self::Tcp).collect(),
            Endpoint::Unix(_) | Endpoint::Abstract(_) => vec![Self::Unix],
        }
    }

    /// Its name in messages.
    pub(crate) fn name(self, target: &Target) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix => target.address.clone(),
        }
    }

    /// Opens a stream to it.
    ///
    /// # Errors
    /// Those of the phase connect.
    pub(super) async fn connect(self, target: &Target, deadline: Deadline) -> Result<Stream, Failure> {
        let trace = Trace::unfollowed();
        match self {
            Self::Tcp(address) => net::connect_to(&target.address, address, deadline, &trace).await,
            Self::Unix => net::connect(target, deadline, &trace).await.map(|reached| reached.stream),
        }
    }
}

/// Connects to each place, and closes the connection. The results are in the order of the places.
pub(crate) async fn try_each(target: &Target, places: &[Place], deadline: Deadline) -> Vec<Attempt> {
    let attempts = places.iter().map(|place| async move {
        let started = Instant::now();
        let connected = place.connect(target, deadline).await;
        let cause = connected.as_ref().err().map(|failure| failure.cause(&target.address).to_owned());
        Attempt { address: place.name(target), connected: connected.is_ok(), cause, took: started.elapsed() }
    });
    join_all(attempts.collect()).await
}
