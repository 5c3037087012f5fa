//! The record of a probe: its current phase, the duration of each phase, the peer, the parameters of TLS.

use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::kind::Phase;

/// How long each phase took. A phase that did not end, or that a probe does not have, is absent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timings {
    pub(crate) spiffe: Option<Duration>,
    pub(crate) resolve: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) tls: Option<Duration>,
    pub(crate) alts: Option<Duration>,
    pub(crate) http2: Option<Duration>,
    pub(crate) rpc: Option<Duration>,
}

impl Timings {
    /// The times of the phases that all addresses of a name have in common.
    pub(crate) fn before_connect(&self) -> Self {
        Self { spiffe: self.spiffe, resolve: self.resolve, ..Self::default() }
    }
}

/// What the handshake agreed on, by which the connection is secured.
#[derive(Debug, Clone)]
pub(crate) enum Session {
    Tls(TlsSession),
    Alts(AltsSession),
}

/// What the TLS handshake agreed on; of one that failed, who the two were.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsSession {
    /// The protocol version, such as `TLSv1.3`; absent if the handshake failed.
    pub(crate) version: Option<String>,
    /// The cipher suite by its name in the IANA registry; absent if the handshake failed.
    pub(crate) cipher: Option<String>,
    /// The name that was verified and sent; absent if the server is verified by its SPIFFE ID.
    pub(crate) server_name: Option<String>,
    /// The server's SPIFFE ID, if it is verified by that. A server that is rejected only claims to have it.
    pub(crate) spiffe_id: Option<String>,
    /// Our own SPIFFE ID, if we have one.
    pub(crate) client_spiffe_id: Option<String>,
    /// The server's own certificate.
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// Who the two sides of an ALTS handshake are.
#[derive(Debug, Clone, Default)]
pub(crate) struct AltsSession {
    /// The server's service account.
    pub(crate) peer_service_account: Option<String>,
    /// Our own.
    pub(crate) local_service_account: Option<String>,
}

/// The record of the last attempt.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) phase: Phase,
    pub(crate) peer: Option<String>,
    pub(crate) timings: Timings,
    pub(crate) session: Option<Session>,
    /// Whether the attempt is over, where several addresses are probed at once.
    pub(crate) is_over: bool,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Usage, peer: None, timings: Timings::default(), session: None, is_over: false }
    }
}
