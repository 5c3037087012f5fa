//! `Health/List` beside tonic-health's service, which does not have it yet.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::Incoming;
use tonic::body::Body;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::codegen::{Service, http};
use tonic::server::UnaryService;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckResponse;
use tonic_prost::ProstCodec;

/// The limit of grpc-go. With more services, `List` fails.
const MAX_SERVICES: usize = 100;

/// The statuses of all services, by name.
#[derive(Debug, Clone, Default)]
pub struct Statuses(Arc<Mutex<BTreeMap<String, HealthCheckResponse>>>);

impl Statuses {
    pub fn set(&self, service: &str, status: ServingStatus) {
        let status = match status {
            ServingStatus::Unknown => 0,
            ServingStatus::Serving => 1,
            ServingStatus::NotServing => 2,
        };
        let mut statuses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        statuses.insert(service.to_owned(), HealthCheckResponse { status });
    }
}

/// The request of `List`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthListRequest {}

/// Its answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthListResponse {
    #[prost(btree_map = "string, message", tag = "1")]
    statuses: BTreeMap<String, HealthCheckResponse>,
}

impl UnaryService<HealthListRequest> for Statuses {
    type Response = HealthListResponse;
    type Future = Ready<Result<Response<HealthListResponse>, Status>>;

    fn call(&mut self, _: Request<HealthListRequest>) -> Self::Future {
        let statuses = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ready(if statuses.len() > MAX_SERVICES {
            Err(Status::resource_exhausted(format!("server health list exceeds maximum capacity: {MAX_SERVICES}")))
        } else {
            Ok(Response::new(HealthListResponse { statuses }))
        })
    }
}

/// The health service with `List`.
#[derive(Debug, Clone)]
pub struct WithList<S> {
    pub health: S,
    pub statuses: Statuses,
}

impl<S> Service<http::Request<Incoming>> for WithList<S>
where
    S: Service<http::Request<Incoming>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.health.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Incoming>) -> Self::Future {
        if request.uri().path() != "/grpc.health.v1.Health/List" {
            return Box::pin(self.health.call(request));
        }
        let statuses = self.statuses.clone();
        Box::pin(async move {
            let codec = ProstCodec::<HealthListResponse, HealthListRequest>::default();
            let mut grpc = tonic::server::Grpc::new(codec).accept_compressed(Gzip).send_compressed(Gzip);
            Ok(grpc.unary(statuses, request).await)
        })
    }
}
