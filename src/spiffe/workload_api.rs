//! Fetches our X.509-SVID and the trust bundles from the SPIFFE Workload API (`SPIFFE_Workload_API.md`).

use std::{collections::BTreeMap, env, fmt, net::SocketAddr};

use anyhow::{anyhow, ensure};
use http::{Uri, uri::PathAndQuery};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tonic::{
    Code, IntoRequest, Status,
    client::Grpc,
    metadata::{AsciiMetadataValue, MetadataMap},
};
use tonic_prost::ProstCodec;
use x509_cert::der::{Reader, SliceReader};

use super::{
    id::{SpiffeId, TrustDomain},
    svid::id_of,
};
use crate::{
    connection::{Connection, Connector},
    deadline::Deadline,
    http2::Purpose,
    net::{Endpoint, Host, Target},
    outcome::{Failure, Kind, Phase},
    rpc::{Expected, Guard, MAX_SVIDS, guarded_failure},
    text::excerpt,
    tls::{date_time, describe},
    trace::Trace,
};

/// The variable with the address of the Workload API (`SPIFFE_Workload_Endpoint.md`, section 4).
const ENDPOINT: &str = "SPIFFE_ENDPOINT_SOCKET";
/// The API refuses requests without this header, as a defence against server-side request forgery (section 2).
const SECURITY_HEADER: &str = "workload.spiffe.io";
/// The maximum number of certificates in a chain or a bundle.
const MAX_CERTIFICATES: usize = 1000;
const PATH: &str = "/SpiffeWorkloadAPI/FetchX509SVID";

/// A response of the Workload API: our identity, and the trust bundles to verify others.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) svid: Svid,
    /// The trusted certificates of our trust domain and of federated ones.
    pub(super) bundles: BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>,
}

/// Our X.509-SVID.
#[derive(Debug)]
pub(super) struct Svid {
    pub(super) id: SpiffeId,
    /// Its certificate and the intermediate certificates.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

// The messages of workload.proto.

#[derive(Clone, PartialEq, prost::Message)]
struct X509SvidRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<X509Svid>,
    #[prost(btree_map = "string, bytes", tag = "3")]
    federated_bundles: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct X509Svid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    /// The certificate and the intermediate certificates, concatenated in DER.
    #[prost(bytes = "vec", tag = "2")]
    chain: Vec<u8>,
    /// PKCS#8, in DER.
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    /// The certificates of its trust domain, concatenated in DER.
    #[prost(bytes = "vec", tag = "4")]
    bundle: Vec<u8>,
}

impl fmt::Debug for X509Svid {
    /// Omits the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Svid").field("spiffe_id", &self.spiffe_id).finish_non_exhaustive()
    }
}

/// Fetches our identity from the Workload API. `keeps_trying` says whether to retry while the agent may be about to start.
///
/// # Errors
/// Those of the phase spiffe.
pub(super) async fn fetch(keeps_trying: bool, deadline: Deadline, trace: &Trace) -> Result<Workload, Failure> {
    let started = trace.begin(Phase::Spiffe);
    let agent = agent()?;
    let what = format!("the SPIFFE Workload API at {}", agent.address);
    let connector = Connector { target: &agent, tls: None, purpose: Purpose::Requests(1), keeps_trying };
    // The steps of the connection to the agent are not part of the probe's trace.
    let connection = connector.connect(deadline, &Trace::unfollowed()).await;
    let connection = connection.map_err(|failure| unreachable(&what, failure))?;
    let response = deadline.bound(request(&connection)).await;
    connection.http2.close().await;
    let response = match response {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => return Err(refused(&what, &status)),
        Err(_) => {
            let message = format!("no SVID from {what}: it did not answer within {}", deadline.limit());
            return Err(Failure::new(Kind::WorkloadApiTimeout, message));
        }
    };
    let workload = workload(&what, response)?;
    trace.end(Phase::Spiffe, started, || {
        let domains: Vec<String> = workload.bundles.keys().map(ToString::to_string).collect();
        let until = describe(&workload.svid.chain[0]).map(|certificate| date_time(certificate.not_after));
        format!("we are {} until {}, trust domains {}", workload.svid.id, until.unwrap_or_default(), domains.join(", "))
    });
    Ok(workload)
}

/// The target in `SPIFFE_ENDPOINT_SOCKET`.
fn agent() -> Result<Target, Failure> {
    let unusable = |message: String| {
        Failure::new(Kind::WorkloadApiAddress, message)
            .hint("it says where the agent's socket is mounted, as in unix:///run/spire/sockets/agent.sock")
    };
    let Some(text) = env::var_os(ENDPOINT).filter(|text| !text.is_empty()) else {
        return Err(unusable(format!("{ENDPOINT} is not set, and -spiffe needs it")));
    };
    let text = text.into_string().map_err(|_| unusable(format!("{ENDPOINT} is not UTF-8")))?;
    parse_endpoint(&text).map_err(|cause| unusable(format!("{ENDPOINT} \"{}\": {cause}", excerpt(&text))))
}

/// Parses `unix:///path`, `unix:/path` or `tcp://ip:port`.
fn parse_endpoint(text: &str) -> anyhow::Result<Target> {
    const FORMS: &str = "write unix:///path or tcp://ip:port";
    ensure!(!text.contains(['?', '#']), FORMS);
    if text.starts_with("unix:///") || text.starts_with("unix:/") && !text.starts_with("unix://") {
        return Target::parse(text);
    }
    let address: SocketAddr =
        text.strip_prefix("tcp://").and_then(|tcp| tcp.parse().ok()).ok_or_else(|| anyhow!(FORMS))?;
    let endpoint = Endpoint::Tcp(Host::Ip(address.ip()), address.port());
    Ok(Target { address: text.to_owned(), endpoint, authority: String::new() })
}

