//! Threads are held up before their system calls, by keeping the processor busy.
//!
//! Kernel interface: kprobe by perf event (4.17) on the function of a system call, as `override.rs`, and `bpf_loop` (5.17). For calls
//! of running processes where no program may sleep and nobody else answers late.
//!
//! The processor does nothing else meanwhile but interrupts: kprobes run with preemption off. So the delay has a bound,
//! [`LONGEST_SPIN_NS`], and the loop one of its own.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::macros::kprobe;
use aya_ebpf::programs::ProbeContext;
use chaos_common::delay::{LONGEST_SPIN_NS, drawn};
use chaos_common::ops;
use chaos_ebpf::gate::{self, Injection};
use chaos_ebpf::target;
use chaos_ebpf::tell::{By, Detail};

use crate::call::{accept, native_call};

/// Turns of the loop at most, the most that the kernel allows (`BPF_MAX_LOOPS`): a turn reads the clock, which takes more than a
/// nanosecond or two.
const TURNS: u32 = 1 << 23;

#[kprobe]
pub(crate) fn murphy_spin(ctx: ProbeContext) -> u32 {
    let Some(call) = native_call(&ctx) else {
        return 0;
    };
    let injection = gate::pass(
        ops::SPIN + call,
        target::of_task,
        |dimensions| accept(&ctx, dimensions),
        By::Task,
        || Detail::NONE,
    );
    if let Some(injection) = injection
        && !spin(&injection)
    {
        gate::not_done(injection);
    }
    0
}

/// Keeps the processor busy for as long as the rule says; whether it could.
#[inline(always)]
fn spin(injection: &Injection) -> bool {
    let (delay, jitter) = injection.delay_ns;
    let ns = drawn(injection.seed, injection.n, delay, jitter);
    let ns = if ns > LONGEST_SPIN_NS {
        LONGEST_SPIN_NS
    } else {
        ns
    };
    let mut until = now() + ns;
    // SAFETY: the callback has the prototype that the helper wants, and its context is a local variable that outlives the call.
    unsafe { bpf_loop(TURNS, is_over as *mut c_void, (&raw mut until).cast(), 0) };
    now() >= until
}

/// A turn of the loop: 1 ends it.
#[inline(never)]
extern "C" fn is_over(_: u64, until: *const u64) -> i64 {
    // SAFETY: the context that was given to the loop.
    i64::from(now() >= unsafe { until.read() })
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes nothing and cannot fail.
    unsafe { bpf_ktime_get_ns() }
}
