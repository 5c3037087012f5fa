//! The user's options, one field for each flag, from the command line and the environment.

use std::fmt;

use crate::{
    outcome::{Failure, Kind},
    text::{excerpt, leftover},
};

/// The name in messages of an address that is given without a flag.
pub(crate) const ADDRESS: &str = "the address";

/// One value that the user gave. It may be a secret, so `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) text: String,
    /// Its name in messages: the flag, such as `-addr`, or the variable.
    pub(crate) name: String,
}

impl Given {
    /// The same without a user and a password, which may stand before an "@".
    pub(crate) fn without_user(&self) -> Self {
        let text = self.text.rsplit_once('@').map_or(self.text.clone(), |(_, host)| format!("…@{host}"));
        Self { text, name: self.name.clone() }
    }

    /// The failure of a value that cannot be used.
    pub(crate) fn unusable(&self, error: &anyhow::Error) -> Failure {
        let text = excerpt(&self.text);
        let message = match self.name.strip_prefix('-') {
            Some(_) => format!("{}={text}: {error}", self.name),
            None => format!("{} \"{text}\": {error}", self.name),
        };
        let flag = if self.name == ADDRESS { "-addr" } else { &self.name };
        Failure { hint: leftover(flag, &self.text), ..Failure::new(Kind::Usage, message) }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Everything that the user said. A switch is present if it is set. A text is not empty, but for a service beside others.
#[derive(Debug, Default)]
pub struct Options {
    pub(crate) addr: Option<Given>,
    pub(crate) service: Vec<Given>,
    pub(crate) rpc_header: Vec<Given>,
    pub(crate) rpc_header_file: Vec<Given>,
    pub(crate) user_agent: Option<Given>,
    pub(crate) authority: Option<Given>,
    pub(crate) gzip: Option<Given>,
    pub(crate) connect_timeout: Option<Given>,
    pub(crate) rpc_timeout: Option<Given>,
    pub(crate) timeout: Option<Given>,
    pub(crate) wait: Option<Given>,
    pub(crate) watch: Option<Given>,
    pub(crate) list: Option<Given>,
    pub(crate) all_addresses: Option<Given>,
    pub(crate) alive: Option<Given>,
    pub(crate) diagnose: Option<Given>,
    pub(crate) tls: Option<Given>,
    pub(crate) tls_no_verify: Option<Given>,
    pub(crate) tls_ca_cert: Option<Given>,
    pub(crate) tls_client_cert: Option<Given>,
    pub(crate) tls_client_key: Option<Given>,
    pub(crate) tls_server_name: Option<Given>,
    pub(crate) tls_no_alpn: Option<Given>,
    pub(crate) spiffe: Option<Given>,
    pub(crate) spiffe_id: Option<Given>,
    pub(crate) alts: Option<Given>,
    pub(crate) alts_handshaker: Option<Given>,
    pub(crate) exit_codes: Option<Given>,
    pub(crate) output: Option<Given>,
    pub(crate) quiet: Option<Given>,
    pub(crate) verbose: Option<Given>,
    /// Whether the user asked for JSON.
    pub(crate) json: bool,
    /// What is said of variables that look like the probe's and are none, if it is to be told.
    pub(crate) unknown_variables: Option<String>,
    /// The words for a shell at the end of the command line. No shell runs here.
    pub(crate) ignored: Option<String>,
}

impl Options {
    /// The address as the user gave it.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.addr.as_ref().map(|addr| addr.text.as_str())
    }

    /// The words at the end of the command line that are ignored.
    #[must_use]
    pub fn ignored(&self) -> Option<&str> {
        self.ignored.as_deref()
    }

    /// Whether the user asked for JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        self.json
    }
}