/// The failure of a connection to the agent. It is final if the socket is not one of an agent, or permission is denied.
fn unreachable(what: &str, Failure { kind, message, hint, .. }: Failure) -> Failure {
    let message = format!("no SVID from {what}: {message}");
    let (kind, hint) = match kind {
        Kind::ServerSilent | Kind::ConnectTimeout => (Kind::WorkloadApiTimeout, None),
        Kind::PermissionDenied | Kind::NotASocket => (Kind::WorkloadApiUnusable, hint),
        Kind::ServerSpeaksTls | Kind::ServerSpeaksHttp1 | Kind::NotHttp2 => {
            (Kind::WorkloadApiUnusable, Some("is this the socket of a SPIFFE agent?".to_owned()))
        }
        _ => (
            Kind::WorkloadApiUnreachable,
            Some("is the agent running, and can its socket be reached from here?".to_owned()),
        ),
    };
    Failure { hint, ..Failure::new(kind, message) }
}

async fn request(connection: &Connection) -> Result<X509SvidResponse, Status> {
    let guard = Guard::new(&connection.http2, false, Expected::Stream(MAX_SVIDS));
    let origin = Uri::from_static("http://localhost");
    let mut client = Grpc::with_origin(guard, origin).max_decoding_message_size(MAX_SVIDS);
    let mut request = X509SvidRequest {}.into_request();
    let mut metadata = MetadataMap::new();
    metadata.insert(SECURITY_HEADER, AsciiMetadataValue::from_static("true"));
    *request.metadata_mut() = metadata;
    let codec = ProstCodec::<X509SvidRequest, X509SvidResponse>::default();
    let responses = client.server_streaming(request, PathAndQuery::from_static(PATH), codec).await?;
    // The first response is the current state. Later responses are updates.
    responses.into_inner().message().await.map(Option::unwrap_or_default)
}

/// The failure of a request that the Workload API answered without SVIDs.
fn refused(what: &str, status: &Status) -> Failure {
    let guarded = guarded_failure(status);
    let cause = guarded.map_or_else(|| status.message(), |failure| &failure.message);
    let code = guarded.and_then(|failure| failure.grpc_code);
    let message = format!("no SVID from {what}: {cause}");
    let failure = match code {
        Some(Code::PermissionDenied) => Failure::new(Kind::WorkloadApiDenied, message)
            .hint("no registration entry is for this process; with SPIRE: spire-server entry show"),
        _ => Failure::new(Kind::WorkloadApiFailed, message),
    };
    Failure { grpc_code: code, ..failure }
}

/// The first identity of a response, which is the default, and the bundles of all identities.
fn workload(what: &str, X509SvidResponse { svids, federated_bundles }: X509SvidResponse) -> Result<Workload, Failure> {
    let invalid =
        |cause: &str| Failure::new(Kind::SvidInvalid, format!("the response of {what} cannot be used: {cause}"));
    let certificates = |whose: &str, der: &[u8]| {
        split(der).ok_or_else(|| invalid(&format!("the certificates of {} are not DER, or too many", excerpt(whose))))
    };
    let spiffe_id = |text: &str| {
        SpiffeId::parse(text).map_err(|error| invalid(&format!("\"{}\" is no SPIFFE ID: {error}", excerpt(text))))
    };
    let mut bundles = BTreeMap::new();
    for svid in &svids {
        let domain = spiffe_id(&svid.spiffe_id)?.trust_domain;
        let bundle = certificates(&domain.to_string(), &svid.bundle)?;
        bundles.entry(domain).or_insert(bundle);
    }
    for (name, der) in &federated_bundles {
        let domain = TrustDomain::parse(name).map_err(|error| invalid(&format!("\"{}\": {error}", excerpt(name))))?;
        let bundle = certificates(name, der)?;
        bundles.entry(domain).or_insert(bundle);
    }
    let Some(svid) = svids.into_iter().next() else {
        return Err(Failure::new(Kind::NoSvid, format!("no SVID from {what}: it has none for this process"))
            .hint("no registration entry is for this process; with SPIRE: spire-server entry show"));
    };
    let id = spiffe_id(&svid.spiffe_id)?;
    let chain = certificates(&svid.spiffe_id, &svid.chain)?;
    let Some(certificate) = chain.first() else { return Err(invalid(&format!("{id} has no certificate"))) };
    match id_of(certificate) {
        Ok(other) if other != id => return Err(invalid(&format!("the certificate of {id} is that of {other}"))),
        Ok(_) => {}
        Err(cause) => return Err(invalid(&format!("the certificate of {id} is no X.509-SVID: {cause}"))),
    }
    if bundles.get(&id.trust_domain).is_none_or(Vec::is_empty) {
        let message = format!("{what} gave no trust anchor for the trust domain {}", id.trust_domain);
        return Err(Failure::new(Kind::NoTrustBundle, message));
    }
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(svid.key));
    Ok(Workload { svid: Svid { id, chain, key }, bundles })
}

/// Splits concatenated certificates in DER.
fn split(der: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    /// The DER tag of a certificate (SEQUENCE).
    const SEQUENCE: u8 = 0x30;
    let mut reader = SliceReader::new(der).ok()?;
    let mut certificates = Vec::new();
    while !reader.is_finished() {
        let certificate = reader.tlv_bytes().ok().filter(|certificate| certificate[0] == SEQUENCE)?;
        certificates.push(certificate.to_vec().into());
        if certificates.len() > MAX_CERTIFICATES {
            return None;
        }
    }
    Some(certificates)
}
