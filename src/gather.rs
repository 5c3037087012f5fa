//! Fewer and larger writes. h2 flushes each frame as soon as it has it; over loopback each write costs more than the
//! rest of the request. This gathers what is written in one turn of the event loop.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf},
    task::yield_now,
};

/// More than a request has without long metadata; what does not fit goes out at once.
const ROOM: usize = 1024;

/// A stream whose flush first lets everybody else have their turn, as they may have more to write.
pub(crate) struct Gathered<S> {
    stream: BufWriter<S>,
    /// Ends when they have had it.
    turn: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S: AsyncWrite> Gathered<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufWriter::with_capacity(ROOM, stream), turn: None }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.stream.buffer().is_empty() {
            ready!(self.turn.get_or_insert_with(|| Box::pin(turns())).as_mut().poll(cx));
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.turn = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Two: for those who wait for what has just come, and for those whom they wake.
async fn turns() {
    yield_now().await;
    yield_now().await;
}
