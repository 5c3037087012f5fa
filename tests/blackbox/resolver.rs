//! Name resolution: `/etc/hosts`, `/etc/resolv.conf`, and the behaviour of name servers.

use std::{net::IpAddr, time::Instant};

use crate::support::{
    dns::{Behavior, NameServer, name_server_on, probe_with_etc, run_with_dns, run_with_resolv_conf},
    needs,
    pki::Files,
    probe::{BINARY, Probe},
    server,
};

/// The address that names resolve to.
fn loopback() -> Vec<IpAddr> {
    vec![[127, 0, 0, 1].into()]
}

fn conf(servers: &[&NameServer], more: &str) -> String {
    let lines: Vec<String> = servers.iter().map(|server| format!("nameserver {}\n", server.address)).collect();
    lines.concat() + more
}

#[test]
fn failure_says_what_each_name_server_did() {
    let Some(()) = needs::root() else { return };
    let silent = NameServer::new([127, 53, 2, 1], Behavior::Silent);
    let failing = NameServer::new([127, 53, 2, 2], Behavior::ServFail);
    let lines = "error: resolving \"api\" timed out after 1s: \
                 127.53.2.1 did not answer; 127.53.2.2 said SERVFAIL; 127.53.2.99 refused the connection\n\
                 hint: are the name servers in /etc/resolv.conf reachable from here?\n";
    let servers = conf(&[&silent, &failing], "nameserver 127.53.2.99\n");
    run_with_resolv_conf(&servers, &["-addr=api:1"]).expect(1, "", lines);
    run_with_resolv_conf(&servers, &["-addr=api:1", "-output=json"]).expect_kind(1, "resolve", "resolve-timeout");

    let lines = "error: cannot resolve \"api\": 127.53.2.2 said SERVFAIL; 127.53.2.99 refused the connection\n\
                 hint: the name servers in /etc/resolv.conf gave no usable answer\n";
    let servers = conf(&[&failing], "nameserver 127.53.2.99\n");
    run_with_resolv_conf(&servers, &["-addr=api:1"]).expect(1, "", lines);

    let ran = run_with_resolv_conf(&conf(&[&failing], "search shop.example\n"), &["-addr=api:1", "-v"]);
    assert!(ran.stderr.contains("\nresolve: search domains: shop.example\n"), "{ran}");
    assert!(ran.stderr.contains("\nresolve: 127.53.2.2 said SERVFAIL for api.shop.example AAAA ("), "{ran}");
}

#[test]
fn error_response_codes_are_named() {
    let Some(()) = needs::root() else { return };
    for (last, code, word) in [(10, 1, "FORMERR"), (11, 2, "SERVFAIL"), (12, 4, "NOTIMP"), (13, 5, "REFUSED")] {
        let dns = name_server_on([127, 53, 2, last], Behavior::ResponseCode(code));
        let line = format!("error: cannot resolve \"api\": {dns} said {word}");
        run_with_dns("", dns, &["-addr=api:1"]).expect_error(1, &line);
        run_with_dns("", dns, &["-addr=api:1", "-output=json"]).expect_kind(1, "resolve", "resolve-failed");
    }
}

#[test]
fn name_without_an_address_is_reported_as_such() {
    let Some(()) = needs::root() else { return };
    let dns = name_server_on([127, 53, 2, 14], Behavior::Answers(Vec::new()));
    run_with_dns("", dns, &["-addr=api:1"]).expect(1, "", "error: cannot resolve \"api\": it has no address\n");
}

#[test]
fn next_name_server_is_asked_after_a_failure() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let good = NameServer::new([127, 53, 2, 20], Behavior::Answers(loopback()));
    let bad = [Behavior::Silent, Behavior::ServFail, Behavior::ResponseCode(1)];
    for (last, bad) in (21..).zip(bad) {
        let bad = NameServer::new([127, 53, 2, last], bad);
        run_with_resolv_conf(&conf(&[&bad, &good], ""), &[&format!("-addr=api:{}", server.port())]).expect_healthy();
        assert_eq!(bad.asked(), ["api A", "api AAAA"]);
    }
    // On the first address nothing listens; the interface of the second does not exist.
    for gone in ["127.53.2.99", "fe80::1%nonexistent9"] {
        let servers = format!("nameserver {gone}\n{}", conf(&[&good], ""));
        run_with_resolv_conf(&servers, &[&format!("-addr=api:{}", server.port())]).expect_healthy();
    }
}

