//! Interprets the options: parses every value and builds the plan of a probe. Contradictory options are refused.

mod authority;
mod command_line;
mod headers;
mod options;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use rustls_pki_types::ServerName;
use tonic::metadata::AsciiMetadataValue;

pub use self::options::Options;
pub(crate) use self::options::{ADDRESS, Given};
use crate::{
    duration::{format_duration, parse_duration},
    net::Target,
    outcome::{ExitCodes, Failure, Kind},
    probe::{Alts, Credentials, Plan, Security, Tls},
    report::Style,
    rpc::{self, Question, ascii_value},
    spiffe::SpiffeId,
    text::service_name,
    tls::{Files, Trust},
};

/// `-connect-timeout` and `-rpc-timeout` where they are not given, as in the Go tool.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// `-alts-handshaker` where it is not given: Google Cloud's metadata server, as in the Go tool.
const DEFAULT_HANDSHAKER: &str = "metadata.google.internal.:8080";
const DEFAULT_USER_AGENT: &str = "grpc_health_probe";

/// How results are reported.
///
/// # Errors
/// A value that its flag does not accept.
pub fn style(options: &Options) -> Result<Style, Failure> {
    let exit_codes = read(options.exit_codes.as_ref(), |text| match text {
        "docker" => Ok(ExitCodes::Docker),
        "detailed" => Ok(ExitCodes::Detailed),
        _ => bail!("neither docker nor detailed"),
    })?;
    read(options.output.as_ref(), |text| match text {
        "text" | "json" => Ok(()),
        _ => bail!("neither text nor json"),
    })?;
    Ok(Style {
        exit_codes: exit_codes.unwrap_or(ExitCodes::Docker),
        json: options.json,
        quiet: options.quiet.is_some(),
        verbose: options.verbose.is_some(),
        alive: options.alive.is_some(),
    })
}

/// What to probe and how.
///
/// # Errors
/// A missing address, or a value that cannot be read, named as the user gave it.
pub fn plan(options: &Options) -> Result<Plan, Failure> {
    let address = options
        .addr
        .as_ref()
        .ok_or_else(|| Failure::new(Kind::Usage, "-addr is not specified").hint("say what to probe: -addr=:50051"))?;
    let target = target(address, !options.rpc_header.is_empty())?;
    let security = security(options, &target)?;
    let authority = match (&options.authority, &options.tls_server_name) {
        (Some(given), _) => authority::given(given)?,
        (None, Some(name)) => authority::of_name(&name.text).map_err(|error| name.unusable(&error))?,
        (None, None) => target.authority.parse().map_err(|_| address.unusable(&anyhow!("not a valid authority")))?,
    };
    let mut metadata = headers::metadata(&options.rpc_header)?;
    let user_agent = read(options.user_agent.as_ref(), ascii_value)?;
    metadata.set_user_agent(user_agent.unwrap_or(AsciiMetadataValue::from_static(DEFAULT_USER_AGENT)));
    let connect_timeout = timeout(options.connect_timeout.as_ref())?;
    let metadata_files = headers::files(&options.rpc_header_file)?;
    let diagnosis = options.diagnose.as_ref().map(|_| Box::new(command_line::command_line(options, &metadata_files)));
    Ok(Plan {
        target,
        question: question(options)?,
        all_addresses: options.all_addresses.is_some(),
        alive: options.alive.is_some(),
        metadata,
        metadata_files,
        rpc: rpc::Settings {
            authority,
            is_tls: matches!(security, Security::Tls(_)),
            gzip: options.gzip.as_ref().map(|gzip| gzip.name.clone()),
            rpc_timeout: timeout(options.rpc_timeout.as_ref())?.unwrap_or(DEFAULT_TIMEOUT),
        },
        connect_timeout: connect_timeout.unwrap_or(DEFAULT_TIMEOUT),
        keeps_trying: connect_timeout.is_some(),
        timeout: timeout(options.timeout.as_ref())?,
        wait: timeout(options.wait.as_ref())?,
        security,
        diagnosis,
    })
}

