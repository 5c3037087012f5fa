//! What the errors of HTTP/2 mean, read from the types of hyper and h2.

use std::{fmt, io};

use h2::Reason;

use super::frame_follower::GoAway;
use crate::{
    outcome::{Failure, Kind, Retry},
    text::excerpt,
};

/// The most that the response's headers may take, decoded, in bytes.
pub(super) const MAX_HEADERS: u32 = 64 * 1024;
/// What a GOAWAY before or in place of an answer means.
pub(crate) const REFUSED: &str = "the server refused the connection";

impl fmt::Display for GoAway {
    /// Describes it for messages: its error code and its text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GOAWAY{}", in_brackets(Some(Reason::from(self.code))))?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": \"{}\"", excerpt(&self.text)) }
    }
}

impl GoAway {
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

const CLOSED: &str = "the server closed the connection during the response";

/// What it means that TCP gives up.
const GONE: &str = "the server is gone: it does not acknowledge what it is sent";

/// The failure of a request without a complete answer. Its message is the cause alone.
pub(crate) fn request_failure(error: &hyper::Error) -> Failure {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return h2_failure(error);
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Failure::new(Kind::StreamBroken, io_meaning(error)).retry(Retry::AfterGoAway);
        }
        source = error.source();
    }
    let ended = |cause| Failure::new(Kind::StreamBroken, cause).retry(Retry::AfterGoAway);
    if error.is_canceled() {
        return ended("the server closed the connection before it took the request");
    }
    ended(CLOSED)
}

fn h2_failure(error: &h2::Error) -> Failure {
    let reason = error.reason();
    let failed = |cause: &str| Failure::new(Kind::StreamBroken, format!("{cause}{}", in_brackets(reason)));
    let too_large = format!("headers are over our limit of {} KiB", MAX_HEADERS / 1024);
    if error.is_remote() && error.is_go_away() {
        // The request was not processed (RFC 9113, section 6.8).
        failed(&format!("{REFUSED}: GOAWAY")).retry(retry_after_goaway(reason.unwrap_or(Reason::NO_ERROR)))
    } else if error.is_remote() && error.is_reset() {
        let failure = failed(RESET);
        if reason == Some(Reason::REFUSED_STREAM) { failure.retry(Retry::OnSameConnection) } else { failure }
    } else if let Some(error) = error.get_io() {
        failed(io_meaning(error)).retry(Retry::AfterGoAway)
    } else {
        // h2 gave up. Its reason for headers over the limit is not theirs alone, unless they are far over it.
        failed(&match reason {
            Some(Reason::PROTOCOL_ERROR) if error.is_reset() => {
                format!("the response breaks the rules of HTTP/2, or its {too_large}")
            }
            Some(Reason::ENHANCE_YOUR_CALM) => format!("the response has too many frames, or its {too_large}"),
            Some(Reason::COMPRESSION_ERROR) => format!("the response's {too_large}"),
            _ => "the response breaks the rules of HTTP/2, or is too large".to_owned(),
        })
    }
}

/// What an error of the stream below means.
fn io_meaning(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => GONE,
        _ => CLOSED,
    }
}

const RESET: &str = "the server reset the stream: RST_STREAM";

/// The failure of a response that was reset with `NO_ERROR` or `CANCEL`, which hyper reports as its end.
pub(crate) fn reset_silently() -> Failure {
    Failure::new(Kind::StreamBroken, RESET)
}
