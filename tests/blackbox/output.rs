//! Output in text and JSON: streams, exit codes, the size limit, and the escaping of hostile input.

use std::{net::SocketAddr, os::unix::net::UnixListener, thread};

use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use serde_json::Value;

use crate::support::{
    frames,
    peer::Peer,
    pki::{Authority, Files},
    probe::{Probe, RunResult},
    server::{self, Recorder, TlsSetup},
};

/// How many bytes of a health check's output Docker keeps.
const LIMIT: usize = 4096;
const CLOSED_PORT: &str = "-addr=127.0.0.1:1";
const SERVING: &str = "status: SERVING\n";
const DOWN: &str = "service unhealthy (responded with \"NOT_SERVING\")\n";
const REFUSED: &str = "error: cannot connect to 127.0.0.1:1: connection refused\n\
                       hint: nothing listens there; is the server up, and on this port?\n";

/// A server that answers each request with this status.
fn answering(status: u8) -> Peer {
    Peer::new(move |connection, _| {
        connection.take_request();
        let answer = [
            frames::ok_headers(),
            frames::data(0, &frames::answer(status)),
            frames::trailers(&[("grpc-status", b"0")]),
        ];
        connection.send(answer.concat());
        connection.drain();
    })
}

#[test]
fn results_go_to_stdout_and_everything_else_to_stderr() {
    let server = server::plaintext();
    let addr = server.addr();
    Probe::new([&addr]).run().expect(0, SERVING, "");
    Probe::new([&addr, "-service=down"]).run().expect(1, DOWN, "");
    let missing = format!("error: health check of {} failed: NOT_FOUND: service not registered", server.address);
    Probe::new([&addr, "-service=missing"]).run().expect_error(1, &missing);
    Probe::new([CLOSED_PORT]).run().expect(1, "", REFUSED);
    Probe::new([CLOSED_PORT, "-tls-no-verify"]).run().expect(1, "", "error: -tls-no-verify needs -tls\n");
}

#[test]
fn unhealthy_statuses_are_named_in_text_and_json() {
    for (status, name, kind) in [
        (0, "UNKNOWN", "status-unknown"),
        (2, "NOT_SERVING", "not-serving"),
        (3, "SERVICE_UNKNOWN", "service-unknown-status"),
        (7, "7", "status-unrecognised"),
        (42, "42", "status-unrecognised"),
    ] {
        let peer = answering(status);
        let words = format!("service unhealthy (responded with \"{name}\")\n");
        Probe::new([peer.addr()]).run().expect(1, &words, "");
        Probe::new([&peer.addr(), "-exit-codes=detailed"]).run().expect(4, &words, "");
        let json = Probe::new([&peer.addr(), "-exit-codes=detailed", "-output=json"]).run();
        json.expect_kind(4, "health", kind);
        assert_eq!((&json.json()["status"], json.stderr.as_str()), (&Value::from(name), ""), "{json}");
    }
    Probe::new([answering(1).addr()]).run().expect_healthy();
}

#[test]
fn exit_codes_match_the_outcome() {
    let server = server::plaintext();
    let addr = server.addr();
    let unanswering = Peer::new(|connection, _| {
        connection.take_request();
        connection.drain();
    });
    let silent = Peer::new(|connection, _| connection.drain());
    let (unanswering_addr, silent_addr) = (unanswering.addr(), silent.addr());
    let table: [(&[&str], u8, u8); 13] = [
        (&[&addr], 0, 0),
        (&[&addr, "-service=up"], 0, 0),
        (&[], 1, 1),
        (&[&addr, "-nonsense"], 1, 1),
        (&[&addr, "-rpc-timeout=0"], 1, 1),
        (&[&addr, "-tls", "-tls-ca-cert=/nonexistent"], 1, 1),
        (&[CLOSED_PORT], 1, 2),
        (&["-addr=unix:/nonexistent"], 1, 2),
        (&[&addr, "-tls"], 1, 2),
        (&[&silent_addr, "-connect-timeout=200ms"], 1, 2),
        (&[&addr, "-service=missing"], 1, 3),
        (&[&unanswering_addr, "-rpc-timeout=200ms"], 1, 3),
        (&[&addr, "-service=down"], 1, 4),
    ];
    for (words, docker, detailed) in table {
        for output in ["-output=text", "-output=json"] {
            for (mode, code) in [("docker", docker), ("detailed", detailed)] {
                let mode = format!("-exit-codes={mode}");
                let ran = Probe::new([words, &[output, &mode]].concat()).run();
                assert_eq!(ran.code, Some(code.into()), "{ran}");
            }
            let ran = Probe::new([words, &[output]].concat()).run();
            assert_eq!(ran.code, Some(docker.into()), "{ran}");
        }
    }
}

