//! What an answer must be before tonic may read it. tonic, like other gRPC libraries, is lenient where a health check
//! must not be: it ignores the content type, takes the first of two messages and of two statuses, calls a stream
//! without a status complete, and panics on a malformed `grpc-status-details-bin`. This guard stands between hyper
//! and tonic and lets pass only what gRPC over HTTP/2 (PROTOCOL-HTTP2.md) calls a complete unary answer with status 0;
//! of a stream, whole messages, and a status at its end.

use std::{
    cmp::Ordering,
    future::{Future, ready},
    io::Read,
    mem,
    pin::Pin,
    task::{self, Context, Poll},
};

use flate2::read::MultiGzDecoder;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE, response::Parts};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body as _, Bytes, Frame, Incoming},
    client::conn::http2::SendRequest,
};
use percent_encoding::percent_decode;
use tonic::{Code, body::Body};
use tower_service::Service;

use crate::{
    http2::{REFUSED, in_brackets},
    outcome::{Failure, Kind, Retry},
    text::{printable, snake_case},
};

/// The largest message that can be a health answer, compressed or not. Real ones have two bytes.
pub(crate) const MAX_MESSAGE: usize = 4096;
/// The largest list of services and their statuses.
pub(crate) const MAX_LIST: usize = 1 << 20;
/// The largest answer of the Workload API: as gRPC's libraries have it.
pub(crate) const MAX_SVIDS: usize = 4 << 20;
/// Compressed flag and length (PROTOCOL-HTTP2.md, Length-Prefixed-Message).
const PREFIX: usize = 5;
/// How much of a server's text is repeated.
const MAX_TEXT: usize = 1000;

const GRPC_STATUS: &str = "grpc-status";
const GRPC_MESSAGE: &str = "grpc-message";
const GRPC_ENCODING: &str = "grpc-encoding";

/// Sends requests and lets only complete answers through. Its failures hold the cause alone, without the address.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) requests: SendRequest<Body>,
    /// Whether compressed answers were asked for.
    pub(crate) gzip: bool,
    pub(crate) answers: Answers,
}

/// What is to come in answer to a request, and how many bytes a message may have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answers {
    /// One message, and the status that makes it an answer.
    One(usize),
    /// Message after message, each an answer as it comes.
    Many(usize),
}

impl Service<Request<Body>> for Guard {
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Failure>> + Send>>;

    /// Always ready: hyper queues the request.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let response = self.requests.send_request(request);
        let Self { gzip, answers, .. } = *self;
        Box::pin(async move {
            let response = response.await.map_err(|error| broken(&error))?;
            match answers {
                Answers::Many(most) if response.status() == StatusCode::OK => pass_on(response, gzip, most),
                // What a status in the trailers may say of another HTTP status is for all the same.
                Answers::One(most) | Answers::Many(most) => pass(response, gzip, most).await,
            }
        })
    }
}

/// Reads the whole response and passes it on if it is a complete answer with a message of at most `most` bytes.
async fn pass(response: Response<Incoming>, gzip: bool, most: usize) -> Result<Response<Body>, Failure> {
    let (mut head, body) = begun(response, gzip)?;
    let is_gzip = gzip && is_gzip(&head.headers);
    let (mut message, trailers) = match read(body, is_gzip, most).await {
        // What comes with another HTTP status need not be a message.
        Err(Failure { kind: Kind::MalformedResponse, .. }) if head.status != StatusCode::OK => {
            return Err(http_status(head.status));
        }
        read => read?,
    };
    let trailers = match trailers {
        Some(trailers) => trailers,
        None if head.status != StatusCode::OK => return Err(http_status(head.status)),
        None => return Err(malformed("it ended without trailers, so without a grpc-status")),
    };
    match status(&trailers) {
        Some(Ok(0)) => {}
        Some(Ok(code)) => return Err(status_failure(code, &trailers, gzip)),
        _ if head.status != StatusCode::OK => return Err(http_status(head.status)),
        Some(Err(failure)) => return Err(failure),
        None => return Err(malformed("its trailers have no grpc-status")),
    }
    if head.status != StatusCode::OK {
        return Err(http_status(head.status));
    }
    match announced(&message).map(|announced| message.len().cmp(&(PREFIX + announced))) {
        None if message.is_empty() => return Err(malformed("status OK, but no message")),
        None | Some(Ordering::Less) => return Err(malformed("the message was cut off")),
        Some(Ordering::Greater) => return Err(malformed("more than one message came")),
        Some(Ordering::Equal) => {}
    }

    if message[0] == 1 {
        message = decompressed(&message[PREFIX..], most)?;
    }

    strip(&mut head.headers);
    let body = Full::new(Bytes::from(message)).with_trailers(ready(Some(Ok(status_zero()))));
    Ok(Response::from_parts(head, Body::new(body)))
}

