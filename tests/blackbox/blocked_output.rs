//! Output that nobody reads: a stopped terminal, a full pipe or socket. It delays neither the probe nor its end, and its exit code
//! stays right. Readers who go on find everything in order.

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::{
        Mutex,
        mpsc::{self, Receiver, Sender},
    },
    time::{Duration, Instant},
};

use tonic_health::ServingStatus::NotServing;

use crate::support::{
    frames::{self, PING, WINDOW_UPDATE},
    peer::{Connection, Peer},
    probe::{Probe, RunResult, Running},
    pty::{Terminal, Unread},
    server::{self, ChangingServer, Reply},
    unused_port::UnusedPort,
};

const CLOSED_PORT: &str = "-addr=127.0.0.1:1";
/// Longer than any wait in a test that succeeds.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Within this a probe ends that nothing delays, also on a busy machine. A person at a terminal once got 5 seconds a line.
const AT_ONCE: Duration = Duration::from_secs(4);

/// This many changes are more than wait for a reader. A watch has taken most of them when it opens its window again.
const MANY: usize = 5000;

/// Finishes a probe that began, or was told to end, at `since`.
#[track_caller]
fn finish_within(limit: Duration, since: Instant, name: &str, running: Running) -> RunResult {
    let ran = running.finish();
    assert!(since.elapsed() < limit, "{name}: {ran}after {:?}", since.elapsed());
    ran
}

/// Starts the probe with this for both streams.
fn start_with(output: &Unread, words: &[&str]) -> Running {
    Probe::new(words).stdout(output.output()).stderr(output.output()).start()
}

/// What comes until the end. A terminal ends with an error.
fn rest(mut reader: impl Read) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = reader.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(bytes).expect("output is UTF-8").replace("\r\n", "\n")
}

/// Without the time at the start of a line of a watch.
fn without_time(line: &str) -> &str {
    line.split_once(' ').unwrap_or_default().1
}

/// A watched server that sends statuses when the test says so.
struct Watched {
    peer: Peer,
    statuses: Sender<Vec<u8>>,
    arrived: Receiver<()>,
}

impl Watched {
    fn new() -> Self {
        let (statuses, to_send) = mpsc::channel::<Vec<u8>>();
        let (sender, arrived) = mpsc::channel();
        let to_send = Mutex::new(to_send);
        let peer = Peer::new(move |connection, _| {
            connection.read_preface();
            // One request at once: the watch sends no Check, which would get no answer.
            connection.send(frames::settings(&[(3, 1)]));
            connection.await_request();
            connection.send(frames::ok_headers());
            while let Ok(statuses) = to_send.lock().expect("the lock is not poisoned").recv() {
                let answers = statuses.iter().map(|status| frames::data(0, &frames::answer(*status)));
                connection.send(answers.collect::<Vec<_>>().concat());
                if statuses.len() < MANY {
                    // Its answer shows that everything before has arrived.
                    connection.send(frames::frame(PING, 0, 0, &[7; 8]));
                    await_frame(connection, PING, 1);
                } else {
                    // It gives back what the watch has taken.
                    await_frame(connection, WINDOW_UPDATE, 0);
                }
                let _ = sender.send(());
            }
        });
        Self { peer, statuses, arrived }
    }

    /// Sends statuses, no more than fit into a stream's window, and waits until the probe has them, or most of [`MANY`].
    fn send(&self, statuses: impl IntoIterator<Item = u8>) {
        self.statuses.send(statuses.into_iter().collect()).expect("the server runs");
        self.arrived.recv_timeout(TEST_TIMEOUT).expect("the probe answers a PING");
    }
}

fn await_frame(connection: &mut Connection, kind: u8, flags: u8) {
    while let Some((came, its_flags, _)) = connection.receive_frame() {
        if (came, its_flags) == (kind, flags) {
            return;
        }
    }
}

#[test]
fn a_check_ends_at_once() {
    let server = server::plaintext();
    let addr = server.addr();
    let table: [(&[&str], i32); 6] = [
        (&[&addr], 0),
        (&[&addr, "-service=down"], 4),
        (&[&addr, "-service=missing", "-output=json"], 3),
        (&[CLOSED_PORT], 2),
        (&["-nonsense"], 1),
        // The lines of `-v` come before the answer. They must not use up the time that it has.
        (&[&addr, "-v", "-service=up", "-rpc-header=a: b", "-timeout=3s"], 0),
    ];
    for output in Unread::all() {
        for (words, code) in table {
            let since = Instant::now();
            let running = start_with(&output, &[words, &["-exit-codes=detailed"]].concat());
            let ran = finish_within(AT_ONCE, since, output.name, running);
            assert_eq!(ran.code, Some(code), "{}: {ran}", output.name);
        }
        assert!(output.is_blocking(), "{}: it is shared with others", output.name);
    }
}

