//! `open`: a file that cannot be opened or created.
//!
//! Covers `open`, `openat`, `openat2`, `creat` and `open_by_handle_at`, each only when named; `execve`'s own opening of a program is none of them.
//! `on` is the kind of the file being opened. A call that fails before the file is found (`ENOENT`) does not match.

use super::arch::calls;
use super::registry::{Family, FaultKind, FilterKey, Property};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "open",
    family: Some(Family::Lsm),
    ops: calls!([open creat] openat openat2 open_by_handle_at),
    has: &[Property::File],
    filters: &[FilterKey::On, FilterKey::Path],
    summary: "opening a file fails with an error",
    metric: "calls that open a file",
    examples: &[
        "openat:error=EACCES:p=50%",
        "open,openat,openat2:error=EMFILE:on=file:when=10+",
    ],
};
