//! After a server closed the connection without an answer, checks on a second connection whether it speaks TLS instead of
//! plaintext, or the reverse.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    deadline::Deadline,
    http2::{self, Purpose},
    net::{self, Target},
    outcome::{Failure, Kind},
    tls,
    trace::Trace,
};

/// How long to wait until the server shows which protocol it speaks.
const LIMIT: Duration = Duration::from_millis(200);

/// Names the cause of `failure` if the server speaks TLS where plaintext was tried, or plaintext where TLS was.
pub(super) async fn explain(
    failure: Failure,
    target: &Target,
    tls: Option<&tls::Client>,
    deadline: Deadline,
) -> Failure {
    let address = &target.address;
    let deadline = Deadline::new(Instant::now(), LIMIT).or_earlier(Some(deadline));
    match (failure.kind, tls) {
        (Kind::ClosedEarly, None) if speaks_tls(target, deadline).await => {
            let message = format!("no HTTP/2 from {address}: the server closes plaintext connections and answers TLS");
            Failure::new(Kind::ServerSpeaksTls, message).hint("add -tls")
        }
        (Kind::TlsFailed, Some(tls)) if speaks_plaintext(target, deadline).await => {
            let message = format!(
                "TLS handshake with {address} failed: the server does not speak TLS: it closes TLS connections and \
                 answers HTTP/2 in plaintext"
            );
            Failure::new(Kind::TlsPlaintextServer, message).hint(format!("leave out {}", tls.flag()))
        }
        _ => failure,
    }
}

async fn speaks_tls(target: &Target, deadline: Deadline) -> bool {
    match net::connect(target, deadline, &Trace::unfollowed()).await {
        Ok(stream) => tls::answers_tls(stream, target, deadline).await,
        Err(_) => false,
    }
}

async fn speaks_plaintext(target: &Target, deadline: Deadline) -> bool {
    let trace = Trace::unfollowed();
    let Ok(stream) = net::connect(target, deadline, &trace).await else { return false };
    let purpose = Purpose::Requests(1);
    let opened = http2::Connection::open(stream, &target.address, false, purpose, deadline, &trace).await;
    match opened {
        Ok(connection) => {
            connection.close().await;
            true
        }
        Err(_) => false,
    }
}
