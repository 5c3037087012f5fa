//! Lists the tests that are left out because privileges are missing. The name of this file sorts last, so that the list comes
//! at the end of the output.

use std::fs;

use crate::support::privileges::{print_to_stderr, why_no_other_user, why_not_root};

/// Prints one line per reason, with the tests that could not run.
#[test]
fn tests_that_are_left_out_are_named() {
    for (call, reason) in [("root", why_not_root()), ("another_user", why_no_other_user())] {
        let tests = tests_that_call(&format!("privileges::{call}()"));
        assert!(!tests.is_empty(), "no test calls {call}");
        if let Some(reason) = reason {
            print_to_stderr(&format!("left out {} tests, because {reason}: {}", tests.len(), tests.join(", ")));
        }
    }
}

/// The tests whose source contains this call.
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