/// A response that begins as an answer, with more to come.
fn begun(response: Response<Incoming>, gzip: bool) -> Result<(Parts, Incoming), Failure> {
    let (head, body) = response.into_parts();
    if body.is_end_stream() {
        Err(trailers_only(head.status, &head.headers, gzip))
    } else if !is_grpc(&head.headers) {
        Err(not_grpc(head.status, &head.headers))
    } else {
        Ok((head, body))
    }
}

/// Passes on a response whose messages are read as they come, if it begins as one.
fn pass_on(response: Response<Incoming>, gzip: bool, most: usize) -> Result<Response<Body>, Failure> {
    let (mut head, body) = begun(response, gzip)?;
    let is_gzip = gzip && is_gzip(&head.headers);
    strip(&mut head.headers);
    Ok(Response::from_parts(head, Body::new(Guarded { body, gzip, is_gzip, most, unread: Vec::new() })))
}

/// A body of whole messages, that ends with a status of its own or breaks.
struct Guarded {
    body: Incoming,
    /// Whether compressed answers were asked for, and whether this is one.
    gzip: bool,
    is_gzip: bool,
    /// How many bytes a message may have.
    most: usize,
    /// What has come of the next message, and perhaps of others.
    unread: Vec<u8>,
}

impl Guarded {
    /// The next message, if it has come whole.
    fn message(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        check_prefix(&self.unread, self.is_gzip, self.most)?;
        let Some(length) = announced(&self.unread).filter(|length| PREFIX + length <= self.unread.len()) else {
            return Ok(None);
        };
        let others = self.unread.split_off(PREFIX + length);
        let message = mem::replace(&mut self.unread, others);
        if message[0] == 1 { decompressed(&message[PREFIX..], self.most).map(Some) } else { Ok(Some(message)) }
    }

    /// What the end of the body says.
    fn end(&self, trailers: &HeaderMap) -> Result<Frame<Bytes>, Failure> {
        match status(trailers) {
            Some(Ok(0)) if !self.unread.is_empty() => Err(malformed("the message was cut off")),
            Some(Ok(0)) => Ok(Frame::trailers(status_zero())),
            Some(Ok(code)) => Err(status_failure(code, trailers, self.gzip)),
            Some(Err(failure)) => Err(failure),
            None => Err(malformed("its trailers have no grpc-status")),
        }
    }
}

impl hyper::body::Body for Guarded {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        loop {
            if let Some(message) = self.message().transpose() {
                return Poll::Ready(Some(message.map(|message| Frame::data(message.into()))));
            }
            let frame = match task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(broken(&error)))),
                None if self.body.is_end_stream() => {
                    return Poll::Ready(Some(Err(malformed("it ended without trailers, so without a grpc-status"))));
                }
                None => return Poll::Ready(Some(Err(broken_off()))),
            };
            match frame.into_data() {
                Ok(data) => self.unread.extend_from_slice(&data),
                Err(frame) => {
                    return Poll::Ready(Some(
                        frame.trailers_ref().map_or_else(|| Err(broken_off()), |trailers| self.end(trailers)),
                    ));
                }
            }
        }
    }
}

