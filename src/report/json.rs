//! The lines of `-output json`, part of the interface. Absent values are left out, never null.

use std::{fmt, time::Duration};

use serde::Serialize;

use crate::{
    outcome::{AltsSession, Failure, ProbeResult, Session, Timings, TlsSession, Verdict},
    text::{MAX_MESSAGE, MAX_NOTE, printable},
    tls::{date_time, describe},
};

/// One result in JSON.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    /// When a watch saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    healthy: bool,
    /// With `-alive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    alive: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings_ms: Option<Milliseconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alts: Option<AltsLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorLine>,
}

/// How detailed a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    All,
    /// What a program needs to act: the service, the status, the kind.
    Brief,
}

impl<'a> Line<'a> {
    /// The verdict on a service. `addr` is the address as the user gave it.
    pub(super) fn of_verdict(detail: Detail, addr: Option<&str>, verdict: &'a Verdict) -> Self {
        Line {
            healthy: verdict.is_serving(),
            alive: verdict.alive(),
            status: verdict.status(),
            ..Self::unhealthy(detail, addr, Some(verdict.service()), verdict.not_serving())
        }
    }

    /// The failure that prevented the request for a service, or all requests. `alive` is false if that decides.
    pub(super) fn of_failure(
        detail: Detail,
        addr: Option<&str>,
        service: Option<&str>,
        alive: Option<bool>,
        failure: &Failure,
    ) -> Self {
        Line { alive, ..Self::unhealthy(detail, addr, service, Some(failure)) }
    }

    fn unhealthy(detail: Detail, addr: Option<&str>, service: Option<&str>, failure: Option<&Failure>) -> Self {
        let is_brief = detail == Detail::Brief;
        Line {
            time: None,
            addr: addr.filter(|_| !is_brief).map(|addr| printable(addr, MAX_NOTE)),
            peer: None,
            service: service.map(|service| printable(service, MAX_NOTE)),
            healthy: false,
            alive: None,
            status: None,
            timings_ms: None,
            tls: None,
            alts: None,
            error: failure.map(|failure| ErrorLine {
                phase: failure.kind.phase().name(),
                kind: failure.kind.name(),
                message: Some(printable(&failure.message, MAX_MESSAGE)).filter(|_| !is_brief),
                hint: failure.hint.as_deref().filter(|_| !is_brief).map(|hint| printable(hint, MAX_NOTE)),
                grpc_code: failure.grpc_code.map(i32::from),
            }),
        }
    }

    /// Adds what the probe recorded.
    pub(super) fn with_record(mut self, detail: Detail, result: &'a ProbeResult) -> Self {
        let mut peer = result.address.as_deref();
        if let (Detail::All, Some(record)) = (detail, &result.record) {
            peer = record.peer.as_deref().or(peer);
            self.timings_ms = Some(Milliseconds::from(record.timings)).filter(Milliseconds::has_any);
            self = self.over(record.session.as_ref());
        }
        self.peer = peer.map(|peer| printable(peer, MAX_NOTE));
        self
    }

    /// Adds what the handshake agreed on.
    fn over(mut self, session: Option<&'a Session>) -> Self {
        match session {
            Some(Session::Tls(session)) => self.tls = Some(session.into()),
            Some(Session::Alts(session)) => self.alts = Some(session.into()),
            None => {}
        }
        self
    }

    /// Adds when a watch saw it, and of which peer and over which session, if these are known.
    pub(super) fn at(self, time: &'a str, peer: Option<&str>, session: Option<&'a Session>) -> Self {
        let peer = peer.map(|peer| printable(peer, MAX_NOTE));
        Self { time: Some(time), peer, ..self.over(session) }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Strings and numbers under string keys always serialise.
        f.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}

#[derive(Serialize)]
struct Milliseconds {
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolve: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alts: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http2: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rpc: Option<f64>,
}

impl Milliseconds {
    fn has_any(&self) -> bool {
        let Self { spiffe, resolve, connect, tls, alts, http2, rpc } = self;
        [spiffe, resolve, connect, tls, alts, http2, rpc].into_iter().any(Option::is_some)
    }
}

impl From<Timings> for Milliseconds {
    fn from(timings: Timings) -> Self {
        // Whole microseconds, as more digits would be noise.
        let milliseconds = |took: Option<Duration>| Some(f64::from(u32::try_from(took?.as_micros()).ok()?) / 1000.0);
        Self {
            spiffe: milliseconds(timings.spiffe),
            resolve: milliseconds(timings.resolve),
            connect: milliseconds(timings.connect),
            tls: milliseconds(timings.tls),
            alts: milliseconds(timings.alts),
            http2: milliseconds(timings.http2),
            rpc: milliseconds(timings.rpc),
        }
    }
}

#[derive(Serialize)]
struct TlsLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cipher: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_spiffe_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
}

impl<'a> From<&'a TlsSession> for TlsLine<'a> {
    fn from(session: &'a TlsSession) -> Self {
        Self {
            version: session.version.as_deref(),
            cipher: session.cipher.as_deref(),
            server_name: session.server_name.as_deref(),
            spiffe_id: session.spiffe_id.as_deref(),
            client_spiffe_id: session.client_spiffe_id.as_deref(),
            not_after: session
                .certificate
                .as_ref()
                .and_then(describe)
                .map(|certificate| date_time(certificate.not_after)),
        }
    }
}

#[derive(Serialize)]
struct AltsLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_service_account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_service_account: Option<String>,
}

impl From<&AltsSession> for AltsLine {
    fn from(session: &AltsSession) -> Self {
        let account = |account: &Option<String>| account.as_ref().map(|account| printable(account, MAX_NOTE));
        Self {
            peer_service_account: account(&session.peer_service_account),
            local_service_account: account(&session.local_service_account),
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
