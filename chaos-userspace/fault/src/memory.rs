//! `memory`: memory that cannot be mapped, or whose protection cannot be changed.
//!
//! `brk` and `mlock` have no hook, nor has `munmap`.

use super::arch::calls;
use super::registry::{Family, FaultKind};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "memory",
    family: Some(Family::Lsm),
    ops: calls!(
        [] mmap mprotect pkey_mprotect
    ),
    has: &[],
    filters: &[],
    summary: "mapping or protecting memory fails with an error",
    metric: "calls about memory",
    examples: &["mmap:error=ENOMEM:when=20+"],
};
