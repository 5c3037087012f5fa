//! The last step: what the user gets to read of a probe.

use std::time::Duration;

use crate::{
    aside::Aside,
    config::{Question, Style},
    goflag::format_duration,
    json::{Detail, Line},
    outcome::{Failure, Phase, Probed, Verdict},
    output::{Output, Stream},
    text::{MAX_MESSAGE, MAX_NOTE, printable},
};

/// What a probe came to, with everything that is told of it.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    /// The address as the user gave it.
    pub(crate) address: Option<&'a str>,
    /// What was to be asked, if that was clear.
    pub(crate) question: Option<&'a Question>,
    pub(crate) probed: Vec<Probed>,
}

impl Report<'_> {
    /// Prints the report after what was told `aside`; the worst phase that failed, if any, is for the exit code.
    pub(crate) fn print(&self, style: Style, aside: Option<&Aside>) -> Option<Phase> {
        let printed = aside.map_or(0, Aside::printed);
        if self.is_list() {
            // All of it was asked for; and where it is cut after all, the worst came first.
            if style.json { self.json(style, Detail::All) } else { self.table(style) }.print_all(printed);
        } else if style.json {
            // No object is worth less than another; when they are too many, each is brief.
            let output = self.json(style, Detail::All);
            let output = if output.fits(printed) { output } else { self.json(style, Detail::Brief) };
            output.print(printed);
        } else {
            self.text(style).print(printed);
        }
        self.probed.iter().flat_map(Probed::failures).map(|failure| failure.kind.phase()).min()
    }

    fn is_list(&self) -> bool {
        matches!(self.question, Some(Question::List))
    }

    fn services(&self) -> &[String] {
        self.question.map_or(&[], Question::services)
    }

    fn text(&self, style: Style) -> Output {
        let mut output = Output::default();
        for probed in &self.probed {
            let of_address = Around::address(probed);
            match &probed.verdicts {
                Ok(verdicts) => {
                    for verdict in verdicts {
                        let has_name = self.services().len() > 1;
                        let around = if has_name { of_address.service(&verdict.service) } else { of_address.clone() };
                        tell(&mut output, style, &around, verdict.failure.as_ref());
                    }
                }
                Err(failure) => tell(&mut output, style, &of_address, Some(failure)),
            }
        }
        output
    }

    /// A table of services, the worst first, and what went wrong where there is none.
    fn table(&self, style: Style) -> Output {
        let mut output = Output::default();
        let has_addresses = self.probed.iter().any(|probed| probed.address.is_some());
        let mut rows: Vec<[String; 3]> = Vec::new();
        for (probed, verdict) in self.listed() {
            let service = if verdict.service.is_empty() { "\"\"" } else { &verdict.service };
            let status = verdict.status.as_deref().unwrap_or_default();
            let address = probed.address.as_deref().unwrap_or_default();
            rows.push([address, service, status].map(|cell| printable(cell, MAX_NOTE)));
        }
        if !rows.is_empty() {
            rows.insert(0, ["ADDRESS", "SERVICE", "STATUS"].map(str::to_owned));
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let (first, second) = (width(0), width(1));
        for [address, service, status] in &rows {
            let address = if has_addresses { format!("{address:first$}  ") } else { String::new() };
            output.push(Stream::Result, false, format!("{address}{service:second$}  {status}"));
        }
        for probed in &self.probed {
            if let Err(failure) = &probed.verdicts {
                tell(&mut output, style, &Around::address(probed), Some(failure));
            }
        }
        output
    }

    /// All that was listed, the worst first, otherwise in order.
    fn listed(&self) -> impl Iterator<Item = (&Probed, &Verdict)> {
        (0..=2).rev().flat_map(|weight| {
            let of_each = self
                .probed
                .iter()
                .flat_map(|probed| probed.verdicts.iter().flatten().map(move |verdict| (probed, verdict)));
            of_each.filter(move |(_, verdict)| verdict.weight() == weight)
        })
    }

    /// An object for each service, also where nothing could be asked.
    fn json(&self, style: Style, detail: Detail) -> Output {
        let mut output = Output::default();
        let mut push = |probed: &Probed, service: Option<&str>, status: Option<&str>, failure: Option<&Failure>| {
            if failure.is_some() || !style.quiet {
                let line = Line::new(detail, self.address, service, status, failure).of(detail, probed);
                output.push(Stream::Result, failure.is_some(), line.to_string());
            }
        };
        if self.is_list() {
            for (probed, verdict) in self.listed() {
                push(probed, Some(&verdict.service), verdict.status.as_deref(), verdict.failure.as_ref());
            }
        }
        for probed in &self.probed {
            match &probed.verdicts {
                Ok(_) if self.is_list() => {}
                Ok(verdicts) => {
                    for Verdict { service, status, failure } in verdicts {
                        push(probed, Some(service), status.as_deref(), failure.as_ref());
                    }
                }
                Err(failure) if self.services().is_empty() => push(probed, None, None, Some(failure)),
                Err(failure) => {
                    self.services().iter().for_each(|service| push(probed, Some(service), None, Some(failure)));
                }
            }
        }
        output
    }
}

/// What stands before and behind a line to tell which of several results it is.
#[derive(Clone)]
struct Around {
    before: String,
    behind: String,
}

impl Around {
    /// An address and the time it took, where there are several.
    fn address(probed: &Probed) -> Self {
        match &probed.address {
            None => Self { before: String::new(), behind: String::new() },
            Some(address) => Self {
                before: format!("{}: ", printable(address, MAX_NOTE)),
                behind: format!(" ({})", format_duration(rounded(probed.took))),
            },
        }
    }

    fn service(&self, service: &str) -> Self {
        let before = format!("{}{}: ", self.before, printable(service, MAX_NOTE));
        Self { before, behind: self.behind.clone() }
    }
}

fn tell(output: &mut Output, style: Style, Around { before, behind }: &Around, failure: Option<&Failure>) {
    let Some(failure) = failure else {
        if !style.quiet {
            output.push(Stream::Result, false, format!("{before}status: SERVING{behind}"));
        }
        return;
    };
    let message = printable(&failure.message, MAX_MESSAGE);
    if failure.kind.phase() == Phase::Health {
        output.push(Stream::Result, true, format!("{before}{message}{behind}"));
    } else {
        output.push(Stream::Diagnosis, true, format!("error: {before}{message}{behind}"));
    }
    if let Some(hint) = &failure.hint {
        output.push_once(Stream::Diagnosis, true, format!("hint: {}", printable(hint, MAX_NOTE)));
    }
}

/// To microseconds: more digits would only pretend.
pub(crate) fn rounded(duration: Duration) -> Duration {
    Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}