/// Describes the parsed options for `-v`, with secrets masked.
#[must_use]
pub fn describe(plan: &Plan) -> Vec<String> {
    let mut first = format!(
        "addr={} conn_timeout={} rpc_timeout={}",
        plan.target.address,
        format_duration(plan.connect_timeout),
        format_duration(plan.rpc.rpc_timeout)
    );
    if let Some(timeout) = plan.timeout {
        first += &format!(" timeout={}", format_duration(timeout));
    }
    if let Some(wait) = plan.wait {
        first += &format!(" wait={}", format_duration(wait));
    }
    match &plan.question {
        Question::Watch(_) => first += " watch=true",
        Question::List => first += " list=true",
        Question::Check(_) => {}
    }
    if plan.all_addresses {
        first += " all-addresses=true";
    }
    if plan.alive {
        first += " alive=true";
    }
    if plan.diagnosis.is_some() {
        first += " diagnose=true";
    }
    let mut lines = vec![first];
    let services = plan.question.services();
    if services.iter().any(|service| !service.is_empty()) {
        let services: Vec<&str> = services.iter().map(|service| service_name(service)).collect();
        lines.push(format!("service={}", services.join(", ")));
    }
    if plan.rpc.authority != plan.target.authority {
        lines.push(format!("authority={}", plan.rpc.authority));
    }
    let mut headers = plan.metadata.describe();
    headers.extend(plan.metadata_files.iter().map(ToString::to_string));
    if !headers.is_empty() {
        lines.push(format!("headers: {}", headers.join(", ")));
    }
    lines.push(describe_security(&plan.security));
    lines
}

fn describe_security(security: &Security) -> String {
    match security {
        Security::Plaintext => "tls=false".to_owned(),
        Security::Alts(Alts { handshaker, .. }) => format!("alts=true handshaker={}", handshaker.address),
        Security::Tls(Tls { credentials: Credentials::Spiffe(expected), .. }) => {
            let id = expected.as_ref().map_or_else(String::new, |id| format!(" spiffe-id={id}"));
            format!("tls=true spiffe=true{id}")
        }
        Security::Tls(Tls {
            credentials: Credentials::Files(Files { trust, identity }),
            server_name,
            needs_alpn,
            ..
        }) => {
            let alpn = if *needs_alpn { "" } else { " no-alpn=true" };
            let trust = match trust {
                Trust::System => "ca-cert=the system's".to_owned(),
                Trust::File(path) => format!("ca-cert={}", path.display()),
                Trust::Anyone => "no-verify=true".to_owned(),
            };
            let identity = match identity {
                Some((cert, key)) => format!(" client-cert={} client-key={}", cert.display(), key.display()),
                None => String::new(),
            };
            format!("tls=true {trust}{identity} server-name={}{alpn}", server_name.to_str())
        }
    }
}

fn target(address: &Given, has_headers: bool) -> Result<Target, Failure> {
    Target::parse(&address.text).map_err(|error| {
        if address.name.starts_with('-') || !has_headers {
            return address.without_user().unusable(&error);
        }
        // The argument may be the rest of a header without quotes, not an address.
        Failure::new(Kind::Usage, format!("{}: {error}", address.name)).hint("headers with blanks need quotes")
    })
}

fn question(options: &Options) -> Result<Question, Failure> {
    let services: Vec<String> = options.service.iter().map(|given| given.text.clone()).collect();
    Ok(match (&options.watch, &options.list) {
        (Some(watch), _) => match <[String; 1]>::try_from(services) {
            Ok([service]) => Question::Watch(service),
            Err(services) if services.is_empty() => Question::Watch(String::new()),
            Err(services) => {
                let message = format!("{} takes one service, not {}", watch.name, services.len());
                return Err(Failure::new(Kind::Usage, message).hint("watch each with a probe of its own"));
            }
        },
        (None, Some(_)) => Question::List,
        (None, None) if services.is_empty() => Question::Check(vec![String::new()]),
        (None, None) => Question::Check(services),
    })
}

