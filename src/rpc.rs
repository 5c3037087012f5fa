//! The RPCs of the health service (health-checking.md) by tonic's clients, under deadlines of our own: `Check`, `List`
//! and the beginning of `Watch`.

use std::{
    error::Error,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use http::{Uri, uri};
use tonic::{Code, IntoRequest, Request, Status, Streaming, codec::CompressionEncoding::Gzip, metadata::MetadataMap};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

use crate::{
    config::{Config, Question},
    deadline::Deadline,
    guard::{Answers, Guard, MAX_LIST, MAX_MESSAGE},
    http2::{Connection, REFUSED},
    journal::Journal,
    list,
    outcome::{Failure, Kind, Phase, Retry, status_name},
    text::shown,
};

/// What messages say of a `Watch`.
const WATCH: &str = "watching";

/// One request of a probe.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// `Check` of this service.
    Service(&'a str),
    /// `List`.
    All,
}

impl<'a> Asked<'a> {
    /// The requests that a question takes.
    pub(crate) fn by(question: &'a Question) -> Vec<Self> {
        match question {
            Question::List => vec![Self::All],
            _ => question.services().iter().map(|service| Self::Service(service)).collect(),
        }
    }
}

/// Services and the statuses that the server answered with, or why it did not.
pub(crate) type Answer = Result<Vec<(String, i32)>, Failure>;

/// The updates of a `Watch`.
pub(crate) type Updates = Streaming<HealthCheckResponse>;

/// Who makes requests on a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) config: &'a Config,
    pub(crate) metadata: &'a MetadataMap,
}