#[test]
fn several_services_print_a_line_each_and_exit_with_the_worst_code() {
    let server = server::plaintext();
    let addr = server.addr();
    let error = |name: &str| {
        format!("error: {name}: health check of {} failed: NOT_FOUND: service not registered\n", server.address)
    };
    let lost = "lost: service unhealthy (responded with \"UNKNOWN\")\n";
    let table: [(&[&str], u8, String, String); 7] = [
        (&["up", "up"], 0, format!("up: {SERVING}up: {SERVING}"), String::new()),
        (&["up", "down"], 4, format!("up: {SERVING}down: {DOWN}"), String::new()),
        (&["down", "up"], 4, format!("down: {DOWN}up: {SERVING}"), String::new()),
        (&["down", "lost"], 4, format!("down: {DOWN}{lost}"), String::new()),
        (&["up", "missing"], 3, format!("up: {SERVING}"), error("missing")),
        (&["down", "missing", "up"], 3, format!("down: {DOWN}up: {SERVING}"), error("missing")),
        (&["a", "b"], 3, String::new(), error("a") + &error("b")),
    ];
    for (services, detailed, stdout, stderr) in table {
        let services: Vec<String> = services.iter().map(|service| format!("-service={service}")).collect();
        for (mode, code) in [("-exit-codes=docker", detailed.min(1)), ("-exit-codes=detailed", detailed)] {
            let flags = [addr.as_str(), mode];
            let mut ran = Probe::new(flags.into_iter().chain(services.iter().map(String::as_str))).run();
            // Other tests check the hints.
            ran.stderr = ran.stderr.split_inclusive('\n').filter(|line| !line.starts_with("hint: ")).collect();
            ran.expect(code.into(), &stdout, &stderr);
        }
    }
}

#[test]
fn several_services_in_json_print_an_object_each() {
    let server = server::plaintext();
    let words = [&server.addr(), "-service=up", "-service=down", "-service=missing", "-output=json"];
    let ran = Probe::new(words.iter().chain(&["-exit-codes=detailed"])).run();
    let lines = json_lines(&ran);
    let reported: Vec<_> = lines
        .iter()
        .map(|line| (line["service"].as_str(), line["healthy"].as_bool(), line["error"]["kind"].as_str()))
        .collect();
    let expected = [
        (Some("up"), Some(true), None),
        (Some("down"), Some(false), Some("not-serving")),
        (Some("missing"), Some(false), Some("service-unknown")),
    ];
    assert_eq!(reported, expected, "{ran}");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(3), ""), "{ran}");
}

#[test]
fn connection_failure_is_reported_once_for_several_services() {
    let services = ["-service=a", "-service=b"];
    Probe::new([CLOSED_PORT].iter().chain(&services)).run().expect(1, "", REFUSED);
    Probe::new([CLOSED_PORT, "-exit-codes=detailed"].iter().chain(&services)).run().expect(2, "", REFUSED);
}

#[test]
fn quiet_hides_only_healthy_results() {
    let server = server::plaintext();
    let addr = server.addr();
    Probe::new([&addr, "-q"]).run().expect(0, "", "");
    Probe::new([&addr, "-q", "-output=json"]).run().expect(0, "", "");
    Probe::new([&addr, "-q", "-service=up", "-service=up"]).run().expect(0, "", "");
    Probe::new([&addr, "-q", "-service=down"]).run().expect(1, DOWN, "");
    Probe::new([&addr, "-q", "-service=up", "-service=down"]).run().expect(1, &format!("down: {DOWN}"), "");
    Probe::new([CLOSED_PORT, "-q"]).run().expect(1, "", REFUSED);
    Probe::new([CLOSED_PORT, "-q", "-output=json"]).run().expect_kind(1, "connect", "connection-refused");
    Probe::new([CLOSED_PORT, "-q", "-tls-no-verify"]).run().expect(1, "", "error: -tls-no-verify needs -tls\n");
}

