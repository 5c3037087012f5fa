//! Progress, written before the result: by `-v`, and while the probe waits.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use super::{stream::Stream, style::Style, writer::Writer};
use crate::{
    duration::{format_duration, to_microseconds},
    text::{MAX_NOTE, excerpt, printable},
    trace::{Step, Trace},
};

/// The limit for progress and the note that ends it, in bytes, so that there is room for the result.
const MAX_PROGRESS: usize = 1600;
/// The room for that note.
const NOTE: usize = 50;
/// The longest cause in the live line, in bytes. The whole line must not wrap.
const MAX_LIVE_CAUSE: usize = 50;

/// Writes progress: brief in a log, complete at a terminal.
#[derive(Debug)]
pub struct Progress {
    pub(super) writer: Writer,
    /// How many bytes were written.
    written: Cell<usize>,
    /// How many lines there was no room for.
    left_out: Cell<usize>,
    /// Whether the last line is one that the next line replaces.
    has_live_line: Cell<bool>,
    /// The cause that was reported last while waiting.
    cause: RefCell<String>,
    is_quiet: bool,
    /// How many bytes there is room for.
    room: usize,
}

impl Progress {
    /// Reports the progress of a probe. A watch, which is endless, has no limit.
    #[must_use]
    pub fn new(style: Style, is_endless: bool) -> Self {
        Self {
            writer: Writer::default(),
            written: Cell::new(0),
            left_out: Cell::new(0),
            has_live_line: Cell::new(false),
            cause: RefCell::default(),
            is_quiet: style.quiet,
            room: if is_endless { usize::MAX } else { MAX_PROGRESS - NOTE },
        }
    }

    /// A trace that is written: each step if the style is verbose, and else none.
    #[must_use]
    pub fn trace(progress: &Rc<Self>, style: Style) -> Trace {
        if !style.verbose {
            return Trace::unfollowed();
        }
        let progress = Rc::clone(progress);
        Trace::new(Some(Rc::new(move |step: &_| progress.step(step))))
    }

    /// Warns of the words for a shell at the end of the command line.
    pub fn warn_of_ignored(&self, words: Option<&str>) {
        if let Some(words) = words.filter(|_| !self.is_quiet) {
            self.line(&format!("warning: no shell runs here: \"{}\" is ignored", excerpt(words)));
        }
    }

    /// Writes the parsed options.
    pub fn options(&self, lines: &[String]) {
        self.line("parsed options:");
        for line in lines {
            self.line(&format!("> {}", printable(line, MAX_NOTE)));
        }
    }

    /// Writes a step of the trace.
    pub fn step(&self, &Step { address, phase, took, text }: &Step<'_>) {
        let address = address.map_or_else(String::new, |address| format!("{} ", printable(address, MAX_NOTE)));
        let took = took.map_or_else(String::new, |took| format!(" ({})", format_duration(to_microseconds(took))));
        self.line(&format!("{address}{}: {}{took}", phase.name(), printable(text, MAX_NOTE)));
    }

    /// Writes what the probe waits for: at a terminal one line that is updated, elsewhere a line for each new cause.
    pub(crate) fn waiting(&self, elapsed: Duration, attempts: u32, cause: &str) {
        if self.is_quiet {
            return;
        }
        if Stream::Err.is_terminal() {
            if self.writer.has_waiting(Stream::Err) {
                // When the terminal shows it, it would be old.
                return;
            }
            self.end_live_line();
            self.has_live_line.set(true);
            let cause = printable(cause, MAX_LIVE_CAUSE);
            let tenths = elapsed.as_millis() / 100;
            let elapsed = format!("{}.{}s", tenths / 10, tenths % 10);
            self.writer.write(Stream::Err, format!("waiting {elapsed}, attempt {attempts}: {cause}"));
        } else if *self.cause.borrow() != cause {
            self.line(&format!("waiting: {}", printable(cause, MAX_NOTE)));
            cause.clone_into(&mut self.cause.borrow_mut());
        }
    }

    fn line(&self, line: &str) {
        self.end_live_line();
        let written = self.written.get() + line.len() + 1;
        if written <= self.room || Stream::Err.is_terminal() {
            self.written.set(written);
            self.writer.write(Stream::Err, format!("{line}\n"));
        } else {
            self.left_out.set(self.left_out.get() + 1);
        }
    }

    /// Erases the live line, for the next line or for the result.
    fn end_live_line(&self) {
        if self.has_live_line.replace(false) {
            // ECMA-48: carriage return, erase in line.
            self.writer.write(Stream::Err, "\r\u{1b}[2K".to_owned());
        }
    }

    /// Writes why a watch ends, as its last line.
    pub(crate) fn stopped(&self, reason: &str) {
        self.end_live_line();
        self.writer.finish([(Stream::Err, format!("{reason}\n"))]);
    }

    /// Writes what the streams did not take at once, whenever they have room, until nobody reads standard output.
    pub(crate) async fn keep_writing(&self) {
        self.writer.keep_writing().await;
    }

    /// Waits for readers that are behind, if they are quick.
    pub(crate) async fn readers_catch_up(&self) {
        self.writer.readers_catch_up().await;
    }

    /// Ends the progress: how many bytes of it count against the room for the result, which is always there.
    pub(super) fn finish(&self) -> usize {
        self.end_live_line();
        match self.left_out.get() {
            0 => {}
            1 => self.writer.write(Stream::Err, "(1 line of -v left out)\n".to_owned()),
            count => self.writer.write(Stream::Err, format!("({count} lines of -v left out)\n")),
        }
        self.written.get().min(MAX_PROGRESS)
    }
}
