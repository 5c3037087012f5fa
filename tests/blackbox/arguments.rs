//! The command line: Go's flag syntax, the values of each flag, and what the probe refuses before it dials.

use std::{env, ffi::OsString, os::unix::ffi::OsStringExt};

use crate::support::{
    frames,
    peer::Peer,
    pki::{Authority, Files},
    probe::{PROBE_BINARY, Probe, RunResult},
    server,
};

/// A port where nothing listens. Usage errors come before the probe dials.
const CLOSED_PORT: &str = "-addr=127.0.0.1:1";
const DOWN: &str = "service unhealthy (responded with \"NOT_SERVING\")\n";

/// Expects the probe to refuse these arguments with exit code 1 in both modes, and compares the first line.
#[track_caller]
fn expect_refused(words: &[&str], message: &str) {
    for mode in ["-exit-codes=docker", "-exit-codes=detailed"] {
        let words = [&[mode], words].concat();
        Probe::new(words).run().expect_error(1, &format!("error: {message}"));
    }
}

/// The four ways to give a flag a value.
fn spellings(flag: &str, value: &str) -> [Vec<String>; 4] {
    [
        vec![format!("-{flag}={value}")],
        vec![format!("--{flag}={value}")],
        vec![format!("-{flag}"), value.to_owned()],
        vec![format!("--{flag}"), value.to_owned()],
    ]
}

#[test]
fn flag_value_may_follow_an_equals_sign_or_a_space() {
    // For each flag, a value that the first line of the error repeats.
    let table = [
        ("addr", "127.0.0.1", "-addr=127.0.0.1: the port is missing; write host:port"),
        ("rpc-header", "x", "-rpc-header: a colon is missing; write 'name: value'"),
        (
            "user-agent",
            "\u{e9}",
            "-user-agent=\u{e9}: the value may have printable ASCII characters only (others: in a name-bin header)",
        ),
        ("connect-timeout", "0", "-connect-timeout=0: must be greater than zero (specified: 0s)"),
        ("rpc-timeout", "0", "-rpc-timeout=0: must be greater than zero (specified: 0s)"),
        ("timeout", "0", "-timeout=0: must be greater than zero (specified: 0s)"),
        ("tls-ca-cert", "x", "-tls-ca-cert needs -tls"),
        ("tls-client-cert", "x", "-tls-client-cert needs -tls"),
        ("tls-client-key", "x", "-tls-client-key needs -tls"),
        ("tls-server-name", "x", "-tls-server-name needs -tls"),
        ("exit-codes", "x", "-exit-codes=x: neither docker nor detailed"),
        ("output", "x", "-output=x: neither text nor json"),
    ];
    for (flag, value, message) in table {
        for mut words in spellings(flag, value) {
            if flag != "addr" {
                words.push(CLOSED_PORT.to_owned());
            }
            Probe::new(words).run().expect_error(1, &format!("error: {message}"));
        }
    }
    let server = server::plaintext();
    for words in spellings("service", "down") {
        Probe::new([vec![server.addr()], words].concat()).run().expect(1, DOWN, "");
    }
}

#[test]
fn flag_without_a_value_is_refused() {
    for flag in [
        "addr",
        "service",
        "rpc-header",
        "user-agent",
        "connect-timeout",
        "rpc-timeout",
        "timeout",
        "tls-ca-cert",
        "tls-client-cert",
        "tls-client-key",
        "tls-server-name",
        "exit-codes",
        "output",
    ] {
        for dashes in ["-", "--"] {
            let flag = format!("{dashes}{flag}");
            let message = format!("{} needs a value", flag.replacen("--", "-", 1));
            expect_refused(&[CLOSED_PORT, &flag], &message);
        }
    }
}

