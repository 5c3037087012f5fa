//! The reader of the results: whether there is one, as far as that shows without writing.

#[cfg(not(unix))]
use std::future::pending;

/// Waits until nobody can read results any more: the other end of the pipe or the socket is closed, or the terminal is gone.
#[cfg(target_os = "linux")]
pub(crate) async fn reader_gone() {
    use std::{
        future::pending,
        io::{self, ErrorKind::PermissionDenied},
        os::fd::AsFd,
    };

    use tokio::{io::Interest, net::unix::pipe::Sender};

    // tokio calls every stream a pipe that is only written to. Nothing is written here, so the stream need not be a pipe, and
    // stays as it is for whoever shares it: in blocking mode.
    let events = io::stdout().as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    match events {
        // Of a stream that is watched for writing, epoll tells besides only its end (EPOLLHUP, EPOLLERR).
        Ok(stdout) => match stdout.ready(Interest::READABLE | Interest::ERROR).await {
            Ok(_) => {}
            Err(_) => polled().await,
        },
        // EPERM: a file, or a device without events, has no reader that can go.
        Err(error) if error.kind() == PermissionDenied => pending().await,
        Err(_) => polled().await,
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) use self::polled as reader_gone;

/// The same without an event from the system.
#[cfg(unix)]
pub(crate) async fn polled() {
    use std::{io, time::Duration};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use tokio::time::sleep;

    const INTERVAL: Duration = Duration::from_secs(1);

    loop {
        let stdout = io::stdout();
        let mut stdout = [PollFd::new(&stdout, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let is_told = poll(&mut stdout, Some(&at_once)).is_ok();
        if is_told && stdout[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            return;
        }
        sleep(INTERVAL).await;
    }
}

/// The same on a system that does not tell.
#[cfg(not(unix))]
pub(crate) async fn reader_gone() {
    pending().await
}
