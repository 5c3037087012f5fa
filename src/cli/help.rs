//! The texts of `-help` and `-version`.

use super::flags::FLAGS;
use crate::text::VARIABLE_PREFIX;

/// The version, the commit and the target: the first two as the Go tool prints them.
pub(super) const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), "; commit ", env!("COMMIT"), "; target ", env!("TARGET"), "\n");

/// What the program does, in a sentence.
pub(super) const ABOUT: &str =
    "Asks a gRPC server whether it is healthy (grpc.health.v1.Health/Check), and says why when it is not.";

/// The forms of an address.
pub(super) const ADDRESSES: &str = "  host:port, :port (this machine), [::1]:port, ipv4:127.0.0.1:port,
  ipv6:[::1]:port, dns:///host:port, passthrough:///host:port,
  unix:path, unix:///path, unix-abstract:name
";

/// Two common uses.
const EXAMPLES: &str = "  grpc_health_probe :50051
  grpc_health_probe -tls -service=shop.Cart -timeout=2s shop.example:443
";

/// The exit codes.
pub(super) const EXIT_CODES: &str = "\
Exit codes (-exit-codes)                         docker  detailed
  every asked service is SERVING                      0         0
  bad arguments, unreadable or unusable files         1         1
  not connected: resolve, connect, TLS, HTTP/2        1         2
  connected, the RPC failed or timed out              1         3
  answered, but not SERVING                           1         4
  no SVID from the Workload API                       1        20
";

/// Notes that apply to all flags.
pub(super) const NOTES: &str = "\
Two dashes work as well. A boolean has its value after \"=\" only: -tls=false.
";

/// The widest line, in characters.
const WIDTH: usize = 80;
/// Where the texts of flags begin.
const COLUMN: usize = 26;

/// The text of `-help`.
pub(super) fn help() -> String {
    let variables = format!(
        "Each flag but -version and -help has a variable: {VARIABLE_PREFIX} and its name in upper snake case, as in \
         {VARIABLE_PREFIX}TLS_CA_CERT. The flag wins. That of a repeatable flag has one value on each line."
    );
    let mut text = wrapped(ABOUT, 0);
    text += &format!("\nUsage: grpc_health_probe [FLAGS] HOST:PORT\n\nExamples:\n{EXAMPLES}");
    for (heading, flags) in FLAGS {
        text += &format!("\n{heading}:\n");
        for flag in *flags {
            let usage = match flag.value_name() {
                None => format!("  -{}", flag.name),
                Some(value) => format!("  -{} {value}", flag.name),
            };
            let help = wrapped(flag.help, COLUMN);
            // Text begins on the same line if there is room for it.
            text += &if usage.len() < COLUMN {
                format!("{usage:COLUMN$}{}", help.trim_start())
            } else {
                format!("{usage}\n{help}")
            };
        }
    }
    text + &format!("\nAddresses:\n{ADDRESSES}\n{EXIT_CODES}\n{NOTES}{}", wrapped(&variables, 0))
}

/// Text in lines that are not too wide, each after `indent` blanks.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if indent + line.len() + 1 + word.len() <= WIDTH => *line += &format!(" {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    let before = " ".repeat(indent);
    before.clone() + &lines.join(&format!("\n{before}")) + "\n"
}
