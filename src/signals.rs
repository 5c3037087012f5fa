//! SIGTERM and SIGINT end the probe cleanly. As process 1 of a container, it would ignore them without a handler. A limit on the
//! size of files must not end it at all.

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

/// The signals, and the numbers that stand for them.
const SIGNALS: [(i32, usize); 2] = [(SIGINT, 1), (SIGTERM, 2)];
/// How often to look for a signal. A socket would wake us at once, but it costs a probe three descriptors, and signals are
/// rare.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Lets a write fail where it would exceed the limit on the size of files (`RLIMIT_FSIZE`). Without a handler, SIGXFSZ would end
/// the probe. A limit is rare, and to look for one costs less than a handler.
pub(crate) fn survive_file_size_limit() {
    #[cfg(unix)]
    if rustix::process::getrlimit(rustix::process::Resource::Fsize).current.is_some() {
        // The number is never read. A handler that cannot be set leaves the signal's default effect.
        let _ = register_usize(signal_hook::consts::SIGXFSZ, Arc::default(), 0);
    }
}

/// The signals that arrived since [`Signals::catch`].
#[derive(Debug)]
pub struct Signals {
    last: Arc<AtomicUsize>,
    #[cfg(unix)]
    alarm: Option<alarm::Alarm>,
}

impl Signals {
    /// Begins to catch signals. A signal that cannot be caught keeps its default effect. What `is_long` sleeps until a signal
    /// wakes it up.
    #[must_use]
    pub fn catch(is_long: bool) -> Self {
        let last = Arc::new(AtomicUsize::new(0));
        for (signal, number) in SIGNALS {
            let _ = register_usize(signal, Arc::clone(&last), number);
        }
        #[cfg(not(unix))]
        let _ = is_long;
        Self {
            last,
            // After the numbers, as the actions of a signal run in this order.
            #[cfg(unix)]
            alarm: if is_long { alarm::Alarm::set().ok() } else { None },
        }
    }

    /// Waits for a signal and returns its name.
    pub async fn next(&self) -> &'static str {
        #[cfg(unix)]
        if let Some(alarm) = &self.alarm {
            alarm.rings().await;
        }
        loop {
            match self.last() {
                Some(signal) => return signal,
                None => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// The name of the last signal, if one has arrived.
    #[must_use]
    pub fn last(&self) -> Option<&'static str> {
        match self.last.load(Ordering::Relaxed) {
            0 => None,
            1 => Some("SIGINT"),
            _ => Some("SIGTERM"),
        }
    }
}

#[cfg(unix)]
mod alarm {
    use std::{io, os::unix::net::UnixStream};

    use signal_hook::low_level::pipe;

    use super::SIGNALS;

    /// A socket into which each signal writes a byte.
    #[derive(Debug)]
    pub(super) struct Alarm(UnixStream);

    impl Alarm {
        pub(super) fn set() -> io::Result<Self> {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            for (signal, _) in SIGNALS {
                pipe::register(signal, writer.try_clone()?)?;
            }
            Ok(Self(reader))
        }

        /// Waits for the first signal. Where the system cannot do that, it returns at once.
        pub(super) async fn rings(&self) {
            if let Ok(reader) = self.0.try_clone().and_then(tokio::net::UnixStream::from_std) {
                let _ = reader.readable().await;
            }
        }
    }
}
