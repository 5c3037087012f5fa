//! The way to the server: the next address of a name, names that appear late, and addresses in all the forms of the Go tool.

use std::{
    net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, atomic::AtomicUsize, mpsc},
};

use rustls::{ServerConnection, StreamOwned};

use crate::support::{
    dns::{Behavior, NameServer, name_server_on, run_with_dns, start_with_dns},
    frames::{goaway, serving, settings},
    needs,
    peer::{Connection, Peer},
    pki::{Authority, Files, Leaf},
    probe::{Probe, RunResult},
    server::{self, Recorder, TlsSetup},
};

const NOWHERE: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 99);

type Script = fn(&mut Connection);
type BoxedScript = Box<dyn Fn(&mut Connection) + Send + Sync>;

fn serve(peer: &mut Connection) {
    peer.take_request();
    peer.send(serving());
    peer.drain();
}

fn close(_: &mut Connection) {}

fn be_silent(peer: &mut Connection) {
    peer.drain();
}

fn speak(peer: &mut Connection, bytes: &[u8]) {
    peer.read_preface();
    peer.send(bytes);
    peer.drain();
}

fn speak_http1(peer: &mut Connection) {
    speak(peer, b"HTTP/1.1 400 Bad Request\r\n\r\n");
}

fn speak_ssh(peer: &mut Connection) {
    speak(peer, b"SSH-2.0-OpenSSH_9.2\r\n");
}

/// Closes plaintext connections without a word, and speaks TLS.
fn want_tls(peer: &mut Connection) {
    let mut first = [0];
    if matches!(peer.stream().peek(&mut first), Ok(1)) && first[0] == 22 {
        peer.send([21, 3, 3, 0, 2, 2, 40]);
        peer.drain();
    }
}

/// Listeners on both loopback addresses, on one port.
fn listeners() -> [TcpListener; 2] {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = first.local_addr().expect("it is bound").port();
        // Another test may have the port of IPv6.
        if let Ok(second) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
            return [first, second];
        }
    }
}

/// Servers at both addresses of `localhost`, and their port.
fn pair(first: Script, second: Script) -> ([Peer; 2], u16) {
    let [ipv4, ipv6] = listeners();
    let peers = [Peer::on(ipv4, move |peer, _| first(peer)), Peer::on(ipv6, move |peer, _| second(peer))];
    let port = peers[0].address.port();
    (peers, port)
}

/// Servers at 127.0.0.1, 127.0.0.2 and so on, their port, and the hosts file in which `backend` has all of these addresses.
fn backend(scripts: &[Script]) -> (Vec<Peer>, u16, String) {
    let at = |last: usize, port: u16| {
        let last = u8::try_from(last).expect("there are few");
        TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).expect("the port is free there")
    };
    let first = at(1, 0);
    let port = first.local_addr().expect("it is bound").port();
    let others = (2..=scripts.len()).map(|last| at(last, port));
    let peers: Vec<Peer> = [first]
        .into_iter()
        .chain(others)
        .zip(scripts.to_vec())
        .map(|(listener, script)| Peer::on(listener, move |peer, _| script(peer)))
        .collect();
    let hosts: Vec<String> = (1..=scripts.len()).map(|last| format!("127.0.0.{last} backend\n")).collect();
    (peers, port, hosts.concat())
}

#[track_caller]
fn expect_peer(ran: &RunResult, peer: &str) {
    assert!(ran.code == Some(0) && ran.json()["peer"] == peer, "{ran}expected {peer}\n");
}

#[test]
fn a_server_that_is_no_use_leads_to_the_next_address() {
    let reset: Script = |peer| {
        peer.read_preface();
        peer.reset();
    };
    let refuse: Script = |peer| speak(peer, &goaway(0, 11, b"calm down"));
    let speak_tls: Script = |peer| speak(peer, &[21, 3, 3, 0, 2, 2, 40]);
    // At once, so that the usual time is enough.
    let (_peers, port) = pair(close, serve);
    Probe::new([format!(":{port}")]).run().expect_healthy();
    for first in [close, reset, speak_http1, speak_ssh, speak_tls, refuse, be_silent] {
        let (peers, port) = pair(first, serve);
        let ran = Probe::new([&format!("-addr=localhost:{port}"), "-connect-timeout=20s", "-output=json"]).run();
        expect_peer(&ran, &format!("[::1]:{port}"));
        let took = &ran.json()["timings_ms"];
        assert!(took["connect"].is_number() && took["http2"].is_number(), "{ran}");
        assert_eq!(peers.map(|peer| peer.connections()), [1, 1]);
    }
}

