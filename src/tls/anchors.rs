//! The one rule that says which certificates are believed as issuers: trust anchors, wherever they come from, and the
//! certificates between them and the server's own (RFC 5280, section 6.1). webpki builds the chain and verifies signatures, dates
//! and name constraints. It does not read key usages, and it takes every trust anchor for a CA, however old it is and whatever it
//! says.

use std::{cell::RefCell, fmt, iter, ptr, sync::Arc};

use rustls::{CertificateError, OtherError, crypto::WebPkiSupportedAlgorithms};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext,
    VerifiedPath, anchor_from_trusted_cert,
};

use super::certificate::{Description, SERVER_PURPOSES, date_time, describe};
use crate::outcome::Kind;

/// What the certificates of a chain must allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// TLS servers, where there are extended key usages.
    Servers,
    /// Nothing in particular: X509-SVID.md leaves extended key usages to choice.
    Any,
}

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let purposes = purposes.collect::<Result<Vec<_>, _>>()?;
        let is_for_servers = SERVER_PURPOSES.iter().any(|id| purposes.contains(&KeyPurposeId::new(id.as_bytes())));
        if *self == Self::Any || purposes.is_empty() || is_for_servers {
            return Ok(());
        }
        let present = purposes.iter().map(KeyPurposeId::to_decoded_oid).collect();
        let required = KeyUsage::server_auth();
        Err(webpki::Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}

/// Why a certificate is not believed as an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Expired(UnixTime),
    NotYetValid(UnixTime),
    NotAuthority,
    NoKeyCertSign,
    NotForServers,
    /// More CA certificates are below it than this.
    PathLength(u8),
}

/// The rule, but for what depends on the place in a chain: path lengths and name constraints.
fn flaw(issuer: &Description, purpose: Purpose, now: UnixTime) -> Option<Flaw> {
    if issuer.not_after < now {
        Some(Flaw::Expired(issuer.not_after))
    } else if now < issuer.not_before {
        Some(Flaw::NotYetValid(issuer.not_before))
    } else if !issuer.is_authority {
        Some(Flaw::NotAuthority)
    } else if !issuer.signs_certificates {
        Some(Flaw::NoKeyCertSign)
    } else if purpose == Purpose::Servers && !issuer.is_for_servers {
        Some(Flaw::NotForServers)
    } else {
        None
    }
}

/// An issuer in a server's chain that is not believed.
#[derive(Debug, Clone)]
pub(crate) struct FlawedIssuer {
    subject: String,
    is_anchor: bool,
    flaw: Flaw,
}

impl FlawedIssuer {
    /// The kind and the cause of the failure. `source` says where the trust anchors come from, `when` writes a moment.
    pub(crate) fn explain(&self, source: &str, when: impl Fn(UnixTime) -> String) -> (Kind, String) {
        let place = if self.is_anchor { source } else { "in the server's chain" };
        let flaw = match self.flaw {
            Flaw::Expired(time) => format!("expired on {}", when(time)),
            Flaw::NotYetValid(time) => format!("is not valid before {}", date_time(time)),
            Flaw::NotAuthority => "is not a CA certificate".to_owned(),
            Flaw::NoKeyCertSign => "may not sign certificates (no keyCertSign)".to_owned(),
            Flaw::NotForServers => "may not issue certificates for servers (extended key usage)".to_owned(),
            Flaw::PathLength(0) => "allows no CA certificate below it, and the chain has one (path length)".to_owned(),
            Flaw::PathLength(limit) => {
                format!("allows {limit} CA certificates below it, and the chain has more (path length)")
            }
        };
        let kind = match self.flaw {
            Flaw::Expired(_) => Kind::TlsCertificateExpired,
            Flaw::NotYetValid(_) => Kind::TlsCertificateNotYetValid,
            Flaw::PathLength(_) => Kind::TlsCertificateInvalid,
            _ if self.is_anchor => Kind::TlsCertificateUnknownIssuer,
            _ => Kind::TlsCertificateInvalid,
        };
        (kind, format!("the certificate of {} {place} {flaw}", self.subject))
    }
}

