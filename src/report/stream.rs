//! Standard output and standard error. This is the only file that writes to them, and no write waits: a stream takes what it has
//! room for. Their files are shared with other processes, so this never makes them non-blocking.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use tokio::time::sleep;

/// How often to look whether a stream takes more, where the system does not tell.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Where a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    /// Standard output: results.
    Out,
    /// Standard error: everything else.
    Err,
}

impl Stream {
    pub(super) const ALL: [Self; 2] = [Self::Out, Self::Err];

    /// Whether it is a terminal.
    pub(super) fn is_terminal(self) -> bool {
        match self {
            Self::Out => io::stdout().is_terminal(),
            Self::Err => io::stderr().is_terminal(),
        }
    }
}

/// Why nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotWritten {
    /// The stream has no room now.
    Full,
    /// The reader closed the stream.
    ReaderGone,
    /// Writing failed in another way.
    Failed,
}

#[cfg(not(unix))]
pub(super) use self::other::{Output, wait_for_room};
#[cfg(unix)]
pub(super) use self::unix::{Output, wait_for_room};

#[cfg(unix)]
mod unix {
    use std::{cell::OnceCell, fs::File, io::IsTerminal, os::fd::BorrowedFd, time::Duration};

    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        fs::{FileType, fstat},
        io::{Errno, retry_on_intr, write},
        stdio::{stderr, stdout},
    };
    use tokio::net::unix::pipe::Sender;

    use crate::report::stream::{NotWritten, RETRY_INTERVAL, Stream, sleep};

    /// A pipe or socket that has any room takes this much at once: `PIPE_BUF`, which is at least 512 bytes.
    const PIPE_ROOM: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };
    /// What a terminal that has any room almost surely takes at once.
    const TERMINAL_ROOM: usize = 64;

    /// A stream, and how to write to it.
    #[derive(Debug)]
    pub(in crate::report) struct Output {
        stream: Stream,
        /// Found out when the first write does not succeed as most do.
        way: OnceCell<Way>,
    }

    /// How to write without waiting.
    #[derive(Debug)]
    enum Way {
        /// The system is asked not to wait. This works for pipes and sockets.
        NoWait,
        /// The terminal is opened a second time, non-blocking.
        Reopened(File),
        /// Where there is room, write no more than is sure to fit.
        InPieces(usize),
        /// Writes never wait, as to a file.
        Plain,
    }

    impl Output {
        pub(in crate::report) const fn new(stream: Stream) -> Self {
            Self { stream, way: OnceCell::new() }
        }

        fn fd(&self) -> BorrowedFd<'static> {
            match self.stream {
                Stream::Out => stdout(),
                Stream::Err => stderr(),
            }
        }

        /// Writes as much as the stream takes at once: how many bytes.
        pub(in crate::report) fn write(&self, bytes: &[u8]) -> Result<usize, NotWritten> {
            let written = retry_on_intr(|| match self.way.get() {
                None => write_no_wait(self.fd(), bytes).or_else(|error| match error {
                    Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM => {
                        self.way.get_or_init(|| Way::after(error, self.fd())).write(self.fd(), bytes)
                    }
                    error => Err(error),
                }),
                Some(way) => way.write(self.fd(), bytes),
            });
            match written {
                Ok(0) => Err(NotWritten::Failed),
                Ok(count) => Ok(count),
                Err(Errno::AGAIN) => Err(NotWritten::Full),
                Err(Errno::PIPE) => Err(NotWritten::ReaderGone),
                Err(_) => Err(NotWritten::Failed),
            }
        }

        /// Waits until the stream has room, or its reader is gone.
        pub(in crate::report) async fn has_room(&self) {
            // tokio calls every stream a pipe that is only written to. It registers a copy, and changes nothing of the stream.
            let events = self.fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
            let has_room = match events {
                Ok(events) => events.writable().await.is_ok(),
                Err(_) => false,
            };
            if !has_room {
                sleep(RETRY_INTERVAL).await;
            }
        }
    }

    impl Way {
        /// How to write after the system has answered so to [`write_no_wait`].
        fn after(error: Errno, fd: BorrowedFd<'_>) -> Self {
            match fstat(fd).map(|status| FileType::from_raw_mode(status.st_mode)) {
                Ok(FileType::Fifo | FileType::Socket) if error == Errno::AGAIN => Self::NoWait,
                Ok(FileType::Fifo | FileType::Socket) => Self::InPieces(PIPE_ROOM),
                Ok(FileType::CharacterDevice) if fd.is_terminal() => {
                    reopen(fd).map_or(Self::InPieces(TERMINAL_ROOM), Self::Reopened)
                }
                _ => Self::Plain,
            }
        }

        fn write(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
            match self {
                Self::NoWait => write_no_wait(fd, bytes),
                Self::Reopened(file) => write(file, bytes),
                Self::InPieces(room) => match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&NO_TIME))
                {
                    Ok(0) => Err(Errno::AGAIN),
                    Ok(_) => write(fd, &bytes[..bytes.len().min(*room)]),
                    Err(error) => Err(error),
                },
                Self::Plain => write(fd, bytes),
            }
        }
    }

    const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

    /// Writes as much as there is room for, if the system and the file support that.
    #[cfg(target_os = "linux")]
    fn write_no_wait(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
        use rustix::io::{ReadWriteFlags, pwritev2};

        /// Not an offset, but the place where a plain write goes.
        const HERE: u64 = u64::MAX;

        pwritev2(fd, &[std::io::IoSlice::new(bytes)], HERE, ReadWriteFlags::NOWAIT)
    }

    #[cfg(not(target_os = "linux"))]
    fn write_no_wait(_: BorrowedFd<'_>, _: &[u8]) -> Result<usize, Errno> {
        Err(Errno::NOSYS)
    }

    /// Opens a terminal a second time, so that nobody else's writes become non-blocking. `/proc`, or the right to open the
    /// terminal, may be missing.
    #[cfg(target_os = "linux")]
    fn reopen(fd: BorrowedFd<'_>) -> Option<File> {
        use std::os::fd::AsRawFd;

        use rustix::fs::{Mode, OFlags, open};

        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags, Mode::empty()).ok().map(File::from)
    }

    #[cfg(not(target_os = "linux"))]
    fn reopen(_: BorrowedFd<'_>) -> Option<File> {
        None
    }

    /// Waits until one of these streams has room, `patience` is over, or a signal arrives.
    pub(in crate::report) fn wait_for_room(streams: impl Iterator<Item = Stream>, patience: Duration) {
        let fds = streams.map(|stream| PollFd::from_borrowed_fd(Output::new(stream).fd(), PollFlags::OUT));
        let patience = Timespec { tv_sec: patience.as_secs().cast_signed(), tv_nsec: patience.subsec_nanos().into() };
        // After an error, the next write shows what is wrong.
        let _ = poll(&mut fds.collect::<Vec<_>>(), Some(&patience));
    }
}

/// Without the means to ask whether a write would wait.
#[cfg(not(unix))]
mod other {
    use std::{
        io::{self, ErrorKind, Write},
        time::Duration,
    };

    use crate::report::stream::{NotWritten, RETRY_INTERVAL, Stream, sleep};

    /// A stream.
    #[derive(Debug)]
    pub(in crate::report) struct Output(Stream);

    impl Output {
        pub(in crate::report) const fn new(stream: Stream) -> Self {
            Self(stream)
        }

        /// Writes everything, however long that takes: how many bytes.
        pub(in crate::report) fn write(&self, bytes: &[u8]) -> Result<usize, NotWritten> {
            let written = match self.0 {
                Stream::Out => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
                Stream::Err => io::stderr().write_all(bytes),
            };
            written.map(|()| bytes.len()).map_err(|error| match error.kind() {
                ErrorKind::BrokenPipe => NotWritten::ReaderGone,
                _ => NotWritten::Failed,
            })
        }

        pub(in crate::report) async fn has_room(&self) {
            sleep(RETRY_INTERVAL).await;
        }
    }

    pub(in crate::report) fn wait_for_room(_: impl Iterator<Item = Stream>, _: Duration) {}
}
