//! `system`: mounts, the clock, BPF and other things of the whole system that cannot be changed.
//!
//! Most of these calls need a capability, and fail without it before they match.

use super::arch::calls;
use super::registry::{Family, FaultKind};

/// The row.
pub(super) const KIND: FaultKind = FaultKind {
    stem: "system",
    family: Some(Family::Lsm),
    ops: calls!(
        []
        mount umount2 move_mount pivot_root chroot bpf perf_event_open settimeofday clock_settime
        syslog
    ),
    has: &[],
    filters: &[],
    summary: "mounting, setting the clock or using BPF fails with an error",
    metric: "calls about the system",
    examples: &[
        "umount2:error=EBUSY:times=3",
        "bpf,perf_event_open:error=EPERM",
    ],
};
