//! `-spiffe`: our SVID comes from the Workload API, and the server is verified by its SPIFFE ID.

use std::collections::BTreeMap;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, date_time_ymd};
use rustls::{DEFAULT_VERSIONS, SupportedProtocolVersion, version::TLS12};

use crate::support::{
    pki::{Authority, Files, Leaf},
    probe::{Probe, RunResult},
    server::{self, Recorder, TlsSetup},
    unused_port::UnusedPort,
    workload::{Agent, Reply, TrustDomain, X509Svid, X509SvidResponse},
};

const ONLY_TLS12: &[&SupportedProtocolVersion] = &[&TLS12];

/// A server with this SVID that accepts clients of this trust domain only.
fn serve(leaf: &Leaf, clients: &TrustDomain) -> Recorder {
    serve_with(leaf, clients, DEFAULT_VERSIONS)
}

fn serve_with(leaf: &Leaf, clients: &TrustDomain, versions: &'static [&'static SupportedProtocolVersion]) -> Recorder {
    Recorder::tls(&TlsSetup { leaf, versions, alpn: &["h2"], clients: Some(&clients.authority) })
}

/// Probes a server with an SVID from this agent.
fn probe(agent: &Agent, addr: &str, flags: &[&str]) -> RunResult {
    Probe::new([&[addr, "-spiffe"], flags].concat()).env("SPIFFE_ENDPOINT_SOCKET", agent.endpoint()).run()
}

#[test]
fn mutual_tls_with_svids_is_healthy() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let leaf = domain.svid("/shop/api", |_| ());
    for versions in [DEFAULT_VERSIONS, ONLY_TLS12] {
        let recorder = serve_with(&leaf, &domain, versions);
        // The SPIFFE ID is verified, not the host name.
        let port = recorder.server.port();
        for addr in [recorder.server.addr(), format!("-addr=localhost:{port}"), format!("-addr=:{port}")] {
            probe(&agent, &addr, &[]).expect_healthy();
        }
        recorder.request();
    }
    // With one slash, as some configurations write it.
    let endpoint = agent.endpoint().replace("unix:///", "unix:/");
    let recorder = serve(&leaf, &domain);
    let one_slash = Probe::new([&recorder.server.addr(), "-spiffe"]).env("SPIFFE_ENDPOINT_SOCKET", endpoint);
    one_slash.run().expect_healthy();
    let request = &agent.requests()[0];
    assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchX509SVID");
    assert_eq!(request.headers()["workload.spiffe.io"], "true");
}

#[test]
fn verbose_and_json_show_both_identities() {
    let files = Files::new();
    let (domain, other) = (TrustDomain::new("example.org"), TrustDomain::new("other.org"));
    let reply = X509SvidResponse {
        svids: vec![domain.entry("/probe"), domain.entry("/second")],
        federated_bundles: BTreeMap::from([("spiffe://other.org".to_owned(), other.bundle())]),
    };
    let agent = Agent::new(&files.path("agent.sock"), Reply::Svids(reply));
    let leaf = domain.svid("/shop/api", |params| params.not_after = date_time_ymd(3000, 1, 2));
    let recorder = serve(&leaf, &domain);
    let ran = probe(&agent, &recorder.server.addr(), &["-v"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "status: SERVING\n"), "{ran}");
    let line = |start: &str| ran.stderr.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert_eq!(line("> tls"), "> tls=true spiffe=true");
    let ours = line("spiffe: we are spiffe://example.org/probe until ");
    assert!(ours.contains(", trust domains example.org, other.org ("), "{ran}");
    let theirs = line("tls: ");
    assert!(theirs.contains(" of spiffe://example.org/shop/api (") && theirs.contains("until 3000-01-02T"), "{ran}");

    let json = probe(&agent, &recorder.server.addr(), &["-output=json"]).json();
    assert_eq!(json["tls"]["spiffe_id"], "spiffe://example.org/shop/api");
    assert_eq!(json["tls"]["not_after"], "3000-01-02T00:00:00Z");
    assert_eq!(json["tls"].get("server_name"), None, "{json}");
    assert!(json["timings_ms"]["spiffe"].is_number() && json["timings_ms"]["tls"].is_number(), "{json}");
}

