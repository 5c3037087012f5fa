//! From what the user said to what it means: every value read, every relation between flags settled. What cannot be
//! meant cannot be built.

use std::{net::Ipv4Addr, path::PathBuf, slice, time::Duration};

use anyhow::{Result, anyhow, bail};
use http::uri::Authority;
use rustls_pki_types::ServerName;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use crate::{
    cli::{Arguments, Given},
    goflag::{format_duration, parse_bool, parse_duration},
    metadata::{self, MetadataFile, USER_AGENT},
    outcome::{ExitCodes, Failure, Kind},
    spiffe_id::SpiffeId,
    target::{self, Endpoint, Target},
    text::shown,
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_USER_AGENT: &str = "grpc_health_probe";

/// How results are told. Settled before everything else, so that everything else can fail in that form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) exit_codes: ExitCodes,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
}

impl Style {
    /// What holds until the user's wishes are known.
    pub(crate) const DEFAULT: Self = Self { exit_codes: ExitCodes::Docker, json: false, quiet: false, verbose: false };

    /// # Errors
    /// A value that the flag does not know.
    pub(crate) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let exit_codes = read(arguments.exit_codes.as_ref(), |text| match text {
            "docker" => Ok(ExitCodes::Docker),
            "detailed" => Ok(ExitCodes::Detailed),
            _ => bail!("neither docker nor detailed"),
        })?;
        let json = read(arguments.output.as_ref(), |text| match text {
            "text" => Ok(false),
            "json" => Ok(true),
            _ => bail!("neither text nor json"),
        })?;
        Ok(Self {
            exit_codes: exit_codes.unwrap_or(ExitCodes::Docker),
            json: json.unwrap_or(false),
            quiet: is_set(arguments.quiet.as_ref())?,
            verbose: is_set(arguments.verbose.as_ref())?,
        })
    }
}

/// What to probe and how.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The address as the user gave it, for messages.
    pub(crate) address: String,
    pub(crate) target: Target,
    /// The `:authority` of requests.
    pub(crate) authority: Authority,
    pub(crate) question: Question,
    /// Whether to ask at each address that the target has, not at one of them.
    pub(crate) all_addresses: bool,
    /// What the user wants sent, and the user agent.
    pub(crate) metadata: MetadataMap,
    /// More of it, each value in a file.
    pub(crate) metadata_files: Vec<MetadataFile>,
    pub(crate) gzip: bool,
    /// From the start until the server's SETTINGS have come.
    pub(crate) connect_timeout: Duration,
    /// Whether to try a refused address again while `connect_timeout` lasts: if the user chose that time.
    pub(crate) keep_trying: bool,
    /// From the server's SETTINGS to the end of the answer.
    pub(crate) rpc_timeout: Duration,
    /// Bound on the whole run.
    pub(crate) timeout: Option<Duration>,
    /// How long to probe again until healthy.
    pub(crate) wait: Option<Duration>,
    pub(crate) tls: Option<Tls>,
}

/// What to ask.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    /// The status of each of these services, at least one; an empty name is the server as a whole.
    Check(Vec<String>),
    /// The status of this service, and each change of it.
    Watch(String),
    /// Which services there are, and their statuses.
    List,
}

impl Question {
    /// The services that are asked about by name.
    pub(crate) fn services(&self) -> &[String] {
        match self {
            Self::Check(services) => services,
            Self::Watch(service) => slice::from_ref(service),
            Self::List => &[],
        }
    }
}

/// How to speak TLS.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) credentials: Credentials,
    /// The name to send, and to verify where certificates are verified by name.
    pub(crate) server_name: ServerName<'static>,
}

/// Where it comes from whom to believe, and who we are.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    Files(Files),
    /// `-spiffe`: the Workload API. The server may have to be this one, or of this trust domain.
    Workload(Option<SpiffeId>),
}

/// Credentials in files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) trust: Trust,
    /// The client's certificate chain and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Which servers to believe.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// Those with a certificate from one of the system's trust anchors.
    System,
    /// Those with a certificate from this file's.
    File(PathBuf),
    /// All: `-tls-no-verify`.
    Anyone,
}

