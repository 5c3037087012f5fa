//! Unix sockets, by path or in Linux's abstract namespace.

use std::{
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::io::Errno;
use tokio::{net::UnixStream, time::sleep};

use super::stream::{Io, Stream};
use crate::{
    deadline::Deadline,
    outcome::{Failure, Kind, Phase, Retry},
    text::io_cause,
    trace::Trace,
};

/// How long to wait before the next attempt while the server's queue is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

impl Io for UnixStream {}

/// Connects to a unix socket. A path that begins with a zero byte is a name in the abstract namespace. `target` is the
/// address as the user gave it.
///
/// # Errors
/// Those of the phase connect.
pub(super) async fn connect(target: &str, path: PathBuf, deadline: Deadline, trace: &Trace) -> Result<Stream, Failure> {
    let started = trace.begin(Phase::Connect);
    match deadline.bound(connect_with_room(&path)).await {
        Ok(Ok(stream)) => {
            trace.set_peer(target.to_owned());
            trace.end(Phase::Connect, started, || target.to_owned());
            Ok(Box::new(stream))
        }
        Ok(Err(error)) => Err(failure(target, &path, &error)),
        Err(_) => {
            let message = format!("connecting to {target} timed out after {}", deadline.limit());
            Err(Failure::new(Kind::ConnectTimeout, message + ": the server accepts no more connections"))
        }
    }
}

/// Connects as soon as the server's queue has room. A non-blocking socket gives no event for that.
async fn connect_with_room(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(QUEUE_PAUSE).await,
            ended => return ended,
        }
    }
}

fn failure(target: &str, path: &Path, error: &io::Error) -> Failure {
    let failure = |kind, cause: &str| Failure::new(kind, format!("cannot connect to {target}: {cause}"));
    let is_socket = fs::metadata(path).map(|metadata| metadata.file_type().is_socket());
    match error.kind() {
        io::ErrorKind::NotFound => failure(Kind::SocketMissing, "no such file")
            .hint(port_of(path).unwrap_or("is the server up, and is the directory of its socket mounted here?"))
            .retry(Retry::WhileConnecting),
        io::ErrorKind::ConnectionRefused if matches!(is_socket, Ok(false)) => {
            failure(Kind::NotASocket, "it is not a socket")
        }
        io::ErrorKind::ConnectionRefused => failure(Kind::ConnectionRefused, "connection refused")
            .hint("no server listens on this socket; is it up?")
            .retry(Retry::WhileConnecting),
        io::ErrorKind::PermissionDenied => failure(Kind::PermissionDenied, "permission denied")
            .hint("the probe's user needs to write to the socket and to enter its directory"),
        _ if Errno::from_io_error(error) == Some(Errno::PROTOTYPE) => {
            failure(Kind::NotASocket, "it is a datagram socket, not a stream")
        }
        // As macOS says it.
        _ if Errno::from_io_error(error) == Some(Errno::NOTSOCK) => failure(Kind::NotASocket, "it is not a socket"),
        io::ErrorKind::NotADirectory => failure(Kind::SocketMissing, "a part of its path is not a directory"),
        _ => failure(Kind::ConnectFailed, &io_cause(error)),
    }
}

/// The hint for a path that ends as `host:port` does.
fn port_of(path: &Path) -> Option<&'static str> {
    let (_, port) = path.to_str()?.rsplit_once(':')?;
    port.parse::<u16>().ok().map(|_| "a unix socket has no port; leave it out")
}
