//! `-all-addresses`: probes every address of a name and reports which of them are unhealthy.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex, mpsc},
};

use tonic_health::ServingStatus::{NotServing, Serving};

use crate::support::{
    dns::{Behavior, NO_NAME_SERVER, name_server_on, run_with_dns, start_with_dns},
    frames::{END_STREAM, answer, data, headers, ok_headers, serving},
    needs,
    peer::Peer,
    pki::{Authority, Files},
    probe::{Probe, RunResult},
    server::{self, ChangingServer},
};

const REFUSED_HINT: &str = "hint: nothing listens there; is the server up, and on this port?";

/// Three addresses for one name.
fn addresses() -> Vec<IpAddr> {
    vec![[127, 0, 0, 1].into(), [127, 0, 0, 2].into(), Ipv6Addr::LOCALHOST.into()]
}

/// Starts a server on each of these addresses, all on the same port.
fn servers(addresses: &[IpAddr]) -> (u16, Vec<ChangingServer>) {
    let first = ChangingServer::on(SocketAddr::new(addresses[0], 0));
    let port = first.server.port();
    let others = addresses[1..].iter().map(|address| ChangingServer::on(SocketAddr::new(*address, port)));
    let servers = std::iter::once(first).chain(others).collect();
    (port, servers)
}

/// The lines of stdout without the duration at their end. Each line must have one.
#[track_caller]
fn without_durations(ran: &RunResult) -> Vec<String> {
    let without_durations = |line: &str| {
        let (line, time) = line.rsplit_once(" (").unwrap_or_default();
        assert!(time.ends_with("s)") && time.starts_with(|first: char| first.is_ascii_digit()), "{ran}");
        line.to_owned()
    };
    ran.stdout.lines().map(without_durations).collect()
}

#[test]
fn healthy_only_if_every_address_is_healthy() {
    let Some(()) = needs::root() else { return };
    let (port, _servers) = servers(&addresses());
    let dns = name_server_on([127, 53, 1, 1], Behavior::Answers(addresses()));
    let addr = format!("-addr=backend:{port}");
    let ran = run_with_dns("", dns, &[&addr, "-all-addresses"]);
    let lines = ["127.0.0.1", "127.0.0.2", "[::1]"].map(|address| format!("{address}:{port}: status: SERVING"));
    assert_eq!((ran.code, without_durations(&ran).as_slice(), ran.stderr.as_str()), (Some(0), &lines[..], ""), "{ran}");
    run_with_dns("", dns, &[&addr, "-all-addresses", "-q"]).expect(0, "", "");
    // Without the flag, one healthy address is enough.
    run_with_dns("", dns, &[&addr]).expect_healthy();
}

#[test]
fn unhealthy_address_is_named() {
    let Some(()) = needs::root() else { return };
    let (port, mut servers) = servers(&addresses());
    servers[1].set("", NotServing);
    servers.pop().expect("there are three").stop();
    let dns = name_server_on([127, 53, 1, 2], Behavior::Answers(addresses()));
    let addr = format!("-addr=backend:{port}");
    let ran = run_with_dns("", dns, &[&addr, "-all-addresses", "-exit-codes=detailed"]);
    let lines = [
        format!("127.0.0.1:{port}: status: SERVING"),
        format!("127.0.0.2:{port}: service unhealthy (responded with \"NOT_SERVING\")"),
    ];
    assert_eq!((ran.code, without_durations(&ran).as_slice()), (Some(2), &lines[..]), "{ran}");
    let refused = format!("error: [::1]:{port}: cannot connect to [::1]:{port}: connection refused (");
    let mut errors = ran.stderr.lines();
    assert!(errors.next().is_some_and(|line| line.starts_with(&refused)), "{ran}");
    assert_eq!((errors.next(), errors.next()), (Some(REFUSED_HINT), None), "{ran}");

    let ran = run_with_dns("", dns, &[&addr, "-all-addresses", "-output=json", "-q"]);
    let reported: Vec<(String, String)> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("it is JSON"))
        .map(|line| (line["peer"].to_string(), line["error"]["kind"].to_string()))
        .collect();
    let expected = [
        (format!("\"127.0.0.2:{port}\""), "\"not-serving\"".to_owned()),
        (format!("\"[::1]:{port}\""), "\"connection-refused\"".to_owned()),
    ];
    assert_eq!((ran.code, reported.as_slice()), (Some(1), &expected[..]), "{ran}");
}

