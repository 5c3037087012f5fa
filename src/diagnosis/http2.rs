//! The seventh step: HTTP/2 as a probe begins it, without a request.

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::time::{milliseconds, share};
use crate::{
    connection::{Connection, Connector, Security},
    deadline::Deadline,
    http2::Purpose,
    net::Target,
    outcome::Failure,
    trace::Trace,
};

/// How long it may take.
const LIMIT: Duration = Duration::from_millis(1500);
/// How long to wait for a GOAWAY after the server's SETTINGS.
const GOAWAY_WAIT: Duration = Duration::from_millis(50);

/// The beginning of HTTP/2.
#[derive(Debug, Serialize)]
pub(crate) struct Http2 {
    /// The parameters of the server's SETTINGS.
    pub(crate) settings: String,
    #[serde(rename = "took_ms", serialize_with = "milliseconds")]
    pub(crate) took: Duration,
    /// A GOAWAY that followed at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) goaway: Option<String>,
}

/// A connection with its beginning, or why there is none.
pub(super) type Begun = Result<(Connection, Http2), Failure>;

/// Begins HTTP/2, over TLS, over ALTS or in plaintext, as a probe does.
pub(super) async fn begin(target: &Target, security: &Security, deadline: Deadline, trace: &Trace) -> Begun {
    let deadline = share(deadline, LIMIT);
    let connector = Connector { target, security, purpose: Purpose::Requests(1), keeps_trying: false };
    let connection = Box::pin(connector.connect_once(deadline, trace)).await?;
    let _ = timeout(GOAWAY_WAIT.min(deadline.remaining()), connection.http2.goaway_arrives()).await;
    let http2 = Http2 {
        settings: connection.http2.settings(),
        took: trace.record().timings.http2.unwrap_or_default(),
        goaway: connection.http2.goaway().map(|goaway| goaway.to_string()),
    };
    Ok((connection, http2))
}
