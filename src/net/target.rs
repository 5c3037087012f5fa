//! Parses targets (gRPC's address syntax in grpc/doc/naming.md, and what the Go tool accepts) into endpoints.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use anyhow::{Result, anyhow, bail, ensure};

use crate::text::excerpt;

/// The longest path of a unix socket, in bytes (`sun_path` without its terminator).
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
const NO_SPACES: &str = "an address has no spaces or control characters";
/// The port of `dns:` targets without a port.
const DNS_DEFAULT_PORT: u16 = 443;

/// What to dial, and its name in messages and requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The address as the user gave it, for messages.
    pub(crate) address: String,
    pub(crate) endpoint: Endpoint,
    /// The `:authority` of requests, unless the user gives another.
    pub(crate) authority: String,
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A TCP port.
    Tcp(Host, u16),
    /// A unix socket, by path.
    Unix(PathBuf),
    /// A unix socket in Linux's abstract namespace, by name without the leading zero byte.
    Abstract(String),
}

/// The host of a TCP endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// This machine: an empty host, or `localhost` (RFC 6761, section 6.3), which needs no resolver.
    Loopback,
    /// This machine, by the unspecified address of the family to try first: `0.0.0.0` or `[::]`.
    Unspecified(IpAddr),
    /// An address.
    Ip(IpAddr),
    /// A name to resolve, or an address with a zone.
    Name(String),
}

impl Target {
    /// Parses a target.
    ///
    /// # Errors
    /// The text is not a valid target. The message suggests a correction where possible, and does not repeat the whole text.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (endpoint, authority) = parse(text)?;
        Ok(Self { address: text.to_owned(), endpoint, authority })
    }

    /// One of the endpoints of this target, with the authority of the target.
    pub(crate) fn at(&self, address: &str, endpoint: Endpoint) -> Self {
        Self { address: address.to_owned(), endpoint, authority: self.authority.clone() }
    }

    /// The name that the server's certificate must be valid for, unless the user gives another. Unless it is an IP address,
    /// it is also the SNI.
    pub(crate) fn server_name(&self) -> String {
        match &self.endpoint {
            Endpoint::Tcp(Host::Ip(address) | Host::Unspecified(address), _) => address.to_string(),
            Endpoint::Tcp(Host::Name(name), _) => name.split('%').next().unwrap_or(name).to_owned(),
            Endpoint::Tcp(Host::Loopback, _) | Endpoint::Unix(_) | Endpoint::Abstract(_) => "localhost".to_owned(),
        }
    }
}

/// An endpoint and its authority.
type Parsed = (Endpoint, String);

fn parse(text: &str) -> Result<Parsed> {
    ensure!(!text.contains(char::is_control), NO_SPACES);
    let is_path = ["/", "./", "../"].iter().any(|start| text.starts_with(start));
    ensure!(!is_path, "a path needs its scheme; write unix:{}", excerpt(text));
    let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
    match scheme.to_ascii_lowercase().as_str() {
        "dns" => match endpoint_of(rest) {
            Some(("", endpoint)) => host_and_port(endpoint, Some(DNS_DEFAULT_PORT)),
            _ => bail!("dns://SERVER/… is not supported; write dns:///host:port (three slashes)"),
        },
        "passthrough" => {
            // The authority means nothing to this scheme.
            let (_, endpoint) = endpoint_of(rest)
                .ok_or_else(|| anyhow!("no address follows; write passthrough:///host:port (three slashes)"))?;
            match endpoint.split_once(':') {
                Some(("unix", path)) => unix(path),
                Some(("unix-abstract", name)) => unix_abstract(name),
                _ => host_and_port(endpoint, None),
            }
        }
        "ipv4" => of_family(rest, false, "ipv4:1.2.3.4:50051"),
        "ipv6" => of_family(rest, true, "ipv6:[::1]:50051"),
        "unix" => unix(rest),
        "unix-abstract" => unix_abstract(rest),
        "xds" | "vsock" | "google-c2p" => bail!("{scheme}: addresses are not supported; write host:port"),
        "http" | "grpc" | "tcp" | "h2c" if rest.starts_with("//") => {
            bail!("a URL is not an address; write {}", host_of_url(rest))
        }
        "https" | "grpcs" if rest.starts_with("//") => {
            bail!("a URL is not an address; write {} and -tls", host_of_url(rest))
        }
        _ if rest.starts_with("//") => bail!("unknown scheme \"{}\"; write host:port", excerpt(scheme)),
        _ => host_and_port(text, None),
    }
}

/// The host and port of a URL, without scheme, path and user.
fn host_of_url(rest: &str) -> String {
    let address = rest.trim_start_matches('/').split(['/', '?', '#']).next().unwrap_or_default();
    let address = address.rsplit('@').next().unwrap_or_default();
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    if address.is_empty() {
        "host:port".to_owned()
    } else if has_port {
        excerpt(address)
    } else {
        format!("{}:PORT", excerpt(address))
    }
}

/// Splits what follows `scheme:` into its authority and the endpoint (RFC 3986, section 3), which is `host:port`, `/host:port`
/// or `//authority/host:port`. `None`: an authority without an endpoint.
fn endpoint_of(rest: &str) -> Option<(&str, &str)> {
    match rest.strip_prefix("//") {
        Some(after) => after.split_once('/'),
        None => Some(("", rest.strip_prefix('/').unwrap_or(rest))),
    }
}

/// Reads an address of one family, which the number of colons tells: one stands before the port.
fn of_family(rest: &str, is_ipv6: bool, example: &str) -> Result<Parsed> {
    match host_and_port(rest, None)? {
        (Endpoint::Tcp(Host::Ip(address) | Host::Unspecified(address), port), authority)
            if (rest.matches(':').count() > 1) == is_ipv6 =>
        {
            Ok((Endpoint::Tcp(Host::Ip(address), port), authority))
        }
        _ => bail!("not an address of that family; write {example}"),
    }
}

