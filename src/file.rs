//! Reads the user's files within a deadline: a file may be a pipe, or on a network file system that does not answer.

use std::{
    any::Any,
    fs,
    io::{self, Read},
    path::Path,
    sync::{Mutex, PoisonError},
};

use tokio::sync::{self, oneshot::Receiver};

use crate::{
    deadline::{Deadline, blocking},
    outcome::{Failure, Kind},
    text::{excerpt, io_cause, leftover},
};

/// The largest file that is read, in bytes. A system's bundle of certificates has a quarter of it; `/dev/zero` is endless.
pub(crate) const MAX_FILE: u64 = 1024 * 1024;
/// The same, for messages.
pub(crate) const TOO_LARGE: &str = "it is larger than 1 MiB";

/// The thread that reads files, if there is one. A file may block it for ever, and then there must not be more and more of them.
/// Its result is of the type of its `work`.
static THREAD: sync::Mutex<Option<Receiver<Box<dyn Any + Send>>>> = sync::Mutex::const_new(None);
/// The file that it reads, for a message about the deadline.
static CURRENT: Mutex<String> = Mutex::new(String::new());

/// Names a flag and its file, for messages.
pub(crate) fn name(flag: &str, path: &Path) -> String {
    format!("{flag}={}", excerpt(&path.display().to_string()))
}

/// Reads files, and keeps the name of the current one for a message about the deadline.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Whether the reader has its own thread and so may wait for pipes and devices.
    may_block: bool,
}

/// Runs `work` with a reader on a thread. It does not wait for the thread after the deadline. The next call then waits for that
/// thread, and takes its result if that is of the same type.
///
/// # Errors
/// Those of `work`, and `file-unreadable` for the file that took too long.
pub(crate) async fn read_by<T: Send + 'static>(
    deadline: Deadline,
    work: impl Fn(&Reader) -> Result<T, Failure> + Clone + Send + 'static,
) -> Result<T, Failure> {
    let reading = async {
        let mut thread = THREAD.lock().await;
        loop {
            if let Some(result) = thread.as_mut() {
                let result = result.await;
                *thread = None;
                if let Ok(result) = result
                    && let Ok(done) = result.downcast::<Result<T, Failure>>()
                {
                    return *done;
                }
            }
            let on_thread = work.clone();
            match blocking(move || -> Box<dyn Any + Send> { Box::new(on_thread(&Reader { may_block: true })) }) {
                Ok(result) => *thread = Some(result),
                // A system without a free thread can still read regular files.
                Err(_) => return work(&Reader { may_block: false }),
            }
        }
    };
    if let Ok(done) = deadline.bound(reading).await {
        return done;
    }
    let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    let message = format!("cannot read {current}: it did not end within {}", deadline.limit());
    Err(Failure::new(Kind::FileUnreadable, message).hint("is it a pipe that nobody writes to?"))
}

impl Reader {
    /// Sets the name of the next file, if `work` reads it without this reader.
    #[expect(clippy::unused_self, reason = "only who reads sets it")]
    pub(crate) fn set_current(&self, what: String) {
        *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Reads the file that `flag` names.
    ///
    /// # Errors
    /// `file-unreadable`: the file is missing, a directory, or too large.
    pub(crate) fn read(&self, flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
        self.read_as(&name(flag, path), path)
    }

    /// Reads a file that messages call `name`.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    pub(crate) fn read_as(&self, name: &str, path: &Path) -> Result<Vec<u8>, Failure> {
        self.set_current(name.to_owned());
        let unreadable = |cause: &str| Failure::new(Kind::FileUnreadable, format!("cannot read {name}: {cause}"));
        let too_large = || unreadable(TOO_LARGE).hint("is it the right file?");
        let metadata = fs::metadata(path).ok();
        match &metadata {
            Some(metadata) if metadata.is_file() && metadata.len() > MAX_FILE => return Err(too_large()),
            Some(metadata) if !metadata.is_file() && !metadata.is_dir() && !self.may_block => {
                return Err(unreadable("it is a pipe or a device, and there is no thread to wait for it"));
            }
            _ => {}
        }
        match content(path, metadata.as_ref()) {
            Ok(content) if content.len() as u64 > MAX_FILE => Err(too_large()),
            Ok(content) => Ok(content),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(unreadable("it is a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let flag = name.split('=').next().unwrap_or_default();
                let hint = path.to_str().and_then(|path| leftover(flag, path));
                Err(Failure { hint, ..unreadable(&io_cause(&error)) })
            }
            Err(error) => Err(unreadable(&io_cause(&error))),
        }
    }
}

/// The content of a file, at most one byte more than the largest file has.
pub(crate) fn content(path: &Path, metadata: Option<&fs::Metadata>) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    if let Some(metadata) = metadata.filter(|metadata| metadata.is_file()) {
        // One byte more than the file, so that reading to its end does not grow the buffer.
        content.reserve_exact(usize::try_from(metadata.len().min(MAX_FILE)).unwrap_or_default() + 1);
    }
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut content)?;
    Ok(content)
}
