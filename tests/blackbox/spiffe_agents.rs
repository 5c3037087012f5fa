//! `-spiffe` beside real agents: they restart, are only eventually consistent, and say who is who.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixListener,
    time::{Duration, SystemTime},
};

use prost::Message;
use rcgen::{CertificateParams, SanType, date_time_ymd};
use rustls::{DEFAULT_VERSIONS, SupportedProtocolVersion, version::TLS12};
use serde_json::Value;

use crate::support::{
    frames::{self, END_HEADERS, END_STREAM, data, goaway, headers, ok_headers, rst_stream, trailers},
    peer::Peer,
    pki::{Files, Leaf},
    probe::{Probe, RunResult},
    server::{self, Recorder, TlsSetup},
    workload::{Agent, Reply, TrustDomain, X509Svid, X509SvidResponse},
};

const ONLY_TLS12: &[&SupportedProtocolVersion] = &[&TLS12];
const IS_IT_AN_AGENT: &str = "hint: is this the socket of an agent's Workload API? SPIFFE_ENDPOINT_SOCKET names it";
const HOUR: Duration = Duration::from_hours(1);

fn serve(leaf: &Leaf, clients: &TrustDomain) -> Recorder {
    serve_with(leaf, clients, DEFAULT_VERSIONS)
}

fn serve_with(leaf: &Leaf, clients: &TrustDomain, versions: &'static [&'static SupportedProtocolVersion]) -> Recorder {
    Recorder::tls(&TlsSetup { leaf, versions, alpn: &["h2"], clients: Some(&clients.authority) })
}

/// The probe with an SVID from the agent at this address.
fn with_agent(endpoint: &str, addr: &str, flags: &[&str]) -> Probe {
    Probe::new([&[addr, "-spiffe"], flags].concat()).env("SPIFFE_ENDPOINT_SOCKET", endpoint)
}

fn probe(agent: &Agent, addr: &str, flags: &[&str]) -> RunResult {
    with_agent(&agent.endpoint(), addr, flags).run()
}

/// An SVID of this trust domain, with the bundles of these.
fn federated(domain: &TrustDomain, others: &[&TrustDomain]) -> Reply {
    let bundles = others.iter().map(|other| (other.id(""), other.bundle()));
    Reply::Svids(X509SvidResponse { svids: vec![domain.entry("/probe")], federated_bundles: bundles.collect() })
}

/// Valid from this time ago for the whole life.
fn validity(params: &mut CertificateParams, ago: Duration, life: Duration) {
    let from = SystemTime::now() - ago;
    (params.not_before, params.not_after) = (from.into(), (from + life).into());
}

/// The frames of an agent's answer.
fn svid_frames(domain: &TrustDomain) -> Vec<u8> {
    let response = X509SvidResponse { svids: vec![domain.entry("/probe")], federated_bundles: BTreeMap::new() };
    [ok_headers(), data(0, &frames::message(&response.encode_to_vec()))].concat()
}

/// The frames of an agent that cannot answer now.
fn unavailable() -> Vec<u8> {
    [ok_headers(), trailers(&[("grpc-status", b"14")])].concat()
}

#[test]
fn wait_goes_on_until_an_agent_has_synced() {
    let files = Files::new();
    let (domain, other) = (TrustDomain::new("example.org"), TrustDomain::new("other.org"));
    let renewed = TrustDomain::new("example.org");
    let both = |of: &TrustDomain| X509SvidResponse {
        svids: vec![X509Svid { bundle: [domain.bundle(), renewed.bundle()].concat(), ..of.entry("/probe") }],
        federated_bundles: BTreeMap::new(),
    };
    for (number, (server, clients, first, then)) in [
        // No bundle yet for the server's trust domain.
        (&other, &domain, federated(&domain, &[]), federated(&domain, &[&other])),
        // The server has its SVID from an authority that our bundle does not have yet.
        (&renewed, &domain, federated(&domain, &[]), Reply::Svids(both(&domain))),
        // The server does not know the authority of our SVID.
        (&domain, &renewed, federated(&domain, &[]), Reply::Svids(both(&renewed))),
        // The agent does not know our registration entry.
        (&domain, &domain, Reply::Status("7", "no identity issued"), federated(&domain, &[])),
    ]
    .into_iter()
    .enumerate()
    {
        let leaf = server.svid("/api", |_| ());
        for versions in [DEFAULT_VERSIONS, ONLY_TLS12] {
            let path = files.path(&format!("{number}-{}.sock", versions.len()));
            let agent = Agent::rotating(&path, vec![first.clone(), then.clone()]);
            let recorder = serve_with(&leaf, clients, versions);
            let ran = probe(&agent, &recorder.server.addr(), &["-wait=20s"]);
            assert!(ran.code == Some(0) && ran.stderr.starts_with("waiting: "), "{number}{ran}");
        }
    }
}

