//! Addresses with a zone, such as `fe80::1%eth0` (RFC 4007, section 11).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Parses an address, with or without a zone. The zone is the name or the index of an interface of this machine.
pub(super) fn parse(text: &str, port: u16) -> Option<SocketAddr> {
    match text.split_once('%') {
        None => text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port)),
        Some((address, zone)) => {
            let address: Ipv6Addr = address.parse().ok()?;
            Some(SocketAddrV6::new(address, port, 0, index(zone)?).into())
        }
    }
}

/// The index of an interface.
fn index(zone: &str) -> Option<u32> {
    if zone.bytes().all(|byte| byte.is_ascii_digit()) {
        return zone.parse().ok();
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};

        let any_socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
        name_to_index(any_socket, zone).ok()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn zones_are_names_or_indexes_of_interfaces() {
        let parsed = |text: &str| parse(text, 1).map(|address| address.to_string());
        assert_eq!(parsed("fe80::1%42").as_deref(), Some("[fe80::1%42]:1"));
        assert_eq!(parsed("::1").as_deref(), Some("[::1]:1"));
        assert_eq!(parsed("10.0.0.1").as_deref(), Some("10.0.0.1:1"));
        for text in ["fe80::1%", "fe80::1%nonexistent9", "fe80::1%4294967296", "10.0.0.1%1", "%lo", "", "x"] {
            assert_eq!(parsed(text), None, "{text}");
        }
        #[cfg(target_os = "linux")]
        assert_eq!(parsed("fe80::1%lo").as_deref(), Some("[fe80::1%1]:1"));
    }
}
