//! The RPCs of the health service (health-checking.md) by tonic's clients, under deadlines of our own: `Check`, `List` and
//! `Watch`.

mod guard;
mod limited;
mod list;
mod metadata;
mod request;
mod status;

use std::{error::Error, fmt, slice, time::Duration};

use http::{
    Uri,
    uri::{self, Authority},
};
use tonic::{Code, IntoRequest, Request, Status, Streaming, codec::CompressionEncoding::Gzip};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

use self::guard::{MAX_LIST, MAX_MESSAGE};
pub(crate) use self::{
    guard::{Expected, Guard, MAX_SVIDS},
    limited::{Limited, LimitedCodec},
    metadata::{Key, Metadata, MetadataFile, ascii_value},
};
use crate::{
    deadline::Deadline,
    http2::{Connection, REFUSED},
    join_all::join_all,
    outcome::{Failure, Kind, Phase, Retry, status_name},
    text::excerpt,
    trace::Trace,
};

/// The name of each RPC in messages.
const CHECK: &str = "health check of";
const LIST: &str = "listing the services of";
const WATCH: &str = "watching";

/// What to ask.
#[derive(Debug, Clone)]
pub enum Question {
    /// The status of each of these services, at least one. An empty name is the server as a whole.
    Check(Vec<String>),
    /// The status of this service, and each change of it.
    Watch(String),
    /// Which services there are, and their statuses.
    List,
}

impl Question {
    /// Whether its answers are an endless stream.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        matches!(self, Self::Watch(_))
    }

    /// The services in the question.
    pub(crate) fn services(&self) -> &[String] {
        match self {
            Self::Check(services) => services,
            Self::Watch(service) => slice::from_ref(service),
            Self::List => &[],
        }
    }

    /// The requests for the question.
    pub(crate) fn requests(&self) -> Vec<Ask<'_>> {
        match self {
            Self::List => vec![Ask::List],
            _ => self.services().iter().map(|service| Ask::Check(service)).collect(),
        }
    }
}

/// One request of a probe.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask<'a> {
    /// `Check` of this service.
    Check(&'a str),
    /// `List`.
    List,
}

/// Services with the statuses that the server answered, or why it did not answer.
pub(crate) type Answer = Result<Vec<(String, i32)>, Failure>;

/// The updates of a `Watch`.
pub(crate) type Updates = Streaming<HealthCheckResponse>;

/// What all requests of a probe have in common.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The `:authority` of requests.
    pub(crate) authority: Authority,
    /// Whether requests are sent over TLS, which decides their `:scheme`.
    pub(crate) is_tls: bool,
    /// Whether to compress requests and accept compressed responses.
    pub(crate) gzip: bool,
    /// From the server's SETTINGS to the end of the response.
    pub(crate) rpc_timeout: Duration,
}

/// Makes requests on a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) connection: &'a Connection,
    /// The address as the user gave it.
    pub(crate) target: &'a str,
    pub(crate) settings: &'a Settings,
    pub(crate) metadata: &'a Metadata,
}

