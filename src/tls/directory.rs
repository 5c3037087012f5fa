//! Reads directories of trusted certificates, such as `SSL_CERT_DIR` names. They may hold any files.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{
    file::{MAX_FILE, TOO_LARGE, content},
    text::io_cause,
};

/// How much memory the certificates of all directories may take, in bytes. A system's take a twentieth of it.
const MAX_TOGETHER: usize = 4 << 20;
/// What a certificate takes besides its own bytes.
const OVERHEAD: usize = 128;

/// What directories hold. A certificate may be in several files, and a file may have several names.
#[derive(Debug, Default)]
pub(super) struct Found {
    certificates: BTreeSet<Vec<u8>>,
    /// How much memory they take, in bytes.
    size: usize,
    seen: BTreeSet<(u64, u64)>,
    /// How many files or certificates could not be read.
    pub(super) broken: usize,
    /// Why the first of them could not be read.
    pub(super) first_error: Option<String>,
}

/// The certificates are too many.
#[derive(Debug)]
pub(super) struct TooMany;

impl Found {
    /// Adds the certificates in the files of a directory.
    ///
    /// # Errors
    /// They are too many.
    pub(super) fn read(&mut self, directory: &Path) -> Result<(), TooMany> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                self.note(&directory.display(), &io_cause(&error));
                return Ok(());
            }
        };
        for entry in entries {
            match entry.map(|entry| entry.path()) {
                Ok(path) => self.read_file(&path)?,
                Err(error) => self.note(&directory.display(), &io_cause(&error)),
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &PathBuf) -> Result<(), TooMany> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // A link to a file that is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.note(&path.display(), &io_cause(&error));
                return Ok(());
            }
        };
        if !metadata.is_file() || !self.is_new(&metadata) {
            return Ok(());
        }
        if metadata.len() > MAX_FILE {
            self.note(&path.display(), TOO_LARGE);
            return Ok(());
        }
        let content = match content(path, Some(&metadata)) {
            Ok(content) => content,
            Err(error) => {
                self.note(&path.display(), &io_cause(&error));
                return Ok(());
            }
        };
        for certificate in CertificateDer::pem_slice_iter(&content) {
            match certificate {
                Ok(certificate) => {
                    let size = certificate.len() + OVERHEAD;
                    if self.certificates.insert(certificate.to_vec()) {
                        self.size += size;
                    }
                }
                Err(error) => self.note(&path.display(), &format!("its PEM is broken ({error})")),
            }
            if self.size > MAX_TOGETHER {
                return Err(TooMany);
            }
        }
        Ok(())
    }

    /// Whether the file has not been read yet by another name.
    fn is_new(&mut self, metadata: &fs::Metadata) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            self.seen.insert((metadata.dev(), metadata.ino()))
        }
        #[cfg(not(unix))]
        {
            let _ = (metadata, &self.seen);
            true
        }
    }

    fn note(&mut self, what: &dyn std::fmt::Display, cause: &str) {
        self.broken += 1;
        self.first_error.get_or_insert_with(|| format!("{what}: {cause}"));
    }

    pub(super) fn certificates(&mut self) -> impl Iterator<Item = CertificateDer<'static>> {
        std::mem::take(&mut self.certificates).into_iter().map(CertificateDer::from)
    }
}
