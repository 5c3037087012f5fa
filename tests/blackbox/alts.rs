//! `-alts`: the handshake with the help of a handshaker service, the records, and what handshakers and servers do wrong.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use tonic_health::ServingStatus;

use crate::support::{
    alts::{
        self, CLIENT_FINISHED, CLIENT_INIT, ClientStart, Handshaker, HandshakerResp, HandshakerStatus, OURS, PEER,
        Records, SERVER_INIT, Say, as_usual, shake_hands, versions, with_result,
    },
    dns::{Behavior, name_server_on, probe_with_etc, run_with_dns},
    frames::{self, PREFACE},
    needs,
    peer::Peer,
    pki::Authority,
    probe::{Probe, RunResult},
    server::{self, ChangingServer},
    unused_port::UnusedPort,
};

/// How long a probe with the default timeouts may take, on a machine that is busy.
const NO_HANG: Duration = Duration::from_secs(5);

fn probe(addr: &str, handshaker: &Handshaker, flags: &[&str]) -> RunResult {
    let started = Instant::now();
    let ran = Probe::new([&[addr, "-alts", &handshaker.flag()], flags].concat()).run();
    assert!(started.elapsed() < NO_HANG, "{ran}");
    ran
}

/// Expects this failure of the phase alts, in words and in JSON.
fn expect_failure(addr: &str, handshaker: &Handshaker, kind: &str, line: &str) -> RunResult {
    let detailed = ["-exit-codes=detailed", "-output=json"];
    probe(addr, handshaker, &detailed).expect_kind(2, "alts", kind);
    let ran = probe(addr, handshaker, &[]);
    ran.expect_error(1, line);
    ran
}

/// A server that does its part of the handshake, and nothing after it.
fn silent_after_handshake() -> Peer {
    Peer::new(|connection, _| {
        shake_hands(connection);
        connection.drain();
    })
}

#[test]
fn healthy_server() {
    let (server, handshaker) = (server::plaintext(), Handshaker::usual());
    let alts = alts::before(server.address);
    probe(&alts.addr(), &handshaker, &[]).expect_healthy();
    for word in ["-alts=1", "--alts=t", "-alts=TRUE"] {
        Probe::new([&alts.addr(), word, &handshaker.flag()]).run().expect_healthy();
    }
    let by_variables = Probe::new([alts.addr()]).env("GRPC_HEALTH_PROBE_ALTS", "true");
    by_variables.env("GRPC_HEALTH_PROBE_ALTS_HANDSHAKER", handshaker.address.to_string()).run().expect_healthy();
    let unhealthy = "service unhealthy (responded with \"NOT_SERVING\")\n";
    probe(&alts.addr(), &handshaker, &["-service=down", "-exit-codes=detailed"]).expect(4, unhealthy, "");
    let several = probe(&alts.addr(), &handshaker, &["-service=up", "-service=", "-all-addresses", "-wait=5s"]);
    assert_eq!(several.code, Some(0), "{several}");
    // More than a record each.
    let long = "x".repeat(7000);
    let headers = [format!("-rpc-header=a: {long}"), format!("-rpc-header=b: {long}")];
    probe(&alts.addr(), &handshaker, &[&headers[0], &headers[1]]).expect_healthy();
}

