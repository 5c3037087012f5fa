//! What a probe can come to: phases, kinds, failures, verdicts, and the one table of exit codes.

use std::{fmt, time::Duration};

use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::journal::Record;

/// The steps of a probe, in their order. Where several results are told, the earliest phase is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Arguments, environment, files.
    Usage,
    /// Our identity from the SPIFFE Workload API.
    Spiffe,
    /// From a name to addresses.
    Resolve,
    /// TCP or unix socket.
    Connect,
    /// TLS handshake, up to and with the server's verdict on the client's certificate.
    Tls,
    /// HTTP/2 connection, until the server's SETTINGS have come.
    Http2,
    /// The request and its answer.
    Rpc,
    /// The answer came, and is not SERVING.
    Health,
}

impl Phase {
    /// The name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Spiffe => "spiffe",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Http2 => "http2",
            Self::Rpc => "rpc",
            Self::Health => "health",
        }
    }
}

/// Which exit codes to use, `-exit-codes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCodes {
    /// Docker's: 0 healthy, 1 unhealthy, nothing else.
    Docker,
    /// The Go tool's: one for each layer.
    Detailed,
}

impl ExitCodes {
    /// The exit code of a probe that failed in `phase`, or was healthy.
    pub(crate) fn code(self, failed: Option<Phase>) -> u8 {
        match (self, failed) {
            (_, None) => 0,
            (Self::Docker, Some(_)) | (Self::Detailed, Some(Phase::Usage)) => 1,
            (Self::Detailed, Some(Phase::Spiffe)) => 20,
            (Self::Detailed, Some(Phase::Resolve | Phase::Connect | Phase::Tls | Phase::Http2)) => 2,
            (Self::Detailed, Some(Phase::Rpc)) => 3,
            (Self::Detailed, Some(Phase::Health)) => 4,
        }
    }
}

/// What kind of failure: a stable name for programs, part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Usage,
    FileUnreadable,
    CertificateInvalid,
    KeyInvalid,
    KeyEncrypted,
    KeyMismatch,
    NoTrustAnchors,
    WorkloadApiAddress,
    WorkloadApiUnreachable,
    WorkloadApiUnusable,
    WorkloadApiTimeout,
    WorkloadApiDenied,
    WorkloadApiFailed,
    NoSvid,
    SvidInvalid,
    NoTrustBundle,
    NameNotFound,
    ResolveFailed,
    ResolveTimeout,
    ConnectionRefused,
    Unreachable,
    ConnectTimeout,
    SocketMissing,
    #[cfg_attr(not(unix), expect(dead_code, reason = "of unix sockets"))]
    NotASocket,
    PermissionDenied,
    ConnectFailed,
    TlsPlaintextServer,
    TlsCertificateExpired,
    TlsCertificateNotYetValid,
    TlsCertificateWrongName,
    TlsCertificateUnknownIssuer,
    TlsCertificateInvalid,
    TlsClientCertificateRequired,
    TlsClientCertificateRejected,
    TlsNoH2,
    TlsVersion,
    TlsTimeout,
    TlsFailed,
    ServerSpeaksTls,
    ServerSpeaksHttp1,
    NotHttp2,
    ServerSilent,
    ClosedEarly,
    Http2Refused,
    RpcTimeout,
    Unimplemented,
    ServiceUnknown,
    Unauthenticated,
    RpcPermissionDenied,
    Unavailable,
    HttpStatus,
    NotGrpc,
    StreamBroken,
    MalformedResponse,
    RpcFailed,
    NotServing,
    StatusUnknown,
    ServiceUnknownStatus,
    StatusUnrecognised,
    NothingListed,
    /// Stopped by a signal in the phase.
    Interrupted(Phase),
}

impl Kind {
    /// The phase that this kind belongs to.
    pub(crate) fn phase(self) -> Phase {
        self.row().0
    }

