//! A stream of messages in both directions, for an RPC whose messages depend on each other.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Uri, header};
use http_body_util::BodyExt;
use hyper::body::{self, Bytes, Frame};
use prost::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::body::Body;

use super::{
    guard::{Expected, Guard, PREFIX},
    status::{guard_failure, malformed},
};
use crate::{http2::Connection, outcome::Failure};

/// An RPC that has begun. It is cancelled when it is dropped.
#[derive(Debug)]
pub(crate) struct Duplex {
    requests: UnboundedSender<Bytes>,
    responses: Body,
}

impl Duplex {
    /// Begins the RPC with its first message. `most` is the largest message that the server may send, in bytes.
    ///
    /// # Errors
    /// Those of the phase rpc. The message is the cause alone.
    pub(crate) async fn begin(
        connection: &Connection,
        uri: Uri,
        most: usize,
        first: &impl Message,
    ) -> Result<Self, Failure> {
        let (requests, outgoing) = unbounded_channel();
        let mut request = Request::new(Body::new(Outgoing(outgoing)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        request.headers_mut().insert(header::TE, header::HeaderValue::from_static("trailers"));
        let grpc = header::HeaderValue::from_static("application/grpc");
        request.headers_mut().insert(header::CONTENT_TYPE, grpc);
        // A server may wait for it before it answers anything.
        let _ = requests.send(framed(first));
        let mut guard = Guard::new(connection, false, Expected::Stream(most));
        let response = guard.attempt(request).await?;
        Ok(Self { requests, responses: response.into_body() })
    }

    /// Sends a message. Where that fails, receiving says why.
    pub(crate) fn send(&self, message: &impl Message) {
        let _ = self.requests.send(framed(message));
    }

    /// Waits for a message of the server.
    ///
    /// # Errors
    /// Those of the phase rpc, also if the server ends the RPC. The message is the cause alone.
    pub(crate) async fn receive<T: Message + Default>(&mut self) -> Result<T, Failure> {
        let ended = || malformed("the server ended the RPC");
        // The guard makes a frame of each message.
        let frame = self.responses.frame().await.ok_or_else(ended)?;
        let frame = frame.map_err(|status| guard_failure(&status))?;
        let message = frame.into_data().map_err(|_| ended())?;
        let message = message.get(PREFIX..).unwrap_or_default();
        T::decode(message).map_err(|error| malformed(&error.to_string()))
    }
}

/// A message as it goes out (PROTOCOL-HTTP2.md, Length-Prefixed-Message).
fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).expect("we send small messages");
    [&[0], &length.to_be_bytes()[..], &message].concat().into()
}

/// The messages to send, until there is no sender any more.
struct Outgoing(UnboundedReceiver<Bytes>);

impl body::Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}
