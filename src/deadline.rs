//! Deadlines: the moments by which each step must end.

use std::{future::Future, io, thread, time::Duration};

use tokio::{
    sync::oneshot::{self, Receiver},
    time::{Instant, sleep_until, timeout_at},
};

use crate::duration::format_duration;

/// The longest timeout that is kept as given: longer than any probe runs, and far from where clocks overflow.
const MAX_LIMIT: Duration = Duration::from_hours(30 * 365 * 24);
/// The stack of a thread for blocking work, in bytes. It is enough to read and parse files.
const THREAD_STACK: usize = 256 * 1024;

/// A moment, and the timeout that it comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
    /// Whether it bounds the whole run, or a probe of several.
    is_of_run: bool,
}

/// The deadline expired.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Why work on a thread gave no result.
#[cfg(not(unix))]
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// The deadline expired. The thread keeps running.
    Elapsed,
    /// The system could not start a thread.
    NoThread,
}

impl Deadline {
    /// Sets a deadline at `limit` after `start`.
    pub(crate) fn new(start: Instant, limit: Duration) -> Self {
        Self { at: start + limit.min(MAX_LIMIT), limit, is_of_run: false }
    }

    /// Sets a deadline for the whole run, which the deadlines of its steps keep within.
    pub(crate) fn of_run(start: Instant, limit: Duration) -> Self {
        Self { is_of_run: true, ..Self::new(start, limit) }
    }

    /// The earlier of the two.
    pub(crate) fn or_earlier(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.at < self.at => other,
            _ => self,
        }
    }

    /// The timeout that this deadline comes from, in Go's format.
    pub(crate) fn limit(&self) -> String {
        format_duration(self.limit)
    }

    /// Whether it is that of the whole run, not of a step.
    pub(crate) fn is_of_run(&self) -> bool {
        self.is_of_run
    }

    /// The time left until the deadline, zero when it is over.
    pub(crate) fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Waits for the deadline.
    pub(crate) async fn passed(&self) {
        sleep_until(self.at).await;
    }

    /// Runs `work` until the deadline.
    ///
    /// A result that is ready only after the deadline does not count. After a suspension, a process can find both that the
    /// deadline is past and that the answer has arrived.
    pub(crate) async fn bound<T>(&self, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        let result = timeout_at(self.at, work).await.map_err(|_| Elapsed)?;
        if Instant::now() > self.at { Err(Elapsed) } else { Ok(result) }
    }

    /// Runs blocking `work` on its own thread until the deadline. After that, it does not wait for the thread.
    #[cfg(not(unix))]
    pub(crate) async fn bound_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unfinished> {
        let receiver = blocking(work).map_err(|_| Unfinished::NoThread)?;
        match self.bound(receiver).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) | Err(Elapsed) => Err(Unfinished::Elapsed),
        }
    }
}

/// Begins blocking `work` on its own thread, which sends the result.
///
/// # Errors
/// The system could not start a thread.
pub(crate) fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Receiver<T>> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        // The receiver may have given up.
        let _ = sender.send(work());
    };
    thread::Builder::new().stack_size(THREAD_STACK).spawn(run)?;
    Ok(receiver)
}
