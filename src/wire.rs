//! What a peer was seen to send first. It tells what the peer is when it is not what was expected, and whether its
//! HTTP/2 SETTINGS have come.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

/// How many of the first bytes are kept.
const KEPT: usize = 512;
/// RFC 9113, section 4.1.
const FRAME_HEADER: usize = 9;
/// The largest frame before any SETTINGS allowed more (RFC 9113, section 4.2).
const MAX_FRAME: usize = 16_384;
/// How many bytes of something foreign are enough to say what it is.
const ENOUGH: usize = 64;

/// What has come from the peer so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The first bytes.
    head: Vec<u8>,
    /// How many bytes in all.
    total: usize,
    /// How the stream ended, if it did.
    end: Option<End>,
}

#[derive(Debug)]
pub(crate) enum End {
    /// The peer closed it.
    Closed,
    /// It broke.
    Broken(io::Error),
}

/// A GOAWAY frame (RFC 9113, section 6.8).
#[derive(Debug)]
pub(crate) struct GoAway {
    /// The last stream that the server has processed, or will.
    pub(crate) last_stream: u32,
    pub(crate) code: u32,
    pub(crate) text: String,
}

/// What the first bytes of a peer are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Nothing,
    /// A whole HTTP/2 SETTINGS frame: the peer is an HTTP/2 server.
    Settings,
    /// The beginning of something that could become SETTINGS.
    PartOfSettings(usize),
    /// Another HTTP/2 frame, which must not come first.
    Frame(&'static str),
    /// A TLS alert: its description (RFC 8446, section 6).
    TlsAlert(u8),
    /// Another TLS record.
    TlsRecord,
    /// An HTTP/1 response: its status line.
    Http1(String),
    /// An HTTP/1 response that asks for HTTPS, as TLS servers give to those who come without.
    Http1ForTls(String),
    /// A line of text, such as the banner of another protocol.
    Text(String),
    /// Anything else, in hexadecimal.
    Bytes(String),
}

impl Seen {
    pub(crate) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The parameters of a SETTINGS frame that came first, as far as it was kept.
    pub(crate) fn settings(&self) -> String {
        const NAMES: [&str; 6] = [
            "header_table_size",
            "enable_push",
            "max_concurrent_streams",
            "initial_window_size",
            "max_frame_size",
            "max_header_list_size",
        ];
        let [_, a, b, _, _, _, _, _, _, payload @ ..] = self.head.as_slice() else { return String::new() };
        let length = payload.len().min(usize::from(u16::from_be_bytes([*a, *b])));
        let parameters = payload[..length].chunks_exact(6).map(|parameter| {
            let id = u16::from_be_bytes([parameter[0], parameter[1]]);
            let value = u32::from_be_bytes([parameter[2], parameter[3], parameter[4], parameter[5]]);
            match NAMES.get(usize::from(id).wrapping_sub(1)) {
                Some(name) => format!("{name}={value}"),
                None => format!("{id:#x}={value}"),
            }
        });
        parameters.collect::<Vec<_>>().join(" ")
    }

    /// A GOAWAY among the first frames, as far as they were kept.
    pub(crate) fn goaway(&self) -> Option<GoAway> {
        const GOAWAY: u8 = 7;
        let mut rest = self.head.as_slice();
        while let [a, b, c, kind, _, _, _, _, _, payload @ ..] = rest {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let payload_end = length.min(payload.len());
            if let (GOAWAY, [s, t, u, v, w, x, y, z, text @ ..]) = (*kind, &payload[..payload_end]) {
                return Some(GoAway {
                    last_stream: u32::from_be_bytes([*s, *t, *u, *v]),
                    code: u32::from_be_bytes([*w, *x, *y, *z]),
                    text: String::from_utf8_lossy(text).into_owned(),
                });
            }
            rest = payload.get(length..)?;
        }
        None
    }

