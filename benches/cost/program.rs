//! What is measured: this probe, the floor, and other probes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A program, and how to have it probe an address.
#[derive(Clone)]
pub struct Program {
    pub name: String,
    /// Of the file, in KiB.
    pub size: u32,
    /// The executable and its arguments; `{addr}` stands for the address.
    words: Vec<String>,
}

impl Program {
    pub fn new(name: &str, executable: &Path, argument: &str) -> Result<Self> {
        Self::of(name, vec![executable.display().to_string(), argument.to_owned()])
    }

    /// Reads `path/executable`, `path/executable -addr={addr}`, or either after a name, as in `the Go tool: path/executable`.
    /// Without a name it is named by the end of the path.
    pub fn parse(line: &str) -> Result<Self> {
        let (name, command) = line.split_once(": ").map_or((None, line), |(name, command)| (Some(name), command));
        let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if words.len() == 1 {
            words.push("-addr={addr}".to_owned());
        }
        ensure!(words.iter().skip(1).any(|word| word.contains("{addr}")), "no argument has {{addr}}");
        let mut end: Vec<&str> = words[0].rsplit('/').take(2).collect();
        end.reverse();
        let name = name.map_or_else(|| end.join("/"), str::to_owned);
        Self::of(&name, words)
    }

    fn of(name: &str, mut words: Vec<String>) -> Result<Self> {
        let executable = fs::canonicalize(&words[0]).with_context(|| words[0].clone())?;
        let size = u32::try_from(fs::metadata(&executable)?.len().div_ceil(1024))?;
        words[0] = executable.display().to_string();
        Ok(Self { name: name.to_owned(), size, words })
    }

    /// The same program, as a copy with this path.
    ///
    /// How a file was written shows in the cost of running it: fresh from the linker, the probe took a fifth more CPU
    /// time and ten more page faults than its own copy, probably for the way its pages lie in the page cache. Once
    /// copied, all programs are alike.
    pub fn copied_to(&self, copy: &Path) -> Result<Self> {
        fs::copy(&self.words[0], copy).with_context(|| format!("copy {} to {}", self.words[0], copy.display()))?;
        let mut program = self.clone();
        program.words[0] = copy.display().to_string();
        Ok(program)
    }

    pub fn path(&self) -> &Path {
        Path::new(&self.words[0])
    }

    pub fn command(&self, addr: &str, flags: &[String]) -> Vec<String> {
        let words = self.words.iter().map(|word| word.replace("{addr}", addr));
        words.chain(flags.iter().cloned()).collect()
    }
}
