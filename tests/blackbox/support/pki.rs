//! Certificates and keys, generated for each test.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SignatureAlgorithm, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;

/// A temporary directory of a test.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary directory can be created"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("the directory is writable");
        text(&path)
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

/// A certificate authority.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
    chain: Vec<CertificateDer<'static>>,
}

/// A certificate with its key and its intermediate certificates.
pub struct Leaf {
    /// The certificate, then its chain.
    pub pem: String,
    /// PKCS#8.
    pub key_pem: String,
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Authority {
    pub fn new(common_name: &str) -> Self {
        Self::with(common_name, |_| ())
    }

    /// An authority whose parameters `change` may modify.
    pub fn with(common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().expect("keys can be generated");
        let mut params = authority_params(common_name);
        change(&mut params);
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key), chain: Vec::new() }
    }

    /// Its private key, in PKCS#8.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// An authority that expired on 2021-02-03.
    pub fn expired(common_name: &str) -> Self {
        Self::with(common_name, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 2, 3);
        })
    }

    /// A certificate for the same name and key, with anything changed that a test wants changed.
    pub fn renewed(&self, common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = authority_params(common_name);
        change(&mut params);
        params.self_signed(self.issuer.key()).expect("the parameters are valid").pem()
    }

    /// An authority below this one; its leaves bring its certificate along.
    pub fn intermediate(&self, common_name: &str) -> Self {
        self.intermediate_with(common_name, |_| ())
    }

    /// The same, with anything changed that a test wants changed.
    pub fn intermediate_with(&self, common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = authority_params(common_name);
        change(&mut params);
        self.below(params)
    }

    /// An issuer whose certificate is not that of a CA.
    pub fn impostor(&self, common_name: &str) -> Self {
        self.below(params(common_name))
    }

    fn below(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().expect("keys can be generated");
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are valid");
        let chain = [vec![certificate.der().clone()], self.chain.clone()].concat();
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key), chain }
    }

    /// A certificate for a server with these names.
    pub fn server(&self, names: &[&str]) -> Leaf {
        self.issue(names, &rcgen::PKCS_ECDSA_P256_SHA256, |_| ())
    }

    /// A certificate for a client.
    pub fn client(&self) -> Leaf {
        self.issue(&[], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// A certificate for a client with this key, in PKCS#8.
    pub fn client_for(&self, key: &[u8]) -> Leaf {
        let key = KeyPair::try_from(key).expect("ring takes the key");
        let mut params = params("client");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are valid");
        Leaf::new([vec![certificate.der().clone()], self.chain.clone()].concat(), &key)
    }

    /// A certificate whose parameters `change` may modify.
    pub fn issue(
        &self,
        names: &[&str],
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .expect("the names are valid");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("client"));
        change(&mut params);
        let key = KeyPair::generate_for(algorithm).expect("keys can be generated");
        let certificate = params.signed_by(&key, &self.issuer).expect("the parameters are valid");
        Leaf::new([vec![certificate.der().clone()], self.chain.clone()].concat(), &key)
    }
}

impl Leaf {
    fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        let pem = chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
        let key_der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Self { pem, key_pem: key.serialize_pem(), chain, key: key_der }
    }

    /// A self-signed certificate, as a CA or not.
    pub fn self_signed(names: &[&str], is_ca: bool) -> Self {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .expect("the names are valid");
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().expect("keys can be generated");
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        Self::new(vec![certificate.der().clone()], &key)
    }
}

/// Encodes DER as PEM.
pub fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in der.chunks(3) {
        let bits = u32::from_be_bytes([0, group[0], *group.get(1).unwrap_or(&0), *group.get(2).unwrap_or(&0)]);
        for position in 0..4 {
            let is_padding = position > group.len();
            let index = bits >> (18 - 6 * position) & 63;
            text.push(if is_padding { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    let lines: Vec<String> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
