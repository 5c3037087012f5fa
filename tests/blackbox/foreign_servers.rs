//! Servers by others that speak in other ways: what the probe says about each is compared exactly, and hints that name a flag
//! are followed. The servers here send what the real ones do.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use rcgen::{ExtendedKeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::{WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version,
};

use crate::support::{
    dns::{NO_NAME_SERVER, run_with_dns},
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, answer, block, data, frame, goaway, headers,
        ok_headers, rst_stream, serving, settings, trailers,
    },
    needs,
    peer::{Connection, Peer},
    pki::{Authority, Files, Leaf},
    probe::{Probe, RunResult},
    server::{self, Reply, TlsSetup},
};

const ONLY_TLS12: &[&rustls::SupportedProtocolVersion] = &[&version::TLS12];
const ONLY_TLS13: &[&rustls::SupportedProtocolVersion] = &[&version::TLS13];
const BOTH_VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
const ALL: u32 = u32::MAX >> 1;

/// What nginx 1.22 answers to plaintext on a TLS port, and what Tomcat 10 does.
const NGINX_400: &[u8] = b"HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\n\
    Content-Type: text/html\r\nContent-Length: 157\r\nConnection: close\r\n\r\n<html>\r\n<head><title>400 Bad Request</title>\
    </head>\r\n<body>\r\n<center><h1>400 Bad Request</h1></center>\r\n<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n";
const TOMCAT_400: &[u8] = b"HTTP/1.1 400 \r\nContent-Type: text/plain;charset=UTF-8\r\nConnection: close\r\n\r\n\
    Bad Request\r\nThis combination of host and port requires TLS.\r\n";

/// A server's authority "A", a foreign authority "B", and the flags with their files.
struct Pki {
    files: Files,
    authority: Authority,
    foreign: Authority,
    leaf: Leaf,
    ca: String,
}

impl Pki {
    fn new() -> Self {
        let files = Files::new();
        let authority = Authority::new("A");
        let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
        let leaf = authority.server(&["127.0.0.1"]);
        Self { files, authority, foreign: Authority::new("B"), leaf, ca }
    }

    /// The flags for this client certificate.
    fn identity(&self, leaf: &Leaf) -> [String; 2] {
        [
            format!("-tls-client-cert={}", self.files.write("client.pem", &leaf.pem)),
            format!("-tls-client-key={}", self.files.write("client.key", &leaf.key_pem)),
        ]
    }

    /// The flags for a client certificate of A that expired on 2021-02-03.
    fn expired(&self) -> [String; 2] {
        self.identity(&self.authority.issue(&[], &PKCS_ECDSA_P256_SHA256, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 2, 3);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }))
    }

    fn server(&self) -> Arc<ServerConfig> {
        TlsSetup { leaf: &self.leaf, versions: BOTH_VERSIONS, alpn: &["h2"], clients: None }.config()
    }

    /// A server that asks for a certificate of A and takes none as well: whatever it does about that is left to the script.
    fn asking(&self, versions: &'static [&'static rustls::SupportedProtocolVersion]) -> Arc<ServerConfig> {
        TlsSetup { leaf: &self.leaf, versions, alpn: &["h2"], clients: None }
            .config_with_optional_clients(&self.authority)
    }
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// Begins TLS as a server.
fn accept(peer: &Connection, config: &Arc<ServerConfig>) -> Tls {
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).expect("the configuration is valid"), peer.stream())
}

fn send(stream: &mut Tls, bytes: &[u8]) {
    // The probe may have closed it already.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
}

fn drain(stream: &mut impl Read) {
    let mut bytes = [0; 4096];
    while matches!(stream.read(&mut bytes), Ok(1..)) {}
}

/// Sends SETTINGS, and reads until the request on stream 1 has ended.
fn take_request(stream: &mut Tls) {
    send(stream, &settings(&[]));
    // The header of the DATA frame that ends the request, without its length.
    let last = &data(END_STREAM, &[])[3..];
    let mut received = Vec::new();
    while !received.windows(last.len()).any(|bytes| bytes == last) {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => received.extend_from_slice(&chunk[..count]),
            _ => return,
        }
    }
}

/// Hands a record to the server that is no record of the probe: it answers by the alert `bad_record_mac`.
fn refuse_by_alert(stream: &mut Tls) {
    let StreamOwned { conn, sock } = stream;
    let broken: &[u8] = &[&[23, 3, 3, 0, 20][..], &[7; 20]].concat();
    conn.read_tls(&mut &*broken).expect("memory can be read");
    assert!(conn.process_new_packets().is_err(), "it is broken");
    while conn.wants_write() && conn.write_tls(sock).is_ok() {}
}

/// Sends the server's first flight and reads the probe's answer to it, but handles nothing of it.
fn begin_handshake(stream: &mut Tls) {
    let StreamOwned { conn, sock } = stream;
    while !conn.wants_write() {
        conn.read_tls(sock).expect("the probe writes");
        conn.process_new_packets().expect("a ClientHello");
    }
    while conn.wants_write() {
        conn.write_tls(sock).expect("the probe reads");
    }
}

fn first_byte(peer: &Connection) -> u8 {
    let mut first = [0];
    let _ = peer.stream().peek(&mut first);
    first[0]
}

fn probe(addr: &str, flags: &[&str]) -> RunResult {
    Probe::new([&[addr, "-exit-codes=detailed"], flags].concat()).run()
}

fn kind(addr: &str, flags: &[&str]) -> String {
    let ran = Probe::new([&[addr, "-output=json"], flags].concat()).run();
    let line = ran.json();
    line["error"]["kind"].as_str().unwrap_or_else(|| panic!("{ran}")).to_owned()
}

/// A peer that takes the request and answers with these bytes.
fn answers(bytes: impl Into<Vec<u8>>) -> Peer {
    let bytes = bytes.into();
    Peer::new(move |peer, _| {
        peer.take_request();
        peer.send(&bytes);
        peer.drain();
    })
}

