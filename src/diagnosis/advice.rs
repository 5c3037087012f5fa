//! The last step: a command line that works, or would, and what to paste into a Dockerfile and into Kubernetes.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tonic::Code;

use super::{
    certificate::Certificate, command_line::CommandLine, facts::Facts, listeners::accepts, protocol::Protocol,
};
use crate::{
    duration::format_duration,
    net::{Endpoint, Target},
    outcome::{Kind, Phase},
    text::service_name,
};

/// Files that the user has to put in.
const CA: &str = "CA.pem";
const CLIENT_CERTIFICATE: &str = "CLIENT.pem";
const CLIENT_KEY: &str = "CLIENT.key";
/// What a command does that no flag can improve.
const SAME_LATER: &str = "the command that ran; it works once the cause is gone";

/// What to use.
#[derive(Debug, Serialize)]
pub(crate) struct Advice {
    /// The words after the program's name.
    pub(crate) command: Vec<String>,
    /// What the command does.
    pub(crate) effect: String,
    /// What the user has to put in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) needs: Vec<String>,
    /// The command of a health check inside the server's container.
    pub(crate) healthcheck: Vec<String>,
    /// Docker's bound on it, which is longer than the probe's own, in seconds.
    pub(crate) timeout_seconds: u64,
    pub(crate) kubernetes: Kubernetes,
}

/// The probe of Kubernetes.
#[derive(Debug, Serialize)]
pub(crate) struct Kubernetes {
    /// The port for the kubelet's own probe, where that is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc_service: Option<String>,
    /// What to write the probe under: `-alive` is for the liveness of a container.
    pub(crate) probe: &'static str,
    /// Whether the kubelet's own probe is enough, and why not.
    pub(crate) note: &'static str,
}

/// What a piece of advice is made from, besides the facts.
pub(crate) struct Basis<'a> {
    pub(crate) target: &'a Target,
    /// The user's own command line.
    pub(crate) command: &'a CommandLine,
    /// The kind of the failure that decides, if there is one.
    pub(crate) kind: Option<Kind>,
    /// What the probe says, for a failure that no flag changes.
    pub(crate) healthy: bool,
    /// How long a probe may take.
    pub(crate) limit: Duration,
    /// How long it may take to connect.
    pub(crate) connect_timeout: Duration,
}

/// What to use, from all that was found.
pub(crate) fn of(basis: &Basis<'_>, facts: &Facts) -> Advice {
    let mut needs = Vec::new();
    let mut command = basis.command.clone();
    if command.is_masked {
        needs.push("the secrets that are shown as *** here".to_owned());
    }
    let effect = change(&mut command, basis, facts, &mut needs);
    let limit = time_for_slow(basis, facts).map_or(basis.limit, |time| time.overall);
    let mut in_container = command.clone();
    if let (Some(port), None) = (port_of(&command), &facts.machine) {
        // Inside the server's own container, it is this machine.
        in_container.set("addr", Some(&format!(":{port}")));
        if command.has("tls") && !command.has("tls-server-name") && !command.has("tls-no-verify") {
            in_container.set("tls-server-name", Some(&basis.target.server_name()));
        }
    }
    in_container.set("timeout", Some(&format_duration(limit)));
    let files: Vec<&str> = in_container.relative_files().collect();
    if !files.is_empty() {
        needs.push(format!("in a container, the whole path of {}", files.join(" and ")));
    }
    Advice {
        command: command.words(),
        effect,
        needs,
        kubernetes: kubernetes(&command, facts),
        healthcheck: in_container.words(),
        timeout_seconds: limit.as_secs() + 1 + u64::from(limit.subsec_nanos() > 0),
    }
}