impl Caller<'_> {
    /// Asks all this at once; the answers are in its order.
    pub(crate) async fn ask(&self, asked: &[Asked<'_>], deadline: Deadline, journal: &Journal) -> Vec<Answer> {
        let begun = journal.begin(Phase::Rpc);
        let answers = all(asked.iter().map(|asked| self.answer(*asked, deadline)).collect()).await;
        journal.end(Phase::Rpc, begun, || {
            let told = answers.iter().flat_map(|answer| match answer {
                Ok(statuses) => statuses.iter().map(|(_, status)| status_name(*status)).collect(),
                Err(failure) => vec![failure.kind.name().to_owned()],
            });
            told.collect::<Vec<_>>().join(", ")
        });
        answers
    }

    async fn answer(&self, asked: Asked<'_>, deadline: Deadline) -> Answer {
        match asked {
            Asked::Service(service) => {
                self.check(service, deadline).await.map(|status| vec![(service.to_owned(), status)])
            }
            Asked::All => self.list(deadline).await,
        }
    }

    /// # Errors
    /// Those of the phase rpc.
    pub(crate) async fn check(&self, service: &str, deadline: Deadline) -> Result<i32, Failure> {
        const WHAT: &str = "health check of";
        let request = self.request(HealthCheckRequest { service: service.to_owned() }, Some(deadline));
        let response = deadline.bound(self.client(Answers::One(MAX_MESSAGE)).check(request)).await;
        let response = response.map_err(|_| self.timed_out(WHAT, deadline))?;
        let response = response.map_err(|status| about(service, self.failure(WHAT, &status, Some(deadline))))?;
        Ok(response.into_inner().status)
    }

    async fn list(&self, deadline: Deadline) -> Answer {
        const WHAT: &str = "listing the services of";
        let guard = self.guard(Answers::One(MAX_LIST));
        let request = self.request(list::HealthListRequest {}, Some(deadline));
        let response = deadline.bound(list::list(guard, self.origin(), self.config.gzip, request)).await;
        match response.map_err(|_| self.timed_out(WHAT, deadline))? {
            Ok(statuses) => list::judged(statuses),
            Err(status) => {
                let failure = self.failure(WHAT, &status, Some(deadline));
                Err(self.without_method("List", list::explained(failure), deadline).await)
            }
        }
    }

    /// Begins to watch a service: its status, and those to come.
    ///
    /// # Errors
    /// Those of the phase rpc, until the first status has come.
    pub(crate) async fn watch(&self, service: &str, deadline: Deadline) -> Result<(i32, Updates), Failure> {
        let mut client = self.client(Answers::Many(MAX_MESSAGE));
        // The server is not told of a deadline: it would end the stream.
        let request = self.request(HealthCheckRequest { service: service.to_owned() }, None);
        let begin = async {
            let mut updates = client.watch(request).await?.into_inner();
            Ok((updates.message().await?, updates))
        };
        match deadline.bound(begin).await {
            Ok(Ok((Some(first), updates))) => Ok((first.status, updates)),
            Ok(Ok((None, _))) => Err(self.ended()),
            Ok(Err(status)) => {
                let failure = about(service, self.failure(WATCH, &status, None));
                Err(self.without_method("Watch", failure, deadline).await)
            }
            Err(_) => Err(self.timed_out(WATCH, deadline)),
        }
    }

    /// The next status of a watch.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn next(&self, updates: &mut Updates) -> Result<i32, Failure> {
        match updates.message().await {
            Ok(Some(update)) => Ok(update.status),
            Ok(None) => Err(self.ended()),
            Err(status) => {
                let failure = self.failure(WATCH, &status, None);
                // What would refuse a request only ends what has been answered.
                let goaway = self.connection.goaway().map(|(goaway, _)| goaway);
                match goaway.or_else(|| (failure.retry == Retry::OnceMore).then(|| "GOAWAY".to_owned())) {
                    Some(goaway) if failure.kind == Kind::StreamBroken => {
                        let address = &self.config.address;
                        let message = format!("{WATCH} {address} failed: the server closes the connection: {goaway}");
                        Err(Failure { message, ..failure })
                    }
                    _ => Err(failure),
                }
            }
        }
    }

    /// A watch is without end, health-checking.md says.
    fn ended(&self) -> Failure {
        Failure::new(Kind::StreamBroken, format!("{WATCH} {} failed: the server ended it", self.config.address))
    }

    /// Tells a server that does not know the method from one without the health service: that has no `Check` either.
    async fn without_method(&self, method: &str, failure: Failure, deadline: Deadline) -> Failure {
        if failure.kind != Kind::Unimplemented {
            return failure;
        }
        match self.check("", deadline).await {
            Err(Failure { kind, .. }) if kind != Kind::ServiceUnknown => failure,
            _ => failure.hint(format!("this server has the health service, but not its method {method}; Check works")),
        }
    }

    fn client(&self, answers: Answers) -> HealthClient<Guard> {
        let client = HealthClient::with_origin(self.guard(answers), self.origin());
        let client = client.max_decoding_message_size(MAX_MESSAGE);
        if self.config.gzip { client.send_compressed(Gzip).accept_compressed(Gzip) } else { client }
    }

    fn guard(&self, answers: Answers) -> Guard {
        Guard { requests: self.connection.requests.clone(), gzip: self.config.gzip, answers }
    }

    /// tonic takes scheme and authority of requests from here.
    fn origin(&self) -> Uri {
        let scheme = if self.config.tls.is_some() { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
        Uri::builder()
            .scheme(scheme)
            .authority(self.config.authority.clone())
            .path_and_query("/")
            .build()
            .expect("all three parts are there")
    }

    /// A request with the metadata, and with `grpc-timeout` where the server may know the deadline.
    fn request<T>(&self, message: T, deadline: Option<Deadline>) -> Request<T> {
        let mut request = message.into_request();
        *request.metadata_mut() = self.metadata.clone();
        if let Some(deadline) = deadline {
            request.set_timeout(self.grpc_timeout(deadline));
        }
        request
    }

    /// The RPC time-out as the user gave it, or what `-timeout` has left of it.
    fn grpc_timeout(&self, deadline: Deadline) -> Duration {
        let rpc_timeout = self.config.rpc_timeout;
        if deadline.is_from(rpc_timeout) { rpc_timeout } else { deadline.remaining() }
    }

    fn timed_out(&self, what: &str, deadline: Deadline) -> Failure {
        let message = format!("{what} {} timed out after {}", self.config.address, deadline.limit());
        Failure::new(Kind::RpcTimeout, format!("{message}: connected, no answer"))
    }

    /// Whatever the server did is told by the guard; what remains is a message that tonic could not decode.
    fn failure(&self, what: &str, status: &Status, deadline: Option<Deadline>) -> Failure {
        let told = status.source().and_then(|source| source.downcast_ref::<Failure>());
        let mut failure = told.cloned().unwrap_or_else(|| {
            Failure::new(Kind::MalformedResponse, format!("the answer is malformed: {}", status.message()))
        });
        // The server keeps our time too (`grpc-timeout`), and may be a moment ahead.
        if let Some(deadline) = deadline
            && failure.grpc_code == Some(Code::DeadlineExceeded)
            && deadline.is_half_over()
        {
            return self.timed_out(what, deadline);
        }
        // The connection's own end tells more than that it ended amid the request.
        if (failure.kind, failure.retry) == (Kind::StreamBroken, Retry::Never)
            && let Some(broken) = self.connection.broken()
        {
            failure = broken.clone();
        }
        if failure.kind == Kind::StreamBroken
            && let Some((goaway, left_out)) = self.connection.goaway()
        {
            failure.message = format!("{REFUSED}: {goaway}");
            if left_out {
                failure.retry = Retry::OnceMore;
            }
        }
        failure.message = format!("{what} {} failed: {}", self.config.address, failure.message);
        failure
    }
}

/// What to do where the server does not know the service.
fn about(service: &str, failure: Failure) -> Failure {
    if failure.kind != Kind::ServiceUnknown || service.is_empty() {
        return failure;
    }
    let service = shown(service);
    failure
        .hint(format!("the server does not know the service \"{service}\"; is that its full name (package.Service)?"))
}

/// Runs all at once, to the end of the last. They borrow, which tasks of their own could not.
pub(crate) async fn all<T>(work: Vec<impl Future<Output = T>>) -> Vec<T> {
    enum Slot<F, T> {
        Running(Pin<Box<F>>),
        Done(Option<T>),
    }
    let mut slots: Vec<_> = work.into_iter().map(|work| Slot::Running(Box::pin(work))).collect();
    poll_fn(|cx| {
        let mut is_pending = false;
        for slot in &mut slots {
            if let Slot::Running(work) = slot {
                match work.as_mut().poll(cx) {
                    Poll::Ready(result) => *slot = Slot::Done(Some(result)),
                    Poll::Pending => is_pending = true,
                }
            }
        }
        if is_pending {
            return Poll::Pending;
        }
        let results = slots.iter_mut().filter_map(|slot| match slot {
            Slot::Done(result) => result.take(),
            Slot::Running(_) => None,
        });
        Poll::Ready(results.collect())
    })
    .await
}