#[test]
fn a_handshake_that_fails_leads_to_the_next_address() {
    let files = Files::new();
    let authority = Authority::new("Test CA");
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
    let other = authority.server(&["other.test"]);
    let own = authority.server(&["localhost"]);
    let shake_hands = |leaf: &Leaf, alpn: &[&str]| {
        let config = TlsSetup { leaf, versions: rustls::ALL_VERSIONS, alpn, clients: None }.config();
        let script = move |peer: &mut Connection| {
            let session = ServerConnection::new(Arc::clone(&config)).expect("the configuration is valid");
            let mut stream: StreamOwned<ServerConnection, TcpStream> = StreamOwned::new(session, peer.stream());
            let mut bytes = [0; 4096];
            while matches!(std::io::Read::read(&mut stream, &mut bytes), Ok(1..)) {}
        };
        Box::new(script) as BoxedScript
    };
    let firsts: [BoxedScript; 6] = [
        Box::new(close),
        Box::new(be_silent),
        Box::new(|peer| {
            peer.send(settings(&[]));
            peer.drain();
        }),
        shake_hands(&other, &["h2"]),
        shake_hands(&own, &[]),
        // After the handshake it is silent.
        shake_hands(&own, &["h2"]),
    ];
    for first in firsts {
        let server = server::tls(&own);
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, server.port())).expect("the port is free there");
        let _first = Peer::on(listener, move |peer, _| first(peer));
        let addr = format!("-addr=[::]:{}", server.port());
        let flags = ["-tls", "-tls-server-name=localhost", "-connect-timeout=20s", "-output=json"];
        let ran = Probe::new([&[addr.as_str(), &ca], &flags[..]].concat()).run();
        expect_peer(&ran, &server.address.to_string());
        assert!(ran.json()["tls"]["version"] == "TLSv1.3", "{ran}");
    }
}

#[test]
fn silent_addresses_leave_time_for_all_others() {
    let Some(()) = needs::root() else { return };
    let (_peers, port, hosts) = backend(&[be_silent, be_silent, be_silent, serve]);
    let arguments = [&format!("-addr=backend:{port}"), "-connect-timeout=20s", "-output=json"];
    expect_peer(&run_with_dns(&hosts, NOWHERE, &arguments), &format!("127.0.0.4:{port}"));
}

#[test]
fn a_slow_server_has_all_of_the_time() {
    let [ipv4, ipv6] = listeners();
    let (sender, receiver) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    let first = Peer::on(ipv4, move |peer, _| {
        peer.read_preface();
        // Longer than its share of the time.
        receiver.lock().expect("nobody panics with it").recv().expect("the next address is tried");
        peer.send(settings(&[]));
        peer.await_request();
        peer.send(serving());
        peer.drain();
    });
    let _second = Peer::on(ipv6, move |peer, _| {
        let _ = sender.send(());
        peer.drain();
    });
    let addr = format!("-addr=localhost:{}", first.address.port());
    let ran = Probe::new([&addr, "-connect-timeout=20s", "-rpc-timeout=20s", "-output=json"]).run();
    expect_peer(&ran, &first.address.to_string());
}

