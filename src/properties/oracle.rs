//! Which bytes of a server can be healthy, read from the bytes themselves and not by the libraries that the probe uses.

use prost::Message;
use tonic_health::pb::{HealthCheckResponse, health_check_response::ServingStatus};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// How long the first frame is.
pub(super) fn first_frame(bytes: &[u8]) -> usize {
    match bytes {
        [a, b, c, ..] => 9 + u32::from_be_bytes([0, *a, *b, *c]) as usize,
        _ => bytes.len(),
    }
}

/// A frame that came whole, without its padding.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// The frames up to the first that is cut off or cannot be.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let Some([_, _, _, kind, flags, a, b, c, d, payload @ ..]) = rest.get(..first_frame(rest)) {
        let mut payload = payload;
        if matches!(*kind, DATA | HEADERS) && flags & PADDED != 0 {
            let [length, padded @ ..] = payload else { break };
            let Some(end) = padded.len().checked_sub(usize::from(*length)) else { break };
            payload = &padded[..end];
        }
        if *kind == HEADERS && flags & PRIORITY != 0 {
            let Some(block) = payload.get(5..) else { break };
            payload = block;
        }
        let stream = u32::from_be_bytes([*a & 0x7f, *b, *c, *d]);
        frames.push(Frame { kind: *kind, flags: *flags, stream, payload: payload.to_vec() });
        rest = &rest[first_frame(rest)..];
    }
    frames
}

/// Whether these bytes begin with SETTINGS and have, on the stream of the request or of its retry and in this order: headers
/// of a gRPC response, one whole message, and headers that end the stream with the one status 0. Of a `Check` the message is
/// SERVING.
pub(super) fn can_be_healthy(bytes: &[u8], is_check: bool) -> bool {
    let frames = frames(bytes);
    let begins = frames.first().is_some_and(|first| (first.kind, first.stream, first.flags & 1) == (SETTINGS, 0, 0));
    begins && [1, 3].into_iter().any(|stream| has_whole_answer(&frames, stream, is_check))
}

fn has_whole_answer(frames: &[Frame], stream: u32, is_check: bool) -> bool {
    let mut table = Table::default();
    let mut has_begun = false;
    let mut message = Vec::new();
    let mut frames = frames.iter();
    while let Some(frame) = frames.next() {
        match frame.kind {
            HEADERS => {
                let Some(block) = block(frame, &mut frames) else { return false };
                let fields = match table.read(&block) {
                    Ok(fields) => fields,
                    Err(Unread::Broken) => return false,
                    Err(Unread::Compressed) => return true,
                };
                let ends = frame.flags & END_STREAM != 0;
                match (has_begun, ends) {
                    _ if frame.stream != stream => {}
                    (false, false) if only(&fields, ":status").is_some_and(|status| status.starts_with(b"1")) => {}
                    (false, false) if can_begin(&fields) => has_begun = true,
                    (true, true) => {
                        return only(&fields, "grpc-status") == Some(b"0") && can_be_message(&message, is_check);
                    }
                    _ => return false,
                }
            }
            DATA if frame.stream == stream && has_begun && frame.flags & END_STREAM == 0 => {
                message.extend_from_slice(&frame.payload);
            }
            DATA | RST_STREAM if frame.stream == stream => return false,
            _ => {}
        }
    }
    false
}

/// The header block that begins with this frame, and may go on in those that follow.
fn block<'a>(first: &Frame, rest: &mut impl Iterator<Item = &'a Frame>) -> Option<Vec<u8>> {
    let mut block = first.payload.clone();
    let mut is_whole = first.flags & END_HEADERS != 0;
    while !is_whole {
        let next = rest.next().filter(|next| (next.kind, next.stream) == (CONTINUATION, first.stream))?;
        block.extend_from_slice(&next.payload);
        is_whole = next.flags & END_HEADERS != 0;
    }
    Some(block)
}

/// Whether this is one whole message.
fn can_be_message(message: &[u8], is_check: bool) -> bool {
    let [flag @ (0 | 1), a, b, c, d, payload @ ..] = message else { return false };
    let is_whole = payload.len() == u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    let serves =
        || HealthCheckResponse::decode(payload).is_ok_and(|response| response.status() == ServingStatus::Serving);
    // A compressed one may be anything.
    is_whole && (*flag == 1 || !is_check || serves())
}

/// The name and the value of a header field.
type Field = (Vec<u8>, Vec<u8>);

/// The value of the only field with this name.
fn only<'a>(fields: &'a [Field], wanted: &str) -> Option<&'a [u8]> {
    let mut values = fields.iter().filter(|(name, _)| name == wanted.as_bytes()).map(|(_, value)| value.as_slice());
    values.next().filter(|_| values.next().is_none())
}

/// Whether a response of gRPC can begin with these headers.
fn can_begin(fields: &[Field]) -> bool {
    let content_type = only(fields, "content-type").map(<[u8]>::to_ascii_lowercase).unwrap_or_default();
    let rest = content_type.strip_prefix(b"application/grpc");
    only(fields, ":status") == Some(b"200") && rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// Why a header block is not read.
enum Unread {
    /// It cannot be one.
    Broken,
    /// Text in it is compressed with Huffman's code, so it may be anything.
    Compressed,
}

/// What HPACK remembers (RFC 7541, section 2.3.2), the newest first. Nothing is forgotten, which only makes more possible.
#[derive(Default)]
struct Table(Vec<Field>);

impl Table {
    /// Reads a header block (RFC 7541, section 6).
    fn read(&mut self, mut block: &[u8]) -> Result<Vec<Field>, Unread> {
        let mut fields = Vec::new();
        while let [first, ..] = *block {
            let (prefix, is_indexed) = match first {
                0x80.. => (7, true),
                0x40.. => (6, false),
                0x20.. => {
                    // A new size of the table.
                    integer(&mut block, 5)?;
                    continue;
                }
                _ => (4, false),
            };
            let index = integer(&mut block, prefix)?;
            let field = if is_indexed {
                self.field(index)?
            } else {
                let name = if index == 0 { text(&mut block)? } else { self.field(index)?.0 };
                (name, text(&mut block)?)
            };
            if prefix == 6 {
                self.0.insert(0, field.clone());
            }
            fields.push(field);
        }
        Ok(fields)
    }

    /// The field with this index. Of the static table (RFC 7541, appendix A) only those that matter here are named.
    fn field(&self, index: usize) -> Result<Field, Unread> {
        let (name, value) = match index {
            8 => (":status", "200"),
            9..=14 => (":status", "another"),
            31 => ("content-type", ""),
            1..=61 => ("another", ""),
            _ => return index.checked_sub(62).and_then(|index| self.0.get(index)).cloned().ok_or(Unread::Broken),
        };
        Ok((name.into(), value.into()))
    }
}

/// An integer with a prefix of so many bits (RFC 7541, section 5.1).
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Unread> {
    let mut next = || {
        let (byte, rest) = block.split_first().ok_or(Unread::Broken)?;
        *block = rest;
        Ok(usize::from(*byte))
    };
    let most = (1 << prefix) - 1;
    let mut value = next()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let byte = next()?;
        value += (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Unread::Broken)
}

/// A text (RFC 7541, section 5.2).
fn text(block: &mut &[u8]) -> Result<Vec<u8>, Unread> {
    let is_compressed = block.first().is_some_and(|first| *first >= 0x80);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Unread::Broken)?;
    *block = rest;
    if is_compressed { Err(Unread::Compressed) } else { Ok(text.to_vec()) }
}
