//! Records the first bytes from a peer. They show whether HTTP/2 SETTINGS arrived, and otherwise which protocol the peer
//! speaks.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

use super::{
    bad_record::BadRecord,
    frame_follower::{FRAME_HEADER, FrameFollower, GoAway, HeaderBlocks},
};

/// How many of the first bytes are kept.
const MAX_HEAD: usize = 512;
/// The largest frame, in bytes, before SETTINGS allow more (RFC 9113, section 4.2).
const MAX_FRAME: usize = 16_384;
/// How many bytes are enough to recognise another protocol.
const RECOGNISABLE: usize = 64;

/// What the peer has sent so far.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// The first bytes.
    head: Vec<u8>,
    /// The number of bytes received.
    total: usize,
    /// The frames, if these are frames.
    frames: FrameFollower,
    /// How the stream ended, if it did.
    end: Option<StreamEnd>,
}

/// How a stream ended.
#[derive(Debug, Clone)]
pub(crate) enum StreamEnd {
    /// The peer closed it.
    Closed,
    /// It failed. Under TLS, the error contains the server's alert.
    Broken(Arc<io::Error>),
}

/// What the first bytes of a peer look like.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Nothing,
    /// A complete HTTP/2 SETTINGS frame: the peer is an HTTP/2 server.
    Settings,
    /// The beginning of a possible SETTINGS frame: its bytes so far.
    PartOfSettings(usize),
    /// Another HTTP/2 frame, which must not come first (RFC 9113, section 3.4).
    Frame(&'static str),
    /// A TLS alert: its description (RFC 8446, section 6).
    TlsAlert(u8),
    /// Another TLS record.
    TlsRecord,
    /// An HTTP/1 response: its status line.
    Http1(String),
    /// An HTTP/1 response that requires HTTPS, as TLS servers send to plaintext clients.
    Http1ForTls(String),
    /// A line of text, such as the greeting of another protocol.
    Text(String),
    /// Anything else, in hexadecimal.
    Bytes(String),
}

impl Received {
    /// How many bytes came.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Whether they may begin a message with its length in four bytes, little-endian, and less than 64 KiB, as in ALTS.
    pub(crate) fn may_be_alts(&self) -> bool {
        matches!(self.head.as_slice(), [_, _, 0, 0, ..])
    }

    pub(crate) fn end(&self) -> Option<&StreamEnd> {
        self.end.as_ref()
    }

    /// The parameters of the first frame, if it is SETTINGS, as far as its bytes are kept.
    pub(crate) fn settings(&self) -> String {
        const NAMES: [&str; 6] = [
            "header_table_size",
            "enable_push",
            "max_concurrent_streams",
            "initial_window_size",
            "max_frame_size",
            "max_header_list_size",
        ];
        let parameters = self.parameters().map(|(id, value)| match NAMES.get(usize::from(id).wrapping_sub(1)) {
            Some(name) => format!("{name}={value}"),
            None => format!("{id:#x}={value}"),
        });
        parameters.collect::<Vec<_>>().join(" ")
    }

    /// The value of one of these parameters. The last one counts (RFC 9113, section 6.5.3).
    pub(crate) fn setting(&self, wanted: u16) -> Option<u32> {
        self.parameters().filter(|(id, _)| *id == wanted).last().map(|(_, value)| value)
    }

    /// The parameters of a SETTINGS frame, each by its number.
    fn parameters(&self) -> impl Iterator<Item = (u16, u32)> {
        let payload = match self.head.as_slice() {
            [_, a, b, _, _, _, _, _, _, payload @ ..] => {
                &payload[..payload.len().min(usize::from(u16::from_be_bytes([*a, *b])))]
            }
            _ => &[],
        };
        payload.chunks_exact(6).map(|parameter| {
            let id = u16::from_be_bytes([parameter[0], parameter[1]]);
            (id, u32::from_be_bytes([parameter[2], parameter[3], parameter[4], parameter[5]]))
        })
    }

    /// The last GOAWAY, as far as it arrived.
    pub(super) fn goaway(&self) -> Option<GoAway> {
        self.frames.goaway()
    }

    /// Whether the server reset a stream.
    pub(super) fn has_reset(&self) -> bool {
        self.frames.has_reset()
    }

    /// The blocks of headers that came.
    pub(super) fn blocks(&self) -> &HeaderBlocks {
        self.frames.blocks()
    }

