//! The last step: reports the result of a probe.

mod changes;
mod diagnosis;
mod json;
mod page;
mod progress;
mod queue;
mod reader;
mod snippets;
mod stream;
mod style;
mod writer;

pub(crate) use self::{diagnosis::Diagnosis, reader::reader_gone};
use std::{panic, process};

pub use self::{changes::Changes, progress::Progress, style::Style};
use self::{
    json::{Detail, Line},
    stream::Stream,
    writer::{Lines, Stop, Writer},
};
use crate::{
    duration::{format_duration, to_microseconds},
    outcome::{Failure, Health, Kind, NonEmpty, ProbeResult, Verdict, health_of},
    rpc::Question,
    signals::survive_file_size_limit,
    text::{MAX_MESSAGE, MAX_NOTE, printable, service_name},
};

/// Writes text that the user asked for, such as the help.
pub fn print(text: String) {
    let _ = Writer::default().write_all(&mut [text].into_iter(), &|| None);
}

/// Lets neither a limit on the size of files nor a panic end the probe by a signal, which says nothing. A panic, which is a bug
/// here, is reported in one line without paths of the build, with the exit code of a probe that could not begin.
pub fn end_by_exit_code() {
    survive_file_size_limit();
    panic::set_hook(Box::new(|panic| {
        Writer::default().finish([(Stream::Err, panic_text(panic.payload_as_str(), panic.location()))]);
        process::exit(1);
    }));
}

fn panic_text(message: Option<&str>, location: Option<&panic::Location<'_>>) -> String {
    let message = printable(message.unwrap_or("no message"), MAX_NOTE);
    let place = location.and_then(|place| Some((place.file().rsplit(['/', '\\']).next()?, place.line())));
    let place = place.map_or_else(String::new, |(file, line)| format!(" ({file}:{line})"));
    format!("error: grpc_health_probe has a bug: {message}{place}\n")
}

/// The result of a probe, with everything that the report needs.
#[derive(Debug)]
pub struct Report<'a> {
    /// The address as the user gave it.
    pub address: Option<&'a str>,
    /// What the probe should ask, if the options were valid.
    pub question: Option<&'a Question>,
    /// The result for each peer.
    pub results: NonEmpty<ProbeResult>,
}

