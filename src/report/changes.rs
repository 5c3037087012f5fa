//! Reports the changes during a watch when they happen: one line per change, with its time.

use std::time::SystemTime;

use rustls_pki_types::UnixTime;

use super::{
    json::{Detail, Line},
    style::Style,
    writer::{NotWritten, Stream, write_when_read},
};
use crate::{
    outcome::{Phase, Verdict},
    text::{MAX_MESSAGE, MAX_NOTE, printable},
    tls::date_time,
};

/// Writes the changes of one target.
#[derive(Debug, Clone, Copy)]
pub struct Changes<'a> {
    pub(crate) style: Style,
    /// The address as the user gave it.
    pub(crate) target: &'a str,
}

impl Changes<'_> {
    /// Writes the verdict on the server: at this address, if several are watched, and with this `peer`, if known.
    ///
    /// # Errors
    /// The output is closed.
    pub(crate) async fn verdict(
        &self,
        address: Option<&str>,
        peer: Option<&str>,
        verdict: &Verdict,
    ) -> Result<(), NotWritten> {
        let time = now();
        if self.style.json {
            let line = Line::of_verdict(Detail::All, Some(self.target), verdict).at(&time, peer.or(address));
            return write_when_read(Stream::Out, &format!("{line}\n")).await;
        }
        let start = start(&time, address);
        let Some(failure) = verdict.failure() else {
            return write_when_read(Stream::Out, &format!("{start}status: SERVING\n")).await;
        };
        let message = printable(&failure.message, MAX_MESSAGE);
        if failure.kind.phase() == Phase::Health {
            return write_when_read(Stream::Out, &format!("{start}{message}\n")).await;
        }
        let hint = failure.hint.as_ref().map(|hint| format!("hint: {}\n", printable(hint, MAX_NOTE)));
        let lines = format!("{start}error: {message}\n{}", hint.unwrap_or_default());
        write_when_read(Stream::Err, &lines).await
    }

    /// Writes that the connection is open again. In JSON, the next status shows that.
    ///
    /// # Errors
    /// The output is closed.
    pub(crate) async fn connected_again(&self, address: Option<&str>, peer: Option<&str>) -> Result<(), NotWritten> {
        if self.style.json {
            return Ok(());
        }
        let start = start(&now(), address);
        let peer = peer.map_or_else(String::new, |peer| format!(" ({})", printable(peer, MAX_NOTE)));
        let target = printable(self.target, MAX_NOTE);
        write_when_read(Stream::Err, &format!("{start}connected to {target} again{peer}\n")).await
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
