//! What is told on the way, before the result: by `-v`, and while waiting.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use crate::{
    config::Style,
    goflag::format_duration,
    outcome::Phase,
    output::{Stream, is_terminal, write},
    report::rounded,
    text::{MAX_NOTE, printable},
};

/// What is told on the way may take of all output, so that the result has its place.
const MAX_ASIDE: usize = 1600;
/// The longest cause in a line that is written over: with what is before it, it must not wrap.
const MAX_LIVE: usize = 50;

/// What is told on the way, before the result: by `-v`, and while waiting. For a log it is brief, for a person at a
/// terminal it tells all.
#[derive(Debug)]
pub(crate) struct Aside {
    printed: Cell<usize>,
    /// Whether a line waits to be written over.
    has_live_line: Cell<bool>,
    /// What has been waited for last.
    cause: RefCell<String>,
    is_quiet: bool,
    /// How many bytes there is room for.
    room: usize,
}

impl Aside {
    /// With `is_endless`, as a watch is, there is room for everything.
    pub(crate) fn new(style: Style, is_endless: bool) -> Self {
        Self {
            printed: Cell::new(0),
            has_live_line: Cell::new(false),
            cause: RefCell::default(),
            is_quiet: style.quiet,
            room: if is_endless { usize::MAX } else { MAX_ASIDE },
        }
    }

    /// The options as they were understood.
    pub(crate) fn options(&self, lines: &[String]) {
        self.line("parsed options:");
        for line in lines {
            self.line(&format!("> {}", printable(line, MAX_NOTE)));
        }
    }

    /// A phase, on which address if there are several, what came of it, and the time it took.
    pub(crate) fn phase(&self, address: Option<&str>, phase: Phase, took: Option<Duration>, what: &str) {
        let address = address.map_or_else(String::new, |address| format!("{address} "));
        let took = took.map_or_else(String::new, |took| format!(" ({})", format_duration(rounded(took))));
        self.line(&format!("{address}{}: {}{took}", phase.name(), printable(what, MAX_NOTE)));
    }

    /// What is waited for: at a terminal one line that lives, elsewhere a line when the cause is another.
    pub(crate) fn waiting(&self, elapsed: Duration, attempts: u32, cause: &str) {
        if self.is_quiet {
            return;
        }
        if is_terminal(Stream::Diagnosis) {
            self.end_live_line();
            self.has_live_line.set(true);
            let cause = printable(cause, MAX_LIVE);
            let tenths = elapsed.as_millis() / 100;
            let elapsed = format!("{}.{}s", tenths / 10, tenths % 10);
            write(Stream::Diagnosis, &format!("waiting {elapsed}, attempt {attempts}: {cause}"));
        } else if *self.cause.borrow() != cause {
            self.line(&format!("waiting: {}", printable(cause, MAX_NOTE)));
            cause.clone_into(&mut self.cause.borrow_mut());
        }
    }

    fn line(&self, line: &str) {
        self.end_live_line();
        let printed = self.printed.get() + line.len() + 1;
        if printed <= self.room || is_terminal(Stream::Diagnosis) {
            self.printed.set(printed);
            write(Stream::Diagnosis, &format!("{line}\n"));
        }
    }

    /// Wipes the line that lives, for another or for the result.
    fn end_live_line(&self) {
        if self.has_live_line.replace(false) {
            // ECMA-48: back to its beginning, and erase it.
            write(Stream::Diagnosis, "\r\u{1b}[2K");
        }
    }

    /// Why a watch ends.
    pub(crate) fn stopped(&self, why: &str) {
        self.line(&format!("stopped {why}"));
    }

    /// How many bytes were told. No line lives after this.
    pub(crate) fn printed(&self) -> usize {
        self.end_live_line();
        self.printed.get()
    }
}