#[test]
fn each_service_is_checked_at_each_address() {
    let Some(()) = needs::root() else { return };
    let (port, servers) = servers(&addresses()[..2]);
    servers[0].set("a", Serving);
    servers[1].set("a", NotServing);
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n";
    let addr = format!("-addr=backend:{port}");
    let ran = run_with_dns(hosts, NO_NAME_SERVER, &[&addr, "-all-addresses", "-service=", "-service=a", "-service=b"]);
    // An empty name beside others is the server as a whole.
    let lines = [
        format!("127.0.0.1:{port}: \"\": status: SERVING"),
        format!("127.0.0.1:{port}: a: status: SERVING"),
        format!("127.0.0.2:{port}: \"\": status: SERVING"),
        format!("127.0.0.2:{port}: a: service unhealthy (responded with \"NOT_SERVING\")"),
    ];
    assert_eq!((ran.code, without_durations(&ran).as_slice()), (Some(1), &lines[..]), "{ran}");
    for address in ["127.0.0.1", "127.0.0.2"] {
        let line = format!(
            "error: {address}:{port}: b: health check of {address}:{port} failed: NOT_FOUND: service not registered ("
        );
        assert!(ran.stderr.contains(&line), "{ran}");
    }
}

#[test]
fn wait_ends_when_every_address_is_healthy() {
    let Some(()) = needs::root() else { return };
    let (port, servers) = servers(&addresses()[..2]);
    servers[1].set("", NotServing);
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n";
    let addr = format!("-addr=backend:{port}");
    let ran = run_with_dns(hosts, NO_NAME_SERVER, &[&addr, "-all-addresses", "-wait=300ms"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(1), 2), "{ran}");
    let (running, _files) = start_with_dns(hosts, NO_NAME_SERVER, &[&addr, "-all-addresses", "-wait=20s"]);
    servers[1].set("", Serving);
    let ran = running.finish();
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 2), "{ran}");
}

