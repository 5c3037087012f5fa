//! The probe as a process: signals, suspension, closed streams, scarce resources, empty environments, and how it closes the
//! connection.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::{
        Mutex,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{ServerConnection, StreamOwned};

use crate::support::{
    frames::{self, END_STREAM, GOAWAY, HEADERS, RST_STREAM},
    needs,
    peer::{Connection, Peer},
    pki::{Authority, Files},
    probe::{PROBE_BINARY, Probe, RunResult, Running},
    server::{self, TlsSetup},
};

const CLOSED_PORT: &str = "-addr=127.0.0.1:1";
const DOWN: &str = "service unhealthy (responded with \"NOT_SERVING\")\n";
const REFUSED: &str = "error: cannot connect to 127.0.0.1:1: connection refused\n\
                       hint: nothing listens there; is the server up, and on this port?\n";
/// Longer than any wait in a test that succeeds.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeouts of the probe that never expire in a test.
const LONG_TIMEOUTS: [&str; 2] = ["-connect-timeout=1h", "-rpc-timeout=1h"];

/// A peer that runs `until` on a connection, notifies the receiver, and never answers.
fn stalling_peer(until: impl Fn(&mut Connection) + Send + Sync + 'static) -> (Peer, Receiver<()>) {
    let (sender, happened) = mpsc::channel();
    let peer = Peer::new(move |connection, _| {
        until(connection);
        // The test may have ended already.
        let _ = sender.send(());
        connection.drain();
    });
    (peer, happened)
}

/// A phase in which a peer can stall the probe.
struct Stall {
    phase: &'static str,
    detailed: i32,
    flags: &'static [&'static str],
    until: fn(&mut Connection),
}

const STALLS: [Stall; 5] = [
    Stall {
        phase: "tls",
        detailed: 2,
        flags: &["-tls", "-tls-no-verify"],
        // The header of a TLS record: the ClientHello begins to arrive.
        until: |connection| drop(connection.receive(5)),
    },
    Stall { phase: "http2", detailed: 2, flags: &[], until: Connection::read_preface },
    Stall { phase: "rpc", detailed: 3, flags: &[], until: Connection::take_request },
    Stall { phase: "rpc", detailed: 3, flags: &["-gzip", "-service=a", "-service=b"], until: Connection::take_request },
    Stall {
        phase: "rpc",
        detailed: 3,
        flags: &["-q"],
        // A healthy answer, except that the stream does not end.
        until: |connection| {
            connection.take_request();
            connection.send([frames::ok_headers(), frames::data(0, &frames::answer(1))].concat());
        },
    },
];

/// The name of a phase in the message after a signal.
fn activity(phase: &str) -> &'static str {
    match phase {
        "tls" => "the TLS handshake",
        "http2" => "HTTP/2 setup",
        "rpc" => "the RPC",
        _ => unreachable!("no peer stalls there"),
    }
}

#[test]
fn signals_exit_with_the_code_of_the_phase() {
    for Stall { phase, detailed, flags, until } in STALLS {
        let (peer, reached) = stalling_peer(until);
        let addr = peer.addr();
        for (signal, name) in [("-TERM", "SIGTERM"), ("-INT", "SIGINT")] {
            for (mode, code) in [("-exit-codes=docker", 1), ("-exit-codes=detailed", detailed)] {
                let words = [&[addr.as_str(), mode], &LONG_TIMEOUTS[..], flags].concat();
                let probe = Probe::new(words).start();
                reached.recv_timeout(TEST_TIMEOUT).expect("the probe reaches the phase");
                probe.signal(signal);
                let ran = probe.finish();
                ran.expect(code, "", &format!("error: stopped by {name} during {}\n", activity(phase)));
            }
        }
    }
}

#[test]
fn signals_are_reported_in_json() {
    for Stall { phase, detailed, flags, until } in STALLS {
        let (peer, reached) = stalling_peer(until);
        let addr = peer.addr();
        let words = [&[addr.as_str(), "-output=json", "-exit-codes=detailed"], &LONG_TIMEOUTS[..], flags].concat();
        let services = flags.iter().filter(|flag| flag.starts_with("-service")).count().max(1);
        let probe = Probe::new(words).start();
        reached.recv_timeout(TEST_TIMEOUT).expect("the probe reaches the phase");
        probe.signal("-TERM");
        let mut ran = probe.finish();
        assert_eq!((ran.stdout.lines().count(), ran.stderr.as_str()), (services, ""), "{ran}");
        ran.stdout.truncate(ran.stdout.find('\n').map_or(0, |end| end + 1));
        ran.expect_kind(detailed, phase, "interrupted");
        let message = format!("stopped by SIGTERM during {}", activity(phase));
        assert_eq!(ran.json()["error"]["message"], message, "{ran}");
    }
}

