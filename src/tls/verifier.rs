//! Verifies server certificates, for all sources of trust anchors.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    anchors::{Needed, Purpose, is_readable, verify_chain, verify_own},
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

/// Verifies a server by something other than its host name, such as its SPIFFE ID.
pub(crate) trait PeerPolicy: fmt::Debug + Send + Sync {
    /// Verifies the certificate chain of a server, and that it belongs to the expected server.
    ///
    /// # Errors
    /// [`NotAccepted`], or the error of the chain.
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), rustls::Error>;

    /// The identity in a certificate.
    fn identity_of(&self, certificate: &CertificateDer<'_>) -> Option<String>;

    /// Our own certificate, in the words of this policy.
    fn describe_ours(&self, certificate: &CertificateDer<'_>) -> OurIdentity;
}

/// Our own certificate, for the failure when a server rejects it.
#[derive(Debug)]
pub(crate) struct OurIdentity {
    /// How messages name it.
    pub(crate) name: String,
    /// What to look at.
    pub(crate) hint: String,
}

/// Why a policy rejects a certificate.
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

/// Which servers are trusted, and how messages describe that.
#[derive(Debug)]
pub(crate) struct Trusted {
    judge: Arc<dyn Judging>,
    policy: Option<Arc<dyn PeerPolicy>>,
    /// Where the trust anchors come from, for messages.
    source: &'static str,
}

impl Trusted {
    /// Trusts every server.
    pub(super) fn anyone() -> Self {
        Self { judge: Arc::new(Anyone), policy: None, source: "anywhere" }
    }

    /// Trusts the servers that a policy accepts.
    pub(super) fn by_policy(policy: Arc<dyn PeerPolicy>, provider: &Arc<CryptoProvider>) -> Self {
        let judge = Arc::new(Judge { by: By::Policy(Arc::clone(&policy)), provider: Arc::clone(provider) });
        Self { judge, policy: Some(policy), source: "in the bundle of its trust domain" }
    }

    /// Trusts the servers with a certificate from one of the system's trust anchors, and those whose own certificate is among
    /// them.
    pub(super) fn by_system(roots: SystemRoots, provider: &Arc<CryptoProvider>, trace: &Trace) -> Self {
        if trace.is_followed() {
            note_broken(trace, roots.broken());
        }
        let judge = Arc::new(Judge { by: By::System(roots), provider: Arc::clone(provider) });
        Self { judge, policy: None, source: "on this system" }
    }

    /// Trusts the servers with a certificate from one of a file's trust anchors, and those whose own certificate is in the
    /// file.
    ///
    /// # Errors
    /// `certificate-invalid`: the file holds no certificate that can be trusted.
    pub(super) fn by_file(file: &PemFile, provider: &Arc<CryptoProvider>, trace: &Trace) -> Result<Self, Failure> {
        let (certificates, broken) = file.certificates()?;
        if !certificates.iter().any(is_readable) {
            let message = format!("{} holds no usable certificate", file.name());
            return Err(Failure::new(Kind::CertificateInvalid, message));
        }
        if trace.is_followed() {
            note_broken(trace, broken + certificates.iter().filter(|certificate| !is_readable(certificate)).count());
        }
        let judge = Arc::new(Judge { by: By::File(certificates), provider: Arc::clone(provider) });
        Ok(Self { judge, policy: None, source: "in -tls-ca-cert" })
    }

    /// The same without the trust anchors: it trusts nobody, and its messages stay.
    pub(super) fn without_anchors(&self, provider: &Arc<CryptoProvider>) -> Self {
        let judge = Arc::new(Judge { by: By::File(Vec::new()), provider: Arc::clone(provider) });
        Self { judge, policy: None, source: self.source }
    }

    /// What judges chains and signatures.
    pub(super) fn judge(&self) -> &dyn ServerCertVerifier {
        &*self.judge
    }

    /// The trusted certificates that a server's chain can need. `None` if servers are not judged by such.
    pub(super) fn anchors_for(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Option<Vec<CertificateDer<'static>>> {
        self.judge.anchors_for(end_entity, intermediates)
    }

    /// Where the trust anchors come from, for messages.
    pub(super) fn source(&self) -> &'static str {
        self.source
    }

    /// Whether servers are verified by something other than their names.
    pub(super) fn is_by_policy(&self) -> bool {
        self.policy.is_some()
    }

    /// The identity that the policy finds in a certificate, if there is a policy.
    pub(super) fn identity_of(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        self.policy.as_ref()?.identity_of(certificate)
    }

    /// Our own certificate in the words of the policy, if there is one.
    pub(super) fn describe_ours(&self, certificate: &CertificateDer<'_>) -> Option<OurIdentity> {
        Some(self.policy.as_ref()?.describe_ours(certificate))
    }
}

/// A verifier that can say which trust anchors it has.
trait Judging: ServerCertVerifier {
    /// The trusted certificates that a server's chain can need. `None` if servers are not judged by such.
    fn anchors_for(&self, _: &CertificateDer<'_>, _: &[CertificateDer<'_>]) -> Option<Vec<CertificateDer<'static>>> {
        None
    }
}

impl Judging for Anyone {}

impl Judging for Judge {
    fn anchors_for(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Option<Vec<CertificateDer<'static>>> {
        let needed = Needed::by(end_entity, intermediates);
        match &self.by {
            By::Policy(_) => None,
            By::File(certificates) => {
                Some(certificates.iter().filter(|certificate| needed.includes(certificate)).cloned().collect())
            }
            By::System(system) => Some(system.needed_by(&needed)),
        }
    }
}

/// Verifies the server of one handshake, and records the certificates that it presents.
#[derive(Debug)]
pub(super) struct Verifier {
    /// A connection keeps its verifier, and should not keep all trust anchors with it.
    pub(super) trusted: Weak<Trusted>,
    pub(super) observed: Arc<Observed>,
}

impl Verifier {
    fn trusted(&self) -> Result<Arc<Trusted>, rustls::Error> {
        self.trusted.upgrade().ok_or_else(|| rustls::Error::General("the trust anchors are gone".to_owned()))
    }
}

fn note_broken(trace: &Trace, broken: usize) {
    if broken > 0 {
        trace.note(Phase::Usage, || format!("{broken} of the trusted certificates cannot be read"));
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
        self.observed.note_presented(end_entity, intermediates);
        self.trusted()?.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted()?.judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trusted()?.judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trusted().map_or_else(|_| Vec::new(), |trusted| trusted.judge.supported_verify_schemes())
    }
}

/// Judges chains of certificates by trust anchors or by a policy, and signatures by the provider's algorithms.
#[derive(Debug)]
struct Judge {
    by: By,
    provider: Arc<CryptoProvider>,
}

/// What verifies the chains.
#[derive(Debug)]
enum By {
    /// The certificates of the user's file.
    File(Vec<CertificateDer<'static>>),
    /// The system's trusted certificates. Only those that issued the server's chain are parsed.
    System(SystemRoots),
    /// A policy, which ignores the host name.
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
        let found;
        let trusted = match &self.by {
            By::Policy(policy) => {
                policy.verify(end_entity, intermediates, now, algorithms)?;
                return Ok(ServerCertVerified::assertion());
            }
            By::File(certificates) => certificates,
            By::System(system) => {
                found = system.needed_by(&Needed::by(end_entity, intermediates));
                &found
            }
        };
        if trusted.contains(end_entity) {
            verify_own(end_entity, now)?;
        } else {
            verify_chain(end_entity, intermediates, trusted, Purpose::Servers, now, algorithms)?;
        }
        server_name::verify(end_entity, server_name)?;
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
