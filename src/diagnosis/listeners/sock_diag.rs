//! The sockets of TCP that listen, from the kernel's `sock_diag(7)` (over `netlink(7)`). It walks those alone.
//! `/proc/net/tcp` walks the table of all connections, which takes ten milliseconds on a large machine even where it is empty.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// How much is read, in bytes: 3,000 sockets and more.
const MAX_ANSWER: usize = 256 * 1024;
/// No message of the kernel is larger (`NLMSG_GOODSIZE` in `include/linux/netlink.h`).
const MAX_MESSAGE: usize = 8192;
/// Messages and their parts begin at multiples of this (`NLMSG_ALIGNTO`).
const ALIGNMENT: usize = 4;
/// The length of a `struct nlmsghdr`.
const HEADER: usize = 16;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`: all that there are.
const DUMP: u16 = 0x301;
const IPPROTO_TCP: u8 = 6;
/// The bit of `TCP_LISTEN` (`include/net/tcp_states.h`).
const LISTEN: u32 = 1 << 10;

/// The addresses that are listened on. `None`: the kernel does not say.
pub(super) fn tcp() -> Option<Vec<SocketAddr>> {
    let mut found = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        ask(family, &mut found)?;
    }
    Some(found)
}

fn ask(family: AddressFamily, found: &mut Vec<SocketAddr>) -> Option<()> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG)).ok()?;
    send(&socket, &request(family), SendFlags::empty()).ok()?;
    let mut message = [0; MAX_MESSAGE];
    let mut read = 0;
    while read < MAX_ANSWER {
        // The kernel has each message ready when the one before is read.
        let (_, length) = recv(&socket, &mut message[..], RecvFlags::DONTWAIT).ok()?;
        read += length;
        if take(message.get(..length)?, found)? == End::Reached {
            break;
        }
    }
    Some(())
}

/// A `struct nlmsghdr` and a `struct inet_diag_req_v2`, which names no socket, but a state.
fn request(family: AddressFamily) -> [u8; 72] {
    let mut request = [0; 72];
    let length = u32::try_from(request.len()).unwrap_or_default();
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    request[HEADER] = u8::try_from(family.as_raw()).unwrap_or_default();
    request[HEADER + 1] = IPPROTO_TCP;
    request[HEADER + 4..HEADER + 8].copy_from_slice(&LISTEN.to_ne_bytes());
    request
}

#[derive(Debug, PartialEq)]
enum End {
    Reached,
    NotYet,
}

/// Takes the addresses from a message of the kernel, which has one part or several. `None`: it is an error, or broken.
fn take(mut message: &[u8], found: &mut Vec<SocketAddr>) -> Option<End> {
    loop {
        let length = usize::try_from(u32::from_ne_bytes(*message.first_chunk()?)).ok()?;
        let content = message.get(HEADER..length)?;
        match u16::from_ne_bytes([message[4], message[5]]) {
            SOCK_DIAG_BY_FAMILY => found.push(address(content)?),
            // With an error where the kernel has no such module.
            NLMSG_DONE => return (i32::from_ne_bytes(*content.first_chunk()?) >= 0).then_some(End::Reached),
            _ => return None,
        }
        message = message.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        if message.is_empty() {
            return Some(End::NotYet);
        }
    }
}

/// The local address in a `struct inet_diag_msg` (`include/uapi/linux/inet_diag.h`): a family, and after four bytes two
/// ports and two addresses, in the order of the network.
fn address(socket: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*socket.get(4..)?.first_chunk()?);
    let octets: [u8; 16] = *socket.get(8..)?.first_chunk()?;
    let ip: IpAddr = if u16::from(socket[0]) == AddressFamily::INET.as_raw() {
        Ipv4Addr::from(*octets.first_chunk()?).into()
    } else {
        Ipv6Addr::from(octets).into()
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernel_names_listeners_and_no_connections() {
        let listeners: Vec<TcpListener> =
            ["127.0.0.1:0", "[::1]:0"].iter().filter_map(|address| TcpListener::bind(address).ok()).collect();
        let connection = std::net::TcpStream::connect(listeners[0].local_addr().expect("it is bound"));
        // Not every kernel has it; then the files are read.
        let Some(found) = tcp() else { return };
        for listener in &listeners {
            assert!(found.contains(&listener.local_addr().expect("it is bound")), "{found:?}");
        }
        let client = connection.expect("it listens").local_addr().expect("it is bound");
        assert!(!found.contains(&client), "{found:?}");
    }

    fn part(kind: u16, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + content.len()).expect("it is short");
        let mut part = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], content].concat();
        part.resize(part.len().next_multiple_of(ALIGNMENT), 0);
        part
    }

    #[test]
    fn messages_of_several_parts() {
        let one =
            part(SOCK_DIAG_BY_FAMILY, &[[2, 10, 0, 0, 0xc3, 0x83, 0, 0, 127, 0, 0, 1].as_slice(), &[0; 61]].concat());
        let mut found = Vec::new();
        assert_eq!(take(&[one.clone(), one.clone()].concat(), &mut found), Some(End::NotYet));
        assert_eq!(
            take(&[one.clone(), part(NLMSG_DONE, &[0; 4]), one.clone()].concat(), &mut found),
            Some(End::Reached)
        );
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 50051)); 3]);
        // Errors, and what is cut off.
        assert_eq!(take(&part(2, &[0; 20]), &mut found), None);
        assert_eq!(take(&part(NLMSG_DONE, &(-2i32).to_ne_bytes()), &mut found), None);
        for length in 0..one.len() - ALIGNMENT {
            assert_eq!(take(&one[..length], &mut found), None, "{length}");
        }
        assert_eq!(take(&part(SOCK_DIAG_BY_FAMILY, &[2; 20]), &mut found), None);
        assert_eq!(take(&[0; 16], &mut found), None);
    }
}
