//! Whether a server's certificate is an X.509-SVID (X509-SVID.md) of a trust domain whose bundle we hold.

use std::{collections::BTreeMap, iter, sync::Arc};

use rustls::{CertificateError, OtherError, crypto::WebPkiSupportedAlgorithms};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath, anchor_from_trusted_cert};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName, name::GeneralName},
};

use super::id::{SpiffeId, TrustDomain};
use crate::{
    outcome::Kind,
    tls::{Description, NotAccepted, PeerPolicy, date_time, describe},
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
        verify_chain(&id, end_entity, intermediates, bundle, now, algorithms)?;
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
}

/// Verifies that a certificate of the bundle issued the server's, directly or through intermediate ones. Extended key usages
/// do not matter: X509-SVID.md leaves them to choice.
fn verify_chain(
    id: &SpiffeId,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), rustls::Error> {
    let domain = &id.trust_domain;
    // webpki treats every trust anchor as a CA, even if its certificate is expired or not one of a CA. It does not check the
    // key usages of intermediate certificates.
    let issuers = bundle.iter().filter_map(|der| Some((der, describe(der).filter(may_issue)?)));
    let (issuers, out_of_date): (Vec<_>, Vec<_>) =
        issuers.partition(|(_, issuer)| (issuer.not_before..=issuer.not_after).contains(&now));
    let anchors: Vec<_> = issuers.iter().filter_map(|(der, _)| anchor_from_trusted_cert(der).ok()).collect();
    let chain: Vec<Description> = iter::once(end_entity).chain(intermediates).filter_map(describe).collect();
    let intermediates: Vec<_> =
        intermediates.iter().filter(|der| describe(der).is_some_and(|issuer| may_issue(&issuer))).cloned().collect();
    // webpki's trust anchors do not keep the path length constraint.
    let keeps_limit = |path: &VerifiedPath<'_>| {
        let length = path.intermediate_certificates().count();
        let mut limits = anchors.iter().zip(&issuers).filter(|(anchor, _)| **anchor == *path.anchor());
        let is_exceeded = |issuer: &Description| issuer.path_length.is_some_and(|limit| usize::from(limit) < length);
        if limits.any(|(_, (_, issuer))| is_exceeded(issuer)) {
            return Err(webpki::Error::PathLenConstraintViolated);
        }
        Ok(())
    };
    let certificate = EndEntityCert::try_from(end_entity).map_err(|_| CertificateError::BadEncoding)?;
    let verified = certificate.verify_for_usage(
        algorithms.all,
        &anchors,
        &intermediates,
        now,
        AnyPurpose,
        None,
        Some(&keeps_limit),
    );
    let Err(error) = verified else { return Ok(()) };
    let refused = |kind, cause: String| Err(NotAccepted { kind, cause }.into());
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            Err(CertificateError::ExpiredContext { time, not_after }.into())
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            Err(CertificateError::NotValidYetContext { time, not_before }.into())
        }
        webpki::Error::NameConstraintViolation => {
            let cause = "an authority in its chain has name constraints, and those for URIs are not supported";
            refused(Kind::TlsCertificateInvalid, cause.to_owned())
        }
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            let out_of_date = out_of_date
                .iter()
                .find(|(_, out_of_date)| chain.iter().any(|issued| issued.issuer == out_of_date.subject));
            match out_of_date {
                Some((_, Description { subject, not_after, .. })) if *not_after < now => {
                    let when = date_time(*not_after);
                    let cause = format!("the certificate of {subject} in the bundle of {domain} expired on {when}");
                    refused(Kind::TlsCertificateExpired, cause)
                }
                Some((_, Description { subject, not_before, .. })) => {
                    let when = date_time(*not_before);
                    let cause =
                        format!("the certificate of {subject} in the bundle of {domain} is not valid before {when}");
                    refused(Kind::TlsCertificateNotYetValid, cause)
                }
                None if anchors.is_empty() => {
                    let cause = format!("the bundle of {domain} holds no certificate that may issue others");
                    refused(Kind::TlsCertificateUnknownIssuer, cause)
                }
                None => {
                    let cause = format!("no certificate in the bundle of {domain} has issued that of {id}");
                    refused(Kind::TlsCertificateUnknownIssuer, cause)
                }
            }
        }
        error => Err(CertificateError::Other(OtherError(Arc::new(error))).into()),
    }
}

fn may_issue(certificate: &Description) -> bool {
    certificate.is_authority && certificate.signs_certificates
}

/// Accepts any extended key usages.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
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
