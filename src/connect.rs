//! From a target to an open stream: name resolution, then TCP with all addresses raced (RFC 8305), or a unix socket.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};

use crate::{
    config::Config,
    deadline::{Deadline, Unfinished},
    journal::Journal,
    outcome::{Failure, Kind, Phase, Retry},
    target::{Endpoint, Host},
    text::{lower_first, plain},
};

/// How long an attempt runs alone before the next address is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What bytes go through: TCP, a unix socket, or TLS over either.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// An open stream to the server, of whichever kind.
pub(crate) type Stream = Box<dyn Io>;

/// Opens a stream to the configured target.
///
/// # Errors
/// Everything of the phases resolve and connect.
pub(crate) async fn connect(config: &Config, deadline: Deadline, journal: &Journal) -> Result<Stream, Failure> {
    match &config.target.endpoint {
        Endpoint::Tcp(host, port) => {
            let addresses = addresses(host, *port, deadline, journal).await?;
            race(config, addresses, deadline, journal).await
        }
        #[cfg(unix)]
        Endpoint::Unix(path) => unix::open(config, path.clone(), deadline, journal).await,
        #[cfg(unix)]
        Endpoint::Abstract(name) => unix::open(config, format!("\0{name}").into(), deadline, journal).await,
        #[cfg(not(unix))]
        Endpoint::Unix(_) | Endpoint::Abstract(_) => {
            Err(Failure::new(Kind::Usage, "unix sockets are not supported on this system"))
        }
    }
}

/// Each endpoint that the configured target stands for, with its address.
///
/// # Errors
/// Everything of the phase resolve.
pub(crate) async fn endpoints(
    config: &Config,
    deadline: Deadline,
    journal: &Journal,
) -> Result<Vec<(String, Endpoint)>, Failure> {
    let Endpoint::Tcp(host, port) = &config.target.endpoint else {
        return Ok(vec![(config.address.clone(), config.target.endpoint.clone())]);
    };
    let mut addresses = addresses(host, *port, deadline, journal).await?;
    addresses.sort_unstable();
    addresses.dedup();
    if *host == Host::Loopback && addresses.iter().any(|address| is_own(address.ip())) {
        // A machine without IPv6 has no such loopback.
        addresses.retain(|address| is_own(address.ip()));
    }
    let endpoint = |address: SocketAddr| {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Host::Name(format!("{}%{}", v6.ip(), v6.scope_id())),
            _ => Host::Ip(address.ip()),
        };
        (address.to_string(), Endpoint::Tcp(host, *port))
    };
    Ok(addresses.into_iter().map(endpoint).collect())
}

/// The addresses of a host, in the order to try them in.
async fn addresses(host: &Host, port: u16, deadline: Deadline, journal: &Journal) -> Result<Vec<SocketAddr>, Failure> {
    let addresses = match host {
        Host::Loopback => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Host::Ip(address) => vec![*address],
        Host::Name(name) => return resolve(name, port, deadline, journal).await,
    };
    Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

async fn resolve(name: &str, port: u16, deadline: Deadline, journal: &Journal) -> Result<Vec<SocketAddr>, Failure> {
    let begun = journal.begin(Phase::Resolve);
    let addresses = match lookup(name, port, deadline).await {
        Ok(Ok(addresses)) if addresses.is_empty() => {
            return Err(Failure::new(Kind::NameNotFound, format!("cannot resolve {name:?}: it has no address")));
        }
        Ok(Ok(addresses)) => interleave(addresses),
        Ok(Err(error)) => return Err(resolve_failure(name, &error)),
        Err(Unfinished::Elapsed) => {
            let message = format!("resolving {name:?} timed out after {}", deadline.limit());
            return Err(Failure::new(Kind::ResolveTimeout, message)
                .hint("no answer from the name servers in /etc/resolv.conf; are they reachable from here?"));
        }
        Err(Unfinished::NoThread(error)) => {
            let message = format!("cannot resolve {name:?}: no thread to resolve on: {}", plain(&error));
            return Err(Failure::new(Kind::ResolveFailed, message).hint("an address in place of the name needs none"));
        }
    };
    journal.end(Phase::Resolve, begun, || format!("{name} is {}", list(&addresses)));
    Ok(addresses)
}

/// Asks getaddrinfo, which blocks, so it gets a thread.
async fn lookup(name: &str, port: u16, deadline: Deadline) -> Result<io::Result<Vec<SocketAddr>>, Unfinished> {
    let query = (name.to_owned(), port);
    deadline.bound_blocking(move || query.to_socket_addrs().map(Vec::from_iter)).await
}

/// The border where text is all there is: the standard library gives getaddrinfo's answer as a sentence only.
fn resolve_failure(name: &str, error: &io::Error) -> Failure {
    if error.raw_os_error().is_some() {
        let message = format!("cannot resolve {name:?}: {}", plain(error));
        return Failure::new(Kind::ResolveFailed, message).retry(Retry::WhileConnecting);
    }
    let text = error.to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    // EAI_NONAME and EAI_NODATA of glibc, of musl, of macOS and BSD, and WSAHOST_NOT_FOUND.
    let not_found = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
        "nodename nor servname provided, or not known",
        "No such host is known",
    ];
    if not_found.iter().any(|sentence| reason.starts_with(sentence)) {
        if name.contains('%') {
            return Failure::new(Kind::NameNotFound, format!("cannot resolve {name:?}: no such network interface"));
        }
        let failure = Failure::new(Kind::NameNotFound, format!("cannot resolve {name:?}: no such host"));
        return if name.contains('.') {
            failure
        } else {
            failure.hint("in Docker, both containers must share a network for this name to exist")
        };
    }
    Failure::new(Kind::ResolveFailed, format!("cannot resolve {name:?}: {}", lower_first(reason)))
        .hint("the name servers in /etc/resolv.conf gave no usable answer")
        .retry(Retry::WhileConnecting)
}

