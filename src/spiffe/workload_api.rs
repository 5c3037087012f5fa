//! Fetches our X.509-SVID and the trust bundles from the SPIFFE Workload API (`SPIFFE_Workload_API.md`).

use std::{collections::BTreeMap, fmt};

use http::{Uri, uri::PathAndQuery};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tonic::{
    Code, IntoRequest, Status,
    client::Grpc,
    metadata::{AsciiMetadataValue, MetadataMap},
};
use x509_cert::der::{Reader, SliceReader};

use super::{
    endpoint,
    id::{SpiffeId, TrustDomain},
    svid::id_of,
};
use crate::{
    connection::{Connection, Connector, Retries, Security},
    deadline::Deadline,
    http2::Purpose,
    net::Target,
    outcome::{Failure, Kind, Phase, Retry},
    rpc::{Expected, Guard, Limited, LimitedCodec, MAX_SVIDS, guarded_failure},
    text::{excerpt, of_other_server},
    tls::{date_time, describe},
    trace::Trace,
};

/// The API refuses requests without this header, as a defence against server-side request forgery (section 2).
const SECURITY_HEADER: &str = "workload.spiffe.io";
/// The maximum number of certificates in a chain or a bundle.
const MAX_CERTIFICATES: usize = 1000;
/// The maximum number of SVIDs and federated bundles in a response, and of certificates in all of them together.
const MAX_PARTS: usize = 10_000;
const PATH: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
const NO_ENTRY: &str = "no registration entry is for this process; with SPIRE: spire-server entry show";

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
struct Count {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<()>,
    #[prost(message, repeated, tag = "3")]
    federated_bundles: Vec<()>,
}

impl Limited for X509SvidResponse {
    type Count = Count;

    fn check(count: &Count) -> Result<(), Failure> {
        let parts = count.svids.len() + count.federated_bundles.len();
        if parts <= MAX_PARTS {
            return Ok(());
        }
        let cause = format!("it sent {parts} SVIDs and federated bundles, and {MAX_PARTS} are the most");
        Err(Failure::new(Kind::WorkloadApiFailed, cause))
    }
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
    let agent = endpoint::agent()?;
    let what = format!("the SPIFFE Workload API at {}", agent.address);
    let response = ask_until_answered(&agent, keeps_trying, deadline).await;
    let response = response.map_err(|failure| no_svid(&what, &agent, deadline, failure))?;
    let workload = workload(&what, response)?;
    trace.end(Phase::Spiffe, started, || {
        let domains: Vec<String> = workload.bundles.keys().map(ToString::to_string).collect();
        let until = describe(&workload.svid.chain[0]).map(|certificate| date_time(certificate.not_after));
        format!("we are {} until {}, trust domains {}", workload.svid.id, until.unwrap_or_default(), domains.join(", "))
    });
    Ok(workload)
}

/// Asks the agent until it answers, or its failure is final. An agent that restarts removes its socket, refuses or breaks
/// connections, or answers UNAVAILABLE.
///
/// # Errors
/// The failure of the connection, or of the request: its message is then the cause alone.
async fn ask_until_answered(
    agent: &Target,
    keeps_trying: bool,
    deadline: Deadline,
) -> Result<X509SvidResponse, Failure> {
    let mut retries = Retries::new(keeps_trying, deadline);
    let mut may_retry_at_once = true;
    loop {
        match ask(agent, deadline).await {
            Ok(response) => return Ok(response),
            // The agent did not process the request.
            Err(failure) if failure.is_for_new_connection() && may_retry_at_once => may_retry_at_once = false,
            Err(failure) => {
                let is_restarting = matches!(failure.kind, Kind::StreamBroken | Kind::Http2Refused)
                    || failure.grpc_code == Some(Code::Unavailable);
                let failure = if is_restarting { failure.retry(Retry::WhileConnecting) } else { failure };
                retries.after(failure, deadline.remaining().is_zero()).await?;
            }
        }
    }
}

/// Asks the agent once.
async fn ask(agent: &Target, deadline: Deadline) -> Result<X509SvidResponse, Failure> {
    let security = &Security::Plaintext;
    let connector = Connector { target: agent, security, purpose: Purpose::Requests(1), keeps_trying: false };
    // The steps of the connection to the agent are not part of the probe's trace.
    let connection = connector.connect(deadline, &Trace::unfollowed()).await?;
    let response = deadline.bound(request(&connection)).await;
    connection.http2.close().await;
    match response {
        Ok(Ok(response)) => Ok(response),
        // The guard reports all failures of the agent. The only other one is a message that tonic could not decode.
        Ok(Err(status)) => Err(guarded_failure(&status)
            .cloned()
            .unwrap_or_else(|| Failure::new(Kind::MalformedResponse, status.message()))),
        Err(_) => Err(Failure::new(Kind::RpcTimeout, format!("it did not answer within {}", deadline.limit()))),
    }
}

