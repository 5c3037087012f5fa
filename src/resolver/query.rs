//! Looks up one name: A and AAAA at the same time, with retries and further name servers as needed.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout};

use super::{
    exchange::{Question, exchange},
    exchange_log::{Outcome, RecordType, Trace},
    settings::Settings,
};
use crate::deadline::Deadline;

/// How long addresses of one family wait for those of the other (RFC 8305, section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// What DNS knows about a name.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// At least one address, IPv6 first (RFC 8305, section 4).
    Addresses(Vec<IpAddr>),
    NoAddress,
    NoSuchName,
    /// No server gave a usable answer.
    Nothing,
}

impl Answer {
    /// These addresses without duplicates, IPv6 first.
    pub(super) fn addresses(addresses: &[IpAddr]) -> Self {
        let mut sorted = Vec::with_capacity(addresses.len());
        for family in [IpAddr::is_ipv6, IpAddr::is_ipv4] {
            for address in addresses.iter().filter(|address| family(address)) {
                if !sorted.contains(address) {
                    sorted.push(*address);
                }
            }
        }
        Self::Addresses(sorted)
    }
}

/// The lookup of one name.
pub(super) struct Query<'q> {
    pub(super) settings: &'q Settings,
    /// The name servers, in the order in which to ask them.
    pub(super) servers: &'q [SocketAddr],
    pub(super) question: &'q Question,
    pub(super) deadline: Deadline,
    pub(super) trace: &'q Trace,
}

impl Query<'_> {
    /// Looks up the addresses of both families.
    pub(super) async fn both(&self) -> Answer {
        let mut a = Box::pin(self.one(RecordType::A));
        let mut aaaa = Box::pin(self.one(RecordType::Aaaa));
        let (first, mut other) = tokio::select! {
            first = &mut aaaa => (first, a),
            first = &mut a => (first, aaaa),
        };
        let second = match self.delay(first.as_ref()) {
            Some(delay) => timeout(delay, &mut other).await.ok().flatten(),
            None => other.await,
        };
        combine(first, second)
    }

    /// Looks up one type until a server gives a conclusive answer. `None` if no server does.
    ///
    /// It asks the next server at once after a failure, and after a pause if a server is silent. The pause is the remaining
    /// time divided by the remaining tries, and at most the `timeout` of the settings. So one dead name server does not use up
    /// a deadline of a second, and a lost datagram is sent again. Late answers count, too. Servers that failed are not asked
    /// again. Silent servers are asked up to `attempts` times.
    async fn one(&self, record_type: RecordType) -> Option<Outcome> {
        let rounds = (0..self.settings.attempts).flat_map(|_| self.servers.iter().copied());
        let mut untried: VecDeque<SocketAddr> = rounds.collect();
        let mut running: Vec<Try<'_>> = Vec::new();
        let mut pause_ends = Instant::now();
        loop {
            tokio::select! {
                biased;
                (server, outcome) = first_of(&mut running), if !running.is_empty() => {
                    if outcome.is_conclusive() {
                        return Some(outcome);
                    }
                    untried.retain(|other| *other != server);
                    running.retain(|running| running.server != server);
                    if !untried.is_empty() {
                        pause_ends = Instant::now();
                    } else if running.is_empty() {
                        return None;
                    }
                }
                () = sleep_until(pause_ends) => {
                    let server = untried.pop_front()?;
                    let work = exchange(server, self.question, record_type, self.settings.use_tcp, self.trace);
                    running.push(Try { server, work: Box::pin(work) });
                    // The last try may take the whole timeout, unless the deadline ends it.
                    let pause = if untried.is_empty() { self.settings.timeout } else { self.pause(untried.len() + 1) };
                    pause_ends = Instant::now() + pause;
                }
            }
        }
    }

    /// How long to wait for the other family after `first`, at most half of the remaining time. `None` means that the other
    /// family decides.
    ///
    /// After addresses it is [`RESOLUTION_DELAY`]. After NXDOMAIN, which is valid for every type (RFC 8020), it is as long as
    /// one try, since some servers wrongly send NXDOMAIN for AAAA (RFC 4074).
    fn delay(&self, first: Option<&Outcome>) -> Option<Duration> {
        let delay = match first {
            Some(Outcome::Addresses(_)) => RESOLUTION_DELAY,
            Some(Outcome::NoSuchName) => self.pause(self.servers.len() * self.settings.attempts),
            _ => return None,
        };
        Some(delay.min(self.deadline.remaining() / 2))
    }

    /// How long to wait for one of this many tries.
    fn pause(&self, tries: usize) -> Duration {
        let share = self.deadline.remaining() / u32::try_from(tries).unwrap_or(u32::MAX).max(1);
        share.min(self.settings.timeout)
    }
}

/// A question that was sent to a server.
struct Try<'t> {
    server: SocketAddr,
    work: Pin<Box<dyn Future<Output = Outcome> + 't>>,
}

/// Waits until one of these ends, and removes it.
async fn first_of(running: &mut Vec<Try<'_>>) -> (SocketAddr, Outcome) {
    poll_fn(|context| {
        for index in 0..running.len() {
            if let Poll::Ready(outcome) = running[index].work.as_mut().poll(context) {
                return Poll::Ready((running.swap_remove(index).server, outcome));
            }
        }
        Poll::Pending
    })
    .await
}

/// Combines the outcomes of both families.
fn combine(first: Option<Outcome>, second: Option<Outcome>) -> Answer {
    match (first, second) {
        (Some(Outcome::Addresses(mut addresses)), Some(Outcome::Addresses(others))) => {
            addresses.extend(others);
            Answer::addresses(&addresses)
        }
        (Some(Outcome::Addresses(addresses)), _) | (_, Some(Outcome::Addresses(addresses))) => {
            Answer::addresses(&addresses)
        }
        (Some(Outcome::NoAddress), Some(_)) | (Some(_), Some(Outcome::NoAddress)) => Answer::NoAddress,
        (Some(Outcome::NoSuchName), _) | (_, Some(Outcome::NoSuchName)) => Answer::NoSuchName,
        _ => Answer::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{Deadline, Duration, Outcome, Query, Question, Settings, Trace};
    use crate::resolver::message::domain_name;

    #[test]
    fn the_other_family_gets_at_most_half_of_the_remaining_time() {
        let settings = Settings::new(Ok(String::new()), "host", None, None);
        let question = Question { text: "api".to_owned(), name: domain_name("api").expect("it is a name") };
        let trace = Trace::default();
        let delay = |limit, first: Option<Outcome>| {
            let deadline = Deadline::new(Instant::now(), Duration::from_millis(limit));
            let servers = &settings.servers;
            Query { settings: &settings, servers, question: &question, deadline, trace: &trace }.delay(first.as_ref())
        };
        let addresses = || Some(Outcome::Addresses(Vec::new()));
        assert_eq!(delay(10_000, addresses()), Some(Duration::from_millis(50)));
        assert!(delay(40, addresses()).is_some_and(|it| it <= Duration::from_millis(20)));
        assert!(delay(40, Some(Outcome::NoSuchName)).is_some_and(|it| it <= Duration::from_millis(20)));
        assert_eq!(delay(10_000, None), None);
        assert_eq!(delay(10_000, Some(Outcome::NoAddress)), None);
    }
}