impl Report<'_> {
    /// Writes the report after the progress. Returns the health of all results, for the exit code. A list, which may take long
    /// to read, ends early when `stop` says why.
    pub fn print(&self, style: Style, progress: &Progress, stop: Stop<'_>) -> Health {
        let (writer, written) = (&progress.writer, progress.finish());
        if self.is_list() {
            // The user asked for all of a list. Where it is cut nevertheless, the worst came first.
            let mut others = self.unlisted(style);
            let results = others.take_results();
            others.write_after(self.list(style).chain(results), writer, written, stop);
        } else {
            self.lines(style, written).write(writer, written);
        }
        health_of(&self.results)
    }

    /// What to write after the `written` bytes of progress, but for a list.
    fn lines(&self, style: Style, written: usize) -> Lines {
        if !style.json {
            return self.text(style);
        }
        // Every object is worth the same. Where they are too many, each is brief.
        let lines = self.json(style, Detail::All);
        if lines.fits(written) { lines } else { self.json(style, Detail::Brief) }
    }

    /// What is written to standard output and to standard error.
    #[cfg(test)]
    pub(crate) fn printed(&self, style: Style, written: usize) -> [String; 2] {
        if !self.is_list() {
            return self.lines(style, written).printed(written);
        }
        let mut others = self.unlisted(style);
        let results = others.take_results();
        let [_, err] = others.printed(written);
        [self.list(style).chain(results).collect(), err]
    }

    fn is_list(&self) -> bool {
        matches!(self.question, Some(Question::List))
    }

    fn services(&self) -> &[String] {
        self.question.map_or(&[], Question::services)
    }

    fn text(&self, style: Style) -> Lines {
        let mut lines = Lines::default();
        for result in self.results.iter() {
            let of_address = Frame::of_address(result);
            match &result.verdicts {
                Ok(verdicts) => {
                    for verdict in verdicts.iter() {
                        let has_name = self.services().len() > 1;
                        let frame =
                            if has_name { of_address.with_service(verdict.service()) } else { of_address.clone() };
                        let target = result.address.as_deref().or(self.address).unwrap_or_default();
                        push_verdict(&mut lines, style, target, &frame, verdict);
                    }
                }
                Err(failure) => push_error(&mut lines, &of_address, failure),
            }
        }
        lines
    }

    /// The services of a list, the worst first, line by line: a table, or objects.
    fn list(&self, style: Style) -> Box<dyn Iterator<Item = String> + '_> {
        if style.json {
            return Box::new(self.listed().filter_map(move |(result, verdict)| {
                let is_shown = verdict.failure().is_some() || !style.quiet;
                is_shown.then(|| format!("{}\n", self.object(Detail::All, result, verdict)))
            }));
        }
        let rows = || self.listed().filter_map(|(result, verdict)| row(result, verdict));
        let header = ["ADDRESS", "SERVICE", "STATUS"].map(str::to_owned);
        let header = rows().next().map(|_| header);
        let (mut first, mut second) = (0, 0);
        for [address, service, _] in header.clone().into_iter().chain(rows()) {
            first = first.max(address.chars().count());
            second = second.max(service.chars().count());
        }
        let has_addresses = self.results.iter().any(|result| result.address.is_some());
        Box::new(header.into_iter().chain(rows()).map(move |[address, service, status]| {
            let address = if has_addresses { format!("{address:first$}  ") } else { String::new() };
            format!("{address}{service:second$}  {status}\n")
        }))
    }

    /// The failures of addresses without a list, and of services without a status.
    fn unlisted(&self, style: Style) -> Lines {
        if style.json {
            return self.json(style, Detail::All);
        }
        let mut lines = Lines::default();
        for result in self.results.iter() {
            let of_address = Frame::of_address(result);
            match &result.verdicts {
                Ok(verdicts) => {
                    let unanswered = verdicts.iter().filter(|verdict| verdict.status().is_none());
                    for (verdict, failure) in unanswered.filter_map(|verdict| Some((verdict, verdict.failure()?))) {
                        push_error(&mut lines, &of_address.with_service(verdict.service()), failure);
                    }
                }
                Err(failure) => push_error(&mut lines, &of_address, failure),
            }
        }
        lines
    }

    /// All verdicts of a list, the worst first, otherwise in order.
    fn listed(&self) -> impl Iterator<Item = (&ProbeResult, &Verdict)> {
        (0..=2).rev().flat_map(|rank| {
            let verdicts = self.results.iter().flat_map(|result| {
                result.verdicts.iter().flat_map(|verdicts| verdicts.iter()).map(move |verdict| (result, verdict))
            });
            verdicts.filter(move |(_, verdict)| rank_in_list(verdict) == rank)
        })
    }

    /// An object for each service that is not in a list, also if no request was sent.
    fn json(&self, style: Style, detail: Detail) -> Lines {
        let mut lines = Lines::default();
        for result in self.results.iter() {
            match &result.verdicts {
                Ok(_) if self.is_list() => {}
                Ok(verdicts) => {
                    verdicts.iter().for_each(|verdict| self.push_object(&mut lines, style, detail, result, verdict));
                }
                Err(failure) => {
                    let mut push = |service| {
                        let alive = style.alive.then_some(false);
                        let line = Line::of_failure(detail, self.address, service, alive, failure);
                        lines.push(Stream::Out, true, line.with_record(detail, result).to_string());
                    };
                    match self.services() {
                        [] => push(None),
                        services => services.iter().for_each(|service| push(Some(service))),
                    }
                }
            }
        }
        lines
    }

    fn push_object(&self, lines: &mut Lines, style: Style, detail: Detail, result: &ProbeResult, verdict: &Verdict) {
        let is_failure = verdict.failure().is_some();
        if is_failure || !style.quiet {
            lines.push(Stream::Out, is_failure, self.object(detail, result, verdict));
        }
    }

    fn object(&self, detail: Detail, result: &ProbeResult, verdict: &Verdict) -> String {
        Line::of_verdict(detail, self.address, verdict).with_record(detail, result).to_string()
    }
}

