//! The last step: what the user gets to read. The only file that prints.

use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal, Write},
    time::Duration,
};

use serde::Serialize;

use crate::{
    certificate::{date_time, describe},
    config::Style,
    goflag::format_duration,
    journal::{Record, Session, Timings},
    outcome::{Failure, Phase, Verdict},
    text::printable,
};

/// All that a probe prints: what Docker keeps of a health check's output.
const MAX_OUTPUT: usize = 4096;
/// What is told on the way may take of it, so that the result has its place.
const MAX_VERBOSE: usize = 1600;
/// The longest message.
const MAX_MESSAGE: usize = 1200;
/// The longest hint, name, address or line of `-v`.
const MAX_NOTE: usize = 300;

/// The longest cause in a line that is written over: with what is before it, it must not wrap.
const MAX_LIVE: usize = 50;

/// What a probe came to, with everything that is told of it.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// The address as the user gave it.
    pub(crate) address: Option<&'a str>,
    pub(crate) services: &'a [String],
    /// A verdict for each service, or what kept the probe from asking.
    pub(crate) verdicts: Result<Vec<Verdict>, Failure>,
    pub(crate) record: Option<Record>,
}

impl Report<'_> {
    /// Prints the report after what was told `aside`; the worst phase that failed, if any, is for the exit code.
    pub(crate) fn print(&self, style: Style, aside: Option<&Aside>) -> Option<Phase> {
        let printed = aside.map_or(0, Aside::printed);
        if style.json {
            // No object is worth less than another; when they are too many, each is brief.
            let output = self.json(style, Detail::All);
            let output = if output.fits(printed) { output } else { self.json(style, Detail::Brief) };
            output.print(printed);
        } else {
            self.text(style).print(printed);
        }
        match &self.verdicts {
            Ok(verdicts) => verdicts.iter().filter_map(|verdict| Some(verdict.failure.as_ref()?.kind.phase())).min(),
            Err(failure) => Some(failure.kind.phase()),
        }
    }

    fn text(&self, style: Style) -> Output {
        let mut output = Output::default();
        match &self.verdicts {
            Ok(verdicts) => {
                let names = if self.services.len() > 1 { self.services } else { &[] };
                for (index, verdict) in verdicts.iter().enumerate() {
                    text(&mut output, style, names.get(index), verdict.failure.as_ref());
                }
            }
            Err(failure) => text(&mut output, style, None, Some(failure)),
        }
        output
    }

    /// An object for each service, also where nothing could be asked.
    fn json(&self, style: Style, detail: Detail) -> Output {
        let mut output = Output::default();
        let mut push = |service: Option<&str>, status: Option<&str>, failure: Option<&Failure>| {
            if failure.is_some() || !style.quiet {
                output.push(Stream::Result, failure.is_some(), self.line(detail, service, status, failure));
            }
        };
        match &self.verdicts {
            Ok(verdicts) => {
                for (service, verdict) in self.services.iter().zip(verdicts) {
                    push(Some(service), verdict.status.as_deref(), verdict.failure.as_ref());
                }
            }
            Err(failure) if self.services.is_empty() => push(None, None, Some(failure)),
            Err(failure) => self.services.iter().for_each(|service| push(Some(service), None, Some(failure))),
        }
        output
    }

    fn line(&self, detail: Detail, service: Option<&str>, status: Option<&str>, failure: Option<&Failure>) -> String {
        let is_brief = detail == Detail::Brief;
        let record = self.record.as_ref().filter(|_| !is_brief);
        let line = Line {
            addr: self.address.filter(|_| !is_brief).map(|address| printable(address, MAX_NOTE)),
            peer: record.and_then(|record| record.peer.as_deref()),
            service: service.map(|service| printable(service, MAX_NOTE)),
            healthy: failure.is_none(),
            status,
            timings_ms: record.map(|record| Milliseconds::from(record.timings)).filter(Milliseconds::has_any),
            tls: record.and_then(|record| record.session.as_ref()).map(TlsLine::from),
            error: failure.map(|failure| ErrorLine {
                phase: failure.kind.phase().name(),
                kind: failure.kind.name(),
                message: Some(printable(&failure.message, MAX_MESSAGE)).filter(|_| !is_brief),
                hint: failure.hint.as_deref().filter(|_| !is_brief).map(|hint| printable(hint, MAX_NOTE)),
                grpc_code: failure.grpc_code.map(i32::from),
            }),
        };
        // Strings and numbers with string keys always serialise.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// How much an object in JSON tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    All,
    /// What a program needs to act: service, status, kind.
    Brief,
}

