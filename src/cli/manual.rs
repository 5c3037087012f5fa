//! Generates the man page and the completions from the table of flags. They are files in the repository. The test below
//! compares them with the table, or writes them.
//!
//! Neither `clap_mangen` nor `clap_complete` supports flags with one dash.

use roff::{Roff, bold, italic, roman};

use super::{
    flags::{FLAGS, Flag, Takes, all},
    help::{ABOUT, ADDRESSES, EXIT_CODES, NOTES},
};

/// The command that writes the files again.
const UPDATE: &str = "UPDATE=1 cargo test --lib manual";

/// The changelog, whose newest release dates the man page.
const CHANGELOG: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/CHANGELOG.md"));
/// The date of the man page before the first release.
const FIRST_DATE: &str = "2026-11-28";

/// The most common uses. Each is one line, so that it can be copied.
const EXAMPLES: [(&str, &str); 8] = [
    ("Ask a server on this machine, for at most two seconds:", "grpc_health_probe -addr=:50051 -timeout=2s"),
    (
        "Ask about two services, over TLS with a CA of your own:",
        "grpc_health_probe -addr=shop:50051 -tls -tls-ca-cert=ca.pem -service=shop.Cart -service=shop.Payment",
    ),
    (
        "With a client certificate, for mutual TLS:",
        "grpc_health_probe -addr=shop:50051 -tls -tls-client-cert=client.pem -tls-client-key=client.key",
    ),
    ("Wait until a server is up:", "grpc_health_probe -addr=shop:50051 -wait=30s"),
    ("Find out why it is not healthy:", "grpc_health_probe -addr=shop:50051 -diagnose"),
    (
        "Ask whether it is alive, for a probe that restarts what hangs:",
        "grpc_health_probe -addr=:50051 -alive -timeout=2s",
    ),
    (
        "Print each change of its status, in JSON, until stopped:",
        "grpc_health_probe -addr=shop:50051 -watch -output=json",
    ),
    (
        "Send a secret without showing it in the list of processes:",
        "grpc_health_probe -addr=shop:50051 -rpc-header-file='authorization: /run/secrets/token'",
    ),
];

/// What the man page says about flags, besides their help.
const MORE: [(&str, &str); 7] = [
    (
        "alive",
        "Any status is an answer, and so are NOT_FOUND, UNIMPLEMENTED, UNAUTHENTICATED, PERMISSION_DENIED and \
         RESOURCE_EXHAUSTED. Other codes, HTTP errors, and answers that break off or never come are none.",
    ),
    ("authority", "It is sent with and without TLS, and changes nothing about what is verified."),
    ("tls-server-name", "Without -authority it is also the :authority. A port in it is part of the authority alone."),
    ("tls-no-alpn", "The certificate is verified as ever. A server that answers another protocol is refused."),
    ("rpc-header-file", "The last newline of the file is dropped."),
    ("tls-ca-cert", "A server's own certificate in it is trusted, too."),
    ("v", "It goes to standard error, with secrets masked."),
];

/// The variables that belong to no flag.
const VARIABLES: [(&str, &str); 3] = [
    ("SPIFFE_ENDPOINT_SOCKET", "Where the Workload API listens, for -spiffe: unix:///path or tcp://ip:port."),
    ("SSL_CERT_FILE, SSL_CERT_DIR", "Trusted certificates in place of the system's, for -tls."),
    ("NO_COLOR, TERM", "Whether -diagnose uses colour at a terminal."),
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

/// The date of the newest release.
fn date() -> &'static str {
    let mut releases = CHANGELOG.lines().filter_map(|line| line.strip_prefix("## [")?.split_once("] - "));
    releases.next().map_or(FIRST_DATE, |(_, date)| date)
}

/// Lines that stay as they are.
fn verbatim(page: &mut Roff, text: &str) {
    page.control("EX", []).text([roman(text.trim_end())]).control("EE", []);
}

/// Which flags a flag needs, and which it cannot be used with, in a sentence each.
fn combinations(flag: &Flag) -> String {
    let dashed = |names: Vec<&str>| names.iter().map(|name| format!("-{name}")).collect::<Vec<_>>().join(", ");
    let is_excluded = |other: &&Flag| other.excludes.contains(&flag.name) || flag.excludes.contains(&other.name);
    let excluded: Vec<&str> = all().filter(is_excluded).map(|other| other.name).collect();
    let mut text = String::new();
    if !flag.needs.is_empty() {
        text += &format!(" Needs {}.", dashed(flag.needs.to_vec()));
    }
    if !excluded.is_empty() {
        text += &format!(" Not with {}.", dashed(excluded));
    }
    text
}

