//! `-wait`: probe after probe, each on a new connection, until one is healthy, the time is over, or waiting is of no use.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    config::Config,
    deadline::Deadline,
    journal::Journal,
    outcome::{Failure, Phase, Verdict},
    probe::probe,
    report::Aside,
};

/// Pauses between probes: the first, and what they grow to.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a probe came to.
type Outcome = Result<Vec<Verdict>, Failure>;

/// Probes until the server is healthy: the last outcome. `overall` bounds it besides `wait`, which begins with `start`.
///
/// # Errors
/// As [`probe`].
pub(crate) async fn probe_until_healthy(
    config: &Config,
    wait: Duration,
    start: Instant,
    overall: Option<Deadline>,
    journal: &Journal,
    aside: &Aside,
) -> Outcome {
    let deadline = Deadline::new(start, wait).or_earlier(overall);
    let (mut pause, longest) = PAUSES;
    let mut attempts = 0;
    let mut last: Option<Outcome> = None;
    loop {
        let mut outcome = probe(config, Instant::now(), Some(deadline), journal).await;
        attempts += 1;
        let Some(failure) = worst(&outcome) else { return outcome };
        let is_over = deadline.remaining().is_zero();
        if !failure.can_pass() && !is_over {
            append(&mut outcome, " (waiting cannot mend this)");
            return outcome;
        }
        if is_over {
            // Cut off by the deadline, a probe tells less than the one before.
            let mut outcome = last.unwrap_or(outcome);
            let s = if attempts == 1 { "" } else { "s" };
            append(&mut outcome, &format!(" ({attempts} attempt{s} in {})", deadline.limit()));
            return outcome;
        }
        aside.waiting(start.elapsed(), attempts, &failure.message);
        last = Some(outcome);
        sleep(jittered(pause).min(deadline.remaining())).await;
        pause = (pause * 2).min(longest);
    }
}

/// The failure that decides: of the earliest phase, and of those one that waiting cannot mend.
fn worst(outcome: &Outcome) -> Option<&Failure> {
    match outcome {
        Ok(verdicts) => verdicts
            .iter()
            .filter_map(|verdict| verdict.failure.as_ref())
            .min_by_key(|failure| (failure.can_pass(), failure.kind.phase())),
        Err(failure) => Some(failure),
    }
}

/// Adds to the messages of failures; what the server itself has answered stays to the letter.
fn append(outcome: &mut Outcome, text: &str) {
    let failures: Vec<&mut Failure> = match outcome {
        Ok(verdicts) => verdicts.iter_mut().filter_map(|verdict| verdict.failure.as_mut()).collect(),
        Err(failure) => vec![failure],
    };
    for failure in failures.into_iter().filter(|failure| failure.kind.phase() != Phase::Health) {
        failure.message += text;
    }
}

/// Between 0.8 and 1.2 of it, so that those who began together do not go on together.
fn jittered(pause: Duration) -> Duration {
    // The standard library's only source of chance.
    let chance = RandomState::new().hash_one(0) % 401;
    pause * (800 + u32::try_from(chance).unwrap_or_default()) / 1000
}
