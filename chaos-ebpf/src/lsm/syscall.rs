//! Which system call the current thread is in, and whether this hook decides about it.
//!
//! Offsets into kernel structures come from the running kernel's BTF: the
//! loader sets the globals of this file before it loads the object.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap};
use aya_ebpf::programs::LsmContext;
use aya_ebpf::{EbpfContext as _, Global};
use chaos_common::lsm::{Place, REPEATED, THREADS};
use chaos_common::rule::EFFECT_DELAY;
use chaos_common::{control, ops};
use chaos_ebpf::maps::control as slot;
use chaos_ebpf::tell::By;
use chaos_ebpf::{gate, observe, target};

use crate::delay;
use crate::subject::{Shape, Subject};

/// `struct pt_regs`: the number of the system call (x86_64 `orig_ax`).
#[unsafe(no_mangle)]
static REGS_SYSCALL: Global<u32> = Global::new(0);
/// `struct task_struct`: the word that tells a compat (32-bit) system call.
#[unsafe(no_mangle)]
static TASK_COMPAT: Global<u32> = Global::new(0);
/// The bit in that word; 0: this kernel has no compat calls.
#[unsafe(no_mangle)]
static TASK_COMPAT_BIT: Global<u32> = Global::new(0);
/// `struct task_struct`: `cred`, what the task acts with.
#[unsafe(no_mangle)]
static TASK_CRED: Global<u32> = Global::new(0);
/// `struct task_struct`: `real_cred`, what the task is.
#[unsafe(no_mangle)]
static TASK_REAL_CRED: Global<u32> = Global::new(0);

/// System call → the [`Place`] whose hooks decide about it, perhaps with [`REPEATED`].
#[map]
static CALLS: Array<u32> = Array::with_max_entries(ops::SYSCALLS, 0);

/// Thread → what was decided about the [`REPEATED`] call it is in: 0 or a negative
/// errno.
#[map]
static DECIDED: LruHashMap<u32, i64> = LruHashMap::with_max_entries(THREADS, 0);

/// Where [`murphy_call`] finds the place and the shape in its first argument.
const SHAPE_SHIFT: u32 = 16;
const PLACE_MASK: u64 = (1 << SHAPE_SHIFT) - 1;

/// Asks the gate about the system call that the current thread is in, if `place`
/// decides about it. The answer is 0 or a negative errno, as an LSM hook wants it.
///
/// `first` is the number of the hook's argument that is of this shape, `second` of
/// another directory entry, if the call is about two.
#[inline(always)]
pub(crate) fn ask(
    ctx: &LsmContext,
    place: Place,
    shape: Shape,
    first: usize,
    second: Option<usize>,
) -> i32 {
    let classes = target::of_task(slot(control::DIMS));
    if classes == 0 {
        return 0;
    }
    let what = u64::from(place.number()) | (shape as u64) << SHAPE_SHIFT;
    let first = match shape {
        Shape::Nothing | Shape::Socket => 0,
        _ => argument(ctx, first),
    };
    let second = second.map_or(0, |second| argument(ctx, second));
    gate::errno(murphy_call(what, classes, first, second) as i64)
}

/// An argument of the hook as a plain number, which a global function takes; as the
/// verifier hands it out it is a pointer, which it does not.
#[inline(always)]
fn argument(ctx: &LsmContext, number: usize) -> u64 {
    // SAFETY: the arguments lie side by side, eight bytes each, where the context points.
    unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u64>().add(number)) }.unwrap_or(0)
}