impl Config {
    /// # Errors
    /// A value that cannot be read, a missing address, and flags that exclude each other, each named as the user
    /// gave it.
    pub(crate) fn new(arguments: &Arguments) -> Result<Self, Failure> {
        refuse_unsupported(arguments)?;
        let address = arguments.addr.as_ref().ok_or_else(|| {
            Failure::new(Kind::Usage, "-addr is not specified").hint("say what to probe: -addr=:50051")
        })?;
        let target = target::parse(&address.text).map_err(|error| {
            if address.name.starts_with('-') || arguments.rpc_header.is_empty() {
                // A user and a password may stand before an "@".
                let text = address.text.rsplit_once('@').map_or(address.text.clone(), |(_, host)| format!("…@{host}"));
                return unusable(&Given { text, name: address.name.clone() }, &error);
            }
            // What looks like an address may be the rest of a header that was not quoted.
            Failure::new(Kind::Usage, format!("{}: {error}", address.name)).hint("headers with blanks need quotes")
        })?;
        let tls = tls(arguments, &target)?;
        let authority = match &arguments.tls_server_name {
            Some(name) => authority_of(&name.text).map_err(|error| unusable(name, &error))?,
            None => target.authority.parse().map_err(|_| unusable(address, &anyhow!("not a valid authority")))?,
        };
        let mut metadata = metadata::of(&arguments.rpc_header)?;
        let user_agent = read(arguments.user_agent.as_ref(), metadata::ascii_value)?;
        let user_agent = user_agent.unwrap_or(AsciiMetadataValue::from_static(DEFAULT_USER_AGENT));
        metadata.insert(USER_AGENT, user_agent);
        let connect_timeout = timeout(arguments.connect_timeout.as_ref())?;
        Ok(Self {
            address: address.text.clone(),
            target,
            authority,
            question: question(arguments)?,
            all_addresses: is_set(arguments.all_addresses.as_ref())?,
            metadata,
            metadata_files: metadata::files(&arguments.rpc_header_file)?,
            gzip: is_set(arguments.gzip.as_ref())?,
            connect_timeout: connect_timeout.unwrap_or(DEFAULT_TIMEOUT),
            keep_trying: connect_timeout.is_some(),
            rpc_timeout: timeout(arguments.rpc_timeout.as_ref())?.unwrap_or(DEFAULT_TIMEOUT),
            timeout: timeout(arguments.timeout.as_ref())?,
            wait: timeout(arguments.wait.as_ref())?,
            tls,
        })
    }
}

impl Config {
    /// The same for one endpoint of several, at this address. What is sent and believed stays that of the whole.
    pub(crate) fn at(&self, address: &str, endpoint: Endpoint) -> Self {
        let mut config = Self { address: address.to_owned(), ..self.clone() };
        config.target.endpoint = endpoint;
        config
    }

    /// The flag that asks for TLS, for messages.
    pub(crate) fn tls_flag(&self) -> &'static str {
        match &self.tls {
            Some(Tls { credentials: Credentials::Workload(_), .. }) => "-spiffe",
            _ => "-tls",
        }
    }

    /// The options as they were understood, for people; secrets masked.
    pub(crate) fn tell(&self) -> Vec<String> {
        let mut first = format!(
            "addr={} conn_timeout={} rpc_timeout={}",
            self.address,
            format_duration(self.connect_timeout),
            format_duration(self.rpc_timeout)
        );
        if let Some(timeout) = self.timeout {
            first += &format!(" timeout={}", format_duration(timeout));
        }
        if let Some(wait) = self.wait {
            first += &format!(" wait={}", format_duration(wait));
        }
        let mut lines = vec![first];
        match &self.question {
            Question::Watch(_) => lines[0] += " watch=true",
            Question::List => lines[0] += " list=true",
            Question::Check(_) => {}
        }
        if self.all_addresses {
            lines[0] += " all-addresses=true";
        }
        let services = self.question.services();
        if services.iter().any(|service| !service.is_empty()) {
            lines.push(format!("service={}", services.join(", ")));
        }
        let mut headers = metadata::tell(&self.metadata);
        headers.extend(self.metadata_files.iter().map(ToString::to_string));
        if !headers.is_empty() {
            lines.push(format!("headers: {}", headers.join(", ")));
        }
        lines.push(match &self.tls {
            None => "tls=false".to_owned(),
            Some(Tls { credentials: Credentials::Workload(expected), .. }) => {
                let id = expected.as_ref().map_or_else(String::new, |id| format!(" spiffe-id={id}"));
                format!("tls=true spiffe=true{id}")
            }
            Some(Tls { credentials: Credentials::Files(Files { trust, identity }), server_name }) => {
                let trust = match trust {
                    Trust::System => "ca-cert=the system's".to_owned(),
                    Trust::File(path) => format!("ca-cert={}", path.display()),
                    Trust::Anyone => "no-verify=true".to_owned(),
                };
                let identity = match identity {
                    Some((cert, key)) => format!(" client-cert={} client-key={}", cert.display(), key.display()),
                    None => String::new(),
                };
                format!("tls=true {trust}{identity} server-name={}", server_name.to_str())
            }
        });
        lines
    }
}

