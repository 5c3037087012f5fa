//! `-help`: it fits a terminal, and shows all that a newcomer needs; and the variable of each flag in it is read.

use std::{collections::BTreeSet, ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::support::probe::{Probe, RunResult};

fn help() -> RunResult {
    Probe::new(["-help"]).run()
}

/// The flags in the help, without the dash.
fn flags(help: &RunResult) -> Vec<&str> {
    let flags = help.stdout.lines().filter_map(|line| line.strip_prefix("  -")?.split_whitespace().next());
    flags.collect()
}

/// 80 columns are a terminal's, and 4,096 bytes what Docker keeps.
#[test]
fn it_fits_a_terminal() {
    let help = help();
    for line in help.stdout.lines() {
        assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line:?}{help}");
    }
    assert!(help.stdout.len() <= 4096, "{} bytes{help}", help.stdout.len());
}

#[test]
fn it_lists_every_flag_with_a_text() {
    let help = help();
    let flags = flags(&help);
    assert_eq!(flags.len(), flags.iter().collect::<BTreeSet<_>>().len(), "{help}");
    for flag in [
        "addr",
        "service",
        "watch",
        "list",
        "all-addresses",
        "alive",
        "diagnose",
        "rpc-header",
        "rpc-header-file",
        "authority",
        "user-agent",
        "gzip",
        "connect-timeout",
        "rpc-timeout",
        "timeout",
        "wait",
        "tls",
        "tls-ca-cert",
        "tls-client-cert",
        "tls-client-key",
        "tls-server-name",
        "tls-no-verify",
        "tls-no-alpn",
        "spiffe",
        "spiffe-id",
        "alts",
        "alts-handshaker",
        "exit-codes",
        "output",
        "q",
        "v",
        "version",
        "help",
    ] {
        assert!(flags.contains(&flag), "{flag} is missing{help}");
    }
    let lines: Vec<&str> = help.stdout.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("  -")) {
        // The text stands beside the flag, or below it.
        let has_text = pair[0].trim().contains("  ") || pair[1].starts_with("        ");
        assert!(has_text, "{} has no text{help}", pair[0]);
    }
}

#[test]
fn it_shows_addresses_and_exit_codes() {
    let help = help();
    for address in [
        "host:port",
        ":port",
        "[::1]:port",
        "dns:///host:port",
        "passthrough:///host:port",
        "ipv4:127.0.0.1:port",
        "ipv6:[::1]:port",
        "unix:path",
        "unix:///path",
        "unix-abstract:name",
    ] {
        let is_shown = help.stdout.split([' ', ',', '\n']).any(|word| word == address);
        assert!(is_shown, "{address}{help}");
        // It is one that the probe dials.
        let ran = Probe::new([&address.replace("port", "1").replace("host", "127.0.0.1"), "-output=json"]).run();
        assert_ne!(ran.json()["error"]["kind"], "usage", "{ran}");
    }
    for (outcome, docker, detailed) in [
        ("every asked service is SERVING", "0", "0"),
        ("bad arguments, unreadable or unusable files", "1", "1"),
        ("not connected: resolve, connect, TLS, HTTP/2", "1", "2"),
        ("connected, the RPC failed or timed out", "1", "3"),
        ("answered, but not SERVING", "1", "4"),
        ("no SVID from the Workload API", "1", "20"),
    ] {
        let codes = help.stdout.lines().find_map(|line| line.trim().strip_prefix(outcome));
        let codes: Vec<&str> = codes.unwrap_or_default().split_whitespace().collect();
        assert_eq!(codes, [docker, detailed], "{help}{outcome}");
    }
}

#[test]
fn its_examples_are_valid() {
    let help = help();
    let examples: Vec<&str> =
        help.stdout.lines().filter_map(|line| line.strip_prefix("  grpc_health_probe ")).collect();
    assert_eq!(examples.len(), 2, "{help}");
    for example in examples {
        let ran = Probe::new(example.split(' ').chain(["-timeout=1ms", "-output=json"])).run();
        assert_ne!(ran.json()["error"]["kind"], "usage", "{ran}");
    }
}

/// The help says the rule once: the prefix, and the flag's name in upper snake case.
#[test]
fn the_variable_of_each_flag_is_read() {
    let help = help();
    assert!(help.stdout.contains("GRPC_HEALTH_PROBE_TLS_CA_CERT"), "{help}");
    let flags: Vec<&str> = flags(&help).into_iter().filter(|flag| !matches!(*flag, "help" | "version")).collect();
    assert!(flags.len() > 25, "{help}");
    for flag in flags {
        let name = format!("GRPC_HEALTH_PROBE_{}", flag.to_uppercase().replace('-', "_"));
        // A value that no flag takes.
        let ran = Probe::new([""; 0]).env(&name, OsStr::from_bytes(b"\xff")).run();
        ran.expect_error(1, &format!("error: {name} is not UTF-8"));
    }
}