/// The probe blocks on the pipe before it connects.
#[test]
fn signal_while_reading_a_file_exits_1() {
    let files = Files::new();
    let fifo = files.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is installed").success());
    let ca_cert = format!("-tls-ca-cert={}", fifo.display());
    let probe =
        Probe::new([&[CLOSED_PORT, "-tls", &ca_cert, "-exit-codes=detailed"], &LONG_TIMEOUTS[..]].concat()).start();
    // Opens when the probe opens the pipe, and keeps it waiting.
    let _writer = OpenOptions::new().write(true).open(&fifo).expect("the probe reads");
    probe.signal("-TERM");
    probe.finish().expect(1, "", "error: stopped by SIGTERM during its preparation\n");
}

#[test]
fn signal_ends_the_retries() {
    let (sender, refused) = mpsc::channel();
    let peer = Peer::new(move |_, _| {
        // The last attempt may come after the test has ended.
        let _ = sender.send(());
    });
    let probe = Probe::new([&[peer.addr().as_str(), "-exit-codes=detailed"], &LONG_TIMEOUTS[..]].concat()).start();
    for _ in 0..3 {
        refused.recv_timeout(TEST_TIMEOUT).expect("the probe tries again");
    }
    probe.signal("-INT");
    let ran = probe.finish();
    let is_reported = ran.stderr.lines().count() == 1 && ran.stderr.starts_with("error: stopped by SIGINT during ");
    assert!(ran.code == Some(2) && ran.stdout.is_empty() && is_reported, "{ran}");
}

/// Signals have no default action for process 1 of a container, so the probe must handle them.
#[test]
fn signals_stop_the_probe_as_process_1_of_a_container() {
    let Some(()) = needs::root() else { return };
    for (signal, name) in [("-TERM", "SIGTERM"), ("-INT", "SIGINT")] {
        let (peer, reached) = stalling_peer(Connection::take_request);
        let addr = peer.addr();
        let words = [&[addr.as_str(), "-exit-codes=detailed"], &LONG_TIMEOUTS[..]].concat();
        let wrapper = Probe::wrapped(&["unshare", "--pid", "--fork", "--kill-child"], words).start();
        let Ok(()) = reached.recv_timeout(TEST_TIMEOUT) else { panic!("{}the probe does not start", wrapper.finish()) };
        let probe = only_child(wrapper.id());
        let status = fs::read_to_string(format!("/proc/{probe}/status")).expect("the probe runs");
        let pids = status.lines().find(|line| line.starts_with("NSpid:")).expect("the status has NSpid");
        assert_eq!(pids.split_whitespace().next_back(), Some("1"), "{pids}");
        send(signal, &probe);
        wrapper.finish().expect(3, "", &format!("error: stopped by {name} during the RPC\n"));
    }
}

/// The id of the one process that this one started.
fn only_child(parent: u32) -> String {
    let ids =
        fs::read_dir("/proc").expect("/proc is mounted").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut children = ids.filter(|id| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|ppid| ppid.trim() == parent.to_string()))
    });
    let child = children.next().expect("there is a child");
    assert_eq!(children.next(), None, "there is one child");
    child
}

fn send(signal: &str, id: &str) {
    assert!(Command::new("kill").args([signal, id]).status().expect("kill is installed").success());
}

/// Runs `before` on the server, suspends the probe, runs `meanwhile`, resumes the probe after its deadlines, and expects
/// the failure.
fn expect_failure_after_suspension(
    before: fn(&mut Connection),
    meanwhile: impl Fn(&mut Connection) + Send + Sync + 'static,
    phase: &str,
    kind: &str,
) {
    let (sender, reached) = mpsc::channel();
    let (resume, resumed) = mpsc::channel();
    let resumed = Mutex::new(resumed);
    let peer = Peer::new(move |connection, _| {
        before(connection);
        let _ = sender.send(());
        let _ = resumed.lock().expect("the lock is not poisoned").recv_timeout(TEST_TIMEOUT);
        meanwhile(connection);
        connection.drain();
    });
    let time_outs = ["-connect-timeout=2s", "-rpc-timeout=2s", "-output=json"];
    let probe = Probe::new([peer.addr().as_str()].into_iter().chain(time_outs)).start();
    reached.recv_timeout(TEST_TIMEOUT).expect("the probe reaches the phase");
    probe.signal("-STOP");
    await_stop(&probe);
    resume.send(()).expect("the peer waits");
    // The deadlines must pass in real time.
    thread::sleep(Duration::from_millis(2200));
    probe.signal("-CONT");
    probe.finish().expect_kind(1, phase, kind);
}

