//! Signals as descriptors, so that nothing is interrupted half-way.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use murphy_sys::process::Process;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

/// What ends murphy or is handed on.
const CAUGHT: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
];

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) signal: Signal,
    /// Sent by the kernel, that is by the terminal: the whole process group has it already.
    pub(super) by_terminal: bool,
}

/// Keeps the signals waiting until they are read.
pub(super) fn block() -> nix::Result<SigSet> {
    let mask = CAUGHT.into_iter().collect::<SigSet>();
    mask.thread_block()?;
    Ok(mask)
}

/// Lets the signals do again what they do by default: from now on they end murphy, which has nothing
/// left to undo, and which may be waiting for a reader.
///
/// Those that came before are forgotten: what they asked for is done.
pub(super) fn release() -> io::Result<()> {
    let caught = CAUGHT.into_iter().collect::<SigSet>();
    let now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a mask and a time that are read, and a null pointer where a `siginfo_t` may be left
    // out.
    while unsafe { libc::sigtimedwait(caught.as_ref(), std::ptr::null_mut(), &raw const now) } > 0 {
    }
    let ending = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ];
    Ok(ending.into_iter().collect::<SigSet>().thread_unblock()?)
}

/// The signals of this process, from now on read instead of delivered.
pub(super) struct Signals {
    descriptor: AsyncFd<SignalFd>,
    before: SigSet,
}

impl Signals {
    /// Blocks the signals. To be called before anything that must be undone is made,
    /// inside a tokio runtime.
    pub(super) fn catch() -> io::Result<Self> {
        let before = SigSet::thread_get_mask()?;
        let mask = block()?;
        let descriptor =
            SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self {
            descriptor: register(descriptor)?,
            before,
        })
    }

    /// What was blocked before: the command inherits that, not what murphy blocks.
    pub(super) fn before(&self) -> SigSet {
        self.before
    }

    /// Waits for the next signal.
    pub(super) async fn next(&self) -> io::Result<Arrived> {
        loop {
            let mut ready = self.descriptor.readable().await?;
            match ready.get_inner().read_signal()? {
                Some(info) => {
                    if let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed()) {
                        let by_terminal = info.ssi_code == libc::SI_KERNEL;
                        return Ok(Arrived {
                            signal,
                            by_terminal,
                        });
                    }
                }
                None => ready.clear_ready(),
            }
        }
    }
}

/// A process that can be waited for.
pub(super) fn pidfd(pid: u32) -> io::Result<AsyncFd<OwnedFd>> {
    register(Process::open(pid)?.into_pidfd())
}

/// Makes a descriptor wait-able.
pub(super) fn register<T: AsFd + AsRawFd>(descriptor: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `OwnedFd`, `SignalFd`, `Events` and `Log` own one open descriptor for all their life.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}
