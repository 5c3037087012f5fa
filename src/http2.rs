//! The HTTP/2 connection, hyper's. It counts as connected when the server's SETTINGS have come; what came instead
//! tells what the server is.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use h2::Reason;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::timeout;
use tonic::body::Body;

use crate::{
    config::{Config, Question},
    connect::{Stream, connect},
    deadline::Deadline,
    gather::Gathered,
    guard,
    journal::Journal,
    outcome::{Failure, Kind, Phase, Retry},
    text::{plain, shown},
    tls,
    wire::{End, GoAway, Opening, Seen, Watched, Witness},
};

/// What a server may send of one answer, some ten bytes, before we ask for more. It is HTTP/2's default.
const WINDOW: u32 = 65_535;
/// The same of a watch, whose updates wait in the server rather than here where nobody reads them fast enough.
const WATCH_WINDOW: u32 = 8192;
/// What each service adds to the window of the connection. h2 takes too many small frames at once for an attack, and
/// allows one for some 500 bytes of it.
const WINDOW_FOR_EACH: u32 = 1024;
/// What the connection may hold at most.
const MAX_WINDOW: u32 = 4 << 20;
/// The most that the response's headers may take, decoded.
const MAX_HEADERS: u32 = 64 * 1024;
/// A watched server that has been silent for so long gets a PING (RFC 9113, section 6.7). A `Check` now and then keeps
/// it from coming to that: servers take clients that send PINGs alone for abusive.
const PING_AFTER: Duration = Duration::from_secs(15);
/// How long a server may take to answer a PING.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the farewell to be written. A server that reads takes microseconds.
const FAREWELL: Duration = Duration::from_millis(50);

/// What a GOAWAY before or in place of an answer means.
pub(crate) const REFUSED: &str = "the server refused the connection";

/// A connection that takes requests.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) requests: SendRequest<Body>,
    witness: Witness,
    /// Why the connection ended, if it ended badly.
    broken: Arc<OnceLock<Failure>>,
}

fn connection_window(config: &Config) -> u32 {
    if matches!(config.question, Question::Watch(_)) {
        return MAX_WINDOW;
    }
    u32::try_from(config.question.services().len())
        .map_or(WINDOW, |services| services.saturating_mul(WINDOW_FOR_EACH))
        .clamp(WINDOW, MAX_WINDOW)
}

/// Whether a server that closed a TLS connection without a word answers HTTP/2 in plaintext on another one.
pub(crate) async fn speaks_plaintext(config: &Config, deadline: Deadline) -> bool {
    let journal = Journal::new(None);
    match connect(config, deadline, &journal).await {
        Ok(stream) => match Connection::open(stream, config, None, deadline, &journal).await {
            Ok(connection) => {
                connection.close().await;
                true
            }
            Err(_) => false,
        },
        Err(_) => false,
    }
}

impl Connection {
    /// Begins HTTP/2 (RFC 9113, section 3.4) on `stream` and waits for the server's SETTINGS.
    ///
    /// # Errors
    /// Those of the phase http2, and those of tls that show only now.
    pub(crate) async fn open(
        stream: Stream,
        config: &Config,
        tls: Option<&tls::Client>,
        deadline: Deadline,
        journal: &Journal,
    ) -> Result<Self, Failure> {
        let begun = journal.begin(Phase::Http2);
        let (stream, mut witness) = Watched::for_http2(stream);
        let start = async {
            let mut builder = Builder::new(TokioExecutor::new());
            builder.initial_connection_window_size(connection_window(config)).max_header_list_size(MAX_HEADERS);
            if matches!(config.question, Question::Watch(_)) {
                builder.timer(TokioTimer::new()).keep_alive_interval(PING_AFTER).keep_alive_timeout(PING_TIMEOUT);
                builder.initial_stream_window_size(WATCH_WINDOW);
            } else {
                builder.initial_stream_window_size(WINDOW);
            }
            let handshake = builder.handshake(TokioIo::new(Gathered::new(stream))).await;
            let opened = handshake.ok().map(|(requests, connection)| {
                let broken = Arc::new(OnceLock::new());
                let tell = Arc::clone(&broken);
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tell.get_or_init(|| guard::broken(&error));
                    }
                });
                (requests, broken)
            });
            (opened, witness.opening().await)
        };
        let started = deadline.bound(start).await;
        if let Ok((Some((requests, broken)), Opening::Settings)) = started {
            journal
                .end(Phase::Http2, begun, || format!("SETTINGS {}", witness.seen().settings()).trim_end().to_owned());
            return Ok(Self { requests, witness, broken });
        }
        let late = started.is_err().then_some(deadline);
        let seen = witness.seen();
        let tls_failure = tls.and_then(|tls| {
            let is_silent = seen.opening() == Opening::Nothing && late.is_none();
            tls.late_alert(config, seen.end()).or_else(|| tls.silent_refusal(config).filter(|_| is_silent))
        });
        Err(tls_failure.unwrap_or_else(|| failure(config, &seen, tls.is_some(), late)))
    }

    /// The failure that a late alert of the server tells, if one came.
    pub(crate) fn late_alert(&self, config: &Config, tls: Option<&tls::Client>) -> Option<Failure> {
        tls?.late_alert(config, self.witness.seen().end())
    }

    /// A GOAWAY that came among the server's first frames, as messages tell it, and whether it left out our request.
    pub(crate) fn goaway(&self) -> Option<(String, bool)> {
        let goaway = self.witness.seen().goaway()?;
        Some((describe(&goaway), goaway.last_stream == 0))
    }

    /// Why the connection ended, if it ended badly. A request that was still waiting knows only that it did.
    pub(crate) fn broken(&self) -> Option<&Failure> {
        self.broken.get()
    }

    /// Says goodbye: GOAWAY, TLS's `close_notify`, close. The server's log stays clean.
    pub(crate) async fn close(self) {
        let Self { requests, mut witness, .. } = self;
        // Without a sender left hyper ends the connection in good order.
        drop(requests);
        // A server that does not read gets no farewell.
        let _ = timeout(FAREWELL, witness.gone()).await;
    }
}

