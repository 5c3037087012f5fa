//! `-tls-no-alpn`: a TLS server that answers no ALPN at all is accepted; it is verified, and has to speak HTTP/2, as ever.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use rustls::{
    ServerConnection, StreamOwned, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};

use crate::support::{
    peer::Peer,
    pki::{Authority, Files, Leaf},
    probe::{Probe, RunResult},
    server::{Recorder, TlsSetup},
};

const VERSIONS: [&[&SupportedProtocolVersion]; 2] = [&[&TLS12], &[&TLS13]];

fn setup<'a>(leaf: &'a Leaf, alpn: &'a [&'a str]) -> TlsSetup<'a> {
    TlsSetup { leaf, versions: rustls::DEFAULT_VERSIONS, alpn, clients: None }
}

/// A CA, and the flags of a probe that trusts it.
struct Pki {
    authority: Authority,
    flags: [String; 2],
    _files: Files,
}

impl Pki {
    fn new() -> Self {
        let (authority, files) = (Authority::new("Test CA"), Files::new());
        let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
        Self { authority, flags: ["-tls".to_owned(), ca], _files: files }
    }

    fn leaf(&self) -> Leaf {
        self.authority.server(&["127.0.0.1"])
    }

    fn probe(&self, addr: &str, more: &[&str]) -> RunResult {
        let flags = self.flags.iter().map(String::as_str);
        Probe::new([addr].into_iter().chain(flags).chain(more.iter().copied())).run()
    }
}

#[test]
fn a_server_without_alpn_is_accepted() {
    let pki = Pki::new();
    let leaf = pki.leaf();
    for versions in VERSIONS {
        let recorder = Recorder::tls(&TlsSetup { versions, ..setup(&leaf, &[]) });
        let addr = recorder.server.addr();
        pki.probe(&addr, &["-tls-no-alpn"]).expect_healthy();
        assert!(recorder.has_request());
        let address = recorder.server.address;
        let refused = format!(
            "error: TLS handshake with {address} failed: the server answered no ALPN, so it does not say that it speaks \
             HTTP/2\n\
             hint: is this the gRPC port? if it is, let the server, or the proxy before it, offer \"h2\" by ALPN; \
             -tls-no-alpn accepts it without\n"
        );
        pki.probe(&addr, &[]).expect(1, "", &refused);
        pki.probe(&addr, &["-tls-no-alpn=false"]).expect(1, "", &refused);
        assert!(!recorder.has_request());
    }
    let recorder = Recorder::tls(&setup(&leaf, &[]));
    let address = recorder.server.address.to_string();
    let by_variable = Probe::new([&pki.flags[0], &pki.flags[1], &address]).env("GRPC_HEALTH_PROBE_TLS_NO_ALPN", "true");
    by_variable.run().expect_healthy();
    let verbose = pki.probe(&recorder.server.addr(), &["-tls-no-alpn", "-v"]);
    assert!(verbose.stderr.contains(" server-name=127.0.0.1 no-alpn=true\n"), "{verbose}");
}

#[test]
fn a_server_with_alpn_is_as_before() {
    let pki = Pki::new();
    let leaf = pki.leaf();
    let recorder = Recorder::tls(&setup(&leaf, &["h2"]));
    pki.probe(&recorder.server.addr(), &["-tls-no-alpn"]).expect_healthy();

    // One that speaks another protocol only says so.
    let recorder = Recorder::tls(&setup(&leaf, &["http/1.1"]));
    let [with, without] = [&["-tls-no-alpn"][..], &[]].map(|more| pki.probe(&recorder.server.addr(), more));
    assert_eq!((with.code, &with.stdout, &with.stderr), (without.code, &without.stdout, &without.stderr), "{with}");
    assert!(with.code == Some(1) && with.stderr.contains("the server refused HTTP/2"), "{with}");
    assert!(!with.stderr.contains("-tls-no-alpn"), "{with}");
    let json = pki.probe(&recorder.server.addr(), &["-tls-no-alpn", "-output=json", "-exit-codes=detailed"]);
    json.expect_kind(2, "tls", "tls-no-h2");
    assert!(!recorder.has_request());
}

