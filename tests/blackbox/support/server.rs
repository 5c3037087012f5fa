//! Real servers: tonic-health as users run it, and a plain HTTP/2 server that records requests.

use std::{
    future::{Future, poll_fn},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{Arc, mpsc},
    thread,
};

use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use hyper::body::Bytes;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
    server::{ClientCertVerifierBuilder, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    runtime,
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;
use tonic::codec::CompressionEncoding;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use super::{
    connection, frames,
    list::{Statuses, WithList},
    pki::{Authority, Leaf},
    unused_port::UnusedPort,
};

/// A server on its own thread. Dropping it stops the server.
pub struct Server {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
}

impl Server {
    pub fn addr(&self) -> String {
        format!("-addr={}", self.address)
    }

    /// The port, to combine with other host names.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// Runs `serve` on a thread until the sender is used or dropped. `serve` sends the address that it listens on.
fn run<F: Future<Output = ()>>(
    serve: impl FnOnce(mpsc::Sender<SocketAddr>, oneshot::Receiver<()>) -> F + Send + 'static,
) -> Server {
    let (ready, is_ready) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be created");
        runtime.block_on(serve(ready, stopped));
    });
    Server { address: is_ready.recv().expect("the server starts"), stop: Some(stop) }
}

/// Listens on a free port. For IPv6 it also blocks the same IPv4 port: otherwise another test's server could listen there
/// and answer for `localhost`.
async fn listen(bind: &str) -> (TcpListener, Option<UnusedPort>) {
    let (bind, unused) = match bind {
        "[::1]:0" => {
            let unused = UnusedPort::new();
            (format!("[::1]:{}", unused.address.port()), Some(unused))
        }
        bind => (bind.to_owned(), None),
    };
    (TcpListener::bind(bind).await.expect("loopback has a free port"), unused)
}

/// Sets the statuses of every health server here: SERVING for the server and `up`, `NOT_SERVING` for `down`, UNKNOWN for `lost`.
async fn set_statuses(reporter: &HealthReporter) {
    reporter.set_service_status("up", ServingStatus::Serving).await;
    reporter.set_service_status("down", ServingStatus::NotServing).await;
    reporter.set_service_status("lost", ServingStatus::Unknown).await;
}

fn serve_health(tls: Option<TlsAcceptor>, bind: &'static str, encoding: Option<CompressionEncoding>) -> Server {
    run(move |ready, stopped| async move {
        let (reporter, mut service) = tonic_health::server::health_reporter();
        if let Some(encoding) = encoding {
            service = service.accept_compressed(encoding).send_compressed(encoding);
        }
        set_statuses(&reporter).await;
        let (listener, _unused) = listen(bind).await;
        ready.send(listener.local_addr().expect("it is bound")).expect("the test is waiting");
        let accept = async {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection::serve(stream, tls.clone(), service.clone()));
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    })
}

/// A server like `examples/health_server.rs`, with `List`. Tests can change its statuses.
pub struct ChangingServer {
    pub server: Server,
    statuses: Statuses,
    reporter: HealthReporter,
}

impl ChangingServer {
    /// On a free port.
    pub fn new() -> Self {
        Self::on("127.0.0.1:0".parse().expect("an address"))
    }

    /// On this address, which a previous server may have used.
    pub fn on(address: SocketAddr) -> Self {
        let (statuses, reporter) = (Statuses::default(), HealthReporter::new());
        let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        let service = WithList {
            health: service.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip),
            statuses: statuses.clone(),
        };
        let server = run(move |ready, stopped| async move {
            let listener = TcpListener::bind(address).await.expect("the address is free");
            ready.send(listener.local_addr().expect("it is bound")).expect("the test is waiting");
            let accept = async {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connection::serve(stream, None, service.clone()));
                }
            };
            // Not a graceful shutdown, which would wait for watches to end.
            tokio::select! {
                () = accept => {}
                _ = stopped => {}
            }
        });
        let changing = Self { server, statuses, reporter };
        changing.set("", ServingStatus::Serving);
        changing
    }

    pub fn set(&self, service: &str, status: ServingStatus) {
        self.statuses.set(service, status);
        let runtime = runtime::Builder::new_current_thread().build().expect("a runtime can be created");
        runtime.block_on(self.reporter.set_service_status(service, status));
    }

    /// Stops the server and waits until the port is closed.
    pub fn stop(self) -> SocketAddr {
        let address = self.server.address;
        drop(self);
        while TcpStream::connect(address).is_ok() {
            thread::yield_now();
        }
        address
    }
}