/// Refuses a message for its first bytes, as soon as they say that it is none.
fn check_prefix(message: &[u8], is_gzip: bool, most: usize) -> Result<(), Failure> {
    match message.first() {
        Some(0) | None => {}
        Some(1) if is_gzip => {}
        Some(1) => return Err(malformed("the message is compressed, in a way that was not agreed on")),
        Some(flag) => return Err(malformed(&format!("the message has the unknown compression flag {flag}"))),
    }
    match announced(message) {
        Some(announced) if announced > most => {
            Err(malformed(&format!("it announces a message of {announced} bytes, and {most} are the most")))
        }
        _ => Ok(()),
    }
}

/// Whether an answer is compressed with gzip, and nothing besides.
fn is_gzip(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(GRPC_ENCODING).iter();
    encodings.next().is_some_and(|encoding| encoding == "gzip") && encodings.next().is_none()
}

/// tonic gets what was checked, and nothing that was not.
fn strip(headers: &mut HeaderMap) {
    for header in [GRPC_STATUS, GRPC_MESSAGE, GRPC_ENCODING, "grpc-status-details-bin"] {
        headers.remove(header);
    }
}

fn status_zero() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(GRPC_STATUS), HeaderValue::from_static("0"))])
}

/// Reads a body to its end, as long as it can still be one message of at most `most` bytes.
async fn read(mut body: Incoming, is_gzip: bool, most: usize) -> Result<(Vec<u8>, Option<HeaderMap>), Failure> {
    let mut message = Vec::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        match frame.into_data() {
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        check_prefix(&message, is_gzip, most)?;
        if message.len() > PREFIX + most {
            return Err(malformed("more than one message came"));
        }
    }
    if !body.is_end_stream() {
        // hyper ends the body of a stream that was reset with NO_ERROR or CANCEL as if it were whole.
        return Err(broken_off());
    }
    Ok((message, trailers))
}

/// The message of a compressed one, with its prefix: all members of the gzip stream (RFC 1952, section 2.2), whole.
fn decompressed(gzip: &[u8], most: usize) -> Result<Vec<u8>, Failure> {
    let mut plain = Vec::new();
    let mut decoder = MultiGzDecoder::new(gzip).take(most as u64 + 1);
    decoder
        .read_to_end(&mut plain)
        .map_err(|error| malformed(&format!("the message cannot be decompressed: {error}")))?;
    match u32::try_from(plain.len()) {
        Ok(length) if plain.len() <= most => Ok([&[0], &length.to_be_bytes()[..], &plain].concat()),
        _ => Err(malformed("the message is too large when it is decompressed")),
    }
}

/// The length that a message's prefix announces, once that has come.
fn announced(message: &[u8]) -> Option<usize> {
    match message {
        [_, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d]) as usize),
        _ => None,
    }
}

/// The failure of an answer that is headers alone (PROTOCOL-HTTP2.md, Trailers-Only): a status in them counts.
fn trailers_only(http: StatusCode, headers: &HeaderMap, gzip: bool) -> Failure {
    match status(headers) {
        Some(Ok(code @ 1..)) => status_failure(code, headers, gzip),
        _ if http != StatusCode::OK || !is_grpc(headers) => not_grpc(http, headers),
        Some(Ok(_)) => malformed("status OK, but no message"),
        Some(Err(failure)) => failure,
        None => malformed("it ended without a grpc-status"),
    }
}

/// `application/grpc`, alone or followed by `+` or `;`.
fn is_grpc(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let value = value.as_bytes();
    let rest = value.get(.."application/grpc".len()).filter(|start| start.eq_ignore_ascii_case(b"application/grpc"));
    rest.is_some() && matches!(value.get("application/grpc".len()), None | Some(b'+' | b';'))
}

