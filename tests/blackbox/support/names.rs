//! Names for the probe alone. It runs with an `/etc` of its own, and the resolver is the test's, on port 53 of a loopback
//! address of its own. Both need `privileges::root()`.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    thread,
};

use super::{
    pki::Files,
    probe::{Probe, Ran, Running},
};

/// What a resolver does with a question.
pub enum Resolver {
    Answers(Vec<IpAddr>),
    SaysNoSuchName,
    Fails,
    StaysSilent,
}

/// Serves DNS (RFC 1035) on port 53 of this address, as long as the test runs.
pub fn resolve_on(address: [u8; 4], resolver: Resolver) -> Ipv4Addr {
    let socket = UdpSocket::bind((Ipv4Addr::from(address), 53)).expect("port 53 is free, and we are root");
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let question = &packet[12..length];
            let end = question.iter().position(|byte| *byte == 0).expect("names end with a zero") + 5;
            let question = &question[..end];
            let (code, addresses) = match &resolver {
                Resolver::Answers(addresses) => (0, addresses.as_slice()),
                Resolver::SaysNoSuchName => (3, &[][..]),
                Resolver::Fails => (2, &[][..]),
                Resolver::StaysSilent => continue,
            };
            let asked = &question[end - 4..end - 2];
            let records: Vec<Vec<u8>> = addresses.iter().map(record).filter(|record| record[2..4] == *asked).collect();
            let count = u8::try_from(records.len()).expect("a few");
            let head = [packet[0], packet[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
            let answer = [&head[..], question, &records.concat()].concat();
            socket.send_to(&answer, from).expect("loopback takes it");
        }
    });
    address.into()
}

/// A record of type A or AAAA for the name of the question: class IN, 60 seconds.
fn record(address: &IpAddr) -> Vec<u8> {
    let (kind, octets) = match address {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (28, address.octets().to_vec()),
    };
    let length = u8::try_from(octets.len()).expect("4 or 16");
    [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, length][..], &octets].concat()
}

/// Starts the probe with this `/etc/hosts` and this name server.
pub fn start_in(hosts: &str, name_server: Ipv4Addr, arguments: &[&str]) -> (Running, Files) {
    let files = Files::new();
    files.write("hosts", hosts);
    files.write("resolv.conf", format!("nameserver {name_server}\n"));
    // As on Debian: a name in hosts may have several addresses, and hosts comes before DNS.
    files.write("host.conf", "multi on\n");
    files.write("nsswitch.conf", "hosts: files dns\n");
    // All of /etc: the machine's resolv.conf may be a link that leads nowhere, and nothing can be mounted on that.
    let script = r#"mount --bind "$ETC" /etc && exec "$0" "$@""#;
    let probe = Probe::wrapped(&["unshare", "--mount", "sh", "-c", script], arguments);
    (probe.env("ETC", files.path("")).start(), files)
}

/// Runs the probe with this `/etc/hosts` and this name server.
pub fn probe_in(hosts: &str, name_server: Ipv4Addr, arguments: &[&str]) -> Ran {
    let (running, _files) = start_in(hosts, name_server, arguments);
    running.finish()
}
