//! The record layer: a stream of frames, each with its length, its type, and a sealed record.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::cipher::{Cipher, KEY_DATA_LEN, Refused, Sender, TAG_LEN};
use crate::http2::BadRecord;

/// The length of the field that has a frame's length, which counts what follows it.
const LENGTH_LEN: usize = 4;
/// The length of the field that has a frame's type.
const TYPE_LEN: usize = 4;
const HEADER_LEN: usize = LENGTH_LEN + TYPE_LEN;
/// The type of a frame with a record: the lowest byte of the field.
const RECORD: u8 = 6;
/// The largest length that a frame may announce, as in grpc-go.
const MAX_FRAME: usize = 1 << 20;
/// How large our own frames are at most. Every peer accepts this much, whatever else was agreed on.
const OUR_MAX_FRAME: usize = 4096;
const MAX_PAYLOAD: usize = OUR_MAX_FRAME - HEADER_LEN - TAG_LEN;
/// How much is read at once.
const READ_LEN: usize = 4096;

/// A stream over `stream` whose bytes travel in records.
#[derive(Debug)]
pub(super) struct RecordStream<S, K> {
    stream: S,
    sealer: Cipher,
    opener: Cipher,
    /// What arrived and is not decrypted: the beginning of a frame, or several frames.
    incoming: Vec<u8>,
    /// What is decrypted and not yet read.
    plaintext: Vec<u8>,
    /// How much of it was read.
    taken: usize,
    /// Sealed records that are not yet written.
    outgoing: Vec<u8>,
    /// How much of them is written.
    written: usize,
    /// What has to live as long as the stream.
    _kept: K,
}

impl<S, K> RecordStream<S, K> {
    /// The client's side. `received` came from the server after its part of the handshake.
    pub(super) fn client(stream: S, key_data: &[u8; KEY_DATA_LEN], received: Vec<u8>, kept: K) -> Self {
        Self {
            stream,
            sealer: Cipher::new(key_data, Sender::Client),
            opener: Cipher::new(key_data, Sender::Server),
            incoming: received,
            plaintext: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            written: 0,
            _kept: kept,
        }
    }

    /// Decrypts the first frame if all of it has arrived.
    ///
    /// # Errors
    /// It is no frame with a record of the server.
    fn open(&mut self) -> Result<bool, BadRecord> {
        let Some(length) = self.incoming.first_chunk::<LENGTH_LEN>() else { return Ok(false) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(BadRecord(format!("it announces {length} bytes, and {MAX_FRAME} are the most")));
        }
        if length < TYPE_LEN + TAG_LEN {
            return Err(BadRecord(format!("it has {length} bytes, and {} are the least", TYPE_LEN + TAG_LEN)));
        }
        let Some(kind) = self.incoming.get(LENGTH_LEN) else { return Ok(false) };
        if *kind != RECORD {
            return Err(BadRecord(format!("its type is {kind}, not {RECORD}")));
        }
        let end = LENGTH_LEN + length;
        if self.incoming.len() < end {
            return Ok(false);
        }
        let opened = self.opener.open(&mut self.incoming[HEADER_LEN..end]);
        let opened = opened.map_err(|Refused| BadRecord("it cannot be decrypted".to_owned()))?;
        self.plaintext.clear();
        self.plaintext.extend_from_slice(&self.incoming[HEADER_LEN..HEADER_LEN + opened]);
        self.taken = 0;
        self.incoming.drain(..end);
        Ok(true)
    }

    /// Seals the beginning of `bytes` as a frame to write. Returns how many bytes it has.
    fn seal(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let payload = &bytes[..bytes.len().min(MAX_PAYLOAD)];
        let length = u32::try_from(TYPE_LEN + payload.len() + TAG_LEN).map_err(|_| Refused)?;
        self.outgoing.extend_from_slice(&length.to_le_bytes());
        self.outgoing.extend_from_slice(&u32::from(RECORD).to_le_bytes());
        let start = self.outgoing.len();
        self.outgoing.extend_from_slice(payload);
        let tag = self.sealer.seal(&mut self.outgoing[start..])?;
        self.outgoing.extend_from_slice(&tag);
        Ok(payload.len())
    }
}

impl<S: AsyncWrite + Unpin, K> RecordStream<S, K> {
    /// Writes what is sealed.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.outgoing.len() {
            let rest = &self.outgoing[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin, K: Unpin> AsyncRead for RecordStream<S, K> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let unread = &this.plaintext[this.taken..];
            if !unread.is_empty() {
                let count = unread.len().min(buffer.remaining());
                buffer.put_slice(&unread[..count]);
                this.taken += count;
                return Poll::Ready(Ok(()));
            }
            // A record may be empty, and the end of the stream must not look like that.
            if this.open().map_err(io::Error::from)? {
                continue;
            }
            let mut chunk = [0; READ_LEN];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut chunk))?;
            match chunk.filled() {
                [] if this.incoming.is_empty() => return Poll::Ready(Ok(())),
                [] => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                more => this.incoming.extend_from_slice(more),
            }
        }
    }
}

