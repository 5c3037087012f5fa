//! TLS and mTLS: which servers the probe accepts and rejects, and the failures that it reports.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd};
use rustls::{ServerConnection, StreamOwned, version};

use crate::support::{
    frames, needs,
    peer::{Connection, Peer},
    pki::{Authority, Files, Leaf},
    probe::{Probe, RunResult},
    server::{self, Recorder, TlsSetup},
};

const BOTH_VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
const ONLY_TLS12: &[&rustls::SupportedProtocolVersion] = &[&version::TLS12];
const ONLY_TLS13: &[&rustls::SupportedProtocolVersion] = &[&version::TLS13];

/// A CA, the flag with its file, and a directory for more files.
struct Pki {
    files: Files,
    authority: Authority,
    ca: String,
}

impl Pki {
    fn new() -> Self {
        let files = Files::new();
        let authority = Authority::new("Test CA");
        let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
        Self { files, authority, ca }
    }

    /// A server certificate for all names and addresses of loopback.
    fn loopback(&self) -> Leaf {
        self.authority.server(&["localhost", "127.0.0.1", "::1"])
    }

    /// The flags for this client certificate.
    fn identity(&self, leaf: &Leaf) -> [String; 2] {
        [
            format!("-tls-client-cert={}", self.files.write("client.pem", &leaf.pem)),
            format!("-tls-client-key={}", self.files.write("client.key", &leaf.key_pem)),
        ]
    }
}

fn probe(addr: &str, flags: &[&str]) -> RunResult {
    Probe::new([&[addr, "-tls"], flags].concat()).run()
}

/// Probes with detailed exit codes and JSON, to compare the kind of the failure.
fn probe_kind(addr: &str, flags: &[&str]) -> RunResult {
    Probe::new([&[addr, "-tls", "-output=json", "-exit-codes=detailed"], flags].concat()).run()
}

#[test]
fn private_ca_is_trusted() {
    let pki = Pki::new();
    let server = server::tls(&pki.loopback());
    probe(&server.addr(), &[&pki.ca]).expect_healthy();
    probe(&format!("-addr=:{}", server.port()), &[&pki.ca]).expect_healthy();
    probe(&format!("-addr=localhost:{}", server.port()), &[&pki.ca]).expect_healthy();
    let line = probe(&server.addr(), &[&pki.ca, "-output=json"]).json();
    assert_eq!(line["tls"]["version"], "TLSv1.3");
    assert_eq!(line["tls"]["cipher"], "TLS_AES_128_GCM_SHA256");
    assert_eq!(line["tls"]["server_name"], "127.0.0.1");
    assert!(line["tls"]["not_after"].as_str().is_some_and(|text| text.ends_with('Z')), "{line}");
    assert!(line["timings_ms"]["tls"].is_number(), "{line}");
}

#[test]
fn chain_and_pinned_intermediate_are_trusted() {
    let pki = Pki::new();
    let intermediate = pki.authority.intermediate("Intermediate CA");
    let server = server::tls(&intermediate.server(&["127.0.0.1"]));
    probe(&server.addr(), &[&pki.ca]).expect_healthy();
    let pinned = format!("-tls-ca-cert={}", pki.files.write("intermediate.pem", &intermediate.pem));
    probe(&server.addr(), &[&pinned]).expect_healthy();
}

