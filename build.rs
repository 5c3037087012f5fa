//! Tells the binary the commit and the target that it is built from and for; `-version` prints them.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=COMMIT={}", commit().as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=TARGET={}", env::var("TARGET").expect("cargo sets TARGET"));
}

/// The commit: from `SOURCE_COMMIT`, for builds without a repository; else from a package made from a repository; else from
/// the repository itself.
fn commit() -> Option<String> {
    const GIVEN: &str = "SOURCE_COMMIT";
    println!("cargo::rerun-if-env-changed={GIVEN}");
    let is_commit = |text: &String| text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Ok(given) = env::var(GIVEN) {
        return Some(given).filter(is_commit);
    }
    if let Ok(package) = fs::read_to_string(".cargo_vcs_info.json") {
        return package.split('"').skip_while(|word| *word != "sha1").nth(2).map(str::to_owned).filter(is_commit);
    }
    // Only if it is this directory's own: not a repository that contains this directory.
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(["rev-parse", "HEAD", "--git-path", "logs/HEAD"]).output().ok()?;
    let output = String::from_utf8(output.stdout).ok()?;
    let (commit, log) = output.trim().split_once('\n')?;
    if Path::new(log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    Some(commit.to_owned()).filter(is_commit)
}
