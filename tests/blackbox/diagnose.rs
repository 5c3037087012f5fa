//! `-diagnose`: what it prints in each situation, that it judges as the plain probe does, and that what it advises works.
//!
//! The pages are in the folder `diagnose`. With `UPDATE=1` the tests write them again.

use std::{
    env, fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rcgen::{PKCS_ECDSA_P256_SHA256, date_time_ymd};
use serde_json::Value;
use tonic_health::ServingStatus;

use crate::support::{
    dns::{Behavior, name_server_on, run_with_dns},
    frames, needs,
    peer::Peer,
    pki::{Authority, Files},
    probe::{BINARY, Probe, RunResult},
    server::{self, ChangingServer, Reply},
    unused_port::UnusedPort,
    workload::{Agent, Reply as Svids, TrustDomain},
};

/// A page without what differs from run to run. Each of `names` is a text that differs, and what it is called.
pub fn normalised(page: &str, names: &[(String, &str)]) -> String {
    let mut page = page.to_owned();
    for (text, name) in names {
        page = page.replace(text, name);
    }
    let mut lines: Vec<String> = Vec::new();
    let mut is_list = false;
    for line in page.lines() {
        // What else listens on the machine, whose names may take several lines.
        if line.starts_with("  listening ") {
            is_list = true;
        } else if !(is_list && line.starts_with("     ")) {
            is_list = false;
            lines.push(without_owners(&without_times(line)));
        }
    }
    // Questions to a name server are asked at once.
    if let Some(first) = lines.iter().position(|line| line.starts_with("  asked ")) {
        let count = lines[first..].iter().take_while(|line| line.starts_with("  asked ")).count();
        lines[first..first + count].sort();
    }
    lines.join("\n") + "\n"
}

/// A line with its times, as in `(1.5ms)` and `12 days left`, replaced.
fn without_times(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('(') {
        out += before;
        let end = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
        let unit = ["ms)", "µs)", "s)"].into_iter().find(|unit| after[end..].starts_with(unit));
        if let Some(unit) = unit.filter(|_| end > 0) {
            out += "(TIME)";
            rest = &after[end + unit.len()..];
        } else {
            out.push('(');
            rest = after;
        }
    }
    out += rest;
    for unit in [" days left", " days ago"] {
        if let Some(end) = out.find(unit) {
            let start = out[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |start| start + 1);
            out.replace_range(start..end, "N");
        }
    }
    out
}

/// A line without the mode and the owner of a directory, and without who we are.
fn without_owners(line: &str) -> String {
    match (line.split_once("directory, "), line.split_once("we are ")) {
        (Some((before, _)), _) => format!("{before}directory, MODE, OWNER"),
        (_, Some((before, _))) => format!("{before}we are WE"),
        _ => line.to_owned(),
    }
}

/// Compares a page with the one in the folder.
#[track_caller]
fn expect_page(name: &str, ran: &RunResult, names: &[(String, &str)]) {
    let page = normalised(&ran.stdout, names);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/blackbox/diagnose/{name}.txt"));
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).expect("the folder is writable");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(page == expected, "{ran}\nnormalised:\n{page}\nexpected:\n{expected}");
    assert!(ran.stderr.is_empty() && !ran.stdout.contains('\u{1b}'), "{ran}");
    let widest = ran.stdout.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{ran}");
}

/// A situation: how to probe, what to call what differs, and another certificate store than the machine's.
struct Situation {
    words: Vec<String>,
    names: Vec<(String, &'static str)>,
    store: String,
    _files: Files,
}

impl Situation {
    fn new(port: u16, words: &[&str]) -> Self {
        let files = Files::new();
        let store = files.write("store.pem", Authority::new("Public CA").pem);
        let words = words.iter().map(|word| word.replace("PORT", &port.to_string())).collect();
        Self { words, names: vec![(port.to_string(), "PORT")], store, _files: files }
    }

    fn naming(mut self, text: &str, name: &'static str) -> Self {
        self.names.insert(0, (text.to_owned(), name));
        self
    }