#[test]
fn the_failure_says_what_each_address_did() {
    let http1 = "the server answered with HTTP/1: \"HTTP/1.1 400 Bad Request\"";
    let (_peers, port) = pair(speak_http1, speak_ssh);
    let ran = Probe::new([format!("-addr=localhost:{port}")]).run();
    let ssh = "the server answered with \"SSH-2.0-OpenSSH_9.2\", as SSH does";
    let line = format!("error: no HTTP/2 from localhost:{port}: {http1} (127.0.0.1:{port}); [::1]:{port}: {ssh}");
    ran.expect_error(1, &line);

    let (_peers, port) = pair(speak_http1, speak_http1);
    let line = format!("error: no HTTP/2 from localhost:{port}: {http1} (127.0.0.1:{port}, [::1]:{port})");
    let ran = Probe::new([&format!("-addr=localhost:{port}"), "-v"]).run();
    assert!(ran.stderr.contains(&line) && ran.stderr.contains(&format!("http2: [::1]:{port}: {http1}\n")), "{ran}");

    // The one that came furthest decides, and it is the peer.
    let (_peers, port) = pair(be_silent, speak_ssh);
    let ran = Probe::new([&format!("-addr=localhost:{port}"), "-output=json"]).run();
    ran.expect_kind(1, "http2", "server-silent");
    assert_eq!(ran.json()["peer"], format!("127.0.0.1:{port}"), "{ran}");
    let message = format!(
        "no HTTP/2 from localhost:{port}: connected, but the server sent nothing within 1s (127.0.0.1:{port}); \
         [::1]:{port}: {ssh}"
    );
    assert_eq!(ran.json()["error"]["message"], message, "{ran}");
}

#[test]
fn a_loopback_address_that_refuses_tells_nothing_where_the_other_answers() {
    let peer = Peer::new(|peer, _| speak_http1(peer));
    let port = peer.address.port();
    let line = format!(
        "error: no HTTP/2 from localhost:{port}: the server answered with HTTP/1: \"HTTP/1.1 400 Bad Request\""
    );
    Probe::new([format!("-addr=localhost:{port}")]).run().expect_error(1, &line);
    // It is no reason to retry either.
    Probe::new([&format!("-addr=localhost:{port}"), "-connect-timeout=1h"]).run().expect_error(1, &line);
}

#[test]
fn an_address_that_refuses_is_named_beside_one_that_answers() {
    let Some(()) = needs::root() else { return };
    let (_peers, port, hosts) = backend(&[speak_http1]);
    for hosts in [format!("{hosts}127.0.0.9 backend\n"), format!("127.0.0.9 backend\n{hosts}")] {
        let ran = run_with_dns(&hosts, NOWHERE, &[&format!("-addr=backend:{port}")]);
        let line = format!(
            "error: no HTTP/2 from backend:{port}: the server answered with HTTP/1: \"HTTP/1.1 400 Bad Request\" \
             (127.0.0.1:{port}); 127.0.0.9:{port}: connection refused"
        );
        ran.expect_error(1, &line);
    }
}

#[test]
fn the_second_look_is_at_the_address_that_closed() {
    let (_peers, port) = pair(speak_ssh, want_tls);
    let ran = Probe::new([format!("-addr=localhost:{port}")]).run();
    let lines = format!(
        "error: no HTTP/2 from localhost:{port}: the server closes plaintext connections and speaks TLS \
         ([::1]:{port}); 127.0.0.1:{port}: the server answered with \"SSH-2.0-OpenSSH_9.2\", as SSH does\n\
         hint: add -tls\n"
    );
    ran.expect(1, "", &lines);
}

#[test]
fn each_attempt_is_at_each_address() {
    let [ipv4, ipv6] = listeners();
    let first = Peer::on(ipv4, |_, _| {});
    let second = Peer::on(ipv6, |peer, number| {
        if number > 2 {
            serve(peer);
        }
    });
    let addr = format!("-addr=localhost:{}", first.address.port());
    Probe::new([&addr, "-connect-timeout=20s"]).run().expect_healthy();
    assert_eq!(second.connections(), 4);
    // What another attempt cannot change at any address ends the probe.
    let (peers, port) = pair(speak_http1, speak_ssh);
    let ran = Probe::new([&format!("-addr=localhost:{port}"), "-connect-timeout=1h", "-output=json"]).run();
    ran.expect_kind(1, "http2", "server-speaks-http1");
    // Another connection to the first one shows whether it wants TLS.
    assert_eq!(peers.map(|peer| peer.connections()), [2, 1]);
}

