//! The table of all flags: name, value, option that it sets, conflicts, requirements, help.

use crate::{
    config::{Given, Options},
    text::variable,
};

/// A flag with its properties.
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    /// The flags that cannot be used together with it.
    pub(super) excludes: &'static [&'static str],
    /// The flags that it needs.
    pub(super) needs: &'static [&'static str],
    pub(super) empty: EmptyValue,
    pub(super) help: &'static str,
}

/// The value of a flag, and the option that it sets.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// Nothing: `-help`.
    Nothing,
    /// A boolean that sets no option: `-version`.
    Boolean,
    /// A boolean.
    Switch(fn(&mut Options) -> &mut Option<Given>),
    /// One value, with its name in the help: `FILE`, or all possible values, as in `text|json`.
    One(&'static str, fn(&mut Options) -> &mut Option<Given>),
    /// Any number of values: the flag is repeatable.
    Many(&'static str, fn(&mut Options) -> &mut Vec<Given>),
}

/// What an empty value means, as an unset variable makes it in a script or a template.
#[derive(Clone, Copy)]
pub(super) enum EmptyValue {
    /// The flag is not given.
    NotGiven,
    /// It is a value of its own beside others. Alone, it means that the flag is not given.
    OneOfSeveral,
    /// It is refused, because it would weaken a check: how, and what to do.
    Refused { cause: &'static str, hint: &'static str },
}

use Takes::{Boolean, Many, Nothing, One, Switch};

impl Flag {
    const fn new(name: &'static str, takes: Takes, help: &'static str) -> Self {
        Self { name, takes, excludes: &[], needs: &[], empty: EmptyValue::NotGiven, help }
    }

    const fn excludes(self, excludes: &'static [&'static str]) -> Self {
        Self { excludes, ..self }
    }

    const fn needs(self, needs: &'static [&'static str]) -> Self {
        Self { needs, ..self }
    }

    const fn empty(self, empty: EmptyValue) -> Self {
        Self { empty, ..self }
    }

    /// The environment variable that stands for the flag, if one does.
    pub(super) fn variable(&self) -> Option<String> {
        match self.takes {
            Nothing | Boolean => None,
            Switch(_) | One(..) | Many(..) => Some(variable(self.name)),
        }
    }

    /// The name of the value in the help, if the flag takes one.
    pub(super) fn value_name(&self) -> Option<&'static str> {
        match self.takes {
            Nothing | Boolean | Switch(_) => None,
            One(name, _) | Many(name, _) => Some(name),
        }
    }

    /// What the user gave for it, if anything.
    pub(super) fn given<'a>(&self, options: &'a mut Options) -> Option<&'a Given> {
        match self.takes {
            Nothing | Boolean => None,
            Switch(field) | One(_, field) => field(options).as_ref(),
            Many(_, field) => field(options).first(),
        }
    }
}

/// The flag of this name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// All flags, in the order of the help.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().flat_map(|(_, flags)| *flags)
}

