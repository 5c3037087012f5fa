//! The probe as a process, in an environment of its own.

use std::{
    env,
    ffi::OsStr,
    fmt, fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use serde_json::Value;

/// Far above every deadline in the tests: what takes longer hangs.
const HANGS: Duration = Duration::from_secs(30);

/// How much of a command line is shown where a test fails.
const SHOWN: usize = 1000;

/// Names another binary to test, such as the release.
pub const PROBE_BINARY: &str = "PROBE_BINARY";

/// The binary under test: the one that `PROBE_BINARY` names, or the one that cargo built for the tests.
pub static BINARY: LazyLock<PathBuf> = LazyLock::new(|| match env::var_os(PROBE_BINARY) {
    // A relative path would change its meaning with the working directory of a probe.
    Some(path) => fs::canonicalize(&path).unwrap_or_else(|error| panic!("{PROBE_BINARY}={}: {error}", path.display())),
    None => env!("CARGO_BIN_EXE_grpc_health_probe").into(),
});

/// A command line that is being written.
pub struct Probe {
    command: Command,
}

impl Probe {
    /// The probe with `arguments`, and no environment.
    pub fn new<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(&*BINARY);
        command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// The same through a wrapper, such as `sh -c 'exec "$0" "$@"'`.
    pub fn wrapped<A: AsRef<OsStr>>(wrapper: &[&str], arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(&*BINARY).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// The probe as `user`, who is `privileges::another_user()`. The user gets a copy in `directory`, as the original may
    /// lie where only its owner can go.
    pub fn unprivileged<A: AsRef<OsStr>>(
        user: &[&str],
        directory: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let copy = directory.join("probe");
        // By another process: a file that ours has open for writing, or a fork of ours, cannot be run.
        let copied = Command::new("cp").arg(&*BINARY).arg(&copy).status();
        assert!(copied.expect("cp is there").success());
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
        let mut command = Command::new(user[0]);
        command.args(&user[1..]).arg(copy).args(arguments).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Standard output to somewhere else; the run then shows none.
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stdout(to);
        self
    }

    /// Standard error to somewhere else; the run then shows none.
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stderr(to);
        self
    }

    pub fn start(mut self) -> Running {
        // Some tests give long arguments, which nobody wants to see in full.
        let shown: String = format!("{:?}", self.command).chars().take(SHOWN).collect();
        let child = self.command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        Running { shown, child }
    }

    /// Runs the probe to its end.
    pub fn run(self) -> Ran {
        self.start().finish()
    }
}

/// A probe that runs.
pub struct Running {
    shown: String,
    child: Child,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill is there").success());
    }

    /// What it prints on standard output and on standard error, line by line, as it comes. `finish` has none of it then.
    pub fn follow(&mut self) -> (Lines, Lines) {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        (Lines::of(stdout.expect("nobody has taken it")), Lines::of(stderr.expect("nobody has taken it")))
    }

    /// What it prints on standard output, line by line, as it comes. `finish` has none of it then.
    pub fn follow_stdout(&mut self) -> Lines {
        Lines::of(self.child.stdout.take().expect("nobody has taken it"))
    }

    /// Closes our end of its standard output.
    pub fn stop_reading(&mut self) {
        drop(self.child.stdout.take());
    }

    /// Waits for its end, and fails if it hangs.
    pub fn finish(mut self) -> Ran {
        let (sender, receiver) = mpsc::channel();
        let stdout = read_all(self.child.stdout.take());
        let stderr = read_all(self.child.stderr.take());
        let id = self.child.id().to_string();
        thread::spawn(move || {
            if receiver.recv_timeout(HANGS) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        let status = self.child.wait().expect("the child is ours");
        let _ = sender.send(());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Ran {
            command: self.shown,
            // A signal, that of the time limit included, is no exit code.
            code: status.code(),
            stdout: text(stdout.join().expect("the reader ends")),
            stderr: text(stderr.join().expect("the reader ends")),
        }
    }
}

/// Reads a stream on a thread; one that goes elsewhere has nothing.
fn read_all(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut bytes).expect("a pipe can be read");
        }
        bytes
    })
}

/// Lines, as they come.
pub struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// The next line.
    #[track_caller]
    pub fn next(&self) -> String {
        self.0.recv_timeout(HANGS).unwrap_or_else(|_| panic!("no line comes"))
    }

    /// What comes until the end.
    pub fn rest(&self) -> Vec<String> {
        self.0.iter().collect()
    }
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Ran {
    command: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Compares everything at once, to the letter.
    #[track_caller]
    pub fn expect(&self, code: i32, stdout: &str, stderr: &str) -> &Self {
        let got = (self.code, self.stdout.as_str(), self.stderr.as_str());
        assert!(got == (Some(code), stdout, stderr), "{self}expected exit code {code}\n{stdout}{stderr}");
        self
    }

    #[track_caller]
    pub fn expect_healthy(&self) -> &Self {
        self.expect(0, "status: SERVING\n", "")
    }

    /// Expects the failure with this exit code and this first line, without its hint.
    #[track_caller]
    pub fn expect_error(&self, code: i32, first_line: &str) -> &Self {
        let got = (self.code, self.stdout.as_str(), self.stderr.lines().next().unwrap_or_default());
        assert!(got == (Some(code), "", first_line), "{self}expected exit code {code} and {first_line}\n");
        self
    }

    /// The one line of JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let lines: Vec<&str> = self.stdout.lines().collect();
        match lines.as_slice() {
            [line] => serde_json::from_str(line).unwrap_or_else(|error| panic!("{self}not JSON: {error}")),
            _ => panic!("{self}not one line of JSON"),
        }
    }

    /// Expects a failure told in JSON, of this kind and phase.
    #[track_caller]
    pub fn expect_kind(&self, code: i32, phase: &str, kind: &str) -> &Self {
        let line = self.json();
        let got = (self.code, &line["healthy"], &line["error"]["phase"], &line["error"]["kind"]);
        let wanted = (Some(code), &Value::from(false), &Value::from(phase), &Value::from(kind));
        assert!(got == wanted, "{self}expected exit code {code}, {phase}, {kind}\n");
        self
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n$ {}", self.command)?;
        writeln!(f, "exit code: {:?}\n--- stdout\n{}--- stderr\n{}---", self.code, self.stdout, self.stderr)
    }
}