#[test]
fn federated_bundles_are_trusted_for_their_own_domain() {
    let files = Files::new();
    let (domain, other) = (TrustDomain::new("example.org"), TrustDomain::new("other.org"));
    // The key is the ID of the trust domain, or its bare name.
    for (number, name) in ["spiffe://other.org", "other.org"].iter().enumerate() {
        let reply = X509SvidResponse {
            svids: vec![domain.entry("/probe")],
            federated_bundles: BTreeMap::from([((*name).to_owned(), other.bundle())]),
        };
        let agent = Agent::new(&files.path(&format!("{number}.sock")), Reply::Svids(reply));
        let recorder = serve(&other.svid("/api", |_| ()), &domain);
        probe(&agent, &recorder.server.addr(), &[]).expect_healthy();
        // A bundle is not trusted for another trust domain.
        let impostor = other.authority.issue(&[], &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
            params.subject_alt_names = vec![SanType::URI("spiffe://example.org/api".try_into().expect("ASCII"))];
        });
        let recorder = serve(&impostor, &domain);
        let ran = probe(&agent, &recorder.server.addr(), &[]);
        let cause = "no certificate in the bundle of example.org has issued that of spiffe://example.org/api";
        ran.expect_error(1, &format!("error: TLS handshake with {} failed: {cause}", recorder.server.address));
    }
}

#[test]
fn svid_chain_with_an_intermediate_is_healthy() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let below = TrustDomain { name: "example.org", authority: domain.authority.intermediate("below") };
    let entry = X509Svid { bundle: domain.bundle(), ..below.entry("/probe") };
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![entry]));
    let recorder = serve(&below.svid("/api", |_| ()), &domain);
    probe(&agent, &recorder.server.addr(), &[]).expect_healthy();
}

#[test]
fn spiffe_id_flag_restricts_the_server() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let recorder = serve(&domain.svid("/api", |_| ()), &domain);
    let addr = recorder.server.addr();
    for id in ["spiffe://example.org/api", "spiffe://example.org", "example.org", "example.org/api"] {
        probe(&agent, &addr, &[&format!("-spiffe-id={id}")]).expect_healthy();
    }
    for (id, shown) in [
        ("spiffe://example.org/cart", "spiffe://example.org/cart"),
        ("spiffe://example.org/api/v1", "spiffe://example.org/api/v1"),
        ("other.org", "spiffe://other.org"),
    ] {
        let ran = probe(&agent, &addr, &[&format!("-spiffe-id={id}"), "-exit-codes=detailed"]);
        let cause = format!("the server is spiffe://example.org/api, not {shown}");
        ran.expect_error(2, &format!("error: TLS handshake with {} failed: {cause}", recorder.server.address));
        let ran = probe(&agent, &addr, &[&format!("-spiffe-id={id}"), "-output=json"]);
        ran.expect_kind(1, "tls", "tls-certificate-wrong-name");
    }
}

#[test]
fn invalid_spiffe_ids_are_refused() {
    for (id, cause) in [
        ("https://example.org/api", "a SPIFFE ID begins with spiffe://"),
        ("spiffe://", "the trust domain is missing"),
        ("spiffe:///api", "the trust domain is missing"),
        ("spiffe://Example.org/api", "a trust domain has lower-case letters, digits, \"-\", \".\" and \"_\" only"),
        ("spiffe://example.org:8443/api", "a trust domain has lower-case letters, digits, \"-\", \".\" and \"_\" only"),
        ("spiffe://example.org/", "the path of a SPIFFE ID has an empty segment"),
        ("spiffe://example.org/a//b", "the path of a SPIFFE ID has an empty segment"),
        ("spiffe://example.org/../b", "the path of a SPIFFE ID has no \".\" and \"..\""),
        ("spiffe://example.org/a?b", "the path of a SPIFFE ID has letters, digits, \"-\", \".\" and \"_\" only"),
    ] {
        let line = format!("error: -spiffe-id={id}: {cause}");
        Probe::new(["-addr=:1", "-spiffe", &format!("-spiffe-id={id}")]).run().expect_error(1, &line);
    }
}

