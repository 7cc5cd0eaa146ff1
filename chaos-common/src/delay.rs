//! What kernel programs and the process that lets threads wait say to each other.
//!
//! A program cannot sleep. It reads a page of a file that is mapped in another process and that nobody has read before: the
//! kernel asks the server of the file system for the page, and the thread waits until the server answers.

/// How many threads wait at once at most; one more goes on at once and counts as failed.
pub const WAITERS: u64 = 1024;

/// Pages of the file, a power of two. They are taken by turns, each by one wait; the server has the kernel forget a page
/// once it was answered.
pub const PAGES: u64 = 1 << 20;

/// Entries of `HELD`, a power of two: pages share them that are this far apart, more than can be waited for at once.
pub const SLOTS: u32 = 1 << 13;

/// The longest delay, jitter included.
pub const LONGEST_NS: u64 = 60_000_000_000;

/// The longest delay of a thread that spins, jitter included: a processor has nothing else to do meanwhile.
pub const LONGEST_SPIN_NS: u64 = 10_000_000;

/// What was decided about a call and is to be done by the program that may sleep, in the same hook.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How long, in ns.
    pub ns: u64,
    /// The negative errno that the call gives then; 0: the kernel does it.
    pub errno: i32,
    /// The slot of the rule.
    pub slot: u32,
}

const _: () = assert!(size_of::<Wait>() == 16);

/// Until when a page is held back.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The number of the page.
    pub page: u64,
    /// Boot time in ns.
    pub until_ns: u64,
}

const _: () = assert!(size_of::<Held>() == 16);

/// The length of the `n`th match's delay: as drawn by the supervisor of seccomp for its first delay, `jitter` longer or
/// shorter at most.
#[inline(always)]
#[must_use]
pub fn drawn(seed: u64, n: u64, delay_ns: u64, jitter_ns: u64) -> u64 {
    if jitter_ns == 0 {
        return delay_ns;
    }
    let drawn = crate::decide::mix(seed ^ DRAW, n) >> 32;
    // A product of 32 and some 40 bits, of which the upper part is wanted; BPF has no 128 bits.
    let span = 2 * jitter_ns + 1;
    let shift = drawn * (span >> 32) + ((drawn * (span & 0xffff_ffff)) >> 32);
    (delay_ns + shift).saturating_sub(jitter_ns)
}

/// The draw has a sequence of its own; the decision has that of the seed itself.
pub const DRAW: u64 = 0x6465_6c61_7900_0001;
