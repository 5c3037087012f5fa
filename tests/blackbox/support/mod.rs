//! Shared by the tests: the probe as a process, a PKI in memory, name servers, healthy and misbehaving servers.

pub mod alts;
#[path = "../../../examples/server/connection.rs"]
mod connection;
pub mod dns;
pub mod frames;
#[path = "../../../examples/server/list.rs"]
mod list;
pub mod needs;
pub mod peer;
pub mod pki;
pub mod probe;
pub mod pty;
pub mod server;
pub mod unused_port;
pub mod workload;
