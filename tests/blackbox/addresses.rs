//! Address syntax: the forms that the probe dials, with the `:authority` that the server sees, and the forms it refuses.

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener},
        },
    },
    process,
};

use crate::support::{
    needs,
    pki::{Authority, Files, Leaf},
    probe::Probe,
    server::{self, Recorder, TlsSetup},
};

/// Probes `address` and returns the `:authority` that the server saw.
#[track_caller]
fn authority(recorder: &Recorder, address: &str) -> String {
    Probe::new([format!("-addr={address}")]).run().expect_healthy();
    recorder.request().uri().authority().expect("the request has one").to_string()
}

/// Expects the probe to refuse the address without dialling: exit code 1 in both modes.
#[track_caller]
fn expect_refused(address: &str, cause: &str) {
    let addr = format!("-addr={address}");
    for mode in ["-exit-codes=docker", "-exit-codes=detailed"] {
        Probe::new([mode, &addr]).run().expect_error(1, &format!("error: {addr}: {cause}"));
    }
    Probe::new([&addr, "-output=json"]).run().expect_kind(1, "usage", "usage");
}

#[test]
fn ipv4_address_forms_are_dialled_with_their_authority() {
    let recorder = Recorder::plaintext();
    let port = recorder.server.port();
    for (form, seen) in [
        ("127.0.0.1:P", "127.0.0.1:P"),
        ("127.0.0.1:0P", "127.0.0.1:0P"),
        ("localhost:P", "localhost:P"),
        ("LOCALHOST:P", "LOCALHOST:P"),
        ("localhost.:P", "localhost.:P"),
        (":P", "localhost:P"),
        ("0.0.0.0:P", "0.0.0.0:P"),
        ("[::ffff:127.0.0.1]:P", "[::ffff:127.0.0.1]:P"),
        ("dns:///127.0.0.1:P", "127.0.0.1:P"),
        ("dns:///localhost:P", "localhost:P"),
        ("dns:///:P", "localhost:P"),
        ("dns:127.0.0.1:P", "127.0.0.1:P"),
        ("dns:localhost:P", "localhost:P"),
        ("DNS:///localhost:P", "localhost:P"),
        ("passthrough:///127.0.0.1:P", "127.0.0.1:P"),
        ("passthrough:///localhost:P", "localhost:P"),
        ("passthrough:///:P", "localhost:P"),
        ("passthrough:127.0.0.1:P", "127.0.0.1:P"),
        ("ipv4:127.0.0.1:P", "127.0.0.1:P"),
    ] {
        let (form, seen) = (form.replace('P', &port.to_string()), seen.replace('P', &port.to_string()));
        assert_eq!(authority(&recorder, &form), seen, "{form}");
    }
}

#[test]
fn ipv6_address_forms_are_dialled_with_their_authority() {
    let recorder = Recorder::plaintext_v6();
    let port = recorder.server.port();
    for (form, seen) in [
        ("[::1]:P", "[::1]:P"),
        ("[0:0:0:0:0:0:0:1]:P", "[0:0:0:0:0:0:0:1]:P"),
        ("[::]:P", "[::]:P"),
        ("localhost:P", "localhost:P"),
        (":P", "localhost:P"),
        ("dns:///[::1]:P", "[::1]:P"),
        ("dns:[::1]:P", "[::1]:P"),
        ("dns:///localhost:P", "localhost:P"),
        ("dns:///:P", "localhost:P"),
        ("passthrough:///[::1]:P", "[::1]:P"),
        ("ipv6:[::1]:P", "[::1]:P"),
    ] {
        let (form, seen) = (form.replace('P', &port.to_string()), seen.replace('P', &port.to_string()));
        assert_eq!(authority(&recorder, &form), seen, "{form}");
    }
}

/// Only root can listen on port 443, so the test checks the failed attempt. No other program uses 127.77.13.9.
#[test]
fn dns_target_without_port_uses_443() {
    for form in ["dns:///127.77.13.9", "dns:127.77.13.9"] {
        let ran = Probe::new([&format!("-addr={form}"), "-exit-codes=detailed"]).run();
        ran.expect_error(2, &format!("error: cannot connect to {form}: connection refused (127.77.13.9:443)"));
    }
}

