//! The HTTP/2 connection, by hyper. It counts as connected when the server's SETTINGS arrive. Other bytes show which
//! protocol the server speaks.

mod bad_record;
mod errors;
mod first_bytes;
mod frame_follower;
mod read_pacer;
mod write_coalescer;

use std::{
    future::pending,
    sync::{Arc, OnceLock},
    time::Duration,
};

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;
use tonic::body::Body;

pub(crate) use self::{
    bad_record::BadRecord,
    errors::{NEEDS_HTTP2, Stage, alert_name, ended_silently, request_failure},
    first_bytes::{FirstBytes, Opening, PeerSniffer, StreamEnd},
    frame_follower::GoAway,
};
use self::{
    errors::{connection_failure, meaning_of_break, meaning_of_encryption},
    first_bytes::Received,
    frame_follower::MAX_HEADERS,
    read_pacer::ReadPacer,
    write_coalescer::WriteCoalescer,
};
use crate::{
    deadline::Deadline,
    net::Stream,
    outcome::{Failure, Kind, Phase, Retry},
    text::io_cause,
    trace::Trace,
};

/// The window of a stream, in bytes: the default of HTTP/2. An answer has about ten bytes.
const WINDOW: u32 = 65_535;
/// The same for a watch. If the output is slow, updates wait in the server and not here.
const WATCH_WINDOW: u32 = 8192;
/// What each service adds to the window of the connection, in bytes. h2 treats many small frames at once as an attack,
/// and allows about one per 500 bytes of the window.
const WINDOW_PER_SERVICE: u32 = 1024;
/// The largest window of a connection, in bytes.
const MAX_WINDOW: u32 = 4 << 20;
/// The setting by which a server says how large the headers of a request may be.
const SETTINGS_MAX_HEADER_LIST_SIZE: u16 = 6;
/// How long to wait until the last frames are written. A server that reads takes microseconds.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(50);

/// What to ask where a server does not speak HTTP/2, and nothing else is sure.
pub(crate) const IS_THIS_THE_PORT: &str = "is this the gRPC port?";

/// What a connection is for, which decides its windows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// This many requests with one answer each.
    Requests(usize),
    /// A stream of updates.
    Watch,
}

impl Purpose {
    fn connection_window(self) -> u32 {
        match self {
            Self::Watch => MAX_WINDOW,
            Self::Requests(count) => u32::try_from(count)
                .map_or(WINDOW, |count| count.saturating_mul(WINDOW_PER_SERVICE))
                .clamp(WINDOW, MAX_WINDOW),
        }
    }
}

/// A connection that takes requests.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) requests: SendRequest<Body>,
    first_bytes: FirstBytes,
    /// Why the connection broke, if its stream has not only ended.
    broken: Arc<OnceLock<Failure>>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct NotOpened {
    /// The cause, as far as HTTP/2 shows it.
    pub(crate) failure: Failure,
    /// How the stream ended, if it did. The caller asks TLS what that means.
    pub(crate) end: Option<StreamEnd>,
    /// Whether the server closed the stream before it sent anything.
    pub(crate) closed_silently: bool,
}

impl Connection {
    /// Begins HTTP/2 (RFC 9113, section 3.4) on `stream` and waits for the server's SETTINGS. `target` is the address as
    /// the user gave it, `is_encrypted` whether TLS or ALTS is below; both are for messages.
    ///
    /// # Errors
    /// Those of the phase http2.
    pub(crate) async fn open(
        stream: Stream,
        target: &str,
        is_encrypted: bool,
        purpose: Purpose,
        deadline: Deadline,
        trace: &Trace,
    ) -> Result<Self, NotOpened> {
        let phase_start = trace.begin(Phase::Http2);
        let (stream, mut first_bytes) = PeerSniffer::for_http2(stream);
        let start = async {
            let mut builder = Builder::new(TokioExecutor::new());
            builder.initial_connection_window_size(purpose.connection_window()).max_header_list_size(MAX_HEADERS);
            if matches!(purpose, Purpose::Watch) {
                // Without PINGs, which servers forbid to clients that send many: TCP notices when the server is gone.
                builder.initial_stream_window_size(WATCH_WINDOW);
            } else {
                builder.initial_stream_window_size(WINDOW);
            }
            let handshake = builder.handshake(TokioIo::new(WriteCoalescer::new(ReadPacer::new(stream)))).await;
            let opened = handshake.ok().map(|(requests, connection)| {
                let broken = Arc::new(OnceLock::new());
                let (set_broken, seen) = (Arc::clone(&broken), first_bytes.clone());
                tokio::spawn(async move {
                    if let Err(error) = connection.await
                        && let Some(failure) = connection_failure(&error, &seen)
                    {
                        set_broken.get_or_init(|| failure);
                    }
                });
                (requests, broken)
            });
            (opened, first_bytes.opening().await)
        };
        let started = deadline.bound(start).await;
        if let Ok((Some((requests, broken)), Opening::Settings)) = started {
            trace.end(Phase::Http2, phase_start, || {
                format!("SETTINGS {}", first_bytes.received().settings()).trim_end().to_owned()
            });
            return Ok(Self { requests, first_bytes, broken });
        }
        let missed = started.is_err().then_some(deadline);
        let received = first_bytes.received();
        Err(NotOpened {
            failure: failure(target, &received, is_encrypted, missed),
            end: received.end().cloned(),
            closed_silently: received.opening() == Opening::Nothing && missed.is_none(),
        })
    }

