//! The phases of a probe, and every kind of failure in one table: its variant, its stable name, whether waiting may help,
//! and what `docs/failures.md` says about it.

/// The phases of a probe, in their order. Of several results, the one of the earliest phase is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Arguments, environment variables, files.
    Usage,
    /// Our identity from the SPIFFE Workload API.
    Spiffe,
    /// From a name to addresses.
    Resolve,
    /// TCP or unix socket.
    Connect,
    /// TLS handshake, including the server's verdict on the client certificate.
    Tls,
    /// ALTS handshake, with the help of the handshaker service.
    Alts,
    /// HTTP/2 connection, until the server's SETTINGS arrive.
    Http2,
    /// The request and its answer.
    Rpc,
    /// The server answered, and the status is not SERVING.
    Health,
}

impl Phase {
    /// The name in JSON and in `-v`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Spiffe => "spiffe",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Alts => "alts",
            Self::Http2 => "http2",
            Self::Rpc => "rpc",
            Self::Health => "health",
        }
    }

    /// What the probe does in this phase, for a message that ends in "during …".
    pub(crate) fn activity(self) -> &'static str {
        match self {
            Self::Usage => "its preparation",
            Self::Spiffe => "the request to the SPIFFE Workload API",
            Self::Resolve => "name resolution",
            Self::Connect => "connection setup",
            Self::Tls => "the TLS handshake",
            Self::Alts => "the ALTS handshake",
            Self::Http2 => "HTTP/2 setup",
            Self::Rpc | Self::Health => "the RPC",
        }
    }
}

/// Generates [`Kind`] and the properties of each kind from one table.
///
/// Each entry has the variant, the stable name (part of the interface: JSON), `Transient` or `Final`, an example of the
/// message, and what to do about it.
macro_rules! kinds {
    ($($phase:ident { $($variant:ident $name:literal $duration:ident $example:literal $remedy:literal)* })*) => {
        /// What kind of failure happened: a stable name for programs, part of the interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind {
            $($(
                #[doc = $remedy]
                $variant,
            )*)*
            /// A signal stopped the probe in this phase.
            Interrupted(Phase),
        }

        impl Kind {
            fn row(self) -> (Phase, &'static str, Duration) {
                match self {
                    $($(Self::$variant => (Phase::$phase, $name, Duration::$duration),)*)*
                    Self::Interrupted(phase) => (phase, "interrupted", Duration::Final),
                }
            }

            /// All kinds with an example of the message and the remedy, for the documentation.
            #[cfg(test)]
            pub(crate) const DOCUMENTED: &[(Self, &str, &str)] = &[
                $($((Self::$variant, $example, $remedy),)*)*
            ];
        }
    };
}

/// Whether a failure may end by itself.
#[derive(PartialEq, Eq)]
enum Duration {
    /// It may end when the server has started or recovered.
    Transient,
    /// Another attempt fails the same way.
    Final,
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

    /// Whether waiting may help (`-wait`).
    pub(crate) fn is_transient(self) -> bool {
        self.row().2 == Duration::Transient
    }
}

