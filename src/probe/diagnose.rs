//! `-diagnose`: runs the plain probe, which judges, and looks at every step of the way beside it. The looks never change what the
//! probe says.

use std::{net::SocketAddr, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    each_address::probe_addresses,
    once::Prepared,
    plan::{Alts, Credentials, Plan, Security as Wanted, Tls},
};
use crate::{
    connection::{Connection, Security},
    deadline::Deadline,
    diagnosis::{self, Address, Basis, CommandLine, Facts, Looks, Place, TlsAlone, Way, share},
    net::{self, Endpoint, Host},
    outcome::{Failure, Health, Kind, NonEmpty, ProbeResult, health_of},
    report::{Diagnosis, Progress, Style},
    tls::{Files, Trust},
    trace::Trace,
};

/// How long a diagnosis takes at most where `-timeout` is not given.
const LIMIT: Duration = Duration::from_secs(10);
/// The least time that a look at what the server speaks can do with.
const LEAST: Duration = Duration::from_millis(30);
/// How long the lookup of a name, the connections and the files may take.
const STEP: Duration = Duration::from_secs(2);

/// Diagnoses the target, and tells each step as it ends. `command` is the user's command line. The health is the plain probe's.
pub(super) async fn diagnose(
    plan: &Plan,
    command: &CommandLine,
    start: Instant,
    style: Style,
    trace: &Trace,
    progress: &Progress,
) -> Health {
    let limit = plan.timeout.unwrap_or(LIMIT);
    let deadline = Deadline::new(start, limit);
    let report = Diagnosis::new(style, progress);
    report.address(&Address::new(&plan.target, security(plan), plan.question.services(), command));

    let mut probe = Box::pin(probe(plan, start, deadline, trace));
    // The server has the probe for itself. Only beside a probe that takes long the looks begin before its end.
    let (results, (mut facts, connection)) = if let Ok(results) = timeout(limit * 2 / 5, &mut probe).await {
        let looks = Box::pin(look(plan, peer(&results), deadline, &report)).await;
        (results, looks)
    } else {
        tokio::join!(probe, Box::pin(look(plan, None, deadline, &report)))
    };

    if let [ProbeResult { verdicts: Ok(verdicts), .. }] = &*results {
        let mut health = diagnosis::of_verdicts(verdicts);
        if let Some(connection) = &connection
            && let Ok(prepared) = Prepared::load(plan, share(deadline, STEP), &Trace::unfollowed()).await
            && !results.iter().flat_map(ProbeResult::failures).any(|failure| failure.kind == Kind::HeadersTooLarge)
        {
            let caller = prepared.caller(plan, &plan.target, connection);
            Box::pin(health.look(&caller, plan.rpc.rpc_timeout, deadline)).await;
            Box::pin(health.ask_again(&caller, deadline)).await;
        }
        report.health(&health);
        facts.health = Some(health);
    }
    if let Some(connection) = connection {
        connection.http2.close().await;
    }

    let verdict = diagnosis::judge(&results, plan.alive, &plan.target, &facts);
    let health = health_of(&results);
    report.verdict(&verdict, style.exit_code(health));
    let failures = results.iter().flat_map(ProbeResult::failures);
    let kind = failures.min_by_key(|failure| failure.kind.phase()).map(|failure: &Failure| failure.kind);
    let limit = (plan.connect_timeout + plan.rpc.rpc_timeout).min(plan.timeout.unwrap_or(Duration::MAX));
    let connect_timeout = plan.connect_timeout;
    let healthy = health == Health::Healthy;
    let basis = Basis { target: &plan.target, command, kind, healthy, limit, connect_timeout };
    report.advice(&diagnosis::advise(&basis, &facts));
    report.end();
    health
}

/// The plain probe.
async fn probe(plan: &Plan, start: Instant, deadline: Deadline, trace: &Trace) -> NonEmpty<ProbeResult> {
    let mut results = probe_addresses(plan, start, Some(deadline), trace).await;
    for result in results.iter_mut() {
        if let Err(failure) = &mut result.verdicts {
            diagnosis::explain(failure, &plan.target).await;
        }
    }
    results
}

/// The address that the probe reached.
fn peer(results: &NonEmpty<ProbeResult>) -> Option<SocketAddr> {
    results.iter().find_map(|result| result.record.as_ref()?.peer.as_ref()?.parse().ok())
}

