//! What is noted of a system call that was injected into, until it comes back to its caller.

/// Calls that may be under way at once when somebody observes; the one begun first makes way.
pub const CALLS: u32 = 1 << 14;

/// `io_uring_enter`, which has one number on all architectures and ABIs (`asm-generic/unistd.h`). What a ring is asked for
/// may be done within it; its own result says nothing of that.
pub const IO_URING_ENTER: u64 = 426;

/// What a call that was injected into is expected to come back with.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The slot of the rule that injected.
    pub slot: u32,
    /// The negative errno.
    pub result: i32,
}

const _: () = assert!(size_of::<Expected>() == 8);

// SAFETY: repr(C), integers only, without padding (size asserted above).
unsafe impl crate::Plain for Expected {}
