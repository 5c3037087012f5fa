//! The ninth step: what is wrong, in one sentence, as the plain probe judges it.

use serde::Serialize;

use super::{connections::Attempt, facts::Facts, health::Service};
use crate::{
    duration::{format_duration, to_microseconds},
    net::{Endpoint, Host, Target},
    outcome::{Failure, Health, Kind, NonEmpty, Phase, ProbeResult, Verdict as Judged, health_of},
    text::service_name,
};

/// How many services and addresses are told.
const MAX_TOLD: usize = 20;
/// How many names a sentence has.
const MAX_NAMES: usize = 8;

/// What the probe says.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// Whether every asked service is SERVING.
    pub(crate) healthy: bool,
    /// Whether the server is alive, if that decides: `-alive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alive: Option<bool>,
    /// The layer that is at fault, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'static str>,
    /// What is wrong, or that all is well.
    pub(crate) message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hints: Vec<String>,
    /// What else is wrong, of several services or addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) others: Vec<String>,
}

/// Words the result of a probe. `wants_life` says that any answer is enough: `-alive`. The facts can add to what the probe's own
/// hint says.
pub(crate) fn of(results: &NonEmpty<ProbeResult>, wants_life: bool, target: &Target, facts: &Facts) -> Verdict {
    let passes = health_of(results) == Health::Healthy;
    let alive = wants_life.then_some(passes);
    let failures: Vec<(String, &Failure)> = results.iter().flat_map(|result| told(result, Judged::failure)).collect();
    let Some(worst) = (0..failures.len()).min_by_key(|index| failures[*index].1.kind.phase()).filter(|_| !passes)
    else {
        let not_serving = results.iter().flat_map(|result| told(result, Judged::not_serving));
        let others: Vec<String> =
            not_serving.map(|(name, failure)| format!("{name}{}", failure.message)).take(MAX_TOLD).collect();
        let message = match (others.as_slice(), results.len()) {
            ([], 1) => "all is well: every asked service is SERVING",
            ([], _) => "all is well: SERVING at every address",
            (_, 1) => "the server answers, though not SERVING",
            (_, _) => "there is an answer from every address, though not always SERVING",
        };
        let healthy = others.is_empty();
        return Verdict {
            healthy,
            alive,
            layer: None,
            phase: None,
            kind: None,
            message: message.to_owned(),
            hints: not_asked(facts).into_iter().filter(|_| healthy).collect(),
            others,
        };
    };
    let (name, failure) = &failures[worst];
    let others = failures.iter().enumerate().filter(|(index, _)| *index != worst).take(MAX_TOLD);
    Verdict {
        healthy: false,
        alive,
        layer: Some(layer(failure.kind.phase())),
        phase: Some(failure.kind.phase().name()),
        kind: Some(failure.kind.name()),
        message: format!("{name}{}", failure.message),
        hints: hints(failure, target, facts),
        others: others.map(|(_, (name, failure))| format!("{name}{}", failure.message)).collect(),
    }
}

/// The failures of a result, those `of` its verdicts among them, each with the name of what it is about where there are several.
fn told<'a>(result: &'a ProbeResult, of: fn(&'a Judged) -> Option<&'a Failure>) -> Vec<(String, &'a Failure)> {
    let address = result.address.as_ref().map_or_else(String::new, |address| format!("{address}: "));
    match &result.verdicts {
        Err(failure) => vec![(address, failure)],
        Ok(verdicts) => {
            let has_several = verdicts.len() > 1;
            let named = verdicts.iter().filter_map(|verdict| {
                let service =
                    if has_several { format!("{}: ", service_name(verdict.service())) } else { String::new() };
                Some((format!("{address}{service}"), of(verdict)?))
            });
            named.collect()
        }
    }
}

/// The layer of a phase, in words.
fn layer(phase: Phase) -> &'static str {
    match phase {
        Phase::Usage => "arguments and files",
        Phase::Spiffe => "our identity (SPIFFE)",
        Phase::Resolve => "name",
        Phase::Connect => "connection",
        Phase::Tls => "TLS",
        Phase::Alts => "ALTS",
        Phase::Http2 => "HTTP/2",
        Phase::Rpc => "RPC",
        Phase::Health => "health",
    }
}

