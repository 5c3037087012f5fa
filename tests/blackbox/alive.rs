//! `-alive`: healthy if the server answers, whatever it answers. What the probe, HTTP or a proxy makes up is no answer.

use std::net::TcpListener;

use crate::support::{
    frames::{END_STREAM, answer, data, goaway, headers, message, ok_headers, rst_stream, settings, trailers},
    peer::{Connection, Peer},
    probe::{Probe, RunResult},
    server::{self, Reply, Server, by_path},
};

/// The codes that only a working server gives.
const OF_A_LIVE_SERVER: [(&str, &str); 5] = [
    ("5", "NOT_FOUND"),
    ("7", "PERMISSION_DENIED"),
    ("8", "RESOURCE_EXHAUSTED"),
    ("12", "UNIMPLEMENTED"),
    ("16", "UNAUTHENTICATED"),
];

/// A server that answers each request with this status.
fn with_status(code: &'static str, text: &'static str) -> Server {
    by_path(move |_| Reply::Status(code, text))
}

fn probe(addr: &str, flags: &[&str]) -> RunResult {
    Probe::new([&[addr], flags].concat()).run()
}

/// A peer that answers each request with these bytes, and then waits.
fn answering(bytes: Vec<u8>) -> Peer {
    Peer::new(move |peer, _| {
        peer.take_request();
        peer.send(&bytes);
        peer.drain();
    })
}

/// The headers of a response without a body.
fn headers_only(fields: &[(&str, &[u8])]) -> Vec<u8> {
    headers(END_STREAM, fields)
}

#[test]
fn every_status_is_alive() {
    let server = server::plaintext();
    let alive = |service: &str| probe(&server.addr(), &["-alive", service]);
    alive("-service=up").expect(0, "alive: status SERVING\n", "");
    alive("-service=down").expect(0, "alive: status NOT_SERVING\n", "");
    alive("-service=lost").expect(0, "alive: status UNKNOWN\n", "");
    for (status, name) in [(3, "SERVICE_UNKNOWN"), (42, "42")] {
        let server = by_path(move |_| Reply::Message(vec![8, status]));
        probe(&server.addr(), &["-alive"]).expect(0, &format!("alive: status {name}\n"), "");
    }
}

#[test]
fn errors_of_a_working_server_are_alive() {
    for (code, name) in OF_A_LIVE_SERVER {
        let server = with_status(code, "");
        probe(&server.addr(), &["-alive"]).expect(0, &format!("alive: {name}\n"), "");
        let server = with_status(code, "a: b%0Astatus: SERVING");
        let expected = format!("alive: {name} (a: b\\nstatus: SERVING)\n");
        probe(&server.addr(), &["-alive", "-exit-codes=detailed"]).expect(0, &expected, "");
    }
    let server = server::plaintext();
    let ran = probe(&server.addr(), &["-alive", "-service=nobody"]);
    ran.expect(0, "alive: NOT_FOUND (service not registered)\n", "");
}

/// A status in the first headers counts if nothing follows; after a message, one in the trailers.
#[test]
fn an_answer_may_come_in_each_form_that_grpc_has() {
    let head = [(":status", &b"200"[..]), ("content-type", b"application/grpc+proto"), ("grpc-status", b"5")];
    for (name, bytes) in [
        ("trailers only", headers_only(&head)),
        ("trailers only, ended by an empty frame", [headers(0, &head), data(END_STREAM, &[])].concat()),
        ("trailers", [ok_headers(), trailers(&[("grpc-status", b"5")])].concat()),
        ("trailers after a message", [ok_headers(), data(0, &answer(1)), trailers(&[("grpc-status", b"5")])].concat()),
    ] {
        let ran = probe(&answering(bytes).addr(), &["-alive"]);
        assert!(ran.code == Some(0) && ran.stdout == "alive: NOT_FOUND\n" && ran.stderr.is_empty(), "{name}{ran}");
    }
}

