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

/// What a file can be instead of PEM.
enum Form {
    /// With the option that `openssl pkcs7` needs to read it.
    Pkcs7 {
        option: &'static str,
    },
    Pkcs12,
    /// PEM, encoded again.
    Base64,
    /// DER of something else.
    Der,
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
        } else if let Some(other) = self.other_form() {
            let Self { path, .. } = self;
            match other {
                Form::Pkcs7 { option } => failure("it is PKCS#7, not PEM of certificates")
                    .hint(format!("openssl pkcs7{option} -print_certs -in {path} -out certificate.pem")),
                Form::Pkcs12 => failure("it is PKCS#12, not PEM")
                    .hint(format!("openssl pkcs12 -in {path} -nokeys -out certificate.pem")),
                Form::Base64 => failure("it is PEM in base64 once more, as in a Secret's manifest")
                    .hint(format!("base64 -d {path} >certificate.pem")),
                Form::Der => failure("it looks like DER, not PEM")
                    .hint(format!("openssl x509 -inform der -in {path} -out certificate.pem")),
            }
        } else if is_broken {
            failure("its PEM is broken")
        } else {
            match self.labels().as_slice() {
                [] => failure("it is not PEM"),
                labels if labels.iter().any(|label| label.ends_with("PRIVATE KEY")) => {
                    let is_ours = self.name.starts_with("-tls-client-cert");
                    failure("it holds a private key").hint(if is_ours {
                        "are the certificate and the key swapped?"
                    } else {
                        "a CA's certificate is needed, not its key"
                    })
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
        } else if let Some(other) = self.other_form() {
            let Self { path, .. } = self;
            match other {
                Form::Pkcs7 { .. } => failure("it is PKCS#7, which holds no keys"),
                Form::Pkcs12 => failure("it is PKCS#12, not PEM")
                    .hint(format!("openssl pkcs12 -in {path} -nocerts -nodes -out key.pem")),
                Form::Base64 => failure("it is PEM in base64 once more, as in a Secret's manifest")
                    .hint(format!("base64 -d {path} >key.pem")),
                Form::Der => failure("it looks like DER, not PEM")
                    .hint(format!("openssl pkey -inform der -in {path} -out key.pem")),
            }
        } else if has("OPENSSH PRIVATE KEY") {
            failure("it holds an OPENSSH PRIVATE KEY").hint(self.out_of_openssh())
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

    /// The form that the file is in instead of PEM of certificates and keys, if that can be told.
    fn other_form(&self) -> Option<Form> {
        /// The object identifier of signedData (RFC 2315), in DER.
        const SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
        /// The version of a PFX (RFC 7292), in DER.
        const VERSION_3: &[u8] = b"\x02\x01\x03";

        if self.labels().iter().any(|label| label == "PKCS7" || label == "CMS") {
            return Some(Form::Pkcs7 { option: "" });
        }
        // DER begins with a SEQUENCE of a length in the long form, or as short as all that follows (a key of an elliptic curve).
        // BER may leave the length open.
        if let [0x30, length, rest @ ..] = self.content.as_slice()
            && (matches!(length, 0x80..=0x84) || usize::from(*length) == rest.len())
        {
            let inside = rest.get(usize::from(length & 0x7f)..).unwrap_or_default();
            return Some(if inside.starts_with(SIGNED_DATA) {
                Form::Pkcs7 { option: " -inform der" }
            } else if inside.starts_with(VERSION_3) {
                Form::Pkcs12
            } else {
                Form::Der
            });
        }
        let base64: Vec<u8> = self.content.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        STANDARD.decode(base64).is_ok_and(|decoded| decoded.starts_with(b"-----BEGIN ")).then_some(Form::Base64)
    }

    /// How to get a key out of OpenSSH's own form.
    fn out_of_openssh(&self) -> String {
        let base64: Vec<u8> = self.lines().filter(|line| !line.starts_with('-')).collect::<String>().into_bytes();
        let is_ed25519 = STANDARD.decode(base64).is_ok_and(|key| key.windows(11).any(|part| part == b"ssh-ed25519"));
        if is_ed25519 {
            return "OpenSSH keeps Ed25519 keys in that form only; make a key with openssl genpkey -algorithm ed25519, and a certificate for it"
                .to_owned();
        }
        let path = &self.path;
        format!("ssh-keygen rewrites a file in place: cp {path} key.pem && ssh-keygen -p -m PKCS8 -f key.pem")
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
