//! Values that are given and empty, as unset variables make them in scripts and templates.

use crate::support::{
    pki::Files,
    probe::Probe,
    server,
    workload::{Agent, Reply, TrustDomain},
};

const NOWHERE: &str = "-addr=127.0.0.1:1";
const NO_ID: &str = "is empty, so it would accept any server\n\
                     hint: give the server's SPIFFE ID or its trust domain, or leave it out to accept every ID\n";

#[test]
fn an_empty_spiffe_id_is_refused() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let server = server::mtls(&domain.svid("/api", |_| ()), &domain.authority);
    let probe = |more: &[&str]| {
        Probe::new([&[&*server.addr(), "-spiffe"], more].concat()).env("SPIFFE_ENDPOINT_SOCKET", agent.endpoint())
    };
    for flags in [
        &["-spiffe-id="][..],
        &["-spiffe-id", ""],
        &["--spiffe-id="],
        // The last one counts.
        &["-spiffe-id=example.org", "-spiffe-id="],
    ] {
        probe(flags).run().expect(1, "", &format!("error: -spiffe-id {NO_ID}"));
        // Nor does the variable stand in for it.
        let ran = probe(flags).env("GRPC_HEALTH_PROBE_SPIFFE_ID", "example.org").run();
        ran.expect(1, "", &format!("error: -spiffe-id {NO_ID}"));
    }
    let name = "GRPC_HEALTH_PROBE_SPIFFE_ID";
    probe(&[]).env(name, "").run().expect(1, "", &format!("error: {name} {NO_ID}"));
    probe(&["-output=json"]).env(name, "").run().expect_kind(1, "usage", "usage");
    let by_variable = Probe::new([NOWHERE]).env("GRPC_HEALTH_PROBE_SPIFFE", "true").env(name, "");
    by_variable.run().expect(1, "", &format!("error: {name} {NO_ID}"));

    probe(&[]).run().expect_healthy();
    probe(&["-spiffe-id=example.org"]).env(name, "").run().expect_healthy();
    probe(&["-spiffe-id=", "-spiffe-id=example.org"]).run().expect_healthy();
    // Without -spiffe an empty variable weakens nothing.
    let plain = server::plaintext();
    Probe::new([plain.addr()]).env(name, "").run().expect_healthy();
    Probe::new([NOWHERE, "-spiffe-id="]).run().expect(1, "", &format!("error: -spiffe-id {NO_ID}"));
}

/// Go's flag package refuses them, too. Taken as false, `-tls=` would probe in plaintext, and `-all-addresses=` one address.
#[test]
fn an_empty_boolean_is_refused() {
    for flag in ["-tls", "-spiffe", "-all-addresses", "-watch", "-list", "-tls-no-verify", "-gzip", "-q", "-v"] {
        let line = format!("error: {flag}=: not a boolean (true, false, t, f, 1 or 0)");
        Probe::new([NOWHERE, &format!("{flag}=")]).run().expect_error(1, &line);
    }
    // The last one counts.
    let server = server::plaintext();
    Probe::new([&server.addr(), "-tls=", "-tls=false"]).run().expect_healthy();
}

#[test]
fn an_empty_service_beside_others_is_the_server_as_a_whole() {
    let server = server::plaintext();
    let addr = server.addr();
    let both = "\"\": status: SERVING\nup: status: SERVING\n";
    Probe::new([&addr, "-service=", "-service=up"]).run().expect(0, both, "");
    Probe::new([&addr, "-service", "", "-service", "up"]).run().expect(0, both, "");
    let down = "down: service unhealthy (responded with \"NOT_SERVING\")\n\"\": status: SERVING\n";
    Probe::new([&addr, "-service=down", "-service="]).run().expect(1, down, "");
    let ran = Probe::new([&addr, "-service=", "-service=up", "-output=json"]).run();
    let services: Vec<_> = ran.stdout.lines().map(|line| line.split("\"service\":").nth(1).unwrap_or(line)).collect();
    assert!(matches!(&*services, [whole, up] if whole.starts_with("\"\",") && up.starts_with("\"up\",")), "{ran}");
    let ran = Probe::new([&addr, "-service=", "-service=up", "-v"]).run();
    assert!(ran.stderr.contains("\n> service=\"\", up\n"), "{ran}");
    // A watch has one service.
    let ran = Probe::new([&addr, "-watch", "-service=", "-service=up"]).run();
    ran.expect_error(1, "error: -watch takes one service, not 2");
}

#[test]
fn an_empty_service_alone_counts_as_not_given() {
    let server = server::plaintext();
    let addr = server.addr();
    for flags in [&["-service="][..], &["-service", ""], &["-service=", "-service="]] {
        Probe::new([&[&*addr], flags].concat()).run().expect_healthy();
        let ran = Probe::new([&[&*addr], flags].concat()).env("GRPC_HEALTH_PROBE_SERVICE", "down").run();
        ran.expect(1, "service unhealthy (responded with \"NOT_SERVING\")\n", "");
    }
    Probe::new([&addr]).env("GRPC_HEALTH_PROBE_SERVICE", "").run().expect_healthy();
    Probe::new([&addr, "-service=up"]).env("GRPC_HEALTH_PROBE_SERVICE", "").run().expect_healthy();
}
