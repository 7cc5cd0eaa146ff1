//! The system call that a program on its function is asked about.
//!
//! One program is on all functions: which call it is stands in the caller's registers. A 32-bit call without arguments has the
//! same function as the native one, and another number: it is told by its ABI. Offsets come from the running kernel's BTF.

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};
use aya_ebpf::programs::ProbeContext;
use chaos_common::{dims, ops};
use chaos_ebpf::gate;

use crate::descriptor;

/// `struct pt_regs`: the number of the system call (x86_64 `orig_ax`).
#[unsafe(no_mangle)]
static REGS_SYSCALL: Global<u32> = Global::new(0);
/// The same: a system call's first argument (x86_64 `di`).
#[unsafe(no_mangle)]
static REGS_FIRST: Global<u32> = Global::new(0);
/// `struct task_struct`: the word that tells a compat (32-bit) system call.
#[unsafe(no_mangle)]
static TASK_COMPAT: Global<u32> = Global::new(0);
/// The bit in that word; 0: this kernel has no compat calls.
#[unsafe(no_mangle)]
static TASK_COMPAT_BIT: Global<u32> = Global::new(0);

/// Rules whose filters accept the call: those that look at a descriptor are asked about calls whose first argument is one.
#[inline(always)]
pub(crate) fn accept(ctx: &ProbeContext, dimensions: u64) -> u64 {
    let mut rules = u64::MAX;
    if dimensions & (dims::FD | dims::FD_KIND) == 0 {
        return rules;
    }
    let fd = first_argument(ctx);
    if dimensions & dims::FD != 0 {
        rules &= gate::accept_descriptor(dimensions, fd);
    }
    if dimensions & dims::FD_KIND != 0 {
        let mode = descriptor::file_mode(fd);
        rules &= if mode == descriptor::NOT_OPEN {
            gate::accept_no_file(dimensions)
        } else {
            gate::accept_file_mode(dimensions, mode as u16)
        };
    }
    rules
}

/// The kernel looks at the lower half of a descriptor only. What cannot be read is none that could be open. No `Option`: the
/// compiler moves its empty value about, which the verifier does not let be.
#[inline(always)]
fn first_argument(ctx: &ProbeContext) -> u32 {
    let registers: *const u8 = ctx.arg(0).unwrap_or(core::ptr::null());
    let first = registers
        .wrapping_add(REGS_FIRST.load() as usize)
        .cast::<u64>();
    // SAFETY: a bad address gives an error.
    unsafe { bpf_probe_read_kernel(first) }.unwrap_or(u64::MAX) as u32
}

/// The number of the call, of the native ABI; x32's are beyond the bound.
#[inline(always)]
pub(crate) fn native_call(ctx: &ProbeContext) -> Option<u32> {
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