/// Probes a server with and without `-alive`: it is not alive, and the words are the same.
#[track_caller]
fn expect_not_alive(name: &str, script: impl Fn(&mut Connection) + Send + Sync + 'static) {
    let peer = Peer::new(move |peer, _| script(peer));
    for codes in ["-exit-codes=docker", "-exit-codes=detailed"] {
        let flags = [codes, "-rpc-timeout=400ms", "-connect-timeout=5s"];
        let alive = probe(&peer.addr(), &[&flags[..], &["-alive"]].concat());
        let plain = probe(&peer.addr(), &flags);
        assert!(alive.code != Some(0) && !alive.stdout.contains("alive"), "{name}{alive}");
        let said = |ran: &RunResult| (ran.code, ran.stdout.clone(), ran.stderr.clone());
        assert_eq!(said(&alive), said(&plain), "{name}");
    }
    let json = probe(&peer.addr(), &["-alive", "-output=json", "-rpc-timeout=400ms", "-connect-timeout=5s"]).json();
    assert_eq!((&json["healthy"], &json["alive"]), (&false.into(), &false.into()), "{name}: {json}");
    assert!(json["error"].is_object(), "{name}: {json}");
}

#[track_caller]
fn expect_answer_not_alive(name: &str, bytes: Vec<u8>) {
    expect_not_alive(name, move |peer| {
        peer.take_request();
        peer.send(&bytes);
        peer.drain();
    });
}

#[test]
fn other_codes_are_not_alive() {
    // Not DEADLINE_EXCEEDED (4), whose words have a time.
    for code in ["1", "2", "3", "6", "9", "10", "11", "13", "14", "15", "17", "99", "4294967301"] {
        let status = ("grpc-status", code.as_bytes());
        let head = [(":status", &b"200"[..]), ("content-type", b"application/grpc"), status];
        expect_answer_not_alive(code, headers_only(&head));
        expect_answer_not_alive(code, [ok_headers(), trailers(&[status])].concat());
    }
    let ran = probe(&with_status("4", "").addr(), &["-alive", "-exit-codes=detailed"]);
    assert!(ran.code == Some(3) && ran.stdout.is_empty() && ran.stderr.contains("DEADLINE_EXCEEDED"), "{ran}");
}

/// gRPC maps HTTP statuses to codes: 404 to UNIMPLEMENTED, 401 and 403 to those of credentials. No server said them.
#[test]
fn another_http_status_is_not_alive() {
    for http in ["400", "401", "403", "404", "405", "415", "421", "429", "500", "502", "503", "504"] {
        let status = (":status", http.as_bytes());
        expect_answer_not_alive(http, headers_only(&[status]));
        expect_answer_not_alive(http, [headers(0, &[status]), data(END_STREAM, b"<html>")].concat());
        for code in ["5", "12", "16"] {
            let code = ("grpc-status", code.as_bytes());
            let grpc = ("content-type", &b"application/grpc"[..]);
            expect_answer_not_alive(http, headers_only(&[status, grpc, code]));
            expect_answer_not_alive(http, [headers(0, &[status, grpc]), trailers(&[code])].concat());
        }
    }
}

#[test]
fn what_is_not_grpc_is_not_alive() {
    let status = ("grpc-status", &b"12"[..]);
    for kind in [&b"text/html"[..], b"application/grpc-web", b"application/json", b"application/grpcx", b""] {
        let name = String::from_utf8_lossy(kind);
        let head = [(":status", &b"200"[..]), ("content-type", kind)];
        expect_answer_not_alive(&name, headers_only(&[&head[..], &[status]].concat()));
        expect_answer_not_alive(&name, [headers(0, &head), trailers(&[status])].concat());
    }
    expect_answer_not_alive("no content type", headers_only(&[(":status", b"200"), status]));
    let twice = [(":status", &b"200"[..]), ("content-type", b"application/grpc"), ("content-type", b"text/html")];
    expect_answer_not_alive("two content types", headers_only(&[&twice[..], &[status]].concat()));
}

