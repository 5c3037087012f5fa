//! Fewer and larger writes. h2 flushes each frame as soon as it has it, and over loopback each write costs more than the rest
//! of the request. This collects the writes of one turn of the event loop.

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
pub(crate) struct WriteCoalescer<S> {
    stream: BufWriter<S>,
    turn: Turn,
}

/// Everybody else's turn, before a flush.
enum Turn {
    ToCome,
    Running(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// They have had it, also where the flush then takes long.
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

/// Two: for those who wait for what has just come, and for those whom they wake.
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
    async fn a_flush_that_takes_long() {
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