/// Alternates the address families, the resolver's order kept within each (RFC 8305, section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else { return addresses };
    let (same, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    let mut other = other.into_iter();
    let mut mixed = Vec::new();
    for address in same {
        mixed.push(address);
        mixed.extend(other.next());
    }
    mixed.extend(other);
    mixed
}

/// Connects to the first of the addresses that answers. A refusal starts the next attempt at once, silence after
/// [`ATTEMPT_DELAY`].
async fn race(
    config: &Config,
    addresses: Vec<SocketAddr>,
    deadline: Deadline,
    journal: &Journal,
) -> Result<Stream, Failure> {
    let begun = journal.begin(Phase::Connect);
    let mut attempts = JoinSet::new();
    let mut failed: Vec<(SocketAddr, io::Error)> = Vec::new();
    let mut untried = addresses.iter().copied();
    let run = async {
        loop {
            if let Some(address) = untried.next() {
                attempts.spawn(async move { (address, TcpStream::connect(address).await) });
            }
            let is_last = untried.len() == 0;
            // Until it is the next address's turn.
            loop {
                tokio::select! {
                    Some(ended) = attempts.join_next() => match ended {
                        Ok((address, Ok(stream))) => return Some((address, stream)),
                        Ok((address, Err(error))) => {
                            journal.note(Phase::Connect, || format!("{address}: {}", plain(&error)));
                            failed.push((address, error));
                            if !is_last { break }
                            if attempts.is_empty() { return None }
                        }
                        // An attempt neither panics nor is cancelled before the race is over.
                        Err(_) => return None,
                    },
                    () = sleep(ATTEMPT_DELAY), if !is_last => break,
                }
            }
        }
    };
    match deadline.bound(run).await {
        Ok(Some((address, stream))) => {
            // Small frames go out at once; a socket that refuses the option only gets slower.
            let _ = stream.set_nodelay(true);
            journal.set_peer(address.to_string());
            journal.end(Phase::Connect, begun, || address.to_string());
            Ok(Box::new(stream))
        }
        Ok(None) => Err(refused(config, failed)),
        Err(_) => {
            let tried = &addresses[..addresses.len() - untried.len()];
            Err(unanswered(config, tried, &failed, deadline))
        }
    }
}

