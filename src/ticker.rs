//! What a watch tells, as it happens: a line with its time for each change.

use std::time::SystemTime;

use rustls_pki_types::UnixTime;

use crate::{
    certificate::date_time,
    config::{Config, Style},
    json::{Detail, Line},
    outcome::{Phase, Verdict},
    output::{Gone, Stream, write_patiently},
    text::{MAX_MESSAGE, MAX_NOTE, printable},
};

/// Tells of one target.
#[derive(Debug)]
pub(crate) struct Ticker<'a> {
    pub(crate) style: Style,
    pub(crate) config: &'a Config,
}

impl Ticker<'_> {
    /// Tells what has come of the server, at which address if several are watched, and of which `peer`, if known.
    ///
    /// # Errors
    /// Nobody reads on.
    pub(crate) async fn verdict(
        &self,
        address: Option<&str>,
        peer: Option<&str>,
        verdict: &Verdict,
    ) -> Result<(), Gone> {
        let time = now();
        let failure = verdict.failure.as_ref();
        if self.style.json {
            let (addr, service) = (Some(self.config.address.as_str()), Some(verdict.service.as_str()));
            let mut line = Line::new(Detail::All, addr, service, verdict.status.as_deref(), failure);
            line.time = Some(&time);
            line.peer = peer.or(address);
            return write_patiently(Stream::Result, &format!("{line}\n")).await;
        }
        let start = start(&time, address);
        let Some(failure) = failure else {
            return write_patiently(Stream::Result, &format!("{start}status: SERVING\n")).await;
        };
        let message = printable(&failure.message, MAX_MESSAGE);
        if failure.kind.phase() == Phase::Health {
            return write_patiently(Stream::Result, &format!("{start}{message}\n")).await;
        }
        let hint = failure.hint.as_ref().map(|hint| format!("hint: {}\n", printable(hint, MAX_NOTE)));
        let lines = format!("{start}error: {message}\n{}", hint.unwrap_or_default());
        write_patiently(Stream::Diagnosis, &lines).await
    }

    /// Tells that the server is there again. In JSON the next status says so.
    ///
    /// # Errors
    /// Nobody reads on.
    pub(crate) async fn connected_again(&self, address: Option<&str>, peer: Option<&str>) -> Result<(), Gone> {
        if self.style.json {
            return Ok(());
        }
        let start = start(&now(), address);
        let peer = peer.map_or_else(String::new, |peer| format!(" ({peer})"));
        let target = printable(&self.config.address, MAX_NOTE);
        write_patiently(Stream::Diagnosis, &format!("{start}connected to {target} again{peer}\n")).await
    }
}

fn start(time: &str, address: Option<&str>) -> String {
    address.map_or_else(|| format!("{time} "), |address| format!("{time} {}: ", printable(address, MAX_NOTE)))
}

/// The time in RFC 3339, UTC, to the millisecond.
fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let second = date_time(UnixTime::since_unix_epoch(since));
    format!("{}.{:03}Z", second.trim_end_matches('Z'), since.subsec_millis())
}