    /// The name in JSON.
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    /// Whether a server that is coming up, or recovers, may end this (`-wait`): it has not come as far yet, or has said
    /// itself that it is not ready. What it is, it stays; and so does what the user gave.
    pub(crate) fn can_pass(self) -> bool {
        match self {
            Self::WorkloadApiUnreachable
            | Self::WorkloadApiTimeout
            | Self::WorkloadApiDenied
            | Self::WorkloadApiFailed
            | Self::NoSvid
            | Self::NoTrustBundle
            | Self::NameNotFound
            | Self::ResolveFailed
            | Self::ResolveTimeout
            | Self::ConnectionRefused
            | Self::Unreachable
            | Self::ConnectTimeout
            | Self::SocketMissing
            | Self::ConnectFailed
            | Self::TlsCertificateNotYetValid
            | Self::TlsTimeout
            | Self::TlsFailed
            | Self::ServerSilent
            | Self::ClosedEarly
            | Self::Http2Refused
            | Self::RpcTimeout
            | Self::ServiceUnknown
            | Self::Unavailable
            | Self::StreamBroken
            | Self::MalformedResponse
            | Self::RpcFailed
            | Self::NotServing
            | Self::StatusUnknown
            | Self::ServiceUnknownStatus
            | Self::StatusUnrecognised
            | Self::NothingListed => true,
            Self::Usage
            | Self::FileUnreadable
            | Self::CertificateInvalid
            | Self::KeyInvalid
            | Self::KeyEncrypted
            | Self::KeyMismatch
            | Self::NoTrustAnchors
            | Self::WorkloadApiAddress
            | Self::WorkloadApiUnusable
            | Self::SvidInvalid
            | Self::NotASocket
            | Self::PermissionDenied
            | Self::TlsPlaintextServer
            | Self::TlsCertificateExpired
            | Self::TlsCertificateWrongName
            | Self::TlsCertificateUnknownIssuer
            | Self::TlsCertificateInvalid
            | Self::TlsClientCertificateRequired
            | Self::TlsClientCertificateRejected
            | Self::TlsNoH2
            | Self::TlsVersion
            | Self::ServerSpeaksTls
            | Self::ServerSpeaksHttp1
            | Self::NotHttp2
            | Self::Unimplemented
            | Self::Unauthenticated
            | Self::RpcPermissionDenied
            | Self::HttpStatus
            | Self::NotGrpc
            | Self::Interrupted(_) => false,
        }
    }