fn refuse_unsupported(arguments: &Arguments) -> Result<(), Failure> {
    let (tls, spiffe, alts) =
        (chosen(arguments.tls.as_ref())?, chosen(arguments.spiffe.as_ref())?, chosen(arguments.alts.as_ref())?);
    let set: Vec<&Given> = [tls, spiffe, alts].into_iter().flatten().collect();
    if let [first, second, ..] = set[..] {
        return Err(exclude(first, second));
    }
    match alts {
        Some(given) => Err(Failure::new(Kind::Usage, format!("{} is not supported yet", given.name))),
        None => Ok(()),
    }
}

fn question(arguments: &Arguments) -> Result<Question, Failure> {
    let (watch, list, quiet) =
        (chosen(arguments.watch.as_ref())?, chosen(arguments.list.as_ref())?, chosen(arguments.quiet.as_ref())?);
    let services = arguments.service.as_slice();
    let pairs =
        [(watch, arguments.wait.as_ref()), (watch, list), (list, services.first()), (quiet, watch), (quiet, list)];
    for pair in pairs {
        if let (Some(first), Some(second)) = pair {
            return Err(exclude(first, second));
        }
    }
    let services: Vec<String> = services.iter().map(|given| given.text.clone()).collect();
    Ok(match (watch, list) {
        (Some(watch), _) => match <[String; 1]>::try_from(services) {
            Ok([service]) => Question::Watch(service),
            Err(services) if services.is_empty() => Question::Watch(String::new()),
            Err(services) => {
                let message = format!("{} takes one service, not {}", watch.name, services.len());
                return Err(Failure::new(Kind::Usage, message).hint("watch each by a probe of its own"));
            }
        },
        (None, Some(_)) => Question::List,
        (None, None) if services.is_empty() => Question::Check(vec![String::new()]),
        (None, None) => Question::Check(services),
    })
}

/// A boolean that is set.
fn chosen(given: Option<&Given>) -> Result<Option<&Given>, Failure> {
    Ok(if is_set(given)? { given } else { None })
}

fn exclude(first: &Given, second: &Given) -> Failure {
    Failure::new(Kind::Usage, format!("{} and {} exclude each other", first.name, second.name))
}