/// Changes the command line so that it fits the server. Returns what it then does.
fn change(command: &mut CommandLine, basis: &Basis<'_>, facts: &Facts, needs: &mut Vec<String>) -> String {
    let Some(kind) = basis.kind.filter(|_| !basis.healthy) else {
        return if command.has("alive") {
            "the command that ran, which finds the server alive"
        } else {
            "the command that ran, which is healthy"
        }
        .to_owned();
    };
    let certificate = facts.certificate.as_ref();
    let speaks_tls = facts.protocol.as_ref().is_some_and(Protocol::speaks_tls);
    if let Some(Time { rpc, overall }) = time_for_slow(basis, facts) {
        command.set("rpc-timeout", Some(&format_duration(rpc)));
        if command.has("timeout") {
            command.set("timeout", Some(&format_duration(overall)));
        }
        return "a command that gives the server twice the time that it took".to_owned();
    }
    match kind {
        Kind::AltsOtherProtocol if speaks_plaintext(facts) => plaintext(command, "ALTS"),
        _ if !command.has("tls") && !command.has("spiffe") && speaks_tls => {
            command.set("tls", None);
            if let Some(certificate) = certificate {
                verify(command, certificate, needs);
                if let Some(wanted) = &certificate.from_client {
                    give_certificate(command, &wanted.authorities, needs);
                }
            }
            if facts.protocol.as_ref().is_some_and(Protocol::lacks_alpn) {
                needs.push("HTTP/2 by ALPN (\"h2\"), which the server, or the proxy before it, does not offer".to_owned());
            }
            "a command that speaks TLS, as the server does".to_owned()
        }
        Kind::TlsPlaintextServer => plaintext(command, "TLS"),
        // A file that cannot be used, of TLS that is not needed.
        _ if kind.phase() == Phase::Usage && command.has("tls") && speaks_plaintext(facts) => plaintext(command, "TLS"),
        Kind::NoTrustAnchors => {
            let Some(certificate) = certificate else { return SAME_LATER.to_owned() };
            verify(command, certificate, needs);
            "a command that verifies the certificate that the server has".to_owned()
        }
        _ if kind.phase() == Phase::Usage => {
            if let (Some(path), Some(certificate)) = (command.value("tls-ca-cert"), certificate)
                && !certificate.verified
            {
                needs.push(issuer(path, certificate));
            }
            SAME_LATER.to_owned()
        }
        _ if command.has("spiffe") => SAME_LATER.to_owned(),
        Kind::TlsCertificateWrongName | Kind::TlsCertificateUnknownIssuer => {
            if let Some(certificate) = certificate {
                verify(command, certificate, needs);
            }
            "a command that verifies the certificate that the server has".to_owned()
        }
        Kind::TlsClientCertificateRequired | Kind::TlsClientCertificateRejected => {
            let wanted = certificate.and_then(|certificate| certificate.from_client.as_ref());
            give_certificate(command, wanted.map_or(&[], |wanted| &wanted.authorities), needs);
            "a command that gives a client certificate, as the server wants".to_owned()
        }
        Kind::TlsNoH2 if facts.protocol.as_ref().is_some_and(|protocol| protocol.answers_no_alpn) => {
            command.set("tls-no-alpn", None);
            "a command that takes a server without ALPN; whether it speaks HTTP/2 is not known".to_owned()
        }
        Kind::TlsCertificateExpired | Kind::TlsCertificateNotYetValid | Kind::TlsCertificateInvalid => {
            "the command that ran; it works once the certificate is replaced (no flag helps but -tls-no-verify, which is INSECURE)"
                .to_owned()
        }
        Kind::ConnectionRefused => listening(command, basis, facts),
        Kind::SocketMissing => other_socket(command, basis, facts),
        Kind::ServiceUnknown | Kind::ServiceUnknownStatus => {
            let left_out = services(command, facts);
            if left_out.is_empty() {
                return "a command that asks for what the server knows, SERVING or not".to_owned();
            }
            let left_out = left_out.join(", ");
            format!("a command that no longer asks about {left_out}, which the server does not know; name the right service with -service")
        }
        Kind::RpcTimeout => "the command that ran; it works once the server answers in time".to_owned(),
        Kind::NotHttp2 | Kind::ServerSpeaksHttp1 | Kind::NotGrpc => {
            "the command that ran; give the server's gRPC port in -addr, if this is not it".to_owned()
        }
        Kind::Unauthenticated | Kind::RpcPermissionDenied => {
            command.set("rpc-header-file", Some("authorization: TOKEN"));
            needs.push("TOKEN, the path of a file with the header's value, as in \"Bearer …\"".to_owned());
            "a command that gives credentials".to_owned()
        }
        Kind::NotServing | Kind::StatusUnknown => {
            "the command that ran, which is right: it is healthy as soon as the server says so".to_owned()
        }
        _ => SAME_LATER.to_owned(),
    }
}