#[test]
fn verbose_prints_options_and_phases_to_stderr() {
    let server = server::plaintext();
    let address = server.address;
    let ran = Probe::new([&server.addr(), "-v", "-service=up", "-rpc-header=a: b", "-timeout=9s"]).run();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), SERVING), "{ran}");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let options = [
        "parsed options:".to_owned(),
        format!("> addr={address} conn_timeout=1s rpc_timeout=1s timeout=9s"),
        "> service=up".to_owned(),
        "> headers: a: b".to_owned(),
        "> tls=false".to_owned(),
    ];
    assert_eq!(lines[..options.len()], options, "{ran}");
    let phases: Vec<&str> = lines[options.len()..].iter().map(|line| line.split(": ").next().unwrap_or("")).collect();
    assert_eq!(phases, ["connect", "http2", "rpc"], "{ran}");
    // Each phase has its duration.
    assert!(lines[options.len()..].iter().all(|line| line.ends_with("s)")), "{ran}");

    let failed = Probe::new([CLOSED_PORT, "-v"]).run();
    assert!(failed.code == Some(1) && failed.stdout.is_empty() && failed.stderr.ends_with(REFUSED), "{failed}");
}

/// The lines of stdout as JSON. Expects objects without null values.
#[track_caller]
fn json_lines(ran: &RunResult) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{ran}not JSON: {error}"));
    let lines: Vec<Value> = ran.stdout.lines().map(parse).collect();
    for line in &lines {
        assert!(line.is_object() && !contains_null(line), "{ran}");
    }
    lines
}

fn contains_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(contains_null),
        Value::Object(members) => members.values().any(contains_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The names of an object's members, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> =
        value.as_object().map_or_else(Vec::new, |members| members.keys().map(String::as_str).collect());
    keys.sort_unstable();
    keys
}

/// Expects non-negative numbers as the timings of exactly these phases.
#[track_caller]
fn expect_timings(line: &Value, phases: &[&str]) {
    let timings = &line["timings_ms"];
    assert_eq!(keys(timings), phases, "{line}");
    assert!(phases.iter().all(|phase| timings[phase].as_f64().is_some_and(|time| time >= 0.0)), "{line}");
}

#[test]
fn json_of_a_healthy_server() {
    let server = server::plaintext();
    let ran = Probe::new([&server.addr(), "-output=json"]).run();
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran}");
    let line = ran.json();
    assert_eq!(keys(&line), ["addr", "healthy", "peer", "service", "status", "timings_ms"], "{ran}");
    let address = server.address.to_string();
    for (key, value) in [
        ("addr", Value::from(address.as_str())),
        ("peer", Value::from(address.as_str())),
        ("service", Value::from("")),
        ("healthy", Value::from(true)),
        ("status", Value::from("SERVING")),
    ] {
        assert_eq!(line[key], value, "{ran}");
    }
    expect_timings(&line, &["connect", "http2", "rpc"]);
    json_lines(&ran);
}

#[test]
fn json_has_the_address_as_given_and_the_resolved_peer() {
    let (v4, v6) = (server::plaintext(), server::plaintext_v6());
    let files = Files::new();
    let _unix = server::unix(&files.path("socket"));
    let unix = format!("unix:{}", files.path("socket").display());
    for (address, peer) in [
        (format!("localhost:{}", v4.port()), v4.address.to_string()),
        (format!(":{}", v4.port()), v4.address.to_string()),
        (format!("dns:///127.0.0.1:{}", v4.port()), v4.address.to_string()),
        (format!("localhost:{}", v6.port()), v6.address.to_string()),
        (unix.clone(), unix),
    ] {
        let ran = Probe::new([&address, "-output=json"]).run();
        let line = ran.json();
        assert_eq!((&line["addr"], &line["peer"]), (&Value::from(address), &Value::from(peer)), "{ran}");
    }
}

