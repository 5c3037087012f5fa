//! What TLS needs: trusted certificates, the client's certificate and key, from files or from the Workload API.

use std::{
    env, iter,
    path::{Path, PathBuf},
};

use rustls_native_certs::{CertificateResult, ErrorKind, load_certs_from_paths};
use rustls_pki_types::CertificateDer;
use webpki::anchor_from_trusted_cert;

use crate::{
    config::{self, Config, Files, Tls, Trust},
    deadline::Deadline,
    file::{Reader, read_by},
    journal::Journal,
    outcome::{Failure, Kind},
    pem::PemFile,
    svid::Bundles,
    text::plain,
    workload::{self, Svid, Workload},
};

/// What was read.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) trusted: Trusted,
    pub(crate) identity: Option<Identity>,
}

/// The client's certificate chain, and its key.
#[derive(Debug)]
pub(crate) enum Identity {
    Files(PemFile, PemFile),
    Svid(Svid),
}

/// Trusted certificates.
#[derive(Debug)]
pub(crate) enum Trusted {
    /// None: every server is believed.
    Anyone,
    /// The user's.
    File(PemFile),
    /// The system's.
    System(SystemRoots),
    /// Those of SPIFFE trust domains.
    Bundles(Bundles),
}

/// The system's trusted certificates. They are many, so that a bundle is not read further than to its first.
#[derive(Debug)]
pub(crate) struct SystemRoots {
    pub(crate) bundle: Option<PemFile>,
    /// Those that are not in a bundle.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// How many of those could not be read.
    pub(crate) broken: usize,
    /// Any one of all.
    pub(crate) first: CertificateDer<'static>,
}

impl SystemRoots {
    /// Those of these subjects; if there are none in a bundle, one that is of another, as webpki wants at least one.
    pub(crate) fn of(&self, subjects: &[&[u8]]) -> Vec<CertificateDer<'static>> {
        let is_of = |der: &[u8]| {
            anchor_from_trusted_cert(&CertificateDer::from(der))
                .is_ok_and(|anchor| subjects.contains(&anchor.subject.as_ref()))
        };
        let mut found = self.certificates.clone();
        found.extend(self.bundle.iter().flat_map(|bundle| bundle.certificates_where(is_of)));
        if found.is_empty() { vec![self.first.clone()] } else { found }
    }

    /// How many cannot be read. This reads all.
    pub(crate) fn broken(&self) -> usize {
        let bundle = self.bundle.as_ref().and_then(|bundle| bundle.certificates().ok());
        let (in_bundle, broken_in_bundle) = bundle.unwrap_or_default();
        let unusable = in_bundle.iter().chain(&self.certificates).filter(|certificate| !is_usable(certificate));
        self.broken + broken_in_bundle + unusable.count()
    }
}

/// Whether webpki can trust it.
fn is_usable(certificate: &CertificateDer<'_>) -> bool {
    anchor_from_trusted_cert(certificate).is_ok()
}

/// Gets what the configuration names.
///
/// # Errors
/// `file-unreadable` for the user's files, `no-trust-anchors` for the system's, and those of the phase spiffe.
pub(crate) async fn read(
    config: &Config,
    tls: &Tls,
    deadline: Deadline,
    journal: &Journal,
) -> Result<Credentials, Failure> {
    match &tls.credentials {
        config::Credentials::Files(files) => {
            let files = files.clone();
            read_by(deadline, move |reader| read_all(&files, reader)).await
        }
        config::Credentials::Workload(expected) => {
            let Workload { svid, bundles } = Box::pin(workload::fetch(config, deadline, journal)).await?;
            let bundles = Bundles { by_domain: bundles, expected: expected.clone() };
            Ok(Credentials { trusted: Trusted::Bundles(bundles), identity: Some(Identity::Svid(svid)) })
        }
    }
}

fn read_all(files: &Files, reader: &Reader) -> Result<Credentials, Failure> {
    let read = |flag: &str, path: &Path| PemFile::read(reader, flag, path);
    let trusted = match &files.trust {
        Trust::Anyone => Trusted::Anyone,
        Trust::File(path) => Trusted::File(read("-tls-ca-cert", path)?),
        Trust::System => {
            reader.begin("the system's trusted certificates".to_owned());
            read_system(read)?
        }
    };
    let identity = match &files.identity {
        Some((certificate, key)) => {
            Some(Identity::Files(read("-tls-client-cert", certificate)?, read("-tls-client-key", key)?))
        }
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
    let places = match (&file, &directories) {
        (None, None) => usual_places(),
        _ => Places {
            bundle: file.as_ref().map(|path| (FILE, PathBuf::from(path))),
            directories: directories.iter().flat_map(env::split_paths).collect(),
            store: CertificateResult::default(),
        },
    };
    let (mut bundle, mut first, mut first_error) = (None, None, None);
    if let Some((name, path)) = places.bundle {
        match read(name, &path).and_then(|file| Ok((file.first_certificate(is_usable)?, file))) {
            Ok((certificate, file)) => (first, bundle) = (Some(certificate), Some(file)),
            Err(failure) => first_error = Some(failure.message),
        }
    }
    let (mut certificates, mut broken) = (Vec::new(), 0);
    // A bundle in its usual place holds what the directories hold, too.
    let needs_directories = bundle.is_none() || file.is_some();
    let is_needed = |directory: &&PathBuf| needs_directories && !directory.as_os_str().is_empty();
    let directories = places.directories.iter().filter(is_needed);
    let in_directories = directories.map(|directory| load_certs_from_paths(None, Some(directory)));
    for result in iter::once(places.store).chain(in_directories) {
        certificates.extend(result.certs);
        broken += result.errors.len();
        if let Some(error) = result.errors.into_iter().next() {
            first_error.get_or_insert(match error.kind {
                ErrorKind::Io { inner, path } => format!("{}: {}", path.display(), plain(&inner)),
                _ => error.to_string(),
            });
        }
    }
    let Some(first) = first.or_else(|| certificates.iter().find(|certificate| is_usable(certificate)).cloned()) else {
        let none = match (&file, variable(DIRECTORIES)) {
            (None, None) => "the usual places hold none".to_owned(),
            _ => format!("{FILE} and {DIRECTORIES} name none"),
        };
        return Err(no_anchors(&first_error.unwrap_or(none)));
    };
    Ok(Trusted::System(SystemRoots { bundle, certificates, broken, first }))
}

/// Where a system's trusted certificates are.
struct Places {
    /// A file with all of them, and what names it.
    bundle: Option<(&'static str, PathBuf)>,
    directories: Vec<PathBuf>,
    /// What the system keeps in another form.
    store: CertificateResult,
}

#[cfg(all(unix, not(target_os = "macos")))]
fn usual_places() -> Places {
    let places = openssl_probe::probe();
    let bundle = places.cert_file.map(|path| ("the system's bundle", path));
    Places { bundle, directories: places.cert_dir, store: CertificateResult::default() }
}

#[cfg(not(all(unix, not(target_os = "macos"))))]
fn usual_places() -> Places {
    Places { bundle: None, directories: Vec::new(), store: rustls_native_certs::load_native_certs() }
}
