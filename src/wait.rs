//! `-wait`: probe after probe, each on a new connection, until one is healthy, the time is over, or waiting is of no use.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{
    addresses::probe_addresses,
    aside::Aside,
    config::Config,
    deadline::Deadline,
    journal::Journal,
    outcome::{Failure, Phase, Probed},
};

/// Pauses between probes: the first, and what they grow to.
pub(crate) const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Probes until the server, or each of its addresses, is healthy: what came of it last. `overall` bounds it besides
/// `wait`, which begins with `start`.
pub(crate) async fn probe_until_healthy(
    config: &Config,
    wait: Duration,
    start: Instant,
    overall: Option<Deadline>,
    journal: &Journal,
    aside: &Aside,
) -> Vec<Probed> {
    let deadline = Deadline::new(start, wait).or_earlier(overall);
    let (mut pause, longest) = PAUSES;
    let mut attempts = 0;
    let mut last: Option<Vec<Probed>> = None;
    loop {
        let mut probed = probe_addresses(config, Instant::now(), Some(deadline), journal).await;
        attempts += 1;
        // The failure that decides: one that waiting cannot mend, or of the earliest phase.
        let failures = probed.iter().flat_map(Probed::failures);
        let Some(worst) = failures.min_by_key(|failure| (failure.can_pass(), failure.kind.phase())) else {
            return probed;
        };
        let is_over = deadline.remaining().is_zero();
        if !worst.can_pass() && !is_over {
            append(&mut probed, " (waiting cannot mend this)", |failure| !failure.can_pass());
            return probed;
        }
        if is_over {
            // Cut off by the deadline, a probe tells less than the one before.
            let mut probed = last.unwrap_or(probed);
            let s = if attempts == 1 { "" } else { "s" };
            append(&mut probed, &format!(" ({attempts} attempt{s} in {})", deadline.limit()), |_| true);
            return probed;
        }
        aside.waiting(start.elapsed(), attempts, &worst.message);
        last = Some(probed);
        sleep(jittered(pause).min(deadline.remaining())).await;
        pause = (pause * 2).min(longest);
    }
}

/// Adds to the messages of such failures; what the server itself has answered stays to the letter.
fn append(probed: &mut [Probed], text: &str, is_such: impl Fn(&Failure) -> bool) {
    let failures = probed.iter_mut().flat_map(Probed::failures_mut);
    for failure in failures.filter(|failure| failure.kind.phase() != Phase::Health && is_such(failure)) {
        failure.message += text;
    }
}

/// Between 0.8 and 1.2 of it, so that those who began together do not go on together.
pub(crate) fn jittered(pause: Duration) -> Duration {
    // The standard library's only source of chance.
    let chance = RandomState::new().hash_one(0) % 401;
    pause * (800 + u32::try_from(chance).unwrap_or_default()) / 1000
}
