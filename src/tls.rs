//! TLS by rustls: what the configuration means to it, the handshake, and what its failures mean to people.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, PeerIncompatible,
    RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    certificate::{Description, date_time, describe, span},
    config::{Config, Tls, Trust},
    connect::{Stream, connect},
    deadline::{Deadline, Unfinished},
    journal::{Journal, Session},
    outcome::{Failure, Kind, Phase, Retry},
    pem::PemFile,
    text::{plain, snake_case},
    wire::{End, Opening, Watched, Witness},
};

/// A certificate with less than these seconds left, 14 days, is pointed out.
const EXPIRES_SOON: u64 = 14 * 24 * 60 * 60;
/// HTTP/2's name in ALPN (RFC 9113, section 3.2).
const ALPN_HTTP2: &[u8] = b"h2";

/// Everything that handshakes need, loaded once.
#[derive(Debug)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    verifier: Arc<Verifier>,
    identity: Arc<Identity>,
    /// What the trusted certificates come from, for messages.
    trust: String,
}

impl Client {
    /// Loads the files that the configuration names.
    ///
    /// # Errors
    /// Those of the usage phase: files that cannot be read or used.
    pub(crate) async fn load(tls: &Tls, deadline: Deadline, journal: &Journal) -> Result<Self, Failure> {
        let provider = Arc::new(ring::default_provider());
        let (verifier, trust) = match &tls.trust {
            Trust::Anyone => (Verifier::anyone(), "nothing"),
            Trust::File(path) => {
                let file = PemFile::read("-tls-ca-cert", path, deadline).await?;
                let (certificates, broken) = file.certificates()?;
                let anchors = anchors(&certificates, broken, journal).ok_or_else(|| {
                    let message = format!("{} holds no usable certificate", file.name());
                    Failure::new(Kind::CertificateInvalid, message)
                })?;
                (Verifier::of(anchors, certificates, &provider), "-tls-ca-cert")
            }
            Trust::System => {
                (Verifier::of(system_anchors(deadline, journal).await?, Vec::new(), &provider), "the system")
            }
        };
        let identity = match &tls.identity {
            Some((certificate, key)) => {
                let certificate = PemFile::read("-tls-client-cert", certificate, deadline).await?;
                let key = PemFile::read("-tls-client-key", key, deadline).await?;
                Some(Arc::new(certified_key(&certificate, &key, &provider)?))
            }
            None => None,
        };
        let (verifier, identity) =
            (Arc::new(verifier), Arc::new(Identity { key: identity, asked: AtomicBool::new(false) }));
        let config = client_config(&provider, Arc::clone(&verifier) as _, Arc::clone(&identity));
        let server_name = tls.server_name.clone();
        Ok(Self { config: Arc::new(config), server_name, verifier, identity, trust: trust.to_owned() })
    }

