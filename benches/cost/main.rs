//! What one probe costs as a process: time, CPU, page faults, memory.
//!
//! ```text
//! cargo bench
//! cargo bench -- --against 'Go tool 0.4.62: /opt/go/grpc_health_probe'
//! cargo bench -- --only tls --only mtls --rounds 1000
//! cargo bench -- --growth
//! PROBE_BINARY=another/grpc_health_probe cargo bench
//! ```
//!
//! It measures the release binary, which `.ci/build-release` builds for it. The results are printed, and kept in
//! `target/bench`; with `--write`, in `docs`. A probe given with `--against` must take the flags of the Go tool. It fails if
//! a probe ends with another exit code than it should. (If one waits a second to be refused, as the Go tool does, leave that
//! scenario out or lower the rounds.)
//!
//! A health check runs every few seconds in every container and is charged to it, so what counts is the whole process,
//! from exec to exit. It runs in turn with `floor.c`, the least that a health check can cost, and with other probes, if any
//! are given; `measure.c` does that. Where musl-gcc is installed, the floor is built with musl too, as the release is; that
//! is the limit. Times differ from machine to machine and from day to day. The ratios do so far less, which is why all that
//! is compared runs within one measurement.
//!
//! For Linux, with a C compiler that links statically.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

mod chart;
mod compare;
mod growth;
mod machine;
#[path = "../../examples/pki/mod.rs"]
mod pki;
mod program;
mod programs;
mod runs;
mod scenario;
mod table;
mod workshop;

use program::Program;
use scenario::SCENARIOS;
use workshop::Workshop;

fn main() -> Result<ExitCode> {
    let options = Options::from(&command().get_matches());
    let workshop = Workshop::open(&options.against)?;
    if options.growth {
        let report = growth::report(&workshop, options.rounds)?;
        println!("{report}");
        options.save("growth.md", &report)?;
        return Ok(ExitCode::SUCCESS);
    }

    let comparison = compare::run(&workshop, &options)?;
    let report = comparison.report(&workshop, options.rounds);
    println!("{report}");
    options.save("bench.md", &report)?;
    options.save("bench.svg", &chart::draw(&comparison))?;
    if comparison.wrong.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for wrong in &comparison.wrong {
        eprintln!("WRONG: {wrong}");
    }
    Ok(ExitCode::FAILURE)
}

fn command() -> Command {
    let flag = |id, help| Arg::new(id).long(id).action(ArgAction::SetTrue).help(help);
    Command::new("cargo bench --")
        .about("Measures what one probe costs as a process")
        .arg(
            Arg::new("rounds")
                .long("rounds")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..))
                .default_value("300")
                .help("How often each program runs in each scenario"),
        )
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("SCENARIO")
                .action(ArgAction::Append)
                .value_parser(SCENARIOS.map(|(name, _)| name))
                .help("Leave out the other scenarios; repeatable"),
        )
        .arg(
            Arg::new("against")
                .long("against")
                .value_name("COMMAND")
                .action(ArgAction::Append)
                .value_parser(Program::parse)
                .help(
                    "Measure this probe too, a program or a command such as 'path/probe -addr={addr}', after 'NAME: ' if \
                     it needs a name; it must take the flags of the Go tool, and is given some; repeatable",
                ),
        )
        .arg(flag("growth", "Measure how the cost grows, with services, addresses, certificates and probes at once"))
        .arg(flag("write", "Write the results to docs/, not to target/bench/").conflicts_with("only"))
        // Cargo says so to every benchmark.
        .arg(flag("bench", "Ignored").hide(true))
}

struct Options {
    rounds: u32,
    /// The names of the scenarios to run, all of them if empty.
    only: Vec<String>,
    against: Vec<Program>,
    growth: bool,
    directory: PathBuf,
}

impl Options {
    fn from(arguments: &ArgMatches) -> Self {
        Self {
            rounds: *arguments.get_one("rounds").expect("it has a default"),
            only: arguments.get_many("only").into_iter().flatten().cloned().collect(),
            against: arguments.get_many("against").into_iter().flatten().cloned().collect(),
            growth: arguments.get_flag("growth"),
            directory: package().join(if arguments.get_flag("write") { "docs" } else { "target/bench" }),
        }
    }

    fn save(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        fs::create_dir_all(&self.directory)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("write {}", path.display()))?;
        eprintln!("written to {}", path.display());
        Ok(())
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
