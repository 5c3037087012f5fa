//! Whom to believe: trust anchors, and the verification of a server's certificate.

use std::{
    fmt, iter,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::EndEntityCert;

use crate::{
    certificate::{Description, describe},
    credentials::{SystemRoots, Trusted},
    journal::Journal,
    outcome::{Failure, Kind, Phase},
    pem::PemFile,
    svid::Bundles,
};

/// Verifies servers, and keeps the certificates that the last one presented, for messages.
#[derive(Debug)]
pub(crate) struct Verifier {
    judge: Arc<dyn ServerCertVerifier>,
    /// The user's certificates: a server that presents one of them is the server meant, whatever kind it is.
    pinned: Vec<CertificateDer<'static>>,
    /// Whether there is an authority among them, so that others than the pinned can be believed.
    trusts_issuers: bool,
    /// Those that are no longer, or not yet, valid.
    lapsed: Vec<Description>,
    presented: Mutex<Vec<CertificateDer<'static>>>,
}

impl Verifier {
    /// # Errors
    /// `certificate-invalid`, `no-trust-anchors`: no certificate that can be trusted is among them.
    pub(crate) fn new(trusted: Trusted, provider: &Arc<CryptoProvider>, journal: &Journal) -> Result<Self, Failure> {
        match trusted {
            Trusted::Anyone => Ok(Self::anyone()),
            Trusted::System(roots) => {
                if journal.is_verbose() {
                    note_broken(journal, roots.broken());
                }
                Ok(Self {
                    judge: Arc::new(Judge { by: By::System(roots), provider: Arc::clone(provider) }),
                    ..Self::anyone()
                })
            }
            Trusted::File(file) => Self::by_file(&file, provider, journal),
            Trusted::Bundles(bundles) => Ok(Self {
                judge: Arc::new(Judge { by: By::Bundles(bundles), provider: Arc::clone(provider) }),
                ..Self::anyone()
            }),
        }
    }

    fn by_file(file: &PemFile, provider: &Arc<CryptoProvider>, journal: &Journal) -> Result<Self, Failure> {
        let (certificates, broken) = file.certificates()?;
        let mut verifier = Self::anyone();
        let mut issuers = certificates.clone();
        // webpki takes whatever is trusted for an authority, whatever it says of itself and however old it is.
        let now = UnixTime::now();
        issuers.retain(|certificate| match describe(certificate) {
            Some(description) if now < description.not_before || description.not_after < now => {
                verifier.lapsed.push(description);
                false
            }
            description => description.is_none_or(|description| description.is_authority),
        });
        verifier.trusts_issuers = !issuers.is_empty();
        verifier.pinned = certificates;
        let anchors = if verifier.trusts_issuers { &issuers } else { &verifier.pinned };
        let mut store = RootCertStore::empty();
        let (_, ignored) = store.add_parsable_certificates(anchors.iter().cloned());
        note_broken(journal, broken + ignored);
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build();
        verifier.judge = judge.map_err(|_| {
            Failure::new(Kind::CertificateInvalid, format!("{} holds no usable certificate", file.name()))
        })?;
        Ok(verifier)
    }

    /// Believes every server.
    pub(crate) fn anyone() -> Self {
        let judge = Arc::new(danger::Anyone);
        Self { judge, pinned: Vec::new(), trusts_issuers: true, lapsed: Vec::new(), presented: Mutex::default() }
    }

    /// The same, without what the last server presented.
    pub(crate) fn another(&self) -> Self {
        Self {
            judge: Arc::clone(&self.judge),
            pinned: self.pinned.clone(),
            trusts_issuers: self.trusts_issuers,
            lapsed: self.lapsed.clone(),
            presented: Mutex::default(),
        }
    }

    /// The certificate that the last server presented, as far as it can be read.
    pub(crate) fn presented(&self) -> Option<Description> {
        self.presented.lock().unwrap_or_else(PoisonError::into_inner).first().and_then(describe)
    }

    /// Those that the last server presented, as far as they can be read.
    pub(crate) fn chain(&self) -> Vec<Description> {
        self.presented.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(describe).collect()
    }

    /// A trusted certificate that issued one of those presented, and is no longer, or not yet, valid.
    pub(crate) fn lapsed_issuer(&self) -> Option<&Description> {
        let presented = self.presented.lock().unwrap_or_else(PoisonError::into_inner);
        let issuers: Vec<String> = presented.iter().filter_map(describe).map(|presented| presented.issuer).collect();
        self.lapsed.iter().find(|lapsed| issuers.contains(&lapsed.subject))
    }
}

fn note_broken(journal: &Journal, broken: usize) {
    if broken > 0 {
        journal.note(Phase::Usage, || format!("{broken} of the trusted certificates cannot be read"));
    }
}

/// A certificate is signed by another key than that of its issuer: one of the two is from before the other was renewed,
/// or it is damaged, or a forgery.
#[derive(Debug)]
pub(crate) struct WrongSigner;

impl fmt::Display for WrongSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("signed by another key than its issuer's")
    }
}

impl std::error::Error for WrongSigner {}

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
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) =
            iter::once(end_entity).chain(intermediates).map(|certificate| certificate.clone().into_owned()).collect();
        if !self.trusts_issuers && !self.pinned.contains(end_entity) {
            return Err(CertificateError::UnknownIssuer.into());
        }
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
            Err(rustls::Error::InvalidCertificate(CertificateError::BadSignature)) => {
                Err(CertificateError::Other(OtherError(Arc::new(WrongSigner))).into())
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

/// Judges chains of certificates by what is not one list of roots, and signatures as everybody does.
#[derive(Debug)]
struct Judge {
    by: By,
    provider: Arc<CryptoProvider>,
}

/// What chains of certificates are judged by.
#[derive(Debug)]
enum By {
    /// The system's trusted certificates, of which only those are read that the server's name.
    System(SystemRoots),
    /// SPIFFE IDs, whatever the name.
    Bundles(Bundles),
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match &self.by {
            By::System(system) => {
                let chain = iter::once(end_entity).chain(intermediates);
                let chain: Vec<EndEntityCert<'_>> = chain.filter_map(|der| EndEntityCert::try_from(der).ok()).collect();
                let issuers: Vec<&[u8]> = chain.iter().map(|certificate| certificate.issuer()).collect();
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(system.of(&issuers));
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms.all)?;
                verify_server_name(&certificate, server_name)?;
            }
            By::Bundles(bundles) => bundles.verify(end_entity, intermediates, now, algorithms)?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
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
