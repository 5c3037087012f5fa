//! `-all-addresses`: HTTP/2 sticks to one server of those behind a name; this asks each of them.

use tokio::{sync::Semaphore, time::Instant};

use crate::{
    config::Config,
    connect::endpoints,
    deadline::Deadline,
    journal::Journal,
    outcome::{Failure, Kind, Phase, Probed},
    probe::{Prepared, ask, probe},
    rpc::all,
};

/// How many servers are asked at once.
pub(crate) const AT_ONCE: usize = 32;

/// Probes the target: one of its addresses, or each, as is configured.
pub(crate) async fn probe_addresses(
    config: &Config,
    start: Instant,
    overall: Option<Deadline>,
    journal: &Journal,
) -> Vec<Probed> {
    if config.all_addresses {
        Box::pin(probe_each(config, start, overall, journal)).await
    } else {
        vec![probe(config, start, overall, journal).await]
    }
}

/// Probes each address that the target has. The time to connect is for all together: whoever set it counts on it.
async fn probe_each(config: &Config, start: Instant, overall: Option<Deadline>, journal: &Journal) -> Vec<Probed> {
    let deadline = Deadline::new(start, config.connect_timeout).or_earlier(overall);
    journal.begin_probe();
    let preparing = async {
        let prepared = Prepared::load(config, deadline, journal).await?;
        Ok((prepared, endpoints(config, deadline, journal).await?))
    };
    let (prepared, endpoints) = match preparing.await {
        Ok(ready) => ready,
        Err(failure) => {
            let record = Some(journal.record());
            return vec![Probed { address: None, verdicts: Err(failure), record, took: start.elapsed() }];
        }
    };
    journal.begin(Phase::Connect);
    let turns = Semaphore::new(AT_ONCE);
    let probes = endpoints.into_iter().map(|(address, endpoint)| {
        let (config, prepared, journal) = (config.at(&address, endpoint), prepared.another(), journal.branch(&address));
        let turns = &turns;
        async move {
            let turn = deadline.bound(turns.acquire()).await;
            let begun = Instant::now();
            let verdicts = match turn {
                Ok(_turn) => ask(&config, &prepared, deadline, overall, &journal).await,
                Err(_) => Err(untried(&config, deadline)),
            };
            journal.end_attempt();
            Probed { address: Some(address), verdicts, record: Some(journal.record()), took: begun.elapsed() }
        }
    });
    all(probes.collect()).await
}

/// The failure of an address that there was no time for.
pub(crate) fn untried(config: &Config, deadline: Deadline) -> Failure {
    let message =
        format!("connecting to {} timed out after {}: its turn did not come", config.address, deadline.limit());
    Failure::new(Kind::ConnectTimeout, message)
        .hint(format!("{AT_ONCE} addresses are tried at once; give all of them more time with -connect-timeout"))
}
