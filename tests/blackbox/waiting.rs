//! When the probe waits and when it does not: servers that come up late, trickle, or never come; each time-out's reach.

use std::{thread, time::Duration};

use crate::support::{
    frames::{serving, settings},
    peer::{Connection, Peer},
    pki::Files,
    probe::Probe,
    server,
    unused::Unused,
};

/// Takes a request and answers it well.
fn serve(peer: &mut Connection) {
    peer.take_request();
    peer.send(serving());
    peer.drain();
}

#[test]
fn a_listener_that_appears_late_is_found_if_the_user_gave_it_time() {
    let unused = Unused::new();
    let running = Probe::new([&format!("-addr={}", unused.address), "-connect-timeout=20s"]).start();
    let peer = Peer::on(unused.listen(), |peer, _| serve(peer));
    running.finish().expect_healthy();
    drop(peer);
}

#[test]
fn a_unix_socket_that_appears_late_is_found_if_the_user_gave_it_time() {
    let files = Files::new();
    let path = files.path("socket");
    let running = Probe::new([&format!("-addr=unix:{}", path.display()), "-connect-timeout=20s"]).start();
    let _server = server::unix(&path);
    running.finish().expect_healthy();
}

#[test]
fn a_server_that_hangs_up_at_first_is_tried_again_if_the_user_gave_it_time() {
    let script = |peer: &mut Connection, number| {
        if number > 3 {
            serve(peer);
        }
    };
    let peer = Peer::new(script);
    Probe::new([&peer.addr(), "-connect-timeout=20s"]).run().expect_healthy();
    // Without that time, once, and once more to see whether it is TLS that it wants.
    let peer = Peer::new(script);
    Probe::new([&peer.addr(), "-output=json"]).run().expect_kind(1, "http2", "closed-early");
    assert_eq!(peer.connections(), 2);
}

#[test]
fn what_waiting_cannot_mend_ends_the_wait() {
    let http1 = Peer::new(|peer, _| {
        peer.greet();
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        peer.drain();
    });
    Probe::new([&http1.addr(), "-connect-timeout=1h", "-output=json"]).run().expect_kind(
        1,
        "http2",
        "server-speaks-http1",
    );
    assert_eq!(http1.connections(), 1);
    let name = "-addr=localhost:99999";
    Probe::new([name, "-connect-timeout=1h", "-output=json"]).run().expect_kind(1, "usage", "usage");
}

#[test]
fn the_last_cause_and_the_attempts_are_told_when_the_time_is_over() {
    let unused = Unused::new();
    let ran = Probe::new([&format!("-addr={}", unused.address), "-connect-timeout=300ms"]).run();
    let told = ran.stderr.strip_prefix(&format!("error: cannot connect to {}: connection refused (", unused.address));
    assert!(ran.code == Some(1) && told.is_some_and(|told| told.contains(" attempts in 300ms)\nhint: ")), "{ran}");
}

#[test]
fn the_bound_on_the_whole_run_is_named_where_it_is_met() {
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

/// The pause between bytes is what is tested; that it is long is all that counts.
fn trickle(peer: &mut Connection, bytes: &[u8]) {
    for byte in bytes {
        if !peer.send([*byte]) {
            break;
        }
        thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_trickle_is_no_answer() {
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

/// A cause that lies further on the way tells more than the refusals before it.
#[test]
fn the_last_cause_is_told_and_not_the_one_before() {
    let unused = Unused::new();
    let running = Probe::new([&format!("-addr={}", unused.address), "-connect-timeout=1500ms", "-output=json"]).start();
    let peer = Peer::on(unused.listen(), |peer, _| peer.drain());
    running.finish().expect_kind(1, "http2", "server-silent");
    drop(peer);
}

#[test]
fn a_server_that_stops_reading_amid_the_requests_is_given_up_in_time() {
    let peer = Peer::new(|peer, _| {
        peer.greet();
        peer.send(settings(&[]));
        // Left open, and never read from again.
        std::mem::forget(peer.stream());
    });
    // More than sockets hold.
    let header = format!("-rpc-header=x: {}", "x".repeat(100_000));
    let services: Vec<String> = (0..100).map(|number| format!("-service={number}")).collect();
    let flags = [peer.addr(), header, "-output=json".to_owned(), "-exit-codes=detailed".to_owned()];
    let ran = Probe::new(flags.iter().chain(&services)).run();
    assert_eq!(ran.code, Some(3), "{ran}");
    assert!(ran.stdout.lines().all(|line| line.contains("\"kind\":\"rpc-timeout\"")), "{ran}");
    assert!(ran.stdout.lines().count() > 10, "{ran}");
}
