//! What goes over the wire beside a request's headers: its frames, what happens when the server does not take it, and limits
//! that one side has told the other.

use std::{
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::HeaderValue;
use rustls::{ServerConnection, StreamOwned, version};

use crate::support::{
    frames::{
        DATA, END_STREAM, HEADERS, RST_STREAM, answer, data, frame, goaway, headers, message, serving, settings,
        trailers,
    },
    peer::{Connection, Peer},
    pki::{Authority, Files},
    probe::{Probe, RunResult},
    server::{self, Recorder, TlsSetup},
};

/// A peer that answers SERVING, and the frames of type DATA that it got: their flags and payloads.
fn data_frames_of(flags: &[&str], environment: impl FnOnce(Probe, &Peer) -> Probe) -> Vec<(u8, Vec<u8>)> {
    let received = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&received);
    let peer = Peer::new(move |peer, _| {
        peer.read_preface();
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
fn probe_answered_with(flags: &[&str], bytes: Vec<u8>) -> (RunResult, String) {
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

/// Everything that a healthy server sends on this stream.
fn serving_on(stream: u32) -> Vec<u8> {
    let mut bytes = serving();
    let mut rest = bytes.as_mut_slice();
    while let [a, b, c, ..] = *rest {
        let length = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        rest[5..9].copy_from_slice(&stream.to_be_bytes());
        rest = &mut rest[length..];
    }
    bytes
}

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&version::TLS13];
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

/// Refuses so many requests on this connection, and answers those that follow. The streams are 1, 3, 5, …
fn refuse(peer: &mut Connection, refused: usize) {
    peer.read_preface();
    peer.send(settings(&[]));
    for (number, stream) in (1..).step_by(2).enumerate() {
        if !peer.await_request() {
            break;
        }
        let is_refused = number < refused;
        peer.send(if is_refused { frame(RST_STREAM, 0, stream, &REFUSED_STREAM) } else { serving_on(stream) });
    }
}

#[test]
fn a_refused_stream_is_retried_on_the_same_connection_first() {
    let once = Peer::new(|peer, _| refuse(peer, 1));
    Probe::new([once.addr()]).run().expect_healthy();
    assert_eq!(once.connections(), 1);

    let several = Peer::new(|peer, _| refuse(peer, 2));
    let ran = Probe::new([&several.addr(), "-service=a", "-service=b"]).run();
    ran.expect(0, "a: status: SERVING\nb: status: SERVING\n", "");
    assert_eq!(several.connections(), 1);

    let listed = Peer::new(|peer, _| refuse(peer, 1));
    Probe::new([&listed.addr(), "-list"]).run();
    assert_eq!(listed.connections(), 1);
}

#[test]
fn a_refused_stream_is_retried_on_a_new_connection_then() {
    let peer = Peer::new(|peer, number| refuse(peer, if number == 0 { usize::MAX } else { 0 }));
    Probe::new([peer.addr()]).run().expect_healthy();
    assert_eq!(peer.connections(), 2);

    let always = Peer::new(|peer, _| refuse(peer, usize::MAX));
    let cause = "the server reset the stream: RST_STREAM (REFUSED_STREAM)";
    let line = format!("error: health check of {} failed: {cause}", always.address);
    Probe::new([always.addr()]).run().expect_error(1, &line);
    assert_eq!(always.connections(), 2);
}

/// The first connection fails one request and refuses the other. That the next cannot be opened is not the cause.
#[test]
fn a_refusal_is_told_where_no_new_connection_can_be_had() {
    let peer = Peer::new(|peer, number| if number == 0 { refuse(peer, usize::MAX) } else { peer.read_preface() });
    let cause = "the server reset the stream: RST_STREAM (REFUSED_STREAM)";
    let line = format!("error: health check of {} failed: {cause}", peer.address);
    Probe::new([peer.addr()]).run().expect_error(1, &line);
}

/// Reads until the request on this stream has ended.
fn await_end_of(stream: u8, peer: &mut impl Read, received: &mut Vec<u8>) {
    let mut more = [0; 4096];
    while !received.windows(6).any(|header| header == [DATA, END_STREAM, 0, 0, 0, stream]) {
        match peer.read(&mut more) {
            Ok(count @ 1..) => received.extend_from_slice(&more[..count]),
            _ => break,
        }
    }
}

/// What ends the second connection says nothing about a request that failed on the first.
#[test]
fn a_connection_is_not_blamed_for_another() {
    let (files, authority) = (Files::new(), Authority::new("Test CA"));
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
    let leaf = authority.server(&["127.0.0.1"]);
    let config = TlsSetup { leaf: &leaf, versions: TLS13, alpn: &["h2"], clients: None }.config();
    let peer = Peer::new(move |peer, number| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("the configuration is valid");
        let mut peer = StreamOwned::new(connection, peer.stream());
        let send = |peer: &mut StreamOwned<_, _>, bytes: &[u8]| drop(peer.write_all(bytes).and_then(|()| peer.flush()));
        let reset = |stream, code: u8| frame(RST_STREAM, 0, stream, &[0, 0, 0, code]);
        let mut received = Vec::new();
        send(&mut peer, &settings(&[]));
        if number == 0 {
            await_end_of(3, &mut peer, &mut received);
            send(&mut peer, &[reset(1, 2), reset(3, 7)].concat());
            await_end_of(5, &mut peer, &mut received);
            send(&mut peer, &reset(5, 7));
        } else {
            await_end_of(1, &mut peer, &mut received);
            // An alert, as if the probe had sent a broken record.
            let StreamOwned { conn, sock } = &mut peer;
            let broken: &[u8] =
                &[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];
            conn.read_tls(&mut &*broken).expect("memory can be read");
            assert!(conn.process_new_packets().is_err(), "it is broken");
            while conn.wants_write() && conn.write_tls(sock).is_ok() {}
        }
        await_end_of(u8::MAX, &mut peer, &mut received);
    });
    let ran = Probe::new([&peer.addr(), "-tls", &ca, "-service=a", "-service=b"]).run();
    let lines = format!(
        "error: a: health check of {address} failed: the server reset the stream: RST_STREAM (INTERNAL_ERROR)\n\
         error: b: health check of {address} failed: the server ended TLS with the alert bad_record_mac\n",
        address = peer.address
    );
    ran.expect(1, "", &lines);
}

/// What an idle or old connection's server does while a request is under way.
fn close_in_good_order(peer: &mut Connection, way: usize) {
    const ALL: u32 = u32::MAX >> 1;
    peer.read_preface();
    match way {
        // Before the request, as with a very short idle time.
        0 => drop(peer.send([settings(&[]), goaway(ALL, 0, b"max_idle")].concat())),
        // The request came too late, and the last GOAWAY says so.
        1 => {
            peer.send(settings(&[]));
            peer.await_request();
            peer.send([goaway(ALL, 0, b"max_idle"), goaway(0, 0, b"")].concat());
        }
        // The request came too late, and the connection ends without saying so.
        _ => {
            peer.send(settings(&[]));
            peer.await_request();
            peer.send(goaway(ALL, 0, b"max_idle"));
            return;
        }
    }
    peer.drain();
}

#[test]
fn a_goaway_that_races_the_request_is_retried_until_the_deadline() {
    for ways in [[0; 4], [1; 4], [2; 4], [0, 1, 2, 0]] {
        let peer = Peer::new(move |peer, number| match ways.get(number) {
            Some(way) => close_in_good_order(peer, *way),
            None => refuse(peer, 0),
        });
        Probe::new([&peer.addr(), "-rpc-timeout=10s"]).run().expect_healthy();
        assert_eq!(peer.connections(), 5, "{ways:?}");
    }
}

#[test]
fn a_goaway_that_always_races_the_request_is_told_at_the_deadline() {
    let peer = Peer::new(|peer, _| close_in_good_order(peer, 1));
    let ran = Probe::new([&peer.addr(), "-rpc-timeout=500ms"]).run();
    let begins = format!(
        "error: health check of {} failed: the server closed the connection before it took the request: GOAWAY (NO_ERROR): \
         \"max_idle\" (",
        peer.address
    );
    assert!(ran.code == Some(1) && ran.stderr.starts_with(&begins), "{ran}");
    assert!(ran.stderr.ends_with(" attempts in 500ms)\n"), "{ran}");
    // There are pauses between them.
    assert!((3..20).contains(&peer.connections()), "{} connections{ran}", peer.connections());
}

/// A server that complains is not asked again and again.
#[test]
fn a_goaway_with_an_error_is_retried_once() {
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(goaway(0, 11, b"too_many_pings"));
        peer.drain();
    });
    let cause = "the server refused the connection: GOAWAY (ENHANCE_YOUR_CALM): \"too_many_pings\"";
    let line = format!("error: health check of {} failed: {cause}", peer.address);
    Probe::new([peer.addr()]).run().expect_error(1, &line);
    assert_eq!(peer.connections(), 2);
}

