//! `-watch`: `Health/Watch` of one server, or of each address, until stopped. A connection that is lost is opened again,
//! with pauses, as health-checking.md has it.

use std::{cell::RefCell, convert::Infallible, future::pending, mem, time::Duration};

use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep},
};

use crate::{
    addresses::{AT_ONCE, untried},
    config::Config,
    connect::endpoints,
    deadline::Deadline,
    journal::Journal,
    outcome::{Failure, Phase, Probed, Retry, Verdict},
    output::{Gone, has_reader},
    probe::Prepared,
    rpc::{Caller, all},
    target::Endpoint,
    ticker::Ticker,
    wait::{PAUSES, jittered},
};

/// How often a server is asked while it has nothing to tell. A server that is stuck is noticed by its silence.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// How often to look whether there is anybody to tell.
const LOOK_FOR_READER: Duration = Duration::from_secs(1);
/// Why it stops when there is nobody to tell.
const NOBODY_READS: &str = "as nobody reads on";

/// A watch, and what it knows.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    ticker: Ticker<'a>,
    service: &'a str,
    journal: &'a Journal,
    overall: Option<Deadline>,
    servers: RefCell<Vec<Server>>,
    /// Told when there is nothing to watch, or nobody to tell it.
    end: Notify,
}

/// What is known of a server.
#[derive(Debug)]
struct Server {
    /// Its address, where there are several.
    address: Option<String>,
    /// What was seen of it last.
    last: Option<Verdict>,
    has_answered: bool,
}

/// How to reach a server.
struct Way {
    /// The server's place in [`Watch::servers`].
    index: usize,
    config: Config,
    /// One of its own, where there are several servers.
    journal: Option<Journal>,
}

/// There is nothing to watch, or nobody to tell it.
struct Over;

impl From<Gone> for Over {
    fn from(_: Gone) -> Self {
        Self
    }
}

impl<'a> Watch<'a> {
    pub(crate) fn new(ticker: Ticker<'a>, service: &'a str, journal: &'a Journal, overall: Option<Deadline>) -> Self {
        Self { ticker, service, journal, overall, servers: RefCell::default(), end: Notify::new() }
    }

    /// Watches until no server has ever answered and none is left that might: what there is to report.
    ///
    /// # Errors
    /// Why it stopped before: nobody reads on, or `-timeout` is over.
    pub(crate) async fn run(&self, start: Instant) -> Result<Vec<Probed>, String> {
        let ended = tokio::select! {
            // What the last moment brings is cut off, and tells nothing.
            biased;
            stopped = self.time_is_over() => return Err(stopped),
            ended = self.follow_all(start) => ended,
            () = self.reader_has_gone() => return Err(NOBODY_READS.to_owned()),
        };
        match ended {
            Err(failure) => Ok(vec![self.probed(None, failure, start)]),
            Ok(()) if self.has_answered() => Err(NOBODY_READS.to_owned()),
            Ok(()) => {
                let servers = self.servers.take().into_iter();
                let failures = servers.filter_map(|server| Some((server.address, server.last?.failure?)));
                Ok(failures.map(|(address, failure)| self.probed(address, failure, start)).collect())
            }
        }
    }

    /// Waits for the end of `-timeout`: what to say then. Before the first answer each step has it as its own deadline.
    async fn time_is_over(&self) -> String {
        let Some(overall) = self.overall else { return pending().await };
        overall.passed().await;
        if !self.has_answered() {
            return pending().await;
        }
        format!("after {}", overall.limit())
    }

    /// Waits until nobody reads on, which nobody could tell from lines alone where nothing changes.
    async fn reader_has_gone(&self) {
        while !self.has_answered() || has_reader() {
            sleep(LOOK_FOR_READER).await;
        }
    }

    /// Whether any server has ever answered.
    pub(crate) fn has_answered(&self) -> bool {
        self.servers.borrow().iter().any(|server| server.has_answered)
    }

    /// The worst phase of what was seen last of each server, if anything failed or was not seen yet.
    pub(crate) fn failed(&self) -> Option<Phase> {
        let failed = |server: &Server| match &server.last {
            Some(last) => last.failed(),
            None => Some(self.journal.phase()),
        };
        self.servers.borrow().iter().filter_map(failed).min()
    }

    fn probed(&self, address: Option<String>, failure: Failure, start: Instant) -> Probed {
        Probed { address, verdicts: Err(failure), record: Some(self.journal.record()), took: start.elapsed() }
    }

    /// Follows all servers to the end.
    ///
    /// # Errors
    /// What kept it from beginning.
    async fn follow_all(&self, start: Instant) -> Result<(), Failure> {
        let config = self.ticker.config;
        let deadline = Deadline::new(start, config.connect_timeout).or_earlier(self.overall);
        self.journal.begin_probe();
        let prepared = Prepared::load(config, deadline, self.journal).await?;
        let endpoints: Vec<(Option<String>, Endpoint)> = if config.all_addresses {
            let endpoints = endpoints(config, deadline, self.journal).await?;
            endpoints.into_iter().map(|(address, endpoint)| (Some(address), endpoint)).collect()
        } else {
            vec![(None, config.target.endpoint.clone())]
        };
        let server =
            |(address, _): &(Option<String>, _)| Server { address: address.clone(), last: None, has_answered: false };
        self.servers.replace(endpoints.iter().map(server).collect());
        let turns = Semaphore::new(AT_ONCE);
        let follow = endpoints.into_iter().enumerate().map(|(index, (address, endpoint))| {
            let way = match address {
                Some(address) => {
                    let journal = Some(self.journal.branch(&address));
                    Way { index, config: config.at(&address, endpoint), journal }
                }
                None => Way { index, config: config.clone(), journal: None },
            };
            self.follow(way, prepared.another(), deadline, &turns)
        });
        tokio::select! {
            _ = all(follow.collect()) => {}
            () = self.end.notified() => {}
        }
        Ok(())
    }

