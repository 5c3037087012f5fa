//! The machine's clock, for the dates of certificates. A machine without a battery may think that it is before 1970.

use std::time::SystemTime;

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// The current time.
pub(crate) fn now() -> UnixTime {
    unix_time(SystemTime::now())
}

/// A moment as the dates of certificates count it: from the beginning of 1970, for which an earlier one is taken.
pub(crate) fn unix_time(moment: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// The clock for rustls, whose own panics before 1970.
#[derive(Debug)]
pub(super) struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(now())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::unix_time;
    use crate::tls::date_time;

    #[test]
    fn clocks_before_1970_and_after_9999_have_a_time() {
        let day = Duration::from_hours(24);
        let early = [SystemTime::UNIX_EPOCH - day, SystemTime::UNIX_EPOCH - 40_000 * day];
        for moment in early {
            assert_eq!(date_time(unix_time(moment)), "1970-01-01T00:00:00Z");
        }
        let late = [SystemTime::UNIX_EPOCH + 4_000_000 * day, SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 62)];
        for moment in late {
            assert_eq!(date_time(unix_time(moment)), "after 9999");
        }
    }
}
