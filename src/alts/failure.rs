//! What the failures of a handshake mean.

use tonic::Code;

use crate::{
    deadline::Deadline,
    http2::{FirstBytes, Opening},
    outcome::{Failure, Kind, Retry},
    text::{excerpt, leave_out, snake_case},
};

/// One handshake, with the data for its failure messages.
pub(super) struct Attempt<'a> {
    /// The address as the user gave it.
    pub(super) target: &'a str,
    /// The flag that enables ALTS, or the variable that stands for it.
    pub(super) given_by: &'a str,
}

impl Attempt<'_> {
    pub(super) fn failed(&self, kind: Kind, cause: &str) -> Failure {
        Failure::new(kind, format!("ALTS handshake with {} failed: {cause}", self.target))
    }

    /// A failure of the handshaker, whose message is the cause alone.
    pub(super) fn by_handshaker(&self, failure: Failure) -> Failure {
        let message = self.failed(failure.kind, &failure.message).message;
        Failure { message, ..failure }
    }

    /// A status of the handshaker that is not OK.
    pub(super) fn refused(&self, handshaker: &str, code: u32, details: &str) -> Failure {
        let code = i32::try_from(code).map_or(Code::Unknown, Code::from);
        let details = if details.is_empty() { String::new() } else { format!(": {}", excerpt(details)) };
        let name = snake_case(&format!("{code:?}")).to_ascii_uppercase();
        let failure = self.failed(Kind::AltsRefused, &format!("{handshaker} refused it: {name}{details}")).code(code);
        let is_busy = matches!(code, Code::ResourceExhausted | Code::DeadlineExceeded | Code::Aborted);
        if is_busy { failure.transient() } else { failure }
    }

    /// An answer of the handshaker that makes no sense.
    pub(super) fn broken(&self, handshaker: &str, cause: &str) -> Failure {
        self.failed(Kind::AltsHandshaker, &format!("{handshaker} {cause}"))
    }

    pub(super) fn other_protocol(&self, cause: &str) -> Failure {
        self.failed(Kind::AltsOtherProtocol, &format!("the server does not speak ALTS: it {cause}"))
            .hint(format!("{}, or probe the server's ALTS port", leave_out(self.given_by)))
    }

    /// The failure of a server that sent bytes of another protocol.
    pub(super) fn by_first_bytes(&self, first_bytes: &FirstBytes) -> Option<Failure> {
        let received = first_bytes.received();
        // Some lengths look like the beginning of a TLS record.
        if received.may_be_alts() {
            return None;
        }
        let opening = received.opening();
        match opening {
            Opening::Settings
            | Opening::TlsAlert(_)
            | Opening::TlsRecord
            | Opening::Http1(_)
            | Opening::Http1ForTls(_)
            | Opening::Text(_) => Some(self.other_protocol(&opening.to_string())),
            // The handshaker says what these are.
            Opening::Nothing | Opening::PartOfSettings(_) | Opening::Frame(_) | Opening::Bytes(_) => None,
        }
    }

    /// The server closed, or broke, the connection before the end of the handshake.
    pub(super) fn closed(&self, first_bytes: &FirstBytes) -> Failure {
        let cause = match first_bytes.received().opening() {
            Opening::Nothing => "the server closed the connection instead of answering",
            _ => "the server closed the connection during the handshake",
        };
        self.failed(Kind::AltsFailed, cause).retry(Retry::WhileConnecting)
    }

    /// The server did not answer in time.
    pub(super) fn timed_out(&self, deadline: Deadline, first_bytes: &FirstBytes) -> Failure {
        let state = match first_bytes.received().opening() {
            Opening::Nothing => "connected, no answer",
            _ => "the server began it and stopped",
        };
        let message = format!("ALTS handshake with {} timed out after {}: {state}", self.target, deadline.limit());
        Failure::new(Kind::AltsTimeout, message)
    }
}

/// Whether a handshaker that ends its RPC with this code refuses the handshake. With others it is none, or cannot answer.
pub(crate) fn is_status_of_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::ResourceExhausted
    )
}
