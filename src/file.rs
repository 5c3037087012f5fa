//! Reads the user's files within a deadline: a file may be a pipe, or on a network file system that does not answer.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    deadline::{Deadline, Unfinished},
    outcome::{Failure, Kind},
    text::{excerpt, io_cause, leftover},
};

/// The largest file that is read, in bytes. Bundles of certificates are much smaller; `/dev/zero` is endless.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Names a flag and its file, for messages.
pub(crate) fn name(flag: &str, path: &Path) -> String {
    format!("{flag}={}", excerpt(&path.display().to_string()))
}

/// Reads files, and keeps the name of the current one for a message about the deadline.
#[derive(Debug)]
pub(crate) struct Reader {
    current: Arc<Mutex<String>>,
    /// Whether the reader has its own thread and so may wait for pipes and devices.
    may_block: bool,
}

/// Runs `work` with a reader on a thread. It does not wait for the thread after the deadline.
///
/// # Errors
/// Those of `work`, and `file-unreadable` for the file that took too long.
pub(crate) async fn read_by<T: Send + 'static>(
    deadline: Deadline,
    work: impl Fn(&Reader) -> Result<T, Failure> + Clone + Send + 'static,
) -> Result<T, Failure> {
    let current = Arc::new(Mutex::new(String::new()));
    let on_thread = {
        let (work, reader) = (work.clone(), Reader { current: Arc::clone(&current), may_block: true });
        move || work(&reader)
    };
    match deadline.bound_blocking(on_thread).await {
        Ok(done) => done,
        // A system without a free thread can still read regular files.
        Err(Unfinished::NoThread) => work(&Reader { current, may_block: false }),
        Err(Unfinished::Elapsed) => {
            let current = current.lock().unwrap_or_else(PoisonError::into_inner);
            let message = format!("cannot read {current}: it did not end within {}", deadline.limit());
            Err(Failure::new(Kind::FileUnreadable, message).hint("is it a pipe that nobody writes to?"))
        }
    }
}

impl Reader {
    /// Sets the name of the next file, if `work` reads it without this reader.
    pub(crate) fn set_current(&self, what: String) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = what;
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
        let too_large = || unreadable("it is larger than 16 MiB").hint("is it the right file?");
        let mut content = Vec::new();
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() && metadata.len() > MAX_FILE => return Err(too_large()),
            // One byte more than the file, so that reading to its end does not grow the buffer.
            Ok(metadata) if metadata.is_file() => {
                content.reserve_exact(usize::try_from(metadata.len()).unwrap_or_default() + 1);
            }
            Ok(metadata) if !metadata.is_dir() && !self.may_block => {
                return Err(unreadable("it is a pipe or a device, and there is no thread to wait for it"));
            }
            _ => {}
        }
        let read = fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content));
        match read {
            Ok(_) if content.len() as u64 > MAX_FILE => Err(too_large()),
            Ok(_) => Ok(content),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(unreadable("it is a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Failure { hint: path.to_str().and_then(leftover), ..unreadable(&io_cause(&error)) })
            }
            Err(error) => Err(unreadable(&io_cause(&error))),
        }
    }
}