#[test]
fn json_of_a_tls_server() {
    static VERSIONS: [(&[&SupportedProtocolVersion], &str); 2] = [(&[&TLS12], "1.2"), (&[&TLS13], "1.3")];

    let root = Authority::new("root");
    let files = Files::new();
    let ca_cert = format!("-tls-ca-cert={}", files.write("ca.pem", &root.pem));
    let leaf = root.server(&["localhost"]);
    for (versions, version) in VERSIONS {
        let recorder = Recorder::tls(&TlsSetup { leaf: &leaf, versions, alpn: &["h2"], clients: None });
        let address = format!("localhost:{}", recorder.server.port());
        let ran = Probe::new([&address, "-tls", &ca_cert, "-output=json"]).run();
        let line = ran.json();
        assert_eq!(keys(&line), ["addr", "healthy", "peer", "service", "status", "timings_ms", "tls"], "{ran}");
        assert_eq!(keys(&line["tls"]), ["cipher", "not_after", "server_name", "version"], "{ran}");
        assert_eq!(line["tls"]["server_name"], "localhost", "{ran}");
        assert!(line["tls"]["version"].as_str().is_some_and(|reported| reported.ends_with(version)), "{ran}");
        assert!(keys(&line["tls"]).iter().all(|key| line["tls"][key].as_str().is_some_and(|text| !text.is_empty())));
        expect_timings(&line, &["connect", "http2", "rpc", "tls"]);
        json_lines(&ran);
    }
}

#[test]
fn json_of_an_unhealthy_service() {
    let server = server::plaintext();
    let ran = Probe::new([&server.addr(), "-output=json", "-service=down", "-exit-codes=detailed"]).run();
    ran.expect_kind(4, "health", "not-serving");
    let line = ran.json();
    assert_eq!(keys(&line), ["addr", "error", "healthy", "peer", "service", "status", "timings_ms"], "{ran}");
    assert_eq!((&line["service"], &line["status"]), (&Value::from("down"), &Value::from("NOT_SERVING")), "{ran}");
    assert_eq!(keys(&line["error"]), ["kind", "message", "phase"], "{ran}");
    assert_eq!(line["error"]["message"], DOWN.trim_end(), "{ran}");
    expect_timings(&line, &["connect", "http2", "rpc"]);
    assert_eq!(ran.stderr, "");
    json_lines(&ran);
}

#[test]
fn json_of_a_failed_rpc() {
    let server = server::plaintext();
    let ran = Probe::new([&server.addr(), "-output=json", "-service=missing", "-exit-codes=detailed"]).run();
    ran.expect_kind(3, "rpc", "service-unknown");
    let line = ran.json();
    assert_eq!(keys(&line), ["addr", "error", "healthy", "peer", "service", "timings_ms"], "{ran}");
    assert_eq!(keys(&line["error"]), ["grpc_code", "hint", "kind", "message", "phase"], "{ran}");
    assert_eq!(line["error"]["grpc_code"], 5, "{ran}");
    let message = format!("health check of {} failed: NOT_FOUND: service not registered", server.address);
    assert_eq!(line["error"]["message"], message, "{ran}");
    assert_eq!(ran.stderr, "");
    json_lines(&ran);
}

#[test]
fn json_of_a_failed_connection() {
    let ran = Probe::new([CLOSED_PORT, "-output=json", "-exit-codes=detailed"]).run();
    ran.expect_kind(2, "connect", "connection-refused");
    let line = ran.json();
    assert_eq!(line["addr"], "127.0.0.1:1", "{ran}");
    assert_eq!(keys(&line["error"]), ["hint", "kind", "message", "phase"], "{ran}");
    assert_eq!(line["error"]["message"], "cannot connect to 127.0.0.1:1: connection refused", "{ran}");
    assert_eq!(line["error"]["hint"], "nothing listens there; is the server up, and on this port?", "{ran}");
    assert!(line.get("status").is_none() && line.get("peer").is_none() && line.get("tls").is_none(), "{ran}");
    assert_eq!(ran.stderr, "");
    json_lines(&ran);
}

