//! Privileges that some tests need and ordinary users lack: namespaces, mounts, low ports, another user.
//!
//! Without them, a test is left out and prints a line on standard error. `without_root.rs` lists all these tests and the
//! reason.

use std::{
    env,
    io::{Write, stderr},
    process::Command,
    sync::OnceLock,
    thread,
};

/// Set for a test that runs with root's privileges.
const PRIVILEGED: &str = "BLACKBOX_PRIVILEGED";
/// `ip` is not in the `PATH` of ordinary users.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A command line, or the start of one.
type Words = &'static [&'static str];

/// Wrappers that run a command as root in new network and mount namespaces: for root, and for others in a user namespace.
const ROOT_WRAPPERS: [Words; 2] =
    [&["unshare", "--net", "--mount"], &["unshare", "--user", "--map-root-user", "--net", "--mount"]];
/// Does what tests need the privileges for. Some systems allow user namespaces, but no privileges in them.
const ROOT_CHECK: Words =
    &["sh", "-c", "ip link set lo up && mount --bind /etc /etc && unshare --net --pid --fork --kill-child true"];

/// Wrappers that run a command as an unnamed user without privileges.
const OTHER_USER_WRAPPERS: [Words; 2] = [
    &["setpriv", "--reuid=64242", "--regid=64242", "--clear-groups"],
    &["unshare", "--user", "--map-user=64242", "--map-group=64242"],
];

/// Lets a test continue as root, in its own network and mount namespaces.
///
/// Otherwise the result is `None`, and the test must return: either this function ran the test as root in another process,
/// successfully, or the test is left out.
pub fn root() -> Option<()> {
    if env::var_os(PRIVILEGED).is_some() {
        return Some(());
    }
    let Ok(wrapper) = root_wrapper() else { return leave_out("root, or user namespaces") };
    let ran = command(wrapper)
        .args(["sh", "-c", r#"ip link set lo up && exec "$0" "$@""#])
        .arg(env::current_exe().expect("the path of the executable is known"))
        .args([&own_test(), "--exact", "--nocapture"])
        .env(PRIVILEGED, "1")
        .output()
        .expect("unshare is installed");
    let output = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && output.contains("1 passed"), "as root, in a process of its own:\n{output}");
    None
}

/// A wrapper that runs a command as an unnamed user without privileges. If it is `None`, the test is left out and must
/// return.
pub fn another_user() -> Option<Words> {
    let Ok(wrapper) = other_user_wrapper() else { return leave_out("another user, or user namespaces") };
    Some(wrapper)
}

/// Why tests that need root are left out, if they are.
pub fn why_not_root() -> Option<&'static str> {
    root_wrapper().err()
}

/// Why tests that need another user are left out, if they are.
pub fn why_no_other_user() -> Option<&'static str> {
    other_user_wrapper().err()
}

fn root_wrapper() -> Result<Words, &'static str> {
    static WRAPPER: OnceLock<Result<Words, String>> = OnceLock::new();
    WRAPPER.get_or_init(|| first_working(ROOT_WRAPPERS, ROOT_CHECK)).as_ref().copied().map_err(String::as_str)
}

fn other_user_wrapper() -> Result<Words, &'static str> {
    static WRAPPER: OnceLock<Result<Words, String>> = OnceLock::new();
    WRAPPER.get_or_init(|| first_working(OTHER_USER_WRAPPERS, &["true"])).as_ref().copied().map_err(String::as_str)
}

/// The first wrapper with which the command succeeds, or why the last one fails.
fn first_working(wrappers: [Words; 2], rest: Words) -> Result<Words, String> {
    let mut reason = String::new();
    for wrapper in wrappers {
        match command(wrapper).args(rest).output() {
            Ok(ran) if ran.status.success() => return Ok(wrapper),
            Ok(ran) => {
                let words = String::from_utf8_lossy(&ran.stderr);
                reason = format!("`{}` fails ({})", wrapper.join(" "), words.lines().next().unwrap_or_default());
            }
            Err(error) => reason = format!("`{}` cannot be started ({error})", wrapper[0]),
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
    print_to_stderr(&format!("left out: {}: needs {need}", own_test()));
    None
}

/// The name of the test that this thread runs.
fn own_test() -> String {
    thread::current().name().expect("the test harness names threads after tests").to_owned()
}

/// Prints a line on standard error. The test harness would capture `eprintln!`.
pub fn print_to_stderr(line: &str) {
    // A closed standard error must not fail a test.
    let _ = stderr().write_all(format!("{line}\n").as_bytes());
}
