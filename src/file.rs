//! Files that the user named, read under a deadline: any of them may be a pipe, or lie on a network file system that
//! does not answer.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    deadline::{Deadline, Unfinished},
    outcome::{Failure, Kind},
    text::{plain, shown},
};

/// No bundle of certificates comes near this; `/dev/zero` does.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// A flag and its file, for messages.
pub(crate) fn name(flag: &str, path: &Path) -> String {
    format!("{flag}={}", shown(&path.display().to_string()))
}

/// Reads files, and knows which one it is at.
#[derive(Debug)]
pub(crate) struct Reader {
    current: Arc<Mutex<String>>,
    /// Whether it has a thread of its own, to wait for pipes and devices.
    may_block: bool,
}

/// Does `work` with a reader, on a thread that nobody waits for after the deadline.
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
        // A system without threads to spare can still read what does not block.
        Err(Unfinished::NoThread(_)) => work(&Reader { current, may_block: false }),
        Err(Unfinished::Elapsed) => {
            let current = current.lock().unwrap_or_else(PoisonError::into_inner);
            let message = format!("cannot read {current}: it did not end within {}", deadline.limit());
            Err(Failure::new(Kind::FileUnreadable, message).hint("is it a pipe that nobody writes to?"))
        }
    }
}

impl Reader {
    /// Says what is read next, by other means than this reader's.
    pub(crate) fn begin(&self, what: String) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Reads the file that `flag` names.
    ///
    /// # Errors
    /// `file-unreadable`: it is missing, a directory, or too large.
    pub(crate) fn read(&self, flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
        let name = name(flag, path);
        self.begin(name.clone());
        let unreadable = |cause: &str| Failure::new(Kind::FileUnreadable, format!("cannot read {name}: {cause}"));
        let too_large = || unreadable("it is larger than 16 MiB").hint("is it the right file?");
        let mut content = Vec::new();
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() && metadata.len() > MAX_FILE => return Err(too_large()),
            // One more than it has, so that the end is seen without growing.
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
            Err(error) => Err(unreadable(&plain(&error))),
        }
    }
}
