//! The README keeps up with the program: every kind and every flag is in it.

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