#[test]
fn two_lines_for_one_name_are_two_addresses() {
    let Some(()) = needs::root() else { return };
    let (_peers, port, hosts) = backend(&[serve, serve]);
    let addr = format!("-addr=backend:{port}");
    let ran = run_with_dns(&hosts, NOWHERE, &[&addr, "-all-addresses", "-output=json"]);
    let peers: Vec<String> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("it is JSON")["peer"].to_string())
        .collect();
    assert_eq!((ran.code, peers), (Some(0), [1, 2].map(|last| format!("\"127.0.0.{last}:{port}\"")).to_vec()), "{ran}");
    // One is enough for a plain probe: where the first refuses, and where it closes.
    run_with_dns(&format!("127.0.0.9 backend\n{hosts}"), NOWHERE, &[&addr]).expect_healthy();
    let (_peers, port, hosts) = backend(&[close, serve]);
    run_with_dns(&hosts, NOWHERE, &[&format!("-addr=backend:{port}")]).expect_healthy();
    let ran = run_with_dns(&hosts, NOWHERE, &[&format!("-addr=backend:{port}"), "-all-addresses"]);
    assert!(ran.code == Some(1) && ran.stderr.starts_with(&format!("error: 127.0.0.1:{port}: ")), "{ran}");
}

/// A name server that answers so many questions by `first`, and then knows the name.
fn knows_later(last: u8, questions: usize, first: Behavior) -> NameServer {
    let known = Behavior::Answers(vec![Ipv4Addr::LOCALHOST.into()]);
    let questions = Arc::new(AtomicUsize::new(questions));
    NameServer::new([127, 53, 4, last], Behavior::AtFirst(questions, Box::new(first), Box::new(known)))
}

#[test]
fn a_name_that_appears_late_is_found_if_the_user_gave_it_time() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let addr = format!("-addr=user-service:{}", server.port());
    let firsts = [Behavior::NoSuchName, Behavior::Answers(Vec::new()), Behavior::ServFail, Behavior::ResponseCode(5)];
    for (last, first) in (1..).zip(firsts) {
        let dns = knows_later(last, 6, first);
        run_with_dns("", dns.address, &[&addr, "-connect-timeout=20s"]).expect_healthy();
        assert_eq!(dns.asked().len(), 8);
    }
    // Without that time, once.
    let dns = knows_later(10, 6, Behavior::NoSuchName);
    let ran = run_with_dns("", dns.address, &[&addr, "-output=json"]);
    ran.expect_kind(1, "resolve", "name-not-found");
    assert_eq!(dns.asked(), ["user-service A", "user-service AAAA"]);
}

#[test]
fn all_addresses_and_watches_wait_for_a_name_too() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let addr = format!("-addr=user-service:{}", server.port());
    let dns = knows_later(20, 6, Behavior::NoSuchName);
    let ran = run_with_dns("", dns.address, &[&addr, "-connect-timeout=20s", "-all-addresses"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("status: SERVING"), "{ran}");
    for (last, flags) in [(21, &["-watch"][..]), (22, &["-watch", "-all-addresses"])] {
        let dns = knows_later(last, 6, Behavior::NoSuchName);
        let arguments = [&[addr.as_str(), "-connect-timeout=20s"], flags].concat();
        let (mut running, _files) = start_with_dns("", dns.address, &arguments);
        let (stdout, _) = running.follow();
        assert!(stdout.next().ends_with("status: SERVING"));
        running.signal("-TERM");
        running.finish();
    }
}

#[test]
fn a_name_that_never_appears_is_told_with_the_attempts() {
    let Some(()) = needs::root() else { return };
    let dns = name_server_on([127, 53, 4, 30], Behavior::NoSuchName);
    let ran = run_with_dns("", dns, &["-addr=user-service:50051", "-connect-timeout=3s"]);
    let attempts = ran
        .stderr
        .strip_prefix("error: cannot resolve \"user-service\": no such host (")
        .and_then(|rest| rest.split_once(" attempts in 3s)\nhint: if it is a container's name, "))
        .and_then(|(attempts, _)| attempts.parse::<u32>().ok());
    // The pauses grow from 20 ms to 500 ms.
    assert!(ran.code == Some(1) && attempts.is_some_and(|attempts| (3..=12).contains(&attempts)), "{ran}");
    let ran = run_with_dns("", dns, &["-addr=user-service:50051", "-connect-timeout=300ms", "-output=json"]);
    ran.expect_kind(1, "resolve", "name-not-found");
    // An interface is there or not.
    let ran = Probe::new(["-addr=[fe80::1%nonexistent9]:1", "-connect-timeout=1h"]).run();
    ran.expect_error(1, "error: cannot resolve \"fe80::1%nonexistent9\": no such network interface");
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
