//! Peers that are broken, hostile or unusual: what each does, and the phase and kind that the probe must report.
//!
//! Each row is a test, named after what the peer does. Its expectation is a phase and a kind, or `HEALTHY`. For every row
//! the probe must not hang or panic, and must stay within 16 MiB of memory and 4096 bytes of escaped output.

use std::{io::Write, time::Instant};

use crate::support::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, answer, block,
        data, frame, goaway, headers, message, ok_headers, rst_stream, serving, settings, settings_ack, trailers,
    },
    peer::{Connection, Peer},
    probe::{Probe, RunResult, address_space},
};

/// What a row expects.
enum Expected {
    Healthy,
    Failure { phase: &'static str, kind: &'static str },
}

const HEALTHY: Expected = Expected::Healthy;

const fn fails(phase: &'static str, kind: &'static str) -> Expected {
    Expected::Failure { phase, kind }
}

fn check(
    flags: &[&str],
    expected: &Expected,
    script: impl Fn(&mut Connection, usize) + Send + Sync + 'static,
) -> RunResult {
    let peer = Peer::new(script);
    let start = Instant::now();
    let addr = peer.addr();
    let arguments = [&[addr.as_str(), "-output=json", "-exit-codes=detailed"], flags].concat();
    // The limit on address space also limits memory: an allocation beyond it aborts the probe.
    let ran = Probe::wrapped(&["prlimit", &format!("--as={}", address_space() * 1024)], arguments).run();
    // Longer than both timeouts on a busy machine, shorter than a hang.
    assert!(start.elapsed().as_secs() < 15, "{ran}took {:?}", start.elapsed());
    match expected {
        Expected::Healthy => {
            let line = ran.json();
            assert!(
                ran.code == Some(0) && line["healthy"] == true && line["status"] == "SERVING",
                "{ran}expected healthy"
            );
        }
        Expected::Failure { phase, kind } => {
            let code = match *phase {
                "resolve" | "connect" | "tls" | "http2" => 2,
                "rpc" => 3,
                "health" => 4,
                other => panic!("no peer can cause {other}"),
            };
            ran.expect_kind(code, phase, kind);
        }
    }
    assert!(ran.stdout.len() + ran.stderr.len() <= 4096, "{ran}more than Docker keeps");
    let is_raw =
        |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
    assert!(!ran.stdout.contains(is_raw) && !ran.stderr.contains(is_raw), "{ran}raw characters of a peer");
    ran
}

/// A table of rows: name, flags, expectation, script of the peer.
macro_rules! peers {
    ($($name:ident $flags:expr, $expected:expr, $script:expr;)*) => {
        $(
            #[test]
            fn $name() {
                check(&$flags, &$expected, $script);
            }
        )*
    };
}

/// A peer that reads the request and answers with these bytes.
fn answers(bytes: impl Into<Vec<u8>>) -> impl Fn(&mut Connection, usize) + Send + Sync + 'static {
    let bytes = bytes.into();
    move |peer, _| {
        peer.take_request();
        peer.send(&bytes);
        peer.drain();
    }
}

/// A peer that refuses each request.
fn refuses_streams(peer: &mut Connection, _: usize) {
    peer.read_preface();
    peer.send(settings(&[]));
    for stream in (1..).step_by(2) {
        if !(peer.await_request() && peer.send(frame(RST_STREAM, 0, stream, &7u32.to_be_bytes()))) {
            break;
        }
    }
}

/// A peer that sends these bytes at once and then waits for the probe to go.
fn opens(bytes: impl Into<Vec<u8>>) -> impl Fn(&mut Connection, usize) + Send + Sync + 'static {
    let bytes = bytes.into();
    move |peer, _| {
        peer.send(&bytes);
        peer.drain();
    }
}

/// A peer that waits for the first bytes, replies with these and closes, as servers of other protocols do.
fn replies(bytes: impl Into<Vec<u8>>) -> impl Fn(&mut Connection, usize) + Send + Sync + 'static {
    let bytes = bytes.into();
    move |peer, _| {
        peer.receive(5);
        peer.send(&bytes);
        peer.finish();
        peer.drain();
    }
}

/// An HTTP response that is not gRPC.
fn html_response(status: &[u8], body: &[u8]) -> Vec<u8> {
    [headers(0, &[(":status", status), ("content-type", b"text/html")]), data(END_STREAM, body)].concat()
}

