//! Explains why a handshake failed, from rustls's typed errors, the server's certificates and its first bytes.

use std::io;

use rustls::{AlertDescription, PeerIncompatible, sign::CertifiedKey};
use rustls_pki_types::ServerName;

use super::{
    client_refusal::{GIVE_ONE, OurCertificate, Refusal, Refused, is_about_certificates},
    observed::Observed,
    verifier::Trusted,
};
use crate::{
    deadline::Deadline,
    http2::{FirstBytes, IS_THIS_THE_PORT, Opening, alert_name},
    outcome::{Failure, Kind, Retry},
    text::{io_cause, leave_out},
};

/// What to do about a server that does not agree to HTTP/2.
const OFFER_HTTP2: &str =
    "is this the gRPC port? if it is, let the server, or the proxy before it, offer \"h2\" by ALPN";

/// One handshake, with the data for its failure messages.
pub(super) struct Attempt<'a> {
    /// The address as the user gave it.
    pub(super) target: &'a str,
    pub(super) server_name: &'a ServerName<'static>,
    pub(super) trusted: &'a Trusted,
    /// Our certificate and key.
    pub(super) identity: Option<&'a CertifiedKey>,
    /// The flag that enables TLS, or the variable that stands for it.
    pub(super) given_by: &'a str,
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
            Opening::Settings | Opening::PartOfSettings(_) | Opening::Frame(_) => return self.plaintext_server(),
            Opening::Http1(_) | Opening::Http1ForTls(_) | Opening::Text(_) | Opening::Bytes(_) => {
                return self.other_server(&opening);
            }
            Opening::Nothing | Opening::TlsAlert(_) | Opening::TlsRecord => {}
        }
        match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(error)) => self.certificate_failure(error),
            Some(rustls::Error::AlertReceived(alert)) => self.alert(*alert, self.observed.is_certificate_requested()),
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
            Opening::Settings | Opening::PartOfSettings(_) | Opening::Frame(_) => self.plaintext_server(),
            _ => self.other_server(&opening),
        }
    }

    /// A server that speaks HTTP/2 in plaintext.
    fn plaintext_server(&self) -> Failure {
        self.failed(Kind::TlsPlaintextServer, "the server does not speak TLS")
            .hint(format!("{}, or probe the server's TLS port", leave_out(self.given_by)))
    }

    /// A server that speaks another protocol. Only of HTTP/1 a second look can tell whether the server also speaks HTTP/2 in
    /// plaintext, as some do.
    fn other_server(&self, opening: &Opening) -> Failure {
        let failure = self.failed(Kind::TlsPlaintextServer, &format!("the server does not speak TLS: it {opening}"));
        match opening {
            Opening::Http1(_) | Opening::Http1ForTls(_) => failure,
            _ => failure.hint(IS_THIS_THE_PORT),
        }
    }

    /// A server that refuses HTTP/2 by ALPN.
    fn no_http2(&self, cause: &str) -> Failure {
        self.failed(Kind::TlsNoH2, cause).hint(OFFER_HTTP2)
    }

    /// A server that answers no ALPN at all.
    pub(super) fn no_alpn(&self) -> Failure {
        let failure = self.no_http2("the server answered no ALPN, so it does not say that it speaks HTTP/2");
        if self.trusted.is_by_policy() {
            failure
        } else {
            failure.hint(format!("{OFFER_HTTP2}; -tls-no-alpn accepts it without"))
        }
    }

    /// The failure for a TLS alert, if `error` is one. `is_certificate_undecided` says whether the server may still reject our
    /// certificate.
    pub(super) fn by_alert(&self, error: &io::Error, is_certificate_undecided: bool) -> Option<Failure> {
        match tls_error(error) {
            Some(rustls::Error::AlertReceived(alert)) => Some(self.alert(*alert, is_certificate_undecided)),
            _ => None,
        }
    }

    /// The same, if the alert is about certificates.
    pub(super) fn by_alert_about_certificates(&self, error: &io::Error) -> Option<Failure> {
        match tls_error(error) {
            Some(rustls::Error::AlertReceived(alert)) if is_about_certificates(*alert) => {
                Some(self.certificate_refused(*alert))
            }
            _ => None,
        }
    }

    /// The failure of a connection that the server refused by this alert after it asked for our certificate.
    fn certificate_refused(&self, alert: AlertDescription) -> Failure {
        self.refused(self.our_certificate().refusal(Refused::ByAlert(alert)))
    }

    /// The failure when the server closes without an alert before it sends any data, as many servers do. If it requested a
    /// certificate, it can only have rejected that.
    pub(super) fn silent_refusal(&self) -> Option<Failure> {
        let is_requested = self.observed.is_certificate_requested();
        is_requested.then(|| self.refused(self.our_certificate().refusal(Refused::ByClosing)))
    }

    fn refused(&self, Refusal { kind, cause, hint }: Refusal) -> Failure {
        Failure { hint, ..self.failed(kind, &cause) }
    }

    fn our_certificate(&self) -> OurCertificate<'_> {
        let Self { identity, observed, .. } = *self;
        let named = identity.and_then(|identity| self.trusted.describe_ours(identity.cert.first()?));
        OurCertificate { identity, observed, named }
    }

    /// Adds to a failure what the server asked for and got, if that may be its cause: it did not answer, or refused over HTTP, as
    /// nginx does.
    pub(super) fn explain_by_certificate(&self, failure: Failure) -> Failure {
        let (kind, text, hint) = self.our_certificate().answered();
        let message = format!("{}; {text}", failure.message);
        match (failure.kind, failure.http_status, kind) {
            (Kind::HttpStatus, Some(400), Some(kind)) => Failure { kind, message, hint, ..failure },
            (Kind::HttpStatus, Some(400 | 401 | 403), _) | (Kind::ServerSilent, ..) => Failure { message, ..failure },
            _ => failure,
        }
    }

    fn alert(&self, alert: AlertDescription, is_certificate_undecided: bool) -> Failure {
        let cause = format!("the server refused it: alert {}", alert_name(alert));
        match alert {
            // All else was agreed on before the server asked for a certificate. Servers have many names for what they do not
            // like about it: netty with OpenSSL says internal_error, GnuTLS decode_error where it is missing.
            _ if is_certificate_undecided => self.certificate_refused(alert),
            AlertDescription::CertificateRequired => {
                self.failed(Kind::TlsClientCertificateRequired, &cause).hint(GIVE_ONE)
            }
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
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
