//! The one rule for trust anchors and intermediates, wherever they come from. `openssl verify` says what it comes to.

use std::{fs, process::Command};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SerialNumber, date_time_ymd,
};

use crate::support::{
    pki::{Authority, Files, Leaf, pem},
    probe::{Probe, RunResult},
    server,
    workload::{Agent, Reply, TrustDomain},
};

/// A way to change a certificate.
type Change = fn(&mut CertificateParams);

const EXPIRED: Change = |params| {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 2, 3);
};
const NOT_YET_VALID: Change = |params| params.not_before = date_time_ymd(3000, 1, 1);
const NOT_A_CA: Change = |params| params.is_ca = IsCa::NoCa;
const EXPLICITLY_NOT_A_CA: Change = |params| params.is_ca = IsCa::ExplicitNoCa;
const SIGNS_CERTIFICATES: Change = |params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
const SIGNS_NO_CERTIFICATES: Change = |params| {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
};
const FOR_SERVERS: Change = |params| {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
};
const FOR_CLIENTS: Change = |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
const FOR_ANYTHING: Change = |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any];
const NO_CA_BELOW: Change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
const ONE_CA_BELOW: Change = |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
const FOR_OTHER_ADDRESSES: Change = |params| permit(params, [10, 0, 0, 0]);
const FOR_LOOPBACK: Change = |params| permit(params, [127, 0, 0, 0]);
/// Longer than RFC 5280, section 4.1.2.2, allows, and yet in use.
const LONG_SERIAL: Change = |params| params.serial_number = Some(SerialNumber::from_slice(&[7; 30]));
/// Key usages that are not a bit string.
const UNREADABLE: Change = |params| {
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![4, 1, 6])];
};

fn permit(params: &mut CertificateParams, network: [u8; 4]) {
    let subtree = GeneralSubtree::IpAddress(CidrSubnet::V4(network, [255, 0, 0, 0]));
    params.name_constraints = Some(NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: vec![] });
}

fn own(change: Change) -> Leaf {
    Authority::new("Issuer").issue(&["127.0.0.1"], &PKCS_ECDSA_P256_SHA256, change)
}

