//! Writes text from a thread of its own, so that a reader that does not read holds nothing else up.
//!
//! A terminal after Ctrl-S, a pager, a FIFO, a stalled ssh connection: a write to any of these can
//! block for as long as its reader likes. The thread that renews leases and answers `murphy stop`
//! must never wait for one. It gives lines to a [`Writer`], which keeps a bounded amount of them
//! and counts those that found no room.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The most that is kept for a reader that lags behind, in bytes: some 60 000 events.
const ROOM: usize = 8 << 20;

/// How much is gathered before it is handed over without being told to.
const BATCH: usize = 256 << 10;

/// Lines on their way to a file or stream.
///
/// They are gathered, and handed over by [`Writer::flush`] or when there are many: waking the thread
/// for each line would cost more than the line.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// Lines that were not handed over yet, and how many they are.
    gathered: Vec<u8>,
    count: u64,
    /// What is written to, until the thread has it.
    to: Option<Box<dyn Write + Send>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines that found no room, or came after an error.
    lost: u64,
    closed: bool,
    /// The first error; nothing is written after it.
    failed: Option<io::Error>,
    /// Nothing can be written any more.
    is_broken: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// To a file or stream. The thread is started with the first line: not before helper processes
    /// are forked, and with the privileges that are left by then.
    pub(super) fn new(to: Box<dyn Write + Send>) -> Self {
        Self {
            shared: Arc::default(),
            gathered: Vec::new(),
            count: 0,
            to: Some(to),
            thread: None,
        }
    }

    /// Takes a line, with its end.
    pub(super) fn line(&mut self, line: &[u8]) {
        self.gathered.extend_from_slice(line);
        self.count += 1;
        if self.gathered.len() >= BATCH {
            self.flush();
        }
    }

    /// Takes the last line, for which there is always room.
    pub(super) fn last_line(&mut self, line: &[u8]) {
        self.flush();
        self.gathered.extend_from_slice(line);
        self.count += 1;
        self.hand_over(usize::MAX);
    }

    /// Hands over what was gathered. It is counted as lost if there is no room.
    pub(super) fn flush(&mut self) {
        if self.count > 0 {
            self.hand_over(ROOM);
        }
    }

    fn hand_over(&mut self, room: usize) {
        self.start();
        let mut state = self.shared.lock();
        if state.is_broken || state.waiting.len() + self.gathered.len() > room {
            state.lost += self.count;
        } else if state.waiting.is_empty() {
            std::mem::swap(&mut state.waiting, &mut self.gathered);
        } else {
            state.waiting.extend_from_slice(&self.gathered);
        }
        drop(state);
        self.gathered.clear();
        self.count = 0;
        self.shared.changed.notify_all();
    }

    fn start(&mut self) {
        let Some(mut to) = self.to.take() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let builder = std::thread::Builder::new().name("murphy-writer".to_owned());
        match builder.spawn(move || write_all(&shared, &mut *to)) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                let mut state = self.shared.lock();
                state.is_broken = true;
                state.failed.get_or_insert(error);
            }
        }
    }

    /// How many lines were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// Waits until everything is written, however long the reader takes. Faults have ended by
    /// then; a signal still ends the process.
    ///
    /// # Errors
    ///
    /// The first thing that could not be written.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.flush();
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        match self.shared.lock().failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Writes what comes until the end, or until something cannot be written.
fn write_all(shared: &Shared, to: &mut dyn Write) {
    loop {
        let mut state = shared.lock();
        while state.waiting.is_empty() && !state.closed {
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let text = std::mem::take(&mut state.waiting);
        drop(state);
        if text.is_empty() {
            return;
        }
        if let Err(error) = to.write_all(&text).and_then(|()| to.flush()) {
            let mut state = shared.lock();
            state.failed = Some(error);
            state.is_broken = true;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_no_time() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut writer = Writer::new(Box::new(writer));
        let line = [b'x'; 1024];
        let wanted = (ROOM / line.len()) as u64 * 2;
        // More than the pipe and the writer hold; it would never return if it waited.
        for _ in 0..wanted {
            writer.line(&line);
        }
        writer.flush();
        let lost = writer.lost();
        assert!(lost > 0 && lost < wanted, "{lost}");
        writer.last_line(b"end\n");
        let reading = std::thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            text
        });
        writer.finish().unwrap();
        drop(writer);
        let text = reading.join().unwrap();
        assert_eq!(text.len() as u64, (wanted - lost) * 1024 + 4);
        assert!(text.ends_with(b"xend\n"));
    }

    #[test]
    fn an_error_is_kept_and_later_lines_are_lost() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut writer = Writer::new(Box::new(writer));
        writer.line(b"one\n");
        let error = writer.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        writer.line(b"two\n");
        writer.flush();
        assert_eq!(writer.lost(), 1);
    }
}
