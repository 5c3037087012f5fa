//! The metadata of each request, with values from arguments and from files.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow, ensure};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap};

use crate::{
    deadline::Deadline,
    file::{self, Reader, read_by},
    outcome::{Failure, Kind},
    text::excerpt,
};

/// The header that the probe sets itself, and that has a flag of its own.
const USER_AGENT: &str = "user-agent";

/// Metadata of requests. Its values may be secrets, so `Debug` shows none.
#[derive(Clone, Default)]
pub(crate) struct Metadata(MetadataMap);

/// The name of a header.
#[derive(Debug, Clone)]
pub(crate) enum Key {
    Ascii(AsciiMetadataKey),
    /// A name that ends in `-bin`. Its value is base64-encoded on the wire.
    Binary(BinaryMetadataKey),
}

/// A header whose value is in a file, such as a mounted secret.
#[derive(Debug, Clone)]
pub(crate) struct MetadataFile {
    pub(crate) key: Key,
    pub(crate) path: PathBuf,
    /// The flag or variable that named it.
    pub(crate) flag: String,
}

impl MetadataFile {
    /// The value of `-rpc-header-file`, with a path that may be the secret itself masked.
    pub(crate) fn argument(&self) -> String {
        let path = self.path_to_show().map_or("***".to_owned(), |path| path.display().to_string());
        format!("{}: {path}", self.key.as_str())
    }

    /// The file's name in messages. A name without a directory may be the secret itself, so it is not shown.
    fn name(&self) -> String {
        match self.path_to_show() {
            Some(path) => file::name(&self.flag, path),
            None => format!("{}='{}: ***'", self.flag, self.key.as_str()),
        }
    }

    fn path_to_show(&self) -> Option<&Path> {
        let has_blank = self.path.to_string_lossy().contains(char::is_whitespace);
        let begins_as_path = ["/", "./", "../"].iter().any(|start| self.path.to_string_lossy().starts_with(start));
        Some(self.path.as_path()).filter(|_| begins_as_path && !has_blank)
    }

    fn read(&self, reader: &Reader) -> Result<Vec<u8>, Failure> {
        reader.read_as(&self.name(), &self.path).map_err(|failure| match self.path_to_show() {
            Some(_) => failure,
            None => {
                failure.hint("it takes a file's path, not the value; a value on the command line takes -rpc-header")
            }
        })
    }
}

impl Key {
    fn as_str(&self) -> &str {
        match self {
            Self::Ascii(key) => key.as_str(),
            Self::Binary(key) => key.as_str(),
        }
    }
}

impl Metadata {
    /// The headers as tonic sends them.
    pub(crate) fn to_map(&self) -> MetadataMap {
        self.0.clone()
    }

    pub(crate) fn set_user_agent(&mut self, user_agent: AsciiMetadataValue) {
        self.0.insert(USER_AGENT, user_agent);
    }

    /// Adds a header.
    ///
    /// # Errors
    /// The value is not valid.
    pub(crate) fn append(&mut self, key: Key, value: &[u8]) -> Result<()> {
        match key {
            Key::Binary(key) => {
                self.0.append_bin(key, BinaryMetadataValue::from_bytes(value));
            }
            Key::Ascii(key) => {
                // A value that is not UTF-8 is refused as not ASCII.
                self.0.append(key, ascii_value(&String::from_utf8_lossy(value))?);
            }
        }
        Ok(())
    }

    /// Adds the headers whose values are in files.
    ///
    /// # Errors
    /// `file-unreadable`, and `usage` for a value that no header can have.
    pub(crate) async fn with_files(&self, files: &[MetadataFile], deadline: Deadline) -> Result<Self, Failure> {
        let mut metadata = self.clone();
        if files.is_empty() {
            return Ok(metadata);
        }
        let work = {
            let files = files.to_vec();
            move |reader: &Reader| files.iter().map(|file| file.read(reader)).collect::<Result<Vec<_>, _>>()
        };
        for (file, content) in files.iter().zip(read_by(deadline, work).await?) {
            let line = content.strip_suffix(b"\n").unwrap_or(&content);
            let value = line.strip_suffix(b"\r").unwrap_or(line);
            metadata
                .append(file.key.clone(), value)
                .map_err(|error| Failure::new(Kind::Usage, format!("{}: {error}", file.name())))?;
        }
        Ok(metadata)
    }

    /// The headers for `-v`, with secrets masked.
    pub(crate) fn describe(&self) -> Vec<String> {
        let headers = self.0.clone().into_headers();
        let others = headers.iter().filter(|(name, _)| *name != USER_AGENT);
        others
            .map(|(name, value)| {
                let value = if is_secret(name.as_str()) { "***" } else { value.to_str().unwrap_or("***") };
                format!("{name}: {value}")
            })
            .collect()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys().map(|key| format!("{key:?}"))).finish()
    }
}

impl fmt::Display for MetadataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ***", self.key.as_str())?;
        self.path_to_show().map_or(Ok(()), |path| write!(f, " (from {})", excerpt(&path.display().to_string())))
    }
}

/// Parses the value of a header.
///
/// # Errors
/// The value has invalid characters.
pub(crate) fn ascii_value(text: &str) -> Result<AsciiMetadataValue> {
    let is_printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
    ensure!(is_printable, "the value may have printable ASCII characters only (others: in a name-bin header)");
    text.parse().map_err(|_| anyhow!("not a valid header value"))
}

/// Whether the value of a header is likely to be a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let words = ["auth", "cookie", "token", "key", "secret", "pass", "cred", "session", "jwt"];
    name.ends_with("-bin") || words.iter().any(|word| name.contains(word))
}
