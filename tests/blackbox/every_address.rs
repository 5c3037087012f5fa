//! `-all-addresses`: each address of a name, and which of them is sick.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex},
};

use tonic_health::ServingStatus::{NotServing, Serving};

use crate::support::{
    frames::serving,
    names::{Resolver, probe_in, resolve_on, start_in},
    peer::Peer,
    pki::{Authority, Files},
    privileges,
    probe::{Probe, Ran},
    server::{self, Changing},
};

const NOWHERE: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 98);
const REFUSED_HINT: &str = "hint: nothing listens there; is the server up, and on this port?";

/// The three addresses of the name.
fn addresses() -> Vec<IpAddr> {
    vec![[127, 0, 0, 1].into(), [127, 0, 0, 2].into(), Ipv6Addr::LOCALHOST.into()]
}

/// A server at each of these addresses, on one port.
fn servers(addresses: &[IpAddr]) -> (u16, Vec<Changing>) {
    let first = Changing::on(SocketAddr::new(addresses[0], 0));
    let port = first.server.port();
    let others = addresses[1..].iter().map(|address| Changing::on(SocketAddr::new(*address, port)));
    let servers = std::iter::once(first).chain(others).collect();
    (port, servers)
}

/// Lines without the time at their end, which each must have.
#[track_caller]
fn untimed(ran: &Ran) -> Vec<String> {
    let untimed = |line: &str| {
        let (line, time) = line.rsplit_once(" (").unwrap_or_default();
        assert!(time.ends_with("s)") && time.starts_with(|first: char| first.is_ascii_digit()), "{ran}");
        line.to_owned()
    };
    ran.stdout.lines().map(untimed).collect()
}

#[test]
fn healthy_if_all_are() {
    let Some(()) = privileges::root() else { return };
    let (port, _servers) = servers(&addresses());
    let dns = resolve_on([127, 53, 1, 1], Resolver::Answers(addresses()));
    let addr = format!("-addr=backend:{port}");
    let ran = probe_in("", dns, &[&addr, "-all-addresses"]);
    let lines = ["127.0.0.1", "127.0.0.2", "[::1]"].map(|address| format!("{address}:{port}: status: SERVING"));
    assert_eq!((ran.code, untimed(&ran).as_slice(), ran.stderr.as_str()), (Some(0), &lines[..], ""), "{ran}");
    probe_in("", dns, &[&addr, "-all-addresses", "-q"]).expect(0, "", "");
    // Without the flag, one of them is enough.
    probe_in("", dns, &[&addr]).expect_healthy();
}

#[test]
fn the_sick_one_is_named() {
    let Some(()) = privileges::root() else { return };
    let (port, mut servers) = servers(&addresses());
    servers[1].set("", NotServing);
    servers.pop().expect("there are three").stop();
    let dns = resolve_on([127, 53, 1, 2], Resolver::Answers(addresses()));
    let addr = format!("-addr=backend:{port}");
    let ran = probe_in("", dns, &[&addr, "-all-addresses", "-exit-codes=detailed"]);
    let lines = [
        format!("127.0.0.1:{port}: status: SERVING"),
        format!("127.0.0.2:{port}: service unhealthy (responded with \"NOT_SERVING\")"),
    ];
    assert_eq!((ran.code, untimed(&ran).as_slice()), (Some(2), &lines[..]), "{ran}");
    let refused = format!("error: [::1]:{port}: cannot connect to [::1]:{port}: connection refused (");
    let mut errors = ran.stderr.lines();
    assert!(errors.next().is_some_and(|line| line.starts_with(&refused)), "{ran}");
    assert_eq!((errors.next(), errors.next()), (Some(REFUSED_HINT), None), "{ran}");

    let ran = probe_in("", dns, &[&addr, "-all-addresses", "-output=json", "-q"]);
    let told: Vec<(String, String)> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("it is JSON"))
        .map(|line| (line["peer"].to_string(), line["error"]["kind"].to_string()))
        .collect();
    let expected = [
        (format!("\"127.0.0.2:{port}\""), "\"not-serving\"".to_owned()),
        (format!("\"[::1]:{port}\""), "\"connection-refused\"".to_owned()),
    ];
    assert_eq!((ran.code, told.as_slice()), (Some(1), &expected[..]), "{ran}");
}

