//! Makes `target/release/grpc_health_probe` a link to the binary, where people and scripts look for it.
//!
//! The static build needs a named target (`.cargo/config.toml`), and cargo then writes to `target/<triple>/<profile>`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Linked by (.cargo/config.toml), which cargo does not see.
    println!("cargo::rerun-if-changed=.cargo/layout.txt");
    #[cfg(unix)]
    link_from_usual_place();
}

#[cfg(unix)]
fn link_from_usual_place() {
    use std::{env, fs, os::unix::fs::symlink, path::PathBuf};

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
