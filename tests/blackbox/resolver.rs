//! Names: `/etc/hosts`, `/etc/resolv.conf`, and what name servers do.

use std::{net::IpAddr, time::Instant};

use crate::support::{
    names::{NameServer, Resolver, probe_after, probe_in, probe_with, resolve_on},
    pki::Files,
    privileges,
    probe::{BINARY, Probe},
    server,
};

/// The address of servers that a name stands for.
fn here() -> Vec<IpAddr> {
    vec![[127, 0, 0, 1].into()]
}

fn conf(servers: &[&NameServer], more: &str) -> String {
    let lines: Vec<String> = servers.iter().map(|server| format!("nameserver {}\n", server.address)).collect();
    lines.concat() + more
}

#[test]
fn a_failure_names_each_name_server_and_what_it_did() {
    let Some(()) = privileges::root() else { return };
    let silent = NameServer::new([127, 53, 2, 1], Resolver::StaysSilent);
    let failing = NameServer::new([127, 53, 2, 2], Resolver::Fails);
    let lines = "error: resolving \"api\" timed out after 1s: \
                 127.53.2.1 did not answer; 127.53.2.2 said SERVFAIL; 127.53.2.99 refused the connection\n\
                 hint: are the name servers in /etc/resolv.conf reachable from here?\n";
    let servers = conf(&[&silent, &failing], "nameserver 127.53.2.99\n");
    probe_with(&servers, &["-addr=api:1"]).expect(1, "", lines);
    probe_with(&servers, &["-addr=api:1", "-output=json"]).expect_kind(1, "resolve", "resolve-timeout");

    let lines = "error: cannot resolve \"api\": 127.53.2.2 said SERVFAIL; 127.53.2.99 refused the connection\n\
                 hint: the name servers in /etc/resolv.conf gave no usable answer\n";
    let servers = conf(&[&failing], "nameserver 127.53.2.99\n");
    probe_with(&servers, &["-addr=api:1"]).expect(1, "", lines);

    let ran = probe_with(&conf(&[&failing], "search shop.example\n"), &["-addr=api:1", "-v"]);
    assert!(ran.stderr.contains("\nresolve: search domains: shop.example\n"), "{ran}");
    assert!(ran.stderr.contains("\nresolve: 127.53.2.2 said SERVFAIL for api.shop.example AAAA ("), "{ran}");
}

#[test]
fn response_codes_that_say_nothing_of_the_name() {
    let Some(()) = privileges::root() else { return };
    for (last, code, word) in [(10, 1, "FORMERR"), (11, 2, "SERVFAIL"), (12, 4, "NOTIMP"), (13, 5, "REFUSED")] {
        let dns = resolve_on([127, 53, 2, last], Resolver::Says(code));
        let line = format!("error: cannot resolve \"api\": {dns} said {word}");
        probe_in("", dns, &["-addr=api:1"]).expect_error(1, &line);
        probe_in("", dns, &["-addr=api:1", "-output=json"]).expect_kind(1, "resolve", "resolve-failed");
    }
}

#[test]
fn a_name_without_an_address_exists() {
    let Some(()) = privileges::root() else { return };
    let dns = resolve_on([127, 53, 2, 14], Resolver::Answers(Vec::new()));
    probe_in("", dns, &["-addr=api:1"]).expect(1, "", "error: cannot resolve \"api\": it has no address\n");
}

#[test]
fn the_next_name_server_answers_where_the_first_does_not() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let good = NameServer::new([127, 53, 2, 20], Resolver::Answers(here()));
    let bad = [Resolver::StaysSilent, Resolver::Fails, Resolver::Says(1)];
    for (last, bad) in (21..).zip(bad) {
        let bad = NameServer::new([127, 53, 2, last], bad);
        probe_with(&conf(&[&bad, &good], ""), &[&format!("-addr=api:{}", server.port())]).expect_healthy();
        assert_eq!(bad.asked(), ["api A", "api AAAA"]);
    }
    // Nothing listens, or the interface does not exist.
    for gone in ["127.53.2.99", "fe80::1%nonexistent9"] {
        let servers = format!("nameserver {gone}\n{}", conf(&[&good], ""));
        probe_with(&servers, &[&format!("-addr=api:{}", server.port())]).expect_healthy();
    }
}

