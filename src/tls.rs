//! TLS with rustls: prepares and does the handshake. `tls/failure.rs` explains its failures.

mod anchors;
mod certificate;
mod certificate_failure;
mod client_certificate;
mod client_refusal;
mod clock;
mod credentials;
mod danger;
mod directory;
mod failure;
mod look;
mod observed;
mod pem;
mod server_name;
mod system_roots;
mod verifier;

use std::sync::Arc;

use rustls::{
    ClientConfig, ProtocolVersion,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    sign::CertifiedKey,
};
use rustls_pki_types::{ServerName, UnixTime};
use tokio_rustls::{TlsConnector, client::TlsStream};

#[cfg(any(test, fuzzing))]
pub(crate) use self::pem::PemFile;
pub(crate) use self::{
    anchors::{Purpose, Refused, verify_chain},
    certificate::{Description, date_time, describe, span},
    client_certificate::{KeyProblem, certified_key},
    clock::{now, unix_time},
    credentials::{Files, Trust},
    look::{Look, Offer, Trust as Trusting},
    verifier::{NotAccepted, OurIdentity, PeerPolicy, Trusted},
};
use self::{
    certificate::is_spiffe_id,
    client_certificate::ClientIdentity,
    clock::Clock,
    failure::Attempt,
    look::Looker,
    observed::{Observed, version_and_cipher},
    verifier::Verifier,
};
use crate::{
    deadline::Deadline,
    http2::{Opening, PeerSniffer, StreamEnd},
    net::{Io, Stream, Target},
    outcome::{Failure, Phase, Session, TlsSession},
    text::leave_out,
    trace::Trace,
};

/// The trace marks certificates that expire in less than this many seconds (14 days), and less than a fifth of their lives.
const EXPIRES_SOON: u64 = 14 * 24 * 60 * 60;
/// HTTP/2's name in ALPN (RFC 9113, section 3.2).
const ALPN_HTTP2: &[u8] = b"h2";

/// The default: the system's options are set on the TCP stream below.
impl Io for TlsStream<PeerSniffer<Stream>> {}

/// The trust anchors and the identity for handshakes, loaded once.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    provider: Arc<CryptoProvider>,
    trusted: Arc<Trusted>,
    /// The client certificate and its key.
    identity: Option<Arc<CertifiedKey>>,
    server_name: ServerName<'static>,
    /// Whether the server has to answer HTTP/2 by ALPN.
    needs_alpn: bool,
    /// The flag that enables TLS, or the variable that stands for it, for hints.
    given_by: Box<str>,
}

/// What the handshake showed, to explain a later end of the connection.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    observed: Arc<Observed>,
    /// Whether the server requested a client certificate and may still reject it, or its absence: in TLS 1.3 it does so
    /// after our side of the handshake is complete.
    is_certificate_undecided: bool,
}

impl Client {
    /// Loads the files that the user named, or the system's trust anchors.
    ///
    /// # Errors
    /// Those of the phase usage, for files that cannot be read or used.
    pub(crate) async fn from_files(
        files: &Files,
        server_name: ServerName<'static>,
        deadline: Deadline,
        trace: &Trace,
    ) -> Result<Self, Failure> {
        let provider = Arc::new(provider());
        let (trusted, identity) = credentials::load(files, &provider, deadline, trace).await?;
        let identity = identity.map(Arc::new);
        Ok(Self {
            provider,
            trusted: Arc::new(trusted),
            identity,
            server_name,
            needs_alpn: true,
            given_by: "-tls".into(),
        })
    }

    /// Verifies servers by a policy instead of their names, and presents the certificate of `identity`. `flag` enables it.
    pub(crate) fn with_policy(
        policy: Arc<dyn PeerPolicy>,
        identity: CertifiedKey,
        server_name: ServerName<'static>,
        flag: &'static str,
    ) -> Self {
        let provider = Arc::new(provider());
        let trusted = Arc::new(Trusted::by_policy(policy, &provider));
        let identity = Some(Arc::new(identity));
        Self { provider, trusted, identity, server_name, needs_alpn: true, given_by: flag.into() }
    }

    /// What is left to do after the handshake, without the trust anchors, which may be large: [`Self::late_failure`].
    pub(crate) fn after_handshake(&self) -> Self {
        let trusted = Arc::new(self.trusted.without_anchors(&self.provider));
        Self { trusted, ..self.clone() }
    }

    /// The same, enabled by this flag or variable.
    pub(crate) fn given_by(self, name: &str) -> Self {
        Self { given_by: name.into(), ..self }
    }

    /// The same; says whether a server that answers no ALPN at all is refused.
    pub(crate) fn needs_alpn(self, needs_alpn: bool) -> Self {
        Self { needs_alpn, ..self }
    }

    /// Whether the server's answer by ALPN is fine. rustls refuses a protocol that was not offered.
    pub(crate) fn accepts_alpn(&self, answer: Option<&[u8]>) -> bool {
        answer.map_or(!self.needs_alpn, |protocol| protocol == ALPN_HTTP2)
    }

