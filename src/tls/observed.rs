//! Records what a handshake reveals about the server. The verifier and the client identity get it from rustls.

use std::{
    iter,
    sync::{Mutex, PoisonError},
};

use rustls::ClientConnection;
use rustls_pki_types::CertificateDer;

use super::certificate::{Description, describe};

/// What a handshake revealed about the server.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// The certificates that the server presented, its own first.
    presented: Mutex<Vec<CertificateDer<'static>>>,
    certificate_request: Mutex<Option<CertificateRequest>>,
}

/// The server's request for a client certificate (RFC 8446, section 4.3.2).
#[derive(Debug, Clone, Default)]
pub(super) struct CertificateRequest {
    /// The names of the authorities whose certificates it accepts, in DER.
    pub(super) authorities: Vec<Vec<u8>>,
    /// Whether it accepts signatures by our key.
    pub(super) takes_our_key: bool,
}

/// The version and the cipher suite that a handshake agreed on, as the specifications write them.
pub(super) fn version_and_cipher(connection: &ClientConnection) -> [Option<String>; 2] {
    let version = connection.protocol_version().map(|version| format!("{version:?}").replace("TLSv1_", "TLSv1."));
    let cipher = connection.negotiated_cipher_suite();
    [version, cipher.map(|suite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_"))]
}

impl Observed {
    pub(super) fn note_presented(&self, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
        let chain = iter::once(end_entity).chain(intermediates).map(|certificate| certificate.clone().into_owned());
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
    }

    /// The certificates that the server presented, its own first.
    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.presented.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, as far as they can be read.
    pub(super) fn presented(&self) -> Vec<Description> {
        self.chain().iter().filter_map(describe).collect()
    }

    pub(super) fn note_certificate_request(&self, request: CertificateRequest) {
        *self.certificate_request.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
    }

    /// The server's request for a client certificate, if it sent one.
    pub(super) fn certificate_request(&self) -> Option<CertificateRequest> {
        self.certificate_request.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the server asked for a client certificate.
    pub(super) fn is_certificate_requested(&self) -> bool {
        self.certificate_request.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
