//! Validates responses before tonic reads them. Like other gRPC libraries, tonic is more lenient than a health check may be:
//! it ignores the content type, takes the first of two messages and of two statuses, accepts a stream without a status, and
//! panics on a malformed `grpc-status-details-bin`. This guard sits between hyper and tonic. It accepts only a complete unary
//! response with status 0 (PROTOCOL-HTTP2.md), or a stream of complete messages with a status at the end.

use std::{
    cmp::Ordering,
    future::{Future, ready},
    io::Read,
    mem,
    pin::Pin,
    task::{self, Context, Poll},
};

use flate2::read::MultiGzDecoder;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, response::Parts};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body as _, Bytes, Frame, Incoming},
    client::conn::http2::SendRequest,
};
use tonic::body::Body;
use tower_service::Service;

use super::{
    request::Outgoing,
    status::{GRPC_STATUS, http_status, is_grpc, malformed, not_grpc, status, status_failure, trailers_only},
};
use crate::{
    http2::{Connection, FirstBytes, Stage, ended_silently, request_failure},
    outcome::{Failure, Kind, Retry},
};

/// The largest message of a health check, compressed or not, in bytes. Real ones have two.
pub(crate) const MAX_MESSAGE: usize = 4096;
/// The largest list of services and their statuses, in bytes.
pub(crate) const MAX_LIST: usize = 1 << 20;
/// The largest message of the Workload API, in bytes: the default limit of gRPC's libraries.
pub(crate) const MAX_SVIDS: usize = 4 << 20;
/// The length of a message's prefix: compression flag and length (PROTOCOL-HTTP2.md, Length-Prefixed-Message).
pub(super) const PREFIX: usize = 5;

const GRPC_ENCODING: &str = "grpc-encoding";

/// Sends requests and returns complete responses only. Its failure messages contain only the cause, without the address.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    requests: SendRequest<Body>,
    /// What came on the connection.
    seen: FirstBytes,
    /// How large the server allows the request's headers to be, in bytes.
    max_headers: Option<u32>,
    /// Whether the request accepts a compressed response.
    gzip: bool,
    expected: Expected,
}

/// The form of the expected response, with the maximum size of a message in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// One message, valid only with status 0 at the end.
    OneMessage(usize),
    /// A stream of messages, each valid when it arrives.
    Stream(usize),
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
        let mut guard = self.clone();
        Box::pin(async move {
            let request = Outgoing::new(request, guard.max_headers).await?;
            match guard.attempt(request.request()).await {
                Err(Failure { retry: Retry::OnSameConnection, .. }) => {
                    guard.attempt(request.request()).await.map_err(|failure| {
                        let is_refused_again = failure.retry == Retry::OnSameConnection;
                        if is_refused_again { failure.retry(Retry::OnNewConnection) } else { failure }
                    })
                }
                response => response,
            }
        })
    }
}

impl Guard {
    /// A guard of requests on this connection.
    pub(crate) fn new(connection: &Connection, gzip: bool, expected: Expected) -> Self {
        let (requests, seen) = (connection.requests.clone(), connection.seen());
        Self { requests, seen, max_headers: connection.max_headers(), gzip, expected }
    }

    /// Sends the request once.
    pub(super) async fn attempt(&mut self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let response = self.requests.send_request(request).await;
        let response = response.map_err(|error| request_failure(&error, Stage::Awaited, &self.seen))?;
        match self.expected {
            Expected::Stream(most) if response.status() == StatusCode::OK => {
                pass_stream(response, self.seen.clone(), self.gzip, most)
            }
            // With another HTTP status, a status in the trailers means the same for both.
            Expected::OneMessage(most) | Expected::Stream(most) => {
                pass_one(response, &self.seen, self.gzip, most).await
            }
        }
    }
}

