//! What callers get of the calls that were injected into.
//!
//! Kernel interface: raw tracepoint `sys_exit(struct pt_regs *regs, long ret)` (4.17 as such), which fires when a system
//! call of any ABI is done, before signals are looked at: a call that is to be restarted still has its own result. While
//! it is attached every task takes the slow way out of every call; who has no note pays one look-up more.

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use chaos_common::observe::IO_URING_ENTER;
use chaos_ebpf::observe;

/// `struct pt_regs`: the number of the system call (x86_64 `orig_ax`).
#[unsafe(no_mangle)]
static REGS_SYSCALL: Global<u32> = Global::new(0);

#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn murphy_observe(ctx: RawTracePointContext) -> i32 {
    let Some(expected) = observe::expected() else {
        return 0;
    };
    let registers: *const u8 = ctx.arg(0);
    // SAFETY: a bad address gives an error.
    let call =
        unsafe { bpf_probe_read_kernel(registers.add(REGS_SYSCALL.load() as usize).cast::<u64>()) };
    // What a ring was asked for has its result in the ring.
    if call.is_ok_and(|call| call != IO_URING_ENTER) {
        // An errno is told by the low half alone, in which a 32-bit call has its result.
        observe::came_back(expected, ctx.arg(1));
    }
    0
}
