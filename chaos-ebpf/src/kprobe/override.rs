//! System calls that are answered in the kernel's place.
//!
//! Kernel interface: kprobe by perf event (4.17) on the function of a system call (`__x64_sys_NAME(const struct pt_regs *regs)`,
//! `__arm64_sys_NAME` alike), and `bpf_override_return` (4.16, where the kernel is built with `CONFIG_BPF_KPROBE_OVERRIDE`): the
//! function returns at once with the value that is given. All these functions allow it (`ALLOW_ERROR_INJECTION` in
//! `asm/syscall_wrapper.h`). `bpf_send_signal_thread` (5.5).

use aya_ebpf::helpers::generated::bpf_override_return;
use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use chaos_ebpf::answer::answer;
use chaos_ebpf::observe;

use crate::call::{accept, native_call};

#[kprobe]
pub(crate) fn murphy_override(ctx: ProbeContext) -> u32 {
    let Some(call) = native_call(&ctx) else {
        return 0;
    };
    let give = |rule, value: i64| {
        observe::expect(rule, value as i32);
        // SAFETY: the context is that of this very program.
        unsafe { bpf_override_return(ctx.regs, value as u64) == 0 }
    };
    answer(call, |dimensions| accept(&ctx, dimensions), give);
    0
}