#[test]
fn flag_value_may_begin_with_a_dash() {
    let server = server::plaintext();
    let addr = server.addr();
    let unknown = format!("error: health check of {} failed: NOT_FOUND: service not registered", server.address);
    for name in ["-x", "--x", "-", "-tls", "-addr=x"] {
        Probe::new([&addr, "-service", name]).run().expect_error(1, &unknown);
        Probe::new([&addr, &format!("-service={name}")]).run().expect_error(1, &unknown);
    }
    expect_refused(&[CLOSED_PORT, "-rpc-header", "-"], "-rpc-header: a colon is missing; write 'name: value'");
    expect_refused(
        &[CLOSED_PORT, "-rpc-timeout", "-1s"],
        "-rpc-timeout=-1s: must be greater than zero (specified: -1s)",
    );
    expect_refused(&["-addr", "--"], "-addr=--: the port is missing; write host:port");
}

#[test]
fn first_equals_sign_separates_flag_and_value() {
    expect_refused(&["-addr=a=b"], "-addr=a=b: the port is missing; write host:port");
    expect_refused(&["-addr==b"], "-addr==b: the port is missing; write host:port");
}

#[test]
fn positional_address_is_accepted() {
    let server = server::plaintext();
    let address = server.address.to_string();
    let table: [&[&str]; 6] = [
        &[&address],
        &["--", &address],
        &["-q=false", &address],
        &[&address, "-q=false"],
        &["-q=false", "--", &address],
        &[&address, "-addr="],
    ];
    for words in table {
        Probe::new(words).run().expect_healthy();
    }
}

#[test]
fn double_dash_ends_the_flags() {
    expect_refused(&["--", "-tls"], "the address \"-tls\": the port is missing; write host:port");
    expect_refused(
        &["-q", "--", "-addr=127.0.0.1:1"],
        "the address \"-addr=127.0.0.1:1\": '=' cannot be in a host name",
    );
}

#[test]
fn two_addresses_are_refused() {
    for words in [
        &["127.0.0.1:2", CLOSED_PORT][..],
        &[CLOSED_PORT, "127.0.0.1:2"],
        &["127.0.0.1:1", "127.0.0.1:2"],
        &[CLOSED_PORT, "--", "127.0.0.1:2"],
    ] {
        expect_refused(words, "unexpected argument \"127.0.0.1:2\"");
    }
    expect_refused(&[CLOSED_PORT, "--", "127.0.0.1:1", "x"], "unexpected argument \"x\"");
}

#[test]
fn missing_address_is_refused() {
    let hint = "hint: say what to probe: -addr=:50051\n";
    let table: [&[&str]; 8] = [
        &[],
        &["-addr="],
        &["-addr", ""],
        &["--addr="],
        &[""],
        &["--"],
        &["--", ""],
        &["-service=up", "-tls", "-v=false"],
    ];
    for words in table {
        Probe::new(words).run().expect(1, "", &format!("error: -addr is not specified\n{hint}"));
    }
}

#[test]
fn last_value_of_a_repeated_flag_wins() {
    let server = server::plaintext();
    let addr = server.addr();
    let healthy: [&[&str]; 8] = [
        &[CLOSED_PORT, &addr],
        &["-addr", "127.0.0.1:1", "--addr", &server.address.to_string()],
        &["-rpc-timeout=0", "-rpc-timeout=5s", &addr],
        &["-timeout=x", "-timeout", "5s", &addr],
        &["-tls", "-tls=false", &addr],
        &["-tls=maybe", "-tls=0", &addr],
        &["-exit-codes=x", "-exit-codes=detailed", &addr],
        &["-output=json", "-output=text", &addr],
    ];
    for words in healthy {
        Probe::new(words).run().expect_healthy();
    }
    Probe::new([&addr, "-service=down", "-exit-codes=docker", "-exit-codes=detailed"]).run().expect(4, DOWN, "");
    Probe::new([&addr, "-q=false", "-q"]).run().expect(0, "", "");
    expect_refused(
        &[CLOSED_PORT, "-rpc-timeout=5s", "-rpc-timeout=0"],
        "-rpc-timeout=0: must be greater than zero (specified: 0s)",
    );
}

