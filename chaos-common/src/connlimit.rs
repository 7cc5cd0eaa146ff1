//! How many connections are open of those that a rule with a limit looks at.
//!
//! The programs count a socket when it is connected and take it off when it is closed. What a socket is counted by is
//! noted with it, by slots; a slot that a rule has left and another one took counts anew.

/// The count of one slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Sockets that are open. Changed atomically.
    pub sockets: u64,
    /// When the slot's rule began to count, in ns since arming: a socket that was counted before is another rule's.
    pub since_ns: u64,
}

const _: () = assert!(size_of::<Open>() == 16);

/// What a socket is counted by.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// By the slots from 0 on, a bit each.
    pub low: u64,
    /// By those from [`crate::MAX_RULES`] on.
    pub high: u64,
    /// When, in ns since arming.
    pub at_ns: u64,
}

const _: () = assert!(size_of::<Counted>() == 24 && crate::bank::BANKS == 2);

// SAFETY: repr(C), integers only, without padding (size asserted above).
unsafe impl crate::Plain for Open {}
