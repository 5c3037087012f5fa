//! `-wait`: repeats the probe, each time on a new connection, until it is healthy, the time is over, or the failure is final.

use std::{cell::RefCell, time::Duration};

use tokio::time::{Instant, sleep};

use super::{each_address::probe_addresses, plan::Plan};
use crate::{
    backoff::Backoff,
    deadline::Deadline,
    outcome::{Failure, NonEmpty, Phase, ProbeResult},
    report::Progress,
    trace::Trace,
};

/// The first pause between probes.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between probes.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long before the deadline the last attempt begins.
const LAST_ATTEMPT: Duration = Duration::from_millis(50);

/// Probes until the server, or each of its addresses, is healthy, and returns the last results. `overall` is another
/// bound besides `wait`, which begins at `start`. Between two attempts, `waits_for` has the failure that decides.
pub(super) async fn probe_until_healthy(
    plan: &Plan,
    wait: Duration,
    start: Instant,
    overall: Option<Deadline>,
    trace: &Trace,
    progress: &Progress,
    waits_for: &RefCell<Option<Failure>>,
) -> NonEmpty<ProbeResult> {
    let deadline = Deadline::of_run(start, wait).or_earlier(overall);
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut attempts = 0;
    let mut last: Option<NonEmpty<ProbeResult>> = None;
    loop {
        let mut results = probe_addresses(plan, Instant::now(), Some(deadline), trace).await;
        attempts += 1;
        // The failure that decides: a final one, or else the one of the earliest phase.
        let failures = results.iter().flat_map(ProbeResult::failures);
        let Some(worst) = failures.min_by_key(|failure| (failure.is_transient(), failure.kind.phase())) else {
            return results;
        };
        let is_over = deadline.remaining().is_zero();
        if !worst.is_transient() && !is_over {
            append(&mut results, " (not retrying: waiting will not help)", |failure| !failure.is_transient());
            return results;
        }
        if is_over {
            // A probe that the deadline cut off says less than the previous one.
            return counted(last.unwrap_or(results), attempts, deadline);
        }
        progress.waiting(start.elapsed(), attempts, &worst.message);
        waits_for.replace(Some(worst.clone()));
        let pause = backoff.jittered_pause().min(deadline.remaining().saturating_sub(LAST_ATTEMPT));
        if pause.is_zero() {
            return counted(results, attempts, deadline);
        }
        sleep(pause).await;
        waits_for.take();
        last = Some(results);
    }
}

/// Adds how many attempts were made.
fn counted(mut results: NonEmpty<ProbeResult>, attempts: u32, deadline: Deadline) -> NonEmpty<ProbeResult> {
    let s = if attempts == 1 { "" } else { "s" };
    append(&mut results, &format!(" ({attempts} attempt{s} in {})", deadline.limit()), |_| true);
    results
}

/// Adds to the messages of failures. Answers of the server stay unchanged.
fn append(results: &mut NonEmpty<ProbeResult>, text: &str, is_such: impl Fn(&Failure) -> bool) {
    let failures = results.iter_mut().flat_map(ProbeResult::failures_mut);
    for failure in failures.filter(|failure| failure.kind.phase() != Phase::Health && is_such(failure)) {
        failure.message += text;
    }
}
