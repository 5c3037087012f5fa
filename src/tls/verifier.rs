//! The verification of a server's certificate, by whichever trust anchors there are.

use std::{fmt, iter, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::EndEntityCert;

use super::{
    certificate::{Description, describe},
    danger::Anyone,
    observed::Observed,
    pem::PemFile,
    server_name,
    system_roots::SystemRoots,
};
use crate::{
    outcome::{Failure, Kind, Phase},
    trace::Trace,
};

/// Judges a server by something other than its name, such as its SPIFFE ID.
pub(crate) trait PeerPolicy: fmt::Debug + Send + Sync {
    /// Verifies the chain of certificates that a server presents, and that the server is the one that is meant.
    ///
    /// # Errors
    /// [`NotAccepted`], or what is wrong with the chain.
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), rustls::Error>;

    /// The identity in a certificate that was accepted.
    fn identity_of(&self, certificate: &CertificateDer<'_>) -> Option<String>;
}

/// Why a policy refuses a certificate.
#[derive(Debug)]
pub(crate) struct NotAccepted {
    pub(crate) kind: Kind,
    pub(crate) cause: String,
}

impl fmt::Display for NotAccepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for NotAccepted {}

impl From<NotAccepted> for rustls::Error {
    fn from(error: NotAccepted) -> Self {
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }
}

/// Which servers are trusted, and what messages call that.
#[derive(Debug)]
pub(crate) struct Trusted {
    judge: Arc<dyn ServerCertVerifier>,
    /// The user's certificates. A server that presents one of them is the server that is meant, whatever kind of certificate
    /// it is.
    pinned: Vec<CertificateDer<'static>>,
    /// Whether there is a CA among them, so that other certificates than the pinned ones can be trusted.
    trusts_issuers: bool,
    /// The user's certificates that have expired or are not yet valid.
    out_of_date: Vec<Description>,
    policy: Option<Arc<dyn PeerPolicy>>,
    /// Where the trust anchors come from, for messages.
    source: &'static str,
}

impl Trusted {
    /// Trusts every server.
    pub(super) fn anyone() -> Self {
        Self {
            judge: Arc::new(Anyone),
            pinned: Vec::new(),
            trusts_issuers: true,
            out_of_date: Vec::new(),
            policy: None,
            source: "anywhere",
        }
    }

    /// Trusts the servers that a policy accepts.
    pub(super) fn by_policy(policy: Arc<dyn PeerPolicy>, provider: &Arc<CryptoProvider>) -> Self {
        let judge = Arc::new(Judge { by: By::Policy(Arc::clone(&policy)), provider: Arc::clone(provider) });
        Self { judge, policy: Some(policy), source: "in the bundle of its trust domain", ..Self::anyone() }
    }

    /// Trusts the servers with a certificate from one of the system's trust anchors.
    pub(super) fn by_system(roots: SystemRoots, provider: &Arc<CryptoProvider>, trace: &Trace) -> Self {
        if trace.is_followed() {
            note_broken(trace, roots.broken());
        }
        let judge = Arc::new(Judge { by: By::System(roots), provider: Arc::clone(provider) });
        Self { judge, source: "on this system", ..Self::anyone() }
    }

    /// Trusts the servers with a certificate from one of a file's trust anchors, and those whose own certificate is in the
    /// file.
    ///
    /// # Errors
    /// `certificate-invalid`: the file holds no certificate that can be trusted.
    pub(super) fn by_file(file: &PemFile, provider: &Arc<CryptoProvider>, trace: &Trace) -> Result<Self, Failure> {
        let (certificates, broken) = file.certificates()?;
        let mut out_of_date = Vec::new();
        let mut issuers = certificates.clone();
        // webpki takes every trust anchor for a CA, whatever the certificate says and however old it is.
        let now = UnixTime::now();
        issuers.retain(|certificate| match describe(certificate) {
            Some(description) if now < description.not_before || description.not_after < now => {
                out_of_date.push(description);
                false
            }
            description => description.is_none_or(|description| description.is_authority),
        });
        let trusts_issuers = !issuers.is_empty();
        let anchors = if trusts_issuers { &issuers } else { &certificates };
        let mut store = RootCertStore::empty();
        let (_, ignored) = store.add_parsable_certificates(anchors.iter().cloned());
        note_broken(trace, broken + ignored);
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider)).build();
        let judge = judge.map_err(|_| {
            Failure::new(Kind::CertificateInvalid, format!("{} holds no usable certificate", file.name()))
        })?;
        Ok(Self { judge, pinned: certificates, trusts_issuers, out_of_date, policy: None, source: "in -tls-ca-cert" })
    }

    /// Where the trust anchors come from, for messages.
    pub(super) fn source(&self) -> &'static str {
        self.source
    }

    /// Whether servers are known by something other than their names.
    pub(super) fn is_by_policy(&self) -> bool {
        self.policy.is_some()
    }

    /// The identity that the policy finds in a certificate, if there is a policy.
    pub(super) fn identity_of(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        self.policy.as_ref()?.identity_of(certificate)
    }

    /// A trusted certificate that issued one of these, and has expired or is not yet valid.
    pub(super) fn out_of_date_issuer(&self, presented: &[Description]) -> Option<&Description> {
        self.out_of_date.iter().find(|issuer| presented.iter().any(|issued| issued.issuer == issuer.subject))
    }
}