    /// How many requests the server allows at once, if it says so.
    pub(super) fn max_streams(&self) -> Option<u32> {
        self.frames.max_streams()
    }

    /// Recognises what the first bytes are.
    pub(crate) fn opening(&self) -> Opening {
        let head = self.head.as_slice();
        match head {
            [] => Opening::Nothing,
            [21, 3, _, _, _, _, description, ..] => Opening::TlsAlert(*description),
            // As an HTTP/2 frame, this would exceed the maximum length.
            [20..=23] | [20..=23, 3, ..] => Opening::TlsRecord,
            _ if head.starts_with(b"HTTP/") => {
                let asks_for_https = head.windows(6).any(|window| window == b"HTTPS ");
                let opening = if asks_for_https { Opening::Http1ForTls } else { Opening::Http1 };
                opening(first_line(head))
            }
            _ => self.frame().unwrap_or_else(|| {
                let text = first_line(head);
                let is_text =
                    text.len() > 1 && text.chars().all(|c| !c.is_control() && c != char::REPLACEMENT_CHARACTER);
                if is_text { Opening::Text(text) } else { Opening::Bytes(hexadecimal(head)) }
            }),
        }
    }

    /// The first bytes as an HTTP/2 frame, unless they cannot be one.
    fn frame(&self) -> Option<Opening> {
        const NAMES: [&str; 10] = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        const SETTINGS: u8 = 4;

        let [a, b, c, kind, flags, stream @ ..] = self.head.as_slice() else {
            let could_be = self.head.iter().zip([0, 0x40]).all(|(byte, most)| *byte <= most);
            return could_be.then_some(Opening::PartOfSettings(self.total));
        };
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let name = NAMES.get(usize::from(*kind))?;
        if length > MAX_FRAME {
            return None;
        }
        let is_acknowledgement = *kind == SETTINGS && *flags & 1 != 0;
        if *kind != SETTINGS || is_acknowledgement {
            let name = if is_acknowledgement { "SETTINGS acknowledgement" } else { name };
            // A shorter header could be random bytes.
            return (stream.len() >= 4).then_some(Opening::Frame(name));
        }
        let on_connection = stream.iter().take(4).all(|byte| *byte == 0);
        (on_connection && length.is_multiple_of(6)).then_some(if self.total >= FRAME_HEADER + length {
            Opening::Settings
        } else {
            Opening::PartOfSettings(self.total)
        })
    }

    /// Whether this is not HTTP/2, and more bytes could show which protocol it is.
    fn is_foreign_and_open(&self) -> bool {
        !self.is_conclusive() && !matches!(self.opening(), Opening::Nothing | Opening::PartOfSettings(_))
    }

    /// Whether more bytes would not change the result.
    fn is_conclusive(&self) -> bool {
        self.end.is_some()
            || match self.opening() {
                Opening::Nothing | Opening::PartOfSettings(_) => false,
                Opening::Settings | Opening::Frame(_) | Opening::TlsAlert(_) => true,
                Opening::Http1(_) | Opening::Http1ForTls(_) => {
                    self.head.len() == MAX_HEAD || self.head.windows(4).any(|bytes| bytes == b"\r\n\r\n")
                }
                Opening::TlsRecord | Opening::Text(_) | Opening::Bytes(_) => {
                    self.total >= RECOGNISABLE || self.head.contains(&b'\n')
                }
            }
    }
}

impl fmt::Display for Opening {
    /// Says what the peer did, to complete a sentence that begins with "the server".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("sent nothing"),
            Self::Settings => f.write_str("answered with HTTP/2 in plaintext"),
            Self::PartOfSettings(count) => write!(f, "sent {count} bytes, not a whole SETTINGS frame"),
            Self::Frame(name) => write!(f, "sent an HTTP/2 {name} frame first, not SETTINGS"),
            Self::TlsAlert(_) => f.write_str("answered with a TLS alert"),
            Self::TlsRecord => f.write_str("answered with a TLS record"),
            Self::Http1(line) | Self::Http1ForTls(line) => write!(f, "answered with HTTP/1: {line:?}"),
            Self::Text(line) => match protocol_of(line) {
                Some(protocol) => write!(f, "answered with {line:?}, as {protocol} does"),
                None => write!(f, "answered with {line:?}"),
            },
            Self::Bytes(bytes) => write!(f, "answered with the bytes {bytes}"),
        }
    }
}