#[test]
fn silence_for_one_address_family_does_not_delay_the_other() {
    let Some(()) = needs::root() else { return };
    let (server, server_v6) = (server::plaintext(), server::plaintext_v6());
    let a = name_server_on([127, 53, 2, 30], Behavior::AnswersOneFamily(loopback()));
    let aaaa =
        name_server_on([127, 53, 2, 31], Behavior::AnswersOneFamily(vec![IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]));
    for (dns, port) in [(a, server.port()), (aaaa, server_v6.port())] {
        let ran = run_with_dns("", dns, &[&format!("-addr=api:{port}"), "-output=json"]);
        let line = ran.json();
        let took = line["timings_ms"]["resolve"].as_f64().expect("it was resolved");
        assert!(ran.code == Some(0) && (50.0..500.0).contains(&took), "{ran}");
    }
}

#[test]
fn forged_answers_are_ignored() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let dns = name_server_on([127, 53, 2, 32], Behavior::ForgesBeforeAnswering(loopback()));
    let ran = run_with_dns("", dns, &[&format!("-addr=api:{}", server.port()), "-output=json"]);
    assert_eq!((ran.code, &ran.json()["peer"]), (Some(0), &server.address.to_string().into()), "{ran}");
}

#[test]
fn truncated_answer_is_retried_over_tcp() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let dns = NameServer::new([127, 53, 2, 33], Behavior::TruncatesOverUdp(loopback()));
    let addr = format!("-addr=api:{}", server.port());
    run_with_dns("", dns.address, &[&addr]).expect_healthy();
    assert_eq!(dns.asked(), ["api A", "api A TCP", "api AAAA", "api AAAA TCP"]);
    let dns = NameServer::new([127, 53, 2, 34], Behavior::Answers(loopback()));
    run_with_resolv_conf(&conf(&[&dns], "options use-vc\n"), &[&addr]).expect_healthy();
    assert_eq!(dns.asked(), ["api A TCP", "api AAAA TCP"]);
}

#[test]
fn cnames_are_followed() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let dns = name_server_on([127, 53, 2, 35], Behavior::AnswersWithCname(loopback()));
    run_with_dns("", dns, &[&format!("-addr=api:{}", server.port())]).expect_healthy();
}

#[test]
fn search_domains_and_ndots_are_applied() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let dns = NameServer::new([127, 53, 2, 40], Behavior::AnswersOnly("api.svc.cluster.local", loopback()));
    let kubernetes = conf(&[&dns], "search default.svc.cluster.local svc.cluster.local\noptions ndots:5\n");
    let addr = |name: &str| format!("-addr={name}:{}", server.port());
    run_with_resolv_conf(&kubernetes, &[&addr("api")]).expect_healthy();
    let (first, second) = ("api.default.svc.cluster.local", "api.svc.cluster.local");
    assert_eq!(dns.asked(), [first, second].map(|it| [format!("{it} A"), format!("{it} AAAA")]).concat());
    run_with_resolv_conf(&conf(&[&dns], "domain svc.cluster.local\n"), &[&addr("api")]).expect_healthy();
    run_with_resolv_conf(&kubernetes, &[&addr("api.svc.cluster.local")]).expect_healthy();
    let hint = "error: cannot resolve \"shop\": no such host\n\
                hint: is there a Service of this name in this namespace? one in another is written name.namespace\n";
    run_with_resolv_conf(&kubernetes, &[&addr("shop")]).expect(1, "", hint);
    // Search domains do not apply to an absolute name.
    let no_such_host = "error: cannot resolve \"api.\": no such host";
    run_with_resolv_conf(&kubernetes, &[&addr("api.")]).expect_error(1, no_such_host);
    run_with_resolv_conf(&kubernetes, &[&addr("api.svc.cluster.local.")]).expect_healthy();
}

#[test]
fn overlong_search_domains_are_skipped() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let dns = NameServer::new([127, 53, 2, 41], Behavior::AnswersOnly("api.shop.example", loopback()));
    let addr = format!("-addr=api:{}", server.port());
    let long = "x".repeat(300);
    run_with_resolv_conf(&conf(&[&dns], &format!("search {long} shop.example\n")), &[&addr]).expect_healthy();
    let run = |domains: &str, options: &str| {
        let (probe, _files) = probe_with_etc("", "", &conf(&[&dns], "search other.example\n"), &[&addr]);
        probe.env("LOCALDOMAIN", domains).env("RES_OPTIONS", options).run()
    };
    run(&format!("{long} shop.example"), "").expect_healthy();
    run("shop.example", "ndots:3 attempts:1").expect_healthy();
    run(&long, &long).expect_error(1, "error: cannot resolve \"api\": no such host");
    run(&"x.".repeat(60_000), "timeout:99999999999999999999")
        .expect_error(1, "error: cannot resolve \"api\": no such host");
}