    fn row(self) -> (Phase, &'static str) {
        match self {
            Self::Usage => (Phase::Usage, "usage"),
            Self::FileUnreadable => (Phase::Usage, "file-unreadable"),
            Self::CertificateInvalid => (Phase::Usage, "certificate-invalid"),
            Self::KeyInvalid => (Phase::Usage, "key-invalid"),
            Self::KeyEncrypted => (Phase::Usage, "key-encrypted"),
            Self::KeyMismatch => (Phase::Usage, "key-mismatch"),
            Self::NoTrustAnchors => (Phase::Usage, "no-trust-anchors"),
            Self::WorkloadApiAddress => (Phase::Spiffe, "workload-api-address"),
            Self::WorkloadApiUnreachable => (Phase::Spiffe, "workload-api-unreachable"),
            Self::WorkloadApiUnusable => (Phase::Spiffe, "workload-api-unusable"),
            Self::WorkloadApiTimeout => (Phase::Spiffe, "workload-api-timeout"),
            Self::WorkloadApiDenied => (Phase::Spiffe, "workload-api-denied"),
            Self::WorkloadApiFailed => (Phase::Spiffe, "workload-api-failed"),
            Self::NoSvid => (Phase::Spiffe, "no-svid"),
            Self::SvidInvalid => (Phase::Spiffe, "svid-invalid"),
            Self::NoTrustBundle => (Phase::Spiffe, "no-trust-bundle"),
            Self::NameNotFound => (Phase::Resolve, "name-not-found"),
            Self::ResolveFailed => (Phase::Resolve, "resolve-failed"),
            Self::ResolveTimeout => (Phase::Resolve, "resolve-timeout"),
            Self::ConnectionRefused => (Phase::Connect, "connection-refused"),
            Self::Unreachable => (Phase::Connect, "unreachable"),
            Self::ConnectTimeout => (Phase::Connect, "connect-timeout"),
            Self::SocketMissing => (Phase::Connect, "socket-missing"),
            Self::NotASocket => (Phase::Connect, "not-a-socket"),
            Self::PermissionDenied => (Phase::Connect, "permission-denied"),
            Self::ConnectFailed => (Phase::Connect, "connect-failed"),
            Self::TlsPlaintextServer => (Phase::Tls, "tls-plaintext-server"),
            Self::TlsCertificateExpired => (Phase::Tls, "tls-certificate-expired"),
            Self::TlsCertificateNotYetValid => (Phase::Tls, "tls-certificate-not-yet-valid"),
            Self::TlsCertificateWrongName => (Phase::Tls, "tls-certificate-wrong-name"),
            Self::TlsCertificateUnknownIssuer => (Phase::Tls, "tls-certificate-unknown-issuer"),
            Self::TlsCertificateInvalid => (Phase::Tls, "tls-certificate-invalid"),
            Self::TlsClientCertificateRequired => (Phase::Tls, "tls-client-certificate-required"),
            Self::TlsClientCertificateRejected => (Phase::Tls, "tls-client-certificate-rejected"),
            Self::TlsNoH2 => (Phase::Tls, "tls-no-h2"),
            Self::TlsVersion => (Phase::Tls, "tls-version"),
            Self::TlsTimeout => (Phase::Tls, "tls-timeout"),
            Self::TlsFailed => (Phase::Tls, "tls-failed"),
            Self::ServerSpeaksTls => (Phase::Http2, "server-speaks-tls"),
            Self::ServerSpeaksHttp1 => (Phase::Http2, "server-speaks-http1"),
            Self::NotHttp2 => (Phase::Http2, "not-http2"),
            Self::ServerSilent => (Phase::Http2, "server-silent"),
            Self::ClosedEarly => (Phase::Http2, "closed-early"),
            Self::Http2Refused => (Phase::Http2, "http2-refused"),
            Self::RpcTimeout => (Phase::Rpc, "rpc-timeout"),
            Self::Unimplemented => (Phase::Rpc, "unimplemented"),
            Self::ServiceUnknown => (Phase::Rpc, "service-unknown"),
            Self::Unauthenticated => (Phase::Rpc, "unauthenticated"),
            Self::RpcPermissionDenied => (Phase::Rpc, "rpc-permission-denied"),
            Self::Unavailable => (Phase::Rpc, "unavailable"),
            Self::HttpStatus => (Phase::Rpc, "http-status"),
            Self::NotGrpc => (Phase::Rpc, "not-grpc"),
            Self::StreamBroken => (Phase::Rpc, "stream-broken"),
            Self::MalformedResponse => (Phase::Rpc, "malformed-response"),
            Self::RpcFailed => (Phase::Rpc, "rpc-failed"),
            Self::NotServing => (Phase::Health, "not-serving"),
            Self::StatusUnknown => (Phase::Health, "status-unknown"),
            Self::ServiceUnknownStatus => (Phase::Health, "service-unknown-status"),
            Self::StatusUnrecognised => (Phase::Health, "status-unrecognised"),
            Self::NothingListed => (Phase::Health, "nothing-listed"),
            Self::Interrupted(phase) => (phase, "interrupted"),
        }
    }
}

/// Whether another attempt could end otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// No: the cause stays what it is.
    Never,
    /// The server may be about to come up: again while the user's `-connect-timeout` lasts.
    WhileConnecting,
    /// The server said that it did not process the request (RFC 9113, section 8.7): once more, on a new connection.
    OnceMore,
}

