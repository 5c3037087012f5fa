//! Records what a handshake reveals about the server. The verifier and the client identity get it from rustls.

use std::{
    iter,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls_pki_types::CertificateDer;

use super::certificate::{Description, describe};

/// What a handshake revealed about the server.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// The certificates that the server presented, its own first.
    presented: Mutex<Vec<CertificateDer<'static>>>,
    certificate_requested: AtomicBool,
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

    pub(super) fn note_certificate_request(&self) {
        self.certificate_requested.store(true, Ordering::Relaxed);
    }

    /// Whether the server asked for a client certificate.
    pub(super) fn is_certificate_requested(&self) -> bool {
        self.certificate_requested.load(Ordering::Relaxed)
    }
}