#[test]
fn options_timeout_and_attempts_are_applied() {
    let Some(()) = needs::root() else { return };
    let dns = NameServer::new([127, 53, 2, 42], Behavior::Silent);
    let servers = conf(&[&dns], "options timeout:1 attempts:1\n");
    let started = Instant::now();
    let ran = run_with_resolv_conf(&servers, &["-addr=api:1", "-timeout=20s", "-output=json"]);
    ran.expect_kind(1, "resolve", "resolve-timeout");
    assert!(started.elapsed().as_secs() < 10, "the connect timeout of 1 s applies");
    assert_eq!(dns.asked(), ["api A", "api AAAA"]);
}

#[test]
fn option_rotate_uses_all_name_servers() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let all = [43, 44, 45].map(|last| NameServer::new([127, 53, 2, last], Behavior::Answers(loopback())));
    let servers = conf(&[&all[0], &all[1], &all[2]], "options rotate\n");
    // The chance that one of three is never the first of 40 is below one in a million.
    for _ in 0..40 {
        run_with_resolv_conf(&servers, &[&format!("-addr=api:{}", server.port())]).expect_healthy();
    }
    assert!(all.iter().all(|dns| !dns.asked().is_empty()));
}

#[test]
fn hosts_file_comes_first_and_all_its_lines_count() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let dns = NameServer::new([127, 53, 2, 46], Behavior::NoSuchName);
    let hosts = "# 127.0.0.9 api\n127.0.0.8 other API # api\n127.0.0.1\talias api\nnonsense api\n";
    for name in ["api", "Api", "api."] {
        let ran = run_with_dns(hosts, dns.address, &[&format!("-addr={name}:{}", server.port()), "-v"]);
        let line = format!("resolve: {name} is 127.0.0.8:{0}, 127.0.0.1:{0}, from /etc/hosts (", server.port());
        assert!(ran.code == Some(0) && ran.stderr.contains(&line), "{ran}");
    }
    assert_eq!(dns.asked(), [""; 0]);
}

#[test]
fn names_in_the_domain_localhost_need_no_name_server() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let dns = NameServer::new([127, 53, 2, 47], Behavior::NoSuchName);
    for name in ["app.localhost", "app.LOCALHOST.", "localhost."] {
        run_with_dns("", dns.address, &[&format!("-addr={name}:{}", server.port())]).expect_healthy();
    }
    assert_eq!(dns.asked(), [""; 0]);
}

/// Other distributions list modules there that need another C library than the binary's.
#[test]
fn nsswitch_conf_is_ignored() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let dns = name_server_on([127, 53, 2, 48], Behavior::Answers(loopback()));
    let commands = "mount -t tmpfs none /etc && cp \"$HOSTS\" \"$RESOLV\" /etc && \
         echo 'hosts: mymachines resolve [!UNAVAIL=return] mdns4_minimal [NOTFOUND=return]' >/etc/nsswitch.conf &&";
    let resolv = format!("nameserver {dns}\n");
    let (probe, _files) = probe_with_etc(commands, "", &resolv, &[&format!("-addr=api:{}", server.port())]);
    probe.run().expect_healthy();
}

#[test]
fn name_server_without_resolv_conf_is_localhost() {
    let Some(()) = needs::root() else { return };
    let script = "mount -t tmpfs none /etc && exec \"$0\" \"$@\"";
    let lines = "error: cannot resolve \"api\": 127.0.0.1 refused the connection; there is no /etc/resolv.conf\n\
                 hint: without name servers in /etc/resolv.conf, 127.0.0.1 is asked; an address needs none\n";
    let script_alone = format!("ip link set lo up && {script}");
    let run = |words: &[&str]| Probe::wrapped(&["unshare", "--mount", "--net", "sh", "-c", &script_alone], words).run();
    run(&["-addr=api:1"]).expect(1, "", lines);
    let ran = Probe::wrapped(&["unshare", "--mount", "--net", "sh", "-c", script], ["-addr=api:1"]).run();
    ran.expect_error(1, "error: cannot resolve \"api\": 127.0.0.1 is unreachable; there is no /etc/resolv.conf");
    // Nobody answers at port 53 of a loopback address that takes datagrams.
    let silent = r#"ip link set lo up && mount -t tmpfs none /etc && exec perl -MIO::Socket::IP -e '
        my $silent = IO::Socket::IP->new(Proto => "udp", LocalAddr => "127.0.0.1:53") or die $@;
        exit(system(@ARGV) >> 8);
    ' "$0" "$@""#;
    let lines = "error: resolving \"api\" timed out after 1s: 127.0.0.1 did not answer; there is no /etc/resolv.conf\n\
                 hint: without name servers in /etc/resolv.conf, 127.0.0.1 is asked; an address needs none\n";
    let ran = Probe::wrapped(&["unshare", "--mount", "--net", "sh", "-c", silent], ["-addr=api:1"]).run();
    ran.expect(1, "", lines);
}

