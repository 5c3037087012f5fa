//! The handshaker service of ALTS (`grpc.gcp.HandshakerService`), on Google Cloud at the metadata server: connects to it, and
//! carries the messages of a handshake.

use http::{Uri, uri};

use crate::{
    alts::{Conversation, HandshakerReq, HandshakerResp, Pending, is_status_of_refusal},
    connection::{Connection, Connector, Security},
    deadline::Deadline,
    http2::Purpose,
    net::{Endpoint, Host, Target},
    outcome::{Failure, Kind, Phase, Retry},
    rpc::Duplex,
    text::of_other_server,
    trace::Trace,
};

const PATH: &str = "/grpc.gcp.HandshakerService/DoHandshake";
/// The name of Google Cloud's metadata server.
const METADATA_SERVER: &str = "metadata.google.internal";
/// The largest message of the handshaker, in bytes. Real ones have less than 64 KiB.
const MAX_MESSAGE: usize = 1 << 20;

/// Where the handshaker service is.
#[derive(Debug)]
pub(crate) struct Handshaker {
    target: Target,
}

impl Handshaker {
    pub(crate) fn new(target: Target) -> Self {
        Self { target }
    }

    /// The failure to connect, for the phase alts.
    fn not_connected(&self, failure: &Failure) -> Failure {
        let address = &self.target.address;
        let is_metadata_server = matches!(&self.target.endpoint, Endpoint::Tcp(Host::Name(name), _)
            if name.trim_end_matches('.').eq_ignore_ascii_case(METADATA_SERVER));
        let cause = match failure.kind.phase() {
            Phase::Resolve => failure.message.clone(),
            _ => of_other_server(failure.cause(address)),
        };
        let kind = match failure.kind {
            Kind::NameNotFound if is_metadata_server => Kind::AltsNotOnGcp,
            _ => Kind::AltsHandshaker,
        };
        let failure = Failure::new(kind, format!("no handshaker service at {address}: {cause}"));
        match (kind, is_metadata_server) {
            (Kind::AltsNotOnGcp, _) => {
                failure.hint("ALTS works on Google Cloud only; use -tls, or name a handshaker with -alts-handshaker")
            }
            (_, true) => failure
                .hint("ALTS works on Google Cloud only: on a VM with a service account, or in a pod that reaches its metadata server")
                .retry(Retry::WhileConnecting),
            (_, false) => failure.hint("-alts-handshaker names it: is it up?").retry(Retry::WhileConnecting),
        }
    }
}

impl crate::alts::Handshaker for Handshaker {
    fn name(&self) -> String {
        format!("the handshaker service at {}", self.target.address)
    }

    fn connect(&self, deadline: Deadline) -> Pending<'_, Box<dyn Conversation>> {
        Box::pin(async move {
            let security = &Security::Plaintext;
            let purpose = Purpose::Requests(1);
            let connector = Connector { target: &self.target, security, purpose, keeps_trying: false };
            // The steps of this connection are not part of the probe's trace.
            let connection = connector.connect_once(deadline, &Trace::unfollowed()).await;
            let connection = connection.map_err(|failure| self.not_connected(&failure))?;
            let uri = Uri::builder().scheme(uri::Scheme::HTTP).authority(self.target.authority.as_str());
            let uri = uri.path_and_query(PATH).build().map_err(|error| {
                let message = format!("no handshaker service at {}: {error}", self.target.address);
                Failure::new(Kind::AltsHandshaker, message)
            })?;
            let talk: Box<dyn Conversation> = Box::new(Talk { name: self.name(), connection, uri, stream: None });
            Ok(talk)
        })
    }
}

/// A handshake as an RPC.
#[derive(Debug)]
struct Talk {
    name: String,
    connection: Connection,
    uri: Uri,
    /// The RPC, once it has begun.
    stream: Option<Duplex>,
}

impl Talk {
    async fn exchange(&mut self, message: &HandshakerReq) -> Result<HandshakerResp, Failure> {
        if let Some(stream) = &mut self.stream {
            stream.send(message);
            return stream.receive().await;
        }
        let begun = Duplex::begin(&self.connection.http2, self.uri.clone(), MAX_MESSAGE, message).await?;
        self.stream.insert(begun).receive().await
    }

    /// The failure of the RPC, for the phase alts.
    fn failed(&self, failure: &Failure) -> Failure {
        let (name, cause) = (&self.name, of_other_server(&failure.message));
        match failure.grpc_code {
            Some(code) if is_status_of_refusal(code) => {
                let refused = Failure::new(Kind::AltsRefused, format!("{name} refused it: {cause}")).code(code);
                if code == tonic::Code::ResourceExhausted { refused.transient() } else { refused }
            }
            code => {
                let message = format!("{name} failed: {cause}");
                let failed = Failure::new(Kind::AltsHandshaker, message).retry(Retry::WhileConnecting);
                Failure { grpc_code: code, ..failed }
            }
        }
    }
}

impl Conversation for Talk {
    fn ask<'a>(&'a mut self, message: &'a HandshakerReq) -> Pending<'a, HandshakerResp> {
        Box::pin(async move {
            match self.exchange(message).await {
                Ok(answer) => Ok(answer),
                Err(failure) => Err(self.failed(&failure)),
            }
        })
    }
}