#[test]
fn list_shows_the_services_of_each_address() {
    let Some(()) = needs::root() else { return };
    let (port, servers) = servers(&addresses()[..2]);
    servers[1].set("shop", NotServing);
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n127.0.0.3 backend\n";
    let ran = run_with_dns(hosts, NO_NAME_SERVER, &[&format!("-addr=backend:{port}"), "-all-addresses", "-list"]);
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
fn watch_follows_each_address() {
    let Some(()) = needs::root() else { return };
    let (port, mut servers) = servers(&addresses()[..2]);
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n127.0.0.3 backend\n";
    let arguments = [&format!("-addr=backend:{port}"), "-all-addresses", "-watch", "-exit-codes=detailed"];
    let (mut running, _files) = start_with_dns(hosts, NO_NAME_SERVER, &arguments);
    let (stdout, stderr) = running.follow();
    let next = |lines: &crate::support::probe::Lines| {
        lines.next().split_once(' ').map(|(_, line)| line.to_owned()).unwrap_or_default()
    };
    let mut first = [next(&stdout), next(&stdout)];
    first.sort();
    assert_eq!(first, ["127.0.0.1", "127.0.0.2"].map(|address| format!("{address}:{port}: status: SERVING")));
    // The probe reports an address that does not answer, and retries.
    assert_eq!(
        next(&stderr),
        format!("127.0.0.3:{port}: error: cannot connect to 127.0.0.3:{port}: connection refused")
    );
    assert_eq!(stderr.next(), REFUSED_HINT);
    let third = ChangingServer::on(SocketAddr::new([127, 0, 0, 3].into(), port));
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
fn a_watch_tells_with_its_first_status_what_failed_before() {
    let Some(()) = needs::root() else { return };
    let (failed, has_failed) = mpsc::channel();
    let has_failed = Mutex::new(has_failed);
    let first = Peer::new(move |peer, _| {
        peer.take_request();
        has_failed.lock().expect("no thread panics").recv().expect("the other address is tried");
        peer.send([ok_headers(), data(0, &answer(1))].concat());
        peer.drain();
    });
    let port = first.address.port();
    let listener = TcpListener::bind(("127.0.0.2", port)).expect("the port is free there");
    let failed = Mutex::new(failed);
    let second = Peer::on(listener, move |peer, _| {
        peer.take_request();
        peer.send(headers(
            END_STREAM,
            &[(":status", b"200"), ("content-type", b"application/grpc"), ("grpc-status", b"13")],
        ));
        peer.drain();
        let _ = failed.lock().expect("no thread panics").send(());
    });
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n";
    let arguments = [&format!("-addr=backend:{port}"), "-all-addresses", "-watch"];
    let (mut running, _files) = start_with_dns(hosts, NO_NAME_SERVER, &arguments);
    let (stdout, stderr) = running.follow();
    assert!(stdout.next().ends_with(&format!(" 127.0.0.1:{port}: status: SERVING")));
    let line = format!(" {0}: error: watching {0} failed: INTERNAL", second.address);
    assert!(stderr.next().ends_with(&line));
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(1));
}

#[test]
fn certificate_is_verified_for_the_host_name() {
    let Some(()) = needs::root() else { return };
    let files = Files::new();
    let authority = Authority::new("Test CA");
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &authority.pem));
    let server = server::tls(&authority.server(&["backend"]));
    let addr = format!("-addr=backend:{}", server.port());
    let hosts = "127.0.0.1 backend other\n";
    let ran = run_with_dns(hosts, NO_NAME_SERVER, &[&addr, "-all-addresses", "-tls", &ca]);
    assert_eq!(
        (ran.code, without_durations(&ran)),
        (Some(0), vec![format!("{}: status: SERVING", server.address)]),
        "{ran}"
    );
    let addr = format!("-addr=other:{}", server.port());
    let ran = run_with_dns(hosts, NO_NAME_SERVER, &[&addr, "-all-addresses", "-tls", &ca]);
    let line = format!(
        "error: {0}: TLS handshake with {0} failed: the certificate is valid for backend, not for other (",
        server.address
    );
    assert!(ran.code == Some(1) && ran.stderr.starts_with(&line), "{ran}");
}

#[test]
fn usage_and_resolve_failures_are_reported_once() {
    let Some(()) = needs::root() else { return };
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n";
    let flags = ["-addr=backend:1", "-all-addresses", "-tls", "-tls-ca-cert=/nonexistent"];
    let line = "error: cannot read -tls-ca-cert=/nonexistent: no such file or directory";
    let ran = run_with_dns(hosts, NO_NAME_SERVER, &flags);
    ran.expect_error(1, line);
    assert!(ran.stderr.matches("nonexistent").count() == 1, "{ran}");
    let ran = run_with_dns(hosts, NO_NAME_SERVER, &["-addr=nobody:1", "-all-addresses", "-output=json"]);
    assert_eq!(ran.json()["error"]["phase"], "resolve");
}

#[test]
fn single_address_is_reported_like_several() {
    let server = ChangingServer::new();
    let ran = Probe::new([&server.server.addr(), "-all-addresses"]).run();
    assert_eq!(
        (ran.code, without_durations(&ran)),
        (Some(0), vec![format!("{}: status: SERVING", server.server.address)]),
        "{ran}"
    );
    let files = Files::new();
    let path = files.path("health.sock");
    let _server = server::unix(&path);
    let ran = Probe::new([&format!("-addr=unix:{}", path.display()), "-all-addresses"]).run();
    let line = format!("unix:{}: status: SERVING", path.display());
    assert_eq!((ran.code, without_durations(&ran)), (Some(0), vec![line]), "{ran}");
}

