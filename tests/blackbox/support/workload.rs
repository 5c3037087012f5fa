//! A SPIFFE Workload API and the SVIDs that it provides.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use hyper::body::Bytes;
use prost::Message;
use rcgen::{CertificateParams, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::{runtime, sync::oneshot};

use super::{
    frames,
    pki::{Authority, Leaf},
};

/// The response of the Workload API (workload.proto).
#[derive(Clone, PartialEq, Message)]
pub struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<X509Svid>,
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub federated_bundles: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct X509Svid {
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub chain: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub hint: String,
}

/// A trust domain with its authority.
pub struct TrustDomain {
    pub name: &'static str,
    pub authority: Authority,
}

impl TrustDomain {
    pub fn new(name: &'static str) -> Self {
        Self { name, authority: Authority::new(name) }
    }

    pub fn id(&self, path: &str) -> String {
        format!("spiffe://{}{path}", self.name)
    }

    /// An X.509-SVID whose parameters `change` may modify.
    pub fn svid(&self, path: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let id = self.id(path);
        self.authority.issue(&[], &PKCS_ECDSA_P256_SHA256, |params| {
            params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().expect("ASCII"))];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            change(params);
        })
    }

    /// The certificate of its authority, in DER.
    pub fn bundle(&self) -> Vec<u8> {
        CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).expect("it is PEM").to_vec()
    }

    /// An SVID as the Workload API provides it.
    pub fn entry(&self, path: &str) -> X509Svid {
        self.entry_with(path, &self.svid(path, |_| ()))
    }

    pub fn entry_with(&self, path: &str, leaf: &Leaf) -> X509Svid {
        X509Svid {
            spiffe_id: self.id(path),
            chain: leaf.chain.iter().flat_map(|certificate| certificate.to_vec()).collect(),
            key: leaf.key.secret_der().to_vec(),
            bundle: self.bundle(),
            hint: String::new(),
        }
    }
}

/// How an agent answers a request.
#[derive(Clone)]
pub enum Reply {
    Svids(X509SvidResponse),
    /// Bytes that are not a valid response.
    Bytes(Vec<u8>),
    /// A status other than OK, with its message.
    Status(&'static str, &'static str),
    /// Reads the request and stays silent.
    Nothing,
}

impl Reply {
    /// A response with these SVIDs.
    pub fn with(svids: Vec<X509Svid>) -> Self {
        Self::Svids(X509SvidResponse { svids, federated_bundles: BTreeMap::new() })
    }
}

/// An agent on a unix socket. Dropping it stops the agent.
pub struct Agent {
    path: PathBuf,
    replies: Arc<Mutex<Vec<Reply>>>,
    requests: Arc<Mutex<Vec<Request<()>>>>,
    _stop: oneshot::Sender<()>,
}

impl Agent {
    /// Answers every request with this reply.
    pub fn new(path: &Path, reply: Reply) -> Self {
        Self::rotating(path, vec![reply])
    }

    /// Answers each request with the next of these replies, and then always with the last one.
    pub fn rotating(path: &Path, replies: Vec<Reply>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let agent = Self {
            path: path.to_owned(),
            replies: Arc::new(Mutex::new(replies)),
            requests: Arc::default(),
            _stop: stop,
        };
        let (replies, requests) = (Arc::clone(&agent.replies), Arc::clone(&agent.requests));
        let listener = std::os::unix::net::UnixListener::bind(path).expect("the directory is writable");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        thread::spawn(move || {
            let runtime =
                runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be created");
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).expect("the listener is open");
                let serve = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        let (replies, requests) = (Arc::clone(&replies), Arc::clone(&requests));
                        tokio::spawn(async move {
                            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                            while let Some(Ok((request, respond))) = connection.accept().await {
                                requests.lock().expect("the lock is not poisoned").push(request.map(|_| ()));
                                let mut replies = replies.lock().expect("the lock is not poisoned");
                                let reply = if replies.len() > 1 { replies.remove(0) } else { replies[0].clone() };
                                drop(replies);
                                tokio::spawn(async move { answer(respond, reply).await });
                            }
                        });
                    }
                };
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
            });
        });
        agent
    }

    /// The value of `SPIFFE_ENDPOINT_SOCKET`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request<()>> {
        let requests = self.requests.lock().expect("the lock is not poisoned");
        requests
            .iter()
            .map(|request| {
                let mut copy = Request::builder().uri(request.uri()).body(()).expect("it was valid");
                request.headers().clone_into(copy.headers_mut());
                copy
            })
            .collect()
    }
}

async fn answer(mut respond: SendResponse<Bytes>, reply: Reply) -> Option<()> {
    let head = Response::builder().header("content-type", "application/grpc").body(()).expect("valid");
    let (code, text) = match reply {
        Reply::Nothing => return std::future::pending().await,
        Reply::Status(code, text) => (code, text),
        Reply::Svids(svids) => return send_and_keep_open(respond, head, svids.encode_to_vec()).await,
        Reply::Bytes(bytes) => return send_and_keep_open(respond, head, bytes).await,
    };
    let mut stream = respond.send_response(head, false).ok()?;
    let trailers = [("grpc-status", code), ("grpc-message", text)];
    let trailers = trailers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
    stream.send_trailers(HeaderMap::from_iter(trailers)).ok()
}

/// Sends a message and keeps the stream open for updates, as an agent does.
async fn send_and_keep_open(mut respond: SendResponse<Bytes>, head: Response<()>, message: Vec<u8>) -> Option<()> {
    let mut stream = respond.send_response(head, false).ok()?;
    stream.send_data(Bytes::from(frames::message(&message)), false).ok()?;
    std::future::poll_fn(|cx| stream.poll_reset(cx)).await.ok().map(drop)
}
