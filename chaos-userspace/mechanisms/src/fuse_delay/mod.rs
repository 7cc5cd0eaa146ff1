//! What threads wait for that kernel programs delay: pages of a file that nobody answers for in time.
//!
//! A kernel program cannot sleep, but it may read another process's memory, and a page of that may be long in coming. So there are two
//! processes beside murphy, each in a session of its own: the *server* of a file system (FUSE) with one file, and the *holder*, which has
//! that file mapped and does nothing. A thread that is to wait reads a page of the holder's that nobody has read before, and goes on when the
//! server answers: when its time has come, when injections are over, when the lease has lapsed, when the thread is killed. If
//! murphy dies the server ends; if the server dies the kernel lets all that wait go on; if the server is stopped or stuck
//! the holder kills it. The file system is mounted nowhere and goes with its last user.
//!
//! Architecture invariant: pure user space; which page is held until when is read from a map that murphy hands over.

mod fuse;
mod holder;
mod mechanism;
mod page;
mod server;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    send, sendmsg, socketpair,
};

use murphy_sys::clock::boot_ns;
use murphy_sys::helper::Helper;
use murphy_sys::process::Process;
use page::Shared;

pub(crate) use mechanism::FuseDelay;

/// Steps that can fail, as [`page::Page::step`] numbers them.
mod step {
    pub(super) const DEVICE: u32 = 0;
    pub(super) const MOUNT: u32 = 1;
    pub(super) const HOLDER: u32 = 2;
    pub(super) const MAP: u32 = 3;
}

/// What a step is, in words.
const STEPS: [&str; 4] = [
    "opening /dev/fuse",
    "mounting a file system for what threads wait for",
    "starting the process that holds it",
    "mapping it",
];

/// How long the two processes are given to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(2);

/// Why threads cannot be made to wait here.
#[derive(Debug, thiserror::Error)]
pub enum BlockingError {
    /// A step of setting it up.
    #[error("delays by kernel programs: {step}: {source}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Process ids here are not those that kernel programs see.
    #[error("delays by kernel programs do not work inside a container's pid namespace")]
    PidNamespace,
    /// Something else the operating system refused.
    #[error("delays by kernel programs: {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl BlockingError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Whether the machine lacks something, as opposed to an accident.
    pub fn is_missing_feature(&self) -> bool {
        self.remedy().is_some()
    }

    /// What its user can do about it.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Step { step, source }
                if *step != STEPS[step::DEVICE as usize]
                    || source.raw_os_error() != Some(libc::ENOENT) =>
            {
                Some(
                    "they take a kernel with CONFIG_FUSE_FS (modprobe fuse) and CAP_SYS_ADMIN; `murphy run --backend seccomp` \
                     delays calls of a command without",
                )
            }
            Self::Step { .. } => Some(
                "modprobe fuse, and in a container its device (docker run --device /dev/fuse); `murphy run --backend seccomp` \
                 delays calls of a command without",
            ),
            Self::PidNamespace => Some(
                "run murphy in the host's pid namespace (docker run --pid=host); `murphy run --backend seccomp` delays calls of a \
                 command in any",
            ),
            Self::Io { .. } => None,
        }
    }
}

/// Server and holder, from murphy's side. They end with it.
#[derive(Debug)]
pub struct Blocking {
    page: Arc<Shared>,
    server: Helper,
    socket: OwnedFd,
    lease: Duration,
}

/// What the kernel programs have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The server's process.
    pub server: u32,
    /// The holder's.
    pub holder: u32,
    /// Where the file is mapped in the holder.
    pub base: u64,
    /// Bytes of a page.
    pub page: u64,
}

