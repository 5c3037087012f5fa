//! A gRPC server with the health service, to try the probe on.
//!
//! ```text
//! cargo run --example health_server -- --addr 127.0.0.1:50051 --service shop.Cart=NOT_SERVING
//! ```
//!
//! It says `listening on ADDRESS` when it is ready, and serves until it is stopped. A line `NAME=STATUS` on its
//! standard input changes a status while it runs, and is repeated on its standard output once it holds. Where there is
//! no standard input to write to, as in a container, SIGUSR1 stands for `=NOT_SERVING` and SIGUSR2 for `=SERVING`.

use anyhow::Result;

mod server;
mod usage;

fn main() -> Result<()> {
    server::run(&usage::read(server::command()))
}