#[test]
fn empty_value_counts_as_not_given() {
    let server = server::plaintext();
    let addr = server.addr();
    for flag in [
        "-service",
        "-rpc-header",
        "-user-agent",
        "-tls-ca-cert",
        "-tls-client-cert",
        "-tls-client-key",
        "-tls-server-name",
        "-alts-handshaker",
        "-exit-codes",
        "-output",
    ] {
        Probe::new([&addr, &format!("{flag}=")]).run().expect_healthy();
        Probe::new([&addr, flag, ""]).run().expect_healthy();
    }
}

#[test]
fn boolean_values_of_go_are_accepted() {
    let server = server::plaintext();
    let addr = server.addr();
    // For each flag, the output when it is set: exit code, stdout, and the first line on stderr.
    let table: [(&str, i32, &str, String); 6] = [
        ("tls", 1, "", format!("error: TLS handshake with {} failed: the server does not speak TLS", server.address)),
        // This server does not support gzip.
        (
            "gzip",
            1,
            "",
            format!(
                "error: health check of {} failed: UNIMPLEMENTED: Content is compressed with `gzip` which isn't supported",
                server.address
            ),
        ),
        ("q", 0, "", String::new()),
        ("v", 0, "status: SERVING\n", "parsed options:".to_owned()),
        ("tls-no-verify", 1, "", "error: -tls-no-verify needs -tls".to_owned()),
        ("spiffe", 1, "", "error: SPIFFE_ENDPOINT_SOCKET is not set, and -spiffe needs it".to_owned()),
    ];
    let compare = |ran: &RunResult, code: i32, stdout: &str, first_line: &str| {
        let got = (ran.code, ran.stdout.as_str(), ran.stderr.lines().next().unwrap_or_default());
        assert_eq!(got, (Some(code), stdout, first_line), "{ran}");
    };
    for (flag, code, stdout, first_line) in table {
        for word in [format!("-{flag}"), format!("--{flag}")] {
            compare(&Probe::new([&addr, &word]).run(), code, stdout, &first_line);
        }
        for value in ["1", "t", "T", "true", "TRUE", "True"] {
            compare(&Probe::new([&addr, &format!("-{flag}={value}")]).run(), code, stdout, &first_line);
        }
        for value in ["0", "f", "F", "false", "FALSE", "False"] {
            Probe::new([&addr, &format!("-{flag}={value}")]).run().expect_healthy();
        }
    }
}

#[test]
fn other_boolean_values_are_refused() {
    for flag in ["tls", "gzip", "q", "v", "tls-no-verify", "spiffe", "alts"] {
        for value in ["2", "yes", "no", "on", "off", "tRUE", "fALSE", "y", "-1", " true", "true "] {
            let word = format!("-{flag}={value}");
            expect_refused(&[CLOSED_PORT, &word], &format!("{word}: not a boolean (true, false, t, f, 1 or 0)"));
        }
    }
}

/// The Go tool ignores the flags after such a value.
#[test]
fn boolean_value_without_equals_sign_is_refused() {
    for flag in ["tls", "gzip", "q", "v", "tls-no-verify", "spiffe", "alts"] {
        for value in ["false", "true", "0", "1", "f", "t", "F", "T", "FALSE", "TRUE", "False", "True"] {
            for dashes in ["-", "--"] {
                let message = format!("-{flag} {value}: a boolean takes its value after \"=\": -{flag}={value}");
                expect_refused(&[&format!("{dashes}{flag}"), value, CLOSED_PORT], &message);
            }
        }
    }
}

