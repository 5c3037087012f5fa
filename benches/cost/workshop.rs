//! All that is needed to measure: the programs, certificates, servers.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::program::Program;
use crate::{package, pki, programs};

/// The C compiler for musl, where it is installed.
const MUSL: &str = "musl-gcc";

pub struct Workshop {
    pub probe: Program,
    /// `floor.c`, for each C library that there is.
    pub floors: Vec<Program>,
    pub others: Vec<Program>,
    /// The executable of `measure.c`.
    pub measure: PathBuf,
    health_server: PathBuf,
    directory: TempDir,
    /// Not in the usual place of temporary files, from where nothing may be run on some systems.
    _copies: TempDir,
}

impl Workshop {
    /// Builds the programs, and makes certificates: ca.pem, server.pem, server.key, client.pem, client.key.
    pub fn open(others: &[Program]) -> Result<Self> {
        let probe = Program::new("grpc_health_probe", &release()?, "-addr={addr}")?;
        let mut floors = vec![Program::new("floor, system libc", &compile("cc", "floor")?, "{addr}")?];
        if Command::new(MUSL).arg("--version").output().is_ok() {
            floors.insert(0, Program::new("floor, musl", &compile(MUSL, "floor")?, "{addr}")?);
        }
        let measure = compile("cc", "measure")?;
        let health_server = programs::build("--example", "health_server")?;
        let directory = TempDir::new()?;
        pki::write(directory.path(), &["127.0.0.1".to_owned()], Duration::from_hours(24))?;

        let copies = TempDir::new_in(package().join("target/bench"))?;
        let copy_all = |kind: &str, programs: &[Program]| -> Result<_> {
            let copy = |(number, program): (usize, &Program)| {
                program.copied_to(&copies.path().join(format!("{kind}-{number}")))
            };
            programs.iter().enumerate().map(copy).collect()
        };
        Ok(Self {
            probe: probe.copied_to(&copies.path().join("probe"))?,
            floors: copy_all("floor", &floors)?,
            others: copy_all("other", others)?,
            measure,
            health_server,
            directory,
            _copies: copies,
        })
    }

    /// The path of a file in the directory that lasts as long as the workshop.
    pub fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Starts a health server with these flags. Unless they say where, it listens on a port that is free.
    pub fn serve(&self, flags: &[&str]) -> Result<Server> {
        let mut process = Command::new(&self.health_server)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start health_server")?;
        let stdout = process.stdout.take().expect("it is piped");
        let mut server = Server { process, address: String::new() };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim_end().strip_prefix("listening on ").context("health_server does not listen")?;
        address.clone_into(&mut server.address);
        Ok(server)
    }

    pub fn serve_tls(&self, certificate: &str, key: &str, more: &[&str]) -> Result<Server> {
        let (certificate, key) = (self.file(certificate), self.file(key));
        self.serve(&[&["--tls-cert", &certificate, "--tls-key", &key], more].concat())
    }
}

/// The release binary: the one that `PROBE_BINARY` names, else the one that `.ci/build-release` builds. In a package, which
/// has no such script, cargo's own.
fn release() -> Result<PathBuf> {
    if let Some(binary) = env::var_os("PROBE_BINARY") {
        return Ok(binary.into());
    }
    let script = package().join(".ci/build-release");
    if !script.exists() {
        return programs::build("--bin", "grpc_health_probe");
    }
    let mut build = Command::new(script);
    programs::forget_cargo(&mut build);
    let output = build.stderr(Stdio::inherit()).output().context("run .ci/build-release")?;
    ensure!(output.status.success(), "the release does not build");
    let output = String::from_utf8(output.stdout)?;
    Ok(output.lines().last().context(".ci/build-release names no binary")?.into())
}

/// Compiles a C program of this directory's parent with a compiler, and returns its path.
fn compile(compiler: &str, name: &str) -> Result<PathBuf> {
    let source: PathBuf = package().join("benches").join(name).with_extension("c");
    let directory: &Path = &package().join("target/bench");
    fs::create_dir_all(directory)?;
    let executable = directory.join(format!("{name}-{compiler}"));
    let status = Command::new(compiler)
        .args(["-O2", "-static", "-s", "-o"])
        .args([&executable, &source])
        .status()
        .with_context(|| format!("run the C compiler, {compiler}"))?;
    ensure!(status.success(), "{} does not compile", source.display());
    Ok(executable)
}

/// A running `health_server`, stopped when dropped.
pub struct Server {
    process: Child,
    pub address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails only if the server has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
