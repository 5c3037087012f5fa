//! What a probe has done so far: the phase it is in, how long each took, who the peer is. Reports, `-v` and the line
//! that a signal leaves behind are told from it.

use std::{cell::RefCell, rc::Rc, time::Duration};

use rustls_pki_types::CertificateDer;
use tokio::time::Instant;

use crate::{aside::Aside, outcome::Phase, spiffe_id::SpiffeId, svid};

/// How long each phase took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timings {
    pub(crate) spiffe: Option<Duration>,
    pub(crate) resolve: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) tls: Option<Duration>,
    pub(crate) http2: Option<Duration>,
    pub(crate) rpc: Option<Duration>,
}

/// What the TLS handshake agreed on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Session {
    pub(crate) version: String,
    pub(crate) cipher: String,
    /// The name that was asked for; nothing where the server is known by its SPIFFE ID.
    pub(crate) server_name: Option<String>,
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

impl Session {
    /// The server's SPIFFE ID, where it goes by that.
    pub(crate) fn spiffe_id(&self) -> Option<SpiffeId> {
        let certificate = self.certificate.as_ref().filter(|_| self.server_name.is_none());
        certificate.and_then(|certificate| svid::id_of(certificate).ok())
    }
}

/// The last attempt's record.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) phase: Phase,
    pub(crate) peer: Option<String>,
    pub(crate) timings: Timings,
    pub(crate) session: Option<Session>,
    /// Whether there is no more to come, where several addresses are recorded.
    is_over: bool,
}

impl Record {
    fn new() -> Self {
        Self { phase: Phase::Usage, peer: None, timings: Timings::default(), session: None, is_over: false }
    }
}

/// A record that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    record: Rc<RefCell<Record>>,
    /// Tells each entry as it is made.
    verbose: Option<Rc<Aside>>,
    /// Which of several addresses this is about.
    address: Option<String>,
    /// The journals of several addresses.
    branches: RefCell<Vec<Rc<RefCell<Record>>>>,
}

impl Journal {
    pub(crate) fn new(verbose: Option<Rc<Aside>>) -> Self {
        Self { record: Rc::new(RefCell::new(Record::new())), verbose, address: None, branches: RefCell::default() }
    }

    /// A journal about one address of several that are probed at once.
    pub(crate) fn branch(&self, address: &str) -> Self {
        let mut branch = Self::new(self.verbose.clone());
        branch.address = Some(address.to_owned());
        self.branches.borrow_mut().push(Rc::clone(&branch.record));
        branch
    }

    /// Ends what a branch is about.
    pub(crate) fn end_attempt(&self) {
        self.record.borrow_mut().is_over = true;
    }

    /// The phase that the probe is in; of several addresses, where the one furthest behind is.
    pub(crate) fn phase(&self) -> Phase {
        let branches = self.branches.borrow();
        let furthest_behind =
            branches.iter().map(|record| record.borrow()).min_by_key(|record| (record.is_over, record.phase));
        furthest_behind.map_or(self.record.borrow().phase, |record| record.phase)
    }

    pub(crate) fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// Begins a probe: nothing is recorded yet.
    pub(crate) fn begin_probe(&self) {
        self.branches.borrow_mut().clear();
        *self.record.borrow_mut() = Record::new();
    }

    /// Begins an attempt to connect: what the one before recorded is no longer so.
    pub(crate) fn begin_attempt(&self) {
        self.branches.borrow_mut().clear();
        let spiffe = self.record.borrow().timings.spiffe;
        *self.record.borrow_mut() = Record { timings: Timings { spiffe, ..Timings::default() }, ..Record::new() };
    }

    /// Begins a phase; its time runs from here.
    pub(crate) fn begin(&self, phase: Phase) -> Instant {
        self.record.borrow_mut().phase = phase;
        Instant::now()
    }

    /// Ends the phase that began at `begun`, and tells what came of it.
    pub(crate) fn end(&self, phase: Phase, begun: Instant, what: impl FnOnce() -> String) {
        let took = begun.elapsed();
        let timings = &mut self.record.borrow_mut().timings;
        match phase {
            Phase::Spiffe => timings.spiffe = Some(took),
            Phase::Resolve => timings.resolve = Some(took),
            Phase::Connect => timings.connect = Some(took),
            Phase::Tls => timings.tls = Some(took),
            Phase::Http2 => timings.http2 = Some(took),
            Phase::Rpc => timings.rpc = Some(took),
            Phase::Usage | Phase::Health => {}
        }
        if let Some(verbose) = &self.verbose {
            verbose.phase(self.address.as_deref(), phase, Some(took), &what());
        }
    }

    /// Whether anything is told: what takes long to find out is worth it only then.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose.is_some()
    }

    /// Tells something that is no phase's end.
    pub(crate) fn note(&self, phase: Phase, what: impl FnOnce() -> String) {
        if let Some(verbose) = &self.verbose {
            verbose.phase(self.address.as_deref(), phase, None, &what());
        }
    }

    pub(crate) fn set_peer(&self, peer: String) {
        self.record.borrow_mut().peer = Some(peer);
    }

    pub(crate) fn set_session(&self, session: Session) {
        self.record.borrow_mut().session = Some(session);
    }
}
