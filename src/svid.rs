//! Whether a server's certificate is an X.509-SVID (X509-SVID.md) of a trust domain whose bundle we hold.

use std::{collections::BTreeMap, fmt};

use rustls::{
    CertificateError, OtherError, RootCertStore, client::verify_server_cert_signed_by_trust_anchor,
    crypto::WebPkiSupportedAlgorithms, server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName, name::GeneralName},
};

use crate::{
    outcome::Kind,
    spiffe_id::{SpiffeId, TrustDomain},
};

/// What servers are judged by.
#[derive(Debug, Clone)]
pub(crate) struct Bundles {
    pub(crate) by_domain: BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>,
    /// The one server, or trust domain, that is meant.
    pub(crate) expected: Option<SpiffeId>,
}

/// Why a certificate is refused.
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
        CertificateError::Other(OtherError(std::sync::Arc::new(error))).into()
    }
}

impl Bundles {
    /// # Errors
    /// [`NotAccepted`], and what is wrong with the chain.
    pub(crate) fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), rustls::Error> {
        let invalid = |cause: &str| NotAccepted {
            kind: Kind::TlsCertificateInvalid,
            cause: format!("the certificate is no X.509-SVID: {cause}"),
        };
        let id = id_of(end_entity).map_err(|cause| invalid(&cause))?;
        let Some(bundle) = self.by_domain.get(&id.trust_domain) else {
            let domains: Vec<String> = self.by_domain.keys().map(ToString::to_string).collect();
            let cause = format!(
                "the server is {id}, and the Workload API gave no bundle for that trust domain (but for {})",
                domains.join(", ")
            );
            return Err(NotAccepted { kind: Kind::TlsCertificateUnknownIssuer, cause }.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(bundle.iter().cloned());
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms.all).map_err(
            |error| match error {
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                    let cause = format!("no certificate in the bundle of {} has issued that of {id}", id.trust_domain);
                    NotAccepted { kind: Kind::TlsCertificateUnknownIssuer, cause }.into()
                }
                error => error,
            },
        )?;
        match &self.expected {
            Some(expected) if expected.is_trust_domain() && expected.trust_domain == id.trust_domain => Ok(()),
            Some(expected) if *expected != id => {
                let cause = format!("the server is {id}, not {expected}");
                Err(NotAccepted { kind: Kind::TlsCertificateWrongName, cause }.into())
            }
            _ => Ok(()),
        }
    }
}

/// The SPIFFE ID of a certificate, if it is an X.509-SVID of a workload (X509-SVID.md, sections 2 to 4).
///
/// # Errors
/// Why it is none.
pub(crate) fn id_of(certificate: &CertificateDer<'_>) -> Result<SpiffeId, String> {
    const UNREADABLE: &str = "it cannot be read";
    let certificate = Certificate::from_der(certificate).map_err(|_| UNREADABLE)?;
    let certificate = certificate.tbs_certificate();
    let names = certificate.get_extension::<SubjectAltName>().map_err(|_| UNREADABLE)?;
    let uris: Vec<String> = names.iter().flat_map(|(_, names)| &names.0).filter_map(uri).collect();
    let [uri] = uris.as_slice() else {
        return Err(format!("it has {} URIs among its names, and must have one", uris.len()));
    };
    let id = SpiffeId::parse(uri).map_err(|error| format!("\"{uri}\": {error}"))?;
    if id.is_trust_domain() {
        return Err(format!("{id} is a trust domain, not a workload"));
    }
    let constraints = certificate.get_extension::<BasicConstraints>().map_err(|_| UNREADABLE)?;
    if constraints.is_some_and(|(_, constraints)| constraints.ca) {
        return Err(format!("that of {id} is a CA's"));
    }
    match certificate.get_extension::<KeyUsage>().map_err(|_| UNREADABLE)? {
        Some((_, usage)) if usage.key_cert_sign() || usage.crl_sign() => {
            Err(format!("the key of {id} may sign certificates or revocation lists"))
        }
        Some((_, usage)) if !usage.digital_signature() => Err(format!("the key of {id} may not sign")),
        _ => Ok(id),
    }
}

fn uri(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        _ => None,
    }
}