/// A response of headers alone.
fn bare(fields: &[(&str, &[u8])]) -> Vec<u8> {
    headers(END_STREAM, fields)
}

fn grpc_status(status: &[u8], message: &[u8]) -> Vec<u8> {
    bare(&[
        (":status", b"200"),
        ("content-type", b"application/grpc"),
        ("grpc-status", status),
        ("grpc-message", message),
    ])
}

/// Expects a failure of the RPC with this cause and this hint.
#[track_caller]
fn expect_rpc(peer: &Peer, flags: &[&str], cause: &str, hint: Option<&str>) {
    let hint = hint.map_or_else(String::new, |hint| format!("hint: {hint}\n"));
    let what = match flags {
        [.., "-watch"] => "watching",
        [.., "-list"] => "listing the services of",
        _ => "health check of",
    };
    let lines = format!("error: {what} {} failed: {cause}\n{hint}", peer.address);
    probe(&peer.addr(), flags).expect(3, "", &lines);
}

// Plaintext to a TLS port.

#[test]
fn http_400_of_a_tls_port_is_told_as_tls() {
    let pki = Pki::new();
    for (reply, line) in [(NGINX_400, "HTTP/1.1 400 Bad Request"), (TOMCAT_400, "HTTP/1.1 400 ")] {
        let config = pki.server();
        let peer = Peer::new(move |peer, _| {
            if first_byte(peer) == 22 {
                let mut stream = accept(peer, &config);
                take_request(&mut stream);
                send(&mut stream, &serving());
                drain(&mut stream);
            } else {
                peer.receive(24);
                peer.send(reply);
                peer.finish();
                peer.drain();
            }
        });
        let lines = format!(
            "error: no HTTP/2 from {}: the server answered with HTTP/1: {line:?}, and speaks TLS\nhint: add -tls\n",
            peer.address
        );
        probe(&peer.addr(), &[]).expect(2, "", &lines);
        assert_eq!(kind(&peer.addr(), &["-wait=1h"]), "server-speaks-tls");
        probe(&peer.addr(), &["-tls", &pki.ca]).expect_healthy();
    }
}

#[test]
fn http_400_of_a_plaintext_port_is_not_told_as_tls() {
    let peer = Peer::new(|peer, _| {
        peer.receive(5);
        peer.send(NGINX_400);
        peer.finish();
        peer.drain();
    });
    let lines = format!(
        "error: no HTTP/2 from {}: the server answered with HTTP/1: \"HTTP/1.1 400 Bad Request\"\n\
         hint: gRPC needs HTTP/2; is this the gRPC port, or a proxy without HTTP/2?\n",
        peer.address
    );
    probe(&peer.addr(), &[]).expect(2, "", &lines);
}

#[test]
fn tls_is_not_suggested_where_the_server_does_not_answer_it() {
    let peer = Peer::new(|_, _| {});
    let lines = format!(
        "error: no HTTP/2 from {}: the server closed the connection\nhint: is this the gRPC port?\n",
        peer.address
    );
    let closes = Peer::new(|peer, _| {
        peer.receive(5);
    });
    assert_eq!(kind(&peer.addr(), &[]), "closed-early");
    let lines = lines.replace(&peer.address.to_string(), &closes.address.to_string());
    let ran = probe(&closes.addr(), &[]);
    assert!(ran.stderr == lines || ran.stderr.ends_with("hint: is this the gRPC port?\n"), "{ran}");
}

// TLS to a plaintext port.

#[test]
fn leaving_out_tls_is_not_suggested_at_the_port_of_another_protocol() {
    for (reply, told, hint) in [
        (
            &b"SSH-2.0-OpenSSH_9.2p1\r\n"[..],
            "it answered with \"SSH-2.0-OpenSSH_9.2p1\", as SSH does",
            "is this the gRPC port?",
        ),
        (b"<html>\r\n", "it answered with \"<html>\", as an HTML or XML page does", "is this the gRPC port?"),
        (
            NGINX_400,
            "it answered with HTTP/1: \"HTTP/1.1 400 Bad Request\"",
            "gRPC needs HTTP/2; is this the gRPC port, or a proxy without HTTP/2?",
        ),
    ] {
        let peer = Peer::new(move |peer, _| {
            peer.receive(5);
            peer.send(reply);
            peer.finish();
            peer.drain();
        });
        let lines = format!(
            "error: TLS handshake with {} failed: the server does not speak TLS: {told}\nhint: {hint}\n",
            peer.address
        );
        probe(&peer.addr(), &["-tls", "-tls-no-verify"]).expect(2, "", &lines);
    }
}

/// Go's HTTP server with h2c, and Envoy, answer a `ClientHello` in HTTP/1.
#[test]
fn leaving_out_tls_is_suggested_where_the_server_speaks_http2_beside_http1() {
    let peer = Peer::new(|peer, _| {
        if first_byte(peer) == b'P' {
            peer.take_request();
            peer.send(serving());
        } else {
            peer.receive(5);
            peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request");
            peer.finish();
        }
        peer.drain();
    });
    let cause = "the server does not speak TLS: it answered with HTTP/1: \"HTTP/1.1 400 Bad Request\", and answers HTTP/2 in plaintext";
    let lines = |hint| format!("error: TLS handshake with {} failed: {cause}\nhint: {hint}\n", peer.address);
    probe(&peer.addr(), &["-tls", "-tls-no-verify"]).expect(2, "", &lines("leave out -tls"));
    let by_variable =
        || Probe::new([&peer.addr(), "-exit-codes=detailed", "-tls-no-verify"]).env("GRPC_HEALTH_PROBE_TLS", "1");
    by_variable().run().expect(2, "", &lines("unset GRPC_HEALTH_PROBE_TLS"));
    probe(&peer.addr(), &[]).expect_healthy();
}

