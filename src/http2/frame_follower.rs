//! Follows the frames that a peer sends as their bytes pass. It keeps the last GOAWAY, which says why the server ends a
//! connection that lived long, how many requests the server allows at once, and how headers came.

/// The most that the response's headers may take, decoded, in bytes.
pub(super) const MAX_HEADERS: u32 = 64 * 1024;
/// The length of a frame's header, in bytes (RFC 9113, section 4.1).
pub(super) const FRAME_HEADER: usize = 9;
/// The types of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// The flags of HEADERS: the block ends here; there is padding, or a priority.
const END_HEADERS: u8 = 4;
const PADDED_OR_PRIORITY: u8 = 0x28;
/// How many CONTINUATION frames h2 takes for one block of our limit.
const MOST_CONTINUATIONS: usize = 5;
/// How much of a payload is kept, in bytes. Messages cut the text of a GOAWAY to less, and SETTINGS are shorter.
const MAX_PAYLOAD: usize = 1024;
/// The parameter `SETTINGS_MAX_CONCURRENT_STREAMS` (RFC 9113, section 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// A GOAWAY frame (RFC 9113, section 6.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GoAway {
    /// The last stream that the server has processed, or will process.
    pub(crate) last_stream: u32,
    pub(crate) code: u32,
    pub(crate) text: String,
}

