//! A command line as it may be shown: the user's, and the one that the user is advised to use.

use serde::Serialize;

/// One flag, with its value if it has one. Secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Argument {
    /// Its name without dashes.
    pub(crate) flag: &'static str,
    pub(crate) value: Option<String>,
    /// The environment variable that gave it, if one did.
    pub(crate) variable: Option<String>,
}

/// The flags of a probe, without those that say how to report.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommandLine {
    pub(crate) arguments: Vec<Argument>,
    /// Whether a value is masked, so that the user has to put it in.
    pub(crate) is_masked: bool,
    /// What is said of variables that look like the probe's and are none.
    pub(crate) unknown_variables: Option<String>,
}

/// The flags that name files for TLS.
const FILE_FLAGS: [&str; 3] = ["tls-ca-cert", "tls-client-cert", "tls-client-key"];
/// The flags that say how to use TLS or ALTS.
const SECURITY_FLAGS: [&str; 11] = [
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
];

impl CommandLine {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.arguments.iter().any(|argument| argument.flag == flag)
    }

    pub(crate) fn value(&self, flag: &str) -> Option<&str> {
        self.arguments.iter().find(|argument| argument.flag == flag)?.value.as_deref()
    }

    /// The files for TLS whose paths hold in one directory only.
    pub(super) fn relative_files(&self) -> impl Iterator<Item = &str> {
        let files = self.arguments.iter().filter(|argument| FILE_FLAGS.contains(&argument.flag));
        files.filter_map(|argument| argument.value.as_deref()).filter(|path| !path.starts_with('/'))
    }

    /// Sets a flag, in its old place if it is there.
    pub(super) fn set(&mut self, flag: &'static str, value: Option<&str>) {
        let new = Argument { flag, value: value.map(str::to_owned), variable: None };
        match self.arguments.iter_mut().find(|argument| argument.flag == flag) {
            Some(argument) => *argument = new,
            None => self.arguments.push(new),
        }
    }

    /// Replaces one value of a repeatable flag, or leaves it out.
    pub(super) fn replace(&mut self, flag: &str, old: &str, new: Option<&str>) {
        let is_it = |argument: &Argument| argument.flag == flag && argument.value.as_deref() == Some(old);
        match new {
            Some(new) => {
                let found = self.arguments.iter_mut().filter(|argument| is_it(argument));
                found.for_each(|argument| argument.value = Some(new.to_owned()));
            }
            None => self.arguments.retain(|argument| !is_it(argument)),
        }
    }

    /// Leaves out all that keeps it from speaking plaintext.
    pub(super) fn remove_security(&mut self) {
        self.arguments.retain(|argument| !SECURITY_FLAGS.contains(&argument.flag));
    }

    /// The words after the program's name.
    pub(crate) fn words(&self) -> Vec<String> {
        let word = |Argument { flag, value, .. }: &Argument| match value {
            Some(value) => format!("-{flag}={value}"),
            None => format!("-{flag}"),
        };
        self.arguments.iter().map(word).collect()
    }
}

/// A word as a POSIX shell reads it.
pub(crate) fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    match word.split_once('=').filter(|(flag, _)| flag.starts_with('-') && flag.chars().all(is_plain)) {
        Some((flag, value)) => format!("{flag}='{}'", value.replace('\'', r"'\''")),
        None => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        for (word, expected) in [
            ("-addr=[::1]:50051", "-addr='[::1]:50051'"),
            ("-addr=unix:/run/api.sock", "-addr=unix:/run/api.sock"),
            ("-rpc-header=x-user: it's me", r"-rpc-header='x-user: it'\''s me'"),
            ("", "''"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(shell_word(word), expected);
        }
    }

    #[test]
    fn flags_keep_their_places() {
        let argument = |flag, value: Option<&str>| Argument { flag, value: value.map(str::to_owned), variable: None };
        let arguments = vec![argument("addr", Some("a:1")), argument("tls", None), argument("gzip", None)];
        let mut line = CommandLine { arguments, ..CommandLine::default() };
        line.set("addr", Some("b:2"));
        line.set("service", Some("x"));
        line.remove_security();
        line.replace("service", "x", Some("y"));
        line.replace("service", "z", None);
        assert_eq!(line.words(), ["-addr=b:2", "-gzip", "-service=y"]);
    }
}
