//! A failure as a value: its kind, what happened, what to do, and whether another attempt may help.

use std::fmt;

use tonic::Code;

use super::kind::Kind;

/// Whether another attempt may end differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// No: the cause does not change.
    Never,
    /// The server may be about to start: retry while the user's `-connect-timeout` lasts.
    WhileConnecting,
    /// The server refused the stream, so it did not process the request (RFC 9113, section 8.7): retry once on the same
    /// connection, then as `OnNewConnection`.
    OnSameConnection,
    /// The server refused the request twice, or the connection: retry once, on a new connection.
    OnNewConnection,
    /// The server was closing the connection in good order, and the request came too late for it: retry on new connections
    /// until the deadline.
    UntilDeadline,
    /// The connection ended before the response. If the server sent GOAWAY, that says how to retry; otherwise `Never`.
    AfterGoAway,
}

/// Why a probe did not end healthy.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The stable name, which also determines the phase.
    pub(crate) kind: Kind,
    /// What was done, on what, and the cause, in one line.
    pub(crate) message: String,
    /// What to do about it, if that is certain to help.
    pub(crate) hint: Option<String>,
    /// The status code of the RPC, if the server sent one or its HTTP status maps to one.
    pub(crate) grpc_code: Option<Code>,
    /// Whether the server itself sent that code, as the status of a valid gRPC response.
    pub(crate) is_answer: bool,
    /// The HTTP status, if that is the failure.
    pub(crate) http_status: Option<u16>,
    /// Whether another attempt may help.
    pub(crate) retry: Retry,
    /// Whether waiting may help although the kind is final.
    pub(crate) may_end: bool,
}

impl Failure {
    /// The message of a list that is complete and empty.
    pub(crate) const NOTHING_LISTED: &str = "the server lists no services";

    /// Makes a failure that is final and has no hint.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            grpc_code: None,
            is_answer: false,
            http_status: None,
            retry: Retry::Never,
            may_end: false,
        }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the status code of the RPC.
    pub(crate) fn code(mut self, code: Code) -> Self {
        self.grpc_code = Some(code);
        self
    }

    /// Sets whether the server itself sent the code, as the status of a valid gRPC response.
    pub(crate) fn answer(mut self, is_answer: bool) -> Self {
        self.is_answer = is_answer;
        self
    }

    /// Sets whether another attempt may help.
    pub(crate) fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Says that waiting may help although the kind is final.
    pub(crate) fn transient(mut self) -> Self {
        self.may_end = true;
        self
    }

    /// The cause alone, without what was done on `target`, which the message begins with.
    pub(crate) fn cause(&self, target: &str) -> &str {
        let after = self.message.split_once(target).and_then(|(_, after)| after.split_once(": "));
        after.map_or(self.message.as_str(), |(_, cause)| cause)
    }

    /// Whether the server did not process the request, and a new connection may help at once.
    pub(crate) fn is_for_new_connection(&self) -> bool {
        matches!(self.retry, Retry::OnNewConnection | Retry::UntilDeadline)
    }

    /// Whether waiting may help: because of the kind or of what is known beside it, or because a proxy says that the server
    /// behind it is not there yet.
    pub(crate) fn is_transient(&self) -> bool {
        self.kind.is_transient() || self.may_end || self.grpc_code == Some(Code::Unavailable)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
