//! ALTS, Google's Application Layer Transport Security, in the place of TLS. A handshaker service does the cryptography of the
//! handshake: this room carries its messages to the server and back, and then encrypts records with the key that it gives.
//! How to reach that service is for whoever implements [`Handshaker`].

mod cipher;
mod failure;
mod handshake;
mod messages;
mod record;
mod service;

use std::rc::Rc;

use self::{failure::Attempt, handshake::Agreed, record::RecordStream};
pub(crate) use self::{
    failure::is_status_of_refusal,
    messages::{HandshakerReq, HandshakerResp},
    service::{Conversation, Handshaker, Pending},
};
use crate::{
    deadline::Deadline,
    http2::{BadRecord, PeerSniffer, StreamEnd},
    net::{Io, Stream},
    outcome::{AltsSession, Failure, Kind, Phase},
    trace::Trace,
};

/// The default: the system's options are set on the TCP stream below.
impl Io for RecordStream<PeerSniffer<Stream>, Option<Box<dyn Conversation>>> {}

/// How to do handshakes.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    handshaker: Rc<dyn Handshaker>,
    /// The server's name, which the handshaker may verify: the authority of requests.
    target_name: Rc<str>,
    /// The flag that enables ALTS, or the variable that stands for it, for hints.
    given_by: Rc<str>,
}

impl Client {
    pub(crate) fn new(handshaker: Rc<dyn Handshaker>, target_name: &str, given_by: &str) -> Self {
        Self { handshaker, target_name: target_name.into(), given_by: given_by.into() }
    }

    /// Does the handshake over `stream`. `target` is the address as the user gave it.
    ///
    /// # Errors
    /// Those of the phase alts.
    pub(crate) async fn handshake(
        &self,
        stream: Stream,
        target: &str,
        deadline: Deadline,
        trace: &Trace,
    ) -> Result<Stream, Failure> {
        let started = trace.begin(Phase::Alts);
        let (mut stream, first_bytes) = PeerSniffer::new(stream);
        let attempt = self.attempt(target);
        let handshaker = &*self.handshaker;
        let agreed =
            handshake::run(handshaker, &self.target_name, &mut stream, &first_bytes, &attempt, deadline, trace);
        let Agreed { key_data, session, received, kept } = agreed.await?;
        trace.end(Phase::Alts, started, || describe(&session));
        Ok(Box::new(RecordStream::client(stream, &key_data, received, kept)))
    }

    /// The failure behind the end of a stream between the handshake and the server's SETTINGS, if that is a bad record.
    pub(crate) fn late_failure(&self, target: &str, end: Option<&StreamEnd>) -> Option<Failure> {
        let Some(StreamEnd::Broken(error)) = end else { return None };
        let bad_record: &BadRecord = error.get_ref()?.downcast_ref()?;
        Some(self.attempt(target).failed(Kind::AltsBadRecord, &bad_record.to_string()))
    }

    /// The failure of a server that turns out to speak another protocol, as `cause` says.
    pub(crate) fn other_protocol(&self, target: &str, cause: &str) -> Failure {
        self.attempt(target).other_protocol(cause)
    }

    fn attempt<'a>(&'a self, target: &'a str) -> Attempt<'a> {
        Attempt { target, given_by: &self.given_by }
    }
}

/// Describes a session for `-v`.
fn describe(AltsSession { peer_service_account, local_service_account }: &AltsSession) -> String {
    let account = |account: &Option<String>| account.clone().unwrap_or_else(|| "unknown".to_owned());
    format!("peer_service_account={}, ours is {}", account(peer_service_account), account(local_service_account))
}