#[test]
fn peer_and_time_are_reported() {
    let (server, handshaker) = (server::plaintext(), Handshaker::usual());
    let alts = alts::before(server.address);
    let ran = probe(&alts.addr(), &handshaker, &["-v"]);
    let options = format!("> alts=true handshaker={}\n", handshaker.address);
    assert!(ran.stderr.contains(&options), "{ran}");
    assert!(ran.stderr.contains(&format!("alts: peer_service_account={PEER}, ours is {OURS} (")), "{ran}");
    let json = probe(&alts.addr(), &handshaker, &["-output=json"]).json();
    assert_eq!(json["alts"]["peer_service_account"], PEER, "{json}");
    assert_eq!(json["alts"]["local_service_account"], OURS, "{json}");
    assert!(json["timings_ms"]["alts"].is_f64() && json.get("tls").is_none(), "{json}");

    // Of a failure after the handshake as well.
    let ran = probe(&silent_after_handshake().addr(), &handshaker, &["-output=json"]);
    ran.expect_kind(1, "http2", "server-silent");
    assert_eq!(ran.json()["alts"]["peer_service_account"], PEER, "{ran}");

    // A handshaker may tell no account, and a hostile one anything.
    for (account, shown) in [("\u{1b}[31m\n", Some("\\u{1b}[31m\\n")), ("", None)] {
        let odd = Handshaker::new(move |number, message| match number {
            0 => as_usual(message),
            _ => Say::Answer(with_result(|result| {
                result.peer_identity = Some(alts::Identity { service_account: account.to_owned() });
                result.local_identity = None;
            })),
        });
        let ran = probe(&alts.addr(), &odd, &["-output=json"]);
        assert_eq!(ran.json()["alts"]["peer_service_account"].as_str(), shown, "{ran}");
        assert!(ran.json()["alts"].get("local_service_account").is_none(), "{ran}");
        assert!(!probe(&alts.addr(), &odd, &["-v"]).stderr_as_written.contains('\u{1b}'));
    }
}

/// As grpc-go 1.85 does in the Go tool.
#[test]
fn handshaker_is_told_what_the_go_tool_tells_it() {
    let (server, handshaker) = (server::plaintext(), Handshaker::usual());
    let alts = alts::before(server.address);
    let port = alts.address.port();
    for (addr, target_name) in [
        (format!("127.0.0.1:{port}"), format!("127.0.0.1:{port}")),
        (format!(":{port}"), format!("localhost:{port}")),
        (format!("dns:///localhost:{port}"), format!("localhost:{port}")),
    ] {
        probe(&format!("-addr={addr}"), &handshaker, &[]).expect_healthy();
        let messages = handshaker.messages();
        let [.., start, next] = &messages[..] else { panic!("two messages come") };
        let expected = ClientStart {
            handshake_security_protocol: 2,
            application_protocols: vec!["grpc".to_owned()],
            record_protocols: vec!["ALTSRP_GCM_AES128_REKEY".to_owned()],
            target_name,
            rpc_versions: Some(versions((2, 1), (2, 1))),
            max_frame_size: 0,
        };
        assert_eq!(start.client_start, Some(expected));
        assert_eq!(next.next.as_ref().map(|next| &next.in_bytes[..]), Some(SERVER_INIT));
    }
}

#[test]
fn list_and_watch() {
    let (server, handshaker) = (ChangingServer::new(), Handshaker::usual());
    server.set("up", ServingStatus::Serving);
    let alts = alts::before(server.server.address);
    let ran = probe(&alts.addr(), &handshaker, &["-list"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("up       SERVING\n"), "{ran}");

    let flags = [&alts.addr(), "-alts", &handshaker.flag(), "-watch", "-output=json"];
    let mut running = Probe::new(flags).start();
    let lines = running.follow_stdout();
    for status in ["SERVING", "NOT_SERVING"] {
        let line: serde_json::Value = serde_json::from_str(&lines.next()).expect("it is JSON");
        assert_eq!((&line["status"], &line["alts"]["peer_service_account"]), (&status.into(), &PEER.into()), "{line}");
        server.set("", ServingStatus::NotServing);
    }
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(1));
}

#[test]
fn server_that_starts_later_is_waited_for() {
    let (server, handshaker) = (server::plaintext(), Handshaker::usual());
    let address = server.address;
    // At first it closes, as a server does whose own handshaker is away.
    let starting = Peer::new(move |connection, number| {
        if number >= 4 {
            shake_hands(connection);
            alts::pass_on(connection, address);
        }
    });
    let flags = [&starting.addr(), "-alts", &handshaker.flag(), "-connect-timeout=20s"];
    Probe::new(flags).run().expect_healthy();

    // And so is a handshaker.
    let alts = alts::before(address);
    let starting = Handshaker::new(|_, message| as_usual(message));
    let late = UnusedPort::new();
    let flags = [alts.addr(), "-alts".to_owned(), format!("-alts-handshaker={}", late.address), "-wait=20s".to_owned()];
    let mut running = Probe::new(flags).start();
    assert!(running.follow_stderr().next().contains("no handshaker service at"));
    let listener = late.listen();
    let forward = Peer::on(listener, move |connection, _| forward(connection, starting.address));
    assert_eq!(running.finish().code, Some(0));
    drop(forward);
}

