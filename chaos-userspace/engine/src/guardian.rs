//! A small process beside each injector that undoes, when the injector dies, what no descriptor owns.
//!
//! Architecture invariant: the guardian is forked before the injector starts a thread, loads a program or moves a child. So it
//! holds no fault and no descriptor of one, keeps no cgroup busy, and a plain fork is sound.
//!
//! The two talk over a `SOCK_SEQPACKET` pair, one JSON message a packet. The injector waits until a journal entry is confirmed
//! before it makes the thing itself; the end of the conversation, however it comes about, makes the guardian undo what is still
//! journalled, newest first.

mod child;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::unistd::{ForkResult, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};

use super::undo::Undo;
use murphy_sys::process::{Process, signal_pidfd};
use murphy_sys::threads;

/// How long the guardian may take to confirm an entry.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// How long to wait for the guardian's work and end.
const WORK: Duration = Duration::from_secs(5);

/// The largest message: two paths of `PATH_MAX`, each byte escaped as six.
const MESSAGE: usize = 64 * 1024;

/// How many entries are forgotten by one message: [`MESSAGE`] has room for these, limits or few
/// others.
const FORGOTTEN: usize = 64;

/// The largest answer: a number and an error of the kernel's.
const ANSWER: usize = 1024;

/// Confirmed by the guardian when it has let go of what is the injector's. Entries have higher numbers.
const READY: u64 = 0;

/// The injector's end.
#[derive(Debug)]
pub struct Guardian {
    pid: Pid,
    pidfd: OwnedFd,
    /// `None` once the conversation is over.
    socket: Option<OwnedFd>,
    /// Numbers entries, so that a late confirmation is not taken for that of the next entry.
    entries: u64,
}

/// What the injector says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// This is about to be made. Answered with the number.
    Journal { entry: u64, undo: Undo },
    /// These were undone.
    Forget { undo: Vec<Undo> },
    /// What no kernel program bounds stays in force until this boot time in ns.
    Lease { until_ns: u64 },
}

/// What the guardian answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    /// The number of the entry.
    entry: u64,
    /// Why it is not in the journal.
    error: Option<String>,
}

impl Answer {
    fn to(entry: u64, result: io::Result<()>) -> Self {
        let error = result.err().map(|error| error.to_string());
        Self { entry, error }
    }
}