fn text(output: &mut Output, style: Style, service: Option<&String>, failure: Option<&Failure>) {
    let prefix = service.map_or_else(String::new, |service| format!("{}: ", printable(service, MAX_NOTE)));
    let Some(failure) = failure else {
        if !style.quiet {
            output.push(Stream::Result, false, format!("{prefix}status: SERVING"));
        }
        return;
    };
    let message = printable(&failure.message, MAX_MESSAGE);
    if failure.kind.phase() == Phase::Health {
        output.push(Stream::Result, true, format!("{prefix}{message}"));
    } else {
        output.push(Stream::Diagnosis, true, format!("error: {prefix}{message}"));
    }
    if let Some(hint) = &failure.hint {
        output.push(Stream::Diagnosis, true, format!("hint: {}", printable(hint, MAX_NOTE)));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// Standard output.
    Result,
    /// Standard error.
    Diagnosis,
}

/// Lines for both streams.
#[derive(Default)]
struct Output {
    lines: Vec<OutputLine>,
}

struct OutputLine {
    stream: Stream,
    tells_failure: bool,
    text: String,
}

impl Output {
    /// Adds a line; one that tells of a failure is left out last.
    fn push(&mut self, stream: Stream, tells_failure: bool, line: String) {
        self.lines.push(OutputLine { stream, tells_failure, text: line + "\n" });
    }

    /// Whether there is room for all lines after what was `printed` already.
    fn fits(&self, printed: usize) -> bool {
        self.lines.iter().map(|line| line.text.len()).sum::<usize>() <= room(printed)
    }

    /// Prints the lines in their order, as many as there is room for.
    fn print(&self, printed: usize) {
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
            match stream {
                Stream::Result => write(io::stdout(), &text),
                Stream::Diagnosis => write(io::stderr(), &text),
            }
        }
    }
}

/// What is left of [`MAX_OUTPUT`], a last word spared.
fn room(printed: usize) -> usize {
    const LAST_WORD: usize = "(18446744073709551615 more lines)\n".len();
    MAX_OUTPUT.saturating_sub(printed + LAST_WORD)
}

/// Prints text that was asked for: help, version.
pub(crate) fn print(text: &str) {
    write(io::stdout(), text);
}

/// A stream that is closed, full or stuck changes nothing: the exit code is the result.
fn write(mut stream: impl Write + Stuck, text: &str) {
    if !text.is_empty() && !stream.is_stuck() {
        let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    }
}

/// A stream whose reader may not read.
trait Stuck {
    /// Whether a write would block for longer than a reader needs who reads. A person at a terminal gets more time.
    fn is_stuck(&self) -> bool;
}

#[cfg(unix)]
impl<S: std::os::fd::AsFd + IsTerminal> Stuck for S {
    fn is_stuck(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        // A signal ends the wait, too.
        let takes_within =
            |patience: Timespec| matches!(poll(&mut [PollFd::new(self, PollFlags::OUT)], Some(&patience)), Ok(1..));
        let is_ready = takes_within(Timespec { tv_sec: 0, tv_nsec: 50_000_000 });
        // Somebody may hold a terminal's output while they read.
        !(is_ready || self.is_terminal() && takes_within(Timespec { tv_sec: 5, tv_nsec: 0 }))
    }
}

#[cfg(not(unix))]
impl<S> Stuck for S {
    fn is_stuck(&self) -> bool {
        false
    }
}

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
}

