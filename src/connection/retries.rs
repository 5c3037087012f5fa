//! Retries: where the user chose the time to connect, an attempt that failed is followed by others until the time is over.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    backoff::Backoff,
    deadline::Deadline,
    outcome::{Failure, Phase, Retry},
};

/// The first pause between attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between attempts to resolve a name. Name servers are shared.
const LONGEST_PAUSE_OF_NAMES: Duration = Duration::from_millis(500);
/// How long before the deadline the last attempt begins.
const LAST_ATTEMPT: Duration = Duration::from_millis(10);

/// The attempts so far.
#[derive(Debug)]
pub(crate) struct Retries {
    keeps_trying: bool,
    deadline: Deadline,
    attempts: u32,
    last: Option<Failure>,
    pauses: Backoff,
    pauses_of_names: Backoff,
}

impl Retries {
    /// Until the deadline, if `keeps_trying`, and else none.
    pub(crate) fn new(keeps_trying: bool, deadline: Deadline) -> Self {
        Self {
            keeps_trying,
            deadline,
            attempts: 0,
            last: None,
            pauses: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            pauses_of_names: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE_OF_NAMES),
        }
    }

    /// Takes the failure of an attempt, and waits until it is time for the next. `is_over` says whether the deadline had
    /// passed when the attempt ended.
    ///
    /// # Errors
    /// The failure to report, where there is no next attempt.
    pub(crate) async fn after(&mut self, mut failure: Failure, is_over: bool) -> Result<(), Failure> {
        self.attempts += 1;
        if is_over && let Some(last) = self.last.take() {
            // An attempt that the deadline cut off in the phase of the previous attempt, or before, tells less.
            if failure.kind.phase() <= last.kind.phase() {
                failure = last;
            }
            return Err(self.counted(failure));
        }
        if is_over || failure.retry != Retry::WhileConnecting || !self.keeps_trying {
            return Err(failure);
        }
        let pauses = if failure.kind.phase() == Phase::Resolve { &mut self.pauses_of_names } else { &mut self.pauses };
        let left = self.deadline.remaining();
        let pause = pauses.pause().min(left.saturating_sub(LAST_ATTEMPT));
        if pause.is_zero() {
            return Err(self.counted(failure));
        }
        self.last = Some(failure);
        sleep(pause).await;
        Ok(())
    }

    /// Adds how many attempts were made.
    fn counted(&self, mut failure: Failure) -> Failure {
        if self.attempts > 1 {
            failure.message += &format!(" ({} attempts in {})", self.attempts, self.deadline.limit());
        }
        failure
    }
}