#[test]
fn localhost_tries_both_loopback_addresses() {
    for address in [":1", "localhost:1", "dns:///localhost:1"] {
        let ran = Probe::new([address, "-exit-codes=detailed"]).run();
        let both = "connection refused (127.0.0.1:1, [::1]:1)";
        ran.expect_error(2, &format!("error: cannot connect to {address}: {both}"));
    }
}

#[test]
fn port_names_http_and_https_are_accepted() {
    for (form, port) in [("127.77.13.9:http", 80), ("127.77.13.9:https", 443)] {
        let ran = Probe::new([form, "-exit-codes=detailed"]).run();
        ran.expect_error(2, &format!("error: cannot connect to {form}: connection refused (127.77.13.9:{port})"));
    }
}

#[test]
fn unix_socket_by_absolute_path_is_dialled() {
    let files = Files::new();
    let path = files.path("socket");
    let recorder = Recorder::unix(UnixListener::bind(&path).expect("the directory is writable"));
    let path = path.display();
    for form in [
        format!("unix:{path}"),
        format!("unix://{path}"),
        format!("UNIX:{path}"),
        format!("passthrough:///unix:{path}"),
    ] {
        assert_eq!(authority(&recorder, &form), "localhost", "{form}");
    }
}

#[test]
fn unix_socket_by_relative_path_is_dialled() {
    let files = Files::new();
    fs::create_dir(files.path("run")).expect("the directory is writable");
    let recorder = Recorder::unix(UnixListener::bind(files.path("run/socket")).expect("the directory is writable"));
    for (form, directory) in [
        ("unix:run/socket", files.path("")),
        ("unix:./run/socket", files.path("")),
        ("unix:socket", files.path("run")),
        ("unix:../run/socket", files.path("run")),
    ] {
        Probe::new([form]).current_dir(&directory).run().expect_healthy();
        let request = recorder.request();
        assert_eq!(request.uri().authority().map(ToString::to_string).as_deref(), Some("localhost"), "{form}");
    }
}

#[test]
fn unix_socket_path_may_have_special_characters() {
    let files = Files::new();
    for name in ["with:colon", "with@at", "with%percent", "\u{e9}\u{1f980}", "a.b-c_d,e=f"] {
        let path = files.path(name);
        let recorder = Recorder::unix(UnixListener::bind(&path).expect("the directory is writable"));
        assert_eq!(authority(&recorder, &format!("unix:{}", path.display())), "localhost", "{name}");
    }
}

/// Go dials such a path, too. In a host name a space is refused.
#[test]
fn unix_socket_path_may_have_a_space() {
    let files = Files::new();
    let path = files.path("with space");
    let recorder = Recorder::unix(UnixListener::bind(&path).expect("the directory is writable"));
    assert_eq!(authority(&recorder, &format!("unix:{}", path.display())), "localhost");
}

#[test]
fn unix_socket_path_may_have_107_bytes_and_no_more() {
    let files = Files::new();
    let directory = files.path("").display().to_string();
    let longest = format!("{directory}{}", "x".repeat(107 - directory.len()));
    let recorder = Recorder::unix(UnixListener::bind(&longest).expect("the directory is writable"));
    assert_eq!(authority(&recorder, &format!("unix:{longest}")), "localhost");
    assert_eq!(authority(&recorder, &format!("unix://{longest}")), "localhost");

    expect_refused(&format!("unix:{longest}x"), "the path of a unix socket has at most 107 bytes");
    expect_refused(&format!("unix://{longest}x"), "the path of a unix socket has at most 107 bytes");
    // The limit counts bytes, not characters.
    expect_refused(&format!("unix:/{}", "\u{e9}".repeat(54)), "the path of a unix socket has at most 107 bytes");
    expect_refused(&format!("unix-abstract:{}", "x".repeat(108)), "the name of a unix socket has at most 107 bytes");
}