#[test]
fn invalid_server_svids_are_rejected() {
    let files = Files::new();
    let (domain, foreign) = (TrustDomain::new("example.org"), TrustDomain::new("foreign.org"));
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let uri = |uri: &str| SanType::URI(uri.try_into().expect("ASCII"));
    let no_svid = |cause: &str| format!("the certificate is no X.509-SVID: {cause}");
    let of_an_impostor = TrustDomain::new("example.org").svid("/api", |_| ());
    for (leaf, kind, cause) in [
        (
            domain.svid("/api", |params| params.not_after = date_time_ymd(2021, 2, 3)),
            "tls-certificate-expired",
            "the certificate expired on 2021-02-03".to_owned(),
        ),
        (
            domain.svid("/api", |params| params.not_before = date_time_ymd(3000, 1, 1)),
            "tls-certificate-not-yet-valid",
            "the certificate is not valid before 3000-01-01".to_owned(),
        ),
        (
            foreign.svid("/api", |_| ()),
            "tls-certificate-unknown-issuer",
            "the server is spiffe://foreign.org/api, and the Workload API gave no bundle for that trust domain (but for \
             example.org)"
                .to_owned(),
        ),
        (
            of_an_impostor,
            "tls-certificate-unknown-issuer",
            "no certificate in the bundle of example.org has issued that of spiffe://example.org/api".to_owned(),
        ),
        (
            domain.svid("/api", |params| params.subject_alt_names.push(uri("spiffe://example.org/other"))),
            "tls-certificate-invalid",
            no_svid("it has 2 URIs among its names, and must have one"),
        ),
        (
            domain.authority.server(&["127.0.0.1"]),
            "tls-certificate-invalid",
            no_svid("it has 0 URIs among its names, and must have one"),
        ),
        (
            domain.svid("/api", |params| params.subject_alt_names = vec![uri("https://example.org/api")]),
            "tls-certificate-invalid",
            no_svid("\"https://example.org/api\": a SPIFFE ID begins with spiffe://"),
        ),
        (
            domain.svid("", |_| ()),
            "tls-certificate-invalid",
            no_svid("spiffe://example.org is a trust domain, not a workload"),
        ),
        (
            domain.svid("/api", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "tls-certificate-invalid",
            no_svid("that of spiffe://example.org/api is a CA's"),
        ),
        (
            domain.svid("/api", |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)),
            "tls-certificate-invalid",
            no_svid("the key of spiffe://example.org/api may sign certificates or revocation lists"),
        ),
        (
            domain.svid("/api", |params| params.key_usages.push(KeyUsagePurpose::CrlSign)),
            "tls-certificate-invalid",
            no_svid("the key of spiffe://example.org/api may sign certificates or revocation lists"),
        ),
        (
            domain.svid("/api", |params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
            "tls-certificate-invalid",
            no_svid("the key of spiffe://example.org/api may not sign"),
        ),
    ] {
        let recorder = serve(&leaf, &domain);
        let line = format!("error: TLS handshake with {} failed: {cause}", recorder.server.address);
        let ran = probe(&agent, &recorder.server.addr(), &["-exit-codes=detailed"]);
        assert!(ran.code == Some(2) && ran.stderr.starts_with(&line), "{line}{ran}");
        probe(&agent, &recorder.server.addr(), &["-output=json"]).expect_kind(1, "tls", kind);
    }
    let plain = server::plaintext();
    probe(&agent, &plain.addr(), &["-output=json"]).expect_kind(1, "tls", "tls-plaintext-server");
}

#[test]
fn extended_key_usage_of_an_svid_is_ignored() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let for_clients =
        domain.svid("/api", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let for_nothing = domain.svid("/api", |params| params.key_usages = Vec::new());
    for leaf in [for_clients, for_nothing] {
        probe(&agent, &serve(&leaf, &domain).server.addr(), &[]).expect_healthy();
    }
}

#[test]
fn invalid_trust_anchors_are_rejected() {
    let files = Files::new();
    let valid = TrustDomain::new("example.org");
    let domain = |change: fn(&mut rcgen::CertificateParams)| TrustDomain {
        name: "example.org",
        authority: Authority::with("example.org", change),
    };
    let expired = domain(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 2, 3);
    });
    let early = domain(|params| params.not_before = date_time_ymd(3000, 1, 1));
    let without_cert_sign = domain(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let not_a_ca = domain(|params| params.is_ca = IsCa::NoCa);
    let limited = domain(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let below = TrustDomain { name: "example.org", authority: limited.authority.intermediate("below") };
    let impostor = TrustDomain { name: "example.org", authority: valid.authority.impostor("impostor") };
    let of_impostor = "the certificate of CN=impostor in the server's chain";
    let of_it = "the certificate of CN=example.org in the bundle of example.org";
    for (number, (bundle, issuer, kind, cause)) in [
        (&expired, &expired, "tls-certificate-expired", format!("{of_it} expired on 2021-02-03T00:00:00Z")),
        (&early, &early, "tls-certificate-not-yet-valid", format!("{of_it} is not valid before 3000-01-01T00:00:00Z")),
        (
            &without_cert_sign,
            &without_cert_sign,
            "tls-certificate-unknown-issuer",
            format!("{of_it} may not sign certificates (no keyCertSign)"),
        ),
        (&not_a_ca, &not_a_ca, "tls-certificate-unknown-issuer", format!("{of_it} is not a CA certificate")),
        (
            &limited,
            &below,
            "tls-certificate-invalid",
            format!("{of_it} allows no CA certificate below it, and the chain has one (path length)"),
        ),
        (&valid, &impostor, "tls-certificate-invalid", format!("{of_impostor} is not a CA certificate")),
    ]
    .into_iter()
    .enumerate()
    {
        let entry = X509Svid { bundle: bundle.bundle(), ..valid.entry("/probe") };
        let agent = Agent::new(&files.path(&format!("{number}.sock")), Reply::with(vec![entry]));
        let recorder = serve(&issuer.svid("/api", |_| ()), &valid);
        let ran = probe(&agent, &recorder.server.addr(), &["-output=json"]);
        ran.expect_kind(1, "tls", kind);
        let line = format!("TLS handshake with {} failed: {cause}", recorder.server.address);
        assert!(ran.json()["error"]["message"].as_str().is_some_and(|message| message.starts_with(&line)), "{ran}");
    }
    // A chain that respects the path length.
    let entry = X509Svid { bundle: limited.bundle(), ..valid.entry("/probe") };
    let agent = Agent::new(&files.path("limited.sock"), Reply::with(vec![entry]));
    probe(&agent, &serve(&limited.svid("/api", |_| ()), &valid).server.addr(), &[]).expect_healthy();
}

#[test]
fn bundles_of_all_svids_are_trusted() {
    let files = Files::new();
    let (domain, other) = (TrustDomain::new("example.org"), TrustDomain::new("other.org"));
    let reply = Reply::with(vec![domain.entry("/probe"), other.entry("/probe")]);
    let agent = Agent::new(&files.path("agent.sock"), reply);
    probe(&agent, &serve(&other.svid("/api", |_| ()), &domain).server.addr(), &[]).expect_healthy();
}

#[test]
fn workload_api_failure_does_not_show_the_previous_attempt() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let replies = vec![Reply::with(vec![domain.entry("/probe")]), Reply::Status("7", "no identity issued")];
    let agent = Agent::rotating(&files.path("agent.sock"), replies);
    let leaf = domain.svid("/api", |params| params.not_before = date_time_ymd(3000, 1, 1));
    let recorder = serve(&leaf, &domain);
    let ran = probe(&agent, &recorder.server.addr(), &["-wait=1s", "-output=json"]);
    let line = ran.json();
    assert_eq!(line["error"]["kind"], "workload-api-denied", "{ran}");
    assert_eq!((line.get("peer"), line.get("tls"), line.get("timings_ms")), (None, None, None), "{ran}");
}

