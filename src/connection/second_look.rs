//! After a server closed the connection without an answer, or answered in HTTP/1, checks on a second connection whether it speaks TLS instead of
//! plaintext, or the reverse, or one of both instead of ALTS.

use std::{net::SocketAddr, time::Duration};

use tokio::time::Instant;

use super::Security;
use crate::{
    deadline::Deadline,
    http2::{self, Purpose},
    net::{self, Stream, Target},
    outcome::{Failure, Kind, Retry},
    tls,
    trace::Trace,
};

const ADD_TLS: &str = "add -tls";
/// How long to wait until the server shows which protocol it speaks.
const LIMIT: Duration = Duration::from_millis(200);

/// Whether a second look may tell more: the server closed without an answer, or answered in HTTP/1, as TLS servers do to
/// plaintext, and servers that also speak HTTP/2 do to TLS.
pub(super) fn may_help(failure: &Failure) -> bool {
    match failure.kind {
        Kind::ClosedEarly | Kind::TlsFailed | Kind::AltsFailed => failure.retry == Retry::WhileConnecting,
        Kind::ServerSpeaksHttp1 => true,
        Kind::TlsPlaintextServer => failure.hint.is_none(),
        _ => false,
    }
}

/// Names the cause of `failure` if the server speaks TLS where plaintext was tried, or plaintext where TLS was. `address` is
/// the one that failed, where the target has several.
pub(super) async fn explain(
    failure: &mut Failure,
    target: &Target,
    address: Option<SocketAddr>,
    security: &Security,
    deadline: Deadline,
) {
    let name = &target.address;
    let deadline = Deadline::new(Instant::now(), LIMIT).or_earlier(Some(deadline));
    match (failure.kind, security) {
        (Kind::ClosedEarly, Security::Plaintext) if speaks_tls(target, address, deadline).await => {
            let message = format!("no HTTP/2 from {name}: the server closes plaintext connections and speaks TLS");
            *failure = Failure::new(Kind::ServerSpeaksTls, message).hint(ADD_TLS);
        }
        (Kind::ServerSpeaksHttp1, Security::Plaintext) if speaks_tls(target, address, deadline).await => {
            let message = format!("{}, and speaks TLS", failure.message);
            *failure = Failure::new(Kind::ServerSpeaksTls, message).hint(ADD_TLS);
        }
        (Kind::TlsFailed, Security::Tls(tls)) if speaks_plaintext(target, address, deadline).await => {
            let message = format!(
                "TLS handshake with {name} failed: the server does not speak TLS: it closes TLS connections and \
                 answers HTTP/2 in plaintext"
            );
            *failure = Failure::new(Kind::TlsPlaintextServer, message).hint(tls.how_to_leave_out());
        }
        (Kind::AltsFailed, Security::Alts(alts)) => {
            if speaks_tls(target, address, deadline).await {
                *failure = alts.other_protocol(name, "closes ALTS connections and speaks TLS");
            } else if speaks_plaintext(target, address, deadline).await {
                *failure = alts.other_protocol(name, "closes ALTS connections and answers HTTP/2 in plaintext");
            }
        }
        (Kind::TlsPlaintextServer, Security::Tls(tls)) => {
            if speaks_plaintext(target, address, deadline).await {
                failure.message += ", and answers HTTP/2 in plaintext";
                failure.hint = Some(tls.how_to_leave_out());
            } else {
                failure.hint = Some(http2::NEEDS_HTTP2.to_owned());
            }
        }
        _ => {}
    }
}

async fn connect(target: &Target, address: Option<SocketAddr>, deadline: Deadline) -> Result<Stream, Failure> {
    let trace = Trace::unfollowed();
    match address {
        Some(address) => net::connect_to(&target.address, address, deadline, &trace).await,
        None => net::connect(target, deadline, &trace).await.map(|reached| reached.stream),
    }
}

async fn speaks_tls(target: &Target, address: Option<SocketAddr>, deadline: Deadline) -> bool {
    match connect(target, address, deadline).await {
        Ok(stream) => tls::answers_tls(stream, target, deadline).await,
        Err(_) => false,
    }
}

async fn speaks_plaintext(target: &Target, address: Option<SocketAddr>, deadline: Deadline) -> bool {
    let Ok(stream) = connect(target, address, deadline).await else { return false };
    let (purpose, trace) = (Purpose::Requests(1), Trace::unfollowed());
    let opened = http2::Connection::open(stream, &target.address, false, purpose, deadline, &trace).await;
    match opened {
        Ok(connection) => {
            connection.close().await;
            true
        }
        Err(_) => false,
    }
}
