//! Attempts: how many are counted, what `-wait` waits for when it is stopped, how much time a request has. The verdict comes at
//! the end, however long the progress before it is.

use tonic_health::ServingStatus::NotServing;

use crate::support::{
    frames::{self, END_STREAM},
    peer::Peer,
    probe::Probe,
    pty::Terminal,
    server::{ChangingServer, Recorder},
    unused_port::UnusedPort,
};

/// The number in `(N attempts in …)`.
fn attempts(stderr: &str) -> usize {
    let count = stderr.split_once(" attempts in ").and_then(|(before, _)| before.rsplit_once('('));
    count.and_then(|(_, count)| count.parse().ok()).unwrap_or_else(|| panic!("no attempts: {stderr}"))
}

#[test]
fn only_attempts_that_were_made_are_counted() {
    let closes = Peer::new(|_, _| ());
    let ran = Probe::new([&closes.addr(), "-connect-timeout=700ms"]).run();
    // After the last attempt, a connection more shows that it does not speak TLS.
    assert_eq!((ran.code, attempts(&ran.stderr)), (Some(1), closes.connections() - 1), "{ran}");
    let unavailable = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(frames::headers(END_STREAM, &[(":status", b"503")]));
        peer.drain();
    });
    let ran = Probe::new([&unavailable.addr(), "-wait=700ms"]).run();
    assert_eq!((ran.code, attempts(&ran.stderr)), (Some(1), unavailable.connections()), "{ran}");
}

#[test]
fn stopped_between_two_attempts_it_says_what_it_waits_for() {
    let unused = UnusedPort::new();
    let mut running = Probe::new([&format!("-addr={}", unused.address), "-wait=1h", "-exit-codes=detailed"]).start();
    let (_, stderr) = running.follow();
    let cause = format!("cannot connect to {}: connection refused", unused.address);
    assert_eq!(stderr.next(), format!("waiting: {cause}"));
    running.signal("-TERM");
    let last = stderr.next();
    let code = running.finish().code;
    // An attempt is short beside the pauses, which grow, but it may be the moment of the signal.
    let between = format!("error: stopped by SIGTERM between two attempts; the last: {cause}");
    assert!(code == Some(2) && (last == between || last.starts_with("error: stopped by SIGTERM during ")), "{last}");
}

#[test]
fn stopped_while_it_waits_for_health_it_says_so() {
    let server = ChangingServer::new();
    server.set("", NotServing);
    let mut running = Probe::new([&server.server.addr(), "-wait=1h", "-exit-codes=detailed"]).start();
    let (_, stderr) = running.follow();
    assert_eq!(stderr.next(), "waiting: service unhealthy (responded with \"NOT_SERVING\")");
    running.signal("-INT");
    let (last, code) = (stderr.next(), running.finish().code);
    let unhealthy = "service unhealthy (responded with \"NOT_SERVING\")";
    let between = format!("error: stopped by SIGINT between two attempts; the last: {unhealthy}");
    assert!(
        code == Some(4) && last == between || last.starts_with("error: stopped by SIGINT during "),
        "{code:?} {last}"
    );
}

#[test]
fn the_verdict_is_never_the_part_that_is_cut() {
    let unused = UnusedPort::new();
    let port = unused.address.port();
    let words = [&format!("-addr=:{port}"), "-v", "-all-addresses", "-connect-timeout=7s"];
    let terminal = Terminal::new();
    let mut screen = terminal.screen();
    let at_terminal = Probe::new(words).stdout(terminal.output()).stderr(terminal.output()).start();
    // In a log, the progress is cut, and says so.
    let ran = Probe::new(words).run();
    let error = format!("error: 127.0.0.1:{port}: cannot connect to 127.0.0.1:{port}: connection refused (");
    assert!(ran.code == Some(1) && ran.stderr.len() <= 4096, "{ran}");
    assert!(ran.stderr.contains(&format!(" lines of -v left out)\n{error}")), "{ran}");
    // At a terminal there is all of it.
    let shown = screen.until(&error);
    assert_eq!(at_terminal.finish().code, Some(1));
    assert!(shown.len() > 4096 && !shown.contains("left out") && !shown.contains("more lines"), "{shown}");
}

/// The time in `grpc-timeout`, in milliseconds.
fn grpc_timeout(flags: &[&str]) -> f64 {
    let recorder = Recorder::plaintext();
    Probe::new([&[recorder.server.addr().as_str()], flags].concat()).run();
    let request = recorder.request();
    let text = request.headers()["grpc-timeout"].to_str().expect("it is ASCII").to_owned();
    let (number, unit) = text.split_at(text.len() - 1);
    let milliseconds = match unit {
        "S" => 1000.0,
        "m" => 1.0,
        "u" => 0.001,
        "n" => 0.000_001,
        _ => panic!("{text}"),
    };
    number.parse::<f64>().expect("it is a number") * milliseconds
}

#[test]
fn the_server_has_what_is_left_of_the_whole_time() {
    let equal = grpc_timeout(&["-timeout=10s", "-rpc-timeout=10s"]);
    assert!((100.0..10_000.0).contains(&equal), "{equal}");
    let shorter = grpc_timeout(&["-timeout=9s", "-rpc-timeout=10s"]);
    assert!((100.0..9_000.0).contains(&shorter), "{shorter}");
    let own = grpc_timeout(&["-timeout=20s", "-rpc-timeout=10s"]);
    assert!((own - 10_000.0).abs() < 0.5, "{own}");
}
