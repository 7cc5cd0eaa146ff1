//! `path`: an entry of a directory that cannot be made, renamed, linked or removed.
//!
//! The call fails when its parent directory was found and before anything is changed.

use super::arch::calls;
use super::registry::{Family, FaultKind, FilterKey};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "path",
    family: Some(Family::Lsm),
    ops: calls!(
        [rename link symlink mkdir rmdir unlink mknod]
        renameat renameat2 linkat symlinkat mkdirat unlinkat mknodat
    ),
    has: &[],
    filters: &[FilterKey::Path],
    summary: "making, renaming, linking or removing a file fails with an error",
    metric: "calls that change a directory",
    examples: &[
        "rename,renameat,renameat2:error=EXDEV",
        "unlink,unlinkat:error=EBUSY:p=10%",
    ],
};
