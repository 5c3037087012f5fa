//! A gRPC server with the health service, to try the probe on.
//!
//! ```text
//! cargo run --example health_server -- --addr 127.0.0.1:50051 --service shop.Cart=NOT_SERVING
//! ```
//!
//! It says `listening on ADDRESS` when it is ready, and serves until it is stopped. A line `NAME=STATUS` on its
//! standard input changes a status while it runs, and is repeated on its standard output once it holds. For where there
//! is no standard input to write to, as in a container: SIGUSR1 stands for `=NOT_SERVING`, SIGUSR2 for `=SERVING`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, atomic::AtomicBool};
use std::time::Duration;
use std::{fs, thread};
#[cfg(unix)]
use std::{os::unix::fs::FileTypeExt, path::Path};

use anyhow::{Context, Result, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use signal_hook::{consts, flag};
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::runtime::Handle;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
#[cfg(unix)]
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::codec::CompressionEncoding::Gzip;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService, WatchStream};

use crate::list::{Statuses, WithList};

mod list;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = command().get_matches();

    // Without a handler of its own, the first process of a container would not end on these.
    for signal in [consts::SIGTERM, consts::SIGINT] {
        flag::register_conditional_shutdown(signal, 0, Arc::new(AtomicBool::new(true)))?;
    }

    let statuses = Shared::default();
    // As tonic-health has it.
    statuses.set(&Entry { service: String::new(), status: ServingStatus::Serving }).await;
    for entry in arguments.get_many::<Entry>("service").into_iter().flatten() {
        statuses.set(entry).await;
    }
    let runtime = Handle::current();
    let shared = statuses.clone();
    thread::spawn(move || follow_stdin(&runtime, &shared));
    #[cfg(unix)]
    {
        tokio::spawn(follow_signal(SignalKind::user_defined1(), "=NOT_SERVING", statuses.clone()));
        tokio::spawn(follow_signal(SignalKind::user_defined2(), "=SERVING", statuses.clone()));
    }

    serve(&arguments, statuses).await
}

/// The statuses that all methods answer with.
#[derive(Clone, Default)]
struct Shared {
    reporter: HealthReporter,
    list: Statuses,
}

impl Shared {
    async fn set(&self, Entry { service, status }: &Entry) {
        self.list.set(service, *status);
        self.reporter.set_service_status(service, *status).await;
    }
}

fn command() -> Command {
    let file = |id, help| Arg::new(id).long(id).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help);
    let milliseconds = |id, help| {
        Arg::new(id).long(id).value_name("MS").value_parser(value_parser!(u64)).default_value("0").help(help)
    };

    let command = Command::new("health_server")
        .about("A gRPC server with the health service")
        .arg(
            Arg::new("addr")
                .long("addr")
                .value_name("IP:PORT")
                .value_parser(value_parser!(SocketAddr))
                .default_value("127.0.0.1:0")
                .help("Where to listen; with port 0 the system picks one"),
        )
        .arg(file("tls-cert", "Certificate chain (PEM)").requires("tls-key"))
        .arg(file("tls-key", "Its private key (PEM)").requires("tls-cert"))
        .arg(file("client-ca", "Demand a client certificate that this CA signed (PEM)").requires("tls-cert"))
        .arg(
            Arg::new("service")
                .long("service")
                .value_name("NAME=STATUS")
                .value_parser(Entry::from_str)
                .action(ArgAction::Append)
                .help("SERVING, NOT_SERVING or UNKNOWN; an empty NAME is the server as a whole, SERVING if not given"),
        )
        .arg(Arg::new("gzip").long("gzip").action(ArgAction::SetTrue).help("Accept and send gzip"))
        .arg(milliseconds("delay", "Wait this long before each answer"))
        .arg(milliseconds("accept-delay", "Wait this long before each connection's first byte, one after another"));

    #[cfg(unix)]
    let command = command.arg(
        Arg::new("unix")
            .long("unix")
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .conflicts_with("addr")
            .help("Listen on this unix socket instead"),
    );
    command
}

/// A service and its status, written `NAME=STATUS`.
#[derive(Clone)]
struct Entry {
    service: String,
    status: ServingStatus,
}

