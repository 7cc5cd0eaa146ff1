//! One decision, as the kernel programs tell it to whoever listens.

/// Why a match ended as it did: the counters of [`crate::counters::Counters`],
/// with the two reasons of *expired* told apart.
pub mod verdict {
    /// The effect takes place.
    pub const INJECTED: u32 = 0;
    /// The draw of `p` said no.
    pub const PROBABILITY: u32 = 1;
    /// Not one of the matches `when` names.
    pub const WHEN: u32 = 2;
    /// `times` was used up.
    pub const TIMES: u32 = 3;
    /// `after` was not over.
    pub const AFTER: u32 = 4;
    /// The rule's time was over.
    pub const EXPIRED: u32 = 5;
    /// The injector's lease was over: nothing was decided, and the match has no number.
    pub const LEASE: u32 = 6;
    /// The rule's memory stayed contended: nothing was decided.
    pub const FAILED: u32 = 7;
    /// `pulse` was in a quiet phase.
    pub const PULSE: u32 = 8;
    /// `rate_limit` was reached.
    pub const RATE_LIMIT: u32 = 9;
}

/// What [`Event::detail`] says.
pub mod kind {
    /// Nothing.
    pub const NONE: u32 = 0;
    /// The remote end: in the first word an IPv4 address, in memory order, and [`super::Event::port`].
    pub const REMOTE4: u32 = 1;
    /// The remote end: an IPv6 address, in memory order, and [`super::Event::port`].
    pub const REMOTE6: u32 = 2;
    /// A file: in the first word its `i_mode`.
    pub const FILE: u32 = 3;
    /// A packet: its length from the network header on in bytes, and the Ethernet protocol.
    pub const PACKET: u32 = 4;
}

/// One decision about one operation.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// When, as boot time in ns.
    pub time_ns: u64,
    /// When, in ns since arming: what the decision was made with.
    pub elapsed_ns: u64,
    /// The rule's match number, from 1; 0: the lease was over and none was drawn.
    pub n: u64,
    /// One of [`kind`] says what this is.
    pub detail: [u64; 2],
    /// Thread group as the initial pid namespace numbers it; 0: not known (packets).
    pub pid: u32,
    /// Thread; 0: not known.
    pub tid: u32,
    /// Which rule.
    pub rule: u32,
    /// Index into [`crate::ops`].
    pub operation: u32,
    /// One of [`verdict`].
    pub verdict: u32,
    /// One of [`kind`].
    pub kind: u32,
    /// Remote port, host byte order.
    pub port: u32,
    /// Always 0.
    pub pad: u32,
    /// Name of the thread, ended by zeros; all zero: not known.
    pub comm: [u8; 16],
}

/// Size of an event in the buffer.
pub const SIZE: usize = 88;

const _: () = assert!(size_of::<Event>() == SIZE);

// SAFETY: repr(C), integers only, without padding (size asserted above).
unsafe impl crate::Plain for Event {}
