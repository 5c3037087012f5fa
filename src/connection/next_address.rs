//! The next address of a name, where the server at the one that was reached closes, speaks something else, or stays silent.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::{
    Connection, Connector,
    not_connected::{NotConnected, Tried},
};
use crate::{
    deadline::Deadline,
    net::{self, Reached},
    outcome::Failure,
    trace::Trace,
};

/// The shortest time that an address has for itself.
const SHORTEST_TURN: Duration = Duration::from_millis(100);
/// The longest time that an address has for itself.
const LONGEST_TURN: Duration = Duration::from_secs(1);
/// The most addresses that are tried at once.
const AT_ONCE: usize = 16;

/// An attempt at one address.
type Attempt<'a> = Pin<Box<dyn Future<Output = Ended> + 'a>>;

/// What came of an attempt.
struct Ended {
    address: Option<SocketAddr>,
    result: Result<Connection, Failure>,
    trace: Option<Trace>,
}

/// Opens a connection over the stream to the address that was reached, or to one of those that are left.
///
/// The next address is tried at once when an attempt fails, and beside the others when they take longer than their share of
/// the time: a silent address does not take the time of the others, and a slow one has all of it.
///
/// # Errors
/// What each address did.
pub(super) async fn connect(
    connector: &Connector<'_>,
    reached: Reached,
    deadline: Deadline,
    trace: &Trace,
) -> Result<Connection, NotConnected> {
    let target = connector.target;
    let Reached { stream, address, failed, left } = reached;
    let mut tried: Vec<Tried> = failed
        .into_iter()
        .map(|(address, error)| {
            let failure = net::failure_at(&target.address, address, &error);
            Tried { address: Some(address), failure, trace: None }
        })
        .collect();
    let mut left = left.into_iter();
    let first = async move { Ended { address, result: connector.open(stream, deadline, trace).await, trace: None } };
    let mut running: Vec<Attempt<'_>> = vec![Box::pin(first)];
    let mut turn_ends = Instant::now() + turn(deadline, left.len());
    loop {
        let has_next = left.len() > 0 && running.len() < AT_ONCE && !deadline.remaining().is_zero();
        tokio::select! {
            biased;
            ended = first_of(&mut running), if !running.is_empty() => {
                let Ended { address, result, trace: beside } = ended;
                let failure = match result {
                    Ok(connection) => {
                        if let Some(beside) = beside {
                            trace.adopt(&beside);
                        }
                        return Ok(connection);
                    }
                    Err(failure) => failure,
                };
                if let Some(address) = address {
                    trace.note(failure.kind.phase(), || format!("{address}: {}", failure.cause(&target.address)));
                }
                tried.push(Tried { address, failure, trace: beside });
                turn_ends = Instant::now();
            }
            () = sleep_until(turn_ends), if has_next => {
                if let Some(address) = left.next() {
                    let beside = trace.beside();
                    running.push(Box::pin(async move {
                        let result = connector.connect_to(address, deadline, &beside).await;
                        Ended { address: Some(address), result, trace: Some(beside) }
                    }));
                }
                turn_ends = Instant::now() + turn(deadline, left.len());
            }
            else => return Err(NotConnected::new(tried)),
        }
    }
}

/// How long an address has for itself, where so many others are left.
fn turn(deadline: Deadline, left: usize) -> Duration {
    let share = deadline.remaining() / u32::try_from(left + 1).unwrap_or(u32::MAX);
    share.clamp(SHORTEST_TURN, LONGEST_TURN)
}

/// Waits for the first of these to end, and takes it out.
async fn first_of(running: &mut Vec<Attempt<'_>>) -> Ended {
    poll_fn(|context| {
        for index in 0..running.len() {
            if let Poll::Ready(ended) = running[index].as_mut().poll(context) {
                drop(running.remove(index));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}
