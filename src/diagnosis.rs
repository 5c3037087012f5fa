//! Looks for the cause of a failure: after a failed probe, on this machine; with `-diagnose`, on the whole way to the server. Each
//! step is a function that returns what it found. It judges nothing: the plain probe does.

mod address;
mod advice;
mod certificate;
mod command_line;
mod connections;
mod facts;
mod health;
mod http2;
mod listeners;
mod machine;
mod names;
mod protocol;
#[cfg(unix)]
mod socket_path;
mod time;
mod verdict;

use std::{net::SocketAddr, time::Duration};

use tokio::time::Instant;

pub(crate) use self::{
    address::Address,
    advice::{Advice, Basis, of as advise},
    certificate::Certificate,
    command_line::{Argument, CommandLine, shell_word},
    connections::{Attempt, Place, try_each},
    facts::Facts,
    health::{Health, Service, of_verdicts},
    http2::Http2,
    machine::{Machine, look as look_at_machine},
    names::{Names, look as look_up},
    protocol::{Looks, Protocol, TlsAlone, Way, look as look_at},
    time::share,
    verdict::{Verdict, of as judge},
};
use crate::{
    deadline::Deadline,
    net::{self, Endpoint, Target},
    outcome::{Failure, Kind},
    text::listed,
};

/// How long to look for a server on this machine's other addresses.
const LIMIT: Duration = Duration::from_millis(50);
/// How many listening sockets a hint names.
const MAX_NAMED: usize = 8;

/// Improves the hint of a refused connection, if a server accepts connections on another address or port of this machine.
pub(crate) async fn explain(failure: &mut Failure, target: &Target) {
    if failure.kind != Kind::ConnectionRefused {
        return;
    }
    let Endpoint::Tcp(_, port) = target.endpoint else { return };
    let deadline = Deadline::new(Instant::now(), LIMIT);
    match net::listening_elsewhere(&target.endpoint, deadline).await {
        net::Elsewhere::At(other) => failure.hint = Some(accepts_connections(other)),
        net::Elsewhere::NotHere => {
            let Some(listening) = listeners::tcp().filter(|all| !all.is_empty()) else { return };
            // This machine may have addresses that it sends nothing from, such as 127.0.0.2.
            let other = listening.iter().find(|other| other.port() == port && !other.ip().is_unspecified());
            failure.hint =
                Some(other.map_or_else(|| nothing_on(port, &listening), |other| accepts_connections(*other)));
        }
        net::Elsewhere::NotOurs => {}
    }
}

/// The hint where a server listens on another address of this machine.
fn accepts_connections(other: SocketAddr) -> String {
    format!("{other} accepts connections: probe that address, or let the server listen on all addresses")
}

/// The hint where something listens on this machine, but not on this port.
fn nothing_on(port: u16, listening: &[SocketAddr]) -> String {
    let mut nearest = listening.to_vec();
    listeners::sort_by_distance(&mut nearest, port);
    let shown: Vec<String> = nearest.iter().take(MAX_NAMED).map(ToString::to_string).collect();
    let more = listening.len().checked_sub(MAX_NAMED).filter(|more| *more > 0);
    format!("nothing listens on port {port} here, but on {}; is the server up, and on this port?", listed(&shown, more))
}
