//! Certificates to try TLS with.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The file that is written last: if it exists, all do.
pub const LAST: &str = "ca.pem";

/// Writes a new CA (`ca.pem`), and a server certificate for these names and a client certificate, with their keys
/// (`server.pem`, `server.key`, `client.pem`, `client.key`). The server certificate expires after `valid_for`.
pub fn write(directory: &Path, server_names: &[String], valid_for: Duration) -> Result<()> {
    let mut ca = CertificateParams::new([])?;
    ca.distinguished_name.push(DnType::CommonName, "Example CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let mut server = CertificateParams::new(server_names)?;
    server.not_after = (SystemTime::now() + valid_for).into();
    let client = CertificateParams::new(["grpc-health-probe".to_owned()])?;
    for (file, mut params) in [("server", server), ("client", client)] {
        let key = KeyPair::generate()?;
        params.distinguished_name.push(DnType::CommonName, format!("Example {file}"));
        let certificate = params.signed_by(&key, &ca)?;
        fs::write(directory.join(file).with_extension("pem"), certificate.pem())?;
        write_key(&directory.join(file).with_extension("key"), &key.serialize_pem())?;
    }
    fs::write(directory.join(LAST), ca.pem())?;
    Ok(())
}

/// Writes a private key that only its owner can read.
fn write_key(path: &Path, pem: &str) -> io::Result<()> {
    // An existing file would keep its mode, and another process may have it open.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(path)?.write_all(pem.as_bytes())
}
