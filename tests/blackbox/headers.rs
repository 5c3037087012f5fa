//! The request as the server sees it: path, headers, metadata and message. Secrets in metadata must not be printed.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, time::Duration};

use http::{Request, Version};

use crate::support::{
    frames,
    pki::Files,
    probe::{Probe, RunResult},
    server::{self, Recorder},
};

const CLOSED_PORT: &str = "-addr=127.0.0.1:1";

/// Probes a healthy server with these flags, and returns the request that it got.
#[track_caller]
fn probe_and_record(flags: &[&str]) -> Request<Vec<u8>> {
    let recorder = Recorder::plaintext();
    let addr = recorder.server.addr();
    Probe::new([&[addr.as_str()], flags].concat()).run().expect_healthy();
    recorder.request()
}

/// All headers, sorted, without the pseudo-headers.
fn headers(request: &Request<Vec<u8>>) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
    let mut headers: Vec<_> =
        request.headers().iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
    headers.sort();
    headers
}

/// The values of one header, in their order.
fn values(request: &Request<Vec<u8>>, name: &str) -> Vec<String> {
    let values = request.headers().get_all(name).iter();
    values.map(|value| value.to_str().expect("printable").to_owned()).collect()
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The headers of a request without any flags.
const PLAIN: [(&str, &str); 4] = [
    ("content-type", "application/grpc"),
    ("grpc-timeout", "1000000u"),
    ("te", "trailers"),
    ("user-agent", "grpc_health_probe"),
];

#[test]
fn default_request_has_only_the_headers_of_grpc() {
    let request = probe_and_record(&[]);
    assert_eq!(request.method(), "POST");
    assert_eq!(
        request.uri().path_and_query().map(ToString::to_string).as_deref(),
        Some("/grpc.health.v1.Health/Check")
    );
    assert_eq!(request.uri().scheme_str(), Some("http"));
    assert_eq!(request.version(), Version::HTTP_2);
    assert_eq!(headers(&request), owned(&PLAIN));
    assert_eq!(*request.body(), frames::message(&[]));
}

#[test]
fn request_message_has_the_service() {
    // Field 1 of protobuf's HealthCheckRequest, a string with its length.
    for (name, length) in [("up", &[2][..]), ("-x", &[2]), ("a.b/c d", &[7]), ("\u{e9}\u{1f980}", &[6]), ("\n", &[1])] {
        let message = [&[0x0a], length, name.as_bytes()].concat();
        assert_eq!(*probe_and_record(&[&format!("-service={name}")]).body(), frames::message(&message), "{name:?}");
    }
    let long = "x".repeat(300);
    let message = [&[0x0a, 0xac, 0x02], long.as_bytes()].concat();
    assert_eq!(*probe_and_record(&[&format!("-service={long}")]).body(), frames::message(&message));
}

#[test]
fn several_services_share_one_connection() {
    let recorder = Recorder::plaintext();
    let services = ["-service=b", "-service=a", "-service=b"];
    let ran = Probe::new([recorder.server.addr().as_str()].into_iter().chain(services)).run();
    ran.expect(0, "b: status: SERVING\na: status: SERVING\nb: status: SERVING\n", "");
    let mut asked: Vec<_> = services.iter().map(|_| recorder.request().into_body()).collect();
    asked.sort();
    let message = |name: u8| frames::message(&[0x0a, 1, name]);
    assert_eq!(asked, [message(b'a'), message(b'b'), message(b'b')]);
}

#[test]
fn grpc_timeout_is_the_rpc_timeout() {
    for (flags, timeout) in [
        (&[][..], Duration::from_secs(1)),
        (&["-rpc-timeout=2500ms"], Duration::from_millis(2500)),
        (&["-rpc-timeout=1.5s"], Duration::from_millis(1500)),
        (&["-rpc-timeout=99s"], Duration::from_secs(99)),
        (&["-rpc-timeout=100s"], Duration::from_secs(100)),
        (&["-rpc-timeout=1h1m1s"], Duration::from_secs(3661)),
        (&["-rpc-timeout=2h45m"], Duration::from_mins(165)),
        (&["-rpc-timeout=2562047h"], Duration::from_hours(2_562_047)),
        // Unchanged, as the run has more time left.
        (&["-rpc-timeout=5s", "-timeout=1h"], Duration::from_secs(5)),
    ] {
        let request = probe_and_record(flags);
        let values = values(&request, "grpc-timeout");
        let [value] = values.as_slice() else { panic!("{flags:?}: {values:?}") };
        assert_eq!(grpc_timeout(value), timeout, "{flags:?}: {value}");
    }
}

#[test]
fn grpc_timeout_is_bounded_by_the_timeout_of_the_run() {
    let request = probe_and_record(&["-rpc-timeout=1h", "-timeout=9s"]);
    let [value] = values(&request, "grpc-timeout").try_into().expect("one timeout");
    let left = grpc_timeout(&value);
    assert!(left > Duration::ZERO && left <= Duration::from_secs(9), "{value}");
}

/// Reads a `grpc-timeout` as PROTOCOL-HTTP2.md has it: at most eight digits and a unit.
fn grpc_timeout(value: &str) -> Duration {
    let (digits, unit) = value.split_at(value.len() - 1);
    assert!((1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit()), "{value}");
    let count: u64 = digits.parse().expect("digits");
    match unit {
        "n" => Duration::from_nanos(count),
        "u" => Duration::from_micros(count),
        "m" => Duration::from_millis(count),
        "S" => Duration::from_secs(count),
        "M" => Duration::from_secs(count * 60),
        "H" => Duration::from_secs(count * 3600),
        _ => panic!("{value}: unknown unit"),
    }
}

#[test]
fn user_agent_flag_sets_the_header() {
    for agent in ["x", "my agent/1.0 (a; b)", "-"] {
        assert_eq!(values(&probe_and_record(&["-user-agent", agent]), "user-agent"), [agent]);
    }
    // An empty user agent counts as not given. Metadata cannot set it.
    assert_eq!(values(&probe_and_record(&["-user-agent="]), "user-agent"), ["grpc_health_probe"]);
    assert_eq!(values(&probe_and_record(&["-rpc-header=user-agent: mine"]), "user-agent"), ["grpc_health_probe"]);
    assert_eq!(values(&probe_and_record(&["-user-agent=x", "-rpc-header=User-Agent: mine"]), "user-agent"), ["x"]);
}

#[test]
fn invalid_user_agent_is_refused() {
    for (agent, shown) in
        [("a\nb", "a\\nb"), ("a\rb", "a\\rb"), ("a\tb", "a\\tb"), ("\u{7f}", "\\u{7f}"), ("\u{e9}", "\u{e9}")]
    {
        let cause = "the value may have printable ASCII characters only (others: in a name-bin header)";
        let ran = Probe::new([CLOSED_PORT, "-user-agent", agent]).run();
        ran.expect_error(1, &format!("error: -user-agent={shown}: {cause}"));
    }
}

#[test]
fn metadata_is_parsed_as_in_the_go_tool() {
    let table: [(&[&str], &str, &[&str]); 16] = [
        (&["a: b"], "a", &["b"]),
        (&["a:b"], "a", &["b"]),
        (&["a:   b"], "a", &["b"]),
        (&["a:\t b"], "a", &["b"]),
        // Only leading space is trimmed.
        (&["a: b  "], "a", &["b  "]),
        (&["a:"], "a", &[""]),
        (&["a:   "], "a", &[""]),
        (&["a: b: c:d"], "a", &["b: c:d"]),
        (&["a:: b"], "a", &[": b"]),
        (&["Authorization: Bearer XyZ"], "authorization", &["Bearer XyZ"]),
        (&["X-UPPER-Case: V"], "x-upper-case", &["V"]),
        (&["a_b.c-1: d"], "a_b.c-1", &["d"]),
        (&["a: 1", "b: 2", "a: 3"], "a", &["1", "3"]),
        (&["a: 1", "A: 1"], "a", &["1", "1"]),
        (&["grpc-foo: bar"], "grpc-foo", &["bar"]),
        (&["a: !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ x"], "a", &["!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ x"]),
    ];
    for (given, name, expected) in table {
        let flags: Vec<String> = given.iter().map(|header| format!("-rpc-header={header}")).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        assert_eq!(values(&probe_and_record(&flags), name), expected, "{given:?}");
    }
}

/// The user gives raw bytes. The probe encodes them in base64 without padding.
#[test]
fn binary_metadata_is_sent_in_base64() {
    for (given, name, expected) in [
        ("x-bin: a", "x-bin", "YQ"),
        ("x-bin: ab", "x-bin", "YWI"),
        ("x-bin: abc", "x-bin", "YWJj"),
        ("x-bin: abcd", "x-bin", "YWJjZA"),
        ("X-Trace-BIN: abc", "x-trace-bin", "YWJj"),
        ("x-bin:  \tabc ", "x-bin", "YWJjIA"),
        ("x-bin: \u{e9}", "x-bin", "w6k"),
        ("x-bin: a\nb", "x-bin", "YQpi"),
        ("x-bin: >>>???", "x-bin", "Pj4+Pz8/"),
        // The probe does not guess that this is base64 already.
        ("x-bin: YQ==", "x-bin", "WVE9PQ"),
        ("x-bin:", "x-bin", ""),
    ] {
        assert_eq!(values(&probe_and_record(&["-rpc-header", given]), name), [expected], "{given:?}");
    }
}

#[test]
fn reserved_metadata_is_dropped() {
    for name in [
        "user-agent",
        "content-type",
        "te",
        "grpc-timeout",
        "grpc-encoding",
        "grpc-message",
        "grpc-message-type",
        "grpc-status",
    ] {
        let upper = name.to_uppercase();
        for name in [name, upper.as_str()] {
            assert_eq!(headers(&probe_and_record(&[&format!("-rpc-header={name}: x")])), owned(&PLAIN), "{name}");
        }
    }
}

#[test]
fn invalid_metadata_is_refused() {
    let colon = "a colon is missing; write 'name: value'";
    let no_name = "the name before the colon is missing";
    let name = "the name may have letters, digits, \"-\", \"_\" and \".\" only";
    let value = "the value may have printable ASCII characters only (others: in a name-bin header)";
    for (header, cause) in [
        ("x", colon),
        ("authorization", colon),
        ("authorization Bearer x", colon),
        ("a=b", colon),
        (" ", colon),
        (":", no_name),
        (": x", no_name),
        (":path: /x", no_name),
        (" : x", name),
        (" a: x", name),
        ("a : x", name),
        ("a b: x", name),
        ("a\n: x", name),
        ("a\r\nb: x", name),
        ("a\u{1b}: x", name),
        ("a/b: x", name),
        ("a@b: x", name),
        ("a\"b: x", name),
        ("\u{e9}: x", name),
        // The Kelvin sign. Unicode lower-casing would turn it into an ASCII k.
        ("\u{212a}ey: x", name),
        ("a b-bin: x", name),
        ("a: b\nc", value),
        ("a: b\r\nc: d", value),
        ("a: b\rc", value),
        ("a: b\tc", value),
        ("a: \u{1b}[31m", value),
        ("a: \u{7f}", value),
        ("a: caf\u{e9}", value),
        ("a: \u{202e}", value),
        ("a: x\u{a0}", value),
        ("connection: close", "connection does not exist in HTTP/2"),
        ("Keep-Alive: x", "keep-alive does not exist in HTTP/2"),
        ("proxy-connection: x", "proxy-connection does not exist in HTTP/2"),
        ("transfer-encoding: chunked", "transfer-encoding does not exist in HTTP/2"),
        ("upgrade: h2c", "upgrade does not exist in HTTP/2"),
    ] {
        for flags in [vec!["-exit-codes=docker"], vec!["-exit-codes=detailed"], vec!["-rpc-header=good: one"]] {
            let ran = Probe::new([&[CLOSED_PORT, "-rpc-header", header], &flags[..]].concat()).run();
            ran.expect_error(1, &format!("error: -rpc-header: {cause}"));
        }
    }
    Probe::new([CLOSED_PORT, "-rpc-header=x", "-output=json"]).run().expect_kind(1, "usage", "usage");
}

#[test]
fn request_is_not_compressed_by_default() {
    for flags in [&[][..], &["-gzip=false"], &["-service=up"]] {
        let request = probe_and_record(flags);
        assert!(request.headers().keys().all(|name| !name.as_str().contains("encoding")), "{request:?}");
        assert_eq!(request.body()[0], 0, "{request:?}");
    }
}

#[test]
fn gzip_flag_compresses_the_request() {
    let request = probe_and_record(&["-gzip", "-service=up"]);
    assert_eq!(values(&request, "grpc-encoding"), ["gzip"]);
    let [accepted] = values(&request, "grpc-accept-encoding").try_into().expect("one list");
    assert!(accepted.split(',').any(|encoding| encoding.trim() == "gzip"), "{accepted}");
    // The flag of a compressed message, its length, and gzip's magic number.
    let body = request.body();
    assert_eq!((body[0], &body[5..7]), (1, &[0x1f, 0x8b][..]), "{body:?}");

    let server = server::gzip();
    Probe::new([&server.addr(), "-gzip"]).run().expect_healthy();
    Probe::new([&server.addr(), "-gzip", "-service=up"]).run().expect_healthy();
    let down = "service unhealthy (responded with \"NOT_SERVING\")\n";
    Probe::new([&server.addr(), "-gzip", "-service=down"]).run().expect(1, down, "");
    Probe::new([server.addr()]).run().expect_healthy();
}

#[test]
fn gzip_with_a_server_without_gzip_fails_the_rpc() {
    let server = server::plaintext();
    let ran = Probe::new([&server.addr(), "-gzip", "-exit-codes=detailed"]).run();
    let message = format!(
        "error: health check of {} failed: UNIMPLEMENTED: Content is compressed with `gzip` which isn't supported\n\
         hint: leave out -gzip: without it, the server answers\n",
        server.address
    );
    ran.expect(3, "", &message);
}

#[test]
fn metadata_value_may_have_120_000_bytes() {
    let value = "v".repeat(120_000);
    let request = probe_and_record(&["-rpc-header", &format!("x-long: {value}")]);
    assert_eq!(values(&request, "x-long"), [value]);
}

/// Real servers limit the size of headers. The failure must not reveal the value.
#[test]
fn metadata_too_long_for_the_server_fails_the_rpc() {
    let server = server::plaintext();
    let header = format!("x-long: {}", "s3cret".repeat(20_000));
    let ran = Probe::new([&server.addr(), "-rpc-header", &header, "-exit-codes=detailed"]).run();
    let begins = format!("error: health check of {} failed: ", server.address);
    assert!(ran.code == Some(3) && ran.stdout.is_empty() && ran.stderr.starts_with(&begins), "{ran}");
    assert!(!ran.stderr.contains("s3cret"), "{ran}");
    let json = Probe::new([&server.addr(), "-rpc-header", &header, "-output=json"]).run();
    assert_eq!(json.json()["error"]["phase"], "rpc", "{json}");
}

#[test]
fn thousand_headers_are_sent() {
    let flags: Vec<String> = (0..1000).map(|number| format!("-rpc-header=x-{number}: {number}")).collect();
    let request = probe_and_record(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    for number in 0..1000 {
        assert_eq!(values(&request, &format!("x-{number}")), [number.to_string()]);
    }
}

/// Metadata with names that mark it as secret.
const SECRETS: [&str; 8] = [
    "authorization: Bearer s3cret",
    "Cookie: s3cret",
    "x-trace-bin: s3cret",
    "x-api-key: s3cret",
    "KEYID: s3cret",
    "my-token-x: s3cret",
    "client-secret: s3cret",
    "Secret: s3cret",
];
/// The secret in base64, as binary metadata sends it.
const ENCODED: &str = "czNjcmV0";

#[track_caller]
fn expect_no_secret(ran: &RunResult) {
    for stream in [&ran.stdout, &ran.stderr] {
        assert!(!stream.contains("s3cret") && !stream.contains(ENCODED), "{ran}");
    }
}

#[test]
fn verbose_output_hides_secrets() {
    let server = server::plaintext();
    let secrets: Vec<String> = SECRETS.iter().map(|header| format!("-rpc-header={header}")).collect();
    for addr in [server.addr(), CLOSED_PORT.to_owned()] {
        for service in ["up", "down", "missing"] {
            for output in ["text", "json"] {
                let flags = [addr.clone(), "-v".into(), format!("-service={service}"), format!("-output={output}")];
                let ran = Probe::new(flags.iter().chain(&secrets)).run();
                expect_no_secret(&ran);
                assert_eq!(ran.stderr.matches("***").count(), SECRETS.len(), "{ran}");
            }
        }
    }
    let ran = Probe::new([&server.addr(), "-v", "-rpc-header=x-plain: visible"]).run();
    assert!(ran.stderr.contains("x-plain: visible"), "{ran}");
}

#[test]
fn errors_hide_secrets() {
    for words in [
        // Another argument is invalid.
        &["-rpc-header=authorization: Bearer s3cret", "-tls-no-verify"][..],
        &["-rpc-header=authorization: Bearer s3cret", "-rpc-header=x"],
        &["-rpc-header=authorization: Bearer s3cret", "-nonsense"],
        // The header itself is invalid.
        &["-rpc-header=authorization Bearer s3cret"],
        &["-rpc-header=authorization: s3cret\n"],
        &["-rpc-header=author ization: s3cret"],
        &["-rpc-header=: s3cret"],
        &["-rpc-header=s3cret"],
        &["-rpc-header=connection: s3cret"],
        // The flag is misspelled.
        &["-rpc-heade=authorization: Bearer s3cret"],
        &["-rpc-heade", "authorization: Bearer s3cret"],
        &["-rpc-headers=s3cret"],
    ] {
        for output in ["-output=text", "-output=json"] {
            let ran = Probe::new([&[CLOSED_PORT, "-v", output], words].concat()).run();
            assert_eq!(ran.code, Some(1), "{ran}");
            expect_no_secret(&ran);
        }
    }
}

/// Without quotes, the shell splits the secret into arguments that look like addresses.
#[test]
fn errors_hide_secrets_without_quotes() {
    let ran = Probe::new([CLOSED_PORT, "-rpc-header", "authorization:", "Bearer", "s3cret"]).run();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran}");
    expect_no_secret(&ran);
}

#[test]
fn errors_hide_secrets_after_three_dashes() {
    let ran = Probe::new([CLOSED_PORT, "---rpc-header=authorization: Bearer s3cret"]).run();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran}");
    expect_no_secret(&ran);
}