/// A Trailers-Only answer with this status.
fn trailers_only(status: &[u8]) -> Vec<u8> {
    let fields: &[(&str, &[u8])] =
        &[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", status)];
    headers(END_STREAM, fields)
}

/// A complete answer with this encoding, message and trailers.
fn complete_answer(encoding: Option<&[u8]>, message: &[u8], end: &[(&str, &[u8])]) -> Vec<u8> {
    let mut fields: Vec<(&str, &[u8])> = vec![(":status", b"200"), ("content-type", b"application/grpc")];
    fields.extend(encoding.map(|encoding| ("grpc-encoding", encoding)));
    [headers(0, &fields), data(0, message), trailers(end)].concat()
}

fn with_content_type(content_type: &[u8]) -> Vec<u8> {
    [
        headers(0, &[(":status", b"200"), ("content-type", content_type)]),
        data(0, &answer(1)),
        trailers(&[("grpc-status", b"0")]),
    ]
    .concat()
}

const OK: &[(&str, &[u8])] = &[("grpc-status", b"0")];

/// `08 01`, SERVING, as gzip, with its checksum.
const GZIPPED: [u8; 22] = [31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 227, 96, 4, 0, 97, 168, 7, 254, 2, 0, 0, 0];

fn compressed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&[1], &length[..], payload].concat()
}

