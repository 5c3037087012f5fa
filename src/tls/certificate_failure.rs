//! Explains why a server's certificate is refused, with its names, its issuer and its dates.

use rustls::{CertificateError, OtherError};
use rustls_pki_types::ServerName;

use super::{
    anchors::FlawedIssuer,
    certificate::{Description, date_time, day, is_spiffe_id, span},
    clock,
    failure::Attempt,
    verifier::NotAccepted,
};
use crate::{
    outcome::{Failure, Kind},
    text::snake_case,
};

/// What to do about a server that no host name can verify.
const USE_SPIFFE: &str = "the server has a SPIFFE ID instead of a name: use -spiffe instead of -tls";

impl Attempt<'_> {
    /// The failure of a certificate that is refused.
    pub(super) fn certificate_failure(&self, error: &CertificateError) -> Failure {
        if let CertificateError::Other(OtherError(error)) = error
            && let Some(NotAccepted { kind, cause }) = error.downcast_ref()
        {
            return self.failed(*kind, cause);
        }
        let source = self.trusted.source();
        if let CertificateError::Other(OtherError(error)) = error
            && let Some(issuer) = error.downcast_ref::<FlawedIssuer>()
        {
            let (kind, cause) = issuer.explain(source, day);
            return self.failed(kind, &cause);
        }
        let chain = self.observed.presented();
        let presented = chain.first();
        let now = clock::now();
        let webpki = match error {
            CertificateError::Other(OtherError(error)) => error.downcast_ref(),
            _ => None,
        };
        match error {
            CertificateError::ExpiredContext { not_after, .. } => {
                let ago = span(*not_after, now);
                let cause = format!("the certificate expired on {} ({ago} ago)", day(*not_after));
                self.failed(Kind::TlsCertificateExpired, &cause)
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                let cause = format!("the certificate is not valid before {}", date_time(*not_before));
                self.failed(Kind::TlsCertificateNotYetValid, &cause)
                    .hint(format!("is this machine's clock right? it says {}", date_time(now)))
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                self.wrong_name(presented)
            }
            CertificateError::UnknownIssuer => self.unknown_issuer(&chain),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                self.failed(Kind::TlsCertificateInvalid, "the certificate is not for servers (extended key usage)")
            }
            // One of the two is older than the other's renewal, or damaged, or a forgery.
            _ if matches!(webpki, Some(webpki::Error::InvalidSignatureForPublicKey)) => {
                let cause = match chain.as_slice() {
                    [Description { issuer, .. }] => {
                        format!("the certificate is signed by another key than that of {issuer} {source}")
                    }
                    _ => format!(
                        "a certificate between the server's and the trust anchor {source} is signed by another key than \
                         its issuer's"
                    ),
                };
                self.failed(Kind::TlsCertificateUnknownIssuer, &cause)
                    .hint("was the CA, or one in between, renewed? the server's certificate and the CA's must belong together")
            }
            _ if matches!(webpki, Some(webpki::Error::CaUsedAsEndEntity)) => match presented {
                Some(Description { subject, issuer, .. }) if subject == issuer => self.unknown_issuer(&chain),
                _ => self.failed(Kind::TlsCertificateInvalid, "the certificate is a CA's, not a server's"),
            },
            error => {
                let rsa_bits = presented.and_then(|presented| presented.rsa_bits);
                let cause = match rsa_bits {
                    Some(bits @ ..2048) => format!("the certificate's RSA key has {bits} bits, and 2048 are the least"),
                    _ => format!("the certificate is not acceptable: {}", unacceptable(error, webpki)),
                };
                self.failed(Kind::TlsCertificateInvalid, &cause)
            }
        }
    }

    fn unknown_issuer(&self, chain: &[Description]) -> Failure {
        const GIVE_ISSUER: &str = "-tls-ca-cert must hold that CA's certificate, or that of its root, if the server sends those \
                                   in between (intermediates)";
        let source = self.trusted.source();
        let unknown = |cause: &str, hint| self.failed(Kind::TlsCertificateUnknownIssuer, cause).hint(hint);
        match chain.first() {
            Some(Description { subject, issuer, .. }) if subject == issuer => {
                let cause = format!(
                    "the certificate of {subject} is self-signed and not among the trusted certificates {source}"
                );
                unknown(&cause, "give that certificate with -tls-ca-cert, if the server is to be trusted")
            }
            Some(presented @ Description { issuer, .. }) => {
                let cause = format!("the certificate was issued by {issuer}, which is not a trusted CA {source}");
                let hint = if has_only_spiffe_id(presented) { USE_SPIFFE } else { GIVE_ISSUER };
                unknown(&cause, hint)
            }
            None => unknown("the certificate's issuer is unknown", GIVE_ISSUER),
        }
    }

    fn wrong_name(&self, presented: Option<&Description>) -> Failure {
        const SHOWN: usize = 8;
        let wanted = self.server_name.to_str();
        let failure = |cause: &str| self.failed(Kind::TlsCertificateWrongName, cause);
        let Some(Description { names, server_names, .. }) = presented.filter(|presented| !presented.names.is_empty())
        else {
            let cause = format!("the certificate has no subject alternative name, so it is not valid for {wanted}");
            return failure(&cause).hint("a common name does not count; issue it with a subject alternative name");
        };
        let shown = &names[..names.len().min(SHOWN)];
        let shown = match (names.len() - shown.len(), shown) {
            (0, [only]) => only.clone(),
            (0, [first @ .., last]) => format!("{} and {last}", first.join(", ")),
            (more, shown) => format!("{} and {more} more", shown.join(", ")),
        };
        let is_wanted = |name: &String| name.trim_end_matches('.').eq_ignore_ascii_case(&wanted);
        if matches!(self.server_name, ServerName::IpAddress(_)) && names.iter().any(is_wanted) {
            let cause = format!("the certificate has {wanted} as a DNS name, not as an IP address");
            return failure(&cause).hint(format!("issue it with the subject alternative name IP:{wanted}"));
        }
        let failure = failure(&format!("the certificate is valid for {shown}, not for {wanted}"));
        match server_names.iter().find(|name| !name.contains('*') && !is_wanted(name)) {
            Some(name) => failure.hint(format!("use -tls-server-name={name}")),
            None if !server_names.is_empty() => failure.hint("use -tls-server-name with a name that it is valid for"),
            None if presented.is_some_and(has_only_spiffe_id) => failure.hint(USE_SPIFFE),
            None => failure.hint("issue it with a DNS name or an IP address; nothing else names a server"),
        }
    }
}