/// Passes on all bytes, both ways.
fn forward(connection: &mut crate::support::peer::Connection, to: std::net::SocketAddr) {
    let mut other = std::net::TcpStream::connect(to).expect("it listens");
    let (mut back, mut stream) = (other.try_clone().expect("a file is left"), connection.stream());
    let mut from = connection.stream();
    let answers = std::thread::spawn(move || std::io::copy(&mut back, &mut stream));
    let _ = std::io::copy(&mut from, &mut other);
    let _ = other.shutdown(std::net::Shutdown::Both);
    let _ = answers.join();
}

/// The server's part may come in pieces, and together with its first records.
#[test]
fn handshake_in_pieces() {
    let handshaker = Handshaker::usual();
    let peer = Peer::new(|connection, number| {
        assert_eq!(connection.receive(CLIENT_INIT.len()), CLIENT_INIT);
        let mut records = Records::new();
        let settings = records.seal(&frames::settings(&[]));
        let all = [SERVER_INIT, &settings].concat();
        for part in all.chunks(if number == 0 { all.len() } else { 1 }) {
            connection.send(part);
        }
        assert_eq!(connection.receive(CLIENT_FINISHED.len()), CLIENT_FINISHED);
        let mut received = Vec::new();
        while !received.ends_with(&frames::data(frames::END_STREAM, &frames::message(&[]))) {
            let payload = records.receive(|count| connection.receive(count));
            received.extend(payload.expect("the request comes"));
        }
        assert!(received.starts_with(PREFACE));
        // Every byte in a record of its own, with empty ones between.
        let answer = frames::serving();
        let answer = answer.iter().flat_map(|byte| [records.seal(&[*byte]), records.seal(&[])]);
        connection.send(answer.collect::<Vec<_>>().concat());
        connection.drain();
    });
    for _ in 0..2 {
        probe(&peer.addr(), &handshaker, &[]).expect_healthy();
    }
}

/// A message of these lengths begins as an alert or another record of TLS does.
#[test]
fn handshake_that_looks_like_tls() {
    let server = server::plaintext();
    let address = server.address;
    for first in 20..=23 {
        let message = [&[first, 3, 0, 0, 4, 0, 0, 0][..], &[1; 1000]].concat();
        let message = message[..4 + 0x300 + usize::from(first)].to_vec();
        let length = message.len();
        let handshaker = Handshaker::new(move |_, message| match &message.next {
            Some(next) if next.in_bytes.len() < length => Say::Answer(HandshakerResp::default()),
            Some(_) => {
                let bytes_consumed = u32::try_from(length).expect("it is short");
                Say::Answer(HandshakerResp { bytes_consumed, ..with_result(|_| ()) })
            }
            None => as_usual(message),
        });
        let peer = Peer::new(move |connection, _| {
            connection.receive(CLIENT_INIT.len());
            connection.send(&message);
            connection.receive(CLIENT_FINISHED.len());
            alts::pass_on(connection, address);
        });
        probe(&peer.addr(), &handshaker, &[]).expect_healthy();
    }
}