fn describe(GoAway { code, text, .. }: &GoAway) -> String {
    let text = if text.is_empty() { String::new() } else { format!(": \"{}\"", shown(text)) };
    format!("GOAWAY{}{text}", in_brackets(Some(Reason::from(*code))))
}

/// An error code's name as RFC 9113 writes it, or its number, behind the name of a frame.
pub(crate) fn in_brackets(code: Option<Reason>) -> String {
    match code.map(|reason| (reason, u32::from(reason))) {
        Some((reason, 0..=13)) => format!(" ({reason:?})"),
        Some((_, code)) => format!(" (code {code})"),
        None => String::new(),
    }
}

/// Why there is no HTTP/2: by what came instead of SETTINGS, if anything did until `late`.
fn failure(config: &Config, seen: &Seen, through_tls: bool, late: Option<Deadline>) -> Failure {
    let failed = |kind, cause: &str| Failure::new(kind, format!("no HTTP/2 from {}: {cause}", config.address));
    let opening = seen.opening();
    match (&opening, seen.end(), late) {
        (Opening::TlsAlert(_) | Opening::TlsRecord, ..) if !through_tls => {
            failed(Kind::ServerSpeaksTls, &format!("the server {opening}")).hint("add -tls")
        }
        (Opening::Http1ForTls(_), ..) if !through_tls => {
            failed(Kind::ServerSpeaksTls, &format!("the server {opening}, and asks for HTTPS")).hint("add -tls")
        }
        (Opening::Http1(_) | Opening::Http1ForTls(_), ..) => {
            failed(Kind::ServerSpeaksHttp1, &format!("the server {opening}"))
                .hint("gRPC needs HTTP/2; is this the gRPC port, or a proxy without HTTP/2?")
        }
        (Opening::Text(_) | Opening::Bytes(_) | Opening::TlsAlert(_) | Opening::TlsRecord, ..) => {
            failed(Kind::NotHttp2, &format!("the server {opening}")).hint("is this the gRPC port?")
        }
        (Opening::Frame(_), ..) => {
            let cause = match seen.goaway() {
                Some(goaway) => format!("{REFUSED}: {}", describe(&goaway)),
                None => format!("the server {opening}"),
            };
            failed(Kind::Http2Refused, &cause)
        }
        (Opening::Nothing | Opening::PartOfSettings(_), _, Some(deadline)) => {
            let cause = format!("connected, but the server {opening} within {}", deadline.limit());
            let failure = failed(Kind::ServerSilent, &cause);
            if through_tls {
                failure
            } else {
                failure.hint("the server is stuck, or waits for TLS (try -tls), or this is not its gRPC port")
            }
        }
        (Opening::Nothing | Opening::PartOfSettings(_), end, None) => {
            let cause = match end {
                Some(End::Broken(error)) => format!("the connection broke: {}", plain(error)),
                Some(End::Closed) | None => "the server closed the connection".to_owned(),
            };
            let failure = failed(Kind::ClosedEarly, &cause).retry(Retry::WhileConnecting);
            if through_tls {
                failure
            } else {
                failure.hint("is this the gRPC port? some TLS servers close so; try -tls")
            }
        }
        (Opening::Settings, ..) => failed(Kind::Http2Refused, "the server's SETTINGS came, and the connection broke"),
    }
}