/// Words an objection to a certificate, which is webpki's where `webpki` is there.
fn unacceptable(error: &CertificateError, webpki: Option<&webpki::Error>) -> String {
    use webpki::Error as Chain;

    let words = match (error, webpki) {
        (_, Some(Chain::MaximumPathDepthExceeded)) => "its chain has more than 6 intermediates",
        (
            _,
            Some(
                Chain::MaximumPathBuildCallsExceeded
                | Chain::MaximumSignatureChecksExceeded
                | Chain::MaximumNameConstraintComparisonsExceeded,
            ),
        ) => "its chain takes too long to verify",
        (_, Some(Chain::PathLenConstraintViolated)) => {
            "a CA certificate in its chain allows fewer CA certificates below it (path length)"
        }
        (_, Some(Chain::NameConstraintViolation)) => "a CA in its chain may not issue for its names (name constraints)",
        (_, Some(Chain::EndEntityUsedAsCa)) => "a certificate in its chain issued another and is not a CA's",
        (CertificateError::UnhandledCriticalExtension, _) | (_, Some(Chain::UnsupportedCriticalExtension)) => {
            "it, or one in its chain, has a critical extension that is not supported"
        }
        (_, Some(Chain::UnsupportedCertVersion)) => {
            "it is of X.509 version 1; issue it as version 3, with a subject alternative name"
        }
        (
            CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
            _,
        )
        | (
            _,
            Some(
                Chain::UnsupportedSignatureAlgorithmContext(_)
                | Chain::UnsupportedSignatureAlgorithmForPublicKeyContext(_),
            ),
        ) => "it, or one in its chain, has a signature or key that is not supported (such as SHA-1 or P-521)",
        (CertificateError::BadSignature, _) => "a signature is wrong",
        (CertificateError::BadEncoding, _) => "it is not well-formed",
        (_, Some(error)) => return in_words(&format!("{error:?}")),
        (error, None) => return in_words(&format!("{error:?}")),
    };
    words.to_owned()
}

/// The name of a variant, as in `InvalidSerialNumber(…)`, in words.
fn in_words(variant: &str) -> String {
    let end = variant.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(variant.len());
    snake_case(&variant[..end]).replace('_', " ")
}

/// Whether the only name in a certificate is a SPIFFE ID.
fn has_only_spiffe_id(Description { names, .. }: &Description) -> bool {
    matches!(names.as_slice(), [name] if is_spiffe_id(name))
}
