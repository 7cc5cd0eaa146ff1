//! Arms `run`'s rules when the command arrives at its ELF entry point: the
//! dynamic loader, which runs before it, is spared.
//!
//! Kernel interface: a uprobe (perf event) on the entry's file offset.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use chaos_common::control;
use chaos_ebpf::target;

#[uprobe]
pub(crate) fn murphy_entry(_: ProbeContext) -> u32 {
    target::arm_if_in_run_cgroup(control::ARM_BY_ENTRY);
    0
}