    /// Shakes hands over `stream`, for HTTP/2.
    ///
    /// # Errors
    /// Those of the phase tls. Under TLS 1.3 the server's verdict on the client's certificate comes later; see
    /// [`Client::late_failure`].
    pub(crate) async fn handshake(
        &self,
        stream: Stream,
        config: &Config,
        deadline: Deadline,
        journal: &Journal,
    ) -> Result<Stream, Failure> {
        let begun = journal.begin(Phase::Tls);
        let (stream, witness) = Watched::new(stream);
        let handshake = TlsConnector::from(Arc::clone(&self.config)).connect(self.server_name.clone(), stream);
        match deadline.bound(handshake).await {
            Ok(Ok(stream)) => {
                let session = self.session(&stream);
                if stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
                    return Err(no_http2(config, "the server did not agree on HTTP/2 (no \"h2\" in its ALPN answer)"));
                }
                journal.end(Phase::Tls, begun, || Self::tell(&session));
                journal.set_session(session);
                Ok(Box::new(stream))
            }
            Ok(Err(error)) => Err(self.failure(config, &error, &witness)),
            Err(_) => Err(timed_out(config, deadline, &witness)),
        }
    }

    /// The failure of a handshake that the server broke off after it had ended for us, as TLS 1.3 has it when the
    /// client's certificate is missing or refused. `None`: the stream ended otherwise.
    pub(crate) fn late_failure(&self, config: &Config, end: Option<&End>) -> Option<Failure> {
        if let End::Broken(error) = end?
            && let Some(rustls::Error::AlertReceived(alert)) = tls_error(error)
        {
            return Some(self.alert(config, *alert));
        }
        self.silent_refusal(config)
    }

    /// What it means that the server closes without an alert, as many do: if it has asked for a certificate, that is
    /// the one thing it can have taken offence at.
    fn silent_refusal(&self, config: &Config) -> Option<Failure> {
        if !self.identity.is_asked_for() {
            return None;
        }
        Some(match self.identity.key {
            None => self.client_certificate_required(
                config,
                "the server asked for a client certificate, got none, and closed the connection",
            ),
            Some(_) => handshake_failure(
                config,
                Kind::TlsClientCertificateRejected,
                "the server asked for a client certificate, got ours, and closed the connection",
            )
            .hint("does the server trust its issuer, and is it still valid? the server's log knows"),
        })
    }

    fn failure(&self, config: &Config, error: &io::Error, witness: &Witness) -> Failure {
        let failed = |kind, cause: &str| handshake_failure(config, kind, cause);
        let opening = witness.seen().opening();
        let plaintext = |cause: &str| {
            failed(Kind::TlsPlaintextServer, &format!("the server does not speak TLS{cause}"))
                .hint("leave out -tls, or probe the server's TLS port")
        };
        match opening {
            Opening::Settings | Opening::PartOfSettings(_) | Opening::Frame(_) => return plaintext(""),
            Opening::Http1(_) | Opening::Http1ForTls(_) | Opening::Text(_) | Opening::Bytes(_) => {
                return plaintext(&format!(": it {opening}"));
            }
            Opening::Nothing | Opening::TlsAlert(_) | Opening::TlsRecord => {}
        }
        match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(error)) => self.certificate_failure(config, error),
            Some(rustls::Error::AlertReceived(alert)) => self.alert(config, *alert),
            Some(rustls::Error::NoApplicationProtocol) => no_http2(config, "the server refused HTTP/2 (ALPN)"),
            Some(rustls::Error::PeerIncompatible(
                reason @ (PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled),
            )) => failed(Kind::TlsVersion, &format!("the server speaks neither TLS 1.2 nor 1.3 ({reason:?})"))
                .hint("older versions are broken; the server has to offer TLS 1.2 or 1.3"),
            Some(error) => failed(Kind::TlsFailed, &error.to_string()),
            None if opening == Opening::Nothing => {
                failed(Kind::TlsFailed, "the server closed the connection instead of answering")
                    .retry(Retry::WhileConnecting)
            }
            None => self.silent_refusal(config).unwrap_or_else(|| {
                failed(Kind::TlsFailed, &format!("the server closed the connection amid it: {}", plain(error)))
                    .retry(Retry::WhileConnecting)
            }),
        }
    }

    fn certificate_failure(&self, config: &Config, error: &CertificateError) -> Failure {
        let failed = |kind, cause: &str| handshake_failure(config, kind, cause);
        let presented = self.verifier.presented().as_ref().and_then(describe);
        let now = UnixTime::now();
        match error {
            CertificateError::ExpiredContext { not_after, .. } => {
                let whose = whose(presented.as_ref().map(|presented| presented.not_after), *not_after);
                let ago = span(*not_after, now);
                let cause = format!("{whose} expired on {} ({ago} ago)", day(*not_after));
                failed(Kind::TlsCertificateExpired, &cause)
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                let whose = whose(presented.as_ref().map(|presented| presented.not_before), *not_before);
                let cause = format!("{whose} is not valid before {}", date_time(*not_before));
                failed(Kind::TlsCertificateNotYetValid, &cause)
                    .hint(format!("is this machine's clock right? it says {}", date_time(now)))
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                wrong_name(config, &self.server_name.to_str(), presented.as_ref())
            }
            CertificateError::UnknownIssuer => {
                let failure = match &presented {
                    Some(Description { subject, issuer, .. }) if subject == issuer => failed(
                        Kind::TlsCertificateUnknownIssuer,
                        &format!("the certificate of {subject} is self-signed, and {} does not hold it", self.trust),
                    ),
                    Some(Description { issuer, .. }) => failed(
                        Kind::TlsCertificateUnknownIssuer,
                        &format!("the certificate was issued by {issuer}, which {} does not hold", self.trust),
                    ),
                    None => failed(Kind::TlsCertificateUnknownIssuer, "the certificate's issuer is unknown"),
                };
                failure.hint("give the issuer's certificate with -tls-ca-cert; the server must send those in between")
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                failed(Kind::TlsCertificateInvalid, "the certificate is not for servers (extended key usage)")
            }
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => failed(
                Kind::TlsCertificateInvalid,
                "the certificate, or one in its chain, has a signature or key that is not accepted (such as SHA-1, \
                 RSA below 2048 bits, or P-521)",
            ),
            CertificateError::Other(error) => {
                failed(Kind::TlsCertificateInvalid, &format!("the certificate is not acceptable: {error}"))
            }
            error => failed(Kind::TlsCertificateInvalid, &format!("the certificate is not acceptable: {error}")),
        }
    }

    fn alert(&self, config: &Config, alert: AlertDescription) -> Failure {
        let failed = |kind, cause: &str| handshake_failure(config, kind, cause);
        let cause = format!("the server refused it: alert {}", alert_name(alert));
        // What servers send when they do not like the client's certificate, or its absence (RFC 8446, section 6.2).
        let about_certificates = matches!(
            alert,
            AlertDescription::CertificateRequired
                | AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError
                | AlertDescription::HandshakeFailure
        );
        match alert {
            _ if about_certificates && self.identity.is_asked_for() => match self.identity.key {
                None => self.client_certificate_required(
                    config,
                    &format!("the server requires a client certificate (alert {})", alert_name(alert)),
                ),
                Some(_) => failed(
                    Kind::TlsClientCertificateRejected,
                    &format!("the server rejected the client certificate (alert {})", alert_name(alert)),
                ),
            },
            AlertDescription::CertificateRequired => self.client_certificate_required(config, &cause),
            AlertDescription::ProtocolVersion => {
                failed(Kind::TlsVersion, "the server speaks neither TLS 1.2 nor 1.3 (alert protocol_version)")
                    .hint("older versions are broken; the server has to offer TLS 1.2 or 1.3")
            }
            AlertDescription::NoApplicationProtocol => {
                no_http2(config, "the server refused HTTP/2 (alert no_application_protocol)")
            }
            AlertDescription::UnrecognisedName => {
                failed(Kind::TlsFailed, &format!("the server has no certificate for {}", self.server_name.to_str()))
                    .hint("give a name that it has one for with -tls-server-name")
            }
            _ => failed(Kind::TlsFailed, &cause),
        }
    }

    fn client_certificate_required(&self, config: &Config, cause: &str) -> Failure {
        let failure = handshake_failure(config, Kind::TlsClientCertificateRequired, cause);
        if self.identity.key.is_some() {
            return failure;
        }
        failure.hint("give one with -tls-client-cert and -tls-client-key")
    }

    fn session(&self, stream: &TlsStream<Watched<Stream>>) -> Session {
        let connection = stream.get_ref().1;
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let version = connection.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default();
        let cipher = connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        Session {
            version: version.replace("TLSv1_", "TLSv1."),
            cipher: cipher.unwrap_or_default().replace("TLS13_", "TLS_"),
            server_name: self.server_name.to_str().into_owned(),
            certificate: certificate.map(|certificate| certificate.clone().into_owned()),
        }
    }

    fn tell(session: &Session) -> String {
        let mut text = format!("{} {}", session.version, session.cipher);
        if let Some(certificate) = session.certificate.as_ref().and_then(describe) {
            let now = UnixTime::now();
            text += &format!(
                ", certificate of {} for {}, issued by {}, until {}",
                certificate.subject,
                certificate.names.join(", "),
                certificate.issuer,
                date_time(certificate.not_after)
            );
            if certificate.not_after < now {
                text += &format!(": EXPIRED {} ago", span(certificate.not_after, now));
            } else if certificate.not_after.as_secs() - now.as_secs() < EXPIRES_SOON {
                text += &format!(": EXPIRES IN {}", span(now, certificate.not_after));
            }
        }
        text
    }
}