/// How a server answers a request.
pub enum Reply {
    /// One message.
    Message(Vec<u8>),
    /// One message, after this time.
    Late(std::time::Duration, Vec<u8>),
    /// Messages on a stream that stays open.
    Messages(Vec<Vec<u8>>),
    /// A status other than OK, with its message.
    Status(&'static str, &'static str),
}

/// A plain HTTP/2 server whose answer depends on the path of the request.
pub fn by_path(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Server {
    let reply = Arc::new(reply);
    run(move |ready, stopped| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        ready.send(listener.local_addr().expect("it is bound")).expect("the test is waiting");
        let accept = async {
            while let Ok((stream, _)) = listener.accept().await {
                let reply = Arc::clone(&reply);
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let reply = reply(request.uri().path());
                        tokio::spawn(async move { answer(respond, reply).await });
                    }
                });
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    })
}

async fn answer(mut respond: SendResponse<Bytes>, reply: Reply) -> Option<()> {
    // The slowness of a server is what such a test is about.
    if let Reply::Late(delay, _) = reply {
        tokio::time::sleep(delay).await;
    }
    let headers = Response::builder().header("content-type", "application/grpc").body(()).expect("valid");
    let mut stream = respond.send_response(headers, false).ok()?;
    let (code, text) = match reply {
        Reply::Message(message) | Reply::Late(_, message) => {
            stream.send_data(Bytes::from(frames::message(&message)), false).ok()?;
            ("0", "")
        }
        Reply::Messages(messages) => {
            for message in messages {
                stream.send_data(Bytes::from(frames::message(&message)), false).ok()?;
            }
            // Until the client closes the stream.
            return poll_fn(|cx| stream.poll_reset(cx)).await.ok().map(drop);
        }
        Reply::Status(code, text) => (code, text),
    };
    let trailers = [("grpc-status", code), ("grpc-message", text)];
    let trailers = trailers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
    stream.send_trailers(HeaderMap::from_iter(trailers)).ok()
}

/// tonic-health in plaintext.
pub fn plaintext() -> Server {
    serve_health(None, "127.0.0.1:0", None)
}

/// tonic-health in plaintext, on IPv6.
pub fn plaintext_v6() -> Server {
    serve_health(None, "[::1]:0", None)
}

/// tonic-health in plaintext, with gzip both ways.
pub fn gzip() -> Server {
    serve_health(None, "127.0.0.1:0", Some(CompressionEncoding::Gzip))
}

/// tonic-health under TLS.
pub fn tls(leaf: &Leaf) -> Server {
    serve_health(Some(acceptor(leaf, None)), "127.0.0.1:0", None)
}

/// tonic-health under TLS, on IPv6.
pub fn tls_v6(leaf: &Leaf) -> Server {
    serve_health(Some(acceptor(leaf, None)), "[::1]:0", None)
}

/// tonic-health under TLS, for clients with a certificate of `clients` only.
pub fn mtls(leaf: &Leaf, clients: &Authority) -> Server {
    serve_health(Some(acceptor(leaf, Some(clients))), "127.0.0.1:0", None)
}

/// TLS as servers usually have it.
fn acceptor(leaf: &Leaf, clients: Option<&Authority>) -> TlsAcceptor {
    let setup = TlsSetup { leaf, versions: rustls::DEFAULT_VERSIONS, alpn: &["h2"], clients };
    TlsAcceptor::from(setup.config())
}

/// tonic-health on a unix socket.
#[cfg(unix)]
pub fn unix(path: &Path) -> Server {
    let path = path.to_owned();
    run(move |ready, stopped| async move {
        let (reporter, service) = tonic_health::server::health_reporter();
        set_statuses(&reporter).await;
        let listener = tokio::net::UnixListener::bind(path).expect("the directory is writable");
        ready.send(SocketAddr::from(([0; 4], 0))).expect("the test is waiting");
        let accept = async {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection::serve(stream, None, service.clone()));
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    })
}

/// The configuration of a TLS server, for servers other than the usual ones.
pub struct TlsSetup<'a> {
    pub leaf: &'a Leaf,
    pub versions: &'static [&'static rustls::SupportedProtocolVersion],
    pub alpn: &'a [&'a str],
    pub clients: Option<&'a Authority>,
}

