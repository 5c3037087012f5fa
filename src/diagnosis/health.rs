//! The eighth step: what the health service answers, and who answers.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tonic::Code;

use super::time::{milliseconds, thirds};
use crate::{
    deadline::Deadline,
    outcome::{Failure, Kind, NonEmpty, Verdict, status_name},
    rpc::{Ask, Caller, Head, Settings},
    trace::Trace,
};

/// How many services of a list are told.
const MAX_LISTED: usize = 60;
/// How long a server may take that did not answer in time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the health service answers.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    /// The services that the user asked about, and the server as a whole.
    pub(crate) services: Vec<Service>,
    /// All services of the server, if it lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listed: Option<Vec<Service>>,
    /// How many of them are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) more: Option<usize>,
    /// Why there is no list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_listed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) http_status: Option<u16>,
    /// The headers in which servers and proxies name themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) naming: Vec<Header>,
    /// What shows that a proxy answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<String>,
}

/// A service and its status, or why it has none.
#[derive(Debug, Serialize)]
pub(crate) struct Service {
    /// Empty for the server as a whole.
    #[serde(rename = "service")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc_code: Option<i32>,
    /// What the code means for a health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) meaning: Option<&'static str>,
    /// Whether it did not answer in time.
    #[serde(skip)]
    is_late: bool,
    /// What came when it was asked again, with more time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) again: Option<Again>,
}

/// What a service that did not answer in time did when it had more.
#[derive(Debug, Serialize)]
pub(crate) struct Again {
    /// The status, or why there is none.
    pub(crate) answer: String,
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub(crate) took: Duration,
    #[serde(skip)]
    has_status: bool,
}

/// A header.
#[derive(Debug, Serialize)]
pub(crate) struct Header {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

impl Service {
    fn of_failure(service: &str, failure: &Failure) -> Self {
        let message = failure.message.split_once(" failed: ").map_or(failure.message.as_str(), |(_, cause)| cause);
        Self {
            name: service.to_owned(),
            status: None,
            error: Some(message.to_owned()),
            grpc_code: failure.grpc_code.map(i32::from),
            meaning: failure.grpc_code.and_then(meaning),
            is_late: failure.kind == Kind::RpcTimeout || failure.grpc_code == Some(Code::DeadlineExceeded),
            again: None,
        }
    }

    fn of_status(service: &str, status: &str) -> Self {
        let (name, status) = (service.to_owned(), Some(status.to_owned()));
        Self { name, status, error: None, grpc_code: None, meaning: None, is_late: false, again: None }
    }
}

/// What the probe learnt about the services that the user asked about.
pub(crate) fn of_verdicts(verdicts: &NonEmpty<Verdict>) -> Health {
    let service = |verdict: &Verdict| match (verdict.status(), verdict.not_serving()) {
        (None, Some(failure)) => Service::of_failure(verdict.service(), failure),
        (status, _) => Service::of_status(verdict.service(), status.unwrap_or_default()),
    };
    Health {
        services: verdicts.iter().map(service).collect(),
        listed: None,
        more: None,
        not_listed: None,
        http_status: None,
        naming: Vec::new(),
        proxy: None,
    }
}

impl Health {
    /// Asks for the server as a whole, if the user did not, for all services, and for who answers.
    pub(crate) async fn look(&mut self, caller: &Caller<'_>, limit: Duration, deadline: Deadline) {
        let patience = limit.min(thirds(2, deadline));
        let deadline = Deadline::new(Instant::now(), patience).or_earlier(Some(deadline));
        let failed = |failure: &Failure| {
            let mut service = Service::of_failure("", failure);
            if failure.kind == Kind::RpcTimeout && patience < limit {
                service.error = Some("no answer in the time that was left; give more with -timeout".to_owned());
            }
            // What the user did not ask about is not asked again.
            Service { is_late: false, ..service }
        };
        let trace = Trace::unfollowed();
        let asks_whole = !self.services.iter().any(|service| service.name.is_empty());
        let asks: Vec<Ask<'_>> = [Ask::List].into_iter().chain(asks_whole.then_some(Ask::Check(""))).collect();
        let (mut answers, head) =
            tokio::join!(Box::pin(caller.ask(&asks, deadline, &trace)), Box::pin(caller.head(deadline)));
        if asks_whole && let Some(answer) = answers.pop() {
            self.services.push(match answer {
                Ok(statuses) => {
                    let status = statuses.first().map(|(_, status)| status_name(*status)).unwrap_or_default();
                    Service::of_status("", &status)
                }
                Err(failure) => failed(&failure),
            });
        }
        match answers.pop() {
            Some(Ok(statuses)) => {
                self.more = statuses.len().checked_sub(MAX_LISTED).filter(|more| *more > 0);
                let listed = statuses.iter().take(MAX_LISTED);
                let listed = listed.map(|(service, status)| Service::of_status(service, &status_name(*status)));
                self.listed = Some(listed.collect());
            }
            Some(Err(Failure { grpc_code: Some(Code::Unimplemented), .. })) => {
                // Without the service, that it has no List is no news.
                let has_service =
                    self.services.iter().any(|service| service.grpc_code != Some(Code::Unimplemented.into()));
                self.not_listed = has_service.then(|| "this server has no method List".to_owned());
            }
            Some(Err(failure)) => self.not_listed = failed(&failure).error,
            None => {}
        }
        if let Some(Head { http_status, naming }) = head {
            self.proxy = proxy(http_status, &naming);
            self.http_status = Some(http_status);
            self.naming = naming.into_iter().map(|(name, value)| Header { name, value }).collect();
        }
    }