/// Whether a server that closed a plaintext connection without a word answers TLS on another one.
pub(crate) async fn speaks_tls(config: &Config, deadline: Deadline, journal: &Journal) -> bool {
    let Ok(stream) = connect(config, deadline, journal).await else { return false };
    let Ok(name) = ServerName::try_from(config.target.server_name()) else { return false };
    let identity = Identity { key: None, asked: AtomicBool::new(false) };
    let tls = client_config(&Arc::new(ring::default_provider()), Arc::new(danger::Anyone), Arc::new(identity));
    let (stream, witness) = Watched::new(stream);
    // What the server answers tells enough, whether or not the handshake goes on.
    let _ = deadline.bound(TlsConnector::from(Arc::new(tls)).connect(name, stream)).await;
    matches!(witness.seen().opening(), Opening::TlsRecord | Opening::TlsAlert(_))
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    identity: Arc<Identity>,
) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(identity);
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    // There is one connection, and none to resume.
    config.resumption = Resumption::disabled();
    config
}

fn handshake_failure(config: &Config, kind: Kind, cause: &str) -> Failure {
    Failure::new(kind, format!("TLS handshake with {} failed: {cause}", config.address))
}

fn no_http2(config: &Config, cause: &str) -> Failure {
    handshake_failure(config, Kind::TlsNoH2, cause)
        .hint("gRPC needs HTTP/2; is this the gRPC port, or a proxy without it?")
}

