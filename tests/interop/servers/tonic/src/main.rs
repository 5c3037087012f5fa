//! A health server on tonic for interop.py. ../README.md says what it reads and prints.

use std::{collections::HashMap, env, error::Error, fs, process::exit, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    net::{TcpListener, UnixListener},
    sync::oneshot,
    task::JoinHandle,
    time::sleep,
};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{
    Request, Response, Status, async_trait,
    codec::CompressionEncoding,
    metadata::{KeyAndValueRef, MetadataMap},
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::Router},
};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_check_response::ServingStatus as WireStatus,
        health_server::{Health, HealthServer},
    },
    server::{HealthReporter, HealthService},
};

/// The listener that the lines `stop` and `start` are about.
const STOPPABLE: &str = "stoppable";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// tonic's health service, which reports each Check before it answers.
struct Reporting(HealthService);

#[async_trait]
impl Health for Reporting {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> std::result::Result<Response<HealthCheckResponse>, Status> {
        let service = request.get_ref().service.clone();
        report(&json!({
            "service": service,
            "timeout": request.metadata().get("grpc-timeout").and_then(|value| seconds(value.to_str().ok()?)),
            "metadata": shown(request.metadata()),
        }));
        let wait = match service.as_str() {
            "unauthenticated" => return Err(Status::unauthenticated("no token")),
            "denied" => return Err(Status::permission_denied("not for you")),
            "slow" => Duration::from_secs(30),
            "late" => Duration::from_millis(2500),
            _ => return self.0.check(request).await,
        };
        sleep(wait).await;
        Ok(Response::new(HealthCheckResponse { status: WireStatus::Serving.into() }))
    }

    type WatchStream = <HealthService as Health>::WatchStream;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> std::result::Result<Response<Self::WatchStream>, Status> {
        self.0.watch(request).await
    }
}

fn report(line: &Value) {
    println!("{line}");
}

fn shown(metadata: &MetadataMap) -> Vec<Value> {
    let value = |entry: KeyAndValueRef<'_>| match entry {
        KeyAndValueRef::Ascii(name, value) => json!([name.as_str(), value.to_str().unwrap_or("?")]),
        KeyAndValueRef::Binary(name, value) => {
            json!([name.as_str(), { "base64": STANDARD_NO_PAD.encode(value.to_bytes().unwrap_or_default()) }])
        }
    };
    metadata.iter().map(value).collect()
}

/// Reads the time of `grpc-timeout`.
fn seconds(timeout: &str) -> Option<f64> {
    let (number, unit) = timeout.split_at_checked(timeout.len().checked_sub(1)?)?;
    let units = HashMap::from([("H", 3600.0), ("M", 60.0), ("S", 1.0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9)]);
    Some(number.parse::<f64>().ok()? * units.get(unit)?)
}

/// Reads PREFIX or PREFIX:CA.
fn tls(files: &str) -> Result<ServerTlsConfig> {
    let (prefix, ca) = files.split_once(':').unwrap_or((files, ""));
    let identity = Identity::from_pem(fs::read(format!("{prefix}.pem"))?, fs::read(format!("{prefix}.key"))?);
    let config = ServerTlsConfig::new().identity(identity);
    Ok(if ca.is_empty() { config } else { config.client_ca_root(Certificate::from_pem(fs::read(ca)?)) })
}

fn router(kind: &str, files: &str, reporter: &HealthReporter) -> Result<Router> {
    let server = Server::builder();
    let mut server = match kind {
        "tls" | "mtls" => server.tls_config(tls(files)?)?,
        "aged" => server.max_connection_age(Duration::from_secs(1)),
        "strict" => server
            .http2_keepalive_interval(Some(Duration::from_secs(1)))
            .http2_keepalive_timeout(Some(Duration::from_secs(1))),
        _ => server,
    };
    let health = HealthServer::new(Reporting(HealthService::from_health_reporter(reporter.clone())))
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    Ok(server.add_optional_service((kind != "bare").then_some(health)))
}

/// What ends a server in good order, and its end.
struct Running {
    stop: oneshot::Sender<()>,
    end: JoinHandle<()>,
}

/// Serves a listener as the arguments name it. Returns its port; 0 for a socket, none for what tonic has not.
async fn open(argument: &str, port: u16, reporter: &HealthReporter) -> Result<Option<(u16, Running)>> {
    let (kind, rest) = argument.split_once(':').unwrap_or((argument, ""));
    // tonic has no setting for the version of TLS.
    if kind.ends_with("12") {
        return Ok(None);
    }
    let router = router(kind, rest, reporter)?;
    let (stop, stopped) = oneshot::channel();
    let stopped = async {
        let _ = stopped.await;
    };
    if kind == "unix" {
        let incoming = UnixListenerStream::new(UnixListener::bind(rest)?);
        let serve = router.serve_with_incoming_shutdown(incoming, stopped);
        let end = tokio::spawn(async { serve.await.expect("it serves") });
        return Ok(Some((0, Running { stop, end })));
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let port = listener.local_addr()?.port();
    let serve = router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped);
    let end = tokio::spawn(async { serve.await.expect("it serves") });
    Ok(Some((port, Running { stop, end })))
}

fn status(name: &str) -> ServingStatus {
    match name {
        "SERVING" => ServingStatus::Serving,
        "NOT_SERVING" => ServingStatus::NotServing,
        _ => ServingStatus::Unknown,
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let reporter = HealthReporter::new();
    for service in ["up", &"u".repeat(300)] {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
    reporter.set_service_status("down", ServingStatus::NotServing).await;

    let mut ports = Vec::new();
    let mut servers = HashMap::new();
    let mut stopped_port = 0;
    for argument in env::args().skip(1) {
        let opened = open(&argument, 0, &reporter).await?;
        ports.push(opened.as_ref().map(|(port, _)| *port));
        if let Some(opened) = opened {
            servers.insert(argument, opened);
        }
    }
    report(&json!({ "ports": ports }));

    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some((service, value)) = line.split_once('=') {
            reporter.set_service_status(service, status(value)).await;
        } else if line == "stop" {
            let (port, Running { stop, end }) = servers.remove(STOPPABLE).expect("it runs");
            stopped_port = port;
            let _ = stop.send(());
            tokio::spawn(async {
                end.await.expect("it ends");
                report(&json!({ "stopped": true }));
            });
        } else if line == "start" {
            let opened = open(STOPPABLE, stopped_port, &reporter).await?.expect("it is served");
            servers.insert(STOPPABLE.to_owned(), opened);
        }
        report(&json!({ "echo": true }));
    }
    // Without waiting for handlers that still sleep.
    exit(0)
}
