//! Which sockets of this machine accept connections, from the kernel (Linux): what `ss -ltn` and `ss -lx` show. In a container
//! these are the sockets of the container.

use std::{
    fs::File,
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

#[cfg(target_os = "linux")]
mod sock_diag;

/// How much of a file is read, in bytes. Sockets that listen come first.
const MAX_FILE: u64 = 256 * 1024;
/// Docker's own name server, which listens in the containers of each network.
const DOCKER_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// The state `TCP_LISTEN` (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";
/// The flag of a unix socket that accepts connections, `__SO_ACCEPTCON` (`include/uapi/linux/net.h`).
#[cfg(unix)]
const ACCEPTS: u32 = 1 << 16;

/// The addresses that are listened on, in order. `None`: the system does not say.
pub(crate) fn tcp() -> Option<Vec<SocketAddr>> {
    #[cfg(target_os = "linux")]
    let answer = sock_diag::tcp();
    #[cfg(not(target_os = "linux"))]
    let answer = None;
    // Some sandboxes have the files alone.
    let mut all = answer.or_else(tcp_in_files)?;
    all.retain(|address| address.ip() != DOCKER_DNS);
    all.sort_unstable_by_key(|address| (address.port(), address.ip()));
    all.dedup();
    Some(all)
}

fn tcp_in_files() -> Option<Vec<SocketAddr>> {
    let files = ["/proc/net/tcp", "/proc/net/tcp6"].map(read);
    if files.iter().all(Option::is_none) {
        return None;
    }
    Some(files.iter().flatten().flat_map(|text| tcp_in(text)).collect())
}

/// Sorts addresses by how far their ports are from this one.
pub(super) fn sort_by_distance(addresses: &mut [SocketAddr], port: u16) {
    addresses.sort_unstable_by_key(|address| (address.port().abs_diff(port), *address));
}

/// The unix sockets that accept connections: paths, and abstract names after an `@`. `None`: the system does not say.
#[cfg(unix)]
pub(crate) fn unix() -> Option<Vec<String>> {
    let mut all = unix_in(&read("/proc/net/unix")?);
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// Whether a socket that listens on `listener` accepts connections to `address`.
pub(crate) fn accepts(listener: SocketAddr, address: SocketAddr) -> bool {
    let is_same_family = listener.is_ipv4() == address.is_ipv4();
    listener.port() == address.port()
        && (listener.ip().to_canonical() == address.ip().to_canonical()
            || listener.ip().is_unspecified() && (is_same_family || listener.is_ipv6()))
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The addresses in the text of `/proc/net/tcp` or `tcp6` that are listened on (`Documentation/networking/proc_net_tcp.rst`).
fn tcp_in(text: &str) -> Vec<SocketAddr> {
    let listening = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, _remote, state) = (words.next()?, words.next()?, words.next()?);
        if state == LISTEN { address(local) } else { None }
    });
    listening.collect()
}

/// An address such as `0100007F:1F90`: words of 32 bits in the byte order of this machine, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(ip)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (index, octets) in octets.chunks_exact_mut(4).enumerate() {
                octets.copy_from_slice(&word(ip.get(index * 8..index * 8 + 8)?)?);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The names of the sockets in the text of `/proc/net/unix` that accept connections.
#[cfg(unix)]
fn unix_in(text: &str) -> Vec<String> {
    let listening = text.lines().filter_map(|line| {
        // Num RefCount Protocol Flags Type St Inode Path. The path may hold blanks.
        let mut rest = line;
        let mut flags = None;
        for column in 0..7 {
            let (word, after) = rest.trim_start_matches(' ').split_once(' ')?;
            rest = after;
            if column == 3 {
                flags = u32::from_str_radix(word, 16).ok();
            }
        }
        (flags? & ACCEPTS != 0 && !rest.is_empty()).then(|| rest.to_owned())
    });
    listening.collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// The words of an address as this machine writes them.
    fn word(octets: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(octets))
    }

    #[test]
    fn sockets_of_tcp_that_listen() {
        let (loopback, any) = (word([127, 0, 0, 1]), word([0; 4]));
        let text = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: {loopback}:C383 {any}:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n   \
             1: {any}:1F90 {any}:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n   \
             2: {loopback}:1F91 {loopback}:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"
        );
        let found: Vec<String> = tcp_in(&text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.1:50051", "0.0.0.0:8080"]);

        let (nothing, one) = (word([0; 4]), word([0, 0, 0, 1]));
        let text = format!(
            "header\n 0: {nothing}{nothing}{nothing}{one}:0050 {nothing}{nothing}{nothing}{nothing}:0000 0A 0\n 1: \
             {nothing}{nothing}{nothing}{nothing}:0051 {nothing}{nothing}{nothing}{nothing}:0000 0A 0\n"
        );
        let found: Vec<String> = tcp_in(&text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["[::1]:80", "[::]:81"]);
    }

    #[test]
    fn files_name_a_listener_too() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback works");
        let found = tcp_in_files().expect("there is /proc");
        assert!(found.contains(&listener.local_addr().expect("it is bound")), "{found:?}");
    }

    #[test]
    fn unix_sockets_that_accept() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 18042 /run/api.sock\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 18043 @api of a name\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 18044 /run/api.sock.client\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 18045\n";
        assert_eq!(unix_in(text), ["/run/api.sock", "@api of a name"]);
    }

    #[test]
    fn anything_else_is_left_out() {
        for text in [
            "",
            "\n\n",
            "0: 1 2 0A",
            "0: 0100007F:C383 x 0A",
            "0: 0100007F 0:0 0A",
            "0: éééé:0 0:0 0A",
            "0: 0100007F:FFFFF 0:0 0A",
            "0: +100007F:0x50 0:0 0A",
            " 0: 01 02 03 04 05 06 07",
        ] {
            let found = tcp_in(text);
            assert!(found.len() <= 1 && unix_in(text).is_empty(), "{text:?}: {found:?}");
        }
        assert!(tcp_in("0: ééééééééééééééééa:0 0:0 0A").is_empty());
    }

    #[test]
    fn listeners_on_all_addresses_accept_each() {
        let address = |text: &str| text.parse().expect("an address");
        for (listener, dialled, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.2:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::1]:1", "127.0.0.1:1", false),
        ] {
            assert_eq!(accepts(address(listener), address(dialled)), expected, "{listener} {dialled}");
        }
    }
}