fn timed_out(config: &Config, deadline: Deadline, witness: &Witness) -> Failure {
    let opening = witness.seen().opening();
    let message = format!("TLS handshake with {} timed out after {}", config.address, deadline.limit());
    match opening {
        Opening::Nothing => Failure::new(Kind::TlsTimeout, format!("{message}: connected, no answer")),
        Opening::TlsAlert(_) | Opening::TlsRecord => {
            Failure::new(Kind::TlsTimeout, format!("{message}: the server began it and stopped"))
        }
        _ => {
            handshake_failure(config, Kind::TlsPlaintextServer, &format!("the server does not speak TLS: it {opening}"))
                .hint("leave out -tls, or probe the server's TLS port")
        }
    }
}

fn wrong_name(config: &Config, wanted: &str, presented: Option<&Description>) -> Failure {
    const SHOWN: usize = 8;
    let names = presented.map(|presented| presented.names.as_slice()).unwrap_or_default();
    if names.is_empty() {
        let cause = format!("the certificate is for no name at all (no subject alternative name), not {wanted}");
        return handshake_failure(config, Kind::TlsCertificateWrongName, &cause)
            .hint("a common name does not count; issue it with a subject alternative name");
    }
    let mut shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        shown += &format!(" and {} more", names.len() - SHOWN);
    }
    let failure = handshake_failure(
        config,
        Kind::TlsCertificateWrongName,
        &format!("the certificate is for {shown}, not {wanted}"),
    );
    match names.iter().find(|name| !name.contains('*') && ServerName::try_from(name.as_str()).is_ok()) {
        Some(name) => failure.hint(format!("use -tls-server-name={name}")),
        None => failure.hint("use -tls-server-name with a name that it is for"),
    }
}

/// The certificate that a limit belongs to: the server's own if it has that limit, else one of its issuers'.
fn whose(own: Option<UnixTime>, limit: UnixTime) -> &'static str {
    if own.is_none_or(|own| own == limit) { "the certificate" } else { "a CA certificate in its chain" }
}

fn day(time: UnixTime) -> String {
    let date = date_time(time);
    date.split_once('T').map_or(date.clone(), |(day, _)| day.to_owned())
}

