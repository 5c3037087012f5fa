//! The RPCs of the health service (health-checking.md) by tonic's clients, under deadlines of our own: `Check`, `List` and
//! `Watch`.

mod duplex;
mod guard;
mod hints;
mod limited;
mod list;
mod look;
mod metadata;
mod request;
mod status;

use std::{fmt, slice, time::Duration};

use http::{
    Uri,
    uri::{self, Authority},
};
use tokio::time::Instant;
use tonic::{Code, IntoRequest, Request, Status, Streaming, codec::CompressionEncoding::Gzip};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

pub(crate) use self::{
    duplex::Duplex,
    guard::{Expected, Guard, MAX_SVIDS},
    limited::{Limited, LimitedCodec},
    look::Head,
    metadata::{Key, Metadata, MetadataFile, ascii_value, is_secret},
    status::guarded_failure,
};
use self::{
    guard::{MAX_LIST, MAX_MESSAGE},
    hints::{hint_at_authority, hint_at_service, is_unimplemented},
    status::guard_failure,
};
use crate::{
    deadline::Deadline,
    duration::format_duration,
    http2::Connection,
    join_all::join_all,
    outcome::{Failure, Kind, Phase, Retry, status_name},
    text::leave_out,
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
    /// Whether to compress requests and accept compressed responses: the flag or variable that says so.
    pub(crate) gzip: Option<String>,
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
        let mut answers = join_all(requests.iter().map(|request| self.answer(*request, deadline)).collect()).await;
        if self.settings.gzip.is_some() {
            Box::pin(self.hint_at_gzip_in(requests, &mut answers, deadline)).await;
        }
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
        let asked = Instant::now();
        let request = self.request(HealthCheckRequest { service: service.to_owned() }, Some(deadline));
        let response = deadline.bound(self.client(Expected::OneMessage(MAX_MESSAGE)).check(request)).await;
        let response = response.map_err(|_| self.timed_out(CHECK, deadline))?;
        let response = response.map_err(|status| hint_at_service(service, self.failure(CHECK, &status, asked)))?;
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

    /// The head of the response to a `Check` of the server as a whole, for a diagnosis. `None`: none came in time.
    pub(crate) async fn head(&self, deadline: Deadline) -> Option<Head> {
        let (requests, metadata) = (self.connection.requests.clone(), self.metadata.to_map().into_headers());
        look::head(requests, self.origin(), metadata, deadline).await
    }

    async fn list(&self, deadline: Deadline) -> Answer {
        let asked = Instant::now();
        let guard = self.guard(Expected::OneMessage(MAX_LIST));
        let request = self.request(list::HealthListRequest {}, Some(deadline));
        let response = deadline.bound(list::list(guard, self.origin(), self.settings.gzip.is_some(), request)).await;
        match response.map_err(|_| self.timed_out(LIST, deadline))? {
            Ok(statuses) => list::statuses(statuses),
            Err(status) => {
                let failure = self.failure(LIST, &status, asked);
                // Boxed, so that requests stay small.
                Err(Box::pin(self.hint_at_method("List", list::explain(failure), deadline)).await)
            }
        }
    }

    /// Begins to watch a service. Returns its first status and the stream of later ones.
    ///
    /// # Errors
    /// Those of the phase rpc, until the first status arrives.
    pub(crate) async fn watch(&self, service: &str, deadline: Deadline) -> Result<(i32, Updates), Failure> {
        let asked = Instant::now();
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
                let failure = hint_at_service(service, self.failure(WATCH, &status, asked));
                Err(Box::pin(self.hint_at_method("Watch", failure, deadline)).await)
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
                let failure = self.cause(guard_failure(&status));
                // What would refuse a new request only ends one that was answered.
                match self.connection.goaway() {
                    Some(goaway) if failure.retry == Retry::AfterGoAway || failure.is_for_new_connection() => {
                        Err(self.watch_closed(&goaway))
                    }
                    _ => Err(self.failed(WATCH, failure)),
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
        if !is_unimplemented(&failure) {
            return failure;
        }
        let check = match self.check("", deadline).await {
            Err(failure) => Err(self.hint_at_gzip("", failure, deadline).await),
            answer => answer,
        };
        hints::hint_at_method(method, failure, check)
    }

    /// Adds the hint of a request that failed because it was compressed.
    async fn hint_at_gzip_in(&self, requests: &[Ask<'_>], answers: &mut [Answer], deadline: Deadline) {
        for (request, answer) in requests.iter().zip(answers) {
            if let (Ask::Check(service), Err(failure)) = (request, answer) {
                *failure = self.hint_at_gzip(service, failure.clone(), deadline).await;
            }
        }
    }

    /// Finds out whether a `Check` failed because it was compressed: asks again without that. The server may not have read what
    /// it refused.
    async fn hint_at_gzip(&self, service: &str, failure: Failure, deadline: Deadline) -> Failure {
        let Some(name) = &self.settings.gzip else { return failure };
        let plain = Settings { gzip: None, ..self.settings.clone() };
        match (Caller { settings: &plain, ..*self }).check(service, deadline).await {
            Ok(_) => failure.hint(format!("{}: without it, the server answers", leave_out(name))),
            Err(_) => failure,
        }
    }

    fn client(&self, expected: Expected) -> HealthClient<Guard> {
        let client = HealthClient::with_origin(self.guard(expected), self.origin());
        let client = client.max_decoding_message_size(MAX_MESSAGE);
        if self.settings.gzip.is_some() { client.send_compressed(Gzip).accept_compressed(Gzip) } else { client }
    }

    fn guard(&self, expected: Expected) -> Guard {
        Guard::new(self.connection, self.settings.gzip.is_some(), expected)
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
        if deadline.is_of_run() { deadline.remaining() } else { self.settings.rpc_timeout }
    }

    fn timed_out(&self, what: &str, deadline: Deadline) -> Failure {
        let message = format!("{what} {} timed out after {}", self.target, deadline.limit());
        Failure::new(Kind::RpcTimeout, format!("{message}: connected, no answer"))
    }

    /// The failure behind a tonic status of a request that was sent at `asked`.
    fn failure(&self, what: &str, status: &Status, asked: Instant) -> Failure {
        let mut failure = self.cause(guard_failure(status));
        if failure.kind == Kind::RpcFailed && failure.grpc_code == Some(Code::DeadlineExceeded) {
            // It has our deadline (`grpc-timeout`), and may have others. In any case, it answers.
            let (took, limit) = (asked.elapsed(), self.settings.rpc_timeout);
            failure.message = format!("the server gave up {}: {}", after(took), failure.message);
            if took >= limit.mul_f64(0.9) {
                failure = failure.hint(format!("it had {}; -rpc-timeout gives it more", format_duration(limit)));
            }
        }
        if failure.kind == Kind::StreamBroken
            && let Some(goaway) = self.connection.goaway()
        {
            if goaway.last_stream == 0 || failure.retry != Retry::Never && !goaway.took_requests() {
                failure.retry = goaway.retry();
            }
            if failure.is_for_new_connection() || failure.retry != Retry::Never && !goaway.is_routine() {
                failure.message = format!("{}: {goaway}", goaway.meaning());
            } else if failure.retry != Retry::Never {
                failure.message = format!("{}: {goaway}", failure.message);
            }
        }
        let failure = hint_at_authority(failure, self.settings.authority.as_str());
        self.failed(what, failure)
    }

    /// The cause of a failure that the guard reported: how the connection ended tells more than that it ended.
    fn cause(&self, failure: Failure) -> Failure {
        if failure.kind != Kind::StreamBroken || failure.retry != Retry::AfterGoAway {
            return failure;
        }
        match (self.connection.broken(), self.connection.meaning_of_break()) {
            (Some(broken), _) => broken.clone(),
            (None, Some(cause)) => Failure { message: cause, ..failure },
            (None, None) => failure,
        }
    }

    /// The same, with what was done on which target.
    fn failed(&self, what: &str, failure: Failure) -> Failure {
        Failure { message: format!("{what} {} failed: {}", self.target, failure.message), ..failure }
    }
}

/// How long something took, to tenths of a second.
fn after(took: Duration) -> String {
    match took.as_millis() / 100 {
        0 => "at once".to_owned(),
        tenths => format!("after {}.{}s", tenths / 10, tenths % 10),
    }
}
