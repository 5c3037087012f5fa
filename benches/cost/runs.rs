//! Measured runs of processes.

use std::io::{Read, Seek};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::programs;

/// What one run of a command has cost.
struct Run {
    wall: u32,
    cpu: u32,
    faults: u32,
    rss: u32,
    code: u32,
}

/// All runs of a command. Times are in microseconds, memory is in KiB.
#[derive(Default)]
pub struct Runs(Vec<Run>);

/// Runs the commands in turn, so many copies of each at once, and returns the runs of each.
///
/// `measure` starts `measure.c`, and says in which environment.
pub fn measure(mut measure: Command, copies: u32, rounds: u32, commands: &[Vec<String>]) -> Result<Vec<Runs>> {
    programs::forget_variables(&mut measure, "GRPC_HEALTH_PROBE_");
    measure.args([copies.to_string(), rounds.to_string()]);
    for command in commands {
        measure.arg("--").args(command);
    }
    // Into a file, as a reader at the other end of a pipe would disturb what is measured.
    let mut output = tempfile::tempfile()?;
    let status = measure.stdin(Stdio::null()).stdout(output.try_clone()?).status().context("run measure")?;
    ensure!(status.success(), "nothing could be measured");
    let mut text = String::new();
    output.rewind()?;
    output.read_to_string(&mut text)?;

    let mut all: Vec<Runs> = commands.iter().map(|_| Runs::default()).collect();
    for line in text.lines() {
        let numbers: Vec<u32> = line.split(' ').map(str::parse).collect::<Result<_, _>>().context("read a run")?;
        let [index, wall, cpu, faults, rss, code] = numbers[..] else { anyhow::bail!("not a run: {line}") };
        all[index as usize].0.push(Run { wall, cpu, faults, rss, code });
    }
    Ok(all)
}

impl Runs {
    /// The wall time that so many percent of the runs did not exceed.
    pub fn wall(&self, percent: usize) -> u32 {
        self.percentile(percent, |run| run.wall)
    }

    pub fn cpu(&self) -> u32 {
        self.percentile(50, |run| run.cpu)
    }

    pub fn faults(&self) -> u32 {
        self.percentile(50, |run| run.faults)
    }

    pub fn rss(&self) -> u32 {
        self.percentile(50, |run| run.rss)
    }

    fn percentile(&self, percent: usize, of: impl Fn(&Run) -> u32) -> u32 {
        let mut values: Vec<u32> = self.0.iter().map(of).collect();
        values.sort_unstable();
        values[(values.len() - 1) * percent / 100]
    }

    /// Tells the exit codes that are not as they should be, if there are any.
    pub fn wrong(&self, is_right: impl Fn(u32) -> bool) -> Option<String> {
        let wrong: Vec<u32> = self.0.iter().map(|run| run.code).filter(|code| !is_right(*code)).collect();
        let first = wrong.first()?;
        Some(format!(
            "{} of {} runs ended as they should not, the first of them with {first}",
            wrong.len(),
            self.0.len()
        ))
    }
}