/// The protocol in which a server sends such a line first.
fn protocol_of(line: &str) -> Option<&'static str> {
    let openings = [
        ("SSH-", "SSH"),
        ("220 ", "SMTP or FTP"),
        ("220-", "SMTP or FTP"),
        ("+OK", "POP3 or Redis"),
        ("-ERR", "Redis"),
        ("* OK", "IMAP"),
        ("RFB ", "VNC"),
        ("<", "an HTML or XML page"),
    ];
    openings.into_iter().find_map(|(opening, protocol)| line.starts_with(opening).then_some(protocol))
}

fn first_line(head: &[u8]) -> String {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned()
}

fn hexadecimal(head: &[u8]) -> String {
    let bytes: Vec<String> = head.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

/// A stream that records the first bytes from the peer.
#[derive(Debug)]
pub(crate) struct PeerSniffer<S> {
    stream: S,
    received: watch::Sender<Received>,
    /// Whether to hold back bytes that are not HTTP/2 until the protocol is recognised. h2 would close at the first byte.
    holds_foreign: bool,
}

impl<S> PeerSniffer<S> {
    pub(crate) fn new(stream: S) -> (Self, FirstBytes) {
        let (received, first_bytes) = watch::channel(Received::default());
        (Self { stream, received, holds_foreign: false }, FirstBytes(first_bytes))
    }

    /// The same for an HTTP/2 connection: it holds back bytes of another protocol until that is recognised.
    pub(crate) fn for_http2(stream: S) -> (Self, FirstBytes) {
        let (sniffer, first_bytes) = Self::new(stream);
        (Self { holds_foreign: true, ..sniffer }, first_bytes)
    }

    fn note_end(&self, end: StreamEnd) {
        self.received.send_if_modified(|received| {
            let is_first = received.end.is_none();
            received.end.get_or_insert(end);
            is_first
        });
    }
}

/// What a [`PeerSniffer`] recorded. It outlives the stream.
#[derive(Debug, Clone)]
pub(crate) struct FirstBytes(watch::Receiver<Received>);

impl FirstBytes {
    /// Waits until the protocol is recognised or the stream is dropped.
    pub(crate) async fn opening(&mut self) -> Opening {
        // An error means that the stream was dropped. Its bytes are still available.
        let _ = self.0.wait_for(Received::is_conclusive).await;
        self.received().opening()
    }

    /// Waits until a whole GOAWAY has arrived, or the stream is gone.
    pub(crate) async fn goaway_ends(&mut self) {
        let _ = self.0.wait_for(|received| received.frames.has_goaway()).await;
    }

    /// Waits until the stream is gone.
    pub(crate) async fn gone(&mut self) {
        while self.0.changed().await.is_ok() {}
    }

    pub(crate) fn received(&self) -> watch::Ref<'_, Received> {
        self.0.borrow()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerSniffer<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
            let new = &buffer.filled()[before..];
            let is_http2 = self.holds_foreign;
            match &result {
                Ok(()) if new.is_empty() => self.note_end(StreamEnd::Closed),
                Ok(()) => {
                    self.received.send_if_modified(|received| {
                        let was_conclusive = received.is_conclusive();
                        let is_goaway = is_http2 && received.frames.take(new);
                        received.total = received.total.saturating_add(new.len());
                        let room = MAX_HEAD - received.head.len();
                        received.head.extend_from_slice(&new[..new.len().min(room)]);
                        !was_conclusive || is_goaway
                    });
                }
                Err(error) => self.note_end(StreamEnd::Broken(Arc::new(copy_of(error)))),
            }
            if !(self.holds_foreign && self.received.borrow().is_foreign_and_open()) {
                return Poll::Ready(result);
            }
            buffer.set_filled(before);
        }
    }
}

/// A peer that rejects the connection sends its reason and closes. The reason is still readable after writes begin to fail.
/// So this reports no write errors: the writer also reads, and gets the reason or the end of the stream.
impl<S: AsyncWrite + Unpin> AsyncWrite for PeerSniffer<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(Ok(written.unwrap_or(bytes.len())))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Copies an `io::Error`. An error of TLS or ALTS inside keeps its type.
fn copy_of(error: &io::Error) -> io::Error {
    let inner = error.get_ref();
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return io::Error::new(error.kind(), tls.clone());
    }
    match inner.and_then(|inner| inner.downcast_ref::<BadRecord>()) {
        Some(bad_record) => bad_record.clone().into(),
        None => error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error),
    }
}
