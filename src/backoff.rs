//! Growing pauses between attempts.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Pauses that double up to a limit.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, next: first, longest }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    /// The next pause, randomly up to 20 % shorter or longer, so that probes that began together spread out.
    pub(crate) fn jittered_pause(&mut self) -> Duration {
        // The standard library's only source of randomness.
        let random = RandomState::new().hash_one(0) % 401;
        self.pause() * (800 + u32::try_from(random).unwrap_or_default()) / 1000
    }

    /// Begins again with the first pause if the attempt took longer than the longest pause.
    pub(crate) fn reset_after(&mut self, attempt: Duration) {
        if attempt > self.longest {
            self.next = self.first;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn jitter_is_random_and_at_most_a_fifth() {
        let second = Duration::from_secs(1);
        let pauses: BTreeSet<_> = (0..100).map(|_| Backoff::new(second, second).jittered_pause()).collect();
        assert!(pauses.iter().all(|pause| pause.abs_diff(second) <= second / 5), "{pauses:?}");
        assert!(pauses.len() > 10, "{pauses:?}");
    }
}
