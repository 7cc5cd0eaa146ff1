//! Signals, read by a thread of their own.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::OwnedFd;

use super::World;
use crate::limits::Breach;
use crate::stop::Reason;

const CAUGHT: [Signal; 5] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Keeps the signals waiting until they are read.
pub(super) fn block() -> io::Result<()> {
    Ok(CAUGHT.into_iter().collect::<SigSet>().thread_block()?)
}

/// The thread that reads them, for as long as this lives.
pub(super) struct Watch {
    over: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

/// Begins to read signals for an experiment.
pub(super) fn watch(world: &Arc<World>) -> io::Result<Watch> {
    block()?;
    let mask = CAUGHT.into_iter().collect::<SigSet>();
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let over = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
    let (world, is_over) = (Arc::clone(world), Arc::clone(&over));
    let read = move || {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
                PollFd::new(&*is_over, PollFlags::IN),
            ];
            // An interrupted poll is tried again.
            let _ = poll(&mut fds, None);
            if !fds[1].revents().is_empty() {
                return;
            }
            while let Ok(Some(info)) = signals.read_signal() {
                if let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed()) {
                    arrived(&world, signal);
                }
            }
        }
    };
    let thread = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(read)?;
    Ok(Watch {
        over,
        thread: Some(thread),
    })
}

/// The first asks what is waited for to stop; another one means what is in the background, too.
fn arrived(world: &World, signal: Signal) {
    let reason = match signal {
        Signal::SIGUSR2 => Reason::Ungraceful,
        Signal::SIGHUP => Reason::Breach(Breach {
            limit: "operator",
            text: "an operator asked for the experiment to be stopped and rolled back".to_owned(),
        }),
        Signal::SIGTERM => Reason::Signal("SIGTERM"),
        Signal::SIGUSR1 => Reason::Signal("SIGUSR1"),
        _ => Reason::Signal("SIGINT"),
    };
    let patient = matches!(reason, Reason::Signal(_));
    if !world.stop.raise(reason.clone()) || !patient {
        world.background.raise(reason);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A counter of one cannot overflow.
        let _ = rustix::io::write(&*self.over, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
