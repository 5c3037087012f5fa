//! The phase resolve: turns a name into the addresses to try, or into a failure that says what each name server did.

use std::net::SocketAddr;

use super::tcp::list;
#[cfg(not(unix))]
use crate::text::io_cause;
use crate::{
    deadline::Deadline,
    duration::{format_duration, to_microseconds},
    outcome::{Failure, Kind, Phase, Retry},
    resolver::{self, Cause, Findings, Lookup, Source, Unresolved},
    trace::Trace,
};

/// Resolves a name to the addresses to try, in their order.
///
/// # Errors
/// Those of the phase resolve.
pub(super) async fn resolve(
    name: &str,
    port: u16,
    deadline: Deadline,
    trace: &Trace,
) -> Result<Vec<SocketAddr>, Failure> {
    let started = trace.begin(Phase::Resolve);
    // Boxed, to keep the future of a probe without a lookup small.
    match Box::pin(resolver::lookup(name, port, deadline)).await {
        Ok(Lookup { addresses, findings }) => {
            let addresses = interleave(addresses);
            trace.end(Phase::Resolve, started, || {
                let source = if findings.source == Source::HostsFile { ", from /etc/hosts" } else { "" };
                format!("{name} is {}{source}", list(&addresses))
            });
            Ok(addresses)
        }
        Err(unresolved) => {
            trace_questions(&unresolved, trace);
            Err(failure(name, &unresolved, deadline))
        }
    }
}

/// Traces each question to each name server, if the failure alone does not show what happened.
fn trace_questions(unresolved: &Unresolved, trace: &Trace) {
    if !matches!(unresolved.cause, Cause::NoUsableAnswer | Cause::TimedOut) || !trace.is_followed() {
        return;
    }
    let Findings { exchanges, search, .. } = &unresolved.findings;
    if !search.is_empty() {
        trace.note(Phase::Resolve, || format!("search domains: {}", search.join(", ")));
    }
    for exchange in exchanges {
        let took = format_duration(to_microseconds(exchange.took));
        trace.note(Phase::Resolve, || format!("{exchange} ({took})"));
    }
}

const WITHOUT_SERVERS: &str = "without name servers in /etc/resolv.conf, 127.0.0.1 is asked; an address needs none";

/// Turns the findings of the resolver into a failure.
fn failure(name: &str, unresolved: &Unresolved, deadline: Deadline) -> Failure {
    let Unresolved { cause, findings } = unresolved;
    let servers = resolver::summary(&findings.exchanges);
    let failure = |kind, cause: &str| Failure::new(kind, format!("cannot resolve {name:?}: {cause}"));
    match cause {
        // In Docker and Kubernetes a name appears when its container is ready.
        Cause::NoSuchHost if name.contains('.') => {
            failure(Kind::NameNotFound, "no such host").retry(Retry::WhileConnecting)
        }
        // The search domains of a pod.
        Cause::NoSuchHost if findings.search.iter().any(|domain| domain.starts_with("svc.")) => {
            failure(Kind::NameNotFound, "no such host")
                .hint("is there a Service of this name in this namespace? one in another is written name.namespace")
                .retry(Retry::WhileConnecting)
        }
        Cause::NoSuchHost => failure(Kind::NameNotFound, "no such host")
            .hint("if it is a container's name, both must share a network (not the engine's default bridge)")
            .retry(Retry::WhileConnecting),
        Cause::NoAddress => failure(Kind::NameNotFound, "it has no address").retry(Retry::WhileConnecting),
        Cause::NoSuchInterface => failure(Kind::NameNotFound, "no such network interface"),
        Cause::NoUsableAnswer => {
            let failure = match &findings.without_servers {
                Some(reason) => failure(Kind::ResolveFailed, &format!("{servers}; {reason}")).hint(WITHOUT_SERVERS),
                None => failure(Kind::ResolveFailed, &servers)
                    .hint("the name servers in /etc/resolv.conf gave no usable answer"),
            };
            failure.retry(Retry::WhileConnecting)
        }
        Cause::TimedOut => {
            let reasons: Vec<&str> = [Some(servers.as_str()), findings.without_servers.as_deref()]
                .into_iter()
                .flatten()
                .filter(|reason| !reason.is_empty())
                .collect();
            let limit = deadline.limit();
            let message = match reasons.join("; ") {
                reasons if reasons.is_empty() => format!("resolving {name:?} timed out after {limit}"),
                reasons => format!("resolving {name:?} timed out after {limit}: {reasons}"),
            };
            Failure::new(Kind::ResolveTimeout, message).hint(match findings.without_servers {
                Some(_) => WITHOUT_SERVERS,
                None => "are the name servers in /etc/resolv.conf reachable from here?",
            })
        }
        #[cfg(not(unix))]
        Cause::System(error) => failure(Kind::ResolveFailed, &io_cause(error)).retry(Retry::WhileConnecting),
    }
}

/// Alternates the address families and keeps the resolver's order within each (RFC 8305, section 4).
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
