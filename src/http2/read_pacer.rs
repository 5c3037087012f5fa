//! Lets the requests take what has arrived for them before more is read. Some bytes can stand for thousands of headers (HPACK), and
//! h2 would decode all that the socket holds before a request sees the first of them.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::yield_now,
};

/// How much is read before other tasks run, in bytes. The responses of a usual probe are shorter.
const TURN: usize = 4096;

/// A stream that is read piece by piece.
pub(super) struct ReadPacer<S> {
    stream: S,
    /// How much has been read since other tasks ran.
    read: usize,
    others: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> ReadPacer<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, read: 0, others: None }
    }
}

impl<S> fmt::Debug for ReadPacer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadPacer").field("read", &self.read).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadPacer<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read >= TURN {
            self.read = 0;
            self.others = Some(Box::pin(yield_now()));
        }
        if let Some(others) = &mut self.others {
            ready!(others.as_mut().poll(cx));
            self.others = None;
        }
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.read += buffer.filled().len() - before;
        Poll::Ready(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadPacer<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
