//! Reports the changes during a watch when they happen: one line per change, with its time.

use std::time::SystemTime;

use rustls_pki_types::UnixTime;

use super::{
    json::{Detail, Line},
    progress::Progress,
    stream::Stream,
    style::Style,
};
use crate::{
    outcome::{Session, Verdict},
    text::{MAX_MESSAGE, MAX_NOTE, printable},
    tls::date_time,
};

/// Writes the changes of one target.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    pub(crate) style: Style,
    /// The address as the user gave it.
    pub(crate) target: &'a str,
    /// What else is written meanwhile.
    pub(crate) progress: &'a Progress,
}

impl Changes<'_> {
    /// Writes the verdict on the server: at this address, if several are watched, and with this `peer` and `session`, if known.
    pub(crate) fn verdict(
        &self,
        address: Option<&str>,
        peer: Option<&str>,
        session: Option<&Session>,
        verdict: &Verdict,
    ) {
        let (stream, text) = self.text(&now(), address, peer, session, verdict);
        self.progress.writer.write(stream, text);
    }

    /// What to write of a verdict, and where.
    fn text(
        &self,
        time: &str,
        address: Option<&str>,
        peer: Option<&str>,
        session: Option<&Session>,
        verdict: &Verdict,
    ) -> (Stream, String) {
        if self.style.json {
            let line = Line::of_verdict(Detail::All, Some(self.target), verdict).at(time, peer.or(address), session);
            return (Stream::Out, format!("{line}\n"));
        }
        let start = start(time, address);
        let Some(failure) = verdict.failure() else { return (Stream::Out, format!("{start}status: SERVING\n")) };
        let message = printable(&failure.message, MAX_MESSAGE);
        // Standard output has what servers answered, and nothing else can look like that.
        if verdict.status().is_some() {
            return (Stream::Out, format!("{start}{message}\n"));
        }
        let hint = failure.hint.as_ref().map(|hint| format!("hint: {}\n", printable(hint, MAX_NOTE)));
        (Stream::Err, format!("{start}error: {message}\n{}", hint.unwrap_or_default()))
    }

    /// What is written to standard output of a verdict.
    #[cfg(test)]
    pub(crate) fn stdout(&self, address: Option<&str>, verdict: &Verdict) -> String {
        let (stream, text) = self.text(&now(), address, None, None, verdict);
        if stream == Stream::Out { text } else { String::new() }
    }

    /// Writes that the connection is open again. In JSON, the next status shows that.
    pub(crate) fn connected_again(&self, address: Option<&str>, peer: Option<&str>) {
        if self.style.json {
            return;
        }
        let start = start(&now(), address);
        let peer = peer.map_or_else(String::new, |peer| format!(" ({})", printable(peer, MAX_NOTE)));
        let target = printable(self.target, MAX_NOTE);
        self.progress.writer.write(Stream::Err, format!("{start}connected to {target} again{peer}\n"));
    }
}

fn start(time: &str, address: Option<&str>) -> String {
    address.map_or_else(|| format!("{time} "), |address| format!("{time} {}: ", printable(address, MAX_NOTE)))
}

/// The current time in RFC 3339, UTC, with milliseconds.
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let second = date_time(UnixTime::since_unix_epoch(since));
    format!("{}.{:03}Z", second.trim_end_matches('Z'), since.subsec_millis())
}
