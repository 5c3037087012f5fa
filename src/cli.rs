//! The command line and the environment: which flags there are, what they say about themselves, and what the user
//! gave, as text.

use std::{env, ffi::OsString};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};
#[cfg(test)]
use clap::{ValueHint, builder::PossibleValuesParser};

use crate::{
    goflag,
    outcome::{Failure, Kind},
    text::shown,
};

/// What this is, what it was made from and for: the first is as the Go tool tells it.
const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), "; commit ", env!("COMMIT"), "; target ", env!("TARGET"), "\n");

/// The variable of a flag is this and the flag's name in upper snake case.
const VARIABLE_PREFIX: &str = "GRPC_HEALTH_PROBE_";

/// What the program does, in a sentence.
pub(crate) const ABOUT: &str =
    "Asks a gRPC server whether it is healthy (grpc.health.v1.Health/Check), and says why when it is not.";

/// The exit codes, under the flag that chooses among them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes (-exit-codes)                         docker  detailed
  every asked service is SERVING                      0         0
  bad arguments, unreadable or unusable files         1         1
  not connected: resolve, connect, TLS, HTTP/2        1         2
  connected, the RPC failed or timed out              1         3
  answered, but not SERVING                           1         4
  no SVID from the Workload API                       1        20
";

/// What holds for all flags.
pub(crate) const NOTES: &str = "\
Flags may also be written with two dashes. Booleans take a value after \"=\" only: -tls=false. A flag wins over its
variable, and the variable of a repeatable flag has one value on each line.
";

/// What the command line asks for.
pub(crate) enum Request {
    /// To probe.
    Probe(Box<Arguments>),
    /// To print this text and be done, `-help` and `-version`.
    Print(String),
}

/// One value that the user gave.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) text: String,
    /// What to call it in messages: `-addr`, or the variable it came from.
    pub(crate) name: String,
}

/// Everything the user said, one to one with the flags. Empty values count as not given.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) addr: Option<Given>,
    pub(crate) service: Vec<Given>,
    pub(crate) rpc_header: Vec<Given>,
    pub(crate) rpc_header_file: Vec<Given>,
    pub(crate) user_agent: Option<Given>,
    pub(crate) gzip: Option<Given>,
    pub(crate) connect_timeout: Option<Given>,
    pub(crate) rpc_timeout: Option<Given>,
    pub(crate) timeout: Option<Given>,
    pub(crate) wait: Option<Given>,
    pub(crate) watch: Option<Given>,
    pub(crate) list: Option<Given>,
    pub(crate) all_addresses: Option<Given>,
    pub(crate) tls: Option<Given>,
    pub(crate) tls_no_verify: Option<Given>,
    pub(crate) tls_ca_cert: Option<Given>,
    pub(crate) tls_client_cert: Option<Given>,
    pub(crate) tls_client_key: Option<Given>,
    pub(crate) tls_server_name: Option<Given>,
    pub(crate) spiffe: Option<Given>,
    pub(crate) spiffe_id: Option<Given>,
    pub(crate) alts: Option<Given>,
    pub(crate) exit_codes: Option<Given>,
    pub(crate) output: Option<Given>,
    pub(crate) quiet: Option<Given>,
    pub(crate) verbose: Option<Given>,
}

/// What no flag allows.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
    /// Whether it is to be told in JSON, as far as the rest of the command line tells.
    pub(crate) json: bool,
}

/// Reads the command line (without the program's name) and the environment.
///
/// # Errors
/// What no flag allows, named as the user wrote it. What the values mean is for `config` to judge.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request, Refusal> {
    let usage = |message: String| Failure::new(Kind::Usage, message).hint("-help lists all flags");
    let command = command();
    let mut not_text = None;
    let words = words.into_iter().enumerate().map(|(index, word)| {
        word.into_string().unwrap_or_else(|_| {
            // Not shown: it may be a secret.
            not_text = Some(format!("argument {} is not UTF-8", index + 1));
            String::new()
        })
    });
    let (normalised, error) = goflag::normalise(words.collect::<Vec<_>>(), &command);
    let json = asks_for_json(&normalised);
    let refuse = |failure| Refusal { failure, json };
    if let Some(message) = not_text.or(error.map(|error| error.to_string())) {
        return Err(refuse(usage(message)));
    }
    let matches = command.try_get_matches_from(normalised);
    let mut matches = matches.map_err(|error| refuse(usage(explain(&error))))?;
    if matches.get_flag("help") {
        return Ok(Request::Print(help()));
    }
    let version = matches.get_one::<String>("version").map_or(Ok(false), |text| goflag::parse_bool(text));
    if version.map_err(|error| refuse(usage(format!("-version: {error}"))))? {
        return Ok(Request::Print(VERSION.to_owned()));
    }
    arguments(&mut matches).map(|arguments| Request::Probe(Box::new(arguments))).map_err(refuse)
}

/// Whether a command line that may not be readable asks for JSON.
fn asks_for_json(normalised: &[String]) -> bool {
    let flags = normalised.iter().take_while(|word| *word != "--");
    match flags.filter_map(|word| word.strip_prefix("--output=")).last() {
        Some(output) => output == "json",
        None => env::var_os(variable("output")).is_some_and(|output| output == "json"),
    }
}

