//! What the numbers were measured with.

use std::env;
use std::fs;
use std::process::Command;
use std::thread;

/// As in `Linux 6.1.0, Some CPU, 2 cores, rustc 1.95.0`.
pub fn describe() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let s = if cores == 1 { "" } else { "s" };
    format!("Linux {}, {}, {cores} core{s}, {}", kernel.trim(), cpu(), rustc())
}

/// Not all architectures name it.
fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| env::consts::ARCH.to_owned(), |(_, model)| model.to_owned())
}

fn rustc() -> String {
    let output = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into())).arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    version.unwrap_or_else(|_| "an unknown rustc".to_owned())
}