impl Aside {
    pub(crate) fn new(style: Style) -> Self {
        Self {
            printed: Cell::new(0),
            has_live_line: Cell::new(false),
            cause: RefCell::default(),
            is_quiet: style.quiet,
        }
    }

    /// The options as they were understood.
    pub(crate) fn options(&self, lines: &[String]) {
        self.line("parsed options:");
        for line in lines {
            self.line(&format!("> {}", printable(line, MAX_NOTE)));
        }
    }

    /// A phase, what came of it, and the time it took.
    pub(crate) fn phase(&self, phase: Phase, took: Option<Duration>, what: &str) {
        let took = took.map_or_else(String::new, |took| format!(" ({})", format_duration(rounded(took))));
        self.line(&format!("{}: {}{took}", phase.name(), printable(what, MAX_NOTE)));
    }

    /// What is waited for: at a terminal one line that lives, elsewhere a line when the cause is another.
    pub(crate) fn waiting(&self, elapsed: Duration, attempts: u32, cause: &str) {
        if self.is_quiet {
            return;
        }
        if io::stderr().is_terminal() {
            self.end_live_line();
            self.has_live_line.set(true);
            let cause = printable(cause, MAX_LIVE);
            write(io::stderr(), &format!("waiting {:.1}s, attempt {attempts}: {cause}", elapsed.as_secs_f32()));
        } else if *self.cause.borrow() != cause {
            self.line(&format!("waiting: {}", printable(cause, MAX_NOTE)));
            cause.clone_into(&mut self.cause.borrow_mut());
        }
    }

    fn line(&self, line: &str) {
        self.end_live_line();
        let printed = self.printed.get() + line.len() + 1;
        if printed <= MAX_VERBOSE || io::stderr().is_terminal() {
            self.printed.set(printed);
            write(io::stderr(), &format!("{line}\n"));
        }
    }

    /// Wipes the line that lives, for another or for the result.
    fn end_live_line(&self) {
        if self.has_live_line.replace(false) {
            // ECMA-48: back to its beginning, and erase it.
            write(io::stderr(), "\r\u{1b}[2K");
        }
    }

    fn printed(&self) -> usize {
        self.end_live_line();
        self.printed.get()
    }
}

/// To microseconds: more digits would only pretend.
fn rounded(duration: Duration) -> Duration {
    Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// One result in JSON. Absent things are left out.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings_ms: Option<Milliseconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorLine>,
}

#[derive(Serialize)]
struct Milliseconds {
    #[serde(skip_serializing_if = "Option::is_none")]
    resolve: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http2: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rpc: Option<f64>,
}

impl Milliseconds {
    fn has_any(&self) -> bool {
        [self.resolve, self.connect, self.tls, self.http2, self.rpc].iter().any(Option::is_some)
    }
}

impl From<Timings> for Milliseconds {
    fn from(timings: Timings) -> Self {
        // Whole microseconds, so that no digit is noise.
        let milliseconds = |took: Option<Duration>| Some(f64::from(u32::try_from(took?.as_micros()).ok()?) / 1000.0);
        Self {
            resolve: milliseconds(timings.resolve),
            connect: milliseconds(timings.connect),
            tls: milliseconds(timings.tls),
            http2: milliseconds(timings.http2),
            rpc: milliseconds(timings.rpc),
        }
    }
}

#[derive(Serialize)]
struct TlsLine<'a> {
    version: &'a str,
    cipher: &'a str,
    server_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
}

impl<'a> From<&'a Session> for TlsLine<'a> {
    fn from(session: &'a Session) -> Self {
        Self {
            version: &session.version,
            cipher: &session.cipher,
            server_name: &session.server_name,
            not_after: session
                .certificate
                .as_ref()
                .and_then(describe)
                .map(|certificate| date_time(certificate.not_after)),
        }
    }
}

#[derive(Serialize)]
struct ErrorLine {
    phase: &'static str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_code: Option<i32>,
}
