//! `grpc_health_probe` asks a gRPC server whether it is healthy (`grpc.health.v1.Health/Check`), and says why when it is not.
//! ARCHITECTURE.md shows how a probe passes through the modules of this program.
#![forbid(unsafe_code)]

use std::{env, mem, process::ExitCode, rc::Rc};

use grpc_health_probe::{
    cli::{self, Request},
    config,
    outcome::{Failure, NonEmpty, ProbeResult},
    probe::{self, Ended},
    report::{self, Progress, Report, Style},
    signals::Signals,
};
use tokio::{runtime, time::Instant};

/// musl's own allocator maps memory for each larger block, which costs 30 page faults more.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// How many sockets can have events at once. There are rarely more than two.
const EVENTS: usize = 16;

/// Parses the arguments, probes, reports, and returns the exit code.
pub(crate) fn main() -> ExitCode {
    let start = Instant::now();
    report::end_by_exit_code();
    let options = match cli::parse(env::args_os().skip(1)) {
        Ok(Request::Print(text)) => {
            report::print(text);
            return ExitCode::SUCCESS;
        }
        Ok(Request::Probe(options)) => options,
        Err(refusal) => return refuse(Style::initial(refusal.json), None, refusal.failure),
    };
    let style = match config::style(&options) {
        Ok(style) => style,
        Err(failure) => return refuse(Style::initial(options.json()), options.address(), failure),
    };
    let plan = match config::plan(&options) {
        Ok(plan) => plan,
        Err(failure) => return refuse(style, options.address(), failure),
    };
    let progress = Rc::new(Progress::new(style, plan.question().is_endless()));
    progress.warn_of_ignored(options.ignored());
    if style.is_verbose() {
        progress.options(&[config::describe(&plan), cli::unknown_variables().into_iter().collect()].concat());
    }
    let trace = Progress::trace(&progress, style);
    let signals = Signals::catch(plan.is_long());
    let runtime =
        runtime::Builder::new_current_thread().enable_io().enable_time().max_io_events_per_tick(EVENTS).build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(probe::run(&plan, start, style, &signals, &trace, &progress));
            // The exit frees everything at once. Dropping the runtime would wait for a thread that reads a pipe.
            mem::forget(runtime);
            ended
        }
        Err(error) => Ended::Results(NonEmpty::one(ProbeResult::without_runtime(&error))),
    };
    let health = match ended {
        Ended::Results(results) => {
            let (address, question) = (Some(plan.address()), Some(plan.question()));
            Report { address, question, results }.print(style, &progress, &|| probe::stopped(&plan, start, &signals))
        }
        Ended::Reported(health) => health,
    };
    ExitCode::from(style.exit_code(health))
}

/// Reports why the probe could not begin.
fn refuse(style: Style, address: Option<&str>, failure: Failure) -> ExitCode {
    let results = NonEmpty::one(ProbeResult::not_begun(cli::with_unknown_variables(failure)));
    let report = Report { address, question: None, results };
    ExitCode::from(style.exit_code(report.print(style, &Progress::new(style, false), &|| None)))
}
