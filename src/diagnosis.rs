//! After a failed probe, looks for its cause on this machine.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    deadline::Deadline,
    net::{self, Target},
    outcome::{Failure, Kind},
};

/// How long to look for a server on this machine's other addresses.
const LIMIT: Duration = Duration::from_millis(50);

/// Improves the hint of a refused connection, if a server accepts connections on another address of this machine.
pub(crate) async fn explain(failure: &mut Failure, target: &Target) {
    if failure.kind == Kind::ConnectionRefused
        && let Some(other) = net::listening_elsewhere(&target.endpoint, Deadline::new(Instant::now(), LIMIT)).await
    {
        failure.hint =
            Some(format!("{other} accepts connections: probe that address, or let the server listen on all addresses"));
    }
}
