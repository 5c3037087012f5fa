//! Rewrites Go's flag syntax, which the Go tool uses, to the syntax of clap.

use std::{
    iter::{self, Peekable},
    mem,
};

use anyhow::{Result, bail};

use super::{
    flags::{self, Takes},
    slips,
};
use crate::{
    outcome::{Failure, Kind},
    text::excerpt,
};

/// What follows it may be the rest of a header.
const HEADERS: &str = "rpc-header";

/// A command line in the syntax of clap.
#[derive(Default)]
pub(super) struct Normalised {
    /// The words, as far as they could be rewritten.
    pub(super) words: Vec<String>,
    /// What follows an operator of a shell, which does not run here.
    pub(super) ignored: Option<String>,
    /// What stopped it.
    pub(super) failure: Option<Failure>,
}

/// The flag before a word without a dash.
#[derive(Clone)]
enum After {
    /// One that takes no value from the next word.
    Switch(String),
    /// One whose value may have blanks, and lack quotes. The word may be a part of a secret.
    Header(String),
    /// One that clap will refuse, whatever follows. The word may be its value, and a secret.
    Unknown,
    Other,
}

/// Rewrites Go's flag syntax to `--name` or `--name=value`, which clap reads.
///
/// In Go `-x` and `--x` are the same flag, the word after a flag that takes a value is always its value, and
/// a boolean takes its value after `=` only. Unknown flags
/// are left for clap to refuse, because clap can name the nearest flag. One word without a dash is the address; it comes last,
/// after `--`. No failure repeats a value that may be a secret.
pub(super) fn normalise(words: impl IntoIterator<Item = String>) -> Normalised {
    let mut normalised = Normalised::default();
    normalised.failure = rewrite(&mut words.into_iter().peekable(), &mut normalised).err();
    normalised
}

fn rewrite(words: &mut Peekable<impl Iterator<Item = String>>, normalised: &mut Normalised) -> Result<(), Failure> {
    let (mut address, mut flags_are_over) = (None, false);
    let (mut after, mut address_is_after) = (After::Other, After::Other);
    while let Some(word) = words.next() {
        match word.strip_prefix('-').filter(|flag| !flag.is_empty() && !flags_are_over) {
            Some("-") => flags_are_over = true,
            Some(flag) => {
                let flag = flag.strip_prefix('-').unwrap_or(flag);
                if flag.starts_with(['-', '=']) {
                    let name = excerpt(word.split('=').next().unwrap_or_default());
                    return Err(refused(format!("bad flag syntax: {name}"), slips::HELP));
                }
                let (joined, next) = join_value(flag, words)?;
                normalised.words.push(joined);
                after = if matches!(after, After::Unknown) { after } else { next };
            }
            None if word.is_empty() || matches!(after, After::Unknown) => {}
            None if slips::is_for_shell(&word) && !flags_are_over => {
                let ignored: Vec<String> = iter::once(word).chain(words.by_ref()).collect();
                normalised.ignored = Some(ignored.join(" "));
            }
            None => {
                if let Some(flag) = slips::typographic_flag(&word) {
                    let message = format!("the dash before \"{flag}\" is not \"-\"");
                    return Err(refused(message, &format!("write -{flag}")));
                }
                if address.is_some() {
                    return Err(stray(&word, &after));
                }
                address_is_after = mem::replace(&mut after, After::Other);
                if matches!(address_is_after, After::Header(_)) {
                    after.clone_from(&address_is_after);
                }
                address = Some(word);
            }
        }
    }
    let Some(address) = address else { return Ok(()) };
    let addr = normalised.words.iter().rfind(|word| word.starts_with("--addr="));
    if addr.is_some_and(|addr| addr != "--addr=") {
        return Err(stray(&address, &address_is_after));
    }
    normalised.words.extend(["--".to_owned(), address]);
    Ok(())
}

/// Rewrites one flag for clap. Consumes the next word if that is the flag's value.
fn join_value(flag: &str, words: &mut Peekable<impl Iterator<Item = String>>) -> Result<(String, After), Failure> {
    let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
    let Some(known) = flags::find(name) else {
        if let Some(known) = slips::flag_before_blank(flag) {
            let (message, hint) = match known.takes {
                Takes::One(..) | Takes::Many(..) => {
                    ("its value", format!("write -{0}=VALUE, or make -{0} and the value two arguments", known.name))
                }
                _ => ("what follows it", "make each flag an argument of its own".to_owned()),
            };
            return Err(refused(format!("-{} and {message} came as one argument", known.name), &hint));
        }
        return Ok((format!("--{flag}"), After::Unknown));
    };
    let after = if name.starts_with(HEADERS) { After::Header(format!("-{name}")) } else { After::Other };
    if value.is_some() {
        return Ok((format!("--{flag}"), after));
    }
    if matches!(known.takes, Takes::One(..) | Takes::Many(..)) {
        let value = words.next();
        let value = value.ok_or_else(|| refused(format!("-{flag} needs a value"), slips::HELP))?;
        return Ok((format!("--{flag}={value}"), after));
    }
    let is_value = |word: &String| parse_bool(word).is_ok() || slips::meant_boolean(word).is_some();
    if let Some(value) = words.next_if(is_value) {
        let meant = slips::meant_boolean(&value).map_or(value.clone(), |meant| meant.to_string());
        let message = format!("-{flag} {value}: a boolean takes its value after \"=\": -{flag}={meant}");
        return Err(refused(message, slips::HELP));
    }
    Ok((format!("--{flag}"), After::Switch(format!("-{flag}"))))
}

/// The failure of a second address, or of a word that belongs to nothing.
fn stray(word: &str, after: &After) -> Failure {
    let shown = excerpt(word);
    match after {
        After::Header(flag) => refused(
            format!("unexpected argument after {flag} and its value; it is not shown, as it may be a secret"),
            &format!("a header with blanks needs quotes: {flag}='name: value'"),
        ),
        After::Switch(flag) => refused(
            format!("unexpected argument \"{shown}\" after {flag}"),
            &format!("{flag} takes no value, or one after \"=\": {flag}=true"),
        ),
        After::Other | After::Unknown => refused(
            format!("unexpected argument \"{shown}\""),
            "the address is given already; a value with blanks needs quotes",
        ),
    }
}

fn refused(message: String, hint: &str) -> Failure {
    Failure::new(Kind::Usage, message).hint(hint)
}

/// Reads a boolean as Go's `strconv.ParseBool` does.
///
/// # Errors
/// Any other word, with the list of the words that are accepted.
pub(super) fn parse_bool(text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => bail!("not a boolean (true, false, t, f, 1 or 0)"),
    }
}
