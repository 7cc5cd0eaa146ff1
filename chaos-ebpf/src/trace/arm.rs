//! Arms `run`'s rules at the first successful execve inside its cgroup.
//!
//! Kernel interface: raw tracepoint `sched_process_exec`, which fires once the
//! new program is in place and before its first instruction.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use chaos_common::control;
use chaos_ebpf::target;

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn murphy_exec(_: RawTracePointContext) -> i32 {
    target::arm_if_in_run_cgroup(control::ARM_BY_EXEC);
    0
}
