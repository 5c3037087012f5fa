//! Terminals for the probe, and other outputs that a test stops reading.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Action, tcflow},
};

/// A pseudo-terminal. The test is the person in front of it.
pub struct Terminal {
    person: File,
    terminal: File,
}

impl Terminal {
    pub fn new() -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("there are ptys");
        grantpt(&person).and_then(|()| unlockpt(&person)).expect("the pty is ours");
        let name = ptsname(&person, Vec::new()).expect("a pty has a name").into_string().expect("the name is ASCII");
        let terminal = OpenOptions::new().read(true).write(true).open(name).expect("the pty is unlocked");
        Self { person: person.into(), terminal }
    }

    /// The terminal as an output of the probe.
    pub fn output(&self) -> Stdio {
        self.terminal.try_clone().expect("the limit on open files is not reached").into()
    }

    /// Stops its output, as Ctrl-S does.
    pub fn stop(&self) {
        tcflow(&self.terminal, Action::OOff).expect("it is a terminal");
    }

    /// Goes on after [`Terminal::stop`], as Ctrl-Q does.
    pub fn go_on(&self) {
        tcflow(&self.terminal, Action::OOn).expect("it is a terminal");
    }

    /// Whether the terminal is in blocking mode for everyone who shares it.
    pub fn is_blocking(&self) -> bool {
        is_blocking(&self.terminal)
    }

    /// What the terminal shows. It must not be stopped.
    pub fn screen(&self) -> Screen {
        Screen { person: self.person.try_clone().expect("the limit on open files is not reached"), seen: String::new() }
    }
}

/// What a terminal shows.
pub struct Screen {
    person: File,
    seen: String,
}

impl Screen {
    /// Reads until this text comes, and returns everything until its end that was not returned before.
    pub fn until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
            let comes = poll(&mut [PollFd::new(&self.person, PollFlags::IN)], Some(&limit));
            assert_eq!(comes, Ok(1), "{text:?} does not come after {:?}", self.seen);
            let mut bytes = [0; 4096];
            let count = self.person.read(&mut bytes).expect("the test has the terminal open");
            self.seen += std::str::from_utf8(&bytes[..count]).expect("what the probe writes here is ASCII");
        }
    }
}

fn is_blocking(output: &impl std::os::fd::AsFd) -> bool {
    !fcntl_getfl(output).expect("it is open").contains(OFlags::NONBLOCK)
}

/// An output that nobody reads, until the test does.
pub struct Unread {
    pub name: &'static str,
    output: OwnedFd,
    reader: Box<dyn Read + Send>,
    /// How many bytes are in it that are not of the probe.
    filled: usize,
    is_stopped: bool,
}

impl Unread {
    /// One of each kind.
    pub fn all() -> [Self; 4] {
        [Self::stopped_terminal(), Self::full_terminal(), Self::full_pipe(), Self::full_socket()]
    }

    pub fn stopped_terminal() -> Self {
        let Terminal { person, terminal } = Terminal::new();
        tcflow(&terminal, Action::OOff).expect("it is a terminal");
        Self {
            name: "stopped terminal",
            output: terminal.into(),
            reader: Box::new(person),
            filled: 0,
            is_stopped: true,
        }
    }

    pub fn full_terminal() -> Self {
        let Terminal { person, terminal } = Terminal::new();
        Self::full("full terminal", terminal.into(), person)
    }

    pub fn full_pipe() -> Self {
        let (reader, writer) = io::pipe().expect("a pipe can be created");
        Self::full("full pipe", writer.into(), reader)
    }

    pub fn full_socket() -> Self {
        let (reader, writer) = UnixStream::pair().expect("there are sockets");
        Self::full("full socket", writer.into(), reader)
    }

    fn full(name: &'static str, output: OwnedFd, reader: impl Read + Send + 'static) -> Self {
        let mut file = File::from(output);
        fcntl_setfl(&file, OFlags::NONBLOCK).expect("it is open");
        let mut filled = 0;
        loop {
            match file.write(b"x") {
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{name}: {error}"),
            }
        }
        fcntl_setfl(&file, OFlags::empty()).expect("it is open");
        Self { name, output: file.into(), reader: Box::new(reader), filled, is_stopped: false }
    }

    /// As an output of the probe.
    pub fn output(&self) -> Stdio {
        self.output.try_clone().expect("the limit on open files is not reached").into()
    }

    /// Whether it is in blocking mode for everyone who shares it.
    pub fn is_blocking(&self) -> bool {
        is_blocking(&self.output)
    }

    /// Begins to read: what the probe has written, and writes.
    pub fn read(mut self) -> impl Read + Send {
        if self.is_stopped {
            tcflow(&self.output, Action::OOn).expect("it is a terminal");
        }
        io::copy(&mut (&mut self.reader).take(self.filled as u64), &mut io::sink()).expect("it has been filled");
        self.reader
    }
}