/// The failure to get an answer from the agent, in the phase spiffe. It is final if the socket is not one of an agent, or
/// permission is denied (`SPIFFE_Workload_Endpoint.md`, section 6).
fn no_svid(what: &str, agent: &Target, deadline: Deadline, failure: Failure) -> Failure {
    let code = failure.grpc_code;
    let cause = match failure.kind {
        Kind::ConnectTimeout => {
            format!(
                "connecting timed out after {}: {}",
                deadline.limit(),
                of_other_server(failure.cause(&agent.address))
            )
        }
        kind => match kind.phase() {
            Phase::Http2 => of_other_server(failure.cause(&agent.address)),
            Phase::Rpc => of_other_server(&failure.message),
            _ => failure.message,
        },
    };
    let (kind, hint) = match failure.kind {
        Kind::ServerSilent | Kind::ConnectTimeout | Kind::RpcTimeout => (Kind::WorkloadApiTimeout, None),
        Kind::PermissionDenied | Kind::NotASocket => (Kind::WorkloadApiUnusable, failure.hint),
        Kind::RpcPermissionDenied => (Kind::WorkloadApiDenied, Some(NO_ENTRY.to_owned())),
        kind if is_other_server(kind, code) => (
            Kind::WorkloadApiUnusable,
            Some("is this the socket of an agent's Workload API? SPIFFE_ENDPOINT_SOCKET names it".to_owned()),
        ),
        kind if kind.phase() == Phase::Rpc => (Kind::WorkloadApiFailed, None),
        _ => (
            Kind::WorkloadApiUnreachable,
            Some("is the agent running, and can its socket be reached from here?".to_owned()),
        ),
    };
    Failure { hint, grpc_code: code, ..Failure::new(kind, format!("no SVID from {what}: {cause}")) }
}

/// Whether only something that is not a SPIFFE agent fails like this. An agent has the method, and accepts our request.
fn is_other_server(kind: Kind, code: Option<Code>) -> bool {
    match kind {
        Kind::ServerSpeaksTls
        | Kind::ServerSpeaksHttp1
        | Kind::NotHttp2
        | Kind::NotGrpc
        | Kind::Unimplemented
        | Kind::HeadersTooLarge => true,
        Kind::HttpStatus => code != Some(Code::Unavailable),
        Kind::RpcFailed => code == Some(Code::InvalidArgument),
        _ => false,
    }
}

async fn request(connection: &Connection) -> Result<X509SvidResponse, Status> {
    let guard = Guard::new(&connection.http2, false, Expected::Stream(MAX_SVIDS));
    let origin = Uri::from_static("http://localhost");
    let mut client = Grpc::with_origin(guard, origin).max_decoding_message_size(MAX_SVIDS);
    let mut request = X509SvidRequest {}.into_request();
    let mut metadata = MetadataMap::new();
    metadata.insert(SECURITY_HEADER, AsciiMetadataValue::from_static("true"));
    *request.metadata_mut() = metadata;
    let codec = LimitedCodec::<X509SvidRequest, X509SvidResponse>::new();
    let responses = client.server_streaming(request, PathAndQuery::from_static(PATH), codec).await?;
    // The first response is the current state. Later responses are updates.
    responses.into_inner().message().await.map(Option::unwrap_or_default)
}

/// The first identity of a response, which is the default, and the bundles of all identities.
fn workload(what: &str, X509SvidResponse { svids, federated_bundles }: X509SvidResponse) -> Result<Workload, Failure> {
    let invalid =
        |cause: &str| Failure::new(Kind::SvidInvalid, format!("the response of {what} cannot be used: {cause}"));
    let mut room = MAX_PARTS;
    let mut certificates = |whose: &str, der: &[u8]| {
        let certificates = split(der, room.min(MAX_CERTIFICATES))
            .ok_or_else(|| invalid(&format!("the certificates of {} are not DER, or too many", excerpt(whose))))?;
        room -= certificates.len();
        Ok::<_, Failure>(certificates)
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
        return Err(
            Failure::new(Kind::NoSvid, format!("no SVID from {what}: it has none for this process")).hint(NO_ENTRY)
        );
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

/// Splits concatenated certificates in DER, at most this many.
fn split(der: &[u8], most: usize) -> Option<Vec<CertificateDer<'static>>> {
    /// The DER tag of a certificate (SEQUENCE).
    const SEQUENCE: u8 = 0x30;
    let mut reader = SliceReader::new(der).ok()?;
    let mut certificates = Vec::new();
    while !reader.is_finished() {
        let certificate = reader.tlv_bytes().ok().filter(|certificate| certificate[0] == SEQUENCE)?;
        certificates.push(certificate.to_vec().into());
        if certificates.len() > most {
            return None;
        }
    }
    Some(certificates)
}