impl TlsSetup<'_> {
    pub fn config(&self) -> Arc<ServerConfig> {
        let verifier = self.clients.map(|authority| client_verifier(authority).build().expect("there is a root"));
        self.config_with(verifier)
    }

    /// The same, with optional client certificates of this authority.
    pub fn config_with_optional_clients(&self, authority: &Authority) -> Arc<ServerConfig> {
        let verifier = client_verifier(authority).allow_unauthenticated().build().expect("there is a root");
        self.config_with(Some(verifier))
    }

    fn config_with(&self, clients: Option<Arc<dyn ClientCertVerifier>>) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(self.versions)
            .expect("ring has these versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder
            .with_single_cert(self.leaf.chain.clone(), self.leaf.key.clone_key())
            .expect("certificate and key match");
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

fn client_verifier(authority: &Authority) -> ClientCertVerifierBuilder {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM")).expect("a root");
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
}

/// An HTTP/2 server that answers SERVING and records each request.
pub struct Recorder {
    pub server: Server,
    requests: mpsc::Receiver<Request<Vec<u8>>>,
}

impl Recorder {
    pub fn plaintext() -> Self {
        Self::tcp("127.0.0.1:0", None)
    }

    pub fn plaintext_v6() -> Self {
        Self::tcp("[::1]:0", None)
    }

    pub fn tls(setup: &TlsSetup<'_>) -> Self {
        Self::tcp("127.0.0.1:0", Some(TlsAcceptor::from(setup.config())))
    }

    fn tcp(bind: &'static str, acceptor: Option<TlsAcceptor>) -> Self {
        let (sender, requests) = mpsc::channel();
        let server = run(move |ready, stopped| async move {
            let (listener, _unused) = listen(bind).await;
            ready.send(listener.local_addr().expect("it is bound")).expect("the test is waiting");
            let accept = async {
                while let Ok((stream, _)) = listener.accept().await {
                    let sender = sender.clone();
                    match acceptor.clone() {
                        None => drop(tokio::spawn(record(stream, sender))),
                        Some(acceptor) => drop(tokio::spawn(async move {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                record(stream, sender).await;
                            }
                        })),
                    }
                }
            };
            tokio::select! {
                () = accept => {}
                _ = stopped => {}
            }
        });
        Self { server, requests }
    }

    /// On a unix socket, in the file system or abstract.
    #[cfg(unix)]
    pub fn unix(listener: std::os::unix::net::UnixListener) -> Self {
        let (sender, requests) = mpsc::channel();
        let server = run(move |ready, stopped| async move {
            listener.set_nonblocking(true).expect("a socket can be non-blocking");
            let listener = tokio::net::UnixListener::from_std(listener).expect("the listener is open");
            ready.send(SocketAddr::from(([0; 4], 0))).expect("the test is waiting");
            let accept = async {
                while let Ok((stream, _)) = listener.accept().await {
                    drop(tokio::spawn(record(stream, sender.clone())));
                }
            };
            tokio::select! {
                () = accept => {}
                _ = stopped => {}
            }
        });
        Self { server, requests }
    }

    /// Whether a request has arrived.
    pub fn has_request(&self) -> bool {
        self.requests.try_recv().is_ok()
    }

    /// Whether another request has arrived. It must be to this authority.
    pub fn has_request_to(&self, authority: &str) -> bool {
        let Ok(request) = self.requests.try_recv() else { return false };
        assert_eq!(request.uri().authority().map(http::uri::Authority::as_str), Some(authority));
        true
    }

    /// The next recorded request.
    pub fn request(&self) -> Request<Vec<u8>> {
        self.requests.try_recv().expect("a whole request has arrived")
    }
}

async fn record(stream: impl AsyncRead + AsyncWrite + Unpin, sender: mpsc::Sender<Request<Vec<u8>>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let sender = sender.clone();
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let mut bytes = Vec::new();
            while let Some(Ok(chunk)) = body.data().await {
                bytes.extend_from_slice(&chunk);
            }
            let _ = sender.send(Request::from_parts(head, bytes));
            let response = Response::builder().header("content-type", "application/grpc").body(());
            let mut stream = respond.send_response(response.expect("valid"), false).expect("the probe waits");
            stream.send_data(Bytes::from(frames::answer(1)), false).expect("the probe waits");
            let trailers = [("grpc-status".parse().expect("a name"), "0".parse().expect("a value"))];
            stream.send_trailers(trailers.into_iter().collect()).expect("the probe waits");
        });
    }
}
