//! The second step: which addresses a name has, and who says so.

use std::{net::SocketAddr, time::Duration};

use serde::Serialize;

use super::time::milliseconds;
use crate::{
    deadline::Deadline,
    resolver::{self, Cause, Findings, Lookup, Source, Unresolved},
};

/// How many questions are shown. A name with many search domains makes many.
const MAX_QUESTIONS: usize = 40;

/// What the lookup of a name found.
#[derive(Debug, Serialize)]
pub(crate) struct Names {
    pub(crate) name: String,
    /// Where the addresses come from, or why there are none.
    pub(crate) result: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) addresses: Vec<SocketAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) search: Vec<String>,
    /// Why `/etc/resolv.conf` names no name server, if it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) without_servers: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) questions: Vec<Question>,
}

/// A question to a name server, and what became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Question {
    /// Who did what with which question.
    pub(crate) text: String,
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub(crate) took: Duration,
}

/// Looks the name up.
pub(crate) async fn look(name: &str, port: u16, deadline: Deadline) -> Names {
    let (result, addresses, findings) = match Box::pin(resolver::lookup(name, port, deadline)).await {
        Ok(Lookup { addresses, findings }) => {
            let source = match findings.source {
                Source::Text => "the name says it",
                Source::HostsFile => "from /etc/hosts",
                Source::Dns => "from name servers",
            };
            (source.to_owned(), addresses, findings)
        }
        Err(Unresolved { cause, findings }) => (why(&cause, deadline), Vec::new(), findings),
    };
    let Findings { exchanges, search, without_servers, .. } = findings;
    let questions = exchanges.iter().take(MAX_QUESTIONS);
    let questions = questions.map(|exchange| Question { text: exchange.to_string(), took: exchange.took });
    Names { name: name.to_owned(), result, addresses, search, without_servers, questions: questions.collect() }
}

fn why(cause: &Cause, deadline: Deadline) -> String {
    match cause {
        Cause::NoSuchHost => "no such host".to_owned(),
        Cause::NoAddress => "the name exists and has no address".to_owned(),
        Cause::NoSuchInterface => "no such network interface".to_owned(),
        Cause::NoUsableAnswer => "no name server gave a usable answer".to_owned(),
        Cause::TimedOut => format!("no answer within {}", deadline.limit()),
        #[cfg(not(unix))]
        Cause::System(error) => crate::text::io_cause(error),
    }
}
