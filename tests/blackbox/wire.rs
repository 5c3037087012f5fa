//! What goes over the wire beside a request's headers: its frames, and what happens when the server does not take it.

use std::sync::{Arc, Mutex};

use http::HeaderValue;

use crate::support::{
    frames::{DATA, END_STREAM, HEADERS, answer, data, headers, message, settings, trailers},
    peer::Peer,
    probe::{Probe, Ran},
    server::{self, Recorder},
};

/// A peer that answers SERVING, and the frames of type DATA that it got: their flags and payloads.
fn data_frames_of(flags: &[&str], environment: impl FnOnce(Probe, &Peer) -> Probe) -> Vec<(u8, Vec<u8>)> {
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    let peer = Peer::new(move |peer, _| {
        peer.greet();
        peer.send(settings(&[]));
        while let Some((kind, flags, payload)) = peer.receive_frame() {
            if kind == DATA {
                kept.lock().expect("no thread panics").push((flags, payload));
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                break;
            }
        }
        // A failure, so that a watch ends, too.
        peer.send(headers(
            END_STREAM,
            &[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"7")],
        ));
        peer.drain();
    });
    let addr = peer.addr();
    environment(Probe::new([&[addr.as_str()], flags].concat()), &peer).run();
    let frames = received.lock().expect("no thread panics");
    frames.clone()
}

/// Tomcat counts an empty DATA frame as abuse.
#[test]
fn a_request_is_one_data_frame_that_ends_the_stream() {
    let up = message(&[0x0a, 2, b'u', b'p']);
    for (flags, message) in [
        (&[][..], message(&[])),
        (&["-service=up"], up.clone()),
        (&["-list"], message(&[])),
        (&["-watch", "-service=up"], up),
    ] {
        assert_eq!(data_frames_of(flags, |probe, _| probe), [(END_STREAM, message)], "{flags:?}");
    }
    let agent = |probe: Probe, peer: &Peer| probe.env("SPIFFE_ENDPOINT_SOCKET", format!("tcp://{}", peer.address));
    assert_eq!(data_frames_of(&["-spiffe"], agent), [(END_STREAM, message(&[]))]);
}

/// The message of a request, by the flags of the probe.
fn request(flags: &[&str]) -> http::Request<Vec<u8>> {
    let recorder = Recorder::plaintext();
    let addr = recorder.server.addr();
    Probe::new([&[addr.as_str()], flags].concat()).run();
    recorder.request()
}

/// As grpc-go does: the header is there, and the flag of the message says that it is not compressed.
#[test]
fn an_empty_message_is_not_compressed() {
    for flags in [&["-gzip"][..], &["-gzip", "-list"]] {
        let request = request(flags);
        assert_eq!(request.headers().get("grpc-encoding").map(HeaderValue::as_bytes), Some(&b"gzip"[..]));
        assert_eq!(*request.body(), message(&[]), "{flags:?}");
    }
    let request = request(&["-gzip", "-service=up"]);
    assert_eq!((request.body()[0], &request.body()[5..7]), (1, &[0x1f, 0x8b][..]));
    Probe::new([&server::gzip().addr(), "-gzip"]).run().expect_healthy();
}

/// Response headers with this status, which do not end the stream.
fn headers_with_status(status: &[u8]) -> Vec<u8> {
    headers(0, &[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", status)])
}

/// Probes a peer that answers each request with these bytes.
fn probe_answered_with(flags: &[&str], bytes: Vec<u8>) -> (Ran, String) {
    let peer = Peer::new(move |peer, _| {
        peer.take_request();
        peer.send(&bytes);
        peer.drain();
    });
    let addr = peer.addr();
    (Probe::new([&[addr.as_str()], flags].concat()).run(), peer.address.to_string())
}

#[test]
fn a_status_in_headers_that_an_empty_frame_ends_is_the_failure() {
    let empty = data(END_STREAM, &[]);
    for (flags, what) in [(&["-service=up"][..], "health check of"), (&["-watch", "-service=up"], "watching")] {
        let (ran, addr) = probe_answered_with(flags, [headers_with_status(b"5"), empty.clone()].concat());
        let hint = "the server does not know the service \"up\"; is that its full name (package.Service)?";
        ran.expect(1, "", &format!("error: {what} {addr} failed: NOT_FOUND\nhint: {hint}\n"));

        // Empty frames before the end change nothing.
        let (ran, addr) =
            probe_answered_with(flags, [headers_with_status(b"16"), data(0, &[]), empty.clone()].concat());
        let hint = "the server requires credentials; give them with -rpc-header";
        ran.expect(1, "", &format!("error: {what} {addr} failed: UNAUTHENTICATED\nhint: {hint}\n"));
    }
    let (ran, addr) = probe_answered_with(&["-list"], [headers_with_status(b"7"), empty].concat());
    ran.expect(1, "", &format!("error: listing the services of {addr} failed: PERMISSION_DENIED\n"));
}

#[test]
fn a_status_in_headers_that_do_not_end_the_stream_is_never_healthy() {
    let message = answer(1);
    for status in [&b"0"[..], b"5"] {
        let head = headers_with_status(status);
        for (name, rest) in [
            ("a message and no trailers", data(END_STREAM, &message)),
            ("a message, then an empty frame", [data(0, &message), data(END_STREAM, &[])].concat()),
            ("trailers without a status", [data(0, &message), trailers(&[("x", b"y")])].concat()),
            ("no message, trailers without a status", trailers(&[("x", b"y")])),
            ("part of a message", data(END_STREAM, &message[..3])),
        ] {
            let (ran, _) = probe_answered_with(&["-output=json"], [head.clone(), rest].concat());
            assert_eq!(ran.code, Some(1), "{name}{ran}");
            ran.expect_kind(1, "rpc", "malformed-response");
        }
    }
    for flags in [&["-output=json"][..], &["-output=json", "-list"], &["-output=json", "-watch"]] {
        let (ran, _) = probe_answered_with(flags, [headers_with_status(b"0"), data(END_STREAM, &[])].concat());
        ran.expect_kind(1, "rpc", "malformed-response");
    }
}
