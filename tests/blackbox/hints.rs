//! Follows the hints that name a flag or a command: each must lead on.

use std::process::Command;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType};

use crate::support::{
    needs,
    pki::{Authority, Files, Leaf},
    probe::{Probe, RunResult},
    server,
};

/// The hint of a failure that begins with this line.
#[track_caller]
fn hint(ran: &RunResult, line: &str) -> String {
    assert_eq!(ran.stderr.lines().next(), Some(format!("error: {line}").as_str()), "{ran}");
    let hint = ran.stderr.lines().find_map(|line| line.strip_prefix("hint: "));
    hint.unwrap_or_else(|| panic!("no hint{ran}")).to_owned()
}

#[track_caller]
fn run(files: &Files, command: &str) {
    let output =
        Command::new("sh").args(["-c", command]).current_dir(files.path("")).output().expect("sh is installed");
    assert!(output.status.success(), "{command}: {output:?}");
}

/// An mTLS server, and the files of its client.
struct Mtls {
    files: Files,
    server: server::Server,
}

impl Mtls {
    fn new() -> Self {
        let files = Files::new();
        let authority = Authority::new("Test CA");
        let leaf = authority.client();
        let server = server::mtls(&authority.server(&["127.0.0.1"]), &authority);
        files.write("ca.pem", &authority.pem);
        files.write("ca.key", authority.key_pem());
        files.write("client.pem", &leaf.pem);
        files.write("client.key", &leaf.key_pem);
        Self { files, server }
    }

    fn probe(&self, ca: &str, certificate: &str, key: &str) -> RunResult {
        let path = |flag: &str, name: &str| format!("-tls-{flag}={}", self.files.path(name).display());
        let [ca, certificate, key] = [path("ca-cert", ca), path("client-cert", certificate), path("client-key", key)];
        Probe::new([&self.server.addr(), "-tls", &ca, &certificate, &key]).run()
    }

    /// Makes `name` with `make`, expects the probe to refuse it for `cause`, follows the hint, and probes with what that makes.
    #[track_caller]
    fn follow(&self, [make, name]: [&str; 2], flag: &str, cause: &str) {
        run(&self.files, make);
        let path = self.files.path(name);
        let holds = if flag == "client-key" { "usable private key" } else { "certificate" };
        let line = format!("-tls-{flag}={} holds no {holds}: {cause}", path.display());
        let with = |made: &str| match flag {
            "ca-cert" => self.probe(made, "client.pem", "client.key"),
            "client-cert" => self.probe("ca.pem", made, "client.key"),
            _ => self.probe("ca.pem", "client.pem", made),
        };
        let command = hint(&with(name), &line);
        assert!(command.contains(path.to_str().expect("it is UTF-8")), "{command}");
        run(&self.files, &command);
        let result = if command.contains("certificate.pem") { "certificate.pem" } else { "key.pem" };
        with(result).expect_healthy();
        run(&self.files, &format!("rm {result}"));
    }
}

#[test]
fn commands_that_turn_files_into_pem() {
    let mtls = Mtls::new();
    let der = "it looks like DER, not PEM";
    mtls.follow(["openssl x509 -in ca.pem -outform der -out ca.der", "ca.der"], "ca-cert", der);
    mtls.follow(["openssl x509 -in client.pem -outform der -out client.der", "client.der"], "client-cert", der);
    mtls.follow(["openssl pkey -in client.key -outform der -out key.der", "key.der"], "client-key", der);

    let pkcs7 = "it is PKCS#7, not PEM of certificates";
    let make = "openssl crl2pkcs7 -nocrl -certfile ca.pem";
    mtls.follow([&format!("{make} -out ca.p7b"), "ca.p7b"], "ca-cert", pkcs7);
    mtls.follow([&format!("{make} -outform der -out ca.p7c"), "ca.p7c"], "ca-cert", pkcs7);

    let pkcs12 = "it is PKCS#12, not PEM";
    let make = "openssl pkcs12 -export -in client.pem -inkey client.key -passout pass: -out client.p12";
    // The command asks for the password.
    run(&mtls.files, make);
    let path = mtls.files.path("client.p12");
    let line = |flag: &str, holds: &str| format!("-tls-{flag}={} holds no {holds}: {pkcs12}", path.display());
    let ran = mtls.probe("ca.pem", "client.p12", "client.key");
    run(&mtls.files, &(hint(&ran, &line("client-cert", "certificate")) + " -passin pass:"));
    let ran = mtls.probe("ca.pem", "certificate.pem", "client.p12");
    run(&mtls.files, &(hint(&ran, &line("client-key", "usable private key")) + " -passin pass:"));
    mtls.probe("ca.pem", "certificate.pem", "key.pem").expect_healthy();

    let base64 = "it is PEM in base64 once more, as in a Secret's manifest";
    mtls.follow(["base64 ca.pem >ca.b64", "ca.b64"], "ca-cert", base64);
    mtls.follow(["base64 -w0 client.key >key.b64", "key.b64"], "client-key", base64);
}