/// The one `grpc-status` of a block of headers or trailers: a decimal number.
fn status(headers: &HeaderMap) -> Option<Result<u32, Failure>> {
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

/// The failure that a server's own status tells.
fn status_failure(status: u32, headers: &HeaderMap, gzip: bool) -> Failure {
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
    if let Some(message) = headers.get(GRPC_MESSAGE) {
        // Percent-encoded UTF-8 by the specification; whatever it is, the status counts.
        let message = percent_decode(message.as_bytes()).decode_utf8_lossy();
        if !message.is_empty() {
            cause += &format!(": {}", printable(&message, MAX_TEXT));
        }
    }
    let failure = Failure::new(kind, cause).code(code);
    match kind {
        Kind::Unimplemented if gzip => {
            failure.hint("this server does not offer the health service, or does not understand -gzip")
        }
        Kind::Unimplemented => {
            failure.hint("this server does not offer the health service; register it, or probe the port that does")
        }
        Kind::Unauthenticated => failure.hint("the server wants credentials; give them with -rpc-header"),
        _ => failure,
    }
}

/// A code's name as the gRPC documents write it.
fn code_name(code: Code) -> String {
    snake_case(&format!("{code:?}")).to_uppercase()
}

fn malformed(cause: &str) -> Failure {
    Failure::new(Kind::MalformedResponse, format!("the answer is malformed: {cause}"))
}

fn not_grpc(status: StatusCode, headers: &HeaderMap) -> Failure {
    if status != StatusCode::OK {
        return http_status(status);
    }
    let cause = match headers.get(CONTENT_TYPE) {
        Some(value) => {
            let value = String::from_utf8_lossy(value.as_bytes());
            format!("the answer is not gRPC: its content type is {:?}", printable(&value, 100))
        }
        None => "the answer is not gRPC: it has no content type".to_owned(),
    };
    Failure::new(Kind::NotGrpc, cause).hint("an HTTP server or a proxy answers here; probe the gRPC port")
}

/// An HTTP status in place of a gRPC one, read as http-grpc-status-mapping.md says.
fn http_status(status: StatusCode) -> Failure {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    let failure = Failure::new(Kind::HttpStatus, format!("the server answered HTTP {status} ({})", code_name(code)));
    let failure = failure.code(code);
    match status.as_u16() {
        404 | 405 | 415 => failure.hint("no gRPC health service answers on this port; probe the port that has it"),
        502..=504 => failure.hint("a proxy answers here and cannot reach the server behind it"),
        _ => failure,
    }
}

/// The failure of an answer that was reset with `NO_ERROR` or `CANCEL`.
fn broken_off() -> Failure {
    Failure::new(Kind::StreamBroken, "the server broke off the answer: RST_STREAM")
}

/// The failure of a request that has no whole answer, told from h2's error.
pub(crate) fn broken(error: &hyper::Error) -> Failure {
    if error.is_timeout() {
        return Failure::new(Kind::StreamBroken, "the server is gone or stuck: it does not answer an HTTP/2 PING");
    }
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return broken_stream(error);
        }
        source = error.source();
    }
    if error.is_canceled() {
        return Failure::new(Kind::StreamBroken, "the server closed the connection before it took the request");
    }
    Failure::new(Kind::StreamBroken, "the server closed the connection amid the answer")
}

fn broken_stream(error: &h2::Error) -> Failure {
    let reason = error.reason();
    let failed = |cause: &str| Failure::new(Kind::StreamBroken, format!("{cause}{}", in_brackets(reason)));
    if error.is_remote() && error.is_go_away() {
        refused(reason)
    } else if error.is_remote() && error.is_reset() {
        let failure = failed("the server broke off the answer: RST_STREAM");
        if reason == Some(Reason::REFUSED_STREAM) { failure.retry(Retry::OnceMore) } else { failure }
    } else if error.is_io() {
        failed("the server closed the connection amid the answer")
    } else {
        failed("the answer breaks the rules of HTTP/2, or is too large")
    }
}

/// The failure of a request that a GOAWAY left out.
fn refused(reason: Option<Reason>) -> Failure {
    let cause = format!("{REFUSED}: GOAWAY{}", in_brackets(reason));
    Failure::new(Kind::StreamBroken, cause).retry(Retry::OnceMore)
}
