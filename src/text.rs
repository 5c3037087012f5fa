//! Text for people: nothing raw, nothing endless, names in one form.

use std::{fmt::Write as _, io};

/// The most that a message repeats of one thing, such as an argument, so that the cause after it is read too.
const MAX_SHOWN: usize = 200;
/// The longest message of a result.
pub(crate) const MAX_MESSAGE: usize = 1200;
/// The longest hint, name or address in a result, and the longest line of `-v`.
pub(crate) const MAX_NOTE: usize = 300;

/// Text as a part of a message: [`printable`], and short.
pub(crate) fn shown(text: &str) -> String {
    printable(text, MAX_SHOWN)
}

/// Escapes what could move a cursor, colour a terminal, forge a line or turn text around, and cuts to about `most`
/// bytes.
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

/// C0, DEL and C1; marks that change the direction of text or are not seen; separators of lines.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `camelCase` as `snake_case`: how the specifications write what Rust writes otherwise.
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

/// An I/O error in plain words: lower case, without its number.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    lower_first(text)
}

/// A sentence as a part of another.
pub(crate) fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}
