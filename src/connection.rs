//! Connections to the target: dial, TLS or ALTS, HTTP/2; at one address or the next, once or again while there is time.

mod next_address;
mod not_connected;
mod retries;
mod second_look;

use std::net::SocketAddr;

use self::not_connected::NotConnected;
pub(crate) use self::retries::Retries;
use crate::{
    alts,
    deadline::Deadline,
    http2::{self, Purpose},
    net::{self, Stream, Target},
    outcome::{Failure, Kind},
    tls,
    trace::Trace,
};

/// How to connect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connector<'a> {
    pub(crate) target: &'a Target,
    pub(crate) security: &'a Security,
    pub(crate) purpose: Purpose,
    /// Whether to retry while the server may be about to start: if the user chose the time to connect.
    pub(crate) keeps_trying: bool,
}

/// How connections are secured.
#[derive(Debug)]
pub(crate) enum Security {
    Plaintext,
    Tls(tls::Client),
    Alts(alts::Client),
}

/// A connection, and its TLS client, which explains later failures.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) http2: http2::Connection,
    handshake: Option<tls::Handshake>,
}

impl Connector<'_> {
    /// Connects. If the user set the time for it, retries transient failures until it is over.
    ///
    /// # Errors
    /// Those of the phases resolve to http2.
    pub(crate) async fn connect(&self, deadline: Deadline, trace: &Trace) -> Result<Connection, Failure> {
        let mut retries = Retries::new(self.keeps_trying, deadline);
        let mut has_looked = false;
        loop {
            let mut not_connected = match self.attempt(deadline, trace).await {
                Ok(connection) => return Ok(connection),
                Err(not_connected) => not_connected,
            };
            let is_over = deadline.remaining().is_zero();
            let furthest = &mut not_connected.furthest;
            if !has_looked && second_look::may_help(&furthest.failure) {
                has_looked = true;
                second_look::explain(&mut furthest.failure, self.target, furthest.address, self.security, deadline)
                    .await;
            }
            retries.after(not_connected.into_failure(self.target, trace), is_over).await?;
        }
    }

    /// Opens one connection.
    ///
    /// # Errors
    /// Those of the phases resolve to http2.
    pub(crate) async fn connect_once(&self, deadline: Deadline, trace: &Trace) -> Result<Connection, Failure> {
        let attempt = self.attempt(deadline, trace).await;
        attempt.map_err(|not_connected| not_connected.into_failure(self.target, trace))
    }

    /// Tries each address of the target until a connection is open.
    async fn attempt(&self, deadline: Deadline, trace: &Trace) -> Result<Connection, NotConnected> {
        trace.begin_attempt();
        let reached = net::connect(self.target, deadline, trace).await;
        let reached = reached.map_err(|failure| self.in_phase_of_break(failure))?;
        if reached.left.is_empty() && reached.failed.is_empty() {
            return Ok(self.open(reached.stream, deadline, trace).await?);
        }
        // Boxed, so that the probe of an address stays small.
        Box::pin(next_address::connect(self, reached, deadline, trace)).await
    }

    /// Opens a connection to one address of several.
    async fn connect_to(&self, address: SocketAddr, deadline: Deadline, trace: &Trace) -> Result<Connection, Failure> {
        let stream = net::connect_to(&self.target.address, address, deadline, trace).await;
        self.open(stream.map_err(|failure| self.in_phase_of_break(failure))?, deadline, trace).await
    }

    /// Opens a connection over a stream.
    async fn open(&self, mut stream: Stream, deadline: Deadline, trace: &Trace) -> Result<Connection, Failure> {
        let target = &self.target.address;
        if matches!(self.purpose, Purpose::Watch) {
            stream.break_when_peer_is_gone();
        }
        let mut handshake = None;
        match self.security {
            Security::Plaintext => {}
            Security::Tls(tls) => {
                let (encrypted, done) = tls.handshake(stream, target, deadline, trace).await?;
                (stream, handshake) = (encrypted, Some(done));
            }
            // Boxed, so that the other probes stay small.
            Security::Alts(alts) => stream = Box::pin(alts.handshake(stream, target, deadline, trace)).await?,
        }
        let is_encrypted = !matches!(self.security, Security::Plaintext);
        let opened = http2::Connection::open(stream, target, is_encrypted, self.purpose, deadline, trace).await;
        match opened {
            Ok(http2) => Ok(Connection { http2, handshake }),
            Err(http2::NotOpened { failure, end, closed_silently }) => {
                if let Security::Alts(alts) = self.security {
                    return Err(alts.late_failure(target, end.as_ref()).unwrap_or(failure));
                }
                let (Security::Tls(tls), Some(handshake)) = (self.security, &handshake) else { return Err(failure) };
                let by_tls = tls.late_failure(handshake, target, end.as_ref(), closed_silently);
                Err(by_tls.unwrap_or_else(|| tls.explain_by_certificate(failure, handshake, target)))
            }
        }
    }

    /// A connection that broke right after it was accepted fails in the next phase.
    fn in_phase_of_break(&self, failure: Failure) -> Failure {
        match (failure.kind, self.security) {
            (Kind::ClosedEarly, Security::Tls(_)) => Failure { kind: Kind::TlsFailed, ..failure },
            (Kind::ClosedEarly, Security::Alts(_)) => Failure { kind: Kind::AltsFailed, ..failure },
            (Kind::ClosedEarly, Security::Plaintext) => failure.hint(http2::IS_THIS_THE_PORT),
            _ => failure,
        }
    }

    /// The cause of a failed request: the failure itself, or what TLS knows about the end of the connection. A server may
    /// reject our certificate only now.
    pub(crate) fn cause_of(&self, failure: Failure, connection: &Connection) -> Failure {
        let (Security::Tls(tls), Some(handshake)) = (self.security, &connection.handshake) else { return failure };
        let target = &self.target.address;
        match failure.kind {
            Kind::StreamBroken => {
                tls.failure_after_settings(handshake, target, connection.http2.end().as_ref()).unwrap_or(failure)
            }
            Kind::HttpStatus => tls.explain_by_certificate(failure, handshake, target),
            _ => failure,
        }
    }
}

/// Each endpoint that the target stands for. With `keeps_trying`, a name that does not resolve yet is looked up again until
/// the deadline.
///
/// # Errors
/// Those of the phase resolve.
pub(crate) async fn every_endpoint(
    target: &Target,
    keeps_trying: bool,
    deadline: Deadline,
    trace: &Trace,
) -> Result<Vec<Target>, Failure> {
    let mut retries = Retries::new(keeps_trying, deadline);
    loop {
        match net::every_endpoint(target, deadline, trace).await {
            Ok(targets) => return Ok(targets),
            Err(failure) => retries.after(failure, deadline.remaining().is_zero()).await?,
        }
    }
}
