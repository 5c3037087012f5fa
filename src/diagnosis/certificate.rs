//! The sixth step: the server's certificate, and whether a probe trusts it.

use rustls_pki_types::UnixTime;
use serde::Serialize;

use super::http2::Begun;
use crate::{
    outcome::{Failure, Kind},
    tls::{self, Description, Look, Trusting, date_time, span},
};

/// How many names of a certificate are told.
const MAX_NAMES: usize = 20;

/// The certificate of a server.
#[derive(Debug, Serialize)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<String>,
    /// Those that `-tls-server-name` can be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) server_names: Vec<String>,
    pub(crate) issuer: String,
    /// The subjects of the certificates that the server sent, its own first.
    pub(crate) chain: Vec<String>,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    /// How long it is valid from now, or since when it is not.
    pub(crate) validity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Whether a probe trusts it.
    pub(crate) verified: bool,
    /// By which anchor, or why not.
    pub(crate) by: String,
    /// The name that is verified, if one is, and whether the certificate is valid for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<String>,
    pub(crate) has_name: bool,
    /// What it wants of a client certificate, if it asks for one.
    #[serde(rename = "client_certificate", skip_serializing_if = "Option::is_none")]
    pub(crate) from_client: Option<FromClient>,
    /// Why a probe does not trust it.
    #[serde(skip)]
    pub(crate) problem: Option<Kind>,
    /// The issuer of the last certificate of the chain, which has to be trusted.
    #[serde(skip)]
    pub(crate) last_issuer: String,
    #[serde(skip)]
    pub(crate) is_self_signed: bool,
}

/// What a server wants of a client certificate.
#[derive(Debug, Serialize)]
pub(crate) struct FromClient {
    /// The CAs that it trusts, if it names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) authorities: Vec<String>,
    /// What became of ours, or of none.
    pub(crate) outcome: String,
}

impl Certificate {
    /// Describes what a look shows, if it shows a certificate. `begun` is a connection as a probe opens it.
    pub(super) fn new(look: &Look, client: &tls::Client, begun: Option<&Begun>) -> Option<Self> {
        let own = look.chain.first()?;
        let last = look.chain.last().unwrap_or(own);
        let by = match look.trusted.as_ref()? {
            Ok(Trusting::Anchor(subject, source)) => format!("by {subject} {source}"),
            Ok(Trusting::Pinned(source)) => format!("as it is among the trusted certificates {source}"),
            Ok(Trusting::Policy(id)) => format!("by its SPIFFE ID, {id}"),
            Ok(Trusting::Anyone) => "-tls-no-verify is given".to_owned(),
            Err(failure) => {
                failure.message.split_once(": ").map_or(failure.message.clone(), |(_, cause)| cause.to_owned())
            }
        };
        let trusted = look.trusted.as_ref()?;
        Some(Self {
            subject: own.subject.clone(),
            names: own.names.iter().take(MAX_NAMES).cloned().collect(),
            server_names: own.server_names.iter().take(MAX_NAMES).cloned().collect(),
            issuer: own.issuer.clone(),
            chain: look.chain.iter().map(|certificate| certificate.subject.clone()).collect(),
            not_before: date_time(own.not_before),
            not_after: date_time(own.not_after),
            validity: validity(own),
            key: look.key.clone(),
            verified: trusted.as_ref().is_ok_and(is_by_evidence),
            by,
            server_name: client.verified_name().map(|name| name.to_str().into_owned()),
            has_name: look.has_name,
            from_client: look.asks_certificate.as_ref().map(|authorities| FromClient {
                authorities: authorities.clone(),
                outcome: outcome(look, client, begun),
            }),
            problem: trusted.as_ref().err().map(|failure| failure.kind),
            last_issuer: last.issuer.clone(),
            is_self_signed: own.subject == own.issuer,
        })
    }
}

fn validity(certificate: &Description) -> String {
    let now = UnixTime::now();
    if now < certificate.not_before {
        format!("not valid for another {}", span(now, certificate.not_before))
    } else if certificate.not_after < now {
        format!("expired {} ago", span(certificate.not_after, now))
    } else {
        format!("{} left", span(now, certificate.not_after))
    }
}

/// What became of our certificate, or of none.
fn outcome(look: &Look, client: &tls::Client, begun: Option<&Begun>) -> String {
    let given = if client.has_identity() { "ours" } else { "none" };
    match (begun, &look.agreed) {
        (Some(Ok(_)), _) => format!("{given} was given, and the server accepted that"),
        (
            Some(Err(Failure {
                kind: Kind::TlsClientCertificateRequired | Kind::TlsClientCertificateRejected, ..
            })),
            _,
        ) => {
            format!("{given} was given, and the server refused that")
        }
        (None, Err(Failure { kind: Kind::TlsClientCertificateRequired, .. })) => "it is required".to_owned(),
        _ => "whether it is required is not known: none was given".to_owned(),
    }
}

/// Whether a server was trusted for what it showed.
fn is_by_evidence(trust: &Trusting) -> bool {
    !matches!(trust, Trusting::Anyone)
}
