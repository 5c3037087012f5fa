//! What some tests need and not every machine grants: namespaces, mounts, low ports, another user, a program.
//!
//! Without it, a test is left out and prints a line on standard error. `without_needs.rs` lists all these tests and the
//! reason.

use std::{
    env,
    io::{Write, stderr},
    path::Path,
    process::Command,
    sync::OnceLock,
    thread,
};

use super::pki::Files;

/// Set for a test that runs with root's privileges.
const PRIVILEGED: &str = "BLACKBOX_PRIVILEGED";
/// `ip` is not in the `PATH` of ordinary users.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// It gives a program a terminal.
pub const SCRIPT: &str = "/usr/bin/script";

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

/// Lets a test go on where `ssh-keygen` makes keys. Otherwise it must return.
pub fn ssh_keygen() -> Option<()> {
    trial_of_ssh_keygen().map_or_else(|_| leave_out("keys of ssh-keygen"), Some)
}

/// Lets a test go on where util-linux's `script` is installed. Otherwise it must return.
pub fn script() -> Option<()> {
    look_for_script().map_or_else(|_| leave_out(SCRIPT), Some)
}

/// Why the tests that call a function of this name are left out, if they are.
pub fn reasons() -> [(&'static str, Option<&'static str>); 4] {
    [
        ("root", root_wrapper().err()),
        ("another_user", other_user_wrapper().err()),
        ("ssh_keygen", trial_of_ssh_keygen().err()),
        ("script", look_for_script().err()),
    ]
}

fn root_wrapper() -> Result<Words, &'static str> {
    static WRAPPER: OnceLock<Result<Words, String>> = OnceLock::new();
    WRAPPER.get_or_init(|| first_working(ROOT_WRAPPERS, ROOT_CHECK)).as_ref().copied().map_err(String::as_str)
}

fn other_user_wrapper() -> Result<Words, &'static str> {
    static WRAPPER: OnceLock<Result<Words, String>> = OnceLock::new();
    WRAPPER.get_or_init(|| first_working(OTHER_USER_WRAPPERS, &["true"])).as_ref().copied().map_err(String::as_str)
}

/// It is not installed everywhere, and makes no keys for a user who is not in /etc/passwd.
fn trial_of_ssh_keygen() -> Result<(), &'static str> {
    static TRIAL: OnceLock<Result<(), String>> = OnceLock::new();
    let trial = || {
        let files = Files::new();
        succeeds(Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(files.path("key")))
    };
    TRIAL.get_or_init(trial).as_ref().copied().map_err(String::as_str)
}

fn look_for_script() -> Result<(), &'static str> {
    if Path::new(SCRIPT).exists() { Ok(()) } else { Err("/usr/bin/script is not installed") }
}

/// The first wrapper with which the command succeeds, or why the last one fails.
fn first_working(wrappers: [Words; 2], rest: Words) -> Result<Words, String> {
    let mut last = Err(String::new());
    for wrapper in wrappers {
        last = succeeds(command(wrapper).args(rest)).map(|()| wrapper);
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Whether a command does what tests need, or why it does not.
fn succeeds(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(ran) if ran.status.success() => Ok(()),
        Ok(ran) => {
            let words = String::from_utf8_lossy(&ran.stderr);
            Err(format!("`{program}` fails ({})", words.lines().next().unwrap_or_default()))
        }
        Err(error) => Err(format!("`{program}` cannot be started ({error})")),
    }
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