#[test]
fn silence_for_one_family_does_not_hold_up_the_other() {
    let Some(()) = privileges::root() else { return };
    let (server, server_v6) = (server::plaintext(), server::plaintext_v6());
    let a = resolve_on([127, 53, 2, 30], Resolver::AnswersHalf(here()));
    let aaaa = resolve_on([127, 53, 2, 31], Resolver::AnswersHalf(vec![IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]));
    for (dns, port) in [(a, server.port()), (aaaa, server_v6.port())] {
        let ran = probe_in("", dns, &[&format!("-addr=api:{port}"), "-output=json"]);
        let line = ran.json();
        let took = line["timings_ms"]["resolve"].as_f64().expect("it was resolved");
        assert!(ran.code == Some(0) && (50.0..500.0).contains(&took), "{ran}");
    }
}

#[test]
fn forged_answers_are_not_believed() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = resolve_on([127, 53, 2, 32], Resolver::AnswersAfterForgeries(here()));
    let ran = probe_in("", dns, &[&format!("-addr=api:{}", server.port()), "-output=json"]);
    assert_eq!((ran.code, &ran.json()["peer"]), (Some(0), &server.address.to_string().into()), "{ran}");
}

#[test]
fn a_cut_answer_comes_whole_over_tcp() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = NameServer::new([127, 53, 2, 33], Resolver::AnswersOverTcp(here()));
    let addr = format!("-addr=api:{}", server.port());
    probe_in("", dns.address, &[&addr]).expect_healthy();
    assert_eq!(dns.asked(), ["api A", "api A TCP", "api AAAA", "api AAAA TCP"]);
    let dns = NameServer::new([127, 53, 2, 34], Resolver::Answers(here()));
    probe_with(&conf(&[&dns], "options use-vc\n"), &[&addr]).expect_healthy();
    assert_eq!(dns.asked(), ["api A TCP", "api AAAA TCP"]);
}

#[test]
fn aliases_are_followed() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = resolve_on([127, 53, 2, 35], Resolver::AnswersByAlias(here()));
    probe_in("", dns, &[&format!("-addr=api:{}", server.port())]).expect_healthy();
}

#[test]
fn search_domains_and_ndots() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = NameServer::new([127, 53, 2, 40], Resolver::Knows("api.svc.cluster.local", here()));
    let kubernetes = conf(&[&dns], "search default.svc.cluster.local svc.cluster.local\noptions ndots:5\n");
    let addr = |name: &str| format!("-addr={name}:{}", server.port());
    probe_with(&kubernetes, &[&addr("api")]).expect_healthy();
    let (first, second) = ("api.default.svc.cluster.local", "api.svc.cluster.local");
    assert_eq!(dns.asked(), [first, second].map(|it| [format!("{it} A"), format!("{it} AAAA")]).concat());
    probe_with(&conf(&[&dns], "domain svc.cluster.local\n"), &[&addr("api")]).expect_healthy();
    probe_with(&kubernetes, &[&addr("api.svc.cluster.local")]).expect_healthy();
    // An absolute name is the name alone.
    let no_such_host = "error: cannot resolve \"api.\": no such host";
    probe_with(&kubernetes, &[&addr("api.")]).expect_error(1, no_such_host);
    probe_with(&kubernetes, &[&addr("api.svc.cluster.local.")]).expect_healthy();
}

