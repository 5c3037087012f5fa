//! A gRPC server with the health service, to try the probe with.
//!
//! ```text
//! cargo run --example health_server -- --addr 127.0.0.1:50051 --service shop.Cart=NOT_SERVING
//! ```
//!
//! It prints `listening on ADDRESS` when it is ready, and runs until it is stopped. A line `NAME=STATUS` on standard input
//! changes a status. The server repeats the line on standard output when the change takes effect. Without standard input,
//! as in a container, SIGUSR1 means `=NOT_SERVING` and SIGUSR2 means `=SERVING`.

use anyhow::Result;

mod server;
mod usage;

fn main() -> Result<()> {
    server::run(&usage::read(server::command()))
}
