//! Black-box tests: the real binary against real servers on loopback, judged by exit code, stdout, stderr and what
//! the server saw.

mod support;

mod addresses;
mod arguments;
mod environment;
mod every_address;
mod files;
mod headers;
mod health;
mod list;
mod manual;
mod network;
mod output;
mod peers;
mod process;
mod repository;
mod resolver;
mod rooms;
mod spiffe;
mod tls;
mod wait;
mod waiting;
mod watch;
mod watch_goaway;
mod without_root;
