//! Rewrites Go's flag syntax, which the Go tool uses, to the syntax of clap.

use std::iter::Peekable;

use anyhow::{Result, anyhow, bail};
use clap::{Arg, Command};

use crate::text::excerpt;

/// Rewrites Go's flag syntax to `--name` or `--name=value`, which clap reads.
///
/// In Go `-x` and `--x` are the same flag, the word after a flag that takes a value is always its value, and
/// a boolean takes its value after `=` only. `command` says which flags exist and which of them take a value. Unknown flags
/// are left for clap to refuse, because clap can name the nearest flag.
///
/// Returns the words that could be rewritten, and the error that stopped it, if one did: `---x`, `-=x`, a missing value, or
/// a boolean followed by a word that looks like its value. No error repeats a value, because it may be a secret.
pub(crate) fn normalise(
    words: impl IntoIterator<Item = String>,
    command: &Command,
) -> (Vec<String>, Option<anyhow::Error>) {
    let mut words = words.into_iter().peekable();
    let mut normalised = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            normalised.push(word);
            normalised.extend(words);
            break;
        }
        let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            normalised.push(word);
            continue;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        if flag.starts_with(['-', '=']) {
            let name = excerpt(word.split('=').next().unwrap_or_default());
            return (normalised, Some(anyhow!("bad flag syntax: {name}")));
        }
        match join_value(flag, command, &mut words) {
            Ok(joined) => normalised.push(joined),
            Err(error) => return (normalised, Some(error)),
        }
    }
    (normalised, None)
}

/// Rewrites one flag for clap. Consumes the next word if that is the flag's value.
fn join_value(flag: &str, command: &Command, words: &mut Peekable<impl Iterator<Item = String>>) -> Result<String> {
    let Some(known) = command.get_arguments().find(|known| known.get_long() == Some(flag)) else {
        return Ok(format!("--{flag}"));
    };
    if needs_value(known) {
        let value = words.next().ok_or_else(|| anyhow!("-{flag} needs a value"))?;
        return Ok(format!("--{flag}={value}"));
    }
    if let Some(value) = words.next_if(|next| parse_bool(next).is_ok()) {
        bail!("-{flag} {value}: a boolean takes its value after \"=\": -{flag}={value}");
    }
    Ok(format!("--{flag}"))
}

/// Whether a flag needs a value. A boolean may take one but needs none; every other flag that takes a value needs it.
pub(crate) fn needs_value(flag: &Arg) -> bool {
    flag.get_action().takes_values() && flag.get_num_args().is_none_or(|count| count.min_values() > 0)
}

/// Reads a boolean as Go's `strconv.ParseBool` does.
///
/// # Errors
/// Any other word, with the list of the words that are accepted.
pub(crate) fn parse_bool(text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => bail!("not a boolean (true, false, t, f, 1 or 0)"),
    }
}
