//! `-watch`: prints each change of the status, reconnects when the server restarts, and runs until it is stopped.

use std::fs;

use serde_json::Value;
use tonic_health::ServingStatus::{NotServing, Serving};

use crate::support::{
    frames::{self, answer, data, ok_headers, trailers},
    peer::{Connection, Peer},
    pki::{Authority, Files},
    probe::Probe,
    server::{self, ChangingServer, Recorder, Reply},
    unused_port::UnusedPort,
};

const DOWN: &str = "service unhealthy (responded with \"NOT_SERVING\")";

/// A line without its time, which must be RFC 3339 in UTC with milliseconds.
#[track_caller]
fn without_time(line: &str) -> &str {
    let (time, rest) = line.split_once(' ').unwrap_or_default();
    assert_is_time(time);
    rest
}

#[track_caller]
fn assert_is_time(time: &str) {
    let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z");
}

#[test]
fn each_change_prints_a_line() {
    let server = ChangingServer::new();
    let mut running = Probe::new([&server.server.addr(), "-watch", "-exit-codes=detailed"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    server.set("", NotServing);
    assert_eq!(without_time(&stdout.next()), DOWN);
    // A change of another service prints nothing.
    server.set("other", NotServing);
    server.set("", Serving);
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    running.signal("-TERM");
    assert_eq!(
        (running.finish().code, stderr.rest(), stdout.rest()),
        (Some(0), vec!["stopped by SIGTERM".into()], vec![])
    );
}

#[test]
fn exit_code_is_that_of_the_last_status() {
    let server = ChangingServer::new();
    server.set("shop", NotServing);
    for (codes, code) in [("docker", 1), ("detailed", 4)] {
        let codes = format!("-exit-codes={codes}");
        let mut running = Probe::new([&server.server.addr(), "-watch", "-service=shop", &codes]).start();
        let (stdout, _) = running.follow();
        assert_eq!(without_time(&stdout.next()), DOWN);
        running.signal("-INT");
        assert_eq!(running.finish().code, Some(code));
    }
    let ran = Probe::new([&server.server.addr(), "-watch", "-timeout=1s"]).run();
    assert_eq!(
        (ran.code, ran.stderr.as_str(), without_time(&ran.stdout)),
        (Some(0), "stopped after 1s\n", "status: SERVING\n")
    );
}

#[test]
fn each_change_prints_a_json_object() {
    let server = ChangingServer::new();
    let mut running = Probe::new([&server.server.addr(), "-watch", "-output=json"]).start();
    let (stdout, stderr) = running.follow();
    let next = || -> Value { serde_json::from_str(&stdout.next()).expect("it is JSON") };
    let first = next();
    assert_is_time(first["time"].as_str().unwrap_or_default());
    assert_eq!((&first["healthy"], &first["status"], &first["service"]), (&true.into(), &"SERVING".into(), &"".into()));
    assert_eq!(first["peer"], server.server.address.to_string());
    server.set("", NotServing);
    let second = next();
    assert_eq!((&second["healthy"], &second["error"]["kind"]), (&false.into(), &"not-serving".into()));
    let address = server.stop();
    let lost = next();
    assert_is_time(lost["time"].as_str().unwrap_or_default());
    assert_eq!((&lost["healthy"], &lost["error"]["phase"]), (&false.into(), &"rpc".into()), "{lost}");
    assert_eq!(next()["error"]["kind"], "connection-refused");
    let _server = ChangingServer::on(address);
    assert_eq!(next()["status"], "SERVING");
    running.signal("-TERM");
    assert_eq!((running.finish().code, stderr.rest()), (Some(0), vec!["stopped by SIGTERM".to_owned()]));
}

#[test]
fn watch_reconnects_after_a_restart() {
    let server = ChangingServer::new();
    let mut running = Probe::new([&server.server.addr(), "-watch", "-exit-codes=detailed"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    let address = server.stop();
    let lost = format!("error: watching {address} failed: the server closed the connection during the response");
    assert_eq!(without_time(&stderr.next()), lost);
    assert_eq!(without_time(&stderr.next()), format!("error: cannot connect to {address}: connection refused"));
    assert_eq!(stderr.next(), "hint: nothing listens there; is the server up, and on this port?");
    let server = ChangingServer::on(address);
    assert_eq!(without_time(&stderr.next()), format!("connected to {address} again ({address})"));
    // The status is printed after every reconnect, as it may have changed in between.
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    server.stop();
    assert_eq!(without_time(&stderr.next()), lost);
    assert_eq!(without_time(&stderr.next()), format!("error: cannot connect to {address}: connection refused"));
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(2));
}

#[test]
fn repeated_statuses_are_not_printed() {
    let statuses = [1, 1, 2, 2, 2, 3, 0, 1].map(|status| if status == 0 { vec![] } else { vec![8, status] });
    let server = server::by_path(move |_| Reply::Messages(statuses.to_vec()));
    let mut running = Probe::new([&server.addr(), "-watch"]).start();
    let (stdout, _) = running.follow();
    let printed = [(); 5].map(|()| without_time(&stdout.next()).to_owned());
    let unhealthy = |status| format!("service unhealthy (responded with \"{status}\")");
    let expected = [
        "status: SERVING".to_owned(),
        unhealthy("NOT_SERVING"),
        unhealthy("SERVICE_UNKNOWN"),
        unhealthy("UNKNOWN"),
        "status: SERVING".to_owned(),
    ];
    assert_eq!(printed, expected);
    running.signal("-TERM");
    assert_eq!((running.finish().code, stdout.rest()), (Some(0), vec![]));
}

#[test]
fn request_has_metadata_and_no_deadline() {
    let recorder = Recorder::plaintext();
    let flags = ["-watch", "-service=shop.Cart", "-rpc-header=x-tenant: 7", "-timeout=1s"];
    let ran = Probe::new([&[recorder.server.addr().as_str()], &flags[..]].concat()).run();
    assert_eq!(ran.code, Some(1), "{ran}");
    let request = recorder.request();
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Watch");
    assert_eq!(request.headers()["x-tenant"], "7");
    // With a deadline, the server would end the stream.
    assert_eq!(request.headers().get("grpc-timeout"), None);
    assert_eq!(request.body()[..], [&[0, 0, 0, 0, 11, 10, 9][..], b"shop.Cart"].concat());
    // The probe restarts a watch that the server ends.
    let ended = format!("error: watching {} failed: the server ended it", recorder.server.address);
    assert_eq!(without_time(ran.stderr.lines().next().unwrap_or_default()), ended, "{ran}");
    assert!(ran.stderr.contains(" again ("), "{ran}");
}

#[test]
fn failure_before_the_first_status_ends_the_watch() {
    let unused = UnusedPort::new();
    let free = unused.address;
    Probe::new([&format!("-addr={free}"), "-watch", "-exit-codes=detailed"]).run().expect(
        2,
        "",
        &format!(
            "error: cannot connect to {free}: connection refused\n\
             hint: nothing listens there; is the server up, and on this port?\n"
        ),
    );
    let silent = Peer::new(|peer, _| {
        peer.take_request();
        peer.drain();
    });
    let line = format!("error: watching {} timed out after 1s: connected, no answer", silent.address);
    Probe::new([&silent.addr(), "-watch", "-exit-codes=detailed"]).run().expect_error(3, &line);
    // Headers without a message are not an answer.
    let half = Peer::new(|peer, _| {
        peer.take_request();
        peer.send([ok_headers(), data(0, &[0, 0, 0, 0])].concat());
        peer.drain();
    });
    Probe::new([&half.addr(), "-watch", "-output=json"]).run().expect_kind(1, "rpc", "rpc-timeout");
    Probe::new([&half.addr(), "-watch", "-rpc-timeout=1h", "-timeout=500ms", "-output=json"]).run().expect_kind(
        1,
        "rpc",
        "rpc-timeout",
    );
    let flags = ["-watch", "-connect-timeout=1h", "-timeout=500ms", "-output=json"];
    let ran = Probe::new([&[format!("-addr={free}").as_str()], &flags[..]].concat()).run();
    ran.expect_kind(1, "connect", "connection-refused");
    let unknown = server::plaintext();
    let line = format!("error: watching {} failed: NOT_FOUND: service not registered", unknown.address);
    let ran = Probe::new([&unknown.addr(), "-watch", "-service=shop"]).run();
    ran.expect_error(1, &line);
    assert!(ran.stderr.contains("hint: the server does not know the service \"shop\""), "{ran}");
}

#[test]
fn signal_before_the_first_status_ends_the_watch_with_an_error() {
    let silent = Peer::new(|peer, _| {
        peer.take_request();
        peer.drain();
    });
    let running = Probe::new([&silent.addr(), "-watch", "-rpc-timeout=1h", "-exit-codes=detailed"]).start();
    while silent.connections() == 0 {
        std::thread::yield_now();
    }
    running.signal("-TERM");
    let ran = running.finish();
    assert!(ran.stderr.starts_with("error: stopped by SIGTERM during "), "{ran}");
    assert!(matches!(ran.code, Some(2 | 3)), "{ran}");
}

#[test]
fn unimplemented_watch_fails_with_a_hint() {
    let message = "unknown method Watch for service grpc.health.v1.Health";
    let only_check = server::by_path(move |path| match path {
        "/grpc.health.v1.Health/Check" => Reply::Message(vec![8, 1]),
        _ => Reply::Status("12", message),
    });
    let line = format!("error: watching {} failed: UNIMPLEMENTED: {message}", only_check.address);
    let hint = "hint: this server has the health service, but not its method Watch; Check works";
    Probe::new([&only_check.addr(), "-watch"]).run().expect(1, "", &format!("{line}\n{hint}\n"));
    // Check fails, so the hint must not mention it.
    let closed = server::by_path(move |path| match path {
        "/grpc.health.v1.Health/Check" => Reply::Status("16", "who are you?"),
        _ => Reply::Status("12", message),
    });
    let ran = Probe::new([&closed.addr(), "-watch"]).run();
    assert!(!ran.stderr.contains("Check works"), "{ran}");
    let neither = server::by_path(|_| Reply::Status("12", "what"));
    let line = format!("error: watching {} failed: UNIMPLEMENTED: what", neither.address);
    let hint = "hint: this server does not offer the health service; register it, or probe the port that does";
    Probe::new([&neither.addr(), "-watch"]).run().expect(1, "", &format!("{line}\n{hint}\n"));
}

#[test]
fn stuck_server_is_detected_by_ping() {
    let peer = Peer::new(|peer, number| {
        if number > 0 {
            return;
        }
        peer.take_request();
        peer.send([ok_headers(), data(0, &answer(1))].concat());
        // It asks, and gets no answer.
        peer.drain();
    });
    let mut running = Probe::new([&peer.addr(), "-watch"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    let line = format!("error: watching {} failed: no answer to a Check for 1s", peer.address);
    assert_eq!(without_time(&stderr.next()), line);
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(1));
}

#[test]
fn memory_does_not_grow_with_the_changes() {
    const CHANGES: usize = 100_000;
    let messages: Vec<Vec<u8>> = (0..CHANGES).map(|number| vec![8, if number % 2 == 0 { 1 } else { 2 }]).collect();
    let server = server::by_path(move |_| Reply::Messages(messages.clone()));
    // The server prepares all its messages before it sends the first, which takes a while on a busy machine.
    let mut running = Probe::new([&server.addr(), "-watch", "-rpc-timeout=20s"]).start();
    let id = running.id();
    let resident = || -> usize {
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the probe runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the status has VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let (stdout, stderr) = running.follow();
    for _ in 0..1000 {
        stdout.next();
    }
    let before = resident();
    for _ in 1000..CHANGES {
        stdout.next();
    }
    let after = resident();
    running.signal("-TERM");
    let code = running.finish().code;
    assert_eq!((code, stdout.rest(), stderr.rest()), (Some(1), vec![], vec!["stopped by SIGTERM".to_owned()]));
    assert!(after < before + 512, "{before} KiB, and {after} KiB in the end");
}

#[test]
fn broken_pipe_ends_the_watch_at_the_next_change() {
    let server = ChangingServer::new();
    let mut running = Probe::new([&server.server.addr(), "-watch"]).start();
    running.stop_reading();
    // The probe may have written the first line already.
    server.set("", NotServing);
    let ran = running.finish();
    assert!(matches!(ran.code, Some(0 | 1)) && ran.stderr == "stopped: output was closed\n", "{ran}");
}

#[test]
fn broken_pipe_ends_the_watch_without_a_change() {
    let server = ChangingServer::new();
    let ran = Probe::wrapped(
        &["sh", "-c", r#"{ "$0" "$@"; echo "exit code $?" >&2; } | head -n1"#],
        [&server.server.addr(), "-watch"],
    )
    .run();
    assert_eq!(
        (without_time(&ran.stdout), ran.stderr.as_str()),
        ("status: SERVING\n", "stopped: output was closed\nexit code 0\n")
    );
}

#[test]
fn closed_stderr_does_not_end_the_watch() {
    let server = ChangingServer::new();
    let (reader, writer) = std::io::pipe().expect("a pipe can be created");
    let mut running = Probe::new([&server.server.addr(), "-watch"]).stderr(writer).start();
    drop(reader);
    let stdout = running.follow_stdout();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    let address = server.stop();
    let _server = ChangingServer::on(address);
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn goaway_leads_to_a_new_connection() {
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.send([ok_headers(), data(0, &answer(1)), frames::goaway(1, 2, b""), frames::rst_stream(0)].concat());
        peer.drain();
    });
    let mut running = Probe::new([&peer.addr(), "-watch"]).start();
    let (stdout, stderr) = running.follow();
    for _ in 0..3 {
        assert_eq!(without_time(&stdout.next()), "status: SERVING");
        let line = format!(
            "error: watching {} failed: the server closes the connection: GOAWAY (INTERNAL_ERROR)",
            peer.address
        );
        assert_eq!(without_time(&stderr.next()), line);
        assert!(without_time(&stderr.next()).starts_with("connected to "));
    }
    running.signal("-TERM");
    running.finish();
}

#[test]
fn gzip_message_may_have_several_members() {
    use std::io::Write;

    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to memory succeeds")
    };
    let message = [gzip(&[8, 1]), gzip(&[8, 2])].concat();
    let message = [&[1, 0, 0, 0, u8::try_from(message.len()).expect("it is short")][..], &message].concat();
    let peer = Peer::new(move |peer, _| {
        peer.take_request();
        let gzip: (&str, &[u8]) = ("grpc-encoding", b"gzip");
        let head = frames::headers(0, &[(":status", b"200"), ("content-type", b"application/grpc"), gzip]);
        peer.send([head, data(0, &message[..9]), data(0, &message[9..])].concat());
        peer.drain();
    });
    // With a repeated field, protobuf takes the last value.
    let ran = Probe::new([&peer.addr(), "-watch", "-gzip", "-timeout=1s"]).run();
    assert_eq!((ran.code, without_time(ran.stdout.trim_end())), (Some(1), DOWN), "{ran}");
}

#[test]
fn signal_ends_the_watch_despite_a_full_pipe() {
    let messages: Vec<Vec<u8>> = (0..50_000).map(|number| vec![8, if number % 2 == 0 { 1 } else { 2 }]).collect();
    let (sender, sent) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let server = server::by_path(move |_| {
        let _ = sender.lock().expect("the lock is not poisoned").send(());
        Reply::Messages(messages.clone())
    });
    let (reader, writer) = std::io::pipe().expect("a pipe can be created");
    let running = Probe::new([&server.addr(), "-watch"]).stdout(writer).start();
    sent.recv().expect("the request arrives");
    running.signal("-TERM");
    let ran = running.finish();
    assert!(matches!(ran.code, Some(0 | 1 | 3)), "{ran}");
    drop(reader);
}

#[test]
fn watch_works_over_tls_and_gzip() {
    let files = Files::new();
    let authority = Authority::new("Test CA");
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
    let tls = server::tls(&authority.server(&["127.0.0.1"]));
    let gzip = server::gzip();
    for flags in [vec![tls.addr(), "-tls".into(), ca], vec![gzip.addr(), "-gzip".into()]] {
        let mut running = Probe::new(flags.iter().map(String::as_str).chain(["-watch", "-service=down"])).start();
        let (stdout, _) = running.follow();
        assert_eq!(without_time(&stdout.next()), DOWN);
        running.signal("-TERM");
        assert_eq!(running.finish().code, Some(1));
    }
}

#[test]
fn malformed_watch_responses_fail() {
    let in_head = |fields: &[(&str, &[u8])]| {
        frames::headers(0, &[&[(":status", &b"200"[..]), ("content-type", b"application/grpc")], fields].concat())
    };
    let html = || frames::headers(0, &[(":status", b"200"), ("content-type", b"text/html")]);
    let http = |status: &[u8]| frames::headers(0, &[(":status", status), ("content-type", b"application/grpc")]);
    // tonic would panic on it.
    let details: (&str, &[u8]) = ("grpc-status-details-bin", b"\xff!");
    for (name, bytes, kind) in [
        ("not gRPC", [html(), data(0, &answer(1))].concat(), "not-grpc"),
        ("HTTP 503", [http(b"503"), data(1, &answer(1))].concat(), "http-status"),
        ("ended at once", [ok_headers(), trailers(&[("grpc-status", b"0")])].concat(), "stream-broken"),
        (
            "headers alone",
            frames::headers(1, &[(":status", b"200"), ("content-type", b"application/grpc")]),
            "malformed-response",
        ),
        ("no trailers", [ok_headers(), data(1, &[])].concat(), "malformed-response"),
        (
            "half a message",
            [ok_headers(), data(0, &[0, 0, 0]), trailers(&[("grpc-status", b"0")])].concat(),
            "malformed-response",
        ),
        ("compressed", [ok_headers(), data(0, &[1, 0, 0, 0, 1, 0])].concat(), "malformed-response"),
        ("a message of 4 GiB", [ok_headers(), data(0, &[0, 255, 255, 255, 255])].concat(), "malformed-response"),
        ("no protobuf", [ok_headers(), data(0, &frames::message(&[8]))].concat(), "malformed-response"),
        ("details", [in_head(&[details]), trailers(&[("grpc-status", b"0"), details])].concat(), "stream-broken"),
        ("details of a failure", [ok_headers(), trailers(&[("grpc-status", b"13"), details])].concat(), "rpc-failed"),
        (
            "two statuses",
            [ok_headers(), trailers(&[("grpc-status", b"0"), ("grpc-status", b"0")])].concat(),
            "malformed-response",
        ),
        ("reset", [ok_headers(), frames::rst_stream(2)].concat(), "stream-broken"),
        ("cancelled", [ok_headers(), frames::rst_stream(8)].concat(), "stream-broken"),
    ] {
        let peer = Peer::new(move |peer: &mut Connection, _| {
            peer.take_request();
            peer.send(&bytes);
            peer.drain();
        });
        let ran = Probe::new([&peer.addr(), "-watch", "-output=json", "-timeout=5s"]).run();
        assert_eq!((ran.code, ran.json()["error"]["kind"].as_str()), (Some(1), Some(kind)), "{name}: {ran}");
    }
}

#[test]
fn incompatible_flags_are_refused() {
    let incompatible = |one: &str, other: &str| format!("error: {one} and {other} cannot be used together");
    for (flags, line) in [
        (&["-watch", "-wait=1s"][..], incompatible("-watch", "-wait")),
        (&["-watch", "-list"], incompatible("-watch", "-list")),
        (&["-list", "-service=a"], incompatible("-list", "-service")),
        (&["-q", "-watch"], incompatible("-q", "-watch")),
        (&["-list", "-q"], incompatible("-q", "-list")),
        (&["-watch", "-service=a", "-service=b"], "error: -watch takes one service, not 2".to_owned()),
        (&["-watch=maybe"], "error: -watch=maybe: not a boolean (true, false, t, f, 1 or 0)".to_owned()),
    ] {
        Probe::new([&["-addr=:1"], flags].concat()).run().expect_error(1, &line);
    }
    let line = "error: GRPC_HEALTH_PROBE_LIST and GRPC_HEALTH_PROBE_SERVICE cannot be used together";
    let probe = Probe::new(["-addr=:1"]).env("GRPC_HEALTH_PROBE_LIST", "true").env("GRPC_HEALTH_PROBE_SERVICE", "a");
    probe.run().expect_error(1, line);
    // Flags set to false conflict with no flag.
    let server = ChangingServer::new();
    Probe::new([&server.server.addr(), "-watch=false", "-list=false", "-q=false", "-wait=1s"]).run().expect_healthy();
}