/// A row of the table. A service without a status has none.
fn row(result: &ProbeResult, verdict: &Verdict) -> Option<[String; 3]> {
    let address = result.address.as_deref().unwrap_or_default();
    let row = [address, service_name(verdict.service()), verdict.status()?];
    Some(row.map(|cell| printable(cell, MAX_NOTE)))
}

/// The rank of a verdict in a list, highest first.
fn rank_in_list(verdict: &Verdict) -> u8 {
    match verdict.failure().map(|failure| failure.kind) {
        Some(Kind::NotServing) => 2,
        Some(_) => 1,
        None => 0,
    }
}

/// The text before and after a message that says which of several results it belongs to.
#[derive(Clone)]
struct Frame {
    before: String,
    after: String,
}

impl Frame {
    /// The address and the duration, if there are several addresses.
    fn of_address(result: &ProbeResult) -> Self {
        match &result.address {
            None => Self { before: String::new(), after: String::new() },
            Some(address) => Self {
                before: format!("{}: ", printable(address, MAX_NOTE)),
                after: format!(" ({})", format_duration(to_microseconds(result.took))),
            },
        }
    }

    fn with_service(&self, service: &str) -> Self {
        let before = format!("{}{}: ", self.before, printable(service_name(service), MAX_NOTE));
        Self { before, after: self.after.clone() }
    }
}

/// Reports the verdict on an answer of `target`.
fn push_verdict(lines: &mut Lines, style: Style, target: &str, frame: &Frame, verdict: &Verdict) {
    let Frame { before, after } = frame;
    match (verdict.failure(), verdict.status()) {
        (None, _) if style.quiet => {}
        (None, _) if style.alive => {
            lines.push(Stream::Out, false, format!("{before}alive: {}{after}", answer(target, verdict)));
        }
        (None, _) => lines.push(Stream::Out, false, format!("{before}status: SERVING{after}")),
        // Standard output has what servers answered, and nothing else can look like that.
        (Some(failure), Some(_)) => {
            let message = printable(&failure.message, MAX_MESSAGE);
            lines.push(Stream::Out, true, format!("{before}{message}{after}"));
            push_hint(lines, failure);
        }
        (Some(failure), None) => push_error(lines, frame, failure),
    }
}

/// What a server that is alive answered: a status, or an error.
fn answer(target: &str, verdict: &Verdict) -> String {
    match (verdict.status(), verdict.not_serving()) {
        (None, Some(failure)) => match failure.cause(target).split_once(": ") {
            Some((code, text)) => format!("{code} ({})", printable(text, MAX_MESSAGE)),
            None => printable(failure.cause(target), MAX_MESSAGE),
        },
        (status, _) => format!("status {}", status.unwrap_or_default()),
    }
}

/// Why there is no status. An empty list is an answer, too.
fn push_error(lines: &mut Lines, Frame { before, after }: &Frame, failure: &Failure) {
    if failure.kind == Kind::NothingListed {
        lines.push(Stream::Out, true, format!("{before}{}{after}", Failure::NOTHING_LISTED));
    } else {
        let message = printable(&failure.message, MAX_MESSAGE);
        lines.push(Stream::Err, true, format!("error: {before}{message}{after}"));
    }
    push_hint(lines, failure);
}

fn push_hint(lines: &mut Lines, failure: &Failure) {
    if let Some(hint) = &failure.hint {
        lines.push_once(Stream::Err, true, format!("hint: {}", printable(hint, MAX_NOTE)));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::panic_text;

    #[test]
    fn panic_text_has_no_directory() {
        let text = panic_text(Some("a\u{1b}b"), Some(Location::caller()));
        let expected = "error: grpc_health_probe has a bug: a\\u{1b}b (report.rs:";
        assert!(text.starts_with(expected) && text.ends_with(")\n"), "{text}");
        assert_eq!(panic_text(None, None), "error: grpc_health_probe has a bug: no message\n");
    }
}
