//! Connecting: name servers that answer, fail or stay silent; names with several addresses; a full backlog; hints about
//! other addresses of this machine.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

use tokio::{net::TcpSocket, runtime::Runtime};

use crate::support::{
    dns::{Behavior, name_server_on, run_with_dns},
    frames::serving,
    needs,
    peer::Peer,
    pki::Files,
    probe::{Probe, RunResult},
    server,
};

const NO_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 99);

#[test]
fn name_in_dns_is_healthy() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let dns = name_server_on([127, 53, 0, 1], Behavior::Answers(vec![Ipv4Addr::LOCALHOST.into()]));
    run_with_dns("", dns, &[&format!("-addr=user-service:{}", server.port())]).expect_healthy();
    let addr = format!("-addr=dns:///user-service.example:{}", server.port());
    let line = run_with_dns("", dns, &[&addr, "-output=json"]).json();
    assert_eq!(line["peer"], server.address.to_string());
    assert!(line["timings_ms"]["resolve"].is_number(), "{line}");
}

#[test]
fn unknown_name_fails_at_once_as_name_not_found() {
    let Some(()) = needs::root() else { return };
    let dns = name_server_on([127, 53, 0, 2], Behavior::NoSuchName);
    let lines = "error: cannot resolve \"user-service\": no such host\n\
                 hint: if it is a container's name, both must share a network (not the engine's default bridge)\n";
    run_with_dns("", dns, &["-addr=user-service:50051"]).expect(1, "", lines);
    run_with_dns("", dns, &["-addr=user-service:50051", "-output=json", "-exit-codes=detailed"]).expect_kind(
        2,
        "resolve",
        "name-not-found",
    );
}

#[test]
fn name_without_address_has_kind_name_not_found() {
    let Some(()) = needs::root() else { return };
    let dns = name_server_on([127, 53, 0, 3], Behavior::Answers(Vec::new()));
    run_with_dns("", dns, &["-addr=user-service:50051", "-output=json", "-exit-codes=detailed"]).expect_kind(
        2,
        "resolve",
        "name-not-found",
    );
}

#[test]
fn failing_name_server_has_kind_resolve_failed() {
    let Some(()) = needs::root() else { return };
    let dns = name_server_on([127, 53, 0, 4], Behavior::ServFail);
    run_with_dns("", dns, &["-addr=user-service:50051", "-output=json", "-exit-codes=detailed"]).expect_kind(
        2,
        "resolve",
        "resolve-failed",
    );
    run_with_dns("", NO_NAME_SERVER, &["-addr=user-service:50051", "-output=json", "-exit-codes=detailed"])
        .expect_kind(2, "resolve", "resolve-failed");
}

#[test]
fn silent_name_server_has_kind_resolve_timeout() {
    let Some(()) = needs::root() else { return };
    let dns = name_server_on([127, 53, 0, 5], Behavior::Silent);
    run_with_dns("", dns, &["-addr=user-service:50051"])
        .expect_error(1, "error: resolving \"user-service\" timed out after 1s: 127.53.0.5 did not answer");
    run_with_dns("", dns, &["-addr=user-service:50051", "-output=json", "-exit-codes=detailed"]).expect_kind(
        2,
        "resolve",
        "resolve-timeout",
    );
}

#[test]
fn localhost_needs_no_name_server() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    run_with_dns("", NO_NAME_SERVER, &[&format!("-addr=localhost:{}", server.port())]).expect_healthy();
}

#[test]
fn next_address_is_tried_after_a_refusal() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let addr = format!("-addr=two:{}", server.port());
    run_with_dns("127.0.0.9 two\n127.0.0.1 two\n", NO_NAME_SERVER, &[&addr]).expect_healthy();
}

#[test]
fn refusal_by_all_addresses_names_each() {
    let Some(()) = needs::root() else { return };
    let lines = "error: cannot connect to two:1: connection refused (127.0.0.8:1, 127.0.0.9:1)\n\
                 hint: nothing listens there; is the server up, and on this port?\n";
    run_with_dns("127.0.0.8 two\n127.0.0.9 two\n", NO_NAME_SERVER, &["-addr=two:1"]).expect(1, "", lines);
}