#[test]
fn missing_intermediate_is_reported_with_the_issuer() {
    let pki = Pki::new();
    let mut leaf = pki.authority.intermediate("Intermediate CA").server(&["127.0.0.1"]);
    leaf.chain.truncate(1);
    leaf.pem = crate::support::pki::pem("CERTIFICATE", &leaf.chain[0]);
    let server = server::tls(&leaf);
    let line = format!(
        "error: TLS handshake with {} failed: the certificate was issued by CN=Intermediate CA, which is not a \
         trusted CA in -tls-ca-cert",
        server.address
    );
    probe(&server.addr(), &[&pki.ca]).expect_error(1, &line);
    probe_kind(&server.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-certificate-unknown-issuer");
}

#[test]
fn pinned_self_signed_certificate_is_trusted() {
    let files = Files::new();
    for is_ca in [true, false] {
        let leaf = Leaf::self_signed(&["127.0.0.1"], is_ca);
        let server = server::tls(&leaf);
        let pinned = format!("-tls-ca-cert={}", files.write("server.pem", &leaf.pem));
        probe(&server.addr(), &[&pinned]).expect_healthy();
        // The name is still verified.
        probe_kind(&server.addr(), &[&pinned, "-tls-server-name=other"]).expect_kind(
            2,
            "tls",
            "tls-certificate-wrong-name",
        );
        // Another certificate with the same subject is not trusted.
        let twin = Leaf::self_signed(&["127.0.0.1"], is_ca);
        let pinned = format!("-tls-ca-cert={}", files.write("twin.pem", &twin.pem));
        let ran = probe_kind(&server.addr(), &[&pinned]);
        assert_eq!(ran.code, Some(2), "{ran}");
    }
}

#[test]
fn self_signed_certificate_that_is_not_pinned_is_rejected() {
    let pki = Pki::new();
    for is_ca in [true, false] {
        let server = server::tls(&Leaf::self_signed(&["127.0.0.1"], is_ca));
        let lines = format!(
            "error: TLS handshake with {} failed: the certificate of CN=rcgen self signed cert is self-signed and \
             not among the trusted certificates in -tls-ca-cert\nhint: give that certificate with -tls-ca-cert, if the server is to be \
             trusted\n",
            server.address
        );
        probe(&server.addr(), &[&pki.ca]).expect(1, "", &lines);
        probe_kind(&server.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-certificate-unknown-issuer");
    }
}

#[test]
fn pinned_leaf_certificate_is_trusted() {
    let pki = Pki::new();
    let leaf = pki.loopback();
    let server = server::tls(&leaf);
    let pinned = format!("-tls-ca-cert={}", pki.files.write("leaf.pem", &leaf.pem));
    probe(&server.addr(), &[&pinned]).expect_healthy();
}

#[test]
fn pinned_leaf_certificate_cannot_issue() {
    let pki = Pki::new();
    let impostor = pki.authority.impostor("Not a CA");
    let server = server::tls(&impostor.server(&["127.0.0.1"]));
    let trusted = format!("-tls-ca-cert={}", pki.files.write("impostor.pem", &impostor.pem));
    probe_kind(&server.addr(), &[&trusted]).expect_kind(2, "tls", "tls-certificate-unknown-issuer");
}

#[test]
fn expired_ca_is_rejected() {
    let files = Files::new();
    let authority = Authority::expired("Old CA");
    let server = server::tls(&authority.server(&["127.0.0.1"]));
    let trusted = format!("-tls-ca-cert={}", files.write("old.pem", &authority.pem));
    let line = format!(
        "error: TLS handshake with {} failed: the certificate of CN=Old CA in -tls-ca-cert expired on 2021-02-03",
        server.address
    );
    probe(&server.addr(), &[&trusted]).expect_error(1, &line);
    probe_kind(&server.addr(), &[&trusted]).expect_kind(2, "tls", "tls-certificate-expired");
}

#[test]
fn chain_with_7_intermediates_is_rejected() {
    let pki = Pki::new();
    let mut authority = pki.authority.intermediate("Intermediate 1");
    for number in 2..=7 {
        authority = authority.intermediate(&format!("Intermediate {number}"));
    }
    let server = server::tls(&authority.server(&["127.0.0.1"]));
    let cause = "the certificate is not acceptable: its chain has more than 6 intermediates";
    let line = format!("error: TLS handshake with {} failed: {cause}", server.address);
    probe(&server.addr(), &[&pki.ca]).expect_error(1, &line);
    probe_kind(&server.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-certificate-invalid");
}

/// The server requests a client certificate, but does not require one. A later close has another cause.
#[test]
fn optional_client_certificate_is_not_blamed_for_a_later_close() {
    let pki = Pki::new();
    let config = TlsSetup { leaf: &pki.loopback(), versions: BOTH_VERSIONS, alpn: &["h2"], clients: None }
        .config_with_optional_clients(&pki.authority);
    let peer = Peer::new(move |peer, _| {
        let mut stream = accept(peer, &config);
        let sent = stream.write_all(&frames::settings(&[])).and_then(|()| stream.flush());
        sent.expect("the probe reads");
        // Reads the request, then closes the connection.
        let mut received = Vec::new();
        while !received.windows(6).any(|bytes| bytes == [0, 1, 0, 0, 0, 1]) {
            let mut chunk = [0; 1024];
            match stream.read(&mut chunk) {
                Ok(count @ 1..) => received.extend_from_slice(&chunk[..count]),
                ended => panic!("the probe left: {ended:?}"),
            }
        }
    });
    probe_kind(&peer.addr(), &[&pki.ca]).expect_kind(3, "rpc", "stream-broken");
}

#[test]
fn expired_pinned_certificate_is_rejected() {
    let pki = Pki::new();
    let leaf = pki.authority.issue(&["127.0.0.1"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let server = server::tls(&leaf);
    let pinned = format!("-tls-ca-cert={}", pki.files.write("leaf.pem", &leaf.pem));
    probe_kind(&server.addr(), &[&pinned]).expect_kind(2, "tls", "tls-certificate-expired");
}

#[test]
fn ecdsa_and_ed25519_keys_are_accepted() {
    let pki = Pki::new();
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let server = server::tls(&pki.authority.issue(&["127.0.0.1"], algorithm, |_| ()));
        probe(&server.addr(), &[&pki.ca]).expect_healthy();
    }
}

#[test]
fn tls_1_2_and_1_3_are_accepted() {
    let pki = Pki::new();
    for (versions, name) in [(ONLY_TLS12, "TLSv1.2"), (ONLY_TLS13, "TLSv1.3")] {
        let recorder = Recorder::tls(&TlsSetup { leaf: &pki.loopback(), versions, alpn: &["h2"], clients: None });
        let ran = probe(&recorder.server.addr(), &[&pki.ca, "-output=json"]);
        assert_eq!(ran.json()["tls"]["version"], name, "{ran}");
    }
}

#[test]
fn server_name_is_verified_and_sent_as_authority() {
    let pki = Pki::new();
    let setup = TlsSetup {
        leaf: &pki.authority.server(&["api.internal"]),
        versions: BOTH_VERSIONS,
        alpn: &["h2"],
        clients: None,
    };
    let recorder = Recorder::tls(&setup);
    let addr = recorder.server.addr();
    probe(&addr, &[&pki.ca, "-tls-server-name=api.internal"]).expect_healthy();
    assert_eq!(recorder.request().uri().authority().expect("it is sent").as_str(), "api.internal");
    let line = format!(
        "error: TLS handshake with {} failed: the certificate is valid for api.internal, not for 127.0.0.1\n\
         hint: use -tls-server-name=api.internal\n",
        recorder.server.address
    );
    probe(&addr, &[&pki.ca]).expect(1, "", &line);
    probe_kind(&addr, &[&pki.ca]).expect_kind(2, "tls", "tls-certificate-wrong-name");
}

#[test]
fn no_verify_accepts_any_certificate_and_sends_the_name() {
    let expired = Pki::new().authority.issue(&["elsewhere"], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    for versions in [ONLY_TLS12, ONLY_TLS13] {
        let recorder = Recorder::tls(&TlsSetup { leaf: &expired, versions, alpn: &["h2"], clients: None });
        let addr = recorder.server.addr();
        probe(&addr, &["-tls-no-verify"]).expect_healthy();
        recorder.request();
        probe(&addr, &["-tls-no-verify", "-tls-server-name=sni.example"]).expect_healthy();
        assert_eq!(recorder.request().uri().authority().expect("it is sent").as_str(), "sni.example");
    }
}

/// Expects the probe to reject a server whose certificate is changed like this.
fn expect_rejected(change: impl FnOnce(&mut CertificateParams), names: &[&str], kind: &str, cause: &str) {
    let pki = Pki::new();
    let server = server::tls(&pki.authority.issue(names, &rcgen::PKCS_ECDSA_P256_SHA256, change));
    probe_kind(&server.addr(), &[&pki.ca]).expect_kind(2, "tls", kind);
    let ran = probe(&server.addr(), &[&pki.ca]);
    let line = format!("error: TLS handshake with {} failed: {cause}", server.address);
    assert!(ran.code == Some(1) && ran.stderr.starts_with(&line), "{ran}expected {line}");
}

#[test]
fn expired_certificate_is_rejected() {
    let change = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 2, 3);
    };
    expect_rejected(change, &["127.0.0.1"], "tls-certificate-expired", "the certificate expired on 2021-02-03 (");
}

#[test]
fn certificate_not_yet_valid_is_rejected() {
    let change = |params: &mut CertificateParams| params.not_before = date_time_ymd(3000, 1, 1);
    let cause = "the certificate is not valid before 3000-01-01T00:00:00Z";
    expect_rejected(change, &["127.0.0.1"], "tls-certificate-not-yet-valid", cause);
}

#[test]
fn certificate_without_alternative_name_is_rejected() {
    let cause = "the certificate has no subject alternative name, so it is not valid for 127.0.0.1";
    expect_rejected(|_| (), &[], "tls-certificate-wrong-name", cause);
}

#[test]
fn client_certificate_of_a_server_is_rejected() {
    let change = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let cause = "the certificate is not for servers (extended key usage)";
    expect_rejected(change, &["127.0.0.1"], "tls-certificate-invalid", cause);
}

#[test]
fn unknown_issuer_is_rejected() {
    let pki = Pki::new();
    let server = server::tls(&Authority::new("Foreign CA").server(&["127.0.0.1"]));
    let lines = format!(
        "error: TLS handshake with {} failed: the certificate was issued by CN=Foreign CA, which is not a trusted CA in \
         -tls-ca-cert\nhint: -tls-ca-cert must hold that CA's certificate, or that of its root, if the server sends those in between (intermediates)\n",
        server.address
    );
    probe(&server.addr(), &[&pki.ca]).expect(1, "", &lines);
    probe_kind(&server.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-certificate-unknown-issuer");
}

#[test]
fn renewed_ca_is_explained() {
    const HINT: &str =
        "hint: was the CA, or one in between, renewed? the server's certificate and the CA's must belong together\n";
    let pki = Pki::new();
    let renewed = Authority::new("Test CA");
    let alone = "the certificate is signed by another key than that of CN=Test CA in -tls-ca-cert";
    let chain = "a certificate between the server's and the trust anchor in -tls-ca-cert is signed by another key than its issuer's";
    for (leaf, cause) in [
        (renewed.server(&["127.0.0.1"]), alone),
        (renewed.intermediate("Test Intermediate").server(&["127.0.0.1"]), chain),
    ] {
        let server = server::tls(&leaf);
        let lines = format!("error: TLS handshake with {} failed: {cause}\n{HINT}", server.address);
        probe(&server.addr(), &[&pki.ca]).expect(1, "", &lines);
        probe_kind(&server.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-certificate-unknown-issuer");
    }
}

#[test]
fn issuer_that_is_not_a_ca_is_rejected() {
    let pki = Pki::new();
    let server = server::tls(&pki.authority.impostor("Not a CA").server(&["127.0.0.1"]));
    let ran = probe_kind(&server.addr(), &[&pki.ca]);
    assert!(ran.code == Some(2) && ran.json()["error"]["phase"] == "tls", "{ran}");
}

#[test]
fn tls_to_a_plaintext_server_fails_with_a_hint() {
    let pki = Pki::new();
    let server = server::plaintext();
    let lines = format!(
        "error: TLS handshake with {} failed: the server does not speak TLS\n\
         hint: leave out -tls, or probe the server's TLS port\n",
        server.address
    );
    probe(&server.addr(), &[&pki.ca]).expect(1, "", &lines);
    probe_kind(&server.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-plaintext-server");
}

#[test]
fn plaintext_to_a_tls_server_fails_with_a_hint() {
    let pki = Pki::new();
    let server = server::tls(&pki.loopback());
    let lines =
        format!("error: no HTTP/2 from {}: the server answered with a TLS alert\nhint: add -tls\n", server.address);
    Probe::new([server.addr()]).run().expect(1, "", &lines);
}

/// gRPC servers based on C-core or Node close plaintext connections without an answer.
#[test]
fn plaintext_to_a_tls_server_that_closes_silently_is_detected() {
    let pki = Pki::new();
    let config = TlsSetup { leaf: &pki.loopback(), versions: BOTH_VERSIONS, alpn: &["h2"], clients: None }.config();
    let peer = Peer::new(move |peer, _| {
        let mut first = [0];
        let is_tls = matches!(peer.stream().peek(&mut first), Ok(1)) && first[0] == 22;
        if is_tls {
            drain(&mut accept(peer, &config));
        }
    });
    let lines = format!(
        "error: no HTTP/2 from {}: the server closes plaintext connections and speaks TLS\nhint: add -tls\n",
        peer.address
    );
    Probe::new([peer.addr()]).run().expect(1, "", &lines);
}

#[test]
fn tls_to_a_plaintext_server_that_closes_silently_is_detected() {
    let pki = Pki::new();
    let peer = Peer::new(|peer, _| {
        let mut first = [0];
        if matches!(peer.stream().peek(&mut first), Ok(1)) && first[0] == b'P' {
            peer.take_request();
        }
    });
    probe_kind(&peer.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-plaintext-server");
}

#[test]
fn mtls_with_a_client_certificate_is_healthy() {
    let pki = Pki::new();
    let server = server::mtls(&pki.loopback(), &pki.authority);
    let [cert, key] = pki.identity(&pki.authority.client());
    probe(&server.addr(), &[&pki.ca, &cert, &key]).expect_healthy();
    // The client's file holds a chain.
    let [cert, key] = pki.identity(&pki.authority.intermediate("Client CA").client());
    probe(&server.addr(), &[&pki.ca, &cert, &key]).expect_healthy();
}

#[test]
fn client_certificate_that_is_not_requested_is_harmless() {
    let pki = Pki::new();
    let server = server::tls(&pki.loopback());
    let [cert, key] = pki.identity(&pki.authority.client());
    probe(&server.addr(), &[&pki.ca, &cert, &key]).expect_healthy();
}

#[test]
fn missing_or_rejected_client_certificate_is_reported() {
    let pki = Pki::new();
    for versions in [ONLY_TLS12, ONLY_TLS13] {
        let setup = TlsSetup { leaf: &pki.loopback(), versions, alpn: &["h2"], clients: Some(&pki.authority) };
        let recorder = Recorder::tls(&setup);
        let addr = recorder.server.addr();
        let ran = probe_kind(&addr, &[&pki.ca]);
        ran.expect_kind(2, "tls", "tls-client-certificate-required");
        assert_eq!(ran.json()["error"]["hint"], "give one with -tls-client-cert and -tls-client-key", "{ran}");

        let [cert, key] = pki.identity(&Authority::new("Foreign CA").client());
        probe_kind(&addr, &[&pki.ca, &cert, &key]).expect_kind(2, "tls", "tls-client-certificate-rejected");

        let expired = pki.authority.issue(&[], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
            params.not_after = date_time_ymd(2021, 1, 1);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let [cert, key] = pki.identity(&expired);
        let ran = probe_kind(&addr, &[&pki.ca, &cert, &key]);
        ran.expect_kind(2, "tls", "tls-client-certificate-rejected");
        let cause = ran.json()["error"]["message"].to_string();
        assert!(cause.contains("certificate_expired"), "{ran}");
    }
}

#[test]
fn server_without_http2_alpn_is_rejected() {
    let pki = Pki::new();
    for alpn in [&[][..], &["http/1.1"]] {
        let config = TlsSetup { leaf: &pki.loopback(), versions: BOTH_VERSIONS, alpn, clients: None }.config();
        let peer = Peer::new(move |peer, _| drain(&mut accept(peer, &config)));
        probe_kind(&peer.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-no-h2");
    }
}

#[test]
fn close_without_close_notify_after_the_answer_is_healthy() {
    let pki = Pki::new();
    let config = TlsSetup { leaf: &pki.loopback(), versions: BOTH_VERSIONS, alpn: &["h2"], clients: None }.config();
    let peer = Peer::new(move |peer, _| {
        let mut stream = accept(peer, &config);
        let sent = stream.write_all(&frames::settings(&[])).and_then(|()| stream.flush());
        sent.expect("the probe reads");
        // The header of the DATA frame that ends the request, without its length.
        let last = &frames::data(frames::END_STREAM, &[])[3..];
        let mut received = Vec::new();
        while !received.windows(last.len()).any(|bytes| bytes == last) {
            let mut chunk = [0; 1024];
            match stream.read(&mut chunk) {
                Ok(count @ 1..) => received.extend_from_slice(&chunk[..count]),
                ended => panic!("the probe left: {ended:?}"),
            }
        }
        stream.write_all(&frames::serving()).and_then(|()| stream.flush()).expect("the probe reads");
        stream.sock.shutdown(Shutdown::Write).expect("it is open");
        drain(&mut stream.sock);
    });
    probe(&peer.addr(), &[&pki.ca]).expect_healthy();
}

#[test]
fn tls_1_1_is_rejected() {
    let pki = Pki::new();
    let alert = Peer::new(|peer, _| {
        peer.receive(5);
        peer.send([21, 3, 1, 0, 2, 2, 70]);
        peer.drain();
    });
    probe_kind(&alert.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-version");
    // A ServerHello of TLS 1.1.
    let hello = Peer::new(|peer, _| {
        peer.receive(5);
        let hello = [&[2, 0, 0, 38, 3, 2][..], &[7; 32], &[0, 0xc0, 0x13, 0]].concat();
        peer.send([&[22, 3, 2, 0, 42][..], &hello].concat());
        peer.drain();
    });
    probe_kind(&hello.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-version");
}

#[test]
fn broken_handshakes_have_distinct_kinds() {
    let pki = Pki::new();
    let silent = Peer::new(|peer, _| peer.drain());
    let line = format!("error: TLS handshake with {} timed out after 1s: connected, no answer", silent.address);
    probe(&silent.addr(), &[&pki.ca]).expect_error(1, &line);
    probe_kind(&silent.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-timeout");

    let stops = Peer::new(|peer, _| {
        peer.receive(5);
        peer.send([22, 3, 3, 0x40, 0, 2]);
        peer.drain();
    });
    probe_kind(&stops.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-timeout");

    let truncated = Peer::new(|peer, _| {
        peer.receive(5);
        peer.send([22, 3, 3, 0x40, 0, 2]);
    });
    probe_kind(&truncated.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-failed");

    let garbled = Peer::new(|peer, _| {
        peer.receive(5);
        peer.send([&[22, 3, 3, 0, 40][..], &[0xff; 40]].concat());
        peer.drain();
    });
    probe_kind(&garbled.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-failed");

    let closes = Peer::new(|_, _| {});
    probe_kind(&closes.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-failed");

    let http1 = Peer::new(|peer, _| {
        peer.receive(5);
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        peer.finish();
        peer.drain();
    });
    probe_kind(&http1.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-plaintext-server");

    let ssh = Peer::new(|peer, _| {
        peer.send(b"SSH-2.0-OpenSSH_9.2p1\r\n");
        peer.drain();
    });
    probe_kind(&ssh.addr(), &[&pki.ca]).expect_kind(2, "tls", "tls-plaintext-server");
}

#[test]
fn every_alert_during_the_handshake_has_a_kind() {
    let pki = Pki::new();
    for alert in 0..=255 {
        let peer = Peer::new(move |peer, _| {
            peer.receive(5);
            peer.send([21, 3, 3, 0, 2, 2, alert]);
            peer.drain();
        });
        let kind = match alert {
            70 => "tls-version",
            116 => "tls-client-certificate-required",
            120 => "tls-no-h2",
            _ => "tls-failed",
        };
        probe_kind(&peer.addr(), &[&pki.ca]).expect_kind(2, "tls", kind);
    }
}

#[test]
fn endless_ssl_cert_file_costs_no_memory() {
    let arguments = ["-addr=127.0.0.1:1", "-tls", "-output=json"];
    let ran = Probe::wrapped(&["prlimit", "--as=67108864"], arguments).env("SSL_CERT_FILE", "/dev/zero").run();
    ran.expect_kind(1, "usage", "no-trust-anchors");
}

#[test]
fn ssl_cert_file_and_ssl_cert_dir_set_the_system_roots() {
    let pki = Pki::new();
    let server = server::tls(&pki.loopback());
    let bundle = pki.files.path("ca.pem");
    Probe::new([&server.addr(), "-tls"]).env("SSL_CERT_FILE", &bundle).run().expect_healthy();
    let directory = pki.files.path("");
    Probe::new([&server.addr(), "-tls"]).env("SSL_CERT_DIR", &directory).run().expect_healthy();
    // An empty variable counts as not set.
    let both = Probe::new([&server.addr(), "-tls"]).env("SSL_CERT_FILE", "").env("SSL_CERT_DIR", &directory).run();
    both.expect_healthy();
    let ran = Probe::new([&server.addr(), "-tls", "-output=json"]).env("SSL_CERT_FILE", "/nonexistent").run();
    ran.expect_kind(1, "usage", "no-trust-anchors");
    // A bundle that the user names does not replace the directories that the user names.
    let files = Files::new();
    let other = files.write("other.pem", &Authority::new("Another CA").pem);
    let with_other = || Probe::new([&server.addr(), "-tls", "-output=json"]).env("SSL_CERT_FILE", &other);
    assert_eq!(with_other().env("SSL_CERT_DIR", &directory).run().json()["healthy"], true);
    with_other().run().expect_kind(1, "tls", "tls-certificate-unknown-issuer");
}

/// The default paths of Debian, in a mount namespace.
#[test]
fn system_roots_are_read_from_their_default_paths() {
    let Some(()) = needs::root() else { return };
    let pki = Pki::new();
    let server = server::tls(&pki.loopback());
    let ca = pki.files.path("ca.pem");
    for (script, kind) in [
        (r#"cp "$CA" /etc/ssl/certs/ca-certificates.crt"#, None),
        (r#"echo broken >/etc/ssl/certs/ca-certificates.crt && cp "$CA" /etc/ssl/certs/12345678.0"#, None),
        (r#"cp "$CA" /etc/ssl/certs/12345678.0"#, None),
        ("echo broken >/etc/ssl/certs/ca-certificates.crt", Some("no-trust-anchors")),
        ("true", Some("no-trust-anchors")),
    ] {
        let script = format!(r#"mount -t tmpfs none /etc/ssl/certs && {script} && exec "$0" "$@""#);
        let arguments = [&server.addr(), "-tls", "-output=json"];
        let ran = Probe::wrapped(&["unshare", "--mount", "sh", "-c", &script], arguments).env("CA", &ca).run();
        match kind {
            None => assert!(ran.code == Some(0), "{script}{ran}"),
            Some(kind) => assert!(ran.json()["error"]["kind"] == kind, "{script}{ran}"),
        }
    }
}

/// Begins TLS as a server over a scripted connection.
fn accept(peer: &Connection, config: &Arc<rustls::ServerConfig>) -> StreamOwned<ServerConnection, TcpStream> {
    let connection = ServerConnection::new(Arc::clone(config)).expect("the configuration is valid");
    StreamOwned::new(connection, peer.stream())
}

/// Reads and drops until the other side closes.
fn drain(stream: &mut impl Read) {
    let mut bytes = [0; 4096];
    while matches!(stream.read(&mut bytes), Ok(1..)) {}
}
