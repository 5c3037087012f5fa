//! Slips of the hand on the command line. Each message says what was meant.

use std::fs;

use crate::support::{pki::Files, probe::Probe, server, unused_port::UnusedPort};

/// Words that cannot be used, and all that standard error says about them.
type Slip<'a> = (&'a [&'a str], &'a str);

#[track_caller]
fn expect_all(slips: &[Slip<'_>]) {
    for (words, stderr) in slips {
        Probe::new(*words).run().expect(1, "", stderr);
    }
}

#[test]
fn a_flag_and_its_value_in_one_argument() {
    expect_all(&[
        (
            &["-addr :50051"],
            "error: -addr and its value came as one argument\n\
             hint: write -addr=VALUE, or make -addr and the value two arguments\n",
        ),
        // It may be a secret.
        (
            &[":1", "--rpc-header authorization: Bearer secret"],
            "error: -rpc-header and its value came as one argument\n\
             hint: write -rpc-header=VALUE, or make -rpc-header and the value two arguments\n",
        ),
        (
            &["-tls -addr=:50051"],
            "error: -tls and what follows it came as one argument\nhint: make each flag an argument of its own\n",
        ),
    ]);
}

#[test]
fn stray_words_are_named() {
    let switch = "error: unexpected argument \"s\" after -gzip\n\
                  hint: -gzip takes no value, or one after \"=\": -gzip=true\n";
    let second = "error: unexpected argument \"s\"\n\
                  hint: the address is given already; a value with blanks needs quotes\n";
    expect_all(&[
        (&[":1", "s"], second),
        (&["-addr=:1", "s"], second),
        (&["s", "-addr=:1"], second),
        (&[":1", "-timeout=1s", "s"], second),
        (&[":1", "-gzip", "s"], switch),
    ]);
    for (word, meant) in [("yes", "true"), ("on", "true"), ("No", "false"), ("OFF", "false")] {
        let line = format!("-tls {word}: a boolean takes its value after \"=\": -tls={meant}");
        expect_all(&[(&["-tls", word, ":1"], &format!("error: {line}\nhint: -help lists all flags\n"))]);
    }
    // An unset variable between quotes is no word.
    let server = server::plaintext();
    Probe::new(["", &server.addr(), ""]).run().expect_healthy();
}

#[test]
fn a_header_without_quotes_is_not_repeated() {
    let stderr = |flag: &str| {
        format!(
            "error: unexpected argument after {flag} and its value; it is not shown, as it may be a secret\nhint: a header with blanks needs quotes: {flag}='name: value'\n"
        )
    };
    for words in [
        &[":1", "-rpc-header", "authorization:", "Bearer", "secret"][..],
        &["-rpc-header", "authorization:", "Bearer", "secret", ":1"],
        &["-addr=:1", "-rpc-header", "authorization:", "secret"],
        &["-addr=:1", "-rpc-header=authorization:Bearer", "secret"],
    ] {
        expect_all(&[(words, &stderr("-rpc-header"))]);
    }
    expect_all(&[(&[":1", "-rpc-header-file", "a:", "/b"], &stderr("-rpc-header-file"))]);
}

#[test]
fn words_for_a_shell_end_the_arguments() {
    let server = server::plaintext();
    let addr = server.addr();
    for (words, ignored) in [
        (&["||", "exit", "1"][..], "|| exit 1"),
        (&["&&", "-nonsense"], "&& -nonsense"),
        (&[";", "true"], "; true"),
        (&["|", "grep", "SERVING"], "| grep SERVING"),
        (&[">/dev/null"], ">/dev/null"),
        (&[">", "/dev/null"], "> /dev/null"),
        (&["2>/dev/null", "-tls"], "2>/dev/null -tls"),
        (&["2>&1"], "2>&1"),
        (&["&>/dev/null"], "&>/dev/null"),
    ] {
        let ran = Probe::new([&[addr.as_str()], words].concat()).run();
        ran.expect(0, "status: SERVING\n", &format!("warning: no shell runs here: \"{ignored}\" is ignored\n"));
    }
    // As a value, or after the end of the flags, it is a word like any other.
    let ran = Probe::new([&addr, "-service", "||"]).run();
    assert!(ran.code == Some(1) && ran.stderr.contains("NOT_FOUND") && !ran.stderr.contains("shell"), "{ran}");
    let line = "error: the address \"||\": the port is missing; write host:port";
    Probe::new(["--", "||"]).run().expect_error(1, line);
    Probe::new([&addr, "-q", "||", "exit", "1"]).run().expect(0, "", "");
}

#[test]
fn a_header_file_needs_a_name_and_a_path() {
    expect_all(&[(
        &[":1", "-rpc-header-file=/run/token"],
        "error: -rpc-header-file: a colon is missing; write 'name: path'\n",
    )]);
    for value in ["Bearer secret", "secret", "/ecret with blanks"] {
        let header = format!("-rpc-header-file=authorization: {value}");
        let ran = Probe::new([":1", "-v", &header]).run();
        assert!(!format!("{ran}").replace(&header, "").contains("ecret"), "{ran}");
        let end = "error: cannot read -rpc-header-file='authorization: ***': no such file or directory\n\
                   hint: it takes a file's path, not the value; a value on the command line takes -rpc-header\n";
        assert!(ran.code == Some(1) && ran.stderr.ends_with(end), "{ran}");
    }
}

#[test]
fn what_a_shell_would_have_changed() {
    let quotes = "hint: the quotation marks are part of the value here; leave them out\n";
    let blank = "hint: the value begins or ends with a blank; leave it out\n";
    let port = "hint: no shell expands $PORT here; write the value, or set GRPC_HEALTH_PROBE_ADDR\n";
    let ip = "hint: $(POD_IP) is not expanded: in a probe's command, Kubernetes expands variables with a literal value only; \
              set GRPC_HEALTH_PROBE_ADDR in env instead, below POD_IP\n";
    for (word, line, hint) in [
        ("-addr=\":50051\"", "-addr=\":50051\": port \"50051\"\" is not a number", quotes),
        ("-addr='a:1'", "-addr='a:1': port \"1'\" is not a number", quotes),
        ("-addr=“a:1”", "-addr=“a:1”: port \"1”\" is not a number", quotes),
        ("-addr=a:1 ", "-addr=a:1 : an address has no spaces or control characters", blank),
        ("-addr=:$PORT", "-addr=:$PORT: port \"$PORT\" is not a number", port),
        ("-addr=:${PORT}", "-addr=:${PORT}: port \"${PORT}\" is not a number", port),
        ("-addr=$(POD_IP):1", "-addr=$(POD_IP):1: '$' cannot be in a host name", ip),
        ("-timeout=\"1s\"", "-timeout=\"1s\": not a duration (as in 300ms, 1.5s or 1m30s)", quotes),
        ("-gzip=\"true\"", "-gzip=\"true\": not a boolean (true, false, t, f, 1 or 0)", quotes),
    ] {
        let words = [word, ":1"];
        let words = if word.starts_with("-addr") { &words[..1] } else { &words };
        Probe::new(words).run().expect(1, "", &format!("error: {line}\n{hint}"));
    }
    let unreadable = "error: cannot read -tls-ca-cert=\"/ca.pem\": no such file or directory\n";
    expect_all(&[
        (&[":1", "-tls", "-tls-ca-cert=\"/ca.pem\""], &format!("{unreadable}{quotes}")),
        (&["–addr=:1"], "error: the dash before \"addr\" is not \"-\"\nhint: write -addr\n"),
        (&["—addr", ":1"], "error: the dash before \"addr\" is not \"-\"\nhint: write -addr\n"),
    ]);
}

#[test]
fn addresses_in_other_forms() {
    let files = Files::new();
    let socket = files.path("a.sock");
    let with_port = format!("unix:{}:50051", socket.display());
    expect_all(&[
        (&["50051"], "error: the address \"50051\": a port alone needs a colon; write :50051\n"),
        (&["/run/a.sock"], "error: the address \"/run/a.sock\": a path needs its scheme; write unix:/run/a.sock\n"),
        (&["./a.sock"], "error: the address \"./a.sock\": a path needs its scheme; write unix:./a.sock\n"),
        (
            &[&with_port],
            &format!(
                "error: cannot connect to {with_port}: no such file\nhint: a unix socket has no port; leave it out\n"
            ),
        ),
    ]);
    // Following the hints leads on.
    let unused = UnusedPort::new();
    let addr = format!(":{}", unused.address.port());
    let ran = Probe::new([&addr]).run();
    assert!(ran.stderr.starts_with(&format!("error: cannot connect to {addr}: connection refused")), "{ran}");
    let ran = Probe::new([&format!("unix:{}", socket.display())]).run();
    assert!(
        ran.stderr.ends_with("hint: is the server up, and is the directory of its socket mounted here?\n"),
        "{ran}"
    );
}

#[test]
fn names_of_services() {
    let server = server::plaintext();
    let run = |services: &[&str]| Probe::new([&[server.addr().as_str()], services].concat()).run();
    let line = format!("error: health check of {} failed: NOT_FOUND: service not registered", server.address);
    for (service, hint) in [
        ("-service=up,down", "the comma is part of the name; write -service=up -service=down"),
        ("-service=up, down", "the comma is part of the name; write -service=up -service=down"),
        ("-service=up ", "the value begins or ends with a blank; leave it out"),
        ("-service=\"up\"", "the quotation marks are part of the value here; leave them out"),
        ("-service=$SERVICE", "no shell expands $SERVICE here; write the value, or set GRPC_HEALTH_PROBE_SERVICE"),
    ] {
        run(&[service]).expect(1, "", &format!("{line}\nhint: {hint}\n"));
    }
    // Following the hints leads on.
    run(&["-service=up"]).expect_healthy();
    let both = run(&["-service=up", "-service=down"]);
    assert_eq!(
        both.stdout, "up: status: SERVING\ndown: service unhealthy (responded with \"NOT_SERVING\")\n",
        "{both}"
    );
}

#[test]
fn flags_of_other_tools() {
    for (word, line, hint) in [
        ("-conn-timeout=1s", "-conn-timeout; did you mean -connect-timeout?", None),
        ("-cacert=/a", "-cacert; did you mean -tls-ca-cert?", None),
        ("-H=a: b", "-H; did you mean -rpc-header?", None),
        ("-verbose", "-verbose; did you mean -v?", None),
        ("-json", "-json; did you mean -output=json?", None),
        ("-plaintext", "-plaintext", Some("leave it out: without -tls, the probe speaks plaintext")),
        ("-insecure", "-insecure", Some("TLS without verification is -tls -tls-no-verify; plaintext needs no flag")),
        ("-k", "-k", Some("TLS without verification is -tls -tls-no-verify; plaintext needs no flag")),
        // No guess for a letter.
        ("-x", "-x", None),
        ("-a", "-a", None),
        ("-altz", "-altz; did you mean -alts?", None),
    ] {
        let hint = hint.unwrap_or("-help lists all flags");
        Probe::new([":1", word]).run().expect(1, "", &format!("error: unknown flag {line}\nhint: {hint}\n"));
    }
}

#[test]
fn variables_of_no_flag() {
    let misspelled = || Probe::new(["-tls=false"]).env("GRPC_HEALTH_PROBE_ADDRESS", "127.0.0.1:1");
    let hint = "hint: say what to probe: -addr=:50051; GRPC_HEALTH_PROBE_ADDRESS is no variable of the probe; did you mean \
                GRPC_HEALTH_PROBE_ADDR?\n";
    misspelled().run().expect(1, "", &format!("error: -addr is not specified\n{hint}"));
    let both = misspelled().env("GRPC_HEALTH_PROBE_TIMOUT", "1s").run();
    assert!(
        both.stderr.ends_with("GRPC_HEALTH_PROBE_ADDRESS, GRPC_HEALTH_PROBE_TIMOUT are no variables of the probe\n"),
        "{both}"
    );
    // Where the rest can be used, only -v mentions it.
    let server = server::plaintext();
    let ran = Probe::new([&server.addr()]).env("GRPC_HEALTH_PROBE_TIMOUT", "1s").run();
    ran.expect_healthy();
    let ran = Probe::new([&server.addr(), "-v"]).env("GRPC_HEALTH_PROBE_TIMOUT", "1s").run();
    assert!(ran.stderr.contains("\n> GRPC_HEALTH_PROBE_TIMOUT is no variable of the probe\n"), "{ran}");
}

#[test]
fn a_file_that_a_hint_is_about_is_read() {
    let files = Files::new();
    // A name may have quotation marks, and then the file is read.
    let quoted = files.path("\"token\"");
    fs::write(&quoted, "t").expect("it can be written");
    let server = server::plaintext();
    Probe::new([&server.addr(), &format!("-rpc-header-file=x-token: {}", quoted.display())]).run().expect_healthy();
}