#[test]
fn answer_received_while_suspended_is_too_late() {
    let answer = |connection: &mut Connection| {
        connection.send(frames::serving());
    };
    expect_failure_after_suspension(Connection::take_request, answer, "rpc", "rpc-timeout");
}

#[test]
fn trailers_received_while_suspended_are_too_late() {
    let begin = |connection: &mut Connection| {
        connection.take_request();
        connection.send([frames::ok_headers(), frames::data(0, &frames::answer(1))].concat());
    };
    let end = |connection: &mut Connection| {
        connection.send(frames::trailers(&[("grpc-status", b"0")]));
    };
    expect_failure_after_suspension(begin, end, "rpc", "rpc-timeout");
}

#[test]
fn settings_received_while_suspended_are_too_late() {
    let settings = |connection: &mut Connection| {
        connection.send(frames::settings(&[]));
        connection.await_request();
        connection.send(frames::serving());
    };
    expect_failure_after_suspension(Connection::read_preface, settings, "http2", "server-silent");
}

/// Waits until the kernel has suspended the process.
fn await_stop(probe: &Running) {
    let end = Instant::now() + TEST_TIMEOUT;
    loop {
        let stat = fs::read_to_string(format!("/proc/{}/stat", probe.id())).expect("the probe runs");
        // The state follows the name, which is in parentheses.
        match stat.rsplit(") ").next().and_then(|rest| rest.chars().next()) {
            Some('T') => return,
            Some('Z') => panic!("the probe has ended before it could be suspended"),
            _ => assert!(Instant::now() < end, "{stat} is not stopped"),
        }
        thread::yield_now();
    }
}

/// Arguments for every outcome, with the expected exit code.
fn outcomes(address: &str) -> Vec<(Vec<String>, i32)> {
    [
        (&[address][..], 0),
        (&[address, "-output=json"], 0),
        (&[address, "-v"], 0),
        (&[address, "-service=down"], 4),
        (&[address, "-service=down", "-output=json"], 4),
        (&[address, "-service=missing"], 3),
        (&[CLOSED_PORT], 2),
        (&[CLOSED_PORT, "-output=json"], 2),
        (&["-nonsense"], 1),
        (&["-nonsense", "-output=json"], 1),
        (&["-help"], 0),
        (&["-version"], 0),
    ]
    .into_iter()
    .map(|(words, code)| {
        let words = [words, &["-exit-codes=detailed"]].concat();
        (words.into_iter().map(str::to_owned).collect(), code)
    })
    .collect()
}

#[test]
fn closed_and_full_streams_do_not_change_the_exit_code() {
    let server = server::plaintext();
    for redirection in [
        "<&-",
        ">&-",
        "2>&-",
        ">&- 2>&-",
        "<&- >&- 2>&-",
        ">/dev/full",
        "2>/dev/full",
        ">/dev/full 2>/dev/full",
        // Open, but for reading only.
        ">/dev/null </dev/null 1</dev/null 2</dev/null",
    ] {
        let script = format!("exec \"$0\" \"$@\" {redirection}");
        for (words, code) in outcomes(&server.addr()) {
            let ran = Probe::wrapped(&["sh", "-c", &script], words).run();
            assert_eq!(ran.code, Some(code), "{ran}");
        }
    }
}

#[test]
fn broken_pipes_do_not_change_the_exit_code() {
    let server = server::plaintext();
    for (words, code) in outcomes(&server.addr()) {
        let closed = || io::pipe().expect("a pipe can be created").1;
        let ran = Probe::new(&words).stdout(closed()).run();
        assert_eq!(ran.code, Some(code), "{ran}");
        let ran = Probe::new(&words).stderr(closed()).run();
        assert_eq!(ran.code, Some(code), "{ran}");
        let ran = Probe::new(&words).stdout(closed()).stderr(closed()).run();
        assert_eq!(ran.code, Some(code), "{ran}");
    }
}

