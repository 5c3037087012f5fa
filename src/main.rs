//! `grpc_health_probe` asks one gRPC server whether it is healthy (`grpc.health.v1.Health/Check`), and says why when
//! it is not. ARCHITECTURE.md shows the way of the data through these files.
#![forbid(unsafe_code)]

mod addresses;
mod aside;
mod certificate;
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
mod json;
mod list;
#[cfg(test)]
mod manual;
mod metadata;
mod outcome;
mod output;
mod pem;
mod probe;
#[cfg(test)]
mod properties;
mod report;
mod rpc;
mod signals;
mod spiffe_id;
mod svid;
mod target;
mod text;
mod ticker;
mod tls;
mod trust;
mod wait;
mod watch;
mod wire;
mod workload;

use std::{env, mem, process::ExitCode, rc::Rc, time::Duration};

use tokio::{
    runtime,
    time::{Instant, sleep},
};

use crate::{
    addresses::probe_addresses,
    aside::Aside,
    cli::{Refusal, Request},
    config::{Config, Question, Style},
    deadline::Deadline,
    journal::Journal,
    outcome::{Failure, Kind, Phase, Probed},
    probe::explain,
    report::Report,
    signals::Signals,
    text::plain,
    ticker::Ticker,
    wait::probe_until_healthy,
    watch::Watch,
};

/// How many sockets can have news at once; there are rarely more than two.
const EVENTS: usize = 16;
/// How long a signal leaves for GOAWAY and TLS's `close_notify`.
const FAREWELL: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let start = Instant::now();
    let arguments = match cli::parse(env::args_os().skip(1)) {
        Ok(Request::Print(text)) => {
            output::print(&text);
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

    let aside = Rc::new(Aside::new(style, matches!(config.question, Question::Watch(_))));
    if style.verbose {
        aside.options(&config.tell());
    }
    let failed = match run(&config, start, style, &aside) {
        End::Result(probed) => Report { address, question: Some(&config.question), probed }.print(style, Some(&aside)),
        End::Told(failed) => failed,
    };
    ExitCode::from(style.exit_codes.code(failed))
}

/// What a run comes to.
enum End {
    /// A result, to be told.
    Result(Vec<Probed>),
    /// All is told; this phase failed last, if any.
    Told(Option<Phase>),
}

/// Runs the probe, or one after another, or a watch, to its end or to a signal.
fn run(config: &Config, start: Instant, style: Style, aside: &Rc<Aside>) -> End {
    let signals = Signals::catch();
    let journal = Journal::new(style.verbose.then(|| Rc::clone(aside)));
    let failed = |failure| {
        let record = Some(journal.record());
        End::Result(vec![Probed { address: None, verdicts: Err(failure), record, took: start.elapsed() }])
    };
    let runtime =
        runtime::Builder::new_current_thread().enable_io().enable_time().max_io_events_per_tick(EVENTS).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let message = format!("this system gives no means to wait for a server: {}", plain(&error));
            return failed(Failure::new(Kind::ConnectFailed, message));
        }
    };
    let overall = config.timeout.map(|timeout| Deadline::new(start, timeout));
    let watch = match &config.question {
        Question::Watch(service) => Some(Watch::new(Ticker { style, config }, service, &journal, overall)),
        Question::Check(_) | Question::List => None,
    };
    let end = runtime.block_on(async {
        let work = async {
            // What is rare is kept apart, so that a plain probe is small.
            let mut probed = match (&watch, config.wait) {
                (Some(watch), _) => Box::pin(watch.run(start)).await?,
                (None, Some(wait)) => {
                    Box::pin(probe_until_healthy(config, wait, start, overall, &journal, aside)).await
                }
                (None, None) => probe_addresses(config, start, overall, &journal).await,
            };
            if let [Probed { address: None, verdicts: Err(failure), .. }] = probed.as_mut_slice() {
                explain(config, failure).await;
            }
            Ok(probed)
        };
        let stopped = tokio::select! {
            probed = work => match probed {
                Ok(probed) => return End::Result(probed),
                Err(stopped) => stopped,
            },
            signal = signals.next() => {
                // The connection, left behind, says goodbye to the server.
                sleep(FAREWELL).await;
                format!("by {signal}")
            }
        };
        match &watch {
            Some(watch) if watch.has_answered() => {
                aside.stopped(&stopped);
                End::Told(watch.failed())
            }
            _ => {
                let phase = journal.phase();
                let message = format!("stopped {stopped} in the phase {}", phase.name());
                failed(Failure::new(Kind::Interrupted(phase), message))
            }
        }
    });
    // Nobody waits for a thread that a name server or a pipe keeps; and what the exit frees at once need not be freed
    // piece by piece before it.
    mem::forget(runtime);
    end
}

/// Ends with a failure that kept the probe from beginning.
fn unusable(style: Style, address: Option<&str>, failure: Failure) -> ExitCode {
    let probed = vec![Probed { address: None, verdicts: Err(failure), record: None, took: Duration::ZERO }];
    ExitCode::from(style.exit_codes.code(Report { address, question: None, probed }.print(style, None)))
}