fn arguments(matches: &mut ArgMatches) -> Result<Arguments, Failure> {
    let mut given = |flag: &str| -> Vec<Given> {
        let given = matches.remove_many::<String>(flag).into_iter().flatten().filter(|text| !text.is_empty());
        given.map(|text| Given { text, name: format!("-{flag}") }).collect()
    };
    let positional = given("address").pop();
    let mut any = |flag: &str, is_repeatable: bool| -> Result<Vec<Given>, Failure> {
        let given = given(flag);
        if given.is_empty() { from_environment(flag, is_repeatable) } else { Ok(given) }
    };
    let (service, rpc_header) = (any("service", true)?, any("rpc-header", true)?);
    let rpc_header_file = any("rpc-header-file", true)?;
    let mut one = |flag: &str| any(flag, false).map(|mut given| given.pop());
    let addr = match (positional, one("addr")?) {
        (Some(_), Some(addr)) if addr.name == "-addr" => {
            return Err(Failure::new(Kind::Usage, "the address is given twice: with -addr and without"));
        }
        (Some(positional), _) => Some(Given { name: "the address".to_owned(), ..positional }),
        (None, addr) => addr,
    };
    Ok(Arguments {
        addr,
        user_agent: one("user-agent")?,
        gzip: one("gzip")?,
        connect_timeout: one("connect-timeout")?,
        rpc_timeout: one("rpc-timeout")?,
        timeout: one("timeout")?,
        wait: one("wait")?,
        watch: one("watch")?,
        list: one("list")?,
        all_addresses: one("all-addresses")?,
        tls: one("tls")?,
        tls_no_verify: one("tls-no-verify")?,
        tls_ca_cert: one("tls-ca-cert")?,
        tls_client_cert: one("tls-client-cert")?,
        tls_client_key: one("tls-client-key")?,
        tls_server_name: one("tls-server-name")?,
        spiffe: one("spiffe")?,
        spiffe_id: one("spiffe-id")?,
        alts: one("alts")?,
        exit_codes: one("exit-codes")?,
        output: one("output")?,
        quiet: one("q")?,
        verbose: one("v")?,
        service,
        rpc_header,
        rpc_header_file,
    })
}

/// The value of a flag's variable; of a repeatable one, a value on each line.
fn from_environment(flag: &str, is_repeatable: bool) -> Result<Vec<Given>, Failure> {
    let name = variable(flag);
    let Some(text) = env::var_os(&name) else { return Ok(Vec::new()) };
    let text = text.into_string().map_err(|_| Failure::new(Kind::Usage, format!("{name} is not UTF-8")))?;
    let given = |text: &str| Given { text: text.to_owned(), name: name.clone() };
    Ok(if is_repeatable {
        text.lines().filter(|line| !line.is_empty()).map(given).collect()
    } else {
        Some(text.as_str()).filter(|text| !text.is_empty()).map(given).into_iter().collect()
    })
}

/// Each start asks for all of them, so it takes no detour.
fn variable(flag: &str) -> String {
    let mut name = [VARIABLE_PREFIX, flag].concat().into_bytes();
    for byte in &mut name[VARIABLE_PREFIX.len()..] {
        *byte = if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
    }
    String::from_utf8(name).expect("flags are ASCII")
}

/// A clap error in this program's words, with flags as the user writes them.
fn explain(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    let single_dash = |flag: &str| {
        let flag = flag.split(['=', ' ']).next().unwrap_or(flag);
        shown(flag.strip_prefix('-').filter(|flag| flag.starts_with('-')).unwrap_or(flag))
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if argument.starts_with('-') => match context(ContextKind::SuggestedArg) {
            Some(nearest) => {
                format!("unknown flag {}; did you mean {}?", single_dash(argument), single_dash(nearest))
            }
            None => format!("unknown flag {}", single_dash(argument)),
        },
        // Not repeated: it may be the rest of a header that was not quoted.
        ErrorKind::UnknownArgument => {
            "an argument too many: there is one address (and values with blanks need quotes)".to_owned()
        }
        ErrorKind::TooManyValues => format!("{} takes no value", single_dash(argument)),
        kind => format!("{}: {kind}", single_dash(argument)),
    }
}

/// A flag, as clap and `-help` are told of it.
struct Flag {
    name: &'static str,
    takes: Takes,
    help: &'static str,
}