#[test]
fn json_of_bad_arguments() {
    for (words, message) in [
        (&["-output=json"][..], "-addr is not specified"),
        (&["-output=json", "-nonsense"], "unknown flag -nonsense"),
        (&["-nonsense", "-output=json"], "unknown flag -nonsense"),
        (&["-nonsense", "--output", "json"], "unknown flag -nonsense"),
        (&["-output=json", CLOSED_PORT, "-rpc-timeout=0"], "-rpc-timeout=0: must be greater than zero (specified: 0s)"),
        (&["-output=json", "-tls", "false"], "-tls false: a boolean takes its value after \"=\": -tls=false"),
        (&["-output=json", "-service"], "-service needs a value"),
        (&["-output=json", "a:1", "b:2"], "unexpected argument \"b:2\""),
    ] {
        for mode in ["-exit-codes=docker", "-exit-codes=detailed"] {
            // The mode comes first, as some of the arguments must be the last.
            let ran = Probe::new([&[mode], words].concat()).run();
            ran.expect_kind(1, "usage", "usage");
            let line = ran.json();
            assert_eq!(line["error"]["message"], message, "{ran}");
            assert!(line.get("timings_ms").is_none() && line.get("status").is_none(), "{ran}");
            assert_eq!(ran.stderr, "", "{ran}");
            json_lines(&ran);
        }
    }
    let ran = Probe::new(["-output=json", "-addr=nonsense"]).run();
    assert_eq!(ran.json()["addr"], "nonsense", "{ran}");
}

#[test]
fn json_of_bad_output_flags() {
    for (word, message) in [
        ("-exit-codes=x", "-exit-codes=x: neither docker nor detailed"),
        ("-q=x", "-q=x: not a boolean (true, false, t, f, 1 or 0)"),
        ("-v=x", "-v=x: not a boolean (true, false, t, f, 1 or 0)"),
    ] {
        let ran = Probe::new([CLOSED_PORT, "-output=json", word]).run();
        ran.expect_kind(1, "usage", "usage");
        assert_eq!((ran.json()["error"]["message"].as_str(), ran.stderr.as_str()), (Some(message), ""), "{ran}");
    }
}

#[test]
fn json_from_a_variable_applies_to_bad_arguments() {
    for word in ["-nonsense", "-tls-no-verify", "-rpc-timeout=0", "-exit-codes=x", "-service", "---"] {
        let ran = Probe::new([CLOSED_PORT, word]).env("GRPC_HEALTH_PROBE_OUTPUT", "json").run();
        ran.expect_kind(1, "usage", "usage");
        assert_eq!(ran.stderr, "", "{ran}");
    }
}

#[test]
fn last_output_flag_applies_to_bad_arguments() {
    let nonsense = "error: unknown flag -nonsense\nhint: -help lists all flags\n";
    Probe::new(["-output=json", "-output=text", "-nonsense"]).run().expect(1, "", nonsense);
    // Here the text is the value of another flag, so it selects nothing.
    Probe::new(["-service=output", "output=json", "-nonsense"]).run().expect(1, "", nonsense);
    Probe::new(["-service", "-output=json", "-nonsense"]).run().expect(1, "", nonsense);
    Probe::new(["-nonsense", "--", "-output=json"]).run().expect(1, "", nonsense);
    // The flag overrides the variable.
    let text = Probe::new(["-output=text", "-nonsense"]).env("GRPC_HEALTH_PROBE_OUTPUT", "json").run();
    text.expect(1, "", nonsense);
}

#[track_caller]
fn expect_within_limit(ran: &RunResult) {
    let length = ran.stdout.len() + ran.stderr.len();
    assert!(length <= LIMIT, "{ran}{length} bytes");
}

#[test]
fn output_of_many_services_stays_within_the_limit() {
    let server = server::plaintext();
    for (names, detailed) in [("up", 0), ("down", 4), ("missing", 3)] {
        for length in [1, 40, 1000] {
            let names: Vec<String> = (0..100)
                .map(|number| match names {
                    "missing" => format!("-service={number}-{}", "m".repeat(length)),
                    name => format!("-service={name}"),
                })
                .collect();
            for output in ["-output=text", "-output=json"] {
                let flags = [server.addr(), output.to_owned(), "-exit-codes=detailed".to_owned()];
                let ran = Probe::new(flags.iter().chain(&names)).run();
                assert_eq!(ran.code, Some(detailed), "{ran}");
                expect_within_limit(&ran);
                assert!(!ran.stdout.is_empty() || !ran.stderr.is_empty(), "{ran}");
                if output == "-output=json" {
                    json_lines(&ran);
                }
            }
        }
    }
}

