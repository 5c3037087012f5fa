//! What a handshake needs from a handshaker service, whoever connects to it.

use std::{fmt, future::Future, pin::Pin};

use super::messages::{HandshakerReq, HandshakerResp};
use crate::{deadline::Deadline, outcome::Failure};

/// What takes its time, with a result or the cause of a failure: messages say who failed, but not what was done on which target.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + 'a>>;

/// A handshaker service.
pub(crate) trait Handshaker: fmt::Debug {
    /// Its name in messages.
    fn name(&self) -> String;

    /// Connects to it by the deadline.
    fn connect(&self, deadline: Deadline) -> Pending<'_, Box<dyn Conversation>>;
}

/// A conversation with the handshaker about one handshake. It ends when it is dropped.
pub(crate) trait Conversation: fmt::Debug + Send {
    /// Sends a message and waits for the answer.
    fn ask<'a>(&'a mut self, message: &'a HandshakerReq) -> Pending<'a, HandshakerResp>;
}