/// What to do: the probe's hint, and what the facts add.
fn hints(failure: &Failure, target: &Target, facts: &Facts) -> Vec<String> {
    let mut hints: Vec<String> = failure.hint.iter().cloned().collect();
    hints.extend(match failure.kind {
        Kind::ServiceUnknown | Kind::ServiceUnknownStatus => services(facts),
        Kind::NotServing => Some(
            "the way to the server is fine: it says itself that it is not ready; its log, or what it depends on, says why"
                .to_owned(),
        ),
        Kind::SocketMissing | Kind::NotASocket | Kind::PermissionDenied => path(facts),
        Kind::ConnectTimeout => silence(&facts.connections),
        Kind::RpcTimeout => slowness(facts),
        Kind::ConnectionRefused if facts.machine.is_none() && is_remote(target) => Some(
            "the machine answers, so the network is fine: run this inside the server's container to see what listens there"
                .to_owned(),
        ),
        Kind::Unavailable | Kind::HttpStatus | Kind::NotGrpc => facts
            .health
            .as_ref()
            .and_then(|health| health.proxy.as_ref())
            .map(|proxy| format!("a proxy answers ({proxy}): probe the server behind it")),
        _ => None,
    });
    hints
}

fn is_remote(target: &Target) -> bool {
    matches!(target.endpoint, Endpoint::Tcp(Host::Name(_) | Host::Ip(_), _))
}

/// The services that the server knows.
fn services(facts: &Facts) -> Option<String> {
    let listed = facts.health.as_ref()?.listed.as_ref()?;
    let names: Vec<&str> = listed.iter().map(|service| service.name.as_str()).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Some("it knows no service by name; leave -service out to ask for the server as a whole".to_owned());
    }
    Some(format!("it knows {}", some_of(&names)))
}

/// The first of these names.
fn some_of(names: &[&str]) -> String {
    let more = if names.len() > MAX_NAMES { ", …" } else { "" };
    names[..names.len().min(MAX_NAMES)].join(", ") + more
}

/// The services that are not SERVING, and that nobody asked about.
fn not_asked(facts: &Facts) -> Option<String> {
    let health = facts.health.as_ref()?;
    let is_asked = |name: &str| health.services.iter().any(|service| service.name == name);
    let is_unhealthy = |service: &&Service| service.status.as_deref() != Some("SERVING");
    let others = health.listed.iter().flatten().filter(is_unhealthy).map(|service| service.name.as_str());
    let others: Vec<&str> = others.filter(|name| !is_asked(name)).collect();
    (!others.is_empty()).then(|| format!("not SERVING, and not asked about with -service: {}", some_of(&others)))
}

/// How slow a server is that did not answer in time.
fn slowness(facts: &Facts) -> Option<String> {
    let took = format_duration(to_microseconds(facts.health.as_ref()?.slowness()?));
    Some(format!(
        "the server is slow, not stuck: given more time it answered, after {took}; -rpc-timeout gives it that"
    ))
}

/// The part of a socket's path that is at fault.
fn path(facts: &Facts) -> Option<String> {
    #[cfg(unix)]
    {
        let path = facts.machine.as_ref()?.path.as_ref()?;
        let part = path.parts.iter().find(|part| part.problem.is_some())?;
        Some(format!("{}: {}; we are {}", part.path, part.problem.as_deref().unwrap_or_default(), path.we_are))
    }
    #[cfg(not(unix))]
    {
        let _ = facts;
        None
    }
}

/// What it means that addresses are silent.
fn silence(connections: &[Attempt]) -> Option<String> {
    let silent = connections.iter().filter(|attempt| !attempt.connected).count();
    (silent > 0).then(|| {
        "nothing comes back, not even a refusal: packets are dropped on the way (a firewall, a network policy, a wrong \
         network), or nobody has this address"
            .to_owned()
    })
}