    /// How to do without TLS, for hints.
    pub(crate) fn how_to_leave_out(&self) -> String {
        leave_out(&self.given_by)
    }

    /// When our certificate, or one that it was issued by, expires.
    pub(crate) fn identity_expires(&self) -> Option<UnixTime> {
        client_certificate::expiry(&self.identity.as_ref()?.cert)
    }

    /// Does the handshake over `stream`, for HTTP/2. `target` is the address as the user gave it.
    ///
    /// # Errors
    /// Those of the phase tls. In TLS 1.3 the server may reject the client certificate later; see
    /// [`Client::late_failure`].
    pub(crate) async fn handshake(
        &self,
        stream: Stream,
        target: &str,
        deadline: Deadline,
        trace: &Trace,
    ) -> Result<(Stream, Handshake), Failure> {
        let started = trace.begin(Phase::Tls);
        let observed = Arc::new(Observed::default());
        let attempt = self.attempt(target, &observed);
        let config = client_config(
            &self.provider,
            Verifier { trusted: Arc::downgrade(&self.trusted), observed: Arc::clone(&observed) },
            ClientIdentity { key: self.identity.clone(), observed: Arc::clone(&observed) },
        );
        let (stream, first_bytes) = PeerSniffer::new(stream);
        let handshake = TlsConnector::from(Arc::new(config)).connect(self.server_name.clone(), stream);
        let ended: Result<(Stream, Handshake), Failure> = match deadline.bound(handshake).await {
            Ok(Ok(stream)) if !self.accepts_alpn(stream.get_ref().1.alpn_protocol()) => Err(attempt.no_alpn()),
            Ok(Ok(stream)) => {
                let connection = stream.get_ref().1;
                // In TLS 1.2 the server checks our certificate before it finishes the handshake.
                let is_judged = connection.protocol_version() == Some(ProtocolVersion::TLSv1_2);
                let requested = observed.is_certificate_requested();
                let session = self.session(&stream);
                trace.end(Phase::Tls, started, || describe_session(&session));
                trace.set_session(Session::Tls(session));
                let is_certificate_undecided = requested && !is_judged;
                Ok((Box::new(stream), Handshake { observed: Arc::clone(&observed), is_certificate_undecided }))
            }
            Ok(Err(error)) => Err(attempt.failure(&error, &first_bytes)),
            Err(_) => Err(attempt.timed_out(deadline, &first_bytes)),
        };
        if ended.is_err() {
            self.record_identities(&observed, trace);
        }
        ended
    }

    /// Records who we and the server are, where a policy verifies that, the server has presented its certificate, and the
    /// handshake fails nevertheless.
    fn record_identities(&self, observed: &Observed, trace: &Trace) {
        if let (true, Some(certificate)) = (self.trusted.is_by_policy(), observed.chain().into_iter().next()) {
            trace.set_session(Session::Tls(TlsSession {
                spiffe_id: self.trusted.identity_of(&certificate),
                client_spiffe_id: self.identity(),
                certificate: Some(certificate),
                ..TlsSession::default()
            }));
        }
    }

    /// Our own identity, in the words of the policy.
    fn identity(&self) -> Option<String> {
        self.trusted.identity_of(self.identity.as_ref()?.cert.first()?)
    }

    /// The failure behind the end of a stream between the handshake and the server's SETTINGS: in TLS 1.3 the server rejects a
    /// client certificate, or its absence, only then. `closed_silently` says that the server closed before it sent anything, as
    /// many do instead of sending an alert.
    ///
    /// `None`: the stream ended for another reason.
    pub(crate) fn late_failure(
        &self,
        handshake: &Handshake,
        target: &str,
        end: Option<&StreamEnd>,
        closed_silently: bool,
    ) -> Option<Failure> {
        let attempt = self.attempt(target, &handshake.observed);
        let by_alert = match end {
            Some(StreamEnd::Broken(error)) => attempt.by_alert(error, handshake.is_certificate_undecided),
            _ => None,
        };
        let is_refusal = closed_silently && handshake.is_certificate_undecided;
        by_alert.or_else(|| if is_refusal { attempt.silent_refusal() } else { None })
    }

    /// The failure behind the end of a stream after the server's SETTINGS, if the server rejects our certificate, or its
    /// absence, as late as that.
    pub(crate) fn failure_after_settings(
        &self,
        handshake: &Handshake,
        target: &str,
        end: Option<&StreamEnd>,
    ) -> Option<Failure> {
        match end {
            Some(StreamEnd::Broken(error)) if handshake.is_certificate_undecided => {
                self.attempt(target, &handshake.observed).by_alert_about_certificates(error)
            }
            _ => None,
        }
    }

    /// What the server may not like about the client certificate, or its absence, if it asked for one: added to a failure that
    /// may come from that.
    pub(crate) fn explain_by_certificate(&self, failure: Failure, handshake: &Handshake, target: &str) -> Failure {
        if handshake.observed.is_certificate_requested() {
            self.attempt(target, &handshake.observed).explain_by_certificate(failure)
        } else {
            failure
        }
    }