#[test]
fn the_result_comes_where_the_other_stream_is_stuck() {
    let server = server::plaintext();
    for stuck in Unread::all() {
        let since = Instant::now();
        let running = Probe::new([&server.addr(), "-v", "-timeout=3s"]).stderr(stuck.output()).start();
        finish_within(AT_ONCE, since, stuck.name, running).expect(0, "status: SERVING\n", "");
        let since = Instant::now();
        let running = Probe::new([CLOSED_PORT, "-output=json"]).stderr(stuck.output()).start();
        finish_within(AT_ONCE, since, stuck.name, running).expect_kind(1, "connect", "connection-refused");
        let since = Instant::now();
        let running = Probe::new([CLOSED_PORT]).stdout(stuck.output()).start();
        finish_within(AT_ONCE, since, stuck.name, running)
            .expect_error(1, "error: cannot connect to 127.0.0.1:1: connection refused");
    }
}

#[test]
fn a_wait_ends_in_time() {
    let unused = UnusedPort::new();
    let addr = format!("-addr={}", unused.address);
    for output in Unread::all() {
        for flags in [&[][..], &["-v"]] {
            let since = Instant::now();
            let running = start_with(&output, &[&[&addr, "-wait=2s", "-exit-codes=detailed"], flags].concat());
            let ran = finish_within(Duration::from_secs(5), since, output.name, running);
            assert_eq!(ran.code, Some(2), "{}: {ran}", output.name);
        }
    }
}

#[test]
fn a_signal_ends_a_wait() {
    let (sender, attempts) = mpsc::channel();
    let peer = Peer::new(move |_, _| {
        let _ = sender.send(());
    });
    for output in Unread::all() {
        let running = start_with(&output, &[&peer.addr(), "-wait=1h", "-v"]);
        for _ in 0..3 {
            attempts.recv_timeout(TEST_TIMEOUT).expect("the probe tries again");
        }
        let since = Instant::now();
        running.signal("-TERM");
        assert_eq!(finish_within(AT_ONCE, since, output.name, running).code, Some(1), "{}", output.name);
        // Attempts of this probe are not those of the next.
        while attempts.recv_timeout(Duration::from_millis(100)).is_ok() {}
    }
}

#[test]
fn signals_and_the_timeout_end_a_watch_with_the_last_status() {
    for output in Unread::all() {
        for flags in [&[][..], &["-v"], &["-output=json"]] {
            for signal in [Some("-TERM"), Some("-INT"), None] {
                let watched = Watched::new();
                let timeout = if signal.is_none() { "-timeout=2s" } else { "-timeout=1h" };
                let addr = watched.peer.addr();
                let words = [&[&addr, "-watch", "-exit-codes=detailed", timeout], flags].concat();
                let mut since = Instant::now();
                let running = start_with(&output, &words);
                watched.send([1, 2, 1]);
                // Nobody has read the first line yet.
                watched.send([2]);
                if let Some(signal) = signal {
                    since = Instant::now();
                    running.signal(signal);
                }
                let ran = finish_within(Duration::from_secs(6), since, output.name, running);
                assert_eq!(ran.code, Some(4), "{}: {ran}", output.name);
            }
        }
    }
}

#[test]
fn a_watch_follows_its_server_beyond_what_can_wait() {
    let changes = || [1, 2].into_iter().cycle().take(MANY).chain([3]);
    let watched = Watched::new();
    let output = Unread::full_pipe();
    let words = [&watched.peer.addr(), "-watch", "-exit-codes=detailed"];
    let mut running = Probe::new(words).stdout(output.output()).start();
    watched.send(changes());
    let mut lines = BufReader::new(output.read()).lines().map(|line| line.expect("UTF-8"));
    let last = "service unhealthy (responded with \"SERVICE_UNKNOWN\")";
    let read = 1 + lines.by_ref().take_while(|line| without_time(line) != last).count();
    let stderr = running.follow_stderr();
    let note = stderr.next();
    let left_out = note.strip_prefix('(').and_then(|note| note.strip_suffix(" lines left out, as nobody read them)"));
    let left_out: usize = left_out.and_then(|count| count.parse().ok()).expect(&note);
    assert_eq!(read + left_out, changes().count(), "{note}");
    running.signal("-TERM");
    assert_eq!(
        (running.finish().code, lines.next(), stderr.rest()),
        (Some(4), None, vec!["stopped by SIGTERM".into()])
    );
}