fn tls(arguments: &Arguments, target: &Target) -> Result<Option<Tls>, Failure> {
    let no_verify = chosen(arguments.tls_no_verify.as_ref())?;
    let refinements = [
        no_verify,
        arguments.tls_ca_cert.as_ref(),
        arguments.tls_client_cert.as_ref(),
        arguments.tls_client_key.as_ref(),
        arguments.tls_server_name.as_ref(),
    ];
    let spiffe = chosen(arguments.spiffe.as_ref())?;
    if let (None, Some(id)) = (spiffe, &arguments.spiffe_id) {
        return Err(Failure::new(Kind::Usage, format!("{} needs -spiffe", id.name)));
    }
    if !is_set(arguments.tls.as_ref())? {
        return match (refinements.into_iter().flatten().next(), spiffe) {
            (Some(given), _) => Err(Failure::new(Kind::Usage, format!("{} needs -tls", given.name))),
            (None, Some(_)) => Ok(Some(spiffe_tls(arguments, target)?)),
            (None, None) => Ok(None),
        };
    }
    let trust = match (no_verify, &arguments.tls_ca_cert) {
        (Some(no_verify), Some(ca_cert)) => return Err(exclude(no_verify, ca_cert)),
        (Some(_), None) => Trust::Anyone,
        (None, Some(file)) => Trust::File(path(file)?),
        (None, None) => Trust::System,
    };
    let identity = match (&arguments.tls_client_cert, &arguments.tls_client_key) {
        (Some(cert), Some(key)) => Some((path(cert)?, path(key)?)),
        (None, None) => None,
        (Some(cert), None) => {
            return Err(Failure::new(Kind::Usage, format!("{} needs -tls-client-key", cert.name)));
        }
        (None, Some(key)) => return Err(Failure::new(Kind::Usage, format!("{} needs -tls-client-cert", key.name))),
    };
    let server_name = match &arguments.tls_server_name {
        Some(given) => server_name(given.text.clone()).map_err(|error| unusable(given, &error))?,
        None => server_name(target.server_name()).map_err(|error| {
            Failure::new(Kind::Usage, format!("the address: {error}")).hint("give a name with -tls-server-name")
        })?,
    };
    Ok(Some(Tls { credentials: Credentials::Files(Files { trust, identity }), server_name }))
}

fn spiffe_tls(arguments: &Arguments, target: &Target) -> Result<Tls, Failure> {
    let expected = read(arguments.spiffe_id.as_ref(), |text| {
        // A trust domain may be given by its bare name.
        let id = if text.contains("://") { text.to_owned() } else { format!("spiffe://{text}") };
        SpiffeId::parse(&id)
    })?;
    // It is sent, and not verified; what cannot be sent is not.
    let server_name = server_name(target.server_name()).unwrap_or(ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()));
    Ok(Tls { credentials: Credentials::Workload(expected), server_name })
}

/// A file's name. Its content in its place is a mistake that must not be repeated aloud.
fn path(given: &Given) -> Result<PathBuf, Failure> {
    if given.text.contains('\n') || given.text.contains("-----BEGIN") {
        return Err(Failure::new(Kind::Usage, format!("{} takes a file's name, not its content", given.name)));
    }
    Ok(given.text.clone().into())
}

fn server_name(text: String) -> Result<ServerName<'static>> {
    ServerName::try_from(text).map_err(|_| anyhow!("not a name that a certificate can be for"))
}

fn authority_of(server_name: &str) -> Result<Authority> {
    let bracketed = server_name.parse::<std::net::Ipv6Addr>().map(|address| format!("[{address}]"));
    bracketed.as_deref().unwrap_or(server_name).parse().map_err(|_| anyhow!("not a valid authority"))
}

fn timeout(given: Option<&Given>) -> Result<Option<Duration>, Failure> {
    read(given, |text| {
        let nanos = parse_duration(text)?;
        match u64::try_from(nanos) {
            Ok(nanos) if nanos > 0 => Ok(Duration::from_nanos(nanos)),
            _ => {
                let sign = if nanos < 0 { "-" } else { "" };
                let value = format_duration(Duration::from_nanos(nanos.unsigned_abs()));
                bail!("must be greater than zero (specified: {sign}{value})")
            }
        }
    })
}

fn is_set(given: Option<&Given>) -> Result<bool, Failure> {
    read(given, parse_bool).map(Option::unwrap_or_default)
}

fn read<T>(given: Option<&Given>, read: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>, Failure> {
    given.map(|given| read(&given.text).map_err(|error| unusable(given, &error))).transpose()
}

fn unusable(given: &Given, error: &anyhow::Error) -> Failure {
    let Given { text, name } = given;
    let text = shown(text);
    let message = match name.strip_prefix('-') {
        Some(_) => format!("{name}={text}: {error}"),
        None => format!("{name} \"{text}\": {error}"),
    };
    Failure::new(Kind::Usage, message)
}
