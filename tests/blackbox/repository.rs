//! The rest of the repository matches the program: README and docker/ name its flags, docker/ and the changelog its version,
//! Envoy's configuration the protocol.

use std::fs;

use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::support::probe::Probe;

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect("it is in the repository")
}

#[test]
fn readme_mentions_every_flag() {
    let readme = read("README.md");
    let help = Probe::new(["-help"]).run().stdout;
    let flags: Vec<&str> =
        help.lines().filter(|line| line.starts_with("  -")).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(flags.len() > 20, "the flags are found: {flags:?}");
    for flag in flags {
        assert!(readme.contains(flag), "{flag} is not in README.md");
    }
}

#[test]
fn health_checks_in_the_examples_are_valid() {
    let examples = ["app.Dockerfile", "compose.yaml", "compose.tls.yaml", "kubernetes.yaml"];
    let texts: String =
        examples.iter().map(|name| read(&format!("docker/{name}"))).chain([read("README.md")]).collect();
    let mut checks = 0;
    for line in texts.lines() {
        let Some((_, words)) = line.split_once("\"/grpc_health_probe\"") else { continue };
        let words = format!("[\"\"{}]", words.split(']').next().unwrap_or_default());
        let words: Vec<String> = serde_json::from_str(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
        // Health checks without arguments are configured by variables.
        let ran = Probe::new(words.iter().skip(1)).env("GRPC_HEALTH_PROBE_OUTPUT", "json").run();
        let is_configured_by_variables = words.len() == 1;
        assert!(
            is_configured_by_variables || ran.code == Some(0) || ran.json()["error"]["kind"] != "usage",
            "{line}\n{ran}"
        );
        checks += 1;
    }
    // Lists with a word in each line; there a variable has the address.
    for list in texts.split("- /grpc_health_probe\n").skip(1) {
        let flags: Vec<&str> = list.lines().map_while(|line| line.trim_start().strip_prefix("- ")).collect();
        let probe = Probe::new(&flags).env("GRPC_HEALTH_PROBE_OUTPUT", "json").env("GRPC_HEALTH_PROBE_ADDR", ":1");
        let ran = probe.run();
        assert_ne!(ran.json()["error"]["kind"], "usage", "{flags:?}\n{ran}");
        checks += 1;
    }
    assert!(checks > 8, "the health checks are found: {checks}");

    let known = read("docs/man/grpc_health_probe.1");
    let (known, used) = (variables(&known), variables(&texts));
    assert!(used.len() > 10, "the variables are found: {used:?}");
    for variable in used {
        assert!(known.contains(&variable), "{variable} is no variable of the probe");
    }
}

/// The probe's variables in a text. That they are read is tested beside the help.
fn variables(text: &str) -> Vec<&str> {
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