#[test]
fn unknown_flag_is_refused_with_the_nearest_name() {
    let table = [
        ("-adr", "unknown flag -adr; did you mean -addr?"),
        ("--adr", "unknown flag -adr; did you mean -addr?"),
        ("-address", "unknown flag -address; did you mean -addr?"),
        ("-ADDR", "unknown flag -ADDR"),
        ("-servce=up", "unknown flag -servce; did you mean -service?"),
        ("-tls-noverify", "unknown flag -tls-noverify; did you mean -tls-no-verify?"),
        ("-tls-cacert=x", "unknown flag -tls-cacert; did you mean -tls-ca-cert?"),
        ("-conect-timeout=1s", "unknown flag -conect-timeout; did you mean -connect-timeout?"),
        ("-exit-code=docker", "unknown flag -exit-code; did you mean -exit-codes?"),
        ("-zzzzzz", "unknown flag -zzzzzz"),
        ("-zzzzzz=1", "unknown flag -zzzzzz"),
    ];
    for (word, message) in table {
        Probe::new([CLOSED_PORT, word]).run().expect(
            1,
            "",
            &format!("error: {message}\nhint: -help lists all flags\n"),
        );
    }
    // Flags are not abbreviated and not bundled.
    for word in ["-add=x", "-a", "-qv"] {
        let ran = Probe::new([CLOSED_PORT, word]).run();
        let flag = word.split('=').next().unwrap_or(word);
        assert!(ran.code == Some(1) && ran.stderr.starts_with(&format!("error: unknown flag {flag}")), "{ran}");
    }
}

#[test]
fn bad_flag_syntax_is_refused() {
    // The value after "=" may be a secret, so the message does not repeat it.
    for (word, shown) in [("---tls", "---tls"), ("---tls=x", "---tls"), ("-=x", "-"), ("--=x", "--"), ("---", "---")] {
        expect_refused(&[CLOSED_PORT, word], &format!("bad flag syntax: {shown}"));
    }
    // As in Go, a lone dash is no flag.
    expect_refused(&["-"], "the address \"-\": the port is missing; write host:port");
}

#[test]
fn durations_of_go_are_accepted() {
    let server = server::plaintext();
    for value in [
        "5s",
        "5000ms",
        "5000000us",
        "5000000µs",
        "5000000μs",
        "5000000000ns",
        "4.5s",
        "5.s",
        "0.1m",
        ".1m",
        "+5s",
        "1m30s",
        "1h2m3s4ms5us6ns",
        "2h45m",
        "0.5s5s",
        "2562047h",
        "9223372036854775807ns",
    ] {
        let flags = ["connect-timeout", "rpc-timeout", "timeout"].map(|flag| format!("-{flag}={value}"));
        Probe::new([&server.addr()].into_iter().chain(&flags)).run().expect_healthy();
    }
}

#[test]
fn other_durations_are_refused() {
    let table = [
        ("0", "must be greater than zero (specified: 0s)"),
        ("0s", "must be greater than zero (specified: 0s)"),
        ("0h0m0.000s", "must be greater than zero (specified: 0s)"),
        ("-0", "must be greater than zero (specified: 0s)"),
        ("0.1ns", "must be greater than zero (specified: 0s)"),
        ("-1s", "must be greater than zero (specified: -1s)"),
        ("-1ns", "must be greater than zero (specified: -1ns)"),
        ("-1h30m", "must be greater than zero (specified: -1h30m0s)"),
        ("-9223372036854775808ns", "must be greater than zero (specified: -2562047h47m16.854775808s)"),
        ("1", "a unit is missing (as in 10s or 500ms)"),
        ("10", "a unit is missing (as in 10s or 500ms)"),
        ("1.5", "a unit is missing (as in 10s or 500ms)"),
        ("1m30", "a unit is missing (as in 10s or 500ms)"),
        ("1d", "unknown unit \"d\" (ns, us, ms, s, m or h)"),
        ("1sec", "unknown unit \"sec\" (ns, us, ms, s, m or h)"),
        ("1S", "unknown unit \"S\" (ns, us, ms, s, m or h)"),
        ("1 s", "unknown unit \" s\" (ns, us, ms, s, m or h)"),
        ("1s ", "unknown unit \"s \" (ns, us, ms, s, m or h)"),
        ("s", "not a duration (as in 300ms, 1.5s or 1m30s)"),
        ("-", "not a duration (as in 300ms, 1.5s or 1m30s)"),
        (".s", "not a duration (as in 300ms, 1.5s or 1m30s)"),
        (" 1s", "not a duration (as in 300ms, 1.5s or 1m30s)"),
        ("--1s", "not a duration (as in 300ms, 1.5s or 1m30s)"),
        ("forever", "not a duration (as in 300ms, 1.5s or 1m30s)"),
        ("1,5s", "unknown unit \",\" (ns, us, ms, s, m or h)"),
        ("2562048h", "out of range (at most 2562047h)"),
        ("9223372036854775808ns", "out of range (at most 2562047h)"),
        ("99999999999999999999999999s", "out of range (at most 2562047h)"),
    ];
    for flag in ["-connect-timeout", "-rpc-timeout", "-timeout"] {
        for (value, cause) in table {
            let message = format!("error: {flag}={value}: {cause}");
            Probe::new([CLOSED_PORT, &format!("{flag}={value}")]).run().expect_error(1, &message);
        }
    }
}