    fn run(&self, more: &[&str]) -> RunResult {
        let words = self.words.iter().map(String::as_str).chain(more.iter().copied());
        Probe::new(words).env("SSL_CERT_FILE", &self.store).run()
    }

    /// Diagnoses the situation, and checks that the plain probe gives the same exit codes.
    #[track_caller]
    fn diagnose(&self, page: &str) -> RunResult {
        let ran = self.run(&["-diagnose"]);
        expect_page(page, &ran, &self.names);
        for codes in ["docker", "detailed"] {
            let codes = format!("-exit-codes={codes}");
            let (diagnosed, plain) = (self.run(&["-diagnose", &codes]), self.run(&[&codes]));
            assert_eq!(diagnosed.code, plain.code, "{diagnosed}{plain}");
            let code = plain.code.expect("no signal ends it");
            assert!(diagnosed.stdout.contains(&format!("  exit code  {code}\n")), "{diagnosed}");
        }
        let object = self.run(&["-diagnose", "-output=json"]).json();
        assert_eq!(object["exit_code"], Value::from(ran.code), "{object}");
        assert_eq!(object["verdict"]["healthy"], Value::from(ran.code == Some(0)), "{object}");
        assert!(["address", "verdict", "advice"].iter().all(|part| object[part].is_object()), "{object}");
        expect_known_fields(&object);
        ran
    }
}

/// Checks that the page about JSON names each field, and that none is empty.
#[track_caller]
fn expect_known_fields(value: &Value) {
    let page = include_str!("../../docs/json.md");
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/json.md");
                assert!(!value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()), "{name}: {value}");
                expect_known_fields(value);
            }
        }
        Value::Array(list) => list.iter().for_each(expect_known_fields),
        _ => {}
    }
}

/// The lines of a page that are one command or one line of a Dockerfile, joined.
fn snippet(ran: &RunResult, start: &str) -> String {
    let lines = ran.stdout.lines().skip_while(|line| !line.trim_start().starts_with(start));
    let mut snippet = String::new();
    for line in lines {
        match line.strip_suffix(" \\") {
            Some(line) => snippet += &format!("{} ", line.trim()),
            None => return snippet + line.trim(),
        }
    }
    panic!("{ran}no {start}");
}

