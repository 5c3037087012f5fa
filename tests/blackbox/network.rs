//! Names and networks: resolvers that answer, refuse or say nothing; names with several addresses; a full backlog.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
};

use tokio::{net::TcpSocket, runtime::Runtime};

use crate::support::{
    frames::serving,
    names::{Resolver, probe_in, resolve_on},
    peer::Peer,
    pki::Files,
    privileges,
    probe::{Probe, Ran},
    server,
};

const NOWHERE: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 99);

#[test]
fn a_name_that_dns_knows() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = resolve_on([127, 53, 0, 1], Resolver::Answers(vec![Ipv4Addr::LOCALHOST.into()]));
    probe_in("", dns, &[&format!("-addr=user-service:{}", server.port())]).expect_healthy();
    let addr = format!("-addr=dns:///user-service.example:{}", server.port());
    let line = probe_in("", dns, &[&addr, "-output=json"]).json();
    assert_eq!(line["peer"], server.address.to_string());
    assert!(line["timings_ms"]["resolve"].is_number(), "{line}");
}

#[test]
fn a_name_that_dns_does_not_know() {
    let Some(()) = privileges::root() else { return };
    let dns = resolve_on([127, 53, 0, 2], Resolver::SaysNoSuchName);
    let lines = "error: cannot resolve \"user-service\": no such host\n\
                 hint: in Docker, both containers must share a network for this name to exist\n";
    probe_in("", dns, &["-addr=user-service:50051"]).expect(1, "", lines);
    probe_in("", dns, &["-addr=user-service:50051", "-output=json", "-exit-codes=detailed"]).expect_kind(
        2,
        "resolve",
        "name-not-found",
    );
}

#[test]
fn a_name_without_an_address() {
    let Some(()) = privileges::root() else { return };
    let dns = resolve_on([127, 53, 0, 3], Resolver::Answers(Vec::new()));
    probe_in("", dns, &["-addr=user-service:50051", "-output=json", "-exit-codes=detailed"]).expect_kind(
        2,
        "resolve",
        "name-not-found",
    );
}

#[test]
fn a_resolver_that_fails() {
    let Some(()) = privileges::root() else { return };
    let dns = resolve_on([127, 53, 0, 4], Resolver::Fails);
    probe_in("", dns, &["-addr=user-service:50051", "-output=json", "-exit-codes=detailed"]).expect_kind(
        2,
        "resolve",
        "resolve-failed",
    );
    probe_in("", NOWHERE, &["-addr=user-service:50051", "-output=json", "-exit-codes=detailed"]).expect_kind(
        2,
        "resolve",
        "resolve-failed",
    );
}

#[test]
fn a_resolver_that_stays_silent() {
    let Some(()) = privileges::root() else { return };
    let dns = resolve_on([127, 53, 0, 5], Resolver::StaysSilent);
    probe_in("", dns, &["-addr=user-service:50051"])
        .expect_error(1, "error: resolving \"user-service\" timed out after 1s: 127.53.0.5 did not answer");
    probe_in("", dns, &["-addr=user-service:50051", "-output=json", "-exit-codes=detailed"]).expect_kind(
        2,
        "resolve",
        "resolve-timeout",
    );
}

#[test]
fn localhost_needs_no_resolver() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    probe_in("", NOWHERE, &[&format!("-addr=localhost:{}", server.port())]).expect_healthy();
}

#[test]
fn a_name_whose_first_address_refuses() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let addr = format!("-addr=two:{}", server.port());
    probe_in("127.0.0.9 two\n127.0.0.1 two\n", NOWHERE, &[&addr]).expect_healthy();
}

#[test]
fn a_name_whose_addresses_all_refuse() {
    let Some(()) = privileges::root() else { return };
    let lines = "error: cannot connect to two:1: connection refused (127.0.0.8:1, 127.0.0.9:1)\n\
                 hint: nothing listens there; is the server up, and on this port?\n";
    probe_in("127.0.0.8 two\n127.0.0.9 two\n", NOWHERE, &["-addr=two:1"]).expect(1, "", lines);
}

#[test]
fn a_name_whose_first_address_is_silent() {
    let Some(()) = privileges::root() else { return };
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(serving());
        peer.drain();
    });
    let full = FullBacklog::new(SocketAddr::from(([127, 0, 0, 9], peer.address.port())));
    let addr = format!("-addr=two:{}", full.address.port());
    probe_in("127.0.0.9 two\n127.0.0.1 two\n", NOWHERE, &[&addr]).expect_healthy();
}

#[test]
fn a_backlog_that_is_full() {
    let full = FullBacklog::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    let line = format!("error: connecting to {} timed out after 1s: no answer", full.address);
    Probe::new([format!("-addr={}", full.address)]).run().expect_error(1, &line);
    Probe::new([&format!("-addr={}", full.address), "-output=json", "-exit-codes=detailed"]).run().expect_kind(
        2,
        "connect",
        "connect-timeout",
    );
}

