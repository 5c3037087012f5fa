//! Slips of the hand on a command line, and what was meant: the words of a shell where none runs, the flags of other tools, a
//! variable of no flag.

use std::env;

use super::flags;
use crate::{
    outcome::Failure,
    text::{VARIABLE_PREFIX, excerpt, variable},
};

/// The hint where nothing better is known.
pub(super) const HELP: &str = "-help lists all flags";

/// Our flags, and what other tools call them.
const MEANT: &[(&str, &[&str])] = &[
    ("addr", &["address", "host", "hostname", "port", "server", "target", "url"]),
    ("authority", &["host-header", "virtual-host", "vhost"]),
    ("connect-timeout", &["conn-timeout", "connection-timeout", "dial-timeout"]),
    ("timeout", &["max-time", "deadline"]),
    ("rpc-header", &["H", "header", "headers", "rpc-headers", "metadata"]),
    ("tls-ca-cert", &["ca", "ca-cert", "ca-file", "cacert", "tls-ca", "tls-cacert"]),
    ("tls-client-cert", &["cert", "client-cert", "tls-cert"]),
    ("tls-client-key", &["key", "client-key", "tls-key"]),
    ("tls-server-name", &["servername", "server-name", "sni"]),
    ("service", &["svc", "services", "grpc-service"]),
    ("output=json", &["json"]),
    ("q", &["quiet", "silent"]),
    ("v", &["verbose", "debug"]),
];
/// What turns off the verification of certificates, or TLS, elsewhere.
const NO_VERIFY: &[&str] = &["k", "insecure", "insecure-skip-verify", "skip-verify", "tls-skip-verify", "no-verify"];
const PLAINTEXT: &[&str] = &["plaintext", "plain-text", "no-tls", "notls"];
/// How many variables a hint names.
const MAX_VARIABLES: usize = 3;

/// Whether a word is a shell's: an operator, or a redirection.
pub(super) fn is_for_shell(word: &str) -> bool {
    let redirection = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&');
    matches!(word, "||" | "&&" | ";" | "|" | "&") || redirection.starts_with('>')
}

/// The flag that begins with a dash of typography, as a word processor makes it.
pub(super) fn typographic_flag(word: &str) -> Option<&str> {
    let name = word.trim_start_matches(['\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2014}', '\u{2212}']);
    let flag = name.split(['=', ' ']).next()?.trim_start_matches('-');
    (name.len() < word.len() && flags::find(flag).is_some()).then_some(flag)
}

/// The known flag in a word that holds a flag and what should follow it as a word of its own.
pub(super) fn flag_before_blank(flag: &str) -> Option<&'static flags::Flag> {
    let (name, _) = flag.split_once(char::is_whitespace)?;
    flags::find(name)
}

/// What was meant by a boolean's value that Go does not read as one.
pub(super) fn meant_boolean(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "yes" | "y" | "on" | "enable" | "enabled" => Some(true),
        "no" | "n" | "off" | "disable" | "disabled" => Some(false),
        _ => None,
    }
}

/// The message about an unknown flag, and the hint. `nearest` has a similar name. Both names are without dashes.
pub(super) fn unknown_flag(name: &str, nearest: Option<&str>) -> (String, String) {
    let unknown = format!("unknown flag {}", excerpt(&format!("-{name}")));
    let help = HELP.to_owned();
    let meant = MEANT.iter().find(|(_, names)| names.contains(&name)).map(|(meant, _)| *meant);
    // A single letter is similar to everything.
    let nearest = nearest.filter(|_| name.len() > 1);
    match meant.or(nearest) {
        _ if NO_VERIFY.contains(&name) => {
            (unknown, "TLS without verification is -tls -tls-no-verify; plaintext needs no flag".to_owned())
        }
        _ if PLAINTEXT.contains(&name) => {
            (unknown, "leave it out: without -tls, the probe speaks plaintext".to_owned())
        }
        Some(flag) => (format!("{unknown}; did you mean -{flag}?"), help),
        None => (unknown, help),
    }
}

/// Names the variables that look like the probe's and are none: a misspelled one would do nothing, silently.
#[must_use]
pub fn unknown_variables() -> Option<String> {
    let is_known = |name: &str| flags::all().any(|flag| flag.variable().as_deref() == Some(name));
    let names = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<String> =
        names.filter(|name| name.starts_with(VARIABLE_PREFIX) && !is_known(name)).map(|name| excerpt(&name)).collect();
    unknown.sort();
    unknown.truncate(MAX_VARIABLES);
    match unknown.as_slice() {
        [] => None,
        [name] => Some(match meant_variable(name) {
            Some(meant) => format!("{name} is no variable of the probe; did you mean {meant}?"),
            None => format!("{name} is no variable of the probe"),
        }),
        names => Some(format!("{} are no variables of the probe", names.join(", "))),
    }
}

/// The variable of a flag that other tools call so, or that begins as this does.
fn meant_variable(name: &str) -> Option<String> {
    let name = name.strip_prefix(VARIABLE_PREFIX)?.to_ascii_lowercase().replace('_', "-");
    let called_so = MEANT.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(meant, _)| *meant);
    let mut flags = flags::all().filter(|flag| flag.variable().is_some() && flag.name.len() > 1).map(|flag| flag.name);
    let meant = called_so.or_else(|| flags.find(|flag| name.starts_with(flag) || flag.starts_with(&name)))?;
    meant.chars().all(|c| c != '=').then(|| variable(meant))
}

/// Adds them to the hint of a failure.
#[must_use]
pub fn with_unknown_variables(failure: Failure) -> Failure {
    let Some(unknown) = unknown_variables() else { return failure };
    let hint = match &failure.hint {
        Some(hint) if hint != HELP => format!("{hint}; {unknown}"),
        _ => unknown,
    };
    failure.hint(hint)
}
