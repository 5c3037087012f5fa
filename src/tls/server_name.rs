//! The names that a certificate is valid for. webpki compares them, but takes no name with a dot at its end from a
//! certificate; such a name is absolute, as every name in a certificate is.

use rustls::{CertificateError, client::verify_server_name, server::ParsedCertificate};
use rustls_pki_types::{CertificateDer, ServerName};
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Verifies that a certificate is valid for the name of the server.
///
/// # Errors
/// It is not.
pub(super) fn verify(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), rustls::Error> {
    match verify_server_name(&ParsedCertificate::try_from(certificate)?, name) {
        Err(rustls::Error::InvalidCertificate(error)) if is_absolute_name(&error, certificate, name) => Ok(()),
        verified => verified,
    }
}

/// Whether a certificate was refused for its names only, and has the server's name with a dot at the end.
fn is_absolute_name(error: &CertificateError, certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) = error else {
        return false;
    };
    let ServerName::DnsName(name) = name else { return false };
    let name = name.as_ref();
    let name = name.strip_suffix('.').unwrap_or(name);
    let Ok(certificate) = Certificate::from_der(certificate) else { return false };
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate().get_extension() else { return false };
    names.iter().any(|presented| match presented {
        GeneralName::DnsName(presented) => {
            presented.as_str().strip_suffix('.').is_some_and(|presented| presented.eq_ignore_ascii_case(name))
        }
        _ => false,
    })
}
