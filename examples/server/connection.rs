//! One connection of a gRPC server.

use std::convert::Infallible;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::codegen::{Service, http};

/// A stream for a connection: TCP or a unix socket.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Serves a client until it disconnects, over TLS if there is an acceptor.
pub async fn serve<S>(stream: impl Stream + 'static, tls: Option<TlsAcceptor>, service: S)
where
    S: Service<http::Request<Incoming>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    // The client reports connections that fail.
    match tls {
        None => serve_http2(stream, service).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_http2(stream, service).await;
            }
        }
    }
}

async fn serve_http2<S>(stream: impl Stream + 'static, service: S)
where
    S: Service<http::Request<Incoming>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut connection = http2::Builder::new(TokioExecutor::new());
    // As tonic's own server: SETTINGS without a limit on streams.
    connection.max_concurrent_streams(None);
    let _ = connection.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
}
