//! What there is to probe.

use std::fs;

use anyhow::{Context, Result};

use crate::workshop::{Server, Workshop};

/// Something to probe, for as long as this lives.
pub struct Scenario {
    pub addr: String,
    /// What every probe is told besides the address.
    pub flags: Vec<String>,
    pub ssl_cert_file: Option<String>,
    pub is_healthy: bool,
    _server: Option<Server>,
}

/// An empty directory.
pub const NO_CERTIFICATES: &str = "no-certificates";

type SetUp = fn(&Workshop) -> Result<Scenario>;

/// The only scenario that the floor is made for.
pub const PLAINTEXT: &str = "plaintext";

pub const SCENARIOS: [(&str, SetUp); 6] = [
    (PLAINTEXT, plaintext),
    ("tls", tls),
    ("mtls", mutual_tls),
    ("system-roots", system_roots),
    ("unix", unix_socket),
    ("refused", |_| Ok(refused())),
];

impl Scenario {
    fn healthy(server: Server, flags: &[String]) -> Self {
        let addr = server.address.clone();
        Self { addr, flags: flags.to_vec(), ssl_cert_file: None, is_healthy: true, _server: Some(server) }
    }
}

fn plaintext(workshop: &Workshop) -> Result<Scenario> {
    Ok(Scenario::healthy(workshop.serve(&[])?, &[]))
}

fn tls(workshop: &Workshop) -> Result<Scenario> {
    let server = workshop.serve_tls("server.pem", "server.key", &[])?;
    Ok(Scenario::healthy(server, &["-tls".to_owned(), format!("-tls-ca-cert={}", workshop.file("ca.pem"))]))
}

fn mutual_tls(workshop: &Workshop) -> Result<Scenario> {
    let ca = workshop.file("ca.pem");
    let server = workshop.serve_tls("server.pem", "server.key", &["--client-ca", &ca])?;
    let flags = [
        "-tls".to_owned(),
        format!("-tls-ca-cert={ca}"),
        format!("-tls-client-cert={}", workshop.file("client.pem")),
        format!("-tls-client-key={}", workshop.file("client.key")),
    ];
    Ok(Scenario::healthy(server, &flags))
}

/// The CAs that this system trusts, and ours after them.
fn system_roots(workshop: &Workshop) -> Result<Scenario> {
    const PLACES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let system = PLACES.iter().find_map(|place| fs::read(place).ok()).context("this system has no bundle of CAs")?;
    let bundle = workshop.file("system-and-ours.pem");
    fs::create_dir_all(workshop.file(NO_CERTIFICATES))?;
    fs::write(&bundle, [system, fs::read(workshop.file("ca.pem"))?].concat())?;
    let server = workshop.serve_tls("server.pem", "server.key", &[])?;
    Ok(Scenario { ssl_cert_file: Some(bundle), ..Scenario::healthy(server, &["-tls".to_owned()]) })
}

fn unix_socket(workshop: &Workshop) -> Result<Scenario> {
    Ok(Scenario::healthy(workshop.serve(&["--unix", &workshop.file("health.sock")])?, &[]))
}

/// Not on a port that was free a moment ago: the system could give that one to the probe, which would then reach itself.
fn refused() -> Scenario {
    Scenario {
        addr: "127.0.0.1:1".to_owned(),
        flags: Vec::new(),
        ssl_cert_file: None,
        is_healthy: false,
        _server: None,
    }
}
