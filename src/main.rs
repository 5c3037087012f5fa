//! `grpc_health_probe` asks one gRPC server whether it is healthy (`grpc.health.v1.Health/Check`), and says why when
//! it is not. ARCHITECTURE.md shows the way of the data through these files.
#![forbid(unsafe_code)]

mod certificate;
mod check;
mod cli;
mod config;
mod connect;
mod credentials;
mod deadline;
mod file;
mod gather;
mod goflag;
mod guard;
mod http2;
mod journal;
mod metadata;
mod outcome;
mod pem;
mod probe;
#[cfg(test)]
mod properties;
mod report;
mod signals;
mod target;
mod text;
mod tls;
mod trust;
mod wait;
mod wire;

use std::{env, mem, process::ExitCode, rc::Rc, time::Duration};

use tokio::{
    runtime,
    time::{Instant, sleep},
};

use crate::{
    cli::{Refusal, Request},
    config::{Config, Style},
    deadline::Deadline,
    journal::{Journal, Record},
    outcome::{Failure, Kind, Verdict},
    probe::{explain, probe},
    report::{Aside, Report},
    signals::Signals,
    text::plain,
    wait::probe_until_healthy,
};

/// How many sockets can have news at once; there are rarely more than two.
const EVENTS: usize = 16;
/// How long a signal leaves for GOAWAY and TLS's `close_notify`.
const FAREWELL: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let start = Instant::now();
    let arguments = match cli::parse(env::args_os().skip(1)) {
        Ok(Request::Print(text)) => {
            report::print(&text);
            return ExitCode::SUCCESS;
        }
        Ok(Request::Probe(arguments)) => arguments,
        Err(Refusal { failure, json }) => return unusable(Style { json, ..Style::DEFAULT }, None, failure),
    };
    let address = arguments.addr.as_ref().map(|addr| addr.text.as_str());
    let style = match Style::new(&arguments) {
        Ok(style) => style,
        Err(failure) => {
            let json = arguments.output.as_ref().is_some_and(|output| output.text == "json");
            return unusable(Style { json, ..Style::DEFAULT }, address, failure);
        }
    };
    let config = match Config::new(&arguments) {
        Ok(config) => config,
        Err(failure) => return unusable(style, address, failure),
    };

    let aside = Rc::new(Aside::new(style));
    if style.verbose {
        aside.options(&config.tell());
    }
    let (verdicts, record) = run(&config, start, style, &aside);
    let report = Report { address, services: &config.services, verdicts, record: Some(record) };
    exit(style, &report, Some(&aside))
}

/// Runs the probe, or one after another, to its end or to a signal.
fn run(config: &Config, start: Instant, style: Style, aside: &Rc<Aside>) -> (Result<Vec<Verdict>, Failure>, Record) {
    let signals = Signals::catch();
    let journal = Journal::new(style.verbose.then(|| Rc::clone(aside)));
    let runtime =
        runtime::Builder::new_current_thread().enable_io().enable_time().max_io_events_per_tick(EVENTS).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("this system gives no means to wait for a server: {}", plain(&error));
            return (Err(Failure::new(Kind::ConnectFailed, message)), journal.record());
        }
    };
    let verdicts = runtime.block_on(async {
        let overall = config.timeout.map(|timeout| Deadline::new(start, timeout));
        let work = async {
            let mut verdicts = match config.wait {
                None => probe(config, start, overall, &journal).await,
                Some(wait) => probe_until_healthy(config, wait, start, overall, &journal, aside).await,
            };
            if let Err(failure) = &mut verdicts {
                explain(config, failure).await;
            }
            verdicts
        };
        tokio::select! {
            verdicts = work => verdicts,
            signal = signals.next() => {
                // The connection, left behind, says goodbye to the server.
                sleep(FAREWELL).await;
                let phase = journal.record().phase;
                let message = format!("stopped by {signal} in the phase {}", phase.name());
                Err(Failure::new(Kind::Interrupted(phase), message))
            }
        }
    });
    // Nobody waits for a thread that a name server or a pipe keeps; and what the exit frees at once need not be freed
    // piece by piece before it.
    mem::forget(runtime);
    (verdicts, journal.record())
}

/// Ends with a failure that kept the probe from beginning.
fn unusable(style: Style, address: Option<&str>, failure: Failure) -> ExitCode {
    exit(style, &Report { address, services: &[], verdicts: Err(failure), record: None }, None)
}

fn exit(style: Style, report: &Report<'_>, aside: Option<&Aside>) -> ExitCode {
    ExitCode::from(style.exit_codes.code(report.print(style, aside)))
}
