//! `-wait`: which failures the probe retries, which it does not, and what it prints while it waits.

use crate::support::{
    frames::{answer, data, ok_headers, serving, trailers},
    peer::{Connection, Peer},
    pki::{Authority, Files},
    probe::Probe,
    server,
    unused_port::UnusedPort,
};

/// Reads a request and sends this answer.
fn reply(peer: &mut Connection, answer: &[u8]) {
    peer.take_request();
    peer.send(answer);
    peer.drain();
}

fn not_serving() -> Vec<u8> {
    [ok_headers(), data(0, &answer(2)), trailers(&[("grpc-status", b"0")])].concat()
}

#[test]
fn wait_ends_when_the_server_listens() {
    let unused = UnusedPort::new();
    let addr = unused.address;
    let running = Probe::new([&format!("-addr={addr}"), "-wait=20s"]).start();
    let peer = Peer::on(unused.listen(), |peer, _| reply(peer, &serving()));
    let ran = running.finish();
    let waiting = format!("waiting: cannot connect to {addr}: connection refused\n");
    assert!(ran.stderr.is_empty() || ran.stderr == waiting, "{ran}");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "status: SERVING\n"), "{ran}");
    drop(peer);
}

#[test]
fn wait_reconnects_until_the_server_is_healthy() {
    let peer = Peer::new(|peer, number| match number {
        0 => {}
        1 | 2 => reply(peer, &not_serving()),
        3 => reply(peer, &[ok_headers(), trailers(&[("grpc-status", b"14")])].concat()),
        _ => reply(peer, &serving()),
    });
    let ran = Probe::new([&peer.addr(), "-wait=20s"]).run();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "status: SERVING\n"), "{ran}");
    let address = peer.address;
    // One line per change of the cause. The first connection can end in two ways. The check whether the server wants TLS
    // takes the second connection.
    let mut lines: Vec<&str> = ran.stderr.lines().collect();
    let first = format!("waiting: no HTTP/2 from {address}: the ");
    assert!(!lines.is_empty() && lines.remove(0).starts_with(&first), "{ran}");
    let unavailable = format!("waiting: health check of {address} failed: UNAVAILABLE");
    assert_eq!(lines, ["waiting: service unhealthy (responded with \"NOT_SERVING\")", &unavailable], "{ran}");
    assert_eq!(peer.connections(), 5);
}

#[test]
fn wait_with_quiet_prints_nothing() {
    let peer = Peer::new(|peer, number| reply(peer, &if number > 1 { serving() } else { not_serving() }));
    Probe::new([&peer.addr(), "-wait=20s", "-q"]).run().expect(0, "", "");
}

#[test]
fn wait_ends_with_the_last_cause_and_the_attempts() {
    let unused = UnusedPort::new();
    let addr = unused.address;
    let ran = Probe::new([&format!("-addr={addr}"), "-wait=1s", "-exit-codes=detailed"]).run();
    let mut lines = ran.stderr.lines();
    let refused = format!("cannot connect to {addr}: connection refused");
    assert_eq!(lines.next(), Some(format!("waiting: {refused}").as_str()), "{ran}");
    let last = lines.next().unwrap_or_default();
    assert!(last.starts_with(&format!("error: {refused} (")) && last.ends_with(" attempts in 1s)"), "{ran}");
    assert_eq!(
        (ran.code, lines.next()),
        (Some(2), Some("hint: nothing listens there; is the server up, and on this port?")),
        "{ran}"
    );
}

#[test]
fn wait_prints_the_last_unhealthy_answer() {
    let peer = Peer::new(|peer, _| reply(peer, &not_serving()));
    let line = "service unhealthy (responded with \"NOT_SERVING\")\n";
    Probe::new([&peer.addr(), "-wait=1s"]).run().expect(1, line, &format!("waiting: {line}"));
    assert!(peer.connections() > 1);
    let ran = Probe::new([&peer.addr(), "-wait=1s", "-output=json", "-q"]).run();
    ran.expect_kind(1, "health", "not-serving");
    assert_eq!(ran.stderr, "");
}

#[test]
fn wait_for_a_silent_server_ends_at_the_deadline() {
    let silent = Peer::new(|peer, _| peer.drain());
    for (flags, limit) in [(["-wait=1s", "-timeout=1h"], "1s"), (["-wait=1h", "-timeout=900ms"], "900ms")] {
        let ran = Probe::new([&[silent.addr().as_str()], &flags[..]].concat()).run();
        let line = format!(
            "error: no HTTP/2 from {}: connected, but the server sent nothing within {limit} (1 attempt in {limit})",
            silent.address
        );
        assert_eq!((ran.code, ran.stderr.lines().next()), (Some(1), Some(line.as_str())), "{ran}");
    }
}

#[test]
fn wait_stops_at_once_on_final_failures() {
    let files = Files::new();
    let authority = Authority::new("Test CA");
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
    let elsewhere = server::tls(&authority.server(&["api.internal"]));
    let plain = server::plaintext();
    let unimplemented = Peer::new(|peer, _| reply(peer, &[ok_headers(), trailers(&[("grpc-status", b"12")])].concat()));
    for (flags, kind) in [
        (vec![elsewhere.addr(), "-tls".into(), ca.clone()], "tls-certificate-wrong-name"),
        (vec![elsewhere.addr()], "server-speaks-tls"),
        (vec![plain.addr(), "-tls".into(), ca], "tls-plaintext-server"),
        (vec![unimplemented.addr()], "unimplemented"),
        (vec![plain.addr(), "-rpc-header-file=x: /nonexistent".into()], "file-unreadable"),
    ] {
        let ran = Probe::new(flags.into_iter().chain(["-wait=1h".into(), "-output=json".into()])).run();
        let error = &ran.json()["error"];
        assert_eq!((ran.code, &error["kind"]), (Some(1), &kind.into()), "{ran}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.ends_with(" (not retrying: waiting will not help)"), "{ran}");
        assert_eq!(ran.stderr, "", "{ran}");
    }
    assert_eq!(unimplemented.connections(), 1);
}

#[test]
fn signal_ends_the_wait() {
    let peer = Peer::new(|peer, _| reply(peer, &not_serving()));
    let running = Probe::new([&peer.addr(), "-wait=1h"]).start();
    while peer.connections() < 3 {
        std::thread::yield_now();
    }
    running.signal("-TERM");
    let ran = running.finish();
    // The third attempt may be over by then.
    let is_told = ["during ", "between two attempts; the last: "]
        .iter()
        .any(|when| ran.stderr.contains(&format!("error: stopped by SIGTERM {when}")));
    assert!(ran.code == Some(1) && is_told, "{ran}");
}

#[test]
fn wait_of_zero_is_refused() {
    let line = "error: -wait=0s: must be greater than zero (specified: 0s)";
    Probe::new(["-addr=:1", "-wait=0s"]).run().expect_error(1, line);
}