/// All addresses failed: the kind is that of the most telling cause, and each is named where they differ.
fn refused(config: &Config, mut failed: Vec<(SocketAddr, io::Error)>) -> Failure {
    let address = &config.address;
    let by_weight = [
        Kind::ClosedEarly,
        Kind::ConnectionRefused,
        Kind::ConnectTimeout,
        Kind::PermissionDenied,
        Kind::Unreachable,
        Kind::ConnectFailed,
    ];
    let has = |kind: &Kind| failed.iter().any(|(_, error)| kind_of(error) == *kind);
    let kind = by_weight.into_iter().find(has).unwrap_or(Kind::ConnectFailed);
    if kind != Kind::Unreachable {
        // Where a host has no IPv6, or no IPv4, its addresses of that family tell nothing.
        failed.retain(|(_, error)| kind_of(error) != Kind::Unreachable);
    }
    let causes: Vec<String> = failed.iter().map(|(_, error)| plain(error)).collect();
    let cause = match (failed.as_slice(), causes.as_slice()) {
        ([(only, _)], [cause]) if only.to_string() == *address => cause.clone(),
        (_, [first, rest @ ..]) if rest.iter().all(|cause| cause == first) => {
            let addresses: Vec<SocketAddr> = failed.iter().map(|(address, _)| *address).collect();
            format!("{first} ({})", list(&addresses))
        }
        _ => {
            let each = failed.iter().zip(&causes).take(8).map(|((address, _), cause)| format!("{address}: {cause}"));
            each.collect::<Vec<_>>().join("; ")
        }
    };
    let failure = Failure::new(kind, format!("cannot connect to {address}: {cause}"));
    match kind {
        Kind::ClosedEarly if config.tls.is_some() => {
            let message = format!("TLS handshake with {address} failed: the connection broke: {cause}");
            Failure::new(Kind::TlsFailed, message).retry(Retry::WhileConnecting)
        }
        Kind::ClosedEarly => {
            let message = format!("no HTTP/2 from {address}: the connection broke: {cause}");
            Failure::new(kind, message).hint("is this the gRPC port?").retry(Retry::WhileConnecting)
        }
        Kind::ConnectionRefused => {
            let hint = if failed.iter().all(|(address, _)| address.ip().is_loopback()) {
                "nothing listens there; is the server up, and on this port?"
            } else {
                "nothing listens there; is the server up, on this port, and not on its 127.0.0.1 alone?"
            };
            failure.hint(hint).retry(Retry::WhileConnecting)
        }
        Kind::Unreachable => failure.hint("no route to it from here; do both share a network?"),
        Kind::PermissionDenied => failure.hint("a firewall rule or a security policy on this machine forbids it"),
        _ => failure,
    }
}

/// What to do where this machine refused on an address of its own and takes connections on another: a server that listens
/// on one interface, or in one address family, alone. In a container no other tool is there to tell.
pub(crate) async fn listens_elsewhere(config: &Config, deadline: Deadline) -> Option<String> {
    let Endpoint::Tcp(host, port) = &config.target.endpoint else { return None };
    let dialled = match host {
        Host::Loopback => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Host::Ip(address) => vec![*address],
        Host::Name(name) => lookup(name, *port, deadline).await.ok()?.ok()?.iter().map(SocketAddr::ip).collect(),
    };
    if !dialled.iter().copied().any(is_own) {
        return None;
    }
    for other in own_addresses().into_iter().filter(|other| !dialled.contains(other)) {
        let other = SocketAddr::new(other, *port);
        if matches!(deadline.bound(TcpStream::connect(other)).await, Ok(Ok(_))) {
            return Some(format!(
                "{other} takes connections; should the server listen on all addresses, or be asked there?"
            ));
        }
    }
    None
}

/// Whether an address is this machine's. A datagram socket that is connected sends nothing; it only finds its way.
fn is_own(address: IpAddr) -> bool {
    own_address_towards(address) == Some(address)
}

