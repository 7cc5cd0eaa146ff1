//! Signals that end a suite, read where it waits.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const CAUGHT: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// The signals of this process that mean an end, from now on read instead of delivered.
#[derive(Debug)]
pub struct Ending {
    signals: SignalFd,
    before: SigSet,
    over: Cell<bool>,
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// What was waited for.
    Ready,
    /// A signal.
    Signal,
    /// The time.
    Time,
}

impl Ending {
    /// Blocks the signals. To be called while there is one thread.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn catch() -> io::Result<Self> {
        let before = SigSet::thread_get_mask()?;
        let mask = CAUGHT.into_iter().collect::<SigSet>();
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self {
            signals,
            before,
            over: Cell::new(false),
        })
    }

    /// What was blocked before: a program that is started inherits that.
    pub(super) fn before(&self) -> SigSet {
        self.before
    }

    /// Whether a signal has arrived.
    pub fn is_over(&self) -> bool {
        self.read();
        self.over.get()
    }

    /// Waits so long, or until a signal has arrived.
    pub fn sleep(&self, time: Duration) {
        if !self.is_over() {
            self.wait(None, Some(time));
        }
    }

    /// Reads what has arrived; gives whether there was anything.
    fn read(&self) -> bool {
        let mut any = false;
        while let Ok(Some(_)) = self.signals.read_signal() {
            any = true;
        }
        self.over.set(self.over.get() || any);
        any
    }

    /// Waits until a descriptor is readable, another signal arrives, or the time is over.
    pub(super) fn wait(&self, ready: Option<BorrowedFd<'_>>, time: Option<Duration>) -> Woken {
        let until = time.map(|time| Instant::now() + time);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            });
            let mut fds = vec![PollFd::from_borrowed_fd(
                self.signals.as_fd(),
                PollFlags::IN,
            )];
            fds.extend(ready.map(|ready| PollFd::from_borrowed_fd(ready, PollFlags::IN)));
            // An interrupted poll is tried again.
            let count = poll(&mut fds, left.as_ref());
            if self.read() {
                return Woken::Signal;
            }
            match count {
                Ok(0) => return Woken::Time,
                Ok(_) => return Woken::Ready,
                Err(_) => {}
            }
        }
    }
}
