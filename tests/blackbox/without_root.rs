//! What was left out for want of privileges. As the last file by name its test comes last, where people look.

use std::fs;

use crate::support::privileges::{no_other_user, no_root, say};

/// Names, in one line for each reason, the tests that the system did not let run.
#[test]
fn tests_that_are_left_out_are_named() {
    for (call, reason) in [("root", no_root()), ("another_user", no_other_user())] {
        let tests = tests_that_call(&format!("privileges::{call}()"));
        assert!(!tests.is_empty(), "no test calls {call}");
        if let Some(reason) = reason {
            say(&format!("left out {} tests, because {reason}: {}", tests.len(), tests.join(", ")));
        }
    }
}

/// The tests whose source has this call.
fn tests_that_call(call: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/blackbox");
    for entry in fs::read_dir(directory).expect("it is in the repository") {
        let path = entry.expect("it can be read").path();
        let Ok(source) = fs::read_to_string(&path) else { continue };
        let module = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
        let mut function = "";
        for line in source.lines() {
            if let Some(rest) = line.strip_prefix("fn ") {
                function = rest.split('(').next().unwrap_or_default();
            } else if line.contains(call) && line.ends_with("else { return };") {
                tests.push(format!("{module}::{function}"));
            }
        }
    }
    tests.sort();
    tests
}
