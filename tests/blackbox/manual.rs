//! The bash completions. `src/cli/manual.rs` generates them; `.ci/check-manual` tests the other shells.

use std::process::Command;

use crate::support::probe::Probe;

/// What bash offers to complete the last of these arguments.
fn completed(words: &[&str]) -> String {
    let script = "
        set -u
        source completions/grpc_health_probe.bash
        complete -p grpc_health_probe >/dev/null || exit
        COMP_WORDS=(grpc_health_probe \"$@\") COMP_CWORD=$#
        _grpc_health_probe
        echo \"${COMPREPLY[*]}\"
    ";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"]).args(words).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = bash.output().expect("bash is installed");
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[test]
fn bash_completes_flags_and_values_of_flags() {
    for (words, offered) in [
        (&["-tls-c"][..], "-tls-ca-cert -tls-client-cert -tls-client-key"),
        (&["-addr", "=", "localhost", ":", "50051", "-wa"], "-watch -wait"),
        (&["-output", ""], "text json"),
        (&["-output", "="], "text json"),
        (&["-output", "=", "j"], "json"),
        (&["-exit-codes", "de"], "detailed"),
        (&["-output", "json", "-tls-no"], "-tls-no-verify -tls-no-alpn"),
        (&["-tls", "="], "true false"),
        (&["-addr", ""], ""),
        (&["-addr", "="], ""),
        (&["--no-such"], ""),
        (&["--tls-c"], "--tls-ca-cert --tls-client-cert --tls-client-key"),
        (&["--output", ""], "text json"),
        (&["--output", "=", "j"], "json"),
        (&["--addr", "=", "localhost", ":", "50051", "--wa"], "--watch --wait"),
        (&["--tls", "="], "true false"),
        (&["--addr", ""], ""),
    ] {
        assert_eq!(completed(words), offered, "{words:?}");
    }
}

#[test]
fn bash_completes_every_flag() {
    let help = Probe::new(["-help"]).run().stdout;
    let flags = help.lines().filter(|line| line.starts_with("  -")).filter_map(|line| line.split_whitespace().next());
    let flags: Vec<&str> = flags.collect();
    assert_eq!(completed(&["-"]), flags.join(" "));
    assert_eq!(completed(&["--"]), format!("-{}", flags.join(" -")));
}