#[test]
fn several_services_of_each() {
    let Some(()) = privileges::root() else { return };
    let (port, servers) = servers(&addresses()[..2]);
    servers[0].set("a", Serving);
    servers[1].set("a", NotServing);
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n";
    let addr = format!("-addr=backend:{port}");
    let ran = probe_in(hosts, NOWHERE, &[&addr, "-all-addresses", "-service=", "-service=a", "-service=b"]);
    // An empty name beside others is the server as a whole.
    let lines = [
        format!("127.0.0.1:{port}: \"\": status: SERVING"),
        format!("127.0.0.1:{port}: a: status: SERVING"),
        format!("127.0.0.2:{port}: \"\": status: SERVING"),
        format!("127.0.0.2:{port}: a: service unhealthy (responded with \"NOT_SERVING\")"),
    ];
    assert_eq!((ran.code, untimed(&ran).as_slice()), (Some(1), &lines[..]), "{ran}");
    for address in ["127.0.0.1", "127.0.0.2"] {
        let line = format!(
            "error: {address}:{port}: b: health check of {address}:{port} failed: NOT_FOUND: service not registered ("
        );
        assert!(ran.stderr.contains(&line), "{ran}");
    }
}

#[test]
fn until_all_are_healthy() {
    let Some(()) = privileges::root() else { return };
    let (port, servers) = servers(&addresses()[..2]);
    servers[1].set("", NotServing);
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n";
    let addr = format!("-addr=backend:{port}");
    let ran = probe_in(hosts, NOWHERE, &[&addr, "-all-addresses", "-wait=300ms"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(1), 2), "{ran}");
    let (running, _files) = start_in(hosts, NOWHERE, &[&addr, "-all-addresses", "-wait=20s"]);
    servers[1].set("", Serving);
    let ran = running.finish();
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 2), "{ran}");
}

#[test]
fn the_services_of_each() {
    let Some(()) = privileges::root() else { return };
    let (port, servers) = servers(&addresses()[..2]);
    servers[1].set("shop", NotServing);
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n127.0.0.3 backend\n";
    let ran = probe_in(hosts, NOWHERE, &[&format!("-addr=backend:{port}"), "-all-addresses", "-list"]);
    let wide = format!("127.0.0.1:{port}").len();
    let table = format!(
        "{:wide$}  SERVICE  STATUS\n\
         127.0.0.2:{port}  shop     NOT_SERVING\n\
         127.0.0.1:{port}  \"\"       SERVING\n\
         127.0.0.2:{port}  \"\"       SERVING\n",
        "ADDRESS"
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), table.as_str()), "{ran}");
    let refused = format!("error: 127.0.0.3:{port}: cannot connect to 127.0.0.3:{port}: connection refused (");
    assert!(ran.stderr.starts_with(&refused), "{ran}");
}