    /// Looks at the server behind `stream`, for a diagnosis. `target` is the address as the user gave it.
    pub(crate) async fn look(&self, stream: Stream, target: &str, offer: Offer, deadline: Deadline) -> Look {
        let Self { provider, trusted, server_name, given_by, .. } = self;
        let looker = Looker { target, provider, trusted, server_name, given_by, alpn: ALPN_HTTP2 };
        looker.look(stream, offer, deadline).await
    }

    /// The name that is verified, if servers are verified by their names.
    pub(crate) fn verified_name(&self) -> Option<&ServerName<'static>> {
        Some(&self.server_name).filter(|_| !self.trusted.is_by_policy())
    }

    /// Whether there is a client certificate to present.
    pub(crate) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    fn attempt<'a>(&'a self, target: &'a str, observed: &'a Observed) -> Attempt<'a> {
        let Self { trusted, identity, server_name, given_by, .. } = self;
        Attempt { target, server_name, trusted, identity: identity.as_deref(), given_by, observed }
    }

    fn session(&self, stream: &TlsStream<PeerSniffer<Stream>>) -> TlsSession {
        let connection = stream.get_ref().1;
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let [version, cipher] = version_and_cipher(connection);
        TlsSession {
            version,
            cipher,
            server_name: Some(self.server_name.to_str().into_owned()).filter(|_| !self.trusted.is_by_policy()),
            spiffe_id: certificate.and_then(|certificate| self.trusted.identity_of(certificate)),
            client_spiffe_id: self.identity(),
            certificate: certificate.map(|certificate| certificate.clone().into_owned()),
        }
    }
}

/// Describes a session for `-v`. Long lines are cut, and certificates can have many long names: what matters most is first.
fn describe_session(session: &TlsSession) -> String {
    let TlsSession { version, cipher, spiffe_id, certificate, .. } = session;
    let mut text = [version, cipher].map(|part| part.as_deref().unwrap_or_default()).join(" ");
    if let Some(certificate) = certificate.as_ref().and_then(describe) {
        let Description { subject, issuer, names, not_after, .. } = &certificate;
        text += &format!(", certificate until {}", date_time(*not_after));
        let now = now();
        if *not_after < now {
            text += &format!(" (EXPIRED {} ago)", span(*not_after, now));
        } else if expires_soon(&certificate, now) {
            text += &format!(" (EXPIRES IN {})", span(now, *not_after));
        }
        match spiffe_id {
            Some(id) if subject.is_empty() => text += &format!(" of {id}"),
            Some(id) => text += &format!(" of {id} ({subject})"),
            None if subject.is_empty() => {}
            None => text += &format!(" of {subject}"),
        }
        text += &format!(", issued by {issuer}");
        let mut names: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| spiffe_id.as_deref() != Some(name)).collect();
        names.sort_by_key(|name| !is_spiffe_id(name));
        if !names.is_empty() {
            text += &format!(", for {}", names.join(", "));
        }
    }
    text
}

/// Whether a certificate expires so soon that somebody should look after it. One that lives for an hour only, as an X.509-SVID
/// does, is renewed in good time if a fifth of its life is left.
fn expires_soon(certificate: &Description, now: UnixTime) -> bool {
    let life = certificate.not_after.as_secs().saturating_sub(certificate.not_before.as_secs());
    certificate.not_after.as_secs().saturating_sub(now.as_secs()) < EXPIRES_SOON.min(life / 5)
}

/// A name that a certificate can be valid for.
pub(crate) fn server_name_of(name: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).ok()
}

/// Whether the server answers TLS on `stream`, whether or not the handshake succeeds.
pub(crate) async fn answers_tls(stream: Stream, target: &Target, deadline: Deadline) -> bool {
    let Ok(name) = ServerName::try_from(target.server_name()) else { return false };
    let observed = Arc::new(Observed::default());
    let anyone = Arc::new(Trusted::anyone());
    let verifier = Verifier { trusted: Arc::downgrade(&anyone), observed: Arc::clone(&observed) };
    let config = client_config(&Arc::new(provider()), verifier, ClientIdentity { key: None, observed });
    let (stream, first_bytes) = PeerSniffer::new(stream);
    let _ = deadline.bound(TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    matches!(first_bytes.received().opening(), Opening::TlsRecord | Opening::TlsAlert(_))
}

/// ring, with the fastest cipher suite first: processors have instructions for SHA-256, not for SHA-384.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| *suite != ring::cipher_suite::TLS13_AES_128_GCM_SHA256);
    provider
}

fn client_config(provider: &Arc<CryptoProvider>, verifier: Verifier, identity: ClientIdentity) -> ClientConfig {
    let mut config = ClientConfig::builder_with_details(Arc::clone(provider), Arc::new(Clock))
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    // A probe never resumes a session.
    config.resumption = Resumption::disabled();
    config
}
