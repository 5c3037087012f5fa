//! One server of a watch, from connection to connection. A lost connection is reported. One that the server closes in good
//! order, by GOAWAY, is not: the watch goes on with another.

use std::{cell::RefCell, future::Future, pin::pin, rc::Rc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};

use super::state::Watch;
use crate::{
    backoff::Backoff,
    connection::Connection,
    deadline::Deadline,
    http2::GoAway,
    net::Target,
    outcome::{Failure, Phase, Record, Retry},
    probe::{
        each_address::{AT_ONCE, untried},
        once::Prepared,
        plan::{Credentials, Security, Tls},
        wait::{FIRST_PAUSE, LONGEST_PAUSE},
    },
    rpc::{Caller, Updates},
    trace::Trace,
};

/// How often to send a `Check`. A server that is stuck does not answer it.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long to stay on a connection after GOAWAY while no new one answers. A server that stops waits for its clients to leave,
/// and all of them should have left within a second.
const LEAVE_WITHIN: Duration = Duration::from_millis(900);

/// A server, and how to reach it.
pub(super) struct Route<'a> {
    pub(super) watch: &'a Watch<'a>,
    /// The server's place in [`Watch::servers`].
    pub(super) index: usize,
    pub(super) target: &'a Target,
    /// The watch's trace, or one of its own, where several servers are watched.
    pub(super) trace: &'a Trace,
    /// Whose turn it is to connect, where several servers are watched.
    pub(super) turns: &'a Semaphore,
}

/// A connection on which the server answers.
struct Session {
    prepared: Prepared,
    connection: Connection,
    record: Record,
    /// The status that the server answered with first.
    first: i32,
    updates: Updates,
}

/// A session that the server has asked to leave.
struct Leaving {
    session: Box<Session>,
    until: Instant,
}

/// How a connection ended.
enum Ended {
    /// The server closes it in good order. Its updates go on for a while, if they have not ended already.
    Asked(Option<Box<Session>>),
    /// It could not be opened, or broke, or the server closes it for a reason.
    Failed(Failure),
}

