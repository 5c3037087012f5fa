//! TLS by rustls: what the configuration means to it, the handshake, and what its failures mean to people.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, OtherError, PeerIncompatible, ProtocolVersion, SignatureScheme,
    client::{ResolvesClientCert, Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    sign::CertifiedKey,
};
use rustls_pki_types::{ServerName, UnixTime};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    certificate::{Description, date_time, describe, is_for_key, span},
    config::{self, Config, Tls},
    connect::{Stream, connect},
    credentials::{self, Trusted},
    deadline::Deadline,
    journal::{Journal, Session},
    outcome::{Failure, Kind, Phase, Retry},
    pem::PemFile,
    svid::NotAccepted,
    text::{plain, snake_case},
    trust::{Verifier, WrongSigner},
    wire::{End, Opening, Watched, Witness},
    workload::Svid,
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
    trust: &'static str,
    /// Whether servers are known by their SPIFFE IDs, not by names.
    goes_by_spiffe_id: bool,
}

impl Client {
    /// Loads the files that the configuration names, or what the Workload API has.
    ///
    /// # Errors
    /// Those of the usage phase, for files that cannot be read or used, and those of the phase spiffe.
    pub(crate) async fn load(
        config: &Config,
        tls: &Tls,
        deadline: Deadline,
        journal: &Journal,
    ) -> Result<Self, Failure> {
        let provider = Arc::new(provider());
        let credentials = credentials::read(config, tls, deadline, journal).await?;
        let trust = match credentials.trusted {
            Trusted::Anyone => "nothing",
            Trusted::File(_) => "-tls-ca-cert",
            Trusted::System(_) => "the system",
            Trusted::Bundles(_) => "the bundle of its trust domain",
        };
        let verifier = Arc::new(Verifier::new(credentials.trusted, &provider, journal)?);
        let key = match credentials.identity {
            Some(credentials::Identity::Files(certificate, key)) => Some(certified_key(&certificate, &key, &provider)?),
            Some(credentials::Identity::Svid(svid)) => Some(svid_key(svid, &provider)?),
            None => None,
        };
        let key = key.map(Arc::new);
        let identity = Arc::new(Identity { key, asked: AtomicBool::new(false) });
        let config = client_config(&provider, Arc::clone(&verifier) as _, Arc::clone(&identity));
        let goes_by_spiffe_id = matches!(tls.credentials, config::Credentials::Workload(_));
        let server_name = tls.server_name.clone();
        Ok(Self { config: Arc::new(config), server_name, verifier, identity, trust, goes_by_spiffe_id })
    }

    /// The same for another connection at the same time: what one handshake leaves behind is not the other's.
    pub(crate) fn another(&self) -> Self {
        let verifier = Arc::new(self.verifier.another());
        let identity = Arc::new(Identity { key: self.identity.key.clone(), asked: AtomicBool::new(false) });
        let config = client_config(&Arc::new(provider()), Arc::clone(&verifier) as _, Arc::clone(&identity));
        Self {
            config: Arc::new(config),
            server_name: self.server_name.clone(),
            verifier,
            identity,
            trust: self.trust,
            goes_by_spiffe_id: self.goes_by_spiffe_id,
        }
    }