/// How long a server that is only slow should have.
struct Time {
    /// For `-rpc-timeout`.
    rpc: Duration,
    /// For `-timeout`.
    overall: Duration,
}

/// Twice the time that a server took which did not answer in time. `None` for another fault, or if it never answered.
fn time_for_slow(basis: &Basis<'_>, facts: &Facts) -> Option<Time> {
    let took = facts.health.as_ref().filter(|_| !basis.healthy)?.slowness()?;
    let rpc = Duration::from_secs((took * 2).as_secs() + 1);
    Some(Time { rpc, overall: basis.connect_timeout + rpc })
}

/// Sets what verifies this certificate.
fn verify(command: &mut CommandLine, certificate: &Certificate, needs: &mut Vec<String>) {
    if !certificate.has_name
        && !command.has("tls-no-verify")
        && let Some(name) = certificate.server_names.iter().find(|name| !name.contains('*'))
    {
        command.set("tls-server-name", Some(name));
    }
    let is_known = certificate.verified || certificate.problem == Some(Kind::TlsCertificateWrongName);
    if !is_known {
        command.set("tls-ca-cert", Some(CA));
        needs.push(issuer(CA, certificate));
    }
}

/// What a file has to hold that verifies this certificate.
fn issuer(path: &str, certificate: &Certificate) -> String {
    if certificate.is_self_signed {
        format!("{path}, the server's own certificate, which is self-signed ({})", certificate.subject)
    } else {
        format!("{path}, the certificate of {}", certificate.last_issuer)
    }
}

fn speaks_plaintext(facts: &Facts) -> bool {
    facts.protocol.as_ref().is_some_and(|protocol| protocol.speaks_plaintext)
}

/// Leaves out what secures the connection, of which the server has nothing at this port.
fn plaintext(command: &mut CommandLine, secured_by: &str) -> String {
    command.remove_security();
    format!("a command that speaks plaintext, as the server does (or find the server's {secured_by} port)")
}

fn give_certificate(command: &mut CommandLine, authorities: &[String], needs: &mut Vec<String>) {
    command.set("tls-client-cert", Some(CLIENT_CERTIFICATE));
    command.set("tls-client-key", Some(CLIENT_KEY));
    let issuers =
        if authorities.is_empty() { "a CA that the server trusts".to_owned() } else { authorities.join(" or ") };
    needs.push(format!("{CLIENT_CERTIFICATE} and {CLIENT_KEY}, a certificate for clients from {issuers}, and its key"));
}

/// Replaces services that the server does not know by those that were probably meant, or leaves them out. Returns those.
fn services(command: &mut CommandLine, facts: &Facts) -> Vec<String> {
    let mut left_out = Vec::new();
    let Some(health) = &facts.health else { return left_out };
    let unknown = health.services.iter().filter(|service| {
        service.grpc_code == Some(Code::NotFound.into()) || service.status.as_deref() == Some("SERVICE_UNKNOWN")
    });
    for unknown in unknown.filter(|unknown| !unknown.name.is_empty()) {
        let known = health.listed.iter().flatten().map(|service| service.name.as_str());
        let meant = known.filter(|name| !name.is_empty()).find(|name| is_meant(&unknown.name, name));
        command.replace("service", &unknown.name, meant);
        if meant.is_none() {
            left_out.push(service_name(&unknown.name).to_string());
        }
    }
    left_out
}

/// Whether a service was probably meant.
fn is_meant(asked: &str, known: &str) -> bool {
    let last = |name: &str| name.rsplit(['.', '/']).next().unwrap_or(name).to_ascii_lowercase();
    asked.eq_ignore_ascii_case(known) || !asked.is_empty() && last(asked) == last(known)
}