#[test]
fn wait_goes_on_beside_a_server_whose_svid_is_not_renewed_yet() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let expired = domain.svid("/api", |params| validity(params, HOUR, HOUR * 99 / 100));
    let early = domain.svid("/api", |params| params.not_before = date_time_ymd(3000, 1, 1));
    for leaf in [expired, early] {
        let recorder = serve(&leaf, &domain);
        let ran = probe(&agent, &recorder.server.addr(), &["-wait=1s"]);
        assert!(ran.stderr.contains(" attempts in 1s)\n") && !ran.stderr.contains("not retrying"), "{ran}");
    }
    // What another second does not change: the server is another one.
    let recorder = serve(&domain.svid("/api", |_| ()), &domain);
    let ran = probe(&agent, &recorder.server.addr(), &["-wait=20s", "-spiffe-id=spiffe://example.org/cart"]);
    assert!(ran.stderr.contains("(not retrying: waiting will not help)"), "{ran}");
}

#[test]
fn wait_ends_at_once_where_no_agent_answers() {
    let files = Files::new();
    for (number, (reply, cause)) in [
        (Reply::Status("12", "unknown service SpiffeWorkloadAPI"), "UNIMPLEMENTED: unknown service SpiffeWorkloadAPI"),
        (Reply::Status("3", "security header missing"), "INVALID_ARGUMENT: security header missing"),
    ]
    .into_iter()
    .enumerate()
    {
        let agent = Agent::new(&files.path(&format!("{number}.sock")), reply);
        let ran = probe(&agent, "-addr=:1", &["-wait=20s", "-exit-codes=detailed"]);
        let what = format!("the SPIFFE Workload API at {}", agent.endpoint());
        let line = format!("error: no SVID from {what}: {cause} (not retrying: waiting will not help)");
        ran.expect(20, "", &format!("{line}\n{IS_IT_AN_AGENT}\n"));
        assert_eq!(agent.requests().len(), 1);
        probe(&agent, "-addr=:1", &["-output=json"]).expect_kind(1, "spiffe", "workload-api-unusable");
    }
    // An HTTP server, and a health server.
    let not_found = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(headers(END_HEADERS | END_STREAM, &[(":status", b"404")]));
        peer.drain();
    });
    let health = server::plaintext();
    for (address, cause) in
        [(not_found.address, "it answered HTTP 404 Not Found (UNIMPLEMENTED)"), (health.address, "UNIMPLEMENTED")]
    {
        let ran = with_agent(&format!("tcp://{address}"), "-addr=:1", &["-wait=20s"]).run();
        let line = format!("error: no SVID from the SPIFFE Workload API at tcp://{address}: {cause}");
        ran.expect(1, "", &format!("{line} (not retrying: waiting will not help)\n{IS_IT_AN_AGENT}\n"));
    }
}

