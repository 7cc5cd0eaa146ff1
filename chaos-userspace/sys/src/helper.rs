//! The helper processes: forked while there is one thread, each in its own session, with the descriptors it is given and no other.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::unistd::{ForkResult, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, WaitId, WaitIdOptions, chdir, setsid, waitid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::process::{Process, is_readable, signal_pidfd};
use super::threads::is_only_one;

/// A helper, from its parent's side.
#[derive(Debug)]
pub struct Helper {
    /// Its number.
    pub pid: Pid,
    /// What it is signalled and awaited by.
    pub pidfd: OwnedFd,
}

impl Helper {
    /// Forks one that does `work` with copies of the descriptors, in their order, and ends.
    ///
    /// # Errors
    ///
    /// `Unsupported` if there is another thread, whose locks a fork would copy; otherwise the kernel's answer.
    pub fn start(
        name: &'static CStr,
        descriptors: &[&OwnedFd],
        work: impl FnOnce(Vec<OwnedFd>),
    ) -> io::Result<Self> {
        if !is_only_one() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "helper processes have to be started before the first thread",
            ));
        }
        // Blocked across the fork and in the helper for good: it must not die of a Ctrl-C.
        let mut before = SigSet::empty();
        pthread_sigmask(
            SigmaskHow::SIG_SETMASK,
            Some(&SigSet::all()),
            Some(&mut before),
        )?;
        // SAFETY: this is the only thread (checked above), so the child's memory is whole and no lock is held in it.
        let child = match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                let worked = catch_unwind(AssertUnwindSafe(|| detach(name, descriptors).map(work)));
                let code = i32::from(!matches!(worked, Ok(Ok(()))));
                // SAFETY: `_exit` has no precondition. No destructor or exit handler of the parent's copy runs.
                unsafe { libc::_exit(code) }
            }
            Ok(ForkResult::Parent { child }) => Ok(child),
            Err(error) => Err(error),
        };
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
        let pid = Pid::from_raw(child?.as_raw()).ok_or(rustix::io::Errno::SRCH)?;
        // Cannot be another process by now: ours stays a zombie until we wait for it.
        let pidfd = Process::open(pid.as_raw_nonzero().get().cast_unsigned())?.into_pidfd();
        Ok(Self { pid, pidfd })
    }

    /// Kills it.
    pub fn kill_now(&self) {
        // An error says that it has ended.
        let _ = signal_pidfd(&self.pidfd, libc::SIGKILL);
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        has_ended(&self.pidfd)
    }

    /// Waits for its end, at most this long, and leaves no zombie.
    pub fn reap(&self, limit: Duration) {
        let limit = Timespec::try_from(limit).unwrap_or_default();
        let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&limit));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
    }
}

/// Whether the process of a pidfd has ended.
pub fn has_ended(pidfd: &OwnedFd) -> bool {
    is_readable(pidfd)
}

/// Lets go of everything that is the parent's: session, terminal, directory, and every descriptor but those given, which are
/// given back under new numbers.
fn detach(name: &CStr, descriptors: &[&OwnedFd]) -> io::Result<Vec<OwnedFd>> {
    setsid()?;
    chdir("/")?;
    rustix::thread::set_name(name)?;
    // Somebody who reads the command's output to its end must not wait for us.
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    let kept = descriptors
        .iter()
        .map(|descriptor| fcntl_dupfd_cloexec(descriptor, 3))
        .collect::<Result<Vec<_>, _>>()?;
    let mut numbers: Vec<_> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    numbers.sort_unstable();
    let mut next = 3;
    for number in numbers {
        close_between(next, number - 1)?;
        next = number + 1;
    }
    close_between(next, RawFd::MAX)?;
    // Its number is closed by now.
    std::mem::forget(null);
    Ok(kept)
}

/// Closes the descriptors from `first` to `last`, if any are open. For a process that was just forked
/// and never returns to the code that owns them.
pub fn close_between(first: RawFd, last: RawFd) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the descriptors belong to values of the parent's copy that are never used or dropped again in this process,
    // which ends without returning to the code that owns them.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