/// The connection gets the file descriptor of a closed stream. Output must not go into it.
#[test]
fn connection_does_not_reuse_a_closed_standard_stream() {
    let (sender, bytes) = mpsc::channel();
    let peer = Peer::new(move |connection, _| {
        connection.take_request();
        connection.send(frames::serving());
        let _ = sender.send(connection.rest());
    });
    let script = "exec \"$0\" \"$@\" <&- >&- 2>&-";
    let ran = Probe::wrapped(&["sh", "-c", script], [&peer.addr(), "-v"]).run();
    ran.expect(0, "", "");
    let bytes = bytes.recv_timeout(TEST_TIMEOUT).expect("the probe closes the connection");
    assert_eq!(goaway_code(&bytes), Some(0), "{bytes:?}");
}

/// The code of a debug build alone takes 12 MiB.
#[test]
fn address_space_of_16_mib_is_enough() {
    let is_release = env::var_os(PROBE_BINARY).is_some();
    let server = server::plaintext();
    let root = Authority::new("root");
    let tls = server::tls(&root.server(&["localhost"]));
    let files = Files::new();
    let ca_cert = format!("-tls-ca-cert={}", files.write("ca.pem", &root.pem));
    let script = format!("ulimit -v {} && exec \"$0\" \"$@\"", if is_release { 16_384 } else { 24_576 });
    let wrapper = ["sh", "-c", &script];
    Probe::wrapped(&wrapper, [server.addr()]).run().expect_healthy();
    Probe::wrapped(&wrapper, [format!("localhost:{}", tls.port()), "-tls".into(), ca_cert]).run().expect_healthy();
    Probe::wrapped(&wrapper, [&server.addr(), "-service=down"]).run().expect(1, DOWN, "");
    Probe::wrapped(&wrapper, [CLOSED_PORT]).run().expect(1, "", REFUSED);
    let services = vec!["-service=up"; 50];
    let ran = Probe::wrapped(&wrapper, [server.addr().as_str(), "-q"].into_iter().chain(services)).run();
    ran.expect(0, "", "");
}

#[test]
fn deleted_working_directory_does_not_matter() {
    let server = server::plaintext();
    let script = "gone=$(mktemp -d) && cd \"$gone\" && rmdir \"$gone\" && exec \"$0\" \"$@\"";
    let wrapper = ["sh", "-c", script];
    Probe::wrapped(&wrapper, [server.addr()]).run().expect_healthy();
    Probe::wrapped(&wrapper, [&server.addr(), "-service=down"]).run().expect(1, DOWN, "");
    let ran = Probe::wrapped(&wrapper, ["unix:socket", "-exit-codes=detailed"]).run();
    ran.expect_error(2, "error: cannot connect to unix:socket: no such file");
}

#[test]
fn unnamed_user_without_privileges_can_probe() {
    let Some(user) = needs::another_user() else { return };
    let server = server::plaintext();
    let files = Files::new();
    Probe::unprivileged(user, &files.path(""), [server.addr()]).run().expect_healthy();
    let by_name = Probe::unprivileged(user, &files.path(""), [format!("localhost:{}", server.port())]).run();
    by_name.expect_healthy();
    Probe::unprivileged(user, &files.path(""), [&server.addr(), "-service=down"]).run().expect(1, DOWN, "");
}