#[test]
fn a_unix_socket_whose_backlog_is_full() {
    let files = Files::new();
    let path = files.path("socket");
    let listener =
        socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("sockets can be made");
    listener.bind(&socket2::SockAddr::unix(&path).expect("a short path")).expect("the directory is ours");
    listener.listen(0).expect("it is bound");
    let _queued = std::os::unix::net::UnixStream::connect(&path).expect("a queue for none takes one");
    let addr = format!("-addr=unix:{}", path.display());
    let line =
        format!("error: connecting to {} timed out after 1s: the server accepts no more connections", &addr[6..]);
    Probe::new([&addr]).run().expect_error(1, &line);
    Probe::new([&addr, "-output=json", "-exit-codes=detailed"]).run().expect_kind(2, "connect", "connect-timeout");
    // It goes on as soon as there is room.
    let running = Probe::new([&addr, "-output=json"]).start();
    thread::spawn(move || (0..2).for_each(|_| drop(listener.accept())));
    running.finish().expect_kind(1, "http2", "closed-early");
}

/// As in most containers: there is 127.0.0.1, and no `::1`.
#[test]
fn a_host_without_ipv6_is_not_told_of_it() {
    let Some(()) = privileges::root() else { return };
    let script = r#"ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && exec "$0" "$@""#;
    let ran = Probe::wrapped(&["unshare", "--net", "sh", "-c", script], ["-addr=:1"]).run();
    ran.expect_error(1, "error: cannot connect to :1: connection refused (127.0.0.1:1)");
}

/// A listener that accepts nothing and whose queue is full, so that the kernel drops what comes.
struct FullBacklog {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _queued: Vec<TcpStream>,
    _runtime: Runtime,
}

impl FullBacklog {
    fn new(address: SocketAddr) -> Self {
        let runtime = Runtime::new().expect("a runtime can be made");
        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4().expect("a socket can be made");
            socket.bind(address).expect("the address is free");
            socket.listen(0).expect("it is bound")
        });
        let address = listener.local_addr().expect("it is bound");
        // A queue for none takes one.
        let queued = vec![TcpStream::connect(address).expect("the first is taken")];
        Self { address, _listener: listener, _queued: queued, _runtime: runtime }
    }
}

/// Runs the probe on a machine with addresses besides loopback, where something listens on `listen` alone.
fn probe_own_machine(listen: &str, arguments: &[&str]) -> Ran {
    const SCRIPT: &str = r#"ip link set lo up && ip address add 10.9.8.7/24 dev lo && ip address add fd00::7/64 dev lo &&
        ip route add default dev lo && ip -6 route add default dev lo && echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind &&
        exec perl -MIO::Socket::IP -e '
            my $listener = IO::Socket::IP->new(Listen => 8, LocalAddr => $ENV{LISTEN}, V6Only => 1) or die $@;
            exit(system(@ARGV) >> 8);
        ' "$0" "$@""#;
    Probe::wrapped(&["unshare", "--net", "sh", "-c", SCRIPT], arguments).env("LISTEN", listen).run()
}

#[test]
fn a_server_that_listens_elsewhere_on_this_machine() {
    let Some(()) = privileges::root() else { return };
    for (listen, addr, takes) in [
        ("127.0.0.1:50051", "10.9.8.7:50051", "127.0.0.1:50051"),
        ("10.9.8.7:50051", ":50051", "10.9.8.7:50051"),
        ("0.0.0.0:50051", "[::1]:50051", "127.0.0.1:50051"),
        ("0.0.0.0:50051", "[fd00::7]:50051", "127.0.0.1:50051"),
        ("[::1]:50051", "[fd00::7]:50051", "[::1]:50051"),
        ("[::1]:50051", "127.0.0.1:50051", "[::1]:50051"),
    ] {
        let hint = format!(
            "hint: {takes} accepts connections: probe that address, or let the server listen on all addresses\n"
        );
        let ran = probe_own_machine(listen, &["-addr", addr]);
        assert!(ran.code == Some(1) && ran.stderr.contains("connection refused"), "{ran}");
        assert!(ran.stderr.ends_with(&hint), "{ran}expected {hint}");
    }
}

#[test]
fn a_server_elsewhere_is_looked_for_once_and_at_the_end() {
    let Some(()) = privileges::root() else { return };
    let ran = probe_own_machine("127.0.0.1:50051", &["-addr=10.9.8.7:50051", "-connect-timeout=200ms"]);
    assert!(ran.stderr.contains(" attempts in 200ms)\nhint: 127.0.0.1:50051 accepts connections:"), "{ran}");
}

#[test]
fn a_server_on_another_port_or_machine_is_not_meant() {
    let Some(()) = privileges::root() else { return };
    let loopback = "hint: nothing listens there; is the server up, and on this port?\n";
    let other = "hint: nothing listens there; is the server up, on this port, and not on its 127.0.0.1 alone?\n";
    for (listen, addr, hint) in [("0.0.0.0:50052", ":50051", loopback), ("0.0.0.0:50052", "10.9.8.7:50051", other)] {
        let ran = probe_own_machine(listen, &["-addr", addr]);
        assert!(ran.stderr.ends_with(hint), "{ran}");
    }
    // Not this machine's address, although it could be bound.
    let ran = probe_own_machine("127.0.0.1:50051", &["-addr=192.0.2.99:50051", "-connect-timeout=200ms"]);
    assert!(!ran.stderr.contains("takes connections"), "{ran}");
}
