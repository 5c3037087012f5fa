//! Reads the command line and the environment into options. It checks the flags and leaves their values to `config`.

mod flags;
mod help;
#[cfg(test)]
mod manual;
mod slips;
mod syntax;

use std::{env, ffi::OsString};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

pub use self::slips::{unknown_variables, with_unknown_variables};
use self::{
    flags::{EmptyValue, Flag, HELP_ALIAS, Takes},
    help::{VERSION, help},
    slips::HELP,
    syntax::Normalised,
};
use crate::{
    config::{ADDRESS, Given, Options},
    outcome::{Failure, Kind},
    text::{excerpt, variable},
};

/// What the command line requests.
#[derive(Debug)]
pub enum Request {
    /// A probe with these options.
    Probe(Box<Options>),
    /// This text, and nothing else: `-help` and `-version`.
    Print(String),
}

/// Why the command line cannot be used.
#[derive(Debug)]
pub struct Refusal {
    /// The flag or variable, and what is wrong with it.
    pub failure: Failure,
    /// Whether the command line selects JSON, as far as it can be read.
    pub json: bool,
}

/// Reads the command line (without the program's name) and the environment.
///
/// # Errors
/// The flags are used wrongly. `config` checks their values.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request, Refusal> {
    let mut not_text = None;
    let words = words.into_iter().enumerate().map(|(index, word)| {
        word.into_string().unwrap_or_else(|_| {
            // Not shown: it may be a secret.
            not_text = Some(format!("argument {} is not UTF-8", index + 1));
            String::new()
        })
    });
    let Normalised { words, ignored, failure } = syntax::normalise(words.collect::<Vec<_>>());
    let json = asks_for_json(&words);
    let refuse = |failure| Refusal { failure, json };
    if let Some(failure) = not_text.map(|message| usage(message, HELP)).or(failure) {
        return Err(refuse(failure));
    }
    let matches = command(&words).try_get_matches_from(words);
    let mut matches = matches.map_err(|error| refuse(explain(&error)))?;
    if matches.try_get_one::<bool>("help").is_ok_and(|help| help == Some(&true)) {
        return Ok(Request::Print(help()));
    }
    let version = given(&mut matches, "version").pop().map_or(Ok(false), |given| syntax::parse_bool(&given.text));
    if version.map_err(|error| refuse(usage(format!("-version: {error}"), HELP)))? {
        return Ok(Request::Print(VERSION.to_owned()));
    }
    let mut options = options(&mut matches).map_err(refuse)?;
    (options.json, options.ignored) = (json, ignored);
    if options.diagnose.is_some() {
        options.unknown_variables = unknown_variables();
    }
    check_empty_values(&mut options).map_err(refuse)?;
    check_combinations(&mut options).map_err(refuse)?;
    Ok(Request::Probe(Box::new(options)))
}

fn usage(message: String, hint: &str) -> Failure {
    Failure::new(Kind::Usage, message).hint(hint)
}

/// The clap command for these words. Every start builds it, so it has no flag that is not among them, unless one is unknown: then
/// clap names the nearest of all.
fn command(normalised: &[String]) -> Command {
    let words = normalised.iter().take_while(|word| *word != "--").filter_map(|word| word.strip_prefix("--"));
    let given: Option<Vec<&Flag>> = words.map(|word| flags::find(word.split('=').next().unwrap_or(word))).collect();
    let is_given = |flag: &&Flag| given.as_ref().is_none_or(|given| given.iter().any(|given| given.name == flag.name));
    let argument = |flag: &Flag| {
        let argument = Arg::new(flag.name).long(flag.name);
        match flag.takes {
            // Only -help takes nothing.
            Takes::Nothing => argument.alias(HELP_ALIAS).action(ArgAction::SetTrue),
            Takes::Boolean | Takes::Switch(_) => {
                argument.num_args(0..=1).require_equals(true).default_missing_value("true")
            }
            Takes::One(..) => argument.action(ArgAction::Set),
            Takes::Many(..) => argument.action(ArgAction::Append),
        }
    };
    Command::new("grpc_health_probe")
        .no_binary_name(true)
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(Arg::new("address"))
        .args(flags::all().filter(is_given).map(argument))
}

/// Whether a command line selects JSON, even if it is invalid otherwise. This is the only place that decides it.
fn asks_for_json(normalised: &[String]) -> bool {
    let flags = normalised.iter().take_while(|word| *word != "--");
    match flags.filter_map(|word| word.strip_prefix("--output=")).last().filter(|output| !output.is_empty()) {
        Some(output) => output == "json",
        None => env::var_os(variable("output")).is_some_and(|output| output == "json"),
    }
}

/// Everything that the user said.
fn options(matches: &mut ArgMatches) -> Result<Options, Failure> {
    let mut options = Options::default();
    let positional = given(matches, "address").pop().filter(|given| !given.text.is_empty());
    for flag in flags::all() {
        match flag.takes {
            Takes::Nothing | Takes::Boolean => {}
            Takes::Switch(field) => *field(&mut options) = values(matches, flag)?.pop().map_or(Ok(None), if_true)?,
            Takes::One(_, field) => *field(&mut options) = values(matches, flag)?.pop(),
            Takes::Many(_, field) => *field(&mut options) = values(matches, flag)?,
        }
    }
    if let Some(positional) = positional {
        options.addr = Some(Given { name: ADDRESS.to_owned(), ..positional });
    }
    Ok(options)
}

