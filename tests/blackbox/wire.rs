//! What goes over the wire beside a request's headers: its frames, and what happens when the server does not take it.

use std::sync::{Arc, Mutex};

use http::HeaderValue;

use crate::support::{
    frames::{DATA, END_STREAM, HEADERS, headers, message, settings},
    peer::Peer,
    probe::Probe,
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