#[test]
fn rejection_of_our_svid_is_reported() {
    let files = Files::new();
    let (domain, foreign) = (TrustDomain::new("example.org"), TrustDomain::new("foreign.org"));
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let old = domain.svid("/probe", |params| params.not_after = date_time_ymd(2021, 2, 3));
    let old = Agent::new(&files.path("old.sock"), Reply::with(vec![domain.entry_with("/probe", &old)]));
    let leaf = domain.svid("/api", |_| ());
    for (agent, clients) in [(&agent, &foreign), (&old, &domain)] {
        for versions in [DEFAULT_VERSIONS, ONLY_TLS12] {
            let recorder = serve_with(&leaf, clients, versions);
            let ran = probe(agent, &recorder.server.addr(), &["-output=json"]);
            ran.expect_kind(1, "tls", "tls-client-certificate-rejected");
        }
    }
    let recorder = serve(&leaf, &domain);
    let ran = probe(&old, &recorder.server.addr(), &[]);
    assert!(ran.stderr.contains("\nhint: our SVID expired at 2021-02-03T00:00:00Z ("), "{ran}");
}

#[test]
fn unusable_workload_api_responses_exit_20() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let entry = || domain.entry("/probe");
    let other_key = domain.svid("/probe", |_| ()).key.secret_der().to_vec();
    let no_agent = "is this the socket of an agent's Workload API? SPIFFE_ENDPOINT_SOCKET names it";
    let no_entry = "no registration entry is for this process; with SPIRE: spire-server entry show";
    for (number, (reply, kind, cause, hint)) in [
        (
            Reply::Status("7", "no identity issued"),
            "workload-api-denied",
            "no SVID from {agent}: PERMISSION_DENIED: no identity issued",
            Some(no_entry),
        ),
        (
            Reply::Status("3", "security header missing from request"),
            "workload-api-unusable",
            "no SVID from {agent}: INVALID_ARGUMENT: security header missing from request",
            Some(no_agent),
        ),
        (Reply::Status("12", ""), "workload-api-unusable", "no SVID from {agent}: UNIMPLEMENTED", Some(no_agent)),
        (Reply::with(vec![]), "no-svid", "no SVID from {agent}: it has none for this process", Some(no_entry)),
        (
            Reply::with(vec![X509Svid { bundle: vec![], ..entry() }]),
            "no-trust-bundle",
            "{agent} gave no trust anchor for the trust domain example.org",
            None,
        ),
        (
            Reply::with(vec![X509Svid { bundle: vec![1, 2, 3], ..entry() }]),
            "svid-invalid",
            "the response of {agent} cannot be used: the certificates of example.org are not DER, or too many",
            None,
        ),
        (
            Reply::with(vec![X509Svid { chain: vec![], ..entry() }]),
            "svid-invalid",
            "the response of {agent} cannot be used: spiffe://example.org/probe has no certificate",
            None,
        ),
        (
            Reply::with(vec![X509Svid { chain: vec![48, 0], ..entry() }]),
            "svid-invalid",
            "the response of {agent} cannot be used: the certificate of spiffe://example.org/probe is no X.509-SVID: it cannot \
             be read",
            None,
        ),
        (
            Reply::with(vec![X509Svid { spiffe_id: "spiffe://example.org/other".to_owned(), ..entry() }]),
            "svid-invalid",
            "the response of {agent} cannot be used: the certificate of spiffe://example.org/other is that of \
             spiffe://example.org/probe",
            None,
        ),
        (
            Reply::with(vec![X509Svid { bundle: [48, 0].repeat(2000), ..entry() }]),
            "svid-invalid",
            "the response of {agent} cannot be used: the certificates of example.org are not DER, or too many",
            None,
        ),
        (
            Reply::with(vec![X509Svid { key: vec![48, 0], ..entry() }]),
            "svid-invalid",
            "our X.509-SVID spiffe://example.org/probe from the Workload API cannot be used: its key is broken or of an \
             unsupported kind",
            None,
        ),
        (
            Reply::with(vec![X509Svid { key: other_key, ..entry() }]),
            "svid-invalid",
            "our X.509-SVID spiffe://example.org/probe from the Workload API cannot be used: its key is not that of its \
             certificate",
            None,
        ),
        (
            Reply::with(vec![X509Svid { spiffe_id: "probe\u{1b}[31m".to_owned(), ..entry() }]),
            "svid-invalid",
            "the response of {agent} cannot be used: \"probe\\u{1b}[31m\" is no SPIFFE ID: a SPIFFE ID begins with spiffe://",
            None,
        ),
        (Reply::Bytes(vec![10, 200]), "workload-api-failed", "no SVID from {agent}: failed to decode Protobuf", None),
    ]
    .into_iter()
    .enumerate()
    {
        let agent = Agent::new(&files.path(&format!("{number}.sock")), reply);
        let cause = cause.replace("{agent}", &format!("the SPIFFE Workload API at {}", agent.endpoint()));
        let ran = probe(&agent, "-addr=:1", &["-exit-codes=detailed"]);
        assert!(ran.code == Some(20) && ran.stderr.starts_with(&format!("error: {cause}")), "{cause}{ran}");
        let reported = ran.stderr.lines().nth(1).and_then(|line| line.strip_prefix("hint: "));
        assert_eq!(reported, hint, "{ran}");
        probe(&agent, "-addr=:1", &["-output=json"]).expect_kind(1, "spiffe", kind);
    }
}

