//! `-watch`: `Health/Watch` of one server, or of each address, until stopped. It reopens a lost connection after a
//! pause (health-checking.md).

use std::{cell::RefCell, convert::Infallible, future::pending, mem, time::Duration};

use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep},
};

use super::{
    each_address::{AT_ONCE, untried},
    once::Prepared,
    plan::Plan,
    wait::{FIRST_PAUSE, LONGEST_PAUSE},
};
use crate::{
    backoff::Backoff,
    connection::every_endpoint,
    deadline::Deadline,
    join_all::join_all,
    net::Target,
    outcome::{Failure, Health, NonEmpty, Phase, ProbeResult, Verdict},
    report::{Changes, NotWritten, has_reader},
    rpc::Caller,
    trace::Trace,
};

/// How often to send a `Check` while nothing changes, so that a stuck server is noticed.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How often to check that the output is still open.
const READER_INTERVAL: Duration = Duration::from_secs(1);
/// Why a watch stops when its output is closed.
const OUTPUT_CLOSED: &str = "stopped: output was closed";

/// A watch with the state of its servers.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    plan: &'a Plan,
    service: &'a str,
    changes: Changes<'a>,
    trace: &'a Trace,
    overall: Option<Deadline>,
    servers: RefCell<Vec<Server>>,
    /// Notified when there is nothing left to watch, or the output is closed.
    over: Notify,
}

/// The state of a server.
#[derive(Debug)]
struct Server {
    /// Its address, if several are watched.
    address: Option<String>,
    /// The last verdict.
    last: Option<Verdict>,
    has_answered: bool,
}

/// How to reach a server.
struct Route<'a> {
    /// The server's index in [`Watch::servers`].
    index: usize,
    target: Target,
    /// The watch's trace, or a separate one if several servers are watched.
    trace: &'a Trace,
}

/// There is nothing left to watch, or the output is closed.
struct Over;