fn man_page() -> String {
    let name = "grpc_health_probe";
    let mut page = Roff::new();
    let version = concat!("grpc_health_probe ", env!("CARGO_PKG_VERSION"));
    page.control("TH", [&name.to_uppercase(), "1", date(), version, "User Commands"]);
    // Without hyphenation and justification, so that what is copied is what was written.
    page.control("nh", []).control("ad", ["l"]);
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
            let more = MORE
                .iter()
                .find(|(name, _)| *name == flag.name)
                .map_or_else(String::new, |(_, more)| format!(" {more}"));
            page.text([roman(format!("{}.{more}{}", flag.help, combinations(flag)))]);
        }
    }

    page.control("SH", ["ADDRESSES"]);
    verbatim(&mut page, ADDRESSES);
    page.control("PP", []).text([roman("A name after dns: may come without a port, which is 443 then.")]);

    page.control("SH", ["EXIT STATUS"]);
    verbatim(&mut page, EXIT_CODES);
    page.control("PP", []);
    page.text([roman(
        "Of several results, the worst counts, in the order 1, 20, 2, 3, 4. With -alive, 0 also stands for a \
         server that answers without being SERVING.",
    )]);

    page.control("SH", ["ENVIRONMENT"]);
    page.text([roman(
        "Each flag has a variable, which counts where the flag is not given. That of a repeatable flag has one \
         value on each line. An empty one counts as not set, but that of -spiffe-id is refused.",
    )]);
    let variables = all().filter_map(|flag| Some(format!("{:<36}-{}", flag.variable()?, flag.name)));
    verbatim(&mut page, &variables.collect::<Vec<_>>().join("\n"));
    for (variable, meaning) in VARIABLES {
        page.control("TP", []).text([bold(variable)]).text([roman(meaning)]);
    }
    page.control("PP", []).text([roman("Variables of proxies are ignored.")]);

    page.control("SH", ["EXAMPLES"]);
    for (purpose, line) in EXAMPLES {
        page.control("PP", []).text([roman(purpose)]).control("RS", ["4"]);
        verbatim(&mut page, line);
        page.control("RE", []);
    }

    page.control("SH", ["SEE ALSO"]);
    page.text([bold("hosts"), roman("(5), "), bold("resolv.conf"), roman("(5), "), bold("openssl-x509"), roman("(1)")]);
    page.control("PP", []);
    page.text([roman(
        "README.md, and docs/failures.md, which lists each kind of failure, with the source; \
         health-checking.md with that of gRPC.",
    )]);
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
    # A flag may have two dashes.
    if [[ $word == --* ]]; then
        words=-${{words// -/ --}}
    fi
    # -flag=value is three words here. A boolean has its value after "=" only.
    if [[ $word == = ]]; then
        word= words='true false'
    elif [[ $flag == = ]]; then
        flag=${{COMP_WORDS[COMP_CWORD - 2]}} words='true false'
    fi
    case ${{flag/#--/-}} in
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
        let before = if matches!(flag.takes, Takes::Many(..)) { "*".to_owned() } else { format!("(-{name} --{name})") };
        let help = escaped_for_zsh(flag.help);
        let value = escaped_for_zsh(flag.value_name().unwrap_or_default().trim_matches('\''));
        let value = match Value::of(flag) {
            Value::Nothing => format!("[{help}]"),
            Value::File => format!("=[{help}]:{value}:_files"),
            Value::OneOf(values) => format!("=[{help}]:{value}:({})", values.join(" ")),
            Value::Any => format!("=[{help}]:{value}: "),
        };
        text += &format!("    '{before}'{{-{name},--{name}}}'{value}' \\\n");
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
        text += &format!("complete -c grpc_health_probe -o {name} -l {name}{value} -d '{help}'\n");
    }
    text
}

mod tests {
    use std::{env, fs, path::Path};

    use super::{EXAMPLES, MORE, UPDATE, all, bash, fish, man_page, zsh};

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
    fn examples_and_remarks_are_about_known_flags() {
        let is_known = |flag: &str| all().any(|known| known.name == flag);
        for word in EXAMPLES.iter().flat_map(|(_, line)| line.split_whitespace()) {
            let Some(flag) = word.strip_prefix('-').and_then(|flag| flag.split('=').next()) else { continue };
            assert!(is_known(flag), "{word}");
        }
        assert!(MORE.iter().all(|(flag, _)| is_known(flag)), "{MORE:?}");
    }

    /// roff prints a plain dash as a hyphen, which a shell does not read as one.
    #[test]
    fn every_dash_of_the_man_page_can_be_copied() {
        let page = man_page();
        for line in page.lines().filter(|line| !line.starts_with(".TH ")) {
            let bare = line.match_indices('-').find(|(at, _)| !line[..*at].ends_with('\\'));
            assert_eq!(bare, None, "{line}");
        }
        for (_, line) in EXAMPLES {
            let line = line.replace('-', r"\-").replace('\'', r"\*(Aq");
            assert!(page.contains(&format!("\n.EX\n{line}\n.EE\n")), "{line}");
        }
    }
}
