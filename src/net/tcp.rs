//! TCP: the addresses of a host are raced (RFC 8305), and a failure says what each of them did.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    own_addresses::is_routed,
    stream::{Io, Reached, Stream},
};
use crate::{
    deadline::Deadline,
    outcome::{Failure, Kind, Phase, Retry},
    text::io_cause,
    trace::Trace,
};

/// How long an attempt runs alone before the next address is tried in parallel (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How long a connection may bring nothing before the system asks whether the peer is there.
#[cfg(unix)]
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
/// How long the system waits before it asks again.
#[cfg(unix)]
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How often the system asks in vain before the connection breaks.
#[cfg(unix)]
const KEEPALIVE_COUNT: u32 = 2;
/// How long sent bytes may stay unacknowledged before the connection breaks, in milliseconds (RFC 5482).
#[cfg(target_os = "linux")]
const USER_TIMEOUT: u32 = 15_000;

impl Io for TcpStream {
    /// By TCP's keepalive and user time-out. An option that the system refuses is not missed until the peer is gone.
    #[cfg(unix)]
    fn break_when_peer_is_gone(&self) {
        use rustix::net::sockopt;

        #[cfg(target_os = "linux")]
        let _ = sockopt::set_tcp_user_timeout(self, USER_TIMEOUT);
        let _ = sockopt::set_tcp_keepidle(self, KEEPALIVE_AFTER);
        let _ = sockopt::set_tcp_keepintvl(self, KEEPALIVE_INTERVAL);
        let _ = sockopt::set_tcp_keepcnt(self, KEEPALIVE_COUNT);
        let _ = sockopt::set_socket_keepalive(self, true);
    }
}

