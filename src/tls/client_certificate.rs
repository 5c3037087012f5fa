//! Our own certificate and key, and whether the server asked for them.

use std::sync::Arc;

use rustls::{SignatureScheme, client::ResolvesClientCert, crypto::ring::sign::any_supported_type, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::{
    certificate::{describe, is_for_key},
    observed::{CertificateRequest, Observed},
};

/// Why a certificate chain and a key cannot be used together.
#[derive(Debug)]
pub(crate) enum KeyProblem {
    /// The key is broken or of an unsupported kind.
    Unsupported,
    /// The key belongs to another certificate.
    Mismatch,
    /// The certificate cannot be read.
    UnreadableCertificate,
}

/// Combines a certificate chain, the client's own certificate first, with its private key.
///
/// # Errors
/// [`KeyProblem`].
pub(crate) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<CertifiedKey, KeyProblem> {
    let signer = any_supported_type(key).map_err(|_| KeyProblem::Unsupported)?;
    let certified = CertifiedKey::new(chain, signer);
    // rustls compares them too, but only for certificates of version 3, and clients use others.
    let key = certified.key.public_key();
    match key.map(|key| is_for_key(&certified.cert[0], &key)) {
        // A signer without a public key cannot be compared.
        None | Some(Some(true)) => Ok(certified),
        Some(Some(false)) => Err(KeyProblem::Mismatch),
        Some(None) => Err(KeyProblem::UnreadableCertificate),
    }
}

/// When a chain of certificates expires.
pub(super) fn expiry(chain: &[CertificateDer<'_>]) -> Option<UnixTime> {
    chain.iter().filter_map(describe).map(|certificate| certificate.not_after).min()
}

/// Gives our certificate to the server, if there is one, and records that the server asked for it.
#[derive(Debug)]
pub(super) struct ClientIdentity {
    pub(super) key: Option<Arc<CertifiedKey>>,
    pub(super) observed: Arc<Observed>,
}

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.observed.note_certificate_request(CertificateRequest {
            authorities: authorities.iter().map(|name| name.to_vec()).collect(),
            takes_our_key: self.key.as_ref().is_some_and(|key| key.key.choose_scheme(schemes).is_some()),
        });
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        self.key.is_some()
    }
}