    /// Watches a server, on one connection after another. `first` bounds the first.
    async fn follow(&self, way: Way, prepared: Prepared, first: Deadline, turns: &Semaphore) {
        let mut first = Some((prepared, first));
        let mut may_try_once_more = true;
        let (mut pause, longest) = PAUSES;
        loop {
            let begun = Instant::now();
            let Err(failure) = self.follow_connection(&way, first.take(), turns).await;
            let was_answered = self.was_answered(way.index);
            let is_once_more = failure.retry == Retry::OnceMore && !was_answered && may_try_once_more;
            may_try_once_more = was_answered;
            if !is_once_more && self.lost(way.index, failure).await.is_err() {
                self.end.notify_one();
                return pending().await;
            }
            if begun.elapsed() > longest {
                pause = PAUSES.0;
            }
            sleep(jittered(pause)).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Watches a server until the connection is lost. Files may have changed since the one before, and are read again.
    async fn follow_connection(
        &self,
        way: &Way,
        first: Option<(Prepared, Deadline)>,
        turns: &Semaphore,
    ) -> Result<Infallible, Failure> {
        let Way { config, journal, .. } = way;
        let journal = journal.as_ref().unwrap_or(self.journal);
        let (turn, prepared, deadline) = if let Some((prepared, deadline)) = first {
            let turn = deadline.bound(turns.acquire()).await.map_err(|_| untried(config, deadline))?;
            (turn, prepared, deadline)
        } else {
            let turn = turns.acquire().await;
            let deadline = Deadline::new(Instant::now(), config.connect_timeout).or_earlier(self.overall);
            (turn, Prepared::load(config, deadline, journal).await?, deadline)
        };
        let connection = prepared.connect(config, deadline, journal).await?;
        let caller = prepared.caller(config, &connection);
        let deadline = Deadline::new(Instant::now(), config.rpc_timeout).or_earlier(self.overall);
        let updates = async {
            let begun = journal.begin(Phase::Rpc);
            let (mut status, mut updates) = caller.watch(self.service, deadline).await?;
            journal.end(Phase::Rpc, begun, || "watching".to_owned());
            drop(turn);
            loop {
                let verdict = Verdict::of(self.service.to_owned(), Ok(status));
                if self.answered(way.index, verdict, journal.record().peer.as_deref()).await.is_err() {
                    self.end.notify_one();
                    return pending().await;
                }
                status = caller.next(&mut updates).await?;
            }
        };
        let lost: Result<Infallible, Failure> = tokio::select! {
            lost = updates => lost,
            never = self.ask_now_and_then(caller) => match never {},
        };
        lost.map_err(|failure| prepared.true_cause(config, &connection, failure))
    }

    /// Keeps a connection that has nothing to tell from looking dead, to either side. Whether it is dead a PING tells, when
    /// no answer comes; a server that answers slowly is alive.
    async fn ask_now_and_then(&self, caller: Caller<'_>) -> Infallible {
        loop {
            sleep(CHECK_EVERY).await;
            let deadline = Deadline::new(Instant::now(), caller.config.rpc_timeout);
            let _ = caller.check(self.service, deadline).await;
        }
    }

    /// Whether a server's last word is a status.
    fn was_answered(&self, index: usize) -> bool {
        self.servers.borrow()[index].last.as_ref().is_some_and(|last| last.status.is_some())
    }

    /// Notes a status, and tells it if it is news.
    async fn answered(&self, index: usize, verdict: Verdict, peer: Option<&str>) -> Result<(), Over> {
        let is_first = !self.has_answered();
        let (address, before, is_known) = {
            let server = &mut self.servers.borrow_mut()[index];
            let before = server.last.replace(verdict.clone());
            (server.address.clone(), before, mem::replace(&mut server.has_answered, true))
        };
        if is_first {
            self.tell_failures().await?;
        }
        match before.map(|before| before.status) {
            Some(status @ Some(_)) if status == verdict.status => return Ok(()),
            Some(None) if is_known => self.ticker.connected_again(address.as_deref(), peer).await?,
            _ => {}
        }
        Ok(self.ticker.verdict(address.as_deref(), peer, &verdict).await?)
    }

    /// Notes that a connection is lost, or could not be had, and tells it if it is news. Before any server has answered
    /// nothing is told: when all have failed, that is the result.
    async fn lost(&self, index: usize, failure: Failure) -> Result<(), Over> {
        let kind = failure.kind;
        let verdict = Verdict::of(self.service.to_owned(), Err(failure));
        let (address, before) = {
            let server = &mut self.servers.borrow_mut()[index];
            (server.address.clone(), server.last.replace(verdict.clone()))
        };
        if !self.has_answered() {
            return if self.servers.borrow().iter().all(|server| server.last.is_some()) { Err(Over) } else { Ok(()) };
        }
        let before = before.filter(|before| before.status.is_none()).and_then(|before| before.failure);
        if before.is_some_and(|before| before.kind == kind) {
            return Ok(());
        }
        Ok(self.ticker.verdict(address.as_deref(), None, &verdict).await?)
    }

    /// Tells what has failed before the first server answered.
    async fn tell_failures(&self) -> Result<(), Over> {
        let failed = |server: &Server| Some((server.address.clone(), server.last.clone()?));
        let told: Vec<_> =
            self.servers.borrow().iter().filter(|server| !server.has_answered).filter_map(failed).collect();
        for (address, verdict) in told {
            self.ticker.verdict(address.as_deref(), None, &verdict).await?;
        }
        Ok(())
    }
}
