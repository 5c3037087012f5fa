//! The error of a stream below HTTP/2 whose records make no sense. Whoever records the end of a stream keeps its type.

use std::{error::Error, fmt, io};

/// A record of ALTS that cannot be accepted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadRecord(pub(crate) String);

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server sent a bad ALTS record: {}", self.0)
    }
}

impl Error for BadRecord {}

impl From<BadRecord> for io::Error {
    fn from(bad_record: BadRecord) -> Self {
        Self::new(io::ErrorKind::InvalidData, bad_record)
    }
}
