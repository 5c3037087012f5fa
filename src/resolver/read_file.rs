//! Reads files in `/etc`. A device or a huge file must not cost memory, and a pipe must not block.

use std::{
    fs::{File, metadata},
    io::{self, Read},
};

/// Reads at most `most` bytes of a regular file. From a larger file it keeps the complete lines only.
///
/// # Errors
/// The file is missing, unreadable or not a regular file.
pub(super) fn read(path: &str, most: u64) -> io::Result<String> {
    if !metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(most).read_to_end(&mut content)?;
    if content.len() as u64 == most {
        let end = content.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        content.truncate(end);
    }
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// The words of a line, without its comment.
pub(super) fn words<'t>(line: &'t str, comments: &'static [char]) -> impl Iterator<Item = &'t str> {
    line.split(comments).next().unwrap_or_default().split_ascii_whitespace()
}
