//! The `:authority` of requests, by which a proxy chooses the server (RFC 9113, section 8.3.1).

use std::net::Ipv6Addr;

use anyhow::{Result, anyhow, ensure};
use http::uri::Authority;

use super::options::Given;
use crate::outcome::Failure;

/// Reads `-authority`: a host, and perhaps a port.
///
/// # Errors
/// `usage`.
pub(super) fn given(given: &Given) -> Result<Authority, Failure> {
    read(&given.text).map_err(|error| given.without_user().unusable(&error))
}

fn read(text: &str) -> Result<Authority> {
    ensure!(!text.contains('@'), "an authority has no user; write host or host:port");
    ensure!(!text.contains('/'), "an authority has no scheme and no path; write host or host:port");
    let authority = of_name(text)?;
    let port = authority.as_str().strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':'));
    let is_valid =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|it: u16| it > 0);
    ensure!(port.is_none_or(is_valid), "the port is not a number from 1 to 65535");
    ensure!(!authority.host().is_empty(), "the host is missing; write host or host:port");
    Ok(authority)
}

/// The authority that a server's name, perhaps with a port, makes.
///
/// # Errors
/// It has characters that an authority cannot have.
pub(super) fn of_name(name: &str) -> Result<Authority> {
    let bracketed = name.parse::<Ipv6Addr>().map(|address| format!("[{address}]"));
    bracketed.as_deref().unwrap_or(name).parse().map_err(|_| anyhow!("not a valid authority"))
}