// Before SETTINGS: TCP and other protocols.
peers! {
    accepts_and_stays_silent_before_settings [], fails("http2", "server-silent"), |peer, _| peer.drain();
    closes_and_stays_silent_on_the_next_connection [], fails("http2", "closed-early"), |peer, number| if number > 0 { peer.drain() };
    accepts_and_closes [], fails("http2", "closed-early"), |_, _| {};
    resets_at_once [], fails("http2", "closed-early"), |peer, _| peer.reset();
    resets_three_connections_and_then_serves ["-connect-timeout=20s"], HEALTHY, |peer, number| {
        if number < 3 { return peer.reset() }
        peer.take_request();
        peer.send(serving());
        peer.drain();
    };
    reads_the_preface_and_closes [], fails("http2", "closed-early"), |peer, _| peer.read_preface();
    half_closes_and_waits [], fails("http2", "closed-early"), |peer, _| { peer.finish(); peer.drain(); };
    sends_random_bytes [], fails("http2", "not-http2"), opens([0xde, 0xad, 0xbe, 0xef, 0x01, 0x02, 0x03, 0x99, 0x80, 0x81].repeat(10));
    sends_zeros [], fails("http2", "http2-refused"), opens([0; 100]);
    sends_one_byte_and_stays_silent [], fails("http2", "not-http2"), opens([0xfe]);
    sends_half_a_settings_frame [], fails("http2", "server-silent"), opens([0, 0, 6, 4, 0]);
    sends_half_a_settings_frame_and_closes [], fails("http2", "closed-early"), |peer, _| { peer.send([0, 0, 6, 4, 0]); };
    is_an_ssh_server [], fails("http2", "not-http2"), opens(*b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n");
    is_an_smtp_server [], fails("http2", "not-http2"), opens(*b"220 mail.example.com ESMTP Postfix\r\n");
    is_a_redis_server [], fails("http2", "not-http2"), replies(*b"-ERR unknown command 'PRI'\r\n");
    is_a_mysql_server [], fails("http2", "not-http2"), opens(*b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00\xff\xdf\x15");
    is_an_http1_server [], fails("http2", "server-speaks-http1"), replies(*b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    is_an_http1_proxy_with_an_error_page [], fails("http2", "server-speaks-http1"), replies(*b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<html><h1>502</h1></html>");
    is_an_http1_server_that_keeps_the_connection [], fails("http2", "server-speaks-http1"), |peer, _| {
        peer.read_preface();
        peer.send(b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n");
        peer.drain();
    };
    is_an_http1_server_in_pieces [], fails("http2", "server-speaks-http1"), |peer, _| {
        peer.read_preface();
        for byte in b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" {
            peer.send([*byte]);
        }
        peer.drain();
    };
    asks_for_https_in_pieces [], fails("http2", "server-speaks-tls"), |peer, _| {
        peer.read_preface();
        for byte in b"HTTP/1.0 400 Bad Request\r\nX: HTTPS \r\n\r\n" {
            peer.send([*byte]);
        }
        peer.drain();
    };
    sends_one_byte_of_tls_and_closes [], fails("http2", "server-speaks-tls"), replies([21]);
    sends_html_alone [], fails("http2", "not-http2"), replies(*b"<html><body>It works!</body></html>\n");
    sends_terminal_escape_sequences [], fails("http2", "not-http2"), opens(*b"\x1b[31mred\x1b[0m\r\n");
    answers_plaintext_with_a_tls_alert [], fails("http2", "server-speaks-tls"), replies([21, 3, 1, 0, 2, 2, 70]);
    answers_plaintext_with_a_tls_alert_and_resets [], fails("http2", "server-speaks-tls"), |peer, _| {
        // Unread bytes make the close a reset.
        peer.receive(1);
        peer.send([21, 3, 3, 0, 2, 2, 10]);
    };
    answers_plaintext_with_a_tls_record [], fails("http2", "server-speaks-tls"), replies([22, 3, 3, 0, 4, 14, 0, 0, 0]);
    asks_for_https_in_http1 [], fails("http2", "server-speaks-tls"), replies(*b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
    trickles_its_settings [], HEALTHY, |peer, _| {
        for byte in settings(&[(3, 100)]) {
            peer.send([byte]);
        }
        peer.read_preface();
        peer.await_request();
        peer.send(serving());
        peer.drain();
    };
    never_reads [], fails("http2", "server-silent"), |peer, _| peer.await_close();
    sends_settings_and_never_reads ["-rpc-timeout=300ms"], fails("rpc", "rpc-timeout"), |peer, _| {
        peer.send(settings(&[]));
        peer.await_close();
    };
}

// Before SETTINGS: HTTP/2 that begins with a wrong frame.
peers! {
    sends_headers_first [], fails("http2", "http2-refused"), opens(ok_headers());
    sends_ping_first [], fails("http2", "http2-refused"), opens(frame(PING, 0, 0, &[0; 8]));
    sends_goaway_first [], fails("http2", "http2-refused"), opens(goaway(0, 11, b"too_many_pings"));
    sends_goaway_first_and_closes [], fails("http2", "http2-refused"), |peer, _| { peer.read_preface(); peer.send(goaway(0, 1, b"")); };
    sends_a_settings_acknowledgement_first [], fails("http2", "http2-refused"), opens(settings_ack());
    sends_settings_on_a_stream [], fails("http2", "not-http2"), opens(frame(SETTINGS, 0, 1, &[]));
    sends_settings_of_an_odd_length [], fails("http2", "not-http2"), opens(frame(SETTINGS, 0, 0, &[0; 5]));
    announces_a_frame_of_16_mib_before_settings [], fails("http2", "not-http2"), opens([0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0].repeat(10));
    answers_serving_without_settings [], fails("http2", "http2-refused"), opens(serving());
}

// After SETTINGS: the connection.
peers! {
    answers_serving [], HEALTHY, answers(serving());
    answers_serving_and_closes_at_once [], HEALTHY, |peer, _| { peer.take_request(); peer.send(serving()); };
    answers_serving_and_sends_goaway [], HEALTHY, answers([serving(), goaway(1, 0, b"bye")].concat());
    sends_goaway_and_answers_serving [], HEALTHY, answers([goaway(1, 0, b""), serving()].concat());
    answers_before_the_request_has_ended [], HEALTHY, answers([serving(), rst_stream(0)].concat());
    sends_settings_and_stays_silent ["-rpc-timeout=300ms"], fails("rpc", "rpc-timeout"), |peer, _| {
        peer.take_request();
        peer.drain();
    };
    sends_settings_and_closes [], fails("rpc", "stream-broken"), |peer, _| { peer.read_preface(); peer.send(settings(&[])); peer.receive_frame(); };
    closes_instead_of_answering [], fails("rpc", "stream-broken"), |peer, _| peer.take_request();
    refuses_with_goaway [], fails("rpc", "stream-broken"), answers(goaway(0, 11, b"too_many_pings"));
    refuses_with_goaway_once [], HEALTHY, |peer, number| {
        peer.take_request();
        peer.send(if number == 0 { goaway(0, 0, b"") } else { serving() });
        peer.drain();
    };
    refuses_the_stream [], fails("rpc", "stream-broken"), refuses_streams;
    refuses_streams_on_the_first_connection [], HEALTHY, |peer, number| {
        if number == 0 {
            return refuses_streams(peer, number);
        }
        peer.take_request();
        peer.send(serving());
        peer.drain();
    };
    resets_without_an_error [], fails("rpc", "stream-broken"), answers(rst_stream(0));
    resets_for_a_protocol_error [], fails("rpc", "stream-broken"), answers(rst_stream(1));
    resets_for_an_internal_error [], fails("rpc", "stream-broken"), answers(rst_stream(2));
    resets_for_flow_control [], fails("rpc", "stream-broken"), answers(rst_stream(3));
    resets_for_a_settings_timeout [], fails("rpc", "stream-broken"), answers(rst_stream(4));
    resets_for_a_closed_stream [], fails("rpc", "stream-broken"), answers(rst_stream(5));
    resets_for_a_frame_size [], fails("rpc", "stream-broken"), answers(rst_stream(6));
    resets_to_cancel [], fails("rpc", "stream-broken"), answers(rst_stream(8));
    resets_for_compression [], fails("rpc", "stream-broken"), answers(rst_stream(9));
    resets_for_a_connect_error [], fails("rpc", "stream-broken"), answers(rst_stream(10));
    resets_with_enhance_your_calm [], fails("rpc", "stream-broken"), answers(rst_stream(11));
    resets_for_inadequate_security [], fails("rpc", "stream-broken"), answers(rst_stream(12));
    resets_with_http_1_1_required [], fails("rpc", "stream-broken"), answers(rst_stream(13));
    resets_with_an_unknown_code [], fails("rpc", "stream-broken"), answers(rst_stream(4660));
    goaway_with_hostile_text [], fails("rpc", "stream-broken"), answers(goaway(0, 2, b"\x1b]0;owned\x07\xff\xfe\n\n"));
    goaway_with_an_unknown_code [], fails("rpc", "stream-broken"), answers(goaway(0, 0xdead_beef, b""));
    refuses_once_with_settings_and_goaway_together [], HEALTHY, |peer, number| {
        if number == 0 {
            peer.read_preface();
            peer.send([settings(&[]), goaway(0, 0, b"")].concat());
        } else {
            peer.take_request();
            peer.send(serving());
        }
        peer.drain();
    };
    allows_no_stream_and_then_one [], HEALTHY, |peer, _| {
        peer.read_preface();
        peer.send(settings(&[(3, 0)]));
        // The acknowledgement shows that the probe applies the limit.
        while !matches!(peer.receive_frame(), Some((SETTINGS, 1, _)) | None) {}
        peer.send(settings(&[(3, 1)]));
        peer.await_request();
        peer.send(serving());
        peer.drain();
    };
    allows_no_stream_ever ["-rpc-timeout=300ms"], fails("rpc", "rpc-timeout"), |peer, _| {
        peer.read_preface();
        peer.send(settings(&[(3, 0)]));
        peer.drain();
    };
    has_a_window_of_zero ["-rpc-timeout=300ms", "-service=up"], fails("rpc", "rpc-timeout"), |peer, _| {
        peer.read_preface();
        peer.send(settings(&[(4, 0)]));
        peer.drain();
    };
    has_a_window_of_one_byte ["-service=up"], HEALTHY, |peer, _| {
        peer.read_preface();
        peer.send(settings(&[(4, 1)]));
        loop {
            match peer.receive_frame() {
                Some((DATA, flags, _)) if flags & END_STREAM != 0 => break,
                Some((DATA, ..)) => { peer.send(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])); }
                Some(_) => {}
                None => return,
            }
        }
        peer.send(serving());
        peer.drain();
    };
    sends_unknown_frames_and_settings [], HEALTHY, |peer, _| {
        peer.read_preface();
        peer.send([settings(&[(0xff, 7), (0x4321, 9)]), frame(0x42, 0xff, 0, b"?"), frame(0x43, 0, 1, b"?")].concat());
        peer.await_request();
        peer.send([frame(0x44, 0, 1, b"?"), serving()].concat());
        peer.drain();
    };
    sends_endless_pings ["-rpc-timeout=300ms"], fails("rpc", "rpc-timeout"), |peer, _| {
        peer.take_request();
        // Ends when the probe closes the connection.
        while peer.send(frame(PING, 0, 0, &[0; 8]).repeat(100)) && peer.receive(1).len() == 1 {}
    };
    sends_endless_settings [], fails("rpc", "rpc-timeout"), |peer, _| {
        peer.take_request();
        while peer.send(settings(&[(3, 100)]).repeat(10)) && peer.receive(9 * 10).len() == 90 {}
    };
    sends_endless_empty_data [], fails("rpc", "stream-broken"), |peer, _| {
        peer.take_request();
        peer.send(ok_headers());
        while peer.send(data(0, &[]).repeat(100)) {}
    };
    sends_endless_continuations [], fails("rpc", "stream-broken"), |peer, _| {
        peer.take_request();
        peer.send(frame(HEADERS, 0, 1, &block(&[(":status", b"200")])));
        while peer.send(frame(CONTINUATION, 0, 1, &block(&[("a", &[b'b'; 1000])]))) {}
    };
    sends_endless_headers [], fails("rpc", "stream-broken"), |peer, _| {
        peer.take_request();
        while peer.send(ok_headers()) {}
    };
    overflows_the_connection_window [], fails("rpc", "stream-broken"), answers(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]));
    overflows_the_window_of_an_ended_stream ["-rpc-timeout=300ms"], fails("rpc", "rpc-timeout"), answers(frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]));
    data_before_headers [], fails("rpc", "stream-broken"), answers(data(0, &answer(1)));
    broken_header_compression [], fails("rpc", "stream-broken"), answers(frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    huge_header_list [], fails("rpc", "stream-broken"), answers(headers(0, &[(":status", b"200"), ("a", &vec![b'b'; 100_000])]));
    sends_a_push_promise [], fails("rpc", "stream-broken"), answers(frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &block(&[(":method", b"GET")])].concat()));
    sends_a_frame_over_the_size_limit [], fails("rpc", "stream-broken"), answers([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
    answers_in_padded_frames [], HEALTHY, answers([
        ok_headers(),
        frame(DATA, 8, 1, &[&[3][..], &answer(1), &[0; 3]].concat()),
        trailers(OK),
    ].concat());
    padding_longer_than_its_frame [], fails("rpc", "stream-broken"), answers([ok_headers(), frame(DATA, 8, 1, &[200, 0, 0])].concat());
    informational_headers_come_first [], HEALTHY, answers([headers(0, &[(":status", b"103"), ("link", b"</a>")]), serving()].concat());
    only_informational_headers ["-rpc-timeout=300ms"], fails("rpc", "rpc-timeout"), answers(headers(0, &[(":status", b"100")]));
    answers_another_stream ["-rpc-timeout=300ms"], fails("rpc", "stream-broken"), answers(frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&[(":status", b"200")])));
}

