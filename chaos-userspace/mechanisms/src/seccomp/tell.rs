//! Telling murphy of decisions: a pipe of events.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use chaos_common::event::{Event, SIZE, verdict};
use rustix::pipe::{PipeFlags, pipe_with};

use murphy_kernel::listen::Listen;

/// Room for some ten thousand events; a kernel that allows less is asked for less by itself.
const ROOM: usize = 1 << 20;

/// The supervisor's end.
pub(super) struct Teller {
    pipe: OwnedFd,
    listen: Listen,
}

/// murphy's end: readable when there are events.
#[derive(Debug)]
pub struct Told(OwnedFd);

/// Both ends.
pub(super) fn pipe() -> io::Result<(Told, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let _ = rustix::pipe::fcntl_setpipe_size(&write, ROOM);
    Ok((Told(read), write))
}

impl Teller {
    pub(super) fn new(pipe: OwnedFd, listen: Listen) -> Self {
        Self { pipe, listen }
    }

    /// Whether somebody listens to such a decision.
    pub(super) fn hears(&self, decided: u32) -> bool {
        match self.listen {
            Listen::Nothing => false,
            Listen::Injections => decided == verdict::INJECTED,
            Listen::Matches => true,
        }
    }

    /// Writes an event as a whole, or not at all if the pipe is full; whether it did.
    pub(super) fn tell(&self, event: &Event) -> bool {
        // SAFETY: an `Event` is integers without padding, `SIZE` bytes of them.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const *event).cast::<u8>(), SIZE) };
        // Less than PIPE_BUF: never in part.
        rustix::io::write(&self.pipe, bytes).is_ok_and(|written| written == SIZE)
    }
}

impl Told {
    /// The oldest event that was not taken yet.
    pub fn take(&mut self) -> Option<Event> {
        let mut bytes = [0_u8; SIZE];
        match rustix::io::read(&self.0, &mut bytes) {
            // SAFETY: `SIZE` bytes are there, and an `Event` is integers only.
            Ok(SIZE) => Some(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() }),
            _ => None,
        }
    }
}

impl AsFd for Told {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Told {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