/// As in an image `FROM scratch`: no `/etc`, `/proc` or `/tmp`, nothing writable.
#[test]
fn binary_runs_in_an_empty_root_directory() {
    let Some(()) = needs::root() else { return };
    let (server, server_v6) = (server::plaintext(), server::plaintext_v6());
    let root = Authority::new("root");
    let tls = server::tls(&root.server(&["localhost"]));
    let files = Files::new();
    let directory = files.path("");
    // A debug build needs its libraries; the release is static. In a user namespace, setpriv cannot become another user.
    let script = "for library in $(ldd \"$0\" 2>/dev/null | grep -o '/[^ ]*'); do cp --parents $library \"$ROOT\"; done; \
                  cp \"$0\" \"$ROOT\"/probe && chmod 555 \"$ROOT\" && \
                  if setpriv --reuid=64242 true 2>/dev/null; then user=--userspec=64242:64242; fi && \
                  exec chroot $user \"$ROOT\" /probe \"$@\"";
    let run = |words: &[&str]| Probe::wrapped(&["sh", "-c", script], words).env("ROOT", &directory).run();
    files.write("ca.pem", &root.pem);

    run(&[&server.addr()]).expect_healthy();
    run(&[&format!("localhost:{}", server.port())]).expect_healthy();
    run(&[&format!(":{}", server.port())]).expect_healthy();
    run(&[&format!("localhost:{}", server_v6.port())]).expect_healthy();
    run(&[&format!("localhost:{}", tls.port()), "-tls", "-tls-ca-cert=/ca.pem"]).expect_healthy();
    run(&[&server.addr(), "-service=down"]).expect(1, DOWN, "");
    run(&[CLOSED_PORT]).expect(1, "", REFUSED);
    // There are no system roots, and the failure says so.
    let ran = run(&[&format!("localhost:{}", tls.port()), "-tls", "-output=json"]);
    ran.expect_kind(1, "usage", "no-trust-anchors");
    // A name that only DNS could resolve.
    let ran = run(&["name.invalid:1", "-exit-codes=detailed", "-connect-timeout=300ms"]);
    assert!(ran.code == Some(2) && ran.stdout.is_empty() && ran.stderr.starts_with("error: "), "{ran}");

    let left: BTreeSet<_> = fs::read_dir(&directory)
        .expect("the directory is writable")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("UTF-8"))
        .filter(|name| !name.starts_with("lib"))
        .collect();
    assert_eq!(left, ["ca.pem", "probe"].map(str::to_owned).into(), "the probe wrote something");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("the directory is writable");
}

#[test]
fn twenty_concurrent_probes_are_healthy() {
    let server = server::plaintext();
    let running: Vec<Running> = (0..20).map(|_| Probe::new([server.addr()]).start()).collect();
    for probe in running {
        probe.finish().expect_healthy();
    }
}

/// Parses frames: type, flags, stream, payload.
fn parse(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, s0, s1, s2, s3, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let (payload, after) = rest.split_at_checked(length).expect("frames are whole");
        frames.push((*kind, *flags, u32::from_be_bytes([*s0, *s1, *s2, *s3]), payload.to_vec()));
        bytes = after;
    }
    assert!(bytes.is_empty(), "the last frame is whole");
    frames
}

/// The error code of the GOAWAY, which must be the only one and the last frame.
fn goaway_code(bytes: &[u8]) -> Option<u32> {
    let frames = parse(bytes);
    let goaways = frames.iter().filter(|(kind, ..)| *kind == GOAWAY).count();
    let (kind, _, _, payload) = frames.last()?;
    let code = payload.get(4..8)?.try_into().ok()?;
    (*kind == GOAWAY && goaways == 1).then(|| u32::from_be_bytes(code))
}

/// Reads until the probe closes. An error means that it reset the connection.
fn read_until_close(mut stream: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map(|_| bytes)
}

/// Runs the probe against a peer that reads the request and sends `answer`. Returns the run and what the peer received
/// afterwards.
fn probe_and_record_close(flags: &[&str], answer: Vec<u8>) -> (RunResult, io::Result<Vec<u8>>) {
    let (sender, seen) = mpsc::channel();
    let peer = Peer::new(move |connection, _| {
        connection.take_request();
        connection.send(&answer);
        let _ = sender.send(read_until_close(connection.stream()));
    });
    let ran = Probe::new([&[peer.addr().as_str()], flags].concat()).run();
    let seen = seen.recv_timeout(TEST_TIMEOUT).expect("the probe closes the connection");
    (ran, seen)
}