/// An alert's name as RFC 8446 writes it.
fn alert_name(alert: AlertDescription) -> String {
    snake_case(&format!("{alert:?}"))
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Trust anchors from certificates; nothing where none is usable. Broken ones beside good ones do no harm.
fn anchors(certificates: &[CertificateDer<'static>], broken: usize, journal: &Journal) -> Option<RootCertStore> {
    let mut anchors = RootCertStore::empty();
    let (_, ignored) = anchors.add_parsable_certificates(certificates.iter().cloned());
    if broken + ignored > 0 {
        journal.note(Phase::Usage, || format!("{} of the trusted certificates cannot be read", broken + ignored));
    }
    (!anchors.is_empty()).then_some(anchors)
}

async fn system_anchors(deadline: Deadline, journal: &Journal) -> Result<RootCertStore, Failure> {
    let no_anchors = |cause: &str| {
        Failure::new(Kind::NoTrustAnchors, format!("no trusted certificates found on this system: {cause}"))
            .hint("give the server's CA with -tls-ca-cert, or mount the system's bundle")
    };
    // SSL_CERT_FILE may name a pipe.
    let loaded =
        deadline.bound_blocking(rustls_native_certs::load_native_certs).await.map_err(|error| match error {
            Unfinished::Elapsed => no_anchors(&format!("reading them took more than {}", deadline.limit())),
            Unfinished::NoThread(error) => no_anchors(&plain(&error)),
        })?;
    let broken = loaded.errors.len();
    anchors(&loaded.certs, broken, journal).ok_or_else(|| match loaded.errors.first() {
        Some(error) => no_anchors(&error.to_string()),
        None => no_anchors("the usual places hold none"),
    })
}

fn certified_key(certificate: &PemFile, key: &PemFile, provider: &CryptoProvider) -> Result<CertifiedKey, Failure> {
    let (chain, broken) = certificate.certificates()?;
    if broken > 0 {
        let message = format!("{} has {broken} PEM sections that cannot be read", certificate.name());
        return Err(Failure::new(Kind::CertificateInvalid, message));
    }
    let private = key.private_key()?;
    let signer = provider.key_provider.load_private_key(private).map_err(|_| {
        let message = format!("the private key in {} is broken or of a kind that is not supported", key.name());
        Failure::new(Kind::KeyInvalid, message)
            .hint("RSA of 2048 bits and more, P-256, P-384 and Ed25519 are supported")
    })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        // Unknown: the signer does not tell its public key, so nothing speaks against it.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let message = format!("{} is not the key of {}", key.name(), certificate.name());
            Err(Failure::new(Kind::KeyMismatch, message)
                .hint("the first certificate in the file must be the client's own"))
        }
        Err(error) => {
            Err(Failure::new(Kind::CertificateInvalid, format!("{} is not usable: {error}", certificate.name())))
        }
    }
}

/// Our certificate, if there is one, and whether the server asked for it.
#[derive(Debug)]
struct Identity {
    key: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl Identity {
    fn is_asked_for(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}

/// Verifies servers, and keeps the certificate that the last one presented, for messages.
#[derive(Debug)]
struct Verifier {
    judge: Arc<dyn ServerCertVerifier>,
    /// Certificates that are trusted as such, whatever kind they are.
    pinned: Vec<CertificateDer<'static>>,
    presented: Mutex<Option<CertificateDer<'static>>>,
}

impl Verifier {
    fn of(anchors: RootCertStore, pinned: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Self {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider))
            .build()
            .expect("there are anchors, and no revocation lists that could be invalid");
        Self { judge: verifier, pinned, presented: Mutex::new(None) }
    }

    fn anyone() -> Self {
        Self { judge: Arc::new(danger::Anyone), pinned: Vec::new(), presented: Mutex::new(None) }
    }

    fn presented(&self) -> Option<CertificateDer<'static>> {
        self.presented.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a certificate was refused for its place in the chain alone.
fn is_about_role(error: &CertificateError) -> bool {
    match error {
        CertificateError::UnknownIssuer => true,
        CertificateError::Other(OtherError(error)) => {
            matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        let verified = self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // A server's own certificate given as the trusted one is no issuer, and a self-signed one made by
            // `openssl req -x509` is a CA besides. webpki refuses both, after it has checked the validity.
            Err(rustls::Error::InvalidCertificate(error))
                if is_about_role(&error) && self.pinned.contains(end_entity) =>
            {
                let is_for_servers = describe(end_entity).is_some_and(|description| description.is_for_servers);
                if !is_for_servers {
                    return Err(CertificateError::InvalidPurpose.into());
                }
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

/// What `-tls-no-verify` does, kept apart from what everything else does.
mod danger {
    use super::{
        CertificateDer, DigitallySignedStruct, HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
        ServerName, SignatureScheme, UnixTime,
    };

    /// Believes every server. With no identity to prove, a signature by the certificate's key proves nothing either.
    #[derive(Debug)]
    pub(super) struct Anyone;

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![
                SignatureScheme::ECDSA_NISTP256_SHA256,
                SignatureScheme::ECDSA_NISTP384_SHA384,
                SignatureScheme::ECDSA_NISTP521_SHA512,
                SignatureScheme::ED25519,
                SignatureScheme::ED448,
                SignatureScheme::RSA_PSS_SHA256,
                SignatureScheme::RSA_PSS_SHA384,
                SignatureScheme::RSA_PSS_SHA512,
                SignatureScheme::RSA_PKCS1_SHA256,
                SignatureScheme::RSA_PKCS1_SHA384,
                SignatureScheme::RSA_PKCS1_SHA512,
                SignatureScheme::RSA_PKCS1_SHA1,
            ]
        }
    }
}
