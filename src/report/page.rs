//! A step on the page: a heading, and rows of a label and a text, aligned and wrapped.

use crate::text::{MAX_MESSAGE, printable};

/// The longest line, in characters.
pub(super) const WIDTH: usize = 100;
/// The widest column of labels, in characters. A longer label has a line of its own.
const MAX_LABEL: usize = 34;
const INDENT: &str = "  ";
/// The longest label, in bytes.
const MAX_LABEL_BYTES: usize = 300;

/// The rows of a step.
#[derive(Debug, Default)]
pub(super) struct Rows(Vec<(String, String)>);

impl Rows {
    /// Adds a row. Its text may be anybody's, and is escaped here.
    pub(super) fn add(&mut self, label: &str, text: &str) {
        self.0.push((printable(label, MAX_LABEL_BYTES), printable(text, MAX_MESSAGE)));
    }
}

/// A step of at most `most` bytes.
pub(super) fn page(heading: &str, rows: &Rows, most: usize) -> String {
    let width = |label: &str| label.chars().count();
    let labels = rows.0.iter().map(|(label, _)| width(label)).filter(|width| *width <= MAX_LABEL).max();
    let column = INDENT.len() + labels.unwrap_or_default() + 2;
    let mut page = format!("{heading}\n");
    for (index, (label, text)) in rows.0.iter().enumerate() {
        let mut row = String::new();
        let mut start = format!("{INDENT}{label}");
        if INDENT.len() + width(label) + 2 > column {
            start.split_off(0).chars().collect::<Vec<_>>().chunks(WIDTH).for_each(|line| {
                row.extend(line);
                row.push('\n');
            });
        }
        for line in wrapped(text, WIDTH - column) {
            row += format!("{start:column$}{line}").trim_end();
            row.push('\n');
            start.clear();
        }
        if page.len() + row.len() > most {
            page += &format!("{INDENT}({} more rows)\n", rows.0.len() - index);
            break;
        }
        page += &row;
    }
    page
}

/// The lines of a text, at most `width` characters each, at least one line.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        }
        let last = lines.len() - 1;
        if used > 0 {
            lines[last].push(' ');
            used += 1;
        }
        for character in word.chars() {
            if used == width {
                lines.push(String::new());
                used = 0;
            }
            let last = lines.len() - 1;
            lines[last].push(character);
            used += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_aligned_and_wrapped() {
        let mut rows = Rows::default();
        rows.add("a", &"word ".repeat(30));
        rows.add("label", "\u{1b}[31mtext");
        rows.add("a label that is longer than the column", "its text");
        rows.add("long", &"x".repeat(200));
        let page = page("Heading", &rows, 4096);
        assert!(page.lines().all(|line| line.chars().count() <= WIDTH), "{page}");
        let starts: Vec<&str> = page.lines().map(|line| line.get(..14).unwrap_or(line)).collect();
        assert_eq!(
            starts,
            [
                "Heading",
                "  a      word ",
                "         word ",
                "  label  \\u{1b",
                "  a label that",
                "         its t",
                "  long   xxxxx",
                "         xxxxx",
                "         xxxxx",
            ],
            "{page}"
        );
    }

    #[test]
    fn too_many_rows_are_counted() {
        let mut rows = Rows::default();
        (0..100).for_each(|_| rows.add("row", &"x".repeat(50)));
        let page = page("Heading", &rows, 1000);
        assert!(page.len() < 1050 && page.ends_with(" more rows)\n"), "{page}");
    }
}