/// A switch that is set.
fn if_true(given: Given) -> Result<Option<Given>, Failure> {
    match syntax::parse_bool(&given.text) {
        Ok(is_true) => Ok(Some(given).filter(|_| is_true)),
        Err(error) => Err(given.unusable(&error)),
    }
}

/// The values of a flag: those on the command line, or else those of its variable.
fn values(matches: &mut ArgMatches, flag: &Flag) -> Result<Vec<Given>, Failure> {
    let mut values = given(matches, flag.name);
    let has_text = values.iter().any(|value| !value.text.is_empty());
    values.retain(|value| {
        !value.text.is_empty()
            || match flag.empty {
                // Go refuses an empty boolean. Taken as false, that of -tls would turn off TLS.
                EmptyValue::NotGiven => matches!(flag.takes, Takes::Switch(_)),
                EmptyValue::OneOfSeveral => has_text,
                EmptyValue::Refused { .. } => true,
            }
    });
    if values.is_empty() { from_environment(flag) } else { Ok(values) }
}

/// What the command line gives for a flag, empty values included.
fn given(matches: &mut ArgMatches, flag: &str) -> Vec<Given> {
    // A flag that is not on the command line is not in clap's command.
    let given = matches.try_remove_many::<String>(flag).ok().flatten().into_iter().flatten();
    given.map(|text| Given { text, name: format!("-{flag}") }).collect()
}

/// The value of a flag's variable. That of a repeatable flag has a value on each line.
fn from_environment(flag: &Flag) -> Result<Vec<Given>, Failure> {
    let name = variable(flag.name);
    let Some(text) = env::var_os(&name) else { return Ok(Vec::new()) };
    let text = text.into_string().map_err(|_| Failure::new(Kind::Usage, format!("{name} is not UTF-8")))?;
    let given = |text: &str| Given { text: text.to_owned(), name: name.clone() };
    let is_given = |text: &&str| !text.is_empty() || matches!(flag.empty, EmptyValue::Refused { .. });
    Ok(match flag.takes {
        Takes::Many(..) => text.lines().filter(is_given).map(given).collect(),
        _ => Some(text.as_str()).filter(is_given).map(given).into_iter().collect(),
    })
}

/// Refuses empty values that would weaken a check. An empty variable weakens none where its flag would mean nothing.
fn check_empty_values(options: &mut Options) -> Result<(), Failure> {
    for flag in flags::all() {
        let EmptyValue::Refused { cause, hint } = flag.empty else { continue };
        let Some(Given { text, name }) = flag.given(options).cloned() else { continue };
        if !text.is_empty() {
            continue;
        }
        let mut needed = flag.needs.iter().filter_map(|needed| flags::find(needed));
        if name.starts_with('-') || needed.all(|needed| needed.given(options).is_some()) {
            return Err(Failure::new(Kind::Usage, format!("{name} is empty, so {cause}")).hint(hint));
        }
        if let Takes::One(_, field) = flag.takes {
            *field(options) = None;
        }
    }
    Ok(())
}

/// Refuses flags that cannot be used together, or not without another.
fn check_combinations(options: &mut Options) -> Result<(), Failure> {
    let mut name_of = |flag: &Flag| flag.given(options).map(|given| given.name.clone());
    for flag in flags::all() {
        let Some(name) = name_of(flag) else { continue };
        let mut others = flag.excludes.iter().filter_map(|other| flags::find(other));
        if let Some(other) = others.find_map(&mut name_of) {
            return Err(Failure::new(Kind::Usage, format!("{name} and {other} cannot be used together")));
        }
    }
    for flag in flags::all() {
        let Some(name) = name_of(flag) else { continue };
        for needed in flag.needs.iter().filter_map(|needed| flags::find(needed)) {
            if name_of(needed).is_none() {
                return Err(Failure::new(Kind::Usage, format!("{name} needs -{}", needed.name)));
            }
        }
    }
    Ok(())
}

/// Describes a clap error, with flags in Go's syntax.
fn explain(error: &clap::Error) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    // Clap's flags have two dashes, and what follows a flag is not shown: it may be a secret.
    let name =
        |flag| Some(flag).map(|flag: &str| flag.split(['=', ' ']).next().unwrap_or(flag).trim_start_matches('-'));
    let argument = context(ContextKind::InvalidArg).and_then(name).unwrap_or_default();
    let (message, hint) = match error.kind() {
        ErrorKind::UnknownArgument => slips::unknown_flag(argument, context(ContextKind::SuggestedArg).and_then(name)),
        ErrorKind::TooManyValues => (format!("-{} takes no value", excerpt(argument)), HELP.to_owned()),
        kind => (format!("-{}: {kind}", excerpt(argument)), HELP.to_owned()),
    };
    usage(message, &hint)
}
