//! `-watch`: `Health/Watch` of one server, or of each address, until stopped. `watch/server.rs` follows one server from connection
//! to connection and opens a lost connection again, with pauses, as health-checking.md says; `watch/state.rs` knows what has been
//! seen of all servers, and reports what is news.

mod server;
mod state;

use std::{future::pending, rc::Rc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

pub(super) use self::state::Watch;
use self::{server::Route, state::Server};
use super::{each_address::AT_ONCE, once::Prepared};
use crate::{
    connection::every_endpoint,
    deadline::Deadline,
    join_all::join_all,
    net::Target,
    outcome::{Failure, NonEmpty, ProbeResult, Record},
    report::reader_gone,
    trace::Trace,
};

/// How often to look for a first answer when nobody reads the output.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);
/// Why a watch stops when nobody reads its output.
const OUTPUT_CLOSED: &str = "stopped: output was closed";

impl Watch<'_> {
    /// Watches until no server has ever answered and none is left that might: the results to report.
    ///
    /// # Errors
    /// Why it stopped earlier: nobody reads the output, or `-timeout` is over.
    pub(super) async fn run(&self, start: Instant) -> Result<NonEmpty<ProbeResult>, String> {
        let ended = tokio::select! {
            // What the last moment brings is cut off, and means nothing.
            biased;
            stopped = self.time_is_over() => return Err(stopped),
            () = self.changes.progress.keep_writing() => return Err(OUTPUT_CLOSED.to_owned()),
            ended = self.follow_all(start) => ended,
            () = self.reader_is_gone() => return Err(OUTPUT_CLOSED.to_owned()),
        };
        if self.has_answered() {
            return Err(OUTPUT_CLOSED.to_owned());
        }
        let result = |address, failure, session| ProbeResult {
            address,
            verdicts: Err(failure),
            record: Some(Record { session, ..self.trace.record() }),
            took: start.elapsed(),
        };
        if let Err(failure) = ended {
            return Ok(NonEmpty::one(result(None, failure, None)));
        }
        let servers = self.servers.take().into_iter();
        let failed =
            |Server { address, last, session, .. }: Server| Some(result(address, last?.failure()?.clone(), session));
        let results = servers.filter_map(failed).collect();
        Ok(NonEmpty::new(results).expect("it ends by itself only when every server has failed"))
    }

    /// Waits for the end of `-timeout`, and returns what to say then. Before the first answer each step has it as its own
    /// deadline.
    async fn time_is_over(&self) -> String {
        let Some(overall) = self.overall else { return pending().await };
        overall.passed().await;
        if !self.has_answered() {
            return pending().await;
        }
        stopped_after(&overall)
    }

    /// Waits until nobody reads the output, and a server has answered. Where nothing changes, no write would show that.
    async fn reader_is_gone(&self) {
        reader_gone().await;
        while !self.has_answered() {
            sleep(ANSWER_INTERVAL).await;
        }
    }

    /// Follows all servers to the end.
    ///
    /// # Errors
    /// What kept it from beginning.
    async fn follow_all(&self, start: Instant) -> Result<(), Failure> {
        let plan = self.plan;
        let deadline = Deadline::new(start, plan.connect_timeout).or_earlier(self.overall);
        self.trace.begin_probe();
        let prepared = Rc::new(Prepared::load(plan, deadline, self.trace).await?);
        let targets: Vec<(Option<Trace>, Target)> = if plan.all_addresses {
            let targets = every_endpoint(&plan.target, plan.keeps_trying, deadline, self.trace).await?;
            targets.into_iter().map(|target| (Some(self.trace.branch(&target.address)), target)).collect()
        } else {
            vec![(None, plan.target.clone())]
        };
        let server = |(branch, target): &(Option<Trace>, Target)| Server {
            address: branch.is_some().then(|| target.address.clone()),
            last: None,
            has_answered: false,
            session: None,
        };
        self.servers.replace(targets.iter().map(server).collect());
        let turns = Semaphore::new(AT_ONCE);
        let follow = targets.iter().enumerate().map(|(index, (branch, target))| {
            let route =
                Route { watch: self, index, target, trace: branch.as_ref().unwrap_or(self.trace), turns: &turns };
            route.follow(Rc::clone(&prepared), deadline)
        });
        tokio::select! {
            _ = join_all(follow.collect()) => {}
            () = self.over.notified() => {}
        }
        Ok(())
    }
}

/// Says that `-timeout` has ended the run.
pub(super) fn stopped_after(overall: &Deadline) -> String {
    format!("stopped after {}", overall.limit())
}