#[test]
fn thousand_services_are_checked() {
    let server = server::plaintext();
    for count in [100, 150, 300, 1000] {
        let services = vec!["-service=up"; count];
        let ran = Probe::new([server.addr().as_str(), "-q", "-rpc-timeout=20s"].into_iter().chain(services)).run();
        ran.expect(0, "", "");
    }
}

/// A reader who gets only the limited output must still see why the probe failed.
#[test]
fn failure_among_many_results_is_printed() {
    let server = server::plaintext();
    let services = [vec!["-service=up"; 300], vec!["-service=down"]].concat();
    let ran = Probe::new([server.addr().as_str(), "-rpc-timeout=20s"].into_iter().chain(services)).run();
    assert_eq!(ran.code, Some(1), "{ran}");
    expect_within_limit(&ran);
    assert!(ran.stdout.contains(&format!("down: {DOWN}")), "{ran}");
}

#[test]
fn long_arguments_are_shortened_and_the_cause_is_printed() {
    let long = "x".repeat(100_000);
    let mut missing = Vec::new();
    for (words, cause) in [
        (vec![format!("-addr={long}:1")], "a host name has at most 253 characters"),
        (vec![format!("-addr={long}")], "the port is missing; write host:port"),
        (vec![format!("-addr=http://{long}:1")], "a URL is not an address; write "),
        (vec![format!("-addr={long}://x:1")], "unknown scheme "),
        (vec![format!("-addr=a:{long}")], " is not a number"),
        (vec![format!("-addr=unix:/{long}")], "the path of a unix socket has at most 107 bytes"),
        (vec![long.clone()], "the port is missing; write host:port"),
        (vec![CLOSED_PORT.into(), format!("-rpc-timeout={long}")], "not a duration"),
        (vec![CLOSED_PORT.into(), format!("-rpc-timeout={}", "1".repeat(100_000))], "a unit is missing"),
        (vec![CLOSED_PORT.into(), format!("-tls={long}")], "not a boolean"),
        (vec![CLOSED_PORT.into(), format!("-user-agent={long}\u{e9}")], "printable ASCII characters only"),
        (vec![CLOSED_PORT.into(), format!("-{long}")], "unknown flag -xxx"),
        (vec![CLOSED_PORT.into(), long.clone()], "unexpected argument "),
        (vec!["a:1".into(), long.clone()], "unexpected argument "),
        (vec![CLOSED_PORT.into(), "-tls".into(), format!("-tls-ca-cert={long}")], "name too long"),
        (vec![CLOSED_PORT.into(), "-tls".into(), format!("-tls-server-name={long}")], "not a name"),
        (vec![CLOSED_PORT.into(), format!("-rpc-header={long}")], "a colon is missing"),
    ] {
        for output in ["-output=text", "-output=json"] {
            let ran = Probe::new([output.to_owned()].iter().chain(&words)).run();
            assert_eq!(ran.code, Some(1), "{ran}");
            expect_within_limit(&ran);
            let reported =
                if output == "-output=json" { ran.json()["error"]["message"].to_string() } else { ran.stderr };
            if !reported.contains(cause) {
                let words: String = words.join(" ").chars().take(60).collect();
                missing.push(format!("{words}…: {cause}"));
            }
        }
    }
    assert!(missing.is_empty(), "not reported: {missing:#?}");
}

#[test]
fn output_of_long_names_stays_within_the_limit() {
    let server = server::plaintext();
    let long = "x".repeat(100_000);
    for output in ["-output=text", "-output=json"] {
        for flags in [
            vec![format!("-service={long}")],
            vec![format!("-service={long}"), "-service=up".to_owned()],
            vec!["-v".to_owned(), format!("-service={long}"), format!("-rpc-header=a: {}", &long[..3000])],
        ] {
            let ran = Probe::new([server.addr(), output.to_owned()].iter().chain(&flags)).run();
            assert_eq!(ran.code, Some(1), "{ran}");
            expect_within_limit(&ran);
        }
    }
}