#[test]
fn abstract_unix_socket_is_dialled() {
    // All processes share the namespace, so the process ID makes the name unique.
    let name = format!("grpc-health-probe-test-{}", process::id());
    let listen = |name: &str| {
        let address = UnixAddress::from_abstract_name(name).expect("a short name");
        Recorder::unix(UnixListener::bind_addr(&address).expect("no other process uses the name"))
    };
    let recorder = listen(&name);
    assert_eq!(authority(&recorder, &format!("unix-abstract:{name}")), "localhost");
    // After `//` comes an empty authority. The third slash belongs to the name.
    let slash = listen(&format!("/{name}"));
    assert_eq!(authority(&slash, &format!("unix-abstract:///{name}")), "localhost");
    assert_eq!(authority(&slash, &format!("unix-abstract:/{name}")), "localhost");
    let longest = format!("{name:x<107}");
    assert_eq!(authority(&listen(&longest), &format!("unix-abstract:{longest}")), "localhost");
}

#[test]
fn tonic_server_is_healthy_on_every_address_type() {
    let files = Files::new();
    let path = files.path("socket");
    let (v4, v6, _unix) = (server::plaintext(), server::plaintext_v6(), server::unix(&path));
    for address in [
        format!("127.0.0.1:{}", v4.port()),
        format!("localhost:{}", v4.port()),
        format!(":{}", v4.port()),
        format!("[::1]:{}", v6.port()),
        format!("localhost:{}", v6.port()),
        format!(":{}", v6.port()),
        format!("unix:{}", path.display()),
    ] {
        Probe::new([&address]).run().expect_healthy();
        let down = "service unhealthy (responded with \"NOT_SERVING\")\n";
        Probe::new([&address, "-service=down"]).run().expect(1, down, "");
    }
}

#[test]
fn tls_server_name_replaces_the_authority() {
    let authority_key = Authority::new("root");
    let leaf = authority_key.server(&["probe.test", "10.1.2.3", "fd00::7"]);
    let files = Files::new();
    let ca_cert = format!("-tls-ca-cert={}", files.write("ca.pem", &authority_key.pem));
    let recorder = tls_recorder(&leaf);
    // The authority is the name alone, without the port.
    for (name, seen) in
        [("probe.test", "probe.test"), ("PROBE.test", "PROBE.test"), ("10.1.2.3", "10.1.2.3"), ("fd00::7", "[fd00::7]")]
    {
        let server_name = format!("-tls-server-name={name}");
        Probe::new([&recorder.server.addr(), "-tls", &ca_cert, &server_name]).run().expect_healthy();
        let request = recorder.request();
        assert_eq!(request.uri().authority().map(ToString::to_string).as_deref(), Some(seen), "{name}");
    }
    let unverified = ["-tls", "-tls-no-verify", "-tls-server-name=other.test"];
    Probe::new([recorder.server.addr().as_str()].into_iter().chain(unverified)).run().expect_healthy();
    assert_eq!(recorder.request().uri().authority().map(ToString::to_string).as_deref(), Some("other.test"));
}

#[test]
fn tls_does_not_change_the_authority() {
    let root = Authority::new("root");
    let files = Files::new();
    let ca_cert = format!("-tls-ca-cert={}", files.write("ca.pem", &root.pem));
    let recorder = tls_recorder(&root.server(&["localhost", "127.0.0.1"]));
    let port = recorder.server.port();
    for (address, seen) in [
        (format!("localhost:{port}"), format!("localhost:{port}")),
        (format!("127.0.0.1:{port}"), format!("127.0.0.1:{port}")),
        (format!(":{port}"), format!("localhost:{port}")),
        (format!("dns:///localhost:{port}"), format!("localhost:{port}")),
    ] {
        Probe::new([&address, "-tls", &ca_cert]).run().expect_healthy();
        let request = recorder.request();
        assert_eq!(request.uri().authority().map(ToString::to_string), Some(seen), "{address}");
        assert_eq!(request.uri().scheme_str(), Some("https"), "{address}");
    }
}

