//! System calls that are answered in their caller's own code, before they are made.
//!
//! Kernel interface: uprobes by perf event (4.17) with a cookie (5.15), on the instruction before `syscall`, whose program may
//! write the registers it interrupted (Linux 7.2 has it, 6.18 not). An answer puts the result where the kernel would have put
//! it and goes on behind `syscall`. What is let be goes its own way: the kernel steps over the one instruction
//! before, and the call itself is made where it stands, so that signals, restarts and new threads find all as ever.
//! `bpf_send_signal_thread` (5.5).
//!
//! A program of a uprobe may be put aside for another thread's run on the same CPU, and from 6.13 on the kernel gives programs of this
//! type a stack that belongs to the CPU: the other's run would write over what this one keeps there, and the thread go on at
//! another process's address (seen on 7.2 with busy processors, `bpf_enable_priv_stack` in kernel/bpf/verifier.c). Programs that
//! make a tail call have the thread's own stack, so this one does, to nowhere.
//!
//! x86_64 alone: the registers are known by their places in its `struct pt_regs`.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_get_attach_cookie, bpf_probe_read_kernel};
use aya_ebpf::macros::{map, uprobe};
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::ProbeContext;
use chaos_common::answer::{PAGE, REGISTERS, Site};
use chaos_common::ops;
use chaos_ebpf::answer::answer;

// Places in `struct pt_regs` (arch/x86/include/asm/ptrace.h).
const AX: usize = 10;
const IP: usize = 16;
const CS: usize = 17;

/// The code segment of 64-bit programs (`__USER_CS`), and the same below Xen.
const USER_CS: [u64; 2] = [0x33, 0xe033];

/// No program: see above.
#[map]
static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

#[uprobe]
pub(crate) fn murphy_answer(ctx: ProbeContext) -> u32 {
    answer_at(&ctx);
    // SAFETY: there is no program to go on in.
    unsafe { NOWHERE.tail_call(&ctx, 0) };
    0
}

/// Answers the call that is about to be made.
#[inline(always)]
fn answer_at(ctx: &ProbeContext) {
    let registers = ctx.as_ptr().cast::<u64>();
    // SAFETY: the helper takes a context, which this is.
    let site = Site::from_cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    // SAFETY: the context is the registers.
    let at = unsafe { registers.add(IP).read_volatile() };
    // Another injector's program has answered, and the thread goes on elsewhere already. What the kernel gives as the place
    // of the probe is that, too.
    if at & PAGE != u64::from(site.page) {
        return;
    }
    let Some(call) = native_call(registers, site) else {
        return;
    };
    let give = |_: u32, value: i64| {
        // SAFETY: the context is the registers; the kernel's verifier lets these two be written, or does not load this.
        unsafe {
            registers.add(AX).write_volatile(value as u64);
            registers
                .add(IP)
                .write_volatile(at + u64::from(site.length));
        }
        true
    };
    // The registers may not be what the call is made with: one instruction is still to come.
    answer(call, |_| u64::MAX, give);
}

/// The number of the call, of the native ABI; x32's are beyond the bound.
#[inline(always)]
fn native_call(registers: *const u64, site: Site) -> Option<u32> {
    // SAFETY: the context is the registers.
    if !USER_CS.contains(&unsafe { registers.add(CS).read_volatile() }) {
        return None;
    }
    let number = match site.number {
        Some(number) => u32::from(number),
        None if site.register < REGISTERS => {
            // SAFETY: a bad address gives an error. Read so as the verifier wants places in a context to be constant.
            unsafe { bpf_probe_read_kernel(registers.add(usize::from(site.register))) }.ok()? as u32
        }
        None => return None,
    };
    (number < ops::SYSCALLS).then_some(number)
}
