//! SIGTERM and SIGINT end the probe cleanly. As process 1 of a container, it would ignore them without a handler.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::register_usize,
};
use tokio::time::sleep;

/// How often to look for a signal. A pipe would wake us at once, but it costs every probe two descriptors, and signals are
/// rare.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The signals that arrived since [`Signals::catch`].
#[derive(Debug)]
pub struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Begins to catch signals. A signal that cannot be caught keeps its default effect.
    #[must_use]
    pub fn catch() -> Self {
        let last = Arc::new(AtomicUsize::new(0));
        for (signal, number) in [(SIGINT, 1), (SIGTERM, 2)] {
            let _ = register_usize(signal, Arc::clone(&last), number);
        }
        Self(last)
    }

    /// Waits for a signal and returns its name.
    pub async fn next(&self) -> &'static str {
        loop {
            match self.0.load(Ordering::Relaxed) {
                0 => sleep(POLL_INTERVAL).await,
                1 => return "SIGINT",
                _ => return "SIGTERM",
            }
        }
    }
}