/// Reads the whole response and passes it on if it is complete and has one message of at most `most` bytes.
async fn pass_one(
    response: Response<Incoming>,
    seen: &FirstBytes,
    gzip: bool,
    most: usize,
) -> Result<Response<Body>, Failure> {
    let (Begun { head, compression, if_empty }, body) = split(response, gzip)?;
    let (mut message, trailers) = match read_body(body, seen, compression, most).await {
        // A response with another HTTP status need not have a message.
        Err(Failure { kind: Kind::MalformedResponse, .. }) if head.status != StatusCode::OK => {
            return Err(http_status(head.status));
        }
        read => read?,
    };
    let trailers = match trailers {
        Some(trailers) => trailers,
        None if message.is_empty() => return Err(if_empty),
        None if head.status != StatusCode::OK => return Err(http_status(head.status)),
        None => return Err(without_trailers()),
    };
    let length = announced_length(&message).map(|announced| message.len().cmp(&(PREFIX + announced)));
    match status(&trailers) {
        Some(Ok(0)) => {}
        Some(Ok(code)) => {
            let is_valid = message.is_empty() || length == Some(Ordering::Equal);
            return Err(status_failure(code, &trailers).answer(is_valid && head.status == StatusCode::OK));
        }
        _ if head.status != StatusCode::OK => return Err(http_status(head.status)),
        Some(Err(failure)) => return Err(failure),
        None => return Err(malformed("its trailers have no grpc-status")),
    }
    if head.status != StatusCode::OK {
        return Err(http_status(head.status));
    }
    match length {
        None if message.is_empty() => return Err(malformed("status OK, but no message")),
        None | Some(Ordering::Less) => return Err(malformed("the message was cut off")),
        Some(Ordering::Greater) => return Err(malformed("more than one message came")),
        Some(Ordering::Equal) => {}
    }

    if message[0] == 1 {
        message = decompressed(&message[PREFIX..], most)?;
    }

    let body = Full::new(Bytes::from(message)).with_trailers(ready(Some(Ok(status_zero()))));
    Ok(Response::from_parts(head, Body::new(body)))
}

/// A response whose headers have arrived. Many may wait at once for the rest, and a server's headers may be large: only what they
/// mean is kept.
struct Begun {
    /// Without the headers that tonic would read again and treat leniently.
    head: Parts,
    compression: Compression,
    /// What it means if the body ends without messages and trailers.
    if_empty: Failure,
}

/// Splits a response into head and body.
///
/// # Errors
/// The response has no body, or is not gRPC.
fn split(response: Response<Incoming>, gzip: bool) -> Result<(Begun, Incoming), Failure> {
    let (mut head, body) = response.into_parts();
    if body.is_end_stream() {
        Err(trailers_only(head.status, &head.headers))
    } else if !is_grpc(&head.headers) {
        Err(not_grpc(head.status, &head.headers))
    } else {
        let if_empty = trailers_only(head.status, &head.headers);
        let compression = Compression::of(&head.headers, gzip);
        head.headers = HeaderMap::new();
        Ok((Begun { head, compression, if_empty }, body))
    }
}

/// Returns a response whose messages the caller reads as they arrive. Fails if it is not gRPC.
fn pass_stream(
    response: Response<Incoming>,
    seen: FirstBytes,
    gzip: bool,
    most: usize,
) -> Result<Response<Body>, Failure> {
    let (Begun { head, compression, if_empty }, body) = split(response, gzip)?;
    let if_empty = Some(if_empty);
    let stream = GuardedStream { body, seen, compression, most, if_empty, unread: Vec::new() };
    Ok(Response::from_parts(head, Body::new(stream)))
}

/// A body that yields complete messages and ends with status 0 or a failure.
struct GuardedStream {
    body: Incoming,
    seen: FirstBytes,
    compression: Compression,
    /// The maximum size of a message in bytes.
    most: usize,
    /// What it means if the body ends without messages and trailers, until a byte arrives.
    if_empty: Option<Failure>,
    /// What arrived of the next message, and perhaps of others.
    unread: Vec<u8>,
}

impl GuardedStream {
    /// The next message, if all of it has arrived.
    fn message(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        check_prefix(&self.unread, self.compression, self.most)?;
        let Some(length) = announced_length(&self.unread).filter(|length| PREFIX + length <= self.unread.len()) else {
            return Ok(None);
        };
        let others = self.unread.split_off(PREFIX + length);
        let message = mem::replace(&mut self.unread, others);
        if message[0] == 1 { decompressed(&message[PREFIX..], self.most).map(Some) } else { Ok(Some(message)) }
    }

    /// Checks the trailers at the end of the body.
    fn end(&self, trailers: &HeaderMap) -> Result<Frame<Bytes>, Failure> {
        match status(trailers) {
            Some(Ok(0)) if !self.unread.is_empty() => Err(malformed("the message was cut off")),
            Some(Ok(0)) => Ok(Frame::trailers(status_zero())),
            Some(Ok(code)) => Err(status_failure(code, trailers)),
            Some(Err(failure)) => Err(failure),
            None => Err(malformed("its trailers have no grpc-status")),
        }
    }
}