fn tls_recorder(leaf: &Leaf) -> Recorder {
    Recorder::tls(&TlsSetup { leaf, versions: rustls::ALL_VERSIONS, alpn: &["h2"], clients: None })
}

#[test]
fn urls_are_refused_with_a_suggestion() {
    for (url, instead) in [
        ("http://localhost:50051", "localhost:50051"),
        ("http://localhost:50051/", "localhost:50051"),
        ("http://localhost:50051/health?x#y", "localhost:50051"),
        ("http://localhost", "localhost:PORT"),
        ("http://[::1]:50051", "[::1]:50051"),
        ("http://[::1]", "[::1]:PORT"),
        ("http://", "host:port"),
        ("HTTP://localhost:50051", "localhost:50051"),
        ("https://localhost:50051", "localhost:50051 and -tls"),
        ("https://example.test/", "example.test:PORT and -tls"),
        ("grpc://localhost:50051", "localhost:50051"),
        ("grpcs://localhost:50051", "localhost:50051 and -tls"),
        ("h2c://localhost:50051", "localhost:50051"),
        ("tcp://localhost:50051", "localhost:50051"),
    ] {
        expect_refused(url, &format!("a URL is not an address; write {instead}"));
    }
}

#[test]
fn credentials_of_a_url_are_not_in_the_suggestion() {
    let ran = Probe::new(["-addr=http://user:password@localhost:50051/"]).run();
    assert!(ran.stderr.contains("write localhost:50051\n"), "{ran}");
}

#[test]
fn unknown_and_unsupported_schemes_are_refused() {
    for (address, cause) in [
        ("foo://localhost:50051", "unknown scheme \"foo\"; write host:port"),
        ("foo:///localhost:50051", "unknown scheme \"foo\"; write host:port"),
        ("file:///etc/passwd", "unknown scheme \"file\"; write host:port"),
        ("://localhost:50051", "unknown scheme \"\"; write host:port"),
        ("xds:///service", "xds: addresses are not supported; write host:port"),
        ("vsock:1:2", "vsock: addresses are not supported; write host:port"),
        ("dns://8.8.8.8/localhost:50051", "dns://SERVER/… is not supported; write dns:///host:port (three slashes)"),
        ("dns://localhost:50051", "dns://SERVER/… is not supported; write dns:///host:port (three slashes)"),
        ("passthrough://localhost:50051", "no address follows; write passthrough:///host:port (three slashes)"),
        ("unix://run/socket", "unix://… needs an absolute path; write unix:///path or unix:path"),
        ("unix://socket", "unix://… needs an absolute path; write unix:///path or unix:path"),
        ("unix-abstract://name", "unix-abstract://… takes no authority; write unix-abstract:name"),
        ("ipv4:[::1]:50051", "not an address of that family; write ipv4:1.2.3.4:50051"),
        ("ipv4:localhost:50051", "not an address of that family; write ipv4:1.2.3.4:50051"),
        ("ipv6:127.0.0.1:50051", "not an address of that family; write ipv6:[::1]:50051"),
    ] {
        expect_refused(address, cause);
    }
}

#[test]
fn incomplete_addresses_are_refused() {
    let port = "the port is missing; write host:port";
    for (address, cause) in [
        ("localhost", port),
        ("127.0.0.1", port),
        ("example.test", port),
        ("[::1]", port),
        ("50051", "a port alone needs a colon; write :50051"),
        ("/run/socket", "a path needs its scheme; write unix:/run/socket"),
        ("passthrough:///localhost", port),
        ("ipv4:127.0.0.1", port),
        ("ipv6:[::1]", port),
        ("localhost:", "the port is missing after \":\""),
        (":", "the port is missing after \":\""),
        ("[::1]:", "the port is missing after \":\""),
        ("dns:///localhost:", "the port is missing after \":\""),
        ("dns:", "a host and a port are missing; write host:port"),
        ("dns:///", "a host and a port are missing; write host:port"),
        ("passthrough:///", "a host and a port are missing; write host:port"),
        ("unix:", "the path of the socket is missing"),
        ("unix-abstract:", "the name of the socket is missing"),
    ] {
        expect_refused(address, cause);
    }
}