impl From<NotWritten> for Over {
    fn from(_: NotWritten) -> Self {
        Self
    }
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        service: &'a str,
        changes: Changes<'a>,
        trace: &'a Trace,
        overall: Option<Deadline>,
    ) -> Self {
        Self { plan, service, changes, trace, overall, servers: RefCell::default(), over: Notify::new() }
    }

    /// Watches all servers. It returns results only if every server failed before its first answer.
    ///
    /// # Errors
    /// Why it stopped earlier: the output is closed, or `-timeout` has expired.
    pub(super) async fn run(&self, start: Instant) -> Result<NonEmpty<ProbeResult>, String> {
        let ended = tokio::select! {
            // A failure at the last moment comes from the deadline and means nothing.
            biased;
            stopped = self.time_is_over() => return Err(stopped),
            ended = self.follow_all(start) => ended,
            () = self.reader_is_gone() => return Err(OUTPUT_CLOSED.to_owned()),
        };
        if self.has_answered() {
            return Err(OUTPUT_CLOSED.to_owned());
        }
        let result = |address, failure| ProbeResult {
            address,
            verdicts: Err(failure),
            record: Some(self.trace.record()),
            took: start.elapsed(),
        };
        if let Err(failure) = ended {
            return Ok(NonEmpty::one(result(None, failure)));
        }
        let servers = self.servers.take().into_iter();
        let failed = servers.filter_map(|server| Some((server.address, server.last?.failure()?.clone())));
        let results = failed.map(|(address, failure)| result(address, failure)).collect();
        Ok(NonEmpty::new(results).expect("it ends by itself only when every server has failed"))
    }

    /// Waits until `-timeout` expires, and returns the message. Before the first answer, `-timeout` bounds each step instead.
    async fn time_is_over(&self) -> String {
        let Some(overall) = self.overall else { return pending().await };
        overall.passed().await;
        if !self.has_answered() {
            return pending().await;
        }
        format!("stopped after {}", overall.limit())
    }

    /// Waits until the output is closed. Without changes, no write would show that.
    async fn reader_is_gone(&self) {
        while !self.has_answered() || has_reader() {
            sleep(READER_INTERVAL).await;
        }
    }

    /// Whether any server has ever answered.
    pub(super) fn has_answered(&self) -> bool {
        self.servers.borrow().iter().any(|server| server.has_answered)
    }

    /// Whether every server's last verdict is healthy. A server without a verdict is not.
    pub(super) fn health(&self) -> Health {
        let health = |server: &Server| match &server.last {
            Some(last) => last.health(),
            None => Health::Unhealthy(self.trace.phase()),
        };
        let servers = self.servers.borrow();
        servers.iter().map(health).reduce(Health::and).unwrap_or(Health::Unhealthy(self.trace.phase()))
    }

    /// Follows all servers to the end.
    ///
    /// # Errors
    /// The watch could not begin.
    async fn follow_all(&self, start: Instant) -> Result<(), Failure> {
        let plan = self.plan;
        let deadline = Deadline::new(start, plan.connect_timeout).or_earlier(self.overall);
        self.trace.begin_probe();
        let prepared = Prepared::load(plan, deadline, self.trace).await?;
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
        };
        self.servers.replace(targets.iter().map(server).collect());
        let turns = Semaphore::new(AT_ONCE);
        let follow = targets.iter().enumerate().map(|(index, (branch, target))| {
            let route = Route { index, target: target.clone(), trace: branch.as_ref().unwrap_or(self.trace) };
            self.follow(route, &prepared, deadline, &turns)
        });
        tokio::select! {
            _ = join_all(follow.collect()) => {}
            () = self.over.notified() => {}
        }
        Ok(())
    }

    /// Watches a server on one connection after another. `deadline` bounds the first.
    async fn follow(&self, route: Route<'_>, prepared: &Prepared, deadline: Deadline, turns: &Semaphore) {
        let mut may_retry_at_once = true;
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut first = Some((prepared, deadline));
        loop {
            let started = Instant::now();
            let Err(failure) = self.follow_connection(&route, first.take(), turns).await;
            let was_answered = self.is_last_verdict_an_answer(route.index);
            let is_retry = failure.is_for_new_connection() && !was_answered && may_retry_at_once;
            may_retry_at_once = was_answered;
            if !is_retry && self.note_loss(route.index, failure).await.is_err() {
                self.over.notify_one();
                return pending().await;
            }
            backoff.reset_after(started.elapsed());
            sleep(backoff.jittered_pause()).await;
        }
    }

    /// Watches a server until the connection is lost. `first` has the loaded files and the deadline. Later connections read the
    /// files again, as they may have changed.
    async fn follow_connection(
        &self,
        route: &Route<'_>,
        first: Option<(&Prepared, Deadline)>,
        turns: &Semaphore,
    ) -> Result<Infallible, Failure> {
        let (plan, Route { target, trace, .. }) = (self.plan, route);
        let reloaded;
        let (turn, prepared, deadline) = if let Some((prepared, deadline)) = first {
            let turn = deadline.bound(turns.acquire()).await.map_err(|_| untried(target, deadline))?;
            (turn, prepared, deadline)
        } else {
            let turn = turns.acquire().await;
            let deadline = Deadline::new(Instant::now(), plan.connect_timeout).or_earlier(self.overall);
            reloaded = Prepared::load(plan, deadline, trace).await?;
            (turn, &reloaded, deadline)
        };
        let connector = prepared.connector(plan, target);
        let connection = connector.connect(deadline, trace).await?;
        let caller = prepared.caller(plan, target, &connection);
        let deadline = Deadline::new(Instant::now(), plan.rpc.rpc_timeout).or_earlier(self.overall);
        let updates = async {
            let started = trace.begin(Phase::Rpc);
            let (mut status, mut updates) = caller.watch(self.service, deadline).await?;
            trace.end(Phase::Rpc, started, || "watching".to_owned());
            drop(turn);
            loop {
                let verdict = Verdict::new(self.service.to_owned(), Ok(status));
                if self.note_answer(route.index, verdict, trace.record().peer.as_deref()).await.is_err() {
                    self.over.notify_one();
                    return pending().await;
                }
                status = caller.next(&mut updates).await?;
            }
        };
        let lost: Result<Infallible, Failure> = tokio::select! {
            lost = updates => lost,
            never = self.check_regularly(caller) => match never {},
        };
        lost.map_err(|failure| connector.cause_of(failure, &connection))
    }

    /// Sends a `Check` regularly, so that an idle connection does not look dead to either side. If no answer arrives, a PING
    /// shows whether the connection is dead. A slow server is alive.
    async fn check_regularly(&self, caller: Caller<'_>) -> Infallible {
        loop {
            sleep(CHECK_INTERVAL).await;
            let deadline = Deadline::new(Instant::now(), self.plan.rpc.rpc_timeout);
            let _ = caller.check(self.service, deadline).await;
        }
    }

    fn is_last_verdict_an_answer(&self, index: usize) -> bool {
        self.servers.borrow()[index].last.as_ref().is_some_and(|last| last.status().is_some())
    }

    /// Stores a status, and reports it if it is new.
    async fn note_answer(&self, index: usize, verdict: Verdict, peer: Option<&str>) -> Result<(), Over> {
        let is_first = !self.has_answered();
        let (address, before, was_known) = {
            let server = &mut self.servers.borrow_mut()[index];
            let before = server.last.replace(verdict.clone());
            (server.address.clone(), before, mem::replace(&mut server.has_answered, true))
        };
        if is_first {
            self.report_failures().await?;
        }
        match before.as_ref().map(Verdict::status) {
            Some(Some(status)) if Some(status) == verdict.status() => return Ok(()),
            Some(None) if was_known => self.changes.connected_again(address.as_deref(), peer).await?,
            _ => {}
        }
        Ok(self.changes.verdict(address.as_deref(), peer, &verdict).await?)
    }

    /// Stores that a connection failed or was lost, and reports it if it is new. It reports nothing before the first answer of
    /// any server: if all fail, that is the result.
    async fn note_loss(&self, index: usize, failure: Failure) -> Result<(), Over> {
        let kind = failure.kind;
        let verdict = Verdict::new(self.service.to_owned(), Err(failure));
        let (address, before) = {
            let server = &mut self.servers.borrow_mut()[index];
            (server.address.clone(), server.last.replace(verdict.clone()))
        };
        if !self.has_answered() {
            return if self.servers.borrow().iter().all(|server| server.last.is_some()) { Err(Over) } else { Ok(()) };
        }
        let is_known = before.is_some_and(|before| {
            before.status().is_none() && before.failure().is_some_and(|before| before.kind == kind)
        });
        if is_known {
            return Ok(());
        }
        Ok(self.changes.verdict(address.as_deref(), None, &verdict).await?)
    }

    /// Reports what failed before the first server answered.
    async fn report_failures(&self) -> Result<(), Over> {
        let failed = |server: &Server| Some((server.address.clone(), server.last.clone()?));
        let verdicts: Vec<_> =
            self.servers.borrow().iter().filter(|server| !server.has_answered).filter_map(failed).collect();
        for (address, verdict) in verdicts {
            self.changes.verdict(address.as_deref(), None, &verdict).await?;
        }
        Ok(())
    }
}
