//! The programs in `examples/`, as far as a reader relies on them.

#[path = "../../examples/pki/mod.rs"]
mod pki;
#[expect(dead_code, reason = "`read` ends the process")]
#[path = "../../examples/usage/mod.rs"]
mod usage;

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use clap::{Arg, ArgAction, Command};

use crate::support::pki::Files;

#[test]
fn keys_can_be_read_by_their_owner_alone() {
    let files = Files::new();
    let directory = files.path("");
    // A key that is renewed is no more open than a new one.
    for _ in 0..2 {
        pki::write(&directory, &["localhost".to_owned()], Duration::from_mins(1)).expect("it can be written");
        for name in ["server.key", "client.key"] {
            let path = files.path(name);
            let mode = fs::metadata(&path).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
        }
    }
    assert!(directory.join(pki::LAST).exists());
}

#[test]
fn help_has_every_flag() {
    let command = Command::new("example")
        .about("Does this")
        .after_help("It does it once.")
        .arg(Arg::new("name").long("name").value_name("NAME").default_value("localhost").help("A name"))
        .arg(Arg::new("renew").long("renew").action(ArgAction::SetTrue).help("Anew"));
    let help = "Does this\n\n  --name NAME  A name (default: localhost)\n  --renew      Anew\n\nIt does it once.\n";
    assert_eq!(usage::help(&command), help);
}