#[test]
fn timeout_of_one_nanosecond_expires_at_once() {
    let server = server::plaintext();
    let addr = server.addr();
    let message = format!("error: health check of {} timed out after 1ns: connected, no answer", server.address);
    Probe::new([&addr, "-rpc-timeout=1ns"]).run().expect_error(1, &message);
    Probe::new([&addr, "-rpc-timeout=1ns", "-exit-codes=detailed"]).run().expect_error(3, &message);
    for flag in ["-connect-timeout=1ns", "-timeout=1ns"] {
        let ran = Probe::new([&addr, flag, "-exit-codes=detailed"]).run();
        let message = format!("error: connecting to {} timed out after 1ns", server.address);
        assert!(ran.code == Some(2) && ran.stdout.is_empty() && ran.stderr.starts_with(&message), "{ran}");
    }
}

#[test]
fn timeout_flag_limits_the_whole_run() {
    let silent = Peer::new(|connection, _| connection.drain());
    let ran = Probe::new([&silent.addr(), "-connect-timeout=20s", "-timeout=1s", "-exit-codes=detailed"]).run();
    let message = format!("error: no HTTP/2 from {}: connected, but the server sent nothing within 1s", silent.address);
    ran.expect_error(2, &message);

    let unanswering = Peer::new(|connection, _| {
        connection.take_request();
        connection.drain();
    });
    let ran = Probe::new([&unanswering.addr(), "-rpc-timeout=20s", "-timeout=1s", "-exit-codes=detailed"]).run();
    let message = format!("error: health check of {} timed out after 1s: connected, no answer", unanswering.address);
    ran.expect_error(3, &message);
}

#[test]
fn refused_connection_is_retried_only_with_connect_timeout() {
    let message = "error: cannot connect to 127.0.0.1:1: connection refused";
    let hint = "hint: nothing listens there; is the server up, and on this port?";
    Probe::new([CLOSED_PORT]).run().expect(1, "", &format!("{message}\n{hint}\n"));
    Probe::new([CLOSED_PORT, "-exit-codes=detailed"]).run().expect(2, "", &format!("{message}\n{hint}\n"));

    let ran = Probe::new([CLOSED_PORT, "-connect-timeout=500ms", "-exit-codes=detailed"]).run();
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let attempts = lines.first().and_then(|line| line.strip_prefix(message)?.strip_prefix(" (")?.split_once(' '));
    let Some((attempts, "attempts in 500ms)")) = attempts else { panic!("{ran}") };
    assert!(attempts.parse::<u32>().is_ok_and(|attempts| attempts > 1), "{ran}");
    assert_eq!((ran.code, ran.stdout.as_str(), &lines[1..]), (Some(2), "", &[hint][..]), "{ran}");
}

#[test]
fn connect_timeout_retries_until_the_server_answers() {
    // Closes the first three connections and serves the next.
    let peer = Peer::new(|connection, number| {
        if number >= 3 {
            connection.take_request();
            connection.send(frames::serving());
            connection.drain();
        }
    });
    Probe::new([&peer.addr(), "-connect-timeout=20s"]).run().expect_healthy();
}

