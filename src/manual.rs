//! The man page and the completions, made from the flags as clap knows them. They are files of the repository; the test
//! below compares them, or writes them.
//!
//! Neither `clap_mangen` nor `clap_complete` knows flags with one dash.

use clap::{Arg, ArgAction, Command, ValueHint};
use roff::{Roff, bold, italic, roman};

use crate::{
    cli::{self, ABOUT, EXIT_CODES, NOTES},
    goflag::needs_value,
};

/// Writes the files.
const UPDATE: &str = "UPDATE=1 cargo test --bin grpc_health_probe manual";

/// What people do, and how.
const EXAMPLES: [(&str, &str); 6] = [
    ("Ask a server on this machine, for no longer than two seconds:", "grpc_health_probe -addr=:50051 -timeout=2s"),
    (
        "Ask about two services, over TLS with a CA of your own:",
        "grpc_health_probe -addr=shop:50051 -tls -tls-ca-cert=ca.pem -service=shop.Cart -service=shop.Payment",
    ),
    (
        "The same with a client certificate, for mutual TLS:",
        "grpc_health_probe -addr=shop:50051 -tls -tls-ca-cert=ca.pem -tls-client-cert=client.pem \
         -tls-client-key=client.key",
    ),
    ("Wait until a server is up:", "grpc_health_probe -addr=shop:50051 -wait=30s"),
    (
        "Tell each change of its status, in JSON, until stopped:",
        "grpc_health_probe -addr=shop:50051 -watch -output=json",
    ),
    (
        "Send a secret that nobody sees in the list of processes:",
        "grpc_health_probe -addr=shop:50051 -rpc-header-file='authorization: /run/secrets/token'",
    ),
];

/// What comes after a flag.
enum Value {
    Nothing,
    File,
    OneOf(Vec<String>),
    Any,
}

impl Value {
    fn of(flag: &Arg) -> Self {
        let values = flag.get_possible_values();
        match flag.get_value_hint() {
            // A boolean's comes after "=" only.
            _ if !needs_value(flag) => Self::Nothing,
            _ if !values.is_empty() => Self::OneOf(values.iter().map(|value| value.get_name().to_owned()).collect()),
            ValueHint::FilePath => Self::File,
            _ => Self::Any,
        }
    }
}

/// All flags with their names, in the order of `-help`.
fn flags(command: &Command) -> impl Iterator<Item = (&str, &Arg)> {
    command.get_arguments().filter_map(|flag| Some((flag.get_long()?, flag)))
}

fn help(flag: &Arg) -> String {
    flag.get_help().map(ToString::to_string).unwrap_or_default()
}

/// What the value is called, if there is one.
fn value_name(flag: &Arg) -> &str {
    flag.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str())
}

fn man_page(command: &Command) -> String {
    let name = command.get_name();
    let mut page = Roff::new();
    // The date is left out: it would be wrong soon.
    page.control("TH", [&name.to_uppercase(), "1", "\"\"", concat!("grpc_health_probe ", env!("CARGO_PKG_VERSION"))]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - ask a gRPC server whether it is healthy"))]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold(name), roman(" [FLAGS] "), italic("HOST:PORT")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(ABOUT)]);
    page.text([roman("What the server answered goes to standard output, errors and hints to standard error.")]);

    page.control("SH", ["OPTIONS"]);
    page.text([roman(NOTES.trim_end())]);
    let mut heading = None;
    for (name, flag) in flags(command) {
        if flag.get_help_heading() != heading {
            heading = flag.get_help_heading();
            page.control("SS", heading);
        }
        page.control("TP", []);
        match value_name(flag) {
            "" => page.text([bold(format!("-{name}"))]),
            value => page.text([bold(format!("-{name}")), roman(" "), italic(value)]),
        };
        page.text([roman(help(flag))]);
        if let Some(variable) = cli::told_variable(name) {
            page.control("br", []).text([roman(variable)]);
        }
    }

    page.control("SH", ["EXIT STATUS"]);
    page.control("EX", []).text([roman(EXIT_CODES.trim_end())]).control("EE", []);
    page.control("SH", ["EXAMPLES"]);
    for (purpose, line) in EXAMPLES {
        page.control("TP", []).text([roman(purpose)]);
        page.text([bold(line)]);
    }
    format!(".\\\" Made by src/manual.rs\n{}", page.render())
}

fn bash(command: &Command) -> String {
    let (mut all, mut files, mut any, mut choices) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for (name, flag) in flags(command) {
        let name = format!("-{name}");
        match Value::of(flag) {
            Value::Nothing => {}
            Value::File => files.push(name.clone()),
            Value::OneOf(values) => choices += &format!("        {name}) words='{}' ;;\n", values.join(" ")),
            Value::Any => any.push(name.clone()),
        }
        all.push(name);
    }
    format!(
        r#"# bash completion for grpc_health_probe, made by src/manual.rs

_grpc_health_probe() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} flag=${{COMP_WORDS[COMP_CWORD - 1]}} words='{all}'
    # -flag=value is three words here. A boolean has its value after "=" only.
    if [[ $word == = ]]; then
        word= words='true false'
    elif [[ $flag == = ]]; then
        flag=${{COMP_WORDS[COMP_CWORD - 2]}} words='true false'
    fi
    case $flag in
{choices}        {files})
            # Bash itself completes files best; versions before 4 cannot be asked to.
            compopt -o default 2>/dev/null
            words= ;;
        {any}) words= ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}