#[test]
fn a_status_that_is_not_one_number_is_not_alive() {
    let head = [(":status", &b"200"[..]), ("content-type", b"application/grpc")];
    for values in
        [&[&b"05"[..]][..], &[b"5x"], &[b" 5"], &[b"+5"], &[b""], &[b"NOT_FOUND"], &[b"5", b"5"], &[b"0", b"5"]]
    {
        let name = format!("{values:?}");
        let statuses: Vec<(&str, &[u8])> = values.iter().map(|value| ("grpc-status", *value)).collect();
        expect_answer_not_alive(&name, headers_only(&[&head[..], &statuses].concat()));
        expect_answer_not_alive(&name, [ok_headers(), trailers(&statuses)].concat());
    }
}

#[test]
fn a_broken_response_is_not_alive() {
    let not_found = || trailers(&[("grpc-status", b"5")]);
    let begun = || headers(0, &[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"5")]);
    let whole = answer(1);
    for (name, bytes) in [
        ("a status that does not end the stream", begun()),
        ("a status, then a reset", [begun(), rst_stream(2)].concat()),
        ("a status, then a message without trailers", [begun(), data(END_STREAM, &whole)].concat()),
        ("a status, then trailers without one", [begun(), trailers(&[("x", b"y")])].concat()),
        ("part of a message", [ok_headers(), data(0, &whole[..6]), not_found()].concat()),
        ("part of a prefix", [ok_headers(), data(0, &whole[..3]), not_found()].concat()),
        ("two messages", [ok_headers(), data(0, &[whole.clone(), whole.clone()].concat()), not_found()].concat()),
        ("an unknown compression", [ok_headers(), data(0, &[9, 0, 0, 0, 0]), not_found()].concat()),
        ("a message that is too large", [ok_headers(), data(0, &message(&[0; 5000])), not_found()].concat()),
        ("SERVING without trailers", [ok_headers(), data(END_STREAM, &whole)].concat()),
        ("SERVING, then silence", [ok_headers(), data(0, &whole)].concat()),
        ("status OK without a message", [ok_headers(), trailers(&[("grpc-status", b"0")])].concat()),
        ("ENHANCE_YOUR_CALM", rst_stream(11)),
        ("REFUSED_STREAM", rst_stream(7)),
        ("INADEQUATE_SECURITY", rst_stream(12)),
        ("GOAWAY", goaway(0, 11, b"too_many_pings")),
        ("silence", Vec::new()),
    ] {
        // Refusals are repeated for a while, and the words have their number.
        if matches!(name, "REFUSED_STREAM" | "GOAWAY") {
            let ran = probe(&answering(bytes).addr(), &["-alive", "-rpc-timeout=400ms", "-exit-codes=detailed"]);
            assert!(ran.code == Some(3) && ran.stdout.is_empty(), "{name}{ran}");
        } else {
            expect_answer_not_alive(name, bytes);
        }
    }
    expect_not_alive("a status, then the end", move |peer| {
        peer.take_request();
        peer.send(begun());
    });
    expect_not_alive("the end", Connection::take_request);
}

/// No request goes out, so nobody answers it.
#[test]
fn what_the_probe_refuses_by_itself_is_not_alive() {
    const MAX_HEADER_LIST_SIZE: u16 = 6;
    expect_not_alive("headers that are too large for the server", |peer| {
        peer.read_preface();
        peer.send(settings(&[(MAX_HEADER_LIST_SIZE, 1)]));
        peer.drain();
    });
}

#[test]
fn a_server_that_is_not_reached_is_not_alive() {
    expect_not_alive("HTTP/1", |peer| {
        peer.read_preface();
        peer.send("HTTP/1.1 404 Not Found\r\ngrpc-status: 12\r\ncontent-length: 0\r\n\r\n");
        peer.finish();
        peer.drain();
    });
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let addr = format!("-addr={}", listener.local_addr().expect("it is bound"));
    let ran = probe(&addr, &["-alive", "-timeout=300ms", "-exit-codes=detailed"]);
    assert!(ran.code == Some(2) && ran.stdout.is_empty() && ran.stderr.contains("within 300ms"), "{ran}");
    drop(listener);
    let ran = probe("-addr=127.0.0.1:1", &["-alive", "-exit-codes=detailed"]);
    ran.expect_error(2, "error: cannot connect to 127.0.0.1:1: connection refused");
}