/// The size of the headers of a plain request to this address with `extra` bytes of metadata beside (RFC 9113, section 6.5.2).
fn header_list_size(address: &str, extra: usize) -> usize {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", address),
        (":path", "/grpc.health.v1.Health/Check"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc_health_probe"),
        ("grpc-timeout", "1000000u"),
    ];
    let fields = fields.map(|(name, value)| name.len() + value.len() + 32);
    fields.iter().sum::<usize>() + "x".len() + extra + 32
}

#[test]
fn headers_that_the_server_does_not_allow_are_not_sent() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    let peer = Peer::new(move |peer, _| {
        peer.read_preface();
        // The last one counts.
        peer.send(settings(&[(6, 100), (3, 100), (6, 8192)]));
        while peer.await_request() {
            counter.fetch_add(1, Ordering::SeqCst);
            peer.send(serving());
        }
    });
    let address = peer.address.to_string();
    let most = 8192 - header_list_size(&address, 0);
    let probe = |length: usize, flags: &[&str]| {
        let (addr, header) = (peer.addr(), format!("-rpc-header=x: {}", "v".repeat(length)));
        Probe::new([&[addr.as_str(), header.as_str()], flags].concat()).run()
    };
    probe(most, &[]).expect_healthy();
    assert_eq!(requests.load(Ordering::SeqCst), 1);

    let cause = "the request's headers are 8193 bytes, the server allows 8192";
    let hint = "send less metadata (-rpc-header)";
    probe(most + 1, &[]).expect(1, "", &format!("error: health check of {address} failed: {cause}\nhint: {hint}\n"));
    probe(most + 1, &["-output=json", "-exit-codes=detailed"]).expect_kind(3, "rpc", "headers-too-large");
    probe(9000, &["-watch", "-output=json"]);
    assert_eq!(requests.load(Ordering::SeqCst), 1, "no more than the one that is allowed");
}