/// All flags under their headings. Their names are Go's, without the dash.
pub(super) const FLAGS: &[(&str, &[Flag])] = &[
    (
        "What to check",
        &[
            Flag::new(
                "addr",
                One("HOST:PORT", |options| &mut options.addr),
                "The server, also without -addr: host:port, :port (this machine), [::1]:port, unix:/path, dns:///host:port, \
                 unix-abstract:name",
            ),
            Flag::new(
                "service",
                Many("NAME", |options| &mut options.service),
                "Service to ask about, or else the whole server. Repeatable: healthy only if all are",
            )
            .empty(EmptyValue::OneOfSeveral),
            Flag::new(
                "watch",
                Switch(|options| &mut options.watch),
                "Health/Watch: the status and its changes, until stopped",
            )
            .excludes(&["wait", "list"]),
            Flag::new("list", Switch(|options| &mut options.list), "Health/List: all services").excludes(&["service"]),
            Flag::new(
                "all-addresses",
                Switch(|options| &mut options.all_addresses),
                "Ask at each address of the name; healthy only if all are",
            ),
            Flag::new(
                "alive",
                Switch(|options| &mut options.alive),
                "Healthy if the server answers, also NOT_SERVING: for liveness probes",
            )
            .excludes(&["watch", "list"]),
            Flag::new(
                "diagnose",
                Switch(|options| &mut options.diagnose),
                "Find the cause, step by step, and what to use instead",
            )
            .excludes(&["watch", "wait", "list", "q"]),
            Flag::new(
                "rpc-header",
                Many("'NAME: VALUE'", |options| &mut options.rpc_header),
                "Request metadata. Repeatable",
            ),
            Flag::new(
                "rpc-header-file",
                Many("'NAME: PATH'", |options| &mut options.rpc_header_file),
                "The same, from a file. Repeatable",
            ),
            Flag::new(
                "authority",
                One("NAME", |options| &mut options.authority),
                "The :authority header, by which proxies choose a server",
            ),
            Flag::new(
                "user-agent",
                One("TEXT", |options| &mut options.user_agent),
                "The user-agent header [default: grpc_health_probe]",
            ),
            Flag::new(
                "gzip",
                Switch(|options| &mut options.gzip),
                "Compress the request, accept a compressed response",
            ),
        ],
    ),
    (
        "Time (as in 300ms, 1.5s, 1m30s)",
        &[
            Flag::new(
                "connect-timeout",
                One("DURATION", |options| &mut options.connect_timeout),
                "Resolve, connect, TLS, HTTP/2; if given, a refused address or missing name is retried until then \
                 [default: 1s]",
            ),
            Flag::new(
                "rpc-timeout",
                One("DURATION", |options| &mut options.rpc_timeout),
                "The request and its answer [default: 1s]",
            ),
            Flag::new(
                "timeout",
                One("DURATION", |options| &mut options.timeout),
                "Bound on the whole run; keep it below the orchestrator's own",
            ),
            Flag::new(
                "wait",
                One("DURATION", |options| &mut options.wait),
                "Probe again until healthy or this is over",
            ),
        ],
    ),
    (
        "TLS",
        &[
            Flag::new("tls", Switch(|options| &mut options.tls), "Use TLS").excludes(&["spiffe", "alts"]),
            Flag::new(
                "tls-ca-cert",
                One("FILE", |options| &mut options.tls_ca_cert),
                "Trust these certificates instead of the system's (PEM)",
            )
            .needs(&["tls"]),
            Flag::new(
                "tls-client-cert",
                One("FILE", |options| &mut options.tls_client_cert),
                "Client certificate, with its chain (PEM)",
            )
            .needs(&["tls", "tls-client-key"]),
            Flag::new("tls-client-key", One("FILE", |options| &mut options.tls_client_key), "Its private key (PEM)")
                .needs(&["tls", "tls-client-cert"]),
            Flag::new(
                "tls-server-name",
                One("NAME", |options| &mut options.tls_server_name),
                "Name to verify and to send, not the address's host",
            )
            .needs(&["tls"]),
            Flag::new(
                "tls-no-verify",
                Switch(|options| &mut options.tls_no_verify),
                "INSECURE: accept any certificate",
            )
            .excludes(&["tls-ca-cert"])
            .needs(&["tls"]),
            Flag::new(
                "tls-no-alpn",
                Switch(|options| &mut options.tls_no_alpn),
                "Accept a server that answers no ALPN; still HTTP/2",
            )
            .needs(&["tls"]),
            Flag::new(
                "spiffe",
                Switch(|options| &mut options.spiffe),
                "mTLS with the X.509-SVID from the API at SPIFFE_ENDPOINT_SOCKET",
            )
            .excludes(&[
                "alts",
                "tls-ca-cert",
                "tls-client-cert",
                "tls-client-key",
                "tls-server-name",
                "tls-no-verify",
                "tls-no-alpn",
            ]),
            Flag::new(
                "spiffe-id",
                One("ID", |options| &mut options.spiffe_id),
                "The server's SPIFFE ID, or its trust domain",
            )
            .needs(&["spiffe"])
            .empty(EmptyValue::Refused {
                cause: "it would accept any server",
                hint: "give the server's SPIFFE ID or its trust domain, or leave it out to accept every ID",
            }),
            Flag::new("alts", Switch(|options| &mut options.alts), "Google ALTS (not supported yet)"),
        ],
    ),
    (
        "Output",
        &[
            Flag::new(
                "exit-codes",
                One("docker|detailed", |options| &mut options.exit_codes),
                "0 or 1, or one for each layer [default: docker]",
            ),
            Flag::new("output", One("text|json", |options| &mut options.output), "In words or as JSON [default: text]"),
            Flag::new("q", Switch(|options| &mut options.quiet), "Print nothing when healthy")
                .excludes(&["watch", "list"]),
            Flag::new("v", Switch(|options| &mut options.verbose), "Print the options, then each phase with its time"),
            Flag::new("version", Boolean, "Print version and commit"),
            Flag::new("help", Nothing, "Print this help"),
        ],
    ),
];