#[test]
fn several_services_are_alive_together() {
    let server = server::plaintext();
    let services = ["-alive", "-service=", "-service=up", "-service=down", "-service=nobody"];
    let expected = "\"\": alive: status SERVING\n\
                    up: alive: status SERVING\n\
                    down: alive: status NOT_SERVING\n\
                    nobody: alive: NOT_FOUND (service not registered)\n";
    probe(&server.addr(), &services).expect(0, expected, "");
    probe(&server.addr(), &[&services[..], &["-q"]].concat()).expect(0, "", "");
}

#[test]
fn one_that_is_not_alive_decides() {
    // The second request fails.
    let peer = Peer::new(|peer, _| {
        peer.read_preface();
        peer.send(settings(&[]));
        peer.await_request();
        peer.send(headers_only(&[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"5")]));
        peer.drain();
    });
    let flags = ["-alive", "-service=a", "-service=b", "-rpc-timeout=500ms", "-exit-codes=detailed"];
    let ran = probe(&peer.addr(), &flags);
    assert!(ran.code == Some(3) && ran.stdout == "a: alive: NOT_FOUND\n", "{ran}");
    assert!(ran.stderr.starts_with("error: b: health check of "), "{ran}");
    // Where there is time to wait, what is alive stays as it is.
    let ran = probe(&peer.addr(), &[&flags[..], &["-wait=1200ms", "-output=json"]].concat());
    let lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(ran.code == Some(3) && lines.len() == 2, "{ran}");
    assert_eq!(lines[0]["alive"], true, "{ran}");
    let message = lines[0]["error"]["message"].as_str().expect("it says why it is not SERVING");
    assert!(message.ends_with("NOT_FOUND"), "{ran}");
    let message = lines[1]["error"]["message"].as_str().expect("it says why it is not alive");
    assert!(message.contains("attempt") && lines[1]["alive"] == false, "{ran}");
}

#[test]
fn json_says_both() {
    let server = server::plaintext();
    let json = |service: &str| probe(&server.addr(), &["-alive", "-output=json", service]).json();
    let up = json("-service=up");
    assert_eq!((&up["healthy"], &up["alive"], &up["status"]), (&true.into(), &true.into(), &"SERVING".into()), "{up}");
    assert!(up.get("error").is_none(), "{up}");
    let down = json("-service=down");
    assert_eq!((&down["healthy"], &down["alive"]), (&false.into(), &true.into()), "{down}");
    assert_eq!((&down["status"], &down["error"]["kind"]), (&"NOT_SERVING".into(), &"not-serving".into()), "{down}");
    let nobody = json("-service=nobody");
    assert_eq!((&nobody["healthy"], &nobody["alive"]), (&false.into(), &true.into()), "{nobody}");
    assert_eq!((&nobody["error"]["grpc_code"], nobody.get("status")), (&5.into(), None), "{nobody}");
    let refused = probe("-addr=127.0.0.1:1", &["-alive", "-output=json"]).json();
    assert_eq!((&refused["healthy"], &refused["alive"]), (&false.into(), &false.into()), "{refused}");
    probe(&server.addr(), &["-alive", "-output=json", "-service=down", "-q"]).expect(0, "", "");
    // Without the flag, nothing is said.
    let plain = probe(&server.addr(), &["-output=json", "-service=down"]);
    assert!(plain.code == Some(1) && plain.json().get("alive").is_none(), "{plain}");
    let plain = probe("-addr=127.0.0.1:1", &["-output=json"]).json();
    assert!(plain.get("alive").is_none(), "{plain}");
}