#[test]
fn the_variable_that_set_tls_is_named() {
    let server = server::plaintext();
    let files = Files::new();
    let bundle = files.write("ca.pem", &Authority::new("A").pem);
    let ran = Probe::new([server.addr()]).env("GRPC_HEALTH_PROBE_TLS", "true").env("SSL_CERT_FILE", bundle).run();
    let lines = format!(
        "error: TLS handshake with {} failed: the server does not speak TLS\n\
         hint: unset GRPC_HEALTH_PROBE_TLS, or probe the server's TLS port\n",
        server.address
    );
    ran.expect(1, "", &lines);
    Probe::new([server.addr()]).run().expect_healthy();
}

// Client certificates.

/// What nginx answers to a request without the certificate that `ssl_verify_client on` wants, or with a foreign one.
fn nginx_400() -> Vec<u8> {
    let body = b"<html>\r\n<head><title>400 No required SSL certificate was sent</title></head>\r\n</html>\r\n";
    let fields: [(&str, &[u8]); 3] = [(":status", b"400"), ("server", b"nginx/1.22.1"), ("content-type", b"text/html")];
    [headers(0, &fields), data(END_STREAM, body)].concat()
}

#[test]
fn http_400_by_nginx_for_a_client_certificate_is_explained() {
    let pki = Pki::new();
    for versions in [ONLY_TLS12, ONLY_TLS13] {
        // nginx accepts every certificate, and judges it in the request. So the verifier here must not.
        let config = with_any_client(&pki, versions);
        let peer = Peer::new(move |peer, _| {
            let mut stream = accept(peer, &config);
            take_request(&mut stream);
            send(&mut stream, &nginx_400());
            drain(&mut stream);
        });
        let line = format!(
            "error: health check of {} failed: the server answered HTTP 400 Bad Request (INTERNAL); ",
            peer.address
        );
        let required = format!(
            "{line}it asked for a client certificate issued by CN=A, and got none\n\
             hint: give one with -tls-client-cert and -tls-client-key\n"
        );
        probe(&peer.addr(), &["-tls", &pki.ca]).expect(2, "", &required);
        assert_eq!(kind(&peer.addr(), &["-tls", &pki.ca, "-wait=1h"]), "tls-client-certificate-required");
        let [cert, key] = pki.identity(&pki.foreign.client());
        let rejected = format!(
            "{line}it asked for a client certificate, and got ours: it accepts certificates issued by CN=A; ours is issued by CN=B\n\
             hint: give a certificate issued by CN=A with -tls-client-cert and -tls-client-key\n"
        );
        probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect(2, "", &rejected);
        assert_eq!(kind(&peer.addr(), &["-tls", &pki.ca, &cert, &key, "-wait=1h"]), "tls-client-certificate-rejected");
        let [cert, key] = pki.expired();
        let expired = format!(
            "{line}it asked for a client certificate, and got ours: ours expired on 2021-02-03\n\
             hint: renew the client certificate\n"
        );
        probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect(2, "", &expired);
        // Nothing is wrong with this one, as far as we know: the cause may be another.
        let [cert, key] = pki.identity(&pki.authority.client());
        let unsure = format!("{line}it asked for a client certificate, and got ours: ours is issued by CN=A\n");
        probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect(3, "", &unsure);
        assert_eq!(kind(&peer.addr(), &["-tls", &pki.ca, &cert, &key]), "http-status");
    }
}

/// Without a request for a certificate, HTTP 400 says nothing about one.
#[test]
fn http_400_is_not_blamed_on_a_certificate_that_nobody_asked_for() {
    let pki = Pki::new();
    let config = pki.server();
    let peer = Peer::new(move |peer, _| {
        let mut stream = accept(peer, &config);
        take_request(&mut stream);
        send(&mut stream, &nginx_400());
        drain(&mut stream);
    });
    expect_rpc(&peer, &["-tls", &pki.ca], "the server answered HTTP 400 Bad Request (INTERNAL)", None);
}

/// A verifier that sends the name of A and accepts every certificate.
#[derive(Debug)]
struct AnyClient(Arc<dyn rustls::server::danger::ClientCertVerifier>);

impl rustls::server::danger::ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The verifier of client certificates of A, which takes signatures by these algorithms.
fn verifier(pki: &Pki, algorithms: WebPkiSupportedAlgorithms) -> Arc<dyn rustls::server::danger::ClientCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.authority.pem.as_bytes()).expect("PEM")).expect("a root");
    let provider =
        rustls::crypto::CryptoProvider { signature_verification_algorithms: algorithms, ..ring::default_provider() };
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider)).build().expect("there is a root")
}