#[test]
fn special_and_huge_files_cost_neither_memory_nor_time() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let dns = name_server_on([127, 53, 2, 49], Behavior::Answers(loopback()));
    let addr = format!("-addr=api:{}", server.port());
    let resolv = format!("nameserver {dns}\n");
    // Reading these files to their end would exceed the limits on time and memory by far.
    let started = Instant::now();
    for commands in [
        "mount --bind /dev/zero /etc/hosts &&",
        "mkfifo \"$HOSTS.fifo\" && mount --bind \"$HOSTS.fifo\" /etc/hosts &&",
        "truncate -s 1G \"$HOSTS\" &&",
        "yes '127.0.0.9 other' | head -c 20000000 >\"$HOSTS\" &&",
    ] {
        let (probe, _files) =
            probe_with_etc(&format!("{commands} ulimit -v 200000 &&"), "", &resolv, &[&addr, "-connect-timeout=10s"]);
        probe.run().expect_healthy();
    }
    for (commands, reason) in [
        ("mount --bind /dev/zero /etc/resolv.conf &&", "cannot read /etc/resolv.conf: it is not a regular file"),
        (
            "mkfifo \"$RESOLV.fifo\" && mount --bind \"$RESOLV.fifo\" /etc/resolv.conf &&",
            "cannot read /etc/resolv.conf: it is not a regular file",
        ),
        (
            "truncate -s 1G \"$RESOLV\" && >\"$RESOLV\" && truncate -s 1G \"$RESOLV\" &&",
            "/etc/resolv.conf names no name server",
        ),
    ] {
        // In a separate network, where nothing serves DNS on 127.0.0.1.
        let commands = format!("ip link set lo up && {commands} ulimit -v 200000 &&");
        let script = format!("exec unshare --net sh -c '{commands} exec \"$0\" \"$@\"' \"$0\" \"$@\";");
        let (probe, _files) = probe_with_etc(&script, "", &resolv, &["-addr=api:1"]);
        let line = format!("error: cannot resolve \"api\": 127.0.0.1 refused the connection; {reason}");
        probe.run().expect_error(1, &line);
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn names_are_resolved_without_a_thread() {
    let Some(()) = needs::root() else { return };
    // Root of a user namespace may have one user only, so that another one takes a namespace of its own.
    let Some(user) = needs::another_user() else { return };
    let server = server::plaintext();
    let dns = name_server_on([127, 53, 2, 50], Behavior::Answers(loopback()));
    let files = Files::new();
    let binary = files.path("probe");
    std::fs::copy(&*BINARY, &binary).expect("the temporary directory has space");
    // The user may not start another process or thread. The copy of the binary is where this user can execute it.
    let commands = format!(
        "chmod 755 {0} {1} && exec {2} prlimit --nproc=1 {1} \"$@\";",
        files.path("").display(),
        binary.display(),
        user.join(" ")
    );
    let addr = format!("-addr=api:{}", server.port());
    let (probe, _files) = probe_with_etc(&commands, "", &format!("nameserver {dns}\n"), &[&addr]);
    probe.run().expect_healthy();
    let (probe, _files) = probe_with_etc(&commands, "", &format!("nameserver {dns}\n"), &[&server.addr()]);
    probe.run().expect_healthy();
}

#[test]
fn ipv6_address_with_a_zone_is_dialled() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext_v6();
    // Loopback is interface 1.
    for zone in ["lo", "1"] {
        let ran = Probe::new([format!("-addr=[::1%{zone}]:{}", server.port())]).run();
        ran.expect_healthy();
    }
    let line = "error: cannot resolve \"fe80::1%nonexistent9\": no such network interface";
    Probe::new(["-addr=[fe80::1%nonexistent9]:1"]).run().expect_error(1, line);
    Probe::new(["-addr=[fe80::1%nonexistent9]:1", "-output=json"]).run().expect_kind(1, "resolve", "name-not-found");
}

/// The probe of an address reads none of the resolver's files.
#[test]
fn ip_address_is_dialled_without_reading_resolver_files() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let script = "mount -t tmpfs none /etc && mkfifo /etc/hosts /etc/resolv.conf && exec \"$0\" \"$@\"";
    Probe::wrapped(&["unshare", "--mount", "sh", "-c", script], [server.addr()]).run().expect_healthy();
}
