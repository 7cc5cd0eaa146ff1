//! `read_write`: reading or writing that fails.
//!
//! Covers `read`, `write` and their positioned and vectored relatives, each only when named. The call fails before a byte
//! moves. `on` is the kind of file behind the descriptor.

use syscalls::Sysno;

use super::model::Op;
use super::registry::{Family, FaultKind, FilterKey};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "read_write",
    family: Some(Family::Lsm),
    ops: &[
        Op::Call(Sysno::read),
        Op::Call(Sysno::pread64),
        Op::Call(Sysno::readv),
        Op::Call(Sysno::preadv),
        Op::Call(Sysno::preadv2),
        Op::Call(Sysno::write),
        Op::Call(Sysno::pwrite64),
        Op::Call(Sysno::writev),
        Op::Call(Sysno::pwritev),
        Op::Call(Sysno::pwritev2),
    ],
    has: &[],
    filters: &[FilterKey::On, FilterKey::Path],
    summary: "reading from or writing to a descriptor fails with an error",
    metric: "calls that read or write",
    examples: &[
        "write:error=ENOSPC:on=file",
        "read,pread64,readv:error=EIO:when=3..9+2",
    ],
};
