//! What a system call gives that is answered in the kernel's place.

use crate::decide::mix;

/// How many values a rule draws from at most: a power of two, as a mask shows the verifier that an index is below it.
pub const VALUES: usize = 16;

/// The draw among several values has a sequence of its own; the decision has that of the seed itself.
const DRAW: u64 = 0x6572_726f_7200_0001;

/// What a rule makes of a call: it gives one of some values and does nothing, its thread gets a signal, or both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The thread's signal; 0: none.
    pub signal: u32,
    /// How many of `values` there are to draw from; 0: the kernel does the call.
    pub count: u32,
    /// What the call may give: values, or negative errnos.
    pub values: [i64; VALUES],
}

const _: () = assert!(size_of::<Answer>() == 136);

/// Which of so many values the `n`th match of a rule gives.
#[inline(always)]
#[must_use]
pub fn drawn(seed: u64, n: u64, count: u32) -> u32 {
    // By multiplication of the upper half, as `decide` draws its probability.
    (((mix(seed ^ DRAW, n) >> 32) * u64::from(count)) >> 32) as u32
}

#[cfg(feature = "user")]
// SAFETY: repr(C), integers only, without padding (size asserted above).
unsafe impl aya::Pod for Answer {}