impl Blocking {
    /// Starts server and holder. To be called while the program has one thread.
    ///
    /// # Errors
    ///
    /// Nothing is left.
    pub fn start(lease: Duration) -> Result<Self, BlockingError> {
        let page = Arc::new(Shared::new().map_err(BlockingError::io("mapping shared memory"))?);
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| BlockingError::io("making a socket")(error.into()))?;
        // Tells of our end even while a forked child that has not come to its exec still holds a copy of `ours`.
        let murphy = Process::this()
            .map_err(BlockingError::io("opening a pidfd"))?
            .into_pidfd();
        let shared = Arc::clone(&page);
        let server = Helper::start(c"murphy-delay", &[&murphy, &theirs], move |kept| {
            let mut kept = kept.into_iter();
            if let (Some(murphy), Some(socket)) = (kept.next(), kept.next()) {
                server::serve(&shared, murphy, socket, lease);
            }
        })
        .map_err(BlockingError::io("starting the server"))?;
        let blocking = Self {
            page,
            server,
            socket: ours,
            lease,
        };
        blocking.renew();
        blocking.await_mapping()?;
        Ok(blocking)
    }

    /// Waits until the holder has the file mapped.
    fn await_mapping(&self) -> Result<(), BlockingError> {
        let until = Instant::now() + PATIENCE;
        while self.page.base.load(Ordering::Acquire) == 0 {
            let late = Instant::now() > until;
            // Looked at first: who has ended has said why by then.
            let ended = self.server.has_ended();
            let errno = self.page.errno.load(Ordering::Acquire);
            if errno != 0 || ended || late {
                let step = self.page.step.load(Ordering::Acquire) as usize;
                let errno = match errno {
                    0 if late => libc::ETIMEDOUT,
                    0 => libc::EPIPE,
                    errno => errno,
                };
                return Err(BlockingError::Step {
                    step: STEPS.get(step).copied().unwrap_or(STEPS[0]),
                    source: io::Error::from_raw_os_error(errno),
                });
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// What the kernel programs have to know.
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts {
            server: self.server.pid.as_raw_nonzero().get().unsigned_abs(),
            holder: self.page.holder.load(Ordering::Acquire),
            base: self.page.base.load(Ordering::Acquire),
            page: page::size() as u64,
        }
    }

    /// Hands over the map in which the kernel programs say until when pages are held back.
    ///
    /// # Errors
    ///
    /// The server is gone.
    pub fn read_from(&self, map: BorrowedFd<'_>) -> Result<(), BlockingError> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut room);
        let descriptors = [map];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(
            &self.socket,
            &[IoSlice::new(&[0])],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
        .map(drop)
        .map_err(|error| BlockingError::io("handing over a map")(error.into()))
    }

    /// Lets threads wait for another lease.
    pub fn renew(&self) {
        let lease = u64::try_from(self.lease.as_nanos()).unwrap_or(u64::MAX / 2);
        let until = boot_ns().saturating_add(lease);
        self.page.lease_until.store(until, Ordering::Release);
    }

    /// Wakes every thread that waits, and lets none wait any more.
    pub fn wake(&self) {
        self.page.over.store(page::WAKE, Ordering::Release);
        self.ring();
    }

    /// Has the server look at the page now.
    fn ring(&self) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        // If it is not read the server looks before long, or has ended.
        let _ = send(&self.socket, &[0], flags);
    }
}

impl Drop for Blocking {
    /// Wakes everybody and ends both processes.
    fn drop(&mut self) {
        self.page.over.store(page::END, Ordering::Release);
        self.ring();
        self.server.reap(END);
        if !self.server.has_ended() {
            // Stopped, or stuck. With it the kernel lets go of all that wait, and the holder ends.
            self.server.kill_now();
            self.server.reap(END);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_has_a_remedy() {
        let error = |step: u32, errno| BlockingError::Step {
            step: STEPS[step as usize],
            source: io::Error::from_raw_os_error(errno),
        };
        for (step, errno, word) in [
            (step::DEVICE, libc::ENOENT, "--device /dev/fuse"),
            (step::MOUNT, libc::ENODEV, "CONFIG_FUSE_FS"),
        ] {
            let remedy = error(step, errno).remedy().unwrap();
            assert!(remedy.contains(word), "{remedy}");
        }
    }
}
