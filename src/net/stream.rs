//! The streams that connect to a server.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

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

/// Connects over TCP.
///
/// # Errors
/// Those of the system. A socket that was connected with itself counts as refused: for a port of this machine that nothing
/// listens on, the system may choose that very port to connect from (RFC 9293, section 3.5).
pub(super) async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    if stream.local_addr().is_ok_and(|own| own == address) {
        // A usual end would keep the port from the server for a minute.
        let _ = stream.set_zero_linger();
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}
