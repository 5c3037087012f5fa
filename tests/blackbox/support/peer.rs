//! Scripted servers that send exact bytes, so that they can misbehave.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::frames::{self, PREFACE};

/// Longer than any deadline in the tests. A script that waits longer has no probe any more.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// How long `drop` may take to connect to its own listener.
const WAKE_UP: Duration = Duration::from_millis(500);

/// A listener that runs a script for each connection. It fails the test if nobody connects.
pub struct Peer {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Peer {
    /// Runs `script` for each connection, on its own thread, with the number of the connection from 0.
    pub fn new(script: impl Fn(&mut Connection, usize) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"), script)
    }

    /// The same on an existing listener.
    pub fn on(listener: TcpListener, script: impl Fn(&mut Connection, usize) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let (script, counter, ends) = (Arc::new(script), Arc::clone(&connections), Arc::clone(&is_over));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                if ends.load(Ordering::SeqCst) {
                    break;
                }
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                thread::spawn(move || script(&mut Connection::new(stream), number));
            }
        });
        Self { address, connections, is_over }
    }

    pub fn addr(&self) -> String {
        format!("-addr={}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Closes the listener, as all tests share the limit on open files. A connection wakes up its thread.
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, WAKE_UP);
        if !thread::panicking() {
            assert!(self.connections() > 0, "nobody connected to {}", self.address);
        }
    }
}

/// One accepted connection. Writes may fail, as the probe may have closed it already.
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(MAX_WAIT)).expect("the timeout is not zero");
        stream.set_write_timeout(Some(MAX_WAIT)).expect("the timeout is not zero");
        stream.set_nodelay(true).expect("TCP has this option");
        Self { stream }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads this many bytes, or fewer if the probe closes.
    pub fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match self.read(&mut bytes[filled..]) {
                Ok(0) | Err(_) => break,
                Ok(more) => filled += more,
            }
        }
        bytes.truncate(filled);
        bytes
    }

    /// Reads what is available. Suspending or tracing the machine can interrupt a read with a timeout, so this retries.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Reads one HTTP/2 frame: its type, flags and payload.
    pub fn receive_frame(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let header = self.receive(9);
        let [a, b, c, kind, flags, ..] = *header.as_slice() else { return None };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = self.receive(length);
        (payload.len() == length).then_some((kind, flags, payload))
    }

    /// Reads the preface.
    pub fn read_preface(&mut self) {
        self.receive(PREFACE.len());
    }

    /// Reads the preface, sends SETTINGS, and reads the whole request.
    pub fn take_request(&mut self) {
        self.read_preface();
        self.send(frames::settings(&[]));
        self.await_request();
    }

    /// Reads until the request has ended. The result is whether it came.
    pub fn await_request(&mut self) -> bool {
        while let Some((kind, flags, _)) = self.receive_frame() {
            if matches!(kind, frames::DATA | frames::HEADERS) && flags & frames::END_STREAM != 0 {
                return true;
            }
        }
        false
    }

    /// Reads and drops until the probe closes.
    pub fn drain(&mut self) {
        let mut bytes = [0; 4096];
        while matches!(self.read(&mut bytes), Ok(1..)) {}
    }

    /// Waits until the probe closes, and reads nothing: what it sends stays in the socket.
    pub fn await_close(&mut self) {
        let limit = Timespec { tv_sec: MAX_WAIT.as_secs().cast_signed(), tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&self.stream, PollFlags::RDHUP)], Some(&limit));
    }

    /// Everything that the probe sends until it closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Resets the connection, now.
    pub fn reset(&mut self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("TCP has this option");
        // The connection closes when the script ends.
    }

    /// Closes our side.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The TCP stream, for TLS over it.
    pub fn stream(&self) -> TcpStream {
        self.stream.try_clone().expect("the limit on open files is not reached")
    }
}