#[test]
fn handshaker_that_cannot_be_reached() {
    let alts = silent_after_handshake();
    let at = |handshaker: std::net::SocketAddr, kind: &str, cause: &str| {
        let flag = format!("-alts-handshaker={handshaker}");
        let line = format!(
            "error: ALTS handshake with {} failed: no handshaker service at {handshaker}: {cause}",
            alts.address
        );
        let ran = Probe::new([&alts.addr(), "-alts", &flag]).run();
        ran.expect(1, "", &format!("{line}\nhint: -alts-handshaker names it: is it up?\n"));
        let ran = Probe::new([&alts.addr(), "-alts", &flag, "-output=json", "-exit-codes=detailed"]).run();
        ran.expect_kind(2, "alts", kind);
    };
    let unused = UnusedPort::new();
    at(unused.address, "alts-handshaker", "connection refused");
    let leaf = Authority::new("ca").server(&["localhost"]);
    at(server::tls(&leaf).address, "alts-handshaker", "it answered with a TLS alert");
    let http1 = Peer::new(|connection, _| {
        connection.read_preface();
        connection.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    at(http1.address, "alts-handshaker", "it answered with HTTP/1: \"HTTP/1.1 400 Bad Request\"");
    let closing = Peer::new(|connection, _| {
        connection.finish();
        connection.drain();
    });
    at(closing.address, "alts-handshaker", "it closed the connection");
    let silent = Peer::new(|connection, _| connection.drain());
    at(silent.address, "alts-handshaker", "it sent nothing within 1s");
}

#[test]
fn handshaker_that_fails() {
    let alts = silent_after_handshake();
    let addr = alts.addr();
    let part = |length: u32, payload: &[u8]| [&[0], &length.to_be_bytes()[..], payload].concat();
    let answer = |answer: HandshakerResp| frames::message(&prost::Message::encode_to_vec(&answer));
    let status = |code, details: &str| {
        let status = Some(HandshakerStatus { code, details: details.to_owned() });
        answer(HandshakerResp { status, ..HandshakerResp::default() })
    };
    // What it says at the start, as bytes, with the kind and the cause.
    let broken = "alts-handshaker";
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (status(7, "no service account"), "alts-refused", "refused it: PERMISSION_DENIED: no service account"),
        (status(16, ""), "alts-refused", "refused it: UNAUTHENTICATED"),
        (status(3, "\u{1b}[1m\nx"), "alts-refused", "refused it: INVALID_ARGUMENT: \\u{1b}[1m\\nx"),
        (status(4_000_000_000, "x"), "alts-refused", "refused it: UNKNOWN: x"),
        (
            answer(HandshakerResp { bytes_consumed: 1, ..with_result(|result| result.key_data.truncate(43)) }),
            broken,
            "gave a key of 43 bytes",
        ),
        (
            answer(with_result(|result| result.record_protocol = "ALTSRP_GCM_AES128".to_owned())),
            broken,
            "chose the unknown record protocol \"ALTSRP_GCM_AES128\"",
        ),
        (part(1, &[]), broken, ""),
        (part(3, &[0xff; 3]), broken, "failed: the response is malformed"),
        (part(u32::MAX, &[]), broken, "failed: the response is malformed: it announces a message of 4294967295 bytes"),
        (vec![9; 5], broken, "failed: the response is malformed: the message has the unknown compression flag 9"),
    ];
    for (bytes, kind, cause) in cases {
        let handshaker = Handshaker::new(move |_, _| Say::Bytes(bytes.clone()));
        let ran = probe(&addr, &handshaker, &["-output=json", "-exit-codes=detailed"]);
        ran.expect_kind(2, "alts", kind);
        let message = ran.json()["error"]["message"].to_string();
        assert!(message.contains(&format!("the handshaker service at {}", handshaker.address)), "{ran}");
        let cause = cause.replace('\\', "\\\\").replace('"', "\\\"");
        assert!(message.contains(&cause), "{ran}{cause}");
    }
    for (say, kind, cause) in [
        (("7", "no"), "alts-refused", "refused it: PERMISSION_DENIED: no"),
        (("8", ""), "alts-refused", "refused it: RESOURCE_EXHAUSTED"),
        (("12", ""), "alts-handshaker", "failed: UNIMPLEMENTED"),
        (("14", "later"), "alts-handshaker", "failed: UNAVAILABLE: later"),
        (("0", ""), "alts-handshaker", "failed: the response is malformed"),
    ] {
        let handshaker = Handshaker::new(move |_, _| Say::Status(say.0, say.1));
        let line = format!(
            "error: ALTS handshake with {} failed: the handshaker service at {} {cause}",
            alts.address, handshaker.address
        );
        let ran = probe(&addr, &handshaker, &["-output=json", "-exit-codes=detailed"]);
        ran.expect_kind(2, "alts", kind);
        let ran = probe(&addr, &handshaker, &[]);
        assert!(ran.code == Some(1) && ran.stderr.starts_with(&line), "{ran}{line}");
    }
    let resetting = Handshaker::new(|_, _| Say::Reset);
    probe(&addr, &resetting, &["-output=json"]).expect_kind(1, "alts", "alts-handshaker");
}

/// A handshaker may be silent, or go on without end: the deadline holds.
#[test]
fn handshaker_that_does_not_end() {
    let alts = silent_after_handshake();
    for silent_at in [0, 1] {
        let handshaker =
            Handshaker::new(move |number, message| if number == silent_at { Say::Nothing } else { as_usual(message) });
        let cause = format!("the handshaker service at {} did not answer within 1s", handshaker.address);
        let line = format!("error: ALTS handshake with {} failed: {cause}", alts.address);
        expect_failure(&alts.addr(), &handshaker, "alts-handshaker", &line);
    }
    // Frames without end, from a server that answers each of them, and from one that reads none of them.
    let frame = |length| HandshakerResp {
        out_frames: vec![7; length],
        bytes_consumed: u32::try_from(length).expect("it is short"),
        ..HandshakerResp::default()
    };
    let endless = Handshaker::new(move |number, _| {
        Say::Answer(HandshakerResp { bytes_consumed: if number == 0 { 0 } else { 8 }, ..frame(8) })
    });
    let echo = Peer::new(|connection, _| {
        loop {
            let received = connection.receive(8);
            if received.len() < 8 || !connection.send(received) {
                break;
            }
        }
    });
    let ran = probe(&echo.addr(), &endless, &["-output=json"]);
    // At the end of the time it is either one's turn.
    let kind = ran.json()["error"]["kind"].to_string();
    assert!(ran.code == Some(1) && ["\"alts-timeout\"", "\"alts-handshaker\""].contains(&&*kind), "{ran}");
    let large = Handshaker::new(move |_, _| Say::Answer(HandshakerResp { bytes_consumed: 0, ..frame(1_000_000) }));
    let deaf = Peer::new(|connection, _| connection.await_close());
    let line = format!("error: ALTS handshake with {} timed out after 1s: connected, no answer", deaf.address);
    expect_failure(&deaf.addr(), &large, "alts-timeout", &line);
    // One that reads nothing of what the server sends, and one that reads more.
    let flood = Peer::new(|connection, _| while connection.send([b'\x01'; 1000]) {});
    for (consumed, cause) in
        [(0, "does not take what the server sends"), (u32::MAX, "says that it read more than the server sent")]
    {
        let handshaker = Handshaker::new(move |_, _| {
            Say::Answer(HandshakerResp { bytes_consumed: consumed, ..HandshakerResp::default() })
        });
        let line = format!(
            "error: ALTS handshake with {} failed: the handshaker service at {} {cause}",
            flood.address, handshaker.address
        );
        expect_failure(&flood.addr(), &handshaker, "alts-handshaker", &line);
    }
}

#[test]
fn versions_of_grpc_must_match() {
    let server = server::plaintext();
    let alts = alts::before(server.address);
    for (least, most, matches) in [
        ((2, 1), (2, 1), true),
        ((1, 0), (3, 0), true),
        ((2, 0), (2, 2), true),
        ((2, 2), (3, 0), false),
        ((1, 0), (2, 0), false),
        ((3, 0), (1, 0), false),
    ] {
        let handshaker = Handshaker::new(move |number, message| match number {
            0 => as_usual(message),
            _ => Say::Answer(with_result(|result| result.peer_rpc_versions = Some(versions(least, most)))),
        });
        if matches {
            probe(&alts.addr(), &handshaker, &[]).expect_healthy();
        } else {
            let (least, most) = (format!("{}.{}", least.0, least.1), format!("{}.{}", most.0, most.1));
            let cause = format!("the server speaks versions {least} to {most} of gRPC's protocol, not 2.1");
            let line = format!("error: ALTS handshake with {} failed: {cause}", alts.address);
            expect_failure(&alts.addr(), &handshaker, "alts-refused", &line);
        }
    }
    let none = Handshaker::new(|number, message| match number {
        0 => as_usual(message),
        _ => Say::Answer(with_result(|result| result.peer_rpc_versions = None)),
    });
    let ran = probe(&alts.addr(), &none, &["-output=json"]);
    ran.expect_kind(1, "alts", "alts-refused");
    assert_eq!(ran.json()["alts"]["peer_service_account"], PEER, "{ran}");
}

#[test]
fn server_of_another_protocol() {
    let handshaker = Handshaker::usual();
    let leaf = Authority::new("ca").server(&["localhost"]);
    let (plaintext, tls) = (server::plaintext(), server::tls(&leaf));
    let plaintext_addr = plaintext.addr();
    let hint = "hint: leave out -alts, or probe the server's ALTS port\n";
    let is_not = |address: std::net::SocketAddr, cause: &str| {
        let line = format!("error: ALTS handshake with {address} failed: the server does not speak ALTS: it {cause}");
        let ran = expect_failure(&format!("-addr={address}"), &handshaker, "alts-other-protocol", &line);
        assert!(ran.stderr.ends_with(hint), "{ran}");
    };
    is_not(plaintext.address, "answered with HTTP/2 in plaintext");
    is_not(tls.address, "answered with a TLS alert");
    let by_variable = Probe::new([&*plaintext_addr, &handshaker.flag()]).env("GRPC_HEALTH_PROBE_ALTS", "1").run();
    assert!(by_variable.stderr.contains("hint: unset GRPC_HEALTH_PROBE_ALTS, or probe"), "{by_variable}");
    for (bytes, cause) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "answered with HTTP/1: \"HTTP/1.1 400 Bad Request\""),
        ("SSH-2.0-OpenSSH_9.2p1\r\n", "answered with \"SSH-2.0-OpenSSH_9.2p1\", as SSH does"),
    ] {
        for step in [1, bytes.len()] {
            let peer = Peer::new(move |connection, _| {
                bytes.as_bytes().chunks(step).for_each(|part| {
                    connection.send(part);
                });
                connection.drain();
            });
            if step == 1 {
                let ran = probe(&peer.addr(), &handshaker, &["-output=json"]);
                ran.expect_kind(1, "alts", "alts-other-protocol");
            } else {
                is_not(peer.address, cause);
            }
        }
    }
    // Servers that close show on a second connection what they speak.
    let closing_tls = Peer::new(move |connection, _| {
        let first = connection.receive(1);
        if first == [22] {
            connection.send([21, 3, 3, 0, 2, 2, 40]);
        }
    });
    is_not(closing_tls.address, "closes ALTS connections and speaks TLS");
    let closing_plaintext = Peer::new(|connection, _| {
        if connection.receive(1) == *b"P" {
            connection.send(frames::settings(&[]));
            connection.drain();
        }
    });
    is_not(closing_plaintext.address, "closes ALTS connections and answers HTTP/2 in plaintext");
}