/// Docker keeps the beginning of the output, and the cause stands at the end.
#[test]
fn verbose_output_stays_within_the_limit() {
    let long = "x".repeat(3000);
    let services: Vec<String> = (0..100).map(|number| format!("-service={number}{long}")).collect();
    let headers: Vec<String> = (0..100).map(|number| format!("-rpc-header=x-{number}: {long}")).collect();
    let flags: Vec<String> =
        [CLOSED_PORT.to_owned(), "-v".to_owned()].into_iter().chain(services).chain(headers).collect();
    let ran = Probe::new(&flags).run();
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.ends_with(REFUSED), "{ran}");
    expect_within_limit(&ran);
}

/// The server closes every connection, so the probe retries and reports each attempt.
#[test]
fn verbose_output_of_many_attempts_stays_within_the_limit() {
    let files = Files::new();
    let directory = files.path("").display().to_string();
    let path = format!("{directory}{}", "x".repeat(107 - directory.len()));
    let listener = UnixListener::bind(&path).expect("the directory is writable");
    thread::spawn(move || listener.incoming().for_each(drop));
    let long = "x".repeat(2000);
    let flags = [
        "-v".to_owned(),
        "-connect-timeout=1500ms".to_owned(),
        format!("-addr=unix:{path}"),
        format!("-service={long}"),
        format!("-rpc-header=a: {long}"),
    ];
    let ran = Probe::new(&flags).run();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran}");
    assert!(ran.stderr.contains("\nerror: no HTTP/2 from unix:"), "{ran}");
    expect_within_limit(&ran);
}

/// Text that moves the cursor, colours the terminal, forges lines or reverses text. None of it may be printed raw.
const HOSTILE: [&str; 12] = [
    "\u{1b}[31m",
    "\u{1b}]0;x\u{7}",
    "a\nstatus: SERVING",
    "a\r\nstatus: SERVING",
    "\t",
    "\u{8}\u{8}\u{8}",
    "\u{7f}",
    "\u{9b}31m",
    "\u{85}",
    "\u{202e}gnivres",
    "\u{2066}\u{2069}\u{200f}",
    "\u{2028}\u{feff}",
];

