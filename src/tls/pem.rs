//! Parses certificate and key files in PEM (RFC 7468). A failure says what the file contains instead.

use std::{fmt, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{
    file::{Reader, name},
    outcome::{Failure, Kind},
    text::excerpt,
};

/// The content of a user's file. It may contain a private key.
pub(crate) struct PemFile {
    /// The flag and the path, for messages.
    name: String,
    path: String,
    content: Vec<u8>,
}

impl fmt::Debug for PemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemFile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PemFile {
    /// Reads the file that `flag` names.
    ///
    /// # Errors
    /// `file-unreadable`.
    pub(crate) fn read(reader: &Reader, flag: &str, path: &Path) -> Result<Self, Failure> {
        let content = reader.read(flag, path)?;
        Ok(Self { name: name(flag, path), path: excerpt(&path.display().to_string()), content })
    }

    /// A file with this content.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of(content: &[u8]) -> Self {
        Self { name: "-flag=path".to_owned(), path: "path".to_owned(), content: content.to_vec() }
    }

    /// All certificates of the file that can be read, and how many could not.
    ///
    /// # Errors
    /// `certificate-invalid`: there is none.
    pub(crate) fn certificates(&self) -> Result<(Vec<CertificateDer<'static>>, usize), Failure> {
        let mut certificates = Vec::new();
        let mut broken = 0;
        for certificate in CertificateDer::pem_slice_iter(&self.content) {
            match certificate {
                Ok(certificate) => certificates.push(certificate),
                Err(_) => broken += 1,
            }
        }
        if certificates.is_empty() { Err(self.holds_no_certificate(broken > 0)) } else { Ok((certificates, broken)) }
    }

    /// Whether any certificate of the file is `usable`. The file is parsed only up to that one.
    ///
    /// # Errors
    /// `certificate-invalid`: none is.
    pub(crate) fn has_certificate(&self, usable: impl Fn(&CertificateDer<'_>) -> bool) -> Result<(), Failure> {
        let mut certificates = CertificateDer::pem_slice_iter(&self.content).peekable();
        let is_broken = certificates.peek().is_some();
        let is_there = certificates.filter_map(Result::ok).any(|certificate| usable(&certificate));
        if is_there { Ok(()) } else { Err(self.holds_no_certificate(is_broken)) }
    }

    /// The certificates that are `wanted`, usually a few of many. Parsing a whole bundle takes longer than the rest of a probe,
    /// so the others are only decoded, and not in constant time (which only keys need).
    pub(crate) fn certificates_where(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<CertificateDer<'static>> {
        let mut found = Vec::new();
        let (mut offset, mut begin, mut base64) = (0, None, Vec::new());
        for line in self.content.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            if line.starts_with(b"-----BEGIN ") {
                begin.get_or_insert(offset);
            } else if line.starts_with(b"-----END ") {
                // The full parser handles sections that are not plain base64.
                if STANDARD.decode(&base64).map_or(true, |der| wanted(&der)) {
                    let section = &self.content[begin.unwrap_or(offset)..offset + line.len()];
                    found.extend(CertificateDer::pem_slice_iter(section).filter_map(Result::ok));
                }
                begin = None;
                base64.clear();
            } else if begin.is_some() {
                base64.extend_from_slice(line.trim_ascii());
            }
            offset += line.len();
        }
        found
    }

    fn holds_no_certificate(&self, is_broken: bool) -> Failure {
        let failure = |cause: &str| {
            Failure::new(Kind::CertificateInvalid, format!("{} holds no certificate: {cause}", self.name))
        };
        if self.content.is_empty() {
            failure("it is empty")
        } else if self.looks_like_der() {
            failure("it looks like DER, not PEM")
                .hint(format!("openssl x509 -inform der -in {} -out certificate.pem", self.path))
        } else if is_broken {
            failure("its PEM is broken")
        } else {
            match self.labels().as_slice() {
                [] => failure("it is not PEM"),
                labels if labels.iter().any(|label| label.ends_with("PRIVATE KEY")) => {
                    failure("it holds a private key").hint("are the certificate and the key swapped?")
                }
                labels => failure(&format!("it holds {}", labels.join(", "))),
            }
        }
    }

    /// The file's first private key.
    ///
    /// # Errors
    /// `key-encrypted`, or `key-invalid`: there is none, or in another form.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, Failure> {
        let labels = self.labels();
        let has = |label: &str| labels.iter().any(|has| has == label);
        let encrypted_the_old_way =
            self.lines().any(|line| line.starts_with("Proc-Type:") && line.contains("ENCRYPTED"));
        if encrypted_the_old_way || (has("ENCRYPTED PRIVATE KEY") && !has("PRIVATE KEY")) {
            let message =
                format!("the private key in {} is encrypted, and a probe cannot ask for the password", self.name);
            return Err(
                Failure::new(Kind::KeyEncrypted, message).hint(format!("openssl pkey -in {} -out key.pem", self.path))
            );
        }
        let error = match PrivateKeyDer::from_pem_slice(&self.content) {
            Ok(key) => return Ok(key),
            Err(error) => error,
        };
        let failure =
            |cause: &str| Failure::new(Kind::KeyInvalid, format!("{} holds no usable private key: {cause}", self.name));
        Err(if self.content.is_empty() {
            failure("it is empty")
        } else if self.looks_like_der() {
            failure("it looks like DER, not PEM")
                .hint(format!("openssl pkey -inform der -in {} -out key.pem", self.path))
        } else if has("OPENSSH PRIVATE KEY") {
            failure("it holds an OPENSSH PRIVATE KEY").hint(format!("ssh-keygen -p -m PKCS8 -f {}", self.path))
        } else if labels.iter().any(|label| label.ends_with("PRIVATE KEY")) {
            failure(&format!("its PEM is broken ({error})"))
        } else if has("CERTIFICATE") {
            failure("it holds a certificate").hint("are the certificate and the key swapped?")
        } else if labels.is_empty() {
            failure("it is not PEM")
        } else {
            failure(&format!("it holds {}", labels.join(", ")))
        })
    }

    /// The flag and the path, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// DER begins with a SEQUENCE of a length in the long form.
    fn looks_like_der(&self) -> bool {
        matches!(self.content.as_slice(), [0x30, 0x81..=0x84, ..])
    }

    /// The labels of the file's PEM sections.
    fn labels(&self) -> Vec<String> {
        const SHOWN: usize = 4;
        let label = |line: &str| Some(line.strip_prefix("-----BEGIN ")?.trim_end().strip_suffix("-----")?.to_owned());
        self.lines().filter_map(|line| label(&line)).take(SHOWN).collect()
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        self.content.split(|byte| matches!(byte, b'\n' | b'\r')).map(|line| String::from_utf8_lossy(line).into_owned())
    }
}
