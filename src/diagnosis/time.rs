//! The time of each step.

use std::time::Duration;

use serde::Serializer;
use tokio::time::Instant;

use crate::deadline::Deadline;

/// The least time that a step has, and the unit of its time.
const UNIT: Duration = Duration::from_millis(10);

/// The deadline of a step: `most`, but no more than a third of what is left until `deadline`.
pub(crate) fn share(deadline: Deadline, most: Duration) -> Deadline {
    Deadline::new(Instant::now(), thirds(1, deadline).min(most)).or_earlier(Some(deadline))
}

/// One or two thirds of what is left until `deadline`, in whole units.
pub(super) fn thirds(count: u32, deadline: Deadline) -> Duration {
    let part = deadline.remaining() * count / 3;
    UNIT * u32::try_from(part.as_millis() / UNIT.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// Writes a duration in milliseconds, to the microsecond.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
pub(super) fn milliseconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let microseconds = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
    serializer.serialize_f64(f64::from(microseconds) / 1000.0)
}
