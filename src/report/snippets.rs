//! What to paste: a command for a shell, a line of a Dockerfile, a probe of Kubernetes. Each stays valid where it is broken into
//! lines.

use super::page::{WIDTH, wrapped};
use crate::{
    diagnosis::{Advice, shell_word},
    text::printable,
};

/// How much of a word is shown, in bytes. No path or name is longer.
const MAX_WORD: usize = 4096;
const INDENT: &str = "    ";
/// The backslash at the end of a line, and the blank before it.
const LINE_BREAK: usize = 2;

/// The step that says what to use.
pub(super) fn page(advice: &Advice) -> String {
    let mut page = "What to use\n".to_owned();
    let note = |page: &mut String, text: &str| {
        for line in wrapped(&printable(text, MAX_WORD), WIDTH - 2) {
            *page += &format!("  {line}\n");
        }
    };
    note(&mut page, &format!("{}:", advice.effect));
    let words = advice.command.iter().map(|word| shell_word(&printable(word, MAX_WORD)));
    page += &broken("grpc_health_probe", words, " ", " \\\n      ");
    for need in &advice.needs {
        note(&mut page, &format!("needed: {need}"));
    }

    let array: Vec<String> = ["/grpc_health_probe".to_owned()]
        .iter()
        .chain(&advice.healthcheck)
        .map(|word| serde_json::Value::from(printable(word, MAX_WORD)).to_string())
        .collect();
    note(&mut page, "in the server's Dockerfile:");
    let start = format!("HEALTHCHECK --interval=5s --timeout={}s --start-period=20s CMD [", advice.timeout_seconds);
    page += &list(&start, &array, "]", " \\\n      ");

    note(&mut page, "in the server's container, in Kubernetes:");
    page += &format!("{INDENT}{}:\n", advice.kubernetes.probe);
    if let Some(port) = advice.kubernetes.grpc_port {
        page += &format!("{INDENT}  grpc:\n{INDENT}    port: {port}\n");
        if let Some(service) = &advice.kubernetes.grpc_service {
            let service = serde_json::Value::from(printable(service, MAX_WORD));
            page += &format!("{INDENT}    service: {service}\n");
        }
    } else {
        page += &format!("{INDENT}  exec:\n");
        page += &list("    command: [", &array, "]", "\n          ");
    }
    page += &format!("{INDENT}  timeoutSeconds: {}\n", advice.timeout_seconds);
    note(&mut page, &format!("({})", advice.kubernetes.note));
    page
}

/// A list between brackets.
fn list(start: &str, array: &[String], end: &str, line_break: &str) -> String {
    let last = array.len().saturating_sub(1);
    let words = array.iter().enumerate().map(|(index, word)| {
        let after = if index == last { end } else { "," };
        format!("{word}{after}")
    });
    let mut words = words.collect::<Vec<_>>().into_iter();
    let first = start.to_owned() + &words.next().unwrap_or_default();
    broken(&first, words, " ", line_break)
}

/// Words after a first one, in lines that are not too long.
fn broken(first: &str, words: impl Iterator<Item = String>, separator: &str, line_break: &str) -> String {
    let mut text = format!("{INDENT}{first}");
    let mut used = text.chars().count();
    for word in words {
        let length = word.chars().count();
        if used + separator.len() + length + LINE_BREAK > WIDTH {
            text += line_break;
            used = line_break.rsplit('\n').next().unwrap_or_default().len();
        } else {
            text += separator;
            used += separator.len();
        }
        text += &word;
        used += length;
    }
    text + "\n"
}
