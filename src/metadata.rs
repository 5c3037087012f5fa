//! Request metadata: `-rpc-header` and `-rpc-header-file`, as the Go tool reads headers.

use std::{fmt, path::PathBuf};

use anyhow::{Result, anyhow, bail, ensure};
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, MetadataMap};

use crate::{
    cli::Given,
    deadline::Deadline,
    file::{self, Reader, read_by},
    outcome::{Failure, Kind},
    text::shown,
};

/// The one header that has a flag of its own.
pub(crate) const USER_AGENT: &str = "user-agent";
/// More is no request, and the table of headers has its limits.
const MOST: usize = 1000;

/// A header whose value is in a file, such as a secret that is mounted.
#[derive(Debug, Clone)]
pub(crate) struct MetadataFile {
    key: Key,
    path: PathBuf,
    /// The flag or variable that named it.
    flag: String,
}

#[derive(Debug, Clone)]
enum Key {
    Ascii(AsciiMetadataKey),
    /// The bytes are base64-encoded on the way.
    Binary(BinaryMetadataKey),
}

/// Reads `name: value` headers: split at the first colon, the name lower-cased, the value without leading blanks.
/// Headers that gRPC sets itself are dropped.
///
/// # Errors
/// `usage`. A header may be a secret written the wrong way, so no message repeats it.
pub(crate) fn of(headers: &[Given]) -> Result<MetadataMap, Failure> {
    let mut metadata = MetadataMap::new();
    for (header, key, value) in split(headers)? {
        append(&mut metadata, key, value.as_bytes())
            .map_err(|error| Failure::new(Kind::Usage, format!("{}: {error}", header.name)))?;
    }
    Ok(metadata)
}

/// Reads `name: path` headers, whose values [`complete`] reads from the files.
///
/// # Errors
/// `usage`.
pub(crate) fn files(headers: &[Given]) -> Result<Vec<MetadataFile>, Failure> {
    let file = |(header, key, path): (&Given, Key, &str)| {
        let flag = header.name.clone();
        if path.is_empty() {
            return Err(Failure::new(Kind::Usage, format!("{flag}: the path after the colon is missing")));
        }
        Ok(MetadataFile { key, path: path.into(), flag })
    };
    split(headers)?.into_iter().map(file).collect()
}

/// All metadata, with the values that are in files.
///
/// # Errors
/// `file-unreadable`, and `usage` for a value that no header can have.
pub(crate) async fn complete(
    metadata: &MetadataMap,
    files: &[MetadataFile],
    deadline: Deadline,
) -> Result<MetadataMap, Failure> {
    let mut metadata = metadata.clone();
    if files.is_empty() {
        return Ok(metadata);
    }
    let work = {
        let files = files.to_vec();
        move |reader: &Reader| {
            files.iter().map(|file| reader.read(&file.flag, &file.path)).collect::<Result<Vec<_>, _>>()
        }
    };
    for (file, content) in files.iter().zip(read_by(deadline, work).await?) {
        let line = content.strip_suffix(b"\n").unwrap_or(&content);
        let value = line.strip_suffix(b"\r").unwrap_or(line);
        append(&mut metadata, file.key.clone(), value)
            .map_err(|error| Failure::new(Kind::Usage, format!("{}: {error}", file::name(&file.flag, &file.path))))?;
    }
    Ok(metadata)
}

/// The headers for people, secrets masked.
pub(crate) fn tell(metadata: &MetadataMap) -> Vec<String> {
    let headers = metadata.clone().into_headers();
    let others = headers.iter().filter(|(name, _)| *name != USER_AGENT);
    others
        .map(|(name, value)| {
            let value = if is_secret(name.as_str()) { "***" } else { value.to_str().unwrap_or("***") };
            format!("{name}: {value}")
        })
        .collect()
}

impl fmt::Display for MetadataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.key {
            Key::Ascii(key) => key.as_str(),
            Key::Binary(key) => key.as_str(),
        };
        write!(f, "{name}: *** (from {})", shown(&self.path.display().to_string()))
    }
}

/// A header's value.
///
/// # Errors
/// Characters that none can have.
pub(crate) fn ascii_value(text: &str) -> Result<AsciiMetadataValue> {
    let is_printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
    ensure!(is_printable, "the value may have printable ASCII characters only (others: in a name-bin header)");
    text.parse().map_err(|_| anyhow!("not a valid header value"))
}

/// Names and what follows them, without those that gRPC sets itself.
fn split(headers: &[Given]) -> Result<Vec<(&Given, Key, &str)>, Failure> {
    if headers.len() > MOST {
        return Err(Failure::new(Kind::Usage, format!("more than {MOST} of {}", headers[0].name)));
    }
    let mut all = Vec::new();
    for header in headers {
        let (name, rest) = header.text.split_once(':').unzip();
        let key = name.map_or_else(|| bail!("a colon is missing; write 'name: value'"), key);
        let key = key.map_err(|error| Failure::new(Kind::Usage, format!("{}: {error}", header.name)))?;
        all.extend(key.map(|key| (header, key, rest.unwrap_or_default().trim_start())));
    }
    Ok(all)
}

/// The key of a name, unless gRPC sets that itself.
fn key(name: &str) -> Result<Option<Key>> {
    let name = name.to_ascii_lowercase();
    ensure!(!name.is_empty(), "the name before the colon is missing");
    match name.as_str() {
        USER_AGENT | "content-type" | "te" | "grpc-timeout" | "grpc-encoding" | "grpc-message"
        | "grpc-message-type" | "grpc-status" => return Ok(None),
        // RFC 9113, section 8.2.2.
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => {
            bail!("{name} does not exist in HTTP/2")
        }
        "content-length" => bail!("the length is not for the user to tell"),
        _ => {}
    }
    let illegal = || anyhow!("the name may have letters, digits, \"-\", \"_\" and \".\" only");
    ensure!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), illegal());
    Ok(Some(if name.ends_with("-bin") {
        Key::Binary(BinaryMetadataKey::from_bytes(name.as_bytes()).map_err(|_| illegal())?)
    } else {
        Key::Ascii(AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| illegal())?)
    }))
}

fn append(metadata: &mut MetadataMap, key: Key, value: &[u8]) -> Result<()> {
    match key {
        Key::Binary(key) => {
            metadata.append_bin(key, BinaryMetadataValue::from_bytes(value));
        }
        Key::Ascii(key) => {
            // What is not UTF-8 is not ASCII, and is refused as such.
            metadata.append(key, ascii_value(&String::from_utf8_lossy(value))?);
        }
    }
    Ok(())
}

/// Whether a header's value is nobody's business.
fn is_secret(name: &str) -> bool {
    let words = ["auth", "cookie", "token", "key", "secret", "pass", "cred", "session", "jwt"];
    name.ends_with("-bin") || words.iter().any(|word| name.contains(word))
}
