//! `-authority`: the `:authority` of every request, and nothing else.

use crate::support::{
    frames::{END_STREAM, headers},
    peer::Peer,
    pki::{Authority, Files, Leaf},
    probe::{Probe, RunResult},
    server::{self, Recorder, TlsSetup},
};

fn probe(addr: &str, flags: &[&str]) -> RunResult {
    Probe::new([&[addr], flags].concat()).run()
}

/// The `:authority` of the next request.
fn seen(recorder: &Recorder) -> String {
    recorder.request().uri().authority().expect("the request has one").to_string()
}

fn recorder(leaf: &Leaf) -> Recorder {
    Recorder::tls(&TlsSetup { leaf, versions: rustls::DEFAULT_VERSIONS, alpn: &["h2"], clients: None })
}

#[test]
fn it_is_sent_as_given() {
    let recorder = Recorder::plaintext();
    for (name, sent) in [
        ("api.internal", "api.internal"),
        ("api.internal:8443", "api.internal:8443"),
        ("API.Internal", "API.Internal"),
        ("shop_api", "shop_api"),
        ("10.0.0.7:1", "10.0.0.7:1"),
        ("[::1]:50051", "[::1]:50051"),
        ("[::1]", "[::1]"),
        ("::1", "[::1]"),
        ("a.b.c.", "a.b.c."),
    ] {
        probe(&recorder.server.addr(), &["-authority", name]).expect_healthy();
        assert_eq!(seen(&recorder), sent, "{name}");
    }
    let verbose = probe(&recorder.server.addr(), &["-authority=api.internal", "-v"]);
    assert!(verbose.stderr.contains("\n> authority=api.internal\n"), "{verbose}");
}

#[test]
fn an_empty_one_is_not_given() {
    let recorder = Recorder::plaintext();
    probe(&recorder.server.addr(), &["-authority="]).expect_healthy();
    assert_eq!(seen(&recorder), recorder.server.address.to_string());
    let name = "GRPC_HEALTH_PROBE_AUTHORITY";
    Probe::new([recorder.server.addr()]).env(name, "api.internal").run().expect_healthy();
    assert_eq!(seen(&recorder), "api.internal");
    Probe::new([&recorder.server.addr(), "-authority=flag"]).env(name, "variable").run().expect_healthy();
    assert_eq!(seen(&recorder), "flag");
}

#[cfg(unix)]
#[test]
fn it_is_sent_over_a_unix_socket() {
    let files = Files::new();
    let path = files.path("api.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("the directory is writable");
    let recorder = Recorder::unix(listener);
    probe(&format!("-addr=unix:{}", path.display()), &["-authority=api.internal"]).expect_healthy();
    assert_eq!(seen(&recorder), "api.internal");
}

/// The server is verified by the address, or by `-tls-server-name`, whatever the authority says.
#[test]
fn it_changes_nothing_about_tls() {
    let (authority, files) = (Authority::new("Test CA"), Files::new());
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
    let server = recorder(&authority.server(&["127.0.0.1"]));
    probe(&server.server.addr(), &["-tls", &ca, "-authority=api.internal"]).expect_healthy();
    assert_eq!(seen(&server), "api.internal");

    let server = recorder(&authority.server(&["api.test"]));
    let addr = server.server.addr();
    probe(&addr, &["-tls", &ca, "-tls-server-name=api.test:444", "-authority=other.test"]).expect_healthy();
    assert_eq!(seen(&server), "other.test");
    // Without it, a port in the server's name is part of the authority.
    probe(&addr, &["-tls", &ca, "-tls-server-name=api.test:444"]).expect_healthy();
    assert_eq!(seen(&server), "api.test:444");
    // The certificate is for this name, and nothing asks for it.
    let ran = probe(&addr, &["-tls", &ca, "-authority=api.test", "-exit-codes=detailed", "-output=json"]);
    ran.expect_kind(2, "tls", "tls-certificate-wrong-name");
    assert!(!server.has_request());
}

#[test]
fn every_kind_of_request_has_it() {
    // What it answers ends a list, a watch and a diagnosis. One with the flag has more than one request.
    for (flags, least) in [(&["-list"][..], 1), (&["-watch", "-timeout=2s"], 1), (&["-diagnose", "-timeout=5s"], 2)] {
        let recorder = Recorder::plaintext();
        probe(&recorder.server.addr(), &[&["-authority=api.internal"], flags].concat());
        let mut requests = 0;
        while recorder.has_request_to("api.internal") {
            requests += 1;
        }
        assert!(requests >= least, "{flags:?}: {requests}");
    }
}

#[test]
fn one_that_can_never_be_is_refused() {
    for (name, message) in [
        ("a b", "not a valid authority"),
        (" a", "not a valid authority"),
        ("a\u{e9}", "not a valid authority"),
        ("a\\b", "not a valid authority"),
        ("a%zz", "not a valid authority"),
        ("a\"b", "not a valid authority"),
        ("[::1", "not a valid authority"),
        ("a:b:c", "not a valid authority"),
        ("a/b", "an authority has no scheme and no path; write host or host:port"),
        ("https://a", "an authority has no scheme and no path; write host or host:port"),
        ("a:", "the port is not a number from 1 to 65535"),
        ("a:x", "the port is not a number from 1 to 65535"),
        ("a:+1", "the port is not a number from 1 to 65535"),
        ("a:0", "the port is not a number from 1 to 65535"),
        ("a:65536", "the port is not a number from 1 to 65535"),
        (":80", "the host is missing; write host or host:port"),
    ] {
        let ran = probe("-addr=127.0.0.1:1", &["-authority", name]);
        ran.expect_error(1, &format!("error: -authority={name}: {message}"));
    }
    for name in ["a\nb", "a\r\nx: y", "a\u{202e}b", "a?b", "a#b"] {
        let flags = ["-exit-codes=detailed", "-output=json", "-authority", name];
        probe("-addr=127.0.0.1:1", &flags).expect_kind(1, "usage", "usage");
    }
    // A password is not shown.
    let ran = probe("-addr=127.0.0.1:1", &["-authority=user:secret@api"]);
    ran.expect_error(1, "error: -authority=…@api: an authority has no user; write host or host:port");
    let ran = Probe::new(["-addr=127.0.0.1:1"]).env("GRPC_HEALTH_PROBE_AUTHORITY", "a/b").run();
    let message = "an authority has no scheme and no path; write host or host:port";
    ran.expect_error(1, &format!("error: GRPC_HEALTH_PROBE_AUTHORITY \"a/b\": {message}"));
}

/// A proxy with a route for one name only.
#[test]
fn a_missing_route_is_named_with_the_flag() {
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(headers(END_STREAM, &[(":status", b"404")]));
        peer.drain();
    });
    let ran = probe(&peer.addr(), &["-authority=api.internal"]);
    let route = "it may have no route for the authority \"api.internal\" (-authority sets it)\n";
    assert!(ran.code == Some(1) && ran.stderr.ends_with(route), "{ran}");
}

#[test]
fn the_advice_of_a_diagnosis_has_it() {
    let server = server::plaintext();
    let ran = probe(&server.addr(), &["-diagnose", "-authority=api.internal"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let page = ran.stdout.replace(" \\\n      ", " ");
    let command = format!("grpc_health_probe -addr={} -authority=api.internal\n", server.address);
    assert!(page.contains(&command), "{ran}");
    assert!(page.contains("\"-authority=api.internal\""), "{ran}");
    assert!(page.contains("(the kubelet's own grpc probe sends its own authority)"), "{ran}");
}
