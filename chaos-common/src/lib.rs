//! What the kernel programs and the user side share: the wire format of a
//! rule, the pure decision, the counters, and the numbers both sides index
//! maps with.
//!
//! Everything that crosses the boundary is an integer in a `repr(C)` struct of
//! asserted size: no `bool`, no `Option`, no enum is ever read from memory.

#![no_std]

pub mod answer;
pub mod bank;
pub mod connlimit;
pub mod control;
pub mod counters;
pub mod decide;
pub mod delay;
pub mod dims;
pub mod event;
pub mod interface;
pub mod log;
pub mod lsm;
pub mod mark;
pub mod name;
pub mod observe;
pub mod ops;
pub mod rule;
pub mod target;
pub mod url;

/// How many rules can be active at once: the bits of a mask.
pub const MAX_RULES: u32 = u64::BITS;

/// What may cross the boundary as its bytes.
///
/// # Safety
///
/// The type is `repr(C)`, any bytes of its size are a value of it, and it has no padding.
pub unsafe trait Plain: Copy + 'static {}

// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for u64 {}
// SAFETY: integers in a row, each of one byte.
unsafe impl<const N: usize> Plain for [u8; N] {}
