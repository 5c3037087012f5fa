//! What the errors of HTTP/2 mean, read from the types of hyper and h2.

use std::{error::Error as _, fmt, io};

use h2::Reason;
use rustls::AlertDescription;

use super::{
    bad_record::BadRecord,
    first_bytes::FirstBytes,
    frame_follower::{GoAway, MAX_HEADERS},
};
use crate::{
    outcome::{Failure, Kind, Retry},
    text::{excerpt, snake_case},
};

/// What a GOAWAY with an error code means before, or in place of, an answer.
const REFUSED: &str = "the server refused the connection";
/// What a GOAWAY without an error code means in place of an answer: the server stops, or the connection is old.
const TOOK_NOTHING: &str = "the server closed the connection before it took the request";
/// What to do where the server wants HTTP/1.1.
pub(crate) const NEEDS_HTTP2: &str = "gRPC needs HTTP/2; is this the gRPC port, or a proxy without HTTP/2?";

impl fmt::Display for GoAway {
    /// Describes it for messages: its error code and its text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GOAWAY{}", in_brackets(Some(Reason::from(self.code))))?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": \"{}\"", excerpt(&self.text)) }
    }
}

impl GoAway {
    /// What it means for a request that the server has not processed.
    pub(crate) fn meaning(&self) -> &'static str {
        if self.is_routine() { TOOK_NOTHING } else { REFUSED }
    }

    /// What it means where it comes before the server's SETTINGS.
    pub(super) fn meaning_of_opening(&self) -> &'static str {
        if self.is_routine() { "the server closed the connection before its SETTINGS" } else { REFUSED }
    }

    /// Whether the server wants HTTP/1.1 instead.
    pub(super) fn wants_http1(&self) -> bool {
        Reason::from(self.code) == Reason::HTTP_1_1_REQUIRED
    }

    /// Whether the server says that it took requests, and which. A server that only begins to close names the largest number.
    pub(crate) fn took_requests(&self) -> bool {
        const LARGEST: u32 = 0x7fff_ffff;
        (1..LARGEST).contains(&self.last_stream)
    }

    /// How to retry a request that it left out.
    pub(crate) fn retry(&self) -> Retry {
        retry_after_goaway(Reason::from(self.code))
    }
}

/// A server that closes connections in good order accepts requests on new ones. After a GOAWAY with an error code there is one
/// retry.
fn retry_after_goaway(reason: Reason) -> Retry {
    if reason == Reason::NO_ERROR { Retry::UntilDeadline } else { Retry::OnNewConnection }
}

/// Names an error code as RFC 9113 does, or by its number, to stand after the name of a frame.
fn in_brackets(code: Option<Reason>) -> String {
    match code.map(|reason| (reason, u32::from(reason))) {
        Some((reason, 0..=13)) => format!(" ({reason:?})"),
        Some((_, code)) => format!(" (code {code})"),
        None => String::new(),
    }
}

/// What it means that TCP gives up.
const GONE: &str = "the server is gone: it does not acknowledge what it is sent";
const BREAKS_RULES: &str = "the response breaks the rules of HTTP/2, or is too large";
/// What a reset of TCP means.
const CONNECTION_RESET: &str = "the server reset the connection";
/// What a reset of HTTP/2's stream means.
const RESET: &str = "the server reset the stream: RST_STREAM";

/// How far the response to a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its headers have not arrived.
    Awaited,
    /// Its headers have arrived, and its end has not.
    Begun,
}

/// The failure of a request without a complete answer. Its message is the cause alone. `seen` is what came on the connection.
pub(crate) fn request_failure(error: &hyper::Error, stage: Stage, seen: &FirstBytes) -> Failure {
    let ended = |cause| Failure::new(Kind::StreamBroken, cause).retry(Retry::AfterGoAway);
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return h2_failure(error, stage, seen);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return ended(io_meaning(error, stage));
        }
        source = error.source();
    }
    ended(if error.is_canceled() { TOOK_NOTHING } else { closed(stage) })
}

fn closed(stage: Stage) -> &'static str {
    match stage {
        Stage::Awaited => "the server closed the connection without a response",
        Stage::Begun => "the server closed the connection during the response",
    }
}

