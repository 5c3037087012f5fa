//! The way to the server: addresses in all the forms of the Go tool.

use crate::support::{
    pki::{Authority, Files, Leaf},
    probe::{Probe, Ran},
    server::{self, Recorder, TlsSetup},
};

#[track_caller]
fn expect_peer(ran: &Ran, peer: &str) {
    assert!(ran.code == Some(0) && ran.json()["peer"] == peer, "{ran}expected {peer}\n");
}

/// Probes by TLS and returns the `:authority` that the server saw.
#[track_caller]
fn authority(recorder: &Recorder, arguments: &[&str]) -> String {
    Probe::new(arguments).run().expect_healthy();
    recorder.request().uri().authority().expect("the request has one").to_string()
}

fn recorder_with_tls(leaf: &Leaf) -> Recorder {
    Recorder::tls(&TlsSetup { leaf, versions: rustls::ALL_VERSIONS, alpn: &["h2"], clients: None })
}

#[test]
fn a_port_in_the_server_name_belongs_to_the_authority_alone() {
    let files = Files::new();
    let root = Authority::new("Test CA");
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &root.pem));
    let recorder = recorder_with_tls(&root.server(&["localhost", "api.test", "10.1.2.3", "fd00::7"]));
    let addr = recorder.server.addr();
    for (name, seen) in [
        ("localhost:443", "localhost:443"),
        ("api.test:50051", "api.test:50051"),
        ("10.1.2.3:443", "10.1.2.3:443"),
        ("[fd00::7]:443", "[fd00::7]:443"),
        ("fd00::7", "[fd00::7]"),
    ] {
        let server_name = format!("-tls-server-name={name}");
        assert_eq!(authority(&recorder, &[&addr, "-tls", &ca, &server_name]), seen, "{name}");
    }
    let ran = Probe::new([&addr, "-tls", &ca, "-tls-server-name=other.test:443"]).run();
    assert!(ran.code == Some(1) && ran.stderr.contains(", not for other.test\n"), "{ran}");
    for name in
        ["localhost:", "localhost:0", "localhost:65536", "localhost:http", ":443", "[fd00::7]", "[localhost]:443"]
    {
        let line = format!("error: -tls-server-name={name}: not a name that a certificate can be valid for");
        Probe::new([&addr, "-tls", &ca, &format!("-tls-server-name={name}")]).run().expect_error(1, &line);
    }
}

#[test]
fn a_dot_at_the_end_of_a_name_makes_no_difference() {
    let files = Files::new();
    let root = Authority::new("Test CA");
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &root.pem));
    for san in ["localhost", "localhost.", "LOCALHOST."] {
        let server = server::tls(&root.server(&[san]));
        let addr = format!("-addr=localhost.:{}", server.port());
        Probe::new([&addr, "-tls", &ca]).run().expect_healthy();
        let by_name = [&server.addr(), "-tls", &ca, "-tls-server-name=localhost."];
        Probe::new(by_name).run().expect_healthy();
        let store = files.path("ca.pem");
        Probe::new([&addr, "-tls"]).env("SSL_CERT_FILE", store).run().expect_healthy();
        // The server's own certificate.
        let own = Leaf::self_signed(&[san], true);
        let own_cert = format!("-tls-ca-cert={}", files.write("own.pem", &own.pem));
        let server = server::tls(&own);
        Probe::new([&format!("-addr=localhost.:{}", server.port()), "-tls", &own_cert]).run().expect_healthy();
    }
    for san in ["other.", "localhost..", "x.localhost.", "*.", "localhost.x"] {
        let server = server::tls(&root.server(&[san]));
        let addr = format!("-addr=localhost.:{}", server.port());
        let ran = Probe::new([&addr, "-tls", &ca, "-output=json"]).run();
        ran.expect_kind(1, "tls", "tls-certificate-wrong-name");
    }
    // A name with a dot is believed from a trusted issuer only.
    let server = server::tls(&Authority::new("Other CA").server(&["localhost."]));
    let ran = Probe::new([&format!("-addr=localhost.:{}", server.port()), "-tls", &ca, "-output=json"]).run();
    ran.expect_kind(1, "tls", "tls-certificate-unknown-issuer");
}

