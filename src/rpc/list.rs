//! `Health/List`: all services of a server at once. tonic-health does not have it yet, so its messages are written here as in
//! health.proto.

use std::collections::BTreeMap;

use http::{Uri, uri::PathAndQuery};
use tonic::{Code, Request, Status, client::Grpc, codec::CompressionEncoding::Gzip};
use tonic_health::pb::HealthCheckResponse;

use super::{
    guard::{Guard, MAX_LIST},
    limited::{Limited, LimitedCodec},
};
use crate::outcome::{Failure, Kind};

const PATH: &str = "/grpc.health.v1.Health/List";
/// How many services a list may have. The largest servers have some thousands; each takes some hundred bytes here.
const MAX_SERVICES: usize = 10_000;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct HealthListRequest {}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct HealthListResponse {
    #[prost(btree_map = "string, message", tag = "1")]
    statuses: BTreeMap<String, HealthCheckResponse>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Count {
    #[prost(message, repeated, tag = "1")]
    services: Vec<()>,
}

impl Limited for HealthListResponse {
    type Count = Count;

    fn check(count: &Count) -> Result<(), Failure> {
        let services = count.services.len();
        if services <= MAX_SERVICES {
            return Ok(());
        }
        let cause = format!("the server lists {services} services, and {MAX_SERVICES} are the most");
        Err(Failure::new(Kind::RpcFailed, cause).hint("ask for each with -service"))
    }
}

/// Requests all services with their statuses.
///
/// # Errors
/// As tonic reports them.
pub(super) async fn list(
    guard: Guard,
    origin: Uri,
    gzip: bool,
    request: Request<HealthListRequest>,
) -> Result<BTreeMap<String, HealthCheckResponse>, Status> {
    let mut client = Grpc::with_origin(guard, origin).max_decoding_message_size(MAX_LIST);
    if gzip {
        client = client.send_compressed(Gzip).accept_compressed(Gzip);
    }
    let codec = LimitedCodec::<HealthListRequest, HealthListResponse>::new();
    let response = client.unary(request, PathAndQuery::from_static(PATH), codec).await?;
    Ok(response.into_inner().statuses)
}

/// The services and statuses of a response.
///
/// # Errors
/// `nothing-listed`: there are none.
pub(super) fn statuses(statuses: BTreeMap<String, HealthCheckResponse>) -> Result<Vec<(String, i32)>, Failure> {
    if statuses.is_empty() {
        return Err(Failure::new(Kind::NothingListed, Failure::NOTHING_LISTED)
            .hint("it has registered none with its health service"));
    }
    Ok(statuses.into_iter().map(|(service, answer)| (service, answer.status)).collect())
}

/// Adds hints for the failures of this method.
pub(super) fn explain(failure: Failure) -> Failure {
    match failure.grpc_code {
        Some(Code::ResourceExhausted) => failure.hint(
            "it has more services than it lists (grpc-go: 100), or too many requests; ask for each with -service",
        ),
        _ => failure,
    }
}
