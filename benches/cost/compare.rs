//! The probe in each scenario, compared with the floor and with other probes.

use std::process::Command;

use anyhow::Result;

use crate::program::Program;
use crate::runs::{Runs, measure};
use crate::scenario::{NO_CERTIFICATES, PLAINTEXT, SCENARIOS, Scenario};
use crate::table::{Table, number, ratio};
use crate::workshop::Workshop;
use crate::{Options, machine};

#[derive(Default)]
pub struct Comparison {
    pub scenarios: Vec<(&'static str, Vec<Measured>)>,
    /// Programs that did not end as they should, in words. What they cost is not told: it is the cost of something else.
    pub wrong: Vec<String>,
}

/// What a program has cost in a scenario.
pub struct Measured {
    pub program: Program,
    pub is_ours: bool,
    pub runs: Runs,
}

pub fn run(workshop: &Workshop, options: &Options) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    for (name, set_up) in SCENARIOS {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("measuring {name}");
        let floors: &[Program] = if name == PLAINTEXT { &workshop.floors } else { &[] };
        let floors = floors.iter().map(|program| (program, false));
        let others = workshop.others.iter().map(|program| (program, false));
        let programs: Vec<_> = floors.chain([(&workshop.probe, true)]).chain(others).collect();
        let (measured, wrong) = run_in(&set_up(workshop)?, workshop, options.rounds, &programs)?;
        comparison.scenarios.push((name, measured));
        comparison.wrong.extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
    }
    Ok(comparison)
}

/// Returns what the programs have cost, and what went wrong.
fn run_in(
    scenario: &Scenario,
    workshop: &Workshop,
    rounds: u32,
    programs: &[(&Program, bool)],
) -> Result<(Vec<Measured>, Vec<String>)> {
    let mut meter = Command::new(&workshop.measure);
    if let Some(bundle) = &scenario.ssl_cert_file {
        // Without a directory, the Go tool also reads the system's, and its cost would be that of another task.
        meter.env("SSL_CERT_FILE", bundle).env("SSL_CERT_DIR", workshop.file(NO_CERTIFICATES));
    }
    let commands: Vec<_> =
        programs.iter().map(|(program, _)| program.command(&scenario.addr, &scenario.flags)).collect();
    let (mut measured, mut wrong) = (Vec::new(), Vec::new());
    for (&(program, is_ours), runs) in programs.iter().zip(measure(meter, 1, rounds, &commands)?) {
        // Others may have codes of their own for failures.
        let is_right = |code| if scenario.is_healthy { code == 0 } else { code == 1 || !is_ours && code != 0 };
        match runs.wrong(is_right) {
            Some(words) => wrong.push(format!("{}: {words}", program.name)),
            None => measured.push(Measured { program: program.clone(), is_ours, runs }),
        }
    }
    Ok((measured, wrong))
}

impl Comparison {
    pub fn report(&self, workshop: &Workshop, rounds: u32) -> String {
        let mut report = format!(
            "# What one probe costs\n\n\
             Whole processes, run in turn, {rounds} rounds; medians, for wall time also the 95th percentile. CPU time is \
             user and system. The server is `examples/health_server.rs`. Measured with {}, by `cargo bench`.\n\n\
             ![CPU time of one probe](bench.svg)\n\n{}",
            machine::describe(workshop.probe.path()),
            self.costs()
        );
        let ratios = self.ratios();
        if !ratios.is_empty() {
            report += &format!("\nThe probe as a multiple of the others; less is better:\n\n{ratios}");
        }
        report
    }

    fn costs(&self) -> Table {
        let head = ["wall µs", "p95 µs", "CPU µs", "page faults", "peak RSS KiB", "binary KiB"];
        let mut table = Table::new(&["scenario", "program"], &head);
        for (scenario, measured) in &self.scenarios {
            for Measured { program, runs, .. } in measured {
                let numbers = [runs.wall(50), runs.wall(95), runs.cpu(), runs.faults(), runs.rss(), program.size];
                table.row(&[scenario, &program.name], &numbers.map(number));
            }
        }
        table
    }

    fn ratios(&self) -> Table {
        let mut table =
            Table::new(&["scenario", "compared with"], &["wall", "CPU", "page faults", "peak RSS", "binary"]);
        for (scenario, measured) in &self.scenarios {
            let Some(ours) = measured.iter().find(|measured| measured.is_ours) else { continue };
            for other in measured.iter().filter(|measured| !measured.is_ours) {
                let ratios = [
                    ratio(ours.runs.wall(50), other.runs.wall(50)),
                    ratio(ours.runs.cpu(), other.runs.cpu()),
                    ratio(ours.runs.faults(), other.runs.faults()),
                    ratio(ours.runs.rss(), other.runs.rss()),
                    ratio(ours.program.size, other.program.size),
                ];
                table.row(&[scenario, &other.program.name], &ratios);
            }
        }
        table
    }
}
