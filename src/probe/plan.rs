//! The plan of a probe: what to probe and how, from the user's options.

use std::time::Duration;

use rustls_pki_types::ServerName;

use crate::{
    diagnosis::CommandLine,
    net::Target,
    rpc::{self, Metadata, MetadataFile, Question},
    spiffe::SpiffeId,
    tls,
};

/// What to probe and how.
#[derive(Debug)]
pub struct Plan {
    pub(crate) target: Target,
    pub(crate) question: Question,
    /// Whether to probe every address of the target, not just one.
    pub(crate) all_addresses: bool,
    /// Whether any answer counts as healthy: `-alive`.
    pub(crate) alive: bool,
    pub(crate) rpc: rpc::Settings,
    /// The user's metadata and user agent.
    pub(crate) metadata: Metadata,
    /// More metadata, each value in a file.
    pub(crate) metadata_files: Vec<MetadataFile>,
    /// From the start until the server's SETTINGS arrive.
    pub(crate) connect_timeout: Duration,
    /// Whether to retry a refused address while `connect_timeout` lasts: if the user chose that time.
    pub(crate) keeps_trying: bool,
    /// Bound on the whole run.
    pub(crate) timeout: Option<Duration>,
    /// How long to probe again until healthy.
    pub(crate) wait: Option<Duration>,
    pub(crate) security: Security,
    /// The command line to diagnose and to advise from: `-diagnose`.
    pub(crate) diagnosis: Option<Box<CommandLine>>,
}

/// How to secure connections.
#[derive(Debug)]
pub(crate) enum Security {
    Plaintext,
    Tls(Tls),
    Alts(Alts),
}

/// How to use ALTS.
#[derive(Debug)]
pub(crate) struct Alts {
    /// The handshaker service.
    pub(crate) handshaker: Target,
    /// The server's name for the handshaker: the authority of requests.
    pub(crate) target_name: String,
    /// The flag that enables ALTS, or the variable that stands for it, for hints.
    pub(crate) given_by: String,
}

/// How to use TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) credentials: Credentials,
    /// The name to send, and to verify if certificates are verified by name.
    pub(crate) server_name: ServerName<'static>,
    /// Whether the server has to answer HTTP/2 by ALPN, which `-tls-no-alpn` leaves to it.
    pub(crate) needs_alpn: bool,
    /// The flag that enables TLS, or the variable that stands for it, for hints.
    pub(crate) given_by: String,
}

/// Where the trust anchors and our identity come from.
#[derive(Debug)]
pub(crate) enum Credentials {
    Files(tls::Files),
    /// `-spiffe`: the Workload API. The server may have to have this ID, or one of this trust domain.
    Spiffe(Option<SpiffeId>),
}

impl Plan {
    /// The address as the user gave it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.target.address
    }

    /// What to ask.
    #[must_use]
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// Whether the probe may take long: it waits, or watches.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.wait.is_some() || self.question.is_endless()
    }
}
