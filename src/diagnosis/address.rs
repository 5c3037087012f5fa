//! The first step: what was understood of the command line and of the environment.

use std::env;

use serde::Serialize;

use super::command_line::CommandLine;
use crate::net::{Endpoint, Host, Target};

/// Variables of the system that change what a probe does, what they say, and the flag that they matter to. Their values are not
/// shown: they may be secrets.
const VARIABLES: [(&str, &str, &str); 5] = [
    ("LOCALDOMAIN", "the search domains of names", "addr"),
    ("RES_OPTIONS", "how name servers are asked", "addr"),
    ("SSL_CERT_FILE", "the system's trusted certificates", "tls"),
    ("SSL_CERT_DIR", "the system's trusted certificates", "tls"),
    ("SPIFFE_ENDPOINT_SOCKET", "where the SPIFFE Workload API is", "spiffe"),
];
/// Variables that other programs obey.
const IGNORED: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "grpc_proxy"];

/// What was understood.
#[derive(Debug, Serialize)]
pub(crate) struct Address {
    pub(crate) given: String,
    /// Where that is.
    pub(crate) means: String,
    /// TLS or plaintext, and which servers are trusted.
    pub(crate) security: String,
    /// The services to ask about.
    pub(crate) asks: Vec<String>,
    /// Variables, and what they set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) variables: Vec<Variable>,
    /// Variables that look like the probe's and are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unknown_variables: Option<String>,
}

/// An environment variable.
#[derive(Debug, Serialize)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) sets: String,
}

impl Address {
    /// Describes the target. `security` says how it is reached.
    pub(crate) fn new(target: &Target, security: String, asks: &[String], command: &CommandLine) -> Self {
        let by_flag = command.arguments.iter().filter_map(|argument| {
            let name = argument.variable.clone()?;
            let value = argument.value.as_ref().map_or_else(String::new, |value| format!("={value}"));
            Some(Variable { name, sets: format!("-{}{value}", argument.flag) })
        });
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let uses_system = !command.has("tls-ca-cert") && !command.has("tls-no-verify");
        let is_used = |name: &str, flag| command.has(flag) && (uses_system || !name.starts_with("SSL_CERT_"));
        let of_system = VARIABLES.into_iter().filter(|(name, _, flag)| is_set(name) && is_used(name, flag));
        let of_system = of_system.map(|(name, sets, _)| Variable { name: name.to_owned(), sets: sets.to_owned() });
        let ignored = IGNORED.into_iter().filter(|name| is_set(name));
        let ignored = ignored
            .map(|name| Variable { name: name.to_owned(), sets: "nothing here: a probe follows no proxy".to_owned() });
        Self {
            given: target.address.clone(),
            means: meaning(&target.endpoint),
            security,
            asks: asks.to_vec(),
            variables: by_flag.chain(of_system).chain(ignored).collect(),
            unknown_variables: command.unknown_variables.clone(),
        }
    }
}

fn meaning(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Tcp(Host::Loopback | Host::Unspecified(_), port) => {
            format!("TCP port {port} of this machine: 127.0.0.1 and ::1")
        }
        Endpoint::Tcp(Host::Ip(ip), port) => format!("TCP port {port} of {ip}"),
        Endpoint::Tcp(Host::Name(name), port) => format!("TCP port {port} of each address of {name}"),
        Endpoint::Unix(path) if path.is_relative() => {
            let directory = env::current_dir().map_or("here".to_owned(), |path| path.display().to_string());
            format!("the unix socket {} in {directory}", path.display())
        }
        Endpoint::Unix(path) => format!("the unix socket {}", path.display()),
        Endpoint::Abstract(name) => format!("the unix socket {name} in the abstract namespace of this machine"),
    }
}