impl Guardian {
    /// Forks the guardian, and returns once it has its own session and none of our descriptors.
    ///
    /// To be called while the program has one thread: of the others a fork copies locks and half-changed memory, but not the
    /// threads that would release them.
    ///
    /// # Errors
    ///
    /// `Unsupported` if there is another thread; otherwise the kernel's answer.
    pub fn start() -> io::Result<Self> {
        if !threads::is_only_one() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the guardian has to be started before the first thread",
            ));
        }
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // Tells the guardian of our end even while a forked child that has not come to its exec still holds a copy of `ours`.
        let injector = Process::this()?.into_pidfd();

        // Blocked across the fork, so that no Ctrl-C reaches the guardian before it has its own session. It never unblocks
        // them: it has nothing to do on a signal, and must not die of one.
        let mut before = SigSet::empty();
        pthread_sigmask(
            SigmaskHow::SIG_SETMASK,
            Some(&SigSet::all()),
            Some(&mut before),
        )?;
        // SAFETY: this is the only thread (checked above), so the child's memory is whole and no lock is held in it.
        let child = match unsafe { fork() } {
            Ok(ForkResult::Child) => child::main(&theirs, &injector),
            Ok(ForkResult::Parent { child }) => Ok(child),
            Err(error) => Err(error),
        };
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
        let pid = Pid::from_raw(child?.as_raw()).ok_or(Errno::SRCH)?;
        // Cannot be another process by now: ours stays a zombie until we wait for it.
        let pidfd = Process::open(pid.as_raw_nonzero().get().cast_unsigned())?.into_pidfd();
        let guardian = Self {
            pid,
            pidfd,
            socket: Some(ours),
            entries: READY,
        };
        guardian.confirmed(READY, Instant::now() + CONFIRMATION)?;
        Ok(guardian)
    }

    /// The guardian's process id: never a target.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Journals what is about to be made, and returns once the guardian has confirmed it.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the guardian is gone, `TimedOut` if it does not answer within a second, `Other` if it could not undo
    /// this. The thing must not be made then: nobody would undo it.
    pub fn journal(&mut self, undo: &Undo) -> io::Result<()> {
        self.entries += 1;
        let entry = self.entries;
        let deadline = Instant::now() + CONFIRMATION;
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        say(
            socket.as_fd(),
            &Message::Journal {
                entry,
                undo: undo.clone(),
            },
            deadline,
        )?;
        self.confirmed(entry, deadline)
    }

    /// Waits for the confirmation of an entry.
    fn confirmed(&self, entry: u64, deadline: Instant) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        loop {
            wait(socket.as_fd(), PollFlags::IN, deadline)?;
            let mut buffer = [0; ANSWER];
            let length = match recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) | Err(Errno::CONNRESET) => return Err(gone()),
                Ok((length, _)) => length.min(ANSWER),
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(error) => return Err(error.into()),
            };
            match serde_json::from_slice(&buffer[..length])? {
                Answer {
                    entry: of,
                    error: None,
                } if of == entry => return Ok(()),
                Answer {
                    entry: of,
                    error: Some(error),
                } if of == entry => {
                    return Err(io::Error::other(format!("the guardian refuses: {error}")));
                }
                // To an entry for which an earlier call did not wait long enough.
                _ => {}
            }
        }
    }

    /// Says that the injector has undone something itself. If it does not arrive, the guardian finds nothing to do later.
    pub fn forget(&mut self, undo: &[Undo]) {
        let Some(socket) = &self.socket else { return };
        let deadline = Instant::now() + CONFIRMATION;
        let is_limit = |undo: &Undo| matches!(undo, Undo::Cleanup(one) if one.ends_with_lease());
        // Of others each has a message of its own: their paths may be long.
        for alike in undo.chunk_by(|one, next| is_limit(one) && is_limit(next)) {
            for part in alike.chunks(FORGOTTEN) {
                let undo = part.to_vec();
                let _ = say(socket.as_fd(), &Message::Forget { undo }, deadline);
            }
        }
    }

    /// Says until when, by boot time in ns, what the guardian bounds stays in force. It undoes that
    /// when the time is over, and goes on listening.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` if the guardian is gone, `TimedOut` if it has not read for long.
    pub fn renew(&mut self, until_ns: u64) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        let deadline = Instant::now() + CONFIRMATION;
        say(socket.as_fd(), &Message::Lease { until_ns }, deadline)
    }

    /// Ends the guardian, after the injector has undone everything. What was not forgotten the guardian undoes all the same.
    /// Returns within about five seconds; a guardian that is stopped or stuck is killed then.
    pub fn finish(mut self) {
        if !self.end() {
            let _ = signal_pidfd(&self.pidfd, libc::SIGKILL);
            self.reap(Instant::now() + CONFIRMATION);
        }
    }

    /// Ends the conversation and waits for the guardian's work and end.
    fn end(&mut self) -> bool {
        self.socket = None;
        self.reap(Instant::now() + WORK)
    }

    /// Waits until the guardian has ended, and leaves no zombie.
    fn reap(&self, deadline: Instant) -> bool {
        if wait(self.pidfd.as_fd(), PollFlags::IN, deadline).is_err() {
            return false;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
        true
    }
}

impl Drop for Guardian {
    /// Without [`finish`](Self::finish) the injector is unwinding: leaves the undoing to the guardian, and waits for it.
    fn drop(&mut self) {
        if self.socket.is_some() {
            self.end();
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the guardian process has ended: nobody would undo this if murphy died",
    )
}

fn say(socket: BorrowedFd<'_>, message: &Message, deadline: Instant) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    loop {
        match send(socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(gone()),
            // It is undoing something, and reads after that; or it is stopped.
            Err(Errno::AGAIN) => wait(socket, PollFlags::OUT, deadline)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for an event on a descriptor.
fn wait(fd: BorrowedFd<'_>, event: PollFlags, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(fd, event)], Some(&left)) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the guardian process does not answer",
                ));
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