#[test]
fn invalid_ports_are_refused() {
    for (port, cause) in [
        ("0", "port 0 is not between 1 and 65535"),
        ("00", "port 00 is not between 1 and 65535"),
        ("65536", "port 65536 is not between 1 and 65535"),
        ("99999999999999999999", "port 99999999999999999999 is not between 1 and 65535"),
        ("-1", "port \"-1\" is not a number"),
        ("+1", "port \"+1\" is not a number"),
        ("50051x", "port \"50051x\" is not a number"),
        ("0x50", "port \"0x50\" is not a number"),
        ("\u{ff15}", "port \"\u{ff15}\" is not a number"),
        ("grpc", "port \"grpc\" is not a number"),
        ("50051/", "\"/\" after the port 50051 does not belong to an address"),
        ("50051/health", "\"/health\" after the port 50051 does not belong to an address"),
    ] {
        expect_refused(&format!("localhost:{port}"), cause);
        expect_refused(&format!("[::1]:{port}"), cause);
        expect_refused(&format!("dns:///localhost:{port}"), cause);
    }
}

#[test]
fn invalid_hosts_are_refused() {
    let brackets = "an IPv6 address needs brackets; write [::1]:50051";
    for (address, cause) in [
        ("::1:50051", brackets.to_owned()),
        ("::1", brackets.to_owned()),
        ("fe80::1:50051", brackets.to_owned()),
        ("dns:///::1:50051", brackets.to_owned()),
        ("ipv6:::1:50051", brackets.to_owned()),
        ("a:b:50051", "there is more than one colon; write host:port".to_owned()),
        ("[::1", "\"]\" is missing".to_owned()),
        ("[::1:50051", "\"]\" is missing".to_owned()),
        ("[::1]50051", "after \"]\" only :port may follow".to_owned()),
        ("[localhost]:50051", "brackets are for IPv6 addresses only".to_owned()),
        ("[]:50051", "brackets are for IPv6 addresses only".to_owned()),
        ("[::g]:50051", "[::g] is not an IPv6 address".to_owned()),
        ("[::1%]:50051", "the zone after \"%\" is missing".to_owned()),
        ("a..b:50051", "the host name has an empty part".to_owned()),
        (".a:50051", "the host name has an empty part".to_owned()),
        (".:50051", "the host name has an empty part".to_owned()),
        ("b\u{fc}cher.test:50051", "the host name is not ASCII; write its xn-- form".to_owned()),
        ("%zz:1", "'%' cannot be in a host name".to_owned()),
        ("a/b:1", "'/' cannot be in a host name".to_owned()),
        ("a,b:1", "',' cannot be in a host name".to_owned()),
        ("*:50051", "'*' cannot be in a host name".to_owned()),
    ] {
        expect_refused(address, &cause);
    }
    // The message repeats neither user nor password.
    for address in ["user@host:1", "user:secret@host:1", "user:secret@[::1]:1"] {
        let host = address.split_once('@').expect("there is a user").1;
        let line = format!("error: -addr=…@{host}: an address has no user; write host:port\n");
        Probe::new([format!("-addr={address}")]).run().expect(1, "", &line);
    }
    let label = "a part of a host name has at most 63 characters";
    expect_refused(&format!("{}:50051", "a".repeat(64)), label);
    expect_refused(&format!("b.{}.test:50051", "a".repeat(64)), label);
    let parts = vec!["a".repeat(63); 4].join(".");
    let shown = format!("{}…", &parts[..200]);
    let line = format!("error: -addr={shown}: a host name has at most 253 characters");
    Probe::new([format!("-addr={parts}:50051")]).run().expect_error(1, &line);
}