/// A hosts file with a hundred addresses, which one listener serves.
fn hosts_with_100_addresses() -> String {
    (1..=100).map(|last| format!("127.0.7.{last} backend")).collect::<Vec<_>>().join("\n")
}

#[test]
fn at_most_32_addresses_are_probed_at_once() {
    const AT_ONCE: usize = 32;
    let Some(()) = needs::root() else { return };
    let listener = TcpListener::bind("0.0.0.0:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::new((Mutex::new((0, 0)), Condvar::new()));
    let counted = Arc::clone(&count);
    let peer = Peer::on(listener, move |peer, _| {
        peer.take_request();
        let (lock, changed) = &*counted;
        let mut now = lock.lock().expect("the lock is not poisoned");
        now.0 += 1;
        now.1 = now.1.max(now.0);
        changed.notify_all();
        // Holds the first connections until 32 are open.
        let now = changed.wait_while(now, |(_, most)| *most < AT_ONCE).expect("the lock is not poisoned");
        drop(now);
        peer.send(serving());
        peer.drain();
        lock.lock().expect("the lock is not poisoned").0 -= 1;
    });
    let arguments = [&format!("-addr=backend:{port}"), "-all-addresses", "-rpc-timeout=20s", "-connect-timeout=20s"];
    let ran = run_with_dns(&hosts_with_100_addresses(), NO_NAME_SERVER, &arguments);
    // A hundred lines exceed the output that Docker keeps.
    assert!(ran.code == Some(0) && ran.stderr.ends_with(" more lines)\n"), "{ran}");
    assert_eq!(peer.connections(), 100);
    let most = count.0.lock().expect("the lock is not poisoned").1;
    // A closed connection may still be counted when the next one arrives.
    assert!((AT_ONCE..AT_ONCE + 16).contains(&most), "{most} at once");
}

#[test]
fn addresses_not_probed_in_time_are_unhealthy() {
    let Some(()) = needs::root() else { return };
    let listener = TcpListener::bind("0.0.0.0:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let peer = Peer::on(listener, |peer, _| peer.drain());
    let ran = run_with_dns(
        &hosts_with_100_addresses(),
        NO_NAME_SERVER,
        &[&format!("-addr=backend:{port}"), "-all-addresses", "-output=json"],
    );
    let lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let of_kind = |kind: &str| lines.iter().filter(|line| line["error"]["kind"] == kind).count();
    assert_eq!((ran.code, peer.connections()), (Some(1), 32), "{ran}");
    // A hundred lines exceed the output that Docker keeps.
    assert!(
        of_kind("server-silent") == 32
            && of_kind("connect-timeout") > 0
            && lines.iter().all(|line| line["healthy"] == false),
        "{ran}"
    );
}

#[test]
fn identical_hints_are_printed_once() {
    let Some(()) = needs::root() else { return };
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n127.0.0.3 backend\n";
    let ran = run_with_dns(hosts, NO_NAME_SERVER, &["-addr=backend:1", "-all-addresses"]);
    assert_eq!((ran.stderr.matches("error: ").count(), ran.stderr.matches("hint: ").count()), (3, 1), "{ran}");
}

#[test]
fn signal_reports_the_earliest_unfinished_phase() {
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
fn watch_counts_an_unanswered_address_as_unhealthy() {
    let Some(()) = needs::root() else { return };
    let server = ChangingServer::new();
    let port = server.server.port();
    // Accepts connections (in the kernel) and never answers.
    let _silent = TcpListener::bind(("127.0.0.2", port)).expect("the port is free there");
    let hosts = "127.0.0.1 backend\n127.0.0.2 backend\n";
    let addr = format!("-addr=backend:{port}");
    let arguments = [&addr, "-all-addresses", "-watch", "-connect-timeout=1h", "-exit-codes=detailed"];
    let (mut running, _files) = start_with_dns(hosts, NO_NAME_SERVER, &arguments);
    let (stdout, _) = running.follow();
    assert!(stdout.next().ends_with(": status: SERVING"));
    running.signal("-TERM");
    assert_eq!(running.finish().code, Some(2));
}