#[test]
fn silent_agent_times_out() {
    let files = Files::new();
    let agent = Agent::new(&files.path("agent.sock"), Reply::Nothing);
    for (flags, limit) in [(&["-rpc-timeout=1h"][..], "1s"), (&["-connect-timeout=1h", "-timeout=500ms"], "500ms")] {
        let ran = probe(&agent, "-addr=:1", &[&["-exit-codes=detailed"], flags].concat());
        let endpoint = agent.endpoint();
        let line =
            format!("error: no SVID from the SPIFFE Workload API at {endpoint}: it did not answer within {limit}");
        ran.expect_error(20, &line);
    }
}

#[test]
fn unreachable_and_invalid_agent_addresses_exit_20() {
    let files = Files::new();
    let socket = files.path("agent.sock");
    let unused = UnusedPort::new();
    let free = unused.address;
    let forms = "write unix:///path or tcp://ip:port";
    let no_path = "the absolute path of a socket is missing; write unix:///path";
    let no_port = "it must have an IP address and a port; write tcp://ip:port";
    let missing = format!("unix://{}", socket.display());
    let file = format!("unix://{}", files.write("file", ""));
    let refused = format!("tcp://{free}");
    let unreachable = |endpoint: &str, cause: &str| {
        format!("no SVID from the SPIFFE Workload API at {endpoint}: cannot connect to {endpoint}: {cause}")
    };
    for (endpoint, kind, line) in [
        ("", "workload-api-address", "SPIFFE_ENDPOINT_SOCKET is not set, and -spiffe needs it".to_owned()),
        ("/run/agent.sock", "workload-api-address", format!("SPIFFE_ENDPOINT_SOCKET \"/run/agent.sock\": {forms}")),
        (
            "unix:///run/agent.sock?a=b",
            "workload-api-address",
            format!(
                "SPIFFE_ENDPOINT_SOCKET \"unix:///run/agent.sock?a=b\": it must not have a query, which begins with \"?\"; \
                 {forms}"
            ),
        ),
        (
            "tcp://127.0.0.1:http",
            "workload-api-address",
            format!("SPIFFE_ENDPOINT_SOCKET \"tcp://127.0.0.1:http\": {no_port}"),
        ),
        ("unix:agent.sock", "workload-api-address", format!("SPIFFE_ENDPOINT_SOCKET \"unix:agent.sock\": {no_path}")),
        ("tcp://agent:8081", "workload-api-address", format!("SPIFFE_ENDPOINT_SOCKET \"tcp://agent:8081\": {no_port}")),
        ("tcp://127.0.0.1", "workload-api-address", format!("SPIFFE_ENDPOINT_SOCKET \"tcp://127.0.0.1\": {no_port}")),
        (&file, "workload-api-unusable", unreachable(&file, "it is not a socket")),
        (&missing, "workload-api-unreachable", unreachable(&missing, "no such file")),
        (&refused, "workload-api-unreachable", unreachable(&refused, &format!("connection refused ({free})"))),
    ] {
        let run = |flag: &str| Probe::new(["-addr=:1", "-spiffe", flag]).env("SPIFFE_ENDPOINT_SOCKET", endpoint).run();
        run("-exit-codes=detailed").expect_error(20, &format!("error: {line}"));
        run("-output=json").expect_kind(1, "spiffe", kind);
    }
}

