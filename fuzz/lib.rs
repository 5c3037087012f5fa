//! The probe's modules as a library for the fuzz targets, and what must hold of them whatever the input.
#![allow(dead_code, missing_docs)]

#[path = "../src/aside.rs"]
mod aside;
#[path = "../src/certificate.rs"]
mod certificate;
#[path = "../src/cli.rs"]
mod cli;
#[path = "../src/config.rs"]
mod config;
#[path = "../src/connect.rs"]
mod connect;
#[path = "../src/credentials.rs"]
mod credentials;
#[path = "../src/deadline.rs"]
mod deadline;
#[path = "../src/file.rs"]
mod file;
#[path = "../src/gather.rs"]
mod gather;
#[path = "../src/goflag.rs"]
mod goflag;
#[path = "../src/guard.rs"]
mod guard;
#[path = "../src/http2.rs"]
mod http2;
#[path = "../src/journal.rs"]
mod journal;
#[path = "../src/json.rs"]
mod json;
#[path = "../src/list.rs"]
mod list;
#[path = "../src/metadata.rs"]
mod metadata;
#[path = "../src/outcome.rs"]
mod outcome;
#[path = "../src/output.rs"]
mod output;
#[path = "../src/pem.rs"]
mod pem;
#[path = "../src/probe.rs"]
mod probe;
#[path = "../src/report.rs"]
mod report;
#[path = "../src/rpc.rs"]
mod rpc;
#[path = "../src/spiffe_id.rs"]
mod spiffe_id;
#[path = "../src/svid.rs"]
mod svid;
#[path = "../src/target.rs"]
mod target;
#[path = "../src/text.rs"]
mod text;
#[path = "../src/tls.rs"]
mod tls;
#[path = "../src/trust.rs"]
mod trust;
#[path = "../src/wire.rs"]
mod wire;
#[path = "../src/workload.rs"]
mod workload;

#[path = "../src/properties.rs"]
pub mod properties;
