//! Command lines with `--help`.
//!
//! clap can print a help text, but the probe leaves that feature out to stay small. If the examples enabled it, Cargo would
//! also enable it for the probe when it builds the tests, and they would test another program than the released one.

use std::{env, process};

use clap::{Arg, ArgMatches, Command};

/// Reads this process's command line. With `--help` it prints the flags and exits.
pub fn read(command: Command) -> ArgMatches {
    if env::args_os().skip(1).any(|argument| argument == "--help" || argument == "-h") {
        print!("{}", help(&command));
        process::exit(0);
    }
    command.get_matches()
}

pub fn help(command: &Command) -> String {
    let flags: Vec<(String, String)> = command.get_arguments().filter(|flag| !flag.is_hide_set()).map(entry).collect();
    let width = flags.iter().map(|(flag, _)| flag.len()).max().unwrap_or_default();
    let mut help = format!("{}\n\n", command.get_about().cloned().unwrap_or_default());
    for (flag, meaning) in flags {
        help += &format!("  {flag:width$}  {meaning}\n");
    }
    if let Some(more) = command.get_after_help() {
        help += &format!("\n{more}\n");
    }
    help
}

/// A flag with its value name, and its meaning.
fn entry(flag: &Arg) -> (String, String) {
    let name = flag.get_long().unwrap_or_default();
    if !flag.get_action().takes_values() {
        return (format!("--{name}"), flag.get_help().cloned().unwrap_or_default().to_string());
    }
    let value = flag.get_value_names().and_then(|names| names.first()).map_or("VALUE", |name| name.as_str());
    let mut meaning = flag.get_help().cloned().unwrap_or_default().to_string();
    if let [default] = flag.get_default_values() {
        meaning += &format!(" (default: {})", default.to_string_lossy());
    }
    (format!("--{name} {value}"), meaning)
}