fn config(
    pki: &Pki,
    versions: &'static [&'static rustls::SupportedProtocolVersion],
    verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("ring has these versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(pki.leaf.chain.clone(), pki.leaf.key.clone_key())
        .expect("certificate and key match");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn with_any_client(pki: &Pki, versions: &'static [&'static rustls::SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let by_a = verifier(pki, ring::default_provider().signature_verification_algorithms);
    config(pki, versions, Arc::new(AnyClient(by_a)))
}

/// netty with OpenSSL says `internal_error` to any certificate that it does not like, `GnuTLS` says `decode_error` to none.
#[test]
fn any_alert_after_the_request_for_a_certificate_is_about_the_certificate() {
    let pki = Pki::new();
    for (alert, name) in [(80, "internal_error"), (50, "decode_error")] {
        let config = pki.asking(ONLY_TLS12);
        let peer = Peer::new(move |peer, _| {
            let mut stream = accept(peer, &config);
            begin_handshake(&mut stream);
            // The whole answer: certificate, key exchange, signature, Finished.
            assert_ne!(stream.sock.read(&mut [0; 16_384]).expect("the probe answers"), 0);
            peer.send([21, 3, 3, 0, 2, 2, alert]);
            peer.finish();
            peer.drain();
        });
        let line =
            format!("error: TLS handshake with {} failed: the server asked for a client certificate", peer.address);
        let required = format!(
            "{line} issued by CN=A, got none, and refused the connection (alert {name})\n\
             hint: give one with -tls-client-cert and -tls-client-key\n"
        );
        probe(&peer.addr(), &["-tls", &pki.ca]).expect(2, "", &required);
        assert_eq!(kind(&peer.addr(), &["-tls", &pki.ca, "-wait=1h"]), "tls-client-certificate-required");
        let [cert, key] = pki.identity(&pki.foreign.client());
        let rejected = format!(
            "{line}, got ours, and refused the connection (alert {name}): it accepts certificates issued by CN=A; ours is issued by CN=B\n\
             hint: give a certificate issued by CN=A with -tls-client-cert and -tls-client-key\n"
        );
        probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect(2, "", &rejected);
        assert_eq!(kind(&peer.addr(), &["-tls", &pki.ca, &cert, &key, "-wait=1h"]), "tls-client-certificate-rejected");
    }
}

/// Under TLS 1.3 the server judges the certificate after our side of the handshake is complete.
#[test]
fn any_alert_before_settings_is_about_the_certificate_that_was_asked_for() {
    let pki = Pki::new();
    let config = pki.asking(ONLY_TLS13);
    let peer = Peer::new(move |peer, _| {
        let mut stream = accept(peer, &config);
        begin_handshake(&mut stream);
        refuse_by_alert(&mut stream);
        peer.finish();
        peer.drain();
    });
    let lines = format!(
        "error: TLS handshake with {} failed: the server asked for a client certificate issued by CN=A, got none, and refused the \
         connection (alert bad_record_mac)\nhint: give one with -tls-client-cert and -tls-client-key\n",
        peer.address
    );
    probe(&peer.addr(), &["-tls", &pki.ca]).expect(2, "", &lines);
}

#[test]
fn rejected_client_certificates_are_told_with_what_the_server_accepts() {
    let pki = Pki::new();
    for versions in [ONLY_TLS12, ONLY_TLS13] {
        let setup = TlsSetup { leaf: &pki.leaf, versions, alpn: &["h2"], clients: Some(&pki.authority) };
        let config = setup.config();
        let peer = Peer::new(move |peer, _| {
            let mut stream = accept(peer, &config);
            take_request(&mut stream);
            send(&mut stream, &serving());
            drain(&mut stream);
        });
        let line = format!("error: TLS handshake with {} failed: the server", peer.address);
        let ran = probe(&peer.addr(), &["-tls", &pki.ca]);
        let required = format!("{line} requires a client certificate issued by CN=A (alert ");
        assert!(ran.code == Some(2) && ran.stderr.starts_with(&required), "{ran}");
        let [cert, key] = pki.identity(&pki.foreign.client());
        let rejected = format!(
            "{line} rejected the client certificate (alert unknown_ca): it accepts certificates issued by CN=A; ours is issued by CN=B\n\
             hint: give a certificate issued by CN=A with -tls-client-cert and -tls-client-key\n"
        );
        probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect(2, "", &rejected);
        let [cert, key] = pki.expired();
        let expired = format!(
            "{line} rejected the client certificate (alert certificate_expired): ours expired on 2021-02-03\n\
             hint: renew the client certificate\n"
        );
        probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect(2, "", &expired);
        let [cert, key] = pki.identity(&Authority::new("A").client());
        let namesake = format!(
            "{line} rejected the client certificate (alert decrypt_error): ours is issued by CN=A\n\
             hint: did another CA of the same name issue it? see the server's log\n"
        );
        probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect(2, "", &namesake);
        // What the hints say helps.
        let [cert, key] = pki.identity(&pki.authority.client());
        probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect_healthy();
    }
}

/// Node, grpclib and servers based on C-core close.
#[test]
fn a_close_after_the_request_for_a_certificate_is_explained() {
    let pki = Pki::new();
    let config = with_any_client(&pki, ONLY_TLS13);
    let peer = Peer::new(move |peer, _| {
        let mut stream = accept(peer, &config);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        }
        peer.finish();
        peer.drain();
    });
    let line = format!("error: TLS handshake with {} failed: the server asked for a client certificate", peer.address);
    let required = format!(
        "{line} issued by CN=A, got none, and closed the connection\nhint: give one with -tls-client-cert and -tls-client-key\n"
    );
    probe(&peer.addr(), &["-tls", &pki.ca]).expect(2, "", &required);
    let [cert, key] = pki.identity(&pki.foreign.client());
    let rejected = format!(
        "{line}, got ours, and closed the connection: it accepts certificates issued by CN=A; ours is issued by CN=B\n\
         hint: give a certificate issued by CN=A with -tls-client-cert and -tls-client-key\n"
    );
    probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect(2, "", &rejected);
    let [cert, key] = pki.identity(&pki.authority.client());
    let unsure = format!(
        "{line}, got ours, and closed the connection: ours is issued by CN=A\n\
         hint: does the server trust its issuer, and is it still valid? see the server's log\n"
    );
    probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect(2, "", &unsure);
    assert_eq!(kind(&peer.addr(), &["-tls", &pki.ca, &cert, &key, "-wait=1h"]), "tls-client-certificate-rejected");
}

#[test]
fn silence_after_the_request_for_a_certificate_tells_of_it() {
    let pki = Pki::new();
    let config = pki.asking(ONLY_TLS13);
    let peer = Peer::new(move |peer, _| drain(&mut accept(peer, &config)));
    let lines = format!(
        "error: no HTTP/2 from {}: connected, but the server sent nothing within 1s; it asked for a client certificate issued by CN=A, \
         and got none\n",
        peer.address
    );
    probe(&peer.addr(), &["-tls", &pki.ca]).expect(2, "", &lines);
}