#[test]
fn incompatible_flags_are_refused() {
    let table: [(&[&str], &str); 25] = [
        (&["-tls", "-spiffe"], "-tls and -spiffe cannot be used together"),
        (&["-spiffe", "-tls"], "-tls and -spiffe cannot be used together"),
        (&["-tls", "-alts"], "-tls and -alts cannot be used together"),
        (&["-spiffe", "-alts"], "-spiffe and -alts cannot be used together"),
        (&["-tls-no-verify"], "-tls-no-verify needs -tls"),
        (&["-tls-no-alpn"], "-tls-no-alpn needs -tls"),
        (&["-spiffe", "-tls-no-alpn"], "-spiffe and -tls-no-alpn cannot be used together"),
        (&["-tls-ca-cert=x"], "-tls-ca-cert needs -tls"),
        (&["-tls-client-cert=x"], "-tls-client-cert needs -tls"),
        (&["-tls-client-key=x"], "-tls-client-key needs -tls"),
        (&["-tls-client-cert=x", "-tls-client-key=y"], "-tls-client-cert needs -tls"),
        (&["-tls-server-name=x"], "-tls-server-name needs -tls"),
        (&["-tls=false", "-tls-ca-cert=x"], "-tls-ca-cert needs -tls"),
        (&["-tls", "-tls-client-cert=x"], "-tls-client-cert needs -tls-client-key"),
        (&["-tls", "-tls-client-key=x"], "-tls-client-key needs -tls-client-cert"),
        (&["-tls", "-tls-no-verify", "-tls-ca-cert=x"], "-tls-no-verify and -tls-ca-cert cannot be used together"),
        (&["-tls-ca-cert=x", "-tls-no-verify", "-tls"], "-tls-no-verify and -tls-ca-cert cannot be used together"),
        (&["-spiffe", "-tls-ca-cert=x"], "-spiffe and -tls-ca-cert cannot be used together"),
        (&["-spiffe-id=example.org"], "-spiffe-id needs -spiffe"),
        (&["-tls", "-spiffe-id=example.org"], "-spiffe-id needs -spiffe"),
        (&["-spiffe=false", "-spiffe-id=example.org"], "-spiffe-id needs -spiffe"),
        (&["-alts-handshaker=127.0.0.1:1"], "-alts-handshaker needs -alts"),
        (&["-tls", "-alts-handshaker=127.0.0.1:1"], "-alts-handshaker needs -alts"),
        (&["-alts=false", "-alts-handshaker=127.0.0.1:1"], "-alts-handshaker needs -alts"),
        (&["-alts", "-tls-ca-cert=x"], "-tls-ca-cert needs -tls"),
    ];
    for (words, message) in table {
        expect_refused(&[&[CLOSED_PORT], words].concat(), message);
    }
}

#[test]
fn flags_set_to_false_conflict_with_no_flag() {
    let server = server::plaintext();
    let words = ["-tls=false", "-spiffe=false", "-alts=false", "-tls-no-verify=false", "-gzip=false"];
    Probe::new([server.addr().as_str()].into_iter().chain(words)).run().expect_healthy();
}

/// The Go tool refuses this pair.
#[test]
fn tls_no_verify_and_tls_server_name_are_compatible() {
    let server = server::tls(&Authority::new("nobody's").server(&["elsewhere.test"]));
    Probe::new([&server.addr(), "-tls", "-tls-no-verify", "-tls-server-name=any.test"]).run().expect_healthy();
}

#[test]
fn a_server_name_that_can_never_be_one_is_refused() {
    for name in ["a b", "a/b", "a@b", "[::1]", "a:", "\u{e9}.test", &"a".repeat(64)] {
        let ran = Probe::new([CLOSED_PORT, "-tls", "-tls-server-name", name, "-exit-codes=detailed"]).run();
        let begins = format!("error: -tls-server-name={name}: ");
        assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.starts_with(&begins), "{ran}");
    }
}

