//! Shows what the probe prints for servers that are healthy, unhealthy, misconfigured or absent.
//!
//! ```text
//! cargo run --example demo
//! ```
//!
//! Needs only Rust. It is three programs in one: called `grpc_health_probe` it is the probe, called `health_server` it is
//! that example, and under its own name it creates certificates and runs the probe against the server. It is also a test:
//! it fails if a probe exits with an unexpected code or without the expected text.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, io};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

mod pki;
#[path = "../src/main.rs"]
mod probe;
mod server;
mod usage;

const PROBE: &str = "grpc_health_probe";
const HEALTH_SERVER: &str = "health_server";

fn main() -> Result<ExitCode> {
    match own_name().as_deref() {
        Some(PROBE) => return Ok(probe::main()),
        Some(HEALTH_SERVER) => {
            server::run(&server::command().get_matches())?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    usage::read(clap::Command::new("demo").about("Shows what the probe prints for many kinds of servers"));

    let programs = TempDir::new()?;
    let directory = TempDir::new()?;
    let mut demo = Demo {
        probe: own_program_as(PROBE, programs.path())?,
        health_server: own_program_as(HEALTH_SERVER, programs.path())?,
        directory,
        runs: 0,
        unexpected: Vec::new(),
    };
    pki::write(demo.directory.path(), &["localhost".to_owned()], Duration::from_hours(24))?;
    plaintext(&mut demo)?;
    #[cfg(unix)]
    unix_socket(&mut demo)?;
    tls(&mut demo)?;
    mutual_tls(&mut demo)?;
    no_answer(&mut demo)?;
    output_for_programs(&mut demo)?;
    Ok(demo.exit_code())
}

/// The file name that this process was started with, without its extension.
fn own_name() -> Option<String> {
    let path = PathBuf::from(env::args_os().next()?);
    Some(path.file_stem()?.to_str()?.to_owned())
}

/// Links this executable under another name, and returns the path.
fn own_program_as(name: &str, directory: &Path) -> Result<PathBuf> {
    let path = directory.join(name).with_extension(env::consts::EXE_EXTENSION);
    let own = env::current_exe().context("find the demo's executable")?;
    link(&own, &path).with_context(|| format!("make {}", path.display()))?;
    Ok(path)
}

/// Creates a link, not a copy: the file system of temporary files may forbid execution.
#[cfg(unix)]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

/// Copies, as links need a privilege on Windows.
#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::copy(from, to).map(drop)
}

fn plaintext(demo: &mut Demo) -> Result<()> {
    let mut server = demo.serve("--service shop.Cart=SERVING --service shop.Payment=NOT_SERVING --gzip")?;
    let addr = server.address.clone();

    title("A healthy server");
    demo.run(&format!("grpc_health_probe -addr={addr}"), 0, "status: SERVING")?;

    title("One of its services, with gzip");
    demo.run(&format!("grpc_health_probe -addr={addr} -service=shop.Cart -gzip"), 0, "status: SERVING")?;

    title("A service that is NOT_SERVING");
    let words = "service unhealthy (responded with \"NOT_SERVING\")";
    demo.run(&format!("grpc_health_probe -addr={addr} -service=shop.Payment"), 1, words)?;

    title("Two services at once: both must be SERVING");
    demo.run(&format!("grpc_health_probe -addr={addr} -service=shop.Cart -service=shop.Payment"), 1, "NOT_SERVING")?;

    title("A service that the server does not know");
    demo.run(&format!("grpc_health_probe -addr={addr} -service=shop.Crat"), 1, "NOT_FOUND")?;

    title("-tls, but the server speaks plaintext");
    demo.run(&format!("grpc_health_probe -addr={addr} -tls -tls-ca-cert=ca.pem"), 1, "hint: leave out -tls")?;

    title("Each phase and its duration");
    demo.run(&format!("grpc_health_probe -addr={addr} -v"), 0, "status: SERVING")?;

    title("The same server during its shutdown");
    server.set("=NOT_SERVING")?;
    demo.run(&format!("grpc_health_probe -addr={addr}"), 1, "NOT_SERVING")
}

#[cfg(unix)]
fn unix_socket(demo: &mut Demo) -> Result<()> {
    let _server = demo.serve("--unix health.sock")?;

    title("A unix socket");
    demo.run("grpc_health_probe -addr=unix:health.sock", 0, "status: SERVING")?;

    title("A unix socket that does not exist");
    demo.run("grpc_health_probe -addr=unix:healthy.sock", 1, "healthy.sock")
}

fn tls(demo: &mut Demo) -> Result<()> {
    let server = demo.serve("--tls-cert server.pem --tls-key server.key")?;
    let (ip, name) = (&server.address, server.address.replace("127.0.0.1", "localhost"));

    title("TLS");
    demo.run(&format!("grpc_health_probe -addr={name} -tls -tls-ca-cert=ca.pem"), 0, "status: SERVING")?;

    title("TLS, with an address that is not in the certificate");
    let words = "hint: use -tls-server-name=localhost";
    demo.run(&format!("grpc_health_probe -addr={ip} -tls -tls-ca-cert=ca.pem"), 1, words)?;

    title("The same, following the hint");
    let follow = format!("grpc_health_probe -addr={ip} -tls -tls-ca-cert=ca.pem -tls-server-name=localhost");
    demo.run(&follow, 0, "status: SERVING")?;

    title("-tls is missing");
    demo.run(&format!("grpc_health_probe -addr={name}"), 1, "hint: add -tls")
}

fn mutual_tls(demo: &mut Demo) -> Result<()> {
    let server = demo.serve("--tls-cert server.pem --tls-key server.key --client-ca ca.pem")?;
    let probe = format!(
        "grpc_health_probe -addr={} -tls -tls-ca-cert=ca.pem",
        server.address.replace("127.0.0.1", "localhost")
    );

    title("Mutual TLS");
    let with_certificate = format!("{probe} -tls-client-cert=client.pem -tls-client-key=client.key");
    demo.run(&with_certificate, 0, "status: SERVING")?;

    title("Mutual TLS without a client certificate");
    demo.run(&probe, 1, "-tls-client-cert")
}

fn no_answer(demo: &mut Demo) -> Result<()> {
    let late = demo.serve("--delay 60000")?;

    title("Nothing listens on the port");
    demo.run("grpc_health_probe -addr=127.0.0.1:1", 1, "connection refused")?;

    title("The server accepts the connection and does not answer in time");
    demo.run(&format!("grpc_health_probe -addr={} -rpc-timeout=200ms", late.address), 1, "timed out after 200ms")
}

fn output_for_programs(demo: &mut Demo) -> Result<()> {
    let server = demo.serve("--service shop.Cart=SERVING --service shop.Payment=NOT_SERVING")?;
    let addr = &server.address;

    title("Environment variables only");
    let variables = format!("GRPC_HEALTH_PROBE_ADDR={addr} GRPC_HEALTH_PROBE_SERVICE=shop.Cart");
    demo.run(&format!("{variables} grpc_health_probe"), 0, "status: SERVING")?;

    title("JSON for a success and for a failure");
    demo.run(&format!("grpc_health_probe -addr={addr} -output=json"), 0, r#""status":"SERVING""#)?;
    demo.run("grpc_health_probe -addr=127.0.0.1:1 -output=json", 1, r#""kind":"connection-refused""#)?;

    title("Detailed exit codes: usage, no connection, failed RPC, not serving");
    demo.run("grpc_health_probe -exit-codes=detailed -addr=127.0.0.1", 1, "127.0.0.1")?;
    demo.run("grpc_health_probe -exit-codes=detailed -addr=127.0.0.1:1", 2, "connection refused")?;
    demo.run(&format!("grpc_health_probe -exit-codes=detailed -addr={addr} -service=shop.Crat"), 3, "NOT_FOUND")?;
    demo.run(&format!("grpc_health_probe -exit-codes=detailed -addr={addr} -service=shop.Payment"), 4, "NOT_SERVING")
}

fn title(title: &str) {
    println!("\n{title}");
}

struct Demo {
    probe: PathBuf,
    health_server: PathBuf,
    /// The working directory of servers and probes, so that their arguments are short file names.
    directory: TempDir,
    runs: usize,
    /// The command lines with an unexpected result.
    unexpected: Vec<String>,
}

impl Demo {
    fn serve(&self, flags: &str) -> Result<Server> {
        let mut process = Command::new(&self.health_server)
            .args(flags.split_whitespace())
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start health_server")?;
        let stdout = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut server = Server { process, stdout, address: String::new() };
        let line = server.read_line()?;
        line.strip_prefix("listening on ").context("health_server does not listen")?.clone_into(&mut server.address);
        Ok(server)
    }

    /// Runs a command line, prints it with its result, and checks the exit code and that the output contains `words`.
    fn run(&mut self, line: &str, code: i32, words: &str) -> Result<()> {
        println!("  $ {line}");
        let mut command = Command::new(&self.probe);
        command.current_dir(self.directory.path());
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GRPC_HEALTH_PROBE_")) {
            command.env_remove(name);
        }
        let (variables, arguments) = line.split_once("grpc_health_probe").expect("every line runs the probe");
        command.envs(variables.split_whitespace().filter_map(|variable| variable.split_once('=')));
        let output = command.args(arguments.split_whitespace()).output().context("run the probe")?;

        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        for line in stdout.lines() {
            println!("    stdout  {line}");
        }
        for line in stderr.lines() {
            println!("    stderr  {line}");
        }
        match output.status.code() {
            Some(code) => println!("    exit    {code}"),
            None => println!("    killed by a signal ({})", output.status),
        }

        self.runs += 1;
        if output.status.code() != Some(code) || !(stdout.contains(words) || stderr.contains(words)) {
            println!("    WRONG   expected exit code {code} and the text: {words}");
            self.unexpected.push(line.to_owned());
        }
        Ok(())
    }

    fn exit_code(&self) -> ExitCode {
        if self.unexpected.is_empty() {
            println!("\nAll {} runs ended as expected.", self.runs);
            return ExitCode::SUCCESS;
        }
        println!("\n{} of {} runs did not end as expected:", self.unexpected.len(), self.runs);
        for line in &self.unexpected {
            println!("  $ {line}");
        }
        ExitCode::FAILURE
    }
}

/// A running `health_server`, stopped when dropped.
struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    /// Sets a status and waits until it takes effect.
    fn set(&mut self, status: &str) -> Result<()> {
        writeln!(self.process.stdin.as_mut().expect("it is piped"), "{status}")?;
        let repeated = self.read_line()?;
        ensure!(repeated == status, "health_server says {repeated:?}");
        Ok(())
    }

    fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if the server has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
