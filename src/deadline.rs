//! Deadlines: moments that no step may outlast, whatever it waits for.

use std::{future::Future, thread, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};

use crate::goflag::format_duration;

/// Longer than any probe runs, and far from where clocks overflow.
const FAR: Duration = Duration::from_hours(30 * 365 * 24);
/// Enough for getaddrinfo, which is the hungriest of what runs on a thread of its own.
const THREAD_STACK: usize = 256 * 1024;

/// A moment, and the time-out it comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
}

/// The deadline came first.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Why work on a thread gave no result.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// The deadline came first; the thread is left behind.
    Elapsed,
    /// The system gave no thread.
    NoThread(std::io::Error),
}

impl Deadline {
    /// `limit` after `start`.
    pub(crate) fn new(start: Instant, limit: Duration) -> Self {
        Self { at: start + limit.min(FAR), limit }
    }

    /// The earlier of the two.
    pub(crate) fn or_earlier(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.at < self.at => other,
            _ => self,
        }
    }

    /// The time-out that this deadline comes from, as Go writes it.
    pub(crate) fn limit(&self) -> String {
        format_duration(self.limit)
    }

    /// Whether this time-out is where the deadline comes from.
    pub(crate) fn is_from(&self, limit: Duration) -> bool {
        self.limit == limit
    }

    /// What is left of it.
    pub(crate) fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether a peer that keeps the same time, in milliseconds, may call it over: from half of it on.
    pub(crate) fn is_half_over(&self) -> bool {
        self.remaining() < self.limit / 2 + Duration::from_millis(1)
    }

    /// Waits for the deadline.
    pub(crate) async fn passed(&self) {
        sleep_until(self.at).await;
    }

    /// Runs `work` until the deadline.
    ///
    /// What is ready only after the deadline is too late: a process that was suspended meanwhile finds both its
    /// deadline past and its answer there.
    pub(crate) async fn bound<T>(&self, work: impl Future<Output = T>) -> Result<T, Elapsed> {
        let result = timeout_at(self.at, work).await.map_err(|_| Elapsed)?;
        if Instant::now() > self.at { Err(Elapsed) } else { Ok(result) }
    }

    /// Runs `work` that blocks on a thread of its own, until the deadline. Nobody waits for the thread after that.
    pub(crate) async fn bound_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unfinished> {
        let (sender, receiver) = oneshot::channel();
        let run = move || {
            // Nobody listens after the deadline.
            let _ = sender.send(work());
        };
        thread::Builder::new().stack_size(THREAD_STACK).spawn(run).map_err(Unfinished::NoThread)?;
        match self.bound(receiver).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) | Err(Elapsed) => Err(Unfinished::Elapsed),
        }
    }
}