complete -F _grpc_health_probe grpc_health_probe
"#,
        all = all.join(" "),
        files = files.join(" | "),
        any = any.join(" | "),
    )
}

/// In single quotes, where colons and brackets part what `_arguments` is told.
fn escaped_for_zsh(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '\\' | '[' | ']' | ':' => escaped.extend(['\\', character]),
            '\'' => escaped += r"'\''",
            _ => escaped.push(character),
        }
    }
    escaped
}

fn zsh(command: &Command) -> String {
    let mut text = "#compdef grpc_health_probe\n# Made by src/manual.rs\n\n_arguments -S \\\n".to_owned();
    for (name, flag) in flags(command) {
        let repeatable = if matches!(flag.get_action(), ArgAction::Append) { "*" } else { "" };
        let help = escaped_for_zsh(&help(flag));
        let value = escaped_for_zsh(value_name(flag).trim_matches('\''));
        let value = match Value::of(flag) {
            Value::Nothing => format!("[{help}]"),
            Value::File => format!("=[{help}]:{value}:_files"),
            Value::OneOf(values) => format!("=[{help}]:{value}:({})", values.join(" ")),
            Value::Any => format!("=[{help}]:{value}: "),
        };
        text += &format!("    '{repeatable}-{name}{value}' \\\n");
    }
    // Nothing can be offered, which a message instead of nothing would tell for flags, too.
    text + "    '::HOST\\:PORT:()'\n"
}

fn fish(command: &Command) -> String {
    let mut text =
        "# fish completion for grpc_health_probe, made by src/manual.rs\n\ncomplete -c grpc_health_probe -f\n"
            .to_owned();
    for (name, flag) in flags(command) {
        let help = help(flag).replace('\\', r"\\").replace('\'', r"\'");
        let value = match Value::of(flag) {
            Value::Nothing => String::new(),
            Value::File => " -r -F".to_owned(),
            Value::OneOf(values) => format!(" -x -a '{}'", values.join(" ")),
            Value::Any => " -x".to_owned(),
        };
        text += &format!("complete -c grpc_health_probe -o {name}{value} -d '{help}'\n");
    }
    text
}

mod tests {
    use std::{env, fs, path::Path};

    use super::{EXAMPLES, UPDATE, bash, cli, fish, flags, man_page, zsh};

    #[test]
    fn the_files_are_what_the_flags_say() {
        let command = cli::told_command();
        for (path, text) in [
            ("docs/man/grpc_health_probe.1", man_page(&command)),
            ("completions/grpc_health_probe.bash", bash(&command)),
            ("completions/_grpc_health_probe", zsh(&command)),
            ("completions/grpc_health_probe.fish", fish(&command)),
        ] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            if env::var_os("UPDATE").is_some() {
                fs::write(&file, &text).expect("the directory is there");
            }
            let is_same = fs::read_to_string(&file).is_ok_and(|found| found == text);
            assert!(is_same, "{path} is not what the flags say; to write it anew: {UPDATE}");
        }
    }

    #[test]
    fn the_examples_have_flags_that_there_are() {
        let command = cli::told_command();
        for word in EXAMPLES.iter().flat_map(|(_, line)| line.split_whitespace()) {
            let Some(flag) = word.strip_prefix('-').and_then(|flag| flag.split('=').next()) else { continue };
            assert!(flags(&command).any(|(name, _)| name == flag), "{word}");
        }
    }
}