impl fmt::Display for FlawedIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain("among the trust anchors", date_time).1)
    }
}

impl std::error::Error for FlawedIssuer {}

/// Why a chain is refused.
#[derive(Debug)]
pub(crate) enum Refused {
    /// An issuer signed what is below it, and is not believed.
    Issuer(FlawedIssuer),
    Chain(webpki::Error),
}

impl From<webpki::Error> for Refused {
    fn from(error: webpki::Error) -> Self {
        Self::Chain(error)
    }
}

impl From<Refused> for rustls::Error {
    fn from(refused: Refused) -> Self {
        let error = match refused {
            Refused::Issuer(flawed) => CertificateError::Other(OtherError(Arc::new(flawed))),
            Refused::Chain(webpki::Error::UnknownIssuer) => CertificateError::UnknownIssuer,
            Refused::Chain(webpki::Error::CertExpired { time, not_after }) => {
                CertificateError::ExpiredContext { time, not_after }
            }
            Refused::Chain(webpki::Error::CertNotValidYet { time, not_before }) => {
                CertificateError::NotValidYetContext { time, not_before }
            }
            Refused::Chain(webpki::Error::RequiredEkuNotFoundContext(_)) => CertificateError::InvalidPurpose,
            Refused::Chain(webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::TrailingData(_)) => {
                CertificateError::BadEncoding
            }
            Refused::Chain(error) => CertificateError::Other(OtherError(Arc::new(error))),
        };
        error.into()
    }
}

/// What a server's chain can need of the trusted certificates: its issuers, and the server's own certificate.
pub(super) struct Needed<'a> {
    end_entity: &'a CertificateDer<'a>,
    chain: Vec<EndEntityCert<'a>>,
}

impl<'a> Needed<'a> {
    pub(super) fn by(end_entity: &'a CertificateDer<'a>, intermediates: &'a [CertificateDer<'a>]) -> Self {
        let chain = iter::once(end_entity).chain(intermediates);
        Self { end_entity, chain: chain.filter_map(|der| EndEntityCert::try_from(der).ok()).collect() }
    }

    /// Whether this certificate is among them. It is not parsed whole.
    pub(super) fn includes(&self, der: &[u8]) -> bool {
        let is_issuer = |anchor: TrustAnchor<'_>| {
            self.chain.iter().any(|certificate| certificate.issuer() == anchor.subject.as_ref())
        };
        self.end_entity.as_ref() == der || anchor_from_trusted_cert(&CertificateDer::from(der)).is_ok_and(is_issuer)
    }
}

/// Whether a certificate can be read, so that it can be believed.
pub(super) fn is_readable(certificate: &CertificateDer<'_>) -> bool {
    anchor_from_trusted_cert(certificate).is_ok() && describe(certificate).is_some()
}

/// Verifies the server's own certificate where it is, byte for byte, a trusted one. Then it needs no issuer, and may be a CA's,
/// as `openssl req -x509` makes it.
///
/// # Errors
/// Its dates, or what it is for.
pub(super) fn verify_own(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let Some(description) = describe(certificate) else { return Err(CertificateError::BadEncoding.into()) };
    let Description { not_before, not_after, is_for_servers, .. } = description;
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if not_after < now {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    if !is_for_servers {
        return Err(CertificateError::InvalidPurpose.into());
    }
    Ok(())
}

/// Certificates that may be issuers, by whether they are believed. One that cannot be read is neither.
struct Issuers<'a> {
    believed: Vec<(&'a CertificateDer<'a>, Description)>,
    flawed: Vec<(&'a CertificateDer<'a>, FlawedIssuer)>,
}

impl<'a> Issuers<'a> {
    fn judge(
        certificates: impl Iterator<Item = &'a CertificateDer<'a>>,
        is_anchor: bool,
        purpose: Purpose,
        now: UnixTime,
    ) -> Self {
        let mut issuers = Self { believed: Vec::new(), flawed: Vec::new() };
        for der in certificates {
            let Some(description) = describe(der) else { continue };
            match flaw(&description, purpose, now) {
                None => issuers.believed.push((der, description)),
                Some(flaw) => {
                    issuers.flawed.push((der, FlawedIssuer { subject: description.subject, is_anchor, flaw }));
                }
            }
        }
        issuers
    }
}

