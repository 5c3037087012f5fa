//! What goes out for a request: its headers, if the server takes so many, and its message in one DATA frame.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, request::Parts};
use http_body_util::BodyExt;
use hyper::body::{self, Bytes, Frame};
use tonic::body::Body;

use crate::outcome::{Failure, Kind};

/// What each field of a header list counts besides its name and value, in bytes (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// An empty message that is not compressed: compression flag and length.
const EMPTY: &[u8] = &[0; 5];

/// A request that can be sent, and sent again.
pub(super) struct Outgoing {
    head: Parts,
    message: Bytes,
}

impl Outgoing {
    /// Makes it of a request by tonic. The server allows headers of `max_headers` bytes.
    ///
    /// # Errors
    /// `headers-too-large`.
    pub(super) async fn new(request: Request<Body>, max_headers: Option<u32>) -> Result<Self, Failure> {
        let (head, body) = request.into_parts();
        let size = header_list_size(&head);
        if let Some(most) = max_headers.filter(|most| size > *most as usize) {
            let cause = format!("the request's headers are {size} bytes, the server allows {most}");
            return Err(Failure::new(Kind::HeadersTooLarge, cause).hint("send less metadata (-rpc-header)"));
        }
        let message = body.collect().await.expect("a message in memory can be encoded").to_bytes();
        Ok(Self { head, message: plain_if_empty(message) })
    }

    /// The request to send.
    pub(super) fn request(&self) -> Request<Body> {
        Request::from_parts(self.head.clone(), Body::new(OneFrame(Some(self.message.clone()))))
    }
}

/// The size of a request's headers as HTTP/2 counts it (RFC 9113, section 6.5.2).
fn header_list_size(head: &Parts) -> usize {
    let uri = &head.uri;
    let pseudo = [
        (":method", head.method.as_str()),
        (":scheme", uri.scheme_str().unwrap_or_default()),
        (":authority", uri.authority().map_or("", |authority| authority.as_str())),
        (":path", uri.path()),
    ];
    let pseudo = pseudo.iter().map(|(name, value)| name.len() + value.len() + FIELD_OVERHEAD).sum::<usize>();
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD);
    pseudo + fields.sum::<usize>()
}

/// An empty message stays uncompressed, as in grpc-go: some servers cannot read a compressed one.
fn plain_if_empty(message: Bytes) -> Bytes {
    // gzip ends with the length of what it compressed (RFC 1952, section 2.3.1).
    if message.starts_with(&[1]) && message.ends_with(&[0; 4]) { Bytes::from_static(EMPTY) } else { message }
}

/// A body of one DATA frame that also ends the stream. Some servers, such as Tomcat, count an empty DATA frame as abuse.
/// The body tells no size, as hyper would make it a `content-length`, which gRPC does not have.
struct OneFrame(Option<Bytes>);

impl body::Body for OneFrame {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|message| Ok(Frame::data(message))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