#[test]
fn a_restart_of_the_agent_is_bridged_while_connect_timeout_lasts() {
    let domain = TrustDomain::new("example.org");
    let recorder = serve(&domain.svid("/api", |_| ()), &domain);
    for (cause, restart) in [
        ("UNAVAILABLE", unavailable()),
        ("it reset the stream: RST_STREAM (INTERNAL_ERROR)", rst_stream(2)),
        ("it closed the connection without a response", Vec::new()),
        // The agent did not take the request, so there is another one at once.
        ("it closed the connection before it took the request: GOAWAY (NO_ERROR)", goaway(0, 0, b"")),
    ] {
        let answer = svid_frames(&domain);
        let agent = Peer::new(move |peer, number| {
            peer.take_request();
            if number < 3 {
                peer.send(&restart);
                peer.finish();
            } else {
                peer.send(&answer);
            }
            peer.drain();
        });
        let endpoint = format!("tcp://{}", agent.address);
        // Without -connect-timeout the reason is out at once.
        let ran = with_agent(&endpoint, "-addr=:1", &[]).run();
        let line = format!("error: no SVID from the SPIFFE Workload API at {endpoint}: {cause}");
        assert!(ran.code == Some(1) && ran.stderr.starts_with(&line), "{line}{ran}");
        with_agent(&endpoint, &recorder.server.addr(), &["-connect-timeout=20s"]).run().expect_healthy();
        assert!(agent.connections() > 3);
    }
}

#[test]
fn a_socket_that_comes_back_is_used_while_connect_timeout_lasts() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let recorder = serve(&domain.svid("/api", |_| ()), &domain);
    for name in ["missing.sock", "stale.sock"] {
        let path = files.path(name);
        let is_stale = name == "stale.sock";
        if is_stale {
            drop(UnixListener::bind(&path).expect("the directory is writable"));
        }
        let endpoint = format!("unix://{}", path.display());
        let running = with_agent(&endpoint, &recorder.server.addr(), &["-connect-timeout=20s"]).start();
        if is_stale {
            fs::remove_file(&path).expect("it is there");
        }
        let _agent = Agent::new(&path, Reply::with(vec![domain.entry("/probe")]));
        running.finish().expect_healthy();
    }
}

#[test]
fn the_last_failure_of_an_agent_is_told_with_the_attempts() {
    let agent = Peer::new(|peer, _| {
        peer.take_request();
        peer.send(unavailable());
        peer.drain();
    });
    let endpoint = format!("tcp://{}", agent.address);
    let ran = with_agent(&endpoint, "-addr=:1", &["-connect-timeout=1s"]).run();
    let line = format!("error: no SVID from the SPIFFE Workload API at {endpoint}: UNAVAILABLE (");
    assert!(ran.stderr.starts_with(&line) && ran.stderr.ends_with(" attempts in 1s)\n"), "{ran}");
}

#[test]
fn an_agent_is_not_called_the_server() {
    let files = Files::new();
    let silent = files.path("silent.sock");
    let _listener = UnixListener::bind(&silent).expect("the directory is writable");
    let banner = Peer::new(|peer, _| {
        peer.send("SSH-2.0-x\r\n");
        peer.drain();
    });
    let closing = Peer::new(|_, _| ());
    let agent_is_up = "is the agent running, and can its socket be reached from here?";
    for (endpoint, cause, kind, hint) in [
        (format!("unix://{}", silent.display()), "it sent nothing within 500ms", "workload-api-timeout", None),
        (
            format!("tcp://{}", banner.address),
            "it answered with \"SSH-2.0-x\", as SSH does",
            "workload-api-unusable",
            IS_IT_AN_AGENT.strip_prefix("hint: "),
        ),
        (format!("tcp://{}", closing.address), "", "workload-api-unreachable", Some(agent_is_up)),
    ] {
        let ran = with_agent(&endpoint, "-addr=:1", &["-timeout=500ms", "-output=json"]).run();
        ran.expect_kind(1, "spiffe", kind);
        let error = &ran.json()["error"];
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(&format!("no SVID from the SPIFFE Workload API at {endpoint}: {cause}")), "{ran}");
        assert!(!message.contains("the server"), "{ran}");
        assert_eq!(error.get("hint").and_then(Value::as_str), hint, "{ran}");
    }
}