impl Route<'_> {
    /// Watches the server on one connection after another. `prepared` and `deadline` are for the first.
    pub(super) async fn follow(self, prepared: Rc<Prepared>, deadline: Deadline) {
        let latest = RefCell::new(self.kept(&prepared));
        let mut first = Some((prepared, deadline));
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        // When the server was last left, and how often it has refused a new connection since.
        let (mut left, mut refusals) = (Instant::now(), 0);
        // Whether the server has asked to leave, and nothing has failed since.
        let mut is_asked = false;
        let mut was_short = false;
        let mut leaving = None;
        loop {
            let begun = Instant::now();
            let session = self.beside(&mut leaving, self.begin(first.take(), &latest, is_asked)).await;
            let (has_begun, ended) = match session {
                Ok(session) => {
                    leaving = None;
                    (true, self.stay(session).await)
                }
                Err(failure) => (false, Ended::Failed(failure)),
            };
            let is_short = begun.elapsed() <= LONGEST_PAUSE;
            backoff.reset_after(begun.elapsed());
            match ended {
                Ended::Asked(session) => {
                    is_asked = true;
                    leaving = session.map(|session| Leaving { session, until: Instant::now() + LEAVE_WITHIN });
                    // The new connection is opened at once, but for a server that closes each connection soon.
                    if is_short && was_short {
                        self.beside(&mut leaving, sleep(backoff.jittered_pause())).await;
                    }
                }
                Ended::Failed(failure) => {
                    let is_refused = !has_begun && self.is_tried_again(&failure, left, refusals);
                    refusals += 1;
                    if !is_refused {
                        (is_asked, leaving) = (false, None);
                        self.watch.report_loss(self.index, failure, &self.trace.record()).await;
                    }
                    self.beside(&mut leaving, sleep(backoff.jittered_pause())).await;
                }
            }
            if has_begun {
                (left, refusals) = (Instant::now(), 0);
            }
            was_short = is_short;
        }
    }

    /// Whether a refusal is not told, but tried again on a new connection: once, or until `-connect-timeout` is over where the
    /// server only closes connections in good order.
    fn is_tried_again(&self, failure: &Failure, left: Instant, refusals: u32) -> bool {
        match failure.retry {
            Retry::UntilDeadline => left.elapsed() < self.watch.plan.connect_timeout,
            Retry::OnNewConnection => refusals == 0,
            _ => false,
        }
    }

    /// Connects and begins to watch, to the first answer. `first` has what is loaded already and the deadline; later
    /// connections read the files again, as they may have changed since the `latest` time.
    async fn begin(
        &self,
        first: Option<(Rc<Prepared>, Deadline)>,
        latest: &RefCell<Option<Rc<Prepared>>>,
        is_asked: bool,
    ) -> Result<Session, Failure> {
        let (plan, overall) = (self.watch.plan, self.watch.overall);
        let (turn, prepared, deadline) = if let Some((prepared, deadline)) = first {
            let turn =
                deadline.bound(self.turns.acquire()).await.map_err(|_| untried(self.target, deadline, AT_ONCE))?;
            (turn, prepared, deadline)
        } else {
            let turn = self.turns.acquire().await;
            // Until it fails, the last status stands. For how long depends on `-connect-timeout`, within a limit.
            let limit = if is_asked { plan.connect_timeout.min(CHECK_INTERVAL) } else { plan.connect_timeout };
            let deadline = Deadline::new(Instant::now(), limit).or_earlier(overall);
            self.trace.begin_attempt();
            let last = latest.borrow().clone();
            let prepared = match last {
                Some(last) => last.load_again(plan, deadline, self.trace).await?,
                None => Prepared::load(plan, deadline, self.trace).await?,
            };
            let prepared = Rc::new(prepared);
            latest.replace(self.kept(&prepared));
            (turn, prepared, deadline)
        };
        let connector = prepared.connector(plan, self.target);
        let connection = connector.connect(deadline, self.trace).await?;
        let deadline = Deadline::new(Instant::now(), plan.rpc.rpc_timeout).or_earlier(overall);
        let begun = self.trace.begin(Phase::Rpc);
        let caller = self.caller(&prepared, &connection);
        let watched = caller.watch(self.watch.service, deadline).await;
        let (first, updates) = watched.map_err(|failure| connector.cause_of(failure, &connection))?;
        if self.watch.is_timed_out(self.index) {
            // The first status alone does not show that what got no answer gets one now.
            self.check(caller).await?;
        }
        self.trace.end(Phase::Rpc, begun, || "watching".to_owned());
        drop(turn);
        let prepared = prepared.for_open_connection();
        Ok(Session { prepared, connection, record: self.trace.record(), first, updates })
    }

    /// What later connections may need of what is loaded: an identity that the Workload API does not give for a while. Files
    /// are read again.
    fn kept(&self, prepared: &Rc<Prepared>) -> Option<Rc<Prepared>> {
        matches!(self.watch.plan.security, Security::Tls(Tls { credentials: Credentials::Spiffe(_), .. }))
            .then(|| Rc::clone(prepared))
    }

    fn caller<'a>(&'a self, prepared: &'a Prepared, connection: &'a Connection) -> Caller<'a> {
        prepared.caller(self.watch.plan, self.target, connection)
    }

    /// Reports the statuses of a session until the connection is lost, or the server asks to leave.
    async fn stay(&self, mut session: Session) -> Ended {
        self.watch.report_status(self.index, session.first, &session.record).await;
        let Session { prepared, connection, record, updates, .. } = &mut session;
        let caller = self.caller(prepared, connection);
        let ended = tokio::select! {
            // What arrived before a GOAWAY comes first.
            biased;
            failure = self.report_updates(caller, updates, record) => Err(failure),
            goaway = connection.http2.goaway_arrives() => Ok(goaway),
            failure = self.check_regularly(caller) => Err(failure),
        };
        let has_more = ended.is_ok();
        let goaway = match ended {
            Ok(goaway) if goaway.is_routine() => Ok(goaway),
            Ok(goaway) => Err(caller.watch_closed(&goaway)),
            Err(failure) => connection
                .http2
                .goaway()
                .filter(GoAway::is_routine)
                .ok_or_else(|| prepared.connector(self.watch.plan, self.target).cause_of(failure, connection)),
        };
        match goaway {
            Ok(goaway) => {
                let note = || format!("the server closes the connection: {goaway}; watching on a new connection");
                self.trace.note(Phase::Rpc, note);
                Ended::Asked(has_more.then(|| Box::new(session)))
            }
            Err(failure) => Ended::Failed(failure),
        }
    }

    /// Does `work` while a session that is being left still reports its statuses, for a while.
    async fn beside<T>(&self, leaving: &mut Option<Leaving>, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(Leaving { session, until }) = leaving {
            let Session { prepared, connection, record, updates, .. } = &mut **session;
            let caller = self.caller(prepared, connection);
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = self.report_updates(caller, updates, record) => {}
                () = sleep_until(*until) => {}
            }
        }
        *leaving = None;
        work.await
    }

    /// Reports each further status, until there is none: why.
    async fn report_updates(&self, caller: Caller<'_>, updates: &mut Updates, record: &Record) -> Failure {
        loop {
            match caller.next(updates).await {
                Ok(status) => self.watch.report_status(self.index, status, record).await,
                Err(failure) => return failure,
            }
        }
    }

    /// Sends a `Check` now and then, where the server allows one beside the watch, until one gets no answer: the failure. A
    /// server that is stuck, or gone, is noticed so.
    async fn check_regularly(&self, caller: Caller<'_>) -> Failure {
        loop {
            sleep(CHECK_INTERVAL).await;
            if let Err(failure) = self.check(caller).await {
                return failure;
            }
        }
    }

    async fn check(&self, caller: Caller<'_>) -> Result<(), Failure> {
        if !caller.connection.allows_two_requests() {
            return Ok(());
        }
        let deadline = Deadline::new(Instant::now(), self.watch.plan.rpc.rpc_timeout).or_earlier(self.watch.overall);
        caller.expect_answer(self.watch.service, deadline).await
    }
}
