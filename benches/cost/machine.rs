//! What the numbers were measured with.

use std::env;
use std::fs;
use std::path::Path;
use std::thread;

/// As in `Linux 6.1.0, Some CPU, 2 cores, rustc 1.95.0`, of the Rust that built the probe.
pub fn describe(probe: &Path) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let s = if cores == 1 { "" } else { "s" };
    format!("Linux {}, {}, {cores} core{s}, {}", kernel.trim(), cpu(), rustc(probe))
}

/// Not all architectures name it.
fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| env::consts::ARCH.to_owned(), |(_, model)| model.to_owned())
}

/// The compiler leaves its version in the program.
fn rustc(program: &Path) -> String {
    const MARK: &[u8] = b"rustc version ";
    let bytes = fs::read(program).unwrap_or_default();
    let version = bytes.windows(MARK.len()).position(|bytes| bytes == MARK).map(|at| {
        let version = bytes[at + MARK.len()..].split(u8::is_ascii_control).next();
        String::from_utf8_lossy(version.unwrap_or_default()).into_owned()
    });
    format!("rustc {}", version.as_deref().unwrap_or("unknown"))
}
