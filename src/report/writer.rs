//! Standard output and standard error. This is the only file that writes to them, and [`write`] is the only function that does.
//! A stream that is closed, full or stuck changes no exit code. All output together is no longer than what Docker keeps, except
//! for lists and watches.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::time::sleep;

/// The limit for the output of a probe, in bytes: Docker keeps this much of a health check's output.
const MAX_OUTPUT: usize = 4096;
/// How long to wait for a reader. One that reads at all is faster.
const SHORT: Duration = Duration::from_millis(50);
/// How long to wait for a person at a terminal, or for the reader of a long list.
const LONG: Duration = Duration::from_secs(5);
/// How often a watch checks whether its reader has caught up. There is no event for that on every kind of stream: epoll refuses
/// files, and a pipe made non-blocking becomes so for every process that shares it.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output: results.
    Out,
    /// Standard error: everything else.
    Err,
}

impl Stream {
    /// Whether it is a terminal.
    pub(super) fn is_terminal(self) -> bool {
        match self {
            Self::Out => io::stdout().is_terminal(),
            Self::Err => io::stderr().is_terminal(),
        }
    }

    /// How long a short text may wait for its reader. A person may pause a terminal's output to read.
    fn patience(self) -> Duration {
        if self.is_terminal() { LONG } else { SHORT }
    }
}

/// Why a text was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotWritten {
    /// The stream took nothing within the time given.
    Full,
    /// The reader closed the stream.
    ReaderGone,
    /// Writing failed in another way.
    Failed,
}

/// Writes a text if the stream takes it within `patience`.
///
/// # Errors
/// The text was not written, and is lost.
pub(super) fn write(stream: Stream, text: &str, patience: Duration) -> Result<(), NotWritten> {
    if text.is_empty() {
        return Ok(());
    }
    if !takes_more_within(stream, patience) {
        return Err(NotWritten::Full);
    }
    let written = match stream {
        Stream::Out => {
            let mut stdout = io::stdout();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        }
        Stream::Err => io::stderr().write_all(text.as_bytes()),
    };
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => NotWritten::ReaderGone,
        _ => NotWritten::Failed,
    })
}

/// Writes a short text. What cannot be written is lost: the exit code is the result.
pub(super) fn write_or_lose(stream: Stream, text: &str) {
    if !text.is_empty() {
        let _ = write(stream, text, stream.patience());
    }
}

/// Writes a line as soon as its reader has read the lines before it, however long that takes.
///
/// # Errors
/// Only [`NotWritten::ReaderGone`], of standard output. After another error the line is lost.
pub(super) async fn write_when_read(stream: Stream, line: &str) -> Result<(), NotWritten> {
    loop {
        match write(stream, line, Duration::ZERO) {
            Err(NotWritten::Full) => sleep(POLL_INTERVAL).await,
            Err(NotWritten::ReaderGone) if stream == Stream::Out => return Err(NotWritten::ReaderGone),
            Ok(()) | Err(_) => return Ok(()),
        }
    }
}

/// Lines for both streams, written together.
#[derive(Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
}

#[derive(Clone)]
struct Line {
    stream: Stream,
    is_failure: bool,
    text: String,
}

impl Lines {
    /// Adds a line, unless it is there already: one hint often fits several failures.
    pub(super) fn push_once(&mut self, stream: Stream, is_failure: bool, line: String) {
        if !self.lines.iter().any(|there| there.text.strip_suffix('\n') == Some(&line)) {
            self.push(stream, is_failure, line);
        }
    }

    /// Adds a line. If there is too little room, lines about failures are kept first.
    pub(super) fn push(&mut self, stream: Stream, is_failure: bool, line: String) {
        self.lines.push(Line { stream, is_failure, text: line + "\n" });
    }

    /// Whether there is room for all lines after the `written` bytes of progress.
    pub(super) fn fits(&self, written: usize) -> bool {
        self.lines.iter().map(|line| line.text.len()).sum::<usize>() <= room(written)
    }

    /// Writes the lines in their order, as many as there is room for after the `written` bytes of progress.
    pub(super) fn write(&self, written: usize) {
        for (stream, text) in self.texts(written) {
            write_or_lose(stream, &text);
        }
    }

    /// What goes to each stream.
    fn texts(&self, written: usize) -> [(Stream, String); 2] {
        let mut room = room(written);
        let mut fits = vec![false; self.lines.len()];
        for first_choice in [true, false] {
            for (line, fits) in self.lines.iter().zip(&mut fits) {
                if line.is_failure == first_choice && line.text.len() <= room {
                    room -= line.text.len();
                    *fits = true;
                }
            }
        }
        [Stream::Out, Stream::Err].map(|stream| {
            let lines = self.lines.iter().zip(&fits).filter(|(line, fits)| line.stream == stream && **fits);
            let mut text: String = lines.map(|(line, _)| line.text.as_str()).collect();
            let left_out = fits.iter().filter(|fits| !**fits).count();
            if stream == Stream::Err && left_out > 0 {
                text += &format!("({left_out} more lines)\n");
            }
            (stream, text)
        })
    }

    /// What is written to standard output, of a list all of it, and to standard error.
    #[cfg(test)]
    pub(super) fn printed(&self, written: usize, is_list: bool) -> [String; 2] {
        let [out, err] = self.texts(written).map(|(_, text)| text);
        let results = self.lines.iter().filter(|line| line.stream == Stream::Out);
        [if is_list { results.map(|line| line.text.as_str()).collect() } else { out }, err]
    }

    /// Writes all results, without a limit, as long as the reader reads.
    pub(super) fn write_all(&self, written: usize) {
        let (results, others) = self.lines.iter().cloned().partition::<Vec<_>, _>(|line| line.stream == Stream::Out);
        let mut others = Self { lines: others };
        let is_read = |line: &Line| write(Stream::Out, &line.text, LONG).is_ok();
        let left_out = results.len() - results.iter().take_while(|line| is_read(line)).count();
        if left_out > 0 {
            others.push(Stream::Err, true, format!("{left_out} more results, which nobody has read"));
        }
        others.write(written);
    }
}

/// What is left of [`MAX_OUTPUT`], without the room for a last line.
fn room(written: usize) -> usize {
    const LAST_LINE: usize = "(18446744073709551615 more lines)\n".len();
    MAX_OUTPUT.saturating_sub(written + LAST_LINE)
}

/// Whether a write of a line blocks for no longer than this.
#[cfg(unix)]
fn takes_more_within(stream: Stream, patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let patience = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
    let takes_more = |stream: PollFd<'_>| {
        // A signal ends the wait, too.
        matches!(poll(&mut [stream], Some(&patience)), Ok(1..))
    };
    match stream {
        Stream::Out => takes_more(PollFd::new(&io::stdout(), PollFlags::OUT)),
        Stream::Err => takes_more(PollFd::new(&io::stderr(), PollFlags::OUT)),
    }
}

#[cfg(not(unix))]
fn takes_more_within(_: Stream, _: Duration) -> bool {
    true
}
