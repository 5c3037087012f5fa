//! Runs the probe in one of its modes (once, until healthy, every address, watch, diagnosis) until it ends or a signal arrives.

mod diagnose;
mod each_address;
mod once;
mod plan;
mod wait;
mod watch;

use std::{cell::RefCell, time::Duration};

use tokio::time::{Instant, sleep};

pub use self::plan::Plan;
pub(crate) use self::plan::{Alts, Credentials, Security, Tls};
use self::{
    each_address::probe_addresses,
    wait::probe_until_healthy,
    watch::{Watch, stopped_after},
};
use crate::{
    deadline::Deadline,
    diagnosis,
    outcome::{Failure, Health, Kind, NonEmpty, ProbeResult},
    report::{Changes, Progress, Style},
    rpc::Question,
    signals::Signals,
    trace::Trace,
};

/// How long to wait for GOAWAY and TLS's `close_notify` to be sent where a signal, `-timeout` or a closed output ends the run.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(10);

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// With results to report.
    Results(NonEmpty<ProbeResult>),
    /// With everything reported already.
    Reported(Health),
}

/// Runs the plan to its end or to a signal. Its timeouts begin at `start`.
pub async fn run(
    plan: &Plan,
    start: Instant,
    style: Style,
    signals: &Signals,
    trace: &Trace,
    progress: &Progress,
) -> Ended {
    let overall = plan.timeout.map(|timeout| Deadline::of_run(start, timeout));
    let watch = match &plan.question {
        Question::Watch(service) => {
            let changes = Changes { style, target: &plan.target.address, progress };
            Some(Watch::new(plan, service, changes, trace, overall))
        }
        Question::Check(_) | Question::List => None,
    };
    // What `-wait` waits for between two attempts.
    let waits_for = RefCell::new(None);
    let work = async {
        if let Some(command) = &plan.diagnosis {
            let diagnosis = diagnose::diagnose(plan, command, start, style, trace, progress);
            return Ok(Ended::Reported(Box::pin(diagnosis).await));
        }
        // The rare modes are boxed, so that a plain probe stays small.
        let mut results = match (&watch, plan.wait) {
            (Some(watch), _) => Box::pin(watch.run(start)).await?,
            (None, Some(wait)) => {
                Box::pin(probe_until_healthy(plan, wait, start, overall, trace, progress, &waits_for)).await
            }
            (None, None) => probe_addresses(plan, start, overall, trace).await,
        };
        if let [ProbeResult { address: None, verdicts: Err(failure), .. }] = &mut *results {
            diagnosis::explain(failure, &plan.target).await;
        }
        Ok(Ended::Results(results))
    };
    let reason = tokio::select! {
        ended = work => match ended {
            Ok(ended) => return ended,
            Err(reason) => reason,
        },
        signal = signals.next() => stopped_by(signal),
    };
    // The connections are dropped by now. hyper closes them cleanly.
    sleep(CLOSE_TIMEOUT).await;
    match &watch {
        Some(watch) if watch.has_answered() => {
            progress.stopped(&reason);
            Ended::Reported(watch.health())
        }
        _ => {
            let waits_for: Option<Failure> = waits_for.take();
            let phase = waits_for.as_ref().map_or_else(|| trace.phase(), |failure| failure.kind.phase());
            let message = match waits_for {
                Some(failure) => format!("{reason} between two attempts; the last: {failure}"),
                None => format!("{reason} during {}", phase.activity()),
            };
            let failure = Failure::new(Kind::Interrupted(phase), message);
            Ended::Results(NonEmpty::one(ProbeResult::failed(failure, Some(trace.record()), start.elapsed())))
        }
    }
}

/// Why a run that has its results should end, though not all of them are written: a signal has arrived, or `-timeout` is over.
#[must_use]
pub fn stopped(plan: &Plan, start: Instant, signals: &Signals) -> Option<String> {
    let overall = plan.timeout.map(|timeout| Deadline::of_run(start, timeout));
    let is_over = |overall: &Deadline| overall.remaining().is_zero();
    signals.last().map(stopped_by).or_else(|| overall.filter(is_over).map(|overall| stopped_after(&overall)))
}

fn stopped_by(signal: &str) -> String {
    format!("stopped by {signal}")
}
