//! `-all-addresses`: probes every address of the target. One HTTP/2 connection would reach only one of its servers.

use std::cell::Cell;

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
    outcome::{Failure, Kind, NonEmpty, Phase, ProbeResult, Verdict},
    rpc::Question,
    trace::Trace,
};

/// How many servers are probed at once.
pub(super) const AT_ONCE: usize = 32;
/// How many are asked for their lists at once. A list may have a MiB.
const LISTS_AT_ONCE: usize = 4;
/// How much memory all lists together may take, in bytes.
const MAX_LISTS: usize = 4 << 20;

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
    let is_list = matches!(plan.question, Question::List);
    let at_once = if is_list { LISTS_AT_ONCE } else { AT_ONCE };
    let (turns, lists) = (Semaphore::new(at_once), Cell::new(0));
    let probes = targets.iter().map(|target| {
        let (trace, turns, lists, prepared) = (trace.branch(&target.address), &turns, &lists, &prepared);
        async move {
            let turn = deadline.bound(turns.acquire()).await;
            let started = Instant::now();
            let verdicts = match turn {
                Ok(_turn) => ask(plan, target, prepared, deadline, overall, &trace).await,
                Err(_) => Err(untried(target, deadline, at_once)),
            };
            let verdicts = if is_list { verdicts.and_then(|list| kept(list, target, lists)) } else { verdicts };
            trace.end_attempt();
            let address = Some(target.address.clone());
            ProbeResult { address, verdicts, record: Some(trace.record()), took: started.elapsed() }
        }
    });
    NonEmpty::new(join_all(probes.collect()).await).expect("a target that resolves has an address")
}

/// Keeps a list if there is room for it beside the lists of other addresses, which take `lists` bytes.
///
/// # Errors
/// There is no room.
fn kept(list: NonEmpty<Verdict>, target: &Target, lists: &Cell<usize>) -> Result<NonEmpty<Verdict>, Failure> {
    let together = lists.get() + list.iter().map(Verdict::size).sum::<usize>();
    if together <= MAX_LISTS {
        lists.set(together);
        return Ok(list);
    }
    let what = format!("listing the services of {} failed", target.address);
    let cause = format!("with its {} services, the lists of all addresses are too long together", list.len());
    Err(Failure::new(Kind::RpcFailed, format!("{what}: {cause}")).hint("list the services of each address on its own"))
}

/// The failure of an address that there was no time for, where `at_once` addresses are tried at once.
pub(super) fn untried(target: &Target, deadline: Deadline, at_once: usize) -> Failure {
    let message = format!("connecting to {} timed out after {}: it was never tried", target.address, deadline.limit());
    Failure::new(Kind::ConnectTimeout, message)
        .hint(format!("{at_once} addresses are tried at once; give all of them more time with -connect-timeout"))
}
