//! `syscall`: any other system call.
//!
//! Calls that have no hook of murphy's. The seccomp backend answers them for the command of `run`, the override backend for running
//! processes too, where the kernel has it; they also give the calls of the other rows effects and filters that their hooks do not have.

use syscalls::Sysno;

use super::registry::FaultKind;

/// The row. It names no operation: it has every call that no other row has.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "syscall",
    family: None,
    ops: &[],
    has: &[],
    filters: &[],
    summary: "any system call fails, gives a made-up result, is delayed, or gets a signal",
    metric: "system calls",
    examples: &[
        "fsync,fdatasync:error=EIO,ENOSPC:when=3+",
        "epoll_wait:retval=0:p=10%",
        "futex:delay_enter=10ms:jitter=5ms:p=1%",
        "%file:error=EACCES:path=/var/lib/app/**",
    ],
};

/// Which way a call moves bytes between a descriptor and the caller's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moves {
    /// Into memory.
    Reads,
    /// Out of memory.
    Writes,
}

impl Moves {
    /// `None`: it does not, or in a way that nobody else could do for it (`recvmsg`, `sendfile`, …).
    pub(crate) const fn of(call: Sysno) -> Option<Self> {
        match call {
            Sysno::read
            | Sysno::pread64
            | Sysno::readv
            | Sysno::preadv
            | Sysno::preadv2
            | Sysno::recvfrom => Some(Self::Reads),
            Sysno::write
            | Sysno::pwrite64
            | Sysno::writev
            | Sysno::pwritev
            | Sysno::pwritev2
            | Sysno::sendto => Some(Self::Writes),
            _ => None,
        }
    }
}
