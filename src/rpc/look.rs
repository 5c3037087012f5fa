//! Looks at the head of a response, for a diagnosis: who answers, a server or a proxy before it. Judging is up to the guard.

use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::Full;
use hyper::{body::Bytes, client::conn::http2::SendRequest};
use tonic::body::Body;

use crate::{deadline::Deadline, text::printable};

/// `Check` of the server as a whole: an empty message that is not compressed.
const PATH: &str = "/grpc.health.v1.Health/Check";
const EMPTY: &[u8] = &[0; 5];
/// Headers in which servers and proxies name themselves.
const NAMING: [&str; 8] =
    ["server", "via", "x-served-by", "x-powered-by", "x-envoy-upstream-service-time", "x-cache", "cf-ray", "alt-svc"];
/// How much of a header's value is kept, in bytes.
const MAX_VALUE: usize = 200;

/// The head of a response.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) http_status: u16,
    /// The headers in which servers and proxies name themselves.
    pub(crate) naming: Vec<(&'static str, String)>,
}

/// Calls `Check` of the server as a whole, as a probe does, and returns the head of the response. `None`: none came in time.
pub(super) async fn head(
    mut requests: SendRequest<Body>,
    origin: Uri,
    metadata: HeaderMap,
    deadline: Deadline,
) -> Option<Head> {
    let mut parts = origin.into_parts();
    parts.path_and_query = Some(PATH.parse().ok()?);
    let mut request = Request::new(Body::new(Full::new(Bytes::from_static(EMPTY))));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    *request.headers_mut() = metadata;
    request.headers_mut().insert(header::TE, "trailers".parse().ok()?);
    request.headers_mut().insert(header::CONTENT_TYPE, "application/grpc".parse().ok()?);
    let response = deadline.bound(requests.send_request(request)).await.ok()?.ok()?;
    Some(Head { http_status: response.status().as_u16(), naming: naming(response.headers()) })
}

fn naming(headers: &HeaderMap) -> Vec<(&'static str, String)> {
    let values = |name| headers.get_all(name).iter().map(move |value| (name, value));
    let named = NAMING.into_iter().flat_map(values);
    named.map(|(name, value)| (name, printable(&String::from_utf8_lossy(value.as_bytes()), MAX_VALUE))).collect()
}
