//! The pictures in `docs/pictures` show what the program does: each is drawn from real runs, or from the list of failures.
//!
//! With `UPDATE=1` the tests draw them again.

mod svg;
mod way;

use std::{
    env, fs,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::{
    diagnose::normalised,
    support::{
        pki::{Authority, Files, Leaf},
        probe::{Probe, RunResult},
        server,
    },
};
use svg::{Span, terminal};

/// What the Go tool prints for each fault in the picture (0.4.62, on standard error), after a second.
const GO_TOOL: &str = "timeout: failed to connect service \"127.0.0.1:50051\" within 1s";
/// The port in the pictures.
const PORT: &str = "50051";
/// Where the terminal in the pictures breaks lines.
const COLUMNS: usize = 100;

/// Compares a picture's text with what is to be shown, both without what differs from run to run. With `UPDATE=1`, writes it
/// first.
#[track_caller]
fn expect_picture(name: &str, picture: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures").join(name);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, picture).expect("the folder is writable");
    }
    let committed = svg::text_of(&fs::read_to_string(&path).unwrap_or_default());
    let (committed, shown) = (without_dates(&committed), without_dates(&svg::text_of(picture)));
    assert!(
        committed == shown,
        "{} shows\n{committed}\nand the program prints\n{shown}\nto draw it again: UPDATE=1 cargo test --test blackbox pictures",
        path.display()
    );
}

/// The lines without times, dates and numbers of days.
fn without_dates(text: &str) -> String {
    let is_date = |word: &str| word.len() >= 10 && word.starts_with("20") && word.as_bytes()[4] == b'-';
    let lines = normalised(text, &[]);
    let words = lines.split(' ').map(|word| if is_date(word) { "DATE" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// A certificate for a server, which expires so many days from now.
fn certificate(authority: &Authority, name: &str, days: u64, is_expired: bool) -> Leaf {
    let (now, distance) = (SystemTime::now(), Duration::from_hours(24 * days + 1));
    authority.issue(&[name], &PKCS_ECDSA_P256_SHA256, |params| {
        params.not_before = (now - Duration::from_hours(24 * 60)).into();
        params.not_after = if is_expired { now - distance } else { now + distance }.into();
    })
}

/// What the probe prints, in lines of a terminal, with the picture's port.
fn printed(ran: &RunResult, port: u16) -> Vec<String> {
    let text = format!("{}{}", ran.stdout, ran.stderr).replace(&port.to_string(), PORT);
    text.lines().flat_map(wrapped).collect()
}

/// A line, broken between words where it is too long.
fn wrapped(line: &str) -> Vec<String> {
    const INDENT: &str = "       ";
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let last = lines.last_mut().expect("there is one");
        if !last.trim().is_empty() && last.chars().count() + 1 + word.chars().count() > COLUMNS - 12 {
            lines.push(format!("{INDENT}{word}"));
        } else {
            if !last.is_empty() || word.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

#[test]
fn four_faults_that_the_go_tool_does_not_tell_apart() {
    let (authority, files) = (Authority::new("Example CA"), Files::new());
    let (good, other) = (authority.server(&["127.0.0.1"]), authority.server(&["api.internal"]));
    files.write("ca.pem", &authority.pem);
    let servers = [
        server::tls(&good),
        server::tls(&other),
        server::tls(&certificate(&authority, "127.0.0.1", 3, true)),
        server::mtls(&good, &authority),
    ];
    let with_tls = " -tls -tls-ca-cert=ca.pem";
    let faults = [
        (servers[0].port(), "", "The server speaks TLS"),
        (servers[1].port(), with_tls, "The certificate is for another name"),
        (servers[2].port(), with_tls, "The certificate has expired"),
        (servers[3].port(), with_tls, "The server requires a client certificate"),
    ];
    let mut lines = Vec::new();
    for (port, flags, fault) in faults {
        let command = format!("grpc_health_probe -addr=127.0.0.1:{port}{flags}");
        let ran = Probe::new(command.split(' ').skip(1)).current_dir(&files.path("")).run();
        assert_eq!(ran.code, Some(1), "{ran}");
        if !lines.is_empty() {
            lines.push(Vec::new());
        }
        let command = command.replace(&port.to_string(), PORT);
        lines.push(vec![Span("dim", format!("# {fault}"))]);
        lines.push(vec![Span("dim", "$ ".to_owned()), Span("command", command)]);
        lines.push(vec![Span("dim", "Go tool     ".to_owned()), Span("plain", GO_TOOL.to_owned())]);
        for (index, line) in printed(&ran, port).into_iter().enumerate() {
            let class = if line.starts_with("hint: ") { "good" } else { "bad" };
            let label = if index == 0 { "this probe  " } else { "            " };
            lines.push(vec![Span("dim", label.to_owned()), Span(class, line)]);
        }
    }
    let label = "Four faults. The Go tool prints the same line for each; this probe names the cause and the fix";
    expect_picture("failures.svg", &terminal(label, &lines));
}

#[test]
fn diagnosis_of_a_server_that_speaks_tls() {
    let (authority, store) = (Authority::new("Example CA"), Files::new());
    let server = server::tls(&certificate(&authority, "127.0.0.1", 81, false));
    let store = store.write("store.pem", Authority::new("Public CA").pem);
    let ran = Probe::new(["-diagnose", &server.addr()]).env("SSL_CERT_FILE", store).run();
    assert_eq!(ran.code, Some(1), "{ran}");
    let mut lines = vec![vec![
        Span("dim", "$ ".to_owned()),
        Span("command", format!("grpc_health_probe -diagnose -addr=127.0.0.1:{PORT}")),
    ]];
    let mut is_listening = false;
    for line in ran.stdout.replace(&server.port().to_string(), PORT).lines() {
        // What else listens on this machine is left out of the picture.
        let goes_on = is_listening && line.starts_with("     ");
        is_listening = line.starts_with("  listening ") || goes_on;
        if goes_on {
            continue;
        }
        let line = if is_listening { format!("  listening   127.0.0.1:{PORT}") } else { line.to_owned() };
        let class = match line.trim_start().split(' ').next() {
            _ if !line.starts_with(' ') => "title",
            Some("unhealthy") => "bad",
            Some("hint") => "good",
            _ => "plain",
        };
        lines.push(vec![Span(class, line)]);
    }
    expect_picture(
        "diagnose.svg",
        &terminal("A diagnosis: the server speaks TLS, and the flags say plaintext", &lines),
    );
}

#[test]
fn way_of_a_probe() {
    expect_picture("way.svg", &way::draw());
}