#[test]
fn search_domains_that_are_too_long_are_skipped() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = NameServer::new([127, 53, 2, 41], Resolver::Knows("api.shop.example", here()));
    let addr = format!("-addr=api:{}", server.port());
    let long = "x".repeat(300);
    probe_with(&conf(&[&dns], &format!("search {long} shop.example\n")), &[&addr]).expect_healthy();
    let run = |domains: &str, options: &str| {
        let (probe, _files) = probe_after("", "", &conf(&[&dns], "search other.example\n"), &[&addr]);
        probe.env("LOCALDOMAIN", domains).env("RES_OPTIONS", options).run()
    };
    run(&format!("{long} shop.example"), "").expect_healthy();
    run("shop.example", "ndots:3 attempts:1").expect_healthy();
    run(&long, &long).expect_error(1, "error: cannot resolve \"api\": no such host");
    run(&"x.".repeat(60_000), "timeout:99999999999999999999")
        .expect_error(1, "error: cannot resolve \"api\": no such host");
}

#[test]
fn options_timeout_and_attempts() {
    let Some(()) = privileges::root() else { return };
    let dns = NameServer::new([127, 53, 2, 42], Resolver::StaysSilent);
    let servers = conf(&[&dns], "options timeout:1 attempts:1\n");
    let begun = Instant::now();
    let ran = probe_with(&servers, &["-addr=api:1", "-timeout=20s", "-output=json"]);
    ran.expect_kind(1, "resolve", "resolve-timeout");
    assert!(begun.elapsed().as_secs() < 10, "the connect time-out of 1 s holds");
    assert_eq!(dns.asked(), ["api A", "api AAAA"]);
}

#[test]
fn rotate_asks_each_name_server() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let all = [43, 44, 45].map(|last| NameServer::new([127, 53, 2, last], Resolver::Answers(here())));
    let servers = conf(&[&all[0], &all[1], &all[2]], "options rotate\n");
    // The chance that one of three is never the first of 40 is below one in a million.
    for _ in 0..40 {
        probe_with(&servers, &[&format!("-addr=api:{}", server.port())]).expect_healthy();
    }
    assert!(all.iter().all(|dns| !dns.asked().is_empty()));
}

#[test]
fn hosts_come_first_with_all_their_lines() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = NameServer::new([127, 53, 2, 46], Resolver::SaysNoSuchName);
    let hosts = "# 127.0.0.9 api\n127.0.0.8 other API # api\n127.0.0.1\talias api\nnonsense api\n";
    for name in ["api", "Api", "api."] {
        let ran = probe_in(hosts, dns.address, &[&format!("-addr={name}:{}", server.port()), "-v"]);
        let line = format!("resolve: {name} is 127.0.0.8:{0}, 127.0.0.1:{0}, from /etc/hosts (", server.port());
        assert!(ran.code == Some(0) && ran.stderr.contains(&line), "{ran}");
    }
    assert_eq!(dns.asked(), [""; 0]);
}

#[test]
fn names_in_the_domain_localhost_need_no_resolver() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = NameServer::new([127, 53, 2, 47], Resolver::SaysNoSuchName);
    for name in ["app.localhost", "app.LOCALHOST.", "localhost."] {
        probe_in("", dns.address, &[&format!("-addr={name}:{}", server.port())]).expect_healthy();
    }
    assert_eq!(dns.asked(), [""; 0]);
}

/// Other distributions name modules here, which would belong to another C library than the binary's.
#[test]
fn nsswitch_conf_changes_nothing() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = resolve_on([127, 53, 2, 48], Resolver::Answers(here()));
    let commands = "mount -t tmpfs none /etc && cp \"$HOSTS\" \"$RESOLV\" /etc && \
         echo 'hosts: mymachines resolve [!UNAVAIL=return] mdns4_minimal [NOTFOUND=return]' >/etc/nsswitch.conf &&";
    let resolv = format!("nameserver {dns}\n");
    let (probe, _files) = probe_after(commands, "", &resolv, &[&format!("-addr=api:{}", server.port())]);
    probe.run().expect_healthy();
}