#[test]
fn a_wait_ends_when_the_server_is_alive() {
    let peer = Peer::new(|peer, number| {
        peer.take_request();
        let code: &[u8] = if number < 2 { b"14" } else { b"16" };
        peer.send([ok_headers(), trailers(&[("grpc-status", code)])].concat());
        peer.drain();
    });
    let ran = probe(&peer.addr(), &["-alive", "-wait=20s"]);
    assert!(ran.code == Some(0) && ran.stdout == "alive: UNAUTHENTICATED\n", "{ran}");
    assert!(ran.stderr.starts_with("waiting: health check of ") && peer.connections() == 3, "{ran}");
}

#[test]
fn every_address_is_alive() {
    let server = server::plaintext();
    let ran = probe(&server.addr(), &["-alive", "-all-addresses", "-service=nobody"]);
    let begins = format!("{}: alive: NOT_FOUND (service not registered) (", server.address);
    assert!(ran.code == Some(0) && ran.stdout.starts_with(&begins) && ran.stderr.is_empty(), "{ran}");
}

#[test]
fn the_variable_stands_for_the_flag() {
    let server = server::plaintext();
    let name = "GRPC_HEALTH_PROBE_ALIVE";
    let down = |value: &str| Probe::new([&server.addr(), "-service=down"]).env(name, value).run();
    down("true").expect(0, "alive: status NOT_SERVING\n", "");
    assert_eq!(down("false").code, Some(1));
    let unread = Probe::new([server.addr()]).env(name, "on").run();
    unread.expect_error(1, &format!("error: {name} \"on\": not a boolean (true, false, t, f, 1 or 0)"));
    let verbose = probe(&server.addr(), &["-alive", "-v"]);
    assert!(verbose.stderr.lines().nth(1).is_some_and(|line| line.ends_with(" alive=true")), "{verbose}");
}

#[test]
fn it_has_no_meaning_for_a_watch_or_a_list() {
    for flag in ["-watch", "-list"] {
        let ran = probe("-addr=127.0.0.1:1", &["-alive", flag]);
        ran.expect_error(1, &format!("error: -alive and {flag} cannot be used together"));
    }
}

#[test]
fn a_diagnosis_judges_by_it() {
    let server = server::plaintext();
    let diagnose = |addr: &str, flags: &[&str]| probe(addr, &[&["-diagnose", "-alive"], flags].concat());
    let down = diagnose(&server.addr(), &["-service=down"]);
    assert_eq!(down.code, Some(0), "{down}");
    for text in [
        "\n  alive      the server answers, though not SERVING\n",
        "\n  also       service unhealthy (responded with \"NOT_SERVING\")\n",
        "\n  exit code  0\n",
        "\n  the command that ran, which finds the server alive:\n",
        " -alive",
        "\n    livenessProbe:\n",
        "\n  (the kubelet's own grpc probe takes no answer but SERVING)\n",
    ] {
        assert!(down.stdout.contains(text), "{text}{down}");
    }
    let up = diagnose(&server.addr(), &[]);
    assert!(up.code == Some(0) && up.stdout.contains("\n  alive      all is well: "), "{up}");
    let object = diagnose(&server.addr(), &["-service=nobody", "-output=json"]).json();
    let verdict = &object["verdict"];
    assert_eq!((&verdict["healthy"], &verdict["alive"]), (&false.into(), &true.into()), "{object}");
    assert_eq!(object["exit_code"], 0, "{object}");

    // A proxy's page is no answer.
    let bytes = headers_only(&[(":status", b"404"), ("content-type", b"text/html")]);
    let proxy = Peer::new(move |peer, _| {
        peer.take_request();
        peer.send(&bytes);
        peer.drain();
    });
    let ran = diagnose(&proxy.addr(), &["-exit-codes=detailed", "-timeout=5s"]);
    assert!(ran.code == Some(3) && ran.stdout.contains("\n  not alive  RPC: "), "{ran}");
    let object = diagnose(&proxy.addr(), &["-output=json", "-timeout=5s"]).json();
    assert_eq!((&object["verdict"]["alive"], &object["exit_code"]), (&false.into(), &1.into()), "{object}");
}