    /// Asks again about the services that did not answer in time, and gives them more.
    pub(crate) async fn ask_again(&mut self, caller: &Caller<'_>, deadline: Deadline) {
        let late: Vec<usize> = (0..self.services.len()).filter(|index| self.services[*index].is_late).collect();
        if late.is_empty() {
            return;
        }
        let patience = PATIENCE.min(thirds(2, deadline));
        let settings = Settings { rpc_timeout: patience, ..caller.settings.clone() };
        let caller = Caller { settings: &settings, ..*caller };
        let names: Vec<String> = late.iter().map(|index| self.services[*index].name.clone()).collect();
        let asks: Vec<Ask<'_>> = names.iter().map(|name| Ask::Check(name)).collect();
        let asked = Instant::now();
        let by = Deadline::new(asked, patience).or_earlier(Some(deadline));
        let answers = Box::pin(caller.ask(&asks, by, &Trace::unfollowed())).await;
        let took = asked.elapsed();
        for (index, answer) in late.into_iter().zip(answers) {
            let has_status = answer.is_ok();
            let answer = match answer {
                Ok(statuses) => statuses.first().map(|(_, status)| status_name(*status)).unwrap_or_default(),
                Err(failure) => Service::of_failure("", &failure).error.unwrap_or_default(),
            };
            self.services[index].again = Some(Again { answer, took, has_status });
        }
    }

    /// How long the services take that did not answer in time. `None` if there are none, or if one of them does not answer at
    /// all.
    pub(super) fn slowness(&self) -> Option<Duration> {
        let mut slowest = None;
        for service in self.services.iter().filter(|service| service.is_late) {
            let again = service.again.as_ref().filter(|again| again.has_status)?;
            slowest = slowest.max(Some(again.took));
        }
        slowest
    }
}

/// What shows that a proxy stands before the server.
fn proxy(http_status: u16, naming: &[(&'static str, String)]) -> Option<String> {
    const PROXIES: [&str; 9] =
        ["envoy", "nginx", "haproxy", "traefik", "caddy", "cloudflare", "istio", "linkerd", "awselb"];
    let value = |wanted: &str| naming.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    if let Some(via) = value("via") {
        return Some(format!("its header via is {via:?}"));
    }
    if let Some(server) = value("server")
        && PROXIES.iter().any(|proxy| server.to_ascii_lowercase().contains(proxy))
    {
        return Some(format!("its header server is {server:?}"));
    }
    let header = ["x-envoy-upstream-service-time", "x-cache", "x-served-by", "cf-ray"];
    if let Some(name) = header.into_iter().find(|name| value(name).is_some()) {
        return Some(format!("it sends the header {name}"));
    }
    (502..=504).contains(&http_status).then(|| format!("it answers HTTP {http_status}"))
}

/// What a gRPC status means for a health check.
fn meaning(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Unimplemented => {
            "the server does not have the health service: register it, or probe the port that has it"
        }
        Code::NotFound => "the server has the health service, and does not know this service",
        Code::Unauthenticated => "the server wants credentials: give them with -rpc-header-file",
        Code::PermissionDenied => "the server knows who asks, and forbids it: other credentials are needed",
        Code::Unavailable => "the server, or what is behind a proxy, is not ready",
        Code::DeadlineExceeded => "the server gave up: something that its health depends on is slow",
        Code::ResourceExhausted => "the server limits requests, or has too many services to list",
        Code::Internal | Code::Unknown => "the server failed: its log says why",
        Code::Cancelled | Code::Aborted => "the server, or a proxy, gave the request up",
        _ => return None,
    })
}
