//! Whether a server's certificate is an X.509-SVID (X509-SVID.md) of a trust domain whose bundle we hold.

use std::collections::BTreeMap;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName, name::GeneralName},
};

use super::id::{SpiffeId, TrustDomain};
use crate::{
    outcome::Kind,
    tls::{self, NotAccepted, OurIdentity, PeerPolicy, Purpose, Refused, date_time, describe, span, verify_chain},
};

/// Trusts servers by their SPIFFE IDs: the bundles of trust domains, and the ID that is expected.
#[derive(Debug)]
pub(super) struct Bundles {
    pub(super) by_domain: BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>,
    /// The only accepted server, or trust domain.
    pub(super) expected: Option<SpiffeId>,
}

impl PeerPolicy for Bundles {
    fn verify(
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
        verify_issuer(&id, end_entity, intermediates, bundle, now, algorithms)?;
        match &self.expected {
            Some(expected) if expected.is_trust_domain() && expected.trust_domain == id.trust_domain => Ok(()),
            Some(expected) if *expected != id => {
                let cause = format!("the server is {id}, not {expected}");
                Err(NotAccepted { kind: Kind::TlsCertificateWrongName, cause }.into())
            }
            _ => Ok(()),
        }
    }

    fn identity_of(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        id_of(certificate).ok().map(|id| id.to_string())
    }

    fn describe_ours(&self, certificate: &CertificateDer<'_>) -> OurIdentity {
        let name = id_of(certificate).map_or_else(|_| "our SVID".to_owned(), |id| format!("our SVID {id}"));
        let now = tls::now();
        let expired = describe(certificate).map(|certificate| certificate.not_after).filter(|expired| *expired < now);
        let hint = match expired {
            Some(expired) => {
                let (at, ago) = (date_time(expired), span(expired, now));
                format!("our SVID expired at {at} ({ago} ago); does the agent renew it? see the agent's log")
            }
            None => "does the server have the bundle of our trust domain, and does it authorize this ID?".to_owned(),
        };
        OurIdentity { name, hint }
    }
}

/// Verifies that a certificate of the bundle issued the server's, directly or through intermediate ones.
fn verify_issuer(
    id: &SpiffeId,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), rustls::Error> {
    let domain = &id.trust_domain;
    let verified = verify_chain(end_entity, intermediates, bundle, Purpose::Any, now, algorithms);
    let Err(refused) = verified else { return Ok(()) };
    let (kind, cause) = match refused {
        Refused::Issuer(issuer) => issuer.explain(&format!("in the bundle of {domain}"), date_time),
        Refused::Chain(webpki::Error::NameConstraintViolation) => {
            let cause = "an authority in its chain has name constraints, and those for URIs are not supported";
            (Kind::TlsCertificateInvalid, cause.to_owned())
        }
        Refused::Chain(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
            let cause = format!("no certificate in the bundle of {domain} has issued that of {id}");
            (Kind::TlsCertificateUnknownIssuer, cause)
        }
        refused @ Refused::Chain(_) => return Err(refused.into()),
    };
    Err(NotAccepted { kind, cause }.into())
}

/// Reads the SPIFFE ID of a certificate that is the X.509-SVID of a workload (X509-SVID.md, sections 2 to 4).
///
/// # Errors
/// The certificate is not an X.509-SVID.
pub(super) fn id_of(certificate: &CertificateDer<'_>) -> Result<SpiffeId, String> {
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
