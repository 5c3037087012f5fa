//! A gRPC server with the health service, for `health_server` and the demo.

use std::io::{self, Write};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, atomic::AtomicBool};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use signal_hook::{consts, flag};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::runtime::Handle;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService, WatchStream};

use connection::{Stream, serve};
use list::{Statuses, WithList};

mod connection;
mod list;

/// Serves according to `arguments` until the process ends.
#[tokio::main]
pub async fn run(arguments: &ArgMatches) -> Result<()> {
    // These signals have no default action for process 1 of a container.
    for signal in [consts::SIGTERM, consts::SIGINT] {
        flag::register_conditional_shutdown(signal, 0, Arc::new(AtomicBool::new(true)))?;
    }

    let statuses = Shared::default();
    // As tonic-health does by default.
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

    listen(arguments, statuses).await
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

const AFTER_HELP: &str = "\
It prints `listening on ADDRESS` when it is ready, and runs until Ctrl-C or SIGTERM. A line NAME=STATUS on its standard input
changes a status while it runs, and is repeated when it holds. In the background, SIGUSR1 means =NOT_SERVING and SIGUSR2 means
=SERVING:

  cargo run --example health_server -- --addr 127.0.0.1:50051 & server=$!
  kill -USR1 $server";

/// The command line of `health_server`.
pub fn command() -> Command {
    let file = |id, help| Arg::new(id).long(id).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help);
    let milliseconds = |id, help| {
        Arg::new(id).long(id).value_name("MS").value_parser(value_parser!(u64)).default_value("0").help(help)
    };

    let command = Command::new("health_server")
        .about("A gRPC server with the health service")
        .after_help(AFTER_HELP)
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

/// Sets the statuses from standard input. The server keeps running when it ends: a server in the background has none.
fn follow_stdin(runtime: &Handle, statuses: &Shared) {
    for line in io::stdin().lines().map_while(Result::ok) {
        match line.parse::<Entry>() {
            Ok(entry) => {
                runtime.block_on(statuses.set(&entry));
                print_line(&line);
            }
            Err(error) => eprintln!("{error}"),
        }
    }
}

/// For each signal of this kind, does what `line` on standard input does.
#[cfg(unix)]
async fn follow_signal(kind: SignalKind, line: &str, statuses: Shared) -> Result<()> {
    let entry: Entry = line.parse()?;
    let mut signals = signal(kind)?;
    while signals.recv().await.is_some() {
        statuses.set(&entry).await;
        print_line(line);
    }
    Ok(())
}

async fn listen(arguments: &ArgMatches, statuses: Shared) -> Result<()> {
    let milliseconds = |id| Duration::from_millis(*arguments.get_one(id).expect("it has a default"));
    let service = HealthService::from_health_reporter(statuses.reporter);
    let mut health = HealthServer::new(Delayed { service, delay: milliseconds("delay") });
    if arguments.get_flag("gzip") {
        health = health.accept_compressed(Gzip).send_compressed(Gzip);
    }
    let service = WithList { health, statuses: statuses.list };
    let tls = tls(arguments)?;
    let accept_delay = milliseconds("accept-delay");

    let listener = Listener::bind(arguments).await?;
    print_line(&format!("listening on {}", listener.address()?));
    loop {
        let accepted = listener.accept().await;
        pause(accept_delay).await;
        match accepted {
            Ok(stream) => drop(tokio::spawn(serve(stream, tls.clone(), service.clone()))),
            // The client has disconnected already, or the process has too many open files and may close some.
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                pause(Duration::from_millis(100)).await;
            }
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, PathBuf),
}

impl Listener {
    async fn bind(arguments: &ArgMatches) -> Result<Self> {
        #[cfg(unix)]
        if let Some(path) = arguments.get_one::<PathBuf>("unix") {
            let listener = bind_unix(path).with_context(|| format!("listen on {}", path.display()))?;
            return Ok(Self::Unix(listener, path.clone()));
        }
        let address: SocketAddr = *arguments.get_one("addr").expect("it has a default");
        Ok(Self::Tcp(TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?))
    }

    /// The address that it listens on, in the form that `-addr` accepts.
    fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(listener) => listener.local_addr()?.to_string(),
            #[cfg(unix)]
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            #[cfg(unix)]
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

#[cfg(unix)]
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // A stopped server leaves its socket behind.
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

/// The TLS acceptor, if the flags enable TLS.
fn tls(arguments: &ArgMatches) -> Result<Option<TlsAcceptor>> {
    let path = |id| arguments.get_one::<PathBuf>(id);
    let (Some(certificate), Some(key)) = (path("tls-cert"), path("tls-key")) else { return Ok(None) };
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("read {}", key.display()))?;
    let builder = match path("client-ca") {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(ca)?);
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            ServerConfig::builder()
                .with_client_cert_verifier(verifier.with_context(|| format!("use {}", ca.display()))?)
        }
    };
    let mut config = builder.with_single_cert(certificates(certificate)?, key).context("use certificate and key")?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.with_context(|| format!("read {}", path.display()))
}

/// The health service with a delay before each answer.
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

/// Sleeps. Even a zero timer would take up to a millisecond.
async fn pause(length: Duration) {
    if !length.is_zero() {
        tokio::time::sleep(length).await;
    }
}

/// Prints a line and flushes it. `println!` would stop the server when standard output is closed.
fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