/// Verifies that one of the trusted certificates issued the server's, directly or through intermediates that it sent.
///
/// # Errors
/// What is wrong with the chain.
pub(crate) fn verify_chain(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trusted: &[CertificateDer<'_>],
    purpose: Purpose,
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Refused> {
    let certificate = EndEntityCert::try_from(end_entity)?;
    let needed = Needed::by(end_entity, intermediates);
    let trusted = Issuers::judge(trusted.iter().filter(|der| needed.includes(der)), true, purpose, now);
    let sent = Issuers::judge(intermediates.iter(), false, purpose, now);
    let between: Vec<_> = sent.believed.iter().map(|(der, _)| CertificateDer::from(der.as_ref())).collect();
    let verify = |anchors: &[TrustAnchor<'_>], accept: &dyn Fn(&VerifiedPath<'_>) -> Result<(), webpki::Error>| {
        certificate.verify_for_usage(algorithms.all, anchors, &between, now, purpose, None, Some(accept)).map(drop)
    };

    // webpki's trust anchors have lost their limits of the length of paths.
    let too_long = RefCell::new(None);
    let (anchors, issuers): (Vec<_>, Vec<_>) = as_anchors(&trusted.believed).unzip();
    let verified = verify(&anchors, &|path| {
        let issuer = issuers[position(&anchors, path)];
        // A certificate that renews its own issuer's key does not count (RFC 5280, section 6.1.4).
        let length = path.intermediate_certificates().filter(|issuer| issuer.issuer() != issuer.subject()).count();
        match issuer.path_length {
            Some(limit) if usize::from(limit) < length => {
                let (subject, flaw) = (issuer.subject.clone(), Flaw::PathLength(limit));
                too_long.replace(Some(FlawedIssuer { subject, is_anchor: true, flaw }));
                Err(webpki::Error::PathLenConstraintViolated)
            }
            _ => Ok(()),
        }
    });
    let Err(error) = verified else { return Ok(()) };

    // What is wrong with a chain does not matter where nobody in it is trusted.
    let is_known = !trusted.believed.is_empty() || !trusted.flawed.is_empty();
    match error {
        webpki::Error::PathLenConstraintViolated if !is_known => Err(Refused::Chain(webpki::Error::UnknownIssuer)),
        webpki::Error::PathLenConstraintViolated => Err(too_long.take().map_or(Refused::Chain(error), Refused::Issuer)),
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            // Would the chain hold if a flawed issuer were believed?
            let sent = sent.flawed.into_iter().filter(|_| is_known);
            let flawed: Vec<_> = trusted.flawed.into_iter().chain(sent).collect();
            let (anchors, issuers): (Vec<_>, Vec<_>) = as_anchors(&flawed).unzip();
            let used = RefCell::new(None);
            let held = verify(&anchors, &|path| {
                used.replace(Some(issuers[position(&anchors, path)].clone()));
                Ok(())
            });
            let used = used.take().filter(|_| held.is_ok());
            Err(used.map_or(Refused::Chain(error), Refused::Issuer))
        }
        error => Err(Refused::Chain(error)),
    }
}

/// Certificates as webpki's trust anchors, and what belongs to each.
fn as_anchors<'a, T>(
    certificates: &'a [(&'a CertificateDer<'a>, T)],
) -> impl Iterator<Item = (TrustAnchor<'a>, &'a T)> {
    certificates.iter().filter_map(|(der, with)| Some((anchor_from_trusted_cert(der).ok()?, with)))
}

/// Which of the anchors a path ends at.
fn position(anchors: &[TrustAnchor<'_>], path: &VerifiedPath<'_>) -> usize {
    anchors.iter().position(|anchor| ptr::eq(anchor, path.anchor())).expect("webpki was given no other anchors")
}