/// What becomes of the current system call: 0, or a negative errno.
///
/// A global function, which keeps the programs small; it takes numbers only.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_call(what: u64, classes: u64, first: u64, second: u64) -> u64 {
    delay::forget();
    let Some(number) = native_call() else {
        return 0;
    };
    let call = CALLS.get(number).copied().unwrap_or(0);
    if u64::from(call & !REPEATED) != what & PLACE_MASK {
        return 0;
    }
    let thread = bpf_get_current_pid_tgid() as u32;
    if call & REPEATED != 0 {
        // SAFETY: one u64, written by this very thread.
        if let Some(decided) = unsafe { DECIDED.get(thread) } {
            // At the end the program that forgets may be gone while this one is still there.
            return if gate::is_armed() { *decided as u64 } else { 0 };
        }
    } else if is_nested() {
        return 0;
    }
    let decided = murphy_decided(what >> SHAPE_SHIFT, classes, first, second, number);
    let answer = -i64::from(decided as u32);
    if decided & ASKED != 0 && call & REPEATED != 0 {
        // A full map forgets another thread's call: that one may be decided about twice.
        let _ = DECIDED.insert(thread, answer, 0);
    }
    // The program that waits answers then.
    if decided & WAITS != 0 {
        return 0;
    }
    answer as u64
}

/// Beside the errno that [`murphy_decided`] gives: some rule was asked.
const ASKED: u64 = 1 << 32;
/// And: the thread is to wait first.
const WAITS: u64 = 1 << 33;

/// What the gate lets happen to a system call: an errno or 0, perhaps with [`ASKED`] and [`WAITS`].
///
/// A global function, so that the verifier goes through the gate's loop once and not on
/// each way that leads there.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn murphy_decided(shape: u64, classes: u64, first: u64, second: u64, call: u32) -> u64 {
    let subject = Subject::new(shape, first, second);
    let mut asked = 0;
    let injection = gate::pass_narrowing(
        call,
        |_| classes,
        |dimensions| subject.accept(dimensions),
        By::Task,
        || subject.detail(),
        |_, rules| {
            asked = ASKED;
            rules
        },
    );
    let Some(injection) = injection else {
        return asked;
    };
    let errno = injection.errno();
    if injection.effect == EFFECT_DELAY {
        if !delay::order(&injection, errno) {
            return asked;
        }
        asked |= WAITS;
    }
    if errno != 0 {
        observe::expect(injection.rule, errno);
    }
    u64::from(errno.unsigned_abs()) | asked
}

/// A system call begins about which a hook may be called several times.
#[inline(always)]
pub(crate) fn begin() -> i32 {
    let _ = DECIDED.remove(bpf_get_current_pid_tgid() as u32);
    0
}

/// The native system call of the current thread, looked at for targets only.
#[inline(always)]
fn native_call() -> Option<u32> {
    // SAFETY: the helpers take nothing but the current task, whose registers and
    // structure are readable; a bad read gives an error, not a fault.
    unsafe {
        let task = bpf_get_current_task_btf();
        let compat_bit = TASK_COMPAT_BIT.load();
        if compat_bit != 0 {
            let place = task.cast::<u8>().add(TASK_COMPAT.load() as usize);
            if bpf_probe_read_kernel(place.cast::<u32>()).ok()? & compat_bit != 0 {
                return None;
            }
        }
        let registers = bpf_task_pt_regs(task) as *const u8;
        let number =
            bpf_probe_read_kernel(registers.add(REGS_SYSCALL.load() as usize).cast::<u64>());
        let number = number.ok()?;
        (number < u64::from(ops::SYSCALLS)).then_some(number as u32)
    }
}

/// Whether a stacked file system (overlayfs) works on the file below its own in the
/// course of the call, which the hook has seen before at the upper file. It does so with
/// the credentials of who mounted it, and nothing else that a program asks for has
/// others than the task's own (`override_creds`), but for `access`: that is [`REPEATED`].
#[inline(always)]
fn is_nested() -> bool {
    // SAFETY: a bad address gives an error.
    let (acting, real) = unsafe {
        let task = bpf_get_current_task_btf().cast::<u8>();
        (
            bpf_probe_read_kernel(task.add(TASK_CRED.load() as usize).cast::<*const c_void>()),
            bpf_probe_read_kernel(
                task.add(TASK_REAL_CRED.load() as usize)
                    .cast::<*const c_void>(),
            ),
        )
    };
    acting != real
}
