//! Text for people: escapes and shortens foreign text, and gives names one form.

use std::{fmt::Write as _, io};

/// How much of a foreign text, such as an argument, a message repeats, in bytes, so that the cause after it is still read.
const MAX_EXCERPT: usize = 200;
/// The longest message of a result, in bytes.
pub(crate) const MAX_MESSAGE: usize = 1200;
/// The longest hint, name or address in a result, and the longest line of `-v`, in bytes.
pub(crate) const MAX_NOTE: usize = 300;

/// The variable of a flag is this and the flag's name in upper snake case.
pub(crate) const VARIABLE_PREFIX: &str = "GRPC_HEALTH_PROBE_";

/// Foreign text as part of a message: [`printable`], and short.
pub(crate) fn excerpt(text: &str) -> String {
    printable(text, MAX_EXCERPT)
}

/// Escapes every character that could move a cursor, colour a terminal, forge a line or reverse the reading direction, and
/// cuts the text to about `most` bytes.
pub(crate) fn printable(text: &str, most: usize) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if out.len() >= most {
            out.push('…');
            break;
        }
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if is_unsafe(character) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out
}

/// What a shell, or whoever wrote the text of this flag or variable, left in it: quotation marks, a variable, a blank at an end.
/// The hint says what to do.
pub(crate) fn leftover(flag: &str, text: &str) -> Option<String> {
    const QUOTES: &[char] = &['"', '\'', '`', '“', '”', '„', '‘', '’', '«', '»'];
    if text.starts_with(QUOTES) || text.ends_with(QUOTES) {
        return Some("the quotation marks are part of the value here; leave them out".to_owned());
    }
    if text.trim() != text {
        return Some("the value begins or ends with a blank; leave it out".to_owned());
    }
    let (_, after) = text.split_once('$')?;
    let name = after.trim_start_matches(['(', '{']);
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    let name = excerpt(name.get(..end).filter(|name| !name.is_empty())?);
    let variable = flag.strip_prefix('-').map(variable);
    Some(match (after.starts_with('('), variable) {
        (true, Some(variable)) => format!(
            "$({name}) is not expanded: in a probe's command, Kubernetes expands variables with a literal value only; set \
             {variable} in env instead, below {name}"
        ),
        (true, None) => {
            format!("$({name}) is not expanded: in env, Kubernetes expands variables that stand above only")
        }
        (false, Some(variable)) => format!("no shell expands ${name} here; write the value, or set {variable}"),
        (false, None) => format!("no shell expands ${name} here; write the value"),
    })
}

/// C0, DEL and C1; invisible marks and marks that change the direction of text; line separators.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e01ef}')
}

/// The variable of a flag. Every start makes all of them, so it allocates once.
pub(crate) fn variable(flag: &str) -> String {
    let mut name = [VARIABLE_PREFIX, flag].concat().into_bytes();
    for byte in &mut name[VARIABLE_PREFIX.len()..] {
        *byte = if *byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
    }
    String::from_utf8(name).expect("flags are ASCII")
}

/// A list in words, and how many more there are.
pub(crate) fn listed(shown: &[String], more: Option<usize>) -> String {
    match more {
        Some(more) => format!("{} and {more} more", shown.join(", ")),
        None => shown.join(", "),
    }
}

/// How a service is named beside others: the server as a whole has an empty name.
pub(crate) fn service_name(service: &str) -> &str {
    if service.is_empty() { "\"\"" } else { service }
}

/// Says how to undo what a flag says, or the variable that stands for it.
pub(crate) fn leave_out(name: &str) -> String {
    if name.starts_with('-') { format!("leave out {name}") } else { format!("unset {name}") }
}

/// Turns `camelCase` into `snake_case`, the form of names in the specifications.
pub(crate) fn snake_case(camel_case: &str) -> String {
    let mut out = String::new();
    let mut after_lower_case = false;
    for character in camel_case.chars() {
        if character.is_ascii_uppercase() && after_lower_case {
            out.push('_');
        }
        after_lower_case = character.is_ascii_lowercase();
        out.push(character.to_ascii_lowercase());
    }
    out
}

/// Words the cause of a failure for a server that is not the one that is probed.
pub(crate) fn of_other_server(cause: &str) -> String {
    let cause = cause.strip_prefix("connected, but ").unwrap_or(cause);
    cause.strip_prefix("the server ").map_or_else(|| cause.to_owned(), |rest| format!("it {rest}"))
}

/// Describes an I/O error as part of a message: lower case, without its number.
pub(crate) fn io_cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    lower_first(text)
}

/// Turns a sentence into part of another one: its first letter becomes lower case.
pub(crate) fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}