    /// Shakes hands over `stream`, for HTTP/2.
    ///
    /// # Errors
    /// Those of the phase tls. Under TLS 1.3 the server's verdict on the client's certificate comes later; see
    /// [`Client::late_alert`].
    pub(crate) async fn handshake(
        &self,
        stream: Stream,
        config: &Config,
        deadline: Deadline,
        journal: &Journal,
    ) -> Result<Stream, Failure> {
        let begun = journal.begin(Phase::Tls);
        self.identity.asked.store(false, Ordering::Relaxed);
        let (stream, witness) = Watched::new(stream);
        let handshake = TlsConnector::from(Arc::clone(&self.config)).connect(self.server_name.clone(), stream);
        match deadline.bound(handshake).await {
            Ok(Ok(stream)) => {
                let session = self.session(&stream);
                if stream.get_ref().1.alpn_protocol() != Some(ALPN_HTTP2) {
                    return Err(no_http2(config, "the server did not agree on HTTP/2 (no \"h2\" in its ALPN answer)"));
                }
                if stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_2) {
                    // The server has judged our certificate before it finished.
                    self.identity.asked.store(false, Ordering::Relaxed);
                }
                journal.end(Phase::Tls, begun, || Self::tell(&session));
                journal.set_session(session);
                Ok(Box::new(stream))
            }
            Ok(Err(error)) => Err(self.failure(config, &error, &witness)),
            Err(_) => Err(timed_out(config, deadline, &witness)),
        }
    }

    /// The failure that a late alert tells: under TLS 1.3 a missing or refused client certificate shows only after the
    /// handshake has ended for us. `None`: the stream ended otherwise.
    pub(crate) fn late_alert(&self, config: &Config, end: Option<&End>) -> Option<Failure> {
        match end {
            Some(End::Broken(error)) => match tls_error(error) {
                Some(rustls::Error::AlertReceived(alert)) => Some(self.alert(config, *alert)),
                _ => None,
            },
            _ => None,
        }
    }

    /// What it means that the server closes without an alert, as many do, and before it has sent anything: if it has
    /// asked for a certificate, that is the one thing it can have taken offence at.
    pub(crate) fn silent_refusal(&self, config: &Config) -> Option<Failure> {
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
                .hint(format!("leave out {}, or probe the server's TLS port", config.tls_flag()))
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
        if let CertificateError::Other(OtherError(error)) = error
            && let Some(NotAccepted { kind, cause }) = error.downcast_ref()
        {
            return failed(*kind, cause);
        }
        let presented = self.verifier.presented();
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
            CertificateError::UnknownIssuer => self.unknown_issuer(config, presented.as_ref(), now),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                failed(Kind::TlsCertificateInvalid, "the certificate is not for servers (extended key usage)")
            }
            CertificateError::Other(OtherError(error)) if error.is::<WrongSigner>() => {
                let cause = match self.verifier.chain().as_slice() {
                    [Description { issuer, .. }] => {
                        format!("the certificate is signed by another key than that of {issuer} in {}", self.trust)
                    }
                    _ => format!(
                        "a signature between the certificate and {} is by another key than its issuer's",
                        self.trust
                    ),
                };
                failed(Kind::TlsCertificateUnknownIssuer, &cause)
                    .hint("was the CA, or one in between, renewed? the server's certificate and the CA's must belong together")
            }
            CertificateError::Other(OtherError(error))
                if matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
            {
                match &presented {
                    Some(Description { subject, issuer, .. }) if subject == issuer => {
                        self.unknown_issuer(config, presented.as_ref(), now)
                    }
                    _ => failed(Kind::TlsCertificateInvalid, "the certificate is a CA's, not a server's"),
                }
            }
            error => {
                let rsa_bits = presented.as_ref().and_then(|presented| presented.rsa_bits);
                let cause = match rsa_bits {
                    Some(bits @ ..2048) => format!("the certificate's RSA key has {bits} bits, and 2048 are the least"),
                    _ => format!("the certificate is not acceptable: {}", unacceptable(error)),
                };
                failed(Kind::TlsCertificateInvalid, &cause)
            }
        }
    }

    fn unknown_issuer(&self, config: &Config, presented: Option<&Description>, now: UnixTime) -> Failure {
        const GIVE_ISSUER: &str =
            "give the issuer's certificate with -tls-ca-cert; the server must send those in between";
        let unknown =
            |cause: &str, hint| handshake_failure(config, Kind::TlsCertificateUnknownIssuer, cause).hint(hint);
        if let Some(Description { subject, not_before, not_after, .. }) = self.verifier.lapsed_issuer() {
            let (kind, cause) = if *not_after < now {
                (Kind::TlsCertificateExpired, format!("expired on {}", day(*not_after)))
            } else {
                (Kind::TlsCertificateNotYetValid, format!("is not valid before {}", date_time(*not_before)))
            };
            return handshake_failure(config, kind, &format!("the certificate of {subject} in {} {cause}", self.trust));
        }
        match presented {
            Some(Description { subject, issuer, .. }) if subject == issuer => {
                let cause = format!("the certificate of {subject} is self-signed, and {} does not hold it", self.trust);
                unknown(&cause, "give that certificate with -tls-ca-cert, if the server is to be trusted")
            }
            Some(Description { issuer, .. }) => {
                let cause = format!("the certificate was issued by {issuer}, which {} does not hold", self.trust);
                unknown(&cause, GIVE_ISSUER)
            }
            None => unknown("the certificate's issuer is unknown", GIVE_ISSUER),
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
            _ if about_certificates && self.identity.is_asked_for() && self.identity.key.is_none() => self
                .client_certificate_required(
                    config,
                    &format!("the server requires a client certificate (alert {})", alert_name(alert)),
                ),
            _ if about_certificates && self.identity.is_asked_for() => {
                let cause = format!("the server rejected the client certificate (alert {})", alert_name(alert));
                let hint = self.identity.expired().map(|when| format!("it expired on {when}"));
                Failure { hint, ..failed(Kind::TlsClientCertificateRejected, &cause) }
            }
            AlertDescription::CertificateRequired => self.client_certificate_required(config, &cause),
            AlertDescription::ProtocolVersion => {
                failed(Kind::TlsVersion, "the server speaks neither TLS 1.2 nor 1.3 (alert protocol_version)")
                    .hint("older versions are broken; the server has to offer TLS 1.2 or 1.3")
            }
            AlertDescription::NoApplicationProtocol => {
                no_http2(config, "the server refused HTTP/2 (alert no_application_protocol)")
            }
            AlertDescription::UnrecognisedName => {
                let failure = failed(
                    Kind::TlsFailed,
                    &format!("the server has no certificate for {}", self.server_name.to_str()),
                );
                if self.goes_by_spiffe_id {
                    failure
                } else {
                    failure.hint("give a name that it has one for with -tls-server-name")
                }
            }
            AlertDescription::HandshakeFailure => failed(Kind::TlsFailed, &cause)
                .hint("no cipher or kind of key in common; keys of P-521 and Ed448 are not supported"),
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
            server_name: Some(self.server_name.to_str().into_owned()).filter(|_| !self.goes_by_spiffe_id),
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
pub(crate) async fn speaks_tls(config: &Config, deadline: Deadline) -> bool {
    let Ok(stream) = connect(config, deadline, &Journal::new(None)).await else { return false };
    let Ok(name) = ServerName::try_from(config.target.server_name()) else { return false };
    let identity = Identity { key: None, asked: AtomicBool::new(false) };
    let tls = client_config(&Arc::new(provider()), Arc::new(Verifier::anyone()), Arc::new(identity));
    let (stream, witness) = Watched::new(stream);
    // What the server answers tells enough, whether or not the handshake goes on.
    let _ = deadline.bound(TlsConnector::from(Arc::new(tls)).connect(name, stream)).await;
    matches!(witness.seen().opening(), Opening::TlsRecord | Opening::TlsAlert(_))
}

/// ring, with the cipher suite first that costs both sides least: SHA-256 is in the processor, SHA-384 is not.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| *suite != ring::cipher_suite::TLS13_AES_128_GCM_SHA256);
    provider
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
                .hint(format!("leave out {}, or probe the server's TLS port", config.tls_flag()))
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

/// What webpki has against a certificate.
fn unacceptable(error: &CertificateError) -> String {
    let webpki = match error {
        CertificateError::Other(OtherError(error)) => error.downcast_ref(),
        _ => None,
    };
    match (error, webpki) {
        (_, Some(webpki::Error::MaximumPathDepthExceeded)) => "its chain has more than 6 intermediates".to_owned(),
        (_, Some(webpki::Error::UnsupportedCertVersion)) => {
            "it is of X.509 version 1; issue it as version 3, with a subject alternative name".to_owned()
        }
        (
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            _,
        ) => {
            "it, or one in its chain, has a signature or key that is not supported (such as SHA-1 or P-521)".to_owned()
        }
        (CertificateError::BadSignature, _) => "a signature is wrong".to_owned(),
        (CertificateError::BadEncoding, _) => "it is not well-formed".to_owned(),
        (_, Some(error)) => error.to_string(),
        (error, None) => error.to_string(),
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

fn certified_key(
    certificate: &PemFile,
    key_file: &PemFile,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Failure> {
    let (chain, broken) = certificate.certificates()?;
    if broken > 0 {
        let message = format!("{} has {broken} PEM sections that cannot be read", certificate.name());
        return Err(Failure::new(Kind::CertificateInvalid, message));
    }
    let private = key_file.private_key()?;
    let signer = provider.key_provider.load_private_key(private).map_err(|_| {
        let message = format!("the private key in {} is broken or of a kind that is not supported", key_file.name());
        Failure::new(Kind::KeyInvalid, message).hint("RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519 are supported")
    })?;
    let certified = CertifiedKey::new(chain, signer);
    // rustls compares them too, but only for certificates of version 3; clients have others.
    let key = certified.key.public_key();
    match key.map(|key| is_for_key(&certified.cert[0], &key)) {
        // Without a public key from the signer nothing speaks against it.
        None | Some(Some(true)) => Ok(certified),
        Some(Some(false)) => {
            let message = format!("{} is not the key of {}", key_file.name(), certificate.name());
            Err(Failure::new(Kind::KeyMismatch, message)
                .hint("the first certificate in the file must be the client's own"))
        }
        Some(None) => {
            let message = format!("{} holds a certificate that cannot be read", certificate.name());
            Err(Failure::new(Kind::CertificateInvalid, message))
        }
    }
}

fn svid_key(Svid { id, chain, key }: Svid, provider: &CryptoProvider) -> Result<CertifiedKey, Failure> {
    let invalid = |cause: &str| {
        Failure::new(Kind::SvidInvalid, format!("our X.509-SVID {id} from the Workload API cannot be used: {cause}"))
    };
    let signer = provider.key_provider.load_private_key(key);
    let signer = signer.map_err(|_| invalid("its key is broken or of a kind that is not supported"))?;
    // Without a public key from the signer nothing speaks against it.
    if signer.public_key().is_some_and(|key| is_for_key(&chain[0], &key) != Some(true)) {
        return Err(invalid("its key is not that of its certificate"));
    }
    Ok(CertifiedKey::new(chain, signer))
}

/// Our certificate, if there is one, and whether the server asked for it.
#[derive(Debug)]
struct Identity {
    key: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl Identity {
    /// When our certificate expired, if it has.
    fn expired(&self) -> Option<String> {
        let certificate = self.key.as_ref().and_then(|key| describe(key.cert.first()?))?;
        (certificate.not_after < UnixTime::now()).then(|| day(certificate.not_after))
    }

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