#[test]
fn server_that_does_not_finish_the_handshake() {
    let handshaker = Handshaker::usual();
    let fails = |peer: &Peer, kind: &str, cause: &str| {
        let line = format!("error: ALTS handshake with {} {cause}", peer.address);
        expect_failure(&peer.addr(), &handshaker, kind, &line);
    };
    let closing = Peer::new(|connection, _| {
        connection.receive(CLIENT_INIT.len());
    });
    fails(&closing, "alts-failed", "failed: the server closed the connection instead of answering");
    let resetting = Peer::new(|connection, _| {
        connection.receive(CLIENT_INIT.len());
        connection.reset();
    });
    fails(&resetting, "alts-failed", "failed: the server closed the connection instead of answering");
    let stopping = Peer::new(|connection, _| {
        connection.receive(CLIENT_INIT.len());
        connection.send(&SERVER_INIT[..SERVER_INIT.len() - 1]);
    });
    fails(&stopping, "alts-failed", "failed: the server closed the connection during the handshake");
    let silent = Peer::new(|connection, _| connection.drain());
    fails(&silent, "alts-timeout", "timed out after 1s: connected, no answer");
    for length in [1, 5, SERVER_INIT.len() - 1] {
        let slow = Peer::new(move |connection, _| {
            connection.receive(CLIENT_INIT.len());
            connection.send(&SERVER_INIT[..length]);
            connection.drain();
        });
        fails(&slow, "alts-timeout", "timed out after 1s: the server began it and stopped");
    }
}