#[track_caller]
fn expect_escaped(ran: &RunResult) {
    for stream in [&ran.stdout, &ran.stderr] {
        let raw = stream.chars().find(|&character| {
            (character.is_control() && character != '\n')
                || matches!(character, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        });
        assert_eq!(raw, None, "{ran}");
        assert!(!stream.lines().any(|line| line == "status: SERVING"), "{ran}");
    }
}

/// No control character can be in an address, but the other marks can be in a socket's path.
#[test]
fn paths_of_sockets_are_escaped() {
    let files = Files::new();
    for mark in ["\u{202e}", "\u{2066}", "\u{200b}", "\u{2060}", "\u{feff}", "\u{ad}", "\u{e0041}"] {
        let path = files.path(&format!("a{mark}b.sock"));
        let missing = files.path(&format!("{mark}missing.sock"));
        let _server = server::unix(&path);
        for path in [path, missing] {
            let addr = format!("-addr=unix:{}", path.display());
            for flags in [
                &["-v"][..],
                &["-output=json"],
                &["-output=json", "-all-addresses"],
                &["-v", "-all-addresses"],
                &["-v", "-list"],
                &["-tls", "-v", "-tls-no-verify"],
                &["-wait=300ms"],
                &["-watch", "-v", "-timeout=300ms"],
                &["-watch", "-output=json", "-timeout=300ms"],
            ] {
                let ran = Probe::new([&[addr.as_str()], flags].concat()).run();
                assert!(!ran.stdout.contains(mark) && !ran.stderr.contains(mark), "{ran}");
                assert!(ran.stdout.len() + ran.stderr.len() > 0, "{ran}");
            }
        }
    }
}

#[test]
fn hostile_arguments_are_escaped() {
    let server = server::plaintext();
    for text in HOSTILE {
        let table = [
            (vec![format!("-addr={text}")], "usage"),
            (vec![format!("-addr={text}:1")], "usage"),
            (vec![text.to_owned()], "usage"),
            (vec![CLOSED_PORT.to_owned(), text.to_owned()], "usage"),
            (vec!["a:1".to_owned(), text.to_owned()], "usage"),
            (vec![CLOSED_PORT.to_owned(), format!("-{text}")], "usage"),
            (vec![CLOSED_PORT.to_owned(), format!("-x{text}=1")], "usage"),
            (vec![CLOSED_PORT.to_owned(), format!("---{text}")], "usage"),
            (vec![CLOSED_PORT.to_owned(), format!("-rpc-timeout={text}")], "usage"),
            (vec![CLOSED_PORT.to_owned(), format!("-rpc-timeout=1{text}")], "usage"),
            (vec![CLOSED_PORT.to_owned(), format!("-tls={text}")], "usage"),
            (vec![CLOSED_PORT.to_owned(), format!("-exit-codes={text}")], "usage"),
            (vec![CLOSED_PORT.to_owned(), format!("-user-agent={text}x")], "usage"),
            (vec![CLOSED_PORT.to_owned(), format!("-rpc-header=a: x{text}x")], "usage"),
            (vec![CLOSED_PORT.to_owned(), "-tls".to_owned(), format!("-tls-ca-cert={text}")], "usage"),
            (vec![CLOSED_PORT.to_owned(), "-tls".to_owned(), format!("-tls-server-name={text}")], "usage"),
            (vec![server.addr(), format!("-service={text}")], "rpc"),
            (vec![server.addr(), format!("-service={text}"), format!("-service=a{text}")], "rpc"),
            (vec![server.addr(), "-v".to_owned(), format!("-service={text}")], "rpc"),
        ];
        for (words, phase) in table {
            let ran = Probe::new(&words).run();
            assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.starts_with(['e', 'p']), "{ran}");
            expect_escaped(&ran);
            let json = Probe::new([vec!["-output=json".to_owned()], words].concat()).run();
            expect_escaped(&json);
            for line in json_lines(&json) {
                assert_eq!(line["error"]["phase"], phase, "{json}");
                let message = line["error"]["message"].as_str().unwrap_or_default();
                assert!(!message.chars().any(char::is_control), "{json}");
            }
        }
    }
}

#[test]
fn hostile_variables_are_escaped() {
    for text in HOSTILE {
        for name in ["ADDR", "RPC_TIMEOUT", "TLS", "OUTPUT"] {
            let ran = Probe::new([""; 0]).env(&format!("GRPC_HEALTH_PROBE_{name}"), text).run();
            assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.starts_with("error: "), "{ran}");
            expect_escaped(&ran);
        }
    }
}

#[test]
fn service_name_that_looks_like_a_result_is_escaped() {
    let server = server::plaintext();
    let forged = "up: status: SERVING\nx";
    let ran = Probe::new([&server.addr(), &format!("-service={forged}"), "-service=down"]).run();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), format!("down: {DOWN}").as_str()), "{ran}");
    assert!(ran.stderr.starts_with("error: up: status: SERVING\\nx: health check of "), "{ran}");
}

#[test]
fn valid_ipv6_address_is_not_escaped() {
    let address: SocketAddr = "[::1]:1".parse().expect("an address");
    let ran = Probe::new([format!("-addr={address}")]).run();
    ran.expect_error(1, "error: cannot connect to [::1]:1: connection refused");
}

/// If there are too many for the limit, the objects are shorter.
#[test]
fn json_of_30_services_has_an_object_for_each() {
    let server = server::plaintext();
    let services: Vec<String> = (0..30).map(|number| format!("-service=missing-{number}")).collect();
    let ran = Probe::new([server.addr(), "-output=json".to_owned()].iter().chain(&services)).run();
    let lines = json_lines(&ran);
    assert_eq!((lines.len(), ran.stderr.as_str()), (30, ""), "{ran}");
    assert!(lines.iter().all(|line| line["error"]["kind"] == "service-unknown"), "{ran}");
}