fn h2_failure(error: &h2::Error, stage: Stage, seen: &FirstBytes) -> Failure {
    let reason = error.reason();
    let failed = |cause: &str| {
        let failure = Failure::new(Kind::StreamBroken, format!("{cause}{}", in_brackets(reason)));
        if error.is_remote() && reason == Some(Reason::HTTP_1_1_REQUIRED) { failure.hint(NEEDS_HTTP2) } else { failure }
    };
    if error.is_remote() && error.is_go_away() {
        // The request was not processed (RFC 9113, section 6.8).
        let reason = reason.unwrap_or(Reason::NO_ERROR);
        let meaning = if reason == Reason::NO_ERROR { TOOK_NOTHING } else { REFUSED };
        failed(&format!("{meaning}: GOAWAY")).retry(retry_after_goaway(reason))
    } else if error.is_remote() && error.is_reset() {
        let failure = failed(RESET);
        if reason == Some(Reason::REFUSED_STREAM) { failure.retry(Retry::OnSameConnection) } else { failure }
    } else if let Some(error) = error.get_io() {
        failed(io_meaning(error, stage)).retry(Retry::AfterGoAway)
    } else {
        gave_up(error, seen)
    }
}

/// The failure of a request, or of a connection, that h2 gave up.
fn gave_up(error: &h2::Error, seen: &FirstBytes) -> Failure {
    let reason = error.reason();
    let too_large = format!("headers are over our limit of {} KiB", MAX_HEADERS / 1024);
    let failed = |cause: &str| Failure::new(Kind::StreamBroken, format!("{cause}{}", in_brackets(reason)));
    // Its reason for headers over the limit is not theirs alone, unless they are far over it.
    if error.is_reset() {
        return failed(&match reason {
            Some(Reason::PROTOCOL_ERROR) => format!("the response breaks the rules of HTTP/2, or its {too_large}"),
            _ => BREAKS_RULES.to_owned(),
        });
    }
    let received = seen.received();
    let blocks = received.blocks();
    let failure = match reason {
        Some(Reason::ENHANCE_YOUR_CALM) if blocks.is_flood() => Failure::new(
            Kind::StreamBroken,
            "the server floods us with CONTINUATION frames, and its headers do not end",
        ),
        Some(Reason::ENHANCE_YOUR_CALM) => failed(&format!("the response has too many frames, or its {too_large}")),
        Some(Reason::COMPRESSION_ERROR) => failed(&format!("the response's {too_large}")),
        Some(Reason::PROTOCOL_ERROR) if blocks.only_their_content_can_be_wrong() => {
            Failure::new(Kind::StreamBroken, "the response's headers cannot be decoded (a bad HPACK block)")
        }
        _ => failed(BREAKS_RULES),
    };
    failure.retry(Retry::AfterGoAway)
}

/// Why a connection broke, unless the stream below has only ended.
pub(super) fn connection_failure(error: &hyper::Error, seen: &FirstBytes) -> Option<Failure> {
    let error = error.source()?.downcast_ref::<h2::Error>().filter(|error| !error.is_io())?;
    Some(h2_failure(error, Stage::Awaited, seen))
}

/// What an error of the stream below means.
fn io_meaning(error: &io::Error, stage: Stage) -> &'static str {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => GONE,
        io::ErrorKind::ConnectionReset => CONNECTION_RESET,
        _ => closed(stage),
    }
}

/// What broke the stream below, where that tells more than that it ended.
pub(super) fn meaning_of_break(error: &io::Error) -> Option<String> {
    if error.kind() == io::ErrorKind::ConnectionReset {
        return Some(CONNECTION_RESET.to_owned());
    }
    meaning_of_encryption(error)
}

/// What broke TLS or ALTS: an alert of the server, or what we could not accept.
pub(super) fn meaning_of_encryption(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?;
    if let Some(bad_record) = inner.downcast_ref::<BadRecord>() {
        return Some(bad_record.to_string());
    }
    Some(match inner.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => format!("the server ended TLS with the alert {}", alert_name(*alert)),
        rustls::Error::DecryptError => {
            "what the server sent cannot be decrypted: it is corrupt (bad record MAC)".to_owned()
        }
        error => format!("the server breaks the rules of TLS: {error}"),
    })
}

/// Names an alert as RFC 8446 does.
pub(crate) fn alert_name(alert: AlertDescription) -> String {
    snake_case(&format!("{alert:?}"))
}

/// The failure of a response that hyper reports as ended, though it is not: the stream was reset with `NO_ERROR` or `CANCEL`, or
/// the connection ended. Servers that close a connection also reset its streams so.
pub(crate) fn ended_silently(seen: &FirstBytes) -> Failure {
    let received = seen.received();
    if received.has_reset() && received.goaway().is_none() {
        Failure::new(Kind::StreamBroken, RESET)
    } else {
        Failure::new(Kind::StreamBroken, closed(Stage::Begun)).retry(Retry::AfterGoAway)
    }
}
