//! SIGTERM and SIGINT end the probe in good order, as process 1 of a container too, where nothing else would.

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

/// How often to look. A pipe would wake us at once, but costs every probe two descriptors for what one in a million
/// meets.
const LOOK: Duration = Duration::from_millis(20);

/// Signals that came since [`Signals::catch`].
#[derive(Debug)]
pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Begins to catch signals. One that cannot be caught keeps its usual effect.
    pub(crate) fn catch() -> Self {
        let last = Arc::new(AtomicUsize::new(0));
        for (signal, number) in [(SIGINT, 1), (SIGTERM, 2)] {
            let _ = register_usize(signal, Arc::clone(&last), number);
        }
        Self(last)
    }

    /// Waits for a signal: its name.
    pub(crate) async fn next(&self) -> &'static str {
        loop {
            match self.0.load(Ordering::Relaxed) {
                0 => sleep(LOOK).await,
                1 => return "SIGINT",
                _ => return "SIGTERM",
            }
        }
    }
}
