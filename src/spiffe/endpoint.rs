//! The address of the Workload API, an RFC 3986 URI in `SPIFFE_ENDPOINT_SOCKET` (`SPIFFE_Workload_Endpoint.md`, section 4).

use std::{env, net::SocketAddr};

use anyhow::{Result, anyhow, bail, ensure};
use percent_encoding::percent_decode_str;

use crate::{
    net::{Endpoint, Host, Target},
    outcome::{Failure, Kind},
    text::excerpt,
};

const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";
const FORMS: &str = "write unix:///path or tcp://ip:port";

/// The parts of a URI that come after its scheme.
struct Parts<'a> {
    /// What follows `//`, without a user.
    authority: Option<&'a str>,
    path: &'a str,
}

/// Where the agent is.
///
/// # Errors
/// `workload-api-address`: the variable is not set, or its value is not an address of the Workload API.
pub(super) fn agent() -> Result<Target, Failure> {
    let unusable = |message: String| {
        Failure::new(Kind::WorkloadApiAddress, message)
            .hint("it says where the agent's socket is mounted, as in unix:///run/spire/sockets/agent.sock")
    };
    let Some(text) = env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Err(unusable(format!("{VARIABLE} is not set, and -spiffe needs it")));
    };
    let text = text.into_string().map_err(|_| unusable(format!("{VARIABLE} is not UTF-8")))?;
    parse(&text).map_err(|cause| unusable(format!("{VARIABLE} \"{}\": {cause}", excerpt(&without_user(&text)))))
}

/// Parses the address, which messages then show as it is written.
fn parse(text: &str) -> Result<Target> {
    let (scheme, rest) = text.split_once(':').ok_or_else(|| anyhow!(FORMS))?;
    let target = match scheme.to_ascii_lowercase().as_str() {
        "unix" => unix(&parts(rest)?)?,
        "tcp" => tcp(&parts(rest)?)?,
        _ => bail!("the scheme must be unix or tcp; {FORMS}"),
    };
    Ok(Target { address: text.to_owned(), ..target })
}

/// Splits what follows the scheme, and refuses the parts that neither scheme has.
fn parts(rest: &str) -> Result<Parts<'_>> {
    match rest.find(['?', '#']).map(|at| rest.as_bytes()[at]) {
        Some(b'?') => bail!("it must not have a query, which begins with \"?\"; {FORMS}"),
        Some(_) => bail!("it must not have a fragment, which begins with \"#\"; {FORMS}"),
        None => {}
    }
    let Some(after) = rest.strip_prefix("//") else { return Ok(Parts { authority: None, path: rest }) };
    let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
    ensure!(!authority.contains('@'), "it must not have a user, which ends with \"@\"; {FORMS}");
    Ok(Parts { authority: Some(authority), path })
}

fn unix(&Parts { authority, path }: &Parts<'_>) -> Result<Target> {
    let is_empty = authority.is_none_or(str::is_empty);
    ensure!(is_empty, "a unix address has no host; write unix:///path with three slashes");
    ensure!(path.starts_with('/'), "the absolute path of a socket is missing; write unix:///path");
    let path = percent_decoded(path)?;
    // The path may begin with two slashes.
    Target::parse(&format!("unix://{path}"))
}

fn tcp(&Parts { authority, path }: &Parts<'_>) -> Result<Target> {
    let authority = authority.filter(|authority| !authority.is_empty()).ok_or_else(|| anyhow!(FORMS))?;
    ensure!(path.is_empty(), "a tcp address has no path; write tcp://ip:port");
    let address: Option<SocketAddr> = authority.parse().ok();
    let address = address.filter(|address| address.port() > 0);
    let address = address.ok_or_else(|| anyhow!("it must have an IP address and a port; write tcp://ip:port"))?;
    let endpoint = Endpoint::Tcp(Host::Ip(address.ip()), address.port());
    Ok(Target { address: String::new(), endpoint, authority: String::new() })
}

/// Decodes a path (RFC 3986, section 2.1).
fn percent_decoded(path: &str) -> Result<String> {
    let is_encoded = |after: &str| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    let is_valid = path.split('%').skip(1).all(is_encoded);
    ensure!(is_valid, "two hexadecimal digits must follow each \"%\" in the path; write a % itself as %25");
    Ok(percent_decode_str(path).decode_utf8().map_err(|_| anyhow!("the path is not UTF-8"))?.into_owned())
}

/// The address without user and password, to be shown.
fn without_user(text: &str) -> String {
    match text.split_once("//") {
        Some((scheme, rest)) => match rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())) {
            (authority, rest) if authority.contains('@') => {
                let host = authority.rsplit('@').next().unwrap_or_default();
                format!("{scheme}//…@{host}{rest}")
            }
            _ => text.to_owned(),
        },
        None => text.to_owned(),
    }
}
