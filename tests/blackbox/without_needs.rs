//! Says which tests were left out because this machine or user lacks what they need. The name of this file sorts last, so
//! that this comes at the end of the output.

use std::fs;

use crate::support::needs::{print_to_stderr, reasons};

/// Prints one line per reason, with the tests that could not run, or that there are none.
#[test]
fn tests_that_are_left_out_are_named() {
    let mut are_any = false;
    for (call, reason) in reasons() {
        let tests = tests_that_call(&format!("needs::{call}()"));
        assert!(!tests.is_empty(), "no test calls {call}");
        if let Some(reason) = reason {
            are_any = true;
            let s = if tests.len() == 1 { "" } else { "s" };
            print_to_stderr(&format!("left out {} test{s}, because {reason}: {}", tests.len(), tests.join(", ")));
        }
    }
    if !are_any {
        print_to_stderr("no test was left out");
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
