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
pub enum Moves {
    /// Into memory.
    Reads,
    /// Out of memory.
    Writes,
}

/// Each call that moves bytes in a way that a supervisor can do for it: not `recvmsg`, `sendfile`, …
const MOVES: [(Sysno, Moves); 12] = [
    (Sysno::read, Moves::Reads),
    (Sysno::pread64, Moves::Reads),
    (Sysno::readv, Moves::Reads),
    (Sysno::preadv, Moves::Reads),
    (Sysno::preadv2, Moves::Reads),
    (Sysno::recvfrom, Moves::Reads),
    (Sysno::write, Moves::Writes),
    (Sysno::pwrite64, Moves::Writes),
    (Sysno::writev, Moves::Writes),
    (Sysno::pwritev, Moves::Writes),
    (Sysno::pwritev2, Moves::Writes),
    (Sysno::sendto, Moves::Writes),
];

impl Moves {
    /// `None`: it moves none, or in another way.
    pub fn of(call: Sysno) -> Option<Self> {
        let mut moves = MOVES.iter().filter(|(known, _)| *known == call);
        moves.next().map(|(_, moves)| *moves)
    }
}
