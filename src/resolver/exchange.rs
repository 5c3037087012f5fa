//! One question to one name server: UDP first, TCP where the answer does not fit or the settings say so (RFC 7766).

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustls::crypto::ring;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use super::{
    exchange_log::{Outcome, RecordType, Trace},
    message::{DomainName, Query, Received},
};
use crate::text::io_cause;

/// An answer to a query without EDNS has at most 512 bytes. Some servers send more.
const MAX_DATAGRAM: usize = 4096;

/// A name to look up, as text and in wire format.
pub(super) struct Question {
    pub(super) text: String,
    pub(super) name: DomainName,
}

/// Sends a question to one name server and waits for its answer, without a deadline of its own. Port and ID of each query
/// are random (RFC 5452, section 9.2).
pub(super) async fn exchange(
    server: SocketAddr,
    question: &Question,
    record_type: RecordType,
    over_tcp: bool,
    trace: &Trace,
) -> Outcome {
    let index = trace.begin(server, &question.text, record_type, over_tcp);
    let outcome = match random() {
        Some(id) => {
            let query = Query::new(&question.name, record_type, id);
            let asked = if over_tcp {
                tcp(server, &query, index, trace).await
            } else {
                udp(server, &query, index, trace).await
            };
            asked.unwrap_or_else(|error| outcome_of(&error))
        }
        None => Outcome::Error("the system gives no random numbers".to_owned()),
    };
    trace.end(index, &outcome);
    outcome
}

/// An unpredictable number.
pub(super) fn random() -> Option<u16> {
    let mut bytes = [0; 2];
    ring::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(u16::from_ne_bytes(bytes))
}

async fn udp(server: SocketAddr, query: &Query, index: usize, trace: &Trace) -> io::Result<Outcome> {
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    // On a connected socket the kernel drops datagrams from other addresses and reports ICMP errors.
    socket.connect(server).await?;
    socket.send(query.as_slice()).await?;
    let mut packet = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut packet).await?;
        match query.read(&packet[..length]) {
            Received::Answer(outcome) => return Ok(outcome),
            Received::Truncated => {
                trace.update(index, |exchange| {
                    exchange.over_tcp = true;
                    exchange.outcome = Outcome::Silent;
                });
                return tcp(server, query, index, trace).await;
            }
            // Perhaps forged. The real answer may still arrive.
            Received::Unrelated => trace.update(index, |exchange| exchange.outcome = Outcome::Unrelated),
            Received::Malformed => trace.update(index, |exchange| exchange.outcome = Outcome::Malformed),
        }
    }
}

async fn tcp(server: SocketAddr, query: &Query, index: usize, trace: &Trace) -> io::Result<Outcome> {
    let mut stream = TcpStream::connect(server).await?;
    // Length and message in one segment (RFC 7766, section 8).
    let message = query.as_slice();
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    loop {
        let length = stream.read_u16().await?;
        let mut packet = vec![0; length.into()];
        stream.read_exact(&mut packet).await?;
        match query.read(&packet) {
            Received::Answer(outcome) => return Ok(outcome),
            // After TCP there is no other way to get the whole answer.
            Received::Truncated | Received::Malformed => return Ok(Outcome::Malformed),
            Received::Unrelated => trace.update(index, |exchange| exchange.outcome = Outcome::Unrelated),
        }
    }
}

fn outcome_of(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Outcome::Refused,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        // A link-local address without its zone.
        | io::ErrorKind::InvalidInput => Outcome::Unreachable,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            Outcome::Closed
        }
        io::ErrorKind::TimedOut => Outcome::Silent,
        _ => Outcome::Error(io_cause(error)),
    }
}
