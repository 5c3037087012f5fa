//! `-rpc-header` and `-rpc-header-file`, as the Go tool reads headers: split at the first colon, the name in lower case, the
//! value without leading blanks. Headers that gRPC sets itself are dropped.

use anyhow::{Result, anyhow, bail, ensure};
use tonic::metadata::{AsciiMetadataKey, BinaryMetadataKey};

use super::options::Given;
use crate::{
    outcome::{Failure, Kind},
    rpc::{Key, Metadata, MetadataFile},
};

/// The maximum number of headers per flag. More are a mistake, and `HeaderMap` has a limit.
const MAX_HEADERS: usize = 1000;

/// Reads `name: value` headers.
///
/// # Errors
/// `usage`. A header may be a secret written the wrong way, so no message repeats it.
pub(super) fn metadata(headers: &[Given]) -> Result<Metadata, Failure> {
    let mut metadata = Metadata::default();
    for (header, key, value) in split(headers, "name: value")? {
        metadata
            .append(key, value.as_bytes())
            .map_err(|error| Failure::new(Kind::Usage, format!("{}: {error}", header.name)))?;
    }
    Ok(metadata)
}

/// Reads `name: path` headers, whose values are in files.
///
/// # Errors
/// `usage`.
pub(super) fn files(headers: &[Given]) -> Result<Vec<MetadataFile>, Failure> {
    let file = |(header, key, path): (&Given, Key, &str)| {
        let flag = header.name.clone();
        if path.is_empty() {
            return Err(Failure::new(Kind::Usage, format!("{flag}: the path after the colon is missing")));
        }
        Ok(MetadataFile { key, path: path.into(), flag })
    };
    split(headers, "name: path")?.into_iter().map(file).collect()
}

/// Splits headers of this form into names and the text after the colon, without those that gRPC sets itself.
fn split<'a>(headers: &'a [Given], form: &str) -> Result<Vec<(&'a Given, Key, &'a str)>, Failure> {
    if headers.len() > MAX_HEADERS {
        return Err(Failure::new(Kind::Usage, format!("more than {MAX_HEADERS} of {}", headers[0].name)));
    }
    let mut all = Vec::new();
    for header in headers {
        let (name, rest) = header.text.split_once(':').unzip();
        let key = name.map_or_else(|| bail!("a colon is missing; write '{form}'"), key);
        let key = key.map_err(|error| Failure::new(Kind::Usage, format!("{}: {error}", header.name)))?;
        all.extend(key.map(|key| (header, key, rest.unwrap_or_default().trim_start())));
    }
    Ok(all)
}

/// The key of a name, unless gRPC sets that header itself.
fn key(name: &str) -> Result<Option<Key>> {
    let name = name.to_ascii_lowercase();
    ensure!(!name.is_empty(), "the name before the colon is missing");
    match name.as_str() {
        "user-agent" | "content-type" | "te" | "grpc-timeout" | "grpc-encoding" | "grpc-message"
        | "grpc-message-type" | "grpc-status" => return Ok(None),
        // RFC 9113, section 8.2.2.
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => {
            bail!("{name} does not exist in HTTP/2")
        }
        "content-length" => bail!("the probe sets the length itself"),
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