#[test]
fn bad_records_before_settings() {
    let handshaker = Handshaker::usual();
    let sealed = || Records::new().seal(&frames::settings(&[]));
    let mut changed = sealed();
    changed[8] ^= 1;
    let twice = [Records::new().seal(b""), Records::new().seal(b"")].concat();
    for (bytes, cause) in [
        (changed, "it cannot be decrypted"),
        (twice, "it cannot be decrypted"),
        (alts::frame(6, &[0; 100]), "it cannot be decrypted"),
        (alts::frame(4, &[0; 100]), "its type is 4, not 6"),
        (alts::frame(6, &[0; 15]), "it has 19 bytes, and 20 are the least"),
        (vec![0xff; 100], "it announces 4294967295 bytes, and 1048576 are the most"),
        (frames::settings(&[]), "it announces 67108864 bytes, and 1048576 are the most"),
    ] {
        let peer = Peer::new(move |connection, _| {
            shake_hands(connection);
            connection.send(&bytes);
            connection.drain();
        });
        let line =
            format!("error: ALTS handshake with {} failed: the server sent a bad ALTS record: {cause}", peer.address);
        expect_failure(&peer.addr(), &handshaker, "alts-bad-record", &line);
    }
    let cut_off = Peer::new(move |connection, _| {
        shake_hands(connection);
        let frame = sealed();
        connection.send(&frame[..frame.len() - 1]);
    });
    probe(&cut_off.addr(), &handshaker, &["-output=json"]).expect_kind(1, "http2", "closed-early");
    // A frame of the largest length that never comes whole.
    let slow = Peer::new(|connection, _| {
        shake_hands(connection);
        connection.send([0, 0, 16, 0, 6, 0, 0, 0]);
        connection.drain();
    });
    probe(&slow.addr(), &handshaker, &["-output=json"]).expect_kind(1, "http2", "server-silent");
    // Records without content and without end.
    let empty = Peer::new(|connection, _| {
        shake_hands(connection);
        let mut records = Records::new();
        for _ in 0..60_000 {
            if !connection.send(records.seal(b"")) {
                break;
            }
        }
        connection.drain();
    });
    probe(&empty.addr(), &handshaker, &["-output=json"]).expect_kind(1, "http2", "server-silent");
}

