//! Records what each name server did, for the trace and for failure messages.
#![cfg_attr(not(unix), allow(dead_code))]

use std::{cell::RefCell, fmt, net::IpAddr, net::SocketAddr, time::Duration};

use tokio::time::Instant;

/// The record types of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordType {
    A,
    Aaaa,
}

/// One question to one name server, and its outcome.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) server: SocketAddr,
    pub(crate) name: String,
    pub(crate) record_type: RecordType,
    pub(crate) over_tcp: bool,
    pub(crate) outcome: Outcome,
    /// The time until the outcome, or how long the server was silent.
    pub(crate) took: Duration,
}

/// What a name server did with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Addresses(Vec<IpAddr>),
    /// The name exists, without records of this type.
    NoAddress,
    /// The name does not exist (RFC 8020: for no type).
    NoSuchName,
    /// A response code that says nothing about the name, such as SERVFAIL.
    Failure(String),
    /// The server has no answer and does not ask other servers.
    NoRecursion,
    /// No answer so far.
    Silent,
    /// Only messages that do not answer the question.
    Unrelated,
    /// Only messages that cannot be parsed.
    Malformed,
    Refused,
    Unreachable,
    /// The server closed the TCP connection before the answer.
    Closed,
    /// The system could not send the question.
    Error(String),
}

impl Outcome {
    /// Whether it settles which addresses of this type the name has.
    pub(crate) fn is_conclusive(&self) -> bool {
        matches!(self, Self::Addresses(_) | Self::NoAddress | Self::NoSuchName)
    }

    /// Whether the name server answered at all.
    pub(crate) fn is_answer(&self) -> bool {
        self.is_conclusive() || matches!(self, Self::Failure(_) | Self::NoRecursion)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses(addresses) => {
                write!(f, "gave {}", addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            Self::NoAddress => f.write_str("said that it has no such address"),
            Self::NoSuchName => f.write_str("said NXDOMAIN"),
            Self::Failure(code) => write!(f, "said {code}"),
            Self::NoRecursion => f.write_str("offers no recursion"),
            Self::Silent => f.write_str("did not answer"),
            Self::Unrelated => f.write_str("answered another question"),
            Self::Malformed => f.write_str("sent a malformed answer"),
            Self::Refused => f.write_str("refused the connection"),
            Self::Unreachable => f.write_str("is unreachable"),
            Self::Closed => f.write_str("closed the connection"),
            Self::Error(text) => write!(f, "could not be asked: {text}"),
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
        })
    }
}

/// For the trace: `10.0.0.10 did not answer for api.example AAAA (250ms)`, without the time.
impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over_tcp = if self.over_tcp { " over TCP" } else { "" };
        write!(f, "{} {}{over_tcp} for {} {}", shown(&self.server), self.outcome, self.name, self.record_type)
    }
}

/// Records exchanges while they happen, so that those cut short by a deadline are kept.
#[derive(Debug, Default)]
pub(crate) struct Trace(RefCell<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    exchange: Exchange,
    started: Instant,
    is_over: bool,
}

impl Trace {
    /// Records a question before it is sent, and returns the index of the exchange.
    pub(crate) fn begin(&self, server: SocketAddr, name: &str, record_type: RecordType, over_tcp: bool) -> usize {
        let name = name.to_owned();
        let exchange = Exchange { server, name, record_type, over_tcp, outcome: Outcome::Silent, took: Duration::ZERO };
        let mut entries = self.0.borrow_mut();
        entries.push(Entry { exchange, started: Instant::now(), is_over: false });
        entries.len() - 1
    }

    /// Changes an exchange that is not over.
    pub(crate) fn update(&self, index: usize, change: impl FnOnce(&mut Exchange)) {
        if let Some(entry) = self.0.borrow_mut().get_mut(index) {
            change(&mut entry.exchange);
        }
    }

    /// Records the outcome of an exchange.
    pub(crate) fn end(&self, index: usize, outcome: &Outcome) {
        if let Some(entry) = self.0.borrow_mut().get_mut(index) {
            entry.exchange.outcome = outcome.clone();
            entry.exchange.took = entry.started.elapsed();
            entry.is_over = true;
        }
    }

    /// The number of exchanges so far.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// The server of the last exchange, starting at index `first`, whose outcome satisfies `wanted`.
    pub(crate) fn last_server(&self, first: usize, wanted: fn(&Outcome) -> bool) -> Option<SocketAddr> {
        let entries = self.0.borrow();
        entries.iter().skip(first).rev().map(|entry| &entry.exchange).find(|it| wanted(&it.outcome)).map(|it| it.server)
    }

    /// The exchanges, in the order in which they began.
    pub(crate) fn finish(self) -> Vec<Exchange> {
        let finished = |mut entry: Entry| {
            if !entry.is_over {
                entry.exchange.took = entry.started.elapsed();
            }
            entry.exchange
        };
        self.0.into_inner().into_iter().map(finished).collect()
    }
}

/// Describes the name servers that gave no usable answer: `10.0.0.10 did not answer; 10.0.0.11 said SERVFAIL`.
pub(crate) fn summary(exchanges: &[Exchange]) -> String {
    let mut servers: Vec<SocketAddr> = Vec::new();
    for exchange in exchanges {
        if !servers.contains(&exchange.server) {
            servers.push(exchange.server);
        }
    }
    let texts = servers.iter().filter_map(|server| describe_server(*server, exchanges));
    texts.collect::<Vec<_>>().join("; ")
}

/// Describes what one name server did, if it did not answer every question.
fn describe_server(server: SocketAddr, exchanges: &[Exchange]) -> Option<String> {
    let of = |record_type| {
        let its = exchanges.iter().filter(move |it| it.server == server && it.record_type == record_type);
        let is_settled = |it: &Exchange| {
            let same_question = |other: &&Exchange| {
                other.server == server && other.record_type == it.record_type && other.name == it.name
            };
            exchanges.iter().filter(same_question).any(|other| other.outcome.is_conclusive())
        };
        let was_asked = its.clone().next().is_some();
        let open: Vec<&Exchange> = its.filter(|it| !is_settled(it)).collect();
        // Of several tries, the last one with a response, or else the last one.
        let telling = open.iter().rev().find(|it| it.outcome != Outcome::Silent).or(open.last()).copied();
        (was_asked, telling)
    };
    let words = |it: &Exchange| format!("{}{}", it.outcome, if it.over_tcp { " over TCP" } else { "" });
    let (of_a, of_aaaa) = (of(RecordType::A), of(RecordType::Aaaa));
    let text = match (of_a, of_aaaa) {
        ((_, None), (_, None)) => return None,
        ((_, Some(it)), (false, _)) | ((false, _), (_, Some(it))) => words(it),
        ((_, Some(a)), (_, Some(aaaa))) if words(a) == words(aaaa) => words(a),
        ((_, Some(a)), (_, Some(aaaa))) => format!("{} for A and {} for AAAA", words(a), words(aaaa)),
        ((_, Some(it)), _) | (_, (_, Some(it))) => format!("{} for {}", words(it), it.record_type),
    };
    Some(format!("{} {text}", shown(&server)))
}

/// A name server as in `/etc/resolv.conf`: with its port only if that is not 53.
fn shown(server: &SocketAddr) -> String {
    match server {
        _ if server.port() != 53 => server.to_string(),
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        _ => server.ip().to_string(),
    }
}
