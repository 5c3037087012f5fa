//! Looks at the TLS of a server, for a diagnosis: what it agrees to, which certificates it sends and whether they are trusted,
//! whether it asks for ours. It completes the handshake whoever the server is, and sends nothing over it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use x509_cert::{
    certificate::{CertificateInner, Raw},
    der::{Decode, oid::ObjectIdentifier},
};

use super::{
    certificate::{Description, describe, name_of},
    client_certificate::ClientIdentity,
    failure::Attempt,
    observed::{Observed, version_and_cipher},
    server_name,
    verifier::Trusted,
};
use crate::{deadline::Deadline, http2::PeerSniffer, net::Stream, outcome::Failure};

/// The most certificates of a chain, and names of CAs, that are described.
const MAX_DESCRIBED: usize = 16;

/// What to offer to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// TLS 1.3 and 1.2, and HTTP/2 by ALPN, as a probe does.
    Probe,
    /// TLS 1.3 and 1.2, without ALPN.
    WithoutAlpn,
    /// TLS 1.2 alone, and HTTP/2 by ALPN.
    OldVersion,
}

impl Offer {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static OLD: &[&SupportedProtocolVersion] = &[&TLS12];
        static BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        if self == Self::OldVersion { OLD } else { BOTH }
    }
}

/// What a completed handshake agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) version: String,
    pub(crate) cipher: String,
    /// The protocol that the server chose by ALPN.
    pub(crate) alpn: Option<String>,
}

/// What a look shows.
#[derive(Debug)]
pub(crate) struct Look {
    /// What was agreed on, or why the handshake failed.
    pub(crate) agreed: Result<Agreed, Failure>,
    pub(crate) took: Duration,
    /// The certificates as sent, the server's own first.
    pub(crate) chain: Vec<Description>,
    /// The kind and size of the server's key.
    pub(crate) key: Option<String>,
    /// Whether a probe would trust the server, and why not; `None` if it sent no certificate.
    pub(crate) trusted: Option<Result<Trust, Failure>>,
    /// Whether the certificate is valid for the name that a probe verifies.
    pub(crate) has_name: bool,
    /// The subjects of the CAs that it names, if the server asks for a client certificate.
    pub(crate) asks_certificate: Option<Vec<String>>,
}