#[test]
fn a_reader_that_goes_on_gets_each_change_in_order() {
    for output in Unread::all() {
        let name = output.name;
        let watched = Watched::new();
        let running =
            Probe::new([&watched.peer.addr(), "-watch", "-exit-codes=detailed"]).stdout(output.output()).start();
        watched.send([1, 2, 3, 1, 2]);
        let mut lines = BufReader::new(output.read()).lines().map(|line| line.expect("it is open"));
        let mut next = || without_time(lines.next().expect("a line comes").trim_end()).to_owned();
        let unhealthy = |status| format!("service unhealthy (responded with \"{status}\")");
        let serving = "status: SERVING".to_owned();
        for expected in
            [serving.clone(), unhealthy("NOT_SERVING"), unhealthy("SERVICE_UNKNOWN"), serving, unhealthy("NOT_SERVING")]
        {
            assert_eq!(next(), expected, "{name}");
        }
        // It goes on as before.
        watched.send([1]);
        assert_eq!(next(), "status: SERVING", "{name}");
        running.signal("-TERM");
        running.finish().expect(0, "", "stopped by SIGTERM\n");
    }
}

#[test]
fn a_stuck_standard_error_does_not_hold_up_a_watch() {
    for stuck in Unread::all() {
        let server = ChangingServer::new();
        let mut running = Probe::new([&server.server.addr(), "-watch", "-v"]).stderr(stuck.output()).start();
        let stdout = running.follow_stdout();
        assert_eq!(without_time(&stdout.next()), "status: SERVING", "{}", stuck.name);
        let address = server.stop();
        let server = ChangingServer::on(address);
        assert_eq!(without_time(&stdout.next()), "status: SERVING", "{}", stuck.name);
        server.set("", NotServing);
        assert!(stdout.next().ends_with("(responded with \"NOT_SERVING\")"), "{}", stuck.name);
        let since = Instant::now();
        running.signal("-INT");
        assert_eq!(finish_within(AT_ONCE, since, stuck.name, running).code, Some(1));
    }
}

#[test]
fn a_watch_ends_when_a_full_socket_is_closed() {
    let watched = Watched::new();
    let output = Unread::full_socket();
    let running = Probe::new([&watched.peer.addr(), "-watch", "-exit-codes=detailed"]).stdout(output.output()).start();
    watched.send([1, 2]);
    drop(output);
    running.finish().expect(4, "", "stopped: output was closed\n");
}

/// A server with this many services.
fn listing(count: usize) -> server::Server {
    let entry = |number: usize| {
        let name = format!("shop.v1.Service{number:05}");
        let length = u8::try_from(name.len()).expect("it is short");
        [&[10, length + 6, 10, length], name.as_bytes(), &[18, 2, 8, 1]].concat()
    };
    let message: Vec<u8> = (0..count).flat_map(entry).collect();
    server::by_path(move |_| Reply::Message(message.clone()))
}

/// Starts a list whose reader stops after the first line.
fn half_read_list(server: &server::Server, flags: &[&str]) -> (Running, impl Read + use<>) {
    let (mut reader, writer) = io::pipe().expect("a pipe can be created");
    let running = Probe::new([&[server.addr().as_str(), "-list"], flags].concat()).stdout(writer).start();
    reader.read_exact(&mut [0; 8]).expect("the list begins");
    (running, reader)
}

#[test]
fn signals_end_a_list_that_is_not_read() {
    let server = listing(5000);
    for (signal, name) in [("-TERM", "SIGTERM"), ("-INT", "SIGINT")] {
        let (running, reader) = half_read_list(&server, &[]);
        let since = Instant::now();
        running.signal(signal);
        let ran = finish_within(AT_ONCE, since, name, running);
        let mut lines = ran.stderr.lines();
        assert_eq!((ran.code, lines.next()), (Some(0), Some(format!("stopped by {name}").as_str())), "{ran}");
        assert!(lines.next().is_some_and(|line| line.ends_with(" more results, which nobody has read")), "{ran}");
        assert_eq!(lines.next(), None, "{ran}");
        drop(reader);
    }
}

#[test]
fn the_timeout_ends_a_list_that_is_not_read() {
    let server = listing(5000);
    let since = Instant::now();
    let (running, reader) = half_read_list(&server, &["-timeout=2s", "-rpc-timeout=2s"]);
    let ran = finish_within(AT_ONCE, since, "pipe", running);
    let mut lines = ran.stderr.lines();
    assert_eq!((ran.code, lines.next()), (Some(0), Some("stopped after 2s")), "{ran}");
    assert!(lines.next().is_some_and(|line| line.ends_with(" more results, which nobody has read")), "{ran}");
    drop(reader);
    for output in Unread::all() {
        let since = Instant::now();
        let running = start_with(&output, &[&server.addr(), "-list", "-timeout=2s", "-rpc-timeout=2s"]);
        assert_eq!(finish_within(AT_ONCE, since, output.name, running).code, Some(0), "{}", output.name);
    }
}

