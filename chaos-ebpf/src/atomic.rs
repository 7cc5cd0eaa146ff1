//! Atomic operations that give the old value.
//!
//! BPF has them since 5.12 (instruction set v3); Rust's BPF target does not say
//! so, and `AtomicU64::fetch_add` is missing from its `core`.

use core::arch::asm;

/// Adds to `*place` and gives the value from before.
///
/// # Safety
///
/// `place` is a live, 8-byte aligned map value that is only changed atomically.
#[inline(always)]
pub unsafe fn fetch_add(place: *mut u64, value: u64) -> u64 {
    let mut old = value;
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "{old} = atomic_fetch_add((u64 *)({place} + 0), {old})",
            place = in(reg) place,
            old = inout(reg) old,
            options(nostack),
        );
    }
    old
}

/// Stores `new` if `*place` is `old`; gives the value from before either way.
///
/// # Safety
///
/// As for [`fetch_add`].
#[inline(always)]
pub unsafe fn compare_exchange(place: *mut u64, old: u64, new: u64) -> u64 {
    let mut seen = old;
    // SAFETY: the caller's promise; the instruction compares with and writes to r0.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({place} + 0, r0, {new})",
            place = in(reg) place,
            new = in(reg) new,
            inout("r0") seen,
            options(nostack),
        );
    }
    seen
}