#[test]
fn other_files_are_named() {
    let mtls = Mtls::new();
    let path = |name: &str| mtls.files.path(name).display().to_string();
    let ran = mtls.probe("ca.key", "client.pem", "client.key");
    let line = format!("-tls-ca-cert={} holds no certificate: it holds a private key", path("ca.key"));
    assert_eq!(hint(&ran, &line), "a CA's certificate is needed, not its key");
    let ran = mtls.probe("ca.pem", "client.key", "client.pem");
    let line = format!("-tls-client-cert={} holds no certificate: it holds a private key", path("client.key"));
    assert_eq!(hint(&ran, &line), "are the certificate and the key swapped?");
}

#[test]
fn keys_of_openssh_are_rewritten() {
    let Some(()) = needs::ssh_keygen() else { return };
    let mtls = Mtls::new();
    let path = |name: &str| mtls.files.path(name).display().to_string();
    let openssh = |kind: &str| {
        run(&mtls.files, &format!("ssh-keygen -q -N '' -t {kind} -f {kind}"));
        let line =
            format!("-tls-client-key={} holds no usable private key: it holds an OPENSSH PRIVATE KEY", path(kind));
        hint(&mtls.probe("ca.pem", "client.pem", kind), &line)
    };
    assert_eq!(
        openssh("ed25519"),
        "OpenSSH keeps Ed25519 keys in that form only; make a key with openssl genpkey -algorithm ed25519, and a certificate for it"
    );
    let command = openssh("ecdsa");
    let command = command.strip_prefix("ssh-keygen rewrites a file in place: ").expect("the hint is a command");
    run(&mtls.files, &(command.to_owned() + " -q -N ''"));
    let line = format!("{} is not the key of {}", path("key.pem"), path("client.pem"));
    let ran = mtls.probe("ca.pem", "client.pem", "key.pem");
    assert!(ran.stderr.contains(&line.replace(&path("client.pem"), "")), "{ran}");
}

/// A server with these names, and what says that it is trusted.
fn server_with_names(names: &[&str], more: Vec<SanType>) -> (server::Server, Files, String) {
    let (files, authority) = (Files::new(), Authority::new("Test CA"));
    let leaf: Leaf = authority.issue(names, &PKCS_ECDSA_P256_SHA256, |params| params.subject_alt_names.extend(more));
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
    (server::tls(&leaf), files, ca)
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("it is ASCII"))
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().expect("it is ASCII"))
}

#[test]
fn a_name_that_the_certificate_is_valid_for() {
    let email = SanType::Rfc822Name("ops@example.test".try_into().expect("it is ASCII"));
    for (more, cause, expected) in [
        (
            vec![dns("127.0.0.1")],
            "the certificate has 127.0.0.1 as a DNS name, not as an IP address",
            "issue it with the subject alternative name IP:127.0.0.1",
        ),
        // The hint names what -tls-server-name can use.
        (
            vec![uri("https://x.test/"), dns("10.0.0.1"), dns("*.x.test"), dns("api.x.test")],
            "the certificate is valid for https://x.test/, 10.0.0.1, *.x.test and api.x.test, not for 127.0.0.1",
            "use -tls-server-name=api.x.test",
        ),
        (
            vec![dns("*.x.test")],
            "the certificate is valid for *.x.test, not for 127.0.0.1",
            "use -tls-server-name with a name that it is valid for",
        ),
        (
            vec![uri("https://x.test/")],
            "the certificate is valid for https://x.test/, not for 127.0.0.1",
            "issue it with a DNS name or an IP address; nothing else names a server",
        ),
        (
            vec![email],
            "the certificate is valid for ops@example.test, not for 127.0.0.1",
            "issue it with a DNS name or an IP address; nothing else names a server",
        ),
        (
            vec![uri("spiffe://example.test/api")],
            "the certificate is valid for spiffe://example.test/api, not for 127.0.0.1",
            "the server has a SPIFFE ID instead of a name: use -spiffe instead of -tls",
        ),
    ] {
        let (server, _files, ca) = server_with_names(&[], more);
        let ran = Probe::new([&server.addr(), "-tls", &ca]).run();
        let found = hint(&ran, &format!("TLS handshake with {} failed: {cause}", server.address));
        assert_eq!(found, expected, "{ran}");
        if let Some(flag) = found.strip_prefix("use ").filter(|flag| flag.contains('=')) {
            Probe::new([&server.addr(), "-tls", &ca, flag]).run().expect_healthy();
        }
    }
}

#[test]
fn a_certificate_without_a_subject() {
    let (authority, files) = (Authority::new("Test CA"), Files::new());
    let leaf = authority.issue(&["127.0.0.1"], &PKCS_ED25519, |_| ());
    let other = files.write("other.pem", &Authority::new("Other CA").pem);
    let self_signed = {
        let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).expect("the name is valid");
        params.distinguished_name = rcgen::DistinguishedName::new();
        let key = rcgen::KeyPair::generate().expect("keys can be generated");
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        Leaf {
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            chain: vec![certificate.der().clone()],
            key: key.into(),
        }
    };
    for (leaf, cause) in [
        (leaf, "the certificate was issued by CN=Test CA, which is not a trusted CA in -tls-ca-cert"),
        (
            self_signed,
            "the certificate of (no name) is self-signed and not among the trusted certificates in -tls-ca-cert",
        ),
    ] {
        let server = server::tls(&leaf);
        let ran = Probe::new([&server.addr(), "-tls", &format!("-tls-ca-cert={other}")]).run();
        ran.expect_error(1, &format!("error: TLS handshake with {} failed: {cause}", server.address));
    }
}