/// The probe refuses none of them itself: the lookup fails.
#[test]
fn longest_legal_host_names_are_resolved() {
    for host in ["a".repeat(63), format!("{}.{}", vec!["a".repeat(63); 3].join("."), "a".repeat(53))] {
        let ran = Probe::new([&format!("{host}.invalid.:1"), "-exit-codes=detailed", "-connect-timeout=100ms"]).run();
        assert!(ran.code == Some(2) && ran.stdout.is_empty(), "{ran}");
    }
}

#[test]
fn spaces_and_control_characters_are_refused_and_shown_escaped() {
    for (address, shown) in [
        (" localhost:50051", " localhost:50051"),
        ("localhost:50051 ", "localhost:50051 "),
        ("local host:50051", "local host:50051"),
        ("localhost:50051\n", "localhost:50051\\n"),
        ("localhost\t:50051", "localhost\\t:50051"),
        ("localhost:50051\r\nhint: run rm", "localhost:50051\\r\\nhint: run rm"),
        ("\u{1b}[31mlocalhost:50051", "\\u{1b}[31mlocalhost:50051"),
        ("\u{7f}:50051", "\\u{7f}:50051"),
        ("\u{9b}31m:50051", "\\u{9b}31m:50051"),
        ("unix:/run/a\nb", "unix:/run/a\\nb"),
    ] {
        let ran = Probe::new([format!("-addr={address}")]).run();
        let message = format!("error: -addr={shown}: an address has no spaces or control characters\n");
        let hint = "hint: the value begins or ends with a blank; leave it out\n";
        ran.expect(1, "", &(message + if address.trim() == address { "" } else { hint }));
    }
    let ran = Probe::new(["-addr=a\u{202e}b:50051"]).run();
    ran.expect(1, "", "error: -addr=a\\u{202e}b:50051: the host name is not ASCII; write its xn-- form\n");
}

#[test]
fn unix_socket_failures_have_distinct_causes() {
    let files = Files::new();
    let address = |name: &str| format!("unix:{}", files.path(name).display());
    let missing = address("missing");
    let ran = Probe::new([&missing, "-exit-codes=detailed"]).run();
    ran.expect_error(2, &format!("error: cannot connect to {missing}: no such file"));
    Probe::new([&missing, "-output=json"]).run().expect_kind(1, "connect", "socket-missing");

    files.write("file", "");
    let ran = Probe::new([&address("file"), "-exit-codes=detailed"]).run();
    ran.expect_error(2, &format!("error: cannot connect to {}: it is not a socket", address("file")));
    Probe::new([&address("file"), "-output=json"]).run().expect_kind(1, "connect", "not-a-socket");
    Probe::new([&address(""), "-output=json"]).run().expect_kind(1, "connect", "not-a-socket");

    drop(UnixListener::bind(files.path("stale")).expect("the directory is writable"));
    let ran = Probe::new([&address("stale"), "-exit-codes=detailed"]).run();
    ran.expect_error(2, &format!("error: cannot connect to {}: connection refused", address("stale")));
    Probe::new([&address("stale"), "-output=json"]).run().expect_kind(1, "connect", "connection-refused");

    let _datagrams = UnixDatagram::bind(files.path("datagrams")).expect("the directory is writable");
    Probe::new([&address("datagrams"), "-output=json"]).run().expect_kind(1, "connect", "not-a-socket");

    let missing = format!("unix-abstract:grpc-health-probe-missing-{}", process::id());
    Probe::new([&missing, "-output=json"]).run().expect_kind(1, "connect", "connection-refused");
}

#[test]
fn unix_socket_without_permission_reports_permission_denied() {
    let Some(user) = needs::another_user() else { return };
    let files = Files::new();
    let path = files.path("socket");
    let _listener = UnixListener::bind(&path).expect("the directory is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("the test owns the socket");
    let address = format!("unix:{}", path.display());
    // Root ignores file modes.
    let ran = Probe::unprivileged(user, &files.path(""), [address.as_str(), "-exit-codes=detailed"]).run();
    ran.expect_error(2, &format!("error: cannot connect to {address}: permission denied"));
}
