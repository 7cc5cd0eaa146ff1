//! What callers get of the calls that were injected into.
//!
//! Kernel interface: raw tracepoints `sys_exit(struct pt_regs *regs, long ret)`, which fires when a system call of any ABI
//! is done, before signals are looked at: a call that is to be restarted still has its own result; and
//! `sys_enter(struct pt_regs *regs, long id)`. While they are attached every task takes the slow way into and out of every
//! call, with a look-up each.
//!
//! The kernel does not begin a tracepoint's program on a CPU where it is under way, and says how often (seen on 7.2, on a
//! busy machine). So the end of a call may not be seen. Its note must not be held against the next call.

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

#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn murphy_anew(_: RawTracePointContext) -> i32 {
    observe::forget();
    0
}