#[test]
fn a_key_that_the_server_takes_no_signature_by_is_told() {
    let pki = Pki::new();
    let all = ring::default_provider().signature_verification_algorithms;
    let is_rsa = |scheme: rustls::SignatureScheme| format!("{scheme:?}").starts_with("RSA");
    let first = all.mapping.iter().position(|(scheme, _)| is_rsa(*scheme)).expect("ring takes RSA");
    let rsa = WebPkiSupportedAlgorithms { all: all.all, mapping: &all.mapping[first..] };
    let config = config(&pki, ONLY_TLS13, verifier(&pki, rsa));
    let peer = Peer::new(move |peer, _| drain(&mut accept(peer, &config)));
    let [cert, key] = pki.identity(&pki.authority.client());
    let lines = format!(
        "error: TLS handshake with {} failed: the server requires a client certificate issued by CN=A (alert certificate_required): \
         ours was not sent, as the server takes no signature by its key\n\
         hint: give one with another kind of key with -tls-client-cert and -tls-client-key\n",
        peer.address
    );
    probe(&peer.addr(), &["-tls", &pki.ca, &cert, &key]).expect(2, "", &lines);
}

// The end of TLS after SETTINGS.

#[test]
fn an_alert_after_settings_that_is_not_about_a_certificate_is_a_failure_of_the_rpc() {
    let pki = Pki::new();
    for config in [pki.server(), pki.asking(ONLY_TLS13)] {
        let peer = Peer::new(move |peer, _| {
            let mut stream = accept(peer, &config);
            take_request(&mut stream);
            refuse_by_alert(&mut stream);
            peer.finish();
            peer.drain();
        });
        expect_rpc(&peer, &["-tls", &pki.ca], "the server ended TLS with the alert bad_record_mac", None);
        expect_rpc(&peer, &["-tls", &pki.ca, "-watch"], "the server ended TLS with the alert bad_record_mac", None);
    }
}

#[test]
fn a_corrupt_record_is_told_as_that() {
    let pki = Pki::new();
    let config = pki.server();
    let peer = Peer::new(move |peer, _| {
        let mut stream = accept(peer, &config);
        take_request(&mut stream);
        peer.send([&[23, 3, 3, 0, 40][..], &[7; 40]].concat());
        peer.drain();
    });
    let cause = "what the server sent cannot be decrypted: it is corrupt (bad record MAC)";
    expect_rpc(&peer, &["-tls", &pki.ca], cause, None);
    assert_eq!(kind(&peer.addr(), &["-tls", &pki.ca]), "stream-broken");
}

#[test]
fn a_corrupt_record_before_settings_is_told_as_that() {
    let pki = Pki::new();
    let config = pki.server();
    let peer = Peer::new(move |peer, _| {
        let mut stream = accept(peer, &config);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        }
        peer.send([&[23, 3, 3, 0, 40][..], &[7; 40]].concat());
        peer.drain();
    });
    let lines = format!(
        "error: no HTTP/2 from {}: what the server sent cannot be decrypted: it is corrupt (bad record MAC)\n",
        peer.address
    );
    probe(&peer.addr(), &["-tls", &pki.ca]).expect(2, "", &lines);
}

// How a connection or a stream ends.

#[test]
fn a_reset_after_the_request_is_told_as_a_reset() {
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.reset();
    });
    expect_rpc(&peer, &[], "the server reset the connection", None);
    let begun = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(ok_headers());
        // So that the probe reads the headers before the reset drops them.
        sleep(Duration::from_millis(200));
        peer.reset();
    });
    expect_rpc(&begun, &[], "the server reset the connection", None);
}

#[test]
fn a_close_before_the_response_is_not_told_as_one_during_it() {
    let peer = Peer::new(|peer, _| peer.take_request());
    expect_rpc(&peer, &[], "the server closed the connection without a response", None);
    expect_rpc(&peer, &["-watch"], "the server closed the connection without a response", None);
    let during = Peer::new(|peer, _| {
        peer.take_request();
        peer.send([ok_headers(), data(0, &[0, 0])].concat());
        peer.finish();
        peer.drain();
    });
    expect_rpc(&during, &[], "the server closed the connection during the response", None);
    expect_rpc(&during, &["-watch"], "the server closed the connection during the response", None);
    // Of two answers, one has come.
    let half = Peer::new(|peer, _| {
        peer.read_preface();
        peer.send(settings(&[]));
        peer.await_request();
        peer.await_request();
        peer.send(serving());
        peer.finish();
        peer.drain();
    });
    let lines = format!(
        "error: b: health check of {} failed: the server closed the connection without a response\n",
        half.address
    );
    probe(&half.addr(), &["-service=a", "-service=b"]).expect(3, "a: status: SERVING\n", &lines);
}

#[test]
fn goaway_without_an_error_refuses_nothing() {
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(goaway(0, 0, b"max_age"));
        peer.drain();
    });
    let ran = probe(&peer.addr(), &["-rpc-timeout=200ms"]);
    let begins = format!(
        "error: health check of {} failed: the server closed the connection before it took the request: GOAWAY (NO_ERROR): \
         \"max_age\" (",
        peer.address
    );
    assert!(ran.code == Some(3) && ran.stderr.starts_with(&begins), "{ran}");
    let before = Peer::new(|peer, _| {
        peer.read_preface();
        peer.send(goaway(ALL, 0, b"max_age"));
        peer.drain();
    });
    let lines = format!(
        "error: no HTTP/2 from {}: the server closed the connection before its SETTINGS: GOAWAY (NO_ERROR): \"max_age\"\n",
        before.address
    );
    probe(&before.addr(), &[]).expect(2, "", &lines);
    // The answer began, and did not end.
    let taken = answers([ok_headers(), goaway(1, 0, b"max_age")].concat());
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.send([ok_headers(), goaway(1, 0, b"max_age")].concat());
        peer.finish();
        peer.drain();
    });
    let cause = "the server closed the connection during the response: GOAWAY (NO_ERROR): \"max_age\"";
    expect_rpc(&peer, &[], cause, None);
    assert_eq!(kind(&taken.addr(), &["-rpc-timeout=200ms"]), "rpc-timeout");
}

