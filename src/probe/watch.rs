//! `-watch`: `Health/Watch` of one server, or of each address, until stopped. A lost connection is opened again, with pauses, as
//! health-checking.md says. `watch/server.rs` follows one server, from connection to connection; here is what is known of all
//! of them, and what of it is news.

mod server;

use std::{cell::RefCell, future::pending, mem, rc::Rc, time::Duration};

use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep},
};

use self::server::Route;
use super::{each_address::AT_ONCE, once::Prepared, plan::Plan};
use crate::{
    deadline::Deadline,
    join_all::join_all,
    net::{self, Target},
    outcome::{Failure, Health, Kind, NonEmpty, ProbeResult, Verdict},
    report::{Changes, NotWritten, reader_gone},
    trace::Trace,
};

/// How often to look for a first answer when nobody reads the output.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);
/// Why a watch stops when nobody reads its output.
const OUTPUT_CLOSED: &str = "stopped: output was closed";

/// A watch, and what it knows of its servers.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    plan: &'a Plan,
    service: &'a str,
    changes: Changes<'a>,
    trace: &'a Trace,
    overall: Option<Deadline>,
    servers: RefCell<Vec<Server>>,
    /// Notified when there is nothing to watch, or nobody reads the output.
    over: Notify,
}

/// What is known of a server.
#[derive(Debug)]
struct Server {
    /// Its address, where several are watched.
    address: Option<String>,
    /// The last verdict.
    last: Option<Verdict>,
    has_answered: bool,
}

/// There is nothing to watch, or nobody reads the output.
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

    /// Watches until no server has ever answered and none is left that might: the results to report.
    ///
    /// # Errors
    /// Why it stopped earlier: nobody reads the output, or `-timeout` is over.
    pub(super) async fn run(&self, start: Instant) -> Result<NonEmpty<ProbeResult>, String> {
        let ended = tokio::select! {
            // What the last moment brings is cut off, and means nothing.
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

    /// Waits for the end of `-timeout`, and returns what to say then. Before the first answer each step has it as its own
    /// deadline.
    async fn time_is_over(&self) -> String {
        let Some(overall) = self.overall else { return pending().await };
        overall.passed().await;
        if !self.has_answered() {
            return pending().await;
        }
        format!("stopped after {}", overall.limit())
    }

    /// Waits until nobody reads the output, and a server has answered. Where nothing changes, no write would show that.
    async fn reader_is_gone(&self) {
        reader_gone().await;
        while !self.has_answered() {
            sleep(ANSWER_INTERVAL).await;
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
    /// What kept it from beginning.
    async fn follow_all(&self, start: Instant) -> Result<(), Failure> {
        let plan = self.plan;
        let deadline = Deadline::new(start, plan.connect_timeout).or_earlier(self.overall);
        self.trace.begin_probe();
        let prepared = Rc::new(Prepared::load(plan, deadline, self.trace).await?);
        let targets: Vec<(Option<Trace>, Target)> = if plan.all_addresses {
            let targets = net::every_endpoint(&plan.target, deadline, self.trace).await?;
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

    /// Whether the last request to this server got no answer.
    fn is_timed_out(&self, index: usize) -> bool {
        let servers = self.servers.borrow();
        let failure = servers[index].last.as_ref().and_then(Verdict::failure);
        failure.is_some_and(|failure| failure.kind == Kind::RpcTimeout)
    }

    /// Reports a status of this server. Where there is nothing to watch any more, it never returns.
    async fn report_status(&self, index: usize, status: i32, peer: Option<&str>) {
        let verdict = Verdict::new(self.service.to_owned(), Ok(status));
        let noted = self.note_answer(index, verdict, peer).await;
        self.go_on(noted).await;
    }

    /// Reports that a connection is lost, or could not be opened. Where there is nothing to watch any more, it never returns.
    async fn report_loss(&self, index: usize, failure: Failure) {
        let noted = self.note_loss(index, failure).await;
        self.go_on(noted).await;
    }

    async fn go_on(&self, noted: Result<(), Over>) {
        if noted.is_err() {
            self.over.notify_one();
            pending::<()>().await;
        }
    }

    /// Keeps a status, and reports it if it is news.
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

    /// Keeps that a connection is lost, or could not be opened, and reports it if it is news. Before any server has answered
    /// nothing is reported: if all fail, that is the result.
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
