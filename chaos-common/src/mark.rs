//! What a packet carries along, in the 16 bits of its `tc_index`, so that none is hit twice
//! on its way over several interfaces: a VLAN device and the one below it, an ifb and the
//! interface it came from, both ends of the loopback interface.
//!
//! The upper bits are the injector's [`crate::control::PACKET_TAG`], drawn at random; a packet
//! without them is unmarked.

/// Rules that lose packets on their way out were asked.
pub const LOSS: u32 = 1 << 0;
/// Rules that have netem treat packets on their way out were asked.
pub const NETEM: u32 = 1 << 1;
/// It left for an ifb, and will come by once more.
pub const AWAY: u32 = 1 << 2;
/// Rules that have netem treat packets on their way in were asked.
pub const ARRIVED: u32 = 1 << 3;

/// All of them.
pub const BITS: u32 = 0xf;
/// The tag's place.
pub const TAG: u32 = 0xfff0;

/// Marks a filter of which there may be several in a row: the one that asks the rules. The
/// others do what it decided. In the 16 bits of a filter's class id that programs see, above
/// the number of the rule it serves, counted from 1.
pub const ASKS: u32 = 0x8000;