#[test]
fn bad_record_after_settings() {
    let handshaker = Handshaker::usual();
    let peer = Peer::new(|connection, _| {
        shake_hands(connection);
        let mut records = Records::new();
        connection.send(records.seal(&frames::settings(&[])));
        records.receive(|count| connection.receive(count));
        let mut answer = records.seal(&frames::serving());
        answer[20] ^= 1;
        connection.send(answer);
        connection.drain();
    });
    let cause = "the server sent a bad ALTS record: it cannot be decrypted";
    let line = format!("error: health check of {} failed: {cause}", peer.address);
    probe(&peer.addr(), &handshaker, &["-exit-codes=detailed"]).expect_error(3, &line);
    let ran = probe(&peer.addr(), &handshaker, &["-exit-codes=detailed", "-output=json"]);
    ran.expect_kind(3, "rpc", "stream-broken");
}

#[test]
fn handshaker_that_wants_its_channel_kept() {
    let server = server::plaintext();
    let alts = alts::before(server.address);
    let handshaker = Handshaker::new(|number, message| match number {
        0 => as_usual(message),
        _ => Say::Answer(with_result(|result| result.keep_channel_open = true)),
    });
    probe(&alts.addr(), &handshaker, &[]).expect_healthy();
}

#[test]
fn signal_during_the_handshake() {
    let handshaker = Handshaker::usual();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let flags = [&address, "-alts", &handshaker.flag(), "-connect-timeout=20s", "-exit-codes=detailed"];
    let running = Probe::new(flags).start();
    let (stream, _) = listener.accept().expect("the probe connects");
    let mut first = [0];
    std::io::Read::read_exact(&mut &stream, &mut first).expect("the handshake begins");
    running.signal("-TERM");
    running.finish().expect(2, "", "error: stopped by SIGTERM during the ALTS handshake\n");
}

