//! The system's trust anchors. From a bundle it parses only the certificates that the server's chain names as issuers: parsing all
//! would take longer than the rest of a probe.

use std::{
    env,
    path::{Path, PathBuf},
};

use rustls_native_certs::CertificateResult;
use rustls_pki_types::CertificateDer;
use webpki::anchor_from_trusted_cert;

use super::{
    anchors::{Needed, is_readable},
    directory::{Found, TooMany},
    pem::PemFile,
};
use crate::{
    outcome::{Failure, Kind},
    text::excerpt,
};

/// The system's trusted certificates. A bundle is parsed only up to its first usable certificate.
#[derive(Debug)]
pub(super) struct SystemRoots {
    bundle: Option<PemFile>,
    /// The certificates that are not in a bundle.
    certificates: Vec<CertificateDer<'static>>,
    /// How many of those could not be read.
    broken: usize,
}

impl SystemRoots {
    /// The certificates that a server's chain needs.
    pub(super) fn needed_by(&self, needed: &Needed<'_>) -> Vec<CertificateDer<'static>> {
        let is_needed = |certificate: &&CertificateDer<'_>| needed.includes(certificate);
        let mut found: Vec<_> = self.certificates.iter().filter(is_needed).cloned().collect();
        found.extend(self.bundle.iter().flat_map(|bundle| bundle.certificates_where(|der| needed.includes(der))));
        found
    }

    /// How many certificates cannot be read. This parses all of them.
    pub(super) fn broken(&self) -> usize {
        let bundle = self.bundle.as_ref().and_then(|bundle| bundle.certificates().ok());
        let (in_bundle, broken_in_bundle) = bundle.unwrap_or_default();
        let unusable = in_bundle.iter().chain(&self.certificates).filter(|certificate| !is_readable(certificate));
        self.broken + broken_in_bundle + unusable.count()
    }
}

/// Whether webpki can use it as a trust anchor: what can be told without parsing it whole.
fn is_usable(certificate: &CertificateDer<'_>) -> bool {
    anchor_from_trusted_cert(certificate).is_ok()
}

/// Finds the system's trusted certificates: those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or those at the default paths.
///
/// # Errors
/// `no-trust-anchors`.
pub(super) fn read(read: impl Fn(&str, &Path) -> Result<PemFile, Failure>) -> Result<SystemRoots, Failure> {
    const FILE: &str = "SSL_CERT_FILE";
    const DIRECTORIES: &str = "SSL_CERT_DIR";

    let no_anchors = |cause: &str| {
        Failure::new(Kind::NoTrustAnchors, format!("no trusted certificates found on this system: {cause}"))
            .hint("give the server's CA with -tls-ca-cert, or mount the system's bundle")
    };
    // An empty variable counts as not set.
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
    let (mut bundle, mut first_error) = (None, None);
    if let Some((name, path)) = places.bundle {
        match read(name, &path).and_then(|file| file.has_certificate(is_usable).map(|()| file)) {
            Ok(file) => bundle = Some(file),
            Err(failure) => first_error = Some(failure.message),
        }
    }
    let (mut certificates, mut broken) = (Vec::new(), 0);
    // A bundle at a default path also contains the certificates of the directories.
    let needs_directories = bundle.is_none() || file.is_some();
    let is_needed = |directory: &&PathBuf| needs_directories && !directory.as_os_str().is_empty();
    let mut found = Found::default();
    for directory in places.directories.iter().filter(is_needed) {
        found.read(directory).map_err(|TooMany| {
            let cause = format!(
                "the trusted certificates in {} are larger than 4 MiB together",
                excerpt(&directory.display().to_string())
            );
            Failure::new(Kind::FileUnreadable, cause).hint("is it the right directory?")
        })?;
    }
    certificates.extend(places.store.certs);
    certificates.extend(found.certificates());
    broken += places.store.errors.len() + found.broken;
    let store_error = places.store.errors.first().map(ToString::to_string);
    let first_error = first_error.or(store_error).or(found.first_error);
    if bundle.is_none() && !certificates.iter().any(is_usable) {
        let none = match (&file, variable(DIRECTORIES)) {
            (None, None) => "the usual places hold none".to_owned(),
            _ => format!("{FILE} and {DIRECTORIES} name none"),
        };
        return Err(no_anchors(&first_error.unwrap_or(none)));
    }
    Ok(SystemRoots { bundle, certificates, broken })
}

/// The location of the system's trusted certificates.
struct Places {
    /// A file with all of them, and the variable or words that name it.
    bundle: Option<(&'static str, PathBuf)>,
    directories: Vec<PathBuf>,
    /// Certificates that the system keeps in another form.
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