/// Why a probe did not end healthy.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The stable name, which also tells the phase.
    pub(crate) kind: Kind,
    /// What was done, on what, and the cause, in one line.
    pub(crate) message: String,
    /// One thing to do about it, where that is sure.
    pub(crate) hint: Option<String>,
    /// The status code of the RPC, where the server sent one or HTTP stands for one.
    pub(crate) grpc_code: Option<Code>,
    /// Whether another attempt could help.
    pub(crate) retry: Retry,
}

impl Failure {
    /// A failure that is final and needs no hint.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, grpc_code: None, retry: Retry::Never }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the status code of the RPC.
    pub(crate) fn code(mut self, code: Code) -> Self {
        self.grpc_code = Some(code);
        self
    }

    /// Whether waiting may mend it: by its kind, or as a proxy says that what is behind it is not there yet.
    pub(crate) fn can_pass(&self) -> bool {
        self.kind.can_pass() || self.grpc_code == Some(Code::Unavailable)
    }

    /// Says whether another attempt could help.
    pub(crate) fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A status by its name in the protocol, or its number where it has none.
pub(crate) fn status_name(status: i32) -> String {
    ServingStatus::try_from(status).map_or_else(|_| status.to_string(), |known| known.as_str_name().to_owned())
}

/// What the check of one service came to.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) service: String,
    /// The status that the server answered with, by its name in the protocol, or its number where it has none.
    pub(crate) status: Option<String>,
    /// Nothing when healthy.
    pub(crate) failure: Option<Failure>,
}

impl Verdict {
    /// Judges an answer. This is the only place that says healthy.
    pub(crate) fn of(service: String, answer: Result<i32, Failure>) -> Self {
        let status = match answer {
            Ok(status) => status,
            Err(failure) => return Self { service, status: None, failure: Some(failure) },
        };
        let name = status_name(status);
        let kind = match ServingStatus::try_from(status) {
            Ok(ServingStatus::Serving) => return Self { service, status: Some(name), failure: None },
            Ok(ServingStatus::NotServing) => Kind::NotServing,
            Ok(ServingStatus::Unknown) => Kind::StatusUnknown,
            Ok(ServingStatus::ServiceUnknown) => Kind::ServiceUnknownStatus,
            Err(_) => Kind::StatusUnrecognised,
        };
        let failure = Failure::new(kind, format!("service unhealthy (responded with {name:?})"));
        Self { service, status: Some(name), failure: Some(failure) }
    }

    /// The phase that failed, if any.
    pub(crate) fn failed(&self) -> Option<Phase> {
        self.failure.as_ref().map(|failure| failure.kind.phase())
    }

    /// How bad it is, for the worst to come first.
    pub(crate) fn weight(&self) -> u8 {
        match self.failure.as_ref().map(|failure| failure.kind) {
            Some(Kind::NotServing) => 2,
            Some(_) => 1,
            None => 0,
        }
    }
}

/// What the probe of one peer came to.
#[derive(Debug)]
pub(crate) struct Probed {
    /// Which address of several, where each is probed.
    pub(crate) address: Option<String>,
    /// A verdict for each service, or what kept the probe from asking.
    pub(crate) verdicts: Result<Vec<Verdict>, Failure>,
    /// Nothing where the probe has not begun.
    pub(crate) record: Option<Record>,
    /// The time it took.
    pub(crate) took: Duration,
}

impl Probed {
    /// All that failed.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Failure> {
        let (verdicts, failure) = match &self.verdicts {
            Ok(verdicts) => (verdicts.as_slice(), None),
            Err(failure) => (&[][..], Some(failure)),
        };
        verdicts.iter().filter_map(|verdict| verdict.failure.as_ref()).chain(failure)
    }

    /// The same, to be written to.
    pub(crate) fn failures_mut(&mut self) -> impl Iterator<Item = &mut Failure> {
        let (verdicts, failure) = match &mut self.verdicts {
            Ok(verdicts) => (verdicts.as_mut_slice(), None),
            Err(failure) => (&mut [][..], Some(failure)),
        };
        verdicts.iter_mut().filter_map(|verdict| verdict.failure.as_mut()).chain(failure)
    }
}
