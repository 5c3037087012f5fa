//! Writes texts in order, and waits for readers only where nothing else has to be done. Exit codes are worth more than words: no
//! output delays the probe, and at its end readers get a moment, no more. All output together is no longer than what Docker
//! keeps, except for lists and watches.

use std::{
    cell::RefCell,
    future::pending,
    mem, thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    queue::Queues,
    stream::{NotWritten, Output, Stream, wait_for_room},
};

/// The limit for the output of a probe, in bytes: Docker keeps this much of a health check's output.
const MAX_OUTPUT: usize = 4096;
/// How long the end of a probe waits for readers: so long for earlier progress, and so long again for the result. One that reads
/// at all is faster.
const LAST_MOMENT: Duration = Duration::from_millis(25);
/// How long a list waits for a reader who has stopped reading. A person may pause a terminal to read.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a watch waits for a reader to catch up. A faster one gets every change, however many come at once.
const CATCH_UP: Duration = Duration::from_millis(500);
/// How often to look for a reason to end a list.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait where a stream takes nothing, though the system says that it has room.
const NO_ROOM_INTERVAL: Duration = Duration::from_millis(10);

/// Why a list should not be written any further.
pub type Stop<'a> = &'a dyn Fn() -> Option<String>;

/// Writes to both streams. What they do not take at once waits.
#[derive(Debug)]
pub(crate) struct Writer {
    outputs: [Output; 2],
    queues: RefCell<Queues>,
    /// Notified when something begins to wait, or nobody reads standard output.
    is_behind: Notify,
    /// Notified when readers have read on.
    is_read: Notify,
}

impl Default for Writer {
    fn default() -> Self {
        let outputs = Stream::ALL.map(Output::new);
        Self { outputs, queues: RefCell::default(), is_behind: Notify::new(), is_read: Notify::new() }
    }
}

impl Writer {
    /// Writes a text, or lets it wait.
    pub(super) fn write(&self, stream: Stream, text: String) {
        if text.is_empty() {
            return;
        }
        let had_to_wait = self.has_waiting(stream);
        self.queues.borrow_mut().write(&self.outputs, stream, text);
        if had_to_wait != self.has_waiting(stream) || self.is_reader_gone() {
            self.is_behind.notify_one();
        }
    }

    /// Whether something waits for the stream.
    pub(super) fn has_waiting(&self, stream: Stream) -> bool {
        !self.queues.borrow_mut().of(stream).is_empty()
    }

    /// Whether a write has shown that nobody reads standard output.
    fn is_reader_gone(&self) -> bool {
        self.queues.borrow_mut().of(Stream::Out).failure == Some(NotWritten::ReaderGone)
    }

    /// Writes what the streams take: whether they took anything.
    fn flush(&self) -> bool {
        let has_written = self.queues.borrow_mut().flush(&self.outputs);
        if self.queues.borrow().is_empty() {
            self.note_left_out();
        }
        if has_written {
            self.is_read.notify_waiters();
        }
        has_written
    }

    fn note_left_out(&self) {
        let left_out = self.queues.borrow_mut().take_left_out();
        if left_out > 0 {
            let s = if left_out == 1 { "" } else { "s" };
            self.write(Stream::Err, format!("({left_out} line{s} left out, as nobody read them)\n"));
        }
    }

    /// Waits until there is room, for no longer than `patience`, and writes: whether anything was taken.
    fn write_when_read(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        wait_for_room(Stream::ALL.into_iter().filter(|stream| self.has_waiting(*stream)), patience);
        let has_written = self.flush();
        if !has_written {
            thread::sleep(NO_ROOM_INTERVAL.min(end.saturating_duration_since(Instant::now())));
        }
        has_written
    }

