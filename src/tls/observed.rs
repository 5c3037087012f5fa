//! Records what a handshake reveals about the server. The verifier and the client identity get it from rustls.

use std::{
    iter,
    sync::{Mutex, PoisonError},
};

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

impl Observed {
    pub(super) fn note_presented(&self, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
        let chain = iter::once(end_entity).chain(intermediates).map(|certificate| certificate.clone().into_owned());
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
    }

    /// The certificates that the server presented, as far as they can be read, its own first.
    pub(super) fn presented(&self) -> Vec<Description> {
        self.presented.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(describe).collect()
    }

    /// The server's own certificate, if it presented one.
    pub(super) fn end_entity(&self) -> Option<CertificateDer<'static>> {
        self.presented.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
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