// HTTP that is not gRPC.
peers! {
    http_200_with_html [], fails("rpc", "not-grpc"), answers(html_response(b"200", b"<h1>hello</h1>"));
    http_200_with_nothing [], fails("rpc", "not-grpc"), answers(headers(END_STREAM, &[(":status", b"200")]));
    http_200_with_json [], fails("rpc", "not-grpc"), answers(with_content_type(b"application/json"));
    http_200_with_grpc_web [], fails("rpc", "not-grpc"), answers(with_content_type(b"application/grpc-web"));
    http_200_with_a_content_type_that_only_starts_like_grpc [], fails("rpc", "not-grpc"), answers(with_content_type(b"application/grpcx"));
    http_200_with_two_content_types [], fails("rpc", "not-grpc"), answers([
        headers(0, &[(":status", b"200"), ("content-type", b"application/grpc"), ("content-type", b"text/html")]),
        data(0, &answer(1)), trailers(OK),
    ].concat());
    http_200_with_grpc_and_proto [], HEALTHY, answers(with_content_type(b"application/grpc+proto"));
    http_200_with_grpc_and_a_parameter [], HEALTHY, answers(with_content_type(b"application/grpc;charset=utf-8"));
    http_301 [], fails("rpc", "http-status"), answers(html_response(b"301", b""));
    http_400 [], fails("rpc", "http-status"), answers(html_response(b"400", b"bad"));
    http_401 [], fails("rpc", "http-status"), answers(html_response(b"401", b"who"));
    http_403 [], fails("rpc", "http-status"), answers(html_response(b"403", b"no"));
    http_404 [], fails("rpc", "http-status"), answers(html_response(b"404", b"<h1>404</h1>"));
    http_404_with_nothing [], fails("rpc", "http-status"), answers(headers(END_STREAM, &[(":status", b"404")]));
    http_415 [], fails("rpc", "http-status"), answers(html_response(b"415", b""));
    http_429 [], fails("rpc", "http-status"), answers(html_response(b"429", b"slow down"));
    http_431 [], fails("rpc", "http-status"), answers(headers(END_STREAM, &[(":status", b"431")]));
    http_500 [], fails("rpc", "http-status"), answers(html_response(b"500", b"oops"));
    http_502 [], fails("rpc", "http-status"), answers(html_response(b"502", b"<html>"));
    http_503 [], fails("rpc", "http-status"), answers(headers(END_STREAM, &[(":status", b"503")]));
    http_504 [], fails("rpc", "http-status"), answers(html_response(b"504", b""));
    http_503_with_a_grpc_status [], fails("rpc", "unavailable"), answers(headers(END_STREAM, &[(":status", b"503"), ("content-type", b"application/grpc"), ("grpc-status", b"14")]));
    http_500_with_serving_and_ok [], fails("rpc", "http-status"), answers([
        headers(0, &[(":status", b"500"), ("content-type", b"application/grpc")]), data(0, &answer(1)), trailers(OK),
    ].concat());
    http_500_with_an_endless_page [], fails("rpc", "http-status"), |peer, _| {
        peer.take_request();
        peer.send([headers(0, &[(":status", b"500"), ("content-type", b"text/html")]), data(0, b"<h1>")].concat());
        peer.drain();
    };
}