#[test]
fn the_unspecified_addresses_are_this_machine() {
    for recorder in [Recorder::plaintext(), Recorder::plaintext_v6()] {
        for form in ["0.0.0.0", "[::]"] {
            let address = format!("{form}:{}", recorder.server.port());
            assert_eq!(authority(&recorder, &["-addr", &address]), address);
            let ran = Probe::new(["-addr", &address, "-output=json"]).run();
            expect_peer(&ran, &recorder.server.address.to_string());
            recorder.request();
        }
    }
    for (address, tried) in [("0.0.0.0:1", "127.0.0.1:1, [::1]:1"), ("[::]:1", "[::1]:1, 127.0.0.1:1")] {
        let line = format!("error: cannot connect to {address}: connection refused ({tried})");
        Probe::new([address]).run().expect_error(1, &line);
    }
    let ran = Probe::new(["[::]:1", "-all-addresses"]).run();
    assert!(ran.stderr.contains("error: 127.0.0.1:1: ") && ran.stderr.contains("error: [::1]:1: "), "{ran}");
}

#[test]
fn targets_as_the_go_tool_takes_them() {
    let (v4, v6) = (Recorder::plaintext(), Recorder::plaintext_v6());
    for (recorder, form, seen) in [
        (&v4, "dns:/127.0.0.1:P", "127.0.0.1:P"),
        (&v4, "dns:/localhost:P", "localhost:P"),
        (&v4, "passthrough:/localhost:P", "localhost:P"),
        (&v4, "passthrough://any/localhost:P", "localhost:P"),
        (&v4, "passthrough://a.b:1/127.0.0.1:P", "127.0.0.1:P"),
        (&v4, "[127.0.0.1]:P", "[127.0.0.1]:P"),
        (&v4, "dns:///[127.0.0.1]:P", "[127.0.0.1]:P"),
        (&v4, "[::ffff:127.0.0.1]:P", "[::ffff:127.0.0.1]:P"),
        (&v4, "ipv6:[::ffff:127.0.0.1]:P", "[::ffff:127.0.0.1]:P"),
        (&v6, "[::1%lo]:P", "[::1]:P"),
        (&v6, "passthrough://any/[::1%lo]:P", "[::1]:P"),
        (&v6, "dns:/[::1]:P", "[::1]:P"),
    ] {
        let port = recorder.server.port().to_string();
        let (form, seen) = (form.replace('P', &port), seen.replace('P', &port));
        assert_eq!(authority(recorder, &["-addr", &form]), seen, "{form}");
    }
    for (address, cause) in [
        ("dns://10.0.0.10/localhost:50051", "dns://SERVER/… is not supported; write dns:///host:port (three slashes)"),
        ("passthrough://localhost:50051", "no address follows; write passthrough:///host:port (three slashes)"),
        ("passthrough://any/", "a host and a port are missing; write host:port"),
        ("dns:/", "a host and a port are missing; write host:port"),
        ("[localhost]:50051", "brackets are for IPv6 addresses only"),
        ("[127.0.0]:50051", "brackets are for IPv6 addresses only"),
        ("[127.0.0.1%lo]:50051", "brackets are for IPv6 addresses only"),
    ] {
        Probe::new(["-addr", address]).run().expect_error(1, &format!("error: -addr={address}: {cause}"));
    }
}

#[test]
fn certificates_for_addresses_in_other_forms() {
    let files = Files::new();
    let root = Authority::new("Test CA");
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &root.pem));
    let server = server::tls(&root.server(&["127.0.0.1"]));
    for form in ["[127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "dns:/127.0.0.1"] {
        Probe::new([&format!("-addr={form}:{}", server.port()), "-tls", &ca]).run().expect_healthy();
    }
    let by_name = [&server.addr(), "-tls", &ca, "-tls-server-name=::ffff:127.0.0.1"];
    Probe::new(by_name).run().expect_healthy();
    let ran = Probe::new([&server.addr(), "-tls", &ca, "-tls-server-name=::ffff:127.0.0.2"]).run();
    assert!(ran.code == Some(1) && ran.stderr.contains("valid for 127.0.0.1, not for 127.0.0.2\n"), "{ran}");
    let server = server::tls_v6(&root.server(&["::1"]));
    Probe::new([&format!("-addr=[::1%lo]:{}", server.port()), "-tls", &ca]).run().expect_healthy();
}
