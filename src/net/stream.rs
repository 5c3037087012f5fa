//! The streams that connect to a server.

use tokio::io::{AsyncRead, AsyncWrite};

/// Carries bytes to and from the server: TCP, a unix socket, or TLS over either.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// An open stream to the server, of any kind.
pub(crate) type Stream = Box<dyn Io>;