/// A page in one line, as its lines may be broken anywhere.
fn unwrapped(ran: &RunResult) -> String {
    ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs the command of a page, as a shell does, with files put in.
fn run_command(ran: &RunResult, files: &[(&str, &str)]) -> RunResult {
    let mut command = snippet(ran, "grpc_health_probe ");
    for (name, path) in files {
        command = command.replace(&format!("={name}"), &format!("={path}"));
    }
    let command = command.replacen("grpc_health_probe", &BINARY.display().to_string(), 1);
    Probe::wrapped(&["sh", "-c", &format!("exec {command}")], [""; 0]).run()
}

/// Runs the command of a page's HEALTHCHECK.
fn run_healthcheck(ran: &RunResult) -> RunResult {
    let line = snippet(ran, "HEALTHCHECK ");
    let (_, array) = line.split_once(" CMD ").expect("it has a command");
    let words: Vec<String> = serde_json::from_str(array).unwrap_or_else(|error| panic!("{line}: {error}"));
    let (program, words) = words.split_first().expect("the program is named");
    assert_eq!(program, "/grpc_health_probe");
    Probe::new(words).run()
}

#[test]
fn healthy_in_plaintext() {
    let server = ChangingServer::new();
    server.set("shop.Cart", ServingStatus::Serving);
    let situation = Situation::new(server.server.port(), &["-addr=127.0.0.1:PORT"]);
    let ran = situation.diagnose("healthy-plaintext");
    run_command(&ran, &[]).expect_healthy();
    run_healthcheck(&ran).expect_healthy();
}

#[test]
fn healthy_over_mutual_tls() {
    let (authority, clients, files) = (Authority::new("Test CA"), Authority::new("Clients CA"), Files::new());
    let server = server::mtls(&authority.server(&["127.0.0.1"]), &clients);
    let client = clients.client();
    let ca = files.write("ca.pem", &authority.pem);
    let certificate = format!("-tls-client-cert={}", files.write("client.pem", &client.pem));
    let key = format!("-tls-client-key={}", files.write("client.key", &client.key_pem));
    let ca = format!("-tls-ca-cert={ca}");
    let words = ["-addr=127.0.0.1:PORT", "-tls", &ca, &certificate, &key];
    let situation = Situation::new(server.port(), &words);
    let ran = situation.run(&["-diagnose"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    for line in [
        "  verified            yes: by CN=Test CA in -tls-ca-cert\n",
        "  client certificate  asked for, from CN=Clients CA; ours was given, and the server accepted that\n",
        "  the server  SERVING\n",
    ] {
        assert!(ran.stdout.contains(line), "{line}{ran}");
    }
    run_command(&ran, &[]).expect_healthy();
    run_healthcheck(&ran).expect_healthy();
    let without = Situation::new(server.port(), &["-addr=127.0.0.1:PORT", "-tls", &ca]);
    let without = without.naming(files.path("").to_str().expect("it is UTF-8"), "/certificates/");
    let ran = without.diagnose("client-certificate-needed");
    let put_in = [("CLIENT.pem", &certificate), ("CLIENT.key", &key)];
    let put_in = put_in.map(|(name, flag)| (name, flag.split_once('=').expect("it has a path").1));
    run_command(&ran, &put_in).expect_healthy();
}

#[test]
fn tls_server_probed_in_plaintext() {
    let (authority, files) = (Authority::new("Test CA"), Files::new());
    let server = server::tls(&authority.server(&["api.test"]));
    let ran = Situation::new(server.port(), &["-addr=127.0.0.1:PORT"]).diagnose("tls-needed");
    run_command(&ran, &[("CA.pem", &files.write("ca.pem", &authority.pem))]).expect_healthy();
}

#[test]
fn plaintext_server_probed_with_tls() {
    let server = server::plaintext();
    let ran = Situation::new(server.port(), &["-addr=127.0.0.1:PORT", "-tls"])
        .naming("SSL_CERT_FILE", "SSL_CERT_FILE")
        .diagnose("tls-superfluous");
    run_command(&ran, &[]).expect_healthy();
    run_healthcheck(&ran).expect_healthy();
}

#[test]
fn certificates_that_are_refused() {
    let (authority, other, files) = (Authority::new("Test CA"), Authority::new("Other CA"), Files::new());
    let ca = files.write("ca.pem", &authority.pem);
    let directory = files.path("").to_str().expect("it is UTF-8").to_owned();
    let ca_flag = format!("-tls-ca-cert={ca}");
    let words = ["-addr=127.0.0.1:PORT", "-tls", &ca_flag];

    let server = server::tls(&authority.server(&["api.test", "*.example.test"]));
    let situation = Situation::new(server.port(), &words).naming(&directory, "/certificates/");
    run_command(&situation.diagnose("wrong-name"), &[]).expect_healthy();

    let server = server::tls(&other.server(&["127.0.0.1"]));
    let situation = Situation::new(server.port(), &words).naming(&directory, "/certificates/");
    let ran = situation.diagnose("unknown-issuer");
    run_command(&ran, &[("CA.pem", &files.write("other.pem", &other.pem))]).expect_healthy();

    let expired = authority.issue(&["127.0.0.1"], &PKCS_ECDSA_P256_SHA256, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 2, 3);
    });
    let server = server::tls(&expired);
    let situation = Situation::new(server.port(), &words).naming(&directory, "/certificates/");
    situation.diagnose("expired");
}

#[test]
fn certificates_are_looked_at_without_the_files_to_verify_them() {
    let (authority, files) = (Authority::new("Test CA"), Files::new());
    let leaf = authority.server(&["127.0.0.1"]);
    let setup = server::TlsSetup { leaf: &leaf, versions: rustls::DEFAULT_VERSIONS, alpn: &["h2"], clients: None };
    let recorder = server::Recorder::tls(&setup);
    let ca = files.write("ca.pem", &authority.pem);
    let (ca_flag, missing) = (format!("-tls-ca-cert={ca}"), files.path("missing.pem").display().to_string());
    let missing_ca = format!("-tls-ca-cert={missing}");
    let words = ["-addr=127.0.0.1:PORT", "-tls"];
    let mut situation = Situation::new(recorder.server.port(), &words);
    situation.store = format!("{missing}.system");
    let directory = files.path("").to_str().expect("it is UTF-8").to_owned();
    let ran = situation.naming(&directory, "/certificates/").diagnose("no-trust-anchors");
    let expect = |ran: &RunResult, verified: &str, needed: &str| {
        assert!(ran.stdout.contains(&format!("  verified       {verified}\n")), "{ran}");
        assert_eq!(ran.stdout.contains("  needed: "), !needed.is_empty(), "{ran}");
        assert!(ran.stdout.contains(needed) && ran.code == Some(1), "{ran}");
        assert!(!recorder.has_request(), "{ran}");
    };
    expect(
        &ran,
        "no: there are no trusted certificates on this system",
        "  needed: CA.pem, the certificate of CN=Test CA\n",
    );
    let of = |words: &[&str]| Situation::new(recorder.server.port(), words).run(&["-diagnose"]);
    let needed = format!("  needed: {missing}, the certificate of CN=Test CA\n");
    expect(&of(&[words[0], words[1], &missing_ca]), "no: the trusted certificates cannot be used", &needed);
    let identity = [format!("-tls-client-cert={missing}"), format!("-tls-client-key={missing}")];
    let [certificate, key] = &identity;
    expect(&of(&[words[0], words[1], &ca_flag, certificate, key]), "yes: by CN=Test CA in -tls-ca-cert", "");
    let unverified = of(&[words[0], words[1], "-tls-no-verify", certificate, key]);
    expect(&unverified, "no: -tls-no-verify is given", "");
    expect(&of(&[words[0], "-spiffe"]), "no: the Workload API gave nothing to verify it with", "");

    run_command(&ran, &[("CA.pem", &ca)]).expect_healthy();

    // The command that fits a server without TLS needs none of the files.
    let server = server::plaintext();
    let ran = Situation::new(server.port(), &[words[0], words[1], &missing_ca, certificate, key]).run(&["-diagnose"]);
    assert!(ran.code == Some(1) && ran.stdout.contains("  kind       file-unreadable\n"), "{ran}");
    run_command(&ran, &[]).expect_healthy();
}

#[test]
fn relative_paths_are_named_for_containers() {
    let (server, files) = (server::tls(&Authority::new("Test CA").server(&["127.0.0.1"])), Files::new());
    let absolute = files.write("ca.pem", Authority::new("Other CA").pem);
    let needed = |file: &str| {
        let words = ["-addr=127.0.0.1:PORT", "-tls", &format!("-tls-ca-cert={file}")];
        let ran = Situation::new(server.port(), &words).run(&["-diagnose"]);
        ran.stdout
            .lines()
            .filter_map(|line| line.strip_prefix("  needed: in a container, "))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(needed("ca.pem"), "the whole path of ca.pem");
    // Another CA is needed in its place, wherever that is.
    assert_eq!(needed(&absolute), "the whole path of CA.pem");
}

#[test]
fn answers_of_the_health_service() {
    let server = ChangingServer::new();
    server.set("", ServingStatus::NotServing);
    server.set("shop.Cart", ServingStatus::Serving);
    let port = server.server.port();
    Situation::new(port, &["-addr=127.0.0.1:PORT"]).diagnose("not-serving");
    let ran = Situation::new(port, &["-addr=127.0.0.1:PORT", "-service=Cart"]).diagnose("unknown-service");
    run_command(&ran, &[]).expect_healthy();
    run_healthcheck(&ran).expect_healthy();

    let server = server::by_path(|_| Reply::Status("12", "unknown service grpc.health.v1.Health"));
    Situation::new(server.port(), &["-addr=127.0.0.1:PORT"]).diagnose("no-health-service");
    let server = server::by_path(|_| Reply::Status("16", ""));
    let ran = Situation::new(server.port(), &["-addr=127.0.0.1:PORT"]).run(&["-diagnose"]);
    assert!(ran.stdout.contains("-rpc-header-file='authorization: TOKEN'"), "{ran}");
}

#[test]
fn slow_servers_are_told_from_stuck_ones() {
    let answers_after = |delay| {
        server::by_path(move |path| match path {
            "/grpc.health.v1.Health/Check" => Reply::Late(delay, vec![8, 1]),
            _ => Reply::Status("12", "no List"),
        })
    };
    let slow = answers_after(Duration::from_millis(900));
    for timeout in [&["-rpc-timeout=200ms"][..], &["-rpc-timeout=200ms", "-timeout=20s"]] {
        let ran = Situation::new(slow.port(), &["-addr=127.0.0.1:PORT"]).run(&[timeout, &["-diagnose"]].concat());
        assert_eq!(ran.code, Some(1), "{ran}");
        let page = unwrapped(&ran);
        for text in ["; asked again with more time: SERVING (", "the server is slow, not stuck: ", " kind rpc-timeout "]
        {
            assert!(page.contains(text), "{text}{ran}");
        }
        assert_eq!(run_command(&ran, &[]).stdout, "status: SERVING\n");
        run_healthcheck(&ran).expect_healthy();
    }
    let stuck = answers_after(Duration::from_hours(1));
    let ran = Situation::new(stuck.port(), &["-addr=127.0.0.1:PORT", "-rpc-timeout=200ms", "-timeout=3s"])
        .run(&["-diagnose"]);
    let page = unwrapped(&ran);
    assert!(
        ran.code == Some(1) && page.contains("; asked again with more time: ") && !page.contains("not stuck"),
        "{ran}"
    );
    assert!(snippet(&ran, "grpc_health_probe ").contains(" -rpc-timeout=200ms"), "{ran}");
}

/// What a look had no time for is not the server's fault.
#[test]
fn too_little_time_for_a_look_is_told_as_that() {
    let server = server::by_path(|path| match path {
        "/grpc.health.v1.Health/List" => Reply::Late(Duration::from_hours(1), vec![]),
        _ => Reply::Message(vec![8, 1]),
    });
    let words = ["-addr=127.0.0.1:PORT", "-rpc-timeout=3s", "-timeout=1500ms"];
    let ran = Situation::new(server.port(), &words).run(&["-diagnose"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(
        ran.stdout.contains("  List        no answer in the time that was left; give more with -timeout\n"),
        "{ran}"
    );
}

#[test]
fn services_that_nobody_asked_about_are_named() {
    let server = ChangingServer::new();
    server.set("shop.Cart", ServingStatus::NotServing);
    server.set("shop.Payment", ServingStatus::Serving);
    let hint = |more: &[&str]| {
        let ran = Situation::new(server.server.port(), &["-addr=127.0.0.1:PORT"]).run(&[more, &["-diagnose"]].concat());
        ran.stdout.lines().find(|line| line.starts_with("  hint ")).map(str::to_owned)
    };
    let not_asked = "  hint       not SERVING, and not asked about with -service: shop.Cart";
    assert_eq!(hint(&[]).as_deref(), Some(not_asked));
    assert_eq!(hint(&["-service=shop.Payment"]).as_deref(), Some(not_asked));
    assert_ne!(hint(&["-service=shop.Cart"]).as_deref(), Some(not_asked));
}

#[test]
fn proxy_in_front_of_a_sick_server() {
    let peer = Peer::new(|peer, _| {
        let fields: &[(&str, &[u8])] = &[(":status", b"503"), ("server", b"envoy"), ("content-type", b"text/plain")];
        let flags = frames::END_STREAM | frames::END_HEADERS;
        peer.read_preface();
        peer.send(frames::settings(&[]));
        for stream in [1, 3] {
            if peer.await_request() {
                peer.send(frames::frame(frames::HEADERS, flags, stream, &frames::block(fields)));
            }
        }
        peer.drain();
    });
    let ran = Situation::new(peer.address.port(), &["-addr=127.0.0.1:PORT"]).run(&["-diagnose"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stdout.contains("\n  unhealthy  RPC: health check of 127.0.0.1:"), "{ran}");
    for line in [
        "\n  a proxy answers  its header server is \"envoy\"\n",
        "\n  hint       a proxy answers (its header server is \"envoy\"): probe the server behind it\n",
    ] {
        assert!(ran.stdout.contains(line), "{line}{ran}");
    }
}

#[test]
fn other_protocols_and_silence() {
    let peer = Peer::new(|peer, _| {
        peer.read_preface();
        peer.send("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");
    });
    Situation::new(peer.address.port(), &["-addr=127.0.0.1:PORT"]).diagnose("http1");
    let peer = Peer::new(|peer, _| peer.drain());
    Situation::new(peer.address.port(), &["-addr=127.0.0.1:PORT"]).diagnose("silent");
}

#[test]
fn tls_without_http2() {
    let authority = Authority::new("Test CA");
    let leaf = authority.server(&["127.0.0.1"]);
    let setup = server::TlsSetup { leaf: &leaf, versions: rustls::DEFAULT_VERSIONS, alpn: &[], clients: None };
    let recorder = server::Recorder::tls(&setup);
    for (flag, fits) in [("-tls", "in it (ALPN)"), ("-gzip", "the flags say plaintext")] {
        let ran = Situation::new(recorder.server.port(), &["-addr=127.0.0.1:PORT", flag]).run(&["-diagnose"]);
        let is_told = |text: &str| ran.stdout.contains(text);
        assert!(ran.code == Some(1) && is_told("no ALPN (") && is_told(fits), "{ran}");
    }
}

#[test]
fn unix_sockets() {
    let ran = Situation::new(1, &["-addr=unix:/proc/no-such/api.sock"]);
    let ran = Situation { names: Vec::new(), ..ran }.diagnose("socket-missing");
    assert!(ran.stdout.contains("\n  /proc/no-such  no such file or directory\n"), "{ran}");
    let files = Files::new();
    let path = files.path("api.sock");
    let _server = server::unix(&path);
    let ran = Probe::new([format!("-addr=unix:{}", path.display()), "-diagnose".to_owned()]).run();
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stdout.contains("  a server listens there\n"), "{ran}");
    run_healthcheck(&ran).expect_healthy();
    // A slip in the name.
    let ran = Probe::new([format!("-addr=unix:{}", files.path("ap.sock").display()), "-diagnose".to_owned()]).run();
    assert!(ran.code == Some(1) && ran.stdout.contains("  kind       socket-missing\n"), "{ran}");
    run_command(&ran, &[]).expect_healthy();
    run_healthcheck(&ran).expect_healthy();
    let path = files.write("file", "");
    let ran = Probe::new([format!("-addr=unix:{path}"), "-diagnose".to_owned()]).run();
    assert!(ran.stdout.contains(": it is not a socket; we are user "), "{ran}");
}

#[test]
fn port_that_nothing_listens_on() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let unused = UnusedPort::new();
    let (port, listening) = (unused.address.port(), server.address);
    let ran = Probe::new([format!("-addr=127.0.0.1:{port}"), "-diagnose".to_owned()]).run();
    assert_eq!(ran.code, Some(1), "{ran}");
    for part in [
        format!("\n  port {port}  nothing listens at this address\n  listening   {listening}\n"),
        format!("\n  hint       nothing listens on port {port} here, but on {listening}; is the server up, and on\n"),
        "  a command for the only port that is listened on here; whether that is gRPC is not known:\n".to_owned(),
        format!("\n    grpc_health_probe -addr=:{}\n", listening.port()),
    ] {
        assert!(ran.stdout_as_written.contains(&part), "{part}{ran}");
    }
    run_command(&ran, &[]).expect_healthy();
}

#[test]
fn names() {
    let Some(()) = needs::root() else { return };
    let dns = name_server_on([127, 53, 7, 1], Behavior::NoSuchName);
    let ran = run_with_dns("", dns, &["-addr=user-service:50051", "-diagnose"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    expect_page("unknown-name", &ran, &[]);
    let server = server::plaintext();
    let addr = format!("-addr=api:{}", server.port());
    let ran = run_with_dns("127.0.0.1 api\n", dns, &[&addr, "-diagnose"]);
    assert!(ran.code == Some(0) && ran.stdout.contains("\nName\n  api  from /etc/hosts: 127.0.0.1\n"), "{ran}");
    let silent = name_server_on([127, 53, 7, 2], Behavior::Silent);
    let ran = run_with_dns("", silent, &["-addr=user-service:50051", "-diagnose"]);
    assert!(ran.code == Some(1) && ran.stdout.contains("127.53.7.2 did not answer for user-service A "), "{ran}");
}

#[test]
fn hostile_peers_get_a_diagnosis_in_time() {
    let trickle = Peer::new(|peer, _| {
        for byte in frames::settings(&[(1, 1); 400]) {
            if !peer.send([byte]) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    let flood = Peer::new(|peer, _| while peer.send([0x41; 4096]) {});
    let forged = Peer::new(|peer, _| {
        peer.read_preface();
        peer.send(frames::settings(&[]));
        peer.send(frames::goaway(0, 11, b"\x1b[31mred\nVerdict\n  healthy"));
        peer.drain();
    });
    for peer in [&trickle, &flood, &forged] {
        for tls in [None, Some("-tls".to_owned()), Some("-output=json".to_owned())] {
            let is_json = tls.as_deref() == Some("-output=json");
            let words = [peer.addr(), "-diagnose".to_owned(), "-timeout=1s".to_owned()].into_iter().chain(tls);
            let started = Instant::now();
            let ran = Probe::new(words).run();
            assert!(started.elapsed() < Duration::from_millis(2500), "{:?}{ran}", started.elapsed());
            assert!(ran.code == Some(1) && ran.stdout.len() < 64 * 1024, "{ran}");
            assert!(!ran.stdout.contains('\u{1b}'), "{ran}");
            assert!(is_json || ran.stdout.matches("\nVerdict\n").count() == 1, "{ran}");
        }
    }
}

#[test]
fn nothing_is_sent_to_a_server_that_is_not_trusted() {
    let authority = Authority::new("Test CA");
    let leaf = authority.server(&["127.0.0.1"]);
    let setup = server::TlsSetup { leaf: &leaf, versions: rustls::DEFAULT_VERSIONS, alpn: &["h2"], clients: None };
    let recorder = server::Recorder::tls(&setup);
    let secret = "-rpc-header=authorization: Bearer s3cret";
    let ran = Situation::new(recorder.server.port(), &["-addr=127.0.0.1:PORT", "-tls", secret]).run(&["-diagnose"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(!recorder.has_request(), "{ran}");
    assert!(!ran.stdout.contains("s3cret") && ran.stdout.contains("-rpc-header='authorization: ***'"), "{ran}");
    // In plaintext neither, where TLS was asked for.
    let recorder = server::Recorder::plaintext();
    let ran = Situation::new(recorder.server.port(), &["-addr=127.0.0.1:PORT", "-tls", secret]).run(&["-diagnose"]);
    assert!(ran.code == Some(1) && ran.stdout.contains("  plaintext  HTTP/2\n"), "{ran}");
    assert!(!recorder.has_request(), "{ran}");
}

#[test]
fn flags_that_it_cannot_go_with() {
    for (flag, other) in [("-watch", "-watch"), ("-wait=1s", "-wait"), ("-list", "-list"), ("-q", "-q")] {
        let ran = Probe::new(["-addr=:1", "-diagnose", flag]).run();
        ran.expect(1, "", &format!("error: -diagnose and {other} cannot be used together\n"));
    }
    let ran = Probe::new(["-addr=:1", "-q"]).env("GRPC_HEALTH_PROBE_DIAGNOSE", "true").run();
    ran.expect(1, "", "error: GRPC_HEALTH_PROBE_DIAGNOSE and -q cannot be used together\n");
}

#[test]
fn servers_by_their_spiffe_ids() {
    let (files, domain) = (Files::new(), TrustDomain::new("example.org"));
    let agent = Agent::new(&files.path("agent.sock"), Svids::with(vec![domain.entry("/probe")]));
    let leaf = domain.svid("/shop/api", |_| ());
    let clients = Some(&domain.authority);
    let setup = server::TlsSetup { leaf: &leaf, versions: rustls::DEFAULT_VERSIONS, alpn: &["h2"], clients };
    let recorder = server::Recorder::tls(&setup);
    for (id, code, verified) in [
        ("example.org", 0, "yes: by its SPIFFE ID, spiffe://example.org/shop/api\n"),
        ("spiffe://example.org/other", 1, "no: "),
    ] {
        let ran = Probe::new([&recorder.server.addr(), "-diagnose", "-spiffe", &format!("-spiffe-id={id}")])
            .env("SPIFFE_ENDPOINT_SOCKET", agent.endpoint())
            .run();
        assert_eq!(ran.code, Some(code), "{ran}");
        assert!(ran.stdout.contains(&format!("  verified            {verified}")), "{ran}");
        assert!(!ran.stdout.contains("of its names") && ran.stdout.contains("SPIFFE_ENDPOINT_SOCKET  sets "), "{ran}");
    }
}

#[test]
fn each_address_of_a_name() {
    let Some(()) = needs::root() else { return };
    let server = server::plaintext();
    let port = server.port();
    let hosts = "127.0.0.1 two\n127.0.0.2 two\n";
    let ran = run_with_dns(hosts, [127, 53, 7, 9].into(), &[&format!("-addr=two:{port}"), "-diagnose"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let addr = format!("-addr=two:{port}");
    let ran = run_with_dns(hosts, [127, 53, 7, 9].into(), &[&addr, "-diagnose", "-all-addresses"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    for line in [
        format!("\n  127.0.0.2:{port}  connection refused (").as_str(),
        &format!("\n  unhealthy  connection: 127.0.0.2:{port}: cannot connect to 127.0.0.2:{port}: "),
        &format!("\n    grpc_health_probe -addr=two:{port} -all-addresses\n"),
    ] {
        assert!(ran.stdout.contains(line), "{line}{ran}");
    }
}

#[test]
fn variables_are_named() {
    let server = server::plaintext();
    let ran = Probe::new(["-diagnose"])
        .env("GRPC_HEALTH_PROBE_ADDR", format!("127.0.0.1:{}", server.port()))
        .env("GRPC_HEALTH_PROBE_RPC_HEADER", "x-token: s3cret")
        .env("GRPC_HEALTH_PROBE_ADR", "x")
        .env("HTTPS_PROXY", "http://user:s3cret@proxy.test")
        .run();
    assert!(ran.code == Some(0) && !ran.stdout.contains("s3cret"), "{ran}");
    for line in [
        "sets -rpc-header=x-token: ***\n",
        "  warning                       GRPC_HEALTH_PROBE_ADR is no variable of the probe\n",
        "  HTTPS_PROXY                   sets nothing here: a probe follows no proxy\n",
    ] {
        assert!(ran.stdout.contains(line), "{line}{ran}");
    }
}

#[test]
fn colour_at_a_terminal_only() {
    let Some(()) = needs::script() else { return };
    let server = server::plaintext();
    let command = format!("{} -diagnose {}", BINARY.display(), server.addr());
    let at_terminal = |term: &str, no_colour: &str| {
        let script = [needs::SCRIPT, "-qec", &command, "/dev/null"];
        let mut probe = std::process::Command::new(script[0]);
        probe.args(&script[1..]).env_clear().env("PATH", "/usr/bin:/bin").env("TERM", term).env("NO_COLOR", no_colour);
        String::from_utf8(probe.output().expect("script is installed").stdout).expect("it is UTF-8")
    };
    assert!(at_terminal("xterm", "").contains("\u{1b}[1mAddress\u{1b}[0m\r\n"));
    assert!(at_terminal("xterm", "").contains("\u{1b}[32m\u{1b}[1mVerdict\u{1b}[0m\r\n"));
    assert!(!at_terminal("xterm", "1").contains('\u{1b}'));
    assert!(!at_terminal("dumb", "").contains('\u{1b}'));
}
