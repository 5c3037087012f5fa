//! HTTP/2 frames (RFC 9113, section 4.1), built byte by byte so that tests can send invalid ones.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// The client's connection preface.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS with these pairs of identifier and value.
pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

pub fn settings_ack() -> Vec<u8> {
    frame(SETTINGS, 1, 0, &[])
}

/// A header block of literals without indexing and without Huffman coding (RFC 7541, section 6.2.2).
pub fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        return block.push(u8::try_from(length).expect("below 127"));
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128 + 128).expect("below 256"));
        rest /= 128;
    }
    block.push(u8::try_from(rest).expect("below 128"));
}

/// HEADERS on stream 1, continued in CONTINUATION frames if they are long.
pub fn headers(flags: u8, fields: &[(&str, &[u8])]) -> Vec<u8> {
    let block = block(fields);
    let mut chunks = block.chunks(16_384);
    let first = chunks.next().unwrap_or_default();
    let rest: Vec<&[u8]> = chunks.collect();
    let end = if rest.is_empty() { END_HEADERS } else { 0 };
    let mut bytes = frame(HEADERS, flags | end, 1, first);
    for (index, chunk) in rest.iter().enumerate() {
        let end = if index + 1 == rest.len() { END_HEADERS } else { 0 };
        bytes.extend(frame(CONTINUATION, end, 1, chunk));
    }
    bytes
}

/// The response headers of gRPC.
pub fn ok_headers() -> Vec<u8> {
    headers(0, &[(":status", b"200"), ("content-type", b"application/grpc")])
}

/// DATA on stream 1.
pub fn data(flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, 1, payload)
}

/// A length-prefixed message of gRPC.
pub fn message(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a message is small").to_be_bytes();
    [&[0], &length[..], payload].concat()
}

/// A length-prefixed `HealthCheckResponse` with this status.
pub fn answer(status: u8) -> Vec<u8> {
    // protobuf omits a zero.
    if status == 0 { message(&[]) } else { message(&[8, status]) }
}

/// Trailers that end stream 1.
pub fn trailers(fields: &[(&str, &[u8])]) -> Vec<u8> {
    headers(END_STREAM, fields)
}

/// Everything that a healthy server sends after its SETTINGS.
pub fn serving() -> Vec<u8> {
    [ok_headers(), data(0, &answer(1)), trailers(&[("grpc-status", b"0")])].concat()
}

pub fn goaway(last_stream: u32, code: u32, debug: &[u8]) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[&last_stream.to_be_bytes()[..], &code.to_be_bytes(), debug].concat())
}

pub fn rst_stream(code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &code.to_be_bytes())
}
