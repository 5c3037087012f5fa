//! What a server did about our certificate, or about its absence, and what it may not like.

use rustls::{AlertDescription, sign::CertifiedKey};

use super::{
    certificate::{Description, date_time, day, describe, name_of},
    clock,
    observed::{CertificateRequest, Observed},
    verifier::OurIdentity,
};
use crate::{http2::alert_name, outcome::Kind};

/// The most authorities that a message names.
const SHOWN: usize = 3;
/// What to do where a certificate is missing.
pub(super) const GIVE_ONE: &str = "give one with -tls-client-cert and -tls-client-key";
/// What to look for where a certificate was refused without a reason.
const ASK: &str = "does the server trust its issuer, and is it still valid? see the server's log";

/// Our certificate, if we have one, in a handshake in which the server asked for it.
pub(super) struct OurCertificate<'a> {
    pub(super) identity: Option<&'a CertifiedKey>,
    pub(super) observed: &'a Observed,
    /// How the policy calls it, if there is one. Otherwise it comes from files that flags name.
    pub(super) named: Option<OurIdentity>,
}

/// What the server did.
#[derive(Clone, Copy)]
pub(super) enum Refused {
    ByAlert(AlertDescription),
    ByClosing,
}

/// A failure without what was done on which target.
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) cause: String,
    pub(super) hint: Option<String>,
}

/// Whether an alert is about a missing or rejected certificate (RFC 8446, section 6.2).
pub(super) fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
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
    )
}

impl OurCertificate<'_> {
    /// The failure of a connection that the server refused after it asked for our certificate.
    pub(super) fn refusal(&self, refused: Refused) -> Refusal {
        let request = self.observed.certificate_request().unwrap_or_default();
        let authorities = request.authorities();
        let wanted = of(&authorities);
        if self.identity.is_none() || !request.takes_our_key {
            let kind = Kind::TlsClientCertificateRequired;
            let mut cause = match refused {
                Refused::ByAlert(alert) if is_about_certificates(alert) => {
                    format!("the server requires a client certificate{wanted} (alert {})", alert_name(alert))
                }
                _ => format!("the server asked for a client certificate{wanted}, got none, and {}", refused.done()),
            };
            cause += self.why_not_sent();
            return Refusal { kind, cause, hint: Some(self.hint_to_give()) };
        }
        let Faults { text, hint } = self.faults(&authorities);
        let kind = Kind::TlsClientCertificateRejected;
        let name = self.named.as_ref().map(|named| named.name.as_str());
        match refused {
            Refused::ByAlert(alert) if is_about_certificates(alert) => {
                let name = name.unwrap_or("the client certificate");
                let cause = format!("the server rejected {name} (alert {}){text}", alert_name(alert));
                let known = match alert {
                    AlertDescription::UnknownCA => "give one that a CA of the server has issued",
                    // A signature that does not fit the key of the server's CA.
                    AlertDescription::DecryptError => "did another CA of the same name issue it? see the server's log",
                    _ => ASK,
                };
                Refusal { kind, cause, hint: hint.or_else(|| self.named.is_none().then(|| known.to_owned())) }
            }
            _ => {
                let name = name.unwrap_or("ours");
                let done = refused.done();
                let cause = format!("the server asked for a client certificate, got {name}, and {done}{text}");
                Refusal { kind, cause, hint: hint.or_else(|| Some(ASK.to_owned())) }
            }
        }
    }

    /// What the server asked for and got, where it answered with a refusal. It is the cause, and so has a kind, only where it
    /// is sure: where nothing came, or where we know what is wrong with what came.
    pub(super) fn answered(&self) -> (Option<Kind>, String, Option<String>) {
        let request = self.observed.certificate_request().unwrap_or_default();
        let authorities = request.authorities();
        let wanted = of(&authorities);
        if self.identity.is_none() || !request.takes_our_key {
            let text = format!("it asked for a client certificate{wanted}, and got none{}", self.why_not_sent());
            return (Some(Kind::TlsClientCertificateRequired), text, Some(self.hint_to_give()));
        }
        let Faults { text, hint } = self.faults(&authorities);
        if let Some(OurIdentity { name, .. }) = &self.named {
            return (None, format!("it asked for a client certificate, and got {name}"), None);
        }
        let kind = hint.is_some().then_some(Kind::TlsClientCertificateRejected);
        (kind, format!("it asked for a client certificate, and got ours{text}"), hint)
    }

    /// Why the server got none, though there is one.
    fn why_not_sent(&self) -> &'static str {
        if self.identity.is_some() { ": ours was not sent, as the server takes no signature by its key" } else { "" }
    }

    fn hint_to_give(&self) -> String {
        if self.identity.is_some() {
            "give one with another kind of key with -tls-client-cert and -tls-client-key".to_owned()
        } else {
            GIVE_ONE.to_owned()
        }
    }

    /// What is known to be wrong with our certificate, and what to do about that.
    fn faults(&self, authorities: &[String]) -> Faults {
        let chain: Vec<Description> =
            self.identity.map(|key| key.cert.iter().filter_map(describe).collect()).unwrap_or_default();
        let Some(own) = chain.first() else { return Faults::default() };
        if let Some(named) = &self.named {
            return Faults { text: String::new(), hint: Some(named.hint.clone()) };
        }
        let now = clock::now();
        let is_expired = own.not_after < now;
        let issuer = &own.issuer;
        if !authorities.is_empty() && !chain.iter().any(|certificate| authorities.contains(&certificate.issuer)) {
            let accepted = of(authorities);
            return Faults {
                text: format!(": it accepts certificates{accepted}; ours is issued by {issuer}"),
                hint: Some(format!("give a certificate{accepted} with -tls-client-cert and -tls-client-key")),
            };
        }
        if is_expired {
            return Faults {
                text: format!(": ours expired on {}", day(own.not_after)),
                hint: Some("renew the client certificate".to_owned()),
            };
        }
        if now < own.not_before {
            return Faults {
                text: format!(": ours is not valid before {}", date_time(own.not_before)),
                hint: Some(format!("is this machine's clock right? it says {}", date_time(now))),
            };
        }
        Faults { text: format!(": ours is issued by {issuer}"), hint: None }
    }
}

impl Refused {
    /// Completes a sentence that begins with "the server".
    fn done(self) -> String {
        match self {
            Self::ByAlert(alert) => format!("refused the connection (alert {})", alert_name(alert)),
            Self::ByClosing => "closed the connection".to_owned(),
        }
    }
}

impl CertificateRequest {
    /// The names of the authorities whose certificates the server accepts; none if it says nothing that we can read.
    fn authorities(&self) -> Vec<String> {
        self.authorities.iter().map(|name| name_of(name)).collect::<Option<_>>().unwrap_or_default()
    }
}

/// What is known of our certificate, to be added to a message, and what to do if that is a fault.
#[derive(Default)]
struct Faults {
    text: String,
    hint: Option<String>,
}

/// Names the issuers of certificates.
fn of(authorities: &[String]) -> String {
    let shown = &authorities[..authorities.len().min(SHOWN)];
    match (authorities.len() - shown.len(), shown) {
        (_, []) => String::new(),
        (0, [only]) => format!(" issued by {only}"),
        (0, [first @ .., last]) => format!(" issued by {} or {last}", first.join(", ")),
        (1, shown) => format!(" issued by {} or another", shown.join(", ")),
        (more, shown) => format!(" issued by {} or {more} others", shown.join(", ")),
    }
}
