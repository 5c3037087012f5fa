//! What a response's status means: gRPC's in headers or trailers, or HTTP's in its place.

use std::error::Error;

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use percent_encoding::percent_decode;
use tonic::{Code, Status};

use crate::{
    outcome::{Failure, Kind},
    text::{printable, snake_case},
};

/// How much of a server's text a message repeats, in bytes.
const MAX_TEXT: usize = 1000;

/// What to do where a server does not know who asks.
const GIVE_CREDENTIALS: &str = "the server requires credentials; give them with -rpc-header";

/// What to do where there is no health service.
pub(super) const NO_SERVICE: &str =
    "this server does not offer the health service; register it, or probe the port that does";
pub(super) const NO_SERVICE_ON_PORT: &str = "no gRPC health service answers on this port; probe the port that has it";

pub(super) const GRPC_STATUS: &str = "grpc-status";
const GRPC_MESSAGE: &str = "grpc-message";

/// The failure of a response that consists of headers only (PROTOCOL-HTTP2.md, Trailers-Only): a status in them counts. Tomcat
/// ends it by an empty DATA frame.
pub(super) fn trailers_only(http: StatusCode, headers: &HeaderMap) -> Failure {
    match status(headers) {
        Some(Ok(code @ 1..)) => status_failure(code, headers).answer(http == StatusCode::OK && is_grpc(headers)),
        _ if http != StatusCode::OK || !is_grpc(headers) => not_grpc(http, headers),
        Some(Ok(_)) => malformed("status OK, but no message"),
        Some(Err(failure)) => failure,
        None => malformed("it ended without a grpc-status"),
    }
}

/// Whether the content type is `application/grpc`, alone or followed by `+` or `;`.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let value = value.as_bytes();
    let rest = value.get(.."application/grpc".len()).filter(|start| start.eq_ignore_ascii_case(b"application/grpc"));
    rest.is_some() && matches!(value.get("application/grpc".len()), None | Some(b'+' | b';'))
}

/// The only `grpc-status` of a block of headers or trailers: a decimal number.
pub(super) fn status(headers: &HeaderMap) -> Option<Result<u32, Failure>> {
    let mut values = headers.get_all(GRPC_STATUS).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return Some(Err(malformed("it has more than one grpc-status")));
    }
    let digits = value.to_str().ok().filter(|value| value.bytes().all(|b| b.is_ascii_digit()));
    let is_canonical = |digits: &&str| *digits == "0" || !digits.starts_with('0');
    Some(digits.filter(is_canonical).and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        let value = String::from_utf8_lossy(value.as_bytes());
        malformed(&format!("its grpc-status is not a number: {:?}", printable(&value, 40)))
    }))
}

/// The failure for a gRPC status.
pub(super) fn status_failure(status: u32, headers: &HeaderMap) -> Failure {
    let code = i32::try_from(status).map_or(Code::Unknown, Code::from);
    let kind = match code {
        Code::Unimplemented => Kind::Unimplemented,
        Code::NotFound => Kind::ServiceUnknown,
        Code::Unauthenticated => Kind::Unauthenticated,
        Code::PermissionDenied => Kind::RpcPermissionDenied,
        Code::Unavailable => Kind::Unavailable,
        _ => Kind::RpcFailed,
    };
    let mut cause = code_name(code);
    if i32::from(code).unsigned_abs() != status {
        cause += &format!(" (grpc-status {status})");
    }
    let mut has_text = false;
    if let Some(message) = headers.get(GRPC_MESSAGE) {
        // Percent-encoded UTF-8 by the specification. The status counts even if it is not.
        let message = percent_decode(message.as_bytes()).decode_utf8_lossy();
        has_text = !message.is_empty();
        if has_text {
            cause += &format!(": {}", printable(&message, MAX_TEXT));
        }
    }
    let failure = Failure::new(kind, cause).code(code);
    match kind {
        Kind::Unimplemented if has_text => failure.hint(NO_SERVICE),
        Kind::Unauthenticated => failure.hint(GIVE_CREDENTIALS),
        _ => failure,
    }
}

/// The name of a code in the gRPC documentation.
pub(super) fn code_name(code: Code) -> String {
    snake_case(&format!("{code:?}")).to_uppercase()
}

pub(super) fn malformed(cause: &str) -> Failure {
    Failure::new(Kind::MalformedResponse, format!("the response is malformed: {cause}"))
}

pub(super) fn not_grpc(status: StatusCode, headers: &HeaderMap) -> Failure {
    if status != StatusCode::OK {
        return http_status(status);
    }
    let cause = match headers.get(CONTENT_TYPE) {
        Some(value) => {
            let value = String::from_utf8_lossy(value.as_bytes());
            format!("the response is not gRPC: its content type is {:?}", printable(&value, 100))
        }
        None => "the response is not gRPC: it has no content type".to_owned(),
    };
    Failure::new(Kind::NotGrpc, cause).hint("an HTTP server or a proxy answers here; probe the gRPC port")
}

/// The failure for an HTTP status (http-grpc-status-mapping.md).
pub(super) fn http_status(status: StatusCode) -> Failure {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let failure = Failure::new(Kind::HttpStatus, format!("the server answered HTTP {status} ({})", code_name(code)));
    let failure = Failure { http_status: Some(status.as_u16()), ..failure.code(code) };
    match status.as_u16() {
        401 => failure.hint(GIVE_CREDENTIALS),
        405 | 415 => failure.hint(NO_SERVICE_ON_PORT),
        502 | 504 => failure.hint("a proxy answers here and cannot reach the server behind it"),
        503 => failure.hint("the server, or a proxy before it, is not ready"),
        _ => failure,
    }
}

/// The failure behind a tonic status. The guard reports all failures of the server. The only other one is a message that tonic
/// could not decode.
pub(super) fn guard_failure(status: &Status) -> Failure {
    guarded_failure(status).cloned().unwrap_or_else(|| malformed(status.message()))
}

/// The failure that the guard reported through tonic.
pub(crate) fn guarded_failure(status: &Status) -> Option<&Failure> {
    status.source().and_then(|source| source.downcast_ref())
}