#[test]
fn without_etc_this_machine_is_asked() {
    let Some(()) = privileges::root() else { return };
    let script = "mount -t tmpfs none /etc && exec \"$0\" \"$@\"";
    let lines = "error: cannot resolve \"api\": 127.0.0.1 refused the connection; there is no /etc/resolv.conf\n\
                 hint: without name servers in /etc/resolv.conf, 127.0.0.1 is asked; an address needs none\n";
    let script_alone = format!("ip link set lo up && {script}");
    let run = |words: &[&str]| Probe::wrapped(&["unshare", "--mount", "--net", "sh", "-c", &script_alone], words).run();
    run(&["-addr=api:1"]).expect(1, "", lines);
    let ran = Probe::wrapped(&["unshare", "--mount", "--net", "sh", "-c", script], ["-addr=api:1"]).run();
    ran.expect_error(1, "error: cannot resolve \"api\": 127.0.0.1 is unreachable; there is no /etc/resolv.conf");
}

#[test]
fn files_that_are_none_cost_neither_memory_nor_time() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = resolve_on([127, 53, 2, 49], Resolver::Answers(here()));
    let addr = format!("-addr=api:{}", server.port());
    let resolv = format!("nameserver {dns}\n");
    // The time limit and the limit of memory are far below what reading to an end would take.
    let begun = Instant::now();
    for commands in [
        "mount --bind /dev/zero /etc/hosts &&",
        "mkfifo \"$HOSTS.fifo\" && mount --bind \"$HOSTS.fifo\" /etc/hosts &&",
        "truncate -s 1G \"$HOSTS\" &&",
        "yes '127.0.0.9 other' | head -c 20000000 >\"$HOSTS\" &&",
    ] {
        let (probe, _files) = probe_after(&format!("{commands} ulimit -v 200000 &&"), "", &resolv, &[&addr]);
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
        // A network of its own, in which nobody serves DNS on 127.0.0.1.
        let commands = format!("ip link set lo up && {commands} ulimit -v 200000 &&");
        let script = format!("exec unshare --net sh -c '{commands} exec \"$0\" \"$@\"' \"$0\" \"$@\";");
        let (probe, _files) = probe_after(&script, "", &resolv, &["-addr=api:1"]);
        let line = format!("error: cannot resolve \"api\": 127.0.0.1 refused the connection; {reason}");
        probe.run().expect_error(1, &line);
    }
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn a_name_is_resolved_without_a_thread() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let dns = resolve_on([127, 53, 2, 50], Resolver::Answers(here()));
    let files = Files::new();
    let binary = files.path("probe");
    std::fs::copy(&*BINARY, &binary).expect("there is room");
    // A user who has as many processes as allowed, and a binary that this user can reach.
    let commands = format!(
        "chmod 755 {0} {1} && exec setpriv --reuid=64242 --regid=64242 --clear-groups prlimit --nproc=1 {1} \"$@\";",
        files.path("").display(),
        binary.display()
    );
    let addr = format!("-addr=api:{}", server.port());
    let (probe, _files) = probe_after(&commands, "", &format!("nameserver {dns}\n"), &[&addr]);
    probe.run().expect_healthy();
    let (probe, _files) = probe_after(&commands, "", &format!("nameserver {dns}\n"), &[&server.addr()]);
    probe.run().expect_healthy();
}

#[test]
fn an_address_with_a_zone() {
    let Some(()) = privileges::root() else { return };
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
fn an_address_needs_no_files() {
    let Some(()) = privileges::root() else { return };
    let server = server::plaintext();
    let script = "mount -t tmpfs none /etc && mkfifo /etc/hosts /etc/resolv.conf && exec \"$0\" \"$@\"";
    Probe::wrapped(&["unshare", "--mount", "sh", "-c", script], [server.addr()]).run().expect_healthy();
}