#[test]
fn a_reset_stream_of_a_watch_is_told_as_that() {
    for (code, name) in [(2_u32, "INTERNAL_ERROR"), (7, "REFUSED_STREAM"), (11, "ENHANCE_YOUR_CALM")] {
        // After a status, alone and with a GOAWAY.
        for rest in [Vec::new(), goaway(1, 2, b"broken")] {
            let bytes = [ok_headers(), data(0, &answer(1)), rst_stream(code), rest].concat();
            let peer = answers(bytes);
            let mut running = Probe::new([&peer.addr(), "-watch"]).start();
            let (stdout, stderr) = running.follow();
            assert!(stdout.next().ends_with(" status: SERVING"));
            let line = stderr.next();
            running.signal("-TERM");
            running.finish();
            let cause = format!("the server reset the stream: RST_STREAM ({name})");
            assert!(line.ends_with(&format!(" error: watching {} failed: {cause}", peer.address)), "{line}");
        }
    }
    // Before a status, with what closes the connection.
    let peer = answers([rst_stream(2), goaway(1, 0, b"")].concat());
    expect_rpc(&peer, &["-watch"], "the server reset the stream: RST_STREAM (INTERNAL_ERROR)", None);
    let peer = answers([rst_stream(2), goaway(1, 2, b"")].concat());
    expect_rpc(&peer, &[], "the server reset the stream: RST_STREAM (INTERNAL_ERROR)", None);
}

#[test]
fn a_bad_hpack_block_is_named() {
    let cause = "the response's headers cannot be decoded (a bad HPACK block)";
    // An index of zero; one beyond the tables; a length beyond the block.
    for block in [&[0x80][..], &[0xff, 0x80, 0x01], &[0x00, 0x7f, 0x00]] {
        let bad = frame(HEADERS, END_HEADERS, 1, block);
        expect_rpc(&answers(bad.clone()), &[], cause, None);
        expect_rpc(&answers([bad, data(0, &answer(1)), trailers(&[("grpc-status", b"0")])].concat()), &[], cause, None);
        // In the trailers.
        let bad = frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
        expect_rpc(&answers([ok_headers(), data(0, &answer(1)), bad].concat()), &[], cause, None);
    }
}

#[test]
fn other_faults_are_not_told_as_bad_hpack() {
    let cause = "the response breaks the rules of HTTP/2, or is too large (PROTOCOL_ERROR)";
    let on_stream = |stream| frame(DATA, 0, stream, &answer(1));
    expect_rpc(&answers([ok_headers(), on_stream(0)].concat()), &[], cause, None);
    // A block that another frame interrupts.
    let open = frame(HEADERS, 0, 1, &block(&[(":status", b"200")]));
    expect_rpc(&answers([open, on_stream(1)].concat()), &[], cause, None);
}

#[test]
fn what_is_wrong_with_a_response_is_named() {
    let ok = || trailers(&[("grpc-status", b"0")]);
    for (body, cause) in [
        ([data(0, &[]), ok()], "status OK, but no message"),
        ([data(0, &answer(1)[..3]), ok()], "the message was cut off"),
        ([data(0, &answer(1)[..6]), ok()], "the message was cut off"),
        ([data(0, &answer(1).repeat(2)), ok()], "more than one message came"),
        ([data(0, &answer(1)), trailers(&[("x-cost", b"3")])], "its trailers have no grpc-status"),
        ([data(0, &answer(1)), data(END_STREAM, &[])], "it ended without trailers, so without a grpc-status"),
        ([data(0, &[9, 0, 0, 0, 2, 8, 1]), ok()], "the message has the unknown compression flag 9"),
        ([data(0, &[1, 0, 0, 0, 2, 8, 1]), ok()], "the message is compressed in a way that was not agreed on"),
    ] {
        let response = [ok_headers(), body.concat()].concat();
        expect_rpc(&answers(response), &[], &format!("the response is malformed: {cause}"), None);
        // With another HTTP status, that is the cause.
        let head = headers(0, &[(":status", b"503"), ("content-type", b"application/grpc")]);
        let hint = Some("the server, or a proxy before it, is not ready");
        let cause = "the server answered HTTP 503 Service Unavailable (UNAVAILABLE)";
        expect_rpc(&answers([head, body.concat()].concat()), &[], cause, hint);
    }
}

#[test]
fn each_http_status_has_its_code_and_hint() {
    const CREDENTIALS: &str = "the server requires credentials; give them with -rpc-header";
    const NO_SERVICE: &str = "no gRPC health service answers on this port; probe the port that has it";
    const PROXY: &str = "a proxy answers here and cannot reach the server behind it";
    for (status, said, hint) in [
        ("400", "400 Bad Request (INTERNAL)", None),
        ("401", "401 Unauthorized (UNAUTHENTICATED)", Some(CREDENTIALS)),
        ("403", "403 Forbidden (PERMISSION_DENIED)", None),
        ("405", "405 Method Not Allowed (UNKNOWN)", Some(NO_SERVICE)),
        ("415", "415 Unsupported Media Type (UNKNOWN)", Some(NO_SERVICE)),
        ("429", "429 Too Many Requests (UNAVAILABLE)", None),
        ("500", "500 Internal Server Error (UNKNOWN)", None),
        ("502", "502 Bad Gateway (UNAVAILABLE)", Some(PROXY)),
        ("503", "503 Service Unavailable (UNAVAILABLE)", Some("the server, or a proxy before it, is not ready")),
        ("504", "504 Gateway Timeout (UNAVAILABLE)", Some(PROXY)),
    ] {
        let peer = answers(bare(&[(":status", status.as_bytes())]));
        expect_rpc(&peer, &[], &format!("the server answered HTTP {said}"), hint);
    }
}

#[test]
fn a_flood_of_continuation_frames_is_named() {
    let field = block(&[("x", b"y")]);
    let flood = [frame(HEADERS, 0, 1, &field), frame(CONTINUATION, 0, 1, &field).repeat(1000)].concat();
    expect_rpc(&answers(flood), &[], "the server floods us with CONTINUATION frames, and its headers do not end", None);
    let empty = [frame(HEADERS, 0, 1, &field), frame(CONTINUATION, 0, 1, &[]).repeat(1000)].concat();
    expect_rpc(&answers(empty), &[], "the server floods us with CONTINUATION frames, and its headers do not end", None);
}