#[test]
fn next_address_is_tried_while_the_first_is_silent() {
    let Some(()) = needs::root() else { return };
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(serving());
        peer.drain();
    });
    let full = FullBacklog::new(SocketAddr::from(([127, 0, 0, 9], peer.address.port())));
    let addr = format!("-addr=two:{}", full.address.port());
    run_with_dns("127.0.0.9 two\n127.0.0.1 two\n", NO_NAME_SERVER, &[&addr]).expect_healthy();
}

/// Each silent address has a quarter of a second to itself (RFC 8305, section 5), so the ninth has its turn after 2 s. If each
/// had half a second, it would come too late.
#[test]
fn silent_addresses_delay_the_next_by_a_quarter_of_a_second_each() {
    let Some(()) = needs::root() else { return };
    let peer = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(serving());
        peer.drain();
    });
    let port = peer.address.port();
    let silent: Vec<_> = (11..19).map(|last| FullBacklog::new(SocketAddr::from(([127, 0, 0, last], port)))).collect();
    let silent_lines: Vec<_> = silent.iter().map(|full| format!("{} nine\n", full.address.ip())).collect();
    let hosts = silent_lines.concat() + "127.0.0.1 nine\n";
    let addr = format!("-addr=nine:{port}");
    run_with_dns(&hosts, NO_NAME_SERVER, &[&addr, "-connect-timeout=3900ms"]).expect_healthy();
    // In less time not all of them have had their turn.
    let ran = run_with_dns(&hosts, NO_NAME_SERVER, &[&addr, "-timeout=1500ms", "-output=json"]);
    ran.expect_kind(1, "connect", "connect-timeout");
}