/// Loopback, and what this machine uses towards others.
fn own_addresses() -> Vec<IpAddr> {
    // Of the networks kept for documentation (RFC 5737, RFC 3849).
    let others = [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    loopback.into_iter().chain(others.into_iter().filter_map(own_address_towards)).collect()
}

fn own_address_towards(other: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if other.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn unanswered(
    config: &Config,
    tried: &[SocketAddr],
    failed: &[(SocketAddr, io::Error)],
    deadline: Deadline,
) -> Failure {
    let silent: Vec<SocketAddr> =
        tried.iter().filter(|address| failed.iter().all(|(failed, _)| failed != *address)).copied().collect();
    let mut message = format!("connecting to {} timed out after {}", config.address, deadline.limit());
    if silent.len() > 1 || silent.iter().any(|address| address.to_string() != config.address) {
        message += &format!(": no answer from {}", list(&silent));
    } else {
        message += ": no answer";
    }
    Failure::new(Kind::ConnectTimeout, message)
        .hint("is it the right address? a firewall, or a server that accepts no more connections, is silent too")
}

fn kind_of(error: &io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Kind::ConnectionRefused,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        // EINVAL: a route that swallows, as some container networks have.
        | io::ErrorKind::InvalidInput => Kind::Unreachable,
        io::ErrorKind::TimedOut => Kind::ConnectTimeout,
        // The server, or a proxy before it, took the connection and broke it before we could look.
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Kind::ClosedEarly,
        io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
        io::ErrorKind::NotFound => Kind::SocketMissing,
        _ => Kind::ConnectFailed,
    }
}

/// At most eight addresses in one line.
fn list(addresses: &[SocketAddr]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = addresses.iter().take(SHOWN).map(ToString::to_string).collect();
    if addresses.len() > SHOWN {
        shown.push(format!("{} more", addresses.len() - SHOWN));
    }
    shown.join(", ")
}

#[cfg(unix)]
mod unix {
    use std::{
        fs,
        os::unix::fs::FileTypeExt,
        path::{Path, PathBuf},
    };

    use tokio::net::UnixStream;

    use super::{Config, Deadline, Duration, Failure, Journal, Kind, Phase, Retry, Stream, io, plain, sleep};

    /// How long to wait for room in a full queue.
    const QUEUE_PAUSE: Duration = Duration::from_millis(20);

    /// Connects to a unix socket; a path that begins with a zero byte is a name in the abstract namespace.
    pub(super) async fn open(
        config: &Config,
        path: PathBuf,
        deadline: Deadline,
        journal: &Journal,
    ) -> Result<Stream, Failure> {
        let begun = journal.begin(Phase::Connect);
        match deadline.bound(connect_when_taken(&path)).await {
            Ok(Ok(stream)) => {
                journal.set_peer(config.address.clone());
                journal.end(Phase::Connect, begun, || config.address.clone());
                Ok(Box::new(stream))
            }
            Ok(Err(error)) => Err(failure(config, &path, &error)),
            Err(_) => {
                let message = format!("connecting to {} timed out after {}", config.address, deadline.limit());
                Err(Failure::new(Kind::ConnectTimeout, message + ": the server accepts no more connections"))
            }
        }
    }

    /// Connects, once the server's queue has room. Who does not block is not told when that is.
    async fn connect_when_taken(path: &Path) -> io::Result<UnixStream> {
        loop {
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(QUEUE_PAUSE).await,
                ended => return ended,
            }
        }
    }

    fn failure(config: &Config, path: &Path, error: &io::Error) -> Failure {
        /// `EPROTOTYPE` of Linux: a socket, but not a stream.
        const WRONG_PROTOCOL_TYPE: i32 = 91;

        let address = &config.address;
        let failure = |kind, cause: &str| Failure::new(kind, format!("cannot connect to {address}: {cause}"));
        let is_socket = fs::metadata(path).map(|metadata| metadata.file_type().is_socket());
        match error.kind() {
            io::ErrorKind::NotFound => failure(Kind::SocketMissing, "no such file")
                .hint("is the server up, and is the directory of its socket mounted here?")
                .retry(Retry::WhileConnecting),
            io::ErrorKind::ConnectionRefused if matches!(is_socket, Ok(false)) => {
                failure(Kind::NotASocket, "it is not a socket")
            }
            io::ErrorKind::ConnectionRefused => failure(Kind::ConnectionRefused, "connection refused")
                .hint("no server listens on this socket; is it up?")
                .retry(Retry::WhileConnecting),
            io::ErrorKind::PermissionDenied => failure(Kind::PermissionDenied, "permission denied")
                .hint("the probe's user needs to write to the socket and to enter its directory"),
            _ if error.raw_os_error() == Some(WRONG_PROTOCOL_TYPE) => {
                failure(Kind::NotASocket, "it is a datagram socket, not a stream")
            }
            io::ErrorKind::NotADirectory => failure(Kind::SocketMissing, "a part of its path is not a directory"),
            _ => failure(Kind::ConnectFailed, &plain(error)),
        }
    }
}