#[test]
fn the_server_is_verified_all_the_same() {
    let pki = Pki::new();
    let (wrong_name, unknown) =
        (pki.authority.server(&["other.test"]), Authority::new("Other CA").server(&["127.0.0.1"]));
    for (leaf, kind) in [(&wrong_name, "tls-certificate-wrong-name"), (&unknown, "tls-certificate-unknown-issuer")] {
        let recorder = Recorder::tls(&setup(leaf, &[]));
        let ran = pki.probe(&recorder.server.addr(), &["-tls-no-alpn", "-output=json", "-exit-codes=detailed"]);
        ran.expect_kind(2, "tls", kind);
        assert!(!recorder.has_request());
    }
    // A client certificate is asked for, and there is none.
    let leaf = pki.leaf();
    for versions in VERSIONS {
        let clients = Authority::new("Clients CA");
        let recorder = Recorder::tls(&TlsSetup { versions, clients: Some(&clients), ..setup(&leaf, &[]) });
        let ran = pki.probe(&recorder.server.addr(), &["-tls-no-alpn", "-output=json", "-exit-codes=detailed"]);
        ran.expect_kind(2, "tls", "tls-client-certificate-required");
    }
}

/// A TLS server without ALPN that answers the first bytes with these, and closes or waits.
fn answering(leaf: &Leaf, answer: &'static [u8], closes: bool) -> Peer {
    let config = setup(leaf, &[]).config();
    Peer::new(move |peer, _| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("the configuration is valid");
        let mut stream = StreamOwned::new(connection, peer.stream());
        if matches!(stream.read(&mut [0; 1024]), Ok(1..))
            && stream.write_all(answer).and_then(|()| stream.flush()).is_ok()
        {
            if closes {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
            while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {}
        }
    })
}

#[test]
fn a_server_that_speaks_no_http2_is_named() {
    let pki = Pki::new();
    let leaf = pki.leaf();
    for (answer, closes, kind, words) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            true,
            "server-speaks-http1",
            "the server answered with HTTP/1: \"HTTP/1.1 400 Bad Request\"",
        ),
        (b"220 mail ESMTP\r\n", false, "not-http2", "the server answered with \"220 mail ESMTP\""),
        (b"", true, "closed-early", "the server closed the connection"),
        (b"", false, "server-silent", "connected, but the server sent nothing within 700ms"),
    ] {
        let peer = answering(&leaf, answer, closes);
        let timeout = if kind == "server-silent" { "-connect-timeout=700ms" } else { "-rpc-timeout=1s" };
        let flags = ["-tls-no-alpn", "-exit-codes=detailed", timeout];
        let ran = pki.probe(&peer.addr(), &flags);
        let begins = format!("error: no HTTP/2 from {}: {words}", peer.address);
        assert!(ran.code == Some(2) && ran.stdout.is_empty() && ran.stderr.starts_with(&begins), "{ran}");
        pki.probe(&peer.addr(), &[&flags[..], &["-output=json"]].concat()).expect_kind(2, "http2", kind);
    }
}

#[test]
fn a_diagnosis_advises_it() {
    let pki = Pki::new();
    let leaf = pki.leaf();
    let recorder = Recorder::tls(&setup(&leaf, &[]));
    let ran = pki.probe(&recorder.server.addr(), &["-diagnose"]);
    let command = |ran: &RunResult| ran.stdout.replace(" \\\n      ", " ");
    assert!(ran.code == Some(1) && command(&ran).contains(" -tls-no-alpn\n"), "{ran}");
    let fits = pki.probe(&recorder.server.addr(), &["-diagnose", "-tls-no-alpn"]);
    assert_eq!(fits.code, Some(0), "{fits}");
    assert!(fits.stdout.contains("the server speaks TLS, as the flags say"), "{fits}");
    assert!(fits.stdout.contains("no ALPN"), "{fits}");
    assert!(command(&fits).contains(" -tls-no-alpn"), "{fits}");

    // Where another protocol is answered, it would not help.
    let recorder = Recorder::tls(&setup(&leaf, &["http/1.1"]));
    let ran = pki.probe(&recorder.server.addr(), &["-diagnose"]);
    assert!(ran.code == Some(1) && !ran.stdout.contains("-tls-no-alpn"), "{ran}");
}