impl FromStr for Entry {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (service, status) = text.rsplit_once('=').ok_or_else(|| anyhow!("{text:?} is not NAME=STATUS"))?;
        let status = match status {
            "SERVING" => ServingStatus::Serving,
            "NOT_SERVING" => ServingStatus::NotServing,
            "UNKNOWN" => ServingStatus::Unknown,
            _ => return Err(anyhow!("status {status:?} is none of SERVING, NOT_SERVING, UNKNOWN")),
        };
        Ok(Self { service: service.to_owned(), status })
    }
}

/// Sets the statuses that come on standard input. Its end changes nothing: a server in the background has none.
fn follow_stdin(runtime: &Handle, statuses: &Shared) {
    for line in io::stdin().lines().map_while(Result::ok) {
        match line.parse::<Entry>() {
            Ok(entry) => {
                runtime.block_on(statuses.set(&entry));
                say(&line);
            }
            Err(error) => eprintln!("{error}"),
        }
    }
}

/// Does with each signal of a kind what the line would do on standard input.
#[cfg(unix)]
async fn follow_signal(kind: SignalKind, line: &str, statuses: Shared) -> Result<()> {
    let entry: Entry = line.parse()?;
    let mut signals = signal(kind)?;
    while signals.recv().await.is_some() {
        statuses.set(&entry).await;
        say(line);
    }
    Ok(())
}

async fn serve(arguments: &ArgMatches, statuses: Shared) -> Result<()> {
    let milliseconds = |id| Duration::from_millis(*arguments.get_one(id).expect("it has a default"));
    let service = HealthService::from_health_reporter(statuses.reporter);
    let mut health = HealthServer::new(Delayed { service, delay: milliseconds("delay") });
    if arguments.get_flag("gzip") {
        health = health.accept_compressed(Gzip).send_compressed(Gzip);
    }
    let mut server = Server::builder();
    if let Some(tls) = tls(arguments)? {
        server = server.tls_config(tls)?;
    }
    let router = server.add_service(WithList { health, statuses: statuses.list });

    let accept_delay = milliseconds("accept-delay");
    #[cfg(unix)]
    if let Some(path) = arguments.get_one::<PathBuf>("unix") {
        let listener = listen_on_unix(path).with_context(|| format!("listen on {}", path.display()))?;
        say(&format!("listening on unix:{}", path.display()));
        return Ok(router.serve_with_incoming(late(listener, accept_delay)).await?);
    }
    let address: SocketAddr = *arguments.get_one("addr").expect("it has a default");
    let listener = TcpIncoming::bind(address).with_context(|| format!("listen on {address}"))?.with_nodelay(Some(true));
    say(&format!("listening on {}", listener.local_addr()?));
    Ok(router.serve_with_incoming(late(listener, accept_delay)).await?)
}

#[cfg(unix)]
fn listen_on_unix(path: &Path) -> io::Result<UnixListenerStream> {
    // A server that was stopped has left its socket behind.
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    Ok(UnixListenerStream::new(UnixListener::bind(path)?))
}

fn late<C>(connections: impl Stream<Item = C>, delay: Duration) -> impl Stream<Item = C> {
    connections.then(move |connection| async move {
        pause(delay).await;
        connection
    })
}

fn tls(arguments: &ArgMatches) -> Result<Option<ServerTlsConfig>> {
    let read = |id| {
        let path = arguments.get_one::<PathBuf>(id)?;
        Some(fs::read(path).with_context(|| format!("read {}", path.display())))
    };
    let (Some(certificate), Some(key)) = (read("tls-cert"), read("tls-key")) else { return Ok(None) };
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate?, key?));
    Ok(Some(match read("client-ca") {
        Some(ca) => tls.client_ca_root(Certificate::from_pem(ca?)),
        None => tls,
    }))
}

/// The health service, answering late.
struct Delayed {
    service: HealthService,
    delay: Duration,
}

#[tonic::async_trait]
impl Health for Delayed {
    type WatchStream = WatchStream;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        pause(self.delay).await;
        self.service.check(request).await
    }

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<WatchStream>, Status> {
        pause(self.delay).await;
        self.service.watch(request).await
    }
}

/// A timer of zero length would still take up to a millisecond.
async fn pause(length: Duration) {
    if !length.is_zero() {
        tokio::time::sleep(length).await;
    }
}

/// Prints a line at once. That nobody reads it must not stop the server, as `println!` would.
fn say(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
