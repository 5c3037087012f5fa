//! Reads certificates (RFC 5280): subject and names, issuer, validity, permitted uses.

use std::{net::IpAddr, time::Duration};

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_cert::{
    Version,
    certificate::{CertificateInner, Raw},
    der::{self, DateTime, Decode, Encode, Reader, SliceReader, asn1::UintRef, oid::ObjectIdentifier},
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, name::GeneralName},
    name::Name,
    spki::SubjectPublicKeyInfoOwned,
};

/// rsaEncryption.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// id-kp-serverAuth and anyExtendedKeyUsage.
pub(super) const SERVER_PURPOSES: [ObjectIdentifier; 2] =
    [ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"), ObjectIdentifier::new_unwrap("2.5.29.37.0")];

/// A certificate with any serial number: public CAs have some that RFC 5280 does not allow.
type Certificate = CertificateInner<Raw>;

/// The readable part of a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    /// As RFC 4514 writes names: `CN=api,O=Corp`.
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// DNS names, addresses, URIs and e-mail addresses of the subject.
    pub(crate) names: Vec<String>,
    /// Those among them that servers are verified by.
    pub(crate) server_names: Vec<String>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    /// Whether its extended key usages allow servers to use it.
    pub(crate) is_for_servers: bool,
    /// Whether it is a CA's. A certificate of version 1 cannot say so, and counts as one if it names itself as its issuer.
    pub(crate) is_authority: bool,
    /// Whether its key usages allow its key to sign certificates.
    pub(crate) signs_certificates: bool,
    /// How many intermediate CAs may follow it in a chain, if that is limited.
    pub(crate) path_length: Option<u8>,
    /// The size of its key, if that is an RSA key.
    pub(crate) rsa_bits: Option<usize>,
}

/// Reads a certificate. `None` if it cannot be parsed.
pub(crate) fn describe(certificate: &CertificateDer<'_>) -> Option<Description> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let certificate = certificate.tbs_certificate();
    let names = match certificate.get_extension::<SubjectAltName>() {
        Ok(Some((_, SubjectAltName(names)))) => names,
        _ => Vec::new(),
    };
    let constraints = certificate.get_extension::<BasicConstraints>().ok()?.map(|(_, constraints)| constraints);
    let is_version_1_root = certificate.version() == Version::V1 && certificate.subject() == certificate.issuer();
    let uses = certificate.get_extension::<KeyUsage>().ok()?;
    let purposes = certificate.get_extension::<ExtendedKeyUsage>().ok()?;
    let validity = certificate.validity();
    Some(Description {
        subject: or_no_name(certificate.subject().to_string()),
        issuer: or_no_name(certificate.issuer().to_string()),
        names: names.iter().filter_map(text_of).collect(),
        server_names: names.iter().filter(|name| is_server_name(name)).filter_map(text_of).collect(),
        not_before: UnixTime::since_unix_epoch(validity.not_before.to_unix_duration()),
        not_after: UnixTime::since_unix_epoch(validity.not_after.to_unix_duration()),
        is_for_servers: purposes
            .is_none_or(|(_, ExtendedKeyUsage(purposes))| purposes.iter().any(|id| SERVER_PURPOSES.contains(id))),
        is_authority: is_version_1_root || constraints.as_ref().is_some_and(|constraints| constraints.ca),
        signs_certificates: uses.is_none_or(|(_, uses)| uses.key_cert_sign()),
        path_length: constraints.and_then(|constraints| constraints.path_len_constraint),
        rsa_bits: rsa_bits(certificate.subject_public_key_info()),
    })
}

/// Whether a certificate is for this public key, in DER. `None` if the certificate cannot be parsed.
pub(crate) fn is_for_key(certificate: &CertificateDer<'_>, key: &[u8]) -> Option<bool> {
    let certificate = Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate().subject_public_key_info().to_der().ok()? == key)
}

/// The size of an RSA key (RFC 8017, appendix A.1.1).
fn rsa_bits(key: &SubjectPublicKeyInfoOwned) -> Option<usize> {
    if key.algorithm.oid != RSA {
        return None;
    }
    let mut reader = SliceReader::new(key.subject_public_key.raw_bytes()).ok()?;
    let modulus: Result<usize, der::Error> = reader.sequence(|reader| {
        let modulus = UintRef::decode(reader)?;
        UintRef::decode(reader)?;
        let leading_zeros = modulus.as_bytes().first().map_or(0, |byte| byte.leading_zeros() as usize);
        Ok(modulus.as_bytes().len() * 8 - leading_zeros)
    });
    modulus.ok()
}

/// A distinguished name may be empty where there are alternative names.
fn or_no_name(name: String) -> String {
    if name.is_empty() { "(no name)".to_owned() } else { name }
}

/// Whether a server can be verified by this name: not by an address that is written as a DNS name.
fn is_server_name(name: &GeneralName) -> bool {
    match name {
        GeneralName::DnsName(name) => {
            matches!(ServerName::try_from(name.as_str().trim_start_matches("*.")), Ok(ServerName::DnsName(_)))
        }
        GeneralName::IpAddress(_) => true,
        _ => false,
    }
}

fn text_of(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) | GeneralName::UniformResourceIdentifier(name) | GeneralName::Rfc822Name(name) => {
            Some(name.to_string())
        }
        GeneralName::IpAddress(octets) => match *octets.as_bytes() {
            [a, b, c, d] => Some(IpAddr::from([a, b, c, d]).to_string()),
            ref octets => <[u8; 16]>::try_from(octets).ok().map(|octets| IpAddr::from(octets).to_string()),
        },
        _ => None,
    }
}

/// Whether a name in a certificate is meant as a SPIFFE ID.
pub(super) fn is_spiffe_id(name: &str) -> bool {
    name.starts_with("spiffe://")
}

/// A moment in RFC 3339, UTC.
pub(crate) fn date_time(time: UnixTime) -> String {
    // The calendar of certificates ends with the year 9999.
    DateTime::from_unix_duration(Duration::from_secs(time.as_secs()))
        .map_or_else(|_| "after 9999".to_owned(), |date| date.to_string())
}

/// The day of a moment, UTC.
pub(super) fn day(time: UnixTime) -> String {
    let date = date_time(time);
    date.split_once('T').map_or(date.clone(), |(day, _)| day.to_owned())
}

/// A distinguished name in DER, as RFC 4514 writes it.
pub(super) fn name_of(name: &[u8]) -> Option<String> {
    Some(Name::from_der(name).ok()?.to_string())
}

/// The time between two moments, in its largest unit: `3 days`.
pub(crate) fn span(from: UnixTime, to: UnixTime) -> String {
    let seconds = to.as_secs().abs_diff(from.as_secs());
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
