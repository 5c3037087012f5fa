//! The rest of the repository keeps up with the program: the README with its kinds and flags, the fuzz targets with its
//! modules.

use std::fs;

use crate::support::probe::Probe;

fn read(path: &str) -> String {
    fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect("it is in the repository")
}

#[test]
fn every_kind_has_its_place() {
    let (readme, source) = (read("README.md"), read("src/outcome.rs"));
    // The one table of kinds: `Self::Name => (Phase::…, "name"),`.
    let kinds: Vec<&str> = source
        .lines()
        .filter(|line| line.trim_start().starts_with("Self::") && line.contains(" => ("))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert!(kinds.len() > 40, "the table is found: {kinds:?}");
    for kind in kinds {
        assert!(readme.contains(&format!("`{kind}`")), "{kind} is not in README.md");
    }
}

#[test]
fn every_flag_has_its_place() {
    let readme = read("README.md");
    let help = Probe::new(["-help"]).run().stdout;
    let flags: Vec<&str> =
        help.lines().filter(|line| line.starts_with("  -")).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(flags.len() > 20, "the flags are found: {flags:?}");
    for flag in flags {
        assert!(readme.contains(flag), "{flag} is not in README.md");
    }
}

#[test]
fn every_module_can_be_fuzzed() {
    let (main, fuzz) = (read("src/main.rs"), read("fuzz/lib.rs"));
    let modules: Vec<&str> = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    assert!(modules.len() > 15, "the modules are found: {modules:?}");
    // The order of the steps and signals are what a process has, not what bytes can reach.
    for module in modules.into_iter().filter(|module| !["probe", "signals"].contains(module)) {
        assert!(fuzz.contains(&format!("../src/{module}.rs")), "{module} is not in fuzz/lib.rs");
    }
}
