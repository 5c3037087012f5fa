//! The probe in odd surroundings: a limit on the size of files, and files that block for ever while it watches.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use crate::support::{
    frames::{answer, data, ok_headers},
    peer::Peer,
    pki::Files,
    probe::Probe,
    server,
};

/// Far longer than any wait in a test that succeeds.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn limit_on_file_sizes_does_not_change_the_exit_code() {
    let server = server::plaintext();
    let files = Files::new();
    let addr = server.addr();
    for limit in ["0", "1"] {
        for redirection in [">\"$OUT\"", "2>\"$OUT\"", ">\"$OUT\" 2>&1", ">>\"$OUT\" 2>>\"$OUT\""] {
            let script = format!("ulimit -f {limit} && exec \"$0\" \"$@\" {redirection}");
            for (words, code) in [
                (&[addr.as_str()][..], 0),
                (&[&addr, "-v"], 0),
                (&[&addr, "-service=down"], 4),
                (&[&addr, "-service=missing"], 3),
                (&["127.0.0.1:1"], 2),
                (&["-nonsense"], 1),
                (&["-help"], 0),
            ] {
                let out = files.path("out");
                let words = [words, &["-exit-codes=detailed"]].concat();
                let ran = Probe::wrapped(&["sh", "-c", &script], words).env("OUT", &out).run();
                assert_eq!(ran.code, Some(code), "{redirection} with {limit}: {ran}");
                // Units of 512 bytes in some shells, of 1024 in others.
                let written = fs::metadata(&out).expect("the shell creates it").len();
                assert!(written <= if limit == "0" { 0 } else { 1024 }, "{written} bytes: {ran}");
            }
        }
    }
}

/// How many threads a process has.
fn threads(id: u32) -> usize {
    fs::read_dir(format!("/proc/{id}/task")).expect("the probe runs").count()
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo is installed").success());
}

/// Each new connection reads the file again. While nobody writes to it, one thread waits, not one for each attempt.
#[test]
fn file_that_blocks_takes_one_thread_of_a_watch() {
    let (sender, arrived) = mpsc::channel();
    let (end_first, may_end) = mpsc::channel();
    let may_end = Mutex::new(may_end);
    let peer = Peer::new(move |peer, number| {
        peer.take_request();
        peer.send([ok_headers(), data(0, &answer(1))].concat());
        // The test may be over.
        let _ = sender.send(number);
        if number > 0 {
            peer.drain();
        } else {
            let _ = may_end.lock().expect("the lock is not poisoned").recv_timeout(TEST_TIMEOUT);
        }
    });
    let files = Files::new();
    let secret = files.path("secret");
    files.write("secret", "first");
    let header = format!("-rpc-header-file=x-token: {}", secret.display());
    let mut probe = Probe::new([&peer.addr(), "-watch", &header, "-connect-timeout=100ms"]).start();
    let (stdout, stderr) = probe.follow();
    let follow = |wanted: &str| loop {
        let line = stderr.next();
        if line.contains(wanted) {
            return line;
        }
    };
    assert_eq!(arrived.recv_timeout(TEST_TIMEOUT), Ok(0));
    fs::remove_file(&secret).expect("it is there");
    make_fifo(&secret);
    end_first.send(()).expect("the first connection is open");
    let unreadable = format!("cannot read -rpc-header-file={}: it did not end within 100ms", secret.display());
    follow(&unreadable);
    let before = threads(probe.id());
    // A failure is reported once, so that the time has to tell that there were more attempts.
    thread::sleep(Duration::from_secs(3));
    assert_eq!((before, threads(probe.id())), (2, 2), "the main thread, and one that reads");
    // What arrives at last is not lost.
    OpenOptions::new().write(true).open(&secret).and_then(|mut fifo| fifo.write_all(b"second")).expect("it is read");
    follow("connected to ");
    assert_eq!(arrived.recv_timeout(TEST_TIMEOUT), Ok(1));
    probe.signal("-TERM");
    assert_eq!(probe.finish().code, Some(0));
    assert!(stdout.rest().iter().all(|line| line.ends_with("status: SERVING")));
}