/// Looks at each step before the request. `peer` is the address that the probe reached, if it is known.
async fn look(
    plan: &Plan,
    peer: Option<SocketAddr>,
    deadline: Deadline,
    report: &Diagnosis<'_>,
) -> (Facts, Option<Connection>) {
    let target = &plan.target;
    let mut facts = Facts::default();
    let mut addresses = Vec::new();
    if let Endpoint::Tcp(host, port) = &target.endpoint {
        if let Host::Name(name) = host {
            let names = diagnosis::look_up(name, *port, share(deadline, STEP)).await;
            report.names(&names);
            addresses.clone_from(&names.addresses);
            facts.names = Some(names);
        } else {
            addresses = net::addresses_by_itself(host, *port).unwrap_or_default();
        }
    }
    facts.machine = diagnosis::look_at_machine(&target.endpoint, &addresses, share(deadline, STEP)).await;
    if let Some(machine) = &facts.machine {
        report.machine(machine, target);
    }
    let places = Place::all(target, &addresses);
    if !places.is_empty() {
        facts.connections = diagnosis::try_each(target, &places, share(deadline, STEP)).await;
        report.connections(&facts.connections);
    }

    // The place that the probe reached, or the first that can be reached.
    let reachable = places.iter().zip(&facts.connections).find(|(_, attempt)| attempt.connected);
    let place = peer.map(Place::Tcp).filter(|place| places.contains(place)).or(reachable.map(|(place, _)| *place));
    let (Some(place), Some(_)) = (place, reachable) else { return (facts, None) };
    let Some(way) = way(plan, deadline).await else { return (facts, None) };
    if deadline.remaining() < LEAST {
        report.no_time();
        return (facts, None);
    }
    let looks = Box::pin(diagnosis::look_at(target, place, &way, deadline)).await;
    let Looks { protocol, certificate, http2, connection } = looks;
    report.protocol(&protocol);
    if let Some(certificate) = &certificate {
        report.certificate(certificate);
    }
    if let Some(http2) = &http2 {
        report.http2(http2);
    }
    (Facts { protocol: Some(protocol), certificate, ..facts }, connection)
}

/// How to look at the server. None if that cannot be told; the probe says why.
async fn way(plan: &Plan, deadline: Deadline) -> Option<Way> {
    let prepared = match &plan.security {
        Wanted::Plaintext => return Some(Way::Probe(Security::Plaintext)),
        Wanted::Tls(_) | Wanted::Alts(_) => {
            Box::pin(Prepared::load(plan, share(deadline, STEP), &Trace::unfollowed())).await
        }
    };
    match (prepared, &plan.security) {
        (Ok(prepared), _) => Some(Way::Probe(prepared.into_security())),
        (Err(_), Wanted::Tls(Tls { credentials, server_name, needs_alpn, .. })) => {
            let trust = match credentials {
                Credentials::Files(Files { trust, .. }) => Some(trust.clone()),
                Credentials::Spiffe(_) => None,
            };
            Some(Way::TlsAlone(TlsAlone { trust, server_name: server_name.clone(), needs_alpn: *needs_alpn }))
        }
        (Err(_), _) => None,
    }
}

/// How the server is reached, in words.
fn security(plan: &Plan) -> String {
    match &plan.security {
        Wanted::Plaintext => "plaintext, as -tls is not given".to_owned(),
        Wanted::Alts(Alts { handshaker, .. }) => format!("ALTS, by the handshaker service at {}", handshaker.address),
        Wanted::Tls(Tls { credentials: Credentials::Spiffe(expected), .. }) => {
            let id = expected.as_ref().map_or("of any trust domain with a bundle".to_owned(), ToString::to_string);
            format!("mutual TLS by SPIFFE, for a server {id}")
        }
        Wanted::Tls(Tls { credentials: Credentials::Files(Files { trust, identity }), server_name, .. }) => {
            let name = server_name.to_str();
            let trust = match trust {
                Trust::System => format!("verified for {name}, by the system's trusted certificates"),
                Trust::File(path) => format!("verified for {name}, by {}", path.display()),
                Trust::Anyone => "not verified (INSECURE)".to_owned(),
            };
            let identity =
                identity.as_ref().map(|(certificate, _)| format!(", our certificate {}", certificate.display()));
            format!("TLS, {trust}{}", identity.unwrap_or_default())
        }
    }
}