/// A certificate of version 1 for the root's name and key, self-signed, as very old roots are.
fn of_version_1(root: &Authority) -> String {
    let files = Files::new();
    let (key, request) = (files.write("key.pem", root.key_pem()), files.path("request.pem"));
    let request = request.to_str().expect("temporary paths are UTF-8");
    let openssl = |arguments: &[&str]| {
        let ran = Command::new("openssl").args(arguments).output().expect("openssl is there");
        assert!(ran.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("PEM is ASCII")
    };
    openssl(&["req", "-new", "-key", &key, "-subj", "/CN=Root", "-out", request]);
    openssl(&["x509", "-req", "-in", request, "-signkey", &key])
}

/// A server's certificate with its chain, what is trusted, and whether the server is.
struct Case {
    name: String,
    trusted: String,
    leaf: Leaf,
    is_trusted: bool,
}

fn case(name: &str, is_trusted: bool, trusted: &str, leaf: Leaf) -> Case {
    Case { name: name.to_owned(), trusted: trusted.to_owned(), leaf, is_trusted }
}

/// Chains about which OpenSSL and this rule agree.
fn cases() -> Vec<Case> {
    let leaf = |authority: &Authority| authority.server(&["127.0.0.1"]);
    let root = Authority::new("Root");
    let mut cases = Vec::new();
    for (name, is_trusted, change) in [
        ("plain", true, (|_| ()) as Change),
        ("expired", false, EXPIRED),
        ("not yet valid", false, NOT_YET_VALID),
        ("not a CA", false, NOT_A_CA),
        ("explicitly not a CA", false, EXPLICITLY_NOT_A_CA),
        ("with keyCertSign", true, SIGNS_CERTIFICATES),
        ("without keyCertSign", false, SIGNS_NO_CERTIFICATES),
        ("for servers", true, FOR_SERVERS),
        ("for clients", false, FOR_CLIENTS),
        ("with a path length of 0 that is kept", true, NO_CA_BELOW),
        ("for other addresses", false, FOR_OTHER_ADDRESSES),
        ("for this address", true, FOR_LOOPBACK),
        ("with a long serial number", true, LONG_SERIAL),
        ("unreadable", false, UNREADABLE),
    ] {
        let anchor = Authority::with("Anchor", change);
        cases.push(case(&format!("anchor {name}"), is_trusted, &anchor.pem, leaf(&anchor)));
        let between = root.intermediate_with("Intermediate", change);
        cases.push(case(&format!("intermediate {name}"), is_trusted, &root.pem, leaf(&between)));
        cases.push(case(&format!("pinned intermediate {name}"), is_trusted, &between.pem, leaf(&between)));
        let below = between.intermediate("Below");
        let is_kept = is_trusted && !name.contains("path length");
        cases.push(case(&format!("intermediate {name}, one below"), is_kept, &root.pem, leaf(&below)));
        let below = anchor.intermediate("Below");
        cases.push(case(&format!("anchor {name}, one below"), is_kept, &anchor.pem, leaf(&below)));
    }
    let limited = Authority::with("Limited", ONE_CA_BELOW);
    let first = limited.intermediate("First");
    let second = first.intermediate("Second");
    cases.push(case("path length of 1 that is kept", true, &limited.pem, leaf(&first)));
    cases.push(case("path length of 1 that is not kept", false, &limited.pem, leaf(&second)));

    cases.push(case("an anchor of version 1", true, &of_version_1(&root), leaf(&root)));
    let old = root.renewed("Root", EXPIRED);
    cases.push(case("expired and renewed", true, &format!("{old}{}", root.pem), leaf(&root)));
    cases.push(case("renewed and expired", true, &format!("{}{old}", root.pem), leaf(&root)));

    for (name, is_trusted, leaf) in [
        ("self-signed CA", true, Leaf::self_signed(&["127.0.0.1"], true)),
        ("self-signed", true, Leaf::self_signed(&["127.0.0.1"], false)),
        ("a CA's", true, own(|_| ())),
        ("explicitly not a CA", true, own(EXPLICITLY_NOT_A_CA)),
        ("for servers", true, own(FOR_SERVERS)),
        ("expired", false, own(EXPIRED)),
        ("not yet valid", false, own(NOT_YET_VALID)),
        ("for clients", false, own(FOR_CLIENTS)),
    ] {
        let trusted = pem("CERTIFICATE", &leaf.chain[0]);
        cases.push(case(&format!("the server's own, {name}"), is_trusted, &trusted, leaf));
    }
    let other = Leaf::self_signed(&["127.0.0.1"], false);
    cases.push(case("another's own", false, &other.pem, Leaf::self_signed(&["127.0.0.1"], false)));
    let server = root.impostor("Server");
    cases.push(case("issued by the key of a trusted server", false, &server.pem, leaf(&server)));
    cases.push(case("issued by the key of a server, its CA trusted", false, &root.pem, leaf(&server)));
    cases
}

/// Probes with the same certificates in a file, in the system's bundle, and in its directory.
fn probe_each_way(files: &Files, leaf: &Leaf, trusted: &str, more: &[&str]) -> [(&'static str, RunResult); 3] {
    let server = server::tls(leaf);
    let (addr, file) = (server.addr(), files.write("trusted.pem", trusted));
    let directory = files.path("directory");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).expect("the directory is ours");
    fs::copy(&file, directory.join("0a1b2c3d.0")).expect("the directory is ours");
    let flag = format!("-tls-ca-cert={file}");
    let probe = |flags: &[&str]| Probe::new([&[&*addr, "-tls"], flags, more].concat());
    [
        ("-tls-ca-cert", probe(&[&flag]).run()),
        ("SSL_CERT_FILE", probe(&[]).env("SSL_CERT_FILE", &file).run()),
        ("SSL_CERT_DIR", probe(&[]).env("SSL_CERT_DIR", &directory).run()),
    ]
}

/// What OpenSSL says of the chain.
fn openssl_accepts(files: &Files, leaf: &Leaf, trusted: &str) -> bool {
    let path = |name: &str, content: String| files.write(name, content);
    let sent: String = leaf.chain.iter().skip(1).map(|certificate| pem("CERTIFICATE", certificate)).collect();
    let mut command = Command::new("openssl");
    command.args(["verify", "-purpose", "sslserver", "-partial_chain", "-no-CApath", "-no-CAstore"]);
    command.args(["-verify_ip", "127.0.0.1", "-CAfile", &path("openssl-trusted.pem", trusted.to_owned())]);
    if !sent.is_empty() {
        command.args(["-untrusted", &path("openssl-sent.pem", sent)]);
    }
    command.arg(path("openssl-leaf.pem", pem("CERTIFICATE", &leaf.chain[0])));
    command.output().expect("openssl is there").status.success()
}

#[test]
fn a_chain_is_trusted_where_openssl_trusts_it() {
    let files = Files::new();
    let mut wrong = Vec::new();
    for Case { name, trusted, leaf, is_trusted } in cases() {
        if openssl_accepts(&files, &leaf, &trusted) != is_trusted {
            wrong.push(format!("openssl does not agree that {name} is trusted: {is_trusted}"));
        }
        for (source, ran) in probe_each_way(&files, &leaf, &trusted, &[]) {
            if (ran.code == Some(0)) != is_trusted || ![Some(0), Some(1)].contains(&ran.code) {
                wrong.push(format!("{name}, by {source}: {ran}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// OpenSSL asks for serverAuth itself; Go and RFC 5280 take anyExtendedKeyUsage, too.
#[test]
fn a_certificate_for_any_purpose_is_for_servers() {
    let files = Files::new();
    let anchor = Authority::with("Anchor", FOR_ANYTHING);
    let between = anchor.intermediate_with("Intermediate", FOR_ANYTHING);
    let leaf = between.issue(&["127.0.0.1"], &PKCS_ECDSA_P256_SHA256, FOR_ANYTHING);
    for (_, ran) in probe_each_way(&files, &leaf, &anchor.pem, &[]) {
        ran.expect_healthy();
    }
}

/// OpenSSL tries only one of two certificates for the same name and key.
#[test]
fn an_anchor_counts_beside_one_with_a_shorter_path_length() {
    let files = Files::new();
    let root = Authority::new("Root");
    let limited = root.renewed("Root", NO_CA_BELOW);
    let leaf = root.intermediate("Intermediate").server(&["127.0.0.1"]);
    for trusted in [format!("{limited}{}", root.pem), format!("{}{limited}", root.pem)] {
        for (_, ran) in probe_each_way(&files, &leaf, &trusted, &[]) {
            ran.expect_healthy();
        }
    }
}

#[test]
fn a_trusted_server_is_known_by_its_name() {
    let files = Files::new();
    let leaf = Leaf::self_signed(&["127.0.0.1"], true);
    for (_, ran) in probe_each_way(&files, &leaf, &leaf.pem, &["-tls-server-name=other", "-output=json"]) {
        ran.expect_kind(1, "tls", "tls-certificate-wrong-name");
    }
}

/// The places of the trust anchors as messages name them, in the order of `probe_each_way`.
const PLACES: [&str; 3] = ["in -tls-ca-cert", "on this system", "on this system"];

#[test]
fn a_message_says_why_a_trust_anchor_is_not_believed() {
    const UNKNOWN: &str = "tls-certificate-unknown-issuer";
    let files = Files::new();
    for (change, kind, flaw) in [
        (EXPIRED, "tls-certificate-expired", "expired on 2021-02-03"),
        (NOT_YET_VALID, "tls-certificate-not-yet-valid", "is not valid before 3000-01-01T00:00:00Z"),
        (NOT_A_CA, UNKNOWN, "is not a CA certificate"),
        (SIGNS_NO_CERTIFICATES, UNKNOWN, "may not sign certificates (no keyCertSign)"),
        (FOR_CLIENTS, UNKNOWN, "may not issue certificates for servers (extended key usage)"),
        (
            NO_CA_BELOW,
            "tls-certificate-invalid",
            "allows no CA certificate below it, and the chain has one (path length)",
        ),
    ] {
        let anchor = Authority::with("Anchor", change);
        let leaf = anchor.intermediate("Intermediate").server(&["127.0.0.1"]);
        for (place, (_, ran)) in PLACES.into_iter().zip(probe_each_way(&files, &leaf, &anchor.pem, &["-output=json"])) {
            ran.expect_kind(1, "tls", kind);
            let wanted = format!("failed: the certificate of CN=Anchor {place} {flaw}");
            let message = ran.json()["error"]["message"].clone();
            assert!(message.as_str().is_some_and(|message| message.ends_with(&wanted)), "{wanted}{ran}");
        }
    }
}

#[test]
fn a_message_says_why_an_intermediate_is_not_believed() {
    const INVALID: &str = "tls-certificate-invalid";
    let files = Files::new();
    let root = Authority::new("Root");
    let of_it = "the certificate of CN=Intermediate in the server's chain";
    for (change, kind, cause) in [
        (EXPIRED, "tls-certificate-expired", format!("{of_it} expired on 2021-02-03")),
        (
            NOT_YET_VALID,
            "tls-certificate-not-yet-valid",
            format!("{of_it} is not valid before 3000-01-01T00:00:00Z"),
        ),
        (NOT_A_CA, INVALID, format!("{of_it} is not a CA certificate")),
        (SIGNS_NO_CERTIFICATES, INVALID, format!("{of_it} may not sign certificates (no keyCertSign)")),
        (FOR_CLIENTS, INVALID, format!("{of_it} may not issue certificates for servers (extended key usage)")),
        (
            NO_CA_BELOW,
            INVALID,
            "the certificate is not acceptable: a CA certificate in its chain allows fewer CA certificates below it (path \
             length)"
                .to_owned(),
        ),
        (
            FOR_OTHER_ADDRESSES,
            INVALID,
            "the certificate is not acceptable: a CA in its chain may not issue for its names (name constraints)"
                .to_owned(),
        ),
    ] {
        let leaf = root.intermediate_with("Intermediate", change).intermediate("Below").server(&["127.0.0.1"]);
        for (_, ran) in probe_each_way(&files, &leaf, &root.pem, &["-output=json"]) {
            ran.expect_kind(1, "tls", kind);
            let message = ran.json()["error"]["message"].clone();
            let wanted = format!("failed: {cause}");
            assert!(message.as_str().is_some_and(|message| message.ends_with(&wanted)), "{wanted}{ran}");
        }
        // Where nothing in the chain is trusted, it does not matter what is wrong with it.
        let other = Authority::new("Other");
        for (_, ran) in probe_each_way(&files, &leaf, &other.pem, &["-output=json"]) {
            ran.expect_kind(1, "tls", "tls-certificate-unknown-issuer");
        }
    }
}

/// Two authorities of one name, the old one expired: what matters is which of them signed.
#[test]
fn an_expired_anchor_is_blamed_only_for_what_it_signed() {
    let files = Files::new();
    let (old, current) = (Authority::expired("Root"), Authority::new("Root"));
    let trusted = format!("{}{}", old.pem, current.pem);
    for (issuer, kind) in
        [(&old, "tls-certificate-expired"), (&Authority::new("Root"), "tls-certificate-unknown-issuer")]
    {
        for (_, ran) in probe_each_way(&files, &issuer.server(&["127.0.0.1"]), &trusted, &["-output=json"]) {
            ran.expect_kind(1, "tls", kind);
        }
    }
    for (_, ran) in probe_each_way(&files, &current.server(&["127.0.0.1"]), &trusted, &[]) {
        ran.expect_healthy();
    }
}

/// X509-SVID.md leaves extended key usages to choice, and no more.
#[test]
fn a_bundle_follows_the_same_rule_but_for_extended_key_usages() {
    let files = Files::new();
    let of_between = "the certificate of CN=Intermediate in the server's chain";
    for (number, (anchor, between, refusal)) in [
        (FOR_CLIENTS, FOR_CLIENTS, None),
        (ONE_CA_BELOW, SIGNS_CERTIFICATES, None),
        (
            SIGNS_CERTIFICATES,
            SIGNS_NO_CERTIFICATES,
            Some(format!("{of_between} may not sign certificates (no keyCertSign)")),
        ),
        (FOR_SERVERS, EXPIRED, Some(format!("{of_between} expired on 2021-02-03T00:00:00Z"))),
        (
            UNREADABLE,
            FOR_SERVERS,
            Some("no certificate in the bundle of example.org has issued that of spiffe://example.org/api".to_owned()),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let root = TrustDomain { name: "example.org", authority: Authority::with("Root", anchor) };
        let issuer =
            TrustDomain { name: "example.org", authority: root.authority.intermediate_with("Intermediate", between) };
        let agent = Agent::new(&files.path(&format!("{number}.sock")), Reply::with(vec![root.entry("/probe")]));
        let server = server::tls(&issuer.svid("/api", |_| ()));
        let ran = Probe::new([&*server.addr(), "-spiffe"]).env("SPIFFE_ENDPOINT_SOCKET", agent.endpoint()).run();
        match refusal {
            None => ran.expect_healthy(),
            Some(cause) => {
                ran.expect_error(1, &format!("error: TLS handshake with {} failed: {cause}", server.address))
            }
        };
    }
}
