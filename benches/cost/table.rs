//! Tables that read well as Markdown and on a terminal.

use std::fmt::{self, Display, Formatter};

pub struct Table {
    /// The head first.
    rows: Vec<Vec<String>>,
    /// How many columns hold words. They are the first; numbers follow, and are aligned to the right.
    words: usize,
}

impl Table {
    pub fn new(words: &[&str], numbers: &[&str]) -> Self {
        let head = words.iter().chain(numbers).map(ToString::to_string).collect();
        Self { rows: vec![head], words: words.len() }
    }

    pub fn row(&mut self, words: &[&str], numbers: &[String]) {
        self.rows.push(words.iter().map(ToString::to_string).chain(numbers.iter().cloned()).collect());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let columns = 0..self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = columns.clone().map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            for column in columns.clone() {
                let (cell, width) = (&row[column], widths[column]);
                if column < self.words { write!(f, "| {cell:<width$} ")? } else { write!(f, "| {cell:>width$} ")? }
            }
            writeln!(f, "|")?;
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let (dashes, end) = ("-".repeat(width + 1), if column < self.words { '-' } else { ':' });
                    write!(f, "|{dashes}{end}")?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// As in 12,345.
pub fn number(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn ratio(of: u32, to: u32) -> String {
    format!("{:.2}", f64::from(of) / f64::from(to))
}