#[test]
fn errors_hide_secrets_that_are_not_utf8() {
    for words in [
        &[&b"-rpc-header=authorization: Bearer s3cret\xff"[..]][..],
        &[b"--rpc-header=x-bin: s3cret\xff"],
        &[b"-rpc-header", b"authorization: Bearer s3cret\xff"],
    ] {
        let words = words.iter().map(|word| OsString::from_vec(word.to_vec()));
        let ran = Probe::new([OsString::from(CLOSED_PORT)].into_iter().chain(words)).run();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran}");
        expect_no_secret(&ran);
    }
}

#[test]
fn output_hides_secrets_from_variables() {
    for value in ["authorization: Bearer s3cret", "authorization Bearer s3cret", "a: b\nauthorization: s3cret\u{e9}"] {
        for output in ["-output=text", "-output=json"] {
            let ran = Probe::new([CLOSED_PORT, "-v", output]).env("GRPC_HEALTH_PROBE_RPC_HEADER", value).run();
            assert_eq!(ran.code, Some(1), "{ran}");
            expect_no_secret(&ran);
        }
    }
}

#[test]
fn more_than_1000_headers_are_refused() {
    let headers: Vec<String> = (0..25_000).map(|number| format!("-rpc-header=a{number}:")).collect();
    let ran = Probe::new(["-addr=127.0.0.1:1".to_owned()].iter().chain(&headers)).run();
    ran.expect(1, "", "error: more than 1000 of -rpc-header\n");
}