#[test]
fn diagnosis() {
    let (server, handshaker) = (server::plaintext(), Handshaker::usual());
    let alts = alts::before(server.address);
    let ran = probe(&alts.addr(), &handshaker, &["-diagnose"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let handshake = format!("\n  ALTS  handshake with {PEER} (");
    let security = format!("ALTS, by the handshaker service at {}", handshaker.address);
    let command = format!("grpc_health_probe -addr={} -alts -alts-handshaker={}", alts.address, handshaker.address);
    for part in
        [&*handshake, &*security, &*command, "the server speaks ALTS, as the flags say", "\nHTTP/2\n", "\nHealth\n"]
    {
        assert!(ran.stdout.contains(part), "{ran}{part}");
    }
    let json = probe(&alts.addr(), &handshaker, &["-diagnose", "-output=json"]).json();
    assert_eq!(json["protocol"]["fits"], true, "{json}");

    let ran = probe(&server.addr(), &handshaker, &["-diagnose"]);
    for part in [
        "the server does not speak ALTS, and the flags say ALTS",
        "plaintext  HTTP/2",
        "a command that speaks plaintext",
    ] {
        assert!(ran.code == Some(1) && ran.stdout.contains(part), "{ran}{part}");
    }
    let advised = format!("    grpc_health_probe -addr={}\n", server.address);
    assert!(ran.stdout.contains(&advised), "{ran}");

    let unused = UnusedPort::new();
    let flags = [&alts.addr(), "-alts", &format!("-alts-handshaker={}", unused.address), "-diagnose"];
    let ran = Probe::new(flags).run();
    let not_known = "what the server speaks is not known, as no handshaker service helps to ask";
    assert!(ran.code == Some(1) && ran.stdout.contains(not_known), "{ran}");
}

#[test]
fn metadata_server_is_the_default() {
    let Some(()) = needs::root() else { return };
    let (server, handshaker) = (server::plaintext(), Handshaker::usual());
    let alts = alts::before(server.address);
    let dns = name_server_on([127, 53, 7, 1], Behavior::NoSuchName);
    let failed = format!("error: ALTS handshake with {} failed: no handshaker service at", alts.address);
    let name = "metadata.google.internal.";
    run_with_dns("", dns, &[&alts.addr(), "-alts"]).expect(
        1,
        "",
        &format!(
            "{failed} {name}:8080: cannot resolve \"{name}\": no such host\n\
             hint: ALTS works on Google Cloud only; use -tls, or name a handshaker with -alts-handshaker\n"
        ),
    );
    let json = run_with_dns("", dns, &[&alts.addr(), "-alts", "-output=json", "-exit-codes=detailed", "-wait=20s"]);
    json.expect_kind(2, "alts", "alts-not-on-gcp");
    // A name that is given is only a name.
    let given = run_with_dns("", dns, &[&alts.addr(), "-alts", "-alts-handshaker=elsewhere:1", "-output=json"]);
    given.expect_kind(1, "alts", "alts-handshaker");
    // The name is that of this machine.
    let hosts = "127.0.0.1 metadata.google.internal\n";
    let (probe, _files) = probe_with_etc("", hosts, "", &[&alts.addr(), "-alts"]);
    let refused = format!("{failed} {name}:8080: connection refused (127.0.0.1:8080)");
    probe.run().expect_error(1, &refused);
    let flag = format!("-alts-handshaker=metadata.google.internal.:{}", handshaker.address.port());
    let (probe, _files) = probe_with_etc("", hosts, "", &[&alts.addr(), "-alts", &flag]);
    probe.run().expect_healthy();
}
