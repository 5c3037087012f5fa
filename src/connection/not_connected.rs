//! Why there is no connection: what each address of the target did, and which of the failures tells most.

use std::{cmp::Reverse, net::SocketAddr};

use crate::{
    net::{self, Endpoint, Host, Target},
    outcome::{Failure, Kind, Retry},
    trace::Trace,
};

/// The most addresses that a message says the causes of, besides the first.
const SHOWN: usize = 7;

/// An address that was tried.
#[derive(Debug)]
pub(super) struct Tried {
    /// The address, where it alone failed.
    pub(super) address: Option<SocketAddr>,
    pub(super) failure: Failure,
    /// The trace of the attempt, if that ran beside another.
    pub(super) trace: Option<Trace>,
}

/// The failures of all addresses.
#[derive(Debug)]
pub(super) struct NotConnected {
    /// The address that came furthest. Its failure is that of the whole.
    pub(super) furthest: Tried,
    others: Vec<Tried>,
}

impl NotConnected {
    /// Of the addresses that came equally far, one that another attempt may reach counts as the furthest.
    pub(super) fn new(mut tried: Vec<Tried>) -> Self {
        let furthest = (0..tried.len()).min_by_key(|index| {
            let failure = &tried[*index].failure;
            Reverse((failure.kind.phase(), failure.retry == Retry::WhileConnecting, failure.is_transient()))
        });
        let furthest = tried.remove(furthest.expect("an address was tried"));
        Self { furthest, others: tried }
    }

    /// One failure, which says what each address did.
    pub(super) fn into_failure(self, target: &Target, trace: &Trace) -> Failure {
        let Self { furthest: Tried { address, mut failure, trace: beside }, mut others } = self;
        if let Some(beside) = beside {
            trace.adopt(&beside);
        }
        // On a machine without IPv6, or without IPv4, the addresses of that family tell nothing. Neither does it that a
        // server on this machine listens in one family only.
        let is_this_machine = matches!(target.endpoint, Endpoint::Tcp(Host::Loopback | Host::Unspecified(_), _));
        others.retain(|other| match other.failure.kind {
            Kind::Unreachable => false,
            Kind::ConnectionRefused => !is_this_machine,
            _ => true,
        });
        let (Some(address), false) = (address, others.is_empty()) else { return failure };
        let others: Vec<(SocketAddr, &str)> =
            others.iter().filter_map(|other| Some((other.address?, other.failure.cause(&target.address)))).collect();
        let cause = failure.cause(&target.address);
        if others.iter().all(|(_, other)| *other == cause) {
            let addresses: Vec<SocketAddr> =
                [address].into_iter().chain(others.iter().map(|(address, _)| *address)).collect();
            failure.message += &format!(" ({})", net::list(&addresses));
            return failure;
        }
        failure.message += &format!(" ({address})");
        for (address, cause) in others.iter().take(SHOWN) {
            failure.message += &format!("; {address}: {cause}");
        }
        if others.len() > SHOWN {
            failure.message += &format!("; {} more", others.len() - SHOWN);
        }
        failure
    }
}

impl From<Failure> for NotConnected {
    /// The failure of the only address, or of all together.
    fn from(failure: Failure) -> Self {
        Self { furthest: Tried { address: None, failure, trace: None }, others: Vec::new() }
    }
}
