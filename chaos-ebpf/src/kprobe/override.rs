//! System calls that are answered in the kernel's place.
//!
//! Kernel interface: kprobe by perf event (4.17) on the function of a system call (`__x64_sys_NAME(const struct pt_regs *regs)`,
//! `__arm64_sys_NAME` alike), and `bpf_override_return` (4.16, where the kernel is built with `CONFIG_BPF_KPROBE_OVERRIDE`): the
//! function returns at once with the value that is given. All these functions allow it (`ALLOW_ERROR_INJECTION` in
//! `asm/syscall_wrapper.h`). `bpf_send_signal_thread` (5.5).
//!
//! One program is on all functions: which call it is stands in the caller's registers. A 32-bit call without arguments has the
//! same function as the native one, and another number: it is told by its ABI. Offsets come from the running kernel's BTF.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_override_return;
use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};
use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use chaos_common::ops;
use chaos_ebpf::answer::answer;
use chaos_ebpf::observe;

/// `struct pt_regs`: the number of the system call (x86_64 `orig_ax`).
#[unsafe(no_mangle)]
static REGS_SYSCALL: Global<u32> = Global::new(0);
/// `struct task_struct`: the word that tells a compat (32-bit) system call.
#[unsafe(no_mangle)]
static TASK_COMPAT: Global<u32> = Global::new(0);
/// The bit in that word; 0: this kernel has no compat calls.
#[unsafe(no_mangle)]
static TASK_COMPAT_BIT: Global<u32> = Global::new(0);

#[kprobe]
pub(crate) fn murphy_override(ctx: ProbeContext) -> u32 {
    let Some(call) = native_call(&ctx) else {
        return 0;
    };
    answer(call, |rule, value| {
        observe::expect(rule, value as i32);
        // SAFETY: the context is that of this very program.
        unsafe { bpf_override_return(ctx.regs, value as u64) == 0 }
    });
    0
}

/// The number of the call, of the native ABI; x32's are beyond the bound.
#[inline(always)]
fn native_call(ctx: &ProbeContext) -> Option<u32> {
    let registers: *const u8 = ctx.arg(0)?;
    // SAFETY: a bad address gives an error.
    unsafe {
        let compat_bit = TASK_COMPAT_BIT.load();
        if compat_bit != 0 {
            let task = bpf_get_current_task() as *const u8;
            let word = task.add(TASK_COMPAT.load() as usize).cast::<u32>();
            if bpf_probe_read_kernel(word).ok()? & compat_bit != 0 {
                return None;
            }
        }
        let number = registers.add(REGS_SYSCALL.load() as usize).cast::<u64>();
        let number = bpf_probe_read_kernel(number).ok()?;
        (number < u64::from(ops::SYSCALLS)).then_some(number as u32)
    }
}
