//! Black-box tests: they run the binary against servers on loopback and check exit code, stdout, stderr and what the server
//! received.

mod support;

mod addresses;
mod arguments;
mod blocked_output;
mod dialling;
mod empty_values;
mod environment;
mod every_address;
mod examples;
mod farewell;
mod files;
mod headers;
mod health;
mod hints;
mod list;
mod manual;
mod network;
mod output;
mod peers;
mod process;
mod repository;
mod resolver;
mod rooms;
mod slips;
mod spiffe;
mod spiffe_agents;
mod timeouts;
mod tls;
mod trust_anchors;
mod wait;
mod watch;
mod watch_goaway;
mod wire;
mod without_root;