#[test]
fn a_reader_who_reads_a_list_late_gets_all_of_it() {
    let server = listing(5000);
    let (running, reader) = half_read_list(&server, &[]);
    // Longer than a probe waits at its end.
    std::thread::sleep(Duration::from_millis(300));
    let rest = std::thread::spawn(move || rest(reader));
    running.finish().expect(0, "", "");
    let rest = rest.join().expect("the reader ends");
    assert_eq!(rest.lines().count(), 5001);
    assert!(rest.ends_with("shop.v1.Service04999  SERVING\n"));
}

#[test]
fn progress_that_waits_comes_before_the_result() {
    let (sender, is_read) = mpsc::channel();
    let (asked, is_asked) = mpsc::channel();
    let is_read = Mutex::new(is_read);
    let peer = Peer::new(move |connection, _| {
        connection.take_request();
        let _ = asked.send(());
        let _ = is_read.lock().expect("the lock is not poisoned").recv_timeout(TEST_TIMEOUT);
        connection.send(frames::serving());
        connection.drain();
    });
    let output = Unread::full_pipe();
    let words = [&peer.addr(), "-v", "-connect-timeout=20s", "-rpc-timeout=20s"];
    let running = start_with(&output, &words);
    is_asked.recv_timeout(TEST_TIMEOUT).expect("the probe asks");
    let reader = output.read();
    sender.send(()).expect("the server waits");
    running.finish().expect(0, "", "");
    let written = rest(reader);
    let firsts: Vec<&str> = written.lines().filter_map(|line| line.split(['=', ':', ' ']).next()).collect();
    assert_eq!(firsts, ["parsed", ">", ">", "connect", "http2", "rpc", "status"], "{written}");
}

#[test]
fn a_terminal_shows_what_it_always_did() {
    let server = server::plaintext();
    let terminal = Terminal::new();
    let mut screen = terminal.screen();
    let both = |words: &[&str]| Probe::new(words).stdout(terminal.output()).stderr(terminal.output());
    both(&[&server.addr()]).run().expect(0, "", "");
    assert_eq!(screen.until("\n"), "status: SERVING\r\n");
    both(&[&server.addr(), "-v"]).run().expect(0, "", "");
    let shown = screen.until("SERVING\r\n");
    let firsts: Vec<&str> = shown.lines().filter_map(|line| line.split(['=', ':', ' ']).next()).collect();
    assert_eq!(firsts, ["parsed", ">", ">", "connect", "http2", "rpc", "status"], "{shown}");
    assert!(terminal.is_blocking());
}

#[test]
fn a_terminal_shows_one_live_line_while_the_probe_waits() {
    let peer = Peer::new(|connection, number| {
        connection.take_request();
        let answer = frames::data(0, &frames::answer(if number < 2 { 2 } else { 1 }));
        connection.send([frames::ok_headers(), answer, frames::trailers(&[("grpc-status", b"0")])].concat());
        connection.drain();
    });
    let terminal = Terminal::new();
    let mut screen = terminal.screen();
    let words = [&peer.addr(), "-wait=20s"];
    Probe::new(words).stdout(terminal.output()).stderr(terminal.output()).run().expect(0, "", "");
    let shown = screen.until("SERVING\r\n");
    let mut parts = shown.split("\r\u{1b}[2K");
    for attempt in [1, 2] {
        let line = parts.next().unwrap_or_default();
        let cause = format!(", attempt {attempt}: service unhealthy (responded with \"NOT_SERVING\")");
        assert!(line.starts_with("waiting 0.") && line.ends_with(&cause), "{shown:?}");
    }
    assert_eq!(parts.collect::<Vec<_>>(), ["status: SERVING\r\n"], "{shown:?}");
}

/// As after Ctrl-S and Ctrl-Q.
#[test]
fn a_terminal_that_goes_on_shows_the_progress_in_order() {
    let (asked, is_asked) = mpsc::channel();
    let (sender, goes_on) = mpsc::channel();
    let goes_on = Mutex::new(goes_on);
    let peer = Peer::new(move |connection, _| {
        connection.take_request();
        let _ = asked.send(());
        let _ = goes_on.lock().expect("the lock is not poisoned").recv_timeout(TEST_TIMEOUT);
        connection.send(frames::serving());
        connection.drain();
    });
    let terminal = Terminal::new();
    let mut screen = terminal.screen();
    terminal.stop();
    let words = [&peer.addr(), "-v", "-connect-timeout=20s", "-rpc-timeout=20s"];
    let running = Probe::new(words).stdout(terminal.output()).stderr(terminal.output()).start();
    is_asked.recv_timeout(TEST_TIMEOUT).expect("the probe asks");
    terminal.go_on();
    sender.send(()).expect("the server waits");
    running.finish().expect(0, "", "");
    let shown = screen.until("status: SERVING\r\n");
    let firsts: Vec<&str> = shown.lines().filter_map(|line| line.split(['=', ':', ' ']).next()).collect();
    assert_eq!(firsts, ["parsed", ">", ">", "connect", "http2", "rpc", "status"], "{shown}");
}
