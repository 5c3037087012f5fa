//! The table of all flags: name, value, option that it sets, conflicts, requirements, help.

use crate::{
    config::{Given, Options},
    text::variable,
};

/// The other name of `-help`.
pub(super) const HELP_ALIAS: &str = "h";

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

/// The flag of this name. `-help` has another one.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    let name = if name == HELP_ALIAS { "help" } else { name };
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
                "The server, also without -addr; see Addresses",
            ),
            Flag::new(
                "service",
                Many("NAME", |options| &mut options.service),
                "Service to ask about; without, the server as a whole. Repeatable: all must be healthy",
            )
            .empty(EmptyValue::OneOfSeveral),
            Flag::new("watch", Switch(|options| &mut options.watch), "Print the status and each change, until stopped")
                .excludes(&["wait", "list"]),
            Flag::new("list", Switch(|options| &mut options.list), "Print all services and their statuses")
                .excludes(&["service"]),
            Flag::new(
                "all-addresses",
                Switch(|options| &mut options.all_addresses),
                "Ask at each address of the name; all must be healthy",
            ),
            Flag::new(
                "alive",
                Switch(|options| &mut options.alive),
                "For liveness: healthy if it answers, even NOT_SERVING",
            )
            .excludes(&["watch", "list"]),
            Flag::new(
                "diagnose",
                Switch(|options| &mut options.diagnose),
                "Find the cause step by step, and say what to use",
            )
            .excludes(&["watch", "wait", "list", "q"]),
            Flag::new(
                "rpc-header",
                Many("'NAME: VALUE'", |options| &mut options.rpc_header),
                "Metadata of the request. Repeatable",
            ),
            Flag::new(
                "rpc-header-file",
                Many("'NAME: PATH'", |options| &mut options.rpc_header_file),
                "The same, the value in a file. Repeatable",
            ),
            Flag::new(
                "authority",
                One("NAME", |options| &mut options.authority),
                "The :authority to send, by which proxies route",
            ),
            Flag::new(
                "user-agent",
                One("TEXT", |options| &mut options.user_agent),
                "The user-agent [default: grpc_health_probe]",
            ),
            Flag::new("gzip", Switch(|options| &mut options.gzip), "Compress the request, accept a compressed answer"),
        ],
    ),
    (
        "Time (D is a duration, as in 300ms, 1.5s, 1m30s)",
        &[
            Flag::new(
                "connect-timeout",
                One("D", |options| &mut options.connect_timeout),
                "Until HTTP/2 is ready [default: 1s]. If given, retry a refused address or a missing name until then",
            ),
            Flag::new(
                "rpc-timeout",
                One("D", |options| &mut options.rpc_timeout),
                "The request and its answer [default: 1s]",
            ),
            Flag::new(
                "timeout",
                One("D", |options| &mut options.timeout),
                "All of it; keep it below the orchestrator's own",
            ),
            Flag::new("wait", One("D", |options| &mut options.wait), "Probe again until healthy, or until D is over"),
        ],
    ),
    (
        "TLS",
        &[
            Flag::new("tls", Switch(|options| &mut options.tls), "Use TLS").excludes(&["spiffe", "alts"]),
            Flag::new(
                "tls-ca-cert",
                One("FILE", |options| &mut options.tls_ca_cert),
                "Trust these certificates, not the system's (PEM)",
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
                "Name to verify and send, not the address's host",
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
                "mTLS, identity from the API at SPIFFE_ENDPOINT_SOCKET",
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
            Flag::new("alts", Switch(|options| &mut options.alts), "Use Google's ALTS"),
            Flag::new(
                "alts-handshaker",
                One("HOST:PORT", |options| &mut options.alts_handshaker),
                "[default: metadata.google.internal.:8080]",
            )
            .needs(&["alts"]),
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
            Flag::new("version", Boolean, "Print version, commit and target"),
            Flag::new("help", Nothing, "Print this help"),
        ],
    ),
];