/// Takes an address of this machine that the server listens on.
fn listening(command: &mut CommandLine, basis: &Basis<'_>, facts: &Facts) -> String {
    const SAME: &str = "the command that ran; it works once a server listens there";
    let (Some(machine), Endpoint::Tcp(_, port)) = (&facts.machine, &basis.target.endpoint) else {
        return SAME.to_owned();
    };
    let on_port: Vec<_> = machine.listening.iter().filter(|address| address.port() == *port).collect();
    match (on_port.first(), machine.listening.as_slice()) {
        // Where each address should have a server, another one is no help.
        _ if command.has("all-addresses") => SAME.to_owned(),
        (Some(address), _) if !address.ip().is_unspecified() => {
            command.set("addr", Some(&address.to_string()));
            "a command for the address that is listened on (or let the server listen on all addresses)".to_owned()
        }
        (None, [only]) => {
            let own = if accepts(*only, ([127, 0, 0, 1], only.port()).into()) {
                format!(":{}", only.port())
            } else {
                only.to_string()
            };
            command.set("addr", Some(&own));
            "a command for the only port that is listened on here; whether that is gRPC is not known".to_owned()
        }
        _ => SAME.to_owned(),
    }
}

/// Takes the only socket of the directory that a server listens on.
fn other_socket(command: &mut CommandLine, basis: &Basis<'_>, facts: &Facts) -> String {
    let (Some(machine), Endpoint::Unix(path)) = (&facts.machine, &basis.target.endpoint) else {
        return SAME_LATER.to_owned();
    };
    let mut beside = machine.sockets.iter().filter(|socket| Path::new(socket).parent() == path.parent());
    let (Some(only), None) = (beside.next(), beside.next()) else { return SAME_LATER.to_owned() };
    command.set("addr", Some(&format!("unix:{only}")));
    "a command for the only socket of that directory that is listened on; whether that is gRPC is not known".to_owned()
}

/// The TCP port that a command probes, if it probes one.
fn port_of(command: &CommandLine) -> Option<u16> {
    match Target::parse(command.value("addr")?).ok()?.endpoint {
        Endpoint::Tcp(_, port) => Some(port),
        Endpoint::Unix(_) | Endpoint::Abstract(_) => None,
    }
}

/// Whether the kubelet's own probe is enough.
fn kubernetes(command: &CommandLine, facts: &Facts) -> Kubernetes {
    let port = port_of(command);
    let services = command.arguments.iter().filter(|argument| argument.flag == "service").count();
    let not_grpc = match port {
        None => Some("the kubelet's own grpc probe knows no unix sockets"),
        Some(_) if command.has("tls") || command.has("spiffe") => Some("the kubelet's own grpc probe speaks no TLS"),
        Some(_) if command.has("alts") => Some("the kubelet's own grpc probe speaks no ALTS"),
        Some(_) if command.has("rpc-header") || command.has("rpc-header-file") => {
            Some("the kubelet's own grpc probe sends no metadata")
        }
        Some(_) if command.has("alive") => Some("the kubelet's own grpc probe takes no answer but SERVING"),
        Some(_) if command.has("authority") => Some("the kubelet's own grpc probe sends its own authority"),
        Some(_) if services > 1 => Some("the kubelet's own grpc probe asks about one service"),
        Some(port) if facts.machine.as_ref().is_some_and(|machine| machine.is_loopback_only(port)) => {
            Some("the kubelet's own grpc probe asks at the pod's address, and the server listens on loopback only")
        }
        Some(_) => None,
    };
    let service = command.value("service").filter(|service| !service.is_empty());
    Kubernetes {
        grpc_port: port.filter(|_| not_grpc.is_none()),
        grpc_service: service.map(str::to_owned).filter(|_| not_grpc.is_none()),
        probe: if command.has("alive") { "livenessProbe" } else { "readinessProbe" },
        note: match not_grpc {
            Some(why) => why,
            None if speaks_plaintext(facts) => "the kubelet's own probe is enough, and needs no binary in the image",
            None => "the kubelet's own probe is enough if the server speaks plaintext at the pod's address",
        },
    }
}
