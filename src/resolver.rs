//! Resolves host names without the C library: `/etc/hosts` first, then the name servers of `/etc/resolv.conf`
//! (RFC 1035). It reads no `/etc/nsswitch.conf`, loads no shared library and starts no thread.

#[cfg(unix)]
mod exchange;
mod exchange_log;
mod findings;
#[cfg(unix)]
mod hosts;
#[cfg(unix)]
mod ipv6_zone;
#[cfg(unix)]
mod message;
#[cfg(unix)]
mod query;
#[cfg(unix)]
mod read_file;
#[cfg(unix)]
mod search;
#[cfg(unix)]
mod settings;
#[cfg(not(unix))]
mod system;
#[cfg(all(test, unix))]
mod tests;

use std::net::SocketAddr;

#[cfg(unix)]
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

#[cfg(not(unix))]
pub(crate) use self::system::lookup;
#[cfg(unix)]
use self::{exchange_log::Trace, query::Answer, settings::Settings};
pub(crate) use self::{
    exchange_log::summary,
    findings::{Cause, Findings, Lookup, Source, Unresolved},
};
#[cfg(unix)]
use crate::deadline::Deadline;

/// Resolves a host name, or an IPv6 address with a zone.
///
/// # Errors
/// The cause, and what each name server did.
#[cfg(unix)]
pub(crate) async fn lookup(name: &str, port: u16, deadline: Deadline) -> Result<Lookup, Unresolved> {
    let mut findings = Findings::default();
    if name.contains('%') {
        return match ipv6_zone::parse(name, port) {
            Some(address) => Ok(Lookup { addresses: vec![address], findings }),
            None => Err(Unresolved { cause: Cause::NoSuchInterface, findings }),
        };
    }
    let with_port = |addresses: Vec<IpAddr>| addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    if is_loopback(name) {
        let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(Lookup { addresses: with_port(addresses), findings });
    }
    let mut addresses = hosts::read(name, port);
    if !addresses.is_empty() {
        findings.source = Source::HostsFile;
        put_unroutable_last(&mut addresses);
        return Ok(Lookup { addresses, findings });
    }
    let settings = Settings::read();
    let trace = Trace::default();
    let answer = deadline.bound(search::resolve(&settings, name, deadline, &trace)).await;
    findings.source = Source::Dns;
    findings.exchanges = trace.finish();
    findings.search = settings.search;
    findings.without_servers = settings.without_servers;
    let cause = match answer {
        Ok(Answer::Addresses(addresses)) => {
            let mut addresses = with_port(addresses);
            put_unroutable_last(&mut addresses);
            return Ok(Lookup { addresses, findings });
        }
        Ok(Answer::NoSuchName) => Cause::NoSuchHost,
        Ok(Answer::NoAddress) => Cause::NoAddress,
        Ok(Answer::Nothing) => Cause::NoUsableAnswer,
        Err(_) => Cause::TimedOut,
    };
    Err(Unresolved { cause, findings })
}

/// Whether the name is in the domain `localhost`, whose names are always loopback (RFC 6761, section 6.3).
#[cfg(unix)]
fn is_loopback(name: &str) -> bool {
    let last = name.strip_suffix('.').unwrap_or(name).rsplit('.').next();
    last.is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

/// Moves addresses to the end if this machine has no route for their family (RFC 6724, section 6, rule 1).
#[cfg(unix)]
fn put_unroutable_last(addresses: &mut [SocketAddr]) {
    let has_route = |is_ipv4: bool| {
        addresses.iter().find(|address| address.is_ipv4() == is_ipv4).map(|address| {
            let any: IpAddr = if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            // Connecting a datagram socket looks up the route and sends nothing.
            UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
        })
    };
    if let (Some(ipv4), Some(ipv6)) = (has_route(true), has_route(false))
        && ipv4 != ipv6
    {
        addresses.sort_by_key(|address| address.is_ipv4() != ipv4);
    }
}

/// Parses any bytes as a DNS message and as each of the files, for tests with random input.
#[cfg(all(any(test, fuzzing), unix))]
pub(crate) fn read_anything(bytes: &[u8]) {
    message::read_anything(bytes);
    let text = String::from_utf8_lossy(bytes);
    hosts::find(&text, "api", 1);
    let settings = Settings::new(Ok(text.into_owned()), "host", None, None);
    assert!((1..=3).contains(&settings.servers.len()) && settings.search.len() <= 32, "{settings:?}");
}