#[test]
fn a_server_that_wants_http_1_1_is_explained() {
    const HINT: Option<&str> = Some("gRPC needs HTTP/2; is this the gRPC port, or a proxy without HTTP/2?");
    let cause = "the server reset the stream: RST_STREAM (HTTP_1_1_REQUIRED)";
    expect_rpc(&answers(rst_stream(13)), &[], cause, HINT);
    let cause = "the server refused the connection: GOAWAY (HTTP_1_1_REQUIRED)";
    expect_rpc(&answers(goaway(0, 13, b"")), &[], cause, HINT);
    let before = Peer::new(|peer, _| {
        peer.read_preface();
        peer.send(goaway(0, 13, b""));
        peer.drain();
    });
    let lines = format!("error: no HTTP/2 from {}: {cause}\nhint: {}\n", before.address, HINT.unwrap_or_default());
    probe(&before.addr(), &[]).expect(2, "", &lines);
}

// gRPC.

#[test]
fn the_servers_own_deadline_is_told_with_its_message() {
    let gives_up = |after: u64| {
        Peer::new(move |peer, _| {
            peer.take_request();
            sleep(Duration::from_millis(after));
            peer.send(grpc_status(b"4", b"db check took too long"));
            peer.drain();
        })
    };
    let early = gives_up(0);
    let cause = "the server gave up at once: DEADLINE_EXCEEDED: db check took too long";
    expect_rpc(&early, &["-rpc-timeout=20s"], cause, None);
    // In the second half of our time.
    let late = gives_up(600);
    let ran = probe(&late.addr(), &["-rpc-timeout=1100ms"]);
    let begins = format!("error: health check of {} failed: the server gave up after ", late.address);
    let seconds = ran
        .stderr
        .strip_prefix(&begins)
        .and_then(|rest| rest.strip_suffix("s: DEADLINE_EXCEEDED: db check took too long\n"));
    let seconds: Option<f64> = seconds.and_then(|seconds| seconds.parse().ok());
    assert!(ran.code == Some(3) && seconds.is_some_and(|seconds| (0.6..1.2).contains(&seconds)), "{ran}");
    assert_eq!(kind(&early.addr(), &["-rpc-timeout=20s"]), "rpc-failed");
    // Where it gives up at our deadline, it may need more time.
    let last = gives_up(1900);
    let ran = probe(&last.addr(), &["-rpc-timeout=2s"]);
    // On a busy machine our own time may be over first.
    if ran.stderr.contains("gave up") {
        assert!(ran.stderr.ends_with("\nhint: it had 2s; -rpc-timeout gives it more\n"), "{ran}");
    }
    // A watch and a list say it in the same way.
    expect_rpc(&early, &["-rpc-timeout=20s", "-watch"], cause, None);
    expect_rpc(&early, &["-rpc-timeout=20s", "-list"], cause, None);
    // A server that does not answer in our time.
    let never = gives_up(5000);
    let lines = format!("error: health check of {} timed out after 300ms: connected, no answer\n", never.address);
    probe(&never.addr(), &["-rpc-timeout=300ms"]).expect(3, "", &lines);
}

#[test]
fn not_found_without_a_service_asks_for_one() {
    let server = server::by_path(|path| match path {
        "/grpc.health.v1.Health/Check" => Reply::Status("5", "unknown service"),
        // "a" with SERVING.
        _ => Reply::Message(vec![10, 7, 10, 1, b'a', 18, 2, 8, 1]),
    });
    let lines = format!(
        "error: health check of {} failed: NOT_FOUND: unknown service\n\
         hint: no -service was given, and the server has no status as a whole; name a service, or try -list\n",
        server.address
    );
    probe(&server.addr(), &[]).expect(3, "", &lines);
    probe(&server.addr(), &["-list"]).expect(0, "SERVICE  STATUS\na        SERVING\n", "");
}

#[test]
fn a_proxy_without_a_route_for_our_authority_is_considered() {
    let no_text = bare(&[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"12")]);
    for (response, cause, first) in [
        (
            no_text,
            "UNIMPLEMENTED",
            "this server does not offer the health service; register it, or probe the port that does",
        ),
        (
            bare(&[(":status", b"404"), ("server", b"envoy")]),
            "the server answered HTTP 404 Not Found (UNIMPLEMENTED)",
            "no gRPC health service answers on this port; probe the port that has it",
        ),
    ] {
        let peer = answers(response.clone());
        let route = |peer: &Peer| {
            format!(
                "if a proxy answers here, it may have no route for the authority \"{}\" (-authority sets it)",
                peer.address
            )
        };
        expect_rpc(&peer, &[], cause, Some(&format!("{first}; {}", route(&peer))));
        let pki = Pki::new();
        let config = pki.server();
        let peer = Peer::new(move |peer, _| {
            let mut stream = accept(peer, &config);
            take_request(&mut stream);
            send(&mut stream, &response);
            drain(&mut stream);
        });
        expect_rpc(&peer, &["-tls", &pki.ca], cause, Some(&format!("{first}; {}", route(&peer))));
    }
}

/// A server that knows no such service says so, and is no proxy.
#[test]
fn unimplemented_with_a_message_is_the_servers() {
    let peer = answers(grpc_status(b"12", b"unknown service grpc.health.v1.Health"));
    let hint = "this server does not offer the health service; register it, or probe the port that does";
    expect_rpc(&peer, &[], "UNIMPLEMENTED: unknown service grpc.health.v1.Health", Some(hint));
}

