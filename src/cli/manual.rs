//! Generates the man page and the completions from the table of flags. They are files in the repository. The test below
//! compares them with the table, or writes them.
//!
//! Neither `clap_mangen` nor `clap_complete` supports flags with one dash.

use roff::{Roff, bold, italic, roman};

use super::{
    flags::{FLAGS, Flag, Takes, all},
    help::{ABOUT, EXIT_CODES, NOTES},
};

/// The command that writes the files again.
const UPDATE: &str = "UPDATE=1 cargo test --lib manual";

/// The most common uses.
const EXAMPLES: [(&str, &str); 6] = [
    ("Ask a server on this machine, for at most two seconds:", "grpc_health_probe -addr=:50051 -timeout=2s"),
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
        "Print each change of its status, in JSON, until stopped:",
        "grpc_health_probe -addr=shop:50051 -watch -output=json",
    ),
    (
        "Send a secret without showing it in the list of processes:",
        "grpc_health_probe -addr=shop:50051 -rpc-header-file='authorization: /run/secrets/token'",
    ),
];

/// What completes the value of a flag.
enum Value {
    Nothing,
    File,
    OneOf(Vec<&'static str>),
    Any,
}

impl Value {
    fn of(flag: &Flag) -> Self {
        match flag.value_name() {
            // A boolean's value comes after "=" only.
            None => Self::Nothing,
            Some("FILE") => Self::File,
            Some(values) if values.contains('|') => Self::OneOf(values.split('|').collect()),
            Some(_) => Self::Any,
        }
    }
}

fn man_page() -> String {
    let name = "grpc_health_probe";
    let mut page = Roff::new();
    // Without a date, which would soon be wrong.
    page.control("TH", [&name.to_uppercase(), "1", "\"\"", concat!("grpc_health_probe ", env!("CARGO_PKG_VERSION"))]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - ask a gRPC server whether it is healthy"))]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold(name), roman(" [FLAGS] "), italic("HOST:PORT")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(ABOUT)]);
    page.text([roman("Results go to standard output, errors and hints to standard error.")]);

    page.control("SH", ["OPTIONS"]);
    page.text([roman(NOTES.trim_end())]);
    for (heading, flags) in FLAGS {
        page.control("SS", [*heading]);
        for flag in *flags {
            page.control("TP", []);
            match flag.value_name() {
                None => page.text([bold(format!("-{}", flag.name))]),
                Some(value) => page.text([bold(format!("-{}", flag.name)), roman(" "), italic(value)]),
            };
            page.text([roman(flag.help)]);
            if let Some(variable) = flag.variable() {
                page.control("br", []).text([roman(variable)]);
            }
        }
    }

    page.control("SH", ["EXIT STATUS"]);
    page.control("EX", []).text([roman(EXIT_CODES.trim_end())]).control("EE", []);
    page.control("SH", ["EXAMPLES"]);
    for (purpose, line) in EXAMPLES {
        page.control("TP", []).text([roman(purpose)]);
        page.text([bold(line)]);
    }
    format!(".\\\" Made by src/cli/manual.rs\n{}", page.render())
}

fn bash() -> String {
    let (mut names, mut files, mut any, mut choices) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for flag in all() {
        let name = format!("-{}", flag.name);
        match Value::of(flag) {
            Value::Nothing => {}
            Value::File => files.push(name.clone()),
            Value::OneOf(values) => choices += &format!("        {name}) words='{}' ;;\n", values.join(" ")),
            Value::Any => any.push(name.clone()),
        }
        names.push(name);
    }
    format!(
        r#"# bash completion for grpc_health_probe, made by src/cli/manual.rs

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
        all = names.join(" "),
        files = files.join(" | "),
        any = any.join(" | "),
    )
}

/// Escapes text in single quotes, where colons and brackets separate the arguments of `_arguments`.
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

fn zsh() -> String {
    let mut text = "#compdef grpc_health_probe\n# Made by src/cli/manual.rs\n\n_arguments -S \\\n".to_owned();
    for flag in all() {
        let name = flag.name;
        let repeatable = if matches!(flag.takes, Takes::Many(..)) { "*" } else { "" };
        let help = escaped_for_zsh(flag.help);
        let value = escaped_for_zsh(flag.value_name().unwrap_or_default().trim_matches('\''));
        let value = match Value::of(flag) {
            Value::Nothing => format!("[{help}]"),
            Value::File => format!("=[{help}]:{value}:_files"),
            Value::OneOf(values) => format!("=[{help}]:{value}:({})", values.join(" ")),
            Value::Any => format!("=[{help}]:{value}: "),
        };
        text += &format!("    '{repeatable}-{name}{value}' \\\n");
    }
    // Without a message, which zsh would also show for flags.
    text + "    '::HOST\\:PORT:()'\n"
}

fn fish() -> String {
    let mut text =
        "# fish completion for grpc_health_probe, made by src/cli/manual.rs\n\ncomplete -c grpc_health_probe -f\n"
            .to_owned();
    for flag in all() {
        let name = flag.name;
        let help = flag.help.replace('\\', r"\\").replace('\'', r"\'");
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

    use super::{EXAMPLES, UPDATE, all, bash, fish, man_page, zsh};

    #[test]
    fn man_page_and_completions_match_the_flags() {
        for (path, text) in [
            ("docs/man/grpc_health_probe.1", man_page()),
            ("completions/grpc_health_probe.bash", bash()),
            ("completions/_grpc_health_probe", zsh()),
            ("completions/grpc_health_probe.fish", fish()),
        ] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            if env::var_os("UPDATE").is_some() {
                fs::write(&file, &text).expect("the directory is there");
            }
            let is_same = fs::read_to_string(&file).is_ok_and(|found| found == text);
            assert!(is_same, "{path} does not match the flags; to write it again: {UPDATE}");
        }
    }

    #[test]
    fn examples_use_known_flags() {
        for word in EXAMPLES.iter().flat_map(|(_, line)| line.split_whitespace()) {
            let Some(flag) = word.strip_prefix('-').and_then(|flag| flag.split('=').next()) else { continue };
            assert!(all().any(|known| known.name == flag), "{word}");
        }
    }
}