#[test]
fn content_length_header_is_refused() {
    let ran = Probe::new(["-addr=127.0.0.1:1", "-rpc-header=content-length: 3"]).run();
    ran.expect(1, "", "error: -rpc-header: the probe sets the length itself\n");
}

#[test]
fn header_value_is_read_from_a_file() {
    let files = Files::new();
    let file = |content: &[u8]| format!("-rpc-header-file=x-token: {}", files.write("token", content));
    for (content, value) in [
        (&b"secret"[..], "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"Bearer  a b\n", "Bearer  a b"),
        (b"", ""),
    ] {
        assert_eq!(values(&probe_and_record(&[&file(content)]), "x-token"), [value], "{content:?}");
    }
    let binary = files.write("binary", [0, 255, b'\n', b'\n']);
    let request = probe_and_record(&["-rpc-header=k-bin: raw", &format!("-rpc-header-file=K-Bin: {binary}")]);
    assert_eq!(values(&request, "k-bin"), ["cmF3", "AP8K"]);
    // Reserved metadata is dropped. Its file is not read.
    assert_eq!(headers(&probe_and_record(&["-rpc-header-file=te: /nonexistent"])), owned(&PLAIN));
}

#[test]
fn variable_sets_header_files() {
    let files = Files::new();
    let lines = format!("a: {}\nb: {}\n", files.write("a", "1\n"), files.write("b", "2\n"));
    let recorder = Recorder::plaintext();
    Probe::new([recorder.server.addr()]).env("GRPC_HEALTH_PROBE_RPC_HEADER_FILE", lines).run().expect_healthy();
    let request = recorder.request();
    assert_eq!((values(&request, "a"), values(&request, "b")), (vec!["1".to_owned()], vec!["2".to_owned()]));
}

#[test]
fn invalid_header_files_are_refused() {
    let files = Files::new();
    let bad = files.write("bad", "two\nlines\n");
    let latin = files.write("latin", [0xe9]);
    let value = "the value may have printable ASCII characters only (others: in a name-bin header)";
    for (header, line) in [
        ("x".to_owned(), "error: -rpc-header-file: a colon is missing; write 'name: path'".to_owned()),
        ("x:".to_owned(), "error: -rpc-header-file: the path after the colon is missing".to_owned()),
        (": /etc/hosts".to_owned(), "error: -rpc-header-file: the name before the colon is missing".to_owned()),
        (
            "x: /nonexistent".to_owned(),
            "error: cannot read -rpc-header-file=/nonexistent: no such file or directory".to_owned(),
        ),
        ("x: /".to_owned(), "error: cannot read -rpc-header-file=/: it is a directory".to_owned()),
        (format!("x: {bad}"), format!("error: -rpc-header-file={bad}: {value}")),
        (format!("x: {latin}"), format!("error: -rpc-header-file={latin}: {value}")),
    ] {
        Probe::new([CLOSED_PORT, "-rpc-header-file", &header]).run().expect_error(1, &line);
    }
}

#[test]
fn header_file_that_is_an_empty_pipe_times_out() {
    let files = Files::new();
    let fifo = files.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is installed").success());
    let fifo = fifo.display();
    let line = format!("error: cannot read -rpc-header-file={fifo}: it did not end within 1s");
    Probe::new([CLOSED_PORT, &format!("-rpc-header-file=x: {fifo}")]).run().expect_error(1, &line);
}

#[test]
fn verbose_output_hides_values_from_files() {
    let files = Files::new();
    let server = server::plaintext();
    let path = files.write("plain-name", "hunter2\n");
    let ran = Probe::new([&server.addr(), "-v", &format!("-rpc-header-file=x-team: {path}")]).run();
    assert!(ran.code == Some(0) && ran.stderr.contains(&format!("headers: x-team: *** (from {path})")), "{ran}");
    assert!(!ran.stderr.contains("hunter2") && !ran.stdout.contains("hunter2"), "{ran}");
}