#[test]
fn each_is_watched() {
    let Some(()) = privileges::root() else { return };
    let (port, mut servers) = servers(&addresses()[..2]);
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n127.0.0.3 backend\n";
    let arguments = [&format!("-addr=backend:{port}"), "-all-addresses", "-watch", "-exit-codes=detailed"];
    let (mut running, _files) = start_in(hosts, NOWHERE, &arguments);
    let (stdout, stderr) = running.follow();
    let next = |lines: &crate::support::probe::Lines| {
        lines.next().split_once(' ').map(|(_, line)| line.to_owned()).unwrap_or_default()
    };
    let mut first = [next(&stdout), next(&stdout)];
    first.sort();
    assert_eq!(first, ["127.0.0.1", "127.0.0.2"].map(|address| format!("{address}:{port}: status: SERVING")));
    // One that has never answered is told, and tried again.
    assert_eq!(
        next(&stderr),
        format!("127.0.0.3:{port}: error: cannot connect to 127.0.0.3:{port}: connection refused")
    );
    assert_eq!(stderr.next(), REFUSED_HINT);
    let third = Changing::on(SocketAddr::new([127, 0, 0, 3].into(), port));
    assert_eq!(next(&stdout), format!("127.0.0.3:{port}: status: SERVING"));
    servers[1].set("", NotServing);
    assert_eq!(next(&stdout), format!("127.0.0.2:{port}: service unhealthy (responded with \"NOT_SERVING\")"));
    third.stop();
    assert!(next(&stderr).starts_with(&format!("127.0.0.3:{port}: error: watching 127.0.0.3:{port} failed: ")));
    assert!(next(&stderr).ends_with("connection refused"));
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(2));
    servers.clear();
}

#[test]
fn certificates_are_for_the_name() {
    let Some(()) = privileges::root() else { return };
    let files = Files::new();
    let authority = Authority::new("Test CA");
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
    let server = server::tls(&authority.server(&["backend"]));
    let addr = format!("-addr=backend:{}", server.port());
    let hosts = "127.0.0.1 backend other\n";
    let ran = probe_in(hosts, NOWHERE, &[&addr, "-all-addresses", "-tls", &ca]);
    assert_eq!((ran.code, untimed(&ran)), (Some(0), vec![format!("{}: status: SERVING", server.address)]), "{ran}");
    let addr = format!("-addr=other:{}", server.port());
    let ran = probe_in(hosts, NOWHERE, &[&addr, "-all-addresses", "-tls", &ca]);
    let line = format!(
        "error: {0}: TLS handshake with {0} failed: the certificate is valid for backend, not for other (",
        server.address
    );
    assert!(ran.code == Some(1) && ran.stderr.starts_with(&line), "{ran}");
}

#[test]
fn files_are_read_once_and_told_once() {
    let Some(()) = privileges::root() else { return };
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n";
    let flags = ["-addr=backend:1", "-all-addresses", "-tls", "-tls-ca-cert=/nonexistent"];
    let line = "error: cannot read -tls-ca-cert=/nonexistent: no such file or directory";
    let ran = probe_in(hosts, NOWHERE, &flags);
    ran.expect_error(1, line);
    assert!(ran.stderr.matches("nonexistent").count() == 1, "{ran}");
    let ran = probe_in(hosts, NOWHERE, &["-addr=nobody:1", "-all-addresses", "-output=json"]);
    assert_eq!(ran.json()["error"]["phase"], "resolve");
}

#[test]
fn one_address_is_also_each() {
    let server = Changing::new();
    let ran = Probe::new([&server.server.addr(), "-all-addresses"]).run();
    assert_eq!(
        (ran.code, untimed(&ran)),
        (Some(0), vec![format!("{}: status: SERVING", server.server.address)]),
        "{ran}"
    );
    let files = Files::new();
    let path = files.path("health.sock");
    let _server = server::unix(&path);
    let ran = Probe::new([&format!("-addr=unix:{}", path.display()), "-all-addresses"]).run();
    let line = format!("unix:{}: status: SERVING", path.display());
    assert_eq!((ran.code, untimed(&ran)), (Some(0), vec![line]), "{ran}");
}

/// A hundred addresses, all of which one listener has.
fn hundred() -> String {
    (1..=100).map(|last| format!("127.0.7.{last} backend")).collect::<Vec<_>>().join("\n")
}

