//! Tells the binary what it is made from, links it, and makes `target/release/grpc_health_probe` a link to it, where people
//! and scripts look for it.
//!
//! The static build needs a named target (`.cargo/config.toml`), and cargo then writes to `target/<triple>/<profile>`.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Linked by (.cargo/config.toml), which cargo does not see.
    println!("cargo::rerun-if-changed=.cargo/layout.txt");
    println!("cargo::rustc-env=COMMIT={}", commit().as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=TARGET={}", env::var("TARGET").expect("cargo sets TARGET"));
    leave_out_unwind_tables();
    #[cfg(unix)]
    link_from_usual_place();
}

/// The commit, for `-version`: as whoever builds says, where there is no repository; as a package says that was made from
/// one; or as the repository says.
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
    // Not that of a repository which this directory happens to lie in.
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

/// 250 kB, of the standard library's and with them all others. Tests unwind, so only a release goes without; and it takes
/// rust-lld, Rust's own for this target.
fn leave_out_unwind_tables() {
    const SCRIPT: &str = ".cargo/no-unwind-tables.ld";
    println!("cargo::rerun-if-changed={SCRIPT}");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|is| is == value);
    if is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu") {
        let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{root}/{SCRIPT}");
    }
}

#[cfg(unix)]
fn link_from_usual_place() {
    use std::{os::unix::fs::symlink, path::PathBuf};

    // OUT_DIR is target/<triple>/<profile>/build/<package>/out; without a named target there is no <triple>.
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let triple = env::var_os("TARGET").expect("cargo sets TARGET");
    let mut above = out.ancestors().skip(3);
    let (Some(profile), Some(named), Some(target)) = (above.next(), above.next(), above.next()) else { return };
    let (Some(profile), Some(named)) = (profile.file_name(), named.file_name()) else { return };
    if named != triple {
        return;
    }
    let usual = target.join(profile);
    let binary = PathBuf::from("..").join(named).join(profile).join("grpc_health_probe");
    // A convenience: a target directory that takes no links still builds.
    let _ = fs::create_dir_all(&usual);
    let _ = fs::remove_file(usual.join("grpc_health_probe"));
    let _ = symlink(binary, usual.join("grpc_health_probe"));
}