#[test]
fn connection_is_closed_with_goaway_after_the_answer() {
    let answer = |status| {
        [frames::ok_headers(), frames::data(0, &frames::answer(status)), frames::trailers(&[("grpc-status", b"0")])]
            .concat()
    };
    let only = |status: &[u8]| {
        let fields: [(&str, &[u8]); 3] =
            [(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", status)];
        frames::headers(END_STREAM, &fields)
    };
    let ping = frames::frame(frames::PING, 0, 0, &[7; 8]);
    for (answer, code) in [
        (frames::serving(), 0),
        (answer(2), 1),
        (answer(0), 1),
        (only(b"5"), 1),
        (only(b"12"), 1),
        ([ping.clone(), frames::serving()].concat(), 0),
        ([frames::serving(), ping].concat(), 0),
        ([frames::serving(), frames::goaway(1, 0, b"")].concat(), 0),
        ([frames::serving(), frames::settings(&[(3, 100)])].concat(), 0),
    ] {
        let (ran, seen) = probe_and_record_close(&[], answer);
        assert_eq!(ran.code, Some(code), "{ran}");
        // Closed, not reset.
        let seen = seen.unwrap_or_else(|error| panic!("{ran}{error}"));
        assert_eq!(goaway_code(&seen), Some(0), "{ran}{:?}", parse(&seen));
        assert!(parse(&seen).iter().all(|(kind, ..)| *kind != RST_STREAM), "{ran}{:?}", parse(&seen));
    }
}

#[test]
fn connection_is_closed_with_goaway_after_a_timeout() {
    let (ran, seen) = probe_and_record_close(&["-rpc-timeout=300ms", "-output=json"], Vec::new());
    ran.expect_kind(1, "rpc", "rpc-timeout");
    let seen = seen.unwrap_or_else(|error| panic!("{ran}{error}"));
    assert_eq!(goaway_code(&seen), Some(0), "{ran}{:?}", parse(&seen));
}

#[test]
fn tls_is_closed_with_close_notify() {
    static VERSIONS: [&[&rustls::SupportedProtocolVersion]; 2] =
        [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

    let root = Authority::new("root");
    let leaf = root.server(&["127.0.0.1"]);
    let files = Files::new();
    let ca_cert = format!("-tls-ca-cert={}", files.write("ca.pem", &root.pem));
    for versions in VERSIONS {
        let config = TlsSetup { leaf: &leaf, versions, alpn: &["h2"], clients: None }.config();
        let (sender, seen) = mpsc::channel();
        let peer = Peer::new(move |connection, _| {
            let session = ServerConnection::new(config.clone()).expect("the configuration is valid");
            let mut stream = StreamOwned::new(session, connection.stream());
            let _ = sender.send(serve_once(&mut stream));
        });
        Probe::new([&peer.addr(), "-tls", &ca_cert]).run().expect_healthy();
        // Without close_notify, rustls reports the end of the stream as an error.
        let seen = seen
            .recv_timeout(TEST_TIMEOUT)
            .expect("the probe closes the connection")
            .expect("the probe sends close_notify");
        assert_eq!(goaway_code(&seen), Some(0), "{:?}", parse(&seen));
    }
}

/// Answers one request with SERVING, and returns what the probe sends afterwards.
fn serve_once(stream: &mut StreamOwned<ServerConnection, TcpStream>) -> io::Result<Vec<u8>> {
    let mut preface = [0; frames::PREFACE.len()];
    stream.read_exact(&mut preface)?;
    stream.write_all(&frames::settings(&[]))?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        if matches!(kind, frames::DATA | HEADERS) && flags & END_STREAM != 0 {
            break;
        }
    }
    stream.write_all(&frames::serving())?;
    read_until_close(stream)
}

/// Servers close first when they drain their connections.
#[test]
fn connection_is_not_reset_when_the_server_closes_first() {
    let (sender, seen) = mpsc::channel();
    let peer = Peer::new(move |connection, _| {
        connection.take_request();
        connection.send([frames::serving(), frames::goaway(1, 0, b"bye")].concat());
        connection.finish();
        let _ = sender.send(read_until_close(connection.stream()));
    });
    Probe::new([peer.addr()]).run().expect_healthy();
    assert!(seen.recv_timeout(TEST_TIMEOUT).expect("the probe closes the connection").is_ok());
}

#[test]
fn no_files_are_read_from_the_working_or_home_directory() {
    // File names that a program might look for. They are FIFOs without a writer, so that reading one hangs.
    let files = Files::new();
    for name in [".env", "grpc_health_probe.toml", ".grpc_health_probe", "config", "ca.pem"] {
        assert!(Command::new("mkfifo").arg(files.path(name)).status().expect("mkfifo is installed").success());
    }
    let server = server::plaintext();
    let home = files.path("").display().to_string();
    let ran = Probe::new([server.addr()]).current_dir(&files.path("")).env("HOME", &home).run();
    ran.expect_healthy();
}

/// If nobody reads the pipe, the output is lost, but the exit code is right and comes in time.
#[test]
fn full_pipe_does_not_delay_the_exit() {
    let server = server::plaintext();
    let full = || {
        let (reader, mut writer) = io::pipe().expect("a pipe can be created");
        // The capacity of a pipe on Linux.
        writer.write_all(&vec![0; 65_536]).expect("it is empty");
        (reader, writer)
    };
    let ((_reader, stdout), (_other_reader, stderr)) = (full(), full());
    let ran = Probe::new([server.addr(), "-v".to_owned()]).stdout(stdout).stderr(stderr).run();
    assert_eq!(ran.code, Some(0), "{ran}");
}
