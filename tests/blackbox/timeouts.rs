//! `-connect-timeout`, `-rpc-timeout` and `-timeout`: what each of them bounds, and what the probe retries meanwhile.

use std::{thread, time::Duration};

use crate::support::{
    frames::{serving, settings},
    peer::{Connection, Peer},
    pki::Files,
    probe::Probe,
    server,
    unused_port::UnusedPort,
};

/// Reads a request and answers SERVING.
fn serve_once(peer: &mut Connection) {
    peer.take_request();
    peer.send(serving());
    peer.drain();
}

#[test]
fn connect_timeout_retries_until_a_listener_appears() {
    let unused = UnusedPort::new();
    let running = Probe::new([&format!("-addr={}", unused.address), "-connect-timeout=20s"]).start();
    let peer = Peer::on(unused.listen(), |peer, _| serve_once(peer));
    running.finish().expect_healthy();
    drop(peer);
}

#[test]
fn connect_timeout_retries_until_a_unix_socket_appears() {
    let files = Files::new();
    let path = files.path("socket");
    let running = Probe::new([&format!("-addr=unix:{}", path.display()), "-connect-timeout=20s"]).start();
    let _server = server::unix(&path);
    running.finish().expect_healthy();
}

#[test]
fn early_close_is_retried_only_with_connect_timeout() {
    let script = |peer: &mut Connection, number| {
        if number > 3 {
            serve_once(peer);
        }
    };
    let peer = Peer::new(script);
    Probe::new([&peer.addr(), "-connect-timeout=20s"]).run().expect_healthy();
    // Without the flag there is one attempt, and one connection to check whether the server wants TLS.
    let peer = Peer::new(script);
    Probe::new([&peer.addr(), "-output=json"]).run().expect_kind(1, "http2", "closed-early");
    assert_eq!(peer.connections(), 2);
}

#[test]
fn connect_timeout_does_not_retry_final_failures() {
    let http1 = Peer::new(|peer, _| {
        peer.read_preface();
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        peer.drain();
    });
    Probe::new([&http1.addr(), "-connect-timeout=1h", "-output=json"]).run().expect_kind(
        1,
        "http2",
        "server-speaks-http1",
    );
    // The second one is to check whether the server wants TLS.
    assert_eq!(http1.connections(), 2);
    let name = "-addr=localhost:99999";
    Probe::new([name, "-connect-timeout=1h", "-output=json"]).run().expect_kind(1, "usage", "usage");
}

#[test]
fn connect_timeout_reports_the_last_cause_and_the_attempts() {
    let unused = UnusedPort::new();
    let ran = Probe::new([&format!("-addr={}", unused.address), "-connect-timeout=300ms"]).run();
    let rest = ran.stderr.strip_prefix(&format!("error: cannot connect to {}: connection refused (", unused.address));
    assert!(ran.code == Some(1) && rest.is_some_and(|rest| rest.contains(" attempts in 300ms)\nhint: ")), "{ran}");
}

#[test]
fn timeout_of_the_run_is_named_in_the_failure() {
    let silent = Peer::new(|peer, _| peer.drain());
    let line = format!("error: no HTTP/2 from {}: connected, but the server sent nothing within 300ms", silent.address);
    Probe::new([&silent.addr(), "-timeout=300ms"]).run().expect_error(1, &line);

    let stuck = Peer::new(|peer, _| {
        peer.take_request();
        peer.drain();
    });
    let line = format!("error: health check of {} timed out after 300ms: connected, no answer", stuck.address);
    Probe::new([&stuck.addr(), "-timeout=300ms", "-rpc-timeout=1h"]).run().expect_error(1, &line);
}

/// Sends single bytes with long pauses in between.
fn trickle(peer: &mut Connection, bytes: &[u8]) {
    for byte in bytes {
        if !peer.send([*byte]) {
            break;
        }
        thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn trickling_bytes_do_not_extend_the_deadline() {
    let peer = Peer::new(|peer, _| trickle(peer, &settings(&[])));
    Probe::new([&peer.addr(), "-output=json"]).run().expect_kind(1, "http2", "server-silent");

    let peer = Peer::new(|peer, _| {
        peer.take_request();
        trickle(peer, &serving());
    });
    Probe::new([&peer.addr(), "-output=json"]).run().expect_kind(1, "rpc", "rpc-timeout");

    let files = Files::new();
    let ca = files.write("ca.pem", crate::support::pki::Authority::new("CA").pem);
    let peer = Peer::new(|peer, _| {
        peer.receive(5);
        trickle(peer, &[22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3]);
    });
    Probe::new([&peer.addr(), "-tls", &format!("-tls-ca-cert={ca}"), "-output=json"]).run().expect_kind(
        1,
        "tls",
        "tls-timeout",
    );
}

/// The failure of a later phase says more than the earlier refusals.
#[test]
fn connect_timeout_reports_the_cause_of_the_latest_phase() {
    let unused = UnusedPort::new();
    let running = Probe::new([&format!("-addr={}", unused.address), "-connect-timeout=1500ms", "-output=json"]).start();
    let peer = Peer::on(unused.listen(), |peer, _| peer.drain());
    running.finish().expect_kind(1, "http2", "server-silent");
    drop(peer);
}

#[test]
fn server_that_stops_reading_during_the_requests_times_out() {
    let peer = Peer::new(|peer, _| {
        peer.read_preface();
        peer.send(settings(&[]));
        // Keeps the connection open without reading from it.
        std::mem::forget(peer.stream());
    });
    // More than the buffers of the sockets hold.
    let header = format!("-rpc-header=x: {}", "x".repeat(100_000));
    let services: Vec<String> = (0..100).map(|number| format!("-service={number}")).collect();
    let flags = [peer.addr(), header, "-output=json".to_owned(), "-exit-codes=detailed".to_owned()];
    let ran = Probe::new(flags.iter().chain(&services)).run();
    assert_eq!(ran.code, Some(3), "{ran}");
    assert!(ran.stdout.lines().all(|line| line.contains("\"kind\":\"rpc-timeout\"")), "{ran}");
    assert!(ran.stdout.lines().count() > 10, "{ran}");
}