#[test]
fn a_rejected_svid_is_named() {
    let files = Files::new();
    let (domain, foreign) = (TrustDomain::new("example.org"), TrustDomain::new("foreign.org"));
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let old = domain.svid("/probe", |params| params.not_after = date_time_ymd(2021, 2, 3));
    let old = Agent::new(&files.path("old.sock"), Reply::with(vec![domain.entry_with("/probe", &old)]));
    let leaf = domain.svid("/api", |_| ());
    for versions in [DEFAULT_VERSIONS, ONLY_TLS12] {
        let recorder = serve_with(&leaf, &foreign, versions);
        let ours = "the server rejected our SVID spiffe://example.org/probe (alert ";
        let line = format!("error: TLS handshake with {} failed: {ours}", recorder.server.address);
        let ran = probe(&agent, &recorder.server.addr(), &[]);
        let hint = "\nhint: does the server have the bundle of our trust domain, and does it authorize this ID?\n";
        assert!(ran.stderr.starts_with(&line) && ran.stderr.ends_with(hint), "{ran}");
        let recorder = serve_with(&leaf, &domain, versions);
        let ran = probe(&old, &recorder.server.addr(), &[]);
        assert!(ran.stderr.contains("\nhint: our SVID expired at 2021-02-03T00:00:00Z ("), "{ran}");
    }
}

#[test]
fn the_endpoint_is_an_uri() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let recorder = serve(&domain.svid("/api", |_| ()), &domain);
    let agent = Agent::new(&files.path("an agent#1?%.sock"), Reply::with(vec![domain.entry("/probe")]));
    let path = agent.endpoint().replace("unix://", "").replace('%', "%25").replace('#', "%23").replace('?', "%3f");
    let answer = svid_frames(&domain);
    let tcp = Peer::new(move |peer, _| {
        peer.take_request();
        peer.send(&answer);
        peer.drain();
    });
    for endpoint in [
        format!("unix://{path}"),
        format!("UNIX:{}", path.replace(' ', "%20")),
        format!("Unix:///{}", path.replace('/', "%2F")),
        format!("TCP://{}", tcp.address),
    ] {
        with_agent(&endpoint, &recorder.server.addr(), &[]).run().expect_healthy();
    }
    let forms = "write unix:///path or tcp://ip:port";
    let no_authority = "a unix address has no host; write unix:///path with three slashes";
    let no_path = "the absolute path of a socket is missing; write unix:///path";
    let no_port = "it must have an IP address and a port; write tcp://ip:port";
    let escapes = "two hexadecimal digits must follow each \"%\" in the path; write a % itself as %25";
    for (endpoint, shown, cause) in [
        ("unix:///a?b", "", format!("it must not have a query, which begins with \"?\"; {forms}")),
        ("tcp://127.0.0.1:1#b", "", format!("it must not have a fragment, which begins with \"#\"; {forms}")),
        (
            "tcp://me:secret@127.0.0.1:1",
            "tcp://…@127.0.0.1:1",
            format!("it must not have a user, which ends with \"@\"; {forms}"),
        ),
        ("tcp://127.0.0.1:1/a", "", "a tcp address has no path; write tcp://ip:port".to_owned()),
        ("tcp://localhost:1", "", no_port.to_owned()),
        ("tcp://127.0.0.1:0", "", no_port.to_owned()),
        ("tcp:127.0.0.1:1", "", forms.to_owned()),
        ("unix://host/a", "", no_authority.to_owned()),
        ("unix://", "", no_path.to_owned()),
        ("unix:///a%2", "", escapes.to_owned()),
        ("unix:///a%zz", "", escapes.to_owned()),
        ("unix:///a%ff", "", "the path is not UTF-8".to_owned()),
        ("http://127.0.0.1:1", "", format!("the scheme must be unix or tcp; {forms}")),
    ] {
        let shown = if shown.is_empty() { endpoint } else { shown };
        let line = format!("error: SPIFFE_ENDPOINT_SOCKET \"{shown}\": {cause}");
        with_agent(endpoint, "-addr=:1", &[]).run().expect_error(1, &line);
    }
}

/// The IDs in a line of JSON: the server's, then ours.
fn ids(line: &Value) -> (Option<&str>, Option<&str>) {
    (line["tls"]["spiffe_id"].as_str(), line["tls"]["client_spiffe_id"].as_str())
}