fn host_and_port(text: &str, default_port: Option<u16>) -> Result<Parsed> {
    ensure!(!text.is_empty(), "a host and a port are missing; write host:port");
    ensure!(!text.contains(' '), NO_SPACES);
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']').ok_or_else(|| anyhow!("\"]\" is missing"))?;
            ensure!(host.contains(':') || host.parse::<Ipv4Addr>().is_ok(), "brackets are for IPv6 addresses only");
            ensure!(after.is_empty() || after.starts_with(':'), "after \"]\" only :port may follow");
            (host, after.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            _ if text.contains('@') => bail!("an address has no user; write host:port"),
            Some((_, port)) if port.contains(':') => {
                let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
                if is_v6(text) || text.rsplit_once(':').is_some_and(|(host, _)| is_v6(host)) {
                    bail!("an IPv6 address needs brackets; write [::1]:50051")
                }
                bail!("there is more than one colon; write host:port")
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match (port, default_port) {
        (Some(port), _) => parse_port(port)?,
        (None, Some(default)) => default,
        (None, None) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            bail!("a port alone needs a colon; write :{}", excerpt(text))
        }
        (None, None) => bail!("the port is missing; write host:port"),
    };
    let bracketed = text.starts_with('[');
    let authority = if host.is_empty() { format!("localhost{text}") } else { without_zone(text) };
    Ok((Endpoint::Tcp(parse_host(host, bracketed)?, port), authority))
}

/// Strips a zone (`%eth0`): it means nothing to the server, and RFC 9110 allows none in an authority.
fn without_zone(text: &str) -> String {
    match (text.find('%'), text.find(']')) {
        (Some(zone), Some(end)) if zone < end => format!("{}{}", &text[..zone], &text[end..]),
        _ => text.to_owned(),
    }
}

fn parse_port(text: &str) -> Result<u16> {
    ensure!(!text.is_empty(), "the port is missing after \":\"");
    // The probe does not read /etc/services, but accepts these two names.
    match text {
        "http" => return Ok(80),
        "https" => return Ok(443),
        _ => {}
    }
    if let Some((port, path)) = text.split_once('/') {
        bail!("\"/{}\" after the port {} does not belong to an address", excerpt(path), excerpt(port));
    }
    ensure!(text.bytes().all(|b| b.is_ascii_digit()), "port \"{}\" is not a number", excerpt(text));
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => bail!("port {} is not between 1 and 65535", excerpt(text)),
    }
}

fn parse_host(host: &str, bracketed: bool) -> Result<Host> {
    if bracketed && host.contains(':') {
        let (address, zone) = host.split_once('%').map_or((host, None), |(address, zone)| (address, Some(zone)));
        let address: Ipv6Addr = address.parse().map_err(|_| anyhow!("[{}] is not an IPv6 address", excerpt(host)))?;
        return Ok(match zone {
            None => by_address(address.into()),
            Some("") => bail!("the zone after \"%\" is missing"),
            Some(_) => Host::Name(host.to_owned()),
        });
    }
    if host.is_empty() || host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
        return Ok(Host::Loopback);
    }
    if let Ok(address) = host.parse() {
        return Ok(by_address(address));
    }
    ensure!(host.is_ascii(), "the host name is not ASCII; write its xn-- form");
    if let Some(odd) = host.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
        bail!("{odd:?} cannot be in a host name");
    }
    // RFC 1035, section 2.3.4.
    let absolute = host.strip_suffix('.').unwrap_or(host);
    ensure!(absolute.len() <= 253, "a host name has at most 253 characters");
    for label in absolute.split('.') {
        ensure!(!label.is_empty(), "the host name has an empty part");
        ensure!(label.len() <= 63, "a part of a host name has at most 63 characters");
    }
    Ok(Host::Name(host.to_owned()))
}

/// The host that an address stands for. `::ffff:127.0.0.1` is an address of IPv4, however it is written (RFC 4291, section
/// 2.5.5.2).
fn by_address(address: IpAddr) -> Host {
    let address = address.to_canonical();
    if address.is_unspecified() { Host::Unspecified(address) } else { Host::Ip(address) }
}

fn unix(path: &str) -> Result<Parsed> {
    let path = match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => bail!("unix://… needs an absolute path; write unix:///path or unix:path"),
        None => path,
    };
    ensure!(cfg!(unix), "unix sockets are not supported on this system");
    // In Go, `@` marks a name in the abstract namespace.
    if let Some(name) = path.strip_prefix('@') {
        return unix_abstract(name);
    }
    ensure!(!path.is_empty(), "the path of the socket is missing");
    ensure!(path.len() <= MAX_SOCKET_PATH, "the path of a unix socket has at most {MAX_SOCKET_PATH} bytes");
    Ok((Endpoint::Unix(path.into()), "localhost".to_owned()))
}

fn unix_abstract(name: &str) -> Result<Parsed> {
    // As in naming.md, `//` would begin an authority, which must be empty.
    let name = match name.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => bail!("unix-abstract://… takes no authority; write unix-abstract:name"),
        None => name,
    };
    ensure!(cfg!(target_os = "linux"), "abstract unix sockets exist on Linux only");
    ensure!(!name.is_empty(), "the name of the socket is missing");
    ensure!(name.len() <= MAX_SOCKET_PATH, "the name of a unix socket has at most {MAX_SOCKET_PATH} bytes");
    Ok((Endpoint::Abstract(name.to_owned()), "localhost".to_owned()))
}