impl Caller<'_> {
    /// Sends all requests at once. The answers are in their order.
    pub(crate) async fn ask(&self, requests: &[Ask<'_>], deadline: Deadline, trace: &Trace) -> Vec<Answer> {
        let started = trace.begin(Phase::Rpc);
        let answers = join_all(requests.iter().map(|request| self.answer(*request, deadline)).collect()).await;
        trace.end(Phase::Rpc, started, || {
            let texts = answers.iter().flat_map(|answer| match answer {
                Ok(statuses) => statuses.iter().map(|(_, status)| status_name(*status)).collect(),
                Err(failure) => vec![failure.kind.name().to_owned()],
            });
            texts.collect::<Vec<_>>().join(", ")
        });
        answers
    }

    async fn answer(&self, request: Ask<'_>, deadline: Deadline) -> Answer {
        match request {
            Ask::Check(service) => self.check(service, deadline).await.map(|status| vec![(service.to_owned(), status)]),
            Ask::List => self.list(deadline).await,
        }
    }

    /// Calls `Check`.
    ///
    /// # Errors
    /// Those of the phase rpc.
    pub(crate) async fn check(&self, service: &str, deadline: Deadline) -> Result<i32, Failure> {
        let request = self.request(HealthCheckRequest { service: service.to_owned() }, Some(deadline));
        let response = deadline.bound(self.client(Expected::OneMessage(MAX_MESSAGE)).check(request)).await;
        let response = response.map_err(|_| self.timed_out(CHECK, deadline))?;
        let response =
            response.map_err(|status| hint_at_service(service, self.failure(CHECK, &status, Some(deadline))))?;
        Ok(response.into_inner().status)
    }

    /// Asks a watched server for an answer to a `Check`, whatever it is. That the connection breaks shows in the watch itself.
    ///
    /// # Errors
    /// No answer arrives in time.
    pub(crate) async fn expect_answer(&self, service: &str, deadline: Deadline) -> Result<(), Failure> {
        match self.check(service, deadline).await {
            Err(Failure { kind: kind @ Kind::RpcTimeout, .. }) => {
                let cause = format!("no answer to a Check for {}", deadline.limit());
                Err(Failure::new(kind, format!("{WATCH} {} failed: {cause}", self.target)))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn list(&self, deadline: Deadline) -> Answer {
        let guard = self.guard(Expected::OneMessage(MAX_LIST));
        let request = self.request(list::HealthListRequest {}, Some(deadline));
        let response = deadline.bound(list::list(guard, self.origin(), self.settings.gzip, request)).await;
        match response.map_err(|_| self.timed_out(LIST, deadline))? {
            Ok(statuses) => list::statuses(statuses),
            Err(status) => {
                let failure = self.failure(LIST, &status, Some(deadline));
                Err(self.hint_at_method("List", list::explain(failure), deadline).await)
            }
        }
    }

    /// Begins to watch a service. Returns its first status and the stream of later ones.
    ///
    /// # Errors
    /// Those of the phase rpc, until the first status arrives.
    pub(crate) async fn watch(&self, service: &str, deadline: Deadline) -> Result<(i32, Updates), Failure> {
        let mut client = self.client(Expected::Stream(MAX_MESSAGE));
        // Without `grpc-timeout`, with which the server would end the stream.
        let request = self.request(HealthCheckRequest { service: service.to_owned() }, None);
        let begin = async {
            let mut updates = client.watch(request).await?.into_inner();
            Ok((updates.message().await?, updates))
        };
        match deadline.bound(begin).await {
            Ok(Ok((Some(first), updates))) => Ok((first.status, updates)),
            Ok(Ok((None, _))) => Err(self.watch_ended()),
            Ok(Err(status)) => {
                let failure = hint_at_service(service, self.failure(WATCH, &status, None));
                Err(self.hint_at_method("Watch", failure, deadline).await)
            }
            Err(_) => Err(self.timed_out(WATCH, deadline)),
        }
    }

    /// Waits for the next status of a watch.
    ///
    /// # Errors
    /// The watch failed.
    pub(crate) async fn next(&self, updates: &mut Updates) -> Result<i32, Failure> {
        match updates.message().await {
            Ok(Some(update)) => Ok(update.status),
            Ok(None) => Err(self.watch_ended()),
            Err(status) => {
                let failure = self.failure(WATCH, &status, None);
                // What would refuse a new request only ends one that was answered.
                let goaway = self.connection.goaway().map(|goaway| goaway.to_string());
                match goaway.or_else(|| failure.is_for_new_connection().then(|| "GOAWAY".to_owned())) {
                    Some(goaway) if failure.kind == Kind::StreamBroken => Err(self.watch_closed(&goaway)),
                    _ => Err(failure),
                }
            }
        }
    }

    /// The server ends the connection of a watch, and this GOAWAY says why.
    pub(crate) fn watch_closed(&self, goaway: &dyn fmt::Display) -> Failure {
        let message = format!("{WATCH} {} failed: the server closes the connection: {goaway}", self.target);
        Failure::new(Kind::StreamBroken, message)
    }

    /// The server ended a watch, which health-checking.md says is endless.
    fn watch_ended(&self) -> Failure {
        Failure::new(Kind::StreamBroken, format!("{WATCH} {} failed: the server ended it", self.target))
    }

    /// Distinguishes a server without this method from one without the health service, which has no `Check` either.
    async fn hint_at_method(&self, method: &str, failure: Failure, deadline: Deadline) -> Failure {
        if failure.kind != Kind::Unimplemented {
            return failure;
        }
        match self.check("", deadline).await {
            Err(Failure { kind, .. }) if kind != Kind::ServiceUnknown => failure,
            _ => failure.hint(format!("this server has the health service, but not its method {method}; Check works")),
        }
    }

    fn client(&self, expected: Expected) -> HealthClient<Guard> {
        let client = HealthClient::with_origin(self.guard(expected), self.origin());
        let client = client.max_decoding_message_size(MAX_MESSAGE);
        if self.settings.gzip { client.send_compressed(Gzip).accept_compressed(Gzip) } else { client }
    }

    fn guard(&self, expected: Expected) -> Guard {
        Guard::new(self.connection, self.settings.gzip, expected)
    }

    /// The origin, from which tonic takes the scheme and the authority of requests.
    fn origin(&self) -> Uri {
        let scheme = if self.settings.is_tls { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
        Uri::builder()
            .scheme(scheme)
            .authority(self.settings.authority.clone())
            .path_and_query("/")
            .build()
            .expect("all three parts are there")
    }

    /// A request with the metadata, and with `grpc-timeout` if the server should know the deadline.
    fn request<T>(&self, message: T, deadline: Option<Deadline>) -> Request<T> {
        let mut request = message.into_request();
        *request.metadata_mut() = self.metadata.to_map();
        if let Some(deadline) = deadline {
            request.set_timeout(self.grpc_timeout(deadline));
        }
        request
    }

    /// The RPC timeout that the user gave, or what `-timeout` leaves of it.
    fn grpc_timeout(&self, deadline: Deadline) -> Duration {
        let rpc_timeout = self.settings.rpc_timeout;
        if deadline.is_from(rpc_timeout) { rpc_timeout } else { deadline.remaining() }
    }

    fn timed_out(&self, what: &str, deadline: Deadline) -> Failure {
        let message = format!("{what} {} timed out after {}", self.target, deadline.limit());
        Failure::new(Kind::RpcTimeout, format!("{message}: connected, no answer"))
    }

    /// The failure behind a tonic status. The guard reports all failures of the server. The only other one is a message
    /// that tonic could not decode.
    fn failure(&self, what: &str, status: &Status, deadline: Option<Deadline>) -> Failure {
        let mut failure = guarded_failure(status).cloned().unwrap_or_else(|| {
            Failure::new(Kind::MalformedResponse, format!("the response is malformed: {}", status.message()))
        });
        // The server has the same deadline (`grpc-timeout`), and may reach it slightly earlier.
        if let Some(deadline) = deadline
            && failure.grpc_code == Some(Code::DeadlineExceeded)
            && deadline.is_half_over()
        {
            return self.timed_out(what, deadline);
        }
        // The end of the connection tells more than that it ended during the request.
        if failure.kind == Kind::StreamBroken
            && matches!(failure.retry, Retry::Never | Retry::AfterGoAway)
            && let Some(broken) = self.connection.broken()
        {
            failure = broken.clone();
        }
        if failure.kind == Kind::StreamBroken
            && let Some(goaway) = self.connection.goaway()
        {
            if goaway.last_stream == 0 || failure.retry != Retry::Never && !goaway.took_requests() {
                failure.retry = goaway.retry();
            }
            let is_refused = failure.is_for_new_connection() || !goaway.is_routine();
            let cause = if is_refused { REFUSED } else { &failure.message };
            failure.message = format!("{cause}: {goaway}");
        }
        failure.message = format!("{what} {} failed: {}", self.target, failure.message);
        failure
    }
}

/// The failure that the guard reported through tonic.
pub(crate) fn guarded_failure(status: &Status) -> Option<&Failure> {
    status.source().and_then(|source| source.downcast_ref())
}

/// Adds a hint if the server does not know the service.
fn hint_at_service(service: &str, failure: Failure) -> Failure {
    if failure.kind != Kind::ServiceUnknown || service.is_empty() {
        return failure;
    }
    let service = excerpt(service);
    failure
        .hint(format!("the server does not know the service \"{service}\"; is that its full name (package.Service)?"))
}