#[test]
fn full_tcp_backlog_times_out() {
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
fn full_unix_socket_backlog_times_out() {
    let files = Files::new();
    let path = files.path("socket");
    let listener =
        socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("sockets can be created");
    listener.bind(&socket2::SockAddr::unix(&path).expect("a short path")).expect("the directory is writable");
    listener.listen(0).expect("it is bound");
    let _queued = std::os::unix::net::UnixStream::connect(&path).expect("a queue of length 0 holds one connection");
    let addr = format!("-addr=unix:{}", path.display());
    let line =
        format!("error: connecting to {} timed out after 1s: the server accepts no more connections", &addr[6..]);
    Probe::new([&addr]).run().expect_error(1, &line);
    Probe::new([&addr, "-output=json", "-exit-codes=detailed"]).run().expect_kind(2, "connect", "connect-timeout");
    // The probe connects as soon as the backlog has room.
    let running = Probe::new([&addr, "-output=json"]).start();
    thread::spawn(move || (0..2).for_each(|_| drop(listener.accept())));
    running.finish().expect_kind(1, "http2", "closed-early");
}

/// Most containers have 127.0.0.1 and no `::1`.
#[test]
fn host_without_ipv6_reports_only_ipv4() {
    let Some(()) = needs::root() else { return };
    let script = r#"ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && exec "$0" "$@""#;
    let ran = Probe::wrapped(&["unshare", "--net", "sh", "-c", script], ["-addr=:1"]).run();
    ran.expect_error(1, "error: cannot connect to :1: connection refused (127.0.0.1:1)");
}

#[test]
fn address_of_ipv6_on_a_host_without_ipv6() {
    let Some(()) = needs::root() else { return };
    let script = r#"ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && exec "$0" "$@""#;
    let run = |words: &[&str]| Probe::wrapped(&["unshare", "--net", "sh", "-c", script], words).run();
    let lines = "error: cannot connect to [::1]:1: this machine has no IPv6\nhint: probe an address of IPv4\n";
    run(&["-addr=[::1]:1"]).expect(1, "", lines);
    run(&["-addr=[::1]:1", "-output=json"]).expect_kind(1, "connect", "unreachable");
    // The hint leads on.
    run(&["-addr=127.0.0.1:1"]).expect_error(1, "error: cannot connect to 127.0.0.1:1: connection refused");
}

/// A machine with one local port, which another connection to the same server has.
#[test]
fn no_local_port_is_told_and_waited_for() {
    const SCRIPT: &str = r#"ip link set lo up && echo "40000 40000" >/proc/sys/net/ipv4/ip_local_port_range &&
        exec perl -MIO::Socket::IP -e '
            my $listener = IO::Socket::IP->new(Listen => 8, LocalAddr => "127.0.0.1:50051", ReuseAddr => 1) or die $@;
            my $other = IO::Socket::IP->new(PeerAddr => "127.0.0.1:50051") or die $@;
            exit(system(@ARGV) >> 8);
        ' "$0" "$@""#;
    let Some(()) = needs::root() else { return };
    let run = |words: &[&str]| Probe::wrapped(&["unshare", "--net", "sh", "-c", SCRIPT], words).run();
    let line = "error: cannot connect to 127.0.0.1:50051: this machine has no free port to connect from";
    let hint = "hint: many connections to it are open or were closed a moment ago; \
                wait, or widen net.ipv4.ip_local_port_range\n";
    run(&["-addr=127.0.0.1:50051"]).expect(1, "", &format!("{line}\n{hint}"));
    run(&["-addr=127.0.0.1:50051", "-output=json"]).expect_kind(1, "connect", "no-local-port");
    // It may end by itself, as a refusal may.
    let ran = run(&["-addr=127.0.0.1:50051", "-connect-timeout=300ms"]);
    assert!(ran.stderr.starts_with(&format!("{line} (")) && ran.stderr.contains(" attempts in 300ms)\n"), "{ran}");
}

/// A machine that connects from the very port that nothing listens on, so that the socket is connected with itself.
#[test]
fn socket_connected_with_itself_is_refused_and_leaves_the_port_free() {
    const SCRIPT: &str = r#"ip link set lo up && echo "50055 50055" >/proc/sys/net/ipv4/ip_local_port_range &&
        "$0" "$@"; "$0" "$@"; "$0" "$@" -diagnose"#;
    let Some(()) = needs::root() else { return };
    let ran = Probe::wrapped(&["unshare", "--net", "sh", "-c", SCRIPT], ["-addr=127.0.0.1:50055"]).run();
    let refused = "error: cannot connect to 127.0.0.1:50055: connection refused\n\
                   hint: nothing listens there; is the server up, and on this port?\n";
    assert_eq!(ran.stderr, refused.repeat(2), "{ran}");
    assert!(ran.stdout.contains("  127.0.0.1:50055  connection refused"), "{ran}");
}

/// A listener that accepts nothing and has a full queue, so that the kernel drops new connections.
struct FullBacklog {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _queued: Vec<TcpStream>,
    _runtime: Runtime,
}

impl FullBacklog {
    fn new(address: SocketAddr) -> Self {
        let runtime = Runtime::new().expect("a runtime can be created");
        let listener = runtime.block_on(async {
            let socket = TcpSocket::new_v4().expect("a socket can be created");
            socket.bind(address).expect("the address is free");
            socket.listen(0).expect("it is bound")
        });
        let address = listener.local_addr().expect("it is bound");
        // A queue of length 0 holds one connection.
        let queued = vec![TcpStream::connect(address).expect("the queue holds one connection")];
        Self { address, _listener: listener, _queued: queued, _runtime: runtime }
    }
}

/// Runs the probe in a network with two addresses besides loopback, where a server listens on `listen` only.
fn run_with_local_server(listen: &str, arguments: &[&str]) -> RunResult {
    const SCRIPT: &str = r#"ip link set lo up && ip address add 10.9.8.7/24 dev lo && ip address add fd00::7/64 dev lo &&
        ip route add default dev lo && ip -6 route add default dev lo && echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind &&
        exec perl -MIO::Socket::IP -e '
            my $listener = IO::Socket::IP->new(Listen => 8, LocalAddr => $ENV{LISTEN}, V6Only => 1) or die $@;
            exit(system(@ARGV) >> 8);
        ' "$0" "$@""#;
    Probe::wrapped(&["unshare", "--net", "sh", "-c", SCRIPT], arguments).env("LISTEN", listen).run()
}

#[test]
fn hint_names_another_local_address_that_accepts() {
    let Some(()) = needs::root() else { return };
    for (listen, addr, accepting) in [
        ("127.0.0.1:50051", "10.9.8.7:50051", "127.0.0.1:50051"),
        ("10.9.8.7:50051", ":50051", "10.9.8.7:50051"),
        ("0.0.0.0:50051", "[::1]:50051", "127.0.0.1:50051"),
        ("0.0.0.0:50051", "[fd00::7]:50051", "127.0.0.1:50051"),
        ("[::1]:50051", "[fd00::7]:50051", "[::1]:50051"),
        ("[::1]:50051", "127.0.0.1:50051", "[::1]:50051"),
        // Nothing is sent from there.
        ("127.0.0.2:50051", ":50051", "127.0.0.2:50051"),
    ] {
        let hint = format!(
            "hint: {accepting} accepts connections: probe that address, or let the server listen on all addresses\n"
        );
        let ran = run_with_local_server(listen, &["-addr", addr]);
        assert!(ran.code == Some(1) && ran.stderr.contains("connection refused"), "{ran}");
        assert!(ran.stderr.ends_with(&hint), "{ran}expected {hint}");
    }
}

#[test]
fn other_local_addresses_are_tried_after_the_last_attempt() {
    let Some(()) = needs::root() else { return };
    let ran = run_with_local_server("127.0.0.1:50051", &["-addr=10.9.8.7:50051", "-connect-timeout=200ms"]);
    assert!(ran.stderr.contains(" attempts in 200ms)\nhint: 127.0.0.1:50051 accepts connections:"), "{ran}");
}

#[test]
fn hint_names_other_ports_and_ignores_other_machines() {
    let Some(()) = needs::root() else { return };
    let hint = "hint: nothing listens on port 50051 here, but on 0.0.0.0:50052; is the server up, and on this port?\n";
    for addr in [":50051", "10.9.8.7:50051"] {
        let ran = run_with_local_server("0.0.0.0:50052", &["-addr", addr]);
        assert!(ran.stderr_as_written.ends_with(hint), "{ran}");
        let ran = run_with_local_server("0.0.0.0:50052", &["-addr", addr, "-output=json"]);
        assert!(ran.stdout_as_written.contains("here, but on 0.0.0.0:50052; is the server up"), "{ran}");
    }
    // Not an address of this machine, although binding to it works (ip_nonlocal_bind).
    let ran = run_with_local_server("127.0.0.1:50051", &["-addr=192.0.2.99:50051", "-connect-timeout=200ms"]);
    assert!(!ran.stderr.contains("accepts connections"), "{ran}");
}

/// Linux lists the connections after them, both ends of each.
#[test]
fn hint_names_other_ports_of_a_busy_machine() {
    let Some(()) = needs::root() else { return };
    // All of them listen before the first connects, as a connection may come from any port that is free.
    let listeners = ["127.0.0.1:50051", "[::1]:50052", "127.0.0.1:50053", "[::1]:50054"]
        .map(|address| TcpListener::bind(address).expect("this network has no other program"));
    let connect = |listener: &TcpListener| {
        let client = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
        (client, listener.accept().expect("one has come"))
    };
    let _connections: Vec<_> = listeners.iter().cycle().take(240).map(connect).collect();
    let ran = Probe::new(["-addr=localhost:50055"]).run();
    let hint = "hint: nothing listens on port 50055 here, but on [::1]:50054, 127.0.0.1:50053, [::1]:50052, \
                127.0.0.1:50051; is the server up, and on this port?\n";
    assert!(ran.stderr_as_written.ends_with(hint), "{ran}");
}