impl hyper::body::Body for GuardedStream {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        loop {
            if let Some(message) = self.message().transpose() {
                return Poll::Ready(Some(message.map(|message| Frame::data(message.into()))));
            }
            let frame = match task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(request_failure(&error, Stage::Begun, &self.seen)))),
                None if self.body.is_end_stream() => {
                    let failure = self.if_empty.take().unwrap_or_else(without_trailers);
                    return Poll::Ready(Some(Err(failure)));
                }
                None => return Poll::Ready(Some(Err(ended_silently(&self.seen)))),
            };
            match frame.into_data() {
                Ok(data) => {
                    self.if_empty.take_if(|_| !data.is_empty());
                    self.unread.extend_from_slice(&data);
                    let announced = announced_length(&self.unread).filter(|announced| *announced <= self.most);
                    reserve(&mut self.unread, announced);
                }
                Err(frame) => {
                    return Poll::Ready(Some(
                        frame
                            .trailers_ref()
                            .map_or_else(|| Err(ended_silently(&self.seen)), |trailers| self.end(trailers)),
                    ));
                }
            }
        }
    }
}

/// The failure of a response that has messages and no trailers.
fn without_trailers() -> Failure {
    malformed("it ended without trailers, so without a grpc-status")
}

/// Refuses a message as soon as its first bytes show that it cannot be one.
fn check_prefix(message: &[u8], compression: Compression, most: usize) -> Result<(), Failure> {
    match message.first() {
        Some(0) | None => {}
        Some(1) if compression == Compression::Gzip => {}
        Some(1) if compression == Compression::UnaskedGzip => {
            let cause = "the message is compressed with gzip, which the request does not accept";
            return Err(malformed(cause).hint("add -gzip, which accepts it"));
        }
        Some(1) => return Err(malformed("the message is compressed in a way that was not agreed on")),
        Some(flag) => return Err(malformed(&format!("the message has the unknown compression flag {flag}"))),
    }
    match announced_length(message) {
        Some(announced) if announced > most => {
            Err(malformed(&format!("it announces a message of {announced} bytes, and {most} are the most")))
        }
        _ => Ok(()),
    }
}

/// How the messages of a response may be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    /// With gzip, as the request accepts.
    Gzip,
    /// With gzip, which the request does not accept.
    UnaskedGzip,
    /// Not at all, or in another way.
    Other,
}

impl Compression {
    /// By the only encoding of a response. `gzip` says whether the request accepts gzip.
    fn of(headers: &HeaderMap, gzip: bool) -> Self {
        let mut encodings = headers.get_all(GRPC_ENCODING).iter();
        match (encodings.next().is_some_and(|encoding| encoding == "gzip"), encodings.next()) {
            (true, None) if gzip => Self::Gzip,
            (true, None) => Self::UnaskedGzip,
            _ => Self::Other,
        }
    }
}

fn status_zero() -> HeaderMap {
    HeaderMap::from_iter([(HeaderName::from_static(GRPC_STATUS), HeaderValue::from_static("0"))])
}

/// Reads a body to its end. Fails as soon as it cannot be one message of at most `most` bytes.
async fn read_body(
    mut body: Incoming,
    seen: &FirstBytes,
    compression: Compression,
    most: usize,
) -> Result<(Vec<u8>, Option<HeaderMap>), Failure> {
    let mut message = Vec::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| request_failure(&error, Stage::Begun, seen))?;
        match frame.into_data() {
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        check_prefix(&message, compression, most)?;
        let announced = announced_length(&message);
        reserve(&mut message, announced);
        if message.len() > PREFIX + most {
            return Err(malformed("more than one message came"));
        }
    }
    if !body.is_end_stream() {
        return Err(ended_silently(seen));
    }
    Ok((message, trailers))
}

/// Makes room for a message of the announced length. Growing step by step would take up to twice the memory.
fn reserve(message: &mut Vec<u8>, announced: Option<usize>) {
    message.reserve_exact(announced.map_or(0, |announced| (PREFIX + announced).saturating_sub(message.len())));
}

/// Decompresses a message with all members of its gzip stream (RFC 1952, section 2.2), and adds a new prefix.
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

/// The length that a message's prefix announces, once the prefix has arrived.
fn announced_length(message: &[u8]) -> Option<usize> {
    match message {
        [_, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d]) as usize),
        _ => None,
    }
}