/// What a flag takes, and how `-help` calls it: `FILE`, or all that it may be, as `text|json`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Boolean,
    One(&'static str),
    /// May be given more than once.
    Many(&'static str),
}

const fn flag(name: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { name, takes, help }
}

use Takes::{Boolean, Many, Nothing, One};

/// All flags, under their headings. Their names are Go's; `goflag` mends the dashes.
const FLAGS: [(&str, &[Flag]); 4] = [
    (
        "What to check",
        &[
            flag(
                "addr",
                One("HOST:PORT"),
                "The server, also without -addr: host:port, :port (this machine), [::1]:port, unix:/path, dns:///host:port, \
                 unix-abstract:name",
            ),
            flag(
                "service",
                Many("NAME"),
                "Service to ask about; not given: the server as a whole. Repeatable: healthy only if all are",
            ),
            flag("watch", Boolean, "Health/Watch: the status and each change of it, until stopped"),
            flag("list", Boolean, "Health/List: all services and their statuses"),
            flag("all-addresses", Boolean, "Ask at each address that the name has; healthy only if all are"),
            flag("rpc-header", Many("'NAME: VALUE'"), "Request metadata. Repeatable"),
            flag("rpc-header-file", Many("'NAME: PATH'"), "The same, the value read from a file. Repeatable"),
            flag("user-agent", One("TEXT"), "The user-agent header [default: grpc_health_probe]"),
            flag("gzip", Boolean, "Compress the request, accept a compressed answer"),
        ],
    ),
    (
        "Time (as in 300ms, 1.5s, 1m30s)",
        &[
            flag(
                "connect-timeout",
                One("DURATION"),
                "Resolve, connect, TLS and HTTP/2 together; if given, a refused address is tried until then \
                 [default: 1s]",
            ),
            flag("rpc-timeout", One("DURATION"), "The request and its answer [default: 1s]"),
            flag("timeout", One("DURATION"), "Bound on the whole run; keep it below the orchestrator's own"),
            flag("wait", One("DURATION"), "Probe again, on new connections, until healthy or this is over"),
        ],
    ),
    (
        "TLS",
        &[
            flag("tls", Boolean, "Use TLS"),
            flag("tls-ca-cert", One("FILE"), "Trust these certificates instead of the system's (PEM)"),
            flag("tls-client-cert", One("FILE"), "Client certificate, with its chain (PEM)"),
            flag("tls-client-key", One("FILE"), "Private key of the client certificate (PEM)"),
            flag("tls-server-name", One("NAME"), "Name to verify and to send, instead of the address's host"),
            flag("tls-no-verify", Boolean, "INSECURE: accept any certificate"),
            flag("spiffe", Boolean, "mTLS with the X.509-SVID from the API at SPIFFE_ENDPOINT_SOCKET"),
            flag("spiffe-id", One("ID"), "The server's SPIFFE ID, or its trust domain"),
            flag("alts", Boolean, "Google ALTS (not supported yet)"),
        ],
    ),
    (
        "Output",
        &[
            flag("exit-codes", One("docker|detailed"), "0 or 1, or one for each layer that can fail [default: docker]"),
            flag("output", One("text|json"), "In words or as JSON [default: text]"),
            flag("q", Boolean, "Print nothing when healthy"),
            flag("v", Boolean, "Print the options, then each phase with its time"),
            flag("version", Boolean, "Print version, commit and target"),
            flag("help", Nothing, "Print this help"),
        ],
    ),
];

/// What clap needs to read a command line. Each start pays for it, so it knows nothing that only `-help` tells.
fn command() -> Command {
    let argument = |flag: &Flag| {
        let argument = Arg::new(flag.name).long(flag.name);
        match flag.takes {
            // The only one of this kind is -help.
            Nothing => argument.alias("h").action(ArgAction::SetTrue),
            Boolean => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
            One(_) => argument.action(ArgAction::Set),
            Many(_) => argument.action(ArgAction::Append),
        }
    };
    Command::new("grpc_health_probe")
        .no_binary_name(true)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(Arg::new("address"))
        .args(FLAGS.iter().flat_map(|(_, flags)| *flags).map(argument))
}

/// The same with all that `-help` tells of the flags, for the man page and the completions.
#[cfg(test)]
pub(crate) fn told_command() -> Command {
    let flags = FLAGS.iter().flat_map(|(heading, flags)| flags.iter().map(move |flag| (heading, flag)));
    flags.fold(command(), |command, (heading, Flag { name, takes, help })| {
        command.mut_arg(name, |argument| {
            let argument = argument.help_heading(*heading).help(*help);
            let (One(value) | Many(value)) = takes else { return argument };
            let argument = argument.value_name(value);
            match *value {
                "FILE" => argument.value_hint(ValueHint::FilePath),
                value if value.contains('|') => argument.value_parser(PossibleValuesParser::new(value.split('|'))),
                _ => argument,
            }
        })
    })
}

/// The text of `-help`, with flags in the form that people write, and their variables.
fn help() -> String {
    let mut text = format!("{ABOUT}\n\nUsage: grpc_health_probe [FLAGS] HOST:PORT\n");
    for (heading, flags) in FLAGS {
        text += &format!("\n{heading}:\n");
        for Flag { name, takes, help } in flags {
            let usage = match takes {
                Nothing | Boolean => format!("-{name}"),
                One(value) | Many(value) => format!("-{name} {value}"),
            };
            let variable = told_variable(name).unwrap_or_default();
            text += format!("  {usage:<32}{variable}").trim_end();
            text += &format!("\n      {help}\n");
        }
    }
    text + &format!("\n{EXIT_CODES}\n{NOTES}")
}

/// The variable of a flag, as far as it is of use.
pub(crate) fn told_variable(flag: &str) -> Option<String> {
    (!matches!(flag, "help" | "version")).then(|| variable(flag))
}
