//! What a watch does over a long time: it leaves a connection that the server closes, sleeps while nothing happens, and notices
//! a server that is stuck.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    iter,
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Command,
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{
    frames::{
        DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, answer, block, data, frame,
        goaway, ok_headers, rst_stream, settings,
    },
    needs,
    peer::{Connection, Peer},
    probe::{Probe, Running},
    server,
};

const DOWN: &str = "service unhealthy (responded with \"NOT_SERVING\")";
const GRACEFUL: &str = "the server closes the connection: GOAWAY (NO_ERROR): \"max_age\"";

/// A line without its time.
fn without_time(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, rest)| rest)
}

/// Answers a `Watch` with this status.
fn answer_watch(peer: &mut Connection, status: u8) {
    peer.take_request();
    peer.send([ok_headers(), data(0, &answer(status))].concat());
}

/// The first GOAWAY of a server that closes in good order: new requests are still taken for a moment.
fn asks_to_leave() -> Vec<u8> {
    goaway(u32::MAX >> 1, 0, b"max_age")
}

/// Frames that say nothing, as many as a long connection brings.
fn long_connection() -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8]).repeat(100)
}

#[test]
fn a_check_that_outlives_the_connection_names_the_reason() {
    for (last, code, text, cause) in [
        (1, 0, "max_age", "the server closed the connection during the response: GOAWAY (NO_ERROR): \"max_age\""),
        (1, 11, "too_many_pings", "the server refused the connection: GOAWAY (ENHANCE_YOUR_CALM): \"too_many_pings\""),
    ] {
        let peer = Peer::new(move |peer, _| {
            peer.take_request();
            peer.send(long_connection());
            peer.send(goaway(u32::MAX >> 1, 0, text.as_bytes()));
            peer.send([ok_headers(), data(0, &[0, 0])].concat());
            // In pieces, as a network may bring them.
            let last = goaway(last, code, text.as_bytes());
            peer.send(&last[..12]);
            peer.send(&last[12..]);
            peer.finish();
            peer.drain();
        });
        let line = format!("error: health check of {} failed: {cause}", peer.address);
        Probe::new([&peer.addr(), "-rpc-timeout=20s"]).run().expect_error(1, &line);
    }
}

#[test]
fn a_watch_moves_to_a_new_connection_and_tells_only_what_changes() {
    for flags in [&["-watch"][..], &["-watch", "-output=json"], &["-watch", "-v"]] {
        let (sender, left) = mpsc::channel();
        let sender = Mutex::new(sender);
        // The connections are old after a while; each is left when the next has answered.
        let peer = Peer::new(move |peer, number| {
            answer_watch(peer, if number < 3 { 1 } else { 2 });
            if number < 3 {
                peer.send(long_connection());
                peer.send(asks_to_leave());
            }
            let frames = iter::from_fn(|| peer.receive_frame());
            let is_cancelled = frames.fold(false, |any, (kind, ..)| any || kind == RST_STREAM);
            let _ = sender.lock().expect("nobody panics").send((number, is_cancelled));
        });
        let mut running = Probe::new([&[peer.addr().as_str()], flags].concat()).start();
        let (stdout, stderr) = running.follow();
        let (first, second) = (stdout.next(), stdout.next());
        if flags.contains(&"-output=json") {
            let parse = |line: &str| -> Value { serde_json::from_str(line).expect("it is JSON") };
            let (first, second) = (parse(&first), parse(&second));
            assert_eq!((&first["status"], &second["status"]), (&"SERVING".into(), &"NOT_SERVING".into()));
            assert_eq!((&first["peer"], &second["peer"]), (&second["peer"], &peer.address.to_string().into()));
        } else {
            assert_eq!((without_time(&first), without_time(&second)), ("status: SERVING", DOWN));
        }
        for _ in 0..3 {
            let (number, is_cancelled) = left.recv_timeout(Duration::from_secs(20)).expect("it leaves");
            assert!(number < 3 && is_cancelled, "connection {number}");
        }
        running.signal("-TERM");
        let said = stderr.rest();
        assert_eq!((running.finish().code, stdout.rest()), (Some(1), vec![]), "{said:?}");
        let notes = said.iter().filter(|line| line.contains(GRACEFUL)).count();
        assert_eq!(notes, if flags.contains(&"-v") { 3 } else { 0 }, "{said:?}");
        assert!(!said.iter().any(|line| line.contains("error") || line.contains("again")), "{said:?}");
    }
}

