//! What a watch has seen of its servers, and what of that is news.

use std::{cell::RefCell, future::pending, mem};

use tokio::sync::Notify;

use crate::{
    deadline::Deadline,
    outcome::{Failure, Health, Kind, Record, Session, Verdict},
    probe::plan::Plan,
    report::Changes,
    trace::Trace,
};

/// A watch, and what it knows of its servers.
#[derive(Debug)]
pub(in crate::probe) struct Watch<'a> {
    pub(super) plan: &'a Plan,
    pub(super) service: &'a str,
    pub(super) changes: Changes<'a>,
    pub(super) trace: &'a Trace,
    pub(super) overall: Option<Deadline>,
    pub(super) servers: RefCell<Vec<Server>>,
    /// Notified when there is nothing to watch.
    pub(super) over: Notify,
}

/// What is known of a server.
#[derive(Debug)]
pub(super) struct Server {
    /// Its address, where several are watched.
    pub(super) address: Option<String>,
    /// The last verdict.
    pub(super) last: Option<Verdict>,
    pub(super) has_answered: bool,
    /// What the handshake of the last attempt agreed on.
    pub(super) session: Option<Session>,
}

impl<'a> Watch<'a> {
    pub(in crate::probe) fn new(
        plan: &'a Plan,
        service: &'a str,
        changes: Changes<'a>,
        trace: &'a Trace,
        overall: Option<Deadline>,
    ) -> Self {
        Self { plan, service, changes, trace, overall, servers: RefCell::default(), over: Notify::new() }
    }

    /// Whether any server has ever answered.
    pub(in crate::probe) fn has_answered(&self) -> bool {
        self.servers.borrow().iter().any(|server| server.has_answered)
    }

    /// Whether every server's last verdict is healthy. A server without a verdict is not.
    pub(in crate::probe) fn health(&self) -> Health {
        let health = |server: &Server| match &server.last {
            Some(last) => last.health(),
            None => Health::Unhealthy(self.trace.phase()),
        };
        let servers = self.servers.borrow();
        servers.iter().map(health).reduce(Health::and).unwrap_or(Health::Unhealthy(self.trace.phase()))
    }

    /// Whether the last request to this server got no answer.
    pub(super) fn is_timed_out(&self, index: usize) -> bool {
        let servers = self.servers.borrow();
        let failure = servers[index].last.as_ref().and_then(Verdict::failure);
        failure.is_some_and(|failure| failure.kind == Kind::RpcTimeout)
    }

    /// Reports a status of this server.
    pub(super) async fn report_status(&self, index: usize, status: i32, record: &Record) {
        self.note_answer(index, &Verdict::new(self.service.to_owned(), Ok(status)), record);
        self.changes.progress.readers_catch_up().await;
    }

    /// Reports that a connection is lost, or could not be opened. Where there is nothing to watch any more, it never returns.
    pub(super) async fn report_loss(&self, index: usize, failure: Failure, record: &Record) {
        self.note_loss(index, failure, record.session.as_ref());
        if !self.has_answered() && self.servers.borrow().iter().all(|server| server.last.is_some()) {
            self.over.notify_one();
            pending::<()>().await;
        }
        self.changes.progress.readers_catch_up().await;
    }

    /// Keeps a status, and reports it if it is news.
    fn note_answer(&self, index: usize, verdict: &Verdict, record: &Record) {
        let (peer, session) = (record.peer.as_deref(), record.session.as_ref());
        let is_first = !self.has_answered();
        let (address, before, was_known) = {
            let server = &mut self.servers.borrow_mut()[index];
            let before = server.last.replace(verdict.clone());
            (server.address.clone(), before, mem::replace(&mut server.has_answered, true))
        };
        if is_first {
            self.report_failures();
        }
        match before.as_ref().map(Verdict::status) {
            Some(Some(status)) if Some(status) == verdict.status() => return,
            Some(None) if was_known => self.changes.connected_again(address.as_deref(), peer),
            _ => {}
        }
        self.changes.verdict(address.as_deref(), peer, session, verdict);
    }

    /// Keeps that a connection is lost, or could not be opened, and reports it if it is news. Before any server has answered
    /// nothing is reported: if all fail, that is the result.
    fn note_loss(&self, index: usize, failure: Failure, session: Option<&Session>) {
        let kind = failure.kind;
        let verdict = Verdict::new(self.service.to_owned(), Err(failure));
        let (address, before) = {
            let server = &mut self.servers.borrow_mut()[index];
            server.session = session.cloned();
            (server.address.clone(), server.last.replace(verdict.clone()))
        };
        let is_known = before.is_some_and(|before| {
            before.status().is_none() && before.failure().is_some_and(|before| before.kind == kind)
        });
        if self.has_answered() && !is_known {
            self.changes.verdict(address.as_deref(), None, session, &verdict);
        }
    }

    /// Reports what failed before the first server answered.
    fn report_failures(&self) {
        let failed = |server: &Server| Some((server.address.clone(), server.session.clone(), server.last.clone()?));
        let verdicts: Vec<_> =
            self.servers.borrow().iter().filter(|server| !server.has_answered).filter_map(failed).collect();
        for (address, session, verdict) in verdicts {
            self.changes.verdict(address.as_deref(), None, session.as_ref(), &verdict);
        }
    }
}
