//! The RPC: `grpc.health.v1.Health/Check` (health-checking.md) by tonic's generated client, under its own deadline.

use std::{
    error::Error,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use http::{Uri, uri};
use tonic::{Code, Request, Status, codec::CompressionEncoding, metadata::MetadataMap};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    config::Config,
    deadline::Deadline,
    guard::{Guard, MAX_MESSAGE},
    http2::Connection,
    journal::Journal,
    outcome::{Failure, Kind, Phase, Retry, status_name},
    text::shown,
};

/// What the server answered, or why it did not.
pub(crate) type Answer = Result<i32, Failure>;

/// Asks about all these services at once; the answers are in their order.
pub(crate) async fn check_all(
    connection: &Connection,
    config: &Config,
    metadata: &MetadataMap,
    services: &[&str],
    deadline: Deadline,
    journal: &Journal,
) -> Vec<Answer> {
    let begun = journal.begin(Phase::Rpc);
    let checks = services.iter().map(|service| check(connection, config, metadata, service, deadline));
    let answers = all(checks.collect()).await;
    journal.end(Phase::Rpc, begun, || {
        let told = answers.iter().map(|answer| match answer {
            Ok(status) => status_name(*status),
            Err(failure) => failure.kind.name().to_owned(),
        });
        told.collect::<Vec<_>>().join(", ")
    });
    answers
}

async fn check(
    connection: &Connection,
    config: &Config,
    metadata: &MetadataMap,
    service: &str,
    deadline: Deadline,
) -> Answer {
    let guard = Guard { requests: connection.requests.clone(), gzip: config.gzip };
    let mut client = HealthClient::with_origin(guard, origin(config)).max_decoding_message_size(MAX_MESSAGE);
    if config.gzip {
        client = client.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
    }
    let mut request = Request::new(HealthCheckRequest { service: service.to_owned() });
    *request.metadata_mut() = metadata.clone();
    request.set_timeout(grpc_timeout(config, deadline));
    match deadline.bound(client.check(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner().status),
        Ok(Err(status)) => Err(failure(connection, config, service, &status, deadline)),
        Err(_) => Err(timed_out(config, deadline)),
    }
}

fn timed_out(config: &Config, deadline: Deadline) -> Failure {
    let message = format!("health check of {} timed out after {}", config.address, deadline.limit());
    Failure::new(Kind::RpcTimeout, format!("{message}: connected, no answer"))
}

/// tonic takes scheme and authority of requests from here.
fn origin(config: &Config) -> Uri {
    let scheme = if config.tls.is_some() { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
    Uri::builder()
        .scheme(scheme)
        .authority(config.authority.clone())
        .path_and_query("/")
        .build()
        .expect("all three parts are there")
}

/// The RPC time-out as the user gave it, or what `-timeout` has left of it.
fn grpc_timeout(config: &Config, deadline: Deadline) -> Duration {
    if deadline.is_from(config.rpc_timeout) { config.rpc_timeout } else { deadline.remaining() }
}

/// Whatever the server did is told by the guard; what remains is a message that tonic could not decode.
fn failure(connection: &Connection, config: &Config, service: &str, status: &Status, deadline: Deadline) -> Failure {
    let told = status.source().and_then(|source| source.downcast_ref::<Failure>());
    let mut failure = told.cloned().unwrap_or_else(|| {
        Failure::new(Kind::MalformedResponse, format!("the answer is malformed: {}", status.message()))
    });
    // The server keeps our time too (`grpc-timeout`), and may be a moment ahead.
    if failure.grpc_code == Some(Code::DeadlineExceeded) && deadline.is_half_over() {
        return timed_out(config, deadline);
    }
    // The connection's own end tells more than that it ended amid the request.
    if (failure.kind, failure.retry) == (Kind::StreamBroken, Retry::Never)
        && let Some(broken) = connection.broken()
    {
        failure = broken.clone();
    }
    if failure.kind == Kind::StreamBroken
        && let Some((goaway, left_out)) = connection.goaway()
    {
        failure.message = goaway;
        if left_out {
            failure.retry = Retry::OnceMore;
        }
    }
    failure.message = format!("health check of {} failed: {}", config.address, failure.message);
    if failure.kind == Kind::ServiceUnknown && !service.is_empty() {
        return failure.hint(format!(
            "the server does not know the service \"{}\"; is that its full name (package.Service)?",
            shown(service)
        ));
    }
    failure
}

/// Runs all at once, to the end of the last. They borrow, which tasks of their own could not.
async fn all<T>(work: Vec<impl Future<Output = T>>) -> Vec<T> {
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
