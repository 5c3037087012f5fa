//! The rest of the repository matches the program: docker/ and the changelog have its version, the man page its variables,
//! Envoy's configuration the protocol. (README and docs: see docs.rs.)

use std::fs;

use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::support::probe::Probe;

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect("it is in the repository")
}

/// The probe's variables in a text. That they are read is tested beside the help.
pub fn variables(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_uppercase() && c != '_')
        .filter(|word| word.starts_with("GRPC_HEALTH_PROBE_") && !word.ends_with('_'))
        .collect()
}

#[test]
fn the_man_page_has_the_variable_of_every_flag() {
    let help = Probe::new(["-help"]).run().stdout;
    let flags = help.lines().filter_map(|line| line.strip_prefix("  -")?.split_whitespace().next());
    let flags = flags.filter(|flag| !matches!(*flag, "help" | "version"));
    let expected: Vec<String> =
        flags.map(|flag| format!("GRPC_HEALTH_PROBE_{}", flag.to_uppercase().replace('-', "_"))).collect();
    let page = read("docs/man/grpc_health_probe.1");
    assert_eq!(variables(&page), expected);
}

#[test]
fn dockerfile_has_the_package_version() {
    let version = format!("\nARG VERSION={}\n", env!("CARGO_PKG_VERSION"));
    assert!(read("docker/Dockerfile").contains(&version), "docker/Dockerfile has not{version}");
}

#[test]
fn changelog_has_the_package_version() {
    let changelog = read("CHANGELOG.md");
    let mut sections = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    assert_eq!(sections.next(), Some("[Unreleased]"), "the changelog begins with the unreleased changes");
    // Before the first release there is no other.
    if let Some(newest) = sections.next() {
        let version = concat!("[", env!("CARGO_PKG_VERSION"), "] - ");
        assert!(newest.starts_with(version), "CHANGELOG.md has {newest}, not {version}");
    }
}

#[test]
fn envoy_config_has_the_descriptor_of_the_health_service() {
    let envoy = read("docker/envoy.yaml");
    let base64 = envoy.split("proto_descriptor_bin: \"").nth(1).and_then(|rest| rest.split('"').next());
    let base64 = base64.expect("the descriptor is there").replace(['\\', '\n', ' '], "");
    // A PEM file is base64 between two lines, whatever the bytes are.
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    let descriptor = CertificateDer::from_pem_slice(pem.as_bytes()).expect("it is base64");
    assert_eq!(&descriptor[..], tonic_health::pb::FILE_DESCRIPTOR_SET);
}

#[test]
fn every_file_of_tests_is_built() {
    let main = read("tests/blackbox/main.rs");
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/blackbox");
    for file in fs::read_dir(directory).expect("it is in the repository") {
        let path = file.expect("it can be read").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("its name is UTF-8");
        assert!(name == "main" || main.contains(&format!("mod {name};\n")), "{name} is not in main.rs");
    }
}
