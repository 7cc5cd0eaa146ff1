//! `metadata`: attributes of a file that cannot be read or changed.
//!
//! `on` is the kind of the file. A call that fails before the file is found (`ENOENT`) does not match.

use super::arch::calls;
use super::registry::{Family, FaultKind, FilterKey};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "metadata",
    family: Some(Family::Lsm),
    ops: calls!(
        [
            chmod chown lchown utime utimes futimesat stat lstat newfstatat access readlink
        ]
        fchmod fchmodat fchmodat2 fchown fchownat utimensat fstat statx faccessat faccessat2
        chdir fchdir readlinkat setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr
        listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr statfs fstatfs
        inotify_add_watch fanotify_mark
    ),
    has: &[],
    filters: &[FilterKey::On, FilterKey::Path],
    summary: "reading or changing a file's attributes fails with an error",
    metric: "calls about attributes of files",
    examples: &[
        "newfstatat,statx:error=EIO:p=1%",
        "fchmodat,fchownat:error=EPERM:on=file",
    ],
};
