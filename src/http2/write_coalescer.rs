//! Combines small writes. h2 flushes every frame at once, and over loopback each write costs more than the rest of the request.
//! This collects the writes of one turn of the event loop.

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

/// The size of the buffer, in bytes: more than a request without long metadata. What does not fit is written at once.
const ROOM: usize = 1024;

/// A stream whose flush first lets other tasks run, as they may have more to write.
pub(crate) struct WriteCoalescer<S> {
    stream: BufWriter<S>,
    turn: Turn,
}

/// Lets other tasks run before a flush.
enum Turn {
    ToCome,
    Running(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// The other tasks have run. This stays set while a flush is pending.
    Over,
}

impl<S: AsyncWrite> WriteCoalescer<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufWriter::with_capacity(ROOM, stream), turn: Turn::ToCome }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WriteCoalescer<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteCoalescer<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.turn, Turn::ToCome) && !self.stream.buffer().is_empty() {
            self.turn = Turn::Running(Box::pin(turns()));
        }
        if let Turn::Running(turns) = &mut self.turn {
            ready!(turns.as_mut().poll(cx));
            self.turn = Turn::Over;
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.turn = Turn::ToCome;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Yields twice: for tasks that wait for data that has just arrived, and for tasks that these wake.
async fn turns() {
    yield_now().await;
    yield_now().await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// A peer that reads slowly makes a flush take several turns.
    #[tokio::test(flavor = "current_thread")]
    async fn pending_flush_is_completed() {
        for written in [1, 100, ROOM, 10 * ROOM] {
            let (ours, mut theirs) = duplex(16);
            let mut coalescer = WriteCoalescer::new(ours);
            let mut read = Vec::new();
            let write = async {
                for _ in 0..3 {
                    coalescer.write_all(&vec![7; written]).await.expect("there is a reader");
                    coalescer.flush().await.expect("there is a reader");
                }
                coalescer.shutdown().await.expect("there is a reader");
            };
            let (result, ()) = tokio::join!(theirs.read_to_end(&mut read), write);
            assert_eq!((result.expect("a pipe can be read"), read), (3 * written, vec![7; 3 * written]));
        }
    }
}