#[test]
fn so_many_at_once_and_no_more() {
    const AT_ONCE: usize = 32;
    let Some(()) = privileges::root() else { return };
    let listener = TcpListener::bind("0.0.0.0:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::new((Mutex::new((0, 0)), Condvar::new()));
    let counted = Arc::clone(&count);
    let peer = Peer::on(listener, move |peer, _| {
        peer.take_request();
        let (lock, changed) = &*counted;
        let mut now = lock.lock().expect("nobody panics");
        now.0 += 1;
        now.1 = now.1.max(now.0);
        changed.notify_all();
        // The first wait for each other.
        let now = changed.wait_while(now, |(_, most)| *most < AT_ONCE).expect("nobody panics");
        drop(now);
        peer.send(serving());
        peer.drain();
        lock.lock().expect("nobody panics").0 -= 1;
    });
    let arguments = [&format!("-addr=backend:{port}"), "-all-addresses", "-rpc-timeout=20s", "-connect-timeout=20s"];
    let ran = probe_in(&hundred(), NOWHERE, &arguments);
    // Not all hundred lines fit into what Docker keeps.
    assert!(ran.code == Some(0) && ran.stderr.ends_with(" more lines)\n"), "{ran}");
    assert_eq!(peer.connections(), 100);
    let most = count.0.lock().expect("nobody panics").1;
    // A connection that the probe has closed may still be counted when the next one comes.
    assert!((AT_ONCE..AT_ONCE + 16).contains(&most), "{most} at once");
}

#[test]
fn those_whose_turn_does_not_come_are_not_healthy() {
    let Some(()) = privileges::root() else { return };
    let listener = TcpListener::bind("0.0.0.0:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let peer = Peer::on(listener, |peer, _| peer.drain());
    let ran = probe_in(&hundred(), NOWHERE, &[&format!("-addr=backend:{port}"), "-all-addresses", "-output=json"]);
    let lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let of_kind = |kind: &str| lines.iter().filter(|line| line["error"]["kind"] == kind).count();
    assert_eq!((ran.code, peer.connections()), (Some(1), 32), "{ran}");
    // Not all hundred fit into what Docker keeps.
    assert!(
        of_kind("server-silent") == 32
            && of_kind("connect-timeout") > 0
            && lines.iter().all(|line| line["healthy"] == false),
        "{ran}"
    );
}

#[test]
fn what_to_do_is_told_once() {
    let Some(()) = privileges::root() else { return };
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n127.0.0.3 backend\n";
    let ran = probe_in(hosts, NOWHERE, &["-addr=backend:1", "-all-addresses"]);
    assert_eq!((ran.stderr.matches("error: ").count(), ran.stderr.matches("hint: ").count()), (3, 1), "{ran}");
}

#[test]
fn signals_tell_the_phase_of_the_one_furthest_behind() {
    let silent = Peer::new(|peer, _| {
        peer.take_request();
        peer.drain();
    });
    for flags in [&["-all-addresses"][..], &["-all-addresses", "-watch"]] {
        let before = silent.connections();
        let fixed = [&silent.addr(), "-rpc-timeout=1h", "-exit-codes=detailed", "-v"];
        let mut running = Probe::new([&fixed[..], flags].concat()).start();
        let (_, stderr) = running.follow();
        while !stderr.next().contains(" http2: SETTINGS") {}
        assert_eq!(silent.connections(), before + 1);
        running.signal("-TERM");
        let code = running.finish().code;
        assert_eq!((code, stderr.rest()), (Some(3), vec!["error: stopped by SIGTERM during the RPC".to_owned()]));
    }
}

#[test]
fn an_address_that_was_never_seen_is_not_healthy() {
    let Some(()) = privileges::root() else { return };
    let server = Changing::new();
    let port = server.server.port();
    // It takes connections, and nothing else.
    let _silent = TcpListener::bind(("127.0.0.2", port)).expect("the port is free there");
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n";
    let addr = format!("-addr=backend:{port}");
    let arguments = [&addr, "-all-addresses", "-watch", "-connect-timeout=1h", "-exit-codes=detailed"];
    let (mut running, _files) = start_in(hosts, NOWHERE, &arguments);
    let (stdout, _) = running.follow();
    assert!(stdout.next().ends_with(": status: SERVING"));
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(2));
}
