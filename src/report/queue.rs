//! What waits to be written, in order.

use std::{collections::VecDeque, mem};

use super::stream::{NotWritten, Output, Stream};

/// The limit for what waits for one stream, in bytes.
const MAX_QUEUED: usize = 64 * 1024;

/// What waits for both streams.
#[derive(Debug, Default)]
pub(super) struct Queues {
    by_stream: [Queue; 2],
    /// The number of the next text.
    next: u64,
    /// How many lines were dropped and not counted yet in a note.
    left_out: usize,
}

/// What waits for one stream.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Texts with their numbers, which give the order among both streams.
    texts: VecDeque<(u64, String)>,
    /// How much of the first text is written.
    written: usize,
    /// How long all texts are.
    length: usize,
    /// Whether its reader is slow, until everything is read.
    is_slow: bool,
    /// How the last write failed, if one did.
    pub(super) failure: Option<NotWritten>,
}

impl Queues {
    pub(super) fn of(&mut self, stream: Stream) -> &mut Queue {
        &mut self.by_stream[stream as usize]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_stream.iter().all(Queue::is_empty)
    }

    /// Writes a text after what waits already, as far as the stream takes it. The rest waits. Where too much waits, the oldest
    /// texts are dropped: what came last counts.
    pub(super) fn write(&mut self, outputs: &[Output; 2], stream: Stream, text: String) {
        let number = self.next;
        self.next += 1;
        self.of(stream).push(number, text);
        self.flush(outputs);
        self.left_out += self.of(stream).shorten(MAX_QUEUED);
    }

    /// Writes what the streams take: whether they took anything.
    pub(super) fn flush(&mut self, outputs: &[Output; 2]) -> bool {
        let mut is_full = [false; 2];
        let mut has_written = false;
        loop {
            let may_go = Stream::ALL.into_iter().filter(|stream| !is_full[*stream as usize]);
            let firsts = may_go.filter_map(|stream| Some((self.by_stream[stream as usize].texts.front()?.0, stream)));
            let Some((_, stream)) = firsts.min() else { break };
            let queue = self.of(stream);
            match outputs[stream as usize].write(&queue.texts[0].1.as_bytes()[queue.written..]) {
                Ok(count) => {
                    has_written = true;
                    queue.advance(count);
                }
                Err(NotWritten::Full) => is_full[stream as usize] = true,
                Err(failure) => {
                    queue.failure = Some(failure);
                    queue.drop_first();
                    if failure == NotWritten::ReaderGone {
                        queue.shorten(0);
                    }
                }
            }
        }
        has_written
    }

    /// Drops what nobody has begun to read.
    pub(super) fn forget(&mut self) {
        self.left_out += self.by_stream.iter_mut().map(|queue| queue.shorten(0)).sum::<usize>();
    }

    /// How many lines were dropped since the last call.
    pub(super) fn take_left_out(&mut self) -> usize {
        mem::take(&mut self.left_out)
    }

    /// Whether much waits, for a reader who is not known to be slow.
    pub(super) fn is_long(&self) -> bool {
        self.by_stream.iter().any(|queue| queue.length > MAX_QUEUED / 2 && !queue.is_slow)
    }

    /// Whether anything waits for a reader who is not known to be slow.
    pub(super) fn is_to_catch_up(&self) -> bool {
        self.by_stream.iter().any(|queue| !queue.is_empty() && !queue.is_slow)
    }

    /// Notes that the readers of what waits are slow.
    pub(super) fn set_slow(&mut self) {
        self.by_stream.iter_mut().for_each(|queue| queue.is_slow = !queue.is_empty());
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    fn push(&mut self, number: u64, text: String) {
        self.length += text.len();
        self.texts.push_back((number, text));
    }

    /// Notes that this many more bytes of the first text are written.
    fn advance(&mut self, count: usize) {
        self.written += count;
        if self.texts[0].1.len() == self.written {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        self.length -= self.texts.pop_front().map_or(0, |(_, text)| text.len());
        self.written = 0;
        self.is_slow &= !self.is_empty();
    }

    /// Drops the oldest texts until the rest is no longer than `limit`: how many lines. A text that is partly written stays.
    pub(super) fn shorten(&mut self, limit: usize) -> usize {
        let begun = usize::from(self.written > 0);
        let mut lines = 0;
        while self.length > limit
            && let Some((_, text)) = self.texts.remove(begun)
        {
            self.length -= text.len();
            lines += text.lines().count();
        }
        lines
    }
}