#[test]
fn wait_retries_the_workload_api() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let recorder = serve(&domain.svid("/api", |_| ()), &domain);
    let path = files.path("agent.sock");
    let running = Probe::new([&recorder.server.addr(), "-spiffe", "-wait=20s", "-q"])
        .env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", path.display()))
        .start();
    // First without a registration entry, then with one.
    let replies = vec![Reply::Status("7", "no identity issued"), Reply::with(vec![domain.entry("/probe")])];
    let agent = Agent::rotating(&path, replies);
    running.finish().expect(0, "", "");
    assert!(agent.requests().len() > 1);
}

#[test]
fn rotated_bundle_is_used_by_the_next_run() {
    let files = Files::new();
    let (domain, renewed) = (TrustDomain::new("example.org"), TrustDomain::new("example.org"));
    // The new authority has issued the server's SVID. The agent gets its certificate later.
    let both = X509Svid { bundle: [domain.bundle(), renewed.bundle()].concat(), ..renewed.entry("/probe") };
    let agent = Agent::rotating(
        &files.path("agent.sock"),
        vec![Reply::with(vec![domain.entry("/probe")]), Reply::with(vec![both])],
    );
    let recorder = serve(&renewed.svid("/api", |_| ()), &renewed);
    let first = probe(&agent, &recorder.server.addr(), &["-output=json"]);
    first.expect_kind(1, "tls", "tls-certificate-unknown-issuer");
    probe(&agent, &recorder.server.addr(), &[]).expect_healthy();
}

