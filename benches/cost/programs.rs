//! The programs of this package, for those that run them.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Builds a program of this package, in the profile that this one was built in, and returns its path.
pub fn build(kind: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", kind, name, "--message-format=json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    forget_cargo(&mut cargo);
    let output =
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).output().context("run cargo")?;
    ensure!(output.status.success(), "{name} does not build");

    // Where the executable lies depends on the target and on the user's settings; cargo knows.
    String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo names no executable for {name}"))
}

/// Keeps the variables that `cargo run` sets from a command that builds: with them, cargo would build some dependencies
/// again, and a second time at the next ordinary build.
pub fn forget_cargo(command: &mut Command) {
    for prefix in ["CARGO_MANIFEST_", "CARGO_PKG_", "OUT_DIR"] {
        forget_variables(command, prefix);
    }
}

/// Keeps the variables whose names begin so from a command.
pub fn forget_variables(command: &mut Command, prefix: &str) {
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(prefix)) {
        command.env_remove(name);
    }
}