/// Verifies the server of one handshake, and records the certificates that it presents.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trusted: Arc<Trusted>,
    pub(super) observed: Arc<Observed>,
}

fn note_broken(trace: &Trace, broken: usize) {
    if broken > 0 {
        trace.note(Phase::Usage, || format!("{broken} of the trusted certificates cannot be read"));
    }
}

/// A certificate is signed by another key than its issuer's: one of the two is older than the other's renewal, or damaged, or
/// a forgery.
#[derive(Debug)]
pub(crate) struct WrongSigner;

impl fmt::Display for WrongSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("signed by another key than its issuer's")
    }
}

impl std::error::Error for WrongSigner {}

/// Whether a certificate was refused only for its place in the chain.
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
        let trusted = &self.trusted;
        self.observed.note_presented(end_entity, intermediates);
        if !trusted.trusts_issuers && !trusted.pinned.contains(end_entity) {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let verified = trusted.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // A server's own certificate, given as the trusted one, is not an issuer, and a self-signed one made by
            // `openssl req -x509` is a CA as well. webpki refuses both, after it has checked the validity.
            Err(rustls::Error::InvalidCertificate(error))
                if is_about_role(&error) && trusted.pinned.contains(end_entity) =>
            {
                let is_for_servers = describe(end_entity).is_some_and(|description| description.is_for_servers);
                if !is_for_servers {
                    return Err(CertificateError::InvalidPurpose.into());
                }
                server_name::verify(end_entity, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            // The chain is verified before the name.
            Err(rustls::Error::InvalidCertificate(error))
                if server_name::is_absolute_name(&error, end_entity, server_name) =>
            {
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
        self.trusted.judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted.judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted.judge.supported_verify_schemes()
    }
}

/// Judges chains of certificates by the system's roots or by a policy, and signatures by the provider's algorithms.
#[derive(Debug)]
struct Judge {
    by: By,
    provider: Arc<CryptoProvider>,
}

/// What chains of certificates are judged by.
#[derive(Debug)]
enum By {
    /// The system's trusted certificates. Only those that issued the server's chain are parsed.
    System(SystemRoots),
    /// A policy, whatever the name.
    Policy(Arc<dyn PeerPolicy>),
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
                roots.add_parsable_certificates(system.of_subjects(&issuers));
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms.all)?;
                verify_server_name(&certificate, server_name)?;
            }
            By::Policy(policy) => policy.verify(end_entity, intermediates, now, algorithms)?,
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