    /// Writes what waits, if readers read it within `patience`.
    fn write_within(&self, patience: Duration) {
        if self.queues.borrow().is_empty() {
            return;
        }
        let end = Instant::now() + patience;
        while !self.queues.borrow().is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.write_when_read(left);
        }
    }

    /// Writes the last texts. What nobody has read until then gives way to them.
    pub(super) fn finish(&self, texts: impl IntoIterator<Item = (Stream, String)>) {
        self.write_within(LAST_MOMENT);
        self.queues.borrow_mut().forget();
        for (stream, text) in texts {
            self.write(stream, text);
        }
        self.note_left_out();
        self.write_within(LAST_MOMENT);
    }

    /// Writes texts to standard output as long as its reader reads, and nothing says to stop.
    ///
    /// # Errors
    /// The last text taken was not written whole: what said to stop, if anything did.
    pub(super) fn write_all(
        &self,
        texts: &mut impl Iterator<Item = String>,
        stop: Stop<'_>,
    ) -> Result<(), Option<String>> {
        for text in texts {
            self.write(Stream::Out, text);
            let mut last_read = Instant::now();
            while self.has_waiting(Stream::Out) {
                let reason = stop();
                if reason.is_some() || last_read.elapsed() > PAUSE {
                    self.queues.borrow_mut().of(Stream::Out).shorten(0);
                    return Err(reason);
                }
                if self.write_when_read(LOOK_INTERVAL) {
                    last_read = Instant::now();
                }
            }
            if self.queues.borrow_mut().of(Stream::Out).failure.is_some() {
                return Err(None);
            }
        }
        Ok(())
    }

    /// Writes what waits whenever its reader reads, until nobody reads standard output.
    pub(crate) async fn keep_writing(&self) {
        let has_room = async |stream| {
            if self.has_waiting(stream) {
                self.outputs[stream as usize].has_room().await;
            } else {
                pending::<()>().await;
            }
        };
        while !self.is_reader_gone() {
            tokio::select! {
                () = self.is_behind.notified() => continue,
                () = has_room(Stream::Out) => {}
                () = has_room(Stream::Err) => {}
            }
            if !self.flush() {
                sleep(NO_ROOM_INTERVAL).await;
            }
        }
    }

    /// Waits for readers that are behind, if they are quick to read everything. For others, the oldest lines are left out.
    pub(crate) async fn readers_catch_up(&self) {
        if !self.queues.borrow().is_long() {
            return;
        }
        let catch_up = async {
            while self.queues.borrow().is_to_catch_up() {
                self.is_read.notified().await;
            }
        };
        if timeout(CATCH_UP, catch_up).await.is_err() {
            self.queues.borrow_mut().set_slow();
        }
    }
}

/// Lines for both streams, written together.
#[derive(Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
}

struct Line {
    stream: Stream,
    is_failure: bool,
    text: String,
}

impl Lines {
    /// Adds a line, unless it is there already: one hint often fits several failures.
    pub(super) fn push_once(&mut self, stream: Stream, is_failure: bool, line: String) {
        if !self.lines.iter().any(|there| there.text.strip_suffix('\n') == Some(&line)) {
            self.push(stream, is_failure, line);
        }
    }

    /// Adds a line. If there is too little room, lines about failures are kept first.
    pub(super) fn push(&mut self, stream: Stream, is_failure: bool, line: String) {
        self.lines.push(Line { stream, is_failure, text: line + "\n" });
    }

    /// Whether there is room for all lines after the `written` bytes of progress.
    pub(super) fn fits(&self, written: usize) -> bool {
        self.lines.iter().map(|line| line.text.len()).sum::<usize>() <= room(written)
    }

    /// Writes the lines in their order, as many as there is room for after the `written` bytes of progress.
    pub(super) fn write(&self, writer: &Writer, written: usize) {
        writer.finish(self.texts(written));
    }

    /// What goes to each stream.
    fn texts(&self, written: usize) -> [(Stream, String); 2] {
        let mut room = room(written);
        let mut fits = vec![false; self.lines.len()];
        for first_choice in [true, false] {
            for (line, fits) in self.lines.iter().zip(&mut fits) {
                if line.is_failure == first_choice && line.text.len() <= room {
                    room -= line.text.len();
                    *fits = true;
                }
            }
        }
        [Stream::Out, Stream::Err].map(|stream| {
            let lines = self.lines.iter().zip(&fits).filter(|(line, fits)| line.stream == stream && **fits);
            let mut text: String = lines.map(|(line, _)| line.text.as_str()).collect();
            let left_out = fits.iter().filter(|fits| !**fits).count();
            if stream == Stream::Err && left_out > 0 {
                text += &format!("({left_out} more lines)\n");
            }
            (stream, text)
        })
    }

    /// What is written to standard output and to standard error.
    #[cfg(test)]
    pub(super) fn printed(&self, written: usize) -> [String; 2] {
        self.texts(written).map(|(_, text)| text)
    }

    /// Takes what goes to standard output out of the lines.
    pub(super) fn take_results(&mut self) -> Vec<String> {
        let (results, others) = mem::take(&mut self.lines).into_iter().partition(|line| line.stream == Stream::Out);
        self.lines = others;
        Vec::<Line>::into_iter(results).map(|line| line.text).collect()
    }

    /// Writes all results, without a limit, as long as the reader reads and nothing says to stop, and then these lines. Each
    /// result is made when it is written.
    pub(super) fn write_after(
        mut self,
        mut results: impl Iterator<Item = String>,
        writer: &Writer,
        written: usize,
        stop: Stop<'_>,
    ) {
        if let Err(reason) = writer.write_all(&mut results, stop) {
            if let Some(reason) = reason {
                self.push(Stream::Err, true, reason);
            }
            // One was not written, or not whole.
            let left_out = 1 + results.count();
            self.push(Stream::Err, true, format!("{left_out} more results, which nobody has read"));
        }
        self.write(writer, written);
    }
}

/// What is left of [`MAX_OUTPUT`], without the room for a last line.
fn room(written: usize) -> usize {
    const LAST_LINE: usize = "(18446744073709551615 more lines)\n".len();
    MAX_OUTPUT.saturating_sub(written + LAST_LINE)
}
