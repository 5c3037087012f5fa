//! Explains why a handshake failed, from rustls's typed errors, the server's certificates and its first bytes.

use std::io;

use rustls::{AlertDescription, PeerIncompatible, sign::CertifiedKey};
use rustls_pki_types::{ServerName, UnixTime};

use super::{
    certificate::{date_time, describe},
    clock,
    observed::Observed,
    verifier::{OurCertificate, Trusted},
};
use crate::{
    deadline::Deadline,
    http2::{FirstBytes, Opening},
    outcome::{Failure, Kind, Retry},
    text::{io_cause, snake_case},
};

/// One handshake, with the data for its failure messages.
pub(super) struct Attempt<'a> {
    /// The address as the user gave it.
    pub(super) target: &'a str,
    pub(super) server_name: &'a ServerName<'static>,
    pub(super) trusted: &'a Trusted,
    /// Our certificate and key.
    pub(super) identity: Option<&'a CertifiedKey>,
    /// The flag that enables TLS.
    pub(super) flag: &'static str,
    pub(super) observed: &'a Observed,
}

impl Attempt<'_> {
    pub(super) fn failed(&self, kind: Kind, cause: &str) -> Failure {
        let failure = Failure::new(kind, format!("TLS handshake with {} failed: {cause}", self.target));
        // Certificates and trust anchors that a policy has to do with are short-lived, and renewed while the probe runs.
        let is_renewed = matches!(
            kind,
            Kind::TlsCertificateExpired | Kind::TlsCertificateUnknownIssuer | Kind::TlsClientCertificateRejected
        );
        if is_renewed && self.trusted.is_by_policy() { failure.transient() } else { failure }
    }

    /// The failure of a handshake that ended with `error` after the server sent `first_bytes`.
    pub(super) fn failure(&self, error: &io::Error, first_bytes: &FirstBytes) -> Failure {
        let opening = first_bytes.received().opening();
        match opening {
            Opening::Settings | Opening::PartOfSettings(_) | Opening::Frame(_) => return self.plaintext_server(""),
            Opening::Http1(_) | Opening::Http1ForTls(_) | Opening::Text(_) | Opening::Bytes(_) => {
                return self.plaintext_server(&format!(": it {opening}"));
            }
            Opening::Nothing | Opening::TlsAlert(_) | Opening::TlsRecord => {}
        }
        match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(error)) => self.certificate_failure(error),
            Some(rustls::Error::AlertReceived(alert)) => self.alert(*alert),
            Some(rustls::Error::NoApplicationProtocol) => self.no_http2("the server refused HTTP/2 (ALPN)"),
            Some(rustls::Error::PeerIncompatible(
                reason @ (PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled),
            )) => self
                .failed(Kind::TlsVersion, &format!("the server speaks neither TLS 1.2 nor 1.3 ({reason:?})"))
                .hint("older versions are broken; the server has to offer TLS 1.2 or 1.3"),
            Some(error) => self.failed(Kind::TlsFailed, &error.to_string()),
            None if opening == Opening::Nothing => self
                .failed(Kind::TlsFailed, "the server closed the connection instead of answering")
                .retry(Retry::WhileConnecting),
            None => self.silent_refusal().unwrap_or_else(|| {
                let cause = format!("the server closed the connection during the handshake: {}", io_cause(error));
                self.failed(Kind::TlsFailed, &cause).retry(Retry::WhileConnecting)
            }),
        }
    }

    /// The failure of a handshake that did not end in time.
    pub(super) fn timed_out(&self, deadline: Deadline, first_bytes: &FirstBytes) -> Failure {
        let opening = first_bytes.received().opening();
        let message = format!("TLS handshake with {} timed out after {}", self.target, deadline.limit());
        match opening {
            Opening::Nothing => Failure::new(Kind::TlsTimeout, format!("{message}: connected, no answer")),
            Opening::TlsAlert(_) | Opening::TlsRecord => {
                Failure::new(Kind::TlsTimeout, format!("{message}: the server began it and stopped"))
            }
            _ => self.plaintext_server(&format!(": it {opening}")),
        }
    }

    fn plaintext_server(&self, cause: &str) -> Failure {
        self.failed(Kind::TlsPlaintextServer, &format!("the server does not speak TLS{cause}"))
            .hint(format!("leave out {}, or probe the server's TLS port", self.flag))
    }

    pub(super) fn no_http2(&self, cause: &str) -> Failure {
        self.failed(Kind::TlsNoH2, cause)
            .hint("is this the gRPC port? if it is, let the server, or the proxy before it, offer \"h2\" by ALPN")
    }

    /// The failure for a TLS alert, if `error` is one.
    pub(super) fn by_alert(&self, error: &io::Error) -> Option<Failure> {
        match tls_error(error) {
            Some(rustls::Error::AlertReceived(alert)) => Some(self.alert(*alert)),
            _ => None,
        }
    }

    /// The failure when the server closes without an alert before it sends any data, as many servers do. If it requested a
    /// certificate, it can only have rejected that.
    pub(super) fn silent_refusal(&self) -> Option<Failure> {
        if !self.observed.is_certificate_requested() {
            return None;
        }
        if self.identity.is_none() {
            let cause = "the server asked for a client certificate, got none, and closed the connection";
            return Some(self.client_certificate_required(cause));
        }
        let OurCertificate { name, hint } = self.ours().unwrap_or_else(|| OurCertificate {
            name: "ours".to_owned(),
            hint: "does the server trust its issuer, and is it still valid? see the server's log".to_owned(),
        });
        let cause = format!("the server asked for a client certificate, got {name}, and closed the connection");
        Some(self.failed(Kind::TlsClientCertificateRejected, &cause).hint(hint))
    }

    fn alert(&self, alert: AlertDescription) -> Failure {
        let cause = format!("the server refused it: alert {}", alert_name(alert));
        // Alerts for a rejected or missing client certificate (RFC 8446, section 6.2).
        let about_certificates = matches!(
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
        );
        match alert {
            _ if about_certificates && self.observed.is_certificate_requested() && self.identity.is_none() => self
                .client_certificate_required(&format!(
                    "the server requires a client certificate (alert {})",
                    alert_name(alert)
                )),
            _ if about_certificates && self.observed.is_certificate_requested() => {
                let (name, hint) = match self.ours() {
                    Some(OurCertificate { name, hint }) => (name, Some(hint)),
                    None => (
                        "the client certificate".to_owned(),
                        self.expired_identity().map(|when| format!("it expired on {when}")),
                    ),
                };
                let cause = format!("the server rejected {name} (alert {})", alert_name(alert));
                Failure { hint, ..self.failed(Kind::TlsClientCertificateRejected, &cause) }
            }
            AlertDescription::CertificateRequired => self.client_certificate_required(&cause),
            AlertDescription::ProtocolVersion => self
                .failed(Kind::TlsVersion, "the server speaks neither TLS 1.2 nor 1.3 (alert protocol_version)")
                .hint("older versions are broken; the server has to offer TLS 1.2 or 1.3"),
            AlertDescription::NoApplicationProtocol => {
                self.no_http2("the server refused HTTP/2 (alert no_application_protocol)")
            }
            AlertDescription::UnrecognisedName => {
                let failure = self.failed(
                    Kind::TlsFailed,
                    &format!("the server has no certificate for {}", self.server_name.to_str()),
                );
                if self.trusted.is_by_policy() {
                    failure
                } else {
                    failure.hint("give a name that it has one for with -tls-server-name")
                }
            }
            AlertDescription::HandshakeFailure => self.failed(Kind::TlsFailed, &cause).hint(
                "no cipher suite, curve or kind of key in common; keys and curves of P-521 and Ed448 are not supported",
            ),
            _ => self.failed(Kind::TlsFailed, &cause),
        }
    }

    fn client_certificate_required(&self, cause: &str) -> Failure {
        let failure = self.failed(Kind::TlsClientCertificateRequired, cause);
        if self.identity.is_some() {
            return failure;
        }
        failure.hint("give one with -tls-client-cert and -tls-client-key")
    }

    /// Our certificate in the words of the policy, if there is one.
    fn ours(&self) -> Option<OurCertificate> {
        self.trusted.describe_ours(self.identity?.cert.first()?)
    }

    /// When our certificate expired, if it has.
    fn expired_identity(&self) -> Option<String> {
        let certificate = self.identity.and_then(|key| describe(key.cert.first()?))?;
        (certificate.not_after < clock::now()).then(|| day(certificate.not_after))
    }
}

pub(super) fn day(time: UnixTime) -> String {
    let date = date_time(time);
    date.split_once('T').map_or(date.clone(), |(day, _)| day.to_owned())
}

/// Names an alert as RFC 8446 does.
fn alert_name(alert: AlertDescription) -> String {
    snake_case(&format!("{alert:?}"))
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