#[test]
fn json_has_both_ids_also_where_one_is_rejected() {
    const BOTH: (Option<&str>, Option<&str>) = (Some("spiffe://example.org/api"), Some("spiffe://example.org/probe"));
    let files = Files::new();
    let (domain, foreign) = (TrustDomain::new("example.org"), TrustDomain::new("foreign.org"));
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let leaf = domain.svid("/api", |_| ());
    let of_impostor = TrustDomain::new("example.org").svid("/api", |_| ());
    let expired = domain.svid("/api", |params| params.not_after = date_time_ymd(2021, 2, 3));
    for versions in [DEFAULT_VERSIONS, ONLY_TLS12] {
        for (leaf, clients, flag, kind) in [
            (&leaf, &domain, "-spiffe-id=example.org", None),
            (&leaf, &domain, "-spiffe-id=example.org/cart", Some("tls-certificate-wrong-name")),
            (&of_impostor, &domain, "-spiffe-id=example.org", Some("tls-certificate-unknown-issuer")),
            (&expired, &domain, "-spiffe-id=example.org", Some("tls-certificate-expired")),
            (&leaf, &foreign, "-spiffe-id=example.org", Some("tls-client-certificate-rejected")),
        ] {
            let recorder = serve_with(leaf, clients, versions);
            for mode in ["-q=false", "-watch", "-all-addresses"] {
                let flags = [flag, mode, "-timeout=2s", "-output=json"];
                let mut running = with_agent(&agent.endpoint(), &recorder.server.addr(), &flags).start();
                let line = running.follow_stdout().next();
                let line: Value = serde_json::from_str(&line).expect("it is JSON");
                assert_eq!(ids(&line), BOTH, "{mode} {line}");
                assert_eq!(line["error"].get("kind").and_then(Value::as_str), kind, "{mode} {line}");
                assert!(mode == "-watch" || line["timings_ms"]["spiffe"].is_number(), "{mode} {line}");
                running.signal("-KILL");
                running.finish();
            }
        }
    }
    // A certificate without a SPIFFE ID, and no certificate at all.
    let named = domain.authority.server(&["127.0.0.1"]);
    let ran = probe(&agent, &serve(&named, &domain).server.addr(), &["-output=json"]);
    assert_eq!(ids(&ran.json()), (None, BOTH.1), "{ran}");
    let ran = probe(&agent, &server::plaintext().addr(), &["-output=json"]);
    assert_eq!(ran.json().get("tls"), None, "{ran}");
}

#[test]
fn watch_uses_a_valid_svid_again_while_the_agent_is_away() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    // The server ends each watch at once, so that the probe connects again.
    let recorder = serve(&domain.svid("/api", |_| ()), &domain);
    let until = domain.svid("/probe", |params| params.not_after = date_time_ymd(3000, 1, 2));
    let svid = Reply::with(vec![domain.entry_with("/probe", &until)]);
    for (number, away) in [Reply::Status("14", "starting"), Reply::Nothing].into_iter().enumerate() {
        let agent = Agent::rotating(&files.path(&format!("{number}.sock")), vec![svid.clone(), away]);
        // A long -connect-timeout is not spent on waiting for the agent.
        let flags = ["-watch", "-v", "-connect-timeout=1h"];
        let mut running = with_agent(&agent.endpoint(), &recorder.server.addr(), &flags).start();
        let (stdout, stderr) = running.follow();
        assert!(stdout.next().ends_with(" status: SERVING"));
        let note = loop {
            let line = stderr.next();
            assert!(!line.contains(" error: no SVID"), "{line}");
            if line.contains("using the last SVID again, which is valid until 3000-01-02T00:00:00Z") {
                break line;
            }
        };
        assert!(note.starts_with("spiffe: no SVID from the SPIFFE Workload API at "), "{note}");
        assert!(stdout.next().ends_with(" status: SERVING"));
        running.signal("-KILL");
        running.finish();
    }
}

#[test]
fn watch_does_not_use_an_svid_that_expired_or_was_withdrawn() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let recorder = serve(&domain.svid("/api", |_| ()), &domain);
    let entry = domain.entry("/probe");
    let brief = domain.svid("/probe", |params| validity(params, HOUR, HOUR + Duration::from_secs(3)));
    for (name, svid, away) in [
        ("withdrawn.sock", entry, Reply::Status("7", "no identity issued")),
        ("expired.sock", domain.entry_with("/probe", &brief), Reply::Status("14", "starting")),
    ] {
        let agent = Agent::rotating(&files.path(name), vec![Reply::with(vec![svid]), away]);
        let flags = ["-watch", "-output=json"];
        let mut running = with_agent(&agent.endpoint(), &recorder.server.addr(), &flags).start();
        let stdout = running.follow_stdout();
        let line = loop {
            let line: Value = serde_json::from_str(&stdout.next()).expect("it is JSON");
            if line["error"]["phase"] == "spiffe" {
                break line;
            }
        };
        // The line is about the Workload API, not about the connection before.
        assert_eq!(line.get("tls"), None, "{line}");
        running.signal("-KILL");
        running.finish();
    }
}

