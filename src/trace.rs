//! The trace of a probe: its current phase, the duration of each phase, the peer. Reports, `-v` and the message after a signal
//! use it.

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use tokio::time::Instant;

use crate::outcome::{Phase, Record, Session, Timings};

/// One step of a probe, for the follower of the trace.
pub struct Step<'a> {
    /// The address of the step, if several are probed at once.
    pub(crate) address: Option<&'a str>,
    pub(crate) phase: Phase,
    /// How long the phase took, if the step ends it.
    pub(crate) took: Option<Duration>,
    /// The outcome of the step.
    pub(crate) text: &'a str,
}

/// Receives each step as it happens.
pub type Follower = Rc<dyn Fn(&Step<'_>)>;

/// Records the steps of a probe, and passes each one to the follower, if there is one (`-v`).
pub struct Trace {
    record: Rc<RefCell<Record>>,
    follower: Option<Follower>,
    /// The address of the trace, if several are probed at once.
    address: Option<String>,
    /// The records of several addresses.
    branches: RefCell<Vec<Rc<RefCell<Record>>>>,
    /// The record of the trace that this one runs beside.
    main: Option<Rc<RefCell<Record>>>,
}

impl Trace {
    /// Makes an empty trace.
    #[must_use]
    pub fn new(follower: Option<Follower>) -> Self {
        let record = Rc::new(RefCell::new(Record::new()));
        Self { record, follower, address: None, branches: RefCell::default(), main: None }
    }

    /// A trace without a follower, for connections that are not part of the probe.
    #[must_use]
    pub fn unfollowed() -> Self {
        Self::new(None)
    }

    /// A trace of one address of several that are probed at once.
    pub(crate) fn branch(&self, address: &str) -> Self {
        let mut branch = Self::new(self.follower.clone());
        branch.address = Some(address.to_owned());
        branch.record.borrow_mut().timings.spiffe = self.record.borrow().timings.spiffe;
        self.branches.borrow_mut().push(Rc::clone(&branch.record));
        branch
    }

    /// A trace of an attempt at another address, beside the attempt that this trace is about. The phase that it begins is the
    /// phase of both.
    pub(crate) fn beside(&self) -> Self {
        let mut beside = Self::new(self.follower.clone());
        beside.record.borrow_mut().timings = self.record.borrow().timings.before_connect();
        beside.address.clone_from(&self.address);
        beside.main = Some(Rc::clone(&self.record));
        beside
    }

    /// Replaces the record by that of an attempt that ran beside.
    pub(crate) fn adopt(&self, beside: &Self) {
        *self.record.borrow_mut() = beside.record();
    }

    /// Marks that a branch's attempt is over.
    pub(crate) fn end_attempt(&self) {
        self.record.borrow_mut().is_over = true;
    }

    /// The current phase of the probe; of several addresses, the earliest.
    pub(crate) fn phase(&self) -> Phase {
        let branches = self.branches.borrow();
        let least_far =
            branches.iter().map(|record| record.borrow()).min_by_key(|record| (record.is_over, record.phase));
        least_far.map_or(self.record.borrow().phase, |record| record.phase)
    }

    pub(crate) fn record(&self) -> Record {
        self.record.borrow().clone()
    }

    /// Begins a probe with an empty record.
    pub(crate) fn begin_probe(&self) {
        self.branches.borrow_mut().clear();
        *self.record.borrow_mut() = Record::new();
    }

    /// Begins an attempt to connect, and drops the record of the previous one.
    pub(crate) fn begin_attempt(&self) {
        self.branches.borrow_mut().clear();
        let spiffe = self.record.borrow().timings.spiffe;
        *self.record.borrow_mut() = Record { timings: Timings { spiffe, ..Timings::default() }, ..Record::new() };
    }

    /// Begins a phase. Its time runs from the returned moment.
    pub(crate) fn begin(&self, phase: Phase) -> Instant {
        self.record.borrow_mut().phase = phase;
        if let Some(main) = &self.main {
            main.borrow_mut().phase = phase;
        }
        Instant::now()
    }

    /// Ends the phase that began at `started`.
    pub(crate) fn end(&self, phase: Phase, started: Instant, text: impl FnOnce() -> String) {
        let took = started.elapsed();
        let timings = &mut self.record.borrow_mut().timings;
        match phase {
            Phase::Spiffe => timings.spiffe = Some(took),
            Phase::Resolve => timings.resolve = Some(took),
            Phase::Connect => timings.connect = Some(took),
            Phase::Tls => timings.tls = Some(took),
            Phase::Alts => timings.alts = Some(took),
            Phase::Http2 => timings.http2 = Some(took),
            Phase::Rpc => timings.rpc = Some(took),
            Phase::Usage | Phase::Health => {}
        }
        self.follow(phase, Some(took), text);
    }

    /// Adds a step that does not end its phase.
    pub(crate) fn note(&self, phase: Phase, text: impl FnOnce() -> String) {
        self.follow(phase, None, text);
    }

    fn follow(&self, phase: Phase, took: Option<Duration>, text: impl FnOnce() -> String) {
        if let Some(follower) = &self.follower {
            follower(&Step { address: self.address.as_deref(), phase, took, text: &text() });
        }
    }

    /// Whether the trace has a follower. Only then are expensive details worth collecting.
    pub(crate) fn is_followed(&self) -> bool {
        self.follower.is_some()
    }

    pub(crate) fn set_peer(&self, peer: String) {
        self.record.borrow_mut().peer = Some(peer);
    }

    pub(crate) fn set_session(&self, session: Session) {
        self.record.borrow_mut().session = Some(session);
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("record", &self.record).field("address", &self.address).finish_non_exhaustive()
    }
}