/// tonic allows 16 KiB, and says so in its SETTINGS.
#[test]
fn a_real_server_has_a_limit_for_headers() {
    let server = server::plaintext();
    let ran = Probe::new([&server.addr(), "-rpc-header", &format!("x: {}", "s3cret".repeat(20_000))]).run();
    let allowed = "bytes, the server allows 16384\nhint: send less metadata (-rpc-header)\n";
    assert!(ran.code == Some(1) && ran.stderr.ends_with(allowed), "{ran}");
    assert!(!ran.stderr.contains("s3cret"), "{ran}");
}

#[test]
fn headers_of_a_response_over_our_limit_are_told_as_such() {
    let long = |length: usize| headers(0, &[(":status", b"200"), ("a", &vec![b'b'; length])]);
    for bytes in [long(66_000), long(100_000), long(250_000)] {
        let length = bytes.len();
        let peer = Peer::new(move |peer, _| {
            peer.read_preface();
            peer.send(settings(&[]));
            peer.await_request();
            peer.send(&bytes);
            peer.drain();
        });
        let ran = Probe::new([peer.addr()]).run();
        let line = ran.stderr.lines().next().unwrap_or_default();
        assert!(ran.code == Some(1) && line.contains("headers are over our limit of 64 KiB"), "{length} bytes: {ran}");
    }
}
