//! All that is needed to measure: the programs, certificates, servers.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::program::Program;
use crate::{package, pki, programs};

pub struct Workshop {
    pub probe: Program,
    pub floor: Program,
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
        let probe = Program::new("grpc_health_probe", &programs::build("--bin", "grpc_health_probe")?, "-addr={addr}")?;
        let floor = Program::new("floor", &compile("floor")?, "{addr}")?;
        let measure = compile("measure")?;
        let health_server = programs::build("--example", "health_server")?;
        let directory = TempDir::new()?;
        pki::write(directory.path(), &["127.0.0.1".to_owned()], Duration::from_hours(24))?;

        let copies = TempDir::new_in(package().join("target/bench"))?;
        let copy =
            |(number, program): (usize, &Program)| program.copied_to(&copies.path().join(format!("other-{number}")));
        Ok(Self {
            probe: probe.copied_to(&copies.path().join("probe"))?,
            floor: floor.copied_to(&copies.path().join("floor"))?,
            others: others.iter().enumerate().map(copy).collect::<Result<_>>()?,
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

/// Compiles a C program of this directory's parent, and returns its path.
fn compile(name: &str) -> Result<PathBuf> {
    let source: PathBuf = package().join("benches").join(name).with_extension("c");
    let directory: &Path = &package().join("target/bench");
    fs::create_dir_all(directory)?;
    let executable = directory.join(name);
    let status = Command::new("cc")
        .args(["-O2", "-static", "-s", "-o"])
        .args([&executable, &source])
        .status()
        .context("run the C compiler, cc")?;
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