#[test]
fn spiffe_works_with_all_addresses_and_watch() {
    let files = Files::new();
    let domain = TrustDomain::new("example.org");
    let agent = Agent::new(&files.path("agent.sock"), Reply::with(vec![domain.entry("/probe")]));
    let recorder = serve(&domain.svid("/api", |_| ()), &domain);
    let ran = probe(&agent, &recorder.server.addr(), &["-all-addresses"]);
    let line = format!("{}: status: SERVING (", recorder.server.address);
    assert!(ran.code == Some(0) && ran.stdout.starts_with(&line), "{ran}");
    let ran = probe(&agent, &recorder.server.addr(), &["-watch", "-timeout=1s"]);
    assert!(ran.code == Some(1) && ran.stdout.contains("Z status: SERVING\n"), "{ran}");
}

#[test]
fn signal_during_the_workload_api_request_exits_20() {
    let files = Files::new();
    let agent = Agent::new(&files.path("agent.sock"), Reply::Nothing);
    let running = Probe::new(["-addr=:1", "-spiffe", "-connect-timeout=1h", "-exit-codes=detailed"])
        .env("SPIFFE_ENDPOINT_SOCKET", agent.endpoint())
        .start();
    while agent.requests().is_empty() {
        std::thread::yield_now();
    }
    running.signal("-TERM");
    running.finish().expect(20, "", "error: stopped by SIGTERM during the request to the SPIFFE Workload API\n");
}
