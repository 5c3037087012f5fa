//! The files that TLS needs: trusted certificates, the client's certificate and key. All are read on one thread, under
//! a deadline, as any of them may be a pipe or lie on a network file system that does not answer.

use std::{
    env,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls_native_certs::{CertificateResult, ErrorKind, load_certs_from_paths};
use rustls_pki_types::CertificateDer;

use crate::{
    config::{Tls, Trust},
    deadline::{Deadline, Unfinished},
    outcome::{Failure, Kind},
    pem::{self, PemFile},
    text::plain,
};

/// What was read.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) trusted: Trusted,
    /// The client's certificate chain, and its key.
    pub(crate) identity: Option<(PemFile, PemFile)>,
}

/// Trusted certificates.
#[derive(Debug)]
pub(crate) enum Trusted {
    /// None: every server is believed.
    Anyone,
    /// The user's.
    File(PemFile),
    /// The system's, and how many could not be read.
    System(Vec<CertificateDer<'static>>, usize),
}

/// Reads the files that the configuration names.
///
/// # Errors
/// `file-unreadable` for the user's files, `no-trust-anchors` for the system's.
pub(crate) async fn read(tls: &Tls, deadline: Deadline) -> Result<Credentials, Failure> {
    let reading = Arc::new(Mutex::new(String::new()));
    let work = {
        let (tls, reading) = (tls.clone(), Arc::clone(&reading));
        move || read_all(&tls, &reading, true)
    };
    match deadline.bound_blocking(work).await {
        Ok(credentials) => credentials,
        // A system without threads to spare can still read what does not block.
        Err(Unfinished::NoThread(_)) => read_all(tls, &reading, false),
        Err(Unfinished::Elapsed) => {
            let reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
            let message = format!("cannot read {reading}: it did not end within {}", deadline.limit());
            Err(Failure::new(Kind::FileUnreadable, message).hint("is it a pipe that nobody writes to?"))
        }
    }
}

fn read_all(tls: &Tls, reading: &Mutex<String>, may_block: bool) -> Result<Credentials, Failure> {
    let begin = |name| *reading.lock().unwrap_or_else(PoisonError::into_inner) = name;
    let read = |flag: &str, path: &Path| {
        begin(pem::name(flag, path));
        PemFile::read(flag, path, may_block)
    };
    let trusted = match &tls.trust {
        Trust::Anyone => Trusted::Anyone,
        Trust::File(path) => Trusted::File(read("-tls-ca-cert", path)?),
        Trust::System => {
            begin("the system's trusted certificates".to_owned());
            read_system(read)?
        }
    };
    let identity = match &tls.identity {
        Some((certificate, key)) => Some((read("-tls-client-cert", certificate)?, read("-tls-client-key", key)?)),
        None => None,
    };
    Ok(Credentials { trusted, identity })
}

/// The system's trusted certificates: those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or of the usual places.
fn read_system(read: impl Fn(&str, &Path) -> Result<PemFile, Failure>) -> Result<Trusted, Failure> {
    const FILE: &str = "SSL_CERT_FILE";
    const DIRECTORIES: &str = "SSL_CERT_DIR";

    let no_anchors = |cause: &str| {
        Failure::new(Kind::NoTrustAnchors, format!("no trusted certificates found on this system: {cause}"))
            .hint("give the server's CA with -tls-ca-cert, or mount the system's bundle")
    };
    // A variable that is empty counts as not set.
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
    let (file, directories) = (variable(FILE), variable(DIRECTORIES));
    let (mut certificates, mut broken, mut first_error) = (Vec::new(), 0, None);
    if let Some(path) = &file {
        match read(FILE, Path::new(path)).and_then(|file| file.certificates()) {
            Ok(read) => (certificates, broken) = read,
            Err(failure) => first_error = Some(failure.message),
        }
    }
    let loaded = match (&file, &directories) {
        (None, None) => vec![usual_places()],
        (_, None) => Vec::new(),
        (_, Some(directories)) => env::split_paths(directories)
            .filter(|directory| !directory.as_os_str().is_empty())
            .map(|directory| load_certs_from_paths(None, Some(&directory)))
            .collect(),
    };
    for result in loaded {
        certificates.extend(result.certs);
        broken += result.errors.len();
        if let Some(error) = result.errors.into_iter().next() {
            first_error.get_or_insert(match error.kind {
                ErrorKind::Io { inner, path } => format!("{}: {}", path.display(), plain(&inner)),
                _ => error.to_string(),
            });
        }
    }
    if certificates.is_empty() {
        let none = match (&file, &directories) {
            (None, None) => "the usual places hold none".to_owned(),
            _ => format!("{FILE} and {DIRECTORIES} name none"),
        };
        return Err(no_anchors(&first_error.unwrap_or(none)));
    }
    Ok(Trusted::System(certificates, broken))
}

#[cfg(all(unix, not(target_os = "macos")))]
fn usual_places() -> CertificateResult {
    let places = openssl_probe::probe();
    // A bundle holds what the directories hold, too.
    match places.cert_file {
        Some(bundle) => load_certs_from_paths(Some(&bundle), None),
        None => places
            .cert_dir
            .first()
            .map_or_else(CertificateResult::default, |directory| load_certs_from_paths(None, Some(directory))),
    }
}

#[cfg(not(all(unix, not(target_os = "macos"))))]
fn usual_places() -> CertificateResult {
    rustls_native_certs::load_native_certs()
}