#[test]
fn unreadable_file_is_named_in_the_message() {
    let files = Files::new();
    let missing = files.path("missing.pem").display().to_string();
    for words in [
        vec![format!("-tls-ca-cert={missing}")],
        vec![format!("-tls-client-cert={missing}"), format!("-tls-client-key={missing}")],
    ] {
        let words = [vec![CLOSED_PORT.to_owned(), "-tls".to_owned(), "-output=json".to_owned()], words].concat();
        let ran = Probe::new(words).run();
        ran.expect_kind(1, "usage", "file-unreadable");
        assert!(ran.stdout.contains(&missing), "{ran}");
    }
}

#[test]
fn help_prints_to_stdout_and_exits_0() {
    let help = Probe::new(["-help"]).run();
    help.expect(0, &help.stdout, "");
    for words in [
        &["-h"][..],
        &["--h"],
        &["--help"],
        &["-tls", "-h"],
        &["-h", "-addr=127.0.0.1:1"],
        &["-addr=http://x", "-rpc-timeout=0", "-help"],
        &["-help", "-output=json", "-q"],
    ] {
        Probe::new(words).run().expect(0, &help.stdout, "");
    }
    assert!(help.stdout.starts_with("Asks a gRPC server whether it is healthy"), "{help}");
    assert!(help.stdout.ends_with('\n'), "{help}");
}

/// What `-version` prints. The release is built for another C library than the tests.
fn version() -> String {
    let target = env!("TARGET");
    let target = if env::var_os(PROBE_BINARY).is_some() { target.replace("-gnu", "-musl") } else { target.to_owned() };
    format!("{}; commit {}; target {target}\n", env!("CARGO_PKG_VERSION"), env!("COMMIT"))
}

#[test]
fn version_prints_to_stdout_and_exits_0() {
    let version = version();
    for words in [
        &["-version"][..],
        &["--version"],
        &["-version", CLOSED_PORT],
        &["-addr=http://x", "-tls-ca-cert=x", "-version"],
    ] {
        Probe::new(words).run().expect(0, &version, "");
    }
}

/// As in Go, it is a boolean flag like the others.
#[test]
fn version_flag_takes_a_boolean() {
    let server = server::plaintext();
    Probe::new([&server.addr(), "-version=true"]).run().expect(0, &version(), "");
    Probe::new([&server.addr(), "-version=false"]).run().expect_healthy();
}

#[test]
fn non_utf8_argument_is_refused() {
    for word in [&b"-service=\xff"[..], b"\xc3\x28:50051", b"-\xf0\x9f", b"--\xff=1", b"\xed\xa0\x80", b"\xff"] {
        let words = [OsString::from(CLOSED_PORT), OsString::from_vec(word.to_vec())];
        for mode in ["-exit-codes=docker", "-exit-codes=detailed"] {
            let ran = Probe::new([OsString::from(mode)].iter().chain(&words)).run();
            let first_line = ran.stderr.lines().next().unwrap_or_default();
            let is_shown = first_line.starts_with("error: ") && first_line.ends_with(" is not UTF-8");
            assert!(ran.code == Some(1) && ran.stdout.is_empty() && is_shown, "{ran}");
        }
        let ran = Probe::new([OsString::from("-output=json")].iter().chain(&words)).run();
        ran.expect_kind(1, "usage", "usage");
    }
}

#[test]
fn long_and_many_arguments_are_accepted() {
    let server = server::plaintext();
    // The longest that Linux passes on.
    let long = "x".repeat(131_000);
    let ran = Probe::new([&server.addr(), &format!("-service={long}")]).run();
    assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.starts_with("error: health check of "), "{ran}");
    let ran = Probe::new([format!("-addr={long}")]).run();
    assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.starts_with("error: -addr=xxx"), "{ran}");
    let many = vec!["-q=false"; 5000];
    Probe::new([server.addr().as_str()].into_iter().chain(many)).run().expect_healthy();
}