impl GoAway {
    /// Reads the payload of the frame, as far as it arrived.
    fn read(payload: &[u8]) -> Option<Self> {
        let (last_stream, rest) = payload.split_first_chunk()?;
        let (code, text) = rest.split_first_chunk()?;
        Some(Self {
            // The first bit is reserved.
            last_stream: u32::from_be_bytes(*last_stream) & (u32::MAX >> 1),
            code: u32::from_be_bytes(*code),
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }

    /// Whether the server closes the connection in good order, as it does when it stops or when the connection is old.
    pub(crate) fn is_routine(&self) -> bool {
        self.code == 0
    }
}

/// The blocks of headers that came, and whether the frames around them are in order.
#[derive(Debug, Default, Clone)]
pub(super) struct HeaderBlocks {
    /// The stream of the block that has not ended, with the number of its CONTINUATION frames and of its bytes.
    open: Option<(u32, usize, usize)>,
    has_ended: bool,
    is_out_of_order: bool,
}

impl HeaderBlocks {
    /// Takes the header of a frame.
    fn take(&mut self, [a, b, c, kind, flags, stream @ ..]: [u8; FRAME_HEADER]) {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // Servers answer on the odd streams that the client opened.
        let stream = u32::from_be_bytes(stream);
        let is_ours = stream % 2 == 1;
        let is_in_order = match (kind, self.open) {
            (CONTINUATION, Some((open, ..))) => stream == open,
            (_, Some(_)) => false,
            (HEADERS, None) => is_ours && flags & PADDED_OR_PRIORITY == 0,
            (DATA, None) => is_ours && self.has_ended && flags & PADDED_OR_PRIORITY == 0,
            (SETTINGS, None) => stream == 0 && length.is_multiple_of(6),
            (PING, None) => stream == 0 && length == 8,
            (GOAWAY, None) => stream == 0 && length >= 8,
            (WINDOW_UPDATE | RST_STREAM, None) => length == 4,
            (other, None) => other > CONTINUATION,
        };
        self.is_out_of_order |= !is_in_order;
        if !matches!(kind, HEADERS | CONTINUATION) {
            return;
        }
        let (_, frames, bytes) = self.open.unwrap_or_default();
        let is_end = flags & END_HEADERS != 0;
        self.has_ended |= is_end;
        let more = (stream, frames + usize::from(kind == CONTINUATION), bytes.saturating_add(length));
        self.open = if is_end { None } else { Some(more) };
    }

    /// Whether a block goes on and on, in frames that are smaller than its size needs.
    pub(super) fn is_flood(&self) -> bool {
        self.open.is_some_and(|(_, frames, bytes)| frames > MOST_CONTINUATIONS && bytes <= MAX_HEADERS as usize)
    }

    /// Whether a block has ended, and all frames are of the right length and order.
    pub(super) fn only_their_content_can_be_wrong(&self) -> bool {
        self.has_ended && !self.is_out_of_order
    }
}

/// Where in the peer's frames its bytes have come to.
#[derive(Debug, Default)]
pub(super) struct FrameFollower {
    /// What arrived of a frame's header.
    header: Vec<u8>,
    /// How many bytes of the frame's payload are still to come, once its header is there.
    remaining: Option<usize>,
    /// What arrived of the payload of a frame that is read, as much of it as is kept.
    payload: Vec<u8>,
    last: Option<GoAway>,
    max_streams: Option<u32>,
    blocks: HeaderBlocks,
    has_reset: bool,
}

impl FrameFollower {
    /// Takes the next bytes. The result is whether a GOAWAY ended in them.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_ended = false;
        while !bytes.is_empty() {
            let Some(remaining) = self.remaining else {
                let (header, rest) = bytes.split_at(bytes.len().min(FRAME_HEADER - self.header.len()));
                self.header.extend_from_slice(header);
                bytes = rest;
                if let Ok(header @ [a, b, c, ..]) = <[u8; FRAME_HEADER]>::try_from(self.header.as_slice()) {
                    self.blocks.take(header);
                    self.has_reset |= self.kind() == Some(RST_STREAM);
                    has_ended |= self.payload_left(u32::from_be_bytes([0, a, b, c]) as usize);
                }
                continue;
            };
            let (payload, rest) = bytes.split_at(bytes.len().min(remaining));
            if matches!(self.kind(), Some(SETTINGS | GOAWAY)) {
                let room = MAX_PAYLOAD - self.payload.len();
                self.payload.extend_from_slice(&payload[..payload.len().min(room)]);
            }
            bytes = rest;
            has_ended |= self.payload_left(remaining - payload.len());
        }
        has_ended
    }

    /// Notes how much of the frame's payload is still to come. The result is whether the frame was a GOAWAY and has ended.
    fn payload_left(&mut self, remaining: usize) -> bool {
        if remaining > 0 {
            self.remaining = Some(remaining);
            return false;
        }
        let goaway = if self.kind() == Some(GOAWAY) { self.goaway() } else { None };
        if self.kind() == Some(SETTINGS) {
            self.take_settings();
        }
        self.remaining = None;
        self.header.clear();
        self.payload.clear();
        let has_ended = goaway.is_some();
        self.last = goaway.or_else(|| self.last.take());
        has_ended
    }

    /// The type of the frame, once it is there.
    fn kind(&self) -> Option<u8> {
        self.header.get(3).copied()
    }

    fn take_settings(&mut self) {
        for parameter in self.payload.chunks_exact(6) {
            let [a, b, value @ ..] = parameter else { continue };
            if let (MAX_CONCURRENT_STREAMS, Ok(value)) = (u16::from_be_bytes([*a, *b]), value.try_into()) {
                self.max_streams = Some(u32::from_be_bytes(value));
            }
        }
    }

    /// How many requests the server allows at once, if it says so.
    pub(super) fn max_streams(&self) -> Option<u32> {
        self.max_streams
    }

    /// Whether the server reset a stream.
    pub(super) fn has_reset(&self) -> bool {
        self.has_reset
    }

    /// The blocks of headers that came.
    pub(super) fn blocks(&self) -> &HeaderBlocks {
        &self.blocks
    }

    /// Whether a whole GOAWAY has arrived.
    pub(super) fn has_goaway(&self) -> bool {
        self.last.is_some()
    }

    /// The last GOAWAY that arrived; the one that is arriving, as soon as its error code is there. A server that closes in
    /// good order says GOAWAY twice, and some say why only the first time.
    pub(super) fn goaway(&self) -> Option<GoAway> {
        let arriving = if self.kind() == Some(GOAWAY) { GoAway::read(&self.payload) } else { None };
        let Some(mut goaway) = arriving else { return self.last.clone() };
        if let Some(last) = self.last.as_ref().filter(|last| goaway.text.is_empty() && last.code == goaway.code) {
            goaway.text.clone_from(&last.text);
        }
        Some(goaway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    }

    fn goaway(last_stream: u32, code: u32, text: &str) -> Vec<u8> {
        frame(GOAWAY, &[&last_stream.to_be_bytes()[..], &code.to_be_bytes(), text.as_bytes()].concat())
    }

    /// What is known after `bytes` that arrive in pieces of this size, and how many GOAWAYs ended.
    fn follow(bytes: &[u8], piece: usize) -> (Option<GoAway>, usize) {
        let mut follower = FrameFollower::default();
        let ended = bytes.chunks(piece).filter(|piece| follower.take(piece)).count();
        (follower.goaway(), ended)
    }

    #[test]
    fn the_last_goaway_is_found_however_the_bytes_arrive() {
        let pings = frame(6, &[7; 8]).repeat(100);
        // A payload that looks like a GOAWAY.
        let data = frame(0, &goaway(0, 2, "no"));
        let bytes =
            [frame(4, &[]), pings.clone(), goaway(u32::MAX, 0, "max_age"), data, pings, goaway(5, 0, "")].concat();
        for piece in [1, 2, 8, 9, 10, 100, bytes.len()] {
            let last = GoAway { last_stream: 5, code: 0, text: "max_age".to_owned() };
            let (found, ended) = follow(&bytes, piece);
            assert_eq!(found, Some(last), "pieces of {piece} bytes");
            assert_eq!(ended, if piece == bytes.len() { 1 } else { 2 }, "pieces of {piece} bytes");
        }
        let (found, _) = follow(&[goaway(5, 0, "max_age"), goaway(5, 11, "")].concat(), 3);
        assert_eq!(found, Some(GoAway { last_stream: 5, code: 11, text: String::new() }));
    }

    #[test]
    fn a_goaway_that_is_cut_off_is_known_but_has_not_ended() {
        let bytes = goaway(1, 11, "too_many_pings");
        let (found, ended) = follow(&bytes[..bytes.len() - 6], 1);
        assert_eq!((found.map(|goaway| goaway.text), ended), (Some("too_many".to_owned()), 0));
        assert_eq!(follow(&bytes[..FRAME_HEADER + 7], 1), (None, 0));
        // One that is too short is none.
        assert_eq!(follow(&[frame(GOAWAY, &[0; 7]), frame(6, &[])].concat(), 1), (None, 0));
    }

    #[test]
    fn the_last_settings_say_how_many_requests_are_allowed() {
        let mut follower = FrameFollower::default();
        follower.take(&frame(SETTINGS, &[0, 4, 0, 0, 0, 1]));
        assert_eq!(follower.max_streams(), None);
        for piece in frame(SETTINGS, &[0, 4, 0, 0, 0, 1, 0, 3, 0, 0, 0, 100]).chunks(2) {
            follower.take(piece);
        }
        assert_eq!(follower.max_streams(), Some(100));
        follower.take(&frame(SETTINGS, &[0, 3, 0, 0, 0, 1]));
        // An acknowledgement, and another frame.
        follower.take(&[frame(SETTINGS, &[]), frame(6, &[0, 3, 0, 0, 0, 0, 0, 7])].concat());
        assert_eq!((follower.max_streams(), follower.goaway()), (Some(1), None));
    }

    #[test]
    fn blocks_of_headers_are_followed() {
        let on = |stream: u8, kind, flags, payload: &[u8]| {
            let mut frame = frame(kind, payload);
            (frame[4], frame[8]) = (flags, stream);
            frame
        };
        let complete = on(1, HEADERS, END_HEADERS, &[0x88]);
        let open = on(1, HEADERS, 0, &[0x88]);
        let more = on(1, CONTINUATION, 0, &[]);
        let end = on(1, CONTINUATION, END_HEADERS, &[]);
        let data = on(1, DATA, 0, &[0; 5]);
        let settings = frame(SETTINGS, &[0, 4, 0, 0, 0, 1]);
        for (frames, is_flood, only_content) in [
            (vec![&settings], false, false),
            (vec![&settings, &complete, &data, &complete], false, true),
            (vec![&open, &more, &end, &data], false, true),
            (vec![&open, &data], false, false),
            (vec![&complete, &more], false, false),
            (vec![&data, &complete], false, false),
            ([vec![&open], vec![&more; 5]].concat(), false, false),
            ([vec![&open], vec![&more; 6]].concat(), true, false),
        ] {
            let bytes: Vec<u8> = frames.into_iter().flatten().copied().collect();
            for piece in [1, 4, bytes.len()] {
                let mut follower = FrameFollower::default();
                for piece in bytes.chunks(piece) {
                    follower.take(piece);
                }
                let blocks = follower.blocks();
                let found = (blocks.is_flood(), blocks.only_their_content_can_be_wrong());
                assert_eq!(found, (is_flood, only_content), "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_kept_has_a_limit() {
        let mut follower = FrameFollower::default();
        let text = vec![b'a'; 1 << 20];
        follower.take(&[&[0xff, 0xff, 0xff, GOAWAY, 0, 0, 0, 0, 0][..], &text].concat());
        assert_eq!((follower.payload.len(), follower.header.capacity() < 64), (MAX_PAYLOAD, true));
        assert!(!follower.take(&text));
        assert_eq!(follower.payload.len(), MAX_PAYLOAD);
    }
}
