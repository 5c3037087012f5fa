//! Creates a CA, a server certificate and a client certificate, to try TLS with.
//!
//! ```text
//! cargo run --example certificates -- --directory . --name localhost --name 127.0.0.1
//! ```
//!
//! It writes ca.pem, server.pem, server.key, client.pem and client.key, unless ca.pem exists.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, Command, value_parser};

mod pki;
mod usage;

const AFTER_HELP: &str = "\
It writes ca.pem, server.pem, server.key, client.pem and client.key, unless ca.pem exists. Then, if PATH is the
current directory:

  cargo run --example health_server -- --addr 127.0.0.1:50051 --tls-cert server.pem --tls-key server.key
  cargo run -- -addr=localhost:50051 -tls -tls-ca-cert=ca.pem

With `--client-ca ca.pem` the server demands a client certificate:
`-tls-client-cert=client.pem -tls-client-key=client.key`.";

fn main() -> Result<()> {
    let command = Command::new("certificates")
        .about("Creates a CA, a server certificate and a client certificate, to try TLS with")
        .after_help(AFTER_HELP)
        .arg(
            Arg::new("directory")
                .long("directory")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .required(true)
                .help("Where to write the files, required; created if it does not exist"),
        )
        .arg(
            Arg::new("name")
                .long("name")
                .value_name("NAME")
                .action(ArgAction::Append)
                .default_value("localhost")
                .help("A name or IP address of the server; repeatable"),
        )
        .arg(
            Arg::new("seconds")
                .long("valid-for")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64))
                .default_value("31536000")
                .help("How long the server certificate is valid; with 0 it is expired"),
        )
        .arg(
            Arg::new("renew").long("renew").action(ArgAction::SetTrue).help("Overwrite existing files, with a new CA"),
        );
    let arguments = usage::read(command);

    let directory: &PathBuf = arguments.get_one("directory").expect("it is required");
    let names: Vec<String> = arguments.get_many("name").into_iter().flatten().cloned().collect();
    let valid_for = Duration::from_secs(*arguments.get_one("seconds").expect("it has a default"));
    let last = directory.join(pki::LAST);
    if last.exists() && !arguments.get_flag("renew") {
        eprintln!("{} exists: nothing is written; --renew writes all anew", last.display());
        return Ok(());
    }
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    pki::write(directory, &names, valid_for).with_context(|| format!("write to {}", directory.display()))
}
