//! The outcome of a probe: failures by kind and phase, verdicts, and the table of exit codes.

#[cfg(test)]
mod documentation;
mod failure;
mod kind;
mod record;
mod verdict;

use std::{
    io,
    ops::{Deref, DerefMut},
    time::Duration,
};

pub use self::{failure::Failure, kind::Phase, verdict::Health};
pub(crate) use self::{
    failure::Retry,
    kind::Kind,
    record::{AltsSession, Record, Session, Timings, TlsSession},
    verdict::{Verdict, status_name},
};

use crate::text::io_cause;

/// Which exit codes to use, `-exit-codes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCodes {
    /// Docker's: 0 is healthy, 1 is unhealthy, and there are no others.
    Docker,
    /// The Go tool's: one for each layer.
    Detailed,
}

impl ExitCodes {
    /// The exit code for the health of a probe.
    pub(crate) fn code(self, health: Health) -> u8 {
        match (self, health) {
            (_, Health::Healthy) => 0,
            (Self::Docker, Health::Unhealthy(_)) | (Self::Detailed, Health::Unhealthy(Phase::Usage)) => 1,
            (Self::Detailed, Health::Unhealthy(Phase::Spiffe)) => 20,
            (
                Self::Detailed,
                Health::Unhealthy(Phase::Resolve | Phase::Connect | Phase::Tls | Phase::Alts | Phase::Http2),
            ) => 2,
            (Self::Detailed, Health::Unhealthy(Phase::Rpc)) => 3,
            (Self::Detailed, Health::Unhealthy(Phase::Health)) => 4,
        }
    }
}

/// A list with at least one element. An empty list of verdicts must not count as healthy.
#[derive(Debug, Clone)]
pub struct NonEmpty<T> {
    all: Vec<T>,
}

impl<T> NonEmpty<T> {
    /// Exactly one.
    #[must_use]
    pub fn one(only: T) -> Self {
        Self { all: vec![only] }
    }

    /// All of these, unless there are none.
    pub(crate) fn new(all: Vec<T>) -> Option<Self> {
        if all.is_empty() { None } else { Some(Self { all }) }
    }

    /// All of them together: healthy only if each is.
    fn health(&self, each: impl Fn(&T) -> Health) -> Health {
        let (first, rest) = self.all.split_first().expect("it is made with at least one");
        rest.iter().map(&each).fold(each(first), Health::and)
    }
}

impl<T> Deref for NonEmpty<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.all
    }
}

impl<T> DerefMut for NonEmpty<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.all
    }
}

/// The result of the probe of one peer.
#[derive(Debug)]
pub struct ProbeResult {
    /// The address of the peer, if each address of a name is probed.
    pub(crate) address: Option<String>,
    /// A verdict for each service, or the failure that prevented the requests.
    pub(crate) verdicts: Result<NonEmpty<Verdict>, Failure>,
    /// Absent if the probe did not begin.
    pub(crate) record: Option<Record>,
    /// How long the probe took.
    pub(crate) took: Duration,
}

impl ProbeResult {
    /// A probe that could not begin.
    #[must_use]
    pub fn not_begun(failure: Failure) -> Self {
        Self::failed(failure, None, Duration::ZERO)
    }

    /// A probe that could not begin because the system refuses a runtime.
    #[must_use]
    pub fn without_runtime(error: &io::Error) -> Self {
        let message = format!("this system gives no means to wait for a server: {}", io_cause(error));
        Self::not_begun(Failure::new(Kind::ConnectFailed, message))
    }

    /// A probe that sent no request.
    pub(crate) fn failed(failure: Failure, record: Option<Record>, took: Duration) -> Self {
        Self { address: None, verdicts: Err(failure), record, took }
    }

    /// Whether the peer is healthy: every verdict is.
    pub(crate) fn health(&self) -> Health {
        match &self.verdicts {
            Ok(verdicts) => verdicts.health(Verdict::health),
            Err(failure) => Health::Unhealthy(failure.kind.phase()),
        }
    }

    /// All failures.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Failure> {
        let (verdicts, failure) = match &self.verdicts {
            Ok(verdicts) => (Some(verdicts), None),
            Err(failure) => (None, Some(failure)),
        };
        verdicts.into_iter().flat_map(|verdicts| verdicts.iter()).filter_map(Verdict::failure).chain(failure)
    }

    /// All failures but the statuses that servers answered, to add to their messages.
    pub(crate) fn failures_mut(&mut self) -> impl Iterator<Item = &mut Failure> {
        let (verdicts, failure) = match &mut self.verdicts {
            Ok(verdicts) => (Some(verdicts), None),
            Err(failure) => (None, Some(failure)),
        };
        verdicts.into_iter().flat_map(|verdicts| verdicts.iter_mut()).filter_map(Verdict::failure_mut).chain(failure)
    }
}

/// The health of all peers together.
pub(crate) fn health_of(results: &NonEmpty<ProbeResult>) -> Health {
    results.health(ProbeResult::health)
}
