//! What the tests share: the probe as a process, a PKI in memory, healthy and misbehaving servers.

#[path = "../../../examples/server/connection.rs"]
mod connection;
pub mod frames;
#[path = "../../../examples/server/list.rs"]
mod list;
pub mod names;
pub mod peer;
pub mod pki;
pub mod privileges;
pub mod probe;
pub mod server;
pub mod unused;
pub mod workload;