/// The line of `-v` about TLS.
fn tls_line(ran: &RunResult) -> &str {
    ran.stderr.lines().find(|line| line.starts_with("tls: ")).unwrap_or_default()
}

#[test]
fn verbose_warns_when_a_fifth_of_a_certificates_life_is_left() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let day = 24 * HOUR;
    for (ago, life, warning) in [
        (Duration::ZERO, HOUR, None),
        (HOUR / 2, HOUR, None),
        (HOUR * 91 / 100, HOUR, Some(" (EXPIRES IN 5 minutes) of spiffe://example.org/api ")),
        (88 * day + HOUR, 90 * day, Some(" (EXPIRES IN 1 day) of spiffe://example.org/api ")),
        (60 * day, 90 * day, None),
    ] {
        let recorder = serve(&domain.svid("/api", |params| validity(params, ago, life)), &domain);
        let ran = probe(&agent, &recorder.server.addr(), &["-v"]);
        assert_eq!(ran.code, Some(0), "{ran}");
        match warning {
            Some(warning) => assert!(tls_line(&ran).contains(warning), "{ran}"),
            None => assert!(!tls_line(&ran).contains("EXPIRES"), "{ran}"),
        }
    }
}

#[test]
fn verbose_shows_the_expiry_and_the_spiffe_id_before_other_names() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let leaf = domain.svid("/api", |params| {
        let names = (0..12).map(|number| format!("a-rather-long-name-{number}.namespace.svc.cluster.local"));
        let id = params.subject_alt_names.remove(0);
        let names = names.map(|name| SanType::DnsName(name.as_str().try_into().expect("ASCII")));
        params.subject_alt_names = names.chain([id]).collect();
        params.not_after = date_time_ymd(3000, 1, 2);
    });
    let ran = probe(&agent, &serve(&leaf, &domain).server.addr(), &["-v"]);
    let start = ", certificate until 3000-01-02T00:00:00Z of spiffe://example.org/api (CN=client), issued by CN=example.org, \
                 for a-rather-long-name-0.namespace.svc.cluster.local, ";
    assert!(tls_line(&ran).contains(start), "{ran}");
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &domain.authority.pem));
    let flags = ["-tls", &ca, "-tls-server-name=a-rather-long-name-0.namespace.svc.cluster.local", "-v"];
    let ran = Probe::new([&[server::tls(&leaf).addr().as_str()], &flags[..]].concat()).run();
    let start = ", certificate until 3000-01-02T00:00:00Z of CN=client, issued by CN=example.org, for spiffe://example.org/api, \
                 a-rather-long-name-0";
    assert!(tls_line(&ran).contains(start), "{ran}");
}

#[test]
fn a_server_that_has_only_a_spiffe_id_suggests_spiffe() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let server = server::tls(&domain.svid("/api", |_| ()));
    let ca = format!("-tls-ca-cert={}", files.write("ca.pem", &domain.authority.pem));
    let foreign = TrustDomain::new("foreign.org");
    let foreign = format!("-tls-ca-cert={}", files.write("foreign.pem", &foreign.authority.pem));
    for (ca, cause) in [
        (ca, "the certificate is valid for spiffe://example.org/api, not for 127.0.0.1"),
        (foreign, "the certificate was issued by CN=example.org, which is not a trusted CA in -tls-ca-cert"),
    ] {
        let line = format!("error: TLS handshake with {} failed: {cause}", server.address);
        let hint = "hint: the server has a SPIFFE ID instead of a name: use -spiffe instead of -tls";
        Probe::new([&server.addr(), "-tls", &ca]).run().expect(1, "", &format!("{line}\n{hint}\n"));
    }
    // The hint leads on.
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    probe(&agent, &server.addr(), &[]).expect_healthy();
}
