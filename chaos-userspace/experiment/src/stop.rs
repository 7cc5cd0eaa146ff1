//! Being told to stop, in the middle of anything: a pause, a program, a request.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::limits::Breach;

/// Why an experiment is to stop before its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// A signal that asks to leave without rollbacks, unless they are asked for: SIGINT, SIGTERM, SIGUSR1.
    Signal(&'static str),
    /// SIGUSR2: leave at once, whatever the rollback strategy says.
    Ungraceful,
    /// A control interrupted it.
    Control(String),
    /// A safety limit was crossed: the rollbacks are played.
    Breach(Breach),
}

/// Something that waits can be told to stop by.
#[derive(Debug)]
pub struct Stop {
    reason: Mutex<Option<Reason>>,
    /// Readable from when there is a reason.
    event: OwnedFd,
}

impl Stop {
    /// Nobody has asked to stop yet.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            reason: Mutex::new(None),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Reason>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks to stop. The first reason counts; gives whether this was it.
    pub fn raise(&self, reason: Reason) -> bool {
        let mut current = self.lock();
        let first = current.is_none();
        if first {
            *current = Some(reason);
            // A counter of one cannot overflow.
            let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
        first
    }

    /// The reason to stop, if there is one.
    pub fn reason(&self) -> Option<Reason> {
        self.lock().clone()
    }

    /// Takes the reason away, so that what comes next (the rollbacks) can be stopped again.
    pub fn take(&self) -> Option<Reason> {
        let mut current = self.lock();
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.event, &mut count);
        current.take()
    }

    /// Waits; gives the reason if it was cut short.
    pub fn sleep(&self, time: Duration) -> Option<Reason> {
        let until = Instant::now() + time;
        loop {
            if let Some(reason) = self.reason() {
                return Some(reason);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let mut fds = [PollFd::new(&self.event, PollFlags::IN)];
            // An interrupted poll is tried again.
            let _ = poll(&mut fds, Some(&timespec(left)));
        }
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// A duration as the kernel takes it.
pub(super) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
