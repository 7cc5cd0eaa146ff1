//! Network interfaces, as rules name them.

/// An interface. Numbers are those of a network namespace, so it takes both to tell one from others.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// The namespace's cookie (`SO_NETNS_COOKIE`), which is never that of another one.
    pub network: u64,
    /// Its number there.
    pub index: u32,
    /// The bank of the plan: see [`crate::bank`].
    pub bank: u32,
}

/// Rules that name an interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// All of them.
    pub all: u64,
    /// Those that name none above it: of a packet that leaves, and that rules were asked about further up, these are yet to be
    /// asked.
    pub first_out: u64,
    /// Those that name none below it: of a packet that arrives, and that rules were asked about before, these are yet to be
    /// asked. None at the loopback interface, where what arrives was asked about when it left.
    pub first_in: u64,
}

/// Entries of the map `INTERFACES`, for both banks.
pub const ENTRIES: u32 = 4096;

const _: () = assert!(size_of::<Interface>() == 16);
const _: () = assert!(size_of::<Naming>() == 24);

// SAFETY: repr(C), integers only, without padding (sizes asserted above).
unsafe impl crate::Plain for Interface {}
// SAFETY: as for `Interface`.
unsafe impl crate::Plain for Naming {}
