//! Runs the probe as a process, with an empty environment.

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

/// Far above every deadline in the tests. A probe that runs longer hangs.
const HANG_TIMEOUT: Duration = Duration::from_secs(30);

/// How many characters of a command line a failed test shows.
const MAX_SHOWN: usize = 1000;

/// Names another binary to test, such as the release.
pub const PROBE_BINARY: &str = "PROBE_BINARY";

/// The binary under test: the one that `PROBE_BINARY` names, or the one that cargo built for the tests.
pub static BINARY: LazyLock<PathBuf> = LazyLock::new(|| match env::var_os(PROBE_BINARY) {
    // A relative path would change its meaning with the working directory of a probe.
    Some(path) => fs::canonicalize(&path).unwrap_or_else(|error| panic!("{PROBE_BINARY}={}: {error}", path.display())),
    None => env!("CARGO_BIN_EXE_grpc_health_probe").into(),
});

/// The address space that is enough for the probe, in KiB: 16 MiB. The code of a debug build takes some more than that of a
/// release.
pub fn address_space() -> usize {
    if env::var_os(PROBE_BINARY).is_some() { 16 * 1024 } else { 24 * 1024 }
}

/// A command line that runs the probe.
pub struct Probe {
    command: Command,
}

impl Probe {
    /// The probe with `arguments` and an empty environment.
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

    /// The probe as `user`, which is `needs::another_user()`. It runs a copy in `directory`, as the user may have no
    /// access to the original.
    pub fn unprivileged<A: AsRef<OsStr>>(
        user: &[&str],
        directory: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let copy = directory.join("probe");
        // Another process copies: Linux cannot run a file while this process, or a fork of it, has it open for writing.
        let copied = Command::new("cp").arg(&*BINARY).arg(&copy).status();
        assert!(copied.expect("cp is installed").success());
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("the directory is writable");
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

    /// Redirects standard output. The result then has none.
    pub fn stdout(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stdout(to);
        self
    }

    /// Redirects standard error. The result then has none.
    pub fn stderr(mut self, to: impl Into<Stdio>) -> Self {
        self.command.stderr(to);
        self
    }

    pub fn start(mut self) -> Running {
        // Some tests give long arguments.
        let shown: String = format!("{:?}", self.command).chars().take(MAX_SHOWN).collect();
        let child = self.command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        Running { shown, child }
    }

    /// Runs the probe until it ends.
    pub fn run(self) -> RunResult {
        self.start().finish()
    }
}

/// A running probe.
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
        assert!(status.expect("kill is installed").success());
    }

    /// The lines of standard output and of standard error as they arrive. `finish` then returns none of them.
    pub fn follow(&mut self) -> (Lines, Lines) {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        (
            Lines::of(stdout.expect("the output is followed once")),
            Lines::of(stderr.expect("the output is followed once")),
        )
    }

    /// The lines of standard output as they arrive. `finish` then returns none of them.
    pub fn follow_stdout(&mut self) -> Lines {
        Lines::of(self.child.stdout.take().expect("the output is followed once"))
    }

    /// The lines of standard error as they arrive. `finish` then returns none of them.
    pub fn follow_stderr(&mut self) -> Lines {
        Lines::of(self.child.stderr.take().expect("the output is followed once"))
    }

    /// Closes the reading end of its standard output.
    pub fn stop_reading(&mut self) {
        drop(self.child.stdout.take());
    }

    /// Waits until it ends, and kills it if it hangs.
    pub fn finish(mut self) -> RunResult {
        let (sender, receiver) = mpsc::channel();
        let stdout = read_all(self.child.stdout.take());
        let stderr = read_all(self.child.stderr.take());
        let id = self.child.id().to_string();
        thread::spawn(move || {
            if receiver.recv_timeout(HANG_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        let status = self.child.wait().expect("the probe is a child process");
        let _ = sender.send(());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        let stdout_as_written = text(stdout.join().expect("the reader ends"));
        let stderr_as_written = text(stderr.join().expect("the reader ends"));
        RunResult {
            command: self.shown,
            // None after a signal, such as the one of the time limit.
            code: status.code(),
            stdout: without_neighbours(&stdout_as_written),
            stderr: without_neighbours(&stderr_as_written),
            stdout_as_written,
            stderr_as_written,
        }
    }
}

/// A text without the ports that other tests listen on at this moment, which the hint at a refused connection names.
fn without_neighbours(text: &str) -> String {
    const START: &str = "nothing listens on port ";
    const BETWEEN: &str = " here, but on ";
    const END: &str = "; is the server up";
    let mut rest = text;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once(START) {
        out += before;
        match after.split_once(END) {
            Some((port, after)) if port.contains(BETWEEN) && !port.contains('\n') => {
                out += "nothing listens there";
                out += END;
                rest = after;
            }
            _ => {
                out += START;
                rest = after;
            }
        }
    }
    out + rest
}

/// Reads a stream on a thread. A redirected stream is empty.
fn read_all(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut bytes).expect("a pipe can be read");
        }
        bytes
    })
}

/// Lines as they arrive.
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
        self.0.recv_timeout(HANG_TIMEOUT).unwrap_or_else(|_| panic!("no line arrives"))
    }

    /// The remaining lines, until the stream ends.
    pub fn rest(&self) -> Vec<String> {
        self.0.iter().collect()
    }
}

/// The exit code and the output of a run.
#[derive(Debug, Clone)]
pub struct RunResult {
    command: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Both with the ports that are listened on at this moment.
    pub stdout_as_written: String,
    pub stderr_as_written: String,
}

impl RunResult {
    /// Compares exit code and output exactly.
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

    /// Expects a failure with this exit code and this first line. It ignores the hint.
    #[track_caller]
    pub fn expect_error(&self, code: i32, first_line: &str) -> &Self {
        let got = (self.code, self.stdout.as_str(), self.stderr.lines().next().unwrap_or_default());
        assert!(got == (Some(code), "", first_line), "{self}expected exit code {code} and {first_line}\n");
        self
    }

    /// The only line of output, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        let lines: Vec<&str> = self.stdout.lines().collect();
        match lines.as_slice() {
            [line] => serde_json::from_str(line).unwrap_or_else(|error| panic!("{self}not JSON: {error}")),
            _ => panic!("{self}not one line of JSON"),
        }
    }

    /// Expects a failure in JSON with this kind and phase.
    #[track_caller]
    pub fn expect_kind(&self, code: i32, phase: &str, kind: &str) -> &Self {
        let line = self.json();
        let got = (self.code, &line["healthy"], &line["error"]["phase"], &line["error"]["kind"]);
        let wanted = (Some(code), &Value::from(false), &Value::from(phase), &Value::from(kind));
        assert!(got == wanted, "{self}expected exit code {code}, {phase}, {kind}\n");
        self
    }
}

impl fmt::Display for RunResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n$ {}", self.command)?;
        writeln!(f, "exit code: {:?}\n--- stdout\n{}--- stderr\n{}---", self.code, self.stdout, self.stderr)
    }
}
