//! Reads the files for TLS: trust anchors, the client certificate and its key.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{crypto::CryptoProvider, sign::CertifiedKey};

use super::{
    client_certificate::{KeyProblem, certified_key},
    pem::PemFile,
    system_roots::{self, SystemRoots},
    verifier::Trusted,
};
use crate::{
    deadline::Deadline,
    file::{Reader, read_by},
    outcome::{Failure, Kind},
    trace::Trace,
};

/// The files that TLS needs.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) trust: Trust,
    /// The client's certificate chain and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Which servers to trust.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// Those with a certificate from one of the system's trust anchors.
    System,
    /// Those with a certificate from one of this file's trust anchors.
    File(PathBuf),
    /// All of them: `-tls-no-verify`.
    Anyone,
}

/// Trust anchors from the files.
#[derive(Debug)]
enum Anchors {
    Anyone,
    File(PemFile),
    System(SystemRoots),
}

/// Reads the files and prepares the trust anchors and the identity for a handshake.
///
/// # Errors
/// Those of the phase usage.
pub(super) async fn load(
    files: &Files,
    provider: &Arc<CryptoProvider>,
    deadline: Deadline,
    trace: &Trace,
) -> Result<(Trusted, Option<CertifiedKey>), Failure> {
    let files = files.clone();
    let (anchors, identity) = read_by(deadline, move |reader| read(&files, reader)).await?;
    let trusted = match anchors {
        Anchors::Anyone => Trusted::anyone(),
        Anchors::File(file) => Trusted::by_file(&file, provider, trace)?,
        Anchors::System(roots) => Trusted::by_system(roots, provider, trace),
    };
    let identity = identity.map(|(certificate, key)| identity_of(&certificate, &key)).transpose()?;
    Ok((trusted, identity))
}

fn read(files: &Files, reader: &Reader) -> Result<(Anchors, Option<(PemFile, PemFile)>), Failure> {
    let read = |flag: &str, path: &Path| PemFile::read(reader, flag, path);
    let anchors = match &files.trust {
        Trust::Anyone => Anchors::Anyone,
        Trust::File(path) => Anchors::File(read("-tls-ca-cert", path)?),
        Trust::System => {
            reader.set_current("the system's trusted certificates".to_owned());
            Anchors::System(system_roots::read(read)?)
        }
    };
    let identity = match &files.identity {
        Some((certificate, key)) => Some((read("-tls-client-cert", certificate)?, read("-tls-client-key", key)?)),
        None => None,
    };
    Ok((anchors, identity))
}

fn identity_of(certificate: &PemFile, key: &PemFile) -> Result<CertifiedKey, Failure> {
    let (chain, broken) = certificate.certificates()?;
    if broken > 0 {
        let message = format!("{} has {broken} PEM sections that cannot be read", certificate.name());
        return Err(Failure::new(Kind::CertificateInvalid, message));
    }
    certified_key(chain, &key.private_key()?).map_err(|problem| match problem {
        KeyProblem::Unsupported => {
            let message = format!("the private key in {} is broken or of an unsupported kind", key.name());
            Failure::new(Kind::KeyInvalid, message)
                .hint("RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519 are supported")
        }
        KeyProblem::Mismatch => {
            Failure::new(Kind::KeyMismatch, format!("{} is not the key of {}", key.name(), certificate.name()))
                .hint("the first certificate in the file must be the client's own")
        }
        KeyProblem::UnreadableCertificate => {
            let message = format!("{} holds a certificate that cannot be read", certificate.name());
            Failure::new(Kind::CertificateInvalid, message)
        }
    })
}
