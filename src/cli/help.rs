//! The texts of `-help` and `-version`.

use super::flags::FLAGS;

/// The version, the commit and the target: the first two as the Go tool prints them.
pub(super) const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), "; commit ", env!("COMMIT"), "; target ", env!("TARGET"), "\n");

/// What the program does, in a sentence.
pub(super) const ABOUT: &str =
    "Asks a gRPC server whether it is healthy (grpc.health.v1.Health/Check), and says why when it is not.";

/// The exit codes, which the help shows under `-exit-codes`.
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
Flags may also be written with two dashes. Booleans take a value after \"=\" only: -tls=false. A flag wins over its
variable, and the variable of a repeatable flag has one value on each line.
";

/// The text of `-help`.
pub(super) fn help() -> String {
    let mut text = format!("{ABOUT}\n\nUsage: grpc_health_probe [FLAGS] HOST:PORT\n");
    for (heading, flags) in FLAGS {
        text += &format!("\n{heading}:\n");
        for flag in *flags {
            let usage = match flag.value_name() {
                None => format!("-{}", flag.name),
                Some(value) => format!("-{} {value}", flag.name),
            };
            let variable = flag.variable().unwrap_or_default();
            text += format!("  {usage:<32}{variable}").trim_end();
            text += &format!("\n      {}\n", flag.help);
        }
    }
    text + &format!("\n{EXIT_CODES}\n{NOTES}")
}