    /// Recognises the first bytes.
    pub(crate) fn opening(&self) -> Opening {
        let head = self.head.as_slice();
        match head {
            [] => Opening::Nothing,
            [21, 3, _, _, _, _, description, ..] => Opening::TlsAlert(*description),
            // No HTTP/2 frame is so long as to begin so.
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
            // Only a whole header is told from random bytes.
            return (stream.len() >= 4).then_some(Opening::Frame(name));
        }
        let on_connection = stream.iter().take(4).all(|byte| *byte == 0);
        (on_connection && length.is_multiple_of(6)).then_some(if self.total >= FRAME_HEADER + length {
            Opening::Settings
        } else {
            Opening::PartOfSettings(self.total)
        })
    }

    /// Whether this is not HTTP/2, and more of it would tell better what it is.
    fn is_foreign_and_open(&self) -> bool {
        !self.is_conclusive() && !matches!(self.opening(), Opening::Nothing | Opening::PartOfSettings(_))
    }

    /// Whether waiting for more would tell nothing more.
    fn is_conclusive(&self) -> bool {
        self.end.is_some()
            || match self.opening() {
                Opening::Nothing | Opening::PartOfSettings(_) => false,
                Opening::Settings | Opening::Frame(_) | Opening::TlsAlert(_) => true,
                Opening::Http1(_) | Opening::Http1ForTls(_) => {
                    self.head.len() == KEPT || self.head.windows(4).any(|bytes| bytes == b"\r\n\r\n")
                }
                Opening::TlsRecord | Opening::Text(_) | Opening::Bytes(_) => {
                    self.total >= ENOUGH || self.head.contains(&b'\n')
                }
            }
    }
}

impl fmt::Display for Opening {
    /// What the peer did, as the end of a sentence that begins with "the server".
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

/// Which protocol opens so.
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

/// A stream that notes what comes first from the peer.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    seen: watch::Sender<Seen>,
    /// Whether to keep what is not HTTP/2 from the reader until it is known what it is. h2 hangs up at once.
    holds_foreign: bool,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S) -> (Self, Witness) {
        let (seen, witness) = watch::channel(Seen::default());
        (Self { stream, seen, holds_foreign: false }, Witness(witness))
    }

    /// The same for a reader of HTTP/2, who is spared what is something else.
    pub(crate) fn for_http2(stream: S) -> (Self, Witness) {
        let (watched, witness) = Self::new(stream);
        (Self { holds_foreign: true, ..watched }, witness)
    }

    fn note_end(&self, end: End) {
        self.seen.send_if_modified(|seen| {
            let is_first = seen.end.is_none();
            seen.end.get_or_insert(end);
            is_first
        });
    }
}

/// Who knows what has come through a [`Watched`] stream, also when the stream is gone.
#[derive(Debug, Clone)]
pub(crate) struct Witness(watch::Receiver<Seen>);

impl Witness {
    /// Waits until the peer has shown what it is, or the stream is gone.
    pub(crate) async fn opening(&mut self) -> Opening {
        // An error means that the stream is gone; what it saw is still here.
        let _ = self.0.wait_for(Seen::is_conclusive).await;
        self.seen().opening()
    }

    /// Waits until the stream is gone.
    pub(crate) async fn gone(&mut self) {
        while self.0.changed().await.is_ok() {}
    }

    pub(crate) fn seen(&self) -> watch::Ref<'_, Seen> {
        self.0.borrow()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
            let new = &buffer.filled()[before..];
            match &result {
                Ok(()) if new.is_empty() => self.note_end(End::Closed),
                Ok(()) => {
                    self.seen.send_if_modified(|seen| {
                        let was_conclusive = seen.is_conclusive();
                        seen.total = seen.total.saturating_add(new.len());
                        let room = KEPT - seen.head.len();
                        seen.head.extend_from_slice(&new[..new.len().min(room)]);
                        !was_conclusive
                    });
                }
                Err(error) => self.note_end(End::Broken(copy_of(error))),
            }
            if !(self.holds_foreign && self.seen.borrow().is_foreign_and_open()) {
                return Poll::Ready(result);
            }
            buffer.set_filled(before);
        }
    }
}

/// A peer that refuses us says why and closes, and its reason waits to be read behind the broken pipe. So a write that
/// fails is not told: whoever writes here also reads, and gets the reason or the end of the stream.
impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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

/// An `io::Error` that says the same, TLS's errors within it kept typed.
fn copy_of(error: &io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => io::Error::new(error.kind(), tls.clone()),
        None => error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error),
    }
}
