//! How the probe leaves its server where a signal, `-timeout` or a closed output cuts it off: with GOAWAY and TLS's
//! `close_notify`, so that the server logs no error.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use rustls::{ServerConnection, StreamOwned};

use crate::support::{
    frames::{self, DATA, END_STREAM, GOAWAY, HEADERS},
    peer::Peer,
    pki::{Authority, Files},
    probe::{Probe, RunResult},
    server::TlsSetup,
};

/// Longer than any wait in a test that succeeds.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The next frame: its type, flags and payload. At the end of the stream there is none; an error means that the connection
/// broke, or that TLS was not ended.
fn frame(stream: &mut impl Read) -> io::Result<Option<(u8, u8, Vec<u8>)>> {
    let mut head = [0; 9];
    if stream.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..])?;
    let [a, b, c, kind, flags, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload)?;
    Ok(Some((kind, flags, payload)))
}

/// Takes a request, answers, says so, and returns the error code of the GOAWAY that comes last.
fn serve(stream: &mut (impl Read + Write), answer: &[u8], answered: &mpsc::Sender<()>) -> io::Result<Option<u32>> {
    stream.read_exact(&mut [0; frames::PREFACE.len()])?;
    stream.write_all(&frames::settings(&[]))?;
    loop {
        match frame(stream)? {
            Some((DATA | HEADERS, flags, _)) if flags & END_STREAM != 0 => break,
            Some(_) => {}
            None => return Ok(None),
        }
    }
    stream.write_all(answer)?;
    let _ = answered.send(());
    let mut last = None;
    while let Some((kind, _, payload)) = frame(stream)? {
        let code = payload.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
        last = code.filter(|_| kind == GOAWAY);
    }
    Ok(last)
}

/// A server that answers so, tells when, and tells what it got last.
struct Server {
    peer: Peer,
    answered: Receiver<()>,
    last: Receiver<io::Result<Option<u32>>>,
}

impl Server {
    fn new(answer: Vec<u8>, tls: Option<std::sync::Arc<rustls::ServerConfig>>) -> Self {
        let ((sender, answered), (end, last)) = (mpsc::channel(), mpsc::channel());
        let peer = Peer::new(move |connection, _| {
            let mut stream = connection.stream();
            let got = match tls.clone() {
                None => serve(&mut stream, &answer, &sender),
                Some(config) => {
                    let session = ServerConnection::new(config).expect("the configuration is valid");
                    serve(&mut StreamOwned::new(session, stream), &answer, &sender)
                }
            };
            let _ = end.send(got);
            let _ = connection.stream().shutdown(Shutdown::Both);
        });
        Self { peer, answered, last }
    }

    #[track_caller]
    fn expect_farewell(&self, ran: &RunResult) {
        let last = self.last.recv_timeout(TEST_TIMEOUT).expect("the probe closes the connection");
        assert!(matches!(last, Ok(Some(0))), "{ran}{last:?}");
    }
}

fn serving_and_going_on() -> Vec<u8> {
    [frames::ok_headers(), frames::data(0, &frames::answer(1))].concat()
}

#[test]
fn after_a_signal_during_a_check() {
    for signal in ["-TERM", "-INT"] {
        let server = Server::new(Vec::new(), None);
        let running = Probe::new([&server.peer.addr(), "-rpc-timeout=1h"]).start();
        server.answered.recv_timeout(TEST_TIMEOUT).expect("the request comes");
        running.signal(signal);
        server.expect_farewell(&running.finish());
    }
}

#[test]
fn after_a_signal_under_tls() {
    let root = Authority::new("root");
    let leaf = root.server(&["127.0.0.1"]);
    let files = Files::new();
    let ca_cert = format!("-tls-ca-cert={}", files.write("ca.pem", &root.pem));
    for (flags, answer) in [(&["-rpc-timeout=1h"][..], Vec::new()), (&["-watch"], serving_and_going_on())] {
        let config =
            TlsSetup { leaf: &leaf, versions: rustls::DEFAULT_VERSIONS, alpn: &["h2"], clients: None }.config();
        let server = Server::new(answer, Some(config));
        let running = Probe::new([&[&server.peer.addr(), "-tls", &ca_cert], flags].concat()).start();
        server.answered.recv_timeout(TEST_TIMEOUT).expect("the request comes");
        running.signal("-TERM");
        server.expect_farewell(&running.finish());
    }
}

#[test]
fn at_the_end_of_a_watch() {
    for (signal, flag) in [(Some("-TERM"), "-timeout=1h"), (None, "-timeout=1s")] {
        let server = Server::new(serving_and_going_on(), None);
        let mut running = Probe::new([&server.peer.addr(), "-watch", flag]).start();
        let stdout = running.follow_stdout();
        assert!(stdout.next().ends_with("status: SERVING"));
        if let Some(signal) = signal {
            running.signal(signal);
        }
        let ran = running.finish();
        assert_eq!(ran.code, Some(0), "{ran}");
        server.expect_farewell(&ran);
    }
}

#[test]
fn when_nobody_reads_a_watch() {
    let server = Server::new(serving_and_going_on(), None);
    let mut running = Probe::new([&server.peer.addr(), "-watch"]).start();
    running.stop_reading();
    let ran = running.finish();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "stopped: output was closed\n"), "{ran}");
    server.expect_farewell(&ran);
}