/// Why a server is trusted.
#[derive(Debug)]
pub(crate) enum Trust {
    /// By the certificate of this subject, from there.
    Anchor(String, &'static str),
    /// Its own certificate is among the trusted ones.
    Pinned(&'static str),
    /// By the policy of `-spiffe`: its SPIFFE ID.
    Policy(String),
    /// `-tls-no-verify`: whoever it is.
    Anyone,
}

/// How to look.
pub(super) struct Looker<'a> {
    /// The address as the user gave it.
    pub(super) target: &'a str,
    pub(super) provider: &'a Arc<CryptoProvider>,
    pub(super) trusted: &'a Arc<Trusted>,
    pub(super) server_name: &'a ServerName<'static>,
    /// The flag that enables TLS, or the variable that stands for it.
    pub(super) given_by: &'a str,
    /// HTTP/2's name in ALPN.
    pub(super) alpn: &'static [u8],
}

impl Looker<'_> {
    /// Looks at the server behind `stream`.
    pub(super) async fn look(&self, stream: Stream, offer: Offer, deadline: Deadline) -> Look {
        let observed = Arc::new(Observed::default());
        let witness = Arc::new(Witness {
            trusted: Arc::clone(self.trusted),
            observed: Arc::clone(&observed),
            judgement: Mutex::default(),
        });
        // It never presents our certificate.
        let nobody = ClientIdentity { key: None, observed: Arc::clone(&observed) };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(self.provider))
            .with_protocol_versions(offer.versions())
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
            .with_client_cert_resolver(Arc::new(nobody));
        config.resumption = Resumption::disabled();
        if offer != Offer::WithoutAlpn {
            config.alpn_protocols = vec![self.alpn.to_vec()];
        }
        let Self { target, trusted, server_name, given_by, .. } = self;
        let attempt = Attempt { target, server_name, trusted, identity: None, given_by, observed: &observed };
        let started = Instant::now();
        let (stream, first_bytes) = PeerSniffer::new(stream);
        let handshake = TlsConnector::from(Arc::new(config)).connect(self.server_name.clone(), stream);
        let agreed = match deadline.bound(handshake).await {
            Ok(Ok(stream)) => {
                let connection = stream.get_ref().1;
                let [version, cipher] = version_and_cipher(connection).map(Option::unwrap_or_default);
                Ok(Agreed {
                    version,
                    cipher,
                    alpn: connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
                })
            }
            Ok(Err(error)) => Err(attempt.failure(&error, &first_bytes)),
            Err(_) => Err(attempt.timed_out(deadline, &first_bytes)),
        };
        let took = started.elapsed();
        let judgement = witness.judgement.lock().unwrap_or_else(PoisonError::into_inner).take();
        let chain = observed.chain();
        let trusted = judgement.map(|judgement| match judgement {
            Ok(()) => Ok(self.trust(&chain)),
            Err(rustls::Error::InvalidCertificate(error)) => Err(attempt.certificate_failure(&error)),
            Err(error) => Err(attempt.failure(&std::io::Error::other(error), &first_bytes)),
        });
        let has_name = chain.first().is_some_and(|own| server_name::verify(own, self.server_name).is_ok());
        Look {
            agreed,
            took,
            key: chain.first().and_then(key),
            chain: chain.iter().take(MAX_DESCRIBED).filter_map(describe).collect(),
            trusted,
            has_name,
            asks_certificate: observed.certificate_request().map(|request| {
                let names = request.authorities.iter().take(MAX_DESCRIBED);
                names.map(|der| name_of(der).unwrap_or_else(|| "(unreadable)".to_owned())).collect()
            }),
        }
    }

    /// Why a chain that was accepted is trusted.
    fn trust(&self, chain: &[CertificateDer<'static>]) -> Trust {
        let source = self.trusted.source();
        let Some((own, intermediates)) = chain.split_first() else { return Trust::Anyone };
        if let Some(id) = self.trusted.identity_of(own) {
            return Trust::Policy(id);
        }
        let Some(anchors) = self.trusted.anchors_for(own, intermediates) else { return Trust::Anyone };
        if anchors.contains(own) {
            return Trust::Pinned(source);
        }
        // From the server's own certificate up to the first one that a trusted certificate issued.
        let (anchors, chain): (Vec<_>, Vec<_>) = (
            anchors.iter().filter_map(describe).map(|anchor| anchor.subject).collect(),
            chain.iter().filter_map(describe).collect(),
        );
        let issuers = chain.iter().map(|certificate| &certificate.issuer);
        let anchor = issuers.into_iter().find(|issuer| anchors.contains(issuer));
        Trust::Anchor(anchor.cloned().unwrap_or_else(|| "(no name)".to_owned()), source)
    }
}

/// Sees what the server sends during the handshake, and accepts every server, as nothing is sent to it afterwards.
#[derive(Debug)]
struct Witness {
    trusted: Arc<Trusted>,
    observed: Arc<Observed>,
    /// What a probe would say about the chain, if the server sent one.
    judgement: Mutex<Option<Result<(), rustls::Error>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.observed.note_presented(end_entity, intermediates);
        let judge = self.trusted.judge();
        let judgement = judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        *self.judgement.lock().unwrap_or_else(PoisonError::into_inner) = Some(judgement.map(drop));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted.judge().verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted.judge().verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.judge().supported_verify_schemes()
    }
}

/// The kind and size of a certificate's key (RFC 3279, RFC 5480, RFC 8410).
fn key(certificate: &CertificateDer<'static>) -> Option<String> {
    const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const CURVES: [(ObjectIdentifier, &str); 3] = [
        (ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"), "ECDSA P-256"),
        (ObjectIdentifier::new_unwrap("1.3.132.0.34"), "ECDSA P-384"),
        (ObjectIdentifier::new_unwrap("1.3.132.0.35"), "ECDSA P-521"),
    ];
    const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

    if let Some(bits) = describe(certificate)?.rsa_bits {
        return Some(format!("RSA of {bits} bits"));
    }
    let certificate = CertificateInner::<Raw>::from_der(certificate).ok()?;
    let algorithm = &certificate.tbs_certificate().subject_public_key_info().algorithm;
    Some(match algorithm.oid {
        ED25519 => "Ed25519".to_owned(),
        ELLIPTIC_CURVE => {
            let curve: Option<ObjectIdentifier> = algorithm.parameters.as_ref()?.decode_as().ok();
            let known = CURVES.iter().find(|(oid, _)| Some(*oid) == curve).map(|(_, name)| (*name).to_owned());
            known.unwrap_or_else(|| "ECDSA on another curve".to_owned())
        }
        other => other.to_string(),
    })
}