/// Of two addresses that fail, only the one that was reached has a session.
#[test]
fn a_watch_that_ends_tells_the_session_of_each_address() {
    let Some(()) = needs::root() else { return };
    let (pki, names) = (Pki::new(), "127.0.0.1 backend\n127.0.0.2 backend\n");
    let config = pki.server();
    let peer = Peer::new(move |peer, _| {
        let mut stream = accept(peer, &config);
        take_request(&mut stream);
        send(&mut stream, &grpc_status(b"12", b"no Watch"));
        drain(&mut stream);
    });
    let addr = format!("-addr=backend:{}", peer.address.port());
    let flags = ["-all-addresses", "-watch", "-tls", "-tls-server-name=127.0.0.1", &pki.ca, "-output=json"];
    let ran = run_with_dns(names, NO_NAME_SERVER, &[&[addr.as_str()], &flags[..]].concat());
    let mut lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect();
    lines.sort_by_key(|line| line["peer"].to_string());
    let told = lines.iter().map(|line| (line["error"]["kind"].as_str(), line["tls"]["version"].as_str()));
    let expected = [(Some("unimplemented"), Some("TLSv1.3")), (Some("connection-refused"), None)];
    assert_eq!(told.collect::<Vec<_>>(), expected, "{ran}");
}

#[test]
fn misdirected_requests_name_the_authority() {
    let peer = answers(bare(&[(":status", b"421")]));
    let cause = "the server answered HTTP 421 Misdirected Request (UNKNOWN)";
    let hint = format!("the server does not answer for the authority \"{}\" (-authority sets it)", peer.address);
    expect_rpc(&peer, &[], cause, Some(&hint));
}

/// Connect and Armeria answer 404 to a method that they do not have. Behind an interceptor, only methods that there are ask for
/// credentials.
#[test]
fn a_missing_list_is_told_where_check_answers() {
    let not_found = || bare(&[(":status", b"404")]);
    let unimplemented = || grpc_status(b"12", b"unknown method List");
    let on_3 = |mut bytes: Vec<u8>| {
        // The stream of the first frame, which is the only one.
        bytes[8] = 3;
        bytes
    };
    let status = |code: &'static [u8]| on_3(grpc_status(code, b""));
    for (list, check, hint) in [
        (not_found(), status(b"5"), "Check works"),
        (not_found(), status(b"16"), "Check answers UNAUTHENTICATED"),
        (unimplemented(), status(b"7"), "Check answers PERMISSION_DENIED"),
        (unimplemented(), on_3(bare(&[(":status", b"401")])), "Check answers UNAUTHENTICATED"),
        (unimplemented(), status(b"13"), "Check answers INTERNAL"),
    ] {
        let cause = if list == not_found() {
            "the server answered HTTP 404 Not Found (UNIMPLEMENTED)"
        } else {
            "UNIMPLEMENTED: unknown method List"
        };
        let peer = Peer::new(move |peer, _| {
            peer.take_request();
            peer.send(&list);
            peer.await_request();
            peer.send(&check);
            peer.drain();
        });
        let hint = format!("this server has the health service, but not its method List; {hint}");
        expect_rpc(&peer, &["-list"], cause, Some(&hint));
    }
}

#[test]
fn http_statuses_have_their_hints() {
    for (status, cause, hint) in [
        (
            &b"401"[..],
            "401 Unauthorized (UNAUTHENTICATED)",
            "the server requires credentials; give them with -rpc-header",
        ),
        (b"502", "502 Bad Gateway (UNAVAILABLE)", "a proxy answers here and cannot reach the server behind it"),
        (b"503", "503 Service Unavailable (UNAVAILABLE)", "the server, or a proxy before it, is not ready"),
        (b"504", "504 Gateway Timeout (UNAVAILABLE)", "a proxy answers here and cannot reach the server behind it"),
    ] {
        let peer = answers(bare(&[(":status", status)]));
        expect_rpc(&peer, &[], &format!("the server answered HTTP {cause}"), Some(hint));
    }
}

// gzip.

/// SERVING as gzip, in a message.
const GZIPPED: [u8; 27] = [1, 0, 0, 0, 22, 31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 227, 96, 4, 0, 97, 168, 7, 254, 2, 0, 0, 0];

#[test]
fn a_gzip_answer_that_was_not_asked_for_is_explained() {
    let fields: [(&str, &[u8]); 3] =
        [(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-encoding", b"gzip")];
    let response = [headers(0, &fields), data(0, &GZIPPED), trailers(&[("grpc-status", b"0")])].concat();
    let peer = answers(response);
    let cause = "the response is malformed: the message is compressed with gzip, which the request does not accept";
    expect_rpc(&peer, &[], cause, Some("add -gzip, which accepts it"));
    probe(&peer.addr(), &["-gzip"]).expect_healthy();
}

#[test]
fn gzip_is_told_as_the_cause_where_the_server_answers_without_it() {
    let server = server::plaintext();
    let line = format!(
        "error: health check of {} failed: UNIMPLEMENTED: Content is compressed with `gzip` which isn't supported",
        server.address
    );
    for (probe, hint) in [
        (Probe::new([&server.addr(), "-gzip"]), "leave out -gzip"),
        (Probe::new([server.addr()]).env("GRPC_HEALTH_PROBE_GZIP", "true"), "unset GRPC_HEALTH_PROBE_GZIP"),
    ] {
        probe.run().expect(1, "", &format!("{line}\nhint: {hint}: without it, the server answers\n"));
    }
    Probe::new([server.addr()]).run().expect_healthy();
    // A server that resets the stream of what it cannot read.
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(rst_stream(2));
        peer.await_request();
        let serving_on_3 = [
            frame(HEADERS, END_HEADERS, 3, &block(&[(":status", b"200"), ("content-type", b"application/grpc")])),
            frame(DATA, 0, 3, &answer(1)),
            frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&[("grpc-status", b"0")])),
        ];
        peer.send(serving_on_3.concat());
        peer.drain();
    });
    let cause = "the server reset the stream: RST_STREAM (INTERNAL_ERROR)";
    expect_rpc(&peer, &["-gzip"], cause, Some("leave out -gzip: without it, the server answers"));
}

#[test]
fn gzip_is_not_told_as_the_cause_of_other_failures() {
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(rst_stream(2));
        peer.await_request();
        peer.send(frame(RST_STREAM, 0, 3, &2_u32.to_be_bytes()));
        peer.drain();
    });
    expect_rpc(&peer, &["-gzip"], "the server reset the stream: RST_STREAM (INTERNAL_ERROR)", None);
}
