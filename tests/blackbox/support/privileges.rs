//! What some tests need and an ordinary user does not have: namespaces, mounts, low ports, another user.
//!
//! Where the system does not grant it, a test is left out, and a line on standard error says so. `without_root.rs` names
//! all of them, and the reason.

use std::{
    env,
    io::{Write, stderr},
    process::Command,
    sync::OnceLock,
    thread,
};

/// Set for a test that runs with root's privileges.
const PRIVILEGED: &str = "BLACKBOX_PRIVILEGED";
/// `ip` is not in the path of ordinary users.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A command line, or the start of one.
type Words = &'static [&'static str];

/// These start a command as root with a network and mounts of its own: for root, and for others by a user namespace.
const AS_ROOT: [Words; 2] =
    [&["unshare", "--net", "--mount"], &["unshare", "--user", "--map-root-user", "--net", "--mount"]];
/// What tests do with these privileges. Some systems let everyone make a user namespace, but do nothing in it.
const TRY_ROOT: Words =
    &["sh", "-c", "ip link set lo up && mount --bind /etc /etc && unshare --net --pid --fork --kill-child true"];

/// These start a command as a user without a name and without privileges.
const AS_ANOTHER_USER: [Words; 2] = [
    &["setpriv", "--reuid=64242", "--regid=64242", "--clear-groups"],
    &["unshare", "--user", "--map-user=64242", "--map-group=64242"],
];

/// Lets a test go on where it is root, with a network and mounts of its own.
///
/// Elsewhere the result is `None`, and the test must return: either it has just run as root, in a process of its own and
/// with success, or it is left out.
pub fn root() -> Option<()> {
    if env::var_os(PRIVILEGED).is_some() {
        return Some(());
    }
    let Ok(way) = way_to_root() else { return leave_out("root, or user namespaces") };
    let ran = command(way)
        .args(["sh", "-c", r#"ip link set lo up && exec "$0" "$@""#])
        .arg(env::current_exe().expect("Linux tells"))
        .args([&own_test(), "--exact", "--nocapture"])
        .env(PRIVILEGED, "1")
        .output()
        .expect("unshare is there");
    let output = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && output.contains("1 passed"), "as root, in a process of its own:\n{output}");
    None
}

/// The start of a command line that runs the rest of it as a user without a name and without privileges. Where that is
/// `None`, the test is left out and must return.
pub fn another_user() -> Option<Words> {
    let Ok(way) = way_to_another_user() else { return leave_out("another user, or user namespaces") };
    Some(way)
}

/// Why tests that need root are left out, if they are.
pub fn no_root() -> Option<&'static str> {
    way_to_root().err()
}

/// Why tests that need another user are left out, if they are.
pub fn no_other_user() -> Option<&'static str> {
    way_to_another_user().err()
}

fn way_to_root() -> Result<Words, &'static str> {
    static WAY: OnceLock<Result<Words, String>> = OnceLock::new();
    WAY.get_or_init(|| first_that_works(AS_ROOT, TRY_ROOT)).as_ref().copied().map_err(String::as_str)
}

fn way_to_another_user() -> Result<Words, &'static str> {
    static WAY: OnceLock<Result<Words, String>> = OnceLock::new();
    WAY.get_or_init(|| first_that_works(AS_ANOTHER_USER, &["true"])).as_ref().copied().map_err(String::as_str)
}

/// The first way by which the command succeeds, or why the last one fails.
fn first_that_works(ways: [Words; 2], rest: Words) -> Result<Words, String> {
    let mut reason = String::new();
    for way in ways {
        match command(way).args(rest).output() {
            Ok(ran) if ran.status.success() => return Ok(way),
            Ok(ran) => {
                let words = String::from_utf8_lossy(&ran.stderr);
                reason = format!("`{}` fails ({})", way.join(" "), words.lines().next().unwrap_or_default());
            }
            Err(error) => reason = format!("`{}` cannot be started ({error})", way[0]),
        }
    }
    Err(reason)
}

fn command(words: Words) -> Command {
    let mut command = Command::new(words[0]);
    let path = env::var("PATH").unwrap_or_default();
    command.args(&words[1..]).env("PATH", format!("{path}:{PATH}"));
    command
}

fn leave_out<T>(need: &str) -> Option<T> {
    say(&format!("left out: {}: needs {need}", own_test()));
    None
}

/// The name of the test that this thread runs.
fn own_test() -> String {
    thread::current().name().expect("the test harness names threads after tests").to_owned()
}

/// Prints a line on standard error. `eprintln!` would not do: the test harness keeps that for tests that fail.
pub fn say(line: &str) {
    // A closed standard error does not fail a test.
    let _ = stderr().write_all(format!("{line}\n").as_bytes());
}
