//! `-spiffe`: mutual TLS with the identity that the SPIFFE Workload API gives us.

mod endpoint;
mod id;
mod svid;
mod workload_api;

use std::sync::Arc;

use rustls_pki_types::ServerName;

pub(crate) use self::id::SpiffeId;
use self::{svid::Bundles, workload_api::Workload};
use crate::{
    deadline::Deadline,
    outcome::{Failure, Kind},
    tls::{self, KeyProblem, certified_key},
    trace::Trace,
};

/// Whether the agent is away: it says nothing about our identity, so that one that it gave before stays valid.
pub(crate) fn is_away(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::WorkloadApiUnreachable | Kind::WorkloadApiTimeout | Kind::WorkloadApiFailed)
}

/// Fetches our SVID and the trust bundles, and builds a TLS client. `expected` is the server's SPIFFE ID or its trust domain.
/// `server_name` is sent, but not verified. `keeps_trying` says whether to retry while the agent may be about to start.
///
/// # Errors
/// Those of the phase spiffe.
pub(crate) async fn tls_client(
    expected: Option<&SpiffeId>,
    server_name: ServerName<'static>,
    keeps_trying: bool,
    deadline: Deadline,
    trace: &Trace,
) -> Result<tls::Client, Failure> {
    let Workload { svid, bundles } = Box::pin(workload_api::fetch(keeps_trying, deadline, trace)).await?;
    let id = svid.id;
    let key = certified_key(svid.chain, &svid.key).map_err(|problem| {
        let cause = match problem {
            KeyProblem::Unsupported => "its key is broken or of an unsupported kind",
            KeyProblem::Mismatch | KeyProblem::UnreadableCertificate => "its key is not that of its certificate",
        };
        let message = format!("our X.509-SVID {id} from the Workload API cannot be used: {cause}");
        Failure::new(Kind::SvidInvalid, message)
    })?;
    let bundles = Bundles { by_domain: bundles, expected: expected.cloned() };
    Ok(tls::Client::with_policy(Arc::new(bundles), key, server_name, "-spiffe"))
}
