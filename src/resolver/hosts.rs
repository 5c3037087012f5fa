//! `/etc/hosts`: collects the addresses of all lines that name the host.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{ipv6_zone, read_file};

/// Longer files contain block lists, which follow the machine's own lines.
const MAX_FILE: u64 = 1024 * 1024;

/// The addresses of a name in `/etc/hosts`. An unreadable file counts as empty.
pub(super) fn read(name: &str, port: u16) -> Vec<SocketAddr> {
    read_file::read("/etc/hosts", MAX_FILE).map(|content| find(&content, name, port)).unwrap_or_default()
}

/// The addresses of a name in the text of a hosts file, without duplicates, in the order of the file.
pub(super) fn find(content: &str, name: &str, port: u16) -> Vec<SocketAddr> {
    let name = without_dot(name);
    let (mut addresses, mut known) = (Vec::new(), BTreeSet::new());
    for line in content.lines() {
        let mut words = read_file::words(line, &['#']);
        let Some(address) = words.next() else { continue };
        if words.any(|word| without_dot(word).eq_ignore_ascii_case(name))
            && let Some(address) = ipv6_zone::parse(address, port)
            && known.insert(address)
        {
            addresses.push(address);
        }
    }
    addresses
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::find;

    fn found(content: &str, name: &str) -> Vec<String> {
        find(content, name, 1).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_of_all_matching_lines_are_found() {
        let content = "# 10.0.0.9 api\n10.0.0.1 API\tother # api\n::1\talias api\n10.0.0.2 apis # api\n10.0.0.1 api";
        assert_eq!(found(content, "api"), ["10.0.0.1:1", "[::1]:1"]);
        assert_eq!(found(content, "Api."), ["10.0.0.1:1", "[::1]:1"]);
        assert_eq!(found(content, "alias"), ["[::1]:1"]);
        assert_eq!(found(content, "10.0.0.1"), [""; 0]);
    }

    #[test]
    fn broken_lines_are_skipped() {
        let content =
            "\u{fffd}\u{0}\n10.0.0 api\n10.0.0.1.1 api\nfe80::1%nonexistent9 api\n10.0.0.1\r\n 10.0.0.3 api\r\n";
        assert_eq!(found(content, "api"), ["10.0.0.3:1"]);
        assert_eq!(found("fe80::1%7 api", "api"), ["[fe80::1%7]:1"]);
    }
}