/// Connects to the first address that answers. A refusal starts the next attempt at once, silence after
/// [`ATTEMPT_DELAY`]. `target` is the address as the user gave it.
///
/// # Errors
/// Those of the phase connect.
pub(super) async fn race(
    target: &str,
    addresses: Vec<SocketAddr>,
    deadline: Deadline,
    trace: &Trace,
) -> Result<Reached, Failure> {
    let begun = trace.begin(Phase::Connect);
    let mut attempts = JoinSet::new();
    let mut failed: Vec<(SocketAddr, io::Error)> = Vec::new();
    let mut untried = addresses.iter().copied();
    let run = async {
        loop {
            if let Some(address) = untried.next() {
                attempts.spawn(async move { (address, connect(address).await) });
            }
            let is_last = untried.len() == 0;
            // Until the next address gets its attempt.
            loop {
                tokio::select! {
                    Some(ended) = attempts.join_next() => match ended {
                        Ok((address, Ok(stream))) => return Some((address, stream)),
                        Ok((address, Err(error))) => {
                            trace.note(Phase::Connect, || format!("{address}: {}", cause_of(address, &error)));
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
            let stream = reached(stream, address, begun, trace);
            let mut left = addresses;
            left.retain(|other| *other != address && failed.iter().all(|(failed, _)| failed != other));
            Ok(Reached { stream, address: Some(address), failed, left })
        }
        Ok(None) => Err(all_failed(target, failed)),
        Err(_) => {
            let tried = &addresses[..addresses.len() - untried.len()];
            Err(timed_out(target, tried, &failed, deadline))
        }
    }
}

/// Connects to one address of several. Its failures do not name it.
///
/// # Errors
/// Those of the phase connect.
pub(crate) async fn connect_to(
    target: &str,
    address: SocketAddr,
    deadline: Deadline,
    trace: &Trace,
) -> Result<Stream, Failure> {
    let begun = trace.begin(Phase::Connect);
    match deadline.bound(connect(address)).await {
        Ok(Ok(stream)) => Ok(reached(stream, address, begun, trace)),
        Ok(Err(error)) => Err(failure_at(target, address, &error)),
        Err(_) => Err(no_answer(&format!("connecting to {target} timed out after {}: no answer", deadline.limit()))),
    }
}

/// Connects to an address.
///
/// # Errors
/// Those of the system. A socket that was connected with itself counts as refused: for a port of this machine that nothing
/// listens on, the system may choose that very port to connect from (RFC 9293, section 3.5).
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    if stream.local_addr().is_ok_and(|own| own == address) {
        // A usual end would keep the port from the server for a minute.
        let _ = stream.set_zero_linger();
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// The failure of one address of several, which it does not name.
pub(crate) fn failure_at(target: &str, address: SocketAddr, error: &io::Error) -> Failure {
    failure(target, kind_of(address, error), &cause_of(address, error), address.ip().is_loopback())
}

fn reached(stream: TcpStream, address: SocketAddr, begun: Instant, trace: &Trace) -> Stream {
    // Small frames are sent at once. A socket that refuses the option is only slower.
    let _ = stream.set_nodelay(true);
    trace.set_peer(address.to_string());
    trace.end(Phase::Connect, begun, || address.to_string());
    Box::new(stream)
}

/// The failure when every address failed: its kind is that of the most telling cause, and each address is named where they
/// differ.
fn all_failed(target: &str, mut failed: Vec<(SocketAddr, io::Error)>) -> Failure {
    let most_telling_first = [
        Kind::ClosedEarly,
        Kind::ConnectionRefused,
        Kind::ConnectTimeout,
        Kind::PermissionDenied,
        Kind::NoLocalPort,
        Kind::Unreachable,
        Kind::ConnectFailed,
    ];
    let has = |kind: &Kind| failed.iter().any(|(address, error)| kind_of(*address, error) == *kind);
    let kind = most_telling_first.into_iter().find(has).unwrap_or(Kind::ConnectFailed);
    if kind != Kind::Unreachable {
        // On a host without IPv6, or without IPv4, the failures of that family are irrelevant.
        failed.retain(|(address, error)| kind_of(*address, error) != Kind::Unreachable);
    }
    let causes: Vec<String> = failed.iter().map(|(address, error)| cause_of(*address, error)).collect();
    let cause = match (failed.as_slice(), causes.as_slice()) {
        ([(only, _)], [cause]) if only.to_string() == *target => cause.clone(),
        (_, [first, rest @ ..]) if rest.iter().all(|cause| cause == first) => {
            let addresses: Vec<SocketAddr> = failed.iter().map(|(address, _)| *address).collect();
            format!("{first} ({})", list(&addresses))
        }
        _ => {
            let each = failed.iter().zip(&causes).take(8).map(|((address, _), cause)| format!("{address}: {cause}"));
            each.collect::<Vec<_>>().join("; ")
        }
    };
    failure(target, kind, &cause, failed.iter().all(|(address, _)| address.ip().is_loopback()))
}

fn failure(target: &str, kind: Kind, cause: &str, is_loopback: bool) -> Failure {
    let failure = |cause: &str| Failure::new(kind, format!("cannot connect to {target}: {cause}"));
    match kind {
        // The server, or a proxy in front of it, accepted the connection and reset it at once.
        Kind::ClosedEarly => failure(&format!("the connection broke: {cause}")).retry(Retry::WhileConnecting),
        Kind::ConnectionRefused => {
            let hint = if is_loopback {
                "nothing listens there; is the server up, and on this port?"
            } else {
                "nothing listens there; is the server up, on this port, and not on its 127.0.0.1 alone?"
            };
            failure(cause).hint(hint).retry(Retry::WhileConnecting)
        }
        Kind::NoLocalPort => failure(cause)
            .hint("many connections to it are open or were closed a moment ago; wait, or widen net.ipv4.ip_local_port_range")
            .retry(Retry::WhileConnecting),
        Kind::Unreachable if cause.starts_with(NO_IPV6) => failure(cause).hint("probe an address of IPv4"),
        Kind::Unreachable => failure(cause).hint("no route to it from here; do both share a network?"),
        Kind::PermissionDenied => {
            failure(cause).hint("a firewall rule or a security policy on this machine forbids it")
        }
        _ => failure(cause),
    }
}

fn timed_out(target: &str, tried: &[SocketAddr], failed: &[(SocketAddr, io::Error)], deadline: Deadline) -> Failure {
    let silent: Vec<SocketAddr> =
        tried.iter().filter(|address| failed.iter().all(|(failed, _)| failed != *address)).copied().collect();
    let mut message = format!("connecting to {target} timed out after {}", deadline.limit());
    if silent.len() > 1 || silent.iter().any(|address| address.to_string() != *target) {
        message += &format!(": no answer from {}", list(&silent));
    } else {
        message += ": no answer";
    }
    no_answer(&message)
}

fn no_answer(message: &str) -> Failure {
    Failure::new(Kind::ConnectTimeout, message)
        .hint("is it the right address? a firewall, or a server that accepts no more connections, is silent too")
}

/// The cause where IPv6 is turned off, as in most containers.
const NO_IPV6: &str = "this machine has no IPv6";

/// What the system says, or what it means.
fn cause_of(address: SocketAddr, error: &io::Error) -> String {
    match kind_of(address, error) {
        Kind::NoLocalPort => "this machine has no free port to connect from".to_owned(),
        Kind::Unreachable if error.kind() == io::ErrorKind::AddrNotAvailable && address.is_ipv6() => NO_IPV6.to_owned(),
        _ => io_cause(error),
    }
}

fn kind_of(address: SocketAddr, error: &io::Error) -> Kind {
    match error.kind() {
        // EADDRNOTAVAIL: no address of this machine, or no port at it, to connect from.
        io::ErrorKind::AddrNotAvailable if is_routed(address.ip()) => Kind::NoLocalPort,
        io::ErrorKind::ConnectionRefused => Kind::ConnectionRefused,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        // EINVAL: a blackhole route, as some container networks have.
        | io::ErrorKind::InvalidInput => Kind::Unreachable,
        io::ErrorKind::TimedOut => Kind::ConnectTimeout,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Kind::ClosedEarly,
        io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
        _ => Kind::ConnectFailed,
    }
}

/// Lists at most eight addresses in one line.
pub(crate) fn list(addresses: &[SocketAddr]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = addresses.iter().take(SHOWN).map(ToString::to_string).collect();
    if addresses.len() > SHOWN {
        shown.push(format!("{} more", addresses.len() - SHOWN));
    }
    shown.join(", ")
}
