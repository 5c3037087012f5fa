//! `-all-addresses`: probes every address of the target. One HTTP/2 connection would reach only one of its servers.

use tokio::{sync::Semaphore, time::Instant};

use super::{
    once::{Prepared, ask, probe},
    plan::Plan,
};
use crate::{
    connection::every_endpoint,
    deadline::Deadline,
    join_all::join_all,
    net::Target,
    outcome::{Failure, Kind, NonEmpty, Phase, ProbeResult},
    trace::Trace,
};

/// How many servers are probed at once.
pub(super) const AT_ONCE: usize = 32;

/// Probes the target: one of its addresses, or each.
pub(super) async fn probe_addresses(
    plan: &Plan,
    start: Instant,
    overall: Option<Deadline>,
    trace: &Trace,
) -> NonEmpty<ProbeResult> {
    if plan.all_addresses {
        Box::pin(probe_each(plan, start, overall, trace)).await
    } else {
        NonEmpty::one(probe(plan, start, overall, trace).await)
    }
}

/// Probes every address of the target. The connect timeout bounds all of them together, as users expect.
async fn probe_each(plan: &Plan, start: Instant, overall: Option<Deadline>, trace: &Trace) -> NonEmpty<ProbeResult> {
    let deadline = Deadline::new(start, plan.connect_timeout).or_earlier(overall);
    trace.begin_probe();
    let preparing = async {
        let prepared = Prepared::load(plan, deadline, trace).await?;
        Ok((prepared, every_endpoint(&plan.target, plan.keeps_trying, deadline, trace).await?))
    };
    let (prepared, targets) = match preparing.await {
        Ok(ready) => ready,
        Err(failure) => {
            return NonEmpty::one(ProbeResult::failed(failure, Some(trace.record()), start.elapsed()));
        }
    };
    trace.begin(Phase::Connect);
    let turns = Semaphore::new(AT_ONCE);
    let probes = targets.iter().map(|target| {
        let (trace, turns, prepared) = (trace.branch(&target.address), &turns, &prepared);
        async move {
            let turn = deadline.bound(turns.acquire()).await;
            let started = Instant::now();
            let verdicts = match turn {
                Ok(_turn) => ask(plan, target, prepared, deadline, overall, &trace).await,
                Err(_) => Err(untried(target, deadline)),
            };
            trace.end_attempt();
            let address = Some(target.address.clone());
            ProbeResult { address, verdicts, record: Some(trace.record()), took: started.elapsed() }
        }
    });
    NonEmpty::new(join_all(probes.collect()).await).expect("a target that resolves has an address")
}

/// The failure of an address that there was no time for.
pub(super) fn untried(target: &Target, deadline: Deadline) -> Failure {
    let message = format!("connecting to {} timed out after {}: it was never tried", target.address, deadline.limit());
    Failure::new(Kind::ConnectTimeout, message)
        .hint(format!("{AT_ONCE} addresses are tried at once; give all of them more time with -connect-timeout"))
}