kinds! {
Usage {
    Usage "usage" Final
        "-connect-timeout=10: a unit is missing (as in 10s or 500ms)"
        "correct the flag, variable or address that is named"
    FileUnreadable "file-unreadable" Final
        "cannot read -tls-ca-cert=/certs/ca.pem: no such file or directory"
        "is the volume mounted, and may the probe's user read it?"
    CertificateInvalid "certificate-invalid" Final
        "-tls-ca-cert=ca.der holds no certificate: it looks like DER, not PEM"
        "convert it: `openssl x509 -inform der`"
    KeyInvalid "key-invalid" Final
        "-tls-client-key=id_ed25519 holds no usable private key: it holds an OPENSSH PRIVATE KEY"
        "give a key in PKCS#8, PKCS#1 or SEC1"
    KeyEncrypted "key-encrypted" Final
        "the private key in -tls-client-key=client.key is encrypted, and a probe cannot ask for the password"
        "decrypt it: `openssl pkey`"
    KeyMismatch "key-mismatch" Final
        "-tls-client-key=other.key is not the key of -tls-client-cert=client.pem"
        "give the pair that belongs together"
    NoTrustAnchors "no-trust-anchors" Final
        "no trusted certificates found on this system: the usual places hold none"
        "give `-tls-ca-cert`, or mount a bundle"
}
Spiffe {
    WorkloadApiAddress "workload-api-address" Final
        "SPIFFE_ENDPOINT_SOCKET is not set, and -spiffe needs it"
        "say where the agent's socket is: `unix:///path` or `tcp://ip:port`"
    WorkloadApiUnreachable "workload-api-unreachable" Transient
        "no SVID from the SPIFFE Workload API at unix:///run/spire/agent.sock: cannot connect to unix:///run/spire/agent.sock: no such file"
        "is the agent running, and the directory of its socket mounted here?"
    WorkloadApiUnusable "workload-api-unusable" Final
        "no SVID from the SPIFFE Workload API at unix:///run/spire/agent.sock: cannot connect to unix:///run/spire/agent.sock: permission denied"
        "the socket is not for us, or not an agent's (`UNIMPLEMENTED`, `INVALID_ARGUMENT`, HTTP)"
    WorkloadApiTimeout "workload-api-timeout" Transient
        "no SVID from the SPIFFE Workload API at unix:///run/spire/agent.sock: it did not answer within 1s"
        "the agent waits for its own server, is stuck, or is slower than `-connect-timeout`"
    WorkloadApiDenied "workload-api-denied" Transient
        "no SVID from the SPIFFE Workload API at unix:///run/spire/agent.sock: PERMISSION_DENIED: no identity issued"
        "register an entry for this process, and wait until the agent has it"
    WorkloadApiFailed "workload-api-failed" Transient
        "no SVID from the SPIFFE Workload API at unix:///run/spire/agent.sock: UNAVAILABLE"
        "see the agent's log"
    NoSvid "no-svid" Transient
        "no SVID from the SPIFFE Workload API at unix:///run/spire/agent.sock: it has none for this process"
        "register an entry for this process"
    SvidInvalid "svid-invalid" Final
        "our X.509-SVID spiffe://example.org/probe from the Workload API cannot be used: its key is not that of its certificate"
        "the agent is broken"
    NoTrustBundle "no-trust-bundle" Transient
        "the SPIFFE Workload API at unix:///run/spire/agent.sock gave no trust anchor for the trust domain example.org"
        "the agent has no bundle yet; see its log"
}
Resolve {
    NameNotFound "name-not-found" Transient
        "cannot resolve \"user-service\": no such host"
        "does the name exist here? if it is a container's, both must share a network (not the engine's default bridge)"
    ResolveFailed "resolve-failed" Transient
        "cannot resolve \"user-service\": 10.0.0.10 said SERVFAIL"
        "are the name servers in `/etc/resolv.conf` the right ones?"
    ResolveTimeout "resolve-timeout" Transient
        "resolving \"user-service\" timed out after 1s: 10.0.0.10 did not answer"
        "can the name servers be reached from here?"
}
Connect {
    ConnectionRefused "connection-refused" Transient
        "cannot connect to :50051: connection refused (127.0.0.1:50051, [::1]:50051)"
        "nothing listens there: the server is down, or on another port or address"
    Unreachable "unreachable" Transient
        "cannot connect to 10.0.0.7:50051: network is unreachable"
        "no route from here; do both share a network?"
    NoLocalPort "no-local-port" Transient
        "cannot connect to 10.0.0.7:50051: this machine has no free port to connect from"
        "many connections to it are open or were closed a moment ago; wait, or widen `net.ipv4.ip_local_port_range`"
    ConnectTimeout "connect-timeout" Transient
        "connecting to 10.0.0.7:50051 timed out after 1s: no answer"
        "wrong address, a firewall, or a server whose backlog is full"
    SocketMissing "socket-missing" Transient
        "cannot connect to unix:/run/app.sock: no such file"
        "is the server up, and its directory mounted?"
    NotASocket "not-a-socket" Final
        "cannot connect to unix:/run/app.sock: it is not a socket"
        "something else has that name"
    PermissionDenied "permission-denied" Final
        "cannot connect to unix:/run/app.sock: permission denied"
        "the probe's user needs to write to the socket; on TCP, a firewall on this machine"
    ConnectFailed "connect-failed" Transient
        "cannot connect to :50051: too many open files (127.0.0.1:50051, [::1]:50051)"
        "as the system says"
}
Tls {
    TlsPlaintextServer "tls-plaintext-server" Final
        "TLS handshake with localhost:50051 failed: the server does not speak TLS"
        "leave out `-tls`, or unset `GRPC_HEALTH_PROBE_TLS`, or probe the TLS port; at another protocol's port, neither helps"
    TlsCertificateExpired "tls-certificate-expired" Final
        "TLS handshake with localhost:50051 failed: the certificate expired on 2026-11-20 (3 days ago)"
        "renew it, and make the server load the new one"
    TlsCertificateNotYetValid "tls-certificate-not-yet-valid" Transient
        "TLS handshake with localhost:50051 failed: the certificate is not valid before 3000-01-01T00:00:00Z"
        "is this machine's clock right?"
    TlsCertificateWrongName "tls-certificate-wrong-name" Final
        "TLS handshake with 127.0.0.1:50051 failed: the certificate is valid for api.internal, not for 127.0.0.1"
        "`-tls-server-name=api.internal`"
    TlsCertificateUnknownIssuer "tls-certificate-unknown-issuer" Final
        "TLS handshake with localhost:50051 failed: the certificate was issued by CN=Corp CA 2, which is not a trusted CA in -tls-ca-cert"
        "give that CA; the server must send the certificates in between"
    TlsCertificateInvalid "tls-certificate-invalid" Final
        "TLS handshake with localhost:50051 failed: the certificate is not for servers (extended key usage)"
        "issue one that is"
    TlsClientCertificateRequired "tls-client-certificate-required" Final
        "TLS handshake with localhost:50051 failed: the server requires a client certificate issued by CN=Corp CA (alert certificate_required)"
        "`-tls-client-cert` and `-tls-client-key`"
    TlsClientCertificateRejected "tls-client-certificate-rejected" Final
        "TLS handshake with localhost:50051 failed: the server rejected the client certificate (alert unknown_ca): it accepts certificates issued by CN=Corp CA; ours is issued by CN=Old CA"
        "give one of a CA that the server accepts; renew one that has expired"
    TlsNoH2 "tls-no-h2" Final
        "TLS handshake with localhost:50051 failed: the server answered no ALPN, so it does not say that it speaks HTTP/2"
        "not the gRPC port, or a proxy without HTTP/2; where the server answers no ALPN at all, `-tls-no-alpn` accepts it"
    TlsVersion "tls-version" Final
        "TLS handshake with localhost:50051 failed: the server speaks neither TLS 1.2 nor 1.3 (alert protocol_version)"
        "let the server speak TLS 1.2 or 1.3"
    TlsTimeout "tls-timeout" Transient
        "TLS handshake with localhost:50051 timed out after 1s: connected, no answer"
        "the server is stuck, or waits for something else"
    TlsFailed "tls-failed" Transient
        "TLS handshake with localhost:50051 failed: the server refused it: alert internal_error"
        "see the server's log"
}
Alts {
    AltsNotOnGcp "alts-not-on-gcp" Final
        "ALTS handshake with 10.0.0.7:50051 failed: no handshaker service at metadata.google.internal.:8080: cannot resolve \"metadata.google.internal.\": no such host"
        "ALTS works on Google Cloud only; elsewhere use `-tls`, or name a handshaker with `-alts-handshaker`"
    AltsHandshaker "alts-handshaker" Transient
        "ALTS handshake with 10.0.0.7:50051 failed: no handshaker service at metadata.google.internal.:8080: connection refused"
        "does the machine have a service account, and may the pod reach the metadata server's port 8080?"
    AltsRefused "alts-refused" Final
        "ALTS handshake with 10.0.0.7:50051 failed: the handshaker service at metadata.google.internal.:8080 refused it: PERMISSION_DENIED: no service account"
        "as the handshaker says; ours and the server's service accounts must be allowed to use ALTS"
    AltsOtherProtocol "alts-other-protocol" Final
        "ALTS handshake with 10.0.0.7:50051 failed: the server does not speak ALTS: it answered with HTTP/2 in plaintext"
        "leave out `-alts`, or unset `GRPC_HEALTH_PROBE_ALTS`, or probe the ALTS port"
    AltsTimeout "alts-timeout" Transient
        "ALTS handshake with 10.0.0.7:50051 timed out after 1s: connected, no answer"
        "the server is stuck, or waits for something else"
    AltsFailed "alts-failed" Transient
        "ALTS handshake with 10.0.0.7:50051 failed: the server closed the connection instead of answering"
        "see the server's log: its own handshaker may be away"
    AltsBadRecord "alts-bad-record" Transient
        "ALTS handshake with 10.0.0.7:50051 failed: the server sent a bad ALTS record: it cannot be decrypted"
        "something between changes the bytes, or the two sides have different keys"
}
Http2 {
    ServerSpeaksTls "server-speaks-tls" Final
        "no HTTP/2 from localhost:50051: the server answered with a TLS alert"
        "add `-tls`"
    ServerSpeaksHttp1 "server-speaks-http1" Final
        "no HTTP/2 from localhost:8080: the server answered with HTTP/1: \"HTTP/1.1 400 Bad Request\""
        "not the gRPC port, or a proxy without HTTP/2"
    NotHttp2 "not-http2" Final
        "no HTTP/2 from localhost:22: the server answered with \"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\", as SSH does"
        "not the gRPC port"
    ServerSilent "server-silent" Transient
        "no HTTP/2 from localhost:50051: connected, but the server sent nothing within 1s"
        "the server is stuck, or it is not the gRPC port"
    ClosedEarly "closed-early" Transient
        "no HTTP/2 from localhost:50051: the server closed the connection"
        "not the gRPC port, or the server is going down"
    Http2Refused "http2-refused" Transient
        "no HTTP/2 from localhost:50051: the server refused the connection: GOAWAY (ENHANCE_YOUR_CALM): \"too_many_pings\""
        "see the server's log"
}
Rpc {
    RpcTimeout "rpc-timeout" Transient
        "health check of localhost:50051 timed out after 1s: connected, no answer"
        "the server is stuck, or slower than `-rpc-timeout`"
    HeadersTooLarge "headers-too-large" Final
        "health check of localhost:50051 failed: the request's headers are 20231 bytes, the server allows 16384"
        "send less metadata, or let the server allow more"
    Unimplemented "unimplemented" Final
        "health check of localhost:50051 failed: UNIMPLEMENTED: unknown service grpc.health.v1.Health"
        "register the health service in the server, or probe the port that has it; with `-list` or `-watch` the hint says whether only that method is missing; a proxy may have no route for the request's `:authority` (`-authority`)"
    ServiceUnknown "service-unknown" Transient
        "health check of localhost:50051 failed: NOT_FOUND: service not registered"
        "is that the full name, `package.Service`? Without `-service`: name one, or try `-list`"
    Unauthenticated "unauthenticated" Final
        "health check of localhost:50051 failed: UNAUTHENTICATED"
        "credentials by `-rpc-header-file`, or leave health checks open in the server"
    RpcPermissionDenied "rpc-permission-denied" Final
        "health check of localhost:50051 failed: PERMISSION_DENIED"
        "other credentials"
    Unavailable "unavailable" Transient
        "health check of localhost:50051 failed: UNAVAILABLE"
        "the server, or what is behind a proxy, is not ready"
    HttpStatus "http-status" Final
        "health check of localhost:8080 failed: the server answered HTTP 502 Bad Gateway (UNAVAILABLE)"
        "a proxy answers; look behind it; 503 may also be the server's own"
    NotGrpc "not-grpc" Final
        "health check of localhost:8080 failed: the response is not gRPC: its content type is \"text/html\""
        "an HTTP server or a proxy answers; probe the gRPC port"
    StreamBroken "stream-broken" Transient
        "health check of localhost:50051 failed: the server reset the stream: RST_STREAM (INTERNAL_ERROR)"
        "see the server's log"
    MalformedResponse "malformed-response" Transient
        "health check of localhost:50051 failed: the response is malformed: it ended without trailers, so without a grpc-status"
        "a broken server or proxy; it must not be called healthy"
    RpcFailed "rpc-failed" Transient
        "health check of localhost:50051 failed: INTERNAL: no, really not"
        "see the server's log"
}
Health {
    NotServing "not-serving" Transient
        "service unhealthy (responded with \"NOT_SERVING\")"
        "the server says that it is not ready"
    StatusUnknown "status-unknown" Transient
        "service unhealthy (responded with \"UNKNOWN\")"
        "the server has not set its status yet"
    ServiceUnknownStatus "service-unknown-status" Transient
        "service unhealthy (responded with \"SERVICE_UNKNOWN\")"
        "the server does not know this `-service`"
    StatusUnrecognised "status-unrecognised" Transient
        "service unhealthy (responded with \"42\")"
        "a status of a newer protocol"
    NothingListed "nothing-listed" Transient
        "the server lists no services"
        "the server has registered none with its health service"
}}
