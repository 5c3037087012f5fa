//! The environment: a variable for each flag, below the flag, and nothing else that the probe listens to.

use std::{ffi::OsStr, io::ErrorKind, net::TcpListener, os::unix::ffi::OsStrExt};

use crate::support::{
    pki::{Authority, Files},
    probe::Probe,
    server::{self, Recorder},
};

const NOWHERE: &str = "-addr=127.0.0.1:1";
const DOWN: &str = "service unhealthy (responded with \"NOT_SERVING\")\n";

/// What the tests check of a flag's variable.
struct Variable {
    name: &'static str,
    /// A value that no flag can have, or that asks for another flag; and what the probe then says.
    bad: (&'static str, &'static str),
    /// The flag with a value that makes the probe healthy, whatever the variable says.
    flag: &'static str,
}

const fn variable(name: &'static str, bad: (&'static str, &'static str), flag: &'static str) -> Variable {
    Variable { name, bad, flag }
}

/// The variables of all flags but `-addr`, `-service` and the TLS files, whose good values are made in the tests.
const VARIABLES: [Variable; 16] = [
    variable("RPC_HEADER", ("x", ": a colon is missing; write 'name: value'"), "-rpc-header=a: b"),
    variable(
        "USER_AGENT",
        (
            "caf\u{e9}",
            " \"caf\u{e9}\": the value may have printable ASCII characters only (others: in a name-bin header)",
        ),
        "-user-agent=x",
    ),
    variable("GZIP", ("yes", " \"yes\": not a boolean (true, false, t, f, 1 or 0)"), "-gzip=false"),
    variable("CONNECT_TIMEOUT", ("0s", " \"0s\": must be greater than zero (specified: 0s)"), "-connect-timeout=5s"),
    variable("RPC_TIMEOUT", ("5", " \"5\": a unit is missing (as in 10s or 500ms)"), "-rpc-timeout=5s"),
    variable("TIMEOUT", ("-1s", " \"-1s\": must be greater than zero (specified: -1s)"), "-timeout=9s"),
    variable("TLS", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-tls=false"),
    variable("TLS_NO_VERIFY", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-tls-no-verify=false"),
    variable("TLS_NO_VERIFY", ("true", " needs -tls"), "-tls-no-verify=false"),
    variable("SPIFFE", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-spiffe=false"),
    variable("ALTS", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-alts=false"),
    variable("ALTS", ("true", " is not supported yet"), "-alts=false"),
    variable("EXIT_CODES", ("go", " \"go\": neither docker nor detailed"), "-exit-codes=detailed"),
    variable("OUTPUT", ("yaml", " \"yaml\": neither text nor json"), "-output=text"),
    variable("Q", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-q=false"),
    variable("V", ("on", " \"on\": not a boolean (true, false, t, f, 1 or 0)"), "-v=false"),
];

#[test]
fn a_bad_value_is_refused_by_the_name_of_its_variable() {
    for Variable { name, bad: (value, message), .. } in VARIABLES {
        let name = format!("GRPC_HEALTH_PROBE_{name}");
        let ran = Probe::new([NOWHERE]).env(&name, value).run();
        ran.expect_error(1, &format!("error: {name}{message}"));
    }
    let bad_address = Probe::new([""; 0]).env("GRPC_HEALTH_PROBE_ADDR", "127.0.0.1").run();
    let message = "error: GRPC_HEALTH_PROBE_ADDR \"127.0.0.1\": the port is missing; write host:port";
    bad_address.expect_error(1, message);
    for name in ["TLS_CA_CERT", "TLS_CLIENT_CERT", "TLS_CLIENT_KEY", "TLS_SERVER_NAME"] {
        let name = format!("GRPC_HEALTH_PROBE_{name}");
        Probe::new([NOWHERE]).env(&name, "x").run().expect_error(1, &format!("error: {name} needs -tls"));
    }
}

#[test]
fn a_flag_wins_over_its_variable() {
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
fn an_empty_variable_counts_as_none() {
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
fn an_empty_flag_lets_its_variable_count() {
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
fn address_service_and_output_work_from_the_environment() {
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
    let told = probe().env("GRPC_HEALTH_PROBE_V", "1").run();
    assert!(told.code == Some(0) && told.stderr.starts_with("parsed options:\n"), "{told}");
}

#[test]
fn the_request_is_shaped_from_the_environment() {
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
fn repeatable_variables_have_a_value_on_each_line() {
    let server = server::plaintext();
    let probe = |services: &str| Probe::new([server.addr()]).env("GRPC_HEALTH_PROBE_SERVICE", services).run();
    probe("up").expect_healthy();
    probe("up\n").expect_healthy();
    probe("\n\nup\n\n").expect_healthy();
    let both = "up: status: SERVING\ndown: service unhealthy (responded with \"NOT_SERVING\")\n";
    probe("up\ndown").expect(1, both, "");
    probe("up\r\ndown\r\n").expect(1, both, "");
    // The flag wins over all of them.
    let flag = Probe::new([&server.addr(), "-service=up"]).env("GRPC_HEALTH_PROBE_SERVICE", "down\ndown").run();
    flag.expect_healthy();
}

#[test]
fn a_bad_line_of_a_repeatable_variable_is_refused() {
    let probe = Probe::new([NOWHERE]).env("GRPC_HEALTH_PROBE_RPC_HEADER", "a: b\nauthorization Bearer s3cret").run();
    let message = "error: GRPC_HEALTH_PROBE_RPC_HEADER: a colon is missing; write 'name: value'\n";
    probe.expect(1, "", message);
}

#[test]
fn time_outs_work_from_the_environment() {
    // One of them too short for anything: its own failure shows that it was read.
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

    let patient = Probe::new([NOWHERE]).env("GRPC_HEALTH_PROBE_CONNECT_TIMEOUT", "500ms").run();
    assert!(patient.stderr.contains(" attempts in 500ms)\n"), "{patient}");
}

#[test]
fn tls_works_from_the_environment() {
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
fn flags_and_variables_exclude_each_other_like_flags() {
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
        let mut probe = Probe::new([NOWHERE, flag]);
        for (name, value) in variables {
            probe = probe.env(&format!("GRPC_HEALTH_PROBE_{name}"), value);
        }
        probe.run().expect_error(1, &format!("error: {message}"));
    }
    // A flag takes back what a variable set.
    let server = server::plaintext();
    Probe::new([&server.addr(), "-tls=false"]).env("GRPC_HEALTH_PROBE_TLS", "true").run().expect_healthy();
}

#[test]
fn only_flags_have_variables() {
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

/// The address has the variable of `-addr`, and no second one for the form without a flag.
#[test]
fn the_positional_address_has_no_variable() {
    let server = server::plaintext();
    let name = "GRPC_HEALTH_PROBE_ADDRESS";
    Probe::new([server.addr()]).env(name, "127.0.0.1:1").run().expect_healthy();
    Probe::new([server.address.to_string()]).env(name, "127.0.0.1:1").run().expect_healthy();
    let nothing = Probe::new([""; 0]).env(name, server.address.to_string()).run();
    nothing.expect_error(1, "error: -addr is not specified");
}

#[test]
fn a_variable_that_is_not_utf8_is_refused_if_it_is_ours() {
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
fn proxies_are_never_used() {
    let proxy = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let proxy_address = proxy.local_addr().expect("it is bound");
    let server = server::plaintext();
    // Of these the Go tool sends the last three to the proxy.
    let name = |host: &str| format!("{host}:{}", server.port());
    for address in [name("127.0.0.1"), name("localhost"), name(""), name("0.0.0.0"), name("dns:///0.0.0.0")] {
        let mut probe = Probe::new([address]);
        for variable in ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            probe = probe.env(variable, format!("http://user:password@{proxy_address}"));
        }
        probe.run().expect_healthy();
    }
    proxy.set_nonblocking(true).expect("a socket can be told so");
    let visitor = proxy.accept();
    assert!(visitor.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the proxy was asked");
}

#[test]
fn other_peoples_variables_change_nothing() {
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
