//! Connections to the target: dial, TLS, HTTP/2; once, or again while there is time.

mod second_look;

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    backoff::Backoff,
    deadline::Deadline,
    http2::{self, Purpose},
    net::{self, Target},
    outcome::{Failure, Kind, Retry},
    tls,
    trace::Trace,
};

/// The first pause between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How to connect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connector<'a> {
    pub(crate) target: &'a Target,
    pub(crate) tls: Option<&'a tls::Client>,
    pub(crate) purpose: Purpose,
    /// Whether to retry while the server may be about to start: if the user chose the time to connect.
    pub(crate) keeps_trying: bool,
}

/// A connection, and what its TLS handshake left open.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) http2: http2::Connection,
    handshake: Option<tls::Handshake>,
}

impl Connector<'_> {
    /// Connects; where the user chose the time for it, again until it is over while the server may be about to start.
    ///
    /// # Errors
    /// Those of the phases resolve to http2.
    pub(crate) async fn connect(&self, deadline: Deadline, trace: &Trace) -> Result<Connection, Failure> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut attempts = 0;
        let mut has_looked = false;
        let mut last: Option<Failure> = None;
        loop {
            let mut failure = match self.connect_once(deadline, trace).await {
                Ok(connection) => return Ok(connection),
                Err(failure) => failure,
            };
            attempts += 1;
            let is_over = deadline.remaining().is_zero();
            if failure.retry == Retry::WhileConnecting && !has_looked {
                has_looked = matches!(failure.kind, Kind::ClosedEarly | Kind::TlsFailed);
                failure = second_look::explain(failure, self.target, self.tls, deadline).await;
            }
            if is_over && let Some(last) = last {
                // An attempt that the deadline cut off in the phase of the previous attempt, or before, tells less.
                if failure.kind.phase() <= last.kind.phase() {
                    failure = last;
                }
                failure.message += &format!(" ({attempts} attempts in {})", deadline.limit());
                return Err(failure);
            }
            if is_over || failure.retry != Retry::WhileConnecting || !self.keeps_trying {
                return Err(failure);
            }
            last = Some(failure);
            sleep(backoff.pause().min(deadline.remaining())).await;
        }
    }

    /// Opens one connection.
    ///
    /// # Errors
    /// Those of the phases resolve to http2.
    pub(crate) async fn connect_once(&self, deadline: Deadline, trace: &Trace) -> Result<Connection, Failure> {
        let target = &self.target.address;
        trace.begin_attempt();
        let stream = net::connect(self.target, deadline, trace).await;
        let mut stream = stream.map_err(|failure| self.in_phase_of_break(failure))?;
        if matches!(self.purpose, Purpose::Watch) {
            stream.break_when_peer_is_gone();
        }
        let mut handshake = None;
        if let Some(tls) = self.tls {
            let (encrypted, done) = tls.handshake(stream, target, deadline, trace).await?;
            (stream, handshake) = (encrypted, Some(done));
        }
        let opened = http2::Connection::open(stream, target, self.tls.is_some(), self.purpose, deadline, trace).await;
        match opened {
            Ok(http2) => Ok(Connection { http2, handshake }),
            Err(http2::NotOpened { failure, end, closed_silently }) => {
                let by_tls = match (self.tls, handshake) {
                    (Some(tls), Some(handshake)) => tls.late_failure(handshake, target, end.as_ref(), closed_silently),
                    _ => None,
                };
                Err(by_tls.unwrap_or(failure))
            }
        }
    }

    /// A connection that broke as soon as it was accepted fails the step that comes next.
    fn in_phase_of_break(&self, failure: Failure) -> Failure {
        match failure.kind {
            Kind::ClosedEarly if self.tls.is_some() => Failure { kind: Kind::TlsFailed, ..failure },
            Kind::ClosedEarly => failure.hint("is this the gRPC port?"),
            _ => failure,
        }
    }

    /// The cause of a failed request: the failure itself, or what TLS knows about the end of the connection. A server may
    /// refuse our certificate only now.
    pub(crate) fn cause_of(&self, failure: Failure, connection: &Connection) -> Failure {
        match (self.tls, connection.handshake) {
            (Some(tls), Some(handshake)) if failure.kind == Kind::StreamBroken => tls
                .late_failure(handshake, &self.target.address, connection.http2.end().as_ref(), false)
                .unwrap_or(failure),
            _ => failure,
        }
    }
}