impl<S: AsyncWrite + Unpin, K: Unpin> AsyncWrite for RecordStream<S, K> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // One record waits at most, so that a peer that does not read costs no memory.
        ready!(self.poll_write_out(cx))?;
        let sealed = self.seal(bytes).map_err(|Refused| io::Error::other("no ALTS record is left for this key"))?;
        match self.poll_write_out(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(sealed)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const KEY_DATA: [u8; KEY_DATA_LEN] = [7; KEY_DATA_LEN];

    /// The client's stream, and the other end of what is below it.
    fn client(room: usize, received: Vec<u8>) -> (RecordStream<DuplexStream, ()>, DuplexStream) {
        let (near, far) = duplex(room);
        (RecordStream::client(near, &KEY_DATA, received, ()), far)
    }

    /// A frame that a peer with this cipher sends.
    fn frame(cipher: &mut Cipher, payload: &[u8]) -> Vec<u8> {
        let mut record = payload.to_vec();
        let tag = cipher.seal(&mut record).expect("a record is left");
        record.extend(tag);
        let length = u32::try_from(TYPE_LEN + record.len()).expect("it is short");
        [&length.to_le_bytes(), &[RECORD, 0, 0, 0][..], &record].concat()
    }

    fn server() -> Cipher {
        Cipher::new(&KEY_DATA, Sender::Server)
    }

    #[tokio::test]
    async fn frames_are_read_however_they_arrive() {
        let mut cipher = server();
        let large: Vec<u8> = (0..=255).cycle().take(MAX_FRAME - TYPE_LEN - TAG_LEN).collect();
        let payloads: [&[u8]; 5] = [b"one", b"", &large, b"", b"two"];
        let frames: Vec<Vec<u8>> = payloads.iter().map(|payload| frame(&mut cipher, payload)).collect();
        let (all, expected) = (frames.concat(), payloads.concat());
        // What came with the handshake may end anywhere.
        for early in [0, 1, 3, 4, 5, 11, 12, 40, 5000, all.len()] {
            for step in [1021, usize::MAX] {
                let (mut stream, mut far) = client(64 * 1024, all[..early].to_vec());
                let rest = all[early..].to_vec();
                let sent = tokio::spawn(async move {
                    for part in rest.chunks(step.min(rest.len().max(1))) {
                        far.write_all(part).await.expect("the stream is read");
                    }
                });
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.expect("all frames are whole");
                sent.await.expect("it ends");
                assert!(received == expected, "{early} {step}");
            }
        }
    }

    #[tokio::test]
    async fn bad_frames_are_refused() {
        let good = frame(&mut server(), b"payload");
        let with_length = |length: u32| [&length.to_le_bytes(), &good[LENGTH_LEN..]].concat();
        let mut other_type = good.clone();
        other_type[LENGTH_LEN] = 4;
        let mut changed = good.clone();
        changed[HEADER_LEN] ^= 1;
        let twice = [good.clone(), good.clone()].concat();
        let of_client = frame(&mut Cipher::new(&KEY_DATA, Sender::Client), b"payload");
        for (bytes, cause) in [
            (with_length(0), "it has 0 bytes, and 20 are the least"),
            (with_length(19), "it has 19 bytes, and 20 are the least"),
            (with_length(1_048_577), "it announces 1048577 bytes, and 1048576 are the most"),
            (with_length(u32::MAX), "it announces 4294967295 bytes, and 1048576 are the most"),
            (other_type, "its type is 4, not 6"),
            (with_length(26), "it cannot be decrypted"),
            (changed, "it cannot be decrypted"),
            (twice, "it cannot be decrypted"),
            (of_client, "it cannot be decrypted"),
            (b"HTTP/1.1 400 Bad Request".to_vec(), "it announces 1347703880 bytes, and 1048576 are the most"),
        ] {
            let (mut stream, mut far) = client(1024, Vec::new());
            far.write_all(&bytes).await.expect("there is room");
            let error = stream.read_to_end(&mut Vec::new()).await.expect_err(cause);
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            assert_eq!(inner, Some(&BadRecord(cause.to_owned())));
        }
    }

    #[tokio::test]
    async fn a_frame_that_is_cut_off_is_no_end() {
        let good = frame(&mut server(), b"payload");
        for length in 1..good.len() {
            let (mut stream, mut far) = client(1024, Vec::new());
            far.write_all(&good[..length]).await.expect("there is room");
            drop(far);
            let error = stream.read_to_end(&mut Vec::new()).await.expect_err("it is cut off");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }

    #[tokio::test]
    async fn frames_of_at_most_four_kibibytes_are_written() {
        let plaintext: Vec<u8> = (0..=255).cycle().take(3 * OUR_MAX_FRAME).collect();
        // The peer reads little at a time.
        let (mut stream, mut far) = client(97, Vec::new());
        let expected = plaintext.clone();
        let written = tokio::spawn(async move {
            stream.write_all(&plaintext).await.expect("it is read");
            stream.shutdown().await.expect("it is read");
        });
        let mut frames = Vec::new();
        far.read_to_end(&mut frames).await.expect("it is closed in good order");
        written.await.expect("it ends");
        let (mut opener, mut received) = (Cipher::new(&KEY_DATA, Sender::Client), Vec::new());
        let mut rest = frames.as_mut_slice();
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk_mut::<LENGTH_LEN>().expect("the length is whole");
            let length = u32::from_le_bytes(*length) as usize;
            assert!(LENGTH_LEN + length <= OUR_MAX_FRAME, "{length}");
            let (frame, after) = after.split_at_mut(length);
            assert_eq!(frame[..TYPE_LEN], [6, 0, 0, 0]);
            let length = opener.open(&mut frame[TYPE_LEN..]).expect("it is intact");
            received.extend_from_slice(&frame[TYPE_LEN..TYPE_LEN + length]);
            rest = after;
        }
        assert!(received == expected);
    }
}
