//! The modules of `grpc_health_probe`, for its binary, its tests, benchmarks and fuzz targets. Nothing here is a stable
//! interface. ARCHITECTURE.md shows how a probe passes through them.

#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod outcome;
#[doc(hidden)]
pub mod probe;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod signals;
#[doc(hidden)]
pub mod trace;

mod alts;
mod backoff;
mod connection;
mod deadline;
mod diagnosis;
mod duration;
mod file;
mod handshaker;
mod http2;
mod join_all;
mod net;
mod resolver;
mod rpc;
mod spiffe;
mod text;
mod tls;