    /// How the stream below ended, if it did.
    pub(crate) fn end(&self) -> Option<StreamEnd> {
        self.first_bytes.received().end().cloned()
    }

    /// What came on the connection, to explain failures.
    pub(crate) fn seen(&self) -> FirstBytes {
        self.first_bytes.clone()
    }

    /// The server's last GOAWAY, if it sent one.
    pub(crate) fn goaway(&self) -> Option<GoAway> {
        self.first_bytes.received().goaway()
    }

    /// The parameters of the server's first SETTINGS.
    pub(crate) fn settings(&self) -> String {
        self.first_bytes.received().settings()
    }

    /// Waits for the server's first GOAWAY, if one ever arrives.
    pub(crate) async fn goaway_arrives(&self) -> GoAway {
        let mut first_bytes = self.first_bytes.clone();
        first_bytes.goaway_ends().await;
        match self.goaway() {
            Some(goaway) => goaway,
            None => pending().await,
        }
    }

    /// Whether the server allows a second request beside the one that runs.
    pub(crate) fn allows_two_requests(&self) -> bool {
        self.first_bytes.received().max_streams().is_none_or(|most| most >= 2)
    }

    /// How large the server's first SETTINGS allow the headers of a request to be, in bytes (RFC 9113, section 6.5.2).
    pub(crate) fn max_headers(&self) -> Option<u32> {
        self.first_bytes.received().setting(SETTINGS_MAX_HEADER_LIST_SIZE)
    }

    /// Why the connection broke, if its stream has not only ended. The error of a pending request does not say why.
    pub(crate) fn broken(&self) -> Option<&Failure> {
        self.broken.get()
    }

    /// What broke the stream below, where that tells more than that it ended.
    pub(crate) fn meaning_of_break(&self) -> Option<String> {
        match self.end() {
            Some(StreamEnd::Broken(error)) => meaning_of_break(&error),
            _ => None,
        }
    }

    /// Closes cleanly, so that the server logs no error: GOAWAY, TLS's `close_notify`, close.
    pub(crate) async fn close(self) {
        let Self { requests, mut first_bytes, .. } = self;
        // hyper closes the connection when the last sender of requests is dropped.
        drop(requests);
        // The time limit is for a server that does not read.
        let _ = timeout(CLOSE_TIMEOUT, first_bytes.gone()).await;
    }
}

/// Explains why there is no HTTP/2, from what arrived instead of SETTINGS. `missed` is the deadline, if it expired.
fn failure(target: &str, received: &Received, is_encrypted: bool, missed: Option<Deadline>) -> Failure {
    let failed = |kind, cause: &str| Failure::new(kind, format!("no HTTP/2 from {target}: {cause}"));
    let opening = received.opening();
    match (&opening, received.end(), missed) {
        (Opening::TlsAlert(_) | Opening::TlsRecord, ..) if !is_encrypted => {
            failed(Kind::ServerSpeaksTls, &format!("the server {opening}")).hint("add -tls")
        }
        (Opening::Http1ForTls(_), ..) if !is_encrypted => {
            failed(Kind::ServerSpeaksTls, &format!("the server {opening}, and asks for HTTPS")).hint("add -tls")
        }
        (Opening::Http1(_) | Opening::Http1ForTls(_), ..) => {
            failed(Kind::ServerSpeaksHttp1, &format!("the server {opening}")).hint(NEEDS_HTTP2)
        }
        (Opening::Text(_) | Opening::Bytes(_) | Opening::TlsAlert(_) | Opening::TlsRecord, ..) => {
            failed(Kind::NotHttp2, &format!("the server {opening}")).hint(IS_THIS_THE_PORT)
        }
        (Opening::Frame(_), ..) => {
            let Some(goaway) = received.goaway() else {
                return failed(Kind::Http2Refused, &format!("the server {opening}"));
            };
            let failure = failed(Kind::Http2Refused, &format!("{}: {goaway}", goaway.meaning_of_opening()));
            if goaway.wants_http1() { failure.hint(NEEDS_HTTP2) } else { failure }
        }
        (Opening::Nothing | Opening::PartOfSettings(_), _, Some(deadline)) => {
            let cause = format!("connected, but the server {opening} within {}", deadline.limit());
            let failure = failed(Kind::ServerSilent, &cause);
            if is_encrypted {
                failure
            } else {
                failure.hint("the server is stuck, or waits for TLS (try -tls), or this is not its gRPC port")
            }
        }
        (Opening::Nothing | Opening::PartOfSettings(_), end, None) => {
            let cause = match end {
                Some(StreamEnd::Broken(error)) => {
                    meaning_of_encryption(error).unwrap_or_else(|| format!("the connection broke: {}", io_cause(error)))
                }
                Some(StreamEnd::Closed) | None => "the server closed the connection".to_owned(),
            };
            let failure = failed(Kind::ClosedEarly, &cause).retry(Retry::WhileConnecting);
            if is_encrypted { failure } else { failure.hint(IS_THIS_THE_PORT) }
        }
        (Opening::Settings, ..) => failed(Kind::Http2Refused, "the server's SETTINGS came, and the connection broke"),
    }
}