// gRPC: the answer and its status.
peers! {
    answers_unknown [], fails("health", "status-unknown"), answers([ok_headers(), data(0, &answer(0)), trailers(OK)].concat());
    answers_not_serving [], fails("health", "not-serving"), answers([ok_headers(), data(0, &answer(2)), trailers(OK)].concat());
    answers_service_unknown [], fails("health", "service-unknown-status"), answers([ok_headers(), data(0, &answer(3)), trailers(OK)].concat());
    answers_an_undefined_status [], fails("health", "status-unrecognised"), answers([ok_headers(), data(0, &answer(42)), trailers(OK)].concat());
    answers_a_negative_status [], fails("health", "status-unrecognised"), answers(complete_answer(None, &message(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), OK));
    answers_with_unknown_fields [], HEALTHY, answers(complete_answer(None, &message(&[0x12, 2, b'h', b'i', 8, 1]), OK));
    answers_two_statuses_in_one_message [], fails("health", "not-serving"), answers(complete_answer(None, &message(&[8, 1, 8, 2]), OK));
    code_1 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"1"));
    code_2 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"2"));
    code_3 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"3"));
    code_4 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"4"));
    code_5 [], fails("rpc", "service-unknown"), answers(trailers_only(b"5"));
    code_6 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"6"));
    code_7 [], fails("rpc", "rpc-permission-denied"), answers(trailers_only(b"7"));
    code_8 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"8"));
    code_9 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"9"));
    code_10 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"10"));
    code_11 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"11"));
    code_12 [], fails("rpc", "unimplemented"), answers(trailers_only(b"12"));
    code_13 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"13"));
    code_14 [], fails("rpc", "unavailable"), answers(trailers_only(b"14"));
    code_15 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"15"));
    code_16 [], fails("rpc", "unauthenticated"), answers(trailers_only(b"16"));
    code_17 [], fails("rpc", "rpc-failed"), answers(trailers_only(b"17"));
    code_4294967296 [], fails("rpc", "malformed-response"), answers(trailers_only(b"4294967296"));
    code_that_is_not_a_number [], fails("rpc", "malformed-response"), answers(trailers_only(b"OK"));
    code_that_is_empty [], fails("rpc", "malformed-response"), answers(trailers_only(b""));
    serving_then_a_code_with_a_leading_zero [], fails("rpc", "malformed-response"), answers(complete_answer(None, &answer(1), &[("grpc-status", b"00")]));
    serving_then_a_code_with_a_plus_sign [], fails("rpc", "malformed-response"), answers(complete_answer(None, &answer(1), &[("grpc-status", b"+0")]));
    ok_without_a_message [], fails("rpc", "malformed-response"), answers(trailers_only(b"0"));
    ok_in_trailers_without_a_message [], fails("rpc", "malformed-response"), answers([ok_headers(), trailers(OK)].concat());
    serving_without_trailers [], fails("rpc", "malformed-response"), answers([ok_headers(), data(END_STREAM, &answer(1))].concat());
    serving_then_trailers_without_a_status [], fails("rpc", "malformed-response"), answers(complete_answer(None, &answer(1), &[("x-cost", b"3")]));
    serving_then_a_failing_status [], fails("rpc", "rpc-failed"), answers(complete_answer(None, &answer(1), &[("grpc-status", b"13"), ("grpc-message", b"no%2C really not")]));
    serving_then_unavailable [], fails("rpc", "unavailable"), answers(complete_answer(None, &answer(1), &[("grpc-status", b"14")]));
    serving_then_two_statuses [], fails("rpc", "malformed-response"), answers(complete_answer(None, &answer(1), &[("grpc-status", b"0"), ("grpc-status", b"14")]));
    serving_then_silence ["-rpc-timeout=300ms"], fails("rpc", "rpc-timeout"), answers([ok_headers(), data(0, &answer(1))].concat());
    serving_then_a_close [], fails("rpc", "stream-broken"), |peer, _| {
        peer.take_request();
        peer.send([ok_headers(), data(0, &answer(1))].concat());
    };
    serving_then_a_reset [], fails("rpc", "stream-broken"), answers([ok_headers(), data(0, &answer(1)), rst_stream(8)].concat());
    serving_then_a_reset_without_an_error [], fails("rpc", "stream-broken"), answers([ok_headers(), data(0, &answer(1)), rst_stream(0)].concat());
    serving_then_trailers_without_end_stream ["-rpc-timeout=300ms"], fails("rpc", "stream-broken"), answers([ok_headers(), data(0, &answer(1)), headers(0, OK)].concat());
    status_in_headers_only [], fails("rpc", "malformed-response"), answers([
        headers(0, &[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"0")]),
        data(END_STREAM, &answer(1)),
    ].concat());
    ok_in_headers_and_failure_in_trailers [], fails("rpc", "unavailable"), answers([
        headers(0, &[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"0")]),
        data(0, &answer(1)),
        trailers(&[("grpc-status", b"14")]),
    ].concat());
    failure_in_headers_and_ok_in_trailers [], HEALTHY, answers([
        headers(0, &[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"14")]),
        data(0, &answer(1)),
        trailers(OK),
    ].concat());
    two_messages [], fails("rpc", "malformed-response"), answers(complete_answer(None, &[answer(1), answer(1)].concat(), OK));
    serving_and_not_serving [], fails("rpc", "malformed-response"), answers(complete_answer(None, &[answer(1), answer(2)].concat(), OK));
    one_and_a_half_messages [], fails("rpc", "malformed-response"), answers(complete_answer(None, &[answer(1), vec![0, 0]].concat(), OK));
    half_a_message [], fails("rpc", "malformed-response"), answers(complete_answer(None, &[0, 0, 0, 0, 9, 8, 1], OK));
    half_a_prefix [], fails("rpc", "malformed-response"), answers(complete_answer(None, &[0, 0, 0], OK));
    a_message_in_single_bytes [], HEALTHY, answers([ok_headers(), answer(1).iter().flat_map(|byte| data(0, &[*byte])).collect(), trailers(OK)].concat());
    announces_a_message_of_4_gib [], fails("rpc", "malformed-response"), answers([ok_headers(), data(0, &[0, 0xff, 0xff, 0xff, 0xff, 8, 1])].concat());
    sends_endless_messages [], fails("rpc", "malformed-response"), |peer, _| {
        peer.take_request();
        peer.send(ok_headers());
        while peer.send(data(0, &answer(1).repeat(1000))) {}
    };
    message_is_not_protobuf [], fails("rpc", "malformed-response"), answers(complete_answer(None, &message(&[0xff, 0xff, 0xff]), OK));
    a_status_of_the_wrong_type [], fails("rpc", "malformed-response"), answers(complete_answer(None, &message(&[0x0a, 1, 1]), OK));
    compressed_without_an_encoding [], fails("rpc", "malformed-response"), answers(complete_answer(None, &compressed(&GZIPPED), OK));
    compressed_without_gzip_flag [], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"gzip"), &compressed(&GZIPPED), OK));
    compressed_with_gzip_flag ["-gzip"], HEALTHY, answers(complete_answer(Some(b"gzip"), &compressed(&GZIPPED), OK));
    uncompressed_with_gzip_flag ["-gzip"], HEALTHY, answers(complete_answer(Some(b"gzip"), &answer(1), OK));
    gzip_encoding_header_but_uncompressed [], HEALTHY, answers(complete_answer(Some(b"gzip"), &answer(1), OK));
    identity_encoding_header_but_compressed ["-gzip"], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"identity"), &compressed(&GZIPPED), OK));
    compressed_with_snappy ["-gzip"], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"snappy"), &compressed(&[1, 2, 3]), OK));
    compressed_with_a_bad_checksum ["-gzip"], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"gzip"), &compressed(&{ let mut bad = GZIPPED; bad[14] ^= 1; bad }), OK));
    gzip_bomb ["-gzip"], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"gzip"), &compressed(&gzip(&vec![0; 3 << 20])), OK));
    gzip_bomb_without_gzip_flag [], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"gzip"), &compressed(&gzip(&vec![0; 3 << 20])), OK));
    compressed_in_two_gzip_members ["-gzip"], fails("health", "not-serving"), answers(complete_answer(Some(b"gzip"), &compressed(&[gzip(&[8, 1]), gzip(&[8, 2])].concat()), OK));
    compressed_with_trailing_garbage ["-gzip"], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"gzip"), &compressed(&[gzip(&[8, 1]), b"garbage".to_vec()].concat()), OK));
    two_encoding_headers ["-gzip"], fails("rpc", "malformed-response"), answers([
        headers(0, &[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-encoding", b"gzip"), ("grpc-encoding", b"identity")]),
        data(0, &compressed(&GZIPPED)), trailers(OK),
    ].concat());
    compressed_and_truncated ["-gzip"], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"gzip"), &compressed(&GZIPPED[..12]), OK));
    compressed_nonsense ["-gzip"], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"gzip"), &compressed(b"nonsense"), OK));
    a_message_of_the_greatest_size [], HEALTHY, answers(complete_answer(None, &message(&padded(4096)), OK));
    a_message_of_one_byte_more [], fails("rpc", "malformed-response"), answers(complete_answer(None, &message(&padded(4097)), OK));
    compressed_from_the_greatest_size ["-gzip"], HEALTHY, answers(complete_answer(Some(b"gzip"), &compressed(&gzip(&padded(4096))), OK));
    compressed_from_one_byte_more ["-gzip"], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"gzip"), &compressed(&gzip(&padded(4097))), OK));
    compressed_from_the_greatest_size_and_another_status ["-gzip"], fails("rpc", "malformed-response"), answers(complete_answer(Some(b"gzip"), &compressed(&gzip(&[padded(4096), vec![8, 2]].concat())), OK));
    an_unknown_compression_flag [], fails("rpc", "malformed-response"), answers(complete_answer(None, &[2, 0, 0, 0, 2, 8, 1], OK));
    details_that_are_not_base64 [], HEALTHY, answers(complete_answer(None, &answer(1), &[("grpc-status", b"0"), ("grpc-status-details-bin", b"!!! not base64 !!!")]));
    details_that_are_not_base64_with_a_failure [], fails("rpc", "unavailable"), answers(complete_answer(None, &answer(1), &[("grpc-status", b"14"), ("grpc-status-details-bin", b"%%%")]));
    details_that_are_not_base64_in_headers [], fails("rpc", "service-unknown"), answers(headers(END_STREAM, &[
        (":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"5"), ("grpc-status-details-bin", b"\x80\xff"),
    ]));
    details_that_are_not_base64_in_leading_headers [], HEALTHY, answers([
        headers(0, &[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status-details-bin", b"*"), ("grpc-status", b"0")]),
        data(0, &answer(1)), trailers(OK),
    ].concat());
    grpc_message_is_not_utf8 [], fails("rpc", "unavailable"), answers(headers(END_STREAM, &[
        (":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"14"), ("grpc-message", b"%ff%fe caf\xc3"),
    ]));
    grpc_message_with_escape_sequences [], fails("rpc", "unavailable"), answers(headers(END_STREAM, &[
        (":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"14"),
        ("grpc-message", b"%1B[31mred%0Aerror: forged%E2%80%AEdesrever%"),
    ]));
    grpc_message_of_15_kb [], fails("rpc", "unavailable"), answers(headers(END_STREAM, &[
        (":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"14"), ("grpc-message", &[b'x'; 15_000]),
    ]));
}

#[test]
fn grpc_message_is_decoded_and_escaped() {
    let fields: &[(&str, &[u8])] = &[
        (":status", b"200"),
        ("content-type", b"application/grpc"),
        ("grpc-status", b"14"),
        ("grpc-message", b"caf%C3%A9 %1B[31m closed%0A"),
    ];
    let peer = Peer::new(answers(headers(END_STREAM, fields)));
    let line = format!("error: health check of {} failed: UNAVAILABLE: café \\u{{1b}}[31m closed\\n", peer.address);
    Probe::new([peer.addr()]).run().expect_error(1, &line);
}

/// SERVING in a message of this many bytes, with a field that nobody knows.
fn padded(bytes: usize) -> Vec<u8> {
    let length = bytes - 5;
    let [low, high] = [length % 128 + 128, length / 128].map(|part| u8::try_from(part).expect("two bytes are enough"));
    [&[8, 1, 0x7a, low, high], &vec![0; length][..]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory succeeds")
}

/// The probe retries only the request that the server did not process.
#[test]
fn refused_request_is_retried_and_other_answers_are_kept() {
    let peer = Peer::new(|peer, number| {
        if number > 0 {
            peer.take_request();
            peer.send(serving());
        } else {
            peer.read_preface();
            peer.send(settings(&[]));
            peer.await_request();
            peer.await_request();
            let refuse = |stream| frame(RST_STREAM, 0, stream, &7u32.to_be_bytes());
            peer.send([ok_headers(), data(0, &answer(2)), trailers(OK), refuse(3)].concat());
            peer.await_request();
            peer.send(refuse(5));
        }
        peer.drain();
    });
    let ran = Probe::new([&peer.addr(), "-service=a", "-service=b"]).run();
    ran.expect(1, "a: service unhealthy (responded with \"NOT_SERVING\")\nb: status: SERVING\n", "");
}

#[test]
fn invalid_settings_are_reported_as_a_protocol_error() {
    let peer = Peer::new(|peer, _| {
        peer.read_preface();
        // SETTINGS_MAX_FRAME_SIZE below the minimum.
        peer.send(settings(&[(5, 0)]));
        peer.drain();
    });
    let cause = "the response breaks the rules of HTTP/2, or is too large (PROTOCOL_ERROR)";
    let line = format!("error: health check of {} failed: {cause}", peer.address);
    Probe::new([peer.addr()]).run().expect_error(1, &line);
}

#[test]
fn goaway_with_settings_is_reported_after_one_retry() {
    let peer = Peer::new(|peer, _| {
        peer.read_preface();
        peer.send([settings(&[]), goaway(0, 11, b"too_many_pings")].concat());
        peer.drain();
    });
    let cause = "the server refused the connection: GOAWAY (ENHANCE_YOUR_CALM): \"too_many_pings\"";
    let line = format!("error: health check of {} failed: {cause}", peer.address);
    Probe::new([peer.addr()]).run().expect_error(1, &line);
    assert_eq!(peer.connections(), 2, "one retry, on a new connection");
}

#[test]
fn rpc_timeout_starts_when_settings_arrive() {
    use std::{thread::sleep, time::Duration};
    // Each delay is below one second, and both together are above.
    let peer = Peer::new(|peer, _| {
        sleep(Duration::from_millis(700));
        peer.take_request();
        sleep(Duration::from_millis(700));
        peer.send(serving());
        peer.drain();
    });
    Probe::new([peer.addr()]).run().expect_healthy();
}
