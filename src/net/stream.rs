//! The streams that connect to a server.

use std::{io, net::SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};

/// Carries bytes to and from the server: TCP, a unix socket, or TLS over either.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {
    /// Asks the system to break the stream when the peer is gone without a word. Where the peer is on this machine, the system
    /// does so anyway.
    fn break_when_peer_is_gone(&self) {}
}

#[cfg(any(test, fuzzing))]
impl Io for tokio::io::DuplexStream {}

/// An open stream to the server, of any kind.
pub(crate) type Stream = Box<dyn Io>;

/// An open stream to the target, and what became of its addresses.
pub(crate) struct Reached {
    pub(crate) stream: Stream,
    /// The address at the other end; a unix socket has none.
    pub(crate) address: Option<SocketAddr>,
    /// The addresses that failed, and how.
    pub(crate) failed: Vec<(SocketAddr, io::Error)>,
    /// The addresses that are left to try.
    pub(crate) left: Vec<SocketAddr>,
}
