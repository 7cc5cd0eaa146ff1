//! `file`: what is done to a file besides reading and writing it fails.
//!
//! The call fails before anything is changed. `on` is the kind of the file; of calls about two files either will do.

use super::arch::calls;
use super::registry::{Family, FaultKind, FilterKey};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "file",
    family: Some(Family::Lsm),
    ops: calls!(
        [getdents]
        truncate ftruncate fallocate getdents64 sendfile splice copy_file_range ioctl fcntl flock
    ),
    has: &[],
    filters: &[FilterKey::On, FilterKey::Path],
    summary: "truncating, allocating, listing, copying, locking or controlling a file fails with an error",
    metric: "calls about open files",
    examples: &[
        "fallocate,ftruncate:error=ENOSPC",
        "sendfile,copy_file_range:error=EIO:when=2+",
        "flock,fcntl:error=ENOLCK",
    ],
};
