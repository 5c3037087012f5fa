//! Reports the changes during a watch when they happen: one line per change, with its time.

use std::time::{Duration, SystemTime};

use super::{
    json::{Detail, Line},
    progress::Progress,
    stream::Stream,
    style::Style,
};
use crate::{
    outcome::{Session, Verdict},
    text::{MAX_MESSAGE, MAX_NOTE, printable},
    tls::{date_time, unix_time},
};

/// The last second of the year 9999, since the beginning of 1970.
const END_OF_9999: Duration = Duration::from_secs(253_402_300_799);

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
    time_stamp(SystemTime::now())
}

/// A moment in RFC 3339, UTC, with milliseconds. That ends with the year 9999.
fn time_stamp(moment: SystemTime) -> String {
    let time = unix_time(moment.min(SystemTime::UNIX_EPOCH + END_OF_9999));
    let milliseconds = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_millis();
    format!("{}.{milliseconds:03}Z", date_time(time).trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{END_OF_9999, time_stamp};

    #[test]
    fn time_stamps_are_in_rfc_3339_whatever_the_clock_says() {
        let epoch = SystemTime::UNIX_EPOCH;
        for (moment, expected) in [
            (epoch - Duration::from_secs(1), "1970-01-01T00:00:00.000Z"),
            (epoch + Duration::from_millis(1_001), "1970-01-01T00:00:01.001Z"),
            (epoch + END_OF_9999, "9999-12-31T23:59:59.000Z"),
            (epoch + END_OF_9999 + Duration::from_millis(1_002), "9999-12-31T23:59:59.002Z"),
        ] {
            assert_eq!(time_stamp(moment), expected);
        }
    }
}