fn security(options: &Options, target: &Target) -> Result<Security, Failure> {
    Ok(match (&options.tls, &options.spiffe, &options.alts) {
        (_, Some(given), _) => Security::Tls(spiffe(given, options, target)?),
        (Some(given), ..) => Security::Tls(tls(given, options, target)?),
        (.., Some(given)) => Security::Alts(alts(given, options, target)?),
        (None, None, None) => Security::Plaintext,
    })
}

fn alts(given: &Given, options: &Options, target: &Target) -> Result<Alts, Failure> {
    let handshaker = match &options.alts_handshaker {
        Some(given) => Target::parse(&given.text).map_err(|error| given.unusable(&error))?,
        None => Target::parse(DEFAULT_HANDSHAKER).expect("the default is an address"),
    };
    Ok(Alts { handshaker, target_name: target.authority.clone(), given_by: given.name.clone() })
}

fn tls(tls: &Given, options: &Options, target: &Target) -> Result<Tls, Failure> {
    let trust = match &options.tls_ca_cert {
        _ if options.tls_no_verify.is_some() => Trust::Anyone,
        Some(file) => Trust::File(path(file)?),
        None => Trust::System,
    };
    let identity = match (&options.tls_client_cert, &options.tls_client_key) {
        (Some(cert), Some(key)) => Some((path(cert)?, path(key)?)),
        _ => None,
    };
    let server_name = match &options.tls_server_name {
        Some(given) => server_name(without_port(&given.text).to_owned()).map_err(|error| given.unusable(&error))?,
        None => server_name(target.server_name()).map_err(|error| {
            Failure::new(Kind::Usage, format!("the address: {error}")).hint("give a name with -tls-server-name")
        })?,
    };
    let credentials = Credentials::Files(Files { trust, identity });
    let needs_alpn = options.tls_no_alpn.is_none();
    Ok(Tls { credentials, server_name, needs_alpn, given_by: tls.name.clone() })
}

fn spiffe(given: &Given, options: &Options, target: &Target) -> Result<Tls, Failure> {
    let expected = read(options.spiffe_id.as_ref(), |text| {
        // A trust domain may be given by its bare name.
        let id = if text.contains("://") { text.to_owned() } else { format!("spiffe://{text}") };
        SpiffeId::parse(&id)
    })?;
    // The name is sent and not verified. A name that cannot be sent is left out, as IP addresses are.
    let server_name = server_name(target.server_name()).unwrap_or(ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()));
    Ok(Tls { credentials: Credentials::Spiffe(expected), server_name, needs_alpn: true, given_by: given.name.clone() })
}

/// The name of a file. Refuses the content of a file, and does not repeat it in the message.
fn path(given: &Given) -> Result<PathBuf, Failure> {
    if given.text.contains('\n') || given.text.contains("-----BEGIN") {
        return Err(Failure::new(Kind::Usage, format!("{} takes a file's name, not its content", given.name)));
    }
    Ok(given.text.clone().into())
}

fn server_name(text: String) -> Result<ServerName<'static>> {
    // Certificates hold `::ffff:127.0.0.1` as the address of IPv4 that it is.
    let address: Option<IpAddr> = text.parse().ok();
    let text = address.map_or(text, |address| address.to_canonical().to_string());
    ServerName::try_from(text).map_err(|_| anyhow!("not a name that a certificate can be valid for"))
}

/// The host of `-tls-server-name`, which certificates are valid for. A port after it belongs to the authority alone.
fn without_port(server_name: &str) -> &str {
    let is_port =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse().is_ok_and(|it: u16| it > 0);
    let Some((host, _)) = server_name.rsplit_once(':').filter(|(_, port)| is_port(port)) else { return server_name };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bracketed.filter(|address| address.parse::<IpAddr>().is_ok()) {
        Some(address) => address,
        // An address of IPv6 without brackets has no port.
        None if host.contains(':') => server_name,
        None => host,
    }
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

fn read<T>(given: Option<&Given>, read: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>, Failure> {
    given.map(|given| read(&given.text).map_err(|error| given.unusable(&error))).transpose()
}
