//! The listener: notifications of system calls, and answers to them (`seccomp_unotify(2)`).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use libc::{
    SECCOMP_ADDFD_FLAG_SETFD, SECCOMP_IOCTL_NOTIF_ADDFD, SECCOMP_IOCTL_NOTIF_ID_VALID,
    SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND, SECCOMP_IOCTL_NOTIF_SET_FLAGS,
    SECCOMP_USER_NOTIF_FLAG_CONTINUE, seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Who is woken by a notification or an answer goes on where the waker is, which is about to wait for it anyway
/// (`SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6).
const SYNC_WAKE_UP: u64 = 1;

/// A copy of the listener's descriptor.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

/// A system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notification {
    /// Names it.
    pub(super) id: u64,
    /// The thread, as this process's pid namespace numbers it; 0: it is not in there.
    pub(super) tid: u32,
    /// The system call.
    pub(super) number: u32,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

/// What the thread gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The kernel does the call.
    Continue,
    /// The call gives this and does nothing; -4095 to -1 is an error.
    Value(i64),
}

/// Room for a notification of kernels that have more to say; each writes the size it knows.
#[repr(C, align(8))]
struct Buffer([u8; 1024]);

const _: () = assert!(size_of::<seccomp_notif>() <= size_of::<Buffer>());

impl Listener {
    /// Kernels before 6.6 wake on any CPU, which takes longer and is as right.
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        // SAFETY: the flags are the argument itself; nothing is read or written.
        let _ = unsafe {
            libc::ioctl(
                descriptor.as_raw_fd(),
                SECCOMP_IOCTL_NOTIF_SET_FLAGS,
                SYNC_WAKE_UP,
            )
        };
        Self(descriptor)
    }

    /// Takes the next notification; `None` if the thread it was of has gone. Waits if there is none: poll before.
    pub(super) fn receive(&self) -> io::Result<Option<Notification>> {
        let mut buffer = Buffer([0; 1024]);
        // SAFETY: the kernel writes a `seccomp_notif` of its size, for which there is room.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut buffer,
            )
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: as large and as aligned, written by the kernel, and integers only.
        let notification = unsafe { (&raw const buffer).cast::<seccomp_notif>().read() };
        Ok(Some(Notification {
            id: notification.id,
            tid: notification.pid,
            number: notification.data.nr.cast_unsigned(),
            arguments: notification.data.args,
        }))
    }

    /// Answers. An error of `ENOENT` says that the thread has gone or was interrupted.
    pub(super) fn answer(&self, id: u64, answer: Answer) -> io::Result<()> {
        let (val, error, flags) = match answer {
            Answer::Continue => (0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE),
            Answer::Value(value) => match i32::try_from(value) {
                Ok(error @ -4095..=-1) => (0, error, 0),
                _ => (value, 0, 0),
            },
        };
        let mut response = seccomp_notif_resp {
            id,
            val,
            error,
            flags: u32::try_from(flags).unwrap_or_default(),
        };
        // SAFETY: the kernel reads a `seccomp_notif_resp`, whose layout has not changed since it is there.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut response,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Puts a file of ours into the thread's table of descriptors, in place of the one that has this
    /// number there, as dup3(2) would (`SECCOMP_IOCTL_NOTIF_ADDFD`, Linux 5.9).
    pub(super) fn replace_fd(&self, id: u64, number: u32, file: &OwnedFd) -> io::Result<()> {
        let request = seccomp_notif_addfd {
            id,
            flags: SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: file.as_raw_fd().cast_unsigned(),
            newfd: number,
            newfd_flags: libc::O_CLOEXEC.cast_unsigned(),
        };
        // SAFETY: the kernel reads a `seccomp_notif_addfd`.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                SECCOMP_IOCTL_NOTIF_ADDFD,
                &raw const request,
            )
        };
        match result {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Whether the thread still waits: what was read of it meanwhile was its own.
    pub(super) fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the kernel reads a `u64`.
        let result = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                SECCOMP_IOCTL_NOTIF_ID_VALID,
                &raw const id,
            )
        };
        result == 0
    }

    /// Whether there is a notification, and whether anybody is left who could make one.
    pub(super) fn state(&self) -> (bool, bool) {
        let mut events = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut events, Some(&Timespec::default())) {
            Ok(_) => {
                let events = events[0].revents();
                let gone = events.intersects(PollFlags::HUP | PollFlags::ERR);
                (events.contains(PollFlags::IN), !gone)
            }
            Err(_) => (false, true),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