#[test]
fn the_old_stream_is_left_after_a_second_and_reports_until_then() {
    let (sender, left) = mpsc::channel();
    let sender = Mutex::new(sender);
    let peer = Peer::new(move |peer, number| {
        if number > 0 {
            // The new server takes connections, and is not ready.
            return peer.drain();
        }
        answer_watch(peer, 1);
        peer.send(asks_to_leave());
        let asked = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        peer.send(data(0, &answer(2)));
        peer.drain();
        let _ = sender.lock().expect("nobody panics").send(asked.elapsed());
    });
    let mut running = Probe::new([&peer.addr(), "-watch", "-connect-timeout=20s"]).start();
    let (stdout, _) = running.follow();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    assert_eq!(without_time(&stdout.next()), DOWN);
    let took = left.recv_timeout(Duration::from_secs(20)).expect("it leaves");
    assert!(took > Duration::from_millis(700) && took < Duration::from_secs(5), "{took:?}");
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(1));
}

#[test]
fn without_a_new_connection_it_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the probe comes");
        drop(listener);
        let mut peer = Connection::new(stream);
        answer_watch(&mut peer, 1);
        peer.send(asks_to_leave());
        let asked = Instant::now();
        peer.drain();
        asked.elapsed()
    });
    let mut running = Probe::new([&format!("-addr={address}"), "-watch", "-exit-codes=detailed"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    assert_eq!(without_time(&stderr.next()), format!("error: cannot connect to {address}: connection refused"));
    // A server that stops is not kept from it.
    assert!(server.join().expect("it ends") < Duration::from_secs(5));
    running.signal("-TERM");
    assert_eq!((running.finish().code, stdout.rest()), (Some(2), vec![]));
}

#[test]
fn a_goaway_for_a_reason_is_a_failure() {
    let peer = Peer::new(|peer, number| {
        answer_watch(peer, 1);
        if number == 0 {
            peer.send(long_connection());
            peer.send(goaway(1, 11, b"too_many_pings"));
        }
        peer.drain();
    });
    let mut running = Probe::new([&peer.addr(), "-watch"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    let cause = "the server closes the connection: GOAWAY (ENHANCE_YOUR_CALM): \"too_many_pings\"";
    assert_eq!(without_time(&stderr.next()), format!("error: watching {} failed: {cause}", peer.address));
    assert_eq!(without_time(&stderr.next()), format!("connected to {0} again ({0})", peer.address));
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn a_stream_that_ends_with_goaway_is_watched_again() {
    let peer = Peer::new(|peer, number| {
        answer_watch(peer, if number < 3 { 1 } else { 2 });
        match number {
            0 => drop(peer.send([asks_to_leave(), goaway(1, 0, b""), rst_stream(0)].concat())),
            // It leaves out the stream that it has answered.
            1 => drop(peer.send(goaway(0, 0, b""))),
            2 => {
                peer.send(goaway(1, 0, b""));
                return;
            }
            _ => {}
        }
        peer.drain();
    });
    let mut running = Probe::new([&peer.addr(), "-watch"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!((without_time(&stdout.next()), without_time(&stdout.next())), ("status: SERVING", DOWN));
    running.signal("-TERM");
    assert_eq!((running.finish().code, stderr.rest()), (Some(1), vec!["stopped by SIGTERM".to_owned()]));
}

/// A server that closes connections in good order, as with a very short idle time, may close a new one before it takes the
/// request: also the first of all.
#[test]
fn a_new_connection_that_is_refused_is_tried_again() {
    let refused = [0, 1, 2, 4, 5, 6, 7];
    let peer = Peer::new(move |peer, number| {
        if refused.contains(&number) {
            peer.take_request();
            peer.send(goaway(0, 0, b""));
            return peer.drain();
        }
        answer_watch(peer, if number == 3 { 1 } else { 2 });
        if number == 3 {
            peer.send(asks_to_leave());
        }
        peer.drain();
    });
    let mut running = Probe::new([&peer.addr(), "-watch", "-connect-timeout=20s"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!((without_time(&stdout.next()), without_time(&stdout.next())), ("status: SERVING", DOWN));
    running.signal("-TERM");
    assert_eq!((running.finish().code, stderr.rest()), (Some(1), vec!["stopped by SIGTERM".to_owned()]));
}

#[test]
fn a_new_connection_that_is_refused_once_is_tried_again() {
    let peer = Peer::new(|peer, number| {
        if number == 1 {
            peer.take_request();
            peer.send(goaway(0, 0, b""));
            return peer.drain();
        }
        answer_watch(peer, if number == 0 { 1 } else { 2 });
        if number == 0 {
            peer.send(asks_to_leave());
        }
        peer.drain();
    });
    let mut running = Probe::new([&peer.addr(), "-watch"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!((without_time(&stdout.next()), without_time(&stdout.next())), ("status: SERVING", DOWN));
    running.signal("-TERM");
    assert_eq!((running.finish().code, stderr.rest()), (Some(1), vec!["stopped by SIGTERM".to_owned()]));
}

/// The first complaint about a new connection is not reported, as the next connection may do. The second is.
#[test]
fn a_server_that_complains_about_new_connections_is_told() {
    for (complaints, code) in [(1, 0), (usize::MAX, 1)] {
        let (heard, told) = mpsc::channel();
        let heard = Mutex::new(heard);
        let peer = Peer::new(move |peer, number| {
            if (1..=complaints).contains(&number) {
                peer.take_request();
                peer.send(goaway(0, 11, b"calm"));
                return peer.drain();
            }
            answer_watch(peer, 1);
            if number == 0 {
                peer.send(asks_to_leave());
            } else {
                // The new connection is in use.
                heard.lock().expect("no thread panics").send(()).expect("the test is waiting");
            }
            peer.drain();
        });
        let mut running = Probe::new([&peer.addr(), "-watch"]).start();
        let (stdout, stderr) = running.follow();
        assert_eq!(without_time(&stdout.next()), "status: SERVING");
        if code == 0 {
            told.recv().expect("the probe comes again");
        } else {
            let cause = "the server refused the connection: GOAWAY (ENHANCE_YOUR_CALM): \"calm\"";
            let line = format!("error: watching {} failed: {cause}", peer.address);
            assert_eq!(without_time(&stderr.next()), line);
        }
        running.signal("-TERM");
        let ended = (running.finish().code, stderr.rest());
        assert_eq!(ended, (Some(code), vec!["stopped by SIGTERM".to_owned()]), "{complaints}");
    }
}

#[test]
fn a_server_that_closes_each_connection_soon_is_not_stormed() {
    let peer = Peer::new(|peer, _| {
        answer_watch(peer, 1);
        peer.send(asks_to_leave());
        peer.drain();
    });
    let ran = Probe::new([&peer.addr(), "-watch", "-timeout=4s"]).run();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "stopped after 4s\n"), "{ran}");
    assert_eq!(ran.stdout.lines().map(without_time).collect::<Vec<_>>(), ["status: SERVING"]);
    assert!((3..20).contains(&peer.connections()), "{} connections", peer.connections());
}

/// A real server. It stops when the test asks it to, and when its clients have left. It asks them to leave only when it no
/// longer listens, so that whoever comes back is refused.
async fn serve_until(listener: tokio::net::TcpListener, mut stop: tokio::sync::oneshot::Receiver<()>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let mut connections = JoinSet::new();
    let leave = tokio::sync::watch::Sender::new(());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.expect("it listens").0,
            _ = &mut stop => break,
        };
        let (service, mut leave) = (TowerToHyperService::new(service.clone()), leave.subscribe());
        connections.spawn(async move {
            let builder = http2::Builder::new(TokioExecutor::new());
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = &mut connection => return,
                _ = leave.changed() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    drop(listener);
    leave.send_replace(());
    while connections.join_next().await.is_some() {}
}

#[test]
fn a_graceful_stop_with_three_watchers_ends_soon() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let server = runtime.spawn(serve_until(listener, stopped));
    let mut watchers = [(); 3].map(|()| Probe::new([&format!("-addr={address}"), "-watch"]).start());
    let said = watchers.each_mut().map(Running::follow);
    for (stdout, _) in &said {
        assert_eq!(without_time(&stdout.next()), "status: SERVING");
    }
    let asked = Instant::now();
    stop.send(()).expect("it runs");
    let ended = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), server).await });
    ended.expect("its clients leave").expect("it does not panic");
    let took = asked.elapsed();
    for (watcher, (_, stderr)) in watchers.into_iter().zip(&said) {
        assert_eq!(without_time(&stderr.next()), format!("error: cannot connect to {address}: connection refused"));
        watcher.signal("-TERM");
        assert_eq!(watcher.finish().code, Some(1));
    }
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_watch_without_news_sleeps() {
    let server = server::plaintext();
    let mut running = Probe::new([&server.addr(), "-watch"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    let id = running.id();
    let sleeps = || -> u32 {
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.expect("Linux says so").trim().parse().expect("a number")
    };
    let before = sleeps();
    std::thread::sleep(Duration::from_secs(4));
    let woken = sleeps() - before;
    let asked = Instant::now();
    running.signal("-TERM");
    assert_eq!((running.finish().code, stderr.rest()), (Some(0), vec!["stopped by SIGTERM".to_owned()]));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // A long pause of the timer has a few stages.
    assert!(woken < 10, "it woke up {woken} times");
}

#[test]
fn it_ends_when_a_socket_that_takes_its_output_is_closed() {
    let server = server::plaintext();
    let (ours, theirs) = UnixStream::pair().expect("there are sockets");
    let running = Probe::new([&server.addr(), "-watch"]).stdout(OwnedFd::from(theirs)).start();
    let mut line = String::new();
    BufReader::new(ours).read_line(&mut line).expect("it writes");
    assert_eq!(without_time(&line), "status: SERVING\n");
    let ran = running.finish();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "stopped: output was closed\n"), "{ran}");
}

#[test]
fn it_goes_on_where_its_output_has_no_reader_to_lose() {
    let server = server::plaintext();
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = File::create(directory.path().join("out")).expect("the directory is ours");
    let null = File::options().write(true).open("/dev/null").expect("it is there");
    for output in [file, null] {
        let ran = Probe::new([&server.addr(), "-watch", "-timeout=2s"]).stdout(output).run();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "stopped after 2s\n"), "{ran}");
    }
}

/// Reads frames until one ends a request. The result is false where the probe leaves before.
fn await_request(peer: &mut Connection) -> bool {
    let ends = |(kind, flags, _): (u8, u8, Vec<u8>)| {
        assert_ne!(kind, PING, "servers forbid that");
        matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0
    };
    iter::from_fn(|| peer.receive_frame()).any(ends)
}

#[test]
fn a_check_that_hangs_is_told_until_one_is_answered() {
    let (sender, seen) = mpsc::channel();
    let sender = Mutex::new(sender);
    let peer = Peer::new(move |peer, number| {
        answer_watch(peer, 1);
        let is_asked = await_request(peer);
        let _ = sender.lock().expect("nobody panics").send((number, is_asked));
        if number == 2 {
            // Any answer will do; this is on the stream of the Check.
            let trailers = block(&[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"5")]);
            peer.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, &trailers));
        }
        peer.drain();
    });
    let mut running = Probe::new([&peer.addr(), "-watch", "-rpc-timeout=700ms", "-exit-codes=detailed"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    let line = format!("error: watching {} failed: no answer to a Check for 700ms", peer.address);
    assert_eq!(without_time(&stderr.next()), line);
    // The first status on a new connection does not make up for it, and it is not told twice.
    assert_eq!(without_time(&stderr.next()), format!("connected to {0} again ({0})", peer.address));
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [(0, true), (1, true), (2, true)]);
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn a_server_that_allows_one_request_is_sent_nothing_beside_the_watch() {
    let (sender, sent) = mpsc::channel();
    let sender = Mutex::new(sender);
    let peer = Peer::new(move |peer, _| {
        peer.read_preface();
        peer.send(settings(&[(3, 1)]));
        peer.await_request();
        peer.send([ok_headers(), data(0, &answer(1))].concat());
        while let Some((kind, flags, _)) = peer.receive_frame() {
            let _ = sender.lock().expect("nobody panics").send((kind, flags));
        }
    });
    let mut running = Probe::new([&peer.addr(), "-watch"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    // A PING would come after 15 seconds, a Check after 10.
    std::thread::sleep(Duration::from_secs(17));
    let frames: Vec<_> = sent.try_iter().filter(|frame| *frame != (SETTINGS, 1) && frame.0 != WINDOW_UPDATE).collect();
    running.signal("-TERM");
    assert_eq!((running.finish().code, stderr.rest()), (Some(0), vec!["stopped by SIGTERM".to_owned()]));
    assert_eq!((frames, stdout.rest()), (vec![], vec![]));
}

#[test]
fn a_server_that_is_gone_without_a_word_is_noticed() {
    let Some(()) = needs::root() else { return };
    let peer = Peer::new(|peer, _| {
        peer.read_preface();
        // No Check: TCP alone has to notice it.
        peer.send(settings(&[(3, 1)]));
        peer.await_request();
        peer.send([ok_headers(), data(0, &answer(1))].concat());
        peer.drain();
    });
    let mut running = Probe::new([&peer.addr(), "-watch"]).start();
    let (stdout, stderr) = running.follow();
    assert_eq!(without_time(&stdout.next()), "status: SERVING");
    let set = |state: &str| {
        let status = Command::new("ip").args(["link", "set", "lo", state]).status();
        assert!(status.expect("ip is there").success());
    };
    set("down");
    let gone = "the server is gone: it does not acknowledge what it is sent";
    assert_eq!(without_time(&stderr.next()), format!("error: watching {} failed: {gone}", peer.address));
    set("up");
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(1));
}
