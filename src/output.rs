//! Standard output and standard error: the only file that writes to them. A stream that is closed, full or stuck changes
//! no exit code, and nothing is longer than what Docker keeps, but for lists and watches.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::time::sleep;

/// All that a probe prints: what Docker keeps of a health check's output.
const MAX_OUTPUT: usize = 4096;
/// Longer than a reader needs who reads.
const SOON: Duration = Duration::from_millis(50);
/// How long a reader of much may take for what came before.
const READS_ON: Duration = Duration::from_secs(5);
/// How often to look whether a reader has caught up. The event cannot be awaited for every kind of stream: epoll takes no
/// files, and to make a pipe non-blocking would make it so for whoever shares it.
const LOOK: Duration = Duration::from_millis(10);

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Result,
    /// Standard error.
    Diagnosis,
}

/// Lines for both streams.
#[derive(Default)]
pub(crate) struct Output {
    lines: Vec<OutputLine>,
}

#[derive(Clone)]
struct OutputLine {
    stream: Stream,
    tells_failure: bool,
    text: String,
}

impl Output {
    /// Adds a line unless it is there: what to do about one failure is often what to do about the next.
    pub(crate) fn push_once(&mut self, stream: Stream, tells_failure: bool, line: String) {
        if !self.lines.iter().any(|there| there.text.strip_suffix('\n') == Some(&line)) {
            self.push(stream, tells_failure, line);
        }
    }

    /// Adds a line; one that tells of a failure is left out last.
    pub(crate) fn push(&mut self, stream: Stream, tells_failure: bool, line: String) {
        self.lines.push(OutputLine { stream, tells_failure, text: line + "\n" });
    }

    /// Whether there is room for all lines after what was `printed` already.
    pub(crate) fn fits(&self, printed: usize) -> bool {
        self.lines.iter().map(|line| line.text.len()).sum::<usize>() <= room(printed)
    }

    /// Prints the lines in their order, as many as there is room for.
    pub(crate) fn print(&self, printed: usize) {
        let mut room = room(printed);
        let mut fits = vec![false; self.lines.len()];
        for first_choice in [true, false] {
            for (line, fits) in self.lines.iter().zip(&mut fits) {
                if line.tells_failure == first_choice && line.text.len() <= room {
                    room -= line.text.len();
                    *fits = true;
                }
            }
        }
        for stream in [Stream::Result, Stream::Diagnosis] {
            let lines = self.lines.iter().zip(&fits).filter(|(line, fits)| line.stream == stream && **fits);
            let mut text: String = lines.map(|(line, _)| line.text.as_str()).collect();
            let left_out = fits.iter().filter(|fits| !**fits).count();
            if stream == Stream::Diagnosis && left_out > 0 {
                text += &format!("({left_out} more lines)\n");
            }
            write(stream, &text);
        }
    }

    /// Prints all results, however many there are, as long as somebody reads them.
    pub(crate) fn print_all(&self, printed: usize) {
        let (results, diagnosis) =
            self.lines.iter().cloned().partition::<Vec<_>, _>(|line| line.stream == Stream::Result);
        let mut diagnosis = Self { lines: diagnosis };
        let is_read = |line: &OutputLine| {
            takes_more_within(Stream::Result, READS_ON) && write_all(Stream::Result, &line.text).is_ok()
        };
        let left_out = results.len() - results.iter().take_while(|line| is_read(line)).count();
        if left_out > 0 {
            diagnosis.push(Stream::Diagnosis, true, format!("{left_out} more results, which nobody has read"));
        }
        diagnosis.print(printed);
    }
}

/// What is left of [`MAX_OUTPUT`], a last word spared.
fn room(printed: usize) -> usize {
    const LAST_WORD: usize = "(18446744073709551615 more lines)\n".len();
    MAX_OUTPUT.saturating_sub(printed + LAST_WORD)
}

/// Prints text that was asked for: help, version.
pub(crate) fn print(text: &str) {
    write(Stream::Result, text);
}

/// Whether a person reads this stream. They get more time: somebody may hold a terminal's output while they read.
pub(crate) fn is_terminal(stream: Stream) -> bool {
    match stream {
        Stream::Result => io::stdout().is_terminal(),
        Stream::Diagnosis => io::stderr().is_terminal(),
    }
}

/// A stream that is closed, full or stuck changes nothing: the exit code is the result.
pub(crate) fn write(stream: Stream, text: &str) {
    if text.is_empty() {
        return;
    }
    if takes_more_within(stream, SOON) || is_terminal(stream) && takes_more_within(stream, READS_ON) {
        let _ = write_all(stream, text);
    }
}

/// The reader of results has gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// Writes a line as soon as the reader has read those before it, however long that takes.
///
/// # Errors
/// Nobody reads results any more. Other errors change nothing: the line is lost.
pub(crate) async fn write_patiently(stream: Stream, line: &str) -> Result<(), Gone> {
    while !takes_more_within(stream, Duration::ZERO) {
        sleep(LOOK).await;
    }
    match write_all(stream, line) {
        Err(error) if stream == Stream::Result && error.kind() == io::ErrorKind::BrokenPipe => Err(Gone),
        _ => Ok(()),
    }
}

fn write_all(stream: Stream, text: &str) -> io::Result<()> {
    match stream {
        Stream::Result => {
            let mut stdout = io::stdout();
            stdout.write_all(text.as_bytes())?;
            stdout.flush()
        }
        Stream::Diagnosis => io::stderr().write_all(text.as_bytes()),
    }
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
        Stream::Result => takes_more(PollFd::new(&io::stdout(), PollFlags::OUT)),
        Stream::Diagnosis => takes_more(PollFd::new(&io::stderr(), PollFlags::OUT)),
    }
}

/// Whether anybody may read results, as far as that is seen without writing: the other end of a pipe is open.
#[cfg(unix)]
pub(crate) fn has_reader() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let stdout = io::stdout();
    let mut stdout = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut stdout, Some(&at_once)).is_err() || !stdout[0].revents().contains(PollFlags::ERR)
}

/// Nobody can tell.
#[cfg(not(unix))]
pub(crate) fn has_reader() -> bool {
    true
}

#[cfg(not(unix))]
fn takes_more_within(_: Stream, _: Duration) -> bool {
    true
}
