//! The environment: each flag has a variable, which the flag overrides. The probe reads no other variables.

use std::{ffi::OsStr, io::ErrorKind, net::TcpListener, os::unix::ffi::OsStrExt};

use crate::support::{
    pki::{Authority, Files},
    probe::Probe,
    server::{self, Recorder},
};

const CLOSED_PORT: &str = "-addr=127.0.0.1:1";
const DOWN: &str = "service unhealthy (responded with \"NOT_SERVING\")\n";

/// The variable of a flag, with test values.
struct Variable {
    name: &'static str,
    /// An invalid value, or one that needs another flag; and the error.
    bad: (&'static str, &'static str),
    /// The flag, with a value that overrides the variable and makes the probe succeed.
    flag: &'static str,
}

const fn variable(name: &'static str, bad: (&'static str, &'static str), flag: &'static str) -> Variable {
    Variable { name, bad, flag }
}

/// The variables of all flags except `-addr`, `-service` and the TLS files, whose valid values the tests create.
const VARIABLES: [Variable; 19] = [
    variable("RPC_HEADER", ("x", ": a colon is missing; write 'name: value'"), "-rpc-header=a: b"),
    variable(
        "USER_AGENT",
        (
            "caf\u{e9}",
            " \"caf\u{e9}\": the value may have printable ASCII characters only (others: in a name-bin header)",
        ),
        "-user-agent=x",
    ),
    variable("ALIVE", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-alive=false"),
    variable("AUTHORITY", ("a b", " \"a b\": not a valid authority"), "-authority=api.test"),
    variable("GZIP", ("yes", " \"yes\": not a boolean (true, false, t, f, 1 or 0)"), "-gzip=false"),
    variable("CONNECT_TIMEOUT", ("0s", " \"0s\": must be greater than zero (specified: 0s)"), "-connect-timeout=5s"),
    variable("RPC_TIMEOUT", ("5", " \"5\": a unit is missing (as in 10s or 500ms)"), "-rpc-timeout=5s"),
    variable("TIMEOUT", ("-1s", " \"-1s\": must be greater than zero (specified: -1s)"), "-timeout=9s"),
    variable("TLS", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-tls=false"),
    variable("TLS_NO_VERIFY", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-tls-no-verify=false"),
    variable("TLS_NO_VERIFY", ("true", " needs -tls"), "-tls-no-verify=false"),
    variable("TLS_NO_ALPN", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-tls-no-alpn=false"),
    variable("TLS_NO_ALPN", ("true", " needs -tls"), "-tls-no-alpn=false"),
    variable("SPIFFE", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-spiffe=false"),
    variable("ALTS", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-alts=false"),
    variable("EXIT_CODES", ("go", " \"go\": neither docker nor detailed"), "-exit-codes=detailed"),
    variable("OUTPUT", ("yaml", " \"yaml\": neither text nor json"), "-output=text"),
    variable("Q", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-q=false"),
    variable("V", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-v=false"),
];

#[test]
fn invalid_value_is_refused_with_the_variable_name() {
    for Variable { name, bad: (value, message), .. } in VARIABLES {
        let name = format!("GRPC_HEALTH_PROBE_{name}");
        let ran = Probe::new([CLOSED_PORT]).env(&name, value).run();
        ran.expect_error(1, &format!("error: {name}{message}"));
    }
    let bad_address = Probe::new([""; 0]).env("GRPC_HEALTH_PROBE_ADDR", "127.0.0.1").run();
    let message = "error: GRPC_HEALTH_PROBE_ADDR \"127.0.0.1\": the port is missing; write host:port";
    bad_address.expect_error(1, message);
    for name in ["TLS_CA_CERT", "TLS_CLIENT_CERT", "TLS_CLIENT_KEY", "TLS_SERVER_NAME"] {
        let name = format!("GRPC_HEALTH_PROBE_{name}");
        Probe::new([CLOSED_PORT]).env(&name, "x").run().expect_error(1, &format!("error: {name} needs -tls"));
    }
}

#[test]
fn flag_overrides_its_variable() {
    let server = server::plaintext();
    for Variable { name, bad: (value, _), flag } in VARIABLES {
        let name = format!("GRPC_HEALTH_PROBE_{name}");
        Probe::new([&server.addr(), flag]).env(&name, value).run().expect_healthy();
    }
    Probe::new([server.addr()]).env("GRPC_HEALTH_PROBE_ADDR", "127.0.0.1:1").run().expect_healthy();
    Probe::new([server.address.to_string()]).env("GRPC_HEALTH_PROBE_ADDR", "127.0.0.1:1").run().expect_healthy();
    Probe::new([&server.addr(), "-service=up"]).env("GRPC_HEALTH_PROBE_SERVICE", "down").run().expect_healthy();
}

#[test]
fn empty_variable_counts_as_not_set() {
    let server = server::plaintext();
    for Variable { name, .. } in VARIABLES {
        let name = format!("GRPC_HEALTH_PROBE_{name}");
        Probe::new([server.addr()]).env(&name, "").run().expect_healthy();
    }
    for name in ["SERVICE", "TLS_CA_CERT", "TLS_CLIENT_CERT", "TLS_CLIENT_KEY", "TLS_SERVER_NAME", "ADDR"] {
        Probe::new([server.addr()]).env(&format!("GRPC_HEALTH_PROBE_{name}"), "").run().expect_healthy();
    }
    let nothing = Probe::new([""; 0]).env("GRPC_HEALTH_PROBE_ADDR", "").run();
    nothing.expect(1, "", "error: -addr is not specified\nhint: say what to probe: -addr=:50051\n");
}

#[test]
fn empty_flag_does_not_override_its_variable() {
    let server = server::plaintext();
    let address = server.address.to_string();
    Probe::new(["-addr="]).env("GRPC_HEALTH_PROBE_ADDR", &address).run().expect_healthy();
    Probe::new(["-addr", ""]).env("GRPC_HEALTH_PROBE_ADDR", &address).run().expect_healthy();
    Probe::new([&server.addr(), "-service="]).env("GRPC_HEALTH_PROBE_SERVICE", "down").run().expect(1, DOWN, "");
    let detailed = Probe::new([&server.addr(), "-service=down", "-exit-codes="]);
    detailed.env("GRPC_HEALTH_PROBE_EXIT_CODES", "detailed").run().expect(4, DOWN, "");
    let json = Probe::new([&server.addr(), "-output="]).env("GRPC_HEALTH_PROBE_OUTPUT", "json").run();
    assert_eq!(json.json()["healthy"], true, "{json}");
}

#[test]
fn variables_set_address_service_and_output() {
    let server = server::plaintext();
    let probe = || Probe::new([""; 0]).env("GRPC_HEALTH_PROBE_ADDR", server.address.to_string());
    probe().run().expect_healthy();
    probe().env("GRPC_HEALTH_PROBE_SERVICE", "up").run().expect_healthy();
    let down = || probe().env("GRPC_HEALTH_PROBE_SERVICE", "down");
    down().run().expect(1, DOWN, "");
    down().env("GRPC_HEALTH_PROBE_EXIT_CODES", "docker").run().expect(1, DOWN, "");
    down().env("GRPC_HEALTH_PROBE_EXIT_CODES", "detailed").run().expect(4, DOWN, "");
    let json = down().env("GRPC_HEALTH_PROBE_OUTPUT", "json").env("GRPC_HEALTH_PROBE_EXIT_CODES", "detailed").run();
    json.expect_kind(4, "health", "not-serving");
    probe().env("GRPC_HEALTH_PROBE_Q", "true").run().expect(0, "", "");
    let verbose = probe().env("GRPC_HEALTH_PROBE_V", "1").run();
    assert!(verbose.code == Some(0) && verbose.stderr.starts_with("parsed options:\n"), "{verbose}");
}

#[test]
fn variables_set_metadata_user_agent_gzip_and_deadline() {
    let recorder = Recorder::plaintext();
    let probe = Probe::new([recorder.server.addr()])
        .env("GRPC_HEALTH_PROBE_RPC_HEADER", "x-one: 1\nx-two: 2\n\nx-one: 3\n")
        .env("GRPC_HEALTH_PROBE_USER_AGENT", "from the environment")
        .env("GRPC_HEALTH_PROBE_GZIP", "T")
        .env("GRPC_HEALTH_PROBE_RPC_TIMEOUT", "7s");
    probe.run().expect_healthy();
    let request = recorder.request();
    let values = |name: &str| -> Vec<String> {
        let values = request.headers().get_all(name).iter();
        values.map(|value| value.to_str().expect("printable").to_owned()).collect()
    };
    assert_eq!(values("x-one"), ["1", "3"]);
    assert_eq!(values("x-two"), ["2"]);
    assert_eq!(values("user-agent"), ["from the environment"]);
    assert_eq!(values("grpc-encoding"), ["gzip"]);
    assert_eq!(values("grpc-timeout"), ["7000000u"]);
}

#[test]
fn repeatable_variable_has_one_value_per_line() {
    let server = server::plaintext();
    let probe = |services: &str| Probe::new([server.addr()]).env("GRPC_HEALTH_PROBE_SERVICE", services).run();
    probe("up").expect_healthy();
    probe("up\n").expect_healthy();
    probe("\n\nup\n\n").expect_healthy();
    let both = "up: status: SERVING\ndown: service unhealthy (responded with \"NOT_SERVING\")\n";
    probe("up\ndown").expect(1, both, "");
    probe("up\r\ndown\r\n").expect(1, both, "");
    // The flag overrides all lines.
    let flag = Probe::new([&server.addr(), "-service=up"]).env("GRPC_HEALTH_PROBE_SERVICE", "down\ndown").run();
    flag.expect_healthy();
}

#[test]
fn invalid_line_of_a_repeatable_variable_is_refused() {
    let probe =
        Probe::new([CLOSED_PORT]).env("GRPC_HEALTH_PROBE_RPC_HEADER", "a: b\nauthorization Bearer s3cret").run();
    let message = "error: GRPC_HEALTH_PROBE_RPC_HEADER: a colon is missing; write 'name: value'\n";
    probe.expect(1, "", message);
}

#[test]
fn variables_set_timeouts() {
    // A timeout that is too short: its failure shows that the variable is read.
    let server = server::plaintext();
    let probe = |name: &str| {
        let probe =
            Probe::new([&server.addr(), "-exit-codes=detailed"]).env(&format!("GRPC_HEALTH_PROBE_{name}"), "1ns");
        probe.run()
    };
    for name in ["CONNECT_TIMEOUT", "TIMEOUT"] {
        let ran = probe(name);
        assert!(ran.code == Some(2) && ran.stderr.contains("timed out after 1ns"), "{ran}");
    }
    let ran = probe("RPC_TIMEOUT");
    assert!(ran.code == Some(3) && ran.stderr.contains("timed out after 1ns"), "{ran}");

    let patient = Probe::new([CLOSED_PORT]).env("GRPC_HEALTH_PROBE_CONNECT_TIMEOUT", "500ms").run();
    assert!(patient.stderr.contains(" attempts in 500ms)\n"), "{patient}");
}

#[test]
fn variables_set_tls() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let server = server::mtls(&servers.server(&["probe.test"]), &clients);
    let client = clients.client();
    let files = Files::new();
    let probe = Probe::new([""; 0])
        .env("GRPC_HEALTH_PROBE_ADDR", server.address.to_string())
        .env("GRPC_HEALTH_PROBE_TLS", "true")
        .env("GRPC_HEALTH_PROBE_TLS_CA_CERT", files.write("ca.pem", &servers.pem))
        .env("GRPC_HEALTH_PROBE_TLS_CLIENT_CERT", files.write("client.pem", &client.pem))
        .env("GRPC_HEALTH_PROBE_TLS_CLIENT_KEY", files.write("client.key", &client.key_pem))
        .env("GRPC_HEALTH_PROBE_TLS_SERVER_NAME", "probe.test");
    probe.run().expect_healthy();

    let unverified = server::tls(&servers.server(&["elsewhere.test"]));
    let probe = Probe::new([unverified.addr()])
        .env("GRPC_HEALTH_PROBE_TLS", "true")
        .env("GRPC_HEALTH_PROBE_TLS_NO_VERIFY", "true");
    probe.run().expect_healthy();
}

#[test]
fn incompatible_flags_and_variables_are_refused() {
    for (flag, variables, message) in [
        ("-tls", &[("SPIFFE", "1")][..], "-tls and GRPC_HEALTH_PROBE_SPIFFE cannot be used together"),
        ("-spiffe", &[("TLS", "1")], "GRPC_HEALTH_PROBE_TLS and -spiffe cannot be used together"),
        ("-tls", &[("TLS_CLIENT_CERT", "x")], "GRPC_HEALTH_PROBE_TLS_CLIENT_CERT needs -tls-client-key"),
        ("-tls", &[("TLS_CLIENT_KEY", "x")], "GRPC_HEALTH_PROBE_TLS_CLIENT_KEY needs -tls-client-cert"),
        (
            "-tls",
            &[("TLS_NO_VERIFY", "1"), ("TLS_CA_CERT", "x")],
            "GRPC_HEALTH_PROBE_TLS_NO_VERIFY and GRPC_HEALTH_PROBE_TLS_CA_CERT cannot be used together",
        ),
    ] {
        let mut probe = Probe::new([CLOSED_PORT, flag]);
        for (name, value) in variables {
            probe = probe.env(&format!("GRPC_HEALTH_PROBE_{name}"), value);
        }
        probe.run().expect_error(1, &format!("error: {message}"));
    }
    // A flag overrides a boolean variable, too.
    let server = server::plaintext();
    Probe::new([&server.addr(), "-tls=false"]).env("GRPC_HEALTH_PROBE_TLS", "true").run().expect_healthy();
}

#[test]
fn variables_without_a_flag_are_ignored() {
    let server = server::plaintext();
    for name in ["VERSION", "HELP", "H", "HOST", "PORT", "", "addr"] {
        let name = format!("GRPC_HEALTH_PROBE_{name}");
        for value in ["true", "x", "127.0.0.1:1"] {
            Probe::new([server.addr()]).env(&name, value).run().expect_healthy();
        }
        let nothing = Probe::new([""; 0]).env(&name, server.address.to_string()).run();
        nothing.expect_error(1, "error: -addr is not specified");
    }
    for name in ["ADDR", "TLS", "SERVICE", "GRPC_HEALTH_PROBE"] {
        Probe::new([server.addr()]).env(name, "true").run().expect_healthy();
    }
}

/// `GRPC_HEALTH_PROBE_ADDR` is the only variable for the address.
#[test]
fn positional_address_has_no_variable() {
    let server = server::plaintext();
    let name = "GRPC_HEALTH_PROBE_ADDRESS";
    Probe::new([server.addr()]).env(name, "127.0.0.1:1").run().expect_healthy();
    Probe::new([server.address.to_string()]).env(name, "127.0.0.1:1").run().expect_healthy();
    let nothing = Probe::new([""; 0]).env(name, server.address.to_string()).run();
    nothing.expect_error(1, "error: -addr is not specified");
}

#[test]
fn non_utf8_value_is_refused_only_in_variables_of_the_probe() {
    let server = server::plaintext();
    let not_utf8 = OsStr::from_bytes(b"up\xff");
    for name in ["GRPC_HEALTH_PROBE_SERVICE", "GRPC_HEALTH_PROBE_TLS", "GRPC_HEALTH_PROBE_RPC_HEADER"] {
        let ran = Probe::new([server.addr()]).env(name, not_utf8).run();
        ran.expect_error(1, &format!("error: {name} is not UTF-8"));
    }
    for name in ["PATH", "HOME", "LANG", "https_proxy", "GRPC_HEALTH_PROBE_VERSION"] {
        Probe::new([server.addr()]).env(name, not_utf8).run().expect_healthy();
    }
}

#[test]
fn proxy_variables_are_ignored() {
    let proxy = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let proxy_address = proxy.local_addr().expect("it is bound");
    let server = server::plaintext();
    // The Go tool sends the last three of these to the proxy.
    let name = |host: &str| format!("{host}:{}", server.port());
    for address in [name("127.0.0.1"), name("localhost"), name(""), name("0.0.0.0"), name("dns:///0.0.0.0")] {
        let mut probe = Probe::new([address]);
        for variable in ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            probe = probe.env(variable, format!("http://user:password@{proxy_address}"));
        }
        probe.run().expect_healthy();
    }
    proxy.set_nonblocking(true).expect("a socket can be verbose so");
    let visitor = proxy.accept();
    assert!(visitor.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the proxy was asked");
}

#[test]
fn variables_of_other_programs_are_ignored() {
    let server = server::plaintext();
    for (name, value) in [
        ("GRPC_ENFORCE_ALPN_ENABLED", "false"),
        ("GODEBUG", "http2debug=2"),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "full"),
        ("SSL_CERT_FILE", "/nonexistent"),
        ("SSL_CERT_DIR", "/nonexistent"),
        ("SPIFFE_ENDPOINT_SOCKET", "unix:///nonexistent"),
        ("HOME", "/nonexistent"),
        ("TMPDIR", "/nonexistent"),
        ("COLUMNS", "0"),
        ("LC_ALL", "tlh_KX"),
        ("CLICOLOR_FORCE", "1"),
    ] {
        Probe::new([server.addr()]).env(name, value).run().expect_healthy();
        let down = Probe::new([&server.addr(), "-service=down"]).env(name, value).run();
        down.expect(1, DOWN, "");
    }
}
